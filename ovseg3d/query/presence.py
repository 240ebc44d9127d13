"""Presence of a phrase: the probability that each candidate of a scene is what the phrase names.

With the encoder's logit scale s, a candidate (see `candidates`) gives a text

    logit = LOGIT_SHARE s (cosine - level) + TYPICALITY_WEIGHT z + SIZE_WEIGHT l

`level` is the mean cosine of the text over the scene's instances and planes. Some texts are near to everything
("hubs"); what counts is how much nearer a candidate is than the others (local centring, Hara et al. 2015). z is the
text's typicality: the z-score of its cosine with the mean of the default vocabulary, within `MAX_TYPICALITY`; words for
household objects are likelier than others. l is the size prior (`size_prior`). LOGIT_SHARE is below 1, because lifted
features are blurred.

The phrase has the prior probability `PRIOR`; its n alternatives share the rest equally:

    log odds = logit(phrase) - log mean_j exp logit(alternative j) + log(PRIOR / (1 - PRIOR))

A negative is not one of many alternatives: the phrase has to be likelier than each negative. The constants were chosen
on development rooms. A score becomes a probability only by a calibration (`calibration`).
"""

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import expit, logsumexp

LOGIT_SHARE = 0.7
"""Factor of the encoder's logit scale."""
TYPICALITY_WEIGHT, MAX_TYPICALITY = 0.5, 2.0
"""Logits for each standard deviation of typicality, and the largest number of deviations that counts."""
SIZE_WEIGHT = 0.5
"""Weight of the size prior; closed lists use a smaller one, see `similarity`."""
PRIOR = 0.1
"""Prior probability that a candidate is what the phrase names."""
PLANE_PROBABILITY = 0.95
"""Least probability that a plane of the layout is what its class is called."""


def log_sum(logits: Float[np.ndarray, "candidates alternatives"]) -> Float[np.ndarray, " candidates"]:
    """Log of the sum of exp of each row; minus infinity without columns."""
    if not logits.shape[1]:
        return np.full(len(logits), -np.inf)
    return np.asarray(logsumexp(logits, axis=1))


def probabilities(
    own: Float[np.ndarray, " candidates"],
    alternatives: Float[np.ndarray, " candidates"],
    count: int,
    negatives: Float[np.ndarray, "candidates negatives"],
    planes: Bool[np.ndarray, " candidates"] | None = None,
) -> Float[np.ndarray, " candidates"]:
    """The probability that each candidate is what the phrase names.

    Args:
        own: logits of the phrase.
        alternatives: `log_sum` of the logits of its alternatives.
        count: number of alternatives; with 0 there is at least one negative.
        negatives: logits of the negatives.
        planes: candidates that are planes of the class that the phrase names; at least `PLANE_PROBABILITY`.
    """
    own, found = own.astype(np.float64), np.ones(len(own))
    if count:
        found = expit(own - alternatives + np.log(count * PRIOR / (1 - PRIOR)))
    if planes is not None:
        found = np.where(planes, np.maximum(found, PLANE_PROBABILITY), found)
    if negatives.shape[1]:  # a tie with a negative stays below 0.5
        found = np.minimum(found, np.nextafter(expit(own - negatives.max(1)), 0))
    return found
