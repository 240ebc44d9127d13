"""Warp kernels of the ray tracer: they bake light and render the photos.

One module, so one compilation. World frame, metres, linear light. Diffuse light is baked once per scene on the lattice
of `shading`, so that photos are free of noise and consistent between views. The random numbers of a pixel depend only
on its position, not on threads.
"""

# Warp needs float(0.0) for a variable that a loop changes, and its loops have unused counters.
# ruff: noqa: UP018, B007
# No `from __future__ import annotations` here: Warp reads the annotations themselves, where an
# array type is a call.
# pyright: reportInvalidTypeForm=false
from typing import no_type_check

import warp as wp

from ovseg3d.synth.shading import World, lattice, leaving, surface_colour

wp.config.log_level = wp.LOG_ERROR
wp.set_module_options({"enable_backward": False})

FAR = wp.constant(1.0e6)
NUDGE = wp.constant(2.0e-4)


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
