"""Instances from surface points: synthetic rooms whose instances, shapes and boxes are known."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from box_rooms import GAP, INDOOR, VECTORS, Room, Z, floor, two_boxes
from scipy.spatial.transform import Rotation

from ovseg3d.field.surface import Surface
from ovseg3d.geometry.boxes import Box, box_iou
from ovseg3d.instances.graph import Contacts, agglomerate, spacing, touching
from ovseg3d.instances.grouping import (
    CEILING,
    FLOOR,
    NONE,
    WALL,
    InstanceConfig,
    Instances,
    _layout,
    find_instances,
    grow,
)
from ovseg3d.instances.joined import joined_levels
from ovseg3d.instances.layout import StructureConfig, room_planes
from ovseg3d.instances.records import InstancePoints, fit_box
from ovseg3d.instances.superpoints import find_superpoints


def find_in(surface: Surface, features: list[np.ndarray], config: InstanceConfig = INDOOR) -> Instances:
    """The instances of a surface that is said to be indoors."""
    return find_instances(surface, features, config=config)


def ious(found: Instances, truth: np.ndarray) -> dict[int, float]:
    """For each true instance the largest IoU of a found one."""
    best = {}
    for instance in np.unique(truth[truth > 0]).tolist():
        inside = truth == instance
        best[instance] = max(
            ((inside & (found.ids == k)).sum() / (inside | (found.ids == k)).sum() for k in range(1, found.count + 1)),
            default=0.0,
        )
    return best


def offered(surface: Surface, features: list[np.ndarray], truth: np.ndarray) -> dict[int, float]:
    """For each true instance the largest IoU of a node of the merge tree."""
    made = find_superpoints(surface, features, structure=INDOOR.structure)
    _, inside, tree = grow(made, INDOOR)
    count, best = len(made.weight), {}
    size = tree.sums(made.weight[inside, None])[:, 0]
    for instance in np.unique(truth[truth > 0]).tolist():
        own = np.bincount(made.superpoint[truth == instance], minlength=count)[inside, None]
        common = tree.sums(own.astype(np.float64))[:, 0]
        best[instance] = float((common / (size + (truth == instance).sum() - common)).max())
    return best


def test_two_boxes_of_one_kind_on_a_floor_are_two_things_and_the_floor_is_none() -> None:
    room = two_boxes()
    found = find_in(room.surface(0.004), [room.features()])
    assert found.count == 2
    assert min(ious(found, room.instances).values()) > 0.95
    assert ((found.layout == FLOOR) == (room.instances == 0)).mean() > 0.98
    assert (found.ids[room.instances == 0] == 0).mean() > 0.98


def test_parts_that_look_different_are_pieces_of_a_joined_object() -> None:
    room = floor().box((-0.4, 0, 0), (0.8, 0.8, 0.3), 1, 1).box((0.4, 0, 0), (0.8, 0.8, 0.3), 2, 2)
    room.without((-0.05, -0.39, 0.01), (0.05, 0.39, 0.29)).box((1.5, 1.5, 0), (0.9, 0.9, 1.0), 3, 1)
    surface, features = room.surface(), room.features(0.0)
    found = find_in(surface, [features])
    assert found.count == 3 and min(ious(found, room.instances).values()) > 0.9 and found.parents is not None
    (level,) = joined_levels(found.ids, found.parents)
    slab = np.isin(found.ids, np.unique(found.ids[np.isin(room.instances, (1, 2))])) & (found.ids > 0)
    np.testing.assert_array_equal(level, np.where(slab, len(found.parents), 0))
    assert found.parents[-1] == 0, "more than half of the points is the scene, not an object"


def test_joined_objects_of_one_height_are_disjoint() -> None:
    parents = np.array([6, 6, 7, 8, 8, 7, 0, 0])  # pieces 1 to 5; 6 holds 1 and 2, 7 holds 6 and 3, 8 holds 4 and 5
    levels = [level.tolist() for level in joined_levels(np.arange(6), parents)]
    assert levels == [[0, 6, 6, 0, 8, 8], [0, 7, 7, 7, 0, 0]]


def test_the_largest_thing_is_the_first() -> None:
    room = two_boxes()
    found = find_in(room.surface(), [room.features()])
    assert np.bincount(room.instances[found.ids == 1]).argmax() == 1
    assert np.bincount(room.instances[found.ids == 2]).argmax() == 2


def test_touching_things_of_one_kind_come_apart_at_a_crease() -> None:
    # They share half of a face, so that every part of their border is an inner corner.
    room = floor().box((-0.35, -0.2, 0), (0.7, 0.7, 0.9), 1, 1).box((0.35, 0.25, 0), (0.7, 0.7, 0.6), 2, 1)
    room.without((-0.05, -0.08, 0.01), (0.05, 0.13, 0.58))
    found = find_in(room.surface(0.004), [room.features()])
    assert found.count == 2
    assert min(ious(found, room.instances).values()) > 0.8


def test_a_small_thing_comes_apart_from_a_large_one_too() -> None:
    """A quarter of both together, as of a chair beside its desk."""
    room = floor().box((-0.35, -0.2, 0), (0.7, 0.7, 0.9), 1, 1).box((0.225, 0.15, 0), (0.45, 0.45, 0.45), 2, 1)
    room.without((-0.05, -0.065, 0.01), (0.05, 0.14, 0.43))
    found = find_in(room.surface(0.004), [room.features()])
    assert found.count == 2
    assert min(ious(found, room.instances).values()) > 0.85


def test_two_chairs_corner_to_corner_are_two_and_one_chair_is_one() -> None:
    """On a clean surface. With a scatter from about a sixth of the sampling on, superpoints reach across."""
    for room in (floor(3.0).chair(-0.31, 0, 0, 1).chair(0.23, 0.05, 0.35, 2), floor(3.0).chair(0, 0, 0.3, 1)):
        found = find_in(room.surface(0.004), [room.features()])
        assert found.count == room.instances.max()
        assert min(ious(found, room.instances).values()) > 0.9


def test_a_thing_shaped_like_an_l_stays_one() -> None:
    room = floor().box((0, 0, 0), (1.6, 0.5, 0.5), 1, 1).box((-0.55, 0.5, 0), (0.5, 0.5, 0.5), 1, 1)
    room.without((-0.79, 0.2, 0.01), (-0.31, 0.3, 0.49))
    found = find_in(room.surface(0.004), [room.features()])
    assert found.count == 1
    assert ious(found, room.instances)[1] > 0.9


@pytest.mark.parametrize("second", [1, 2])
def test_stacked_things_are_nodes_of_the_tree(second: int) -> None:
    """Whether they are of one kind or not. By form alone, they may be one instance as well."""
    room = floor().box((0, 0, 0), (0.9, 0.9, 0.5), 1, 1).without((-0.24, -0.24, 0.45), (0.24, 0.24, 0.55))
    room.box((0, 0, 0.5), (0.6, 0.6, 0.5), 2, second)
    assert min(offered(room.surface(0.004), [room.features()], room.instances).values()) > 0.85


def test_halves_of_a_slab_are_two_things_if_they_look_different() -> None:
    """Shape and colour say nothing. The nearer their appearance, the sooner the halves merge."""
    room = floor().box((-0.4, 0, 0), (0.8, 0.8, 0.3), 1, 1).box((0.4, 0, 0), (0.8, 0.8, 0.3), 2, 2)
    room.without((-0.05, -0.39, 0.01), (0.05, 0.39, 0.29))
    surface, features = room.surface(), room.features(0.0)
    apart = find_in(surface, [features])
    assert apart.count == 2 and min(ious(apart, room.instances).values()) > 0.9
    last = []
    for share in (0.0, 0.8):
        features[room.kinds == 2] = share * VECTORS[1] + (1 - share) * VECTORS[2]
        made = find_superpoints(surface, [features], structure=INDOOR.structure)
        last.append(grow(made, INDOOR)[2].cost[-1])
    assert last[0] > 1.5 * last[1]


def test_a_picture_on_a_wall_is_a_node_of_the_tree_and_walls_are_none() -> None:
    room = floor()
    for corner, along, normal in (((-2, -2, 0), (4, 0, 0), (0, 1, 0)), ((-2, -2, 0), (0, 4, 0), (1, 0, 0))):
        room.sheet(corner, along, (0, 0, 2.5), normal, 0, 3)
    room.sheet((-2, -2, 2.5), (4, 0, 0), (0, 4, 0), (0, 0, -1), 0, 4)
    room.without((-0.5, -2.1, 1.0), (0.5, -1.9, 1.8)).sheet((-0.5, -1.99, 1.0), (1, 0, 0), (0, 0, 0.8), (0, 1, 0), 1, 5)
    surface, features = room.surface(0.003), [room.features()]
    assert offered(surface, features, room.instances)[1] > 0.9
    found = find_in(surface, features)
    for kind, name in ((0, FLOOR), (3, WALL), (4, CEILING)):
        assert (found.layout[room.kinds == kind] == name).mean() > 0.95


def test_planes_are_a_layout_only_in_a_room_or_where_it_is_said() -> None:
    """A table top with two boxes on it, seen from above: its top is no floor."""
    table = two_boxes()
    surface, features = table.surface(0.004), [table.features()]
    found = find_instances(surface, features)
    assert not found.layout.any() and min(ious(found, table.instances).values()) > 0.9
    room = table.sheet((-2, -2, 0), (4, 0, 0), (0, 0, 2.5), (0, 1, 0), 0, 3)
    room = room.sheet((-2, -2, 0), (0, 4, 0), (0, 0, 2.5), (1, 0, 0), 0, 3)
    surface, features = room.surface(0.004), [room.features()]
    found = find_instances(surface, features)
    assert found.count == 2 and ((found.layout != NONE) == (room.instances == 0)).mean() > 0.98
    none = find_instances(surface, features, config=InstanceConfig(structure=StructureConfig(layout="none")))
    assert not none.layout.any() and min(ious(none, room.instances).values()) > 0.95 and none.count > 2


def test_a_wall_of_another_colour_does_not_take_what_hangs_on_it() -> None:
    room = floor().sheet((-2, -2, 0), (4, 0, 0), (0, 0, 2.5), (0, 1, 0), 0, 3)
    room.sheet((-2, -2, 0), (0, 4, 0), (0, 0, 2.5), (1, 0, 0), 0, 3).sheet(
        (2, -2, 0), (0, 4, 0), (0, 0, 2.5), (-1, 0, 0), 0, 6
    )
    for number, (left, low, wide, high) in enumerate(((-1, 1, 0.8, 0.6), (0.5, 0, 0.9, 2)), 1):
        room.without((1.9, left, low), (2.1, left + wide, low + high))
        room.sheet((2, left, low), (0, wide, 0), (0, 0, high), (-1, 0, 0), number, 3 + number)
    colours = [[120] * 3, [0] * 3, [0] * 3, [200] * 3, [220, 200, 60], [120, 70, 40], [50, 70, 140]]
    surface = replace(room.surface(0.003), rgb=np.array(colours, np.uint8)[room.kinds])
    assert min(offered(surface, [room.features()], room.instances).values()) > 0.85


def test_a_table_top_is_no_floor() -> None:
    room = floor().sheet((-0.8, -0.8, 0.7), (1.6, 0, 0), (0, 1.6, 0), (0, 0, 1), 1, 0)
    surface = room.surface()
    planes = room_planes(
        surface.xyz.astype(np.float64), surface.normal.astype(np.float64), np.full(len(surface), GAP**2), Z, GAP
    )
    assert [round(plane.offset, 2) for plane in planes] == [0.0]
    assert planes[0].normal @ Z > 0.999


def test_order_of_points_and_scale_of_the_scene_do_not_matter() -> None:
    room = two_boxes()
    surface, features = room.surface(0.004), room.features()
    first = find_in(surface, [features])
    again = find_in(surface, [features])
    assert (first.ids == again.ids).all()
    order = np.random.default_rng(3).permutation(len(surface))
    assert (find_in(surface.take(order), [features[order]]).ids == first.ids[order]).mean() > 0.98
    large = replace(surface, xyz=surface.xyz * 50, cell=surface.cell * 50)
    assert (find_in(large, [features]).ids == first.ids).mean() > 0.98


def test_noise_far_out_becomes_no_large_thing() -> None:
    room = two_boxes()
    surface = room.surface(0.008)
    random = np.random.default_rng(7)
    stray = random.uniform(-6, 6, size=(60, 3)).astype(np.float32)
    more = replace(
        surface,
        xyz=np.concatenate([surface.xyz, stray]),
        normal=np.concatenate([surface.normal, np.tile(np.float32([0, 0, 1]), (60, 1))]),
        rgb=np.concatenate([surface.rgb, np.zeros((60, 3), np.uint8)]),
        confidence=np.concatenate([surface.confidence, np.ones(60, np.float32)]),
        cell=np.concatenate([surface.cell, np.full(60, GAP, np.float32)]),
    )
    vectors = np.concatenate([room.features(0.3), random.normal(size=(60, 16)).astype(np.float32)])
    found = find_in(more, [vectors])
    assert found.count == 2
    assert min(ious(found, np.concatenate([room.instances, np.zeros(60, int)])).values()) > 0.9


@pytest.mark.parametrize("points", [0, 1, 2, 3, 30])
def test_hardly_any_points(points: int) -> None:
    surface = two_boxes().surface().take(np.arange(points))
    found = find_in(surface, [np.ones((points, 16), np.float32)])
    assert found.ids.shape == found.superpoint.shape == found.layout.shape == (points,)
    assert found.count <= 1
    assert InstancePoints(surface, np.zeros(points, np.int64)).records() == ()


def test_without_features_colour_and_shape_decide() -> None:
    room = two_boxes()
    rgb = np.where(room.instances[:, None] == 0, 230, [[200, 30, 30]]).astype(np.uint8)
    found = find_in(replace(room.surface(), rgb=rgb), [])
    assert found.count == 2 and min(ious(found, room.instances).values()) > 0.85


def test_records_say_what_the_contract_asks() -> None:
    room = two_boxes()
    surface = room.surface()
    found = find_in(surface, [room.features()])
    first, second = InstancePoints(surface, found.instance).records(
        labels=room.kinds.astype(np.int64),
        phrases=("red box",),
        scores=np.where(room.instances == 1, 0.9, 0.3),
        eye=np.array([-1.0, 0.0, 10.3]),
    )
    record = first.record()
    assert set(record) == {
        "id", "label", "score", "center", "size", "rotation_wxyz", "yaw_rad", "frame", "n_points", "distance", "pose",
    }  # fmt: skip
    assert (first.id, first.label, first.frame, first.n_points) == (1, "red box", "input", (found.instance == 1).sum())
    assert first.score == pytest.approx(0.9, abs=0.02) and second.score == pytest.approx(0.3, abs=0.02)
    assert first.distance == pytest.approx(10.0, abs=0.03)
    assert box_iou(Box(first.center, first.size, first.yaw_rad), Box((-1.0, 0.0, 0.3), (0.6, 0.6, 0.6))) > 0.85
    plain = InstancePoints(surface, found.instance).records()[0]
    assert plain.label is None and plain.distance is None and plain.score == pytest.approx(0.75)


def test_an_instance_is_meant_by_half_of_its_points() -> None:
    surface, ids = two_boxes().surface().take(np.arange(16)), np.repeat([1, 2], 8)
    found = np.where(np.arange(16) % 8 < np.where(ids == 1, 4, 3), 0.5, 0.1)
    (meant,) = InstancePoints(surface, ids).meant("box", found, 0.5)
    assert (meant.id, meant.label, meant.n_points) == (1, "box", 8) and meant.score == pytest.approx(0.3)


@pytest.mark.parametrize("yaw", [-0.7, -0.3, 0.0, 0.2, 0.75])
def test_the_box_of_a_turned_box(yaw: float) -> None:
    room = Room().box((1, 2, 3), (1.2, 0.5, 0.8), 1, 1, yaw)
    box = fit_box(room.surface(0.002).xyz.astype(np.float64), Z)
    assert box.yaw_rad == pytest.approx(yaw, abs=0.02)
    assert box.center == pytest.approx((1, 2, 3.4), abs=0.03)
    assert box.size == pytest.approx((1.2, 0.5, 0.8), abs=0.05)
    w, x, y, z = box.rotation_wxyz
    assert (w, x, y, z) == pytest.approx((np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)), abs=0.02)


def test_a_turn_beyond_45_degrees_swaps_the_sides() -> None:
    box = fit_box(Room().box((0, 0, 0), (1.2, 0.5, 0.8), 1, 1, 1.2).surface().xyz.astype(np.float64), Z)
    assert box.yaw_rad == pytest.approx(1.2 - np.pi / 2, abs=0.02)
    assert box.size == pytest.approx((0.5, 1.2, 0.8), abs=0.05)


def test_outliers_do_not_stretch_a_box() -> None:
    xyz = Room().box((0, 0, 0), (1.0, 0.6, 0.5), 1, 1).surface().xyz.astype(np.float64)
    stray = np.random.default_rng(2).uniform(-5, 5, size=(4, 3))
    box = fit_box(np.concatenate([xyz, stray]), Z)
    assert box.size == pytest.approx((1.0, 0.6, 0.5), abs=0.06)


@pytest.mark.parametrize("up", [(0, 1, 0), (0, -1, 0), (0, 0, -1), (0.6, 0, 0.8)])
def test_boxes_stand_on_any_up(up: tuple[float, float, float]) -> None:
    turn = Rotation.align_vectors([up], [Z])[0]
    xyz = Room().box((1, 2, 3), (1.2, 0.5, 0.8), 1, 1, 0.4).surface().xyz.astype(np.float64)
    box = fit_box(xyz @ turn.as_matrix().T, np.asarray(up, dtype=np.float64))
    assert box.yaw_rad is None
    w, x, y, z = box.rotation_wxyz
    own = Rotation.from_quat([x, y, z, w])
    assert own.apply(Z) == pytest.approx(np.asarray(up), abs=1e-6)
    local = own.inv().apply(xyz @ turn.as_matrix().T - box.center)
    assert np.abs(local).max(0) * 2 == pytest.approx(box.size, abs=0.08)
    assert sorted(box.size) == pytest.approx([0.5, 0.8, 1.2], abs=0.05)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_boxes_of_hardly_any_points(count: int) -> None:
    box = fit_box(np.array([[1.0, 1, 1], [2.0, 2, 1], [3.0, 3, 1]])[:count], Z, trim=0.0)
    assert box.center == pytest.approx(((1 + count) / 2, (1 + count) / 2, 1))
    assert max(box.size) == pytest.approx((count - 1) * 2**0.5) and min(box.size) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(("sign", "neighbours"), [(1.0, False), (-1.0, True)])
def test_air_parts_and_a_thin_board_does_not(sign: float, neighbours: bool) -> None:
    """Two sheets 3 cm apart: facing each other there is air between them, back to back they are one board."""
    room = Room().sheet((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, sign), 1, 1)
    room.sheet((0, 0, 0.03), (1, 0, 0), (0, 1, 0), (0, 0, -sign), 2, 1)
    xyz = np.concatenate(room.xyz)
    pair = touching(xyz, spacing(xyz), np.concatenate(room.normal)).pair
    across = room.instances[pair[:, 0]] != room.instances[pair[:, 1]]
    assert across.any() == neighbours and (~across).any()


def test_agglomeration_merges_the_cheapest_first_as_a_plain_loop_does() -> None:
    random = np.random.default_rng(4)
    xyz = random.uniform(size=(60, 3))
    edges = touching(xyz, spacing(xyz), neighbours=5)
    values = random.normal(size=(60, 2))

    def ward(contacts: Contacts, weight: np.ndarray, means: np.ndarray) -> np.ndarray:
        a, b = contacts.pair.T
        return weight[a] * weight[b] / (weight[a] + weight[b]) * ((means[a] - means[b]) ** 2).sum(1)

    found = agglomerate(edges, np.ones(60), values, ward, most=2.0)
    # By brute force: always the cheapest pair of all.
    groups = {i: [i] for i in range(60)}
    near = {tuple(pair) for pair in edges.pair.tolist()}
    while True:
        pairs = {}
        for (a, one), (b, other) in combinations(sorted(groups.items()), 2):
            if any((min(i, j), max(i, j)) in near for i in one for j in other):
                apart = values[one].mean(0) - values[other].mean(0)
                pairs[a, b] = len(one) * len(other) / (len(one) + len(other)) * (apart**2).sum()
        best = min(pairs, key=pairs.get, default=None)
        if best is None or pairs[best] >= 2.0:
            break
        groups[best[0]] += groups.pop(best[1])
    assert {frozenset(g) for g in groups.values()} == {
        frozenset(np.flatnonzero(found == k).tolist()) for k in range(found.max() + 1)
    }
    assert 1 < len(groups) < 60


def test_blotches_of_weak_features_part_no_wall_and_hide_no_rug() -> None:
    """Features of cells as large as a rug, in blotches three times as strong as what is right; colour and shape are
    right."""
    room = floor().sheet((-2, -2, 0), (4, 0, 0), (0, 0, 2.5), (0, 1, 0), 0, 0)
    room.without((-1.0, 0.0, -0.1), (0.4, 1.0, 0.1)).sheet((-1.0, 0.0, 0.0), (1.4, 0, 0), (0, 1, 0), Z, 1, 1)
    room.box((1.2, -0.5, 0), (0.6, 0.6, 0.6), 2, 2)
    surface = room.surface(0.004)
    palette = np.array([[205, 200, 190], [170, 40, 35], [150, 110, 60]])
    random = np.random.default_rng(4)
    shade = random.uniform(0.75, 1.0, (len(surface), 1))
    surface = replace(surface, rgb=(palette[room.kinds] * shade).astype(np.uint8))
    cell = np.floor(surface.xyz / 0.8).astype(int) @ (1, 31, 977)
    blotch = random.normal(size=(len(np.unique(cell)), 16))[np.unique(cell, return_inverse=True)[1]]
    features = (0.6 * room.features(0.1) + 0.5 * blotch).astype(np.float32)
    found = find_in(surface, [features])
    assert found.count == 2 and min(ious(found, room.instances).values()) > 0.9
    assert (found.layout[room.instances == 0] != NONE).mean() > 0.98


def test_a_region_around_a_corner_is_floor_here_and_wall_there() -> None:
    """Floor and wall of one colour may be one region; what lies on no plane goes with most of it."""
    kind = np.array([FLOOR, FLOOR, FLOOR, FLOOR, WALL, WALL, NONE])
    room = _layout(np.zeros(7, np.int64), np.zeros((7, 5)), np.ones(7), kind, InstanceConfig())
    assert room.tolist() == [FLOOR, FLOOR, FLOOR, FLOOR, WALL, WALL, FLOOR]
    kind = np.array([FLOOR] + 5 * [NONE])
    other = _layout(np.zeros(6, np.int64), np.zeros((6, 5)), np.ones(6), kind, InstanceConfig())
    assert other.tolist() == 6 * [NONE], "little of an instance touches the floor"


def walls(high: float = 2.5) -> Room:
    """Three walls on a floor, one of which is higher in the middle."""
    room = floor().sheet((-2, -2, 0), (4, 0, 0), (0, 0, high), (0, 1, 0), 0, 3)
    room.sheet((-2, -2, 0), (0, 4, 0), (0, 0, high), (1, 0, 0), 0, 3)
    room.sheet((-2, -0.5, high), (0, 0.6, 0), (0, 0, 0.5), (1, 0, 0), 0, 3)
    return room.sheet((2, -2, 0), (0, 4, 0), (0, 0, high), (-1, 0, 0), 0, 3)


@pytest.mark.parametrize("slope", [15, 26])
def test_a_low_roof_is_ceiling(slope: float) -> None:
    """Over knee walls of one metre; a cupboard stands at one of them."""
    rise, slope = 2 * np.tan(np.radians(slope)), np.radians(slope)
    room = floor().box((-1.4, 0.5, 0), (0.6, 0.5, 0.8), 1, 1)
    for side in (-1, 1):
        room.sheet((2 * side, -2, 0), (0, 4, 0), (0, 0, 1), (-side, 0, 0), 0, 0)
        room.sheet((-2, 2 * side, 0), (4, 0, 0), (0, 0, 1), (0, -side, 0), 0, 0)
        face = (-side * np.sin(slope), 0, -np.cos(slope))
        room.sheet((2 * side, -2, 1), (0, 4, 0), (-2 * side, 0, rise), face, 2, 0)
    found = find_in(room.surface(0.003), [room.features()])
    assert (found.layout[room.instances == 2] == CEILING).mean() > 0.97 and found.count == 1
    assert ious(found, np.where(room.instances == 1, 1, 0))[1] > 0.9


def test_a_board_that_leans_is_no_roof() -> None:
    """There is a wall behind it."""
    room = walls().sheet((1.5, -1, 0.2), (0, 2.2, 0), (-1, 0, 3**0.5), (-(0.75**0.5), 0, -0.5), 1, 1)
    found = find_in(room.surface(0.003), [room.features()])
    assert (found.layout != CEILING).all()
    assert offered(room.surface(0.003), [room.features()], room.instances)[1] > 0.9
