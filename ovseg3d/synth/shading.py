"""Warp functions for the synthetic world: its patterns, its colours, and the light that leaves a surface point.

They are compiled into the modules of the kernels that call them (`kernels`, `quick_kernels`). World frame, metres,
linear light. Diffuse light is baked on a triangular lattice over every face: level n has lattice points (i, j) with
i + j <= n, where barycentric u = i / n, v = j / n.
"""

# Warp needs float(0.0) for a variable that a branch changes.
# ruff: noqa: UP018
# No `from __future__ import annotations` here: Warp reads the annotations themselves, where an
# array type is a call.
# pyright: reportInvalidTypeForm=false
from typing import no_type_check

import warp as wp


class WorldFields:
    mesh: wp.uint64
    points: wp.array(dtype=wp.vec3)  # 3 per face
    normals: wp.array(dtype=wp.vec3)
    grain: wp.array(dtype=wp.vec3)
    uv: wp.array(dtype=wp.vec2)
    face_material: wp.array(dtype=wp.int32)
    face_level: wp.array(dtype=wp.int32)
    face_start: wp.array(dtype=wp.int32)
    face_back: wp.array(dtype=wp.int32)  # start of the back's lattice, or of the front's again
    colour: wp.array(dtype=wp.vec3)  # per material
    second: wp.array(dtype=wp.vec3)
    pattern: wp.array(dtype=wp.int32)
    scale: wp.array(dtype=float)
    gloss: wp.array(dtype=float)
    glow: wp.array(dtype=float)
    image_start: wp.array(dtype=wp.int32)
    image_width: wp.array(dtype=wp.int32)
    image_height: wp.array(dtype=wp.int32)
    texels: wp.array(dtype=wp.vec3)
    sky: wp.vec3


World = wp.struct(WorldFields)  # called, not decorated: the tests' import hook would wrap the decorated name


@no_type_check
@wp.func
def layered_noise(p: wp.vec3, seed: int):
    state = wp.rand_init(seed)
    return 0.6 * wp.noise(state, p) + 0.3 * wp.noise(state, p * 2.03) + 0.15 * wp.noise(state, p * 4.1)


@no_type_check
@wp.func
def cell_value(i: int, j: int, seed: int):
    return wp.randf(wp.rand_init(seed, (i + 4096) * 8192 + j + 4096))


@no_type_check
@wp.func
def blend(pattern: int, scale: float, p: wp.vec3, uv: wp.vec2):
    """How much of the second colour is at this place, 0..1, and a brightness factor."""
    amount = float(0.0)
    bright = float(1.0)
    u = uv[0] / scale
    v = uv[1] / scale
    if pattern == 1:  # wood: rings stretched along the grain
        q = wp.vec3(p[0] * 0.12 / scale, p[1] / scale, p[2] / scale)
        bend = layered_noise(q * 0.6, 3)
        ring = wp.sin((q[1] + q[2] * 0.7) * 5.0 + bend * 7.0)
        amount = 0.5 + 0.32 * ring + 0.3 * layered_noise(wp.vec3(q[0], q[1] * 4.0, q[2] * 4.0), 4)
    elif pattern == 2:  # planks: boards of width `scale`, eight times as long, staggered
        row = int(wp.floor(v))
        shift = cell_value(row, 0, 11) * 8.0
        column = int(wp.floor((u + shift) / 8.0))
        tone = cell_value(row, column, 12)
        q = wp.vec3(u * 0.35 + tone * 50.0, v * 3.0, tone * 9.0)
        amount = (
            0.15 + 0.6 * tone + 0.35 * layered_noise(q, 5) + 0.12 * wp.sin(v * 14.0 + layered_noise(q * 0.5, 6) * 6.0)
        )
        across = v - wp.floor(v)
        along = (u + shift) / 8.0 - wp.floor((u + shift) / 8.0)
        if across < 0.05 or along < 0.006:
            bright = 0.55
    elif pattern == 3:  # checker
        amount = float((int(wp.floor(u)) + int(wp.floor(v))) & 1)
    elif pattern == 4:  # stripes across v
        amount = wp.clamp(0.5 + 4.0 * wp.sin(u * 3.14159265), 0.0, 1.0)
    elif pattern == 5:  # plaster: low bumps of tone
        q = wp.vec3(uv[0], uv[1], p[0] * 0.3) / scale
        amount = 0.5 + 0.7 * layered_noise(q, 7)
    elif pattern == 6:  # weave
        warp_thread = wp.sin(u * 6.2831853)
        weft_thread = wp.sin(v * 6.2831853)
        amount = 0.5 + 0.3 * warp_thread * weft_thread + 0.25 * layered_noise(wp.vec3(u, v, 0.0) * 0.37, 8)
    elif pattern == 7:  # marble
        q = p / scale
        amount = wp.pow(wp.abs(wp.sin(q[0] + q[1] * 0.6 + 3.0 * layered_noise(q * 0.7, 9))), 0.6)
    elif pattern == 8:  # dots
        fu = u - wp.floor(u) - 0.5
        fv = v - wp.floor(v) - 0.5
        amount = wp.clamp((0.3 - wp.sqrt(fu * fu + fv * fv)) * 20.0 + 0.5, 0.0, 1.0)
    elif pattern == 10:  # tiles with joints
        fu = u - wp.floor(u)
        fv = v - wp.floor(v)
        amount = 0.5 * cell_value(int(wp.floor(u)), int(wp.floor(v)), 13)
        if fu < 0.04 or fv < 0.04:
            amount = 1.0
    elif pattern == 11:  # damask: a soft repeated motif of a wallpaper
        line = wp.floor(v)
        fu = u + 0.5 * (line - 2.0 * wp.floor(line * 0.5))
        fu = (fu - wp.floor(fu) - 0.5) * 2.0
        fv = (v - line - 0.5) * 2.0
        r = wp.sqrt(fu * fu + fv * fv)
        petal = 0.62 + 0.2 * wp.cos(4.0 * wp.atan2(fv, fu))
        amount = wp.clamp((petal - r) * 7.0, 0.0, 1.0) * wp.clamp((r - 0.18) * 9.0, 0.0, 1.0)
    elif pattern == 12:  # bands along v with uneven widths
        amount = wp.clamp(0.5 + 5.0 * (wp.sin(v * 6.2831853) * 0.7 + wp.sin(v * 2.7) * 0.3), 0.0, 1.0)
    return wp.vec2(wp.clamp(amount, 0.0, 1.0), bright)


@no_type_check
@wp.func
def surface_colour(world: World, face: int, b0: float, b1: float, b2: float):
    material = world.face_material[face]
    uv = world.uv[face * 3] * b0 + world.uv[face * 3 + 1] * b1 + world.uv[face * 3 + 2] * b2
    pattern = world.pattern[material]
    result = world.colour[material]
    if pattern == 9:
        width = world.image_width[material]
        height = world.image_height[material]
        x = (uv[0] - wp.floor(uv[0])) * float(width) - 0.5
        y = (1.0 - (uv[1] - wp.floor(uv[1]))) * float(height) - 0.5
        x0 = int(wp.floor(x))
        y0 = int(wp.floor(y))
        fx = x - float(x0)
        fy = y - float(y0)
        xa = wp.clamp(x0, 0, width - 1)
        xb = wp.clamp(x0 + 1, 0, width - 1)
        ya = wp.clamp(y0, 0, height - 1) * width + world.image_start[material]
        yb = wp.clamp(y0 + 1, 0, height - 1) * width + world.image_start[material]
        upper = world.texels[ya + xa] * (1.0 - fx) + world.texels[ya + xb] * fx
        lower = world.texels[yb + xa] * (1.0 - fx) + world.texels[yb + xb] * fx
        result = wp.cw_mul(result, upper * (1.0 - fy) + lower * fy)
    elif pattern != 0:
        grain = world.grain[face * 3] * b0 + world.grain[face * 3 + 1] * b1 + world.grain[face * 3 + 2] * b2
        weight = blend(pattern, world.scale[material], grain, uv)
        result = (result * (1.0 - weight[0]) + world.second[material] * weight[0]) * weight[1]
    return result


@no_type_check
@wp.func
def lattice(i: int, j: int, level: int):
    return i * (level + 1) - (i * (i - 1)) / 2 + j


@no_type_check
@wp.func
def baked(world: World, light: wp.array(dtype=wp.vec3), face: int, front: bool, u: float, v: float):
    """Light arriving at barycentric (u, v) of a face, from its lattice."""
    level = world.face_level[face]
    start = world.face_start[face]
    if not front:
        start = world.face_back[face]
    a = wp.clamp(u, 0.0, 1.0) * float(level)
    b = wp.clamp(v, 0.0, 1.0) * float(level)
    i = wp.min(int(a), level - 1)
    j = wp.min(int(b), level - 1 - i)
    j = wp.max(j, 0)
    fa = wp.clamp(a - float(i), 0.0, 1.0)
    fb = wp.clamp(b - float(j), 0.0, 1.0)
    result = wp.vec3(0.0, 0.0, 0.0)
    if fa + fb <= 1.0 or i + j + 2 > level:
        w = wp.max(1.0 - fa - fb, 0.0)
        total = fa + fb + w
        result = (
            light[start + lattice(i, j, level)] * w
            + light[start + lattice(i + 1, j, level)] * fa
            + light[start + lattice(i, j + 1, level)] * fb
        ) / total
    else:
        result = (
            light[start + lattice(i + 1, j + 1, level)] * (fa + fb - 1.0)
            + light[start + lattice(i, j + 1, level)] * (1.0 - fa)
            + light[start + lattice(i + 1, j, level)] * (1.0 - fb)
        )
    return result


@no_type_check
@wp.func
def leaving(world: World, light: wp.array(dtype=wp.vec3), face: int, front: bool, u: float, v: float):
    """Diffuse light that leaves a face at (u, v) towards any side (radiance), without its own glow."""
    colour = surface_colour(world, face, u, v, 1.0 - u - v)
    return wp.cw_mul(colour, baked(world, light, face, front, u, v)) / 3.14159265
