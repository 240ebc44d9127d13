"""Start Warp quietly, hand torch tensors to it without copies, and launch.

On the CPU a launch runs on the calling thread; `Workers` splits work outside. On CUDA a launch joins torch's
current stream, so that nothing has to wait.
"""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import torch

_TYPES = (torch.float32, torch.int32, torch.uint8)


@cache
def start() -> None:
    """Initialise Warp without a word on stdout; where the home is not writable, kernels are cached in a temporary
    folder, private to this process."""
    import warp as wp

    wp.config.log_level = max(wp.config.log_level or 0, 40)
    wp.config.enable_backward = False
    folder = Path(wp.config.kernel_cache_dir or Path.home() / ".cache" / "warp")
    if not _writable(folder):
        wp.config.kernel_cache_dir = tempfile.mkdtemp(prefix="ovseg3d-warp-")
    with _silent_stderr():
        wp.init()


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Warp's native code writes to stderr that there is no CUDA driver; `ovseg3d doctor` says so in its place."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)


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
