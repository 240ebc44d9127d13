"""Hand torch tensors to Warp without copies, and launch.

On the CPU a launch runs on the calling thread; `Workers` splits work outside. On CUDA a launch joins torch's
current stream, so that nothing has to wait.
"""

from functools import cache

import torch

_TYPES = (torch.float32, torch.int32, torch.uint8)


def launch(kernel: object, dim: int | tuple[int, ...], inputs: list, device: torch.device) -> None:
    """Run `kernel` over `dim` on `device`. Tensors among `inputs` become Warp arrays in place."""
    import warp as wp

    if (dim if isinstance(dim, int) else min(dim)) == 0:
        return
    if device.type == "cpu":
        wp.launch(kernel, dim=dim, inputs=inputs, device="cpu")
    else:
        wp.launch(kernel, dim=dim, inputs=inputs, stream=wp.stream_from_torch(torch.cuda.current_stream(device)))


def vectors(tensor: torch.Tensor, length: int) -> object:
    """A float tensor [..., length] as a Warp array of vectors of that length; see `array`."""
    return _descriptor(tensor, _vector(length))


def array(tensor: torch.Tensor) -> object:
    """A tensor as a Warp array of the same type and shape.

    What comes back is a bare descriptor (a tenth of the time of an array object, which counts at a hundred a step);
    it does not keep the tensor alive, so the caller must until the launch.
    """
    return _descriptor(tensor, None)


def _descriptor(tensor: torch.Tensor, dtype: type | None) -> object:
    import warp as wp

    # A bare descriptor is not compared with the kernel's signature, so a wrong type would be read as garbage.
    if tensor.dtype not in _TYPES or not tensor.is_contiguous():
        raise ValueError(f"a kernel needs contiguous float32, int32 or uint8, not {tensor.dtype} {tensor.stride()}")
    return wp.from_torch(tensor.detach(), dtype=dtype, requires_grad=False, return_ctype=True)


@cache
def _vector(length: int) -> type:
    import warp as wp

    return wp.types.vector(length, wp.float32)
