"""What names objects of a cloud beside the detection head: an interface, and names by the reliefs of their points."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int

from ovseg3d.errors import ShapeError
from ovseg3d.heads.naming.naming import ShapeNamer
from ovseg3d.heads.naming.prompts import class_vectors
from ovseg3d.scene.clouds import PointCloud


@runtime_checkable
class ObjectNamer(Protocol):
    """Embeds objects of clouds, and compares them with texts."""

    @property
    def weight(self) -> float:
        """Of its logarithms of probabilities, when they are added to those of the detection head."""
        ...

    def embed(
        self, cloud: PointCloud, boxes: Float[np.ndarray, "objects 7"], member: Int[np.ndarray, " points"]
    ) -> Float[np.ndarray, "objects dim"]:
        """Unit vectors of objects; zero for one that it can say nothing of.

        Args:
            cloud: z up.
            boxes: centre, full size, yaw about +z.
            member: row of each point's object, -1 for none.
        """
        ...

    def log_probabilities(
        self, vectors: Float[np.ndarray, "objects dim"], texts: Sequence[str]
    ) -> Float[np.ndarray, "objects texts"]:
        """Logarithms of the texts' probabilities; equal ones for a vector of zeros. Raises EncoderError: a text is too
        long."""
        ...


class ReliefNamer:
    """Names objects by reliefs of their own points, so the cloud needs no colours.

    Args:
        namer: what sees the reliefs, or the encoder's name as `ShapeNamer` takes it.
        device: for a namer that is made here.

    Raises:
        EncoderError: the encoder cannot be loaded.
    """

    weight = 0.25
    """Chosen on rooms of development: see "Names by pseudo images" of the results."""

    def __init__(self, namer: str | ShapeNamer = "builtin", *, device: str | torch.device = "cpu") -> None:
        self.namer = ShapeNamer(namer, device=device) if isinstance(namer, str) else namer

    def embed(
        self, cloud: PointCloud, boxes: Float[np.ndarray, "objects 7"], member: Int[np.ndarray, " points"]
    ) -> Float[np.ndarray, "objects dim"]:
        """See `ObjectNamer`; zero for an object of too few points, or of points on one line."""
        found = np.zeros((len(boxes), self.namer.encoder.dim), np.float32)
        for row in range(len(boxes)):
            try:
                found[row] = self.namer.embed(cloud.xyz[member == row])
            except ShapeError:
                continue
        return found

    def log_probabilities(
        self, vectors: Float[np.ndarray, "objects dim"], texts: Sequence[str]
    ) -> Float[np.ndarray, "objects texts"]:
        """See `ObjectNamer`; less the names' priors, as `ShapeNamer.logits` says."""
        with torch.inference_mode():
            named = class_vectors(self.namer.encoder, texts, self.namer.templates).cpu().numpy()
        logits = np.where(vectors.any(1, keepdims=True), self.namer.logits(vectors, named), 0.0)
        return logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)


__all__ = ["ObjectNamer", "ReliefNamer"]
