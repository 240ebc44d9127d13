"""nerfacc's marching through the occupancy grid.

nerfacc (0.5.3) marches like the other backends: the samples of a ray lie on a lattice that begins at its near plane,
with steps of max(smallest, cone x distance of the beginning); a sample is kept if the cell of its middle is occupied;
empty cells are skipped in whole steps. Our cascades are in field units, before contraction, each twice as large as
the one before, the finest first: they are nerfacc's list of boxes.

Conversions: our cells are bits [cascade, z, y, x], nerfacc's are bools [cascade, x, y, z]. Jitter, in steps, moves
the near plane. Edges of intervals become lengths, counts become offsets. nerfacc has no capacity, so surplus samples
are cut afterwards, last rays first. It does not return cells, so they are computed from the positions.

Differences: a sample within rounding of a cell's border may be kept or not, or be counted in the neighbouring cell.
A span that ends inside the grid loses a last sample whose middle is beyond its end. nerfacc reads the number of
samples from the device, so every step waits for the GPU once.
"""

import contextlib
import sys

import torch
from jaxtyping import Float
from torch import Tensor

from ovseg3d.errors import DeviceError
from ovseg3d.field.cell_bits import CellBits
from ovseg3d.field.occupancy import cell_at
from ovseg3d.field.samples import RaySamples, offsets_of, used


class NerfaccMarch:
    """`FieldBackend.march` by `nerfacc.traverse_grids`.

    The constructor compiles nerfacc's kernels, which takes minutes at the first use on a machine.

    Raises:
        DeviceError: nerfacc is not installed, or its kernels cannot be compiled or run here.
    """

    def __init__(self, device: torch.device) -> None:
        try:
            import nerfacc

            ray = torch.tensor([[0.0, 0.0, 1.0]], device=device)
            # Without a compiler nerfacc prints to stdout, which is reserved for --json, and raises an AttributeError.
            with contextlib.redirect_stdout(sys.stderr):
                nerfacc.ray_aabb_intersect(ray, ray, torch.cat([-ray, ray], -1))
        except (ImportError, OSError, RuntimeError, AttributeError) as error:
            raise DeviceError(
                f"--backend tcnn needs nerfacc, which cannot be used here ({error})",
                fix="pip install 'nerfacc==0.5.3' (it compiles its kernels and needs nvcc), or use --backend warp",
            ) from error
        self._nerfacc = nerfacc

    def __call__(
        self,
        origins: Float[Tensor, "rays 3"],
        directions: Float[Tensor, "rays 3"],
        spans: Float[Tensor, "rays 2"],
        jitter: Float[Tensor, " rays"],
        cells: CellBits,
        smallest_step: float,
        cone: float,
        capacity: int | None,
    ) -> RaySamples:
        cascades, resolution = len(cells.words), cells.resolution
        begin, end = spans.unbind(-1)
        if not len(origins):
            # nerfacc cannot launch a kernel without rays.
            t = step = begin
            ray = counts = torch.zeros(0, dtype=torch.int64, device=origins.device)
        else:
            half = 2.0 ** torch.arange(cascades, device=origins.device)[:, None].expand(-1, 3)
            edges, middles, _ = self._nerfacc.traverse_grids(
                origins,
                directions,
                cells.unpack().transpose(1, 3),
                torch.cat([-half, half], -1),
                near_planes=begin + jitter * (cone * begin).clamp_min(smallest_step),
                far_planes=end,
                step_size=smallest_step,
                cone_angle=cone,
            )
            assert middles.packed_info is not None and middles.ray_indices is not None  # of packed samples
            t, ray, counts = middles.vals, middles.ray_indices, middles.packed_info[:, 1]
            step = edges.vals[edges.is_right] - edges.vals[edges.is_left]
        cell, _ = cell_at(origins[ray] + directions[ray] * t[:, None], cascades, resolution)
        offsets = offsets_of(counts, capacity)
        rows = used(offsets, capacity)

        def fit(values: Tensor) -> Tensor:
            """Cut to the capacity, or padded with zeros."""
            return torch.nn.functional.pad(values[:rows], (0, rows - min(len(values), rows)))

        return RaySamples(fit(t), fit(step), fit(ray.int()), fit(cell.int()), offsets)
