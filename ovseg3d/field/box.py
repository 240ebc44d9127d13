"""Field coordinates: where the content is, brought to the box from -1 to 1, and the rest around it.

A similarity takes input-frame points to field units u, in which the content's box reaches from -1 to 1 on every
axis. In a bounded scene that is all there is. In an open one space goes on, and is contracted (Barron et al. 2022,
equation 10, with the largest coordinate as norm, so that cubes stay cubes): |u| <= 1 stays, infinity comes to 2.
The hash grid covers the whole of it as a unit cube.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class FieldBox:
    """The field's place in the capture."""

    center: tuple[float, float, float]
    """Centre of the content, input frame."""
    radius: float
    """Half the side of the content's box, input units."""
    open: bool
    """Whether there is anything beyond the box."""
    cascades: int
    """Cascades of the occupancy grid; cascade c reaches from -2^c to 2^c."""
    near: float
    """Where rays begin, field units."""
    rotation: tuple[tuple[float, ...], ...] = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
    """From the input frame's axes to the field's."""

    @property
    def field_from_input(self) -> Float[np.ndarray, "4 4"]:
        """The similarity, as a matrix."""
        matrix = np.eye(4)
        matrix[:3, :3] = np.asarray(self.rotation) / self.radius
        matrix[:3, 3] = -matrix[:3, :3] @ np.asarray(self.center)
        return matrix

    @property
    def reach(self) -> float:
        """Half the side of the outermost cascade."""
        return float(2 ** (self.cascades - 1))

    def unit(self, u: Float[Tensor, "samples 3"]) -> Float[Tensor, "samples 3"]:
        """Field units to the unit cube of the hash grid."""
        if not self.open:
            return 0.5 * (u + 1.0)
        norm = u.abs().amax(-1, keepdim=True).clamp_min(1.0)
        # (2 - 1/m)/m is 1 at m = 1, so points inside the box pass unchanged.
        return 0.25 * (u * ((2.0 - 1.0 / norm) / norm) + 2.0)

    def away(self, x: Float[Tensor, "samples 3"]) -> Float[Tensor, "samples 3"]:
        """The inverse of `unit`: from the unit cube to field units."""
        if not self.open:
            return 2.0 * x - 1.0
        contracted = 4.0 * x - 2.0
        norm = contracted.abs().amax(-1, keepdim=True).clamp(1.0, 2.0 - 1e-6)
        return contracted / (norm * (2.0 - norm))

    def along(
        self,
        origins: Float[Tensor, "rays 3"],
        directions: Float[Tensor, "rays 3"],
        ray: Int[Tensor, " samples"],
        t: Float[Tensor, " samples"],
    ) -> Float[Tensor, "samples 3"]:
        """Where samples are in the unit cube."""
        return self.unit(origins.index_select(0, ray) + directions.index_select(0, ray) * t[:, None])

    def spans(self, origins: Float[Tensor, "rays 3"], directions: Float[Tensor, "rays 3"]) -> Float[Tensor, "rays 2"]:
        """Where rays enter and leave the outermost cascade; an empty span (0, 0) for rays that miss it."""
        safe = torch.where(directions.abs() < 1e-9, torch.full_like(directions, 1e-9), directions)
        a, b = (-self.reach - origins) / safe, (self.reach - origins) / safe
        enter = torch.minimum(a, b).amax(-1).clamp_min(self.near)
        leave = torch.maximum(a, b).amin(-1)
        return torch.where((leave > enter)[:, None], torch.stack([enter, leave], -1), torch.zeros_like(enter)[:, None])
