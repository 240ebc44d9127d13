"""Warp kernels of the synthetic world: ray queries, patterns, baked light, and the photos.

One module, so one compilation. Everything is in the world frame, metres, linear light. Diffuse light is baked
once per scene on a triangular lattice over every face (level n: lattice points (i, j) with i + j <= n, where
barycentric u = i / n, v = j / n), so that photos are free of noise and agree between views. A pixel's random
numbers depend only on its place, never on threads.
"""

# Warp needs float(0.0) for a variable that a loop changes, and its loops have unused counters.
# ruff: noqa: UP018, B007
# No `from __future__ import annotations` here: Warp reads the annotations themselves.
from typing import no_type_check

import warp as wp

wp.config.log_level = wp.LOG_ERROR
wp.set_module_options({"enable_backward": False})

FAR = wp.constant(1.0e6)
NUDGE = wp.constant(2.0e-4)


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


class LightsFields:
    corner: wp.array(dtype=wp.vec3)  # rectangles: corner, two sides, normal, radiance
    side_a: wp.array(dtype=wp.vec3)
    side_b: wp.array(dtype=wp.vec3)
    normal: wp.array(dtype=wp.vec3)
    radiance: wp.array(dtype=wp.vec3)
    count: int
    rounds: int  # samples per side of a rectangle
    sun: wp.vec3  # towards the sun; shines through rectangle 0 only
    sun_light: wp.vec3
    open_sky: wp.vec3  # light of unblocked directions, for worlds without a ceiling


Lights = wp.struct(LightsFields)


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


@no_type_check
@wp.func
def sample_place(world: World, face: int, i: int, j: int, back: int):
    """Lattice point (i, j) a little inside its face, and the normal there on the wanted side."""
    level = float(world.face_level[face])
    u = (float(i) / level) * 0.98 + 0.00667
    v = (float(j) / level) * 0.98 + 0.00667
    w = 1.0 - u - v
    normal = wp.normalize(
        world.normals[face * 3] * u + world.normals[face * 3 + 1] * v + world.normals[face * 3 + 2] * w
    )
    flat = wp.normalize(
        wp.cross(
            world.points[face * 3 + 1] - world.points[face * 3], world.points[face * 3 + 2] - world.points[face * 3]
        )
    )
    if back == 1:
        normal = -normal
        flat = -flat
    place = world.points[face * 3] * u + world.points[face * 3 + 1] * v + world.points[face * 3 + 2] * w
    return place + flat * NUDGE, normal


@no_type_check
@wp.kernel
def bake_direct(
    world: World,
    lights: Lights,
    seed: int,
    start: int,
    face: wp.array(dtype=wp.int32),
    row: wp.array(dtype=wp.int32),
    column: wp.array(dtype=wp.int32),
    back: wp.array(dtype=wp.int32),
    out: wp.array(dtype=wp.vec3),
):
    tid = wp.tid() + start
    place, normal = sample_place(world, face[tid], row[tid], column[tid], back[tid])
    state = wp.rand_init(seed, tid)
    total = wp.vec3(0.0, 0.0, 0.0)
    rounds = lights.rounds
    for k in range(lights.count):
        area = wp.length(wp.cross(lights.side_a[k], lights.side_b[k]))
        centre = lights.corner[k] + (lights.side_a[k] + lights.side_b[k]) * 0.5
        if wp.dot(place - centre, lights.normal[k]) > 0.0:
            part = float(0.0)
            for s in range(rounds * rounds):
                a = (float(s % rounds) + wp.randf(state)) / float(rounds)
                b = (float(s / rounds) + wp.randf(state)) / float(rounds)
                way = lights.corner[k] + lights.side_a[k] * a + lights.side_b[k] * b - place
                distance = wp.length(way)
                way = way / distance
                facing = wp.dot(way, normal)
                leaves = -wp.dot(way, lights.normal[k])
                if facing > 0.0 and leaves > 0.0:
                    if not wp.mesh_query_ray_anyhit(world.mesh, place, way, distance - 4.0 * NUDGE):
                        part += facing * leaves / wp.max(distance * distance, 0.01)
            total += lights.radiance[k] * (part * area / float(rounds * rounds))
    if lights.sun_light[0] > 0.0:
        part = float(0.0)
        for s in range(8):
            jitter = wp.sample_unit_sphere(state) * 0.025
            way = wp.normalize(lights.sun + jitter)
            facing = wp.dot(way, normal)
            slope = wp.dot(way, lights.normal[0])
            if facing > 0.0 and slope < 0.0:
                reach = wp.dot(lights.corner[0] - place, lights.normal[0]) / slope
                if reach > 0.0:
                    hit = place + way * reach - lights.corner[0]
                    a = wp.dot(hit, lights.side_a[0]) / wp.length_sq(lights.side_a[0])
                    b = wp.dot(hit, lights.side_b[0]) / wp.length_sq(lights.side_b[0])
                    if a > 0.0 and a < 1.0 and b > 0.0 and b < 1.0:
                        if not wp.mesh_query_ray_anyhit(world.mesh, place, way, reach - 4.0 * NUDGE):
                            part += facing / 8.0
        total += lights.sun_light * part
    out[tid] = total


@no_type_check
@wp.kernel
def bake_bounce(
    world: World,
    lights: Lights,
    seed: int,
    start: int,
    rounds: int,
    face: wp.array(dtype=wp.int32),
    row: wp.array(dtype=wp.int32),
    column: wp.array(dtype=wp.int32),
    back: wp.array(dtype=wp.int32),
    light: wp.array(dtype=wp.vec3),
    out: wp.array(dtype=wp.vec3),
):
    """Light that reaches each lattice point from other surfaces (cosine-weighted directions)."""
    tid = wp.tid() + start
    place, normal = sample_place(world, face[tid], row[tid], column[tid], back[tid])
    state = wp.rand_init(seed, tid)
    helper = wp.vec3(1.0, 0.0, 0.0)
    if wp.abs(normal[0]) > 0.7:
        helper = wp.vec3(0.0, 1.0, 0.0)
    tangent = wp.normalize(wp.cross(helper, normal))
    bitangent = wp.cross(normal, tangent)
    total = wp.vec3(0.0, 0.0, 0.0)
    for s in range(rounds * rounds):
        a = (float(s % rounds) + wp.randf(state)) / float(rounds)
        b = (float(s / rounds) + wp.randf(state)) / float(rounds)
        radius = wp.sqrt(a)
        way = (
            tangent * (radius * wp.cos(6.2831853 * b))
            + bitangent * (radius * wp.sin(6.2831853 * b))
            + normal * wp.sqrt(wp.max(1.0 - a, 0.0))
        )
        query = wp.mesh_query_ray(world.mesh, place, way, FAR)
        if query.result:
            total += leaving(world, light, query.face, query.sign > 0.0, query.u, query.v)
        else:
            total += lights.open_sky
    out[tid] = total * (3.14159265 / float(rounds * rounds))


@no_type_check
@wp.kernel
def smooth_light(
    world: World,
    start: int,
    face: wp.array(dtype=wp.int32),
    row: wp.array(dtype=wp.int32),
    column: wp.array(dtype=wp.int32),
    back: wp.array(dtype=wp.int32),
    light: wp.array(dtype=wp.vec3),
    out: wp.array(dtype=wp.vec3),
):
    """A lattice point and its six neighbours, averaged: bounced light varies slowly."""
    tid = wp.tid() + start
    level = world.face_level[face[tid]]
    first = world.face_start[face[tid]]
    if back[tid] == 1:
        first = world.face_back[face[tid]]
    total = light[tid] * 2.0
    weight = float(2.0)
    for k in range(6):
        di = int(0)
        dj = int(0)
        if k == 0 or k == 5:
            di = 1
        if k == 2 or k == 3:
            di = -1
        if k == 1 or k == 2:
            dj = 1
        if k == 4 or k == 5:
            dj = -1
        i = row[tid] + di
        j = column[tid] + dj
        if i >= 0 and j >= 0 and i + j <= level:
            total += light[first + lattice(i, j, level)]
            weight += 1.0
    out[tid] = total / weight


@no_type_check
@wp.func
def seen(world: World, light: wp.array(dtype=wp.vec3), origin: wp.vec3, way: wp.vec3):
    """Radiance along one camera ray: glow, diffuse, and for glossy things one mirrored ray."""
    result = world.sky
    query = wp.mesh_query_ray(world.mesh, origin, way, FAR)
    if query.result:
        face = query.face
        material = world.face_material[face]
        front = query.sign > 0.0
        if world.glow[material] > 0.0:
            result = surface_colour(world, face, query.u, query.v, 1.0 - query.u - query.v) * world.glow[material]
        else:
            result = leaving(world, light, face, front, query.u, query.v)
        shine = world.gloss[material]
        if shine > 0.0:
            u = query.u
            v = query.v
            normal = wp.normalize(
                world.normals[face * 3] * u
                + world.normals[face * 3 + 1] * v
                + world.normals[face * 3 + 2] * (1.0 - u - v)
            )
            if wp.dot(normal, way) > 0.0:
                normal = -normal
            cosine = -wp.dot(normal, way)
            mirrored = way + normal * (2.0 * cosine)
            strength = shine * (0.3 + 0.7 * wp.pow(1.0 - cosine, 4.0))
            again = wp.mesh_query_ray(world.mesh, origin + way * query.t + normal * 1.0e-3, mirrored, FAR)
            other = world.sky
            if again.result:
                other = leaving(world, light, again.face, again.sign > 0.0, again.u, again.v)
                material = world.face_material[again.face]
                if world.glow[material] > 0.0:
                    other = (
                        surface_colour(world, again.face, again.u, again.v, 1.0 - again.u - again.v)
                        * world.glow[material]
                    )
            result = result * (1.0 - strength) + other * strength
    return result


@no_type_check
@wp.kernel
def photograph(
    world: World,
    light: wp.array(dtype=wp.vec3),
    c2w: wp.mat44,
    width: int,
    fx: float,
    fy: float,
    cx: float,
    cy: float,
    side: int,
    out_rgb: wp.array(dtype=wp.vec3),
    out_depth: wp.array(dtype=float),
    out_face: wp.array(dtype=wp.int32),
):
    """A pinhole photo (OpenCV axes): mean radiance over side x side rays a pixel, and the centre ray's hit."""
    tid = wp.tid()
    x = float(tid % width)
    y = float(tid / width)
    origin = wp.vec3(c2w[0, 3], c2w[1, 3], c2w[2, 3])
    state = wp.rand_init(29, tid)
    total = wp.vec3(0.0, 0.0, 0.0)
    for s in range(side * side):
        px = x + (float(s % side) + wp.randf(state)) / float(side)
        py = y + (float(s / side) + wp.randf(state)) / float(side)
        way = wp.normalize(wp.transform_vector(c2w, wp.vec3((px - cx) / fx, (py - cy) / fy, 1.0)))
        value = seen(world, light, origin, way)
        total += wp.vec3(wp.min(value[0], 3.0), wp.min(value[1], 3.0), wp.min(value[2], 3.0))
    if side > 0:
        out_rgb[tid] = total / float(side * side)
    ray = wp.vec3((x + 0.5 - cx) / fx, (y + 0.5 - cy) / fy, 1.0)
    stretch = wp.length(ray)
    query = wp.mesh_query_ray(world.mesh, origin, wp.transform_vector(c2w, ray / stretch), FAR)
    if query.result:
        out_depth[tid] = query.t / stretch
        out_face[tid] = query.face
    else:
        out_depth[tid] = 0.0
        out_face[tid] = -1


@no_type_check
@wp.kernel
def colour_points(
    world: World,
    face: wp.array(dtype=wp.int32),
    bary: wp.array(dtype=wp.vec3),
    out: wp.array(dtype=wp.vec3),
):
    """The plain surface colour at given barycentric places."""
    tid = wp.tid()
    out[tid] = surface_colour(world, face[tid], bary[tid][0], bary[tid][1], bary[tid][2])


@no_type_check
@wp.kernel
def see_points(
    world: World,
    eyes: wp.array(dtype=wp.mat44),
    count: int,
    fx: float,
    fy: float,
    cx: float,
    cy: float,
    start: int,
    points: wp.array(dtype=wp.vec3),
    out: wp.array(dtype=wp.int32),
):
    """How many of the cameras (world to camera, OpenCV) see each point without anything in between."""
    tid = wp.tid() + start
    for k in range(count):
        inside = wp.transform_point(eyes[k], points[tid])
        if inside[2] > 0.05:
            x = inside[0] / inside[2] * fx + cx
            y = inside[1] / inside[2] * fy + cy
            if x > 0.0 and y > 0.0 and x < 2.0 * cx and y < 2.0 * cy:
                centre = wp.transform_point(wp.inverse(eyes[k]), wp.vec3(0.0, 0.0, 0.0))
                way = centre - points[tid]
                distance = wp.length(way)
                way = way / distance
                if not wp.mesh_query_ray_anyhit(world.mesh, points[tid] + way * 2.0e-3, way, distance - 4.0e-3):
                    out[tid] = out[tid] + 1
