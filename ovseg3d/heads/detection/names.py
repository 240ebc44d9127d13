"""Names for detections: text vectors to compare their embeddings with, and sums of what several sources say."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from ovseg3d.encoders import load_clip
from ovseg3d.errors import ConfigError
from ovseg3d.heads.detection.losses import TEXT_SCALE
from ovseg3d.heads.detection.records import Candidate

SYNONYM = 0.5
"""A trained name this similar to a given one means the same, so it is no negative. Built-in CLIP: couch and sofa 0.73,
carpet and rug 0.57, but chair and desk 0.41, curtain and window 0.40."""
MAX_CANDIDATES = 5
"""Names that are kept of each detection."""


@dataclass(frozen=True)
class Names:
    """Names to choose from, and unit vectors of their texts; negatives are what else an object may be."""

    labels: tuple[str, ...]
    vectors: Float[np.ndarray, "names text"]
    negatives: Float[np.ndarray, "negatives text"]
    negative_labels: tuple[str, ...] = ()
    keep_unnamed: bool = False
    """Whether what is none of the names is kept, without a name."""

    def __post_init__(self) -> None:
        if len(self.labels) != len(self.vectors) or len(self.negative_labels) != len(self.negatives):
            raise ConfigError("Names and negatives need a label for each vector", fix="give as many labels as vectors")

    @property
    def texts(self) -> tuple[str, ...]:
        """Names and negatives, in this order."""
        return self.labels + self.negative_labels

    def log_probabilities(self, embeddings: Float[np.ndarray, "rows text"]) -> Float[np.ndarray, "rows texts"]:
        """Of `texts`, by the embeddings of detections."""
        logits = TEXT_SCALE * embeddings @ np.concatenate([self.vectors, self.negatives]).T
        return logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)

    def candidates(self, log_odds: Float[np.ndarray, " texts"]) -> tuple[Candidate, ...]:
        """The likeliest names, best first; none if a negative is likelier than all of them.

        Args:
            log_odds: of `texts`, up to a constant: the sum of what each source says.
        """
        probability = np.exp(log_odds - log_odds.max())
        probability /= probability.sum()
        if log_odds.argmax() >= len(self.labels):
            return ()
        best = np.argsort(-probability[: len(self.labels)], kind="stable")[:MAX_CANDIDATES]
        return tuple(Candidate(self.labels[i], float(probability[i])) for i in best)


def given_names(labels: Sequence[str], trained: Names, keep_unnamed: bool = False) -> Names:
    """Names of a list, with the trained names that mean none of them as negatives.

    Texts are encoded by the built-in CLIP, which knows everyday words for what procedural rooms hold.

    Args:
        labels: the list.
        trained: the names of a detector.
        keep_unnamed: see `Names`.

    Raises:
        EncoderError: a name is too long.
    """
    vectors = load_clip("builtin").encode_text(list(labels)).numpy()
    apart = (trained.vectors @ vectors.T).max(1) < SYNONYM
    others = tuple(label for label, kept in zip(trained.labels, apart) if kept)
    return Names(tuple(labels), vectors, trained.vectors[apart], others, keep_unnamed)
