"""Exact overlap of rotated boxes: against shapely, Monte Carlo, hand-made cases and finite differences."""

import math

import numpy as np
import pytest
import torch
from shapely.geometry import Polygon

from ovseg3d.geometry import footprint_intersection, rotated_iou, rotated_iou_torch, rotated_nms

UNIT = np.array([[0.0, 0, 0, 2, 2, 2, 0]])


def random_boxes(n: int, seed: int, spread: float = 1.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres, sizes, yaws = rng.uniform(-spread, spread, (n, 3)), rng.uniform(0.05, 2.5, (n, 3)), rng.uniform(-7, 7, n)
    return np.column_stack([centres, sizes, yaws])


def polygon(row: np.ndarray) -> Polygon:
    half = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]) * row[3:5] / 2
    cos, sin = math.cos(row[6]), math.sin(row[6])
    return Polygon(half @ np.array([[cos, sin], [-sin, cos]]) + row[:2])


def iou_by_shapely(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    shared = polygon(a).intersection(polygon(b)).area
    height = min(a[2] + a[5] / 2, b[2] + b[5] / 2) - max(a[2] - a[5] / 2, b[2] - b[5] / 2)
    overlap = shared * max(0.0, height)
    return shared, overlap / (a[3:6].prod() + b[3:6].prod() - overlap)


def inside(row: np.ndarray, xyz: np.ndarray) -> np.ndarray:
    cos, sin = math.cos(row[6]), math.sin(row[6])
    own = (xyz - row[:3]) @ np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    return (np.abs(own) <= row[3:6] / 2).all(axis=1)


def test_random_boxes_against_shapely() -> None:
    a, b = random_boxes(40, 0), random_boxes(50, 1)
    truth = np.array([[iou_by_shapely(one, other) for other in b] for one in a])
    assert (truth[..., 1] > 0.01).sum() > 500
    assert np.abs(footprint_intersection(a, b) - truth[..., 0]).max() < 1e-7
    assert np.abs(rotated_iou(a, b) - truth[..., 1]).max() < 1e-7
    assert np.abs(rotated_iou(b, a).T - truth[..., 1]).max() < 1e-7


def test_parallel_boxes_against_shapely() -> None:
    """Multiples of a quarter turn and a grid of places: edges coincide, touch and cross in all ways."""
    rng = np.random.default_rng(2)
    rows = np.column_stack([rng.integers(-2, 3, (60, 3)) / 2, rng.integers(1, 4, (60, 3)), np.zeros(60)])
    for turn in (0.0, 0.3):
        a, b = rows[:30].copy(), rows[30:].copy()
        cos, sin = math.cos(turn), math.sin(turn)
        for boxes in (a, b):
            boxes[:, :2] = boxes[:, :2] @ np.array([[cos, sin], [-sin, cos]]) + 100
            boxes[:, 6] = turn + rng.integers(-2, 3, 30) * math.pi / 2
        truth = np.array([[iou_by_shapely(one, other)[1] for other in b] for one in a])
        assert np.abs(rotated_iou(a, b) - truth).max() < 1e-7


def test_boxes_against_monte_carlo() -> None:
    xyz = np.random.default_rng(3).uniform(-2.5, 2.5, (100_000, 3))
    boxes = random_boxes(8, 4, spread=0.5)
    held = np.array([inside(box, xyz) for box in boxes])
    counted = (held[:, None] & held[None]).sum(-1) / (held[:, None] | held[None]).sum(-1)
    assert np.abs(rotated_iou(boxes, boxes) - counted).max() < 0.03


def test_boxes_by_hand() -> None:
    octagon = 8 * (math.sqrt(2) - 1)
    others = np.array(
        [
            [0, 0, 0, 2, 2, 2, 0],  # the same
            [0, 0, 0, 2, 2, 2, math.pi / 2],  # the same, named otherwise
            [0, 0, 0, 2, 2, 2, math.pi / 4],  # a regular octagon is shared
            [1, 0, 0, 2, 2, 2, 0],  # half of each
            [0, 0, 1, 2, 2, 2, 0],
            [2, 0, 0, 2, 2, 2, 0],  # they touch
            [0, 0, 2, 2, 2, 2, 0],
            [0, 0, 0, 1, 1, 1, 0.3],  # inside
            [0, 0, 0, 4, 4, 4, 0.3],  # outside
            [50, 0, 0, 2, 2, 2, 0.3],  # far
        ]
    )
    expected = [1, 1, octagon / (8 - octagon), 1 / 3, 1 / 3, 0, 0, 1 / 8, 1 / 8, 0]
    assert rotated_iou(UNIT, others)[0] == pytest.approx(expected, abs=1e-8)


def test_boxes_without_a_volume_overlap_nothing() -> None:
    flat = np.array([[0.0, 0, 0, *size, 0.3] for size in [(0, 1, 1), (1, 0, 1), (1, 1, 0), (0, 0, 0), (-1, 1, 1)]])
    for a, b in ((UNIT, flat), (flat, UNIT), (flat, flat)):
        assert not rotated_iou(a, b).any()
    assert footprint_intersection(UNIT, flat)[0] == pytest.approx([0, 0, 1, 0, 0]), "heights do not count"
    assert rotated_iou(UNIT[:0], flat).shape == (0, 5)
    batch = torch.tensor(flat, requires_grad=True)
    value = rotated_iou_torch(torch.tensor(UNIT).expand(5, 7), batch)
    value.sum().backward()
    assert not value.any() and batch.grad is not None and not batch.grad.any()


def test_scale_and_place_do_not_count() -> None:
    a, b = random_boxes(20, 5), random_boxes(20, 6)
    expected = rotated_iou(a, b)
    for scale, offset in ((1e-3, 0.0), (1e3, 0.0), (1.0, 1e4)):
        near, far = (np.column_stack([x[:, :3] * scale + offset, x[:, 3:6] * scale, x[:, 6]]) for x in (a, b))
        assert np.abs(rotated_iou(near, far) - expected).max() < 1e-7


def test_torch_gives_the_same_and_its_gradient() -> None:
    a, b = random_boxes(30, 7, spread=0.3), random_boxes(30, 8, spread=0.3)
    one, other = (torch.tensor(x, requires_grad=True) for x in (a, b))
    value = rotated_iou_torch(one, other)
    assert np.abs(value.detach().numpy() - np.diag(rotated_iou(a, b))).max() < 1e-12
    assert (value > 0.01).sum() > 20
    assert torch.autograd.gradcheck(rotated_iou_torch, (one, other), eps=1e-7, atol=1e-5)
    half = rotated_iou_torch(one.float(), other.float())
    assert half.dtype == torch.float32 and torch.allclose(half.double(), value, atol=1e-5)


def test_gradient_descent_on_the_overlap_finds_the_box() -> None:
    target = torch.tensor([[1.0, 2, 0.5, 1.6, 0.8, 1.0, 0.7]])
    box = torch.tensor([[0.8, 2.2, 0.3, 1.2, 1.1, 0.7, 0.3]], requires_grad=True)
    optimizer = torch.optim.Adam([box], lr=0.01)
    for _ in range(300):
        optimizer.zero_grad()
        (1 - rotated_iou_torch(box, target)).sum().backward()
        optimizer.step()
    assert rotated_iou_torch(box, target).item() > 0.9


def test_suppression_keeps_the_best_of_each_heap() -> None:
    boxes = np.array([[x, 0, 0, 1, 1, 1, yaw] for x, yaw in [(0, 0), (0.1, 0.1), (3, 0), (3.05, 0), (9, 1), (0, 0)]])
    scores = np.array([0.5, 0.9, 0.3, 0.2, 0.8, 0.5])
    assert rotated_nms(boxes, scores, 0.25).tolist() == [1, 4, 2]
    assert rotated_nms(boxes, scores, 1.0).tolist() == [1, 4, 0, 5, 2, 3], "ties keep their order"
    assert rotated_nms(boxes[:0], scores[:0], 0.5).tolist() == []


def test_suppression_against_its_definition() -> None:
    boxes = random_boxes(80, 9, spread=2.0)
    scores = np.random.default_rng(10).random(80)
    overlap = rotated_iou(boxes, boxes)
    expected: list[int] = []
    for i in np.argsort(-scores):
        if not any(overlap[i, j] > 0.2 for j in expected):
            expected.append(int(i))
    assert 5 < len(expected) < 75
    assert rotated_nms(boxes, scores, 0.2).tolist() == expected
