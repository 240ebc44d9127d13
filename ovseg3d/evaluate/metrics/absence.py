"""Protocol `absence`: false alarms on absent phrases, at a given recall of present ones.

Each phrase has one score for the whole scene, and is answered as "present" if the score reaches the threshold. Recall
is the share of present phrases with this answer, the false-alarm rate the share of absent ones. All scenes share one
threshold, since a user has no threshold per room.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from ovseg3d.errors import MeasureError
from ovseg3d.evaluate.metrics.report import Scores


@dataclass(frozen=True)
class AbsenceCurve:
    """Recall and false alarms of all thresholds, from strict to lax. At the first, nothing is answered as present."""

    threshold: Float[np.ndarray, " steps"]
    """Descending; the first is infinite, the others are the scores that occur."""
    recall: Float[np.ndarray, " steps"]
    """Ascending from 0 to 1."""
    false_alarm_rate: Float[np.ndarray, " steps"]
    """Ascending from 0 to 1."""

    @property
    def area(self) -> float:
        """Area under the ROC curve: the probability that a present phrase scores above an absent one."""
        heights = (self.recall[1:] + self.recall[:-1]) / 2
        return float(heights @ np.diff(self.false_alarm_rate))

    def at_threshold(self, threshold: float) -> tuple[float, float]:
        """(recall, false-alarm rate) of one threshold."""
        place = int((self.threshold >= threshold).sum()) - 1
        return (float(self.recall[place]), float(self.false_alarm_rate[place])) if place >= 0 else (0.0, 0.0)

    def at_recall(self, recall: float) -> tuple[float, float, float]:
        """(threshold, recall, false-alarm rate) of the highest threshold whose recall is at least `recall`."""
        place = int(np.argmax(self.recall >= recall - 1e-12))
        return float(self.threshold[place]), float(self.recall[place]), float(self.false_alarm_rate[place])


@dataclass(frozen=True)
class AbsenceScores(Scores):
    """What `measure_absence` found."""

    protocol: ClassVar[str] = "absence"
    aggregation: ClassVar[str] = "Phrases of all scenes pooled; one threshold for all of them."

    target_recall: float
    threshold: float
    """The highest one that reaches the target."""
    recall: float
    """Its recall; above the target if no threshold matches it exactly."""
    false_alarm_rate: float
    """Share of the absent phrases that are answered as present."""
    area: float
    """Area under the ROC curve; 0.5 is chance."""
    by_scene: dict[str, dict[str, float]]
    """Recall and false-alarm rate of that threshold in each scene; NaN if a scene has no such phrase."""
    false_alarms: tuple[str, ...]
    """The absent phrases that were answered as present, as "scene: phrase"."""
    present: int
    absent: int


def absence_curve(present: Float[np.ndarray, " phrases"], absent: Float[np.ndarray, " phrases2"]) -> AbsenceCurve:
    """The curve over all thresholds, from scores of present and of absent phrases.

    Raises MeasureError: one of them is empty, or a score is not a number.
    """
    if not (present.size and absent.size) or np.isnan(present).any() or np.isnan(absent).any():
        raise MeasureError(
            f"Absence needs scores of present and absent phrases, found {present.size} and {absent.size}, all numbers",
            fix="query some objects that are present and some that are absent",
        )
    levels = np.unique(np.r_[present, absent])[::-1]
    reached = [(len(scores) - np.searchsorted(np.sort(scores), levels)) / len(scores) for scores in (present, absent)]
    return AbsenceCurve(*(np.r_[first, rest] for first, rest in zip((np.inf, 0.0, 0.0), (levels, *reached))))


def measure_absence(
    present: Mapping[str, Mapping[str, float]], absent: Mapping[str, Mapping[str, float]], *, recall: float = 0.8
) -> AbsenceScores:
    """False alarms at a given recall.

    Args:
        present: the score of each present phrase, by scene.
        absent: the score of each absent phrase, by scene.
        recall: the least recall.

    Raises:
        MeasureError: no present or no absent phrase in any scene, or a score that is not a number.
    """
    pools = [np.array([s for scene in side.values() for s in scene.values()], float) for side in (present, absent)]
    curve = absence_curve(*pools)
    threshold, reached, rate = curve.at_recall(recall)
    by_scene = {
        name: {
            "recall": _answered(present.get(name, {}), threshold),
            "false_alarm_rate": _answered(absent.get(name, {}), threshold),
        }
        for name in dict.fromkeys([*present, *absent])
    }
    alarms = [f"{name}: {phrase}" for name, side in absent.items() for phrase, s in side.items() if s >= threshold]
    return AbsenceScores(
        target_recall=recall,
        threshold=threshold,
        recall=reached,
        false_alarm_rate=rate,
        area=curve.area,
        by_scene=by_scene,
        false_alarms=tuple(alarms),
        present=len(pools[0]),
        absent=len(pools[1]),
    )


def _answered(scores: Mapping[str, float], threshold: float) -> float:
    return float(np.mean([score >= threshold for score in scores.values()])) if scores else float("nan")
