"""What a tower calls shapes of no kind: names that it gives to anything say less.

Some names are near many pictures, whatever these show (hubs: Dinu et al. 2015), and a tuned tower prefers names of what
it was tuned on. So a name's logit is lessened by the logarithm of its prior: the mean probability that it gets, among
the names that were asked for, on a background of shapes that are none of them. No label is used. Zhao et al. (2021)
calibrate language models in this way by inputs without content.
"""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from safetensors import safe_open
from safetensors.torch import save_file

from ovseg3d.errors import EncoderError
from ovseg3d.files import write_atomic

TOWERS = {"frozen": 0.0, "tuned": 0.5}
"""Towers whose vectors are kept, in this order, with the tuned copy's share."""
_CLIP = "clip_weight_hash"
_LEAST = 1e-6
"""Of a prior, so that a name which no background shape gets is not sure to win."""


def log_prior(
    background: Float[np.ndarray, "shapes dim"], names: Float[np.ndarray, "classes dim"], scale: float
) -> Float[np.ndarray, " classes"]:
    """The logarithm of each name's mean probability.

    Args:
        background: unit vectors of shapes of no kind.
        names: unit vectors.
        scale: the encoder's, of cosines.
    """
    logits = scale * background @ names.T
    odds = np.exp(logits - logits.max(1, keepdims=True))
    return np.log((odds / odds.sum(1, keepdims=True)).mean(0) + _LEAST)


def interpolate(vectors: dict[str, Float[np.ndarray, "shapes dim"]], strength: float) -> dict[str, np.ndarray]:
    """The vectors with those of the tuned tower interpolated between the frozen tower's, strength 0, and its own, 1."""
    if strength == 1 or not vectors:
        return vectors
    mixed = (1 - strength) * vectors["frozen"] + strength * vectors["tuned"]
    return {**vectors, "tuned": mixed / np.linalg.norm(mixed, axis=1, keepdims=True)}


def background_file(weights: Path) -> Path:
    """Where the vectors that belong to tuned weights are."""
    return weights.with_suffix(".background.safetensors")


def save_background(path: Path, vectors: Float[np.ndarray, "shapes towers dim"], weight_hash: str) -> None:
    """Write the vectors by each of `TOWERS`, with the hash of the CLIP that they are of."""
    tensors = {name: torch.from_numpy(vectors[:, k]).half().contiguous() for k, name in enumerate(TOWERS)}
    write_atomic(path, lambda to: save_file(tensors, to, {_CLIP: weight_hash}))


def load_background(path: Path, weight_hash: str) -> dict[str, Float[np.ndarray, "shapes dim"]]:
    """The vectors by tower; none where there is no such file.

    Args:
        path: the file.
        weight_hash: of the CLIP that they have to be of.

    Raises:
        EncoderError: the file cannot be read, or is of another CLIP.
    """
    if not path.is_file():
        return {}
    try:
        with safe_open(path, "pt") as file:
            made_by = (file.metadata() or {}).get(_CLIP)
            found = {name: file.get_tensor(name).float().numpy() for name in TOWERS}
    except Exception as error:  # safetensors has errors of its own
        raise EncoderError("The background's vectors cannot be read", where=path, fix="make them again") from error
    if made_by != weight_hash:
        raise EncoderError(
            "The background's vectors belong to another encoder than the one that is named",
            where=path,
            fix="make them again: python -m scripts.training.naming_background",
        )
    return found
