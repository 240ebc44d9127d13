"""`--backend tcnn`: tinycudann's hash grid in place of ours; all else stays in Warp.

The layout of the table is tinycudann's own, so that checkpoints move freely between backends. Never run on a GPU by
its makers, as `ovseg3d doctor` says; the tests hold its plumbing to the reference with a stand-in for tinycudann.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from ovseg3d.engine import Workers
from ovseg3d.errors import DeviceError
from ovseg3d.field.kernels import WarpBackend
from ovseg3d.field.levels import GridLevels


class TcnnBackend(WarpBackend):
    """Operators of one grid on a CUDA device.

    Raises:
        DeviceError: tinycudann is not installed or does not work here, or lays its table out differently.
    """

    name = "tcnn"

    def __init__(self, levels: GridLevels, device: torch.device) -> None:
        self._encoding = _encoding(levels).to(device)
        if self._encoding.params.numel() != levels.entries * levels.features:
            raise DeviceError(
                f"tinycudann's grid has {self._encoding.params.numel()} parameters where"
                f" {levels.entries * levels.features} were expected",
                fix="use --backend warp, and report the version of tinycudann",
            )
        super().__init__(levels, device)

    def encode(
        self, x: Float[Tensor, "samples 3"], table: Float[Tensor, "entries features"]
    ) -> Float[Tensor, "samples dim"]:
        inside = x.clamp(0.0, 1.0)
        return torch.func.functional_call(self._encoding, {"params": table.reshape(-1)}, (inside,)).float()

    def add_table_gradient(
        self, pieces: list[tuple[Tensor, Tensor]], grad_table: Tensor, workers: Workers | None = None
    ) -> None:
        # The encoding is linear in the table, so its gradient does not depend on the table's values.
        table = torch.zeros_like(grad_table, requires_grad=True)
        with torch.enable_grad():
            for x, grad in pieces:
                grad_table += torch.autograd.grad(self.encode(x, table), table, grad)[0]

    def position_gradient(self, x: Tensor, table: Tensor, grad: Tensor) -> Tensor:
        leaf = x.detach().requires_grad_()
        with torch.enable_grad():
            return torch.autograd.grad(self.encode(leaf, table), leaf, grad)[0]


def _encoding(levels: GridLevels) -> torch.nn.Module:
    try:
        import tinycudann
    except (ImportError, OSError) as error:
        raise DeviceError(
            f"--backend tcnn needs tinycudann, which cannot be used here ({error})",
            fix="install it as its own page says (it needs a CUDA toolkit and a GPU), or use --backend warp",
        ) from error
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
