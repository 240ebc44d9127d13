"""Calibration of presence: from log odds to probabilities, and what an encoder's card says about it.

Platt scaling: slope and offset on the log odds of a score. An encoder's card may have both, fitted to other scenes
(`scripts/training/calibration.py`). `fit` moves them by labels of one run, see `calibrate`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from scipy.optimize import minimize
from scipy.special import expit, logit

from ovseg3d.query.relevancy import CANONICAL

SCORES = "scenes, 5"
"""The kind of scores that a calibration must be of: the fifth version of presence, with instance crops."""
CARD_DEVIATIONS, DEVIATIONS = (0.2, 0.5), (0.5, 2.0)
"""Standard deviations of slope and offset in the prior of `fit`, for encoders with and without a calibration in their
card: other scenes say where the former are."""
MIN_SLOPE = 0.05
"""The least slope: the order of scores stays."""
MAX_LOG_ODDS = 6.0
"""Log odds of labels are clipped here, so that one wrong label of a sure answer does not outweigh all others."""


@dataclass(frozen=True)
class Calibration:
    """Maps scores to probabilities (Platt scaling): slope and offset on the log odds of a score."""

    slope: float = 1.0
    offset: float = 0.0

    def log_odds(self, odds: Float[np.ndarray, " candidates"]) -> Float[np.ndarray, " candidates"]:
        """Calibrated log odds."""
        return self.slope * odds + self.offset


def score_log_odds(score: float) -> float:
    """The log odds of a score from 0 to 1, finite also at the ends."""
    return float(logit(np.clip(score, 1e-9, 1 - 1e-9)))


@dataclass(frozen=True)
class Prior:
    """What is known of a calibration before any label: slope and offset are normally distributed."""

    mean: Calibration = Calibration()
    deviations: tuple[float, float] = DEVIATIONS


def fit(
    odds: Float[np.ndarray, " labels"], present: Bool[np.ndarray, " labels"], prior: Prior | None = None
) -> Calibration:
    """The most probable calibration, given labels: Platt scaling (Platt 1999) with a normal prior.

    With p = sigmoid(slope x + offset) of each label, it minimises

        - sum w log p(label) + (slope - mean)^2 / (2 deviation^2) + (offset - mean)^2 / (2 deviation^2)

    which is convex. So a few labels move it little, also where they are all alike, and without any it is the prior's
    mean. Weights w give present and absent phrases half of the weight each, as in the fits of cards: how many of each a
    user names says nothing about a scene.

    Args:
        odds: log odds of the scores, clipped to `MAX_LOG_ODDS`.
        present: the labels.
        prior: by default scores are probabilities.
    """
    prior = prior or Prior()
    mean, deviation = np.array([prior.mean.slope, prior.mean.offset]), np.array(prior.deviations)
    x = np.stack([odds.clip(-MAX_LOG_ODDS, MAX_LOG_ODDS), np.ones(len(odds))], 1)
    weight = 0.5 * len(odds) / np.where(present, max(present.sum(), 1), max((~present).sum(), 1))

    def loss(numbers: np.ndarray) -> tuple[float, np.ndarray]:
        z, off = x @ numbers, (numbers - mean) / deviation
        value = weight @ np.logaddexp(0, np.where(present, -z, z)) + 0.5 * off @ off
        return float(value), x.T @ (weight * (expit(z) - present)) + off / deviation

    bounds = [(MIN_SLOPE, None), (None, None)]
    slope, offset = minimize(loss, mean, jac=True, method="L-BFGS-B", bounds=bounds, options={"gtol": 1e-9}).x
    return Calibration(float(slope), float(offset))


def calibration_of(encoder: Any) -> Calibration | None:
    """The calibration in an encoder's card; None if it has none, one that turns the order of scores around, or one of
    other scores or weights."""
    card = _card(encoder)
    fits = card.get("of") == SCORES and card.get("weight_hash") in (None, getattr(encoder, "weight_hash", None))
    try:
        numbers = [float(card[name]) for name in ("slope", "offset")] if fits else []
    except (TypeError, KeyError, ValueError):
        return None
    usable = numbers and np.isfinite(numbers).all() and numbers[0] >= MIN_SLOPE
    return Calibration(*numbers) if usable else None


def canonical_of(encoder: Any) -> tuple[str, ...]:
    """The canonical phrases of an encoder: those in its card, else LERF's."""
    named = _card(encoder).get("canonical")
    return tuple(map(str, named)) if isinstance(named, list | tuple) and len(named) else CANONICAL


def _card(encoder: Any) -> Mapping[str, Any]:
    card = getattr(encoder, "calibration", None)
    return card if isinstance(card, Mapping) else {}
