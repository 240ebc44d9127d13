"""Crops of procedural objects with their exact poses: examples for the photo head.

    python -m scripts.training.pose_crops --output crops.png      a contact sheet

A crop is a pure function of (seed, index, individuals): of one object before a backdrop, or of an object in a furnished
room, as people photograph them. The label is the object's viewpoint on the ray through the crop's middle (ImageNet3D's
azimuth, elevation, theta) and its order of symmetry. Some crops show no object.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image, ImageDraw
from scipy.spatial.transform import Rotation

from ovseg3d.files import write_atomic
from ovseg3d.geometry.poses import angles_of_rotation, rotation_of_angles, turn_to
from ovseg3d.heads.pose.crops import Box, mask_box, square_crop
from ovseg3d.synth.cameras import look
from ovseg3d.synth.holdout import ALL, HELD_STYLES, SEEN, pick
from ovseg3d.synth.kinds import KINDS
from ovseg3d.synth.quick import look_at_room, shade_room
from ovseg3d.synth.render import develop
from ovseg3d.synth.room_views import Furnished, room_of
from ovseg3d.synth.still import VARIANTS, Scene, Thing, some_thing
from scripts.start import start
from scripts.training.detection_rooms import FACING, rotational_order, symmetry_of

SIDE = 96
"""Pixels of a crop's side: as the larger of the built-in encoders takes them."""
PHOTO = 128
"""Pixels of the rendered picture's side."""
ROOM_SHARE, EMPTY_SHARE = 0.4, 0.06
"""Shares of crops of rooms, and of crops without an object."""
ROOM_CROPS = 48
"""Crops of one room, which takes seconds to build."""
BOX_NOISE = 0.03
"""How far the sides of a crop's box are off, as a share of its width or height."""
LEAST_SEEN = 0.012
"""Share of a room's picture that an object covers at least."""
IRREGULAR = frozenset(("apple", "pen holder", "plant"))
"""Kinds whose sides differ by chance alone: no side is a front, so they count as round."""
NOVEL = (
    "banana", "bathtub", "bin", "book", "cabinet", "chair", "door", "lamp", "mug", "night stand", "picture", "plant",
    "refrigerator", "shoe", "sofa", "table", "washing machine", "window",
)  # fmt: skip
"""Kinds that the benchmark's heads never see, drawn once by chance (numpy's default_rng(29)); the shipped one does."""
NAMES = tuple(KINDS)
Individuals = Literal["training", "new", "held-out"]
"""Which individuals: those of encoder training, others of the same styles, or others of the held-out styles."""


@dataclass(frozen=True)
class PoseCrop:
    """One crop. Without an object, `kind` is None, and the angles are 0."""

    image: UInt8[np.ndarray, "side side 3"]
    kind: str | None
    azimuth: float = 0.0
    elevation: float = 0.0
    theta: float = 0.0
    order: int = 1
    """Of the symmetry about the object's up axis: 1, 2, 4, or 0 for round."""
    room: bool = False


def pose_crop(
    seed: int,
    index: int,
    individuals: Individuals = "training",
    room_share: float = ROOM_SHARE,
    box_noise: float = BOX_NOISE,
) -> PoseCrop:
    """The crop of that number.

    Args:
        seed: of the set of crops.
        index: in the set.
        individuals: which objects are shown.
        room_share: share of crops of rooms.
        box_noise: standard deviation of the sides of the box, see `jittered`; 0 for the exact box in the same picture.
    """
    rng = np.random.default_rng([seed, index, 31])
    # Rooms come in whole blocks, evenly spread over the indices.
    if ((index // ROOM_CROPS) * 0.6180339887498949) % 1.0 < room_share:
        room = room_of(seed, index // ROOM_CROPS, "unseen" if individuals == "held-out" else "seen")
        return _in_room(rng, room, box_noise)
    return _alone(rng, individuals, box_noise)


def _alone(rng: np.random.Generator, individuals: Individuals, box_noise: float) -> PoseCrop:
    while True:
        kind = pick(rng, NAMES)
        style = HELD_STYLES[kind] if individuals == "held-out" else pick(rng, SEEN.styles[kind])
        pool = SEEN if individuals == "training" else ALL
        first = 0 if individuals == "training" else VARIANTS
        thing = some_thing(rng, kind, pool, style, first_variant=first)
        scene = Scene(rng, thing, pool, individuals != "training", PHOTO)
        image, shot = scene.shoot()
        mask = shot.owner == 0
        side = mask.shape[0] / PHOTO
        if mask.mean() < LEAST_SEEN:
            continue
        box = jittered(rng, mask_box(mask), side, box_noise)
        angles = viewpoint_on_ray(scene.c2w[:3, :3], np.eye(3), box, scene.focal)
        return PoseCrop(square_crop(image, box, SIDE), kind, *angles, order_of(thing))


def order_of(thing: Thing) -> int:
    """The order of symmetry about the up axis: 1 with a front, 0 where round or irregular."""
    if thing.choice.kind in FACING:
        return 1
    if thing.choice.kind in IRREGULAR:
        return 0
    return _order(thing.model.points.tobytes())


@lru_cache(maxsize=4096)
def _order(corners: bytes) -> int:
    return rotational_order(np.frombuffer(corners, np.float32).reshape(-1, 3).astype(np.float64))


def _in_room(rng: np.random.Generator, made: Furnished, box_noise: float) -> PoseCrop:
    """A crop of an object in a room, or of the room itself where there is none."""
    empty = rng.random() < EMPTY_SHARE / ROOM_SHARE
    for _ in range(40):
        target = int(rng.integers(len(made.centres)))
        c2w, focal = _camera(rng, made, None if empty else target)
        view = look_at_room(made.tracer, c2w, PHOTO, focal * PHOTO)
        wide = PHOTO * view.side
        instance = np.where(view.face >= 0, made.face_instance[view.face], 0).reshape(wide, wide)
        if view.depth_z.min() < 0.2 or (not empty and not _clear(instance == target + 1)):
            continue
        image = develop(shade_room(made.tracer, view), made.tracer.exposure * float(rng.uniform(0.8, 1.25)))
        if empty:
            if (instance > 0).mean() < 0.02:
                return PoseCrop(square_crop(image, (0.0, 0.0, float(PHOTO), float(PHOTO)), SIDE, 0.0), None, room=True)
            continue
        placed = made.room.objects[target]
        box = jittered(rng, mask_box(instance == target + 1), view.side, box_noise)
        angles = viewpoint_on_ray(c2w[:3, :3], placed.rotation, box, focal * PHOTO)
        kind = placed.category
        order = 1 if kind in FACING else 0 if kind in IRREGULAR else symmetry_of(placed)
        return PoseCrop(square_crop(image, box, SIDE), kind, *angles, order, True)
    return PoseCrop(np.full((SIDE, SIDE, 3), 128, np.uint8), None, room=True)


def _clear(mask: np.ndarray) -> bool:
    """Whether enough of an object is seen, and not cut off by the picture's edge."""
    if mask.mean() < LEAST_SEEN:
        return False
    x0, y0, x1, y1 = mask_box(mask)
    return min(x0, y0) > 0 and max(x1, y1) < len(mask)


def _camera(rng: np.random.Generator, made: Furnished, target: int | None) -> tuple[np.ndarray, float]:
    """A camera of somebody who stands in the room: c2w, and its focal length in picture widths."""
    eye = np.array([*(rng.uniform(-0.45, 0.45, 2) * made.room.size[:2]), rng.uniform(1.0, 1.8)])
    if target is None:
        return look(eye, rng.uniform(-np.pi, np.pi), rng.uniform(-1.0, 0.8)), 0.5 / np.tan(rng.uniform(0.13, 0.35))
    to = made.centres[target] + rng.uniform(-0.3, 0.3, 3) * made.spans[target] - eye
    distance = float(np.linalg.norm(to))
    focal = rng.uniform(0.3, 0.8) * distance / max(0.08, float(np.sort(made.spans[target])[1:].mean()))
    pitch = float(np.arcsin(np.clip(to[2] / distance, -0.97, 0.97)))
    c2w = look(eye, np.arctan2(to[1], to[0]), pitch)
    roll = rng.normal(0, np.radians(3))
    c, s = np.cos(roll), np.sin(roll)
    c2w[:3, :3] = c2w[:3, :3] @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])
    return c2w, float(np.clip(focal, 0.6, 9.0))


def jittered(rng: np.random.Generator, box: Box, samples: float, noise: float = BOX_NOISE) -> Box:
    """A box as a detector might give it, each side off by some per cent; from samples to pixels.

    Args:
        rng: four numbers are drawn from it, with any noise.
        box: the exact one, in samples.
        samples: along a pixel.
        noise: standard deviation of each side, as a share of the box's width or height.
    """
    x0, y0, x1, y1 = (value / samples for value in box)
    w, h = x1 - x0, y1 - y0
    a, b, c, d = noise * rng.normal(0, 1, 4)
    return x0 + a * w, y0 + b * h, x1 + c * w, y1 + d * h


def viewpoint_on_ray(
    camera: Float[np.ndarray, "3 3"], thing: Float[np.ndarray, "3 3"], box: Box, focal: float
) -> tuple[float, float, float]:
    """Azimuth, elevation, theta of an object seen in the middle of a box of a square picture.

    Args:
        camera: world from camera.
        thing: world from object.
        box: in the picture.
        focal: in pixels.
    """
    middle = [((box[k] + box[k + 2]) / 2 - PHOTO / 2) / focal for k in range(2)]
    ray = np.array([*middle, 1.0])
    turned = Rotation.from_matrix(camera) * turn_to(ray / np.linalg.norm(ray))
    azimuth, elevation, theta = angles_of_rotation(turned.inv() * Rotation.from_matrix(thing)).tolist()
    return azimuth, elevation, theta


@dataclass(frozen=True)
class CropSet:
    """Many crops as arrays; `kind` -1 is none."""

    image: UInt8[np.ndarray, "crops side side 3"]
    kind: Int[np.ndarray, " crops"]
    angles: Float[np.ndarray, "crops 3"]
    """Azimuth, elevation, theta, radians."""
    order: Int[np.ndarray, " crops"]
    room: Int[np.ndarray, " crops"]

    def of(self, rows: np.ndarray) -> "CropSet":
        """Some of them."""
        return CropSet(**{name: values[rows] for name, values in vars(self).items()})


def joined(sets: Sequence[CropSet]) -> CropSet:
    """Several sets as one."""
    return CropSet(**{name: np.concatenate([getattr(one, name) for one in sets]) for name in vars(sets[0])})


BLOCK = ROOM_CROPS * 20


def crop_set(
    folder: Path,
    seed: int,
    count: int,
    individuals: Individuals = "training",
    room_share: float = ROOM_SHARE,
    box_noise: float = BOX_NOISE,
) -> CropSet:
    """The first crops of a set, made in blocks that are kept in `folder`.

    Args:
        folder: of the blocks.
        seed: of the set.
        count: how many crops, rounded up to whole blocks.
        individuals, room_share, box_noise: as in `pose_crop`.
    """
    parts, noise = [], "" if box_noise == BOX_NOISE else f"-box{box_noise:g}"
    for block in range(-(-count // BLOCK)):
        path = folder / f"{individuals}-{seed}-{block}{noise}.npz"
        if not path.exists():
            made = [pose_crop(seed, block * BLOCK + k, individuals, room_share, box_noise) for k in range(BLOCK)]
            print(f"crops {(block + 1) * BLOCK} of {count}", flush=True)
            write_atomic(path, partial(_save, made=made))
        with np.load(path, allow_pickle=False) as kept:
            parts.append({name: kept[name] for name in kept.files})
    return CropSet(**{name: np.concatenate([part[name] for part in parts]) for name in parts[0]})


def _save(path: Path, made: list[PoseCrop]) -> None:
    with open(path, "wb") as file:
        np.savez(
            file,
            image=np.stack([crop.image for crop in made]),
            kind=np.array([-1 if crop.kind is None else NAMES.index(crop.kind) for crop in made]),
            angles=np.array([[crop.azimuth, crop.elevation, crop.theta] for crop in made], np.float32),
            order=np.array([crop.order for crop in made]),
            room=np.array([crop.room for crop in made], np.int64),
        )


@dataclass(frozen=True)
class Sheet:
    """Draw crops with the axes of their objects."""

    output: Path
    """The picture to write."""
    seed: int = 0
    count: int = 96
    individuals: Individuals = "training"

    def main(self) -> None:
        """Draw them."""
        tiles = [_drawn(pose_crop(self.seed, int(k), self.individuals)) for k in np.linspace(0, 960, self.count)]
        rows = [np.concatenate(tiles[k : k + 12], 1) for k in range(0, len(tiles) - 11, 12)]
        Image.fromarray(np.concatenate(rows)).save(self.output)


def _drawn(crop: PoseCrop) -> np.ndarray:
    """A crop, twice as large, with its front in red and up in blue."""
    tile = Image.fromarray(crop.image).resize((2 * SIDE, 2 * SIDE))
    draw = ImageDraw.Draw(tile)
    turn = rotation_of_angles(np.array([crop.azimuth, crop.elevation, crop.theta]))
    for axis, colour in (((0, -1, 0), "red"), ((0, 0, 1), "blue")):
        x, y, _ = SIDE + 0.6 * SIDE * turn.apply(axis)
        draw.line([SIDE, SIDE, x, y], fill=colour, width=3)
    angles = " ".join(f"{np.degrees(v):.0f}" for v in (crop.azimuth, crop.elevation, crop.theta))
    draw.text((2, 2), f"{crop.kind} {angles} /{crop.order}", fill="yellow")
    return np.asarray(tile)


if __name__ == "__main__":
    start(Sheet)
