"""Rotation about the up axis as a distribution over bins, with the object's order of symmetry.

An object that looks the same after a turn by 2 pi / n has n equally likely yaws, and a round one has none: its
distribution is uniform. A label is a mixture of von Mises distributions (Mardia and Jupp 2000, section 3.5.4), one for
each of these yaws.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

CONCENTRATION = 33.0
"""Of the von Mises distribution of one yaw: a standard deviation of 10 degrees, so that neighbouring bins of 15
degrees say where between them it is."""


def bin_angles(bins: int) -> Float[Tensor, " bins"]:
    """Centres of the bins, radians, from 0."""
    return torch.arange(bins) * (2 * math.pi / bins)


def yaw_labels(yaw: Float[Tensor, " n"], order: Int[Tensor, " n"], bins: int) -> Float[Tensor, "n bins"]:
    """Distributions over bins.

    Args:
        yaw: radians.
        order: of the symmetry: 1, 2, 4..., or 0 for a round object.
        bins: how many.
    """
    # Multiplying the angle by n folds its n equivalent values into one; the width must not be folded with it.
    n = order.clamp(min=1)[:, None]
    delta = torch.remainder(bin_angles(bins) - yaw[:, None] + math.pi / n, 2 * math.pi / n) - math.pi / n
    weight = torch.where(order[:, None] == 0, torch.ones_like(delta), torch.exp(CONCENTRATION * (delta.cos() - 1)))
    return weight / weight.sum(1, keepdim=True)


def decode_yaw(logits: Float[Tensor, "n bins"]) -> Float[Tensor, " n"]:
    """The most likely yaw, radians: the circular mean of the highest bin and two bins on either side."""
    bins = logits.shape[1]
    near = (logits.argmax(1, keepdim=True) + torch.arange(-2, 3)) % bins
    weight = logits.gather(1, near)
    weight = (weight - weight[:, 2:3]).exp()  # a softmax but for its sum, which does not change the angle
    angle = bin_angles(bins)[near]
    return torch.atan2((weight * angle.sin()).sum(1), (weight * angle.cos()).sum(1))
