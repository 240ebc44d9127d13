"""Our depth views beside OpenDlign's contour-aware ones and PointCLIP V2's, on real shapes, paired.

    python -m scripts.benchmarks.naming_projections --shapes shapes.npz --contour outputs/contour/tuned.safetensors ...

A tower that was tuned to one projection favours it. So frozen towers are compared, and towers each tuned to the views
that it sees: --weights (by default the package's) to ours, --contour to contour-aware ones, by the same recipe, shapes
and pictures (`scripts.training.train_naming --projection contour-aware`). All by cosines, and less the priors of names,
which come from views of the same projection; PointCLIP V2's are made here. Of several seeds, each shape counts as the
share of seeds that name it rightly. Intervals are 95 % of a bootstrap over shapes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ovseg3d.evaluate.metrics.naming import bootstrap
from ovseg3d.files import write_json
from ovseg3d.heads.naming import ShapeNamer
from ovseg3d.heads.naming.background import TOWERS, log_prior
from ovseg3d.heads.naming.naming import BUILTIN_WEIGHTS
from ovseg3d.heads.naming.projections import CONTOUR_AWARE, OURS, PROJECTIONS
from ovseg3d.synth.kinds import KINDS
from scripts.benchmarks.naming_data import Data, Views, is_right, name_vectors, percent, real_shapes, see, unit_means
from scripts.benchmarks.naming_table import Row
from scripts.start import start
from scripts.training.naming_background import background


@dataclass(frozen=True)
class NamingProjections:
    """Measure; see the module's docstring."""

    shapes: Path
    """The real shapes, as for `scripts.benchmarks.naming`."""
    contour: tuple[Path, ...] = ()
    """Weights tuned to contour-aware views."""
    weights: tuple[Path, ...] = (BUILTIN_WEIGHTS,)
    """Weights tuned to ours."""
    points: tuple[int, ...] = (2048, 4096)
    """Of each shape."""
    limit: int | None = None
    """Measure so many shapes only, drawn at random."""
    output: Path = Path("outputs/naming_projections.json")
    seed: int = 0

    def main(self) -> None:
        """Measure, print, and write."""
        torch.set_num_threads(1)
        namers = {
            OURS: [ShapeNamer(weights=path) for path in self.weights],
            CONTOUR_AWARE: [ShapeNamer(weights=path) for path in self.contour],
        }
        found: dict[str, Any] = {name: len(own) for name, own in namers.items()}
        for count in self.points:
            data = real_shapes(self.shapes, np.random.default_rng(self.seed), count, self.limit)
            found[f"{count} points"] = measure(data, namers, count)
            write_json(self.output, found)


def measure(data: Data, namers: dict[str, list[ShapeNamer]], count: int) -> dict[str, Any]:
    """Top-1 of each projection by each kind of tower, and ours minus the others, paired; printed."""
    every, first = [*namers[OURS], *namers[CONTOUR_AWARE]], len(namers[OURS])
    right: dict[tuple[str, str], np.ndarray] = {}
    for projection, see_shape in PROJECTIONS.items():
        views = see(see_shape, data, every)
        of = {OURS: views.tuned[:first], CONTOUR_AWARE: views.tuned[first:]}
        own = namers.get(projection, [])
        for priors in (False, True):
            less = ", less priors" * priors
            logits = frozen_logits(views, data, every[0])
            if priors:
                logits -= frozen_prior(projection, own[0] if own else every[0], data, is_known=bool(own))
            right[projection, f"frozen{less}"] = is_right(logits, data.label).astype(float)
            row = Row(projection, "tuned", priors=priors)
            for to, towers in namers.items():
                if not towers or (priors and to != projection):
                    continue
                got = mean(row.right(Views(views.frozen, of[to]), data, towers))
                right[projection, f"tuned to {to}{less}"] = got
                if to == projection:
                    right[projection, f"tuned to its own{less}"] = got
    found: dict[str, Any] = {f"{p}, {tower}": bootstrap(value) for (p, tower), value in right.items()}
    for (projection, tower), value in right.items():
        if projection != OURS and (OURS, tower) in right:
            found[f"ours minus {projection}, {tower}"] = bootstrap(right[OURS, tower] - value)
    for name, value in found.items():
        print(f"{count} points, {len(data.label)} shapes: {name}: {percent(value)}", flush=True)
    return found


def frozen_logits(views: Views, data: Data, namer: ShapeNamer) -> np.ndarray:
    """Cosines of the frozen tower's vectors with the names, at the encoder's temperature."""
    return namer.encoder.logit_scale * unit_means(views.frozen) @ name_vectors(namer, data.classes, False).T


def frozen_prior(projection: str, namer: ShapeNamer, data: Data, *, is_known: bool) -> np.ndarray:
    """The logarithm of the names' priors by the frozen tower.

    Args:
        projection: of the heaps' views.
        namer: whose tower it is.
        data: has the names.
        is_known: the namer's weights were tuned to this projection, so its vectors of heaps lie beside them.
    """
    names = name_vectors(namer, data.classes, False)
    if is_known:
        return namer.log_prior(names, "frozen")
    assert namer.tower is not None
    heaps = background(namer.tower, tuple(KINDS), projection=projection)[:, list(TOWERS).index("frozen")]
    return log_prior(heaps, names, namer.encoder.logit_scale)


def mean(right: Sequence[np.ndarray]) -> np.ndarray:
    """The share of seeds that name each shape rightly."""
    return np.mean(right, axis=0)


if __name__ == "__main__":
    start(NamingProjections)
