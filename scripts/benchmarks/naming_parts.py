"""What single parts of naming earn, beside the tables of `scripts.benchmarks.naming`.

    python -m scripts.benchmarks.naming_parts --shapes shapes.npz
    python -m scripts.benchmarks.naming_parts --rows left-out --weights outputs/naming/tuned_without.safetensors

Rows:

    templates      top-1 on the real shapes of each depth template by itself, and of all
    view-weights   views weighted by how sure they are, or by how far they agree, instead of evenly; no label is used
    few-shots      the few-shot curve to 16 labelled shapes of each procedural kind, which are in styles that training
                   saw; shapes in held-out styles are named
    left-out       the towers that were tuned without some kinds, on these kinds alone, against the frozen one; all also
                   less the priors of names; and textured pictures of the same views, which tuning aims at

The tuned tower of the package, but for the last row, which takes `--weights`. Intervals are 95 % of a bootstrap
over shapes, those of several weights 95 % by Student's t over the weights.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from ovseg3d.errors import ConfigError, ShapeError
from ovseg3d.evaluate.metrics.naming import bootstrap
from ovseg3d.evaluate.naming import few_shot_curve
from ovseg3d.files import read_json
from ovseg3d.heads.naming import ShapeNamer, depth_templates, orbit, relief
from ovseg3d.heads.naming.background import TOWERS
from ovseg3d.heads.naming.naming import Towers
from ovseg3d.heads.naming.prompts import class_vectors
from ovseg3d.synth.holdout import SEEN, pick
from ovseg3d.synth.kinds import KINDS
from scripts.benchmarks.naming_data import Data, embed, name_vectors, over_seeds, percent, real_shapes, see, stem
from scripts.start import start
from scripts.training.naming_pairs import Shape, held_out_shape, picture, procedural_shape

ROWS = ("templates", "view-weights", "few-shots", "left-out")
SHOTS, DRAWS = (1, 2, 4, 8, 16), 20


@dataclass(frozen=True)
class NamingParts:
    """Measure; see the module's docstring."""

    rows: tuple[str, ...] = ROWS[:3]
    shapes: Path | None = None
    """The real shapes, for templates and view-weights; as for `scripts.benchmarks.naming`."""
    weights: tuple[Path, ...] = ()
    """For left-out, weights tuned without the same kinds, with their card beside them."""
    points: int = 2048
    limit: int | None = None
    """Measure so many real shapes only, drawn at random."""
    kinds: int = 20
    """Procedural kinds of the few-shot curve, drawn at random."""
    each: int = 12
    """Procedural shapes of each kind that are named."""
    labelled: int = 16
    """Procedural shapes of each kind that labelled ones are drawn from."""
    seed: int = 0

    def main(self) -> None:
        """Measure and print."""
        torch.set_num_threads(1)
        if unknown := set(self.rows) - set(ROWS):
            raise ConfigError(f"There is no row {min(unknown)!r}", where="--rows", fix=f"use {', '.join(ROWS)}")
        namer = ShapeNamer()
        if {"templates", "view-weights"} & set(self.rows) and self.shapes is None:
            raise ConfigError("These rows need the real shapes", fix="--shapes shapes.npz")
        if "left-out" in self.rows and not self.weights:
            raise ConfigError("These rows need tuned weights", fix="--weights outputs/naming/tuned_without.safetensors")
        if {"templates", "view-weights"} & set(self.rows):
            assert self.shapes is not None
            data = real_shapes(self.shapes, np.random.default_rng(self.seed), self.points, self.limit)
            views = see(relief, data, [namer]).tuned[0]
            if "templates" in self.rows:
                templates(namer, data, views)
            if "view-weights" in self.rows:
                view_weights(namer, data, views)
        if "few-shots" in self.rows:
            self._few_shots(namer)
        if "left-out" in self.rows:
            self._left_out()

    def _few_shots(self, namer: ShapeNamer) -> None:
        rng = np.random.default_rng([self.seed, 1])
        kinds = [list(KINDS)[k] for k in np.sort(rng.permutation(len(KINDS))[: self.kinds])]
        pool = [
            procedural_shape(kind, pick(rng, SEEN.styles[kind]), rng, self.points)
            for kind in kinds
            for _ in range(self.labelled)
        ]
        named = [held_out_shape(rng, kind, self.points) for kind in kinds for _ in range(self.each)]
        label = np.array([kinds.index(shape.kind) for shape in (*pool, *named)])
        data = Data("kinds", [shape.points for shape in (*pool, *named)], label, tuple(kinds))
        views = see(relief, data, [namer]).tuned[0]
        names, scale = name_vectors(namer, kinds, False), namer.encoder.logit_scale
        found = few_shot_curve(
            views,
            label,
            names,
            logit_scale=scale,
            shots=[count for count in SHOTS if count <= self.labelled],
            draws=[rng] * DRAWS,
            log_prior=namer.log_prior(names),
            pool=np.arange(len(label)) < len(pool),
        )
        for method, row in found.items():
            print(f"few shots, {len(kinds)} kinds, {method}: " + ", ".join(f"{k}: {v:.1%}" for k, v in row.items()))

    def _left_out(self) -> None:
        left_out = [read_json(path.with_suffix(".json"), ShapeError)["left_out"] for path in self.weights]
        if any(kinds != left_out[0] for kinds in left_out):
            raise ConfigError("The weights were tuned without different kinds", fix="measure them one after another")
        rng = np.random.default_rng([self.seed, 2])
        shapes = [held_out_shape(rng, kind, self.points) for kind in left_out[0] for _ in range(self.each)]
        label = np.array([list(KINDS).index(shape.kind) for shape in shapes])
        first = ShapeNamer(weights=self.weights[0])
        names, scale = name_vectors(first, tuple(KINDS), False), first.encoder.logit_scale
        stems = [stem(first, relief(shape.points)) for shape in shapes]
        rows: dict[str, list[np.ndarray]] = {}
        towers: tuple[Towers, Towers] = ("frozen", "tuned")
        for path in self.weights:
            namer = ShapeNamer(weights=path)
            for tower in towers:
                views = np.stack([embed(namer, one, TOWERS[tower]) for one in stems])
                logits = scale * normalised(views.mean(1)) @ names.T
                rows.setdefault(tower, []).append(logits.argmax(1) == label)
                less = (logits - namer.log_prior(names, tower)).argmax(1) == label
                rows.setdefault(f"{tower}, less priors", []).append(less)
        seen = np.stack([pictures(first, shape, rng) for shape in shapes])
        rows["pictures of the same views, frozen"] = [(seen @ names.T).argmax(1) == label]
        print(
            f"left out: {len(left_out[0])} kinds, {len(label)} shapes, of {len(KINDS)} names; "
            f"chance {1 / len(KINDS):.1%}"
        )
        for row, of in rows.items():
            for own, frozen in zip(of, rows["frozen"]):
                better = bootstrap(own.astype(float) - frozen)
                print(f"{row}: {percent(bootstrap(own))}; minus frozen {percent(better)}")
            if len(of) > 1:
                print(f"{row}, over {len(of)} weights: {percent(over_seeds([own.mean() for own in of]))}")


def normalised(vectors: Float[np.ndarray, "rows dim"]) -> Float[np.ndarray, "rows dim"]:
    """The vectors at unit length."""
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def pictures(namer: ShapeNamer, shape: Shape, rng: np.random.Generator) -> Float[np.ndarray, " dim"]:
    """The mean vector of textured pictures of the views that a shape is named by: what tuning aims at."""
    seen = np.stack([picture(shape, turn, rng) for turn in orbit()])
    with torch.no_grad():
        pixels = torch.from_numpy(seen).permute(0, 3, 1, 2).float() / 255
        return namer.embed_views(pixels, 0.0).mean(0).cpu().numpy()


def templates(namer: ShapeNamer, data: Data, views: np.ndarray) -> None:
    """Print the top-1 of each template by itself."""
    vectors = views.mean(1)
    for template in (*depth_templates(), None):
        with torch.no_grad():
            said = depth_templates() if template is None else [template]
            names = class_vectors(namer.encoder, data.classes, said).numpy()
        right = (vectors @ names.T).argmax(1) == data.label
        known = data.known()
        shown = f"{percent(bootstrap(right))}; known {percent(bootstrap(right[known]))}"
        print(f"template {template or 'all of them'!r}: {shown}")


def view_weights(namer: ShapeNamer, data: Data, views: np.ndarray) -> None:
    """Print the top-1 with views weighted in three ways."""
    names = name_vectors(namer, data.classes, False)
    logits = namer.encoder.logit_scale * views @ names.T
    odds = np.exp(logits - logits.max(2, keepdims=True))
    odds /= odds.sum(2, keepdims=True)
    sure = np.log(odds.shape[2]) + (odds * np.log(odds + 1e-12)).sum(2)
    agreement = (views * views.mean(1, keepdims=True)).sum(2)
    right = {}
    for name, weight in (("even", np.ones_like(sure)), ("sure", sure), ("agreement", agreement)):
        mean = (views * weight[..., None]).sum(1)
        right[name] = ((mean @ names.T).argmax(1) == data.label).astype(float)
        print(f"views weighted, {name}: {percent(bootstrap(right[name]))}")
    for name in ("sure", "agreement"):
        print(f"{name} minus even: {percent(bootstrap(right[name] - right['even']))}")


if __name__ == "__main__":
    start(NamingParts)
