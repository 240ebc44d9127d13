"""Shapes of no kind, by which names that a tower gives to anything count less (`ovseg3d/heads/naming/background.py`).

    python -m scripts.training.naming_background outputs/b16/tuned.safetensors --clip ViT-B-16:laion2b_s34b_b88k

writes their vectors beside the tuned weights, in tuned.background.safetensors; `scripts.training.train_naming` does so
at its end. A shape is a heap of one to three procedural objects in seen styles, stretched, tilted and cut, so it is
none of what a name means. Kinds that the weights were tuned without, as their card says, are no part of any.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro
from jaxtyping import Float

from ovseg3d.errors import EncoderError
from ovseg3d.files import read_json
from ovseg3d.heads.naming import ShapeNamer
from ovseg3d.heads.naming.background import TOWERS, background_file, save_background
from ovseg3d.heads.naming.naming import BUILTIN_WEIGHTS
from ovseg3d.heads.naming.projections import ANY_VIEWS, OURS
from ovseg3d.heads.naming.towers import AlignedTower
from ovseg3d.runs.devices import DeviceName, resolve_device
from ovseg3d.synth.holdout import SEEN, pick
from ovseg3d.synth.kinds import KINDS
from scripts.start import start
from scripts.training.naming_pairs import POINTS, RELIEF_SIZE, procedural_shape, random_views

SHAPES, VIEWS = 200, 4
MOST_OBJECTS = 3
STRETCH, SHIFT = 0.7, 0.35
"""Largest logarithm of a stretch along an axis; spread of the objects of a heap, in their lengths."""


def heap(rng: np.random.Generator, kinds: Sequence[str]) -> Float[np.ndarray, "points 3"]:
    """The points of one to three objects of different kinds, of which no name is true."""
    count = int(np.exp(rng.uniform(*np.log(POINTS))))
    objects = []
    for kind in rng.choice(kinds, int(rng.integers(min(MOST_OBJECTS, len(kinds)))) + 1, replace=False).tolist():
        points = procedural_shape(kind, pick(rng, SEEN.styles[kind]), rng, count).points
        points = (points - (points.max(0) + points.min(0)) / 2) / np.ptp(points, axis=0).max()
        if rng.random() < 0.5:
            points = points @ np.linalg.qr(rng.normal(size=(3, 3)))[0]
        if rng.random() < 0.4:
            along = points @ rng.normal(size=3)
            points = points[along >= np.quantile(along, rng.uniform(0, 0.6))]
        stretch = np.exp(rng.uniform(-STRETCH, STRETCH, 3) - rng.uniform(0, STRETCH))
        objects.append(points * stretch + rng.normal(size=3) * SHIFT)
    points = np.concatenate(objects)
    return points[rng.choice(len(points), min(count, len(points)), replace=False)]


def background(
    tower: AlignedTower, kinds: Sequence[str], shapes: int = SHAPES, seed: int = 0, projection: str = OURS
) -> Float[np.ndarray, "shapes towers dim"]:
    """Unit vectors of heaps of objects of these kinds, in depth views of a projection (of `ANY_VIEWS`), by the frozen
    and by the tuned tower, see `TOWERS`."""
    made, size = [], max(RELIEF_SIZE, tower.encoder.preprocess.size[0])
    device = next(tower.branch.parameters()).device
    for index in range(shapes):
        rng = np.random.default_rng([seed, index, 1])
        seen = ANY_VIEWS[projection](heap(rng, kinds), random_views(rng, VIEWS), size)
        views = torch.from_numpy(seen).float().to(device)
        with torch.no_grad():
            stem = tower.stem(views[:, None].expand(-1, 3, -1, -1))
            rows = torch.stack([tower.finish(stem, TOWERS[name]).mean(0) for name in TOWERS])
        made.append(torch.nn.functional.normalize(rows, dim=1).cpu().numpy())
    return np.stack(made)


@dataclass(frozen=True)
class Background:
    """Write it beside tuned weights; see the module's docstring."""

    weights: Annotated[Path, tyro.conf.Positional] = BUILTIN_WEIGHTS
    """Of train_naming, with their card beside them; by default the package's."""
    clip: str = "builtin"
    shapes: int = SHAPES
    seed: int = 0
    device: DeviceName = "cpu"

    def main(self) -> None:
        """Embed the shapes and write them."""
        torch.set_num_threads(1)
        left_out = read_json(self.weights.with_suffix(".json"), EncoderError)["left_out"]
        namer = ShapeNamer(self.clip, weights=self.weights, device=resolve_device(self.device))
        assert namer.tower is not None
        kinds = [kind for kind in KINDS if kind not in left_out]
        path = background_file(self.weights)
        vectors = background(namer.tower, kinds, self.shapes, self.seed, namer.projection)
        save_background(path, vectors, namer.encoder.weight_hash)
        print(path)


if __name__ == "__main__":
    start(Background)
