"""Rooms furnished at random from a seed, with procedural kinds or with meshes of a folder.

A room has a type (bedroom, kitchen, ...), which determines its furniture. The appearance of each object is drawn from
a pool of names (holdout.py): rooms for reports use all names, rooms for training only those that are not held out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ovseg3d.synth.arrange import WALLS, Arrangement, Item
from ovseg3d.synth.geometry import rotation
from ovseg3d.synth.holdout import ALL, Choice, Pool, choose, pick
from ovseg3d.synth.kinds import KINDS, Kind, Look
from ovseg3d.synth.looks import COLOURS, FLOORS, TEXTURES, painted
from ovseg3d.synth.looks import WALLS as WALL_TEXTURES
from ovseg3d.synth.materials import Material, linear, paint, triple
from ovseg3d.synth.render import Lighting
from ovseg3d.synth.rooms import CameraPlan, Placed, Room, lamp_light, shell, window_light

TOPS_ONLY = ("television", "monitor", "laptop", "keyboard", "microwave", "bowl", "bottle", "cup", "lamp")
NEUTRAL = ("beige", "white", "grey", "brown")


@dataclass(frozen=True)
class RoomType:
    """What a room gets: always these kinds, and some of those (drawn without repetition)."""

    name: str
    always: tuple[str, ...]
    large: tuple[str, ...]  # stands on the floor
    small: tuple[str, ...]  # lies on tops
    curtains: bool = True


EVERYWHERE = ("plant", "bin", "picture", "clock", "rug", "lamp", "stool", "box")
ROOM_TYPES = (
    RoomType(
        "living room",
        ("sofa", "table", "cabinet", "rug", "picture", "television"),
        ("sofa", "chair", "chair", "bookshelf", "lamp", "plant", "stool", "guitar", "box", "picture", "clock", "ball"),
        (
            "book",
            "vase",
            "lamp",
            "bowl",
            "cushion",
            "mug",
            "teapot",
            "cup",
            "plate",
            "tissue box",
            "clock",
            "apple",
            "bear",
        ),
    ),
    RoomType(
        "bedroom",
        ("bed", "night stand", "dresser", "picture", "rug"),
        (
            "night stand",
            "cabinet",
            "chair",
            "desk",
            "lamp",
            "plant",
            "stool",
            "backpack",
            "shoe",
            "box",
            "bear",
            "bookshelf",
            "clock",
            "picture",
            "guitar",
        ),
        ("lamp", "book", "clock", "bear", "vase", "cushion", "bottle", "tissue box", "laptop", "mug"),
    ),
    RoomType(
        "kitchen",
        ("counter", "refrigerator", "oven", "sink", "table", "chair", "chair"),
        ("counter", "cabinet", "washing machine", "bin", "stool", "plant", "clock", "picture", "box", "chair"),
        (
            "microwave",
            "plate",
            "bowl",
            "cup",
            "mug",
            "bottle",
            "teapot",
            "apple",
            "banana",
            "plate",
            "bowl",
            "vase",
            "bottle",
        ),
    ),
    RoomType(
        "bathroom",
        ("toilet", "bathtub", "sink", "shower curtain", "cabinet"),
        ("washing machine", "bin", "stool", "plant", "rug", "box", "picture", "shoe", "dresser"),
        ("bottle", "tissue box", "cup", "vase", "bottle", "clock", "mug"),
        curtains=False,
    ),
    RoomType(
        "child's room",
        ("bed", "desk", "chair", "bookshelf", "rug", "bear", "ball"),
        (
            "box",
            "box",
            "ball",
            "bear",
            "backpack",
            "shoe",
            "guitar",
            "bicycle",
            "stool",
            "lamp",
            "dresser",
            "table",
            "picture",
        ),
        ("book", "laptop", "lamp", "pen holder", "bear", "clock", "mug", "banana", "cushion", "book"),
    ),
    RoomType(
        "study",
        ("desk", "chair", "bookshelf", "desk", "picture", "bin", "monitor"),
        (
            "bookshelf",
            "cabinet",
            "sofa",
            "chair",
            "lamp",
            "plant",
            "rug",
            "backpack",
            "box",
            "guitar",
            "bicycle",
            "clock",
            "picture",
        ),
        (
            "monitor",
            "keyboard",
            "mouse",
            "laptop",
            "book",
            "pen holder",
            "mug",
            "lamp",
            "clock",
            "tissue box",
            "bottle",
            "cup",
        ),
    ),
)


def item_of(kind: Kind, choice: Choice, size, look: Look) -> Item:
    """The item of an individual whose size and look are known."""
    phrase = f"{choice.colour} {kind.name}" if choice.shows else kind.name
    parts = kind.make(size, choice.style, look)
    corners = np.concatenate([p.soup.points.reshape(-1, 3) for p in parts])
    actual = triple(np.maximum(corners.max(0), -corners.min(0)) * [2, 2, 1])

    def place(at, yaw):
        return Placed(kind.name, phrase, at, yaw, size, choice.style, look, choice=choice)

    hang = kind.hang
    stands = kind.stands_of(choice.style)
    if stands == "hung" and kind.stands != "hung":
        hang = 1.5
    return Item(kind.name, actual, stands, hang, kind.surface_of(choice.style), place)


def kind_item(rng: np.random.Generator, kind: Kind, pool: Pool = ALL, style: str | None = None) -> Item:
    """A random individual of a kind."""
    choice = choose(rng, kind.name, pool, style)
    size = tuple(float(rng.uniform(*span)) for span in kind.sizes_of(choice.style))
    long = max(size)
    main = painted(rng, choice.colour, choice.texture, long)
    second = painted(rng, pick(rng, pool.colours), pick(rng, ("plain", "plain", "wood")), long)
    return item_of(kind, choice, size, Look(_dull(main), _dull(second), int(rng.integers(1 << 30))))


def _dull(material: Material) -> Material:
    """Less gloss: rooms mirror whole rays, where pictures of single things only have highlights."""
    return material.but(gloss=min(material.gloss, 0.08))


def typed_items(rng: np.random.Generator, kind_of_room: RoomType, pool: Pool) -> list[Item]:
    """What a furnished room of a type gets."""
    names = list(kind_of_room.always)
    names += [kind_of_room.large[k] for k in rng.permutation(len(kind_of_room.large))[: int(rng.integers(5, 9))]]
    names += [kind_of_room.small[k] for k in rng.permutation(len(kind_of_room.small))[: int(rng.integers(7, 12))]]
    names += [str(rng.choice(EVERYWHERE))]
    return [kind_item(rng, KINDS[name], pool) for name in names]


def random_room(
    seed: int,
    items: Callable[[np.random.Generator], list[Item]] | None = None,
    *,
    pool: Pool = ALL,
) -> Room:
    """A room that only the seed (and the catalogue of things, or the pool of looks) decides."""
    rng = np.random.default_rng([seed, 5])
    kind_of_room = ROOM_TYPES[seed % len(ROOM_TYPES)] if items is None else None
    size = (float(rng.uniform(4.2, 5.6)), float(rng.uniform(3.7, 4.6)), float(rng.uniform(2.45, 2.8)))
    taken = Arrangement(rng, size)
    white = paint("#ebe7de")
    sides = list(rng.permutation(list(WALLS)))
    at_walls = {}
    for name, side in (("window", sides[0]), ("door", sides[1])):
        kind, yaw = KINDS[name], WALLS[side]
        item = kind_item(rng, kind, pool)
        length, depth = (size[0], size[1]) if side in ("north", "south") else (size[1], size[0])
        wide, deep, high = item.size
        if name == "window":
            high = min(high, size[2] - 1.15)
        reach = length / 2 - wide / 2 - 0.3
        local = np.array([rng.uniform(-reach, reach), depth / 2 - deep / 2, kind.hang])
        front = np.array([[-wide / 2, -0.9 if name == "door" else -0.1, 0], [wide / 2, deep / 2, high]]) + local
        corners = front @ rotation(yaw).T
        taken.block(corners.min(0), corners.max(0))
        placed = item.place(triple(rotation(yaw) @ local), yaw)
        placed = replace(placed, size=(placed.size[0], placed.size[1], min(placed.size[2], high)))
        if name == "window" and rng.random() < 0.5:
            assert placed.look is not None, "a kind's item has a look"
            placed = replace(placed, look=replace(placed.look, main=white))
        at_walls[name] = (side, local[0], placed)
    window_side, window_along, window = at_walls["window"]
    if kind_of_room is None or kind_of_room.curtains:
        _curtains(rng, taken, pool, window_side, window_along, window.size[0])
    light = _ceiling_light(rng, pool, size)
    low = size[2] - light.size[2]
    taken.block([-0.35, -0.35, low - 0.03], [0.35, 0.35, size[2]])
    if items is not None:
        chosen = items(rng)
    else:
        assert kind_of_room is not None, "a room without given items is of some type"
        chosen = typed_items(rng, kind_of_room, pool)
    settle(taken, chosen)
    door_side, door_along, door = at_walls["door"]
    half = door.size[0] / 2
    floor, walls, names = surfaces(rng, pool)
    objects = (window, door, *taken.placed, light)
    lights = _lighting(rng, window_side, window, light.at)
    walls_shell = shell(
        size, floor, walls, paint("#efece6"), white, gaps=((door_side, door_along - half, door_along + half),)
    )
    plan = CameraPlan(radii=(size[0] / 2 - 0.7, size[1] / 2 - 0.7))
    kind_name = None if kind_of_room is None else kind_of_room.name
    return Room(f"room {seed}", size, walls_shell, objects, lights, plan, surfaces=names, furnished_as=kind_name)


def settle(taken: Arrangement, chosen: list[Item]) -> None:
    """Finds a place for each item, large ones first."""
    order = {"wall": 0, "floor": 1, "hung": 2, "flat": 3, "top": 4}
    for item in sorted(chosen, key=lambda i: (order.get(i.stands, 1), -i.size[0] * i.size[1])):
        if item.stands in ("wall", "hung"):
            taken.against_wall(item, item.hang if item.stands == "hung" else 0.0, 0.03)
        elif item.stands == "top":
            if not taken.on_top(item) and item.category not in TOPS_ONLY and max(item.size) > 0.3:
                taken.on_floor(item)
        elif item.category in ("chair", "stool") and taken.at_table(item):
            continue
        else:
            taken.on_floor(item)


def _curtains(rng, taken: Arrangement, pool: Pool, side: str, along: float, wide: float) -> None:
    """A curtain on each side of the window, or one pair over it."""
    kind, yaw = KINDS["curtain"], WALLS[side]
    item = kind_item(rng, kind, pool)
    depth = taken.size[1] if side in ("north", "south") else taken.size[0]
    if item.size[2] + kind.hang > taken.size[2] - 0.02:
        return
    inset = depth / 2 - item.size[1] / 2 - 0.005
    if item.size[0] > 1.2:
        spots = []  # a pair would hang before the window; the window keeps its place
    else:
        gap = wide / 2 + item.size[0] / 2 + 0.01
        spots = [along - gap, along + gap]
    for x in spots:
        taken.add(item, rotation(yaw) @ np.array([x, inset, kind.hang]), yaw, 0.0)


def _ceiling_light(rng, pool: Pool, size) -> Placed:
    """The lamp in the middle of the ceiling."""
    kind = KINDS["ceiling light"]
    choice = choose(rng, kind.name, pool)
    dims = triple(rng.uniform(*span) for span in kind.sizes_of(choice.style))
    look = Look(paint("#ebe7de"), paint("#8f9397"), int(rng.integers(1 << 30)))
    choice = replace(choice, colour="white", texture="plain")
    return Placed(kind.name, kind.name, (0.0, 0.0, size[2] - dims[2]), 0.0, dims, choice.style, look, choice=choice)


def _lighting(rng, side: str, window: Placed, lamp_at) -> Lighting:
    """Daylight through the window, sometimes with sun, and the ceiling light."""
    warmth = rng.uniform(0.8, 1.0)
    day = rng.uniform(5.0, 9.5)
    sun_yaw = WALLS[side] + np.pi / 2 + rng.uniform(-0.6, 0.6)
    sun = (np.cos(sun_yaw), np.sin(sun_yaw), rng.uniform(0.5, 1.1))
    sun_light = float(rng.choice([0.0, 3.0, 4.5]))
    return Lighting(
        (
            window_light(window.at, window.size, window.yaw, (day, day * 1.09, day * 1.25)),
            lamp_light(lamp_at, 0.245, (12.0, 12.0 * (0.5 + 0.5 * warmth), 12.0 * warmth * 0.8)),
        ),
        sun=triple(sun),
        sun_light=(sun_light, 0.9 * sun_light, 0.72 * sun_light),
    )


def surfaces(rng: np.random.Generator, pool: Pool) -> tuple[Material, Material, dict[str, tuple[str, str]]]:
    """Floor and walls, and the names of their colours and textures."""
    neutral = tuple(c for c in NEUTRAL if c in pool.colours)
    floor_colour = pick(rng, neutral if rng.random() < 0.6 else pool.colours)
    floor_texture = pick(rng, tuple(t for t in FLOORS if t in pool.textures))
    floor = _dull(painted(rng, floor_colour, floor_texture, 1.6))
    colour = pick(rng, neutral if rng.random() < 0.5 else pool.colours)
    texture = pick(rng, tuple(t for t in WALL_TEXTURES if t in pool.textures))
    # Walls are a little paler than things, so that rooms don't get dark, and still of their colour.
    tint = 0.8 * np.array(linear(COLOURS[colour])) + 0.2 * np.array(linear("#e9e5dc"))
    base = triple(tint)
    dark = float(rng.uniform(0.75, 0.9))
    how = TEXTURES[texture]
    walls = Material(base, triple(dark * v for v in base), how.pattern, how.scale * 2.0)
    return floor, walls, {"floor": (floor_colour, floor_texture), "wall": (colour, texture)}
