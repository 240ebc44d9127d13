"""Images of parts of furnished rooms, with captions that name only what is visible in them.

A room is built and its light baked once, more coarsely than in written scenes; then views are cheap. Visibility is
counted in samples: an object is named only if it covers a fair part of the image.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from PIL import Image

from ovseg3d.synth import captions
from ovseg3d.synth.cameras import look, on_path
from ovseg3d.synth.captions import Said, saying
from ovseg3d.synth.furnish import random_room
from ovseg3d.synth.holdout import ALL, SEEN, UNSEEN, Split
from ovseg3d.synth.quick import View, look_at_room, shade_room
from ovseg3d.synth.render import Detail, Tracer, develop
from ovseg3d.synth.rooms import Room
from ovseg3d.synth.world import Flat, flatten, trace

ROOM_EXAMPLES = 192
POOLS = {"seen": SEEN, "unseen": UNSEEN, "pairs": ALL}
COARSE = Detail(spacing=0.14, most_points=70_000, light_rounds=3, bounce_rounds=5, bounces=1, smooth_direct=True)
NAMED = 0.012  # a thing that covers less of the picture is not named
FILLS, AIMED = 0.3, 0.12  # what covers more of it is what it is of; less is enough if the camera was turned to it
MAIN_SHARE = 0.3  # its colour is told when at least this much of what is seen of it has it


@dataclass(frozen=True)
class Furnished:
    """A room ready for pictures: per face its thing (0: the room itself), whether of its main material."""

    room: Room
    flat: Flat
    tracer: Tracer
    face_instance: np.ndarray
    face_label: np.ndarray
    face_main: np.ndarray
    centres: np.ndarray
    spans: np.ndarray


@lru_cache(maxsize=2)
def room_of(seed: int, number: int, split: Split) -> Furnished:
    """The room of that number; rooms of examples never have the seeds of rooms that people ask for by hand."""
    draw = np.random.default_rng([seed, number, sorted(POOLS).index(split), 23])
    room = random_room(int(draw.integers(10**8, 10**12)), pool=POOLS[split])
    flat = flatten(room)
    tracer = trace(flat, room, detail=COARSE)
    tracer.bake()
    focal = 0.5 / np.tan(room.cameras.field_of_view / 2)
    tracer.meter([on_path(room.cameras, k / 6) for k in range(6)], focal)
    main = [
        number > 0 and part.material is room.objects[number - 1].look.main
        for part, number in zip(flat.parts, flat.part_instance)
    ]
    counts = [len(p.soup.points) for p in flat.parts]
    centres = np.array([o["center"] for o in flat.objects])
    spans = np.array([o["size"] for o in flat.objects])
    return Furnished(room, flat, tracer, flat.face_instance, flat.face_label, np.repeat(main, counts), centres, spans)


def room_picture(
    made: Furnished, rng: np.random.Generator, size: int
) -> tuple[np.ndarray, tuple[str, ...], Said | None]:
    """A picture (size, size, 3), its captions, and the thing that it is of, if there is one."""
    # Crops of small photos are coarse, so some pictures are drawn small and enlarged.
    drawn = size if rng.random() < 0.55 else max(16, int(size * rng.uniform(0.3, 0.8)))
    tries = 0
    while True:
        c2w, focal, target, wide = _camera(made, rng)
        view = look_at_room(made.tracer, c2w, drawn, focal * drawn)
        tries += 1
        if _usable(made, view, target) or tries == 8:
            break
    radiance = shade_room(made.tracer, view)
    image = develop(radiance, made.tracer.exposure * float(rng.uniform(0.8, 1.25)))
    if drawn != size:
        image = np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC))
    said, main = _captions(made, rng, view, wide, target)
    return image, said, main


def _camera(made: Furnished, rng: np.random.Generator):
    """A level camera somewhere in the room: c2w, focal length in picture widths, what it aims at, whether wide."""
    room = made.room
    eye = np.array([*(rng.uniform(-0.42, 0.42, 2) * room.size[:2]), rng.uniform(1.0, 1.8)])
    way = rng.random()
    if way < 0.3:
        # The whole of what one sees from here, across the middle.
        yaw = np.arctan2(-eye[1], -eye[0]) + rng.normal(0, 0.6)
        return look(eye, yaw, rng.uniform(-0.5, 0.0)), 0.5 / np.tan(np.radians(rng.uniform(55, 80)) / 2), None, True
    if way < 0.5:
        # Any way, close: often a bit of wall, floor or ceiling, and nothing else tells these from things.
        yaw, pitch = rng.uniform(-np.pi, np.pi), rng.uniform(-1.0, 0.8)
        return look(eye, yaw, pitch), 0.5 / np.tan(np.radians(rng.uniform(15, 40)) / 2), None, False
    target = int(rng.integers(len(made.centres)))
    centre, span = made.centres[target], made.spans[target]
    to = centre + rng.uniform(-0.2, 0.2, 3) * span - eye
    distance = float(np.linalg.norm(to))
    fill = rng.uniform(0.25, 0.6) if way < 0.72 else rng.uniform(0.6, 1.15)
    focal = float(np.clip(fill * distance / max(0.08, float(np.sort(span)[1:].mean())), 0.6, 9.0))
    c2w = look(eye, np.arctan2(to[1], to[0]), float(np.arcsin(np.clip(to[2] / distance, -0.97, 0.97))))
    return c2w, focal, target, False


def _usable(made: Furnished, view: View, target: int | None) -> bool:
    fifth = len(view.depth_z) // 5
    if view.depth_z.min() < 0.2 or np.partition(view.depth_z, fifth)[fifth] < 0.55:
        return False
    if target is None:
        return True
    hit = made.face_instance[view.face] == target + 1
    return bool(np.mean(hit & (view.face >= 0)) > 0.05)


def _captions(made: Furnished, rng, view: View, wide: bool, target: int | None) -> tuple[tuple[str, ...], Said | None]:
    """What the samples of a view show, in words."""
    hit = view.face >= 0
    instance = np.where(hit, made.face_instance[view.face], -1)
    number = len(made.centres)
    share = np.bincount(instance[hit], minlength=number + 1) / len(instance)
    main = np.bincount(instance[hit & made.face_main[view.face]], minlength=number + 1) / len(instance)
    at = _middles(instance, number + 1, view.size * view.side)[1:]
    # What lies in the middle is told before what is only larger: 1 is half of the picture's width.
    weight = share[1:] ** 0.7 * np.exp(-2.0 * (at**2).sum(1))
    order = [int(k) for k in np.argsort(-weight, kind="stable") if share[k + 1] > NAMED]
    shown = []
    for k in order:
        placed = made.room.objects[k]
        assert placed.choice is not None, "things of a random room are drawn from a pool"
        said = saying(placed.choice, placed.size)
        if main[k + 1] < MAIN_SHARE * share[k + 1]:
            said = replace(said, colour=None, texture=None)
        if said.texture == "glossy":  # these pictures have no mirrors
            said = replace(said, texture=None)
        if share[k + 1] < 0.06:
            said = replace(said, texture=None, shape=None)
        shown.append(said)
    surfaces = []
    label = np.where(hit & (instance == 0), made.face_label[view.face], 0)
    for index in np.argsort(-np.bincount(label, minlength=len(made.flat.classes) + 1)[1:], kind="stable"):
        name = made.flat.classes[index]
        if name in ("floor", "wall", "ceiling") and np.mean(label == index + 1) > 0.1:
            colour, texture = made.room.surfaces.get(name, ("white", "plain"))
            surfaces.append(Said(name, colour, texture))
    middles = [float(at[k, 0]) for k in order]
    relations = _relations(made, order, middles)
    room = made.room.furnished_as if wide and len(shown) >= 3 else None
    top = shown[0] if shown and share[order[0] + 1] > (AIMED if order[0] == target else FILLS) else None
    return captions.room_captions(rng, room, shown, relations, surfaces, top), top


def _middles(instance: np.ndarray, count: int, wide: int) -> np.ndarray:
    """The mean place (count, 2) of each thing's samples, right and down from the middle, in half widths."""
    hit = np.flatnonzero(instance >= 0)
    many = np.maximum(np.bincount(instance[hit], minlength=count), 1)
    places = (hit % wide, hit // wide)
    means = [np.bincount(instance[hit], weights=p + 0.5, minlength=count) / many for p in places]
    return np.stack(means, 1) / (wide / 2) - 1.0


def _relations(made: Furnished, order: list[int], middles: list[float]) -> list[tuple[int, str, int]]:
    """What is on, or beside, what: true in the room, and of things that the picture shows."""
    found = []
    for a, k in enumerate(order[:5]):
        for b, j in enumerate(order[:5]):
            if a == b:
                continue
            low = made.centres[k] - made.spans[k] / 2
            top = made.centres[j] + made.spans[j] / 2
            over = np.hypot(*(made.centres[k] - made.centres[j])[:2]) < 0.5 * max(made.spans[j][:2])
            if over and abs(low[2] - top[2]) < 0.02 and made.room.objects[j].category != "rug":
                found.append((a, "on", b))
            elif a < b and not over:
                gap = np.linalg.norm((made.centres[k] - made.centres[j])[:2])
                if gap < 0.75 * (max(made.spans[k][:2]) + max(made.spans[j][:2])):
                    found.append((a, "next to", b))
                elif abs(middles[a] - middles[b]) > 0.4:
                    found.append((a, "to the left of" if middles[a] < middles[b] else "to the right of", b))
    return sorted(found, key=lambda r: r[1] != "on")
