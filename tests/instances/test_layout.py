"""Layout: the planes of small shapes, which are known."""

import numpy as np
import pytest

from ovseg3d.instances.layout import CEILING, FLOOR, NONE, WALL, Plane, find_layout, is_room
from ovseg3d.runs.config import Layout

Z = np.array([0.0, 0.0, 1.0])
GAP = 0.05


def sheet(corner, along, across) -> np.ndarray:
    a, b = np.mgrid[0 : 1 : GAP / np.linalg.norm(along), 0 : 1 : GAP / np.linalg.norm(across)]
    return np.asarray(corner, float) + a.reshape(-1, 1) * np.asarray(along) + b.reshape(-1, 1) * np.asarray(across)


def joined(*parts: tuple[np.ndarray, object]) -> tuple[np.ndarray, np.ndarray]:
    """Points, and their normals, from sheets that face one way each."""
    normals = [np.broadcast_to(np.asarray(facing, float), points.shape) for points, facing in parts]
    return np.concatenate([points for points, _ in parts]), np.concatenate(normals)


def found_in(xyz: np.ndarray, normal: np.ndarray, layout: Layout = "indoor") -> tuple[np.ndarray, np.ndarray]:
    """The plane of each point, and its class; superpoints are cells that face one way."""
    cell = np.concatenate([np.floor(xyz / 0.25 + 0.1), np.round(normal)], 1)
    _, superpoint = np.unique(cell, axis=0, return_inverse=True)
    plane, kind = find_layout(xyz, normal, np.full(len(xyz), GAP**2), superpoint.ravel(), Z, GAP, layout)
    return plane[superpoint.ravel()], kind[superpoint.ravel()]


def walls(*angles: float, bumpy: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """A floor, and walls 4 m wide, 2 m from its middle, that face in directions given in degrees; their points and
    normals, which are off by up to `bumpy` radians, more to one side."""
    random = np.random.default_rng(0)
    parts: list[tuple[np.ndarray, object]] = [(sheet((-2, -2, 0), (4, 0, 0), (0, 4, 0)), Z)]
    for angle in np.radians(angles):
        facing, along = np.array([np.cos(angle), np.sin(angle), 0]), np.array([-np.sin(angle), np.cos(angle), 0])
        wall = sheet(-2 * facing - 2 * along, 4 * along, (0, 0, 2.5))
        off = angle + random.uniform(-0.3 * bumpy, bumpy, len(wall))
        parts.append((wall, np.stack([np.cos(off), np.sin(off), np.zeros(len(wall))], -1)))
    return joined(*parts)


@pytest.mark.parametrize("angles", [(20, 110, 200, 290), (0, 98, 180, 230), (0, 70, 180, 300)])
def test_floor_and_walls_are_planes_of_their_own_whatever_their_directions(angles: tuple[float, ...]) -> None:
    xyz, normal = walls(*angles)
    plane, kind = found_in(xyz, normal)
    assert plane.max() == 5 and (kind[xyz[:, 2] == 0] == FLOOR).mean() > 0.95
    for angle in np.radians(angles):
        own = (normal @ [np.cos(angle), np.sin(angle), 0] > 0.999) & (xyz[:, 2] > 0.3)
        assert (kind[own] == WALL).all() and (plane[own] == np.bincount(plane[own]).argmax()).mean() > 0.9


def test_walls_are_where_their_points_are_though_their_normals_are_off() -> None:
    xyz, normal = walls(20, 110, 200, 290, bumpy=0.5)
    plane, kind = found_in(xyz, normal)
    assert plane.max() == 5 and (kind[xyz[:, 2] > 0.3] == WALL).mean() > 0.9


def test_a_table_top_has_surface_behind_it_and_is_no_floor() -> None:
    xyz, normal = joined((sheet((-2, -2, 0), (4, 0, 0), (0, 4, 0)), Z), (sheet((-1, -1, 0.7), (2, 0, 0), (0, 2, 0)), Z))
    plane, kind = found_in(xyz, normal)
    assert plane.max() == 1 and (kind == np.where(xyz[:, 2] == 0, FLOOR, NONE)).all()


@pytest.mark.parametrize(("share", "count"), [(0.2, 2), (0.5, 1)])
def test_a_little_may_lie_behind_a_wall(share: float, count: int) -> None:
    """Stray points, or a room around a corner; behind a cupboard's front there is more of its wall."""
    floor, front = sheet((-2, -2, 0), (4, 0, 0), (0, 4, 0)), sheet((0, -2, 0), (0, 4, 0), (0, 0, 2.5))
    behind = sheet((-0.5, -2, 0), (0, 4, 0), (0, 0, 2.5 * share))
    plane, _ = found_in(*joined((floor, Z), (front, (1, 0, 0)), (behind, (0, -1, 0))))
    own = slice(len(floor), len(floor) + len(front))
    assert plane.max() == count and (plane[own] > 0).all() == (count == 2)


def test_small_planes_are_none() -> None:
    xyz, normal = joined(
        (sheet((-2, -2, 0), (4, 0, 0), (0, 4, 0)), Z), (sheet((-2, -2, 0), (0, 1, 0), (0, 0, 0.3)), (1, 0, 0))
    )
    assert found_in(xyz, normal)[0].max() == 1


@pytest.mark.parametrize("slope", [0, 15, 30, 40])
def test_a_ceiling_may_slope(slope: float) -> None:
    rise, angle = 4 * np.tan(np.radians(slope)), np.radians(slope)
    roof = sheet((-2, -2, 2.5), (4, 0, rise), (0, 4, 0)), (np.sin(angle), 0, -np.cos(angle))
    xyz, normal = walls(0, 90, 180)
    above, facing = joined(roof)
    plane, kind = found_in(np.concatenate([xyz, above]), np.concatenate([normal, facing]))
    assert plane.max() == 5 and (kind[len(xyz) :] == CEILING).mean() > 0.9


def plane(*normal: float) -> Plane:
    return Plane(np.array(normal) / np.linalg.norm(normal), 0.0)


@pytest.mark.parametrize(
    ("normals", "room"),
    [
        (((0, 0, 1), (1, 0, 0), (0, 1, 0)), True),  # the corner of a room
        (((0, 0, 1), (1, 0, 0), (-1, 0, 0)), True),  # a corridor
        (((0, 0, -1), (1, 0, 0), (0, 1, 0)), True),  # photos that look up
        (((0, 0, 1), (1, 0, 0.5), (1, 0.2, 0)), False),  # a lawn, and a facade with a bend
        (((0, 0, 1), (1, 0, 0)), False),  # a table top before a wall
        (((0, 0, 1),), False),
        (((1, 0, 0), (0, 1, 0)), False),  # the corner of a house
        ((), False),
    ],
)
def test_which_planes_make_a_room(normals: tuple[tuple[float, float, float], ...], room: bool) -> None:
    assert is_room([plane(*normal) for normal in normals], Z) is room


def test_the_setting_decides_which_planes_count() -> None:
    settings: tuple[Layout, ...] = "auto", "indoor", "none"
    for angles, counts in (((0, 90), (3, 3, 0)), ((0,), (0, 2, 0))):
        xyz, normal = walls(*angles)
        for layout, count in zip(settings, counts, strict=True):
            plane, kind = found_in(xyz, normal, layout)
            assert plane.max() == count and ((plane > 0) == (kind != NONE)).all()
