"""Precision, limits and batches of a GPU; its errors are made up where there is none."""

import pytest
import torch

from ovseg3d.engine import encoder_precision, in_batches, memory_limit, tf32_matmul
from ovseg3d.errors import DeviceError


def test_batches_are_halved_until_they_fit() -> None:
    sizes = []

    def work(some) -> int:
        sizes.append(len(some))
        if len(some) > 3:
            raise torch.cuda.OutOfMemoryError("too many")
        return sum(some)

    done = list(in_batches(range(11), 8, work))
    assert sizes == [8, 4, 2, 2, 2, 2, 2, 1]
    assert [item for some, _ in done for item in some] == list(range(11))
    assert sum(result for _, result in done) == sum(range(11))
    assert list(in_batches([], 8, work)) == []


def test_an_item_that_does_not_fit() -> None:
    def work(some) -> None:
        raise torch.cuda.OutOfMemoryError("too large")

    with pytest.raises(DeviceError, match="memory of the GPU is too small") as error:
        list(in_batches([1, 2], 2, work))
    assert "--max-vram" in str(error.value.fix)


def test_other_errors_are_not_hidden() -> None:
    def work(some) -> None:
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        list(in_batches([1], 2, work))


def test_tensor_cores_are_used_within_the_block_only() -> None:
    before = torch.get_float32_matmul_precision()
    with pytest.raises(KeyError), tf32_matmul():
        assert torch.get_float32_matmul_precision() == "high"
        raise KeyError
    assert torch.get_float32_matmul_precision() == before


@pytest.mark.parametrize(("device", "found"), [("cuda", "high"), ("cpu", "highest")])
def test_encoders_use_tensor_cores_on_a_gpu_only(device: str, found: str) -> None:
    with encoder_precision(device):
        assert torch.get_float32_matmul_precision() == found
    assert torch.get_float32_matmul_precision() == "highest"


def test_the_end_of_the_memory_is_a_clear_error() -> None:
    with pytest.raises(DeviceError, match="memory of the GPU is too small"), memory_limit(None):
        raise torch.cuda.OutOfMemoryError("too large")


@pytest.mark.gpu
def test_a_limit_holds_within_the_block_only() -> None:
    torch.cuda.empty_cache()
    with memory_limit(1.0):
        torch.empty(2**28, dtype=torch.uint8, device="cuda")
    with pytest.raises(DeviceError), memory_limit(1.0):
        torch.empty(2 * 2**30, dtype=torch.uint8, device="cuda")
    torch.empty(2 * 2**30, dtype=torch.uint8, device="cuda")
