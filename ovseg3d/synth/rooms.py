"""Rooms: a shell of named surfaces, placed objects, light, and the path of the cameras.

The room's floor is z = 0 and its middle is the origin; x runs along `size[0]`, y along `size[1]`. The two
demo rooms are in demo.py, random ones come from furnish.py, those of meshes from assets.py and gazebo.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ovseg3d.synth.geometry import Part, box, grid_faces, rotation, soup_of
from ovseg3d.synth.holdout import Choice
from ovseg3d.synth.kinds import Look, find_kind
from ovseg3d.synth.materials import Material, Pair, Real, Triple
from ovseg3d.synth.render import Lighting, RectLight


@dataclass(frozen=True)
class Placed:
    """One object: what it is and where its canonical frame stands (metres, radians)."""

    category: str
    phrase: str
    at: Triple
    yaw: Real = 0.0
    size: Triple = (1.0, 1.0, 1.0)
    style: str = "plain"
    look: Look | None = None
    tilt: Real = 0.0  # about the object's own x, before yaw
    parts: tuple[Part, ...] | None = None  # given for meshes; procedural kinds build theirs
    linear: np.ndarray | None = None  # a full rotation instead of yaw and tilt
    choice: Choice | None = None  # how it was drawn at random, in names

    @property
    def rotation(self) -> np.ndarray:
        """World-from-object rotation (3, 3)."""
        return rotation(self.yaw, 0.0, self.tilt) if self.linear is None else self.linear

    def canonical_parts(self) -> list[Part]:
        """Parts in the canonical frame."""
        if self.parts is not None:
            return list(self.parts)
        assert self.look is not None, "what has no parts of its own is built from its look"
        return find_kind(self.category).make(self.size, self.style, self.look)


@dataclass(frozen=True)
class CameraPlan:
    """A closed walk: an ellipse around `middle`, walked `turns` times, looking across it.

    Radii shrink to `inner` of themselves halfway; the view sways by `sway` radians and dips by `dip` (from
    the horizontal, with `nod` up and down); eye heights swing between the two `heights`.
    """

    middle: Pair = (0.0, 0.0)
    radii: Pair = (1.9, 1.4)
    heights: Pair = (1.2, 1.7)
    turns: int = 2
    inner: Real = 0.6
    sway: Real = 0.55
    dip: Real = 0.3
    nod: Real = 0.1
    field_of_view: Real = np.radians(70.0)
    target: Triple | None = None  # look about here instead of across
    near: Real = 0.25  # nothing closer than this in any view,
    open: Real = 0.8  # and two thirds of each view farther than this


@dataclass(frozen=True)
class Room:
    """A world ready to be rendered: named shell parts, objects, light, cameras."""

    name: str
    size: Triple
    shell: tuple[tuple[str, Part], ...]
    objects: tuple[Placed, ...]
    lighting: Lighting
    cameras: CameraPlan = field(default_factory=CameraPlan)
    skipped: tuple[str, ...] = ()  # what could not be used, and why
    notes: dict = field(default_factory=dict)  # extra JSON files to write beside transforms.json, by name
    surfaces: dict[str, tuple[str, str]] = field(default_factory=dict)  # floor, wall: colour and texture names
    furnished_as: str | None = None  # "bedroom"


def shell(size, floor: Material, walls: Material, ceiling: Material, trim: Material, gaps=()) -> tuple:
    """Floor, four walls with skirting (left out where a door stands: `gaps` of (side, from, to)), ceiling.

    Args:
        size: width, depth and height in metres; the room's middle is the origin.
        floor, walls, ceiling, trim: materials; trim is the skirting's.
        gaps: (side, from, to) along a wall, where there is no skirting.
    """
    w, d, h = size
    x, y = w / 2, d / 2
    quads = {
        "floor": ([-x, -y, 0], [w, 0, 0], [0, d, 0], floor),
        "ceiling": ([-x, y, h], [w, 0, 0], [0, -d, 0], ceiling),
        "north": ([-x, y, 0], [w, 0, 0], [0, 0, h], walls),
        "south": ([x, -y, 0], [-w, 0, 0], [0, 0, h], walls),
        "east": ([x, y, 0], [0, -d, 0], [0, 0, h], walls),
        "west": ([-x, -y, 0], [0, d, 0], [0, 0, h], walls),
    }
    parts = []
    for name, (corner, a, b, material) in quads.items():
        corner, a, b = (np.array(v, float) for v in (corner, a, b))
        grid = np.array([[corner, corner + b], [corner + a, corner + a + b]])
        part = Part(soup_of(grid_faces(grid)), material)
        parts.append((name if name in ("floor", "ceiling") else "wall", part))
    for side, length, turn in (("north", w, 0.0), ("west", d, np.pi / 2), ("south", w, np.pi), ("east", d, -np.pi / 2)):
        half = (y if side in ("north", "south") else x) - 0.008
        cuts = sorted((f, t) for s, f, t in gaps if s == side)
        edges = [-length / 2, *(v for cut in cuts for v in cut), length / 2]
        for left, right in zip(edges[::2], edges[1::2]):
            if right - left > 0.02:
                strip = box((right - left, 0.016, 0.08), ((left + right) / 2, half, 0), trim)
                parts.append(("wall", strip.moved(yaw=turn)))
    return tuple(parts)


def window_light(at, size, yaw: Real, radiance) -> RectLight:
    """The light that a placed window lets in: a rectangle just before its pane, shining inwards."""
    w, d, h = size
    turn = rotation(yaw)
    pane = d / 2 - 0.006
    corner = turn @ np.array([-w / 2 + 0.06, pane, 0.06]) + at
    a, b = turn @ np.array([w - 0.12, 0, 0]), np.array([0, 0, h - 0.12])
    # a x b points along the window's -y, which is into the room.
    return RectLight(tuple(corner), tuple(a), tuple(b), radiance)


def lamp_light(at, radius: Real, radiance) -> RectLight:
    """A ceiling light's square of the same area as its disc, shining down."""
    s = radius * np.sqrt(np.pi) / 2
    return RectLight((at[0] - s, at[1] + s, at[2] - 0.002), (2 * s, 0, 0), (0, -2 * s, 0), radiance)
