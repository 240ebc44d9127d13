"""Labels without knowing the classes: what mIoU is worth when nobody says what a scene holds.

    python -m scripts.benchmarks.open_list scenes/playroom --seed 0

Three figures of the same held-out views, from one field:

    told      the run knows the scene's classes, and is asked for them (protocol `index`)
    asked     the run was trained without the classes, and is asked for them
    open      the run was trained without the classes, and is asked for the default vocabulary of 157 words;
              a pixel is right if its word is the name of its class

A run without classes is trained on a copy of the capture that has neither `classes` nor label images.
"""

import json
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tyro
from jaxtyping import Int

from ovseg3d.cli.console import get_console
from ovseg3d.cli.progress import Progress
from ovseg3d.evaluate.measure import Labeller, classes_of, labeller_of, measure_index
from ovseg3d.pipeline import train_scene
from ovseg3d.query.default_vocabulary import DEFAULT_VOCABULARY
from ovseg3d.query.engine import QueryEngine
from ovseg3d.runs.settings import make_config
from ovseg3d.scene import load_scene
from ovseg3d.session import load
from scripts.start import start


@dataclass(frozen=True)
class OpenList:
    """Measure one scene with its classes told, only asked for, and unknown; prints a markdown table."""

    scene: tyro.conf.Positional[Path]
    """A capture with label images, read as nerfstudio's transforms.json."""
    seed: int = 0
    """Seed of both trainings."""
    steps: int | None = None
    """Steps of the field; by default the usual number."""

    def main(self) -> None:
        """Train twice and print the table. Raises SceneError, ConfigError."""
        flags = {"train": {"seed": self.seed} | ({"steps": self.steps} if self.steps else {})}
        with tempfile.TemporaryDirectory() as scratch:
            unlabelled = without_classes(self.scene, Path(scratch) / "unlabelled" / self.scene.resolve().name)
            rows = {
                "told": self._measure(self.scene, Path(scratch) / "told", flags, open_list=False),
                "asked": self._measure(unlabelled, Path(scratch) / "asked", flags, open_list=False),
                "open": self._measure(unlabelled, Path(scratch) / "asked", flags, open_list=True),
            }
        print("| class list | mIoU | accuracy |\n|---|---|---|")
        for name, (miou, accuracy) in rows.items():
            print(f"| {name} | {100 * miou:.1f} % | {100 * accuracy:.1f} % |")

    def _measure(self, capture: Path, folder: Path, flags: dict, open_list: bool) -> tuple[float, float]:
        if not folder.exists():
            with Progress(get_console(json_output=True)) as progress:
                train_scene(capture, make_config("cpu", flags=flags), output_dir=folder, report=progress)
        run = load(folder)
        labelled = run.load_scene(self.scene)
        scene = labelled if capture == self.scene else replace(labelled, phrases=())
        engine = QueryEngine(run, scene)
        labeller = (
            open_labeller(engine, classes_of(labelled)) if open_list else labeller_of(engine, classes_of(labelled))
        )
        scores = measure_index(labelled, labeller, labelled.test)
        return scores.miou, scores.accuracy


def without_classes(scene: Path, target: Path) -> Path:
    """A copy of a capture that does not say what it holds; returns its folder. Raises SceneError: no such capture."""
    load_scene(scene)  # a capture that cannot be read is refused before anything is copied
    shutil.copytree(scene, target, ignore=shutil.ignore_patterns("segmentations", "labels", "objects.json"))
    path = target / "transforms.json"
    described = json.loads(path.read_text(encoding="utf-8"))
    for key in ("classes", "ignore_label"):
        described.pop(key, None)
    for frame in described["frames"]:
        frame.pop("label_file_path", None)
    path.write_text(json.dumps(described), encoding="utf-8")
    return target


def open_labeller(engine: QueryEngine, classes: tuple[str, ...]) -> Labeller:
    """Label images of the default vocabulary, renumbered as `classes`; words that are no class count as none (0)."""
    number = {name: index for index, name in enumerate(classes, start=1)}
    renumbered = np.array([0, *(number.get(word, 0) for word in DEFAULT_VOCABULARY)])

    def labels(view: str) -> Int[np.ndarray, "h w"]:
        return renumbered[engine.label_image(DEFAULT_VOCABULARY, view, none=False)]

    return labels


if __name__ == "__main__":
    start(OpenList)
