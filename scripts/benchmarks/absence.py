"""Does a run know what is not there? False alarms on absent phrases against recall of present ones.

    python -m scripts.benchmarks.absence outputs/playroom/latest
    python -m scripts.benchmarks.absence outputs/room_*/latest --output absence.json --card CARD.json

Present phrases are those that the scene's labels name, absent ones ten others for each run (see
ovseg3d/evaluate/absence.py). One threshold serves all runs. Three decisions are told: with what rooms hold and what is
present as rivals, as in a run with phrases; with what rooms hold, as in one without; and with canonical phrases alone.
Beside the JSON file lies the curve as a picture. With --card the second decision's scores also become the calibration
of the encoder that the runs were made with.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from ovseg3d.errors import ConfigError
from ovseg3d.evaluate.absence import Alternatives, absence_scores, absent_phrases
from ovseg3d.evaluate.measure import shown_classes
from ovseg3d.evaluate.metrics.absence import AbsenceCurve, AbsenceScores, absence_curve, measure_absence
from ovseg3d.files import read_json, write_atomic, write_json
from ovseg3d.instances.layout import NONE
from ovseg3d.query.engine import THRESHOLD, QueryEngine
from ovseg3d.query.room import bare_plane_of
from ovseg3d.session import load
from scripts.start import start
from scripts.training.calibration import calibrate

MODES: dict[str, Alternatives] = {"present": "present", "default": "default", "alone": "none"}
SAID = {
    "present": "what rooms hold, and what is present",
    "default": "what rooms hold",
    "alone": "canonical phrases alone",
}
"""What competes with a phrase in each decision, for the picture."""


@dataclass(frozen=True)
class Absence:
    """Ask runs for what is there and for what is not."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Runs of scenes with labels."""
    output: Path = Path("absence.json")
    """Where scores go; the picture has the same name with .png."""
    card: Path | None = None
    """An encoder's card.json, whose "calibration" is fitted to these runs."""
    recall: float = 0.8
    """At which false alarms are counted, above 0 and up to 1."""

    def main(self) -> None:
        """Write both files, and print a line for each decision."""
        if not 0 < self.recall <= 1:
            raise ConfigError(f"--recall is a share above 0 and up to 1, not {self.recall:g}", fix="--recall 0.8")
        card = None if self.card is None else read_json(self.card, ConfigError)
        scores: dict[str, tuple[dict, dict]] = {mode: ({}, {}) for mode in MODES}
        for path in self.runs:
            run = load(path)
            scene = run.load_scene()
            name = run.scene_name if run.scene_name not in scores["present"][0] else str(run.folder)
            present = shown_classes(scene)
            engine = QueryEngine(run, scene)
            for mode, alternatives in MODES.items():
                there, missing = absence_scores(engine, present, absent_phrases(present), alternatives=alternatives)
                scores[mode][0][name], scores[mode][1][name] = there, missing
        found = {mode: measure_absence(*sides, recall=self.recall) for mode, sides in scores.items()}
        curves = {mode: absence_curve(*(_pooled(side) for side in sides)) for mode, sides in scores.items()}
        told = {}
        for mode, one in found.items():
            recall, alarms = curves[mode].at_threshold(THRESHOLD)
            told[mode] = {
                **one.as_dict(), "at_usual_threshold": {"threshold": THRESHOLD, "recall": recall, "false": alarms},
                "scores": {"present": scores[mode][0], "absent": scores[mode][1]},
            }  # fmt: skip
            print(
                f"{mode:9} {one.false_alarm_rate:.0%} of {one.absent} absent phrases answered"
                f" at {one.recall:.0%} recall of {one.present};"
                f" area {one.area:.3f}; at {THRESHOLD:g}: {alarms:.0%} at {recall:.0%}"
            )
        write_json(self.output, told)
        if card is not None:
            felt = [{name: _by_looks(side) for name, side in sides.items()} for sides in scores["default"]]
            fitted = calibrate(*felt, engine.canonical, engine.clip.weight_hash)
            write_json(self.card, {**card, "calibration": fitted})
            print(f"calibration: {fitted}")
        draw(self.output.with_suffix(".png"), curves, found)


def _by_looks(scores: dict[str, float]) -> dict[str, float]:
    """Without what the place of a plane may say: no probability is told of that."""
    return {phrase: score for phrase, score in scores.items() if bare_plane_of(phrase) == NONE}


def _pooled(side: dict[str, dict[str, float]]) -> np.ndarray:
    return np.array([score for scene in side.values() for score in scene.values()])


def draw(path: Path, curves: dict[str, AbsenceCurve], found: dict[str, AbsenceScores]) -> None:
    """Recall over false alarms of each decision, with the points that were measured."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 4.6), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for (mode, curve), style in zip(curves.items(), ("-", "--", "-")):  # the first two often lie on each other
        name = f"{SAID[mode]}: {curve.area:.2f}"
        (line,) = axes.step(curve.false_alarm_rate, curve.recall, style, where="post", label=name)
        one = found[mode]
        axes.plot(one.false_alarm_rate, one.recall, "o", color=line.get_color())
    axes.axvline(0.1, color="grey", linewidth=0.5)
    axes.axhline(0.8, color="grey", linewidth=0.5)
    axes.set(
        xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel="absent phrases answered", ylabel="present phrases answered",
        title=f"{next(iter(found.values())).present} present, {next(iter(found.values())).absent} absent phrases",
    )  # fmt: skip
    axes.legend(loc="lower right", title="area, with these rivals")
    write_atomic(path, figure.savefig)


if __name__ == "__main__":
    start(Absence)
