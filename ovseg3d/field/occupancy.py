"""Occupancy: which cells of the box and its cascades are worth sampling.

A cell earns its place by the render weight that training rays find in it, not by density: what is hidden inside a
thing or behind a wall is as empty, for a ray, as air. Values decay, so that a cell that no ray has found useful for
a while is emptied; a few emptied cells come back on trial at every update, so that no mistake is for ever. Cells
that no camera sees start empty and stay so.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

DECAY = 0.95
"""Of a cell's value at each update."""
TRIAL = 1.3
"""A cell on trial starts with this many thresholds, enough for five updates."""
TRIAL_SHARE = 1 / 64
"""Share of cells that are looked at for a trial at each update: those next to an occupied one come back."""
ANYWHERE = 1 / 32
"""Of the others looked at, this share comes back too."""


def cell_at(
    points: Float[Tensor, "points 3"], cascades: int, resolution: int
) -> tuple[Int[Tensor, " points"], Float[Tensor, " points"]]:
    """The cell around each point, in the finest cascade that holds it, and half the side of that cascade.

    Args:
        points: field units; for those outside all cascades the answer means nothing.

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
    """Values and bytes of [cascades, resolution^3] cells, indexed [cascade, z, y, x].

    Args:
        seen: which cells a camera sees.
        threshold: the render weight that keeps a cell.
    """

    def __init__(self, seen: Bool[Tensor, "cascades cells cells cells"], threshold: float) -> None:
        self.seen = seen
        self.threshold = threshold
        self.value = seen.float()
        self.occupied = seen.to(torch.uint8)

    def update(self, generator: torch.Generator, keep_all: bool) -> None:
        """Decay, empty what fell below the threshold, and put a few emptied cells on trial.

        Args:
            keep_all: in the first steps weights mean little: note them, empty nothing.
        """
        self.value *= DECAY
        if keep_all:
            return
        cells, count = self.value.view(-1), int(self.value.numel() * TRIAL_SHARE)
        draws = torch.randint(cells.numel(), (count,), generator=generator, device=generator.device)
        worthy = self._near_occupied().view(-1)[draws]
        worthy[: int(count * ANYWHERE)] = True
        on_trial = torch.where(worthy & self.seen.view(-1)[draws], self.threshold * TRIAL, 0.0)
        # A cell may be drawn twice; the larger value counts, whatever the order.
        cells.scatter_reduce_(0, draws, on_trial, "amax")
        torch.gt(self.value, self.threshold, out=self.occupied.view(torch.bool))

    def _near_occupied(self) -> Bool[Tensor, "cascades cells cells cells"]:
        """Cells that share a face with an occupied one of their cascade."""
        occupied = self.occupied.view(torch.bool)
        near = occupied.clone()
        for axis in (1, 2, 3):
            length = occupied.shape[axis] - 1
            near.narrow(axis, 0, length).logical_or_(occupied.narrow(axis, 1, length))
            near.narrow(axis, 1, length).logical_or_(occupied.narrow(axis, 0, length))
        return near

    def forget(self) -> None:
        """Start the values anew, after a warm-up whose weights mean little."""
        self.value = torch.where(self.seen, self.threshold * TRIAL, 0.0)

    @property
    def share(self) -> float:
        """Share of cells that are occupied."""
        return float(self.occupied.float().mean())

    def state(self) -> dict[str, Tensor]:
        return {"seen": self.seen, "value": self.value, "occupied": self.occupied}

    def load_state(self, state: dict[str, Tensor]) -> None:
        self.seen, self.value, self.occupied = state["seen"], state["value"], state["occupied"]
