"""Operators along rays in plain torch. Conventions: `field/samples.py`; the box and its cascades: `field/box.py`."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ovseg3d.field.cell_bits import CellBits
from ovseg3d.field.occupancy import cell_at
from ovseg3d.field.samples import RaySamples, offsets_of


def march(
    origins: Float[Tensor, "rays 3"],
    directions: Float[Tensor, "rays 3"],
    spans: Float[Tensor, "rays 2"],
    jitter: Float[Tensor, " rays"],
    cells: CellBits,
    smallest_step: float,
    cone: float,
    capacity: int | None,
) -> RaySamples:
    """Advance all rays together, step by step; a sample is kept if its cell is occupied. See `FieldBackend.march`."""
    cascades, blocks, resolution = *cells.words.shape[:2], cells.resolution
    words = cells.words.reshape(-1)
    rays = torch.arange(len(origins), device=origins.device)
    t, end = spans[:, 0], spans[:, 1]
    t = t + jitter * (cone * t).clamp_min(smallest_step)
    found: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
    while bool((t < end).any()):
        step = (cone * t).clamp_min(smallest_step)
        middle = t + 0.5 * step
        p = origins + directions * middle[:, None]
        inside = p.abs().amax(-1) < 2.0 ** (cascades - 1)
        cell, half = cell_at(p, cascades, resolution)
        z, y, x = ((cell // resolution**axis) % resolution for axis in (2, 1, 0))
        cascade = cell // resolution**3
        word = words[((cascade * blocks + z // 4) * blocks + y // 4) * blocks + x // 4]
        hit = (word >> (16 * (z % 4) + 4 * (y % 4) + x % 4) & 1).bool() & inside
        eighth = word >> (16 * (z & 2) + 4 * (y & 2) + (x & 2)) & 0x330033
        side = torch.where(word == 0, 4, torch.where(eighth == 0, 2, 1))
        here = hit & (t < end)
        found.append((rays[here], middle[here], step[here], cell[here]))
        # Empty blocks and eighths of them are skipped. The lattice of blocks begins at the cascade's corner. A block
        # may reach into the next finer cascade, which ends at +-half / 2, or beyond the last cell: stop there too.
        leave = _exit_distance(p + half[:, None], directions, 0.5 * resolution / (half * side))
        leave = torch.minimum(leave, _exit_distance(p, directions, 2.0 / half))
        # In whole steps, so that samples stay on the lattice of the ray.
        skip = torch.ceil(leave / step).clamp_min(1.0)
        t = t + step * torch.where(hit | ~inside, torch.ones_like(skip), skip)
    ray, middle, step, cell = (torch.cat(parts) for parts in zip(*found)) if found else (rays[:0],) * 4
    order = torch.argsort(ray, stable=True)[:capacity]
    counts = torch.bincount(ray, minlength=len(origins))
    offsets = offsets_of(counts, capacity)
    return RaySamples(middle[order].float(), step[order].float(), ray[order].int(), cell[order].int(), offsets)


def _exit_distance(p: Tensor, direction: Tensor, scale: Tensor) -> Tensor:
    """Distance at which a ray from p leaves its cell, in a lattice through the origin with `scale` cells per unit."""
    border = torch.floor(p * scale[:, None]) + (direction > 0)
    t = (border / scale[:, None] - p) / torch.where(direction.abs() > 1e-8, direction, torch.inf)
    return torch.where(direction.abs() > 1e-8, t, torch.inf).amin(-1).clamp(0.0, 1e10)


def transmittance(
    density: Float[Tensor, " samples"], step: Float[Tensor, " samples"], offsets: Int[Tensor, " offsets"]
) -> Float[Tensor, " samples"]:
    """Transmittance T_i = exp(-sum_{j<i} density_j step_j) at each sample."""
    thickness = density * step
    before = torch.cumsum(thickness.double(), 0) - thickness
    # The running sum goes over all rays; the part of earlier rays is subtracted.
    starts = torch.nn.functional.pad(before, (0, 1))[offsets[:-1].long()]
    return torch.exp(-(before - starts[ray_of(offsets, len(density))])).to(density.dtype)


def ray_of(offsets: Int[Tensor, " offsets"], samples: int) -> Int[Tensor, " samples"]:
    """Index of the ray that owns each sample."""
    counts = (offsets[1:] - offsets[:-1]).long()
    return torch.repeat_interleave(torch.arange(len(counts), device=offsets.device), counts)[:samples]


def merge(
    density: Float[Tensor, " samples"],
    samples: RaySamples,
    draws: Float[Tensor, " samples"],
    least_transmittance: float,
    quota: float,
    capacity: int | None,
) -> tuple[Float[Tensor, " samples"], Int[Tensor, " merged"], Float[Tensor, " merged"], Int[Tensor, " offsets"]]:
    """Merge the samples of each ray. See `FieldBackend.merge`."""
    before = transmittance(density, samples.step, samples.offsets)
    weight = before * -torch.expm1(-density * samples.step)
    # Lists, because tensors are slow sample by sample.
    reached, left = before.tolist(), (before - weight).tolist()
    x, share, starts = (density * samples.step).tolist(), draws.tolist(), samples.offsets.tolist()
    index, totals, counts = [], [], []
    for first, end in zip(starts[:-1], starts[1:]):
        groups, group, entered = [], [], 1.0
        for s in range(first, end):
            if reached[s] <= least_transmittance:
                break
            group.append(s)
            if entered - left[s] >= quota:
                groups.append(group)
                group, entered = [], left[s]
        chosen = [_choose(members, x, share) for members in [*groups, group]]
        found = [(s, total) for s, total in chosen if s is not None]
        index += [s for s, _ in found]
        totals += [total for _, total in found]
        counts.append(len(found))
    offsets = offsets_of(torch.tensor(counts, device=density.device), capacity)
    index = torch.tensor(index[:capacity], dtype=torch.int32, device=density.device)
    return weight, index, density.new_tensor(totals[:capacity]) / density[index], offsets


def _choose(group: list[int], x: list[float], draws: list[float]) -> tuple[int | None, float]:
    """A member of the group, drawn in proportion to x, and the sum of x."""
    # Weighted reservoir sampling: a later member replaces the choice with probability x_s / (sum of x so far).
    total, chosen = 0.0, None
    for s in group:
        total += x[s]
        if draws[s] * total < x[s]:
            chosen = s
    return chosen, total


def composite(
    density: Float[Tensor, " samples"],
    values: Float[Tensor, "samples dim"],
    t: Float[Tensor, " samples"],
    step: Float[Tensor, " samples"],
    offsets: Int[Tensor, " offsets"],
) -> tuple[Float[Tensor, " samples"], Float[Tensor, "rays dim"], Float[Tensor, " rays"], Float[Tensor, " rays"]]:
    """Volume rendering. See `FieldBackend.composite`."""
    weight = transmittance(density, step, offsets) * -torch.expm1(-density * step)
    ray, rays = ray_of(offsets, len(density)), len(offsets) - 1

    def total(v: Tensor) -> Tensor:
        return torch.zeros(rays, *v.shape[1:], dtype=v.dtype, device=v.device).index_add(0, ray, v)

    return weight, total(weight[:, None] * values), total(weight), total(weight * t)


def distortion(
    weight: Float[Tensor, " samples"],
    t: Float[Tensor, " samples"],
    step: Float[Tensor, " samples"],
    ray: Int[Tensor, " samples"],
    offsets: Int[Tensor, " offsets"],
) -> Float[Tensor, " rays"]:
    """sum_ij w_i w_j |t_i - t_j| + sum_i w_i^2 step_i / 3 for each ray, pair by pair. See `FieldBackend.distortion`."""
    losses = []
    for first, end in zip(offsets[:-1].tolist(), offsets[1:].tolist()):
        w, at = weight[first:end], t[first:end]
        pairs = (w[:, None] * w[None, :] * (at[:, None] - at[None, :]).abs()).sum()
        losses.append(pairs + (w * w * step[first:end]).sum() / 3.0)
    return torch.stack(losses) if losses else weight.new_zeros(0)


def median(
    weight: Float[Tensor, " samples"],
    t: Float[Tensor, " samples"],
    step: Float[Tensor, " samples"],
    offsets: Int[Tensor, " offsets"],
) -> Float[Tensor, " rays"]:
    """The distance at which half of a ray's weight is reached, for each ray."""
    out = weight.new_zeros(len(offsets) - 1)
    for ray, (first, end) in enumerate(zip(offsets[:-1].tolist(), offsets[1:].tolist())):
        reached = torch.cumsum(weight[first:end], 0)
        if first == end or not reached[-1] > 0:
            continue
        half = 0.5 * reached[-1]
        s = first + int(torch.searchsorted(reached, half))
        share = (half - (reached[s - first] - weight[s])) / weight[s]
        out[ray] = t[s] + step[s] * (share - 0.5)
    return out
