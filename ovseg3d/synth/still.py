"""One object before a backdrop: its pose, light and camera, and the captions that are true of the image.

The object stands in its canonical frame at the origin; the camera moves around it. Metres, z up.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from ovseg3d.synth import captions
from ovseg3d.synth.cameras import look
from ovseg3d.synth.captions import Said, saying
from ovseg3d.synth.holdout import HELD_COLOURS, HELD_LIGHTS, HELD_TEXTURES, Choice, Pool, choose, pick
from ovseg3d.synth.kinds import KINDS, Look
from ovseg3d.synth.looks import COLOURS, FLOORS, LIGHTS, WALLS, painted
from ovseg3d.synth.materials import Material, Real, linear, triple
from ovseg3d.synth.quick import MAIN, SECOND, Model, Pinhole, Plane, Put, Shot, Sun, Surround, pack, render
from ovseg3d.synth.render import develop

VARIANTS = 8  # individuals of each style whose triangles are kept; sizes and looks still differ every time
MAIN_SHARE = 0.3  # a thing's colour is told when at least this much of what is seen of it has it


@dataclass(frozen=True)
class Thing:
    """One individual: what it is, how it looks, how large."""

    choice: Choice
    said: Said
    model: Model
    scale: np.ndarray
    main: Material
    second: Material

    @property
    def seen(self) -> bool:
        return self.choice.seen

    @property
    def low(self) -> np.ndarray:
        return self.model.low * self.scale

    @property
    def high(self) -> np.ndarray:
        return self.model.high * self.scale

    def put(self, at, yaw: Real) -> Put:
        c, s = np.cos(yaw), np.sin(yaw)
        turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])
        return Put(self.model, turn * self.scale, np.asarray(at, float), self.main, self.second)


@lru_cache(maxsize=2048)
def model_of(kind: str, style: str, variant: int) -> Model:
    """The triangles of one individual of a style, with its materials left open."""
    rng = np.random.default_rng([len(kind), *kind.encode(), *style.encode(), variant])
    size = triple(rng.uniform(*span) for span in KINDS[kind].sizes_of(style))
    return pack(KINDS[kind].make(size, style, Look(MAIN, SECOND, int(rng.integers(1 << 30)))))


def some_thing(
    rng: np.random.Generator,
    kind: str,
    pool: Pool,
    style: str | None = None,
    colour: str | None = None,
    first_variant: int = 0,
):
    """A random individual of a kind from a pool; a colour or style may be given.

    Args:
        rng: the source of chance.
        kind: the name of a kind.
        pool: colours, textures and styles to draw from.
        style, colour: given ones; None draws.
        first_variant: of the VARIANTS individuals to draw from; VARIANTS gives those that no encoder was trained on.
    """
    choice = choose(rng, kind, pool, style, colour)
    model = model_of(kind, choice.style, first_variant + int(rng.integers(VARIANTS)))
    whole, tall = rng.uniform(0.88, 1.14), rng.uniform(0.84, 1.2)
    upright = min(KINDS[kind].sizes_of(choice.style)[2]) > 0.3
    scale = np.array([whole, whole, whole * (tall if upright else 1.0)])
    size = (model.high - model.low) * scale
    long = float(size.max())
    said = saying(choice, size)
    second = painted(rng, pick(rng, pool.colours), pick(rng, ("plain", "plain", "wood", "glossy")), long)
    return Thing(choice, said, model, scale, painted(rng, choice.colour, choice.texture, long), second)


class Scene:
    """One thing, what is around it, its light and its camera."""

    def __init__(self, rng: np.random.Generator, thing: Thing, pool: Pool, unseen: bool, size: int) -> None:
        self.rng, self.thing, self.pool, self.unseen, self.size = rng, thing, pool, unseen, size
        self.known = KINDS[thing.said.kind]
        self.stands = self.known.stands_of(thing.said.style or "")
        self.held = False
        self.long = float((thing.high - thing.low).max())
        self.planes: list[Plane] = []
        self.floor: Said | None = None
        self.wall: Said | None = None
        self._camera()
        self._planes()
        self._light()
        self._others()

    def _camera(self) -> None:
        rng, stands = self.rng, self.stands
        self.backed = stands == "hung" or (stands == "wall" and rng.random() < 0.6)
        # Seen from above by 10 degrees below to 60 above; things at a wall from its free side only.
        front = rng.uniform(-70, 70) if self.backed else rng.uniform(-180, 180)
        if not self.backed and rng.random() < 0.55:
            front = rng.normal(0, 45)
        self.free = stands != "ceiling" and not self.backed and rng.random() < 0.2
        lowest = -10 if self.free or stands == "hung" else 3
        elevation = rng.uniform(-60, -3) if stands == "ceiling" else rng.triangular(lowest, 20, 60)
        if stands == "flat":
            elevation = rng.uniform(20, 60)
        yaw, pitch = np.radians(front - 90), np.radians(elevation)
        self.towards = np.array([np.cos(yaw) * np.cos(pitch), np.sin(yaw) * np.cos(pitch), np.sin(pitch)])
        angle = np.radians(rng.uniform(30, 65))
        self.focal = self.size / 2 / np.tan(angle / 2)
        low, high = self.thing.low, self.thing.high
        corners = np.array([[x, y, z] for x in (low[0], high[0]) for y in (low[1], high[1]) for z in (low[2], high[2])])
        fill = rng.uniform(0.55, 1.0) if rng.random() < 0.8 else rng.uniform(1.0, 1.4)
        middle, distance = (low + high) / 2, self.long / angle
        c2w = look(np.zeros(3), np.arctan2(-self.towards[1], -self.towards[0]), -pitch)
        for _ in range(4):
            eye = middle + self.towards * distance
            seen = (corners - eye) @ c2w[:3, :3]
            ahead = np.maximum(seen[:, 2], 0.02 * distance)
            xy = seen[:, :2] / ahead[:, None] * self.focal
            wide = float(np.ptp(xy, axis=0).max()) / self.size
            distance = max(distance * wide / fill, 0.55 * self.long)
            middle = middle + c2w[:3, :3][:, :2] @ ((xy.min(0) + xy.max(0)) / 2 / self.focal * distance * 0.5)
        loose = 0.1 if fill < 1 else 0.2
        shift = rng.uniform(-loose, loose, 2) * self.size / self.focal * distance
        eye = middle + self.towards * distance + c2w[:3, :2] @ shift
        if not self.free and stands not in ("ceiling", "hung"):
            eye[2] = max(eye[2], 0.06 * distance)
        self.c2w, self.distance = c2w, distance
        self.c2w[:3, 3] = eye
        roll = np.radians(rng.normal(0, 3))
        c, s = np.cos(roll), np.sin(roll)
        self.c2w[:3, :3] = self.c2w[:3, :3] @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])

    def _surface(self, names, scale: Real) -> tuple[Material, Said]:
        """A wall's or floor's material and what can be said of it."""
        texture = pick(self.rng, tuple(n for n in names if n in self.pool.textures))
        colour = pick(self.rng, self.pool.colours)
        self.held |= texture in HELD_TEXTURES or colour in HELD_COLOURS
        return painted(self.rng, colour, texture, scale), Said("floor", colour, texture)

    def _planes(self) -> None:
        rng, thing, stands = self.rng, self.thing, self.stands
        low, high = thing.low, thing.high
        grain = float(np.clip(self.long * rng.uniform(0.8, 2.5), 0.15, 2.5))
        angle = rng.uniform(-np.pi, np.pi) if not self.backed else 0.0
        c, s = np.cos(angle), np.sin(angle)
        if stands == "ceiling":
            material, _ = self._surface(("plain", "plaster"), 1.5)
            self.planes.append(Plane((0, 0, float(high[2])), (0, 0, -1), (c, s, 0), (-s, c, 0), material))
            return
        if self.free:
            return
        if stands != "hung" or self.known.hang < 0.2:
            material, said = self._surface(FLOORS, grain)
            self.planes.append(Plane((0, 0, -float(self.known.hang if stands == "hung" else 0.0)), (0, 0, 1),
                                     (c, s, 0), (-s, c, 0), material))  # fmt: skip
            self.floor = said
        if self.backed:
            normal, point = np.array([0, -1.0, 0]), np.array([0, high[1] + 0.004, 0])
        elif rng.random() < 0.6:
            turn = np.arctan2(self.towards[1], self.towards[0]) + rng.uniform(-0.7, 0.7)
            normal = np.array([np.cos(turn), np.sin(turn), 0])
            reach = np.abs(normal[:2]) @ np.maximum(np.abs(low[:2]), np.abs(high[:2]))
            point = -normal * (reach + rng.uniform(0.03, 1.2) * self.long)
        else:
            return
        self.normal, self.point = normal, point
        material, said = self._surface(WALLS, max(grain, 0.6))
        along = np.cross([0, 0, 1.0], normal)
        self.planes.append(Plane(tuple(point), tuple(normal), tuple(along), (0, 0, 1), material))
        self.wall = Said("wall", said.colour, said.texture)

    def _light(self) -> None:
        rng = self.rng
        names = HELD_LIGHTS if self.unseen and rng.random() < 0.4 else self.pool.lights
        name = pick(rng, names)
        self.held |= name in HELD_LIGHTS
        light = LIGHTS[name]
        azimuth, elevation = np.radians(rng.uniform(*light.azimuth)), np.radians(rng.uniform(*light.elevation))
        if light.both_sides and rng.random() < 0.5:
            azimuth = -azimuth
        base = np.arctan2(self.towards[1], self.towards[0])

        def way(a, e):
            return np.array([np.cos(base + a) * np.cos(e), np.sin(base + a) * np.cos(e), np.sin(e)])

        up = -1.0 if self.stands == "ceiling" else 1.0
        tint = np.array(light.tint) * rng.uniform(0.95, 1.05, 3)
        key = way(azimuth, elevation) * [1, 1, up]
        rest = 1 - light.key
        self.suns = [Sun(key, tuple(tint * 3.0 * light.key))]
        for k in range(3):
            side = way(azimuth + 2.1 * (k + 0.5) + rng.uniform(-0.4, 0.4), np.radians(rng.uniform(25, 70))) * [1, 1, up]
            self.suns.append(Sun(side, tuple(tint[::-1] * 0.75 * rest)))
        even = 0.55 * rest + 0.12
        self.sky, self.ground = tuple(even * tint[::-1]), tuple(even * 0.55 * tint)
        one, two = (np.array(linear(COLOURS[pick(rng, self.pool.colours)])) for _ in range(2))
        self.backdrop = tuple(one * rng.uniform(0.3, 1.4)), tuple((0.6 * one + 0.4 * two) * rng.uniform(0.3, 1.4))

    def _others(self) -> None:
        """Things around the main one: beside it and behind it, of about its own size."""
        rng, thing = self.rng, self.thing
        self.puts = [thing.put((0, 0, 0), 0.0)]
        self.beside: list[Thing] = []
        if self.free or self.stands in ("hung", "ceiling", "flat") or rng.random() < 0.35:
            return
        towards = np.arctan2(self.towards[1], self.towards[0])
        taken = [(np.zeros(2), float(np.hypot(*(thing.high - thing.low)[:2])) / 2)]
        for _ in range(int(rng.integers(1, 4))):
            kind = pick(rng, tuple(KINDS))
            known = KINDS[kind]
            long = max(sum(span) / 2 for span in known.sizes)
            if known.stands in ("hung", "ceiling", "flat") or not 0.25 < long / self.long < 2.2:
                continue
            other = some_thing(rng, kind, self.pool)
            reach = float(np.hypot(*(other.high - other.low)[:2])) / 2
            angle = towards + pick(rng, (-1, 1)) * rng.uniform(0.9, np.pi)
            way = np.array([np.cos(angle), np.sin(angle)])
            at = way * (taken[0][1] + reach + rng.uniform(0.02, 0.5) * self.long)
            if any(np.hypot(*(at - p)) < r + reach for p, r in taken):
                continue
            if self.wall is not None and (np.array([*at, 0]) - self.point) @ self.normal < reach:
                continue
            taken.append((at, reach))
            yaw = rng.uniform(-np.pi, np.pi)
            if known.stands == "wall" or rng.random() < 0.3:
                yaw = towards + np.pi / 2 + rng.normal(0, 0.5)
            self.puts.append(other.put((*at, 0), float(yaw)))
            self.beside.append(other)
            self.held |= not other.seen

    def shoot(self) -> tuple[np.ndarray, Shot]:
        """The picture, and what each of its samples shows; index 0 is the thing itself."""
        rng = self.rng
        surround = Surround(self.sky, self.ground, self.backdrop)
        shot = render(self.puts, self.planes, self.suns, surround, Pinhole(self.c2w, self.size, self.focal))
        share = self._shares(shot)
        if len(self.puts) > 1 and share[1] < max(0.06, share[2:].max()):
            self.puts, self.beside = self.puts[:1], []
            return self.shoot()
        # Exposed for the light that falls on things, so that black stays black and white white.
        light = 0.55 * sum(np.mean(s.radiance) for s in self.suns) + 0.5 * np.mean([self.sky, self.ground])
        return develop(shot.radiance, float(rng.uniform(0.6, 1.15) / light)), shot

    def _shares(self, shot: Shot) -> np.ndarray:
        """Share of the samples: of the backdrop, then of each thing."""
        return np.bincount(shot.owner.ravel() + 1, minlength=len(self.puts) + 1) / shot.owner.size

    def picture(self) -> tuple[np.ndarray, tuple[str, ...], str | None]:
        """The picture, its captions, and the thing's colour where enough of it shows."""
        rng = self.rng
        image, shot = self.shoot()
        share = self._shares(shot)
        mains = np.bincount(shot.owner[shot.main] + 1, minlength=len(self.puts) + 1) / shot.owner.size
        said = [t.said for t in (self.thing, *self.beside)]
        for k, words in enumerate(said):
            if mains[k + 1] < MAIN_SHARE * share[k + 1]:
                said[k] = replace(words, colour=None, texture=None)
        others = [(self._relation(shot.owner, k), said[k]) for k in range(1, len(said)) if share[k + 1] > 0.02]
        floor = self.floor if share[0] > 0.15 else None
        wall = self.wall if share[0] > 0.15 else None
        return image, captions.thing_captions(rng, said[0], others, floor, wall), said[0].colour

    def _relation(self, owner: np.ndarray, k: int) -> str:
        """Where the main thing is, beside another one in the picture."""
        columns = [np.flatnonzero((owner == j).any(0)) for j in (0, k)]
        apart = (columns[0].mean() - columns[1].mean()) / owner.shape[1]
        if abs(apart) > 0.22 and self.rng.random() < 0.6:
            return "to the right of" if apart > 0 else "to the left of"
        gap = np.linalg.norm(self.puts[k].shift[:2])
        if abs(apart) < 0.12 and gap > 0.4 * self.long:
            return "in front of"
        return "next to"
