"""A trial of an encoder from elsewhere: one small grey image and one phrase, before a training depends on it."""

from typing import Any

import torch
from torch import Tensor

_ROWS, _COLUMNS = 2, 3
"""Patches of the trial image: not square, so that rows and columns cannot be mistaken for each other."""


def fault_of(encoder: Any) -> str:
    """What is wrong with the vectors of a TextImageEncoder or DenseEncoder; empty if nothing is.

    Raises whatever the encoder raises.
    """
    dim, patch = encoder.dim, encoder.patch
    trials: list[tuple[str, Any, tuple[int, ...]]] = []
    if getattr(encoder, "dense", True):
        trials.append(("encode_dense", _grey(_ROWS * patch, _COLUMNS * patch), (1, dim, _ROWS, _COLUMNS)))
    if hasattr(encoder, "encode_text"):
        trials.append(("encode_image", _grey(*encoder.preprocess.size), (1, dim)))
        trials.append(("encode_text", ["a chair"], (1, dim)))
    with torch.no_grad():
        return next(filter(None, (_fault(encoder, *trial) for trial in trials)), "")


def _fault(encoder: Any, method: str, given: Any, wanted: tuple[int, ...]) -> str:
    found = getattr(encoder, method)(given)
    asked = f"an image of {tuple(given.shape)}" if isinstance(given, Tensor) else f"{given}"
    if not isinstance(found, Tensor):
        return f"{method} of {asked} returns a {type(found).__name__}, not a torch.Tensor"
    if tuple(found.shape) != wanted:
        return f"{method} of {asked} has the shape {tuple(found.shape)}, not {wanted}"
    if not found.is_floating_point() or not found.isfinite().all():
        return f"{method} of {asked} has values that are no finite numbers ({found.dtype})"
    return ""


def _grey(height: int, width: int) -> Tensor:
    return torch.full((1, 3, height, width), 0.5)
