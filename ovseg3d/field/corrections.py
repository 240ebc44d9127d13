"""What is learned about each photo: its exposure, and a correction of its pose.

One row of twelve numbers a photo: log gain and offset of r, g, b; rotation vector (radians, about the camera's
centre) and translation (field units), both in field axes and applied to the camera from the left.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ovseg3d.field.box import FieldBox
from ovseg3d.scene import Camera

PENALTY = 1e-2
"""Pulls exposures to none and poses to what was given: otherwise all could drift together, unseen."""


class PhotoCorrections:
    """Exposure and pose corrections of all photos; switched off, it costs nothing and changes nothing.

    Args:
        views: number of photos.
        exposure: learn gains and offsets.
        refine: learn pose corrections.
    """

    def __init__(self, views: int, exposure: bool, refine: bool, device: torch.device) -> None:
        self.exposure, self.refine = exposure, refine
        self.values = torch.zeros(views, 12, device=device)

    def leaf(self) -> Float[Tensor, "views 12"]:
        """The values as something to differentiate by."""
        return self.values.detach().requires_grad_(self.exposure or self.refine)

    def poses(
        self, c2w: Float[Tensor, "views 4 4"], values: Float[Tensor, "views 12"]
    ) -> Float[Tensor, "views 4 4"] | None:
        """Corrected poses, or None when they are not refined."""
        if not self.refine:
            return None
        return _moved(c2w, values[:, 6:9], values[:, 9:])

    def expose(
        self, rgb: Float[Tensor, "rays 3"], view: Int[Tensor, " rays"], values: Float[Tensor, "views 12"]
    ) -> Float[Tensor, "rays 3"]:
        """What the photo would have shown of the field's colours."""
        if not self.exposure:
            return rgb
        rows = values.index_select(0, view)
        return rgb * torch.exp(rows[:, :3]) + rows[:, 3:6]

    def penalty(self, values: Float[Tensor, "views 12"], view: Int[Tensor, " rays"]) -> Tensor | float:
        """Loss, summed over rays, that keeps corrections near none."""
        if not (self.exposure or self.refine):
            return 0.0
        return PENALTY * values.index_select(0, view).square().sum()


def corrected(cameras: Sequence[Camera], values: Float[Tensor, "views 12"], box: FieldBox) -> list[Camera]:
    """Cameras of the input frame, moved as a field in this box learned to; `values` are those of their photos."""
    input_from_field = torch.tensor(box.rotation, dtype=torch.float64).T
    turn, step = (part @ input_from_field.T for part in values[:, 6:].cpu().double().split(3, dim=1))
    c2w = torch.from_numpy(np.stack([camera.c2w for camera in cameras]))
    return [replace(camera, c2w=pose) for camera, pose in zip(cameras, _moved(c2w, turn, step * box.radius).numpy())]


def _moved(
    c2w: Float[Tensor, "views 4 4"], turn: Float[Tensor, "views 3"], step: Float[Tensor, "views 3"]
) -> Float[Tensor, "views 4 4"]:
    """Poses turned about the camera's centre, by rotation vectors, and moved."""
    rotation = torch.linalg.matrix_exp(_cross(turn))
    moved = torch.cat([rotation @ c2w[:, :3, :3], c2w[:, :3, 3:] + step[..., None]], -1)
    return torch.cat([moved, c2w[:, 3:]], 1)


def _cross(vectors: Float[Tensor, "views 3"]) -> Float[Tensor, "views 3 3"]:
    """Matrices of the cross product."""
    x, y, z = vectors.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).view(-1, 3, 3)
