"""Answers of the shipped photo head about a data set in ImageNet3D's layout, as a file of predictions.

    python -m scripts.benchmarks.pose_answers --data outputs/pose/shapes --output outputs/pose/shipped.json

`scripts.benchmarks.imagenet3d` measures the file. The box is given, and the phrase is the name that the built-in CLIP
finds among the categories (`label`), or the true one (--told). The centre is the middle of the box.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image

from ovseg3d.datasets import PosedObject, TestSet, read_imagenet3d
from ovseg3d.encoders import load_clip
from ovseg3d.evaluate import write_pose_predictions
from ovseg3d.heads.pose import Box, PhotoPoser, square_crop
from scripts import ROOT
from scripts.start import start
from scripts.training.pose_stage import phrase

AT_ONCE = 64


@dataclass(frozen=True)
class AnswerPoses:
    """Write the predictions."""

    data: Path
    """The folder with images, annotations and lists."""
    output: Path = ROOT / "outputs/pose/shipped.json"
    """The file of predictions."""
    split: str = "val"
    """Which lists."""
    test_set: TestSet = "experiments"
    """Which objects are asked for."""
    told: bool = False
    """Whether the head is told the true category."""

    def main(self) -> None:
        """Answer."""
        torch.set_num_threads(1)
        objects = list(read_imagenet3d(self.data, self.split, test_set=self.test_set))
        poser = PhotoPoser()
        crops = object_crops(objects, poser.encoder.preprocess.size[0])
        labels = [one.category for one in objects] if self.told else named(crops, sorted({o.category for o in objects}))
        seen = poser.look(crops, [words(label) for label in labels])
        write_answers(self.output, objects, np.array([one.angles for one in seen]), labels)


def object_crops(
    objects: Sequence[PosedObject], side: int, boxes: Sequence[Box] | None = None
) -> UInt8[np.ndarray, "objects {side} {side} 3"]:
    """Squares around objects.

    Args:
        objects: in photos.
        side: of a square, pixels.
        boxes: of the objects, instead of the true ones.
    """
    crops = []
    for one, box in zip(objects, boxes or [one.bbox for one in objects]):
        with Image.open(one.photo) as photo:
            crops.append(square_crop(np.asarray(photo.convert("RGB")), box, side))
    return np.stack(crops)


def named(crops: UInt8[np.ndarray, "n side side 3"], categories: Sequence[str]) -> list[str]:
    """The category that the built-in CLIP finds in each crop."""
    clip = load_clip("builtin")
    texts = clip.encode_text([phrase(words(name)) for name in categories])
    found: list[str] = []
    with torch.inference_mode():
        for first in range(0, len(crops), AT_ONCE):
            pixels = torch.from_numpy(crops[first : first + AT_ONCE]).permute(0, 3, 1, 2).float() / 255
            best: list[int] = (clip.encode_image(pixels) @ texts.T).argmax(1).tolist()
            found += [categories[row] for row in best]
    return found


def words(category: str) -> str:
    """A category as people write it."""
    return category.replace("_", " ")


def write_answers(
    path: Path,
    objects: Sequence[PosedObject],
    angles: Float[np.ndarray, "objects 3"],
    labels: Sequence[str],
    boxes: Sequence[Box] | None = None,
) -> None:
    """Write a file of predictions, see `ovseg3d.evaluate.poses`.

    Args:
        path: the file.
        objects: that are answered.
        angles: azimuth, elevation, theta of each, radians.
        labels: the category of each.
        boxes: of each; None: the true ones are meant.
    """
    records = {
        one.key: {
            "azimuth_rad": angle[0],
            "elevation_rad": angle[1],
            "theta_rad": angle[2],
            "label": label,
            "bbox": list(box),
            "center_px": [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2],
        }
        for one, angle, label, box in zip(objects, angles.tolist(), labels, boxes or [one.bbox for one in objects])
    }
    write_pose_predictions(path, records)


if __name__ == "__main__":
    start(AnswerPoses)
