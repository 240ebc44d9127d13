"""What a query engine works on: a run, its capture if it is loaded, and its surface points."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Integer

from ovseg3d.errors import RunError
from ovseg3d.instances.kept_poses import Poses, load_poses, posed
from ovseg3d.instances.records import Instance, InstancePoints
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
        """The run's phrases. Raises RunError."""
        return self.run.phrases

    @cached_property
    def instances(self) -> InstancePoints:
        """The run's instances."""
        return InstancePoints(self.semantics.surface, self.semantics.instance)

    @cached_property
    def poses(self) -> Poses:
        """The poses of the instances that `ovseg3d pose` kept. Raises RunError: they are damaged."""
        return load_poses(self.run.folder, self.semantics.instance)

    def forget_poses(self) -> None:
        """Read the run's poses again when they are wanted: they have changed."""
        self.__dict__.pop("poses", None)

    def posed(
        self, instances: Sequence[Instance], ids: Integer[np.ndarray, " points"] | None = None
    ) -> tuple[Instance, ...]:
        """Instances with the poses that the run keeps; where a front is known, the box lies along it.

        Args:
            instances: in the input frame.
            ids: instance of each surface point, where these are not the run's own.

        Raises:
            RunError: the poses are damaged.
        """
        surface = self.semantics.surface
        ids = self.semantics.instance if ids is None else ids
        return posed(instances, self.poses, surface.xyz, ids, surface.up)

    @cached_property
    def stated_metres(self) -> float | None:
        """Metres per input unit as the capture states it; None: not stated."""
        if not self.semantics.surface.metric:
            return None
        try:
            return self.run.transform()[1]
        except RunError:  # a scale is optional
            return None

    @property
    def metres(self) -> float | None:
        """Metres per input unit: stated, else estimated from the height of the cameras above the floor when the
        semantics were made; None: not known."""
        return self.semantics.metres_per_unit if self.stated_metres is None else self.stated_metres
