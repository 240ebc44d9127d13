"""Poses of objects in crops of photos: `PhotoPoser.look` returns distributions, `pose_in_camera` a `Pose`."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from scipy.spatial.transform import Rotation

from ovseg3d.geometry import rotation_of_angles, to_wxyz
from ovseg3d.heads.pose.circular import mode, probabilities
from ovseg3d.heads.pose.crop_head import CropHead
from ovseg3d.heads.pose.network import SYMMETRY_ORDERS
from ovseg3d.heads.pose.records import Frame, Pose, mass_near
from ovseg3d.heads.pose.weights import SHIPPED, TrainedPoseNetwork, load_network

GRID = 72
"""Angles of a distribution: every 5 degrees."""


@dataclass(frozen=True)
class CropPose:
    """What a crop says: distributions of the viewpoint's angles on grids of GRID angles from 0."""

    azimuth: Float[np.ndarray, " grid"]
    elevation: Float[np.ndarray, " grid"]
    theta: Float[np.ndarray, " grid"]
    symmetry: Float[np.ndarray, " orders"]
    """Probabilities of SYMMETRY_ORDERS."""
    present: float
    """Probability that there is an object."""

    @property
    def symmetry_order(self) -> int:
        """The likeliest order."""
        return SYMMETRY_ORDERS[int(self.symmetry.argmax())]

    @property
    def angles(self) -> tuple[float, float, float]:
        """The likeliest azimuth, elevation and theta, radians; the latter two from -pi to pi."""
        a, e, t = mode(torch.from_numpy(np.stack([self.azimuth, self.elevation, self.theta]))).tolist()
        return a, _signed(e), _signed(t)


@dataclass(frozen=True)
class PhotoPoser(CropHead):
    """The photo head with its encoder.

    Args:
        weights: a file of scripts.training.train_pose; by default the shipped one.
        device: for the encoder.
    """

    weights: Path = SHIPPED
    device: torch.device | str = "cpu"

    @cached_property
    def trained(self) -> TrainedPoseNetwork:
        """The network, read once. Raises ConfigError."""
        return load_network(self.weights)

    def look(
        self, crops: UInt8[np.ndarray, "crops side side 3"], phrases: Sequence[str | None] | None = None
    ) -> list[CropPose]:
        """What square crops around objects show.

        Args:
            crops: rgb, see `square_crop`.
            phrases: what each shows, such as "chair"; None where that is not known. One text is for all.

        Raises:
            EncoderError: a phrase is too long, or the encoder is not available.
        """
        if not len(crops):
            return []
        phrases = [phrases] * len(crops) if isinstance(phrases, str) else phrases
        network = self.trained.network
        features, vectors = self._read(crops, phrases, grid=network.shape.grid, text=network.shape.text)
        with torch.inference_mode():
            found = network(features, vectors)
            soft = [probabilities(c / self.trained.temperature, GRID).double().numpy() for c in found.angles]
            symmetry, present = found.symmetry.softmax(1).double().numpy(), found.present.sigmoid().tolist()
        azimuth, elevation, theta = soft
        return [CropPose(azimuth[k], elevation[k], theta[k], symmetry[k], present[k]) for k in range(len(crops))]


def pose_in_camera(seen: CropPose, camera: Rotation | None = None, frame: Frame = "camera") -> Pose:
    """The pose of a crop's object.

    Args:
        seen: what the crop says.
        camera: from the camera that looks at the crop's middle (see `turn_to_box`) to `frame`; None: that camera's own
            axes.
        frame: of the pose.
    """
    azimuth, elevation, theta = seen.angles
    rotation = rotation_of_angles(np.array([azimuth, elevation, theta]))
    order = seen.symmetry_order
    score = float(seen.symmetry[SYMMETRY_ORDERS.index(0)]) if order == 0 else mass_near(seen.azimuth, azimuth, order)
    return Pose(
        rotation_wxyz=to_wxyz(rotation if camera is None else camera * rotation),
        symmetry_order=order,
        score=score,
        source="photo",
        frame=frame,
        pose_probabilities={"azimuth": seen.azimuth, "elevation": seen.elevation, "theta": seen.theta},
    )


def _signed(angle: float) -> float:
    return float((angle + np.pi) % (2 * np.pi) - np.pi)
