"""The shapes that the benchmarks of naming share, their vectors by several towers, and intervals of what is right."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.stats import t as student

from ovseg3d.errors import ShapeError
from ovseg3d.evaluate.metrics.naming import bootstrap
from ovseg3d.heads.naming import ShapeNamer, depth_templates
from ovseg3d.heads.naming.background import TOWERS
from ovseg3d.heads.naming.naming import Towers
from ovseg3d.heads.naming.projections import Projection
from ovseg3d.heads.naming.prompts import PLAIN_TEMPLATES, class_vectors
from ovseg3d.synth.holdout import SEEN, pick
from ovseg3d.synth.kinds import KINDS
from scripts.training.naming_pairs import Shape, held_out_shape, procedural_shape

SPELLED = {"diningtable": "dining table", "cellphone": "cell phone", "motorbike": "motorcycle", "aeroplane": "airplane"}
KNOWN_WORDS = {"dining table": "table"}
Interval = tuple[float, float, float]
"""A mean and the ends of its 95 % interval."""


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


def real_shapes(path: Path, rng: np.random.Generator, count: int, limit: int | None = None) -> Data:
    """The shapes of a file with so many points each, or `limit` of them. Raises ShapeError: the file has no names."""
    with np.load(path) as file:
        if not {"points", "category"} <= set(file.files):
            raise ShapeError("The shapes have no arrays 'points' and 'category'", where=path)
        points, category = file["points"].astype(float), file["category"]
    category = np.array([SPELLED.get(name, name).replace("_", " ") for name in map(str, category)])
    classes = tuple(sorted(set(category.tolist())))
    chosen = np.sort(rng.permutation(len(points))[:limit])
    clouds = [points[k][rng.permutation(points.shape[1])[:count]] for k in chosen]
    return Data("real", clouds, np.array([classes.index(category[k]) for k in chosen]), classes)


def procedural_shapes(
    rng: np.random.Generator, count: int, each: int, limit: int | None = None, *, held_out: bool
) -> Data:
    """Shapes of all kinds, `each` of a kind (or `limit` in all), in styles that no training sees, or in the others."""
    kinds = tuple(KINDS)
    label = np.repeat(np.arange(len(kinds)), each)
    label = label[np.sort(rng.permutation(len(label))[:limit])]
    make = held_out_shape if held_out else _seen_style
    clouds = [make(rng, kinds[k], count).points for k in label]
    return Data("held-out styles" if held_out else "seen styles", clouds, label, kinds)


def _seen_style(rng: np.random.Generator, kind: str, count: int) -> Shape:
    return procedural_shape(kind, pick(rng, SEEN.styles[kind]), rng, count)


def name_vectors(namer: ShapeNamer, classes: Sequence[str], prompts: bool) -> Float[np.ndarray, "classes dim"]:
    """Unit vectors of the classes, with depth templates or without."""
    with torch.no_grad():
        return class_vectors(namer.encoder, classes, depth_templates() if prompts else PLAIN_TEMPLATES).numpy()


def stem(namer: ShapeNamer, seen: Float[np.ndarray, "views h w"]) -> torch.Tensor:
    """What enters the tower's last stage, which all its variants share."""
    assert namer.tower is not None
    with torch.no_grad():
        return namer.tower.stem(torch.from_numpy(seen).float()[:, None].expand(-1, 3, -1, -1))


def embed(namer: ShapeNamer, stems: torch.Tensor, share: float) -> Float[np.ndarray, "views dim"]:
    """Unit vectors of views; `share` is the tuned copy's."""
    assert namer.tower is not None
    with torch.no_grad():
        return namer.tower.finish(stems, share).numpy()


@dataclass(frozen=True)
class Views:
    """Unit vectors of the views of a data set's shapes in one projection."""

    frozen: Float[np.ndarray, "shapes views dim"]
    tuned: list[Float[np.ndarray, "shapes views dim"]]
    """By the tuned tower of each namer."""

    def by(self, towers: Towers, seed: int) -> list[np.ndarray]:
        """The vectors of these towers; `seed` is the number of a namer."""
        both = {"frozen": self.frozen, "tuned": self.tuned[seed]}
        return [own for tower, own in both.items() if towers in (tower, "both")]


def see(see_shape: Projection, data: Data, namers: Sequence[ShapeNamer]) -> Views:
    """Vectors by several namers of one encoder, whose frozen tower is the first one's."""
    frozen, tuned = [], [[] for _ in namers]
    for points in data.points:
        stems = stem(namers[0], see_shape(points))
        frozen.append(embed(namers[0], stems, TOWERS["frozen"]))
        for own, namer in zip(tuned, namers):
            own.append(embed(namer, stems, TOWERS["tuned"]))
    return Views(np.stack(frozen), [np.stack(own) for own in tuned])


def unit_means(views: Float[np.ndarray, "shapes views dim"]) -> Float[np.ndarray, "shapes dim"]:
    """The unit vector of each shape."""
    means = views.mean(1)
    return means / np.linalg.norm(means, axis=1, keepdims=True)


def over_seeds(values: Sequence[float]) -> Interval:
    """The mean of results of several seeds, and its 95 % interval by Student's t; of one seed the interval is
    infinite."""
    mean, count = float(np.mean(values)), len(values)
    if count < 2:
        return mean, -np.inf, np.inf
    half = float(student.ppf(0.975, count - 1) * np.std(values, ddof=1) / np.sqrt(count))
    return mean, mean - half, mean + half


def shares_right(data: Data, right: Sequence[Bool[np.ndarray, " shapes"]]) -> dict[str, Interval]:
    """Top-1 of all shapes, and of known and of other classes, from whether each is named rightly, by each of some
    seeds. Intervals of one seed are those of a bootstrap over shapes, of more those of `over_seeds`."""
    groups = {data.name: np.ones(len(data.label), bool)}
    known = data.known()
    if known.any() and not known.all():
        groups |= {f"{data.name}, known": known, f"{data.name}, others": ~known}
    if len(right) == 1:
        return {name: bootstrap(right[0][group]) for name, group in groups.items()}
    return {name: over_seeds([float(own[group].mean()) for own in right]) for name, group in groups.items()}


def is_right(logits: Float[np.ndarray, "shapes classes"], label: Int[np.ndarray, " shapes"]) -> np.ndarray:
    """Whether each shape's likeliest name is the right one."""
    return logits.argmax(1) == label


def percent(values: Interval) -> str:
    """A mean and its interval."""
    mean, low, high = values
    return f"{mean:.1%} ({low:.1%} to {high:.1%})"
