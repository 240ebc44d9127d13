"""Poses that were disturbed on purpose, and what bundle adjustment recovers of them. Nothing is trained.

    python -m scripts.benchmarks.disturbed_poses scenes/playroom --truth given
    python -m scripts.benchmarks.disturbed_poses $OVSEG3D_DATA/hololens_office

Each training pose is turned about a random axis and shifted in a random direction, by the amounts of a row. Where the
given poses are exact (`--truth given`) the adjusted ones are compared with them; real poses are not, so those are
compared with what adjusting the undisturbed poses gives. Errors are up to a similarity of all cameras, which photos
cannot tell. Prints a markdown table; the last column is the share of photos within half a degree and two centimetres.
"""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro
from scipy.spatial.transform import Rotation

from ovseg3d.engine.workers import available_cores
from ovseg3d.scene import Scene, load_scene
from ovseg3d.scene.triangulation import Triangulation, triangulate
from scripts.benchmarks.similarity import PoseErrors, compare_poses
from scripts.start import start

ROWS = {"nothing": (0.0, 0.0), "1 degree, 2 cm": (1.0, 0.02), "3 degrees, 5 cm": (3.0, 0.05)}
"""Degrees and metres of each row."""


def disturbed(scene: Scene, degrees: float, metres: float, seed: int) -> Scene:
    """The capture with its training poses moved; held-out ones stay."""
    rng = np.random.default_rng(seed)
    frames = list(scene.frames)
    for view in scene.train:
        axis, direction = rng.normal(size=(2, 3))
        c2w = frames[view].camera.c2w.copy()
        turn = Rotation.from_rotvec(np.radians(degrees) * axis / np.linalg.norm(axis))
        c2w[:3, :3] = c2w[:3, :3] @ turn.as_matrix()
        c2w[:3, 3] += metres / (scene.metres_per_unit or 1.0) * direction / np.linalg.norm(direction)
        frames[view] = replace(frames[view], camera=replace(frames[view].camera, c2w=c2w))
    return replace(scene, frames=tuple(frames))


@dataclass(frozen=True)
class DisturbedPoses:
    """Disturb the poses of a capture, adjust them, and print a markdown table."""

    scene: Annotated[Path, tyro.conf.Positional]
    """A capture whose metres are known."""
    truth: Literal["given", "adjusted"] = "adjusted"
    """What the poses are compared with: the given ones, or the given ones after adjusting."""
    rows: str = ";".join(ROWS)
    """Rows, separated by semicolons."""
    seeds: tuple[int, ...] = (0,)
    """Seeds of the disturbance, each a row of its own."""

    def main(self) -> int:
        """Returns 0."""
        scene = load_scene(self.scene)
        given = np.stack([scene.frames[view].camera.c2w for view in scene.train])
        metres = scene.metres_per_unit or 1.0
        print(
            "| disturbed by | seed | before: rotation, position | after, median | after, 90 % | largest | within 0.5"
            " degrees and 2 cm | reprojection error | focal length | CPU s |\n|" + " --- |" * 10,
            flush=True,
        )
        true = given if self.truth == "given" else self._adjust(scene)[0].c2w
        for name in self.rows.split(";"):
            degrees, shift = ROWS[name.strip()]
            for seed in self.seeds:
                moved = disturbed(scene, degrees, shift, seed)
                before = compare_poses(np.stack([moved.frames[view].camera.c2w for view in scene.train]), true)
                found, seconds = self._adjust(moved)
                after = compare_poses(found.c2w, true)
                within = np.mean((after.rotation_deg <= 0.5) & (metres * after.position <= 0.02))
                ratio = 100 * (found.focal_ratio.mean(axis=0) - 1)
                quantiles = " | ".join(text(after, share, metres) for share in (0.5, 0.9, 1.0))
                print(
                    f"| {name.strip()} | {seed} | {text(before, 0.5, metres)} | {quantiles} | {100 * within:.0f} % | "
                    f"{found.errors_px[0]:.2f} to {found.errors_px[1]:.2f} px | {ratio[0]:+.2f}, {ratio[1]:+.2f} % | "
                    f"{seconds:.0f} |",
                    flush=True,
                )
        return 0

    def _adjust(self, scene: Scene) -> tuple[Triangulation, float]:
        began = time.process_time()
        found = triangulate(
            scene, adjust=True, focal=True, threads=available_cores(), seed=0, report=lambda _text, _share: None
        )
        assert found is not None, "the photos have too few matches"
        return found, time.process_time() - began


def text(errors: PoseErrors, share: float, metres: float) -> str:
    """A quantile of both errors."""
    turn, shift = np.quantile(errors.rotation_deg, share), np.quantile(metres * errors.position, share)
    return f"{turn:.2f} degrees, {100 * shift:.1f} cm"


if __name__ == "__main__":
    start(DisturbedPoses)
