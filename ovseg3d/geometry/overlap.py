"""Exact overlap of many upright boxes at once, as NumPy arrays or, with gradients, as torch tensors.

A box is a row of 7: centre x, y, z, full size x, y, z, and `yaw_rad`, counter-clockwise about +z. The intersection of
two upright boxes is the intersection of their footprints times that of their heights.

Footprints are intersected without building the polygon. Its boundary consists of the parts of either rectangle's edges
that lie inside the other rectangle, and by Green's theorem its area is half the sum of `start x end` over these parts.
A part of an edge has the share `t1 - t0` of the edge's own product, where the line enters the other rectangle at `t0`
and leaves it at `t1` (Liang and Barsky, ACM Trans. Graph. 3(1), 1984). Nothing is sorted, so the area can be
differentiated.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float, Int

if TYPE_CHECKING:
    from torch import Tensor

EDGE_GAP = 1e-9
"""How much the second rectangle shrinks, relative to its size. Edges that coincide would count twice or not at all."""
MAX_PAIRS = 2**15
"""Pairs that are intersected in one go: bounds memory, and fits the processor's cache."""


def rotated_iou(a: Float[np.ndarray, "n 7"], b: Float[np.ndarray, "m 7"]) -> Float[np.ndarray, "n m"]:
    """Intersection over union, in 3D, of every box of `a` with every box of `b`; 0 where a box has no volume."""
    return _for_pairs(_iou, a, b, _may_overlap(a, b) & (_heights(a[:, None], b[None], np) > 0))


def footprint_intersection(a: Float[np.ndarray, "n 7"], b: Float[np.ndarray, "m 7"]) -> Float[np.ndarray, "n m"]:
    """Area shared by the footprints of every box of `a` and every box of `b`, in square units; heights do not count."""
    return _for_pairs(_footprints, a, b, _may_overlap(a, b))


def rotated_iou_torch(a: "Float[Tensor, 'n 7']", b: "Float[Tensor, 'n 7']") -> "Float[Tensor, 'n']":
    """Intersection over union, in 3D, of each box of `a` with the box of `b` in the same row, with gradients to both.

    Computed in double precision. Value and gradient are 0 where boxes are apart, or where one has no volume. As a loss
    use `1 - iou` beside a term that pulls distant boxes together.
    """
    import torch

    valid = ((a[:, 3:6] > 0) & (b[:, 3:6] > 0)).all(dim=1)
    iou = a.new_zeros(len(a))
    return iou.index_put((valid,), _iou(a[valid].double(), b[valid].double(), torch).to(a.dtype))


def rotated_nms(boxes: Float[np.ndarray, "n 7"], scores: Float[np.ndarray, "n"], iou: float) -> Int[np.ndarray, "kept"]:
    """Greedy non-maximum suppression by exact 3D IoU: indices of the boxes to keep, best first.

    A box is dropped when its IoU with a better one that is kept exceeds `iou`. Of equal scores the first box wins.
    """
    order = np.argsort(-scores, kind="stable")
    boxes = boxes[order]
    # All pairs at once: where few overlap, one call for each kept box takes three times as long.
    pairs = np.triu(_may_overlap(boxes, boxes) & (_heights(boxes[:, None], boxes[None], np) > 0), 1)
    excludes = _for_pairs(_iou, boxes, boxes, pairs) > iou
    kept = np.ones(len(boxes), dtype=bool)
    for row, others in enumerate(excludes):
        if kept[row]:
            kept &= ~others
    return order[kept]


def inside_boxes(xyz: Float[np.ndarray, "points 3"], boxes: Float[np.ndarray, "n 7"]) -> Bool[np.ndarray, "n points"]:
    """Which points lie in each box; its surface belongs to it."""
    inside = np.zeros((len(boxes), len(xyz)), dtype=bool)
    for row, box in zip(inside, boxes):
        offset = xyz - box[:3]
        offset[:, :2] = _rotated(offset[:, :2], -box[6], np)
        row[:] = (np.abs(offset) <= box[3:6] / 2).all(axis=1)
    return inside


def _may_overlap(a: Float[np.ndarray, "n 7"], b: Float[np.ndarray, "m 7"]) -> Bool[np.ndarray, "n m"]:
    """Pairs of boxes whose footprints have an area and whose circumscribed circles meet."""
    radius_a, radius_b = (
        np.where(np.minimum(boxes[:, 3], boxes[:, 4]) > 0, np.hypot(boxes[:, 3], boxes[:, 4]) / 2, -np.inf)
        for boxes in (a, b)
    )
    return np.linalg.norm(a[:, None, :2] - b[None, :, :2], axis=-1) < radius_a[:, None] + radius_b


def _for_pairs(of_pairs: Any, a: np.ndarray, b: np.ndarray, chosen: np.ndarray) -> Float[np.ndarray, "n m"]:
    """A matrix with `of_pairs(a, b, np)` at the chosen places, else 0."""
    values = np.zeros(chosen.shape)
    rows, columns = np.nonzero(chosen)
    for start in range(0, len(rows), MAX_PAIRS):
        i, j = rows[start : start + MAX_PAIRS], columns[start : start + MAX_PAIRS]
        values[i, j] = of_pairs(a[i].astype(np.float64), b[j].astype(np.float64), np)
    return values


# From here on `xp` is numpy or torch, and rows of `a` go with rows of `b`.


def _iou(a: Any, b: Any, xp: Any) -> Any:
    shared = _footprints(a, b, xp) * _heights(a, b, xp).clip(0)
    return shared / (a[..., 3:6].prod(-1) + b[..., 3:6].prod(-1) - shared)


def _heights(a: Any, b: Any, xp: Any) -> Any:
    """Length of the common interval in z; negative if there is none."""
    top = xp.minimum(a[..., 2] + a[..., 5] / 2, b[..., 2] + b[..., 5] / 2)
    return top - xp.maximum(a[..., 2] - a[..., 5] / 2, b[..., 2] - b[..., 5] / 2)


def _footprints(a: Any, b: Any, xp: Any) -> Any:
    """Shared area of the footprints."""
    half_a, half_b = a[..., 3:5] / 2, b[..., 3:5] * ((1 - EDGE_GAP) / 2)
    turn, offset = b[..., 6] - a[..., 6], b[..., :2] - a[..., :2]
    corners_b = _rotated(_corners(half_b, xp), turn, xp) + _rotated(offset, -a[..., 6], xp)[..., None, :]
    corners_a = _rotated(_corners(half_a, xp), -turn, xp) - _rotated(offset, -b[..., 6], xp)[..., None, :]
    # Products about the centre of `a`; all four edges of `a` have the same.
    following = corners_b[..., [1, 2, 3, 0], :]
    product_b = corners_b[..., 0] * following[..., 1] - corners_b[..., 1] * following[..., 0]
    product_a = 2 * half_a.prod(-1)
    inside_a, inside_b = _share_inside(corners_a, half_b, xp), _share_inside(corners_b, half_a, xp)
    return ((inside_a.sum(-1) * product_a + (inside_b * product_b).sum(-1)) / 2).clip(0)


def _corners(half: Any, xp: Any) -> Any:
    """Corners of a rectangle about the origin, counter-clockwise."""
    x, y = half[..., 0], half[..., 1]
    return xp.stack([xp.stack([x, -x, -x, x], -1), xp.stack([y, y, -y, -y], -1)], -1)


def _rotated(xy: Any, angle: Any, xp: Any) -> Any:
    """Points rotated counter-clockwise by their box's angle."""
    if xy.ndim > angle.ndim + 1:
        angle = angle[..., None]
    x, y, cos, sin = xy[..., 0], xy[..., 1], xp.cos(angle), xp.sin(angle)
    return xp.stack([cos * x - sin * y, sin * x + cos * y], -1)


def _share_inside(corners: Any, half: Any, xp: Any) -> Any:
    """Share, 0 to 1, of each of four edges that lies inside the rectangle about the origin with these half sizes."""
    step = corners[..., [1, 2, 3, 0], :] - corners
    step = xp.where(step == 0, 1e-30, step)  # along an axis: enters and leaves the other one's slab far away
    half = half[..., None, :]
    one, other = (half - corners) / step, (-half - corners) / step
    enters, leaves = xp.minimum(one, other), xp.maximum(one, other)
    enters = xp.maximum(enters[..., 0], enters[..., 1]).clip(0)
    return (xp.minimum(leaves[..., 0], leaves[..., 1]).clip(None, 1) - enters).clip(0)
