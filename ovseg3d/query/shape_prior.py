"""Shape prior: log odds of names, given what the detection head says of the shapes of instances.

The head learns a vector for each voxel that lies near the text vector of the object's kind, in the joint space of the
built-in CLIP. A run keeps their mean over each instance (`SemanticScene.shapes`), whatever its own encoder is. With e
this mean, k the text vectors of the K kinds that the head was trained on, s the scale of that training, and u the
probability that the head knows nothing of the object, a phrase that means the kind i has

    log odds = log((1 - u) p_i K + u),    p_i = exp(s k_i . e) / sum_k exp(s k . e)

so that 0 says nothing, and no name is vetoed. A phrase means the kind whose text vector is nearest ("a red chair":
chair), if that is near enough; else it gets 0.
"""

from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np
from jaxtyping import Float
from scipy.special import log_softmax

from ovseg3d.encoders import load_clip
from ovseg3d.encoders.base import TextImageEncoder
from ovseg3d.errors import EncoderError
from ovseg3d.heads.detection import Detector, Names
from ovseg3d.heads.detection.losses import TEXT_SCALE
from ovseg3d.heads.detection.names import SYNONYM
from ovseg3d.points.semantic_scene import SemanticScene
from ovseg3d.query.layout_prior import plane_of

BUILTIN = "builtin"
"""Name of the encoder in whose joint space the head's vectors lie."""
UNKNOWN = 0.3
"""Probability that an object is of none of the kinds, or of a shape that the head does not know."""


class ShapePrior:
    """Log odds of names by the shapes of a run's instances; cached by name.

    Args:
        semantics: of the run.
        encode: text vectors of the run's own encoder, if that is the built-in CLIP; None: it is loaded for this.
    """

    def __init__(self, semantics: SemanticScene, encode: Callable[[Sequence[str]], np.ndarray] | None = None) -> None:
        self._semantics, self._own = semantics, encode
        self._columns: dict[str, np.ndarray] = {}

    def log_odds(self, phrases: Sequence[str]) -> Float[np.ndarray, "instances phrases"]:
        """Log odds of names, given the shapes of instances. Zero for floor, walls and ceiling, and for LERF's method,
        which stays free of them.

        Args:
            phrases: the names.

        Returns:
            One row for each instance, rejected fragment or joined object, by its number; row 0 (none) is zero.
        """
        odds = np.zeros((self._semantics.numbers + 1, len(phrases)))
        if not len(self._shapes) or self._semantics.sized is not None:
            return odds
        new = [phrase for phrase in dict.fromkeys(phrases) if phrase not in self._columns and not plane_of(phrase)]
        if new:
            near = self._kinds.vectors @ self._encoded(new).T
            told = np.where(near.max(0) >= SYNONYM, self._of_kinds[:, near.argmax(0)], 0.0)
            self._columns |= dict(zip(new, told.T))
        for k, phrase in enumerate(phrases):
            if not plane_of(phrase):
                odds[1:, k] = self._columns[phrase]
        return odds

    @cached_property
    def _shapes(self) -> Float[np.ndarray, "pieces text"]:
        shapes = self._semantics.shapes
        if shapes is None or shapes.shape[1] != self._kinds.vectors.shape[1]:  # of another version of the head
            return np.zeros((0, 0), np.float32)
        return shapes

    @cached_property
    def _kinds(self) -> Names:
        return Detector().names

    @cached_property
    def _of_kinds(self) -> Float[np.ndarray, "pieces kinds"]:
        """Log odds of the kinds; 0 without a vector."""
        logits = TEXT_SCALE * self._shapes @ self._kinds.vectors.T
        share = log_softmax(logits, axis=1) + np.log(logits.shape[1])
        return np.logaddexp(np.log(1 - UNKNOWN) + share, np.log(UNKNOWN))

    @cached_property
    def _clip(self) -> TextImageEncoder:
        return load_clip(BUILTIN)

    def _encoded(self, phrases: Sequence[str]) -> Float[np.ndarray, "phrases text"]:
        """Vectors of phrases by the built-in CLIP; zero, so that it means no kind, if a phrase is too long for it."""
        if self._own is not None:  # a phrase that is too long for it cannot be asked
            return self._own(phrases)
        try:
            return self._clip.encode_text(list(phrases)).numpy()
        except EncoderError:
            if len(phrases) == 1:
                return np.zeros((1, self._clip.dim), np.float32)
            return np.concatenate([self._encoded([phrase]) for phrase in phrases])
