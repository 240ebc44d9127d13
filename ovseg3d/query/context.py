"""What questions are asked of: a run, its capture as far as that is at hand, and its surface points."""

from dataclasses import dataclass
from functools import cached_property

from ovseg3d.errors import RunError
from ovseg3d.points.semantic_scene import SemanticScene
from ovseg3d.runs.folder import RunFolder
from ovseg3d.scene import Scene


@dataclass(frozen=True)
class RunContext:
    """Shared by the parts of a `QueryEngine`; nothing in it changes."""

    run: RunFolder
    scene: Scene | None
    """The capture as it was read; None: nobody has read it yet."""
    semantics: SemanticScene

    @property
    def phrases(self) -> tuple[str, ...]:
        """What the run, or else its capture as far as it is at hand, says is in the scene. Raises RunError."""
        return self.run.phrases or (() if self.scene is None else self.scene.phrases)

    @cached_property
    def stated_metres(self) -> float | None:
        """Metres of an input unit as the capture states them; None where it does not."""
        if not self.semantics.surface.metric:
            return None
        try:
            return self.run.transform()[1]
        except RunError:  # sizes help, and are not needed
            return None
