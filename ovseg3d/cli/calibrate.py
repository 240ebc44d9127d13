"""`ovseg3d calibrate`: fits presence in a run to a few yes and no answers."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ovseg3d.cli.flags import Json, RunPath, Where, WhereFlags, refuse_idle
from ovseg3d.errors import ConfigError

if TYPE_CHECKING:
    from ovseg3d.query.engine import QueryEngine
    from ovseg3d.query.kept_calibration import Label


@dataclass(frozen=True)
class Calibrate:
    """Fit presence to a few yes and no answers: when is a phrase in this run's scene, and when is it not?

    Without --labels you are asked about phrases in the terminal, first those whose answers tell most. The run keeps the
    answers and the calibration; query, the viewer and all other commands use it from now on, and say so. Later answers
    add to earlier ones. A few answers move the calibration little.

    Examples:
      ovseg3d calibrate outputs/my_room/latest
      ovseg3d calibrate outputs/my_room/latest --phrases "sofa;piano;red chair"
      ovseg3d calibrate outputs/my_room/latest --labels labels.csv
    """

    run: RunPath
    labels: Path | None = None
    """A file of labels: CSV with a header phrase,present and for places in photos image,x,y; or JSON, a list of objects
    with these keys. present is yes or no."""
    phrases: str | None = None
    """Ask about these: phrases separated by semicolons, or a file with one per line; by default those of the run and
    everyday words."""
    count: int = 10
    """Number of questions, without --phrases."""
    reset: bool = False
    """Remove the calibrations and answers that the run keeps; with --labels or --phrases, begin anew with these."""
    where: WhereFlags = Where()
    json: Json = False

    def main(self) -> None:
        """Ask or read, fit, and print what was fitted. Raises ConfigError: there is nothing to calibrate with."""
        from ovseg3d.cli.console import get_console, print_json, shell_path
        from ovseg3d.query.kept_calibration import read_labels, remove_calibrations
        from ovseg3d.runs.phrases import read_list

        if self.count < 1:
            raise ConfigError(f"--count must be 1 or more, not {self.count}", fix="--count 10")
        asks = self.labels is None and not (self.reset and self.phrases is None)
        refuse_idle(
            self, ("phrases", self.labels is None, "without --labels"),
            ("count", asks and self.phrases is None, "without --labels, --phrases and --reset"),
        )  # fmt: skip
        console = get_console(self.json)
        given = None if self.labels is None else read_labels(self.labels)
        phrases = None if self.phrases is None else read_list(self.phrases)
        if asks and not sys.stdin.isatty():
            raise ConfigError(
                "There are no labels, and nobody to ask: the input is no terminal", fix="--labels labels.csv"
            )
        run = self.where.load(self.run)
        result: dict[str, Any] = {"run": run.folder, "removed": False, "labels": 0, "file": None}
        if given is not None or asks:
            engine = self.where.engine(run, run.load_scene(self.where.scene))
            if self.reset:
                engine.decision.kept_calibration = None  # also if it is damaged
            given = self._asked(engine, phrases, console) if given is None else given
            result |= self._fitted(engine, given) if given else {}
        elif self.reset:
            result["removed"] = remove_calibrations(run.folder)
        removed = result["removed"]
        if self.json:
            print_json(result)
            return
        if removed:
            console.print("The calibrations of this run are removed.")
        if given:
            console.print(
                f"Calibrated by {result['labels']} labels: log odds x {result['slope']:.2f} {result['offset']:+.2f}."
                f" {result['agree']} labels agree with the answers now, {result['agree_before']} did before.",
                soft_wrap=True,
            )
            console.print(f"  {shell_path(result['file'])}", markup=False, soft_wrap=True)
        elif not removed:
            nothing = "No answer, so nothing has changed." if asks else "There is no calibration to remove."
            console.print(nothing)

    def _fitted(self, engine: "QueryEngine", labels: Sequence["Label"]) -> dict[str, Any]:
        """Fit to labels, and what is said about it."""
        from ovseg3d.query import calibrate
        from ovseg3d.query.kept_calibration import FILE

        before, file = engine.decision.calibration, engine.run.folder / FILE
        removed = self.reset and file.exists()
        kept = calibrate.calibrate(engine, labels, anew=self.reset)
        odds, present = calibrate.evidence(engine, kept.labels), [label.present for label in kept.labels]
        agree = [int(((one.log_odds(odds) >= 0) == present).sum()) for one in (before, kept.calibration)]
        return {
            "removed": removed, "labels": len(kept.labels),
            "slope": kept.calibration.slope, "offset": kept.calibration.offset,
            "agree_before": agree[0], "agree": agree[1], "file": file,
        }  # fmt: skip

    def _asked(self, engine: "QueryEngine", phrases: tuple[str, ...] | None, console: Any) -> list["Label"]:
        """The user's answers. An empty answer skips a question; q, or the end of the input, ends them."""
        from ovseg3d.query import calibrate
        from ovseg3d.query.kept_calibration import Label

        answers: list[Label] = []
        for phrase in calibrate.questions(engine, self.count) if phrases is None else phrases:
            while True:
                console.print(f'Does the scene show "{phrase}"? y, n, Enter to skip, q to end: ', markup=False, end="")
                said = sys.stdin.readline()
                word = said.strip().casefold()
                if said == "" or word in ("q", "quit"):
                    return answers
                if word in ("", "y", "yes", "n", "no"):
                    break
            if word:
                answers.append(Label(phrase, word.startswith("y")))
        return answers
