"""Shapes that several kinds share: skins over rings, flat outlines, wheels, knobs, drawer fronts.

Canonical frame as in base.py: z up, front -y, metres.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ovseg3d.synth.geometry import Part, box, cylinder, grid_faces, lathe, soup_of
from ovseg3d.synth.materials import Material, Real, paint

CHROME = paint("#b9bdc2", gloss=0.35)
DARK = paint("#26272a")
STEEL = paint("#8f9397", gloss=0.2)
IVORY = paint("#ece6d6")


def ring(w: Real, d: Real, z: Real, *, at=(0.0, 0.0), power: Real = 2.0, n: int = 28) -> np.ndarray:
    """A closed superellipse (n + 1, 3) of full size w x d at height z; power 2 is an ellipse, more is squarer.

    Args:
        w, d: full size in metres.
        z: height in metres.
        at: the middle in x and y.
        power: 2 is an ellipse, more is squarer.
        n: points around.
    """
    t = np.linspace(0, 2 * np.pi, n + 1)
    c, s = np.cos(t), np.sin(t)
    x = np.sign(c) * np.abs(c) ** (2 / power) * w / 2 + at[0]
    y = np.sign(s) * np.abs(s) ** (2 / power) * d / 2 + at[1]
    return np.stack([x, y, np.full(n + 1, float(z))], -1)


def skin(rings: Sequence[np.ndarray], material: Material, *, smooth: Real = 40.0, closed: bool = True) -> Part:
    """A surface through rings of equal length, turned outside out; `closed` caps both ends."""
    rings = [np.asarray(r, dtype=float) for r in rings]
    if closed:
        rings = [np.broadcast_to(rings[0].mean(0), rings[0].shape), *rings]
        rings.append(np.broadcast_to(rings[-1].mean(0), rings[-1].shape))
    faces = grid_faces(np.stack(rings, 1))
    a, b, c = np.moveaxis(faces - faces.mean((0, 1)), 1, 0)
    if np.einsum("ij,ij->", a, np.cross(b, c)) < 0:
        faces = faces[:, ::-1]
    return Part(soup_of(faces, smooth_degrees=smooth, two_sided=not closed), material)


def slab(outline, depth: Real, at, material: Material, *, smooth: Real = 35.0) -> Part:
    """An outline in (x, z), seen whole from its own middle, extruded along y; centred on `at` in y.

    Args:
        outline: (n, 2) points in x and z, metres.
        depth: along y in metres.
        at: where the outline's origin is.
        material: of all of it.
        smooth: degrees, as for `soup_of`.
    """
    outline = np.asarray(outline, dtype=float)
    outline = np.concatenate([outline, outline[:1]])
    rings = [np.stack([outline[:, 0], np.full(len(outline), y), outline[:, 1]], -1) for y in (-depth / 2, depth / 2)]
    return skin(rings, material, smooth=smooth).moved(at)


def basin(rings_out, rings_in, material: Material, *, smooth: Real = 45.0) -> Part:
    """A vessel: rings up the outside, then down the inside."""
    return skin([*rings_out, *rings_in], material, smooth=smooth)


def lying(radius: Real, length: Real, at, material: Material, *, segments: int = 20) -> Part:
    """A cylinder whose axis runs along y (towards the front), its middle at `at`.

    Args:
        radius, length: in metres.
        at: of the middle.
        material: of all of it.
        segments: faces around.
    """
    return cylinder(radius, length, (0, 0, -length / 2), material, segments=segments).moved(at, roll=np.pi / 2)


def wheel(radius: Real, thick: Real, at, rim: Material, hub: Material, *, spokes: int = 10) -> list[Part]:
    """A spoked wheel in the x-z plane, its middle at `at`.

    Args:
        radius: in metres.
        thick: of the tyre in metres.
        at: of the middle.
        rim, hub: materials.
        spokes: how many.
    """
    tyre = [
        (radius - thick, -thick / 2),
        (radius, -thick / 2),
        (radius, thick / 2),
        (radius - thick, thick / 2),
        (radius - thick, -thick / 2),
    ]
    parts = [lathe(tyre, (0, 0, 0), rim, segments=32), cylinder(thick * 0.8, thick * 2, (0, 0, -thick), hub)]
    for k in range(spokes):
        a = 2 * np.pi * k / spokes
        bar = box((radius - thick, thick * 0.12, thick * 0.12), ((radius - thick) / 2, 0, 0), hub)
        parts.append(bar.moved(yaw=a))
    return [p.moved(at, roll=np.pi / 2) for p in parts]


def knob(at, material: Material = DARK, radius: Real = 0.016) -> Part:
    """A round knob that stands out towards the front from `at`."""
    return lying(radius, 0.03, (at[0], at[1] - 0.012, at[2]), material, segments=12)


def bar_handle(length: Real, at, material: Material = STEEL, *, upright: bool = False) -> Part:
    """A straight handle before `at`."""
    size = (0.016, 0.02, length) if upright else (length, 0.02, 0.016)
    low = (0, 0, -size[2] / 2)
    return box(size, low, material).moved((at[0], at[1] - 0.02, at[2]))


def drawers(w, h, columns: int, rows: int, y: Real, z: Real, front: Material, *, pulls: str = "knob") -> list[Part]:
    """A grid of drawer fronts over w x h, the lower edge at z, on a face at y.

    Args:
        w, h: of the face in metres.
        columns, rows: of drawers.
        y, z: the face's depth and lower edge.
        front: material of the fronts.
        pulls: "knob", "bar" or "two" knobs.
    """
    parts = []
    cell_w, cell_h = w / columns, h / rows
    for i in range(columns):
        for j in range(rows):
            x, low = -w / 2 + cell_w * (i + 0.5), z + cell_h * j
            parts.append(box((cell_w - 0.018, 0.022, cell_h - 0.018), (x, y - 0.009, low + 0.009), front))
            middle = (x, y - 0.018, low + cell_h / 2)
            if pulls == "bar":
                parts.append(bar_handle(min(0.16, cell_w * 0.4), middle))
            elif pulls == "two" and cell_w > 0.45:
                parts += [knob((x + s * cell_w * 0.28, middle[1], middle[2])) for s in (-1, 1)]
            else:
                parts.append(knob(middle))
    return parts
