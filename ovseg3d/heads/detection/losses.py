"""Losses of the detection head: every voxel of an object learns the object's box (dense, multi-positive assignment)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ovseg3d.geometry import rotated_iou_torch
from ovseg3d.heads.detection.network import SYMMETRY_ORDERS, DetectionNetwork, Predictions
from ovseg3d.heads.detection.yaw import decode_yaw, yaw_labels

BACKGROUND, IGNORE = -1, -2
"""Of voxels without a box: one less than the instances of points, 0 and -1."""
MIN_VOXELS = 2
"""Objects that fill fewer voxels are ignored: nothing is left of them."""
OBJECT_SHARE = 0.5
"""A voxel belongs to an object rather than to the room behind it if at least a third of its points do: the room's
points count half."""
CENTER_BETA, SIZE_BETA = 0.01, 0.05
"""Errors from which the losses of centre (metres) and logarithmic size are linear: pictures are 2 cm thick."""
MIN_SIDE = 1e-3
"""Least side of a prediction that is clipped at open sides, metres."""
SMALL_POWER = 0.75
"""A voxel's weight is its object's number of voxels to the power of minus this: 1 would make all objects equal."""
TEXT_SCALE = 14.0
"""Factor of cosine similarities before the softmax over names (1 / 0.07)."""
WEIGHTS = {
    "foreground": 1.0, "quality": 1.0, "iou": 1.0, "center": 2.0, "size": 0.5, "yaw": 0.5, "symmetry": 0.1, "name": 0.2,
}  # fmt: skip


@dataclass(frozen=True)
class Targets:
    """Ground truth of one scene."""

    voxel_box: Int[Tensor, " voxels"]
    """Row of the voxel's box, BACKGROUND or IGNORE."""
    boxes: Float[Tensor, "boxes 7"]
    """Centre, full size, yaw; metres, radians."""
    symmetry: Int[Tensor, " boxes"]
    """Order of symmetry."""
    kind: Int[Tensor, " boxes"]
    """Row of its name in the names' embeddings."""
    weight: Float[Tensor, " boxes"] | None = None
    """Of each box's losses, 0 to 1; None: 1."""
    open_sides: Bool[Tensor, "boxes 6"] | None = None
    """Sides beyond which an object may go on (x low, x high, y low... along its axes): a prediction that is larger
    there is not wrong. None: none."""


def assign(
    point_voxel: Int[Tensor, " points"], instance: Int[Tensor, " points"], voxels: int, boxes: int
) -> Int[Tensor, " voxels"]:
    """The box of each voxel, by the points in it.

    Args:
        point_voxel: voxel of each point.
        instance: 1 + the row of the point's box, 0 for none, -1 if that is unknown.
        voxels: how many.
        boxes: how many.
    """
    columns = boxes + 2
    votes = torch.bincount(point_voxel * columns + instance + 1, minlength=voxels * columns).float()
    votes = votes.view(voxels, columns)
    votes[:, 1] *= OBJECT_SHARE
    box = votes.argmax(1) - 2
    few = torch.bincount(box + 2, minlength=columns)[2:] < MIN_VOXELS
    return torch.where((box >= 0) & few[box.clamp(min=0)], IGNORE, box) if boxes else box


def detection_losses(
    network: DetectionNetwork, found: Predictions, targets: Targets, names: Float[Tensor, "names text"]
) -> dict[str, Tensor]:
    """The weighted losses, by name; their sum is to be minimised.

    Args:
        network: for the embeddings.
        found: its predictions.
        targets: of the same voxels.
        names: unit vectors of the names.
    """
    known = targets.voxel_box != IGNORE
    positive = (targets.voxel_box >= 0).nonzero()[:, 0]
    foreground = (targets.voxel_box >= 0).float()
    if not known.any():
        return {"foreground": found.foreground.sum() * 0}
    losses = {"foreground": F.binary_cross_entropy_with_logits(found.foreground[known], foreground[known]) * 4}
    quality = torch.zeros_like(found.quality)
    weight = torch.ones_like(quality)
    if len(positive):
        row = targets.voxel_box[positive]
        # A large object has a thousand times the voxels of a small one, but not its importance.
        share = torch.bincount(row, minlength=len(targets.boxes)).float().clamp(min=1).pow(-SMALL_POWER)[row]
        share = share / share.sum()
        if targets.weight is not None:
            share = share * targets.weight[row]
        box, order = targets.boxes[row], targets.symmetry[row]
        center, log_size, yaw = found.center[positive], found.log_size[positive], found.yaw[positive]
        if targets.open_sides is not None:
            center, log_size = _bounded(center, log_size, box, targets.open_sides[row])
        with torch.no_grad():
            guess = torch.cat([center, log_size.exp(), decode_yaw(yaw)[:, None]], 1)
            quality[positive] = rotated_iou_torch(guess, box)
            weight[positive] = share * len(positive)
        diou = _diou(center, log_size.exp(), box)
        labels = yaw_labels(box[:, 6], order, yaw.shape[1])
        orders = torch.tensor(SYMMETRY_ORDERS)
        symmetry = (order[:, None] == orders).int().argmax(1)
        embedded = network.embed(found.hidden[positive])
        losses |= {
            "iou": (share * (1 - diou)).sum(),
            "center": (share * F.smooth_l1_loss(center, box[:, :3], beta=CENTER_BETA, reduction="none").sum(1)).sum(),
            "size": (
                share * F.smooth_l1_loss(log_size, box[:, 3:6].log(), beta=SIZE_BETA, reduction="none").sum(1)
            ).sum(),
            "yaw": (share * F.cross_entropy(yaw, labels, reduction="none")).sum(),
            "symmetry": (share * F.cross_entropy(found.symmetry[positive], symmetry, reduction="none")).sum(),
            "name": (
                share * F.cross_entropy(TEXT_SCALE * embedded @ names.T, targets.kind[row], reduction="none")
            ).sum(),
        }
    losses["quality"] = _quality_loss(found.quality[known], quality[known], weight[known], max(len(positive), 1))
    return {name: WEIGHTS[name] * value for name, value in losses.items()}


def _quality_loss(logit: Tensor, target: Tensor, weight: Tensor, positives: int) -> Tensor:
    """Quality focal loss (Li et al. 2020, eq. 5) with beta = 2, for each positive."""
    cross = F.binary_cross_entropy_with_logits(logit, target, reduction="none")
    return (weight * (target - logit.sigmoid()).square() * cross).sum() / positives * 4


def _bounded(center: Tensor, log_size: Tensor, box: Tensor, open_sides: Tensor) -> tuple[Tensor, Tensor]:
    """Predicted centres and logarithmic sizes without what goes beyond the open sides of the boxes, in their axes."""
    offset = _along(center - box[:, :3], box[:, 6])
    size, half = log_size.exp(), box[:, 3:6] / 2
    low, high = offset - size / 2, offset + size / 2
    low = torch.where(open_sides[:, 0::2] & (low < -half), -half, low)
    high = torch.where(open_sides[:, 1::2] & (high > half), half, high)
    return box[:, :3] + _along((low + high) / 2, -box[:, 6]), (high - low).clamp(min=MIN_SIDE).log()


def _along(offset: Tensor, yaw: Tensor) -> Tensor:
    """Level vectors in axes that are turned by a yaw."""
    cos, sin = yaw.cos(), yaw.sin()
    x, y, z = offset.unbind(1)
    return torch.stack([cos * x + sin * y, cos * y - sin * x, z], 1)


def _diou(center: Tensor, size: Tensor, box: Tensor) -> Float[Tensor, " n"]:
    """Distance-IoU (Zheng et al. 2020, eq. 7) in the true box's own axes, as if the predicted yaw were right."""
    offset = _along(center - box[:, :3], box[:, 6])
    true = box[:, 3:6]
    low = torch.maximum(offset - size / 2, -true / 2)
    high = torch.minimum(offset + size / 2, true / 2)
    shared = (high - low).clamp(min=0).prod(1)
    hull = torch.maximum(offset + size / 2, true / 2) - torch.minimum(offset - size / 2, -true / 2)
    iou = shared / (size.prod(1) + true.prod(1) - shared)
    return iou - offset.square().sum(1) / hull.square().sum(1)
