"""What an encoder's card says about scores: their calibration to probabilities, and its canonical phrases."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import expit, logit

from ovseg3d.query.relevancy import CANONICAL

SCORES = "scenes, 2"
"""The kind of scores that a card's calibration must be of: the second version of presence, with instance crops."""


@dataclass(frozen=True)
class Calibration:
    """Maps scores to probabilities (Platt scaling): slope and offset on the log odds of a score."""

    slope: float
    offset: float

    def probability(self, score: float) -> float:
        """The probability of a score, 0 to 1."""
        return float(expit(self.slope * logit(np.clip(score, 1e-9, 1 - 1e-9)) + self.offset))


def calibration_of(encoder: Any) -> Calibration | None:
    """The calibration in an encoder's card; None if it has none, or one of other scores or weights."""
    card = _card(encoder)
    fits = card.get("of") == SCORES and card.get("weight_hash") in (None, getattr(encoder, "weight_hash", None))
    try:
        numbers = [float(card[name]) for name in ("slope", "offset")] if fits else []
    except (TypeError, KeyError, ValueError):
        return None
    return Calibration(*numbers) if numbers and np.isfinite(numbers).all() else None


def canonical_of(encoder: Any) -> tuple[str, ...]:
    """The canonical phrases of an encoder: those in its card, else LERF's."""
    named = _card(encoder).get("canonical")
    return tuple(map(str, named)) if isinstance(named, list | tuple) and len(named) else CANONICAL


def _card(encoder: Any) -> Mapping[str, Any]:
    card = getattr(encoder, "calibration", None)
    return card if isinstance(card, Mapping) else {}
