"""Fast rendering of many small images: one object or a few, before simple backdrops, without baked light.

The shapes, materials and patterns are those of rooms, rasterised into a depth buffer (quick_kernels.py), about ten
times as fast as ray tracing. Single objects are lit by a key light and three fill lights with shadow maps, and by
ambient light from above and from the ground; rooms by their baked light. World frame and cameras as in render.py:
metres, z up, OpenCV `c2w`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import warp as wp
from jaxtyping import Bool, Float, Int

from ovseg3d.start_warp import start_warp
from ovseg3d.synth import quick_kernels as kernels
from ovseg3d.synth.geometry import Part
from ovseg3d.synth.materials import PATTERNS, Material, Real, Triple, to_linear
from ovseg3d.synth.render import Tracer
from ovseg3d.synth.shading import World


@dataclass(frozen=True, eq=False)
class Slot(Material):
    """A material that is chosen later: `slot` 0 is the main one, 1 the second; colour and scale are factors."""

    slot: int = 0


MAIN, SECOND = (
    Slot((1.0, 1.0, 1.0), (1.0, 1.0, 1.0), scale=1.0, slot=0),
    Slot((1.0, 1.0, 1.0), (1.0, 1.0, 1.0), scale=1.0, slot=1),
)


@dataclass(frozen=True)
class Model:
    """A thing's triangles in arrays, in its canonical frame, with materials that may still be slots."""

    points: Float[np.ndarray, "faces 3 3"]
    normals: Float[np.ndarray, "faces 3 3"]
    grain: Float[np.ndarray, "faces 3 3"]
    uv: Float[np.ndarray, "faces 3 2"]
    material: Int[np.ndarray, " faces"]
    materials: tuple[Material, ...]
    texels: tuple[np.ndarray | None, ...]

    @cached_property
    def shows_main(self) -> np.ndarray:
        """Per face, whether it is of the main material."""
        main = [isinstance(m, Slot) and m.slot == 0 for m in self.materials]
        return np.array(main)[self.material]

    @cached_property
    def low(self) -> np.ndarray:
        return self.points.min((0, 1)).astype(float)

    @cached_property
    def high(self) -> np.ndarray:
        return self.points.max((0, 1)).astype(float)


def pack(parts: Sequence[Part]) -> Model:
    """Parts as one Model (float32)."""
    unique: dict[int, int] = {}
    materials: list[Material] = []
    for part in parts:
        if id(part.material) not in unique:
            unique[id(part.material)] = len(materials)
            materials.append(part.material)
    soups = [part.soup for part in parts]
    index = np.repeat([unique[id(p.material)] for p in parts], [len(s.points) for s in soups])
    texels = tuple(
        None if m.image is None else to_linear(m.image.reshape(-1, 3) / 255.0).astype(np.float32) for m in materials
    )
    points, normals, grain, uv = (
        np.concatenate([getattr(s, name) for s in soups]).astype(np.float32)
        for name in ("points", "normals", "grain", "uv")
    )
    return Model(points, normals, grain, uv, index.astype(np.int32), tuple(materials), texels)


@dataclass(frozen=True)
class Put:
    """A model in the world under x -> linear x + shift, with the materials for its slots."""

    model: Model
    linear: np.ndarray
    shift: np.ndarray
    main: Material
    second: Material

    def materials(self) -> list[Material]:
        return [_filled(m, (self.main, self.second)) for m in self.model.materials]


def _filled(material: Material, looks: tuple[Material, Material]) -> Material:
    if not isinstance(material, Slot):
        return material
    look = looks[material.slot]
    if material.colour == (1.0, 1.0, 1.0) and material.scale == 1.0 and material.gloss == 0.0:
        return look
    factor = material.colour
    return replace(
        look,
        colour=tuple(a * b for a, b in zip(look.colour, factor)),
        second=tuple(a * b for a, b in zip(look.second, factor)),
        gloss=max(look.gloss, material.gloss),
    )


@dataclass(frozen=True)
class Plane:
    """An endless flat backdrop: a point, its normal (towards the camera's side) and the axes of its pattern."""

    point: Triple
    normal: Triple
    across: Triple
    along: Triple
    material: Material


@dataclass(frozen=True)
class Sun:
    """A light from far away: the direction towards it (unit), and its radiance."""

    towards: np.ndarray
    radiance: Triple


@dataclass(frozen=True)
class Shot:
    """Linear light (h, w, 3), and what each sample shows (there are more samples than pixels)."""

    radiance: Float[np.ndarray, "h w 3"]
    owner: Int[np.ndarray, "rows columns"]  # index of the thing, -1 for the backdrop
    main: Bool[np.ndarray, "rows columns"]  # whether it is of that thing's main material


@dataclass(frozen=True)
class Surround:
    """What is around the things, as linear colours."""

    sky: Triple
    """Lights everything from above."""
    ground: Triple
    """Lights everything from below."""
    backdrop: tuple[Triple, Triple]
    """At the lower and the upper edge, where nothing is."""


@dataclass(frozen=True)
class Pinhole:
    """The camera of a square picture, its principal point in the middle."""

    c2w: np.ndarray
    """4x4, OpenCV."""
    size: int
    """Pixels along a side."""
    focal: Real
    """In pixels."""


def render(
    things: Sequence[Put],
    planes: Sequence[Plane],
    suns: Sequence[Sun],
    surround: Surround,
    camera: Pinhole,
    *,
    side: int = 2,
    map_side: int = 112,
) -> Shot:
    """One picture of a few things.

    Args:
        things: models in the world.
        planes: floor and walls behind them.
        suns: lights that throw shadows.
        surround: light from around, and what is seen where nothing is.
        camera: of the picture.
        side: samples along a pixel's side.
        map_side: samples along a shadow map.
    """
    c2w, size, focal = camera.c2w, camera.size, camera.focal
    sky, ground, backdrop = surround.sky, surround.ground, surround.backdrop
    start_warp()
    keep: list[object] = []

    def array(values, dtype):
        keep.append(values := np.ascontiguousarray(values))
        return wp.array(values, dtype=dtype, device="cpu", copy=False)

    points = np.concatenate([_moved(t.model.points, t.linear, t.shift) for t in things])
    normals = np.concatenate([_turned(t.model.normals, t.linear) for t in things])
    counts = [len(t.model.points) for t in things]
    world, owner = World(), np.repeat(np.arange(len(things), dtype=np.int32), counts)
    world.points, world.normals = array(points.reshape(-1, 3), wp.vec3), array(normals.reshape(-1, 3), wp.vec3)
    world.grain = array(np.concatenate([t.model.grain for t in things]).reshape(-1, 3), wp.vec3)
    world.uv = array(np.concatenate([t.model.uv for t in things]).reshape(-1, 2), wp.vec2)
    materials, texels, local = [], [], []
    for thing in things:
        local.append(thing.model.material + np.int32(len(materials)))
        materials += thing.materials()
        texels += thing.model.texels
    world.face_material = array(np.concatenate(local), wp.int32)
    first_plane = len(materials)
    materials += [p.material for p in planes]
    texels += [None] * len(planes)
    _materials(world, materials, texels, array)

    faces, wide = len(points), size * side
    w2c = wp.mat44(*np.linalg.inv(c2w).astype(np.float32).ravel())
    depth, face = np.full(wide * wide, 1.0e6, np.float32), np.full(wide * wide, -1, np.int32)
    bary = np.zeros((wide * wide, 2), np.float32)
    buffers = [array(depth, wp.float32), array(face, wp.int32), array(bary, wp.vec2)]
    wp.launch(
        kernels.cover,
        dim=faces,
        inputs=[world.points, w2c, wide, wide, focal * side, wide / 2, wide / 2, *buffers],
        device="cpu",
    )
    light, height = _suns(points, suns, sky, ground, map_side, array)
    for k in range(len(suns)):
        wp.launch(kernels.shade_map, dim=faces, inputs=[world.points, light, k, height], device="cpu")
    flat = kernels.Planes()
    flat.count = len(planes)
    table = [[p.point, p.normal, p.across, p.along] for p in planes] or [np.zeros((4, 3))]
    table = np.array(table, np.float32)
    for k, name in enumerate(("point", "normal", "across", "along")):
        setattr(flat, name, array(table[:, k], wp.vec3))
    flat.material = array(np.arange(len(planes) + 1, dtype=np.int32) + first_plane, wp.int32)
    flat.low, flat.high = wp.vec3(*backdrop[0]), wp.vec3(*backdrop[1])
    out = np.zeros((size * size, 3), np.float32)
    wp.launch(
        kernels.shade,
        dim=size * size,
        inputs=[
            world, light, flat, height, wp.mat44(*np.asarray(c2w, np.float32).ravel()), size, size, side, focal,
            *buffers, array(out, wp.vec3),
        ],
        device="cpu",
    )  # fmt: skip
    shown = np.where(face >= 0, owner[face], -1).reshape(wide, wide)
    main = np.concatenate([t.model.shows_main for t in things])[face] & (face >= 0)
    return Shot(out.reshape(size, size, 3), shown, main.reshape(wide, wide))


def _moved(points: np.ndarray, linear: np.ndarray, shift: np.ndarray) -> np.ndarray:
    return points @ linear.T.astype(np.float32) + shift.astype(np.float32)


def _turned(normals: np.ndarray, linear: np.ndarray) -> np.ndarray:
    return normals @ np.linalg.inv(linear).astype(np.float32)


def _materials(world, materials: Sequence[Material], texels: Sequence[np.ndarray | None], array) -> None:
    """The tables of colours, patterns and images (cf. render.Tracer)."""
    world.colour = array(np.array([m.colour for m in materials], np.float32), wp.vec3)
    world.second = array(np.array([m.second for m in materials], np.float32), wp.vec3)
    world.pattern = array(np.array([PATTERNS.index(m.pattern) for m in materials], np.int32), wp.int32)
    for name in ("scale", "gloss", "glow"):
        setattr(world, name, array(np.array([getattr(m, name) for m in materials], np.float32), wp.float32))
    starts, shapes, total = [], [], 1
    for material, texel in zip(materials, texels):
        shape = (1, 1) if material.image is None else material.image.shape[:2]
        starts.append(total if texel is not None else 0)
        shapes.append(shape)
        total += 0 if texel is None else len(texel)
    shapes = np.array(shapes, np.int32)
    world.image_start = array(np.array(starts, np.int32), wp.int32)
    world.image_height, world.image_width = array(shapes[:, 0], wp.int32), array(shapes[:, 1], wp.int32)
    pixels = np.concatenate([np.zeros((1, 3), np.float32), *(t for t in texels if t is not None)])
    world.texels = array(pixels, wp.vec3)


def _suns(points: np.ndarray, suns: Sequence[Sun], sky: Triple, ground: Triple, side: int, array):
    """The lights with their maps' axes, and empty maps."""
    low, high = points.min((0, 1)), points.max((0, 1))
    centre = (low + high) / 2
    light = kernels.Suns()
    light.count, light.side = len(suns), side
    light.centre, light.reach = wp.vec3(*centre), float(np.linalg.norm(high - low)) / 2 * 1.04
    light.sky, light.ground = wp.vec3(*sky), wp.vec3(*ground)
    towards = np.array([s.towards for s in suns], np.float32)
    right = np.cross([[0.0, 0.0, 1.0]], towards + [1e-4, 0, 0])
    right /= np.linalg.norm(right, axis=1, keepdims=True)
    light.towards, light.right = array(towards, wp.vec3), array(right.astype(np.float32), wp.vec3)
    light.up = array(np.cross(towards, right).astype(np.float32), wp.vec3)
    light.radiance = array(np.array([s.radiance for s in suns], np.float32), wp.vec3)
    return light, array(np.full(len(suns) * side * side, -1.0e6, np.float32), wp.float32)


@dataclass(frozen=True)
class View:
    """A view of a room: what each sample hits (-1 and 1e6 where nothing), before anything is shaded."""

    c2w: Float[np.ndarray, "4 4"]
    size: int
    focal: Real
    side: int
    depth_z: Float[np.ndarray, " samples"]
    face: Int[np.ndarray, " samples"]
    bary: Float[np.ndarray, "samples 2"]


def look_at_room(tracer: Tracer, c2w: np.ndarray, size: int, focal: Real, *, side: int = 2) -> View:
    """Draws the triangles of a room on the tracer into a square view, `side` x `side` samples to a pixel.

    Args:
        tracer: of the room.
        c2w: 4x4, OpenCV, in the room's frame.
        size: of the square picture in pixels.
        focal: in pixels.
        side: samples along a pixel's side.
    """
    wide = size * side
    depth, face = np.full(wide * wide, 1.0e6, np.float32), np.full(wide * wide, -1, np.int32)
    bary = np.zeros((wide * wide, 2), np.float32)
    buffers = ((depth, wp.float32), (face, wp.int32), (bary, wp.vec2))
    w2c = wp.mat44(*np.linalg.inv(c2w).astype(np.float32).ravel())
    wp.launch(
        kernels.cover,
        dim=len(tracer.points),
        inputs=[
            tracer.world.points, w2c, wide, wide, focal * side, wide / 2, wide / 2,
            *(wp.array(values, dtype=of, device="cpu", copy=False) for values, of in buffers),
        ],
        device="cpu",
    )  # fmt: skip
    return View(np.asarray(c2w, float), size, focal, side, depth, face, bary)


def shade_room(tracer: Tracer, view: View) -> Float[np.ndarray, "h w 3"]:
    """Linear light of a view of a room whose light is baked; mirrors are left out."""
    out = np.zeros((view.size * view.size, 3), np.float32)
    wp.launch(
        kernels.shade_baked,
        dim=len(out),
        inputs=[
            tracer.world, tracer.light, wp.mat44(*view.c2w.astype(np.float32).ravel()), view.size, view.size, view.side,
            view.focal, wp.array(view.face, dtype=wp.int32, device="cpu", copy=False),
            wp.array(view.bary, dtype=wp.vec2, device="cpu", copy=False),
            wp.array(out, dtype=wp.vec3, device="cpu", copy=False),
        ],
        device="cpu",
    )  # fmt: skip
    return out.reshape(view.size, view.size, 3)
