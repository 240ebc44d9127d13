"""Moves the faces of boxes to where an object's points and the predictions of its voxels say that they are.

The mean of what voxels predict may go on beyond the points, and is blurred; points show where an object ends, but only
where the cloud is exact, is seen from all sides, and has no point of a neighbour. Which is the better one differs from
face to face. For each face a small network weighs places that are at hand: where it is now, quantiles of the object's
points, and quantiles of its voxels' predictions; and it may add a little. The same network says how far to change the
score. It is fitted by scripts.training.train_boxes.
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ovseg3d.engine.network_file import network_file, save_network_file
from ovseg3d.heads.detection.decode import Decoded
from ovseg3d.heads.detection.network import Predictions
from ovseg3d.heads.detection.yaw import decode_yaw

FACES = Path(__file__).parent / "shipped" / "faces.safetensors"
POINT_SHARES = (0.0, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5)
"""Of an object's points that lie beyond a place, counted from outside."""
VOTE_SHARES = (0.95, 0.75, 0.5, 0.25, 0.05)
"""The same of its voxels' predictions."""
PLACES = 1 + len(POINT_SHARES) + len(VOTE_SHARES)
"""The first one is where the face is now."""
TRIM = 2
"""Which of the shares of points ends the box around them."""
FEATURES = PLACES - 1 + 16
"""Of a face: its places, three of the opposite one, which side it is, lengths of the box, its score, how far the box
around the points agrees, and how rough the cloud is."""
LARGEST_STEP = 0.05
"""That is added to the weighed places, metres."""
MIN_SIDE = 0.005
"""Of a box, metres."""
_UNIT = 0.02
"""Offsets are told as the inverse hyperbolic sine of so many metres: fine near 0, and no outlier is large."""
_AROUND = 0.4
"""Cells whose thinnest extent says how rough the cloud is, metres..."""
_FEWEST = 12
"""...if they have as many voxels."""
_ROUGH = (0.1, 0.3)
"""Quantiles of it over the cells: flat places say how rough a cloud is."""
_LEAST_ROUGH, _USUAL_ROUGH, _UNKNOWN_ROUGH = 0.0005, 0.005, 0.02
"""Metres; less than the first is as good as none."""
_OPPOSITE = (1, 3, len(POINT_SHARES) + 2)
"""Which places of the opposite face are told: two of points and the voxels' median."""
_SIDES = np.eye(5)[[0, 0, 1, 2, 3, 4]].reshape(3, 2, 5)
"""One of: an end along x, front, back, bottom, top."""


class FaceNetwork(nn.Module):
    """Weighs the places of a face, by its own features, those of the opposite one, and the mean over all six.

    Args:
        width: of the two hidden layers.
    """

    mean: Tensor
    """Of the features, and..."""
    deviation: Tensor
    """...their standard deviation, in the training."""

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        self.width = width
        self.register_buffer("mean", torch.zeros(FEATURES))
        self.register_buffer("deviation", torch.ones(FEATURES))
        self.face, self.box = nn.Linear(FEATURES, width), nn.Linear(3 * width, width)
        self.out = nn.Linear(width, PLACES + 2)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(
        self, features: Float[Tensor, "boxes 3 2 features"], places: Float[Tensor, "boxes 3 2 places"]
    ) -> tuple[Float[Tensor, "boxes 3 2"], Float[Tensor, " boxes"]]:
        """How far outwards each face moves, metres, and what is added to the score's log odds."""
        scaled = ((features - self.mean) / self.deviation).clamp(-4, 4)
        hidden = self.face(scaled).relu()
        whole = hidden.mean((1, 2), keepdim=True).expand_as(hidden)
        said = self.out(self.box(torch.cat([hidden, hidden.flip(2), whole], -1)).relu())
        weight = said[..., :PLACES].softmax(-1)
        step = (weight * places).sum(-1) + LARGEST_STEP * said[..., PLACES].tanh()
        return step, said[..., PLACES + 1].mean((1, 2))


def save_faces(path: Path, network: FaceNetwork) -> None:
    """Write `path` in half precision, atomically. Raises OutputError."""
    shape = {"width": network.width}
    save_network_file(path, network.state_dict(), {"shape": json.dumps(shape)})


def load_faces(path: Path = FACES) -> FaceNetwork:
    """The network in a file; by default the shipped one.

    Raises:
        ConfigError: the file is missing, or holds no such network, or one of another version.
    """
    with network_file(path, "a network of faces", "scripts.training.train_boxes") as (tensors, facts):
        network = FaceNetwork(json.loads(facts["shape"])["width"])
        network.load_state_dict(tensors)
    return network.eval().requires_grad_(False)


def refine(
    network: FaceNetwork,
    found: Decoded,
    said: Predictions,
    voxels: Float[Tensor, "voxels 3"],
    xyz: Float[np.ndarray, "points 3"],
    members: Int[np.ndarray, " points"],
) -> Decoded:
    """The same objects with moved faces and the scores of these boxes.

    Args:
        network: of `load_faces`.
        found: the objects.
        said: predictions of all voxels.
        voxels: their places, metres.
        xyz: the points, metres, z up.
        members: row of each point's object, -1 for none.
    """
    if not len(found.boxes):
        return found
    places, features = evidence(found, said, voxels, xyz, members)
    with torch.inference_mode():
        step, change = network(torch.from_numpy(features), torch.from_numpy(places))
        odds = torch.from_numpy(found.scores).clamp(0.01, 0.99).logit() + change
    return replace(found, boxes=moved(found.boxes, step.numpy().astype(np.float64)), scores=odds.sigmoid().numpy())


def moved(boxes: Float[np.ndarray, "boxes 7"], step: Float[np.ndarray, "boxes 3 2"]) -> Float[np.ndarray, "boxes 7"]:
    """Boxes whose faces (low, high of each axis) moved outwards, metres."""
    low, high = -boxes[:, 3:6] / 2 - step[:, :, 0], boxes[:, 3:6] / 2 + step[:, :, 1]
    middle, side = (low + high) / 2, np.maximum(high - low, MIN_SIDE)
    cos, sin = np.cos(boxes[:, 6]), np.sin(boxes[:, 6])
    x, y, z = middle.T
    shift = np.stack([cos * x - sin * y, sin * x + cos * y, z], 1)
    return np.concatenate([boxes[:, :3] + shift, side, boxes[:, 6:]], 1)


def evidence(
    found: Decoded,
    said: Predictions,
    voxels: Float[Tensor, "voxels 3"],
    xyz: Float[np.ndarray, "points 3"],
    members: Int[np.ndarray, " points"],
) -> tuple[Float[np.ndarray, "boxes 3 2 places"], Float[np.ndarray, "boxes 3 2 features"]]:
    """Places of the faces, as offsets outwards from where they are, metres, and the features of each.

    Args:
        found: the objects.
        said: predictions of all voxels.
        voxels: their places, metres.
        xyz: the points, metres, z up.
        members: row of each point's object, -1 for none.
    """
    boxes, count = found.boxes, len(found.boxes)
    size, half = boxes[:, 3:6], boxes[:, 3:6, None, None] / 2
    rows, starts = _of_each(members, count)
    local = _local(xyz[rows].astype(np.float64), boxes[members[rows]])
    points = _ends(local, local, starts, POINT_SHARES, half)
    voters, starts = _of_each(found.voxel_box, count)
    votes = _ends(*_voted(said, voters, boxes[found.voxel_box[voters]]), starts, VOTE_SHARES, half)
    places = np.concatenate([np.zeros((count, 3, 2, 1)), points - half, votes - half], 3)
    told = np.arcsinh(places[..., 1:] / _UNIT)
    extent = np.maximum(points[..., TRIM].sum(2), 2 * MIN_SIDE)
    across = np.sort(size[:, [[1, 2], [0, 2], [0, 1]]], 2)
    of_axis = np.log(np.concatenate([size[:, :, None], (extent / size)[:, :, None], across], 2))
    odds = np.log((found.scores + 1e-3) / (1 - found.scores + 1e-3))
    rough = np.broadcast_to(_roughness(voxels.numpy().astype(np.float64)), (count, len(_ROUGH)))
    of_box = np.concatenate([odds[:, None], _agreement(size / 2, points[..., TRIM])[:, None], rough], 1)
    shape = (count, 3, 2)
    parts = (
        told,
        told[:, :, ::-1][..., _OPPOSITE],
        np.broadcast_to(_SIDES, (*shape, _SIDES.shape[-1])),
        np.broadcast_to(of_axis[:, :, None], (*shape, of_axis.shape[-1])),
        np.broadcast_to(of_box[:, None, None], (*shape, of_box.shape[-1])),
    )
    return places.astype(np.float32), np.concatenate(parts, 3).astype(np.float32)


def _of_each(row: Int[np.ndarray, " n"], count: int) -> tuple[Int[np.ndarray, " some"], Int[np.ndarray, " ends"]]:
    """Which have a row from 0 to `count`, by it, and where each row begins among them, with the end of the last."""
    order = np.argsort(row, kind="stable")
    starts = np.searchsorted(row[order], np.arange(count + 1))
    return order[starts[0] : starts[-1]], starts - starts[0]


def _local(places: Float[np.ndarray, "n 3"], boxes: Float[np.ndarray, "n 7"]) -> Float[np.ndarray, "n 3"]:
    """Places along the axes of a box each, from its centre."""
    x, y, z = (places - boxes[:, :3]).T
    cos, sin = np.cos(boxes[:, 6]), np.sin(boxes[:, 6])
    return np.stack([cos * x + sin * y, cos * y - sin * x, z], 1).astype(np.float32)  # sorted faster


def _voted(
    said: Predictions, voxels: Int[np.ndarray, " n"], boxes: Float[np.ndarray, "n 7"]
) -> tuple[Float[np.ndarray, "n 3"], Float[np.ndarray, "n 3"]]:
    """Low and high ends of the boxes that some voxels predict, along the axes of a box each, from its centre."""
    chosen = torch.from_numpy(voxels)
    center, side = said.center[chosen].numpy().astype(np.float64), said.log_size[chosen].exp().numpy()
    # Lengths of the sides belong to a yaw: voxels that disagree by a quarter of a turn have them swapped.
    swapped = np.cos(2 * (decode_yaw(said.yaw[chosen]).numpy() - boxes[:, 6])) < 0
    half = np.where(swapped[:, None], side[:, [1, 0, 2]], side) / 2
    middle = _local(center, boxes)
    return middle - half, middle + half


def _ends(
    low: Float[np.ndarray, "n 3"],
    high: Float[np.ndarray, "n 3"],
    starts: Int[np.ndarray, " ends"],
    shares: tuple[float, ...],
    usual: Float[np.ndarray, "boxes 3 1 1"],
) -> Float[np.ndarray, "boxes 3 2 shares"]:
    """How far out some share of each box's low and high ends lies beyond, from its centre; of a box without any as
    `usual`."""
    found = np.broadcast_to(usual, (len(starts) - 1, 3, 2, len(shares))).copy()
    for box, (start, end) in enumerate(zip(starts, starts[1:])):
        if end > start:
            at = np.array(shares) * (end - start - 1)
            for side, values in enumerate((low, -high)):
                ordered = np.sort(values[start:end].T, axis=1)
                below = at.astype(int)
                above, part = np.minimum(below + 1, end - start - 1), at - below
                found[box, :, side] = -(ordered[:, below] * (1 - part) + ordered[:, above] * part)
    return found


def _agreement(
    half: Float[np.ndarray, "boxes 3"], points: Float[np.ndarray, "boxes 3 2"]
) -> Float[np.ndarray, " boxes"]:
    """IoU of each box with the one around its points."""
    common = np.maximum(np.minimum(points, half[:, :, None]).sum(2), 0).prod(1)
    around = np.maximum(points.sum(2), 2 * MIN_SIDE).prod(1)
    return common / (around + (2 * half).prod(1) - common)


def _roughness(places: Float[np.ndarray, "voxels 3"]) -> Float[np.ndarray, " few"]:
    """Logarithms of quantiles of how thick the cloud is in cells of it: small where there are planes."""
    cell = np.floor((places - places.min(0)) / _AROUND).astype(np.int64)
    _, cell, count = np.unique(
        (cell[:, 0] << 40) + (cell[:, 1] << 20) + cell[:, 2], return_inverse=True, return_counts=True
    )
    mean = np.stack([np.bincount(cell, column) for column in places.T], 1) / count[:, None]
    off = places - mean[cell]
    pairs = ((0, 0), (1, 1), (2, 2), (0, 1), (1, 2), (0, 2))
    xx, yy, zz, xy, yz, xz = (np.bincount(cell, off[:, i] * off[:, j]) / count for i, j in pairs)
    volume = xx * yy * zz + 2 * xy * yz * xz - xx * yz**2 - yy * xz**2 - zz * xy**2
    area = xx * yy + yy * zz + xx * zz - xy**2 - yz**2 - xz**2
    # Of the variances along the main axes, the product over the sum of the products of two: about the least one.
    thickness = np.sqrt(np.maximum(volume, 0) / np.maximum(area, 1e-14))[count >= _FEWEST]
    known = np.quantile(thickness, _ROUGH) if len(thickness) else np.full(len(_ROUGH), _UNKNOWN_ROUGH)
    return np.log((known + _LEAST_ROUGH) / _USUAL_ROUGH)
