"""ImageNet3D's tasks by protocol, on a file of predictions.

    python -m scripts.benchmarks.imagenet3d --data imagenet3d --predictions predictions.json \\
        --protocol imagenet3d-open-vocabulary-experiments --known known_categories.txt

`ovseg3d.evaluate.poses` describes the protocols and the file. The data set is read in its own layout.
"""

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ovseg3d.datasets import read_imagenet3d, read_lines, read_meta_classes
from ovseg3d.evaluate import evaluate_poses, pose_protocol, read_pose_predictions
from ovseg3d.evaluate.metrics import PoseScores
from ovseg3d.files import write_json
from scripts.start import start


@dataclass(frozen=True)
class MeasurePoses:
    """Print a table of the groups, and write everything as JSON."""

    data: Path
    """The folder with images, annotations and lists."""
    predictions: Path
    """A JSON file."""
    protocol: str = "imagenet3d-pose-experiments"
    """By name."""
    split: str = "val"
    """Which lists."""
    known: Path | None = None
    """The list of known categories, one a line."""
    meta_classes: Path | None = None
    """JSON: categories of each meta-class."""
    output: Path | None = None
    """Where the scores go."""

    def main(self) -> None:
        """Measure."""
        test_set = pose_protocol(self.protocol).test_set
        scores = evaluate_poses(
            self.protocol,
            list(read_imagenet3d(self.data, self.split, test_set=test_set)),
            read_pose_predictions(self.predictions),
            known=read_lines(self.known) if self.known else None,
            meta_classes=read_meta_classes(self.meta_classes) if self.meta_classes else None,
        )
        if self.output is not None:
            write_json(self.output, scores.as_dict())
        Console().print(table(self.protocol, scores))


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
