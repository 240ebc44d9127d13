"""Pass torch tensors to Warp without copies, and launch kernels.

On the CPU a launch runs on the calling thread; `Workers` splits the work among threads. On CUDA a launch uses torch's
current stream, so that nothing has to synchronise.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch

_TYPES = (torch.float32, torch.int32, torch.int64)


def launch(kernel: object, dim: int | tuple[int, ...], inputs: Sequence[object], device: torch.device) -> None:
    """Run `kernel` over `dim` threads on `device`. `inputs` are numbers, and arrays from `array` and `vectors`."""
    import warp as wp

    if (dim if isinstance(dim, int) else min(dim)) == 0:
        return
    if device.type == "cpu":
        wp.launch(kernel, dim=dim, inputs=inputs, device="cpu")
    else:
        wp.launch(kernel, dim=dim, inputs=inputs, stream=_stream(torch.cuda.current_stream(device)))


@cache
def _stream(stream: torch.cuda.Stream) -> Any:
    """Warp's view of a stream of torch, which live as long as the process."""
    import warp as wp

    return wp.stream_from_torch(stream)


def vectors(tensor: torch.Tensor, length: int) -> object:
    """A float tensor [..., length] as a Warp array of vectors of that length; see `array`."""
    return _descriptor(tensor, _vector(length))


def array(tensor: torch.Tensor) -> object:
    """A tensor as a Warp array of the same type and shape.

    The result is a bare descriptor, which takes a tenth of the time of an array object; a step makes about a hundred.
    It does not keep the tensor alive: the caller must, until the launch.
    """
    return _descriptor(tensor, None)


def _descriptor(tensor: torch.Tensor, dtype: type | None) -> object:
    import warp as wp

    # Warp does not compare a bare descriptor with the kernel's signature, so a wrong type would be read as garbage.
    if tensor.dtype not in _TYPES or not tensor.is_contiguous():
        raise ValueError(f"a kernel needs contiguous float32, int32 or int64, not {tensor.dtype} {tensor.stride()}")
    return wp.from_torch(tensor.detach(), dtype=dtype, requires_grad=False, return_ctype=True)


@cache
def _vector(length: int) -> type:
    import warp as wp

    return wp.types.vector(length, wp.float32)
