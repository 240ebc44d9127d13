"""Leave one stage of the instances or of the answers out, and measure what it earns.

    python -m scripts.benchmarks.leave_one_out outputs/room/run --output outputs/leave_one_out

Rows of instances learn the semantics of a copy of the run again, on the same surface and features; rows of answers ask
the run as it is. Figures are shares. In a synthetic room they are against its exact cloud: mIoU of the points told the
room's names (`points`) and of what each phrase alone selects (`phrases`), recall and precision of instances at point
IoU 0.5. In a capture with labels drawn by hand (scripts/benchmarks/labels, development views): mIoU of masks
(`phrases`), recall and precision of instances at box IoU 0.25. In both, at the shipped threshold, the shares of present
phrases that are found and of absent ones that are refused. Rows are kept in OUTPUT, by run; an existing one is not
measured again. Never use the rooms for reports.
"""

import shutil
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any
from unittest.mock import patch

import numpy as np
import tyro
from scipy.special import expit

from ovseg3d.errors import RunError
from ovseg3d.evaluate.absence import absence_scores, every_absent_phrase
from ovseg3d.evaluate.measure import classes_of
from ovseg3d.evaluate.metrics.instances import InstanceScores
from ovseg3d.evaluate.metrics.lerf import read_lerf_folder
from ovseg3d.evaluate.metrics.phrases import SelectionScores
from ovseg3d.evaluate.metrics.points import PointScores
from ovseg3d.evaluate.protocols import Evaluator
from ovseg3d.files import read_json, write_json
from ovseg3d.pipeline import semantics
from ovseg3d.pipeline.train import train_scene
from ovseg3d.points.lift import LiftConfig
from ovseg3d.points.semantic_scene import SemanticScene
from ovseg3d.query.answer import THRESHOLD
from ovseg3d.query.candidates import Candidates
from ovseg3d.query.engine import QueryEngine
from ovseg3d.query.shape_prior import ShapePrior
from ovseg3d.session import load
from scripts.benchmarks.answers import LABELS, absence, boxes, in_3d
from scripts.start import start

COLUMNS = ("points", "phrases", "recall", "precision", "present", "refused")
Row = dict[str, float]

_all_candidates, _shape_odds = Candidates.of, ShapePrior.log_odds


def without_crops(scene: SemanticScene) -> Candidates:
    """The candidates of a scene as if instances had not been encoded from crops."""
    return _all_candidates(replace(scene, instance_crops=None))


def without_fragments(scene: SemanticScene) -> Candidates:
    """The candidates of a scene without rejected fragments."""
    return _all_candidates(replace(scene, pieces=None))


def without_joined(scene: SemanticScene) -> Candidates:
    """The candidates of a scene without joined objects."""
    return _all_candidates(replace(scene, parents=None))


_SUPERPOINTS, _PIPELINE, _QUERY = "ovseg3d.instances.superpoints", "ovseg3d.pipeline.semantics", "ovseg3d.query"
INSTANCES: dict[str, dict[str, Any]] = {
    "agreement of photos": {f"{_PIPELINE}.LiftConfig": partial(LiftConfig, rounds=0)},
    "smoothing": {f"{_PIPELINE}.smooth": lambda vectors, *_: vectors},
    "layout": {f"{_SUPERPOINTS}.find_layout": lambda *_: []},
    # It merges, keeps objects out of the layout, chooses instances, and names them by shape.
    "detection head": {f"{_PIPELINE}.segment": lambda *_: None},
}
"""What replaces each stage of the surface's features and instances."""
ANSWERS: dict[str, dict[str, Any]] = {
    "hubness correction": {f"{_QUERY}.similarity.shifts": lambda own, *_: np.zeros(len(own))},
    "names by shape": {f"{_QUERY}.shape_prior.ShapePrior.log_odds": lambda *given: 0 * _shape_odds(*given)},
    "layout prior": {f"{_QUERY}.layout_prior.LOG_ODDS": 0.0},
    "local centring": {f"{_QUERY}.candidates.Candidates.nearer": lambda _self, cosines: cosines},
    "instance crops of candidates": {f"{_QUERY}.scene_decision.Candidates.of": without_crops},
    "rejected fragments": {f"{_QUERY}.scene_decision.Candidates.of": without_fragments},
    "joined objects": {f"{_QUERY}.scene_decision.Candidates.of": without_joined},
    "default vocabulary": {f"{_QUERY}.vocabulary.Vocabulary.default_vocabulary": lambda *_: ()},
    "near synonyms": {f"{_QUERY}.default_vocabulary.SYNONYM_COSINE": 2.0},
    "half of the best log odds": {f"{_QUERY}.scene_decision.relevancies": expit},
}
"""What replaces each stage of the answers."""


@dataclass(frozen=True)
class LeaveOneOut:
    """Leave stages of a run out, one at a time, and print a markdown table."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """A run with semantics, of a synthetic room or of a labelled capture."""
    output: Path = Path("outputs/leave_one_out")
    """Folder of the rows."""
    rows: str = ""
    """Which rows, with commas; by default all."""

    def main(self) -> None:
        """Measure the rows that are missing, and print the table."""
        asked = [name.strip() for name in self.rows.split(",") if name.strip()]
        print(f"| left out | {' | '.join(COLUMNS)} |\n|{' --- |' * (1 + len(COLUMNS))}")
        with ExitStack() as stack:
            stack.enter_context(_once())
            for name, changes in {"nothing": {}, **INSTANCES, **ANSWERS}.items():
                if asked and name not in ("nothing", *asked):
                    continue
                row = self._kept(name, changes)
                print(f"| {name} | {' | '.join(f'{row[c]:.1%}' if c in row else '-' for c in COLUMNS)} |", flush=True)

    def _kept(self, name: str, changes: dict[str, Any]) -> Row:
        path = self.output / self.run.resolve().parent.name / f"{name}.json"
        if path.is_file():
            return read_json(path, RunError)
        with ExitStack() as stack:
            for target, value in changes.items():
                stack.enter_context(patch(target, value))
            row = measure(path.with_name("nothing") if name in ANSWERS else self._learnt(path.with_suffix("")))
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, row)
        return row

    def _learnt(self, folder: Path) -> Path:
        """A copy of the run whose semantics are learnt again."""
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.run, folder)
        run = load(folder)
        train_scene(run.load_scene(), replace(run.config, only="semantics"), resume=run)
        return folder


@contextmanager
def _once() -> Generator[None, None, None]:
    """Surface and lifted features are computed once: no row but the first two changes them."""
    results: dict[Any, Any] = {}

    def kept(name: str, made: Callable[..., Any]) -> Callable[..., Any]:
        def once(*given: Any) -> Any:
            key = name, None if name == "survey" else (semantics.smooth, semantics.LiftConfig)
            return results[key] if key in results else results.setdefault(key, made(*given))

        return once

    class Trainer(semantics.FeatureTrainer):
        learn = kept("learn", semantics.FeatureTrainer.learn)

    with ExitStack() as stack:
        for name in ("survey", "lift_photos", "appearances"):
            stack.enter_context(patch.object(semantics, name, kept(name, getattr(semantics, name))))
        stack.enter_context(patch.object(semantics, "FeatureTrainer", Trainer))
        yield


def measure(run: Path) -> Row:
    """The figures of a run."""
    engine = QueryEngine(load(run))
    labels = LABELS / engine.scene.name
    return measure_labelled(engine, labels) if labels.is_dir() else measure_room(engine)


def measure_room(engine: QueryEngine) -> Row:
    """The figures of a synthetic room's run."""
    scores = Evaluator(engine).scores(("points", "selection", "instances"))
    points, phrases, instances = (scores[name]["scene"] for name in ("points", "selection", "instances"))
    assert isinstance(points, PointScores) and isinstance(instances, InstanceScores)
    assert isinstance(phrases, SelectionScores)
    there = classes_of(engine.scene)
    present, absent = absence_scores(engine, there, every_absent_phrase(there))
    return {
        "points": points.point_miou,
        "phrases": phrases.miou,
        "recall": instances.recall_50,
        "precision": instances.precision_50,
        "present": float(np.mean([score >= THRESHOLD for score in present.values()])),
        "refused": float(np.mean([score < THRESHOLD for score in absent.values()])),
    }


def measure_labelled(engine: QueryEngine, labels: Path) -> Row:
    """The figures of a run of a capture with labels drawn by hand."""
    frames = read_lerf_folder(labels / "development")
    row = {"phrases": in_3d(engine, frames)["mask_miou"], **absence(engine, frames, labels)}
    if found := boxes(engine, labels):
        row |= {"recall": found["recall_25"], "precision": found["precision_25"]}
    return row


if __name__ == "__main__":
    start(LeaveOneOut)
