"""Rooms furnished at random from a seed: from the procedural kinds, or from a folder of meshes.

Things are chosen first and then tried at random places until their boxes are clear of all others; what finds
no place is left out. Boxes here are axis-aligned, in the room's frame, metres.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ovseg3d.synth.geometry import rotation
from ovseg3d.synth.kinds import KINDS, Kind, Look
from ovseg3d.synth.materials import Material, Real, Triple, linear, mix, paint, wood
from ovseg3d.synth.render import Lighting
from ovseg3d.synth.rooms import CameraPlan, Placed, Room, lamp_light, shell, window_light

COLOURS = {
    "red": "#b03a2e", "orange": "#d2772f", "yellow": "#dbb13b", "green": "#4f8a53", "teal": "#3f8583",
    "blue": "#3d6591", "purple": "#75568f", "pink": "#cf8a9c", "brown": "#7b5536", "beige": "#d3bf9b",
    "white": "#e7e3da", "grey": "#8c9094", "black": "#2a2b2d",
}  # fmt: skip
WALLS = {"north": 0.0, "west": np.pi / 2, "south": np.pi, "east": -np.pi / 2}
BUILT_IN = ("window", "door", "curtain", "ceiling light")  # placed by the room itself


@dataclass(frozen=True)
class Item:
    """Something that can be placed: its box (width, depth, height) and how it stands (see kinds.base)."""

    category: str
    size: Triple
    stands: str
    hang: Real
    surface: Real | None
    place: Callable[[Triple, float], Placed]


def finish(rng: np.random.Generator, finishes: Sequence[str], small: bool) -> tuple[str, Material]:
    """A colour name and a material of that colour; what it is painted on doesn't depend on the kind."""
    name = str(rng.choice(list(COLOURS)))
    colour = COLOURS[name]
    base = np.array(linear(colour)) * rng.uniform(0.8, 1.15)
    base = tuple(float(v) for v in base.clip(0.01, 0.9))
    how = str(rng.choice(["plain", *finishes]))
    size = 0.25 if small else 1.0
    if how == "wood" and name in ("brown", "beige", "orange", "yellow", "white", "black"):
        return name, Material(base, tuple(0.66 * v for v in base), "wood", 0.05 * (0.5 if small else 1.0))
    if how == "cloth":
        pattern = str(rng.choice(["weave", "stripes", "dots", "checker", "plaster"]))
        other = rng.uniform(0.6, 0.8) if pattern in ("weave", "plaster") else rng.uniform(0.35, 0.6)
        scale = {"weave": 0.04, "stripes": 0.12, "dots": 0.12, "checker": 0.15, "plaster": 0.1}[pattern] * size
        return name, Material(base, tuple(float(other * v) for v in base), pattern, max(scale, 0.012))
    return name, Material(base, gloss=float(rng.choice([0.0, 0.0, 0.06])))


def kind_item(rng: np.random.Generator, kind: Kind) -> Item:
    """A random individual of a kind."""
    size = tuple(float(rng.uniform(*span)) for span in kind.sizes)
    name, main = finish(rng, kind.finishes, max(size) < 0.4)
    _, second = finish(rng, ("wood",), max(size) < 0.4)
    style = str(rng.choice(list(kind.styles)))
    look = Look(main, second, int(rng.integers(1 << 30)))

    def place(at, yaw):
        return Placed(kind.name, f"{name} {kind.name}", at, yaw, size, style, look)

    parts = kind.make(size, style, look)
    corners = np.concatenate([p.soup.points.reshape(-1, 3) for p in parts])
    actual = tuple(float(v) for v in np.maximum(corners.max(0), -corners.min(0)) * [2, 2, 1])
    return Item(kind.name, actual, kind.stands, kind.hang, kind.surface, place)


def procedural_items(rng: np.random.Generator) -> list[Item]:
    """What a furnished room gets: some of each way of standing, every kind at most twice."""
    groups: dict[str, list[Kind]] = {}
    for name in sorted(KINDS):
        if name not in BUILT_IN:
            groups.setdefault(KINDS[name].stands, []).append(KINDS[name])
    items = []
    for stands, few, many in (("wall", 4, 6), ("floor", 4, 6), ("flat", 1, 1), ("hung", 2, 3), ("top", 8, 12)):
        kinds = groups.get(stands, [])
        count = int(rng.integers(few, many + 1))
        order = [kinds[k] for _ in range(2) for k in rng.permutation(len(kinds))]
        items += [kind_item(rng, kind) for kind in order[:count]]
    return items


class Arrangement:
    """Boxes that are taken, and attempts to add to them."""

    def __init__(self, rng: np.random.Generator, size: Triple) -> None:
        self.rng, self.size = rng, size
        self.low: list[np.ndarray] = []
        self.high: list[np.ndarray] = []
        self.tops: list[tuple[np.ndarray, np.ndarray]] = []
        self.placed: list[Placed] = []

    def block(self, low, high) -> None:
        """Keeps a box free."""
        self.low.append(np.asarray(low, float))
        self.high.append(np.asarray(high, float))

    def clear(self, low, high, margin: Real) -> bool:
        """Whether a box is clear of all taken ones, `margin` apart sideways."""
        gap = np.array([margin, margin, -0.001])
        return not any(np.all(low - gap < h) and np.all(high + gap > l) for l, h in zip(self.low, self.high))

    def add(self, item: Item, at, yaw: Real, margin: Real) -> bool:
        """Places the item there if that is inside the room and clear."""
        w, d, h = item.size
        c, s = abs(np.cos(yaw)), abs(np.sin(yaw))
        half = np.array([(w * c + d * s) / 2, (w * s + d * c) / 2, 0])
        low, high = np.asarray(at) - half, np.asarray(at) + half + [0, 0, h]
        room = np.array(self.size) / 2
        if np.any(np.abs([*low[:2], *high[:2]]) > [*room[:2] + 1e-6] * 2) or high[2] > self.size[2]:
            return False
        if not self.clear(low, high, margin):
            return False
        if item.stands != "flat":
            self.block(low, high)
        if item.surface is not None:
            inset = 0.03
            shrink = rotation(yaw) @ np.array([w / 2 - inset, d / 2 - inset, 0])
            self.tops.append((np.array([*at[:2], at[2] + h * item.surface]), np.abs(shrink)))
        self.placed.append(item.place(tuple(float(v) for v in at), float(yaw)))
        return True

    def against_wall(self, item: Item, z: Real, margin: Real, tries: int = 60) -> bool:
        """Somewhere along a random wall, back to it."""
        for _ in range(tries):
            side = str(self.rng.choice(list(WALLS)))
            yaw = WALLS[side]
            length, depth = (self.size[0], self.size[1]) if side in ("north", "south") else (self.size[1], self.size[0])
            reach = length / 2 - item.size[0] / 2 - 0.06
            if reach <= 0:
                continue
            gap = 0.0 if z > 0 else 0.02
            local = np.array([self.rng.uniform(-reach, reach), depth / 2 - item.size[1] / 2 - gap, z])
            if self.add(item, rotation(yaw) @ local, yaw, margin):
                return True
        return False

    def on_floor(self, item: Item, margin: Real = 0.12, tries: int = 80) -> bool:
        """Anywhere on the floor, turned at random (rugs: square to the room, near the middle)."""
        for _ in range(tries):
            flat = item.stands == "flat"
            spread = 0.15 if flat else 0.46
            at = np.array([*(self.rng.uniform(-spread, spread, 2) * self.size[:2]), 0.0])
            if item.size[2] > 1.0:  # tall things stand at the edge, out of everybody's way
                side = int(self.rng.integers(2))
                at[side] = np.sign(at[side]) * (self.size[side] / 2 - 0.06 - max(item.size[:2]) / 2)
            yaw = 0.0 if flat else self.rng.uniform(-np.pi, np.pi)
            if flat:
                self.placed.append(item.place(tuple(at), yaw))
                return True
            if self.add(item, np.array(at), yaw, margin):
                return True
        return False

    def on_top(self, item: Item, tries: int = 60) -> bool:
        """On a table, desk or cabinet."""
        for _ in range(tries if self.tops else 0):
            middle, half = self.tops[int(self.rng.integers(len(self.tops)))]
            small = half[:2] - max(item.size[:2]) / 2
            if np.any(small < 0):
                continue
            at = middle + [*self.rng.uniform(-small, small), 0]
            if self.add(item, at, self.rng.uniform(-0.6, 0.6), 0.02):
                return True
        return False


def random_room(seed: int, items: Callable[[np.random.Generator], list[Item]] = procedural_items) -> Room:
    """A room that only the seed (and the catalogue of things) decides."""
    rng = np.random.default_rng([seed, 5])
    size = (float(rng.uniform(4.2, 5.6)), float(rng.uniform(3.7, 4.6)), float(rng.uniform(2.45, 2.8)))
    taken = Arrangement(rng, size)
    white = paint("#ebe7de")
    sides = list(rng.permutation(list(WALLS)))
    at_walls = {}
    for name, side in (("window", sides[0]), ("door", sides[1])):
        kind, yaw = KINDS[name], WALLS[side]
        item = kind_item(rng, kind)
        length, depth = (size[0], size[1]) if side in ("north", "south") else (size[1], size[0])
        wide, deep, high = item.size
        if name == "window":
            high = min(high, size[2] - 1.15)
        reach = length / 2 - wide / 2 - 0.3
        local = np.array([rng.uniform(-reach, reach), depth / 2 - deep / 2, kind.hang])
        front = np.array([[-wide / 2, -0.9 if name == "door" else -0.1, 0], [wide / 2, deep / 2, high]]) + local
        corners = front @ rotation(yaw).T
        taken.block(corners.min(0), corners.max(0))
        placed = item.place(tuple(float(v) for v in rotation(yaw) @ local), yaw)
        look = replace(placed.look, main=white if name == "window" else placed.look.main)
        placed = replace(
            placed,
            phrase=name if name == "window" else placed.phrase,
            size=(placed.size[0], placed.size[1], min(placed.size[2], high)),
            look=look,
        )
        at_walls[name] = (side, local[0], placed)
    lamp_at = (0.0, 0.0, size[2] - 0.09)
    taken.block([-0.35, -0.35, size[2] - 0.12], [0.35, 0.35, size[2]])
    chosen = items(rng)
    order = {"wall": 0, "hung": 1, "floor": 2, "flat": 3, "top": 4}
    for item in sorted(chosen, key=lambda i: (order.get(i.stands, 2), -i.size[0] * i.size[1])):
        if item.stands in ("wall", "hung"):
            taken.against_wall(item, item.hang if item.stands == "hung" else 0.0, 0.06)
        elif item.stands == "top":
            taken.on_top(item) or (max(item.size) > 0.3 and taken.on_floor(item))
        else:
            taken.on_floor(item)
    side, along, window = at_walls["window"]
    door_side, door_along, door = at_walls["door"]
    lamp = Placed("ceiling light", "ceiling light", lamp_at, 0.0, (0.55, 0.55, 0.09), "disc", Look(white))
    objects = [window, door, *taken.placed, lamp]
    half = door.size[0] / 2
    warmth = rng.uniform(0.8, 1.0)
    day = rng.uniform(5.0, 9.5)
    sun_yaw = WALLS[side] + np.pi / 2 + rng.uniform(-0.6, 0.6)
    sun = (np.cos(sun_yaw), np.sin(sun_yaw), rng.uniform(0.5, 1.1))
    sun_light = float(rng.choice([0.0, 3.0, 4.5]))
    lights = Lighting(
        (
            window_light(window.at, window.size, window.yaw, (day, day * 1.09, day * 1.25)),
            lamp_light(lamp_at, 0.245, (12.0, 12.0 * (0.5 + 0.5 * warmth), 12.0 * warmth * 0.8)),
        ),
        sun=tuple(float(v) for v in sun),
        sun_light=(sun_light, 0.9 * sun_light, 0.72 * sun_light),
    )
    walls_shell = shell(size, *surfaces(rng), white, gaps=((door_side, door_along - half, door_along + half),))
    plan = CameraPlan(radii=(size[0] / 2 - 0.7, size[1] / 2 - 0.7))
    return Room(f"room {seed}", size, walls_shell, tuple(objects), lights, plan)


def surfaces(rng: np.random.Generator) -> tuple[Material, Material, Material]:
    """Floor, walls and ceiling."""
    floors = [
        lambda: mix("#c69a66", "#a97c4b", "planks", 0.16),
        lambda: mix("#8a6647", "#6c4c33", "planks", 0.13),
        lambda: mix("#d4cec2", "#aaa396", "tiles", 0.4),
        lambda: mix("#a79c8d", "#938878", "weave", 0.08),
        lambda: wood("#b89468", "#a27c50", scale=0.1),
    ]
    name = str(rng.choice(["beige", "white", "grey", "green", "blue", "yellow", "pink"]))
    tint = 0.45 * np.array(linear(COLOURS[name])) + 0.55 * np.array(linear("#e9e5dc"))
    base = tuple(float(v) for v in tint)
    pattern = str(rng.choice(["plain", "plaster", "damask", "stripes"]))
    scale = {"plain": 0.1, "plaster": 0.18, "damask": 0.36, "stripes": 0.22}[pattern]
    walls = Material(base, tuple(0.88 * v for v in base), pattern, scale)
    return floors[int(rng.integers(len(floors)))](), walls, paint("#efece6")
