"""What the pose head returns."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from ovseg3d.geometry import from_wxyz

Source = Literal["photo", "cloud", "fused"]
Frame = Literal["input", "world", "camera"]
Quadruple = tuple[float, float, float, float]
WITHIN = np.radians(30.0)
"""The score is the probability of an error of at most this."""
MIN_FRONT_PROBABILITY = 0.5
"""A front is believed if its score is above this: it is likelier right than wrong."""


@dataclass(frozen=True)
class Pose:
    """Which way an object faces."""

    rotation_wxyz: Quadruple
    """Frame from object; the object has z up and its front at -y. For a symmetric object it is one of those that are
    equally right."""
    symmetry_order: int
    """1: the object has a front; 2, 4: it looks the same after half or a quarter of a turn about its up axis; 0: it is
    round, and the rotation about that axis means nothing."""
    score: float
    """Probability, 0 to 1, that the rotation about the up axis is within 30 degrees of a right one; of a round object,
    that it is round."""
    source: Source
    frame: Frame = "input"
    """Of `rotation_wxyz`: the capture's, the levelled one, or that of a lone photo's camera (OpenCV axes)."""
    pose_probabilities: Mapping[str, Float[np.ndarray, " bins"]] = field(default_factory=dict, repr=False)
    """Distributions of angles by name, each on a grid over the full circle: entry k is the probability of 2 pi k / bins
    radians. Of a photo: "azimuth", "elevation", "theta" (ImageNet3D's). Of a cloud, or fused: "yaw", counter-clockwise
    about the up axis, from the frame's own level axes."""

    @property
    def front(self) -> tuple[float, float, float] | None:
        """Unit vector towards which the object faces, in the frame; None for a symmetric object."""
        if self.symmetry_order != 1:
            return None
        x, y, z = from_wxyz(self.rotation_wxyz).apply([0.0, -1.0, 0.0]).tolist()
        return x, y, z

    def record(self) -> dict[str, Any]:
        """The pose as a JSON object, without its distributions."""
        return {
            "rotation_wxyz": list(self.rotation_wxyz),
            "front": None if self.front is None else list(self.front),
            "symmetry_order": self.symmetry_order,
            "score": self.score,
            "source": self.source,
        }


def mass_near(probability: Float[np.ndarray, " bins"], angle_rad: float, order: int) -> float:
    """Probability of being within `WITHIN` of an angle, or of one of those that the symmetry makes equal to it.

    Args:
        probability: on a grid over the full circle.
        angle_rad: the angle.
        order: of the symmetry; 0 for all angles.
    """
    if order == 0:
        return float(probability.sum())
    grid = np.arange(len(probability)) * (2 * np.pi / len(probability))
    period = 2 * np.pi / order
    away = np.abs((grid - angle_rad + period / 2) % period - period / 2)
    return float(probability[away <= WITHIN + 1e-9].sum())
