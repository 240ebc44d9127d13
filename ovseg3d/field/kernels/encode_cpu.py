"""The hash grid on a CPU: the same values as `encode.py` up to rounding, in less than half the time.

Warp's own code for a CPU computes each feature of an entry by itself, and waits for the memory at each entry. Here an
entry is one vector of the machine, and the entries of some samples are fetched ahead. The loops are C++ with Clang's
vector types, which Warp compiles. One thread handles one level.
"""

from functools import cache
from types import SimpleNamespace
from typing import Any, no_type_check

import warp as wp

from ovseg3d.field.kernels.encode import LevelData

WIDTHS = (1, 2, 4, 8)
"""Features of an entry that fill a vector: Clang pads other numbers."""
BLOCK = 16
"""Samples whose table entries are fetched at once."""

_LOOP = f"""
    typedef float Entry __attribute__((ext_vector_type(sizeof(*table.data) / sizeof(float)), aligned(4)));
    static_assert(sizeof(Entry) == sizeof(*table.data), "entries must not overlap");
    Entry* const entries = (Entry*)table.data + offset;
    const int count = x.shape[0], stride = rows.shape[1];
    for (int begin = 0; begin < count; begin += {BLOCK}) {{
        const int end = begin + {BLOCK} < count ? begin + {BLOCK} : count;
        unsigned corners[{BLOCK}][8];  // bit 0 of an index is x, bit 1 y, bit 2 z
        float fractions[{BLOCK}][3];
        for (int s = begin; s < end; ++s) {{
            unsigned cell[3], *corner = corners[s - begin];
            for (int k = 0; k < 3; ++k) {{
                const float inside = x.data[s].c[k] > 0.0f ? x.data[s].c[k] : 0.0f;  // not-a-number is 0, too
                const float at = (inside < 1.0f ? inside : 1.0f) * scale + 0.5f;
                cell[k] = (unsigned)(int)at;
                fractions[s - begin][k] = at - (float)(int)at;
            }}
            if (dense) {{
                const unsigned plane = resolution * resolution;
                const unsigned first = cell[0] + resolution * cell[1] + plane * cell[2];
                for (int k = 0; k < 8; ++k) {{
                    corner[k] = first + (k & 1) + (k >> 1 & 1) * resolution + (k >> 2) * plane;
                    if (corner[k] >= size) corner[k] -= size;
                }}
            }} else {{
                const unsigned y[2] = {{cell[1] * 2654435761u, (cell[1] + 1) * 2654435761u}};
                const unsigned z[2] = {{cell[2] * 805459861u, (cell[2] + 1) * 805459861u}};
                for (int k = 0; k < 8; ++k)
                    corner[k] = ((cell[0] + (k & 1)) ^ y[k >> 1 & 1] ^ z[k >> 2]) & (size - 1);
            }}
            for (int k = 0; k < 8; ++k) __builtin_prefetch(entries + corner[k]);
        }}
        for (int s = begin; s < end; ++s) {{
            const unsigned* corner = corners[s - begin];
            const float u = fractions[s - begin][0], v = fractions[s - begin][1], w = fractions[s - begin][2];
            Entry& row = ((Entry*)rows.data)[(size_t)s * stride + level];
            BODY
        }}
    }}
"""
"""The samples of a level; geometry and layout as in `field/levels.py`."""

_ENCODE = """
            Entry edge[4];
            for (int k = 0; k < 4; ++k) {
                const Entry first = entries[corner[2 * k]];
                edge[k] = first + (entries[corner[2 * k + 1]] - first) * u;
            }
            const Entry low = edge[0] + (edge[1] - edge[0]) * v, high = edge[2] + (edge[3] - edge[2]) * v;
            row = low + (high - low) * w;
"""

_GRADIENT = """
            const Entry half[2] = {row * (1.0f - w), row * w};
            for (int k = 0; k < 4; ++k) {
                const Entry edge = half[k >> 1] * (k & 1 ? v : 1.0f - v);
                entries[corner[2 * k]] += edge * (1.0f - u);
                entries[corner[2 * k + 1]] += edge * u;
            }
"""


@cache
def encode_cpu_kernels(features: int) -> SimpleNamespace:
    """`encode` and `table_gradient` for tables of `features` features per entry, one of `WIDTHS`, in their own module.

    `rows` are the encoded positions, or their gradients: (samples, levels). `table` is read, or added to. Both start at
    level `first`.
    """
    vector = wp.types.vector(features, wp.float32)
    module = wp.get_module(f"ovseg3d_encode_cpu_{features}")
    module.options["enable_backward"] = False
    # Clang would gather the corners of one sample in vectors, and take them apart again.
    module.options["cpu_compiler_flags"] = "-march=native -fno-slp-vectorize"  # pyright: ignore[reportArgumentType]

    def on_levels(body: str) -> Any:
        @no_type_check
        @wp.func_native(_LOOP.replace("BODY", body))
        def loop(
            x: wp.array(dtype=wp.vec3),
            table: wp.array(dtype=vector),
            rows: wp.array2d(dtype=vector),
            level: wp.int32,
            scale: wp.float32,
            resolution: wp.uint32,
            size: wp.uint32,
            offset: wp.int32,
            dense: wp.int32,
        ): ...

        @no_type_check
        @wp.kernel(module=module)
        def on_level(
            x: wp.array(dtype=wp.vec3),
            table: wp.array(dtype=vector),
            levels: wp.array(dtype=LevelData),
            first: wp.int32,
            rows: wp.array2d(dtype=vector),
        ):
            i = first + wp.tid()
            level = levels[i]
            loop(x, table, rows, i, level.scale, level.resolution, level.size, level.offset, level.dense)

        return on_level

    return SimpleNamespace(encode=on_levels(_ENCODE), table_gradient=on_levels(_GRADIENT))
