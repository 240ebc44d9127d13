"""Exact clouds of procedural rooms with the boxes of their objects: examples for the detection head.

A room is a pure function of its seed. It is kept as one .npz file, so that an interrupted command can be continued.
Even seeds give rooms of a type (bedroom, kitchen...), odd ones rooms with random kinds of objects. Both are drawn from
the looks that encoders are trained on, never from those held out.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int, Int8, UInt8
from scipy.spatial import cKDTree

from ovseg3d.files import write_atomic
from ovseg3d.synth.arrange import Item
from ovseg3d.synth.cloud import sample_surface
from ovseg3d.synth.furnish import kind_item, random_room
from ovseg3d.synth.holdout import SEEN, Pool
from ovseg3d.synth.kinds import KINDS
from ovseg3d.synth.rooms import Placed, Room
from ovseg3d.synth.world import flatten, trace

FACING = frozenset((
    "backpack", "bathtub", "bear", "bed", "bicycle", "bookshelf", "cabinet", "chair", "clock", "counter", "curtain",
    "desk", "door", "dresser", "guitar", "keyboard", "laptop", "microwave", "monitor", "night stand", "oven",
    "picture", "refrigerator", "shoe", "shower curtain", "sink", "sofa", "television", "toilet", "washing machine",
    "window",
))  # fmt: skip
"""Kinds with a front, whatever their shape: a cabinet's doors face the room."""
SYMMETRIC = 0.06
"""Objects are symmetric if 95 % of their turned vertices are this near to a vertex, relative to the footprint's
diagonal."""
NOVEL = (
    "bicycle", "guitar", "lamp", "microwave", "night stand", "plant", "shoe", "sofa", "toilet", "vase",
)  # fmt: skip
"""Kinds that `train_detection --hold-out` leaves out, to measure how a head finds what it has never seen."""
IGNORED = -1
"""Instance of points that may be of an object without a label."""
RANDOM_ITEMS = (14, 26)
"""Fewest and most objects of a room with random kinds."""


@dataclass(frozen=True)
class DetectionRoom:
    """One room: points, and the boxes of its objects; metres, z up. At 0 is the floor of procedural rooms, the camera
    of lifted photos, and the origin of a run's capture."""

    xyz: Float[np.ndarray, "points 3"]
    normal: Int8[np.ndarray, "points 3"]
    """Unit normals times 127."""
    rgb: UInt8[np.ndarray, "points 3"]
    instance: Int[np.ndarray, " points"]
    """1 + the row of its box, 0 for the room itself, `IGNORED` where it is unknown."""
    boxes: Float[np.ndarray, "boxes 7"]
    """Centre, full size along the object's own axes, yaw (radians)."""
    kinds: tuple[str, ...]
    symmetry: Int[np.ndarray, " boxes"]
    """Order of the rotational symmetry about the up axis: 1, 2, 4, or 0 for round objects."""
    facing: Int[np.ndarray, " boxes"]
    """1 where the kind has a front."""
    quality: Float[np.ndarray, " boxes"] | None = None
    """How far each box can be trusted, 0 to 1; None: they are exact."""
    open_sides: Bool[np.ndarray, "boxes 6"] | None = None
    """Where an object may go on: x low, x high, y low... along the box's own axes; None: nowhere."""


def make_detection_room(
    seed: int, points: int = 150_000, pool: Pool = SEEN, *, typed: bool | None = None
) -> DetectionRoom:
    """The room of a seed.

    Args:
        seed: of the room, and of the samples.
        points: how many samples of its surface.
        pool: which looks may be drawn.
        typed: a room of a type instead of random kinds; by default of even seeds.
    """
    return labelled_room(furnished(seed, pool, typed=typed), points, seed)


def furnished(seed: int, pool: Pool = SEEN, *, typed: bool | None = None) -> Room:
    """The room of a seed, before it is sampled; arguments as for `make_detection_room`."""
    typed = seed % 2 == 0 if typed is None else typed
    # Types alternate with the seed, too: half of it reaches all of them.
    return random_room(seed // 2, pool=pool) if typed else random_room(seed, partial(_random_items, pool), pool=pool)


def labelled_room(room: Room, points: int, seed: int) -> DetectionRoom:
    """The exact surface and the boxes of a room.

    Args:
        room: as it is furnished.
        points: how many samples of its surface.
        seed: of the samples.
    """
    flat = flatten(room)
    cloud = sample_surface(flat, trace(flat, room), points, seed)
    boxes = np.array([[*o["center"], *o["size"], o["yaw_rad"]] for o in flat.objects], np.float32).reshape(-1, 7)
    kinds = tuple(str(o["category"]) for o in flat.objects)
    facing = np.array([kind in FACING for kind in kinds], np.int64)
    symmetry = np.array([1 if front else symmetry_of(placed) for placed, front in zip(room.objects, facing)], np.int64)
    return DetectionRoom(
        cloud.xyz.astype(np.float32),
        np.round(cloud.normal * 127).astype(np.int8),
        cloud.rgb,
        cloud.instance.astype(np.int16),
        boxes,
        kinds,
        symmetry,
        facing,
    )


def symmetry_of(placed: Placed) -> int:
    """Order of an object's rotational symmetry about its box's vertical middle axis: 1, 2, 4, or 0 for round ones."""
    return rotational_order(np.concatenate([part.soup.points.reshape(-1, 3) for part in placed.canonical_parts()]))


def rotational_order(corners: Float[np.ndarray, "n 3"]) -> int:
    """As `symmetry_of`, of vertices in the object's frame."""
    corners = np.unique(np.round(corners - (corners.min(0) + corners.max(0)) / 2, 4), axis=0)
    tree, diagonal = cKDTree(corners), float(np.hypot(*np.ptp(corners[:, :2], axis=0)))

    def same(degrees: float) -> bool:
        cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        turned = corners @ np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])
        return float(np.quantile(tree.query(turned)[0], 0.95)) < SYMMETRIC * diagonal

    if not same(180):
        return 1
    if not same(90):
        return 2
    return 0 if same(45) else 4


def load_detection_room(folder: Path, seed: int, points: int = 150_000) -> DetectionRoom:
    """The room of a seed, from FOLDER/SEED.npz if it was made before; else it is made and kept there."""
    path = folder / f"{seed}.npz"
    if not path.exists():
        made = make_detection_room(seed, points)
        save_detection_room(path, made)
        return made
    return read_detection_room(path)


def save_detection_room(path: Path, room: DetectionRoom) -> None:
    """Write a room as an .npz file, whole or not at all."""

    def write(to: Path) -> None:
        with open(to, "wb") as file:
            known = {name: value for name, value in vars(room).items() if value is not None}
            np.savez(file, **{**known, "kinds": np.array(room.kinds)})

    write_atomic(path, write)


def read_detection_room(path: Path) -> DetectionRoom:
    """The room of a file of `save_detection_room`."""
    with np.load(path, allow_pickle=False) as kept:
        arrays = {name: kept[name] for name in kept.files}
    return DetectionRoom(**{**arrays, "kinds": tuple(arrays["kinds"].tolist())})


def without(room: DetectionRoom, kinds: Collection[str]) -> DetectionRoom:
    """The room without labels for some kinds; points of their objects are `IGNORED`."""
    kept = np.array([kind not in kinds for kind in room.kinds], bool)
    if kept.all():
        return room
    number = np.where(kept, kept.cumsum(), IGNORED)
    known = room.instance > 0
    instance = room.instance.copy()
    instance[known] = number[room.instance[known] - 1]
    arrays = ("boxes", "symmetry", "facing", "quality", "open_sides")
    fewer = {name: value[kept] for name in arrays if (value := getattr(room, name)) is not None}
    return replace(room, instance=instance, kinds=tuple(np.array(room.kinds)[kept].tolist()), **fewer)


def read_kinds(path: Path) -> tuple[str, ...]:
    """The kinds of the objects in such a file."""
    with np.load(path, allow_pickle=False) as kept:
        return tuple(kept["kinds"].tolist())


def is_fitted(path: Path) -> bool:
    """Whether the boxes in such a file were fitted to points rather than known."""
    with np.load(path, allow_pickle=False) as kept:
        return "open_sides" in kept.files


def _random_items(pool: Pool, rng: np.random.Generator) -> list[Item]:
    names = [name for name, kind in KINDS.items() if kind.stands != "ceiling" and name not in ("window", "door")]
    return [kind_item(rng, KINDS[str(rng.choice(names))], pool) for _ in range(rng.integers(*RANDOM_ITEMS))]
