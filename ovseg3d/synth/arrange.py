"""Placement of objects in a room: against walls, on the floor, on tops, at tables.

Boxes are axis-aligned, in the room's frame, metres. An object is tried at random positions until its box overlaps no
other; objects without a free position are left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ovseg3d.synth.geometry import rotation
from ovseg3d.synth.materials import Real, Triple, triple
from ovseg3d.synth.rooms import Placed

WALLS = {"north": 0.0, "west": np.pi / 2, "south": np.pi, "east": -np.pi / 2}
TABLES = ("table", "desk", "counter")


@dataclass(frozen=True)
class Item:
    """Something that can be placed: its box (width, depth, height) and how it stands (see kinds.base)."""

    category: str
    size: Triple
    stands: str
    hang: Real
    surface: Real | None
    place: Callable[[Triple, float], Placed]


class Arrangement:
    """Boxes that are taken, and attempts to add to them."""

    def __init__(self, rng: np.random.Generator, size: Triple) -> None:
        self.rng, self.size = rng, size
        self.low: list[np.ndarray] = []
        self.high: list[np.ndarray] = []
        self.tops: list[tuple[np.ndarray, np.ndarray, float]] = []
        self.tables: list[tuple[Item, np.ndarray, float]] = []
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
            self.tops.append((np.array([*at[:2], at[2] + h * item.surface]), np.abs(shrink), float(yaw)))
        if item.category in TABLES:
            self.tables.append((item, np.asarray(at, float), float(yaw)))
        self.placed.append(item.place(triple(at), float(yaw)))
        return True

    def at_table(self, item: Item, tries: int = 12) -> bool:
        """Before a table or a desk, facing it."""
        for _ in range(tries if self.tables else 0):
            table, at, yaw = self.tables[int(self.rng.integers(len(self.tables)))]
            # A chair's back is at +y, so one on the table's front side turns half around to face it.
            sides = (0.0,) if table.stands == "wall" else (0.0, np.pi)
            turn = yaw + sides[int(self.rng.integers(len(sides)))]
            away = table.size[1] / 2 + item.size[1] / 2 + self.rng.uniform(0.03, 0.15)
            aside = self.rng.uniform(-0.3, 0.3) * max(0.0, table.size[0] - item.size[0])
            place = at + rotation(turn) @ np.array([aside, -away, 0.0])
            if self.add(item, np.array([*place[:2], 0.0]), turn + np.pi + self.rng.normal(0, 0.12), 0.0):
                return True
        return False

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
            middle, half, turn = self.tops[int(self.rng.integers(len(self.tops)))]
            # Wide things stand square to the top that carries them; small ones anyhow.
            yaw = turn + (0.0 if item.size[0] > 0.42 else self.rng.uniform(-0.5, 0.5))
            c, s = abs(np.cos(yaw)), abs(np.sin(yaw))
            w, d, _ = item.size
            small = half[:2] - np.array([w * c + d * s, w * s + d * c]) / 2
            if np.any(small < 0):
                continue
            at = middle + [*self.rng.uniform(-small, small), 0]
            if self.add(item, at, yaw, 0.02):
                return True
        return False
