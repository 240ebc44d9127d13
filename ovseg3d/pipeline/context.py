"""The shared context of the stages of one training, and their base class."""

import threading
from dataclasses import dataclass, field
from typing import Any, Literal

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
    """Features of the photos, and the encoder that they are from."""

    features: SceneFeatures
    """Of all frames of the scene."""
    encoder: EncoderFacts
    words: Words | None = None
    """Embeddings of the phrases that the methods 3d-ovs and lerf use; None for other methods."""
    clip: TextImageEncoder | None = None
    """The encoder itself, for instance crops; without it there are none."""


@dataclass
class Context:
    """One training: its settings, its run, and results that stages pass on to later ones."""

    scene: Scene
    config: Config
    device: Literal["cpu", "cuda"]
    report: Report
    stop: threading.Event
    """Set from outside to end after the current piece of work."""
    clock: Clock = field(default_factory=Clock)
    """Time that counts towards `max_seconds`."""
    memory: PeakMemory = field(default_factory=PeakMemory)
    run: RunFolder = field(init=False)
    """Set once the folder exists, before the first stage runs."""
    resumed: bool = False
    learned_with: dict[str, Any] | None = None
    """The features.json of a resumed run that has learned semantics with the same settings and phrases; else None."""
    # Results for later stages.
    encoded: Encoded | None = None
    renderer: Renderer | None = None
    """Renderer of the field trained in this session."""
    trained: dict[str, Any] = field(default_factory=dict)
    """Step and seconds of the field, for status.json."""
    new_steps: int = 0
    """Steps of the field in this session."""

    def log(self, stage: str, message: str) -> None:
        """Report a message to the user."""
        self.report(Event("log", stage, message=message))


class Stage:
    """One stage of a training; `runs.stages` describes its needs and product."""

    spec: StageSpec

    def check(self, config: Config, device: Literal["cpu", "cuda"]) -> None:
        """Refuse invalid settings, before anything is read. Raises ConfigError, DeviceError."""

    def prepare(self, context: Context) -> None:
        """Check the scene and fetch what is missing, before anything is written. There is no run yet."""

    def may_skip(self, context: Context) -> bool:
        """Whether a resumed run has this stage's product and it is not stale."""
        return False

    def run(self, context: Context) -> bool:
        """Run the stage; False after `stop`."""
        raise NotImplementedError
