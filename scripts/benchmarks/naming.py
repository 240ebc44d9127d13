"""Names of shapes from geometry alone: projections, towers, prompts, few shots, unknown up axes, retrieval.

    python -m scripts.benchmarks.naming --shapes shapes.npz --output outputs/naming_figures
    python -m scripts.benchmarks.naming --shapes shapes.npz --without outputs/naming/tuned_without.safetensors

`--shapes` is a .npz with `points` (shapes, points, 3), z up, and `category`. Beside these real shapes, procedural kinds
are measured in the styles that no training sees. "known" are categories that the built-in CLIP has seen pictures of.
Intervals are 95 % of a bootstrap over shapes. With --without, the weights that were tuned without some kinds are
measured, too, on those kinds alone. Writes figures.json, a contact sheet of views, a confusion matrix and a sheet of
what names find, and prints tables.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ovseg3d.errors import ConfigError, EncoderError, ShapeError
from ovseg3d.evaluate.metrics.naming import bootstrap, measure_retrieval
from ovseg3d.evaluate.naming import PROJECTIONS, few_shot_curve
from ovseg3d.files import read_json, write_json
from ovseg3d.heads.naming import ShapeNamer, depth_templates
from ovseg3d.heads.naming.background import TOWERS
from ovseg3d.heads.naming.naming import Towers
from ovseg3d.heads.naming.prompts import PLAIN_TEMPLATES, class_vectors
from ovseg3d.heads.naming.views import Y_UP
from ovseg3d.synth.kinds import KINDS
from scripts.benchmarks.naming_pictures import draw_confusion, draw_retrieval
from scripts.start import start
from scripts.training.naming_pairs import held_out_shape

SPELLED = {"diningtable": "dining table", "cellphone": "cell phone", "motorbike": "motorcycle", "aeroplane": "airplane"}
KNOWN_WORDS = {"dining table": "table"}
SHOTS = (1, 2, 4)
LEAST_SHAPES = 8
"""Shapes that a class needs to be part of the few-shot curve."""
DRAWS = 20
PARTS = ("table", "encoders", "few-shots", "retrieval", "denser", "up", "pictures")
UPRIGHT = "upright"
SHEET_TEXTS, SHEET_VIEW = 8, 1
"""Rows of the retrieval sheet, and the view that it shows: from above, a little from the side."""


@dataclass(frozen=True)
class Data:
    """Shapes with the index of each one's class."""

    name: str
    points: list[np.ndarray]
    label: np.ndarray
    classes: tuple[str, ...]

    def known(self) -> np.ndarray:
        """Whether the built-in CLIP has seen pictures of the shape's class."""
        seen = [KNOWN_WORDS.get(name, name) in KINDS for name in self.classes]
        return np.array(seen)[self.label]


@dataclass(frozen=True)
class Row:
    """One way to name shapes, of those that share the first stages of a tower."""

    projection: str
    tower: str
    """What it is called."""
    namer: ShapeNamer
    shares: tuple[float, ...] = (0.5,)
    """Of the tuned copy, whose vectors are averaged; none: the first half of the views frozen, the rest tuned."""
    prompts: bool = False
    priors: Towers | None = None
    """The towers by which names' priors are taken off."""

    def right(self, views: dict[float, np.ndarray], data: Data) -> np.ndarray:
        """Whether each shape's likeliest name is the right one; `views` are vectors by share of the tuned copy."""
        half = views[0.0].shape[1] // 2
        mixed = [views[share] for share in self.shares] or [
            np.concatenate([views[0.0][:, :half], views[0.5][:, half:]], 1)
        ]
        vectors = np.mean(mixed, axis=(0, 2))
        names = name_vectors(self.namer, data.classes, self.prompts)
        logits = self.namer.encoder.logit_scale * vectors @ names.T
        if self.priors is not None:
            length = np.linalg.norm(vectors, axis=1, keepdims=True)
            logits = logits / length - self.namer.log_prior(names, self.priors)
        return logits.argmax(1) == data.label


@dataclass(frozen=True)
class Naming:
    """Measure; see the module's docstring."""

    shapes: Path
    """The real shapes."""
    output: Path = Path("outputs/naming_figures")
    without: Path | None = None
    """Weights tuned without some kinds, with their card beside them."""
    points: int = 2048
    """Points of each shape."""
    limit: int | None = None
    """Measure so many shapes only, drawn at random."""
    procedural: int = 1
    """Held-out shapes of each procedural kind."""
    turned: int = 100
    """Shapes that are measured with their up axis unknown, which takes the most time."""
    denser: int = 60
    """Shapes that are measured with twice as many points."""
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
        real, made = self.real(rng, self.points), self.procedural_shapes(rng)
        see = {name: PROJECTIONS[name] for name in self.projections}
        seen = (real, made) if set(self.parts) - {"denser", "up"} else ()
        pictures = {p: {d.name: [see[p](x) for x in d.points] for d in seen} for p in see}
        tuned = ShapeNamer()
        stems = {p: {n: [stem(tuned, x) for x in views] for n, views in of.items()} for p, of in pictures.items()}
        ours = stems["ours"].get(real.name, [])
        found: dict[str, Any] = {"points": self.points, "shapes": {d.name: len(d.label) for d in (real, made)}}
        measures = {
            "table": lambda: self._table(tuned, (real, made), stems),
            "encoders": lambda: self._encoders(real, pictures["ours"][real.name]),
            "few-shots": lambda: few_shots(tuned, real, ours, rng),
            "retrieval": lambda: retrieval(tuned, real, ours),
            "denser": lambda: self._denser(tuned, rng),
            "up": lambda: self._unknown_up(tuned, real, rng),
        }
        for part in (one for one in measures if one in self.parts):
            found[part] = measures[part]()
            write_json(self.output / "figures.json", found)
        if "pictures" in self.parts:
            sheet(self.output / "views.png", real, pictures)
            self._draw(tuned, real, ours, pictures["ours"][real.name])

    def _draw(self, namer: ShapeNamer, data: Data, stems: list[torch.Tensor], seen: list[np.ndarray]) -> None:
        """Which names are mixed up (of known categories, where there are such), and what the names with most shapes
        find: not chosen by how well they do."""
        vectors, words = mean_vectors(namer, stems), name_vectors(namer, data.classes, False)
        named, scores = namer.logits(vectors, words).argmax(1), vectors @ words.T
        known = data.known() if data.known().any() else np.ones(len(named), bool)
        label, share = data.label[known], (named == data.label)[known].mean()
        title = f"{len(label)} {data.name} shapes of {len(np.unique(label))} categories, {len(words)} names: "
        title += f"{100 * share:.0f} % right"
        draw_confusion(self.output / "confusion.png", title, label, named[known], data.classes)
        count = np.bincount(data.label, minlength=len(data.classes))
        asked = np.sort(np.argsort(-count, kind="stable")[: min(SHEET_TEXTS, (count > 0).sum())])
        names, views = [data.classes[k] for k in data.label], np.stack([views[SHEET_VIEW] for views in seen])
        texts = [data.classes[k] for k in asked]
        draw_retrieval(self.output / "retrieval.png", texts, scores.T[asked], views, names)

    def real(self, rng: np.random.Generator, count: int) -> Data:
        """The real shapes with so many points each. Raises ShapeError: the file has no names."""
        with np.load(self.shapes) as file:
            if not {"points", "category"} <= set(file.files):
                raise ShapeError("The shapes have no arrays 'points' and 'category'", where=self.shapes)
            points, category = file["points"].astype(float), file["category"]
        category = np.array([SPELLED.get(name, name).replace("_", " ") for name in map(str, category)])
        classes = tuple(sorted(set(category.tolist())))
        chosen = np.sort(rng.permutation(len(points))[: self.limit])
        clouds = [points[k][rng.permutation(points.shape[1])[:count]] for k in chosen]
        return Data("real", clouds, np.array([classes.index(category[k]) for k in chosen]), classes)

    def procedural_shapes(self, rng: np.random.Generator) -> Data:
        """Shapes of all kinds in held-out styles."""
        kinds = tuple(KINDS)
        label = np.repeat(np.arange(len(kinds)), self.procedural)
        label = label[np.sort(rng.permutation(len(label))[: self.limit])]
        clouds = [held_out_shape(rng, kinds[k], self.points).points for k in label]
        return Data("held-out styles", clouds, label, kinds)

    def _table(self, tuned: ShapeNamer, data: Sequence[Data], stems: dict[str, Any]) -> list[dict[str, Any]]:
        rows: list[Row] = []
        for p in self.projections:
            rows += [Row(p, "untuned", tuned, (0.0,)), Row(p, "tuned", tuned)]
        rows += [Row("ours", "untuned, less priors", tuned, (0.0,), priors="frozen")]
        rows += [Row("ours", "tuned, less priors", tuned, priors="tuned")]
        rows += [Row("ours", "both towers", tuned, (0.5, 0.0)), Row("ours", "half-half", tuned, ())]
        rows += [Row("ours", "tuned, depth prompts", tuned, prompts=True)]
        left_out: list[str] = []
        if self.without is not None:
            without = ShapeNamer(weights=self.without)
            rows.append(Row("ours", "tuned without some", without))
            rows.append(Row("ours", "tuned without some, less priors", without, priors="tuned"))
            left_out = read_json(self.without.with_suffix(".json"), ShapeError)["left_out"]
        table, right_of, views = [], {}, {}
        for one in rows:
            row: dict[str, Any] = {"projection": one.projection, "tower": one.tower}
            for d in data:
                key = one.projection, id(one.namer), d.name
                if key not in views:
                    views[key] = by_share(one.namer, stems[one.projection][d.name])
                right = one.right(views[key], d)
                right_of[one.projection, one.tower, d.name] = right
                row |= shares_right(d, right, left_out)
            table.append(row)
        show(table)
        for tower, other in product(("untuned", "tuned"), [p for p in self.projections if p != "ours"]):
            pair = [right_of[p, tower, "real"].astype(float) for p in ("ours", other)]
            better = bootstrap(pair[0] - pair[1])
            table.append({"projection": f"ours minus {other}", "tower": tower, "real": better})
            print(f"ours minus {other}, {tower}: {percent(better)}")
        return table

    def _encoders(self, data: Data, pictures: list[np.ndarray]) -> list[dict[str, Any]]:
        """Top-1 of encoders that share no stage with the tuned tower."""
        table = []
        for tower, namer in others():
            names = name_vectors(namer, data.classes, False)
            right = (np.stack([whole(namer, x) for x in pictures]) @ names.T).argmax(1) == data.label
            table.append({"projection": "ours", "tower": tower, **shares_right(data, right, ())})
            show(table[-1:])
        return table

    def _denser(self, tuned: ShapeNamer, rng: np.random.Generator) -> dict[str, Any]:
        """Ours against the paper's projection at twice as many points, paired."""
        real = replace(self, limit=self.denser).real(rng, 2 * self.points)
        names = name_vectors(tuned, real.classes, False)
        right = {}
        for projection in ("ours", "contour-aware"):
            seen = [stem(tuned, PROJECTIONS[projection](x)) for x in real.points]
            vectors = np.stack([embed(tuned, one, 0.5).mean(0) for one in seen])
            right[projection] = ((vectors @ names.T).argmax(1) == real.label).astype(float)
        found = {p: bootstrap(r) for p, r in right.items()}
        found["difference"] = bootstrap(right["ours"] - right["contour-aware"])
        print(f"{2 * self.points} points, {len(real.label)} shapes: {found}")
        return found

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


def others() -> Iterator[tuple[str, ShapeNamer]]:
    """Encoders that share no stage with the tuned tower: a random one as a floor, and one of photographs."""
    random = ShapeNamer(towers="frozen")
    assert random.tower is not None
    torch.manual_seed(0)
    for module in random.tower.encoder.model.visual.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    yield "random weights", random
    try:
        yield "encoder imagenet", ShapeNamer("imagenet")
    except EncoderError as error:
        print(f"Without the encoder imagenet: {error.what}")


def shares_right(data: Data, right: np.ndarray, left_out: Sequence[str]) -> dict[str, tuple[float, float, float]]:
    """Top-1 of all shapes, and of known, of other, and of left-out classes."""
    groups = {"known": data.known(), "others": ~data.known()}
    groups["left out"] = np.isin(np.array(data.classes)[data.label], left_out)
    parts = {f"{data.name}, {name}": bootstrap(right[m]) for name, m in groups.items() if m.any() and not m.all()}
    return {data.name: bootstrap(right), **parts}


def show(table: Sequence[dict[str, Any]]) -> None:
    """Print rows of a table."""
    for row in table:
        cells = (v if isinstance(v, str) else f"{k} {v[0]:.1%} ({v[1]:.1%}-{v[2]:.1%})" for k, v in row.items())
        print(" | ".join(cells), flush=True)


def name_vectors(namer: ShapeNamer, classes: Sequence[str], prompts: bool) -> np.ndarray:
    """Unit vectors of the classes, with depth templates or without."""
    with torch.no_grad():
        return class_vectors(namer.encoder, classes, depth_templates() if prompts else PLAIN_TEMPLATES).numpy()


def stem(namer: ShapeNamer, seen: np.ndarray) -> torch.Tensor:
    """What enters the tower's last stage, which all its variants share."""
    assert namer.tower is not None
    with torch.no_grad():
        return namer.tower.stem(torch.from_numpy(seen).float()[:, None].expand(-1, 3, -1, -1))


def embed(namer: ShapeNamer, stems: torch.Tensor, share: float) -> np.ndarray:
    """Unit vectors of views; `share` is the tuned copy's."""
    assert namer.tower is not None
    with torch.no_grad():
        return namer.tower.finish(stems, share).numpy()


def by_share(namer: ShapeNamer, stems: list[torch.Tensor]) -> dict[float, np.ndarray]:
    """Vectors (shapes, views, dim) by the frozen and by the tuned tower, by the tuned copy's share."""
    return {share: np.stack([embed(namer, x, share) for x in stems]) for share in TOWERS.values()}


def mean_vectors(namer: ShapeNamer, stems: list[torch.Tensor]) -> np.ndarray:
    """The unit vector of each shape by the tuned tower."""
    vectors = np.stack([embed(namer, seen, 0.5).mean(0) for seen in stems])
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def whole(namer: ShapeNamer, seen: np.ndarray) -> np.ndarray:
    """The mean vector of pictures by a whole tower."""
    with torch.no_grad():
        return namer.embed_views(torch.from_numpy(seen).float()[:, None].expand(-1, 3, -1, -1)).mean(0).numpy()


def few_shots(namer: ShapeNamer, data: Data, stems: list[torch.Tensor], rng: np.random.Generator) -> dict[str, Any]:
    """Mean top-1 over draws, by number of labelled shapes, on classes with enough of them; 0 is zero-shot."""
    common = np.flatnonzero(np.bincount(data.label, minlength=len(data.classes)) >= LEAST_SHAPES)
    chosen = np.flatnonzero(np.isin(data.label, common))
    if not len(common):
        return {}
    label = np.searchsorted(common, data.label[chosen])
    views = np.stack([embed(namer, stems[k], 0.5) for k in chosen])
    names = name_vectors(namer, [data.classes[k] for k in common], False)
    scale = namer.encoder.logit_scale
    prior = namer.log_prior(names)
    found = few_shot_curve(views, label, names, logit_scale=scale, shots=SHOTS, draws=[rng] * DRAWS, log_prior=prior)
    print(f"few shots, {len(common)} classes: {found}")
    return {"classes": len(common), "top1": found}


def retrieval(namer: ShapeNamer, data: Data, stems: list[torch.Tensor]) -> dict[str, Any]:
    """Recall@1, 5, 10 and mean average precision of classes' names, and of shapes by shapes of their class."""
    vectors = mean_vectors(namer, stems)
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


def percent(values: tuple[float, float, float]) -> str:
    """A mean and its interval."""
    mean, low, high = values
    return f"{mean:.1%} ({low:.1%} to {high:.1%})"


def random_rotation(rng: np.random.Generator) -> np.ndarray:
    """A rotation drawn evenly from all."""
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return q if np.linalg.det(q) > 0 else q[:, [1, 0, 2]]


def sheet(path: Path, data: Data, pictures: dict[str, Any], shapes: int = 6, side: int = 112) -> None:
    """A contact sheet: a shape a row, three views of each projection."""
    first = [int(np.flatnonzero(data.label == k)[0]) for k in np.unique(data.label)]
    rows = []
    for k in first[:: max(1, len(first) // shapes)][:shapes]:
        cells = []
        for projection in pictures:
            for view in pictures[projection][data.name][k][[0, 2, 4]]:
                grey = Image.fromarray((view * 255).astype(np.uint8)).resize((side, side), Image.Resampling.BOX)
                cells.append(np.pad(np.asarray(grey), 4, constant_values=255))
        rows.append(np.concatenate(cells, 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(rows)).save(path, optimize=True)


if __name__ == "__main__":
    start(Naming)
