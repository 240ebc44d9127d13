"""Labels without knowing the classes: what mIoU is worth when nobody says what a scene holds.

    python -m scripts.benchmarks.open_list RUN...

Three figures of the same held-out views, of each run and in the mean:

    told      the run knows the scene's classes, and is asked for them (protocol `index`)
    asked     the run has no phrases, and is asked for the classes
    open      the run has no phrases, and is asked for the default vocabulary of 157 words; a pixel is right if its
              word is the name of its class

A run without phrases is a copy of the run: the default method does not learn from phrases.
"""

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from jaxtyping import Int

from ovseg3d.evaluate.measure import Labeller, classes_of, labeller_of, measure_index
from ovseg3d.query.default_vocabulary import DEFAULT_VOCABULARY
from ovseg3d.query.engine import QueryEngine
from ovseg3d.runs.phrases import FILE
from ovseg3d.scene import Scene
from ovseg3d.session import load
from scripts.start import start


@dataclass(frozen=True)
class OpenList:
    """Measure runs with their classes told, only asked for, and unknown; prints a markdown table."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Of captures with label images, by the default method."""

    def main(self) -> None:
        """Print the table. Raises RunError, SceneError, ConfigError."""
        print("| run | told: mIoU, accuracy | asked | open |\n|---|---|---|---|")
        figures = []
        for run in self.runs:
            figures.append(measure(run))
            print(_row(load(run).load_scene().name, figures[-1]), flush=True)
        if len(figures) > 1:
            print(_row("mean", np.mean(figures, axis=0)))


def measure(run: Path, scene: Scene | None = None) -> list[tuple[float, float]]:
    """Label mIoU and pixel accuracy of the held-out views: told, asked, open.

    Args:
        run: folder of the run.
        scene: its capture, if that is elsewhere.
    """
    with tempfile.TemporaryDirectory() as scratch:
        hidden = shutil.copytree(run, Path(scratch) / "run", ignore=shutil.ignore_patterns(FILE))
        told, asked = QueryEngine(load(run), scene), QueryEngine(load(hidden), scene)
        classes = classes_of(told.scene)
        labellers = labeller_of(told, classes), labeller_of(asked, classes), open_labeller(asked, classes)
        found = [measure_index(told.scene, labeller, told.scene.test) for labeller in labellers]
    return [(scores.miou, scores.accuracy) for scores in found]


def open_labeller(engine: QueryEngine, classes: tuple[str, ...]) -> Labeller:
    """Label images of the default vocabulary, renumbered as `classes`; words that are no class count as none (0)."""
    number = {name: index for index, name in enumerate(classes, start=1)}
    renumbered = np.array([0, *(number.get(word, 0) for word in DEFAULT_VOCABULARY)])

    def labels(view: str) -> Int[np.ndarray, "h w"]:
        return renumbered[engine.label_image(DEFAULT_VOCABULARY, view, none=False)]

    return labels


def _row(name: str, figures: np.ndarray | list[tuple[float, float]]) -> str:
    return f"| {name} | " + " | ".join(f"{miou:.1%}, {accuracy:.1%}" for miou, accuracy in figures) + " |"


if __name__ == "__main__":
    start(OpenList)
