"""What single parts of naming earn, beside the tables of `scripts.benchmarks.naming`.

    python -m scripts.benchmarks.naming_parts --shapes shapes.npz
    python -m scripts.benchmarks.naming_parts --rows left-out --without outputs/naming/tuned_without.safetensors

Rows:

    templates      top-1 on the real shapes of each depth template by itself, and of all
    view-weights   views weighted by how sure they are, or by how far they agree, instead of evenly; no label is used
    few-shots      the few-shot curve to 16 labelled shapes, on procedural kinds in held-out styles
    left-out       the tower that was tuned without some kinds, on these kinds alone, against the frozen one; both also
                   less the priors of names; and textured pictures of the same views, which tuning aims at

The tuned tower of the package, but for the last row. Intervals are 95 % of a bootstrap over shapes.
"""

from dataclasses import dataclass, replace
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
from ovseg3d.synth.kinds import KINDS
from scripts.benchmarks.naming import Data, Naming, embed, name_vectors, percent, stem
from scripts.start import start
from scripts.training.naming_pairs import Shape, held_out_shape, picture

ROWS = ("templates", "view-weights", "few-shots", "left-out")
SHOTS, DRAWS = (1, 2, 4, 8, 16), 10


@dataclass(frozen=True)
class NamingParts:
    """Measure; see the module's docstring."""

    rows: tuple[str, ...] = ROWS[:3]
    shapes: Path | None = None
    """The real shapes, for templates and view-weights; as for `scripts.benchmarks.naming`."""
    without: Path | None = None
    """Weights tuned without some kinds, with their card beside them, for left-out."""
    points: int = 2048
    limit: int | None = None
    """Measure so many real shapes only, drawn at random."""
    kinds: int = 12
    """Procedural kinds of the few-shot curve, drawn at random."""
    each: int = 24
    """Procedural shapes of each kind."""
    seed: int = 0

    def main(self) -> None:
        """Measure and print."""
        torch.set_num_threads(1)
        if unknown := set(self.rows) - set(ROWS):
            raise ConfigError(f"There is no row {min(unknown)!r}", where="--rows", fix=f"use {', '.join(ROWS)}")
        namer = ShapeNamer()
        if {"templates", "view-weights"} & set(self.rows):
            if self.shapes is None:
                raise ConfigError("These rows need the real shapes", fix="--shapes shapes.npz")
            data = replace(Naming(self.shapes), limit=self.limit).real(np.random.default_rng(self.seed), self.points)
            views = view_vectors(namer, data.points)[0.5]
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
        data = self._procedural(rng, sorted(rng.permutation(len(KINDS))[: self.kinds].tolist()))
        views, names = view_vectors(namer, data.points)[0.5], name_vectors(namer, data.classes, False)
        scale, shots = namer.encoder.logit_scale, [count for count in SHOTS if count < self.each]
        prior = namer.log_prior(names)
        found = few_shot_curve(
            views, data.label, names, logit_scale=scale, shots=shots, draws=DRAWS, rng=rng, log_prior=prior
        )
        for method, row in found.items():
            print(
                f"few shots, {len(data.classes)} kinds, {method}: " + ", ".join(f"{k}: {v:.1%}" for k, v in row.items())
            )

    def _left_out(self) -> None:
        if self.without is None:
            raise ConfigError("This row needs tuned weights", fix="--without outputs/naming/tuned_without.safetensors")
        kinds = read_json(self.without.with_suffix(".json"), ShapeError)["left_out"]
        rng = np.random.default_rng([self.seed, 2])
        shapes = [held_out_shape(rng, kind, self.points) for kind in kinds for _ in range(self.each)]
        label = np.array([list(KINDS).index(shape.kind) for shape in shapes])
        namer = ShapeNamer(weights=self.without)
        names, scale = name_vectors(namer, tuple(KINDS), False), namer.encoder.logit_scale
        views = view_vectors(namer, [shape.points for shape in shapes])
        right: dict[str, np.ndarray] = {}
        towers: tuple[Towers, Towers] = ("frozen", "tuned")
        for tower in towers:
            logits = scale * normalised(views[TOWERS[tower]].mean(1)) @ names.T
            right[tower] = logits.argmax(1) == label
            right[f"{tower}, less priors"] = (logits - namer.log_prior(names, tower)).argmax(1) == label
        seen = np.stack([pictures(namer, shape, rng) for shape in shapes])
        right["pictures of the same views, frozen"] = (seen @ names.T).argmax(1) == label
        print(f"left out: {len(kinds)} kinds, {len(label)} shapes, of {len(KINDS)} names; chance {1 / len(KINDS):.1%}")
        for row, own in right.items():
            better = bootstrap(own.astype(float) - right["frozen"])
            print(f"{row}: {percent(bootstrap(own))}; minus frozen {percent(better)}")

    def _procedural(self, rng: np.random.Generator, kinds: list[int]) -> Data:
        """Shapes in held-out styles."""
        names = tuple(list(KINDS)[k] for k in kinds)
        label = np.repeat(np.arange(len(names)), self.each)
        return Data("held-out styles", [held_out_shape(rng, names[k], self.points).points for k in label], label, names)


def normalised(vectors: Float[np.ndarray, "rows dim"]) -> Float[np.ndarray, "rows dim"]:
    """The vectors at unit length."""
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def pictures(namer: ShapeNamer, shape: Shape, rng: np.random.Generator) -> Float[np.ndarray, " dim"]:
    """The mean vector of textured pictures of the views that a shape is named by: what tuning aims at."""
    seen = np.stack([picture(shape, turn, rng) for turn in orbit()])
    with torch.no_grad():
        pixels = torch.from_numpy(seen).permute(0, 3, 1, 2).float() / 255
        return namer.embed_views(pixels, 0.0).mean(0).cpu().numpy()


def view_vectors(namer: ShapeNamer, clouds: list[np.ndarray]) -> dict[float, Float[np.ndarray, "shapes views dim"]]:
    """Unit vectors of all views, by the tuned copy's part in the last stage."""
    found: dict[float, list[np.ndarray]] = {0.0: [], 0.5: []}
    for points in clouds:
        stems = stem(namer, relief(points))
        for share, row in found.items():
            row.append(embed(namer, stems, share))
    return {share: np.stack(row) for share, row in found.items()}


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
