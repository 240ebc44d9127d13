"""Layout: the planes of small shapes, which are known."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from ovseg3d.instances.layout import (
    CEILING,
    FLOOR,
    WALL,
    Plane,
    StructureConfig,
    find_layout,
    is_room,
    lies_on,
    room_planes,
)

Z = np.array([0.0, 0.0, 1.0])


def test_points_that_scatter_lie_on_their_plane() -> None:
    planes = [Plane(Z, 0.0, 0.05), Plane(np.array([1.0, 0.0, 0.0]), -2.0, 0.05)]
    cases = {
        (0.0, 0.0, 0.04): 1,
        (0.0, 0.0, 0.2): 0,
        (0.0, 0.0, -0.12): 1,  # behind it nothing else can be
        (0.0, 0.0, -0.3): 0,
        (-1.97, 0.0, 1.0): 2,
    }
    xyz = np.array(list(cases))
    normal = np.where(np.array(list(cases.values()))[:, None] == 2, [1.0, 0, 0], Z)
    cell = np.full(len(xyz), 0.01)
    assert lies_on(planes, xyz, normal, cell).tolist() == list(cases.values())
    assert lies_on(planes, xyz[1:2], normal[1:2], np.array([0.2])).tolist() == [1]  # as coarse as that
    assert (lies_on(planes, xyz, -normal, cell) == 0).all()
    assert (lies_on([], xyz, normal, cell) == 0).all()


def sheet(corner, along, across, step: float = 0.05) -> np.ndarray:
    a, b = np.mgrid[0 : 1 : step / np.linalg.norm(along), 0 : 1 : step / np.linalg.norm(across)]
    return np.asarray(corner, float) + a.reshape(-1, 1) * np.asarray(along) + b.reshape(-1, 1) * np.asarray(across)


def test_a_wall_of_which_little_is_seen_and_one_with_stray_points_behind_it() -> None:
    floor = sheet((-2, -2, 0), (4, 0, 0), (0, 4, 0))
    wall = sheet((-2, -2, 0), (0, 4, 0), (0, 0, 2.5))
    strip = sheet((-2, 2, 1.9), (4, 0, 0), (0, 0, 0.6))  # above a row of cupboards, say
    stray = np.random.default_rng(0).uniform((-2.6, -2, 0), (-2.3, 2, 2.5), (160, 3))
    parts = [(floor, Z), (wall, (1.0, 0, 0)), (strip, (0, -1.0, 0)), (stray, (0, 0, 1.0))]
    xyz = np.concatenate([points for points, _ in parts])
    normal = np.concatenate([np.tile(np.asarray(facing, float), (len(points), 1)) for points, facing in parts])
    # The strip's normals scatter: no direction of its own stands out.
    turn = np.random.default_rng(1).uniform(-0.6, 0.6, len(strip))
    at = slice(len(floor) + len(wall), len(floor) + len(wall) + len(strip))
    normal[at] = np.stack([np.sin(turn), -np.cos(turn), np.zeros(len(turn))], -1)
    planes = room_planes(xyz, normal, np.full(len(xyz), 0.05**2), Z, 0.05)
    assert sorted(plane.kind(Z) for plane in planes) == [FLOOR, WALL, WALL]
    assert Plane(-Z, -2.5, 0.1).kind(Z) == CEILING


def test_stray_points_may_gather_behind_a_wall_but_a_front_has_surface_behind_it() -> None:
    def found(behind: float) -> list[int]:
        floor = sheet((-2, -2, 0), (4, 0, 0), (0, 4, 0))
        front = sheet((-2, 0, 0), (0, 2, 0), (0, 0, 2.5))
        hidden = sheet((-2.5, 0, 0), (0, 2, 0), (0, 0, 2.5 * behind))
        xyz = np.concatenate([floor, front, hidden])
        normal = np.repeat([Z, [1.0, 0, 0], Z], [len(floor), len(front), len(hidden)], 0)
        planes = room_planes(xyz, normal, np.full(len(xyz), 0.05**2), Z, 0.05)
        return sorted(plane.kind(Z) for plane in planes)

    assert found(0.1) == [FLOOR, WALL] and found(0.3) == [FLOOR]


def walls(*angles: float, bumpy: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """A floor, and walls 4 m wide, 2 m from its middle, that face in directions given in degrees; their points and
    normals, which are off by up to `bumpy` radians, more to one side."""
    random = np.random.default_rng(0)
    parts, normals = [sheet((-2, -2, 0), (4, 0, 0), (0, 4, 0))], [np.tile(Z, (6400, 1))]
    for angle in np.radians(angles):
        facing, along = np.array([np.cos(angle), np.sin(angle), 0]), np.array([-np.sin(angle), np.cos(angle), 0])
        wall = sheet(-2 * facing - 2 * along, 4 * along, (0, 0, 2.5))
        off = angle + random.uniform(-0.3 * bumpy, bumpy, len(wall))
        parts.append(wall)
        normals.append(np.stack([np.cos(off), np.sin(off), np.zeros(len(wall))], -1))
    assert len(parts[0]) == len(normals[0])
    return np.concatenate(parts), np.concatenate(normals)


def found_in(xyz: np.ndarray, normal: np.ndarray) -> list[int]:
    """The directions of the walls that are found, in degrees."""
    planes = room_planes(xyz, normal, np.full(len(xyz), 0.05**2), Z, 0.05)
    return sorted(
        round(float(np.degrees(np.arctan2(*plane.normal[[1, 0]])))) % 360 for plane in planes if plane.kind(Z) == WALL
    )


def test_walls_are_where_their_points_are_though_their_normals_are_off() -> None:
    assert found_in(*walls(20, 110, 200, 290, bumpy=0.5)) == [20, 110, 200, 290]


def test_a_wall_may_be_oblique() -> None:
    assert found_in(*walls(0, 90, 180, 230)) == [0, 90, 180, 230]


def test_a_wall_is_found_behind_sheets_that_look_like_one() -> None:
    """Little of it is seen, and the sheets have it behind them."""
    xyz, normal = walls(0, 90, 180)
    seen = sheet((-2, 2, 0), (4, 0, 0), (0, 0, 0.5))
    fog = [sheet((-2, y, 0), (4, 0, 0), (0, 0, 0.9)) for y in (1.2, 1.55)]
    facing = np.tile([0, -1.0, 0], (len(seen) + sum(map(len, fog)), 1))
    everything = np.concatenate([xyz, seen, *fog]), np.concatenate([normal, facing])
    np.testing.assert_allclose(found_in(*everything), [0, 90, 180, 270], atol=5)


def test_a_wall_alone_is_one() -> None:
    floor = sheet((-2, -2, 0), (4, 0, 0), (0, 4, 0))
    wall = sheet((-2, -2, 0), (0, 1, 0), (0, 0, 0.7))
    xyz = np.concatenate([floor, wall])
    assert found_in(xyz, np.repeat([Z, [1.0, 0, 0]], [len(floor), len(wall)], 0)) == [0]


def test_four_walls_stand_out_where_a_field_makes_each_face_anywhere() -> None:
    """Furniture is crisp and stands askew; walls are bumpy, so that no direction holds much of any."""
    sides, random = (0, 90, 180, 270), np.random.default_rng(2)
    xyz, normal = walls(*sides)
    wall = normal[:, 2] == 0
    normal[wall] = Rotation.from_rotvec(random.normal(size=(int(wall.sum()), 3)) * 0.5).apply(normal[wall])
    tops = [sheet((-1.5, -1.5, height), (3, 0, 0), (0, 3, 0)) for height in (0.4, 0.6, 0.8, 1.0, 1.2, 1.4)]
    front = sheet((-0.3, -0.4, 0), (0.66, 0.45, 0), (0, 0, 0.4))
    facing = np.concatenate([np.tile(Z, (sum(map(len, tops)), 1)), np.tile([0.56, -0.83, 0], (len(front), 1))])
    found = found_in(np.concatenate([xyz, *tops, front]), np.concatenate([normal, facing]))
    np.testing.assert_allclose(found, sides, atol=3)


@pytest.mark.parametrize("degrees", [0, 10, 20])
def test_a_tilted_ceiling_is_one_plane(degrees: float) -> None:
    """It lies in many layers."""
    slope, (xyz, normal) = np.tan(np.radians(degrees)), walls(0, 90, 180, 270)
    above = sheet((-2, -2, 2.5), (4, 0, 4 * slope), (0, 4, 0))
    down = np.array([slope, 0, -1.0]) / np.hypot(slope, 1)
    xyz, normal = np.concatenate([xyz, above]), np.concatenate([normal, np.tile(down, (len(above), 1))])
    planes = room_planes(xyz, normal, np.full(len(xyz), 0.05**2), Z, 0.05)
    (ceiling,) = [plane for plane in planes if plane.kind(Z) == CEILING]
    assert ceiling.normal @ down > 0.999 and len(planes) == 6


def plane(*normal: float) -> Plane:
    return Plane(np.array(normal) / np.linalg.norm(normal), 0.0, 0.05)


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
    for angles, counts in (((0, 90), {"auto": 3, "indoor": 3, "none": 0}), ((0,), {"auto": 0, "indoor": 2, "none": 0})):
        xyz, normal = walls(*angles)
        for layout, count in counts.items():
            config = StructureConfig(layout=layout)
            assert len(find_layout(xyz, normal, np.full(len(xyz), 0.05**2), Z, 0.05, config)) == count
