"""What the head answers with."""

from dataclasses import dataclass


@dataclass(frozen=True)
class NameScore:
    """One name and its probability among the names that were asked for."""

    label: str
    score: float


@dataclass(frozen=True)
class Naming:
    """The names of one shape, the likeliest first.

    Attributes:
        candidates: names with scores that add up to 1 over all classes.
        up_axis: the axis of the shape's own frame nearest to its up direction, such as "z" or "-y".
        up: the up direction, a unit vector in the shape's frame.
    """

    candidates: tuple[NameScore, ...]
    up_axis: str
    up: tuple[float, float, float]

    @property
    def label(self) -> str:
        """The likeliest name."""
        return self.candidates[0].label
