"""Records of a query: criteria, the scene's verdict, and the answer."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from ovseg3d.errors import ConfigError
from ovseg3d.instances.records import Instance

CalibratedBy = Literal["labels", "encoder"]
"""The source of a probability: labels that the run keeps (`ovseg3d calibrate`), or the encoder's card."""
THRESHOLD = 0.5
"""Odds of 1."""


@dataclass(frozen=True)
class Criteria:
    """Criteria of a decision, see `QueryEngine.ask`; None: the defaults.

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
                f"The threshold must lie between 0 and 1, not at {self.threshold}", fix="the default is 0.5"
            )

    @property
    def usual(self) -> bool:
        """Whether the phrase is compared with the defaults; calibrations hold only for such scores."""
        return self.alternatives is None and self.canonical is None and not self.negatives


@dataclass(frozen=True)
class Verdict:
    """The decision about one phrase for the whole scene."""

    score: float
    """Probability of the best candidate."""
    relevancy: Float[np.ndarray, " candidates"]
    """Of each candidate, see `presence`."""
    alternative: str | None
    """The likelier name of the best candidate, if the phrase is absent only because of alternatives."""


@dataclass(frozen=True)
class Relation:
    """What was found about the places that a question asks for."""

    kind: str
    """Such as "on", "left of", "nearest" or "count"; "none": nothing was checked, and `text` says why."""
    of: tuple[str, ...] = ()
    """The names of the references of the best instance."""
    of_ids: tuple[int, ...] = ()
    """Their ids."""
    value: float | None = None
    """Measured at the best instance: a length or an angle; of "count", the number of instances."""
    unit: str | None = None
    """Of the value: m, units, degrees; squared of areas."""
    text: str = ""
    """The reason in words, and what was not checked."""
    reasons: tuple[str, ...] = ()
    """One for each instance of the answer."""

    def record(self) -> dict[str, Any]:
        """The relation as a JSON object."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}


@dataclass(frozen=True)
class Answer:
    """A run's answer to one phrase."""

    phrase: str
    present: bool
    """Whether the score reaches the threshold."""
    score: float
    """Score of presence, 0 to 1 (see `presence`)."""
    probability: float | None
    """The score, if it is a calibrated probability. None: there is no calibration for these criteria; that of the
    encoder's card holds in rooms with instance crops."""
    calibrated: bool
    threshold: float
    alternative: str | None
    """For a phrase that is absent only because of alternatives: the likelier name of its best candidate, from the run's
    phrases or the default vocabulary."""
    points: Float[np.ndarray, "found 3"]
    """Surface points above the threshold, input frame; none when it is not present."""
    point_scores: Float[np.ndarray, " found"]
    """Their relevancy."""
    point_index: Int[np.ndarray, " found"]
    """Their indices among the run's surface points."""
    relevancy: Float[np.ndarray, " surface"]
    """Of all surface points, also of an absent phrase: that of the point's candidate."""
    instances: tuple[Instance, ...] = ()
    """Instances of which most points are above the threshold, best first; a joined object that is meant (see
    `instances.joined`) stands for what it holds, and its id follows those of instances and rejected fragments."""
    calibrated_by: CalibratedBy | None = None
    """None: not calibrated."""
    relation: Relation | None = None
    """Of a question about places, see `query.relations`; None: a plain phrase."""
    masks: dict[str, Bool[np.ndarray, "h w"]] = field(default_factory=dict)
    """Masks of the requested views, by the name of the view."""
    relevancies: dict[str, Float[np.ndarray, "h w"]] = field(default_factory=dict)
    """Relevancy by the name of the view, 0 to 1."""

    def mask(self, image: Float[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
        """The mask of a relevancy image; empty when the phrase is absent."""
        return (image >= self.threshold) & self.present
