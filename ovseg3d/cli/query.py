"""`ovseg3d query`: where in a run something is, as points, instances and images."""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import tyro

from ovseg3d.cli.flags import Json, RunsPath, Templates, Where, WhereFlags, refuse_idle
from ovseg3d.cli.many import Many, ManyFlags
from ovseg3d.cli.many_runs import Output, are_many, over_runs
from ovseg3d.errors import ConfigError, EncoderError, Ovseg3dError
from ovseg3d.limits import shorten

SHOWN = 8
"""Most instances that are printed of an answer."""


@dataclass(frozen=True)
class Query:
    """Find where something is in a run: points, instances, and a mask for each view.

    Questions about places are checked on instances: on, under, above, in, next to, between, in front of, behind, left
    and right of, facing, nearest, farthest, largest, smallest, and counts ("how many chairs are there?").

    The answer to a phrase is written to the run's exports/ folder: the points, and an image for each view. A call can
    have several phrases. Absent phrases are reported as absent; this is no error. A phrase that cannot be asked is
    stated, and the others are answered.

    Examples:
      ovseg3d query outputs/playroom/latest "a red chair"
      ovseg3d query outputs/playroom/latest "the mug on the desk" "which chairs face the window?"
      ovseg3d query outputs/playroom/latest chair lamp --negative "office chair;desk lamp" --views all
    """

    stoppable: ClassVar[bool] = False
    run: RunsPath
    asked: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="PHRASE...")]
    """What to look for, as free text."""
    negative: str | None = None
    """What is not meant: phrases separated by semicolons, or a file with one per line."""
    canonical: str | None = None
    """Canonical phrases that every phrase is compared with, in the same form; by default those of the encoder's
    calibration, or else object; things; stuff; texture."""
    phrases: str | None = None
    """Alternatives that may be in the scene: phrases separated by semicolons, a file with one per line, or none; by
    default the run's phrases (except its own word for the query) and the default vocabulary of rooms. What matches an
    alternative better than the query is not part of the answer."""
    templates: Templates = None
    threshold: float = 0.5
    """Minimum score to report a phrase as present, and minimum relevancy of a point, 0 to 1. Both are probabilities
    where a calibration is known; 0.5: as likely the phrase as not."""
    views: Literal["held-out", "train", "all", "none"] | None = None
    """Views to draw masks for; by default the held-out ones, or some of all views if none is held out."""
    camera: str | None = None
    """Measure distances from this photo's camera, and see "left of" and "right of" from there."""
    output: Path | None = None
    """Folder for the files; by default exports/query in the run. For several runs it has a folder for each, with the
    ledger results.jsonl, and the same command again does what is missing."""
    many: ManyFlags = Many()
    where: WhereFlags = Where()
    json: Json = False

    def main(self) -> int:
        """Answer and print the paths of the files. Raises ConfigError: no phrase was given."""
        from ovseg3d.cli.console import print_json

        if not self.asked:
            raise ConfigError("No phrase was given", fix='such as: ovseg3d query RUN "a red chair"')
        run = next((said for said in self.asked if _is_run(said)), None)
        if run is not None:
            raise ConfigError(
                f"{run} is a run, not a phrase: this command takes one run, and then phrases",
                fix='for several runs, their folder or a quoted glob: ovseg3d query "outputs/*" "a red chair"',
            )
        several = are_many((self.run,), self.many)
        refuse_idle(self, ("scene", not several, "with one run"), ("camera", not several, "with one run"))
        result, code = over_runs(self, (self.run,), self.many, self.output)
        if self.json:
            print_json(result)
        return code

    def use(self, path: Path, folder: Path | None, output: Output) -> dict[str, Any]:
        """Ask one run."""
        from ovseg3d.cli.console import shell_path
        from ovseg3d.export.answers import save_answers
        from ovseg3d.render.views import choose_views
        from ovseg3d.runs.phrases import in_list, read_list
        from ovseg3d.scene import describe_scale

        console = output.console
        run = self.where.load(path)
        scene = run.load_scene(self.where.scene)
        engine = self.where.engine(run, scene, self.templates)
        alternatives = None if self.phrases is None else () if self.phrases == "none" else read_list(self.phrases)
        negatives = () if self.negative is None else read_list(self.negative, "--negative")
        canonical = None if self.canonical is None else read_list(self.canonical, "--canonical")
        chosen = () if self.views == "none" else choose_views(scene, self.views)
        names = [scene.frames[view].name for view in chosen]
        start = time.monotonic()
        asked = _ask_each(
            engine,
            tuple(dict.fromkeys(phrase for said in self.asked for phrase in in_list(said) or [""])),
            alternatives=alternatives,
            negatives=negatives,
            canonical=canonical,
            threshold=self.threshold,
            camera=self.camera,
        )
        seconds = time.monotonic() - start
        answers = [one for one in asked.values() if not isinstance(one, Ovseg3dError)]
        refused = {phrase: one for phrase, one in asked.items() if isinstance(one, Ovseg3dError)}
        described = save_answers(folder or run.exports / "query", engine, answers, names)
        guess = None if scene.metric else engine.metres
        result = {"run": run.folder, **describe_scale(scene.metres_per_unit), "metres_per_unit_guess": guess,
                  "frame": "input",
                  "query_seconds": seconds, "answers": described,
                  "refused": [{"phrase": said, "error": str(error)} for said, error in refused.items()]}  # fmt: skip
        if self.json:
            return result
        for answer, files in zip(answers, described):
            console.print(_sentence(answer), markup=False, soft_wrap=True)
            if answer.relation is not None and answer.relation.text:
                console.print(f"  {answer.relation.text}", markup=False, soft_wrap=True)
            for instance in answer.instances[:SHOWN]:
                console.print(_instance(instance, answer.phrase, scene.unit), markup=False, soft_wrap=True)
            if len(answer.instances) > SHOWN:
                console.print(f"  and {len(answer.instances) - SHOWN} more, which --json lists", markup=False)
            for kind in ("image", "points"):
                if files[kind]:
                    console.print(f"  {kind}: {shell_path(files[kind])}", markup=False, soft_wrap=True)
        for phrase, error in refused.items():
            console.print(_refusal(phrase, error), markup=False, soft_wrap=True)
        if guess is not None and any(answer.instances for answer in answers):
            estimate = f"The capture has no scale. If its cameras were held by hand, a unit is about {guess:.2g} m"
            hint = f"{estimate} (set it with ovseg3d train --scale {guess:.2g})."
            console.print(hint, markup=False, soft_wrap=True)
        return result


def _is_run(said: str) -> bool:
    """Whether a phrase is the path of a run: several were given, or the shell has expanded a glob."""
    try:
        return os.path.isfile(os.path.join(said, "config.json"))
    except ValueError:  # no path can be so
        return False


def _ask_each(engine: Any, phrases: tuple[str, ...], **criteria: Any) -> dict[str, Any]:
    """By phrase its answer, or why it cannot be asked.

    Args:
        engine: of the run.
        phrases: asked one by one, so that one cannot end the others.
        criteria: keyword arguments of `QueryEngine.ask`.

    Raises:
        ConfigError, EncoderError: no phrase can be asked.
        RunError: the encoder has other weights than the run's.
    """
    asked: dict[str, Any] = {}
    _ = engine.clip  # an encoder that is missing is no fault of a phrase
    for phrase in phrases:
        try:
            (asked[phrase],) = engine.ask([phrase], **criteria)
        except (ConfigError, EncoderError) as error:
            asked[phrase] = error
    errors = {str(one): one for one in asked.values() if isinstance(one, Ovseg3dError)}
    if all(isinstance(one, Ovseg3dError) for one in asked.values()):
        if len(errors) == 1:  # such as an unknown camera
            raise next(iter(errors.values()))
        said = "; ".join(f'"{shorten(phrase)}": {error.what}' for phrase, error in asked.items())
        fixes = dict.fromkeys(error.fix for error in asked.values() if error.fix)
        raise ConfigError(f"None of the {len(asked)} phrases can be asked: {said}", fix="; ".join(fixes) or None)
    return asked


def _refusal(phrase: str, error: Ovseg3dError) -> str:
    fix = "" if error.fix is None else f" ({error.fix})"
    return f'"{shorten(phrase)}" cannot be asked: {error.what}{fix}.'


def _sentence(answer: Any) -> str:
    word = "score" if answer.probability is None else "probability"
    found = f"{word} {answer.score:.2f}, threshold {answer.threshold:g}"
    if answer.calibrated_by == "labels":
        found += ", calibrated by the labels of this run"
    if not answer.present:
        better = f'; the best match is more like "{answer.alternative}"' if answer.alternative else ""
        return f'"{answer.phrase}" is not in this scene ({found}){better}.'
    count = len(answer.instances)
    instances = f"{count} instance{'s' if count != 1 else ''}, " if count else ""
    return f'"{answer.phrase}": {instances}{len(answer.points):,} points ({found}).'


def _instance(instance: Any, phrase: str, unit: str) -> str:
    size = " x ".join(f"{length:.2f}" for length in instance.size)
    center = ", ".join(f"{value:.2f}" for value in instance.center)
    distance = "" if instance.distance is None else f", {instance.distance:.2f} {unit} away"
    name = f" {instance.label}," if instance.label and instance.label != phrase else ""
    return f"  {instance.id}:{name} {size} {unit} at ({center}){distance}, relevancy {instance.score:.2f}"
