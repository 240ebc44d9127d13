"""What a stage tells the outside while it works. Nothing below `cli` prints; it reports events instead."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["start", "progress", "checkpoint", "log", "done", "interrupted"]


@dataclass(frozen=True)
class Event:
    """One message of a running stage."""

    kind: Kind
    stage: str
    """Which stage speaks, e.g. `field`."""
    step: int = 0
    """Optimisation steps done."""
    steps: int | None = None
    """Steps to do, or None when only time limits the run."""
    progress: float = 0.0
    """0 to 1: the share of the steps, or of the time where there is no number of steps."""
    seconds: float = 0.0
    """Time spent on the stage, earlier sessions of a resumed run counted in."""
    seconds_left: float | None = None
    """An estimate, or None while there is nothing to estimate from."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Figures of the moment, e.g. `psnr` in dB and `rays_per_second`."""
    message: str = ""


Report = Callable[[Event], None]


def ignore(event: Event) -> None:
    """A report for callers who do not want one."""
