"""Absence: false alarms on absent phrases against recall of present ones.

    python -m scripts.benchmarks.absence outputs/playroom/latest
    python -m scripts.benchmarks.absence outputs/room_*/latest --output absence.json --card CARD.json

Present phrases are the classes of the scene's labels, absent ones ten others for each run, or all (--every; see
ovseg3d/evaluate/absence.py). All runs share one threshold. Three decisions are reported, by their alternatives: the
default vocabulary and the present phrases, as in a run with phrases; the default vocabulary, as in a run without; and
canonical phrases alone. The curves are plotted beside the JSON file. With --card, the encoder's calibration is fitted
to the scores of the second decision, before any calibration, and written to its model card; the other figures are by
the calibration that it had.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from ovseg3d.errors import ConfigError
from ovseg3d.evaluate.absence import Alternatives, absence_scores, absent_phrases, every_absent_phrase
from ovseg3d.evaluate.measure import shown_classes
from ovseg3d.evaluate.metrics.absence import AbsenceCurve, AbsenceScores, absence_curve, measure_absence
from ovseg3d.files import read_json, write_atomic, write_json
from ovseg3d.query.engine import THRESHOLD, QueryEngine
from ovseg3d.session import load
from scripts.start import start
from scripts.training.calibration import calibrate

MODES: dict[str, Alternatives] = {"present": "present", "default": "default", "alone": "none"}
SAID = {
    "present": "default vocabulary and present phrases",
    "default": "default vocabulary",
    "alone": "canonical phrases alone",
}
"""The alternatives of each decision, for the plot's legend."""


@dataclass(frozen=True)
class Absence:
    """Query runs for present and for absent phrases."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Runs of scenes with labels."""
    output: Path = Path("absence.json")
    """The scores as JSON; the plot has the same name with .png."""
    card: Path | None = None
    """An encoder's model card, card.json, whose "calibration" is fitted to these runs."""
    every: bool = False
    """All kinds of objects that a run has not, in place of ten phrases."""
    recall: float = 0.8
    """Least recall at which false alarms are counted, above 0 and up to 1."""

    def main(self) -> None:
        """Write both files, and print a line for each decision."""
        if not 0 < self.recall <= 1:
            raise ConfigError(f"--recall is a share above 0 and up to 1, not {self.recall:g}", fix="--recall 0.8")
        card = None if self.card is None else read_json(self.card, ConfigError)
        scores: dict[str, tuple[dict, dict]] = {mode: ({}, {}) for mode in MODES}
        plain: tuple[dict, dict] = ({}, {})
        for path in self.runs:
            run = load(path)
            scene = run.load_scene()
            name = run.scene_name if run.scene_name not in scores["present"][0] else str(run.folder)
            present = shown_classes(scene)
            engine = QueryEngine(run, scene)
            absent = (every_absent_phrase if self.every else absent_phrases)(present)
            for mode, alternatives in MODES.items():
                there, missing = absence_scores(engine, present, absent, alternatives=alternatives)
                scores[mode][0][name], scores[mode][1][name] = there, missing
            if card is not None:
                asked = absence_scores(engine, present, absent, alternatives="default", calibrated=False)
                plain[0][name], plain[1][name] = asked
        found = {mode: measure_absence(*sides, recall=self.recall) for mode, sides in scores.items()}
        curves = {mode: absence_curve(*(_pooled(side) for side in sides)) for mode, sides in scores.items()}
        results = {}
        for mode, one in found.items():
            recall, alarms = curves[mode].at_threshold(THRESHOLD)
            results[mode] = {
                **one.as_dict(), "at_usual_threshold": {"threshold": THRESHOLD, "recall": recall, "false": alarms},
                "scores": {"present": scores[mode][0], "absent": scores[mode][1]},
            }  # fmt: skip
            print(
                f"{mode:9} {one.false_alarm_rate:.0%} of {one.absent} absent phrases answered"
                f" at {one.recall:.0%} recall of {one.present};"
                f" area {one.area:.3f}; at {THRESHOLD:g}: {alarms:.0%} at {recall:.0%}"
            )
        write_json(self.output, results)
        if card is not None:
            fitted = calibrate(*plain, engine.canonical, engine.clip.weight_hash)
            write_json(self.card, {**card, "calibration": fitted})
            print(f"calibration: {fitted}")
        draw(self.output.with_suffix(".png"), curves, found)


def _pooled(side: dict[str, dict[str, float]]) -> np.ndarray:
    return np.array([score for scene in side.values() for score in scene.values()])


def draw(path: Path, curves: dict[str, AbsenceCurve], found: dict[str, AbsenceScores]) -> None:
    """Plot recall over false alarms of each decision, and mark the measured points."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 4.6), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for (mode, curve), style in zip(curves.items(), ("-", "--", "-")):  # the first two often coincide
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
    axes.legend(loc="lower right", title="area, by alternatives")
    write_atomic(path, figure.savefig)


if __name__ == "__main__":
    start(Absence)
