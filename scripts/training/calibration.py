"""From scores of what is in scenes and what is not to a chance that something is: the card's two numbers.

Platt's slope and offset turn the log odds of a score (see ovseg3d/query/presence.py) into those of a probability.
What is there weighs as much as what is not, whatever the numbers of questions: a user's odds are not known.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from scipy.optimize import minimize
from scipy.special import expit, logit

from ovseg3d.query.presence import SCORES

Scores = Mapping[str, Mapping[str, float]]
"""By scene and phrase."""


def fit(odds: Float[np.ndarray, " n"], there: Bool[np.ndarray, " n"]) -> tuple[float, float]:
    """Slope and offset, by the likelihood; the slope is held back a little, so that a perfect order has one."""
    weight, sign = _weight(there), np.where(there, 1.0, -1.0)

    def loss(numbers: np.ndarray) -> float:
        return float(weight @ np.logaddexp(0, -sign * (numbers[0] * odds + numbers[1])) + 1e-3 * numbers[0] ** 2)

    slope, offset = minimize(loss, np.array([1.0, 0.0])).x
    return float(slope), float(offset)


def calibrate(present: Scores, absent: Scores, canonical: Sequence[str], weight_hash: str) -> dict[str, Any]:
    """What a card says, with errors on scenes that the numbers were not fitted to: each scene's from all others'.

    Args:
        canonical: phrases that were compared with.
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
