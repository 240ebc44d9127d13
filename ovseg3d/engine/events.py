"""Events: messages of a running stage. Parts below `cli` do not print; they report events."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["start", "progress", "checkpoint", "log", "done", "interrupted"]


@dataclass(frozen=True)
class Event:
    """One message of a running stage."""

    kind: Kind
    stage: str
    """Name of the stage, such as `field`."""
    step: int = 0
    """Optimisation steps done."""
    steps: int | None = None
    """Steps to do, or None when only time limits the run."""
    progress: float = 0.0
    """0 to 1: fraction of the steps, or of the time if there is no number of steps."""
    seconds: float = 0.0
    """Time spent on the stage, including earlier sessions of a resumed run."""
    seconds_left: float | None = None
    """An estimate, or None if there is none yet."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Current figures, such as `psnr` in dB and `rays_per_second`."""
    message: str = ""


Report = Callable[[Event], None]


def ignore(event: Event) -> None:
    """A report that ignores all events."""
