"""Counts what a GPU would be asked to do, in a run of the same code on the CPU.

`as_on_a_gpu` gives buffers their capacity and a step one piece. `Work` counts kernel launches, torch's operations,
their rows and bytes, and what would make the host wait for the device.
"""

from collections import Counter
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ovseg3d.engine import Workers
from ovseg3d.scene import device_pixels

WAITING = {
    "aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::equal", "aten::bincount",
    "aten::_unique2", "aten::unique_dim", "aten::repeat_interleave",
}  # fmt: skip
"""Operations whose result the host needs, or whose shape depends on values."""
READS = ("tolist", "numpy", "cpu")
"""Methods of a tensor that read it on the host."""
SENDS = ("tensor", "as_tensor", "from_numpy")
"""Functions of torch that make a tensor of what the host has."""


def as_on_a_gpu(patch: pytest.MonkeyPatch) -> None:
    """Let fields behave as on a GPU from now on, but for the device."""
    for module in ("samples", "stage", "renderer", "kernels.backend"):
        patch.setattr(f"ovseg3d.field.{module}.padded", lambda device: True)
    patch.setattr(Workers, "for_device", lambda device: Workers(1))


class Work(TorchDispatchMode):
    """What is done within a `with` block."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.launches: Counter[str] = Counter()
        """Launches of our kernels, by name."""
        self.threads: Counter[str] = Counter()
        """Threads of the largest launch of each."""
        self.operations = 0
        """Operations of torch that write: at least one launch each."""
        self.rows: Counter[int] = Counter()
        """How many tensors of so many rows are written by torch."""
        self.bytes = 0
        """Size of all new tensors of torch."""
        self.waits: list[str] = []
        """What would make the host wait."""
        self.sent = 0
        """Bytes of tensors that the host makes, which a GPU would have to get."""
        self.queued = 0
        """Bytes of copies that the host does not wait for."""
        self._count_launches(patch)
        self._count_queued(patch)
        self._count_reads(patch)
        self._count_sends(patch)
        self._active = False

    def _count_launches(self, patch: pytest.MonkeyPatch) -> None:
        from ovseg3d.field.kernels import backend

        launch = backend.launch

        def counted(kernel: Any, dim: Any, *rest: Any) -> None:
            if self._active:
                name = kernel.key.rpartition("__")[2]
                threads = dim if isinstance(dim, int) else dim[0] * dim[1]
                self.launches[name] += 1
                self.threads[name] = max(self.threads[name], threads)
            launch(kernel, dim, *rest)

        patch.setattr(backend, "launch", counted)

    def _count_reads(self, patch: pytest.MonkeyPatch) -> None:
        for name in READS:
            method = getattr(torch.Tensor, name)

            def counted(tensor: Any, *rest: Any, name: str = name, method: Any = method, **options: Any) -> Any:
                if self._active:
                    self.waits.append(name)
                return method(tensor, *rest, **options)

            patch.setattr(torch.Tensor, name, counted)

    def _count_sends(self, patch: pytest.MonkeyPatch) -> None:
        for name in SENDS:
            function = getattr(torch, name)

            def counted(*arguments: Any, function: Any = function, **options: Any) -> torch.Tensor:
                made = function(*arguments, **options)
                self.sent += made.nbytes * self._active
                return made

            patch.setattr(torch, name, counted)

    def _count_queued(self, patch: pytest.MonkeyPatch) -> None:
        send = device_pixels.send

        def counted(*arguments: Any) -> torch.Tensor:
            active, self._active = self._active, False
            try:
                made = send(*arguments)
            finally:
                self._active = active
            self.queued += made.nbytes * active
            return made

        patch.setattr(device_pixels, "send", counted)

    def __enter__(self) -> "Work":
        self._active = True
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        self._active = False
        super().__exit__(*error)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func._schema.name
        masks = [
            index
            for index in (args[1] if name in ("aten::index", "aten::index_put_", "aten::index_put") else ())
            if isinstance(index, torch.Tensor) and index.dtype in (torch.bool, torch.uint8)
        ]
        if name in WAITING or masks:
            self.waits.append(name)
        given = {tensor.untyped_storage().data_ptr() for tensor in _tensors(args)}
        made = [tensor for tensor in _tensors(out) if tensor.numel()]
        new = [tensor for tensor in made if tensor.untyped_storage().data_ptr() not in given]
        if new or func._schema.is_mutable:
            self.operations += 1
        for tensor in new:
            self.bytes += tensor.untyped_storage().nbytes()
            self.rows[tensor.shape[0] if tensor.dim() else 1] += 1
        return out


def _tensors(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, list | tuple):
        return [tensor for part in value for tensor in _tensors(part)]
    return []
