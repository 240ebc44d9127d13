"""Warp kernels of the quick renderer: the visible triangle of each sample, shadow maps, and shading.

Triangles are rasterised into a depth buffer, which is about ten times as fast at 112 pixels as tracing rays. CPU only,
and one launch on one thread: the depth buffer is written without atomics, face after face. Samples lie on a regular
grid, `side` x `side` per pixel; the buffer is `side` times as wide as the image.
"""

# Warp needs float(0.0) for a variable that a loop changes.
# ruff: noqa: UP018
# No `from __future__ import annotations` here: Warp reads the annotations themselves, where an
# array type is a call.
# pyright: reportInvalidTypeForm=false
from typing import no_type_check

import warp as wp

from ovseg3d.synth.shading import World, blend, leaving, surface_colour

wp.config.log_level = wp.LOG_ERROR
wp.set_module_options({"enable_backward": False})

NEAR = wp.constant(0.02)


@no_type_check
@wp.kernel
def cover(
    points: wp.array(dtype=wp.vec3),
    w2c: wp.mat44,
    width: int,
    height: int,
    focal: float,
    cx: float,
    cy: float,
    depth: wp.array(dtype=float),
    face: wp.array(dtype=wp.int32),
    bary: wp.array(dtype=wp.vec2),
):
    """Draws one triangle: z-depth, face and the first two barycentric coordinates where it is in front."""
    tid = wp.tid()
    a = wp.transform_point(w2c, points[tid * 3])
    b = wp.transform_point(w2c, points[tid * 3 + 1])
    c = wp.transform_point(w2c, points[tid * 3 + 2])
    nearest = wp.min(a[2], wp.min(b[2], c[2]))
    farthest = wp.max(a[2], wp.max(b[2], c[2]))
    if farthest < NEAR:
        return
    if nearest > NEAR:
        # All in front: plain edge functions on the picture, accurate for the smallest triangles.
        ax = a[0] / a[2] * focal + cx - 0.5
        ay = a[1] / a[2] * focal + cy - 0.5
        bx = b[0] / b[2] * focal + cx - 0.5
        by = b[1] / b[2] * focal + cy - 0.5
        gx = c[0] / c[2] * focal + cx - 0.5
        gy = c[1] / c[2] * focal + cy - 0.5
        area = (bx - ax) * (gy - ay) - (by - ay) * (gx - ax)
        if wp.abs(area) < 1.0e-9:
            return
        # Comparing as numbers first keeps the conversion to int within its range.
        left = wp.max(0.0, wp.ceil(wp.min(ax, wp.min(bx, gx)) - 1.0e-3))
        right = wp.min(float(width - 1), wp.floor(wp.max(ax, wp.max(bx, gx)) + 1.0e-3))
        top = wp.max(0.0, wp.ceil(wp.min(ay, wp.min(by, gy)) - 1.0e-3))
        bottom = wp.min(float(height - 1), wp.floor(wp.max(ay, wp.max(by, gy)) + 1.0e-3))
        if left > right or top > bottom:
            return
        ia = 1.0 / a[2]
        ib = 1.0 / b[2]
        ic = 1.0 / c[2]
        for y in range(int(top), int(bottom) + 1):
            py = float(y)
            for x in range(int(left), int(right) + 1):
                px = float(x)
                u = ((bx - px) * (gy - py) - (by - py) * (gx - px)) / area
                v = ((gx - px) * (ay - py) - (gy - py) * (ax - px)) / area
                w = 1.0 - u - v
                if u >= -1.0e-5 and v >= -1.0e-5 and w >= -1.0e-5:
                    inverse = u * ia + v * ib + w * ic
                    z = 1.0 / inverse
                    k = y * width + x
                    if z < depth[k]:
                        depth[k] = z
                        face[k] = tid
                        bary[k] = wp.vec2(u * ia * z, v * ib * z)
    else:
        # Part of it lies behind the camera. Where all corners are outside one side of what is seen, nothing shows.
        fx = float(width) - cx
        fy = float(height) - cy
        if a[0] * focal + cx * a[2] < 0.0 and b[0] * focal + cx * b[2] < 0.0 and c[0] * focal + cx * c[2] < 0.0:
            return
        if a[0] * focal - fx * a[2] > 0.0 and b[0] * focal - fx * b[2] > 0.0 and c[0] * focal - fx * c[2] > 0.0:
            return
        if a[1] * focal + cy * a[2] < 0.0 and b[1] * focal + cy * b[2] < 0.0 and c[1] * focal + cy * c[2] < 0.0:
            return
        if a[1] * focal - fy * a[2] > 0.0 and b[1] * focal - fy * b[2] > 0.0 and c[1] * focal - fy * c[2] > 0.0:
            return
        # The same test with planes through the eye needs no clipping.
        na = wp.cross(b, c)
        nb = wp.cross(c, a)
        nc = wp.cross(a, b)
        det = wp.dot(a, na)
        if wp.abs(det) < 1.0e-12:
            return
        for y in range(height):
            dy = (float(y) + 0.5 - cy) / focal
            for x in range(width):
                dx = (float(x) + 0.5 - cx) / focal
                ea = (na[0] * dx + na[1] * dy + na[2]) / det
                eb = (nb[0] * dx + nb[1] * dy + nb[2]) / det
                ec = (nc[0] * dx + nc[1] * dy + nc[2]) / det
                total = ea + eb + ec
                if ea >= 0.0 and eb >= 0.0 and ec >= 0.0 and total > 1.0e-9:
                    z = 1.0 / total
                    k = y * width + x
                    if z > NEAR and z < depth[k]:
                        depth[k] = z
                        face[k] = tid
                        bary[k] = wp.vec2(ea * z, eb * z)


class SunsFields:
    count: int
    right: wp.array(dtype=wp.vec3)  # axes of each light's map, as rows
    up: wp.array(dtype=wp.vec3)
    towards: wp.array(dtype=wp.vec3)  # from the world to the light
    radiance: wp.array(dtype=wp.vec3)
    side: int  # samples along a map
    centre: wp.vec3
    reach: float  # half of a map's extent in metres
    sky: wp.vec3  # unshadowed light from above, and from below
    ground: wp.vec3


Suns = wp.struct(SunsFields)  # called, not decorated: the tests' import hook would wrap the decorated name


@no_type_check
@wp.kernel
def shade_map(points: wp.array(dtype=wp.vec3), suns: Suns, light: int, height: wp.array(dtype=float)):
    """Draws one triangle into a light's map: the greatest height towards the light."""
    tid = wp.tid()
    scale = float(suns.side) * 0.5 / suns.reach
    half = float(suns.side) * 0.5 - 0.5
    a = points[tid * 3] - suns.centre
    b = points[tid * 3 + 1] - suns.centre
    c = points[tid * 3 + 2] - suns.centre
    ax = wp.dot(a, suns.right[light]) * scale + half
    ay = wp.dot(a, suns.up[light]) * scale + half
    bx = wp.dot(b, suns.right[light]) * scale + half
    by = wp.dot(b, suns.up[light]) * scale + half
    gx = wp.dot(c, suns.right[light]) * scale + half
    gy = wp.dot(c, suns.up[light]) * scale + half
    area = (bx - ax) * (gy - ay) - (by - ay) * (gx - ax)
    if wp.abs(area) < 1.0e-9:
        return
    ha = wp.dot(a, suns.towards[light])
    hb = wp.dot(b, suns.towards[light])
    hc = wp.dot(c, suns.towards[light])
    last = float(suns.side - 1)
    left = wp.max(0.0, wp.ceil(wp.min(ax, wp.min(bx, gx))))
    right = wp.min(last, wp.floor(wp.max(ax, wp.max(bx, gx))))
    low = wp.max(0.0, wp.ceil(wp.min(ay, wp.min(by, gy))))
    high = wp.min(last, wp.floor(wp.max(ay, wp.max(by, gy))))
    if left > right or low > high:
        return
    start = light * suns.side * suns.side
    for y in range(int(low), int(high) + 1):
        py = float(y)
        for x in range(int(left), int(right) + 1):
            px = float(x)
            u = ((bx - px) * (gy - py) - (by - py) * (gx - px)) / area
            v = ((gx - px) * (ay - py) - (gy - py) * (ax - px)) / area
            w = 1.0 - u - v
            if u >= -1.0e-5 and v >= -1.0e-5 and w >= -1.0e-5:
                k = start + y * suns.side + x
                height[k] = wp.max(height[k], u * ha + v * hb + w * hc)


@no_type_check
@wp.func
def open_to(suns: Suns, light: int, height: wp.array(dtype=float), place: wp.vec3, bias: float):
    """How much of a light reaches a place, 0..1: four neighbours of its map, blended."""
    offset = place - suns.centre
    scale = float(suns.side) * 0.5 / suns.reach
    half = float(suns.side) * 0.5 - 0.5
    x = wp.dot(offset, suns.right[light]) * scale + half
    y = wp.dot(offset, suns.up[light]) * scale + half
    h = wp.dot(offset, suns.towards[light]) + bias
    x0 = wp.floor(x)
    y0 = wp.floor(y)
    if x0 < 0.0 or y0 < 0.0 or x0 > float(suns.side - 2) or y0 > float(suns.side - 2):
        return 1.0
    fx = x - x0
    fy = y - y0
    k = light * suns.side * suns.side + int(y0) * suns.side + int(x0)
    result = float(0.0)
    if height[k] < h:
        result += (1.0 - fx) * (1.0 - fy)
    if height[k + 1] < h:
        result += fx * (1.0 - fy)
    if height[k + suns.side] < h:
        result += (1.0 - fx) * fy
    if height[k + suns.side + 1] < h:
        result += fx * fy
    return result


@no_type_check
@wp.func
def light_at(suns: Suns, height: wp.array(dtype=float), place: wp.vec3, normal: wp.vec3, texel: float):
    """Light that arrives at a place with this normal."""
    up = 0.5 + 0.5 * normal[2]
    total = suns.sky * up + suns.ground * (1.0 - up)
    for k in range(suns.count):
        facing = wp.dot(normal, suns.towards[k])
        if facing > 0.0:
            bias = texel * (0.6 + 1.5 * wp.sqrt(wp.max(1.0 - facing * facing, 0.0)) / wp.max(facing, 0.25))
            total += suns.radiance[k] * (facing * open_to(suns, k, height, place, bias))
    return total


class PlanesFields:
    """Endless flat backdrops: floor, walls. What no plane covers shows the gradient from `low` to `high`."""

    count: int
    point: wp.array(dtype=wp.vec3)
    normal: wp.array(dtype=wp.vec3)
    across: wp.array(dtype=wp.vec3)
    along: wp.array(dtype=wp.vec3)
    material: wp.array(dtype=wp.int32)
    low: wp.vec3
    high: wp.vec3


Planes = wp.struct(PlanesFields)


@no_type_check
@wp.func
def plane_hit(planes: Planes, origin: wp.vec3, way: wp.vec3, limit: float):
    """Index of the first plane met before `limit` along the ray (-1: none), and the distance."""
    best = int(-1)
    near = float(limit)
    for k in range(planes.count):
        slope = wp.dot(way, planes.normal[k])
        if slope < -1.0e-6:
            t = wp.dot(planes.point[k] - origin, planes.normal[k]) / slope
            if t > 0.0 and t < near:
                near = t
                best = k
    return best, near


@no_type_check
@wp.func
def corner_normal(world: World, face: int, u: float, v: float, way: wp.vec3):
    w = 1.0 - u - v
    normal = wp.normalize(
        world.normals[face * 3] * u + world.normals[face * 3 + 1] * v + world.normals[face * 3 + 2] * w
    )
    flat = wp.cross(
        world.points[face * 3 + 1] - world.points[face * 3], world.points[face * 3 + 2] - world.points[face * 3]
    )
    if wp.dot(flat, way) > 0.0:
        normal = -normal
    return normal


@no_type_check
@wp.func
def radiance(
    world: World,
    suns: Suns,
    planes: Planes,
    height: wp.array(dtype=float),
    face: int,
    uv: wp.vec2,
    z: float,
    origin: wp.vec3,
    way: wp.vec3,
    stretch: float,
    tone: float,
    texel: float,
):
    """Light from one sample's surface: a face, a plane, or the backdrop behind them."""
    plane, t = plane_hit(planes, origin, way, z * stretch)
    result = planes.low * (1.0 - tone) + planes.high * tone
    if plane >= 0:
        place = origin + way * t
        offset = place - planes.point[plane]
        material = planes.material[plane]
        flat = wp.vec2(wp.dot(offset, planes.across[plane]), wp.dot(offset, planes.along[plane]))
        colour = world.colour[material]
        if world.pattern[material] != 0:
            weight = blend(world.pattern[material], world.scale[material], wp.vec3(flat[0], flat[1], 0.3), flat)
            colour = (colour * (1.0 - weight[0]) + world.second[material] * weight[0]) * weight[1]
        result = wp.cw_mul(colour, light_at(suns, height, place, planes.normal[plane], texel))
    elif face >= 0:
        material = world.face_material[face]
        colour = surface_colour(world, face, uv[0], uv[1], 1.0 - uv[0] - uv[1])
        if world.glow[material] > 0.0:
            result = colour * world.glow[material]
        else:
            normal = corner_normal(world, face, uv[0], uv[1], way)
            place = origin + way * (z * stretch)
            result = wp.cw_mul(colour, light_at(suns, height, place, normal, texel))
            if world.gloss[material] > 0.0:
                # A highlight of the first light, and a pale reflection at grazing angles.
                halfway = wp.normalize(suns.towards[0] - way)
                spot = wp.pow(wp.max(wp.dot(normal, halfway), 0.0), 60.0)
                graze = wp.pow(1.0 - wp.abs(wp.dot(normal, way)), 4.0)
                result += suns.radiance[0] * (spot * world.gloss[material] * 2.0)
                result += suns.sky * (graze * world.gloss[material] * 2.0)
    return result


@no_type_check
@wp.func
def stride(world: World, face: wp.array(dtype=wp.int32), x: int, y: int, wide: int, side: int):
    """How many of a pixel's samples to skip: all but one where it meets one plain smooth surface, else half or none."""
    first = face[y * side * wide + x * side]
    same = int(1)
    for s in range(1, side * side):
        other = face[(y * side + s / side) * wide + x * side + s % side]
        if other != first:
            if other < 0 or first < 0 or world.face_material[wp.max(other, 0)] != world.face_material[wp.max(first, 0)]:
                same = 0
            elif wp.dot(world.normals[other * 3], world.normals[first * 3]) < 0.9:
                same = 0
    step = int(1)
    if same == 1:
        step = wp.max(side * side - 1, 1)
        if first >= 0 and world.pattern[world.face_material[wp.max(first, 0)]] == 0:
            step = side * side
    return step


@no_type_check
@wp.kernel
def shade(
    world: World,
    suns: Suns,
    planes: Planes,
    height: wp.array(dtype=float),
    c2w: wp.mat44,
    width: int,
    rows: int,
    side: int,
    focal: float,
    depth: wp.array(dtype=float),
    face: wp.array(dtype=wp.int32),
    bary: wp.array(dtype=wp.vec2),
    out: wp.array(dtype=wp.vec3),
):
    """One pixel: the mean over its samples; fewer are shaded where all of them meet one flat plain surface."""
    tid = wp.tid()
    x = tid % width
    y = tid / width
    origin = wp.vec3(c2w[0, 3], c2w[1, 3], c2w[2, 3])
    wide = width * side
    fine = focal * float(side)
    texel = 2.0 * suns.reach / float(suns.side)
    step = stride(world, face, x, y, wide, side)
    total = wp.vec3(0.0, 0.0, 0.0)
    count = float(0.0)
    for s in range(0, side * side, step):
        px = x * side + s % side
        py = y * side + s / side
        k = py * wide + px
        ray = wp.vec3(
            (float(px) + 0.5 - float(wide) * 0.5) / fine, (float(py) + 0.5 - float(rows * side) * 0.5) / fine, 1.0
        )
        stretch = wp.length(ray)
        way = wp.transform_vector(c2w, ray / stretch)
        tone = 1.0 - (float(py) + 0.5) / float(rows * side)
        value = radiance(world, suns, planes, height, face[k], bary[k], depth[k], origin, way, stretch, tone, texel)
        total += wp.vec3(wp.min(value[0], 3.0), wp.min(value[1], 3.0), wp.min(value[2], 3.0))
        count += 1.0
    out[tid] = total / count


@no_type_check
@wp.kernel
def shade_baked(
    world: World,
    light: wp.array(dtype=wp.vec3),
    c2w: wp.mat44,
    width: int,
    rows: int,
    side: int,
    focal: float,
    face: wp.array(dtype=wp.int32),
    bary: wp.array(dtype=wp.vec2),
    out: wp.array(dtype=wp.vec3),
):
    """One pixel of a room whose light is baked (see kernels.py): the mean over its samples."""
    tid = wp.tid()
    x = tid % width
    y = tid / width
    origin = wp.vec3(c2w[0, 3], c2w[1, 3], c2w[2, 3])
    wide = width * side
    step = stride(world, face, x, y, wide, side)
    total = wp.vec3(0.0, 0.0, 0.0)
    count = float(0.0)
    for s in range(0, side * side, step):
        k = (y * side + s / side) * wide + x * side + s % side
        f = face[k]
        value = world.sky
        if f >= 0:
            u = bary[k][0]
            v = bary[k][1]
            material = world.face_material[f]
            if world.glow[material] > 0.0:
                value = surface_colour(world, f, u, v, 1.0 - u - v) * world.glow[material]
            else:
                flat = wp.cross(
                    world.points[f * 3 + 1] - world.points[f * 3], world.points[f * 3 + 2] - world.points[f * 3]
                )
                value = leaving(world, light, f, wp.dot(flat, world.points[f * 3] - origin) < 0.0, u, v)
        total += wp.vec3(wp.min(value[0], 3.0), wp.min(value[1], 3.0), wp.min(value[2], 3.0))
        count += 1.0
    out[tid] = total / count
