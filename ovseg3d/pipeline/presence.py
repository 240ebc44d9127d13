"""Is it there? One decision for the whole scene, from its surface and not from a picture.

Evidence is local and has to be coherent: relevancy is averaged over patches of `PATCH` neighbouring surface points, and
the best patch speaks for the scene. A few stray points, or one photo's mistake on a thing's border, do not fill a
patch; points that photos contradict each other about, or that only an odd photo speaks for, have less of a voice; walls
and things that were not told apart are judged in the same way.

In a patch the phrase has to win against the canonical phrases, against what the user excludes, and against the run's
own phrases ("rivals"): a mug is relevant to "cup" as well, but where the run knows the phrase "mug", and the points are
nearer to it, there is no cup. In a run without phrases, what rooms hold competes (`household`). What shares a word with
the question ("mug" and "a red mug") is no rival. The score is the patch's mean relevancy; at the threshold or above it
is there. The same relevancy tells which points are meant.

A probability comes from the encoder's card alone ("calibration": Platt's slope and offset on how far the phrase is
above the nearest of the others, times the logit scale). The cards' numbers are fitted to pictures of single things,
and a patch stands for such a picture here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial import cKDTree
from scipy.special import expit

PATCH = 20
"""Points of a patch; what shows on fewer points is not said to be there."""


@dataclass(frozen=True)
class Calibration:
    """From margins to probabilities, as an encoder's card has it."""

    slope: float
    offset: float
    logit_scale: float
    canonical: tuple[str, ...]
    """What a phrase was compared with."""

    def probability(self, margin: float) -> float:
        """Of a margin of cosines over the nearest other phrase, 0 to 1."""
        return float(expit(self.slope * self.logit_scale * margin + self.offset))


def calibration_of(encoder: Any) -> Calibration | None:
    """What an encoder's card says, None where there is none or it is not of the kind that is known here."""
    card: Mapping[str, Any] | None = getattr(encoder, "calibration", None)
    try:
        numbers = [float(card[name]) for name in ("slope", "offset", "logit_scale")]
        canonical = tuple(str(phrase) for phrase in card["canonical"])
    except (TypeError, KeyError, ValueError):
        return None
    return Calibration(*numbers, canonical) if np.isfinite(numbers).all() and canonical else None


def patches(xyz: Float[np.ndarray, "points 3"]) -> Int[np.ndarray, "patches patch"]:
    """The points of patches that cover a surface and overlap, around every fourth point; all points if they are few."""
    count = min(PATCH, len(xyz))
    _, near = cKDTree(xyz).query(xyz[::4], k=count, workers=-1)
    return near.reshape(-1, count).astype(np.int64)


def voices(agreement: Float[np.ndarray, " points"]) -> Float[np.ndarray, " points"]:
    """How much each point counts, 0 to 1: in full from half of the usual agreement of photos."""
    return (agreement / max(0.5 * float(np.median(agreement)), 1e-6)).clip(0, 1)


def best_patch(
    relevancy: Float[np.ndarray, " points"], near: Int[np.ndarray, "patches patch"]
) -> tuple[float, Int[np.ndarray, " patch"]]:
    """The largest mean relevancy of a patch, and its points."""
    means = relevancy[near].mean(1)
    best = int(means.argmax())
    return float(means[best]), near[best]
