"""The head that answers by synthesis: crops in, poses and kinds out; and the file of its meshes.

    poser = SynthesisPoser(Path("outputs/pose/meshes.safetensors"))
    answer = poser.analyse(crops)[0]
    print(answer.kind, answer.pose.angles)

No meshes are shipped; `python -m scripts.training.train_synthesis` makes them.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from ovseg3d.engine.network_file import network_file, save_network_file
from ovseg3d.heads.pose.crop_head import CropHead
from ovseg3d.heads.pose.photo import GRID, CropPose
from ovseg3d.heads.pose.synthesis import (
    AZIMUTHS,
    CROPS_AT_ONCE,
    ELEVATIONS,
    THETAS,
    MeshesShape,
    NeuralMeshes,
    Posterior,
    posterior,
)

TEXT_SCALE = 40.0
"""Factor of cosines between phrases, whose softmax is the prior of the kinds: a known phrase is its own kind to 99 %,
and a new one the few that are next to it."""


@dataclass(frozen=True)
class CropSynthesis:
    """What explains a crop."""

    pose: CropPose
    """Over all kinds, as they are likely."""
    kinds: Mapping[str, float]
    """Probabilities of the kinds that have a mesh; they add up to 1."""

    @property
    def kind(self) -> str:
        """The likeliest kind."""
        return max(self.kinds, key=lambda name: self.kinds[name])


@dataclass(frozen=True)
class TrainedMeshes:
    """Meshes, and the encoder whose features they were trained on."""

    meshes: NeuralMeshes
    encoder: str
    """As `load_dino` or `load_clip` takes it, after "dino:" or "clip:"."""
    weight_hash: str
    """Of the encoder."""


@dataclass(frozen=True)
class SynthesisPoser(CropHead):
    """Neural meshes with their encoder.

    Args:
        weights: a file of scripts.training.train_synthesis.
        device: for the encoder.
    """

    weights: Path
    device: torch.device | str = "cpu"

    @cached_property
    def trained(self) -> TrainedMeshes:
        """The meshes, read once. Raises ConfigError."""
        return load_meshes(self.weights)

    def look(
        self, crops: UInt8[np.ndarray, "crops side side 3"], phrases: Sequence[str | None] | None = None
    ) -> list[CropPose]:
        """The poses alone, as `PhotoPoser.look` gives them. Raises as `analyse`."""
        return [one.pose for one in self.analyse(crops, phrases)]

    def analyse(
        self, crops: UInt8[np.ndarray, "crops side side 3"], phrases: Sequence[str | None] | None = None
    ) -> list[CropSynthesis]:
        """What square crops around objects show.

        Args:
            crops: rgb, see `square_crop`.
            phrases: what each shows, such as "chair"; None where the kind is to be found, too. A phrase without a mesh
                of its own takes those that the text encoder finds near to it.

        Raises:
            EncoderError: a phrase is too long, or the encoder is not available.
            PoseError: the encoder's features are not finite.
        """
        if not len(crops):
            return []
        meshes = self.trained.meshes
        features, vectors = self._read(crops, phrases, grid=meshes.shape.grid, text=meshes.shape.text)
        with torch.inference_mode():
            seen = torch.cat([meshes(part) for part in features.split(CROPS_AT_ONCE)])
        return answers(meshes, posterior(meshes, seen, kind_prior(meshes, vectors)))


def kind_prior(meshes: NeuralMeshes, phrases: Float[Tensor, "crops text"]) -> Float[Tensor, "crops kinds"]:
    """Probabilities of the kinds by the text vectors of what is told; all are equal where nothing is (zeros)."""
    return (TEXT_SCALE * phrases @ meshes.texts.T).softmax(1)


def answers(meshes: NeuralMeshes, found: Posterior) -> list[CropSynthesis]:
    """One record for each crop."""
    azimuth, elevation, theta = (
        _on_full_circle(one, degrees)
        for one, degrees in zip((found.azimuth, found.elevation, found.theta), (AZIMUTHS, ELEVATIONS, THETAS))
    )
    symmetry = (found.kinds @ meshes.orders).double().numpy()
    present, kinds = found.evidence.sigmoid().tolist(), found.kinds.tolist()
    return [
        CropSynthesis(
            CropPose(azimuth[k], elevation[k], theta[k], symmetry[k], present[k]),
            dict(zip(meshes.shape.kinds, kinds[k])),
        )
        for k in range(len(kinds))
    ]


def _on_full_circle(probability: Tensor, degrees: Sequence[int]) -> Float[np.ndarray, "crops grid"]:
    """Linear interpolation of densities on evenly spaced angles; a grid that does not go round ends in zeros."""
    given, step = np.array(degrees), degrees[1] - degrees[0]
    away = np.abs((np.arange(GRID)[:, None] * (360 / GRID) - given + 180) % 360 - 180)
    made = probability.double().numpy() @ np.clip(1 - away / step, 0, None).T
    return made / made.sum(1, keepdims=True)


def save_meshes(path: Path, trained: TrainedMeshes) -> None:
    """Write `path` in half precision, atomically. Raises OutputError."""
    facts = {
        "shape": json.dumps(trained.meshes.facts()),
        "encoder": trained.encoder,
        "weight_hash": trained.weight_hash,
    }
    save_network_file(path, trained.meshes.state_dict(), facts)


def load_meshes(path: Path) -> TrainedMeshes:
    """The meshes in a file.

    Raises:
        ConfigError: the file is missing, or holds no meshes.
    """
    with network_file(path, "neural meshes", "scripts.training.train_synthesis") as (tensors, facts):
        shape = json.loads(facts["shape"])
        shape |= {"kinds": tuple(shape["kinds"]), "halves": tuple(map(tuple, shape["halves"]))}
        meshes = NeuralMeshes(MeshesShape(**shape))
        meshes.load_state_dict(tensors)
        if not all(torch.isfinite(value).all() for value in tensors.values()) or not meshes.temperature > 0:
            raise ValueError("no meshes")
        encoder, weight_hash = facts["encoder"], facts["weight_hash"]
    return TrainedMeshes(meshes.eval().requires_grad_(False), encoder, weight_hash)
