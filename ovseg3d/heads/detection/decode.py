"""From dense predictions to few boxes: the best voxel of each object, and all voxels that agree with it.

Objects are found by the network alone (`decode`), or are known groups of voxels (`decode_groups`).
"""

import math
from dataclasses import dataclass, replace
from functools import reduce

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from scipy.spatial.transform import Rotation
from torch import Tensor

from ovseg3d.geometry import rotated_nms
from ovseg3d.heads.detection.bags import Bags
from ovseg3d.heads.detection.network import SYMMETRY_ORDERS, DetectionNetwork, Predictions
from ovseg3d.heads.detection.voxels import VOXEL
from ovseg3d.heads.detection.yaw import bin_angles, decode_yaw

CENTER_CELL = 0.5
"""Of the voxels whose boxes are about equally large and centred in one cube, only the best is a candidate; the cube's
side is this share of the size."""
MAX_CANDIDATES = 500
MAX_SHIFT = 0.5
"""A voxel belongs to a box if its own centre is this near to the box's, in half sizes of the box, on each axis..."""
MIN_HALF = 0.05
"""...each taken as at least this long, metres."""
MAX_LOG_SIZE = 0.7
"""...and if its size differs by at most this factor, as a logarithm, on average of the axes."""


@dataclass(frozen=True)
class Decoded:
    """Boxes, by falling score or in the order of known groups, and the finest voxels of each."""

    boxes: Float[np.ndarray, "boxes 7"]
    scores: Float[np.ndarray, " boxes"]
    symmetry: Int[np.ndarray, " boxes"]
    symmetry_probability: Float[np.ndarray, " boxes"]
    """Of this order."""
    yaw: Float[np.ndarray, "boxes bins"]
    embeddings: Float[np.ndarray, "boxes text"]
    voxel_box: Int[np.ndarray, " voxels"]
    """Row of each voxel's box, -1 for none."""

    def at_least(self, min_score: float) -> "Decoded":
        """The boxes of at least this score, by falling score."""
        rows = np.argsort(-self.scores, kind="stable")
        rows = rows[self.scores[rows] >= min_score]
        number = np.full(len(self.scores) + 1, -1)
        number[rows] = np.arange(len(rows))  # the last one is of no box
        kept = {name: values[rows] for name, values in vars(self).items() if name != "voxel_box"}
        return Decoded(**kept, voxel_box=number[self.voxel_box])


def decode(network: DetectionNetwork, found: Predictions, *, min_score: float, nms_iou: float) -> Decoded:
    """Boxes of at least `min_score` that overlap by at most `nms_iou`.

    Args:
        network: for the embeddings.
        found: its predictions.
        min_score: least score.
        nms_iou: largest IoU of two boxes.
    """
    voxels = (found.foreground > 0).nonzero()[:, 0]
    count, found = len(found.quality), found.take(voxels)
    score = found.quality.sigmoid()
    seeds = _seeds(found.center, found.log_size, score, min_score)
    kept = rotated_nms(_boxes(found, seeds), score[seeds].numpy(), nms_iou)
    best = seeds[torch.from_numpy(kept)]
    return _in_all(_decoded(network, found, score, best, _members(found, best)), voxels, count)


def decode_groups(
    network: DetectionNetwork, found: Predictions, group: Int[Tensor, " voxels"], xyz: Float[Tensor, "voxels 3"]
) -> Decoded:
    """The box of each of some groups of voxels, in their order: from the voxels that agree with the best one, which is
    the likeliest to be of an object and to have a good box that fits the group. A box that holds less than half of its
    group is another object's: then it is the one around the group.

    Args:
        network: for the embeddings.
        found: its predictions.
        group: of each voxel, from 0 without gaps; -1 for none.
        xyz: of the voxels, metres.
    """
    voxels = (group >= 0).nonzero()[:, 0]
    count, found, group, xyz = len(group), found.take(voxels), group[voxels], xyz[voxels]
    quality = found.quality.sigmoid() * _fit(found, group, xyz)
    order = (quality * found.foreground.sigmoid()).argsort(stable=True).numpy()
    best = np.empty(int(group.max()) + 1 if len(group) else 0, np.int64)
    best[group.numpy()[order]] = order  # the last one stays
    seeds = torch.from_numpy(best)
    decoded = _decoded(network, found, quality, seeds, _members(found, seeds, group))
    places, number = xyz.numpy().astype(np.float64), group.numpy()
    boxes = [_holding(box, places[number == row]) for row, box in enumerate(decoded.boxes)]
    return _in_all(replace(decoded, boxes=np.array(boxes).reshape(-1, 7)), voxels, count)


def voxel_groups(
    voxel: Int[np.ndarray, " points"], instance: Int[np.ndarray, " points"], count: int
) -> tuple[Int[np.ndarray, " voxels"], Int[np.ndarray, " points"]]:
    """The instance of each voxel that most of its points have, and that of each point: numbers from 0 by rising id; -1
    for none. An instance that has no voxel so takes one of which it has the most points, unless another does, too.

    Args:
        voxel: of each point.
        instance: of each point, 0 for none.
        count: of voxels.
    """
    pairs, points = np.unique(np.stack([voxel, instance], 1)[instance > 0], axis=0, return_counts=True)
    most = np.zeros(count, np.int64)
    order = np.argsort(points, kind="stable")
    most[pairs[order, 0]] = pairs[order, 1]  # the last one stays
    small = order[~np.isin(pairs[order, 1], most)]
    most[pairs[small, 0]] = pairs[small, 1]
    there = np.unique(most[most > 0])
    number = np.full(int(instance.max(initial=0)) + 1, -1)
    number[there] = np.arange(len(there))
    return number[most], number[instance]


def _in_all(decoded: Decoded, voxels: Int[Tensor, " some"], count: int) -> Decoded:
    """What is decoded from some voxels, of all."""
    voxel_box = np.full(count, -1)
    voxel_box[voxels.numpy()] = decoded.voxel_box
    return replace(decoded, voxel_box=voxel_box)


def _holding(box: Float[np.ndarray, "7"], places: Float[np.ndarray, "voxels 3"]) -> Float[np.ndarray, "7"]:
    """The box, if it holds half of the voxels; otherwise the one around them, of the same yaw."""
    turn = Rotation.from_euler("z", box[6])
    local = turn.inv().apply(places)
    off = np.abs(local - turn.inv().apply(box[:3])) - box[3:6] / 2
    if (off <= VOXEL).all(1).mean() >= 0.5:
        return box
    low, high = local.min(0), local.max(0)
    return np.concatenate([turn.apply((low + high) / 2), high - low + VOXEL, box[6:]])


def _fit(found: Predictions, group: Int[Tensor, " voxels"], xyz: Float[Tensor, "voxels 3"]) -> Float[Tensor, " voxels"]:
    """IoU of the box that each voxel predicts with the box around its group, of the same yaw.

    A voxel at the border of an object may predict the box of its neighbour: some of a bowl's say the table.
    """
    bins = found.yaw.shape[1]
    angle = bin_angles(bins)
    x, y = torch.stack([angle.cos(), angle.sin()]), torch.stack([-angle.sin(), angle.cos()])
    flat = xyz[:, :2]
    along = torch.stack([flat @ x, flat @ y, xyz[:, 2:].expand(-1, bins)], 1)
    shape = (int(group.max()) + 1 if len(group) else 0, 3, bins)
    index = group[:, None, None].expand(-1, 3, bins)
    low = torch.full(shape, torch.inf).scatter_reduce(0, index, along, "amin") - VOXEL / 2
    high = torch.full(shape, -torch.inf).scatter_reduce(0, index, along, "amax") + VOXEL / 2
    turn = found.yaw.argmax(1)
    low, high = low[group, :, turn], high[group, :, turn]
    center, half = found.center, found.log_size.exp() / 2
    level = center[:, :2]
    middle = torch.stack([(level * x[:, turn].T).sum(1), (level * y[:, turn].T).sum(1), center[:, 2]], 1)
    common = (torch.minimum(high, middle + half) - torch.maximum(low, middle - half)).clamp(min=0).prod(1)
    return common / ((high - low).prod(1) + (2 * half).prod(1) - common)


def _decoded(
    network: DetectionNetwork,
    found: Predictions,
    quality: Float[Tensor, " voxels"],
    best: Int[Tensor, " boxes"],
    row: Int[Tensor, " voxels"],
) -> Decoded:
    """Boxes from the voxels that belong to them.

    Args:
        network: as of `decode`.
        found: predictions of the voxels that may belong to a box.
        quality: weight of each prediction, 0 to 1. The score of a box is what its best voxel says of itself.
        best: the best voxel of each box.
        row: box of each voxel, -1 for none.
    """
    members = Bags.of(row, len(best))
    # The mean over an object's voxels is steadier than its best voxel alone.
    weight = quality.square() + 1e-6

    def mean(values: Tensor, weight: Tensor = weight) -> Tensor:
        return members.sums(values * weight[:, None]) / members.sums(weight[:, None])

    yaw = mean(found.yaw.softmax(1))
    angle = decode_yaw(yaw.clamp(min=1e-9).log())
    # Lengths of the sides belong to a yaw: voxels that disagree by a quarter of a turn have them swapped.
    agrees = (torch.cos(2 * (decode_yaw(found.yaw) - F.pad(angle, (0, 1))[row])) > 0).float()
    size = mean(found.log_size, weight * (agrees + 1e-6)).exp()
    merged = torch.cat([mean(found.center), size, angle[:, None]], 1).numpy().astype(np.float64)
    symmetry_probability, order = mean(found.symmetry.softmax(1)).max(1)
    return Decoded(
        merged,
        found.quality[best].sigmoid().numpy().astype(np.float64),
        torch.tensor(SYMMETRY_ORDERS)[order].numpy(),
        symmetry_probability.numpy(),
        yaw.numpy(),
        network.embed(mean(found.hidden)).numpy(),
        row.numpy(),
    )


def _seeds(center: Tensor, log_size: Tensor, score: Tensor, min_score: float) -> Tensor:
    """The best voxel of each cell of predicted sizes and centres, best first."""
    order = score.argsort(descending=True)
    order = order[score[order] >= min_score]
    octave = torch.round(log_size[order].mean(1, keepdim=True) / math.log(2))
    cells = torch.cat([torch.floor(center[order] / (CENTER_CELL * 2**octave)), octave], 1).long()
    _, inverse = torch.unique(_keys(cells), return_inverse=True)
    first = torch.full((int(inverse.max()) + 1 if len(inverse) else 0,), len(order))
    first = first.scatter_reduce(0, inverse, torch.arange(len(order)), "amin")
    return order[first.sort().values[:MAX_CANDIDATES]]


def _keys(rows: Int[Tensor, "n columns"]) -> Int[Tensor, " n"]:
    """A number for each row, the same for equal rows alone."""
    if not len(rows):
        return rows.sum(1)
    rows = rows - rows.amin(0)
    key = rows[:, 0]
    for column, count in zip(rows.T[1:], (rows.amax(0) + 1)[1:]):
        key = key * count + column
    return key


def _boxes(found: Predictions, rows: Tensor) -> Float[np.ndarray, "n 7"]:
    yaw = decode_yaw(found.yaw[rows])[:, None]
    return torch.cat([found.center[rows], found.log_size[rows].exp(), yaw], 1).numpy().astype(np.float64)


def _members(found: Predictions, best: Tensor, group: Tensor | None = None) -> Tensor:
    """For each voxel the row of the box that its own prediction is nearest to, -1 if it is near none; with groups only
    the box of its own may be it."""
    distance = torch.full((len(found.quality),), torch.inf)
    row = torch.full((len(found.quality),), -1)
    # Columns, since operations over long rows are faster than over rows of three.
    x, y, z = found.center.T.contiguous()
    # Sorted lengths, since a quarter of a turn swaps the level ones.
    lengths, of_best = _sorted(found.log_size).T.contiguous(), _sorted(found.log_size[best]).tolist()
    halves = (found.log_size[best].exp() / 2).clamp(min=MIN_HALF).tolist()
    places, yaw = found.center[best].tolist(), decode_yaw(found.yaw[best]).tolist()
    for index, (place, half, angle) in enumerate(zip(places, halves, yaw)):
        cos, sin = math.cos(angle), math.sin(angle)
        dx, dy = x - place[0], y - place[1]
        offsets = (cos * dx + sin * dy, cos * dy - sin * dx, z - place[2])
        shift = reduce(torch.maximum, (offset.abs_().div_(side) for offset, side in zip(offsets, half)))
        differs = sum((length - own).abs_() for length, own in zip(lengths, of_best[index])) / 3
        total = shift / MAX_SHIFT + differs / MAX_LOG_SIZE
        better = (shift < MAX_SHIFT) & (differs < MAX_LOG_SIZE) & (total < distance)
        if group is not None:
            better &= group == index
        distance = torch.where(better, total, distance)
        row[better] = index
    row[best] = torch.arange(len(best))
    return row


def _sorted(log_size: Tensor) -> Tensor:
    return torch.cat([log_size[:, :2].sort(1).values, log_size[:, 2:]], 1)
