"""Does a run's compressed basis answer as the full features do? Relevancy of many phrases, as a markdown table.

    python scripts/check_basis.py outputs/playroom/latest
    python scripts/check_basis.py outputs/playroom/latest --phrases 200 --kept 32

The run's photos are lifted once more, in full (from the cache, no photo is encoded), to points that no basis was fitted
to, and the phrases' relevancy there is compared with that of what is kept of these points: the order of the points for
each phrase (Spearman, mean and least over phrases) and each point's best phrase (top-1). The aim is 0.98 and 97 %.

"as lifted" is basis and coefficients as the stage `semantics` makes them; "the run's own" takes the same full vectors
into the basis in the run's file, which after portraits is another one. Coefficients are rounded to half floats, as in
the file. Phrases are drawn from the grammar and kinds of the synthetic rooms, and from synonyms that no caption has;
none is one of the run's, and a basis is never fitted to phrases. MB are what vectors and axes of all points take, kept
and in full.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

import numpy as np  # noqa: E402
import tyro  # noqa: E402
from start import start  # noqa: E402

from ovseg3d.errors import ConfigError  # noqa: E402
from ovseg3d.evaluate.metrics.relevancy import RelevancyScores, compare_relevancy  # noqa: E402
from ovseg3d.features.encode import load_features  # noqa: E402
from ovseg3d.features.maps import cosines  # noqa: E402
from ovseg3d.field.surface import Sight, SurfaceConfig, look  # noqa: E402
from ovseg3d.limits import Trust  # noqa: E402
from ovseg3d.points.basis import Basis  # noqa: E402
from ovseg3d.points.lift import LiftConfig, lift, lift_reduced  # noqa: E402
from ovseg3d.query.engine import Asker  # noqa: E402
from ovseg3d.query.relevancy import CANONICAL, relevancy  # noqa: E402
from ovseg3d.session import load  # noqa: E402
from ovseg3d.synth import KINDS  # noqa: E402
from ovseg3d.synth.captions import SYNONYMS, Said, article  # noqa: E402
from ovseg3d.synth.looks import COLOURS, TEXTURES  # noqa: E402


@dataclass(frozen=True)
class CheckBasis:
    """Compare what a run keeps of its features with the features."""

    run: Annotated[Path, tyro.conf.Positional]
    """A run that knows about meaning, whose features are in the cache."""
    phrases: int = 200
    """How many."""
    points: int = 4096
    """Surface points that are compared, at most."""
    kept: int = LiftConfig.kept
    """Numbers kept of a vector in the first row."""
    seed: int = 0
    """Of the choice of phrases and points."""
    cache_dir: Path | None = None
    """Where the cache of features is, if it has moved."""

    def main(self) -> None:
        """Lift, ask and print."""
        if self.phrases < 1 or self.points < 2 or self.kept < 1:
            raise ConfigError("There is nothing to compare", fix="--phrases 200 --points 4096 --kept 64")
        run = load(self.run, Trust(outside=True))  # its features are where it says
        scene, features = run.load_scene(), load_features(run, self.cache_dir)
        asker = Asker(run, scene)
        known, settings = asker.semantics, SurfaceConfig()
        text = asker.encode(phrases_not_in(asker.phrases, self.phrases, self.seed))
        canonical = asker.encode(CANONICAL)

        views = list(look(asker.renderer, [scene.frames[view].camera for view in scene.train], settings))
        xyz, cell = known.surface.xyz.astype(np.float64), known.surface.cell.astype(np.float64)
        sights = [view.see(xyz, cell, settings) for view in views]
        photos = [features[view].clip.at for view in scene.train]
        config = LiftConfig(kept=self.kept, seed=run.config.train.seed)
        some = self._some(sights, len(xyz), config)
        full = lift([view.see(xyz[some], cell[some], settings) for view in views], photos, len(some), config).vectors
        there = np.linalg.norm(full, axis=1) > 1e-6
        full, some = full[there], some[there]
        basis, lifted = lift_reduced(sights, photos, xyz, config)

        wanted = _relevancy(full, text, canonical)
        print(f"{run.folder}: {known.encoder.id}, {full.shape[1]} numbers a vector, {len(xyz):,} surface points\n")
        print("| basis | points | phrases | kept | rank correlation | least | top-1 | MB | MB in full |")
        print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
        for name, own, rows in (
            ("as lifted", basis, lifted.vectors[some]),
            ("the run's own", known.basis, known.basis.reduce(full)),
        ):
            unit = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
            found = _relevancy(unit.astype(np.float16).astype(np.float32), own.reduce(text), own.reduce(canonical))
            print(_row(name, own, len(xyz), len(full), compare_relevancy(wanted, found)), flush=True)

    def _some(self, sights: list[Sight], points: int, config: LiftConfig) -> np.ndarray:
        """Points that photos see and that `lift_reduced` does not fit its basis to, if there are any others."""
        seen = np.unique(np.concatenate([sight.point for sight in sights]))
        fitted = np.random.default_rng(config.seed).permutation(seen)[: config.samples]
        others = np.setdiff1d(seen, fitted)
        if len(others) < 2:
            print(f"All {len(seen):,} points that photos see are few enough to fit the basis to: they are compared.")
            others = seen
        return np.sort(np.random.default_rng([self.seed, 1]).permutation(others)[: self.points])


def phrases_not_in(known: tuple[str, ...], count: int, seed: int = 0) -> tuple[str, ...]:
    """Phrases that captions of rooms could say: synonyms, then kinds with a colour, a pattern or both, at random.

    Args:
        known: phrases that are left out, with and without an article.
    """
    random = np.random.default_rng(seed)
    patterns = [None, *(name for name, texture in TEXTURES.items() if texture.word)]
    made = [word for word, _ in SYNONYMS]
    pairs = [Said(kind, colour, pattern).phrase() for kind in KINDS for colour in COLOURS for pattern in patterns]
    made += [pairs[i] for i in random.permutation(len(pairs))]
    taken = {phrase.strip().casefold() for phrase in known}
    free = [article(one) for one in dict.fromkeys(made) if not {one.casefold(), article(one).casefold()} & taken]
    if count > len(free):
        raise ConfigError(f"The grammar has {len(free)} phrases, fewer than {count}", fix=f"--phrases {len(free)}")
    return tuple(free[:count])


def _relevancy(vectors: np.ndarray, text: np.ndarray, canonical: np.ndarray) -> np.ndarray:
    scores = relevancy(cosines(vectors, text), cosines(vectors, canonical))
    return scores.astype(np.float64)


def _row(name: str, basis: Basis, surface: int, points: int, found: RelevancyScores) -> str:
    dim, kept = basis.axes.shape
    size, whole = surface * kept * 2 + basis.axes.nbytes, surface * dim * 2
    return (
        f"| {name} | {points:,} | {len(found.spearman)} | {kept} | {found.spearman_mean:.4f} | {found.spearman_min:.4f}"
        f" | {found.top1:.1%} | {size / 1e6:.1f} | {whole / 1e6:.1f} |"
    )


if __name__ == "__main__":
    start(CheckBasis)
