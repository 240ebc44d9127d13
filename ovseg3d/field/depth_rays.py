"""Targets of the depth loss, from sparse points and their completion.

Points get rays of their own, drawn in proportion to their confidence. The rays of the photos get the completed depth
where the capture has measured none, with a weight that falls with its uncertainty.
"""

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ovseg3d.scene import PixelBatch
from ovseg3d.scene.sparse import SparseDepth

POINT_SIGMA = 0.01
"""Relative deviation at which a point's confidence is a quarter."""
MAX_POINT_SIGMA = 0.05
"""Points with a larger relative deviation are not used."""
COMPLETION_SIGMA = 0.02
"""Relative deviation at which the completed depth has half its weight."""


class DepthRays:
    """Depth for the rays of a step.

    Args:
        sparse: points and completed depth of the training photos.
        weight: of the completed depth, in units of that of a point.
        seed: of the points drawn.
        device: of the rays, which are then drawn there; None: on the CPU, with other random numbers.
    """

    def __init__(self, sparse: SparseDepth, weight: float, seed: int, device: torch.device | None = None) -> None:
        self._device = device
        self._view = torch.tensor(sparse.view, device=device)
        self._xy = torch.tensor(sparse.xy, dtype=torch.float32, device=device)
        self._depth_z = torch.tensor(sparse.depth_z, dtype=torch.float32, device=device)
        confidence = (POINT_SIGMA / (POINT_SIGMA + sparse.sigma)) ** 2 * (sparse.sigma < MAX_POINT_SIGMA)
        self._ends = np.cumsum(confidence)
        self._ends_there = torch.tensor(self._ends, device=device)
        self._seed = seed
        self._cell = torch.tensor(sparse.cell, dtype=torch.float32, device=device)
        self._disparity = torch.tensor(sparse.disparity, dtype=torch.float32, device=device)
        sigma = torch.tensor(sparse.disparity_sigma, dtype=torch.float32, device=device)
        self._weight = weight / (1.0 + (sigma / COMPLETION_SIGMA).square())

    def draw(self, step: int, count: int) -> PixelBatch:
        """Rays through `count` points. They have no colour."""
        if not self._ends[-1] > 0:
            count = 0
        pick = self._pick(step, count)
        zeros = torch.zeros(count, device=self._device)
        ones = torch.ones_like(zeros)
        return PixelBatch(
            view=self._view[pick],
            xy=self._xy[pick],
            rgb=zeros[:, None].expand(-1, 3),
            alpha=ones,
            depth_z=self._depth_z[pick],
            depth_weight=ones,
            valid=zeros.bool(),
            flatness=zeros,
        )

    def _pick(self, step: int, count: int) -> Int[Tensor, " rays"]:
        """Numbers of random points."""
        if self._device is None:
            random = np.random.Generator(np.random.Philox(key=[self._seed + 1, step]))
            return torch.from_numpy(np.searchsorted(self._ends, random.random(count) * self._ends[-1], side="right"))
        generator = torch.Generator(self._device).manual_seed((self._seed * 1_000_003 + step) * 128 + 125)
        share = torch.rand(count, generator=generator, device=self._device, dtype=torch.float64)
        pick = torch.searchsorted(self._ends_there, share * float(self._ends[-1] if len(self._ends) else 0), right=True)
        return pick.clamp_(max=len(self._view) - 1)

    def fill(self, batch: PixelBatch) -> PixelBatch:
        """The batch with completed depth for its valid pixels without measured depth."""
        disparity, weight = self._at(batch.view, batch.xy)
        weight = weight * batch.valid
        measured = batch.depth_weight > 0
        return replace(
            batch,
            depth_z=torch.where(measured, batch.depth_z, 1.0 / disparity),
            depth_weight=torch.where(measured, batch.depth_weight, weight),
        )

    def _at(
        self, view: Int[Tensor, " rays"], xy: Float[Tensor, "rays 2"]
    ) -> tuple[Float[Tensor, " rays"], Float[Tensor, " rays"]]:
        """Disparity, interpolated, and weight of the nearest cell."""
        _, rows, columns = self._disparity.shape
        cell = self._cell[view]
        u = (xy[:, 0] / cell - 0.5).clamp(0.0, columns - 1.001)
        v = (xy[:, 1] / cell - 0.5).clamp(0.0, rows - 1.001)
        column, row = u.long(), v.long()
        right, below = u - column, v - row
        flat = (view * rows + row) * columns + column
        cells = self._disparity.view(-1)
        upper = torch.lerp(cells[flat], cells[flat + 1], right)
        lower = torch.lerp(cells[flat + columns], cells[flat + columns + 1], right)
        nearest = (view * rows + v.round().long()) * columns + u.round().long()
        return torch.lerp(upper, lower, below), self._weight.view(-1)[nearest]
