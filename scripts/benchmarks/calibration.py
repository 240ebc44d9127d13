"""What a few labels are worth: calibrations fitted to some phrases of a run, measured on its other phrases.

    python -m scripts.benchmarks.calibration RUN RUN RUN

Phrases are those of the protocol `absence` in synthetic rooms, and of the labels in labelled captures; each is asked as
a user would. In each of 200 draws, K phrases are labelled at random and the others are measured. Prints a markdown
table: the Brier score and the share of right answers (in or not in the scene) at the shipped threshold, with present
and absent phrases weighted equally, means over draws and runs. *Unregularised* fits without a prior.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from jaxtyping import Bool, Float
from scipy.optimize import minimize
from scipy.special import expit

from ovseg3d.evaluate.absence import absent_phrases
from ovseg3d.evaluate.measure import classes_of
from ovseg3d.evaluate.metrics.lerf import read_lerf_folder
from ovseg3d.query.calibrate import evidence, prior_of
from ovseg3d.query.calibration import Calibration, Prior, fit
from ovseg3d.query.engine import QueryEngine
from ovseg3d.query.kept_calibration import Label
from ovseg3d.session import load
from scripts.benchmarks.answers import LABELS, phrases_of
from scripts.start import start

COUNTS, DRAWS = (0, 2, 5, 10, 20), 200


@dataclass(frozen=True)
class CalibrationBenchmark:
    """Measure calibrations by few labels."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN...")]
    """Runs of synthetic rooms or of labelled captures."""

    def main(self) -> None:
        """Print the table."""
        scenes = [phrases_and_odds(QueryEngine(load(run))) for run in self.runs]
        print("| labels | Brier, shipped | with prior | unregularised | right, shipped | with prior | unregularised |")
        print("|" + " --- |" * 7)
        for count in COUNTS:
            rows = np.mean([figures(*scene, count) for scene in scenes], 0)
            print(
                f"| {count} | {' | '.join(f'{x:.3f}' for x in rows[:3])} | {' | '.join(f'{x:.1%}' for x in rows[3:])} |"
            )


def phrases_and_odds(
    engine: QueryEngine,
) -> tuple[Float[np.ndarray, " phrases"], Bool[np.ndarray, " phrases"], Prior]:
    """Uncalibrated log odds of a run's present and absent phrases, and what is known before any label."""
    folder = LABELS / engine.scene.name
    if folder.is_dir():
        there = phrases_of(read_lerf_folder(folder / "development"))
        missing = [line for line in (folder / "absent.txt").read_text().split("\n") if line]
    else:
        there = list(classes_of(engine.scene))
        missing = list(absent_phrases(there))
    labels = [*(Label(name, True) for name in there), *(Label(name, False) for name in missing)]
    return evidence(engine, labels), np.array([label.present for label in labels]), prior_of(engine)


def figures(
    odds: Float[np.ndarray, " phrases"], present: Bool[np.ndarray, " phrases"], prior: Prior, count: int
) -> list[float]:
    """Brier scores and shares of right answers of three calibrations on phrases without a label."""
    found, random = [], np.random.default_rng(0)
    kinds: list[Callable[..., Calibration]] = [lambda *_: prior.mean, fit, plain_fit]
    for _ in range(DRAWS):
        order = random.permutation(len(odds))
        given, rest = order[:count], order[count:]
        weight = np.where(present[rest], 0.5 / max(present[rest].sum(), 1), 0.5 / max((~present[rest]).sum(), 1))
        chance = [expit(kind(odds[given], present[given], prior).log_odds(odds[rest])) for kind in kinds]
        brier = [float(weight @ (p - present[rest]) ** 2) for p in chance]
        found.append([*brier, *(float(weight @ ((p >= 0.5) == present[rest])) for p in chance)])
    return np.mean(found, 0).tolist()


def plain_fit(odds: np.ndarray, present: np.ndarray, prior: Prior) -> Calibration:
    """Platt scaling by maximum likelihood, from 30 steps of BFGS: separable labels have no finite solution."""
    if not len(odds):
        return prior.mean

    def loss(numbers: np.ndarray) -> float:
        z = numbers[0] * odds + numbers[1]
        return float(np.logaddexp(0, np.where(present, -z, z)).sum())

    slope, offset = minimize(loss, [prior.mean.slope, prior.mean.offset], method="BFGS", options={"maxiter": 30}).x
    return Calibration(float(slope), float(offset))


if __name__ == "__main__":
    start(CalibrationBenchmark)
