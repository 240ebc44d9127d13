"""Warp kernels of the hash grid. Geometry and layout: `field/levels.py`; reference: `field/reference/encode.py`.

One thread handles one sample on one level. On the CPU threads run in order, levels outermost, so that the table of
a level stays in the cache. CPU atomics are plain additions, so callers never let two threads add to the table of
one level.
"""

from functools import cache
from types import SimpleNamespace
from typing import no_type_check

import warp as wp

PRIME_Y = wp.constant(wp.uint32(2_654_435_761))
PRIME_Z = wp.constant(wp.uint32(805_459_861))
ONE = wp.constant(wp.uint32(1))


@no_type_check
@wp.struct
class LevelData:
    """`field.levels.Level` for kernels."""

    scale: wp.float32
    resolution: wp.uint32
    size: wp.uint32
    offset: wp.int32
    dense: wp.int32


@no_type_check
@wp.func
def entry(level: LevelData, x: wp.uint32, y: wp.uint32, z: wp.uint32):
    """The table entry of a grid corner."""
    index = (x ^ (y * PRIME_Y) ^ (z * PRIME_Z)) & (level.size - ONE)
    if level.dense == 1:
        index = x + level.resolution * (y + level.resolution * z)
        # Corners one past the last cell wrap around, as in tinycudann.
        if index >= level.size:
            index = index - level.size
    return level.offset + wp.int32(index)


@no_type_check
@wp.func
def inside(x: wp.vec3):
    """Clamp to the grid: positions outside take the value of its border."""
    return wp.vec3(wp.clamp(x[0], 0.0, 1.0), wp.clamp(x[1], 0.0, 1.0), wp.clamp(x[2], 0.0, 1.0))


@cache
def encode_kernels(features: int) -> SimpleNamespace:
    """The kernels for tables with `features` features per entry, in their own module."""
    vector = wp.types.vector(features, wp.float32)
    module = wp.get_module(f"ovseg3d_encode_{features}")
    # Options belong to the module. Gradients are written by hand below.
    module.options["enable_backward"] = False

    @no_type_check
    @wp.kernel(module=module)
    def encode(
        x: wp.array(dtype=wp.vec3),
        table: wp.array(dtype=vector),
        levels: wp.array(dtype=LevelData),
        out: wp.array2d(dtype=vector),
    ):
        i, s = wp.tid()
        level = levels[i]
        at = inside(x[s]) * level.scale + wp.vec3(0.5, 0.5, 0.5)
        x0 = wp.uint32(at[0])
        y0 = wp.uint32(at[1])
        z0 = wp.uint32(at[2])
        u = at[0] - wp.float32(x0)
        v = at[1] - wp.float32(y0)
        w = at[2] - wp.float32(z0)
        low = (
            table[entry(level, x0, y0, z0)] * ((1.0 - u) * (1.0 - v))
            + table[entry(level, x0 + ONE, y0, z0)] * (u * (1.0 - v))
            + table[entry(level, x0, y0 + ONE, z0)] * ((1.0 - u) * v)
            + table[entry(level, x0 + ONE, y0 + ONE, z0)] * (u * v)
        )
        high = (
            table[entry(level, x0, y0, z0 + ONE)] * ((1.0 - u) * (1.0 - v))
            + table[entry(level, x0 + ONE, y0, z0 + ONE)] * (u * (1.0 - v))
            + table[entry(level, x0, y0 + ONE, z0 + ONE)] * ((1.0 - u) * v)
            + table[entry(level, x0 + ONE, y0 + ONE, z0 + ONE)] * (u * v)
        )
        out[s, i] = low * (1.0 - w) + high * w

    @no_type_check
    @wp.kernel(module=module)
    def table_gradient(
        x: wp.array(dtype=wp.vec3),
        grad_out: wp.array2d(dtype=vector),
        levels: wp.array(dtype=LevelData),
        first: wp.int32,
        grad_table: wp.array(dtype=vector),
    ):
        i, s = wp.tid()
        # Unused rows have no gradient. On a GPU all of them would wait for the same entries.
        needed = wp.bool(False)
        for k in range(features):
            if grad_out[s, i + first][k] != 0.0:
                needed = True
        if not needed:
            return
        level = levels[i + first]
        at = inside(x[s]) * level.scale + wp.vec3(0.5, 0.5, 0.5)
        x0 = wp.uint32(at[0])
        y0 = wp.uint32(at[1])
        z0 = wp.uint32(at[2])
        u = at[0] - wp.float32(x0)
        v = at[1] - wp.float32(y0)
        w = at[2] - wp.float32(z0)
        low = grad_out[s, i + first] * (1.0 - w)
        high = grad_out[s, i + first] * w
        wp.atomic_add(grad_table, entry(level, x0, y0, z0), low * ((1.0 - u) * (1.0 - v)))
        wp.atomic_add(grad_table, entry(level, x0 + ONE, y0, z0), low * (u * (1.0 - v)))
        wp.atomic_add(grad_table, entry(level, x0, y0 + ONE, z0), low * ((1.0 - u) * v))
        wp.atomic_add(grad_table, entry(level, x0 + ONE, y0 + ONE, z0), low * (u * v))
        wp.atomic_add(grad_table, entry(level, x0, y0, z0 + ONE), high * ((1.0 - u) * (1.0 - v)))
        wp.atomic_add(grad_table, entry(level, x0 + ONE, y0, z0 + ONE), high * (u * (1.0 - v)))
        wp.atomic_add(grad_table, entry(level, x0, y0 + ONE, z0 + ONE), high * ((1.0 - u) * v))
        wp.atomic_add(grad_table, entry(level, x0 + ONE, y0 + ONE, z0 + ONE), high * (u * v))

    @no_type_check
    @wp.kernel(module=module)
    def position_gradient(
        x: wp.array(dtype=wp.vec3),
        table: wp.array(dtype=vector),
        grad_out: wp.array2d(dtype=vector),
        levels: wp.array(dtype=LevelData),
        count: wp.int32,
        grad_x: wp.array(dtype=wp.vec3),
    ):
        s = wp.tid()
        total = wp.vec3(0.0, 0.0, 0.0)
        for i in range(count):
            level = levels[i]
            at = inside(x[s]) * level.scale + wp.vec3(0.5, 0.5, 0.5)
            x0 = wp.uint32(at[0])
            y0 = wp.uint32(at[1])
            z0 = wp.uint32(at[2])
            u = at[0] - wp.float32(x0)
            v = at[1] - wp.float32(y0)
            w = at[2] - wp.float32(z0)
            g = grad_out[s, i]
            c000 = wp.dot(g, table[entry(level, x0, y0, z0)])
            c100 = wp.dot(g, table[entry(level, x0 + ONE, y0, z0)])
            c010 = wp.dot(g, table[entry(level, x0, y0 + ONE, z0)])
            c110 = wp.dot(g, table[entry(level, x0 + ONE, y0 + ONE, z0)])
            c001 = wp.dot(g, table[entry(level, x0, y0, z0 + ONE)])
            c101 = wp.dot(g, table[entry(level, x0 + ONE, y0, z0 + ONE)])
            c011 = wp.dot(g, table[entry(level, x0, y0 + ONE, z0 + ONE)])
            c111 = wp.dot(g, table[entry(level, x0 + ONE, y0 + ONE, z0 + ONE)])
            dx = (1.0 - w) * ((1.0 - v) * (c100 - c000) + v * (c110 - c010))
            dx += w * ((1.0 - v) * (c101 - c001) + v * (c111 - c011))
            dy = (1.0 - w) * ((1.0 - u) * (c010 - c000) + u * (c110 - c100))
            dy += w * ((1.0 - u) * (c011 - c001) + u * (c111 - c101))
            dz = (1.0 - v) * ((1.0 - u) * (c001 - c000) + u * (c101 - c100))
            dz += v * ((1.0 - u) * (c011 - c010) + u * (c111 - c110))
            total += wp.vec3(dx, dy, dz) * level.scale
        # Beyond the border the value is constant along the clamped axis.
        at = x[s]
        for axis in range(3):
            if at[axis] <= 0.0 or at[axis] >= 1.0:
                total[axis] = 0.0
        grad_x[s] = total

    @no_type_check
    @wp.kernel(module=module)
    def adam(
        table: wp.array(dtype=vector),
        grad: wp.array(dtype=vector),
        mean: wp.array(dtype=vector),
        square: wp.array(dtype=vector),
        start: wp.int32,
        rate: wp.float32,
        beta1: wp.float32,
        beta2: wp.float32,
        root_correction2: wp.float32,
        epsilon: wp.float32,
    ):
        i = wp.tid() + start
        g = grad[i]
        # Entries without a gradient are not changed, nor are their moments (Mueller et al. 2022, section 4).
        touched = wp.bool(False)
        for k in range(features):
            # By component: the squared norm of a small gradient would underflow.
            if g[k] != 0.0:
                touched = True
        if touched:
            m = mean[i] * beta1 + g * (1.0 - beta1)
            v = square[i] * beta2 + wp.cw_mul(g, g) * (1.0 - beta2)
            mean[i] = m
            square[i] = v
            p = table[i]
            for k in range(features):
                p[k] = p[k] - rate * m[k] / (wp.sqrt(v[k]) * root_correction2 + epsilon)
            table[i] = p
            grad[i] = vector(0.0)

    return SimpleNamespace(encode=encode, table_gradient=table_gradient, position_gradient=position_gradient, adam=adam)
