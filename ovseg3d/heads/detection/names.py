"""Names for detections: text vectors to compare their embeddings with."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from ovseg3d.encoders import load_clip
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

    def candidates(self, embedding: Float[np.ndarray, " text"]) -> tuple[Candidate, ...]:
        """The likeliest names, best first; none if a negative is likelier than all of them."""
        similarity = TEXT_SCALE * np.concatenate([self.vectors, self.negatives]) @ embedding
        probability = np.exp(similarity - similarity.max())
        probability /= probability.sum()
        if similarity.argmax() >= len(self.labels):
            return ()
        best = np.argsort(-probability[: len(self.labels)], kind="stable")[:MAX_CANDIDATES]
        return tuple(Candidate(self.labels[i], float(probability[i])) for i in best)


def given_names(labels: Sequence[str], trained: Names) -> Names:
    """Names of a user's list, with the trained names that mean none of them as negatives.

    Texts are encoded by the built-in CLIP, which knows everyday words for what procedural rooms hold.

    Raises:
        EncoderError: a name is too long.
    """
    vectors = load_clip("builtin").encode_text(list(labels)).numpy()
    apart = (trained.vectors @ vectors.T).max(1) < SYNONYM
    return Names(tuple(labels), vectors, trained.vectors[apart])
