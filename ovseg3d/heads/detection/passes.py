"""Predictions averaged over several grids of voxels.

Where the borders of the voxels lie, and along which axis the cloud lies, is chance. Both cause errors that differ from
pass to pass; those of the mean are smaller.
"""

import math
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ovseg3d.engine import Workers
from ovseg3d.engine.workers import own_torch_threads
from ovseg3d.errors import ConfigError
from ovseg3d.heads.detection.align import rotated
from ovseg3d.heads.detection.bags import Bags
from ovseg3d.heads.detection.network import DetectionNetwork, Predictions
from ovseg3d.heads.detection.voxels import Voxels, voxelize
from ovseg3d.scene.clouds import PointCloud


def predict(network: DetectionNetwork, cloud: PointCloud, passes: int) -> tuple[Voxels, Predictions]:
    """The voxels of a cloud, and what the network says of them, averaged over passes.

    Pass k, from 0, sees the cloud turned by k quarters about up, in a grid that is shifted by k/2 voxels. A point takes
    the prediction of its voxel in each pass, and a voxel the mean over its points. Passes run beside each other, each
    on one of torch's threads.

    Args:
        network: in evaluation; gradients are not computed.
        cloud: finite points in metres, z up.
        passes: at least 1, which is the network's own output.

    Raises:
        ConfigError: the cloud extends too far for its voxels, or there is no pass.
    """
    if passes < 1:
        raise ConfigError(f"{passes} passes of the detection head see nothing", fix="1 or more")
    # Two threads with a pass each are faster than one pass after the other with two threads for its operations.
    with Workers(passes, own_torch_threads()).open() as workers:
        (voxels, found), *others = workers.map(partial(_pass, network, cloud), range(passes))
    if passes == 1:
        return voxels, found
    total = _tables(found)
    for other, seen in others:
        # For each voxel, the voxels of its points in the other pass.
        others = Bags(other.point_voxel[voxels.points.rows], voxels.points.sizes)
        total = [others.means(more).add_(table) for table, more in zip(total, _tables(seen))]
    few, hidden = (table.div_(passes) for table in total)
    return voxels, _from_tables(few, hidden, found)


@torch.inference_mode()
def _pass(network: DetectionNetwork, cloud: PointCloud, quarters: int) -> tuple[Voxels, Predictions]:
    """The voxels of a pass, and what the network says of them, for the cloud as it is."""
    turned = rotated(cloud, np.zeros((0, 7)), quarters * math.pi / 2)[0] if quarters else cloud
    shift = quarters / 2
    voxels = voxelize(turned, shift=(shift, shift, shift))
    found = network(voxels)
    return voxels, turned_back(found, quarters) if quarters else found


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


def _tables(found: Predictions) -> tuple[Float[Tensor, "voxels few"], Float[Tensor, "voxels dim"]]:
    """All predictions in two tables: the few columns of most are faster beside each other."""
    few = [values.reshape(len(values), -1) for name, values in vars(found).items() if name != "hidden"]
    return torch.cat(few, 1), found.hidden


def _from_tables(
    few: Float[Tensor, "voxels few"], hidden: Float[Tensor, "voxels dim"], like: Predictions
) -> Predictions:
    """Those of `_tables`, in the shapes of others."""
    shapes = {name: values for name, values in vars(like).items() if name != "hidden"}
    parts = few.split([values[0].numel() for values in shapes.values()], 1)
    views = {name: part.view_as(values) for (name, values), part in zip(shapes.items(), parts)}
    return Predictions(**views, hidden=hidden)
