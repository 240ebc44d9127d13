"""The field's operators on tinycudann and nerfacc. The other operators are inherited from the Warp backend.

tinycudann computes the grid (in single precision; the table's layout is its own) and the networks (in half
precision, see `networks.py`); nerfacc marches (see `march.py`). Checkpoints hold the same tensors as those of other
backends and can be exchanged. This backend has not been run on a GPU, as `ovseg3d doctor` reports; tests compare it
to the reference with stand-ins for both libraries.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ovseg3d.errors import DeviceError
from ovseg3d.field.by_autograd import EncodeByAutograd
from ovseg3d.field.kernels import WarpBackend
from ovseg3d.field.levels import GridLevels
from ovseg3d.field.tcnn.march import NerfaccMarch
from ovseg3d.field.tcnn.networks import FusedNetworks


class TcnnBackend(EncodeByAutograd, WarpBackend):
    """Operators of one grid on a CUDA device.

    Raises:
        DeviceError: tinycudann or nerfacc is not installed or does not work here, or the layout of tinycudann's table
            differs.
    """

    name = "tcnn"

    def __init__(self, levels: GridLevels, device: torch.device) -> None:
        tinycudann = _load_tinycudann()
        self._encoding = _encoding(tinycudann, levels).to(device)
        if self._encoding.params.numel() != levels.entries * levels.features:
            raise DeviceError(
                f"tinycudann's grid has {self._encoding.params.numel()} parameters where"
                f" {levels.entries * levels.features} were expected",
                fix="use --backend warp, and report the version of tinycudann",
            )
        self.perceptron = FusedNetworks(tinycudann, device)
        self.march = NerfaccMarch(device)
        super().__init__(levels, device)

    def encode(
        self, x: Float[Tensor, "samples 3"], table: Float[Tensor, "entries features"]
    ) -> Float[Tensor, "samples dim"]:
        inside = x.clamp(0.0, 1.0)
        return torch.func.functional_call(self._encoding, {"params": table.reshape(-1)}, (inside,)).float()


def _load_tinycudann() -> Any:
    try:
        import tinycudann
    except (ImportError, OSError) as error:
        raise DeviceError(
            f"--backend tcnn needs tinycudann, which cannot be used here ({error})",
            fix="install it as its own page says (it needs a CUDA toolkit and a GPU), or use --backend warp",
        ) from error
    return tinycudann


def _encoding(tinycudann: Any, levels: GridLevels) -> Any:
    first, count = levels.levels[0], len(levels.levels)
    # scale_l = base * growth^l - 1, see `field/levels.py`.
    growth = ((levels.levels[-1].scale + 1) / (first.scale + 1)) ** (1 / max(count - 1, 1))
    config = {
        "otype": "HashGrid",
        "n_levels": count,
        "n_features_per_level": levels.features,
        "log2_hashmap_size": levels.log2_table,
        "base_resolution": round(first.scale + 1),
        "per_level_scale": growth,
    }
    return tinycudann.Encoding(3, config, dtype=torch.float32)
