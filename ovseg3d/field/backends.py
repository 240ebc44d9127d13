"""Create the backend that a field runs on, by its name."""

import torch

from ovseg3d.errors import DeviceError, nearest
from ovseg3d.field.levels import GridLevels
from ovseg3d.field.operators import FieldBackend

BACKENDS = ("warp", "torch", "tcnn")


def make_backend(name: str, levels: GridLevels, device: torch.device) -> FieldBackend:
    """The backend called `name` for a grid on a device.

    Raises:
        DeviceError: the backend is unknown, or does not work on this machine.
    """
    if name == "warp":
        from ovseg3d.field.kernels import WarpBackend

        return WarpBackend(levels, device)
    if name == "torch":
        from ovseg3d.field.reference import TorchBackend

        return TorchBackend(levels, device)
    if name == "tcnn":
        from ovseg3d.field.tcnn import TcnnBackend

        return TcnnBackend(levels, device)
    raise DeviceError(f"There is no backend {name!r}", fix=f"use {nearest(name, BACKENDS) or 'warp'}")
