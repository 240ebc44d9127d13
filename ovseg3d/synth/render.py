"""From labelled triangles to photos: bakes the light once, then renders images.

World frame, metres; cameras are OpenCV `c2w`. Runs on the CPU with two Python threads (Warp uses one for a launch);
every output element is computed from its own index, so threads do not change the result.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import warp as wp

from ovseg3d.start_warp import start_warp
from ovseg3d.synth import kernels
from ovseg3d.synth.geometry import Part
from ovseg3d.synth.materials import PATTERNS, Material, Real, Triple, to_linear, to_srgb


@dataclass(frozen=True)
class RectLight:
    """A rectangle that shines from one side: corner, two sides, radiance (linear rgb)."""

    corner: Triple
    side_a: Triple
    side_b: Triple
    radiance: Triple

    @property
    def normal(self) -> np.ndarray:
        across = np.cross(self.side_a, self.side_b)
        return across / np.linalg.norm(across)


@dataclass(frozen=True)
class Lighting:
    """All light of a world. The sun shines through the first rectangle; `open_sky` where nothing blocks."""

    rectangles: tuple[RectLight, ...]
    sun: Triple = (0.0, 0.0, 1.0)
    sun_light: Triple = (0.0, 0.0, 0.0)
    open_sky: Triple = (0.0, 0.0, 0.0)
    sky: Triple = (0.7, 0.8, 0.95)
    exposure: Real = 1.0


@dataclass(frozen=True)
class Detail:
    """How fine the light is baked and the photos are sampled."""

    spacing: Real = 0.04
    most_points: int = 500_000
    light_rounds: int = 4
    bounce_rounds: int = 8
    bounces: int = 2
    pixel_side: int = 3
    smooth_direct: bool = False  # blurs direct light too: softer shadows, but no grain where samples are few


DRAFT = Detail(spacing=1.0, light_rounds=1, bounce_rounds=2, bounces=1, pixel_side=1)
"""Rough light in a second or two, for tests and previews; geometry and labels are the same."""


@dataclass(frozen=True)
class Picture:
    """One photo and its truth: rgb uint8, z-depth in metres (0 = nothing), face index (-1 = nothing)."""

    rgb: np.ndarray
    depth_z: np.ndarray
    face: np.ndarray


@dataclass
class Tracer:
    """A world on the ray tracer. `parts` are in one flat list; `face_part` tells each face's part."""

    parts: Sequence[Part]
    lighting: Lighting
    detail: Detail = field(default_factory=Detail)
    seed: int = 0
    report: Callable[[str, float], None] = lambda what, done: None

    def __post_init__(self) -> None:
        start_warp()
        wp.load_module(kernels, device="cpu")
        soups = [part.soup for part in self.parts]
        self.exposure = self.lighting.exposure
        self.points = np.concatenate([s.points for s in soups]).astype(np.float32)
        self.face_part = np.repeat(np.arange(len(soups)), [len(s.points) for s in soups])
        self.light = None
        world = kernels.World()
        self._keep: list[object] = []
        flat = self._array(self.points.reshape(-1, 3), wp.vec3)
        self.mesh = wp.Mesh(points=flat, indices=self._array(np.arange(3 * len(self.points), dtype=np.int32), wp.int32))
        world.mesh, world.points = self.mesh.id, flat
        world.normals = self._array(np.concatenate([s.normals for s in soups]).reshape(-1, 3), wp.vec3)
        world.grain = self._array(np.concatenate([s.grain for s in soups]).reshape(-1, 3), wp.vec3)
        world.uv = self._array(np.concatenate([s.uv for s in soups]).reshape(-1, 2), wp.vec2)
        world.sky = wp.vec3(*self.lighting.sky)
        self._materials(world)
        self._lattice(world, np.concatenate([np.full(len(s.points), s.two_sided) for s in soups]))
        self.world = world
        self.lights = self._lights()

    def _array(self, values, dtype):
        made = wp.array(np.ascontiguousarray(values), dtype=dtype, device="cpu")
        self._keep.append(made)
        return made

    def _materials(self, world) -> None:
        unique: dict[int, int] = {}
        kinds: list[Material] = []
        for part in self.parts:
            if id(part.material) not in unique:
                unique[id(part.material)] = len(kinds)
                kinds.append(part.material)
        part_material = np.array([unique[id(part.material)] for part in self.parts])
        world.face_material = self._array(part_material[self.face_part].astype(np.int32), wp.int32)
        world.colour = self._array(np.array([m.colour for m in kinds], np.float32), wp.vec3)
        world.second = self._array(np.array([m.second for m in kinds], np.float32), wp.vec3)
        world.pattern = self._array(np.array([PATTERNS.index(m.pattern) for m in kinds], np.int32), wp.int32)
        world.scale = self._array(np.array([m.scale for m in kinds], np.float32), wp.float32)
        world.gloss = self._array(np.array([m.gloss for m in kinds], np.float32), wp.float32)
        world.glow = self._array(np.array([m.glow for m in kinds], np.float32), wp.float32)
        start, width, height, texels = [], [], [], [np.zeros((1, 3))]
        total = 1
        for m in kinds:
            image = np.zeros((1, 1, 3), np.uint8) if m.image is None else m.image
            start.append(total)
            width.append(image.shape[1])
            height.append(image.shape[0])
            texels.append(to_linear(image.reshape(-1, 3) / 255.0))
            total += image.shape[0] * image.shape[1]
        world.image_start = self._array(np.array(start, np.int32), wp.int32)
        world.image_width = self._array(np.array(width, np.int32), wp.int32)
        world.image_height = self._array(np.array(height, np.int32), wp.int32)
        world.texels = self._array(np.concatenate(texels).astype(np.float32), wp.vec3)

    def _lattice(self, world, two_sided: np.ndarray) -> None:
        """Chooses each face's level from its longest side and lists every lattice point."""
        p = self.points.astype(np.float64)
        longest = np.max([np.linalg.norm(p[:, k] - p[:, k - 1], axis=1) for k in range(3)], axis=0)
        area = 0.5 * np.linalg.norm(np.cross(p[:, 1] - p[:, 0], p[:, 2] - p[:, 0]), axis=1)
        # Thin long faces need points along them only: the geometric mean of both measures serves both.
        fair = np.sqrt(longest * np.sqrt(2 * area) + 1e-12)
        sides = np.where(two_sided, 2, 1)
        spacing = self.detail.spacing
        while True:
            level = np.clip(np.ceil(fair / spacing), 1, 400).astype(np.int32)
            count = (level + 1) * (level + 2) // 2
            # Whole houses and dense meshes get coarser light rather than an hour of baking; three points on each
            # face is the least, and the large faces between them still get their share.
            if (count * sides).sum() <= max(self.detail.most_points, (3 * sides).sum() + self.detail.most_points // 2):
                break
            spacing *= 1.25
        start = np.concatenate([[0], np.cumsum(count * sides)])
        self.samples = int(start[-1])
        face = np.repeat(np.arange(len(level)), count * sides).astype(np.int32)
        local = np.arange(self.samples) - start[:-1][face]
        back = (local >= count[face]).astype(np.int32)
        local = local - back * count[face]
        # Row i holds level + 1 - i points; solve i (n + 1) - i (i - 1) / 2 <= local for i.
        n = level[face].astype(np.float64)
        row = np.floor(((2 * n + 3) - np.sqrt((2 * n + 3) ** 2 - 8 * local)) / 2 + 1e-9).astype(np.int32)
        column = local - (row * (level[face] + 1) - row * (row - 1) // 2)
        world.face_level = self._array(level, wp.int32)
        world.face_start = self._array(start[:-1].astype(np.int32), wp.int32)
        world.face_back = self._array((start[:-1] + np.where(two_sided, count, 0)).astype(np.int32), wp.int32)
        self._places = [self._array(a.astype(np.int32), wp.int32) for a in (face, row, column, back)]

    def _lights(self):
        lights = kernels.Lights()
        rects = self.lighting.rectangles
        values = [[r.corner, r.side_a, r.side_b, r.normal, r.radiance] for r in rects] or [np.zeros((5, 3))]
        stacked = np.array(values, np.float32)
        for k, name in enumerate(("corner", "side_a", "side_b", "normal", "radiance")):
            setattr(lights, name, self._array(stacked[:, k], wp.vec3))
        lights.count = len(rects)
        lights.rounds = self.detail.light_rounds
        sun = np.asarray(self.lighting.sun, float)
        lights.sun = wp.vec3(*(sun / np.linalg.norm(sun)))
        lights.sun_light = wp.vec3(*self.lighting.sun_light)
        lights.open_sky = wp.vec3(*self.lighting.open_sky)
        return lights

    def _sweep(self, what: str, kernel, inputs: Callable[[int], list]) -> None:
        """Runs a kernel over all lattice points, in slices over the threads."""
        size = max(2048, self.samples // 40 + 1)
        slices = [(s, min(size, self.samples - s)) for s in range(0, self.samples, size)]

        def work(piece):
            wp.launch(kernel, dim=piece[1], inputs=inputs(piece[0]), device="cpu")

        _spread(work, slices, lambda done: self.report(what, done))

    def bake(self) -> None:
        """Light on every lattice point: direct, then bounced (smoothed); needed before `photo`."""
        places = self._places
        direct = wp.zeros(self.samples, dtype=wp.vec3, device="cpu")
        self._sweep(
            "light", kernels.bake_direct,
            lambda start: [self.world, self.lights, self.seed + 101, start, *places, direct],
        )  # fmt: skip
        if self.detail.smooth_direct:
            scratch = wp.zeros(self.samples, dtype=wp.vec3, device="cpu")
            for a, b in ((direct, scratch), (scratch, direct)):
                self._sweep("smooth", kernels.smooth_light, lambda start: [self.world, start, *places, a, b])  # noqa: B023
        total, rounds = direct, self.detail.bounce_rounds
        for bounce in range(self.detail.bounces):
            gathered, scratch = (wp.zeros(self.samples, dtype=wp.vec3, device="cpu") for _ in range(2))
            now, many = total, (rounds if bounce == self.detail.bounces - 1 else max(3, rounds // 2))
            self._sweep(
                f"bounce {bounce + 1}", kernels.bake_bounce,
                lambda start: [self.world, self.lights, self.seed + 211, start, many, *places, now, gathered],  # noqa: B023
            )  # fmt: skip
            for a, b in ((gathered, scratch), (scratch, gathered)) * 2:
                self._sweep("smooth", kernels.smooth_light, lambda start: [self.world, start, *places, a, b])  # noqa: B023
            total = wp.array(direct.numpy() + gathered.numpy(), dtype=wp.vec3, device="cpu")
        self.light = total

    def photo(self, c2w: np.ndarray, width: int, height: int, focal: Real, *, side: int | None = None) -> Picture:
        """One picture; principal point in the middle. `side` 0 gives depth and faces only.

        Args:
            c2w: 4x4, OpenCV, in the room's frame.
            width, height: in pixels.
            focal: in pixels.
            side: samples along a pixel's side; None takes `detail`'s.
        """
        side = self.detail.pixel_side if side is None else side
        radiance, depth, face = self.radiance(c2w, width, height, focal, side)
        return Picture(develop(radiance, self.exposure), depth, face)

    def radiance(
        self, c2w: np.ndarray, width: int, height: int, focal: Real, side: int = 2
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """One picture before it is developed: linear radiance (h, w, 3), z-depth (h, w), and faces (h, w).

        Args:
            c2w, width, height, focal: as for `photo`.
            side: samples along a pixel's side; 0 gives depth and faces only.
        """
        if self.light is None:
            side = 0
        light = wp.zeros(1, dtype=wp.vec3, device="cpu") if self.light is None else self.light
        pixels = width * height
        rgb = wp.zeros(pixels, dtype=wp.vec3, device="cpu")
        depth = wp.zeros(pixels, dtype=wp.float32, device="cpu")
        face = wp.zeros(pixels, dtype=wp.int32, device="cpu")
        wp.launch(
            kernels.photograph,
            dim=pixels,
            inputs=[
                self.world, light, wp.mat44(*np.asarray(c2w, float).ravel()), width,
                focal, focal, width / 2, height / 2, side, rgb, depth, face,
            ],
            device="cpu",
        )  # fmt: skip
        shape = (height, width)
        return rgb.numpy().reshape(*shape, 3), depth.numpy().reshape(shape), face.numpy().reshape(shape)

    def meter(self, c2ws: Sequence[np.ndarray], focal_per_width: Real, *, target: Real = 0.46) -> None:
        """Sets one exposure for all photos, so that their mean sRGB value is about `target`."""
        width, height = 40, 30
        small = [self.radiance(c2w, width, height, focal_per_width * width) for c2w in c2ws]
        radiance = np.stack([s[0] for s in small])
        low, high = 0.05, 20.0
        for _ in range(30):
            middle = np.sqrt(low * high)
            low, high = (middle, high) if develop(radiance, middle).mean() < 255 * target else (low, middle)
        self.exposure = self.lighting.exposure * np.sqrt(low * high)

    def photos(self, c2ws: Sequence[np.ndarray], width: int, height: int, focal: Real) -> list[Picture]:
        """Several pictures, two at a time."""
        return _spread(
            lambda c2w: self.photo(c2w, width, height, focal), c2ws, lambda done: self.report("photos", done)
        )

    def colours(self, face: np.ndarray, bary: np.ndarray) -> np.ndarray:
        """Plain surface colours (n, 3) uint8 at barycentric places of faces."""
        out = wp.zeros(len(face), dtype=wp.vec3, device="cpu")
        wp.launch(
            kernels.colour_points,
            dim=len(face),
            inputs=[
                self.world,
                wp.array(face.astype(np.int32), dtype=wp.int32, device="cpu"),
                wp.array(bary.astype(np.float32), dtype=wp.vec3, device="cpu"),
                out,
            ],
            device="cpu",
        )
        return np.round(to_srgb(out.numpy()) * 255).astype(np.uint8)

    def seen_by(
        self, points: np.ndarray, c2ws: Sequence[np.ndarray], width: int, height: int, focal: Real
    ) -> np.ndarray:
        """By how many of the cameras each point (n, 3) is seen.

        Args:
            points: (n, 3) in the room's frame.
            c2ws: 4x4, OpenCV, in the room's frame.
            width, height: of the pictures in pixels.
            focal: in pixels.
        """
        out = wp.zeros(len(points), dtype=wp.int32, device="cpu")
        places = wp.array(points.astype(np.float32), dtype=wp.vec3, device="cpu")
        eyes = np.linalg.inv(np.asarray(c2ws, float)).astype(np.float32)
        eyes = wp.array(eyes, dtype=wp.mat44, device="cpu")
        size = 16384
        slices = [(s, min(size, len(points) - s)) for s in range(0, len(points), size)]

        def work(piece):
            inputs = [
                self.world, eyes, len(c2ws), focal, focal, width / 2, height / 2, piece[0], places, out,
            ]  # fmt: skip
            wp.launch(kernels.see_points, dim=piece[1], inputs=inputs, device="cpu")

        _spread(work, slices, lambda done: None)
        return out.numpy()


def _spread(work: Callable, items: Sequence, report: Callable[[float], None]) -> list:
    results = []
    with ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as pool:
        for result in pool.map(work, items):
            results.append(result)
            report(len(results) / len(items))
    return results


def develop(radiance: np.ndarray, exposure: Real) -> np.ndarray:
    """Linear light to an 8-bit picture: exposure, a soft shoulder above 0.6, sRGB."""
    value = np.asarray(radiance, dtype=np.float64) * exposure
    knee = 0.6
    over = np.maximum(value - knee, 0.0)
    value = np.minimum(value, knee) + (1 - knee) * (1 - np.exp(-over / (1 - knee)))
    return np.round(to_srgb(value) * 255).astype(np.uint8)
