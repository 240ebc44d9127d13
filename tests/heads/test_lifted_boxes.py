"""Boxes from the masks of one photo: extents, yaw, open sides, usual sizes; and losses that know open sides."""

import numpy as np
import pytest
import torch

from ovseg3d.geometry import rotated_iou
from ovseg3d.heads.detection.losses import IGNORE, Targets, assign, detection_losses
from ovseg3d.heads.detection.network import SYMMETRY_ORDERS, YAW_BINS, DetectionNetwork, Predictions
from ovseg3d.heads.lifting import fit_box, open_ends, usual_log_size
from ovseg3d.heads.lifting.sizes import DEVIATION, MEDIANS

EYE = np.array([0.0, 0.0, 1.4])


def surface_of(box: np.ndarray, count: int = 3000, seen: bool = True) -> np.ndarray:
    """Points of a box's faces; with `seen` only of those that face `EYE`."""
    rng = np.random.default_rng(0)
    half = box[3:6] / 2
    cos, sin = np.cos(box[6]), np.sin(box[6])
    turn = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    local = rng.uniform(-half, half, (count, 3))
    axis, side = rng.integers(3, size=count), rng.choice([-1, 1], count)
    local[np.arange(count), axis] = side * half[axis]
    normal = np.eye(3)[axis] * side[:, None]
    xyz = box[:3] + local @ turn.T
    facing = ((normal @ turn.T) * (EYE - xyz)).sum(1) > 0
    return xyz[facing] if seen else xyz


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float(rotated_iou(a[None], b[None])[0, 0])


@pytest.mark.parametrize("yaw", [0.0, 0.4, 1.2])
def test_a_table_that_is_seen_from_above_has_its_box(yaw: float) -> None:
    true = np.array([2.0, 1.0, 0.37, 1.3, 0.8, 0.74, yaw])
    points = surface_of(true)
    found = fit_box(points, np.zeros((len(points), 3)), EYE, "table")
    assert found is not None
    assert iou(found.box, true) > 0.9 and not found.open_sides.any() and found.quality > 0.8


def test_the_yaw_of_the_walls_wins_for_a_round_thing() -> None:
    rng = np.random.default_rng(0)
    angle = rng.uniform(0, 2 * np.pi, 2000)
    points = np.stack([2 + 0.2 * np.cos(angle), 0.2 * np.sin(angle), rng.uniform(0, 0.4, 2000)], 1)
    found = fit_box(points, np.zeros((2000, 3)), EYE, wall_yaw=0.3)
    assert found is not None and np.isclose(found.box[6] % (np.pi / 2), 0.3)


@pytest.mark.parametrize(("name", "across"), [("sofa", 1.9), ("bed", 1.4), ("thing", 2.0)])
def test_x_is_across_the_front_or_the_longer_side(name: str, across: float) -> None:
    for yaw in (0.2, 0.2 + np.pi / 2):
        true = np.array([2.0, 0.0, 0.4, across, {"sofa": 0.9, "bed": 2.0, "thing": 1.0}[name], 0.8, yaw])
        points = surface_of(true, 20_000)
        found = fit_box(points, np.zeros((len(points), 3)), EYE, name)
        assert found is not None and np.isclose(found.box[3], across, rtol=0.15)
        assert np.isclose(np.cos(2 * (found.box[6] - yaw)), 1, atol=0.02) and iou(found.box, true) > 0.8


def test_what_lies_apart_is_another_surface() -> None:
    true = np.array([2.0, 0.0, 0.5, 0.6, 0.6, 1.0, 0.0])
    points = surface_of(true)
    behind = np.random.default_rng(1).uniform([4.0, -1, 0], [4.02, 1, 2], (200, 3))
    found = fit_box(np.concatenate([points, behind]), np.zeros((len(points) + 200, 3)), EYE)
    assert found is not None and found.points.max() < len(points) and found.box[3:5].max() < 0.7


@pytest.mark.parametrize("count", [400, 5_000, 60_000])
def test_what_lies_apart_does_so_at_any_resolution(count: int) -> None:
    rng = np.random.default_rng(0)
    near = np.stack([np.full(count, 2.0), *rng.uniform(-0.3, 0.3, (2, count)) + [[0], [1.0]]], 1)
    behind = near[: count // 10] + [0.9, 0, 0]
    points = np.concatenate([near, behind])
    found = fit_box(points, np.zeros((len(points), 3)), EYE, usual=False, wall_yaw=0.0)
    assert found is not None and found.box[3:5].min() < 0.1


def test_parts_of_a_thing_that_lie_apart_are_of_it() -> None:
    """A post hides the middle of a table; what is left and right of it is the table, however little it is."""
    true = np.array([2.0, 0.0, 0.37, 0.8, 1.3, 0.74, 0.0])
    points = surface_of(true)
    shown = points[(points[:, 1] < 0.2) | (points[:, 1] > 0.55)]
    assert (shown[:, 1] > 0.55).mean() < 0.2
    found = fit_box(shown, np.zeros((len(shown), 3)), EYE, "table", wall_yaw=0.0)
    assert found is not None and iou(found.box, true) > 0.9


def usual_rest(seen: float, usual: float, cut: bool) -> float:
    """The posterior's median of a side that is seen in part, by sums over a fine grid: a share that is uniform, and
    before that, unless the photo cuts it, even chances that the part is the whole."""
    logs = np.log(seen) + np.linspace(0, 4, 400_001)
    density = np.exp(-((logs - np.log(usual)) ** 2) / (2 * DEVIATION**2))
    # Of the logarithm of the part: a share u of the side has a density of u.
    part = density * seen / np.exp(logs) * (logs[1] - logs[0])
    whole = 0.0 if cut else density[0]
    below = whole + np.cumsum(part)
    return float(np.exp(logs[np.searchsorted(below, below[-1] / 2)]))


@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("seen", [0.05, 0.3, 0.45, 0.6, 1.0])
def test_a_hidden_side_is_where_the_posterior_has_its_median(seen: float, cut: bool) -> None:
    """Of a washing machine, which is as deep as wide, its front's far sides are hidden; one may be cut, too."""
    usual = MEDIANS["washing machine"]
    true = np.array([2.0 + seen / 2, 0.0, 0.425, seen, 0.6, 0.85, 0.0])
    points = surface_of(true, 40_000, seen=False)
    ends = (points[:, :1] > 2.0 + seen - 0.001) * np.array([[1.0, 0.0, 0.0]]) * cut
    found = fit_box(points, ends, EYE, "washing machine", wall_yaw=0.0)
    assert found is not None
    size = found.box[3:5][np.argmax(np.abs([np.cos(found.box[6]), np.sin(found.box[6])]))]
    assert np.isclose(size, usual_rest(seen, usual[0], cut), rtol=0.02)
    assert np.isclose(found.box[0] - size / 2, 2.0, atol=0.01), "what is seen stays where it is"
    assert found.open_sides.any() == (size > seen * 1.01)


def test_sides_turn_with_their_box() -> None:
    """A bed is deeper than wide; along the world's x it has to be turned."""
    whole = np.array([2.0, 0.0, 0.4, 2.0, 1.4, 0.8, 0.0])
    points = surface_of(whole, 20_000)
    for axis, name in ((np.array([0.0, 1, 0]), "y high"), (np.array([0.0, -1, 0]), "y low")):
        shown = points[points @ axis < 0.3]
        ends = (shown @ axis > 0.28)[:, None] * axis
        found = fit_box(shown, ends, EYE, "bed", wall_yaw=0.0)
        assert found is not None and np.isclose(found.box[6], np.pi / 2), name
        # Its own x is the world's y.
        assert np.flatnonzero(found.open_sides).tolist() == [1 if axis[1] > 0 else 0], name


def test_a_bed_that_the_photo_cuts_is_completed_on_that_side() -> None:
    whole = np.array([2.0, 0.0, 0.4, 1.4, 2.0, 0.8, 0.0])
    points = surface_of(whole)
    shown = points[points[:, 1] < 0.0]
    ends = (shown[:, 1:2] > -0.02) * np.array([0.0, 1.0, 0.0])
    found = fit_box(shown, ends, EYE, "bed", wall_yaw=0.0)
    plain = fit_box(shown, ends, EYE, "bed", wall_yaw=0.0, usual=False)
    assert found is not None and plain is not None
    assert found.open_sides.tolist() == [False, False, False, True, False, False]
    assert iou(found.box, whole) > 0.85 > 0.5 > iou(plain.box, whole)
    assert plain.open_sides[3], "what is open does not depend on the usual size"
    assert found.quality < 0.9


def test_a_front_alone_gets_the_usual_depth_behind_it() -> None:
    true = np.array([2.5, 0.0, 0.9, 0.65, 0.7, 1.8, 0.0])
    points = surface_of(true)
    front = points[points[:, 0] < 2.5 - 0.65 / 2 + 0.01]
    found = fit_box(front, np.zeros((len(front), 3)), EYE, "refrigerator", wall_yaw=0.0)
    assert found is not None and iou(found.box, true) > 0.8
    (side,) = np.flatnonzero(found.open_sides)
    outward = (1 if side % 2 else -1) * np.array([np.cos(found.box[6]), np.sin(found.box[6])])
    outward = outward if side < 2 else outward[::-1] * (-1, 1) * 1.0
    assert np.allclose(outward, [1, 0], atol=1e-6), "the far side is a guess"


def test_stray_points_lie_outside_the_box() -> None:
    true = np.array([2.0, 0.0, 0.37, 0.8, 1.3, 0.74, 0.0])
    points = surface_of(true, 20_000)
    stray = points[:: len(points) // 100][:100] * (1, 1, 0) + (0, 0, 0.82)
    rough = np.concatenate([points, stray])
    assert 0.005 < len(stray) / len(rough) < 0.02
    tight, loose = (
        fit_box(rough, np.zeros((len(rough), 3)), EYE, wall_yaw=0.0, usual=False, stray=share)
        for share in (0.02, 0.002)
    )
    assert tight is not None and loose is not None
    assert tight.box[5] < 0.75 < 0.8 < loose.box[5]


def test_few_points_have_no_box() -> None:
    assert fit_box(np.zeros((0, 3)), np.zeros((0, 3)), EYE) is None
    assert fit_box(np.random.default_rng(0).random((10, 3)), np.zeros((10, 3)), EYE) is None


def test_objects_go_on_behind_what_is_nearer_and_beyond_the_border() -> None:
    instance, depth = np.zeros((20, 20), np.int64), np.full((20, 20), 3.0)
    instance[5:15, 5:15], depth[5:15, 5:15] = 1, 2.0
    assert not open_ends(instance, depth).any(), "the wall behind ends nothing"
    depth[5:15, 15:] = 1.0
    ends = open_ends(instance, depth)
    assert (ends[5:15, 14] == (1, 0)).all() and np.abs(ends).sum() == 10
    instance[0:5, 8:12], depth[0:5, 8:12] = 1, 2.0
    assert (open_ends(instance, depth)[0, 8:12] == (0, -1)).all()


def test_usual_sizes_are_in_metres() -> None:
    for name, sides in MEDIANS.items():
        assert all(0 < side < 3 for side in sides), name
    table = usual_log_size("Table")
    assert table is not None and np.allclose(np.exp(table), MEDIANS["table"])
    assert usual_log_size("flux capacitor") is None


def test_unknown_points_are_ignored() -> None:
    voxel, instance = torch.tensor([0, 0, 1, 1, 2, 2, 2]), torch.tensor([-1, -1, 1, 1, 0, 1, 1])
    assert assign(voxel, instance, 3, 1).tolist() == [IGNORE, 0, 0]
    assert assign(voxel[:2], instance[:2], 1, 0).tolist() == [IGNORE]


def losses_of(size: torch.Tensor, center: torch.Tensor, **known: torch.Tensor) -> dict[str, torch.Tensor]:
    """Of predictions with a yaw of 90 degrees for one box of two metres along its x."""
    count = len(size)
    network = DetectionNetwork()
    yaw = torch.zeros(count, YAW_BINS)
    yaw[:, YAW_BINS // 4] = 9.0
    zeros = torch.zeros(count)
    found = Predictions(
        zeros, zeros, center, size.log(), yaw, torch.zeros(count, len(SYMMETRY_ORDERS)), torch.zeros(count, 64)
    )  # fmt: skip
    box = torch.tensor([[0.0, 0.0, 0.5, 2.0, 1.0, 1.0, torch.pi / 2]])
    rows = torch.zeros(count, dtype=torch.int64)
    targets = Targets(rows, box, torch.tensor([1]), torch.tensor([0]), **known)
    return detection_losses(network, found, targets, torch.nn.functional.normalize(torch.ones(1, 192), dim=1))


def test_a_larger_prediction_beyond_an_open_side_costs_nothing() -> None:
    # The box's own x is the world's y: it reaches from -1 to 1 there. The prediction goes on to 2.
    size, center = torch.tensor([[3.0, 1.0, 1.0]]), torch.tensor([[0.0, 0.5, 0.5]])
    names = ("iou", "center", "size")
    closed = losses_of(size, center)
    assert all(closed[name] > 0.05 for name in names)
    open_sides = torch.tensor([[False, True, False, False, False, False]])
    free = losses_of(size, center, open_sides=open_sides)
    assert all(free[name] < 1e-4 for name in names)
    other = losses_of(size, center, open_sides=open_sides.roll(-1, 1))
    assert all(torch.isclose(other[name], closed[name]) for name in names), "the other side is closed"
    below = center * torch.tensor([1.0, -1.0, 1.0])
    free, other = (losses_of(size, below, open_sides=sides) for sides in (open_sides.roll(-1, 1), open_sides))
    assert all(free[name] < 1e-4 for name in names) and all(torch.isclose(other[n], closed[n]) for n in names)
    small = losses_of(torch.tensor([[1.0, 1.0, 1.0]]), torch.tensor([[0.0, -0.5, 0.5]]), open_sides=open_sides)
    assert all(small[name] > 0.05 for name in names), "a smaller one is wrong"


def test_a_cloud_without_a_known_point_has_a_loss_of_zero() -> None:
    network = DetectionNetwork()
    zeros = torch.zeros(3, requires_grad=True)
    found = Predictions(
        zeros, zeros, torch.zeros(3, 3), torch.zeros(3, 3), torch.zeros(3, YAW_BINS),
        torch.zeros(3, len(SYMMETRY_ORDERS)), torch.zeros(3, 64),
    )  # fmt: skip
    targets = Targets(
        torch.full((3,), IGNORE), torch.zeros(0, 7), torch.zeros(0, dtype=torch.int64), torch.zeros(0).long()
    )  # fmt: skip
    total = torch.stack(list(detection_losses(network, found, targets, torch.ones(1, 192)).values())).sum()
    total.backward()
    assert total == 0 and zeros.grad is not None and not zeros.grad.any()


def test_labels_count_by_their_quality() -> None:
    size, center = torch.tensor([[3.0, 1.0, 1.0]]), torch.tensor([[0.0, 0.5, 0.5]])
    full = losses_of(size, center, weight=torch.tensor([1.0]))
    half = losses_of(size, center, weight=torch.tensor([0.5]))
    for name in ("iou", "center", "size", "yaw", "name"):
        assert torch.isclose(half[name], full[name] / 2)
    assert torch.isclose(half["foreground"], full["foreground"]), "it is an object all the same"
