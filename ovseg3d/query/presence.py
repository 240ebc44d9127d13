"""Presence of a phrase: the probability that each candidate of a scene is what the phrase names.

With the encoder's logit scale s, a candidate (see `candidates`) gives a text

    logit = LOGIT_SHARE (s (cosine - level) + l)

`level` is the mean cosine of the text over the other candidates. Some texts are near to everything ("hubs"); what
counts is how much nearer a candidate is than the others (local centring, Hara et al. 2015). l are the log odds of rooms
(`room_prior`). LOGIT_SHARE is below 1, because lifted features are blurred, and what a shape says is not independent of
them.

The phrase has the prior probability `PRIOR`; its n alternatives share the rest equally:

    log odds = logit(phrase) - log mean_j exp logit(alternative j) + log(PRIOR / (1 - PRIOR))

A negative is not one of many alternatives: the phrase has to be likelier than each negative. The constants were chosen
on development rooms.

A phrase means the candidates that are nearly as likely as the best one: the relevancy of a candidate is the sigmoid of
its log odds, lowered by how far they fall behind the best. At the threshold 0.5 these are the candidates with at least
half of the best log odds. The relevancy of the best one, which is its probability, is the score of presence. Where a
`calibration` is known, log odds are calibrated before the last step.
"""

import numpy as np
from jaxtyping import Float
from scipy.special import expit, logsumexp

LOGIT_SHARE = 0.5
"""Factor of all evidence: an inverse temperature."""
PRIOR = 0.1
"""Prior probability that a candidate is what the phrase names."""
TIE = 1e-9
"""A tie with a negative stays below odds of 1."""


def log_sum(logits: Float[np.ndarray, "candidates alternatives"]) -> Float[np.ndarray, " candidates"]:
    """Log of the sum of exp of each row; minus infinity without columns."""
    if not logits.shape[1]:
        return np.full(len(logits), -np.inf)
    return np.asarray(logsumexp(logits, axis=1))


def log_odds(
    own: Float[np.ndarray, " candidates"],
    alternatives: Float[np.ndarray, " candidates"],
    count: int,
    negatives: Float[np.ndarray, "candidates negatives"],
) -> Float[np.ndarray, " candidates"]:
    """The log odds that each candidate is what the phrase names.

    Args:
        own: logits of the phrase.
        alternatives: `log_sum` of the logits of its alternatives.
        count: number of alternatives; with 0 there is at least one negative.
        negatives: logits of the negatives.
    """
    own, found = own.astype(np.float64), np.full(len(own), np.inf)
    if count:
        found = own - alternatives + np.log(count * PRIOR / (1 - PRIOR))
    if negatives.shape[1]:
        found = np.minimum(found, own - negatives.max(1) - TIE)
    return found


def relevancies(odds: Float[np.ndarray, " candidates"]) -> Float[np.ndarray, " candidates"]:
    """The relevancy of each candidate, 0 to 1, from the log odds of all."""
    return expit(2 * odds - odds.max())
