"""What is set on a GPU: the precision of matrix products, the most memory, and batches that fit into it."""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TypeVar

import torch

from ovseg3d.errors import DeviceError

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def tf32_matmul() -> Generator[None, None, None]:
    """Matrix products in single precision use tensor cores (TF32: ten bits of mantissa) within a `with` block."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def encoder_precision(device: str) -> AbstractContextManager[None]:
    """How encoders compute within a `with` block: with TF32 on "cuda", in single precision on "cpu"."""
    return tf32_matmul() if device == "cuda" else nullcontext()


@contextmanager
def memory_limit(gigabytes: float | None) -> Generator[None, None, None]:
    """This process allocates at most so many GiB (2^30 bytes) of the current GPU within a `with` block.

    Args:
        gigabytes: None sets no limit.

    Raises:
        DeviceError: the work in the block ran out of the GPU's memory.
    """
    if gigabytes is not None:
        total = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
        torch.cuda.set_per_process_memory_fraction(min(gigabytes * 2**30 / total, 1.0))
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        raise out_of_memory_error() from error
    finally:
        if gigabytes is not None:
            torch.cuda.set_per_process_memory_fraction(1.0)


def in_batches(
    items: Sequence[Item], size: int, work: Callable[[Sequence[Item]], Result]
) -> Iterator[tuple[Sequence[Item], Result]]:
    """Each batch of items with its result. Batches that do not fit into the GPU's memory are halved.

    Args:
        items: what to work on.
        size: most items of a batch.
        work: is called again, with fewer items, when the memory ended.

    Raises:
        DeviceError: the memory is too small for one item.
    """
    first = 0
    while first < len(items):
        batch = items[first : first + size]
        try:
            result = work(batch)
        except torch.cuda.OutOfMemoryError as error:
            if len(batch) == 1:
                raise out_of_memory_error() from error
            size = len(batch) // 2
            continue
        yield batch, result
        first += len(batch)


def out_of_memory_error() -> DeviceError:
    """The error for a GPU whose memory is too small."""
    return DeviceError(
        "The memory of the GPU is too small, or other programs use it",
        fix="raise --max-vram if it is set; a field with lower --field.samples and --field.log2-table is smaller, and "
        "--device cpu needs none",
    )
