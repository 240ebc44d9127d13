"""A labelled point cloud: export it, read it back with plyfile and numpy, and colour it by label.

    python -m scripts.examples.02_labelled_cloud outputs/playroom/latest chair table "the floor" --output chairs.ply

A point has the label of its most likely phrase, or 0 for none. cloud.ply holds position, normal, colour, label,
instance and confidence of each point; labels.json holds the phrases of the labels.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from plyfile import PlyData

import ovseg3d

GREY = (128, 128, 128)
"""Colour of points without a label."""


@dataclass(frozen=True)
class LabelledCloud:
    """Export a run's points with labels, and write them in one colour for each label."""

    run: tyro.conf.Positional[Path]
    """A run with semantics."""
    phrases: Annotated[tuple[str, ...], tyro.conf.Positional]
    """The labels."""
    output: Path = Path("by_label.ply")
    """The coloured cloud."""

    def main(self) -> None:
        """Export, read back, count, and colour."""
        run = ovseg3d.load(self.run)
        files = {path.name: path for path in run.export("cloud", self.output.parent / "cloud", phrases=self.phrases)}
        ply = PlyData.read(files["cloud.ply"])
        labels = json.loads(files["labels.json"].read_text())
        points = ply["vertex"].data  # a structured array: one row for each point
        palette = np.random.default_rng(0).integers(40, 240, (len(labels["labels"]), 3))
        palette[0] = GREY
        for entry in labels["labels"]:
            chosen = points["label"] == entry["id"]
            middle = [points[axis][chosen].mean() if chosen.any() else float("nan") for axis in "xyz"]
            place = ", ".join(f"{value:.2f}" for value in middle)
            print(f"{entry['phrase'] or 'no label'}: {chosen.sum():,} points about ({place}) {labels['unit']}")
        for channel, name in enumerate(("red", "green", "blue")):
            points[name] = palette[points["label"], channel]
        ply.write(self.output)


if __name__ == "__main__":
    tyro.cli(LabelledCloud).main()
