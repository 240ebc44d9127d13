"""What the heads on crops share: they read crops and phrases by the encoders that they were trained with."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from ovseg3d.encoders import DenseEncoder, TextImageEncoder, load_clip, load_dino
from ovseg3d.errors import ConfigError
from ovseg3d.heads.pose.features import crop_features


@runtime_checkable
class Trained(Protocol):
    """What a head's file holds, as far as its inputs depend on it."""

    @property
    def encoder(self) -> str:
        """As `load_dino` or `load_clip` takes it, after "dino:" or "clip:"."""
        ...

    @property
    def weight_hash(self) -> str:
        """Of the encoder."""
        ...


class CropHead:
    """A file of weights, and the encoders that go with it. Subclasses read the file."""

    weights: Path
    device: torch.device | str

    @cached_property
    def trained(self) -> Trained:
        """What the file holds, read once."""
        raise NotImplementedError

    @cached_property
    def encoder(self) -> TextImageEncoder | DenseEncoder:
        """The encoder of its features. Raises EncoderError; ConfigError: its weights are not those of the training."""
        kind, _, name = self.trained.encoder.partition(":")
        found = load_clip(name, self.device) if kind == "clip" else load_dino(name, self.device)
        if found.weight_hash != self.trained.weight_hash:
            what = f"This file was trained with other weights of {name}"
            raise ConfigError(what, where=self.weights, fix="train it again")
        return found

    @cached_property
    def _texts(self) -> TextImageEncoder:
        return load_clip("builtin", self.device)

    def _read(
        self,
        crops: UInt8[np.ndarray, "crops side side 3"],
        phrases: Sequence[str | None] | None,
        *,
        grid: int,
        text: int,
    ) -> tuple[Float[Tensor, "crops channels {grid} {grid}"], Float[Tensor, "crops {text}"]]:
        """Features of the patches of crops, and vectors of their phrases.

        Args:
            crops: rgb.
            phrases: what each shows; None where that is not known.
            grid: patches along a side.
            text: numbers in a vector.

        Raises:
            EncoderError: a phrase is too long, or an encoder is not available.
        """
        features = crop_features(self.encoder, crops, grid)
        return features, _phrase_vectors(self._texts, [None] * len(crops) if phrases is None else phrases, text)


def _phrase_vectors(
    encoder: TextImageEncoder, phrases: Sequence[str | None], dim: int
) -> Float[Tensor, "phrases {dim}"]:
    """Text vectors of phrases, with their articles; zeros where there is none."""
    vectors = torch.zeros(len(phrases), dim)
    names = sorted({phrase for phrase in phrases if phrase})
    if names:
        found = torch.as_tensor(encoder.encode_text([_with_article(name) for name in names])).float().cpu()
        named = [k for k, phrase in enumerate(phrases) if phrase]
        vectors[named] = found[[names.index(str(phrases[k])) for k in named]]
    return vectors


def _with_article(phrase: str) -> str:
    first = phrase.split(" ", 1)[0].lower()
    if first in ("a", "an", "the"):
        return phrase
    return f"{'an' if phrase[0].lower() in 'aeiou' else 'a'} {phrase}"
