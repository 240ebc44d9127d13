"""Measure more sources of the poses of real shapes: synthesis, the cloud, and both with the photo.

    python -m scripts.benchmarks.pose_shape_sources                         # needs $OVSEG3D_DATA

Crops, categories and splits are those of `scripts.benchmarks.pose --part shapes`; all heads on crops are trained on the
same crops of known categories, read the built-in DINO, and are told nothing. Meshes are cuboids with the mean
proportions of a category's training shapes.

The cloud is the bare one of the shape, upright, at a turn of its own, 1 m along its diagonal, given to the shipped
detection head as one instance. That head knows rooms alone. It says the yaw, and so those rows are errors of the yaw:
one photo's azimuth becomes one by its camera, and both are fused as in a run. Round categories have no yaw and do not
count there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from ovseg3d.evaluate.metrics import PredictedPoses, TruePoses, measure_poses
from ovseg3d.files import write_json
from ovseg3d.geometry import rotation_of_angles
from ovseg3d.heads.detection import Detector
from ovseg3d.heads.pose import CropPose, MeshesShape, NeuralMeshes, PoseNetwork, PoseShape, crop_features, fuse
from ovseg3d.scene import PointCloud
from scripts import ROOT
from scripts.benchmarks.pose import DEV_SEED, TEST_VIEWS, TRAINING_VIEWS, error_figures
from scripts.benchmarks.pose_answers import words
from scripts.benchmarks.pose_shapes import Part, ShapeCrops, Shapes, shapes_at_hand
from scripts.benchmarks.pose_synthesis import on_coarse_grid, periodic_poses, product, synthesised
from scripts.start import start
from scripts.training.pose_stage import PoseRecipe, PoseStage, load_encoder
from scripts.training.synthesis_stage import SynthesisRecipe, SynthesisStage

GREY = 0.6
"""Colour of a cloud."""
LEAST_EXTENT = 0.02
"""Of a mesh along an axis, in diagonals of a shape."""
Cloud = tuple[Float[np.ndarray, " bins"], int]


@dataclass(frozen=True)
class MeasureSources:
    """Train, measure, and print a line for each source."""

    seed: int = DEV_SEED
    """As for `--part shapes`."""
    steps: int = 900
    """Of the periodic head."""
    synthesis_steps: int = 800
    """Of the meshes."""
    training_views: int = TRAINING_VIEWS
    """Crops of each shape to train on."""
    output: Path = ROOT / "outputs/pose/shape_sources.json"
    """For the figures."""

    def main(self) -> None:
        """Measure."""
        torch.set_num_threads(1)
        shapes, detector = shapes_at_hand(), Detector()
        train = shapes.crops("training", self.training_views, self.seed)
        encoder = load_encoder("dino:builtin")
        features = crop_features(encoder, train.image, MeshesShape.grid)
        periodic, meshes = self._periodic(train, features), self._meshes(shapes, train, features)
        figures: dict[str, Any] = {}
        for part, views in TEST_VIEWS.items():
            test = shapes.crops(part, views, self.seed + 1)
            seen = crop_features(encoder, test.image, MeshesShape.grid).float()
            nothing = torch.zeros(len(seen), periodic.shape.text)
            alone = periodic_poses(periodic, seen, nothing)
            drawn = [one.pose for one in synthesised(meshes, seen, nothing)]
            crops = {"periodic": alone, "synthesis": drawn, "both": [product(a, b) for a, b in zip(alone, drawn)]}
            for name, poses in crops.items():
                true = TruePoses(test.angles, test.category, test.order)
                found = measure_poses(PredictedPoses(np.array([one.angles for one in poses])), true)
                figures[f"{part}, {name}"] = vars(found.figures["all, up to symmetry"])
            for name, errors in yaw_errors(shapes, part, test, crops, detector).items():
                figures[f"{part}, yaw, {name}"] = error_figures(errors)
        for name, own in figures.items():
            print(f"{name:28}", {key: round(own[key], 3) for key in ("acc_30", "acc_10", "median_deg", "objects")})
        write_json(self.output, figures)

    def _periodic(self, train: ShapeCrops, features: torch.Tensor) -> PoseNetwork:
        shape = PoseShape(features.shape[1])
        stage = PoseStage(train.as_set, on_coarse_grid(features), PoseRecipe(named=0.0), shape)
        for step in range(self.steps):
            stage.step(step, step / self.steps)
        return stage.network.eval()

    def _meshes(self, shapes: Shapes, train: ShapeCrops, features: torch.Tensor) -> NeuralMeshes:
        kinds = tuple(words(name) for name in shapes.known)
        crops = replace(train.as_set, kind=np.array([shapes.known.index(name) for name in train.category]))
        shape = MeshesShape(kinds, mean_halves(shapes), features.shape[1])
        stage = SynthesisStage(crops, features, shape, SynthesisRecipe(), names=kinds)
        for step in range(self.synthesis_steps):
            stage.step(step, step / self.synthesis_steps)
        return stage.meshes.eval()


def mean_halves(shapes: Shapes) -> tuple[tuple[float, float, float], ...]:
    """Half of the geometric mean of the extents of each known category's training shapes; signs may have no depth."""
    points, categories = shapes.clouds
    rows = np.array(shapes.of("training"))
    logs = np.log(np.ptp(points[rows], axis=1).clip(LEAST_EXTENT))
    means = [np.exp(logs[categories[rows] == name].mean(0)) / 2 for name in shapes.known]
    return tuple((float(x), float(y), float(z)) for x, y, z in means)


def yaw_errors(
    shapes: Shapes, part: Part, test: ShapeCrops, crops: Mapping[str, Sequence[CropPose]], detector: Detector
) -> dict[str, Float[np.ndarray, " crops"]]:
    """Degrees, up to symmetry, of the crops whose category is not round, by source.

    Args:
        shapes: all.
        part: of the test.
        test: its crops, as many of each shape.
        crops: what heads say of them, by name.
        detector: says the yaw of clouds.
    """
    own = shapes.of(part)
    views = len(test.category) // len(own)
    rng = np.random.default_rng(0)
    turns = rng.uniform(0, 2 * np.pi, len(own))
    clouds = [cloud_yaw(detector, shapes.clouds[0][shape], turn) for shape, turn in zip(own, turns)]
    errors: dict[str, list[float]] = {}
    for k in np.flatnonzero(test.order > 0).tolist():
        turn, cloud, order = turns[k // views], clouds[k // views], int(test.order[k])
        camera = Rotation.from_euler("z", turn) * rotation_of_angles(test.angles[k]).inv()
        asked = {"cloud": ([], cloud)} | {name: ([poses[k]], None) for name, poses in crops.items()}
        asked |= {f"cloud + {name}": ([poses[k]], cloud) for name, poses in crops.items()}
        for name, (photos, points) in asked.items():
            pose = fuse(photos, [camera] * len(photos), points, Rotation.identity())
            error = 180.0
            if pose is not None:
                w, _, _, z = pose.rotation_wxyz
                error = away_deg(2 * float(np.arctan2(z, w)), turn, order)
            errors.setdefault(name, []).append(error)
        errors.setdefault("one guess", []).append(away_deg(float(test.angles[k, 0]), 0.0, order))
    return {name: np.array(own) for name, own in errors.items()}


def cloud_yaw(detector: Detector, points: Float[np.ndarray, "points 3"], yaw_rad: float) -> Cloud | None:
    """The distribution of the yaw of a turned cloud that is one object, and its order; None where it finds none."""
    turned = Rotation.from_euler("z", yaw_rad).apply(points).astype(np.float32)
    cloud = PointCloud(turned, None, np.full(turned.shape, GREY, np.float32))
    found = detector.detect(cloud, instance=np.ones(len(points), np.int64))
    return (found[0].yaw_probabilities, found[0].symmetry_order) if found else None


def away_deg(yaw_rad: float, true_rad: float, order: int) -> float:
    """Degrees between two yaws, up to symmetry of an order of at least 1."""
    period = 2 * np.pi / order
    return float(np.degrees(abs((yaw_rad - true_rad + period / 2) % period - period / 2)))


if __name__ == "__main__":
    start(MeasureSources)
