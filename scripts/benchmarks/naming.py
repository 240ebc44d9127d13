"""Names of shapes from geometry alone: projections, towers, prompts, few shots, unknown up axes, retrieval.

    python -m scripts.benchmarks.naming --shapes shapes.npz --output outputs/naming_figures
    python -m scripts.benchmarks.naming --shapes shapes.npz --procedural 4 --weights a/tuned.safetensors b/tuned...

`--shapes` is a .npz with `points` (shapes, points, 3), z up, and `category`. Beside these real shapes, procedural kinds
are measured in the styles that no training sees, and in the others. "known" are categories that the built-in CLIP has
seen pictures of. Of several --weights, the same tuning by other seeds, rows of tuned towers are their mean, with 95 %
by Student's t over the seeds, and then those of the first by itself. Other intervals are 95 % of a bootstrap over
shapes. Writes figures.json, a contact sheet of views, a confusion matrix and a sheet of what names find, and prints
tables. `scripts.benchmarks.naming_projections` compares projections.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ovseg3d.errors import ConfigError
from ovseg3d.evaluate.metrics.naming import bootstrap, measure_retrieval
from ovseg3d.evaluate.naming import few_shot_curve
from ovseg3d.files import write_json
from ovseg3d.heads.naming import ShapeNamer, orbit, relief
from ovseg3d.heads.naming.naming import BUILTIN_WEIGHTS
from ovseg3d.heads.naming.projections import OURS, PROJECTIONS
from ovseg3d.heads.naming.views import Y_UP
from scripts.benchmarks.naming_data import Data, name_vectors, procedural_shapes, real_shapes, see, unit_means
from scripts.benchmarks.naming_pictures import draw_confusion, draw_retrieval
from scripts.benchmarks.naming_table import measure_encoders, measure_rows, rows_of
from scripts.start import start

SHOTS = (1, 2, 4)
LEAST_SHAPES = 8
"""Shapes that a class needs to be part of the few-shot curve."""
DRAWS = 20
PARTS = ("table", "encoders", "few-shots", "retrieval", "up", "pictures")
UPRIGHT = "upright"
SHEET_TEXTS, SHEET_VIEW = 8, 1
"""Rows of the retrieval sheet, and the view that it shows: from above, a little from the side."""


@dataclass(frozen=True)
class Naming:
    """Measure; see the module's docstring."""

    shapes: Path
    """The real shapes."""
    output: Path = Path("outputs/naming_figures")
    weights: tuple[Path, ...] = (BUILTIN_WEIGHTS,)
    """Tuned weights; of several, all are in the table, and the first are measured in the other parts."""
    points: int = 2048
    """Points of each shape."""
    limit: int | None = None
    """Measure so many shapes only, drawn at random."""
    procedural: int = 1
    """Shapes of each procedural kind in held-out styles, and in seen ones."""
    turned: int = 100
    """Shapes that are measured with their up axis unknown, which takes the most time."""
    projections: tuple[str, ...] = tuple(PROJECTIONS)
    """Those of the table; "ours" is one of them."""
    parts: tuple[str, ...] = PARTS
    """What is measured."""
    seed: int = 0

    def main(self) -> None:
        """Measure, print, and write."""
        torch.set_num_threads(1)
        for given, known in ((self.parts, PARTS), (self.projections, tuple(PROJECTIONS))):
            if unknown := set(given) - set(known):
                raise ConfigError(f"There is no {min(unknown)!r} to measure", fix=f"use {', '.join(known)}")
        if "ours" not in self.projections:
            raise ConfigError("Other projections are measured beside ours", where="--projections", fix="add ours")
        rng = np.random.default_rng(self.seed)
        real = real_shapes(self.shapes, rng, self.points, self.limit)
        made = procedural_shapes(rng, self.points, self.procedural, self.limit, held_out=True)
        # Drawn apart, so that what is drawn below stays.
        apart = np.random.default_rng([self.seed, 3])
        seen = procedural_shapes(apart, self.points, self.procedural, self.limit, held_out=False)
        data, namers = (real, made, seen), [ShapeNamer(weights=path) for path in self.weights]
        tuned = namers[0]
        found: dict[str, Any] = {"points": self.points, "shapes": {d.name: len(d.label) for d in data}}
        asked = self.projections if self._asks("table") else ()
        views = {p: {d.name: see(PROJECTIONS[p], d, namers) for d in data} for p in asked}
        if OURS not in views and self._asks("few-shots", "retrieval", "pictures"):
            views[OURS] = {real.name: see(relief, real, [tuned])}
        measures = {
            "table": lambda: measure_rows(rows_of(self.projections), views, data, namers),
            "encoders": lambda: measure_encoders(data),
            "few-shots": lambda: few_shots(tuned, real, views[OURS][real.name].tuned[0], rng),
            "retrieval": lambda: retrieval(tuned, real, views[OURS][real.name].tuned[0]),
            "up": lambda: self._unknown_up(tuned, real, rng),
        }
        for part in (one for one in measures if one in self.parts):
            found[part] = measures[part]()
            write_json(self.output / "figures.json", found)
        if "pictures" in self.parts:
            sheet(self.output / "views.png", real, self.projections)
            self._draw(tuned, real, views[OURS][real.name].tuned[0])

    def _asks(self, *parts: str) -> bool:
        return bool(set(parts) & set(self.parts))

    def _draw(self, namer: ShapeNamer, data: Data, views: np.ndarray) -> None:
        """Which names are mixed up (of known categories, where there are such), and what the names with most shapes
        find: not chosen by how well they do."""
        vectors, words = unit_means(views), name_vectors(namer, data.classes, False)
        named, scores = namer.logits(vectors, words).argmax(1), vectors @ words.T
        known = data.known() if data.known().any() else np.ones(len(named), bool)
        label, share = data.label[known], (named == data.label)[known].mean()
        title = f"{len(label)} {data.name} shapes of {len(np.unique(label))} categories, {len(words)} names: "
        title += f"{100 * share:.0f} % right"
        draw_confusion(self.output / "confusion.png", title, label, named[known], data.classes)
        count = np.bincount(data.label, minlength=len(data.classes))
        asked = np.sort(np.argsort(-count, kind="stable")[: min(SHEET_TEXTS, (count > 0).sum())])
        names = [data.classes[k] for k in data.label]
        shown = np.stack([relief(points, orbit()[[SHEET_VIEW]])[0] for points in data.points])
        texts = [data.classes[k] for k in asked]
        draw_retrieval(self.output / "retrieval.png", texts, scores.T[asked], shown, names)

    def _unknown_up(self, tuned: ShapeNamer, real: Data, rng: np.random.Generator) -> dict[str, Any]:
        """Top-1 of upright shapes, and of shapes turned about z and freely, with and without estimating what is up."""
        chosen = rng.permutation(len(real.label))[: self.turned]
        names = name_vectors(tuned, real.classes, False)
        right: dict[str, list[bool]] = {}
        axis: dict[str, list[bool]] = {}
        for k in chosen:
            angle = rng.uniform(0, 2 * np.pi)
            about_z = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1.0]])
            turns = {UPRIGHT: np.eye(3), "about z": about_z, "y up": Y_UP, "freely": random_rotation(rng)}
            for name, turn in turns.items():
                points = real.points[k] @ turn.T
                auto = tuned.name(points, real.classes, top=1)
                axis.setdefault(name, []).append(bool(np.array(auto.up) @ turn[:, 2] > np.cos(np.radians(20))))
                right.setdefault(f"{name}, auto", []).append(auto.label == real.classes[real.label[k]])
                told = tuned.logits(tuned.embed(points)[None], names).argmax()
                right.setdefault(f"{name}, z", []).append(bool(told == real.label[k]))
        told = np.array(right[f"{UPRIGHT}, z"])
        found = {"top1": {k: bootstrap(np.array(v)) for k, v in right.items()}, "shapes": len(chosen)}
        found["kept"] = {k: kept(np.array(v), told) for k, v in right.items() if k.endswith("auto")}
        found["up_found"] = {k: bootstrap(np.array(v)) for k, v in axis.items()}
        print(found)
        return found


def kept(right: np.ndarray, told: np.ndarray) -> tuple[float, float, float]:
    """Top-1 as a share of that of upright shapes whose up axis is told, and its 95 % interval (paired bootstrap)."""
    if not told.any():
        return float("nan"), float("nan"), float("nan")
    rng = np.random.default_rng(0)
    draws = rng.integers(len(told), size=(2000, len(told)))
    draws = draws[told[draws].any(1)]
    ratio = right[draws].sum(1) / told[draws].sum(1)
    low, high = np.quantile(ratio, (0.025, 0.975))
    return float(right.sum() / told.sum()), float(low), float(high)


def few_shots(namer: ShapeNamer, data: Data, views: np.ndarray, rng: np.random.Generator) -> dict[str, Any]:
    """Mean top-1 over draws, by number of labelled shapes, on classes with enough of them; 0 is zero-shot."""
    common = np.flatnonzero(np.bincount(data.label, minlength=len(data.classes)) >= LEAST_SHAPES)
    chosen = np.flatnonzero(np.isin(data.label, common))
    if not len(common):
        return {}
    label = np.searchsorted(common, data.label[chosen])
    names = name_vectors(namer, [data.classes[k] for k in common], False)
    scale = namer.encoder.logit_scale
    prior = namer.log_prior(names)
    found = few_shot_curve(
        views[chosen], label, names, logit_scale=scale, shots=SHOTS, draws=[rng] * DRAWS, log_prior=prior
    )
    print(f"few shots, {len(common)} classes: {found}")
    return {"classes": len(common), "top1": found}


def retrieval(namer: ShapeNamer, data: Data, views: np.ndarray) -> dict[str, Any]:
    """Recall@1, 5, 10 and mean average precision of classes' names, and of shapes by shapes of their class."""
    vectors = unit_means(views)
    used = np.unique(data.label)
    by_text = name_vectors(namer, [data.classes[k] for k in used], False) @ vectors.T
    by_shape = vectors @ vectors.T
    np.fill_diagonal(by_shape, -np.inf)
    found = {"text": measure_retrieval(by_text, used[:, None] == data.label).as_dict()}
    same = data.label[:, None] == data.label
    np.fill_diagonal(same, False)
    if same.any():
        found["shape"] = measure_retrieval(by_shape, same).as_dict()
    print(f"retrieval: {found}")
    return found


def random_rotation(rng: np.random.Generator) -> np.ndarray:
    """A rotation drawn evenly from all."""
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return q if np.linalg.det(q) > 0 else q[:, [1, 0, 2]]


def sheet(path: Path, data: Data, projections: Sequence[str], shapes: int = 6, side: int = 112) -> None:
    """A contact sheet: a shape a row, three views of each projection."""
    first = [int(np.flatnonzero(data.label == k)[0]) for k in np.unique(data.label)]
    rows = []
    for k in first[:: max(1, len(first) // shapes)][:shapes]:
        cells = []
        for projection in projections:
            for view in PROJECTIONS[projection](data.points[k])[[0, 2, 4]]:
                grey = Image.fromarray((view * 255).astype(np.uint8)).resize((side, side), Image.Resampling.BOX)
                cells.append(np.pad(np.asarray(grey), 4, constant_values=255))
        rows.append(np.concatenate(cells, 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(rows)).save(path, optimize=True)


if __name__ == "__main__":
    start(Naming)
