"""The sky of an open scene: a colour of the direction alone, infinitely far away.

Light that no surface stops comes from the sky. Its colour is a sigmoid of a sum of spherical harmonics up to degree 3,
48 parameters in field axes. In the distortion loss (Barron et al. 2022, equation 15) it is one more sample of each
ray, at the normalised distance 1, so that haze before it becomes sky or surface.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ovseg3d.field.radiance import HARMONICS

SKY_LEARNING_RATE = 0.1
"""At the start. At a fifth of it, haze takes the colour of the sky before the sky does, and stays."""


def first_sky(device: torch.device) -> Float[Tensor, "harmonics 3"]:
    """Parameters of a grey sky."""
    return torch.zeros(HARMONICS, 3, device=device)


def sky_color(sky: Float[Tensor, "harmonics 3"], harmonics: Float[Tensor, "rays harmonics"]) -> Float[Tensor, "rays 3"]:
    """rgb from 0 to 1, from the harmonics of the rays' directions."""
    return torch.sigmoid(harmonics @ sky)


def sky_distortion(
    weight: Float[Tensor, " samples"],
    s: Float[Tensor, " samples"],
    ray: Int[Tensor, " samples"],
    opacity: Float[Tensor, " rays"],
) -> Float[Tensor, " rays"]:
    """What the sky adds to the distortion loss of each ray: 2 (1 - opacity) sum_i w_i (1 - s_i).

    Args:
        weight: render weights of the samples.
        s: their normalised distances, from 0 to 1.
        ray: index of each sample's ray.
        opacity: sum of the weights of each ray.
    """
    before = torch.zeros_like(opacity).index_add(0, ray, weight * (1.0 - s))
    return 2.0 * (1.0 - opacity) * before
