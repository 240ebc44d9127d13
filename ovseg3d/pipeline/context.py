"""What the stages of one training share."""

import threading
from dataclasses import dataclass, field
from typing import Any

from ovseg3d.encoders.base import TextImageEncoder
from ovseg3d.engine import Clock, Event, Report
from ovseg3d.engine.memory import PeakMemory
from ovseg3d.features.scenes import SceneFeatures
from ovseg3d.field.renderer import Renderer
from ovseg3d.points.methods import Words
from ovseg3d.points.semantic_scene import EncoderFacts
from ovseg3d.runs.config import Config
from ovseg3d.runs.folder import RunFolder
from ovseg3d.runs.stages import StageSpec
from ovseg3d.scene import Scene


@dataclass(frozen=True)
class Encoded:
    """The photos' features, and the encoder that they are from."""

    features: SceneFeatures
    """Of all frames of the scene."""
    encoder: EncoderFacts
    words: Words | None = None
    """Vectors of the phrases that the methods 3d-ovs and lerf learn from or ask with; None for the others."""
    clip: TextImageEncoder | None = None
    """The encoder itself, to see instances as wholes; without it none are."""


@dataclass
class Context:
    """One training: what was asked for, where it goes, and what earlier stages hand on to later ones."""

    scene: Scene
    config: Config
    device: str
    report: Report
    stop: threading.Event
    """Set by others, to end after the current piece of work."""
    clock: Clock = field(default_factory=Clock)
    """Of the time that counts against `max_seconds`."""
    memory: PeakMemory = field(default_factory=PeakMemory)
    run: RunFolder = field(init=False)
    """Set once the folder is there, before the first stage runs."""
    resumed: bool = False
    # What stages hand on.
    encoded: Encoded | None = None
    renderer: Renderer | None = None
    """Of the field that was trained a moment ago."""
    trained: dict[str, Any] = field(default_factory=dict)
    """Step and seconds of the field, for the status."""
    new_steps: int = 0
    """Steps that the field took in this session."""

    def log(self, stage: str, message: str) -> None:
        """Tell the reader something."""
        self.report(Event("log", stage, message=message))


class Stage:
    """One stage of a training; `runs.stages` says what it needs and makes."""

    spec: StageSpec

    def check(self, config: Config, device: str) -> None:
        """Refuse settings that cannot work, before anything is read. Raises ConfigError, DeviceError."""

    def prepare(self, context: Context) -> None:
        """Check the scene and fetch what may be missing, before anything is written; there is no run yet."""

    def may_skip(self, context: Context) -> bool:
        """Whether a resumed run has all of this already, and nothing of it is stale."""
        return False

    def run(self, context: Context) -> bool:
        """Do it; False after `stop`."""
        raise NotImplementedError
