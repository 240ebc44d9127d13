"""Poses of objects in crops of photos: `PhotoPoser.look` returns distributions, `pose_in_camera` a `Pose`."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from scipy.spatial.transform import Rotation

from ovseg3d.encoders import DenseEncoder, TextImageEncoder, load_clip, load_dino
from ovseg3d.errors import ConfigError
from ovseg3d.geometry import rotation_of_angles, to_wxyz
from ovseg3d.heads.pose.circular import mode, probabilities
from ovseg3d.heads.pose.features import crop_features
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
class PhotoPoser:
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

    @cached_property
    def encoder(self) -> TextImageEncoder | DenseEncoder:
        """The encoder of its features. Raises EncoderError; ConfigError: its weights are not those of the training."""
        return load_own_encoder(self.trained.encoder, self.trained.weight_hash, self.weights, self.device)

    @cached_property
    def _texts(self) -> TextImageEncoder:
        return load_clip("builtin", self.device)

    def look(
        self, crops: UInt8[np.ndarray, "crops side side 3"], phrases: Sequence[str | None] | None = None
    ) -> list[CropPose]:
        """What square crops around objects show.

        Args:
            crops: rgb, see `square_crop`.
            phrases: what each shows, such as "chair"; None where that is not known.

        Raises:
            EncoderError: a phrase is too long, or the encoder is not available.
        """
        if not len(crops):
            return []
        phrases = [None] * len(crops) if phrases is None else phrases
        network = self.trained.network
        features = crop_features(self.encoder, crops, network.shape.grid)
        vectors = phrase_vectors(self._texts, phrases, network.shape.text)
        with torch.inference_mode():
            found = network(features, vectors)
            soft = [probabilities(c / self.trained.temperature, GRID).double().numpy() for c in found.angles]
            symmetry, present = found.symmetry.softmax(1).double().numpy(), found.present.sigmoid().tolist()
        azimuth, elevation, theta = soft
        return [CropPose(azimuth[k], elevation[k], theta[k], symmetry[k], present[k]) for k in range(len(crops))]


def load_own_encoder(
    encoder: str, weight_hash: str, weights: Path, device: torch.device | str
) -> TextImageEncoder | DenseEncoder:
    """The encoder that a head was trained with.

    Args:
        encoder: "dino:NAME" or "clip:NAME".
        weight_hash: of the training.
        weights: the head's file, for messages.
        device: for the encoder.

    Raises:
        EncoderError: it is not available.
        ConfigError: its weights are not those of the training.
    """
    kind, _, name = encoder.partition(":")
    found = load_clip(name, device) if kind == "clip" else load_dino(name, device)
    if found.weight_hash != weight_hash:
        raise ConfigError(f"This file was trained with other weights of {name}", where=weights, fix="train it again")
    return found


def phrase_vectors(
    encoder: TextImageEncoder, phrases: Sequence[str | None], dim: int
) -> Float[torch.Tensor, "phrases {dim}"]:
    """Text vectors of phrases, with their articles; zeros where there is none.

    Args:
        encoder: of the text.
        phrases: such as "chair".
        dim: of its vectors.

    Raises:
        EncoderError: a phrase is too long.
    """
    vectors = torch.zeros(len(phrases), dim)
    names = sorted({phrase for phrase in phrases if phrase})
    if names:
        found = torch.as_tensor(encoder.encode_text([_with_article(name) for name in names])).float().cpu()
        named = [k for k, phrase in enumerate(phrases) if phrase]
        vectors[named] = found[[names.index(str(phrases[k])) for k in named]]
    return vectors


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


def _with_article(phrase: str) -> str:
    first = phrase.split(" ", 1)[0].lower()
    if first in ("a", "an", "the"):
        return phrase
    return f"{'an' if phrase[0].lower() in 'aeiou' else 'a'} {phrase}"


def _signed(angle: float) -> float:
    return float((angle + np.pi) % (2 * np.pi) - np.pi)
