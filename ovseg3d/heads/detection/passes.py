"""Predictions averaged over several grids of voxels.

Where the borders of the voxels lie, and along which axis the cloud lies, is chance. Both cause errors that differ from
pass to pass; those of the mean are smaller.
"""

import math
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from ovseg3d.errors import ConfigError
from ovseg3d.heads.detection.align import rotated
from ovseg3d.heads.detection.network import DetectionNetwork, Predictions
from ovseg3d.heads.detection.voxels import Voxels, voxelize
from ovseg3d.scene.clouds import PointCloud


def predict(network: DetectionNetwork, cloud: PointCloud, passes: int) -> tuple[Voxels, Predictions]:
    """The voxels of a cloud, and what the network says of them, averaged over passes.

    Pass k, from 0, sees the cloud turned by k quarters about up, in a grid that is shifted by k/2 voxels. A point takes
    the prediction of its voxel in each pass, and a voxel the mean over its points.

    Args:
        network: without gradients.
        cloud: finite points in metres, z up.
        passes: at least 1, which is the network's own output.

    Raises:
        ConfigError: the cloud extends too far for its voxels, or there is no pass.
    """
    if passes < 1:
        raise ConfigError(f"{passes} passes of the detection head see nothing", fix="1 or more")
    voxels = voxelize(cloud)
    total = vars(network(voxels))
    for quarters in range(1, passes):
        turned, _ = rotated(cloud, np.zeros((0, 7)), quarters * math.pi / 2)
        shift = quarters / 2
        other = voxelize(turned, shift=(shift, shift, shift))
        found = vars(turned_back(network(other), quarters))
        total = {
            name: values + _regrouped(found[name], other.point_voxel, voxels.point_voxel)
            for name, values in total.items()
        }
    return voxels, Predictions(**{name: values / passes for name, values in total.items()})


def turned_back(found: Predictions, quarters: int) -> Predictions:
    """What the network says of a cloud that was turned counter-clockwise, for the cloud before the turn.

    Args:
        found: for the turned cloud.
        quarters: of a turn.
    """
    quarter = found.center.new_tensor([[0, -1, 0], [1, 0, 0], [0, 0, 1]])
    # Rows times a rotation are turned by its inverse.
    center = found.center @ torch.linalg.matrix_power(quarter, quarters)
    return replace(found, center=center, yaw=found.yaw.roll(-quarters * found.yaw.shape[1] // 4, 1))


def _regrouped(
    values: Float[Tensor, "others *dim"], other: Int[Tensor, " points"], voxel: Int[Tensor, " points"]
) -> Float[Tensor, "voxels *dim"]:
    """The mean over the points of each voxel.

    Args:
        values: of the voxels of another grid.
        other: each point's voxel of that grid.
        voxel: each point's voxel.
    """
    starts = F.pad(torch.bincount(voxel).cumsum(0), (1, 0))[:-1]
    # A bag is a voxel, its words are the points' other voxels: seven times faster than by `index_add_`.
    means = F.embedding_bag(other[voxel.argsort()], values.reshape(len(values), -1), starts, mode="mean")
    return means.reshape(-1, *values.shape[1:])
