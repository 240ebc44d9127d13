"""Single photos of procedural rooms as a dataset of 2D images has them: an object's mask and name, nothing of 3D.

    python -m scripts.training.lifted_photos outputs/lifted/photos

A few photos of each room, as somebody who walks about takes them. Depth, pose and boxes are kept as well, but only to
measure what labels miss and for rows that say what a part costs (see `lifted_rooms`). A file is a pure function of its
seed; an existing one is not made again. Shapes and looks are those that encoders are trained on, never those held out.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from jaxtyping import Float, Float16, Int16, UInt8

from ovseg3d.files import write_atomic
from ovseg3d.synth.cameras import on_path
from ovseg3d.synth.furnish import random_room
from ovseg3d.synth.holdout import SEEN
from ovseg3d.synth.world import flatten, trace
from scripts.start import start
from scripts.training.depth_rooms import FAR, LIGHT, crowd, photograph, random_view

FIRST_SEED = 890_000
"""Of the rooms; nothing else uses these."""
NEAR = 0.25
"""Share of the photos that show one object from near."""


@dataclass(frozen=True)
class RoomPhotos:
    """The photos of a room; `side` pixels square, with the principal point in the middle."""

    rgb: UInt8[np.ndarray, "photos side side 3"]
    instance: Int16[np.ndarray, "photos side side"]
    """Object of each pixel: 1 + the row of its kind, 0 for the room itself."""
    kinds: tuple[str, ...]
    focal: Float[np.ndarray, " photos"]
    """Pixels."""
    log_depth: Float16[np.ndarray, "photos side side"]
    """Of exact z-depth in metres, infinity where nothing is near."""
    c2w: Float[np.ndarray, "photos 4 4"]
    """Exact pose, OpenCV; metres, z up."""
    boxes: Float[np.ndarray, "objects 7"]
    """True boxes: centre, full size, yaw."""


def make_room_photos(seed: int, count: int) -> RoomPhotos:
    """The photos of the room of a seed: one of a type for even seeds, one with random kinds for odd ones."""
    rng = np.random.default_rng([seed, 43])
    room = random_room(seed // 2, None if seed % 2 == 0 else crowd, pool=SEEN)
    flat = flatten(room)
    tracer = trace(flat, room, detail=LIGHT)
    tracer.bake()
    tracer.meter([on_path(room.cameras, k / 6) for k in range(6)], 0.7)
    rows = []
    for _ in range(count):
        view = random_view(rng, tracer, flat, np.array(room.size), NEAR)
        shape = view.size, view.side, view.size, view.side
        depth, face = (image.reshape(shape)[:, 0, :, 0] for image in (view.depth_z, view.face))
        instance = np.where(face >= 0, flat.face_instance[face], 0)
        log_depth = np.where(depth < FAR, np.log(depth), np.inf)
        rows.append((photograph(rng, tracer, flat, view), instance, view.focal, log_depth, view.c2w))
    rgb, instance, focal, log_depth, c2w = (np.stack(column) for column in zip(*rows))
    boxes = np.array([[*o["center"], *o["size"], o["yaw_rad"]] for o in flat.objects], np.float32).reshape(-1, 7)
    kinds = tuple(str(o["category"]) for o in flat.objects)
    return RoomPhotos(
        rgb, instance.astype(np.int16), kinds, focal.astype(np.float32), log_depth.astype(np.float16), c2w, boxes
    )  # fmt: skip


def save_room_photos(path: Path, photos: RoomPhotos) -> None:
    """Write an .npz file, whole or not at all."""

    def write(to: Path) -> None:
        with open(to, "wb") as file:
            np.savez_compressed(file, **{**vars(photos), "kinds": np.array(photos.kinds)})

    write_atomic(path, write)


def read_room_photos(path: Path) -> RoomPhotos:
    """The photos of a file of `save_room_photos`."""
    with np.load(path, allow_pickle=False) as kept:
        arrays = {name: kept[name] for name in kept.files}
    return RoomPhotos(**{**arrays, "kinds": tuple(arrays["kinds"].tolist())})


@dataclass(frozen=True)
class MakePhotos:
    """Render the photos."""

    output: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]
    """Where the files go, one a room."""
    rooms: int = 104
    photos: int = 50
    """Of each room."""
    first: int = FIRST_SEED
    """Seed of the first room."""

    def main(self) -> None:
        """Render what is missing."""
        for seed in range(self.first, self.first + self.rooms):
            path = self.output / f"{seed}.npz"
            if not path.exists():
                save_room_photos(path, make_room_photos(seed, self.photos))
                print(f"room {seed - self.first + 1} of {self.rooms}", flush=True)


if __name__ == "__main__":
    start(MakePhotos)
