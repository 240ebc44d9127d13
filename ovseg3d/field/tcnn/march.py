"""nerfacc's marching through our occupancy grid.

nerfacc (0.5.3) and we agree on what a march is: a ray's samples lie on a lattice that begins at its near plane, each
step max(smallest, cone x distance of its beginning) long, and one is kept where the cell of its middle is occupied;
empty cells are left in whole steps. Our cascades lie in field units, before contraction, each twice as large as the
one before and the finest first: that is nerfacc's list of boxes. So everything is expressed, and nothing falls back.

What is converted: our cells are bytes [cascade, z, y, x], nerfacc's are bools [cascade, x, y, z]; jitter, in steps,
moves the near plane; nerfacc's edges of intervals become lengths, its counts offsets; it has no capacity, so that
the surplus is cut afterwards, last rays first; it does not name cells, so that they are found from the positions.

What differs: a sample within rounding of a cell's border may be kept here and not there, or be counted for the
neighbouring cell; a span that ends inside the grid loses a last sample whose middle is beyond its end; and nerfacc
asks the device for the number of samples, so that every step waits for the GPU once, which the other backends avoid.
"""

import contextlib
import sys

import torch
from torch import Tensor

from ovseg3d.errors import DeviceError
from ovseg3d.field.occupancy import cell_at
from ovseg3d.field.samples import RaySamples, offsets_of, used


def load_nerfacc(device: torch.device):
    """nerfacc, with its kernels compiled, which takes minutes at its first use on a machine.

    Raises:
        DeviceError: it is not installed, or its kernels cannot be compiled or run here.
    """
    try:
        import nerfacc

        ray, box = torch.tensor([[0.0, 0.0, 1.0]], device=device), torch.tensor([[-1.0] * 3 + [1.0] * 3], device=device)
        # Without a compiler nerfacc says so on stdout, which belongs to --json, and fails with an AttributeError.
        with contextlib.redirect_stdout(sys.stderr):
            nerfacc.ray_aabb_intersect(ray, ray, box)
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        raise DeviceError(
            f"--backend tcnn needs nerfacc, which cannot be used here ({error})",
            fix="pip install 'nerfacc==0.5.3' (it compiles its kernels and needs nvcc), or use --backend warp",
        ) from error
    return nerfacc


def march(
    nerfacc,
    origins: Tensor,
    directions: Tensor,
    spans: Tensor,
    jitter: Tensor,
    occupied: Tensor,
    smallest_step: float,
    cone: float,
    capacity: int,
) -> RaySamples:
    """What `WarpBackend.march` does, by `nerfacc.traverse_grids`."""
    cascades, resolution = occupied.shape[:2]
    begin, end = spans.unbind(-1)
    half = 2.0 ** torch.arange(cascades, device=origins.device)
    edges, middles, _ = nerfacc.traverse_grids(
        origins,
        directions,
        occupied.transpose(1, 3).bool(),
        torch.cat([-half[:, None].expand(-1, 3), half[:, None].expand(-1, 3)], -1),
        near_planes=begin + jitter * (cone * begin).clamp_min(smallest_step),
        far_planes=end,
        step_size=smallest_step,
        cone_angle=cone,
    )
    offsets = offsets_of(middles.packed_info[:, 1], capacity)
    ray = middles.ray_indices
    cell, _ = cell_at(origins[ray] + directions[ray] * middles.vals[:, None], cascades, resolution)
    step = edges.vals[edges.is_right] - edges.vals[edges.is_left]
    rows = used(offsets, capacity)

    def fit(values: Tensor) -> Tensor:
        """Cut to the capacity, or followed by spare zeros."""
        return torch.nn.functional.pad(values[:rows], (0, rows - min(len(values), rows)))

    return RaySamples(fit(middles.vals), fit(step), fit(ray.int()), fit(cell.int()), offsets)
