"""Measure poses by synthesis: cuboid and sphere meshes beside the periodic head, on the same crops.

    python -m scripts.benchmarks.pose_synthesis                     # development crops
    python -m scripts.benchmarks.pose_synthesis --seed 840000       # the report's

All heads are trained here on known kinds alone and on the same crops (NOVEL of scripts/training/pose_crops.py lists the
other kinds), and kept in `data` for the next seed. Test crops are those of scripts/benchmarks/pose.py. Rows say

- which head: the periodic one with symmetry, meshes, or both: densities of each angle multiplied; for comparison, two
  periodic heads of different seeds;
- what is told: the kind; the name that the built-in CLIP gives the crop among the known kinds ("named"); or nothing, so
  that meshes predict the kind. A novel kind that is told has no mesh of its own, and takes those that the text encoder
  finds near to it;
- the box of the crop: exact, or predicted: with sides that are off by 3 % of its width and height, as in training.

Errors are geodesic and up to symmetry; round objects do not count. "3D-aware" accuracy counts an object only where its
kind is right, too; of known kinds, with kinds predicted among them. The periodic head's kind is CLIP's.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F

from ovseg3d.encoders import load_clip
from ovseg3d.evaluate.metrics import PredictedPoses, TruePoses, measure_poses
from ovseg3d.files import write_json
from ovseg3d.heads.pose import (
    CropPose,
    CropSynthesis,
    NeuralMeshes,
    PoseNetwork,
    PoseShape,
    TrainedMeshes,
    TrainedPoseNetwork,
    load_meshes,
    load_network,
    save_meshes,
    save_network,
)
from ovseg3d.heads.pose.circular import probabilities
from ovseg3d.heads.pose.fusion import pool
from ovseg3d.heads.pose.meshes import Outline
from ovseg3d.heads.pose.photo import GRID
from ovseg3d.heads.pose.synthesis import MeshesShape, posterior
from ovseg3d.heads.pose.synthesis_poser import answers, kind_prior
from scripts import ROOT
from scripts.benchmarks.pose import DEV_SEED
from scripts.start import start
from scripts.training.pose_crops import BOX_NOISE, NAMES, NOVEL, ROOM_SHARE, CropSet, Individuals, crop_set
from scripts.training.pose_stage import PoseRecipe, PoseStage, cached_features, load_encoder, phrase
from scripts.training.train_synthesis import TrainSynthesis

Box = Literal["exact", "predicted"]
NOISE: dict[Box, float] = {"predicted": BOX_NOISE, "exact": 0.0}
SYNTHESIS_WEIGHT = 1.0
"""Of the densities by synthesis beside the periodic ones, chosen on DEV_SEED among 0.25, 0.5 and 1."""
SECOND_SEED = 1
"""Of the second periodic head. Two periodic heads show what any second head is worth."""
KNOWN = tuple(name for name in NAMES if name not in NOVEL)


@dataclass(frozen=True)
class TestCrops:
    """Crops of objects that have an azimuth, with what heads need."""

    name: str
    crops: CropSet
    features: torch.Tensor

    @property
    def kinds(self) -> list[str]:
        """Their names."""
        return [NAMES[kind] for kind in self.crops.kind]


@dataclass(frozen=True)
class Benchmark:
    """Print the table, and write it as JSON."""

    seed: int = DEV_SEED
    """Of the test set; 840000 is the report's."""
    count: int = 1_920
    """Test crops; half as many of held-out styles."""
    individuals: tuple[Individuals, ...] = ("new", "held-out")
    """Which objects they show."""
    crops: int = 7_680
    alone: int = 15_360
    """Training crops, as for scripts.training.train_synthesis."""
    steps: int = 800
    """Of the training of meshes."""
    periodic_steps: int = 1_200
    """Of that of the periodic head."""
    boxes: tuple[Box, ...] = ("predicted", "exact")
    outlines: tuple[Outline, ...] = ("cuboid", "sphere")
    data: Path = ROOT / "outputs/pose"
    """Crops, features and heads."""
    output: Path = ROOT / "outputs/pose/synthesis.json"
    """For the figures."""

    def main(self) -> None:
        """Train what is missing, and measure."""
        torch.set_num_threads(1)
        periodic, second = self._periodic(), self._periodic(SECOND_SEED)
        meshes: dict[Outline, NeuralMeshes] = {outline: self._meshes(outline) for outline in self.outlines}
        rows: dict[str, Any] = {}
        for box in self.boxes:
            for test in self._tests(box):
                rows |= {
                    f"{box} box, {test.name}, {name}": own
                    for name, own in measured(periodic, second, meshes, test).items()
                }
        write_json(self.output, rows)

    def _training(self, outline: Outline) -> TrainSynthesis:
        return TrainSynthesis(
            data=self.data, outline=outline, crops=self.crops, alone=self.alone, known_only=True, steps=self.steps
        )

    def _periodic(self, seed: int = PoseRecipe.seed) -> PoseNetwork:
        path = self.data / f"benchmark-periodic-{seed}.safetensors"
        if not path.exists():
            crops, features = self._training("sphere").training_set()
            stage = PoseStage(crops, on_coarse_grid(features), PoseRecipe(seed), PoseShape(features.shape[1]))
            for step in range(self.periodic_steps):
                stage.step(step, step / self.periodic_steps)
            save_network(path, TrainedPoseNetwork(stage.network, "dino:builtin", ""))
        return load_network(path).network

    def _meshes(self, outline: Outline) -> NeuralMeshes:
        path = self.data / f"benchmark-{outline}.safetensors"
        if not path.exists():
            stage = self._training(outline).stage()
            for step in range(self.steps):
                stage.step(step, step / self.steps)
                if step % 100 == 99:
                    print(outline, step + 1, stage.measure(), flush=True)
            save_meshes(path, TrainedMeshes(stage.meshes, "dino:builtin", load_encoder("dino:builtin").weight_hash))
        return load_meshes(path).meshes

    def _tests(self, box: Box) -> list[TestCrops]:
        made = []
        for individuals in self.individuals:
            count, room_share = (self.count, ROOM_SHARE) if individuals == "new" else (self.count // 2, 0.0)
            crops = crop_set(self.data / "crops", self.seed, count, individuals, room_share, NOISE[box])
            key = f"{individuals}{self.seed}" + ("" if box == "predicted" else "exact")
            features = cached_features(self.data / "features", "dino:builtin", key, crops, MeshesShape.grid)
            rows = np.flatnonzero((crops.kind >= 0) & (crops.order > 0))
            made.append(TestCrops(individuals, crops.of(rows), features[torch.from_numpy(rows)].float()))
        return made


def on_coarse_grid(features: torch.Tensor) -> torch.Tensor:
    """The patches that the periodic head reads: means of the finer ones, as `crop_features` takes them."""
    parts = [F.adaptive_avg_pool2d(part.float(), PoseShape.grid).half() for part in features.split(1024)]
    return torch.cat(parts)


def measured(
    periodic: PoseNetwork, second: PoseNetwork, meshes: dict[Outline, NeuralMeshes], test: TestCrops
) -> dict[str, Any]:
    """Figures of all rows on some test crops."""
    rows: dict[str, Any] = {}
    guess = np.array([0.0, np.median(test.crops.angles[:, 1]), 0.0])
    rows["one guess"] = scored("one guess", test, np.tile(guess, (len(test.kinds), 1)))
    named = clip_names(test.crops.image)
    nothing = torch.zeros(len(named), periodic.shape.text)
    told_texts = {"told": text_vectors(test.kinds), "named": text_vectors(named), "predicted": nothing}
    for told, texts in told_texts.items():
        alone = periodic_poses(periodic, test.features, texts)
        twice = [product(a, b) for a, b in zip(alone, periodic_poses(second, test.features, texts))]
        for name, poses in (("periodic", alone), ("periodic x periodic", twice)):
            rows[f"{name}, kind {told}"] = scored(
                f"{name}, kind {told}", test, angles_of(poses), None if told == "told" else named
            )
        for outline, own in meshes.items():
            found = synthesised(own, test.features, texts)
            kinds = {"told": None, "named": named}.get(told, [one.kind for one in found])
            both = [product(a, b.pose) for a, b in zip(alone, found)]
            for name, poses in ((outline, [one.pose for one in found]), (f"periodic x {outline}", both)):
                rows[f"{name}, kind {told}"] = scored(f"{name}, kind {told}", test, angles_of(poses), kinds)
    return rows


def text_vectors(kinds: list[str]) -> torch.Tensor:
    """Of what is told."""
    names = sorted(set(kinds))
    vectors = torch.as_tensor(load_clip("builtin").encode_text([phrase(name) for name in names])).float()
    return vectors[[names.index(kind) for kind in kinds]]


def clip_names(images: np.ndarray) -> list[str]:
    """The known kind that the built-in CLIP finds in each crop."""
    clip, texts = load_clip("builtin"), text_vectors(list(KNOWN))
    with torch.inference_mode():
        parts = [
            clip.encode_image(torch.from_numpy(images[k : k + 64]).permute(0, 3, 1, 2).float() / 255) @ texts.T
            for k in range(0, len(images), 64)
        ]
    return [KNOWN[k] for k in torch.cat(parts).argmax(1).tolist()]


def periodic_poses(network: PoseNetwork, features: torch.Tensor, texts: torch.Tensor) -> list[CropPose]:
    """What the periodic head says."""
    with torch.inference_mode():
        found = network(on_coarse_grid(features).float(), texts)
        azimuth, elevation, theta = (probabilities(one, GRID).double().numpy() for one in found.angles)
        symmetry, present = found.symmetry.softmax(1).double().numpy(), found.present.sigmoid().tolist()
    return [CropPose(azimuth[k], elevation[k], theta[k], symmetry[k], present[k]) for k in range(len(texts))]


def synthesised(meshes: NeuralMeshes, features: torch.Tensor, texts: torch.Tensor) -> list[CropSynthesis]:
    """What meshes say."""
    with torch.inference_mode():
        vectors = torch.cat([meshes(part) for part in features.split(64)])
    return answers(meshes, posterior(meshes, vectors, kind_prior(meshes, texts)))


def product(periodic: CropPose, other: CropPose) -> CropPose:
    """Both heads' densities of each angle, multiplied."""
    azimuth, elevation, theta = (
        pool([getattr(periodic, name), getattr(other, name)], [1.0, SYNTHESIS_WEIGHT])
        for name in ("azimuth", "elevation", "theta")
    )
    return CropPose(azimuth, elevation, theta, periodic.symmetry, periodic.present)


def angles_of(poses: list[CropPose]) -> np.ndarray:
    """Azimuth, elevation and theta of each."""
    return np.array([one.angles for one in poses])


def scored(name: str, test: TestCrops, angles: np.ndarray, kinds: list[str] | None = None) -> dict[str, Any]:
    """Figures of known and novel kinds; with predicted kinds, also of class and pose together, of known ones."""
    true = TruePoses(test.crops.angles.astype(np.float64), test.kinds, test.crops.order)
    scores = measure_poses(PredictedPoses(angles), true, known=KNOWN).figures
    figures: dict[str, Any] = {part: vars(scores[f"{part}, up to symmetry"]) for part in ("known", "novel")}
    if kinds is not None:
        rows = np.flatnonzero(np.isin(test.kinds, KNOWN))
        own = TruePoses(true.angles_rad[rows], [test.kinds[k] for k in rows], test.crops.order[rows])
        joint = measure_poses(PredictedPoses(angles[rows], [kinds[k] for k in rows]), own)
        figures["3D-aware"] = vars(joint.figures["all, up to symmetry"]) | {"class_accuracy": joint.class_accuracy}
    text = " | ".join(
        f"{part} n {one['objects']} acc@30 {one['acc_30']:.3f} acc@10 {one['acc_10']:.3f}"
        + (f" class {one['class_accuracy']:.3f}" if "class_accuracy" in one else f" median {one['median_deg']:.1f}")
        for part, one in figures.items()
    )
    print(f"{test.name:9} {name:34} {text}", flush=True)
    return figures


if __name__ == "__main__":
    start(Benchmark)
