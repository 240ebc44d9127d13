"""Calibration of presence scores: slope and offset, fitted to scores of present and of absent phrases.

Platt scaling maps the log odds of a score (see ovseg3d/query/presence.py) to those of a probability. Present and absent
phrases have the same total weight, whatever their numbers: a user's prior is unknown.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from scipy.optimize import minimize
from scipy.special import expit, logit

from ovseg3d.query.calibration import MIN_SLOPE, SCORES

Scores = Mapping[str, Mapping[str, float]]
"""By scene and phrase."""


def fit(odds: Float[np.ndarray, " n"], there: Bool[np.ndarray, " n"]) -> tuple[float, float]:
    """Slope and offset by maximum likelihood.

    A small penalty keeps the slope finite for separable scores, and a bound keeps it positive.
    """
    weight, sign = _weight(there), np.where(there, 1.0, -1.0)

    def loss(numbers: np.ndarray) -> float:
        return float(weight @ np.logaddexp(0, -sign * (numbers[0] * odds + numbers[1])) + 1e-3 * numbers[0] ** 2)

    slope, offset = minimize(loss, np.array([1.0, 0.0]), bounds=[(MIN_SLOPE, None), (None, None)]).x
    return float(slope), float(offset)


def calibrate(present: Scores, absent: Scores, canonical: Sequence[str], weight_hash: str) -> dict[str, Any]:
    """The calibration of a model card, with errors by leave-one-scene-out cross-validation.

    Args:
        present, absent: scores by scene and phrase.
        canonical: the canonical phrases of the scores.
        weight_hash: of the encoder that the scores are from.
    """
    rows = [
        (scene, score, here)
        for side, here in ((present, True), (absent, False))
        for scene, phrases in side.items()
        for score in phrases.values()
    ]
    scene, there = np.array([row[0] for row in rows]), np.array([row[2] for row in rows])
    odds = logit(np.clip([row[1] for row in rows], 1e-9, 1 - 1e-9))
    chance = np.full(len(rows), np.nan)
    for one in set(scene.tolist()):
        rest = scene != one
        if there[rest].any() and not there[rest].all():
            slope, offset = fit(odds[rest], there[rest])
            chance[~rest] = expit(slope * odds[~rest] + offset)
    slope, offset = fit(odds, there)
    weight, known = _weight(there), bool(np.isfinite(chance).all())
    bins = np.clip(np.floor(5 * chance), 0, 4)
    gaps = [abs(float(weight[bins == b] @ (chance - there)[bins == b])) for b in range(5)]
    return {
        "of": SCORES, "weight_hash": weight_hash, "canonical": list(canonical), "slope": slope, "offset": offset,
        "brier": float(weight @ np.square(chance - there)) if known else None,
        "expected_calibration_error": sum(gaps) if known else None,
        "errors": "each scene's from numbers fitted to the others; half of the weight is on what is there",
        "scenes": len({*present}), "present": int(there.sum()), "absent": int((~there).sum()),
    }  # fmt: skip


def _weight(there: Bool[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    return np.where(there, 0.5 / max(there.sum(), 1), 0.5 / max((~there).sum(), 1))
