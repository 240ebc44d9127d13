"""Precision of matrix products on a GPU."""

from collections.abc import Generator
from contextlib import contextmanager

import torch


@contextmanager
def tensor_cores() -> Generator[None, None, None]:
    """Matrix products in single precision use tensor cores (TF32: ten bits of mantissa) within a `with` block."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
