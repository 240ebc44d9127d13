"""Field coordinates: the similarity to field units, the contraction of open scenes, and the unit cube of the grid.

A similarity maps points of the input frame to field units u, in which the content's box is [-1, 1]^3. A bounded
scene ends there. In an open scene space beyond the box is contracted (Barron et al. 2022, equation 10, with the
largest absolute coordinate as norm, so that cubes stay cubes): |u| <= 1 is kept, infinity maps to 2. The hash grid
covers [-1, 1]^3 or [-2, 2]^3 as its unit cube [0, 1]^3.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class FieldBox:
    """Where the field lies in the input frame."""

    center: tuple[float, float, float]
    """Centre of the content, input frame."""
    radius: float
    """Half the side of the content's box, input units."""
    open: bool
    """Whether the scene continues beyond the box."""
    cascades: int
    """Cascades of the occupancy grid; cascade c reaches from -2^c to 2^c."""
    near: float
    """Distance from the camera at which rays begin, field units."""
    rotation: tuple[tuple[float, ...], ...] = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
    """Rotation from the axes of the input frame to those of the field."""

    @property
    def field_from_input(self) -> Float[np.ndarray, "4 4"]:
        """The similarity from the input frame to field units."""
        matrix = np.eye(4)
        matrix[:3, :3] = np.asarray(self.rotation) / self.radius
        matrix[:3, 3] = -matrix[:3, :3] @ np.asarray(self.center)
        return matrix

    @property
    def reach(self) -> float:
        """Half the side of the outermost cascade, field units."""
        return float(2 ** (self.cascades - 1))

    def contract(self, u: Float[Tensor, "samples 3"]) -> Float[Tensor, "samples 3"]:
        """Field units to the unit cube of the hash grid, contracted in an open scene."""
        if not self.open:
            return 0.5 * (u + 1.0)
        norm = u.abs().amax(-1, keepdim=True).clamp_min(1.0)
        # Equation 10 with m = max(|u|, 1): u (2 - 1/m)/m. The factor is 1 at m = 1, so the box is kept.
        return 0.25 * (u * ((2.0 - 1.0 / norm) / norm) + 2.0)

    def uncontract(self, x: Float[Tensor, "samples 3"]) -> Float[Tensor, "samples 3"]:
        """The inverse of `contract`: the unit cube to field units."""
        if not self.open:
            return 2.0 * x - 1.0
        contracted = 4.0 * x - 2.0
        # |contracted| = 2 - 1/m, so u = contracted m / (2 - 1/m), with 1/m = 2 - |contracted|.
        norm = contracted.abs().amax(-1, keepdim=True).clamp(1.0, 2.0 - 1e-6)
        return contracted / (norm * (2.0 - norm))

    def along(
        self,
        origins: Float[Tensor, "rays 3"],
        directions: Float[Tensor, "rays 3"],
        ray: Int[Tensor, " samples"],
        t: Float[Tensor, " samples"],
    ) -> Float[Tensor, "samples 3"]:
        """Positions of samples in the unit cube.

        Args:
            origins: of the rays, field units.
            directions: of the rays, unit length, field axes.
            ray: index of each sample's ray.
            t: distance of each sample along its ray, field units.
        """
        return self.contract(origins.index_select(0, ray) + directions.index_select(0, ray) * t[:, None])

    def normalized(self, t: Float[Tensor, " samples"]) -> Float[Tensor, " samples"]:
        """Normalised distances s along rays (Barron et al. 2022, section 4), of distances t in field units.

        In an open scene s is linear up to the side of the inner box, where it is 1/2, and linear in disparity beyond,
        up to 1 at infinity. In a bounded scene it is linear, of the same slope; a ray's stretch in the box is less
        than 1.
        """
        sides = 0.5 * t
        if self.open:
            sides = torch.where(sides > 1.0, 2.0 - 1.0 / sides.clamp_min(1.0), sides)
        return 0.5 * sides

    def spans(self, origins: Float[Tensor, "rays 3"], directions: Float[Tensor, "rays 3"]) -> Float[Tensor, "rays 2"]:
        """Distances at which rays enter and leave the outermost cascade; (0, 0) for rays that miss it."""
        safe = torch.where(directions.abs() < 1e-9, torch.full_like(directions, 1e-9), directions)
        a, b = (-self.reach - origins) / safe, (self.reach - origins) / safe
        enter = torch.minimum(a, b).amax(-1).clamp_min(self.near)
        leave = torch.maximum(a, b).amin(-1)
        return torch.where((leave > enter)[:, None], torch.stack([enter, leave], -1), torch.zeros_like(enter)[:, None])
