"""Learned corrections of each photo: exposure and pose.

Each photo has a row of twelve numbers: log gain of r, g, b; offset of r, g, b; rotation vector (radians, about the
camera's centre); translation (field units). Rotation and translation are in field axes, applied from the left.
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
"""Weight of the squared corrections in the loss. Without it, all corrections could drift together."""


class PhotoCorrections:
    """Exposure and pose corrections of all photos. Disabled ones cost nothing and change nothing.

    Args:
        views: number of photos.
        exposure: learn gains and offsets.
        refine: learn pose corrections.
        device: of the values.
    """

    def __init__(self, views: int, exposure: bool, refine: bool, device: torch.device) -> None:
        self.exposure, self.refine = exposure, refine
        self.values = torch.zeros(views, 12, device=device)

    def leaf(self) -> Float[Tensor, "views 12"]:
        """The values as a leaf of autograd."""
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
        """Colours of the field with the exposure of each ray's photo."""
        if not self.exposure:
            return rgb
        rows = values.index_select(0, view)
        return rgb * torch.exp(rows[:, :3]) + rows[:, 3:6]

    def penalty(self, values: Float[Tensor, "views 12"], view: Int[Tensor, " rays"]) -> Tensor | float:
        """Penalty of the corrections, summed over rays."""
        if not (self.exposure or self.refine):
            return 0.0
        return PENALTY * values.index_select(0, view).square().sum()


def corrected(cameras: Sequence[Camera], values: Float[Tensor, "views 12"], box: FieldBox) -> list[Camera]:
    """Cameras of the input frame with the corrections that a field in `box` learned; `values` has a row per camera."""
    input_from_field = torch.tensor(box.rotation, dtype=torch.float64).T
    turn, step = (part @ input_from_field.T for part in values[:, 6:].cpu().double().split(3, dim=1))
    c2w = torch.from_numpy(np.stack([camera.c2w for camera in cameras]))
    return [replace(camera, c2w=pose) for camera, pose in zip(cameras, _moved(c2w, turn, step * box.radius).numpy())]


def _moved(
    c2w: Float[Tensor, "views 4 4"], turn: Float[Tensor, "views 3"], step: Float[Tensor, "views 3"]
) -> Float[Tensor, "views 4 4"]:
    """Poses rotated about the camera's centre by rotation vectors `turn`, then translated by `step`."""
    moved = torch.cat([_product(_rotations(turn), c2w[:, :3, :3]), c2w[:, :3, 3:] + step[..., None]], -1)
    return torch.cat([moved, c2w[:, 3:]], 1)


def _rotations(vectors: Float[Tensor, "views 3"]) -> Float[Tensor, "views 3 3"]:
    """Rotations by rotation vectors v: 1 + sin a / a [v]x + (1 - cos a) / a^2 [v]x^2 with a = |v| (Rodrigues).

    torch's matrix exponential would make a GPU's host wait.
    """
    cross, square = _cross(vectors), vectors.square().sum(-1)[:, None, None]
    one = torch.eye(3, dtype=vectors.dtype, device=vectors.device)
    return one + _sinc(square) * cross + 0.5 * _sinc(square / 4).square() * _product(cross, cross)


def _product(a: Tensor, b: Tensor) -> Tensor:
    """Matrix products in full precision, which TF32 would not have."""
    return (a[..., :, :, None] * b[..., None, :, :]).sum(-2)


def _sinc(square: Tensor) -> Tensor:
    """sin(a) / a of the square of a, with its gradient at 0."""
    small = square < 1e-4
    a = torch.where(small, 1.0, square).sqrt()
    return torch.where(small, 1.0 - square / 6.0, a.sin() / a)


def _cross(vectors: Float[Tensor, "views 3"]) -> Float[Tensor, "views 3 3"]:
    """Cross-product matrices [v]x, with [v]x w = v x w."""
    x, y, z = vectors.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).view(-1, 3, 3)
