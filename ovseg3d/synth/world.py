"""A room flattened for the ray tracer, with the class and instance of each face, and the objects' boxes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ovseg3d.synth.geometry import Part
from ovseg3d.synth.render import Detail, Tracer
from ovseg3d.synth.rooms import Room


@dataclass(frozen=True)
class Flat:
    """Parts in the world frame; per part its label (1..n, index into classes) and instance (0 = the shell)."""

    parts: tuple[Part, ...]
    part_label: np.ndarray
    part_instance: np.ndarray
    classes: tuple[str, ...]
    objects: tuple[dict, ...]

    @property
    def face_label(self) -> np.ndarray:
        return np.repeat(self.part_label, [len(p.soup.points) for p in self.parts])

    @property
    def face_instance(self) -> np.ndarray:
        return np.repeat(self.part_instance, [len(p.soup.points) for p in self.parts])


def flatten(room: Room) -> Flat:
    """All parts in the world frame. Classes are the shell's then the objects' categories, in order of appearance."""
    parts, names, instances, objects = [], [], [], []
    for name, part in room.shell:
        parts.append(part)
        names.append(name)
        instances.append(0)
    for number, placed in enumerate(room.objects, start=1):
        own = placed.canonical_parts()
        corners = np.concatenate([p.soup.points.reshape(-1, 3) for p in own])
        low, high = corners.min(0), corners.max(0)
        turn = placed.rotation
        centre = turn @ ((low + high) / 2) + np.asarray(placed.at)
        objects.append(describe(number, placed, centre, high - low, turn))
        for part in own:
            parts.append(part.transformed(turn, np.asarray(placed.at, float)))
            names.append(placed.category)
            instances.append(number)
    classes = tuple(dict.fromkeys(names))
    label = np.array([classes.index(n) + 1 for n in names])
    return Flat(tuple(parts), label, np.array(instances), classes, tuple(objects))


def describe(number: int, placed, centre: np.ndarray, size: np.ndarray, turn: np.ndarray) -> dict:
    """One entry of objects.json (frame: the scene's own, which is z up and metric).

    Things whose look was drawn at random also tell style, color, texture, and whether training may have seen it.

    Args:
        number: the object's id, from 1.
        placed: the object.
        centre: of its box, in the scene's frame, metres.
        size: of its box along its own axes, metres.
        turn: scene-from-object rotation (3, 3).
    """
    from scipy.spatial.transform import Rotation

    from ovseg3d.geometry.rotations import to_wxyz

    own = (
        {}
        if placed.choice is None
        else {
            "style": placed.choice.style,
            "color": placed.choice.colour if placed.choice.shows else None,
            "texture": placed.choice.texture,
            "seen": placed.choice.seen,
        }
    )
    return {
        "id": number,
        "category": placed.category,
        "phrase": placed.phrase,
        "center": [round(float(v), 5) for v in centre],
        "size": [round(float(v), 5) for v in size],
        "rotation_wxyz": [round(float(v), 7) for v in to_wxyz(Rotation.from_matrix(turn))],
        "yaw_rad": round(float(np.arctan2(turn[1, 0], turn[0, 0])), 7),
        "frame": "input",
        **own,
    }


def trace(flat: Flat, room: Room, *, detail: Detail | None = None, seed: int = 0, report=lambda what, done: None):
    """The tracer of a flattened room.

    Args:
        flat: the room's parts.
        room: for its light.
        detail: how carefully it is drawn.
        seed: of the light's samples.
        report: gets a sentence and the share done, 0 to 1.
    """
    return Tracer(flat.parts, room.lighting, detail or Detail(), seed, report)
