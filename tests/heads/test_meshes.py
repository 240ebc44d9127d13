"""Neural meshes: the renderer against triangles and chance, and vertices that lie where they should."""

import numpy as np
import pytest
import torch
import trimesh
from scipy.spatial.transform import Rotation

from ovseg3d.geometry import rotation_of_angles
from ovseg3d.heads.pose.crops import MARGIN
from ovseg3d.heads.pose.meshes import (
    DISTANCE,
    Outline,
    SurfaceShape,
    crop_rays,
    first_hit,
    projected_square,
    surface_vertices,
    vertex_weights,
)

HALF = (0.5, 0.3, 0.8)
ANGLES = np.array([[0.4, 0.3, 0.05], [2.0, -0.2, -0.1], [4.5, 0.8, 0.0]])


def rotations(angles: np.ndarray = ANGLES) -> torch.Tensor:
    return torch.from_numpy(rotation_of_angles(angles).as_matrix()).float()


def solid(outline: Outline) -> trimesh.Trimesh:
    """The same shape as triangles."""
    if outline == "cuboid":
        return trimesh.creation.box(extents=2 * np.array(HALF))
    mesh = trimesh.creation.icosphere(subdivisions=4)
    mesh.apply_scale(HALF)
    return mesh


def nearest_triangle(triangles: np.ndarray, eye: np.ndarray, ways: np.ndarray) -> np.ndarray:
    """Distance along each ray to the first triangle that it meets, infinite without one: eye + t way is the triangle's
    corner and shares of its sides."""
    unit = ways / np.linalg.norm(ways, axis=1, keepdims=True)
    first, sides = triangles[:, 0], triangles[:, 1:] - triangles[:, :1]
    system = np.broadcast_to(np.moveaxis(sides, 1, 2), (len(unit), *sides.shape[:1], 3, 2))
    system = np.concatenate([system, np.broadcast_to(-unit[:, None, :, None], (*system.shape[:2], 3, 1))], 3)
    u, v, t = np.moveaxis(
        np.linalg.solve(system, np.broadcast_to((eye - first)[..., None], (*system.shape[:3], 1))), 2, 0
    )
    inside = (u >= -1e-9) & (v >= -1e-9) & (u + v <= 1 + 1e-9) & (t > 0)
    return np.where(inside, t, np.inf)[..., 0].min(1)


@pytest.mark.parametrize("outline", ["cuboid", "sphere"])
def test_rays_enter_where_the_first_triangle_is(outline: Outline) -> None:
    shape = SurfaceShape(outline, HALF)
    eyes, ways = crop_rays(shape, rotations(), 15)
    points, hit = first_hit(shape, eyes, ways)
    for eye, way, point, there in zip(eyes, ways, points, hit):
        nearest = nearest_triangle(solid(outline).triangles, eye.numpy(), way.numpy())
        # Facets lie inside the sphere, so that a ray may graze it and miss them.
        assert (np.isfinite(nearest) != (there.numpy() > 0)).mean() < 0.02
        both = np.isfinite(nearest) & (there.numpy() > 0)
        assert both.mean() > 0.2
        own = np.linalg.norm(point.numpy() - eye.numpy(), axis=1)
        assert np.abs(own - nearest)[both].max() < 0.02 and np.median(np.abs(own - nearest)[both]) < 2e-3


@pytest.mark.parametrize("outline", ["cuboid", "sphere"])
def test_a_crop_is_the_square_around_the_projection(outline: Outline) -> None:
    shape = SurfaceShape(outline, HALF)
    distance = DISTANCE * float(np.linalg.norm(HALF))
    middle, radius = projected_square(shape, rotations(), distance)
    for turn, xy, half in zip(rotations().numpy(), middle.numpy(), radius.tolist()):
        seen = solid(outline).vertices @ turn.T + [0, 0, distance]
        places = seen[:, :2] / seen[:, 2:]
        low, high = places.min(0), places.max(0)
        assert (low + high) / 2 == pytest.approx(xy, abs=2e-4)
        assert (high - low).max() / 2 == pytest.approx(half, abs=5e-4)


@pytest.mark.parametrize("outline", ["cuboid", "sphere"])
def test_cells_are_covered_as_far_as_chance_finds_the_shape_in_them(outline: Outline) -> None:
    """Random points of the crop, each of them in the shape's projection or not: by the hull of its vertices."""
    from scipy.spatial import Delaunay

    shape, grid = SurfaceShape(outline, HALF), 6
    weights = vertex_weights(shape, rotations(), grid, rays=16)
    distance, rng = DISTANCE * float(np.linalg.norm(HALF)), np.random.default_rng(0)
    for k, turn in enumerate(rotations().numpy()):
        seen = solid(outline).vertices @ turn.T + [0, 0, distance]
        places = seen[:, :2] / seen[:, 2:]
        low, high = places.min(0), places.max(0)
        drawn = rng.uniform(-1, 1, (200_000, 2))
        inside = Delaunay(places).find_simplex(
            (low + high) / 2 + (high - low).max() / 2 * (1 + MARGIN) * drawn
        ) >= 0  # fmt: skip
        column, row = ((drawn + 1) / 2 * grid).astype(int).clip(0, grid - 1).T
        share = np.bincount(row * grid + column, inside, grid**2) / np.bincount(row * grid + column, minlength=grid**2)
        assert np.abs(weights[k].sum(1).numpy() - share).max() < 0.06
        assert np.abs(weights[k].sum(1).numpy() - share).mean() < 0.01


def test_the_camera_sees_the_sides_that_face_it() -> None:
    """From azimuth 0 the front (-y), from 90 degrees the side at +x with the front at the left."""
    shape = SurfaceShape("cuboid", (1.0, 1.0, 1.0), texels=2)
    seen = vertex_weights(shape, rotations(np.array([[0.0, 0.0, 0.0], [np.pi / 2, 0.0, 0.0], [0.6, 0.0, 0.0]])), 8)
    by_face = seen.unflatten(2, (6, 4)).sum(3)  # +x, -x, +y, -y, +z, -z
    assert by_face[0].sum(0).argmax() == 3 and by_face[0, :, [0, 1, 2, 4, 5]].sum() < 1e-4
    assert by_face[1].sum(0).argmax() == 0 and by_face[1, :, [1, 2, 3, 4, 5]].sum() < 1e-4
    columns = by_face[2].unflatten(0, (8, 8)).sum(0)
    assert (columns[:4, 3] > columns[:4, 0]).all() and (columns[5:7, 0] > columns[5:7, 3]).all()
    # A face's upper vertices (z comes last) are in the crop's upper rows.
    rows = seen[0].unflatten(0, (8, 8)).sum(1)[:, 12:]
    assert (rows[1, [1, 3]] > rows[1, [0, 2]]).all() and (rows[6, [1, 3]] < rows[6, [0, 2]]).all()


def test_between_vertices_features_are_bilinear() -> None:
    """A function that is linear on a face is met exactly, away from the face's rim."""
    rng = np.random.default_rng(0)
    points = rng.uniform(-1, 1, (500, 3))
    points[np.arange(500), rng.integers(0, 3, 500)] = rng.choice([-1.0, 1.0], 500)
    texels = 5
    index, weight = surface_vertices(torch.from_numpy(points).float(), texels)
    assert weight.sum(1) == pytest.approx(1, abs=1e-6) and weight.min() > -1e-6
    assert index.min() >= 0 and index.max() < SurfaceShape("cuboid", HALF, texels).vertices
    # Where each vertex is, by the numbering that the module states.
    places = np.zeros((6, texels, texels, 3))
    middle = (np.arange(texels) + 0.5) / texels * 2 - 1
    for face in range(6):
        axis = face // 2
        others = [k for k in range(3) if k != axis]
        places[face, ..., axis] = 1 - 2 * (face % 2)
        places[face, ..., others[0]] = middle[:, None]
        places[face, ..., others[1]] = middle[None, :]
    made = (weight[..., None].numpy() * places.reshape(-1, 3)[index.numpy()]).sum(1)
    free = (np.sort(np.abs(points), 1)[:, 1] < middle[-1]) & (np.abs(points).max(1) == 1)
    assert free.sum() > 200
    assert made[free] == pytest.approx(points[free], abs=1e-5)


def test_turning_the_object_with_its_features_changes_nothing() -> None:
    """A cube that is turned by a quarter shows the next face in the same place."""
    shape = SurfaceShape("cuboid", (1.0, 1.0, 1.0), texels=2)
    quarter = Rotation.from_euler("z", 90, degrees=True).as_matrix()
    turned = rotations() @ torch.from_numpy(quarter).float()
    one, other = (vertex_weights(shape, turn, 6).unflatten(2, (6, 4)).sum(3) for turn in (rotations(), turned))
    # The turn takes +x to +y, +y to -x, -x to -y, -y to +x.
    torch.testing.assert_close(other[..., [0, 2, 1, 3]], one[..., [2, 1, 3, 0]], atol=0.02, rtol=0)
