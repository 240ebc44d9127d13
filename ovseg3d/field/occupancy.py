"""Occupancy: which cells of the box and its cascades are sampled.

A cell is occupied by the render weight of training rays in it, not by its density: the inside of an object, or what
is behind a wall, contributes nothing to a ray. Values decay, so that a cell without render weight is emptied after
a while. Emptied cells come back: those next to an occupied one are tried in turns, and training tries those along rays
that are rendered badly. Cells that no camera sees start empty and stay empty.

If only a share of the photos is in memory at a time, rays that could see a cell come as much more rarely. Then values
decay as much more slowly, and else by the rays that pass through their cells.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ovseg3d.field.cell_bits import CellBits

DECAY = 0.95
"""Factor on each cell's value at each update."""
TRIAL = 1.3
"""Value of a cell on trial, in thresholds; it lasts for five updates."""
TRIAL_SHARE = 1 / 64
"""Share of cells drawn at each update; those next to an occupied cell are put on trial."""
CLEAR = 0.5
"""A ray that has so much transmittance left in a cell sees what is in it."""


def cell_at(
    points: Float[Tensor, "points 3"], cascades: int, resolution: int
) -> tuple[Int[Tensor, " points"], Float[Tensor, " points"]]:
    """The cell around each point, in the finest cascade that holds it, and half the side of that cascade.

    Args:
        points: field units; results for points outside all cascades are meaningless.

    Returns:
        Indices into the flat grid, and lengths in field units.
    """
    outermost = 2.0 ** (cascades - 1)
    # A point on a cascade's border belongs to the next one.
    half = 2.0 ** torch.floor(torch.log2(points.abs().amax(-1).clamp(0.5, outermost * 0.999)) + 1.0)
    xyz = ((points + half[:, None]) * (resolution / (2.0 * half))[:, None]).long().clamp(0, resolution - 1)
    cascade = torch.log2(half).long()
    return ((cascade * resolution + xyz[:, 2]) * resolution + xyz[:, 1]) * resolution + xyz[:, 0], half


class OccupancyGrid:
    """Values and occupancy of cells, indexed [cascade, z, y, x].

    Args:
        seen: whether any camera sees a cell.
        threshold: render weight that keeps a cell occupied.
    """

    def __init__(self, seen: Bool[Tensor, "cascades cells cells cells"], threshold: float) -> None:
        self.seen = seen
        self.threshold = threshold
        self.value = seen.float()
        self.occupied = seen.to(torch.uint8)
        self.bits = CellBits.pack(seen)

    @property
    def trial(self) -> float:
        """Value of a cell on trial."""
        return self.threshold * TRIAL

    def passed(self, cell: Int[Tensor, " samples"], transmittance: Float[Tensor, " samples"], share: float) -> None:
        """Decay the values of the cells that rays passed through, by `share` of an update."""
        clear = torch.where(transmittance > CLEAR, DECAY**share, 1.0)
        cells, cell = self.value.view(-1), cell.long()
        # A cell may be passed many times; the minimum does not depend on the order.
        cells.scatter_reduce_(0, cell, cells.index_select(0, cell) * clear, "amin")

    def update(self, generator: torch.Generator, keep_all: bool, share: float = 1.0) -> None:
        """Decay the values, put a few cells next to occupied ones on trial, and empty the cells below the threshold.

        Args:
            generator: draws the cells on trial.
            keep_all: only decay; in the first steps weights are not meaningful yet.
            share: of the photos that are in memory at a time. It does not prolong trials.
        """
        self.value *= DECAY if share == 1.0 else torch.where(self.value > self.trial, DECAY**share, DECAY)
        if keep_all:
            return
        cells, count = self.value.view(-1), int(self.value.numel() * TRIAL_SHARE)
        draws = torch.randint(cells.numel(), (count,), generator=generator, device=generator.device)
        on_trial = torch.where(self._worth_a_trial(draws), self.trial, 0.0)
        # A cell may be drawn twice; the maximum does not depend on the order.
        cells.scatter_reduce_(0, draws, on_trial, "amax")
        torch.gt(self.value, self.threshold, out=self.occupied.view(torch.bool))
        self._pack()

    def _worth_a_trial(self, cells: Int[Tensor, " cells"]) -> Bool[Tensor, " cells"]:
        """Whether cells are seen, and share a face with an occupied one of their cascade."""
        resolution, occupied = self.occupied.shape[1], self.occupied.view(torch.bool).view(-1)
        near = occupied[cells]
        for stride in (1, resolution, resolution**2):
            place = cells // stride % resolution
            near |= occupied[cells - stride * (place > 0)]
            near |= occupied[cells + stride * (place < resolution - 1)]
        return near & self.seen.view(-1)[cells]

    def forget(self) -> None:
        """Reset the values after the warm-up, whose weights are not meaningful."""
        self.value = torch.where(self.seen, self.trial, 0.0)

    @property
    def share(self) -> float:
        """Share of cells that are occupied."""
        return float(self.occupied.float().mean())

    def state(self) -> dict[str, Tensor]:
        return {"seen": self.seen, "value": self.value, "occupied": self.occupied}

    def load_state(self, state: dict[str, Tensor]) -> None:
        self.seen, self.value, self.occupied = state["seen"], state["value"], state["occupied"]
        self._pack()

    def _pack(self) -> None:
        # In place: CUDA graphs of a step know the address.
        self.bits.words.copy_(CellBits.pack(self.occupied.view(torch.bool)).words)
