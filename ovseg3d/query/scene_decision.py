"""Presence of a phrase in the whole scene: the phrase against all alternatives (see `presence`)."""

from functools import cached_property
from itertools import chain

import numpy as np
from jaxtyping import Float
from scipy.special import expit

from ovseg3d.query.answer import Criteria, Verdict
from ovseg3d.query.calibration import Calibration
from ovseg3d.query.candidates import Candidates
from ovseg3d.query.default_vocabulary import DEFAULT_VOCABULARY
from ovseg3d.query.presence import (
    LOGIT_SHARE,
    log_odds,
    log_sum,
    relevancies,
)
from ovseg3d.query.similarity import SimilarityModel
from ovseg3d.query.vocabulary import Vocabulary


class SceneDecision:
    """Decides from the candidates of a scene; their logits of the default vocabulary are cached."""

    def __init__(self, similarity: SimilarityModel, vocabulary: Vocabulary) -> None:
        self._similarity, self._texts, self._vocabulary = similarity, similarity.texts, vocabulary

    @cached_property
    def candidates(self) -> Candidates:
        """The scene's instances, rejected fragments and planes."""
        return Candidates.of(self._similarity.semantics)

    def decide(self, phrase: str, criteria: Criteria, calibration: Calibration | None = None) -> Verdict:
        """Decide whether a phrase is present.

        Args:
            phrase: free text.
            criteria: negatives, alternatives and threshold.
            calibration: of log odds; None: they are taken as they are.

        Raises:
            ConfigError, EncoderError, RunError: as `SimilarityModel.compare`.
        """
        calibrated = (calibration or Calibration()).log_odds
        everyday = self._vocabulary.default_vocabulary(phrase) if criteria.alternatives is None else ()
        named = self._vocabulary.alternatives_of(phrase, criteria.alternatives)
        named = tuple(name for name in dict.fromkeys(named) if name not in everyday)
        plain = self._texts.canonical if criteria.canonical is None else tuple(criteria.canonical)
        negatives = tuple(criteria.negatives)
        asked = ((phrase,), named, plain, negatives)
        own, beside, canonical_logits, excluded = self.logits(*asked)
        if everyday:
            beside = np.concatenate([self._everyday[:, np.isin(DEFAULT_VOCABULARY, everyday)], beside], 1)
        own, alternatives_sum, alone = own[:, 0], log_sum(beside), log_sum(canonical_logits)
        count = len(everyday) + len(named) + len(plain)
        found = relevancies(calibrated(log_odds(own, np.logaddexp(alternatives_sum, alone), count, excluded)))
        best, alternative, free = int(found.argmax()), None, (*everyday, *named)
        score = float(found[best])
        alone_score = expit(calibrated(log_odds(own, alone, len(plain), excluded)).max())
        if free and score < criteria.threshold <= alone_score:
            alternative = free[int(beside[best].argmax())]
        return Verdict(score, found, alternative)

    def logits(self, *groups: tuple[str, ...]) -> list[Float[np.ndarray, "candidates phrases"]]:
        """Logits of candidates for each group of phrases, up to a constant of each candidate (see `presence`).

        Args:
            groups: phrases.
        """
        phrases = tuple(chain.from_iterable(groups))
        semantics, texts = self.candidates.scene, self._texts.encode(phrases)
        cosines, _ = semantics.compare(texts, texts[:0])
        scale, nearer = semantics.encoder.logit_scale, self.candidates.nearer(cosines)
        room = self._similarity.prior.log_odds(phrases, semantics.plane, semantics.piece)
        return np.split(LOGIT_SHARE * (scale * nearer + room), np.cumsum([len(group) for group in groups])[:-1], axis=1)

    @cached_property
    def _everyday(self) -> Float[np.ndarray, "candidates words"]:
        """Logits of the default vocabulary."""
        return self.logits(DEFAULT_VOCABULARY)[0]
