"""An image that is rendered strip by strip, so that it can be cancelled or resumed between strips."""

from dataclasses import dataclass, field

import numpy as np

from ovseg3d.points.semantic_scene import Places, SemanticScene
from ovseg3d.scene import Camera

Rendered = dict[str, np.ndarray]


@dataclass
class RenderJob:
    """An image of the field, rendered strip by strip from the top."""

    camera: Camera
    draft: bool = False
    """With larger steps along the rays, in two thirds of the time."""
    parts: list[Rendered] = field(default_factory=list)
    _places: Places | None = None
    _of: SemanticScene | None = None

    def places(self, semantics: SemanticScene) -> Places:
        """The surface points behind the image's pixels; computed once."""
        if self._places is None or self._of is not semantics:
            self._places, self._of = semantics.places(self.camera, self.complete()["depth_z"]), semantics
        return self._places

    @property
    def rows(self) -> int:
        """Number of rendered rows."""
        return sum(len(part["rgb"]) for part in self.parts)

    def complete(self) -> Rendered:
        """The whole image. Raises RuntimeError: rows are missing."""
        rendered = self.rendered
        if rendered is None:
            raise RuntimeError(f"{self.rows} of {self.camera.height} rows are rendered")
        return rendered

    @property
    def rendered(self) -> Rendered | None:
        """The whole image; None while rows are missing."""
        if self.rows < self.camera.height:
            return None
        if len(self.parts) > 1:
            self.parts = [{name: np.concatenate([part[name] for part in self.parts]) for name in self.parts[0]}]
        return self.parts[0]
