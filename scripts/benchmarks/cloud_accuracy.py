"""Accuracy of an exported cloud against the exact surface of a synthetic room.

    python -m scripts.benchmarks.cloud_accuracy outputs/playroom/latest
    python -m scripts.benchmarks.cloud_accuracy outputs/playroom/latest --points 50000 300000 --mesh

The cloud is exported and its PLY file measured. Ground truth is the room's exact surface where two training photos see
it (protocol `points`, see ovseg3d/evaluate/metrics/points.py); the limit is 2 % of the room's diagonal. Labels are the
closed list of the scene's classes, without "none". With --mesh, points sampled evenly on the mesh are measured in the
same way. A run without semantics has no label figures.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from plyfile import PlyData

from ovseg3d.evaluate.measure import LIMIT, classes_of
from ovseg3d.evaluate.metrics.points import PointScores, TrueCloud, measure_points
from ovseg3d.points.semantic_scene import FILE
from ovseg3d.session import Run, load
from ovseg3d.synth.cloud import SurfaceCloud, surface_cloud


@dataclass(frozen=True)
class CloudAccuracy:
    """Measure exported clouds."""

    run: Annotated[Path, tyro.conf.Positional]
    """A trained run of a synthetic room."""
    points: tuple[int, ...] = ()
    """Numbers of points to export besides the run's own."""
    mesh: bool = False
    """Also measure the mesh."""
    scene: Path | None = None
    """The scene's folder, if it has moved since training."""

    def main(self) -> None:
        """Print a table row for each cloud."""
        run = load(self.run)
        scene = run.load_scene(self.scene)
        classes = classes_of(scene)
        known = (run.folder / FILE).exists()
        truth = surface_cloud(scene.path, seen=True)
        place = {name: number for number, name in enumerate(classes, start=1)}
        true_label = np.array([0, *(place.get(name, 0) for name in truth.classes)])[truth.label]
        limit = LIMIT * float(np.linalg.norm(np.ptp(truth.xyz, axis=0)))
        unit = "m" if scene.metric else "units"
        seen = int((truth.seen >= 2).sum())
        print(f"{run.scene_name}, limit {limit:.3f} {unit}, {seen:,} true points that two photos see")
        print(
            f"| what | points | median distance, {unit} | within the limit | completeness | median gap, {unit}", end=""
        )
        print(" | label accuracy | of objects | mIoU |\n|" + 9 * "---|")
        options = {"scene": self.scene, **({"phrases": classes, "none": False} if known else {})}
        for count in (None, *self.points):
            xyz, label = exported(run, "cloud", options | {"points": count})
            _row("cloud", _measured(xyz, label, truth, true_label, classes, limit), known)
        if self.mesh:
            xyz, label = exported(run, "mesh", options)
            _row("mesh", _measured(xyz, label, truth, true_label, classes, limit), known)


def exported(run: Run, what: str, options: dict) -> tuple[np.ndarray, np.ndarray]:
    """Positions and labels of an exported cloud, or of points sampled evenly on an exported mesh."""
    with tempfile.TemporaryDirectory() as folder:
        files = run.export(what, Path(folder), **options)
        ply = PlyData.read(str(files[0]), mmap=False)
        rows = ply["vertex"].data
        xyz, label = np.stack([rows[name] for name in "xyz"], 1).astype(np.float64), rows["label"].astype(np.int64)
        if what == "cloud":
            return xyz, label
        faces = np.stack(ply["face"]["vertex_indices"])
    corners = xyz[faces]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    rng = np.random.default_rng(0)
    face = rng.choice(len(faces), 200_000, p=area / area.sum())
    weight = rng.dirichlet((1, 1, 1), len(face))
    corner = weight.argmax(1)
    return np.einsum("pk,pkc->pc", weight, corners[face]), label[faces[face, corner]]


def _measured(
    xyz: np.ndarray,
    label: np.ndarray,
    truth: SurfaceCloud,
    true_label: np.ndarray,
    classes: tuple[str, ...],
    limit: float,
) -> PointScores:
    exact = TrueCloud(truth.xyz.astype(np.float64), true_label, truth.seen >= 2)
    return measure_points(xyz, label, exact, classes, limit=limit)


def _row(what: str, scores: PointScores, known: bool) -> None:
    figures = (scores.point_accuracy, scores.point_accuracy_objects, scores.point_miou)
    labels = " | ".join(f"{figure:.1%}" for figure in figures) if known else "- | - | -"
    print(
        f"| {what} | {scores.predicted_points:,} | {scores.distance_median:.4f} | {scores.precision:.1%} |"
        f" {scores.completeness:.1%} | {scores.gap_median:.4f} | {labels} |",
        flush=True,
    )


if __name__ == "__main__":
    tyro.cli(CloudAccuracy).main()
