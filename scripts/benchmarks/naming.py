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
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ovseg3d.errors import EncoderError, ShapeError
from ovseg3d.evaluate.metrics.naming import bootstrap, measure_retrieval
from ovseg3d.evaluate.naming import PROJECTIONS, few_shot_curve
from ovseg3d.files import read_json, write_json
from ovseg3d.heads.naming import ShapeNamer, depth_templates
from ovseg3d.heads.naming.prompts import PLAIN_TEMPLATES, class_vectors
from ovseg3d.heads.naming.upright import find_up, turn_up
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
    seed: int = 0

    def main(self) -> None:
        """Measure, print, and write."""
        torch.set_num_threads(1)
        rng = np.random.default_rng(self.seed)
        real, made = self.real(rng, self.points), self._procedural(rng)
        pictures = {p: {d.name: [see(x) for x in d.points] for d in (real, made)} for p, see in PROJECTIONS.items()}
        sheet(self.output / "views.png", real, pictures)
        tuned = ShapeNamer()
        stems = {p: {n: [stem(tuned, x) for x in seen] for n, seen in of.items()} for p, of in pictures.items()}
        found: dict[str, Any] = {"points": self.points, "shapes": {d.name: len(d.label) for d in (real, made)}}
        found["table"] = self._table(tuned, (real, made), stems, pictures["ours"])
        found["few_shots"] = few_shots(tuned, real, stems["ours"][real.name], rng)
        found["retrieval"] = retrieval(tuned, real, stems["ours"][real.name])
        found["denser"] = self._denser(tuned, rng)
        found["up"] = self._unknown_up(tuned, real, rng)
        self._draw(tuned, real, stems["ours"][real.name], pictures["ours"][real.name])
        write_json(self.output / "figures.json", found)

    def _draw(self, namer: ShapeNamer, data: Data, stems: list[torch.Tensor], seen: list[np.ndarray]) -> None:
        """Which names are mixed up, and what the names with most shapes find: not chosen by how well they do."""
        scores = mean_vectors(namer, stems) @ name_vectors(namer, data.classes, False).T
        draw_confusion(self.output / "confusion.png", f"{data.name} shapes", data.label, scores.argmax(1), data.classes)
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
        category = np.array([SPELLED.get(name, name).replace("_", " ") for name in category.tolist()])
        classes = tuple(sorted(set(category.tolist())))
        chosen = np.sort(rng.permutation(len(points))[: self.limit])
        clouds = [points[k][rng.permutation(points.shape[1])[:count]] for k in chosen]
        return Data("real", clouds, np.array([classes.index(category[k]) for k in chosen]), classes)

    def _procedural(self, rng: np.random.Generator) -> Data:
        kinds = tuple(KINDS)
        label = np.repeat(np.arange(len(kinds)), self.procedural)
        label = label[np.sort(rng.permutation(len(label))[: self.limit])]
        clouds = [held_out_shape(rng, kinds[k], self.points).points for k in label]
        return Data("held-out styles", clouds, label, kinds)

    def _table(
        self, tuned: ShapeNamer, data: Sequence[Data], stems: dict[str, Any], pictures: dict[str, Any]
    ) -> list[dict[str, Any]]:
        rows = [(p, "untuned", tuned, (0.0,), False) for p in PROJECTIONS]
        rows += [(p, "tuned", tuned, (0.5,), False) for p in PROJECTIONS]
        rows += [("ours", "both towers", tuned, (0.5, 0.0), False), ("ours", "half-half", tuned, (), False)]
        rows += [("ours", "tuned, depth prompts", tuned, (0.5,), True)]
        left_out: list[str] = []
        if self.without is not None:
            rows.append(("ours", "tuned without some", ShapeNamer(weights=self.without), (0.5,), False))
            left_out = read_json(self.without.with_suffix(".json"), ShapeError)["left_out"]
        table, right_of = [], {}
        for projection, tower, namer, shares, prompts in rows:
            row: dict[str, Any] = {"projection": projection, "tower": tower}
            for d in data:
                vectors = np.stack([embed(namer, x, shares).mean(0) for x in stems[projection][d.name]])
                right = (vectors @ name_vectors(namer, d.classes, prompts).T).argmax(1) == d.label
                right_of[projection, tower, d.name] = right
                row |= shares_right(d, right, left_out)
            table.append(row)
        for tower, namer in others():
            row = {"projection": "ours", "tower": tower}
            for d in data:
                vectors = np.stack([whole(namer, x) for x in pictures[d.name]])
                row |= shares_right(
                    d, (vectors @ name_vectors(namer, d.classes, False).T).argmax(1) == d.label, left_out
                )
            table.append(row)
        for row in table:
            print(
                " | ".join(
                    v if isinstance(v, str) else f"{k} {v[0]:.1%} ({v[1]:.1%}-{v[2]:.1%})" for k, v in row.items()
                )
            )
        for tower in ("untuned", "tuned"):
            pair = [right_of[p, tower, "real"] for p in ("ours", "contour-aware")]
            better = bootstrap(pair[0].astype(float) - pair[1].astype(float))
            table.append({"projection": "ours minus contour-aware", "tower": tower, "real": better})
            print(f"ours minus contour-aware, {tower}: {percent(better)}")
        return table

    def _denser(self, tuned: ShapeNamer, rng: np.random.Generator) -> dict[str, Any]:
        """Ours against the paper's projection at twice as many points, paired."""
        real = replace(self, limit=self.denser).real(rng, 2 * self.points)
        names = name_vectors(tuned, real.classes, False)
        right = {}
        for projection in ("ours", "contour-aware"):
            seen = [stem(tuned, PROJECTIONS[projection](x)) for x in real.points]
            vectors = np.stack([embed(tuned, one, (0.5,)).mean(0) for one in seen])
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
                found = find_up(points)
                axis.setdefault(name, []).append(bool(found @ turn[:, 2] > np.cos(np.radians(20))))
                seen: dict[bytes, bool] = {}
                for way, up in (("z", np.array([0, 0, 1.0])), ("auto", found)):
                    if up.tobytes() not in seen:
                        vector = tuned.embed(points @ turn_up(up).T)
                        seen[up.tobytes()] = bool((names @ vector).argmax() == real.label[k])
                    right.setdefault(f"{name}, {way}", []).append(seen[up.tobytes()])
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


def name_vectors(namer: ShapeNamer, classes: Sequence[str], prompts: bool) -> np.ndarray:
    """Unit vectors of the classes, with depth templates or without."""
    with torch.no_grad():
        return class_vectors(namer.encoder, classes, depth_templates() if prompts else PLAIN_TEMPLATES).numpy()


def stem(namer: ShapeNamer, seen: np.ndarray) -> torch.Tensor:
    """What enters the tower's last stage, which all its variants share."""
    assert namer.tower is not None
    with torch.no_grad():
        return namer.tower.stem(torch.from_numpy(seen).float()[:, None].expand(-1, 3, -1, -1))


def embed(namer: ShapeNamer, stems: torch.Tensor, shares: Sequence[float]) -> np.ndarray:
    """Unit vectors of views, the mean of several towers; no share at all: the first half frozen, the rest tuned."""
    assert namer.tower is not None
    if not shares:
        half = len(stems) // 2
        return np.concatenate([embed(namer, stems[:half], (0.0,)), embed(namer, stems[half:], (0.5,))])
    with torch.no_grad():
        return np.mean([namer.tower.finish(stems, share).numpy() for share in shares], axis=0)


def mean_vectors(namer: ShapeNamer, stems: list[torch.Tensor]) -> np.ndarray:
    """The unit vector of each shape by the tuned tower."""
    vectors = np.stack([embed(namer, seen, (0.5,)).mean(0) for seen in stems])
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
    views = np.stack([embed(namer, stems[k], (0.5,)) for k in chosen])
    names = name_vectors(namer, [data.classes[k] for k in common], False)
    scale = namer.encoder.logit_scale
    found = few_shot_curve(views, label, names, logit_scale=scale, shots=SHOTS, draws=DRAWS, rng=rng)
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
        for projection in PROJECTIONS:
            for view in pictures[projection][data.name][k][[0, 2, 4]]:
                grey = Image.fromarray((view * 255).astype(np.uint8)).resize((side, side), Image.Resampling.BOX)
                cells.append(np.pad(np.asarray(grey), 4, constant_values=255))
        rows.append(np.concatenate(cells, 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(rows)).save(path, optimize=True)


if __name__ == "__main__":
    start(Naming)
