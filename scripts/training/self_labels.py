"""Label point clouds with a detection head's own boxes, to train it further on them (self-training).

    python -m scripts.training.self_labels WEIGHTS outputs/lifted/self
    python -m scripts.training.train_detection --start WEIGHTS --rooms outputs/lifted/self --no-make-rooms ...

Clouds are the exact ones of the training's rooms, as `train_detection` makes them; their labels are not read. A head
that learnt from single photos has seen no whole room, and whole rooms are what it is asked about. It knows better which
points are of one object than how large the object is, since photos show objects cut and from one side. A whole cloud
shows them whole, so a label is the box around the points. Where it differs from the head's own box, one of both is
wrong: the score is multiplied by the root of their IoU. Labels count by that, and points that may be of an object
without a label are ignored. On rough clouds, such as scans, the head's own boxes are better (--boxes head).
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
import tyro

from ovseg3d.heads.detection import Detector, boxes_around_points
from ovseg3d.heads.detection.normals import estimate_normals
from ovseg3d.scene.clouds import PointCloud
from scripts import ROOT
from scripts.start import start
from scripts.training.detection_rooms import IGNORED, DetectionRoom, load_detection_room, save_detection_room
from scripts.training.lifted_rooms import SQUARE
from scripts.training.train_detection import FIRST_SEED

MIN_SCORE = 0.25
"""Of a head's own box that becomes a label: a little below what ships, since labels count by their score."""
MIN_AGREED = 0.2
"""The same of a box around points, whose score is lower. Of such labels 88 % had an IoU of 0.25 with an object in 24
rooms of development."""
ALL_SCORES = 0.02
"""Of boxes that are compared with those around their points."""
TRUSTED = 0.5
"""Score of a box around points from which a label counts fully."""
PASSES = 4
"""Of the head, whose predictions are averaged. Labels are made once; two are nearly as good."""
MAX_FOREGROUND = 0.3
"""Points without a box are the room's if the head gives them at most this probability of belonging to an object."""
Boxes = Literal["points", "head"]


def self_labelled(weights: Path, cloud: PointCloud, boxes: Boxes = "points") -> DetectionRoom:
    """A cloud (metres, z up) with the boxes that a head finds in it.

    Args:
        weights: of the head; they are read once.
        cloud: finite points.
        boxes: around the points of each object, or the head's own.

    Raises:
        ConfigError: the cloud has too few points, or extends too far; or the file is none of weights.
    """
    detector = _detector(weights, boxes)
    every, said = detector.detect(cloud), detector.segment(cloud)
    found = every
    if boxes == "points":
        found = [one for one in boxes_around_points(every, cloud.xyz) if one.score >= MIN_AGREED]
    instance = np.where(said.foreground > MAX_FOREGROUND, IGNORED, 0)
    for one in every:
        instance[one.points] = IGNORED
    for number, one in enumerate(found, start=1):
        instance[one.points] = number
    rows = np.array([[*one.center, *one.size, one.yaw_rad or 0.0] for one in found]).reshape(-1, 7)
    ratio = rows[:, 3:5].max(1) / rows[:, 3:5].min(1)
    trust = np.array([one.score for one in found], np.float32)
    normal = estimate_normals(cloud.xyz) if cloud.normal is None else cloud.normal
    rgb = np.full_like(normal, 0.5) if cloud.rgb is None else cloud.rgb
    return DetectionRoom(
        cloud.xyz.astype(np.float32),
        np.round(normal * 127).astype(np.int8),
        np.round(rgb * 255).astype(np.uint8),
        instance.astype(np.int16),
        rows.astype(np.float32),
        tuple(str(one.label) for one in found),
        np.where(ratio < SQUARE, 4, 2).astype(np.int64),
        np.zeros(len(found), np.int64),
        np.minimum(trust / TRUSTED, 1) if boxes == "points" else trust,
    )


@cache
def _detector(weights: Path, boxes: Boxes) -> Detector:
    if boxes == "head":
        return Detector(weights, min_score=MIN_SCORE)
    return Detector(weights, min_score=ALL_SCORES, passes=PASSES)


@dataclass(frozen=True)
class SelfLabels:
    """Label the clouds of the training's rooms."""

    weights: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="WEIGHTS")]
    """Of the head."""
    output: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]
    """Where the rooms go."""
    rooms: Path = ROOT / "outputs/detection/rooms"
    """The rooms, as `train_detection` keeps them; missing ones are made."""
    room_count: int = 250
    boxes: Boxes = "points"
    """Around the points of each object, or the head's own."""

    def main(self) -> None:
        """Label what is missing."""
        torch.set_num_threads(1)
        for seed in range(FIRST_SEED, FIRST_SEED + self.room_count):
            path = self.output / f"{seed}.npz"
            if not path.exists():
                room = load_detection_room(self.rooms, seed)
                cloud = PointCloud(room.xyz, room.normal.astype(np.float32) / 127, room.rgb.astype(np.float32) / 255)
                save_detection_room(path, self_labelled(self.weights, cloud, self.boxes))
        print(f"{self.room_count} rooms in {self.output}")


if __name__ == "__main__":
    start(SelfLabels)
