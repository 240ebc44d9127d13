"""Label point clouds with a detection head's own boxes, to train it further on them (self-training).

    python -m scripts.training.self_labels WEIGHTS outputs/lifted/self
    python -m scripts.training.train_detection --start WEIGHTS --rooms outputs/lifted/self --no-make-rooms ...

Clouds are the exact ones of the training's rooms, as `train_detection` makes them; their labels are not read. A head
that learnt from single photos has seen no whole room, and whole rooms are what it is asked about. Its boxes of a fair
score become labels that count by their score. Points that may be of an object without such a box are ignored.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro

from ovseg3d.heads.detection import Detector
from ovseg3d.heads.detection.normals import estimate_normals
from ovseg3d.scene.clouds import PointCloud
from scripts import ROOT
from scripts.start import start
from scripts.training.detection_rooms import IGNORED, DetectionRoom, load_detection_room, save_detection_room
from scripts.training.lifted_rooms import SQUARE
from scripts.training.train_detection import FIRST_SEED

MIN_SCORE = 0.25
"""Of a box that becomes a label: a little below what ships, since labels count by their score."""
MAX_FOREGROUND = 0.3
"""Points without a box are the room's if the head gives them at most this probability of belonging to an object."""


def self_labelled(detector: Detector, cloud: PointCloud) -> DetectionRoom:
    """A cloud (metres, z up) with the boxes that a head finds in it.

    Raises:
        ConfigError: the cloud has too few points, or extends too far.
    """
    found, said = detector.detect(cloud), detector.segment(cloud)
    instance = np.where(said.foreground > MAX_FOREGROUND, IGNORED, 0)
    for number, one in enumerate(found, start=1):
        instance[one.points] = number
    boxes = np.array([[*one.center, *one.size, one.yaw_rad or 0.0] for one in found]).reshape(-1, 7)
    ratio = boxes[:, 3:5].max(1) / boxes[:, 3:5].min(1)
    normal = estimate_normals(cloud.xyz) if cloud.normal is None else cloud.normal
    rgb = np.full_like(normal, 0.5) if cloud.rgb is None else cloud.rgb
    return DetectionRoom(
        cloud.xyz.astype(np.float32),
        np.round(normal * 127).astype(np.int8),
        np.round(rgb * 255).astype(np.uint8),
        instance.astype(np.int16),
        boxes.astype(np.float32),
        tuple(str(one.label) for one in found),
        np.where(ratio < SQUARE, 4, 2).astype(np.int64),
        np.zeros(len(found), np.int64),
        np.array([one.score for one in found], np.float32),
    )


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

    def main(self) -> None:
        """Label what is missing."""
        torch.set_num_threads(1)
        detector = Detector(self.weights, min_score=MIN_SCORE)
        for seed in range(FIRST_SEED, FIRST_SEED + self.room_count):
            path = self.output / f"{seed}.npz"
            if not path.exists():
                room = load_detection_room(self.rooms, seed)
                cloud = PointCloud(room.xyz, room.normal.astype(np.float32) / 127, room.rgb.astype(np.float32) / 255)
                save_detection_room(path, self_labelled(detector, cloud))
        print(f"{self.room_count} rooms in {self.output}")


if __name__ == "__main__":
    start(SelfLabels)
