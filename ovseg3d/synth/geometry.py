"""Shapes of the procedural world, as separate triangles with attributes for shading.

Units are metres, z is up. A `Soup` holds three corners for every triangle; none are shared, so parts can be
concatenated. `grain` are coordinates of the part (x along its longest side) for solid textures such as wood; `uv` are
metres along the surface for flat textures (0..1 if an image is mapped).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy import sparse

from ovseg3d.synth.materials import Material, Real


@dataclass(frozen=True)
class Soup:
    """Triangles: corners, corner normals (unit), solid-texture coordinates, surface coordinates."""

    points: Float[np.ndarray, "faces 3 3"]
    normals: Float[np.ndarray, "faces 3 3"]
    grain: Float[np.ndarray, "faces 3 3"]
    uv: Float[np.ndarray, "faces 3 2"]
    two_sided: bool = False


@dataclass(frozen=True)
class Part:
    """One piece of an object: a surface of one material."""

    soup: Soup
    material: Material

    def moved(self, at=(0.0, 0.0, 0.0), *, yaw=0.0, pitch=0.0, roll=0.0) -> Part:
        """The part turned (roll about x, then pitch about y, then yaw about z; radians), then shifted."""
        return self.transformed(rotation(yaw, pitch, roll), np.asarray(at, dtype=float))

    def transformed(self, linear: np.ndarray, shift: np.ndarray) -> Part:
        """The part under x -> linear x + shift; `linear` may scale as well."""
        normals = self.soup.normals @ np.linalg.inv(linear)
        normals /= np.linalg.norm(normals, axis=-1, keepdims=True) + 1e-12
        return replace(self, soup=replace(self.soup, points=self.soup.points @ linear.T + shift, normals=normals))


def rotation(yaw: Real, pitch: Real = 0.0, roll: Real = 0.0) -> np.ndarray:
    """Rz(yaw) Ry(pitch) Rx(roll) as a 3x3 matrix (radians)."""
    cy, sy, cp, sp, cr, sr = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch), np.cos(roll), np.sin(roll)
    turn_z = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1.0]])
    turn_y = np.array([[cp, 0, sp], [0, 1.0, 0], [-sp, 0, cp]])
    turn_x = np.array([[1.0, 0, 0], [0, cr, -sr], [0, sr, cr]])
    return turn_z @ turn_y @ turn_x


def soup_of(points: np.ndarray, *, smooth_degrees=40.0, uv=None, normals=None, two_sided=False) -> Soup:
    """A Soup from corners (faces, 3, 3): drops slivers, smooths normals between faces that nearly agree.

    Args:
        points: corners (faces, 3, 3) in metres.
        smooth_degrees: faces that turn by less than this share a normal.
        uv: (faces, 3, 2); None projects along the axis that a face looks along.
        normals: (faces, 3, 3) at the corners, instead of smoothed ones.
        two_sided: whether both sides are seen.
    """
    points = np.asarray(points, dtype=float)
    cross = np.cross(points[:, 1] - points[:, 0], points[:, 2] - points[:, 0])
    area2 = np.linalg.norm(cross, axis=1)
    keep = area2 > 1e-9
    points, cross, area2 = points[keep], cross[keep], area2[keep]
    face_normals = cross / area2[:, None]
    corner_normals = (
        _smooth(points, face_normals, area2, np.cos(np.radians(smooth_degrees)))
        if normals is None
        else np.asarray(normals, dtype=float)[keep]
    )
    low, high = points.min((0, 1)), points.max((0, 1))
    order = np.argsort(-(high - low), kind="stable")
    grain = (points - (low + high) / 2)[..., order]
    if uv is None:
        uv = _box_projection(points - low, face_normals)
    else:
        uv = np.asarray(uv, dtype=float)[keep]
    return Soup(points, corner_normals, grain, uv, two_sided)


def _box_projection(points: np.ndarray, face_normals: np.ndarray) -> np.ndarray:
    axis = np.abs(face_normals).argmax(1)
    first, second = np.array([1, 0, 0])[axis], np.array([2, 2, 1])[axis]
    rows = np.arange(len(points))[:, None]
    corners = np.arange(3)[None, :]
    return np.stack([points[rows, corners, first[:, None]], points[rows, corners, second[:, None]]], -1)


def _smooth(points, face_normals, area2, cos_limit):
    """Corner normals: the area-weighted mean over faces at the corner that turn less than the limit."""
    faces = len(points)
    keys = np.round(points.reshape(-1, 3) * 1e5).astype(np.int64)
    _, vertex = np.unique(keys, axis=0, return_inverse=True)
    vertex = vertex.ravel()
    corners = np.arange(3 * faces)
    touches: Any = sparse.csr_matrix((np.ones(3 * faces), (corners, vertex)))
    owns = sparse.csr_matrix((np.ones(3 * faces), (vertex, corners // 3)), shape=(touches.shape[1], faces))
    pairs = (touches @ owns).tocoo()
    corner, other = pairs.row, pairs.col
    agrees = np.einsum("ij,ij->i", face_normals[corner // 3], face_normals[other]) > cos_limit
    corner, other = corner[agrees], other[agrees]
    weighted = face_normals[other] * area2[other, None]
    total = np.stack([np.bincount(corner, weighted[:, k], 3 * faces) for k in range(3)], -1)
    total /= np.linalg.norm(total, axis=1, keepdims=True) + 1e-12
    return total.reshape(faces, 3, 3)


def grid_faces(grid: np.ndarray, values: np.ndarray | None = None) -> np.ndarray:
    """Both triangles of each cell of an (m, n, k) grid, as (faces, 3, k) corners; outside by i x j order."""
    values = grid if values is None else values
    a, b, c, d = values[:-1, :-1], values[1:, :-1], values[1:, 1:], values[:-1, 1:]
    first, second = np.stack([a, b, c], 2), np.stack([a, c, d], 2)
    return np.concatenate([first.reshape(-1, 3, values.shape[-1]), second.reshape(-1, 3, values.shape[-1])])


def box(size, at, material: Material) -> Part:
    """A sharp box of full `size` whose bottom centre is `at`."""
    sx, sy, sz = np.asarray(size, dtype=float) / 2
    corners = np.array([[x, y, z] for x in (-sx, sx) for y in (-sy, sy) for z in (-sz, sz)])
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    faces = [corners[[q[i], q[j], q[k]]] for q in quads for i, j, k in ((0, 1, 2), (0, 2, 3))]
    return Part(soup_of(np.array(faces) + np.array([0, 0, sz]), smooth_degrees=20.0), material).moved(at)


def rounded_box(size, at, material: Material, radius: Real, steps: int = 4) -> Part:
    """A box with rounded edges (radius in metres); bottom centre at `at`.

    Args:
        size: width, depth and height in metres.
        at: of the middle of the bottom.
        material: of all faces.
        radius: of the edges in metres.
        steps: faces around a quarter turn of an edge.
    """
    half = np.asarray(size, dtype=float) / 2
    radius = float(min(radius, *(0.98 * half)))
    core = half - radius
    quarter = np.linspace(0, np.pi / 2, steps + 1)
    latitude = np.concatenate([quarter - np.pi / 2, quarter])
    z_sign = np.concatenate([-np.ones(steps + 1), np.ones(steps + 1)])
    longitude = np.concatenate([quarter + k * np.pi / 2 for k in range(4)] + [[2 * np.pi]])
    x_sign = np.repeat([1, -1, -1, 1, 1], [steps + 1] * 4 + [1])
    y_sign = np.repeat([1, 1, -1, -1, 1], [steps + 1] * 4 + [1])
    normal = np.stack(
        [
            np.cos(latitude)[None, :] * np.cos(longitude)[:, None],
            np.cos(latitude)[None, :] * np.sin(longitude)[:, None],
            np.broadcast_to(np.sin(latitude)[None, :], (len(longitude), len(latitude))),
        ],
        -1,
    )
    sign = np.stack(np.broadcast_arrays(x_sign[:, None], y_sign[:, None], z_sign[None, :]), -1)
    points = normal * radius + sign * core
    # One more row at each pole closes the flat bottom and top.
    columns = np.ones((len(longitude), 1, 1))
    points = np.concatenate([columns * [0, 0, -half[2]], points, columns * [0, 0, half[2]]], 1)
    normal = np.concatenate([columns * [0, 0, -1.0], normal, columns * [0, 0, 1.0]], 1)
    soup = soup_of(grid_faces(points), normals=grid_faces(points, normal))
    return Part(soup, material).moved(np.asarray(at, dtype=float) + [0, 0, half[2]])


def lathe(profile, at, material: Material, *, segments: int = 28, smooth_degrees: Real = 40.0) -> Part:
    """A profile of (radius, height) pairs, bottom to top along the outside, turned about z through `at`.

    Args:
        profile: (radius, height) pairs in metres, bottom to top along the outside.
        at: where the axis stands.
        material: of all faces.
        segments: faces around.
        smooth_degrees: as for `soup_of`.
    """
    profile = np.asarray(profile, dtype=float)
    angle = np.linspace(0, 2 * np.pi, segments + 1)
    radius, height = profile[:, 0], profile[:, 1]
    ring = np.stack([np.cos(angle), np.sin(angle)], -1)
    grid = np.concatenate(
        [
            ring[:, None, :] * radius[None, :, None],
            np.broadcast_to(height[None, :, None], (segments + 1, len(height), 1)),
        ],
        -1,
    )
    along = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(profile, axis=0), axis=1))])
    uv = np.stack(np.broadcast_arrays((angle * max(radius.max(), 1e-6))[:, None], along[None, :]), -1)
    soup = soup_of(grid_faces(grid), uv=grid_faces(grid, uv), smooth_degrees=smooth_degrees)
    return Part(soup, material).moved(at)


def cylinder(radius: Real, height: Real, at, material: Material, *, top: Real | None = None, **kw) -> Part:
    """A closed cylinder (or cone frustum, with radius `top` above) standing on `at`.

    Args:
        radius, height: in metres.
        at: of the middle of the bottom.
        material: of all faces.
        top: radius above; None is `radius`.
        kw: as for `lathe`.
    """
    top = radius if top is None else top
    return lathe([(0, 0), (radius, 0), (top, height), (0, height)], at, material, **kw)


def ball(radius: Real, at, material: Material, *, squash: Real = 1.0, segments: int = 28) -> Part:
    """A sphere (flattened by `squash` in z) resting on `at`.

    Args:
        radius: in metres.
        at: of the lowest point.
        material: of all faces.
        squash: height over width.
        segments: faces around.
    """
    t = np.linspace(-np.pi / 2, np.pi / 2, segments // 2 + 1)
    profile = np.stack([np.abs(np.cos(t)) * radius, (np.sin(t) + 1) * radius * squash], -1)
    profile[[0, -1], 0] = 0
    return lathe(profile, at, material, segments=segments, smooth_degrees=60)


def tube(path, radius, material: Material, *, sides: int = 10) -> Part:
    """A round bar along a path of points (n, 3); `radius` may vary along it; ends closed."""
    path = np.asarray(path, dtype=float)
    radius = np.broadcast_to(np.asarray(radius, dtype=float), len(path))
    ahead = np.gradient(path, axis=0)
    ahead /= np.linalg.norm(ahead, axis=1, keepdims=True)
    guess = np.eye(3)[np.abs(ahead).sum(0).argmin()]
    side = np.cross(ahead, guess)
    side /= np.linalg.norm(side, axis=1, keepdims=True)
    up = np.cross(ahead, side)
    angle = np.linspace(0, 2 * np.pi, sides + 1)
    rim = np.cos(angle)[:, None, None] * side + np.sin(angle)[:, None, None] * up
    grid = path + rim * radius[:, None]
    ends = [np.broadcast_to(path[k], (sides + 1, 1, 3)) for k in (0, -1)]
    grid = np.concatenate([ends[0], grid, ends[1]], 1)
    return Part(soup_of(grid_faces(grid), smooth_degrees=50), material)


def prism(outline, depth: Real, at, material: Material) -> Part:
    """A convex outline in (x, z), counter-clockwise seen from the front, extruded along y; centred on `at`."""
    outline = np.asarray(outline, dtype=float)
    front = np.stack([outline[:, 0], np.full(len(outline), -depth / 2), outline[:, 1]], -1)
    back = front + [0, depth, 0]
    faces = [[front[0], front[i], front[i + 1]] for i in range(1, len(front) - 1)]
    faces += [[back[0], back[i + 1], back[i]] for i in range(1, len(back) - 1)]
    for i in range(len(front)):
        j = (i + 1) % len(front)
        faces += [[front[i], back[i], back[j]], [front[i], back[j], front[j]]]
    return Part(soup_of(np.array(faces), smooth_degrees=35), material).moved(at)


def pillow(size, at, material: Material, *, power: Real = 0.55, steps: int = 16) -> Part:
    """A stuffed cushion lying flat: thick in the middle, thin at the seams; bottom centre at `at`.

    Args:
        size: width, depth and height in metres.
        at: of the middle of the bottom.
        material: of all faces.
        power: small is stuffed to the seams, 1 a thin one.
        steps: faces along a side.
    """
    w, d, h = size
    s = np.linspace(-1, 1, steps + 1)
    x, y = np.meshgrid(s, s, indexing="ij")
    puff = ((1 - x**4).clip(0) * (1 - y**4).clip(0)) ** power
    # Seams are drawn in between the corners, as a stuffed cover does.
    px, py = x * (1 - 0.08 * (1 - y**2)), y * (1 - 0.08 * (1 - x**2))
    top = np.stack([px * w / 2, py * d / 2, h / 2 + puff * h / 2], -1)
    bottom = np.stack([px * w / 2, py * d / 2, h / 2 - puff * h / 2], -1)
    faces = np.concatenate([grid_faces(top), grid_faces(bottom)[:, ::-1]])
    return Part(soup_of(faces, smooth_degrees=70), material).moved(at)


def sheet(grid: np.ndarray, material: Material, *, uv: np.ndarray | None = None) -> Part:
    """An open surface through an (m, n, 3) grid of points, seen from both sides (leaves, cloth)."""
    corners = None if uv is None else grid_faces(grid, uv)
    return Part(soup_of(grid_faces(grid), uv=corners, smooth_degrees=80, two_sided=True), material)


def panel(width: Real, height: Real, at, material: Material) -> Part:
    """An upright rectangle that faces -y with an image's uv (0..1, v up); bottom centre at `at`."""
    x, z = np.array([-width / 2, width / 2]), np.array([0.0, height])
    grid = np.stack(np.broadcast_arrays(x[:, None], 0.0, z[None, :]), -1)
    uv = np.stack(np.broadcast_arrays(np.array([0.0, 1.0])[:, None], np.array([0.0, 1.0])[None, :]), -1)
    return Part(soup_of(grid_faces(grid), uv=grid_faces(grid, uv)), material).moved(at)
