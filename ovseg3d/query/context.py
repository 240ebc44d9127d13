"""What a query engine works on: a run, its capture if it is loaded, and its surface points."""

from dataclasses import dataclass
from functools import cached_property

from ovseg3d.errors import RunError
from ovseg3d.instances.kept_poses import Poses, load_poses
from ovseg3d.points.semantic_scene import SemanticScene
from ovseg3d.runs.folder import RunFolder
from ovseg3d.scene import Scene


@dataclass(frozen=True)
class RunContext:
    """Shared by the parts of a `QueryEngine`; immutable."""

    run: RunFolder
    scene: Scene | None
    """The capture as it was read; None: not loaded."""
    semantics: SemanticScene

    @property
    def phrases(self) -> tuple[str, ...]:
        """The run's phrases, else those of its capture if it is loaded. Raises RunError."""
        return self.run.phrases or (() if self.scene is None else self.scene.phrases)

    @cached_property
    def poses(self) -> Poses:
        """The poses of the instances that `ovseg3d pose` kept. Raises RunError: they are damaged."""
        return load_poses(self.run.folder, self.semantics.instance)

    @cached_property
    def stated_metres(self) -> float | None:
        """Metres per input unit as the capture states it; None: not stated."""
        if not self.semantics.surface.metric:
            return None
        try:
            return self.run.transform()[1]
        except RunError:  # sizes are optional
            return None
