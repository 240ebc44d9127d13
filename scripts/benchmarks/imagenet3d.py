"""ImageNet3D's tasks by protocol, on a file of predictions.

    python -m scripts.benchmarks.imagenet3d --data imagenet3d --predictions predictions.json \\
        --protocol imagenet3d-open-vocabulary-experiments --known known_categories.txt

`ovseg3d.evaluate.poses` describes the protocols and the file, and `ovseg3d.evaluate.pose_captions` a file of captions,
which --captions takes for the task `joint`. The data set is read in its own layout.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ovseg3d.datasets import (
    PosedObject,
    read_imagenet3d,
    read_lines,
    read_meta_classes,
    read_symmetry_orders,
)
from ovseg3d.errors import ConfigError
from ovseg3d.evaluate import (
    evaluate_poses,
    pose_protocol,
    predictions_of_captions,
    read_captions,
    read_pose_predictions,
)
from ovseg3d.evaluate.metrics import PoseScores
from ovseg3d.files import write_json
from scripts.start import start


@dataclass(frozen=True)
class MeasurePoses:
    """Print a table of the groups, and write everything as JSON."""

    data: Path
    """The folder with images, annotations and lists."""
    predictions: Path | None = None
    """A JSON file."""
    captions: Path | None = None
    """A JSON file of captions with <pose6D> instead."""
    protocol: str = "imagenet3d-pose-experiments"
    """By name."""
    split: str = "val"
    """Which lists."""
    known: Path | None = None
    """The list of known categories, one a line."""
    meta_classes: Path | None = None
    """JSON: categories of each meta-class."""
    symmetries: Path | None = None
    """JSON: the order of symmetry of categories, for figures up to symmetry, too."""
    output: Path | None = None
    """Where the scores go."""

    def main(self) -> None:
        """Measure."""
        objects = list(read_imagenet3d(self.data, self.split, test_set=None))
        scores = evaluate_poses(
            self.protocol,
            objects,
            self._predictions(objects),
            known=read_lines(self.known) if self.known else None,
            meta_classes=read_meta_classes(self.meta_classes) if self.meta_classes else None,
            symmetry_orders=read_symmetry_orders(self.symmetries) if self.symmetries else None,
        )
        if self.output is not None:
            write_json(self.output, scores.as_dict())
        Console().print(table(self.protocol, scores))

    def _predictions(self, objects: Sequence[PosedObject]) -> dict[str, Any]:
        if (self.predictions is None) == (self.captions is None):
            raise ConfigError("One file has to be measured", fix="--predictions FILE, or --captions FILE")
        if self.predictions is not None:
            return read_pose_predictions(self.predictions)
        assert self.captions is not None
        if pose_protocol(self.protocol).task != "joint":
            raise ConfigError("Captions name what they see, and no box", fix="--protocol imagenet3d-joint-experiments")
        return predictions_of_captions(objects, read_captions(self.captions))


def table(protocol: str, scores: PoseScores) -> Table:
    """Groups as rows; accuracies in percent with their intervals, over objects and over categories."""
    found = Table(title=protocol, caption=scores.aggregation)
    found.add_column("group", no_wrap=True)
    for heading in ("Acc@30", "Acc@10", "median", "by class: Acc@30", "Acc@10", "objects"):
        found.add_column(heading, justify="right")
    for group, own in scores.figures.items():
        found.add_row(
            group,
            _percent(own.acc_30, own.acc_30_interval),
            _percent(own.acc_10, own.acc_10_interval),
            f"{own.median_deg:.1f}",
            f"{100 * own.category_acc_30:.1f}",
            f"{100 * own.category_acc_10:.1f}",
            str(own.objects),
        )
    return found


def _percent(share: float, interval: tuple[float, float]) -> str:
    return f"{100 * share:.1f} ({100 * interval[0]:.0f}-{100 * interval[1]:.0f})"


if __name__ == "__main__":
    start(MeasurePoses)
