"""Planar instances: a door of the wall's colour is found by its features; other planes have none."""

from dataclasses import replace

import numpy as np
import pytest
from test_grouping import GAP, Room

from ovseg3d.instances.grouping import NONE, WALL, Instances
from ovseg3d.instances.layout import CEILING, FLOOR
from ovseg3d.instances.planar import PlanarConfig, PlanarInstances, find_planar_instances

WORDS = np.eye(8, dtype=np.float32)
"""Texts; the last is what no word says."""
KINDS = np.array([FLOOR, WALL, CEILING, NONE, NONE, NONE, NONE])
DOOR, SHELF, LAMP = 3, 4, 5
SCALE = 20.0


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def wall() -> Room:
    """4 x 2.4 m, with a shelf (instance 1) before it on the left."""
    room = Room().sheet((-2, 0, 0), (4, 0, 0), (0, 0, 2.4), (0, -1, 0), 0, 0)
    return room.sheet((-2, -GAP, 0), (0.8, 0, 0), (0, 0, 2), (0, -1, 0), 1, 1)


def scene(door: float = 0.35) -> tuple[Room, Instances, np.ndarray, np.ndarray]:
    """Room, instances, features, and which points are the door: `door` nearer to its word than a wall to its own."""
    room, random = wall(), np.random.default_rng(0)
    xyz = np.concatenate(room.xyz)
    vectors = np.tile(0.3 * WORDS[1] + 0.8 * WORDS[7], (len(xyz), 1))
    is_door = (room.instances == 0) & (np.abs(xyz[:, 0] - 1) < 0.45) & (xyz[:, 2] < 2)
    vectors[is_door] += door * WORDS[DOOR]
    # The shelf is one; features of the wall beside it are blurred.
    beside = np.exp(-np.maximum(xyz[:, 0] + 1.2, 0) / 0.4) * (room.instances == 0)
    vectors += (0.5 * beside + 0.6 * (room.instances == 1))[:, None] * WORDS[SHELF]
    vectors = unit(vectors + 0.05 * random.normal(size=vectors.shape)).astype(np.float32)
    layout = np.where(room.instances == 0, WALL, NONE)
    instances = Instances(room.instances.astype(np.int64), np.arange(len(xyz)), layout)
    return room, instances, vectors, is_door


def find(room: Room, instances: Instances, vectors: np.ndarray, **config: float) -> PlanarInstances:
    return find_planar_instances(room.surface(), instances, vectors, WORDS[:7], KINDS, SCALE, PlanarConfig(**config))


def iou(rows: np.ndarray, truth: np.ndarray) -> float:
    found = np.isin(np.arange(len(truth)), rows)
    return (found & truth).sum() / (found | truth).sum()


def test_a_door_in_its_wall_is_found_and_what_is_blurred_over_the_wall_is_not() -> None:
    room, instances, vectors, door = scene(0.8)
    panels = find(room, instances, vectors)
    assert panels.word == (DOOR,) and iou(panels.points[0], door) > 0.85
    found = panels.join(instances)
    assert found.count == 2 and (found.layout[panels.points[0]] == NONE).all()
    rest = np.setdiff1d(np.arange(len(door)), panels.points[0])
    np.testing.assert_array_equal(found.ids[rest], instances.ids[rest])
    np.testing.assert_array_equal(found.layout[rest], instances.layout[rest])
    assert (instances.ids <= 1).all(), "what was found before is as it was"
    # It is numbered before rejected fragments.
    ids, rejected_fragments = np.where(instances.ids == 1, 2, 0), 1
    ids[np.flatnonzero(instances.ids == 1)[:5]] = 1
    among = panels.join(replace(instances, ids=ids, rejected_fragments=rejected_fragments))
    assert (among.count, among.rejected_fragments) == (2, 1) and {*among.ids[panels.points[0]]} == {2}
    np.testing.assert_array_equal(among.ids[rest], np.choose(ids[rest], [0, 1, 3]))
    # Without the shelf it would be one.
    alone = Instances(np.zeros_like(instances.ids), instances.superpoint, np.full_like(instances.layout, WALL))
    assert {*find(room, alone, vectors).word} == {DOOR, SHELF}


def test_a_door_is_wall_where_it_is_hardly_more_a_door_than_a_wall() -> None:
    room, instances, vectors, _ = scene(0.35)
    assert find(room, instances, vectors) == PlanarInstances()
    assert find(room, instances, vectors, sure=0.5).word == (DOOR,)


def test_a_scrap_is_no_door() -> None:
    room, instances, vectors, door = scene(0.8)
    share = door.mean()
    assert find(room, instances, vectors, share=share * 1.2) == PlanarInstances()
    assert len(find(room, instances, vectors, share=share * 0.8).word) == 1


def test_a_blurred_edge_is_cut_at_its_middle() -> None:
    room, instances, vectors, _ = scene(0.0)
    x, z = np.concatenate(room.xyz)[:, [0, 2]].T
    ramp = np.clip((0.75 - np.abs(x - 0.7)) / 0.5, 0, 1) * (room.instances == 0)  # half of it within 0.5 m
    vectors = unit(WORDS[1] * (1 - ramp[:, None]) * 0.3 + 0.8 * ramp[:, None] * WORDS[DOOR] + 0.8 * WORDS[7])
    panels = find(room, instances, vectors)
    assert panels.word == (DOOR,)
    inside = np.ptp(x[panels.points[0]])
    assert inside == pytest.approx(1.0, abs=0.25), "nearer to its middle than to its foot, 1.5 m"


def test_only_what_is_the_same_again_as_a_whole_stays() -> None:
    panels = PlanarInstances((np.array([0, 1]), np.array([2]), np.array([3])), (DOOR, LAMP, DOOR))
    instance_crops = unit(np.array([WORDS[DOOR] + 0.5 * WORDS[1], WORDS[1] + 0.9 * WORDS[LAMP], WORDS[DOOR] * 1.0]))
    assert panels.confirmed(instance_crops, WORDS) == [0, 2]
    kept = panels.only([0, 2])
    assert kept.word == (DOOR, DOOR) and kept.points[1].tolist() == [3]
    assert PlanarInstances().confirmed(np.zeros((0, 8)), WORDS) == []


def test_what_covers_a_plane_is_the_plane() -> None:
    room, instances, vectors, door = scene(0.8)
    carpet = vectors + 2 * WORDS[DOOR] * (instances.ids == 0)[:, None]
    assert DOOR not in find(room, instances, unit(carpet).astype(np.float32)).word
    assert find(room, instances, vectors, most=0.5 * door.sum() / (instances.ids == 0).sum()) == PlanarInstances()


def test_a_handle_does_not_make_its_door_a_blur() -> None:
    room, instances, vectors, door = scene(0.8)
    handle = np.flatnonzero(door)[:20]
    ids, planes = instances.ids.copy(), instances.layout.copy()
    ids[handle], planes[handle] = 2, NONE
    assert find(room, Instances(ids, instances.superpoint, planes), vectors).word == (DOOR,)
    assert find(room, Instances(ids, instances.superpoint, planes), vectors, maker=0.0).word == ()


def test_a_panel_ends_at_a_corner_and_doors_with_blur_between_them_are_two() -> None:
    room = Room().sheet((-2, 0, 0), (4, 0, 0), (0, 0, 2.4), (0, -1, 0), 0, 0)
    room.sheet((2, 0, 0), (0, -4, 0), (0, 0, 2.4), (-1, 0, 0), 0, 0)
    x, y, z = np.concatenate(room.xyz).T
    along = np.where(y < -0.5 * GAP, 2 - y, x)  # around the corner, from -2 to 6
    amount = np.select([np.abs(along - middle) < 0.4 for middle in (-0.6, 0.6, 2.0)], [1.0, 1.0, 1.0])
    amount = np.where(np.abs(along) < 0.25, 0.45, amount)[:, None]
    vectors = unit(0.5 * (1 - amount) * WORDS[1] + amount * WORDS[DOOR] + 0.5 * WORDS[7]).astype(np.float32)
    instances = Instances(np.zeros(len(x), np.int64), np.arange(len(x)), np.full(len(x), WALL))
    found = [np.sort([along[own].min(), along[own].max()]) for own in find(room, instances, vectors).points]
    assert len(found) == 4
    ends = sorted(tuple(round(float(end), 1) for end in pair) for pair in found)
    np.testing.assert_allclose(ends, [(-1, -0.2), (0.2, 1.0), (1.6, 2.0), (2.0, 2.4)], atol=0.12)


def test_hardly_any_points() -> None:
    """Then even a lone point is a large share of the surface."""
    room = Room().sheet((0, 0, 0), (8 * GAP, 0, 0), (0, 0, 8 * GAP), (0, -1, 0), 0, 0)
    vectors = np.tile(WORDS[1], (64, 1))
    vectors[::7] = WORDS[DOOR]
    instances = Instances(np.zeros(64, np.int64), np.arange(64), np.full(64, WALL))
    assert find(room, instances, np.tile(WORDS[1], (64, 1))) == PlanarInstances()
    assert all(len(own) < 64 for own in find(room, instances, vectors).points)
    assert find(room, instances, np.zeros((64, 8), np.float32)) == PlanarInstances()


def test_where_there_is_no_plane_there_is_no_panel() -> None:
    room, instances, vectors, _ = scene(0.8)
    nothing = Instances(instances.ids, instances.superpoint, np.zeros_like(instances.layout))
    assert find(room, nothing, vectors) == PlanarInstances()
    joined = PlanarInstances().join(instances)
    np.testing.assert_array_equal(joined.ids, instances.ids)
