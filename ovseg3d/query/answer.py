"""Records of a question: by what it is decided, what the scene says to it, and the answer."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, Int

from ovseg3d.errors import ConfigError
from ovseg3d.instances.records import Instance

THRESHOLD = 0.5
"""For points: as near as the nearest canonical phrase; for the scene: as likely as not."""


@dataclass(frozen=True)
class Criteria:
    """By what a phrase is decided, see `QueryEngine.ask`; None: the usual.

    Raises:
        ConfigError: the threshold is not between 0 and 1.
    """

    negatives: Sequence[str] = ()
    canonical: Sequence[str] | None = None
    alternatives: Sequence[str] | None = None
    threshold: float = THRESHOLD

    def __post_init__(self) -> None:
        if not 0 < self.threshold < 1:
            raise ConfigError(
                f"The threshold must lie between 0 and 1, not at {self.threshold}", fix="0.5 is the usual one"
            )

    @property
    def usual(self) -> bool:
        """Whether phrases are compared with the usual ones: calibrations are of scores made so."""
        return self.alternatives is None and self.canonical is None and not self.negatives


@dataclass(frozen=True)
class Verdict:
    """What the scene's witnesses say to one phrase."""

    candidate: int
    """Which shows where it is: the best one, or a whole that is nearly as good, unless that is likelier not it."""
    score: float
    """The best chance."""
    alternative: str | None
    """What the witness with the best chance is likelier to be, if only that keeps the phrase from being there."""
    known: bool
    """Whether the place of a plane says so, and not features: no card tells how likely that is right."""


@dataclass(frozen=True)
class Answer:
    """What a run says to one phrase."""

    phrase: str
    present: bool
    """Whether the score reaches the threshold."""
    score: float
    """How much speaks for it, 0 to 1 (see `presence`)."""
    probability: float | None
    """None: the encoder has no calibration, or not for what this was compared with, nobody knows how large things are,
    they were not seen as wholes, or a plane's place told it."""
    calibrated: bool
    threshold: float
    alternative: str | None
    """Of what is not there for its sake alone: the run's phrase, or the everyday word, that what comes nearest to it is
    likelier to be."""
    points: Float[np.ndarray, "found 3"]
    """Surface points above the threshold, input frame; none when it is not present."""
    point_scores: Float[np.ndarray, " found"]
    """Their relevancy."""
    point_index: Int[np.ndarray, " found"]
    """Their numbers among the run's surface points."""
    relevancy: Float[np.ndarray, " surface"]
    """Of all surface points, whether it is present or not; at most `score`."""
    instances: tuple[Instance, ...] = ()
    """Things of which most points are above the threshold, best first."""
    masks: dict[str, Bool[np.ndarray, "h w"]] = field(default_factory=dict)
    """Masks by the name of the view, of the views that were asked for."""
    relevancies: dict[str, Float[np.ndarray, "h w"]] = field(default_factory=dict)
    """Relevancy by the name of the view, 0 to 1."""

    def mask(self, image: Float[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
        """Where a picture of the relevancy shows it."""
        return (image >= self.threshold) & self.present
