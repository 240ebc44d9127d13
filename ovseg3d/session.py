"""The Python interface: `load(path)` returns a `Run` that answers queries, detects objects, says which way they face,
and writes exports.

run = ovseg3d.load("outputs/playroom/latest")
run.query("a red chair").instances
run.detect()
run.pose()
run.export("cloud,html")
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, get_args, overload

from ovseg3d.errors import ConfigError
from ovseg3d.export.run import export_run
from ovseg3d.heads.detection import Detection
from ovseg3d.limits import NO_TRUST, Trust
from ovseg3d.query import calibrate
from ovseg3d.query.calibration import Calibration
from ovseg3d.query.engine import Answer, QueryEngine
from ovseg3d.query.kept_calibration import Label, read_labels
from ovseg3d.query.poses import InstancePose, keep_poses, pose_in_run
from ovseg3d.runs.config import Layout
from ovseg3d.runs.folder import RunFolder, open_run
from ovseg3d.runs.phrases import in_list


class Run(RunFolder):
    """A trained run with queries, detections, poses and exports.

    The encoder and the rendered views are kept for the next query.
    """

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r})"

    @overload
    def query(self, phrase: str, **options: Any) -> Answer: ...
    @overload
    def query(self, phrase: list[str] | tuple[str, ...], **options: Any) -> list[Answer]: ...
    def query(self, phrase: str | list[str] | tuple[str, ...], **options: Any) -> Answer | list[Answer]:
        """Find where something is.

        Args:
            phrase: free text, such as "a red chair"; or a list of phrases, which has an answer for each.
            options: keyword arguments of `query.engine.QueryEngine.ask`: `views`, `negatives`, `threshold`, `camera`...

        Raises:
            RunError: the run has no semantics.
            ConfigError: a view is unknown, a phrase is empty or no text, or a text is several phrases.
        """
        given: Any = phrase
        phrases = list(given) if isinstance(given, list | tuple) else [given]
        for one in phrases:
            if not isinstance(one, str):
                fix = 'run.query("a red chair") or run.query(["chair", "lamp"])'
                raise ConfigError(f"A phrase is a text, not a {type(one).__name__}", fix=fix)
            if ";" in one:
                listed = ", ".join(f'"{part.strip()}"' for part in one.split(";"))
                raise ConfigError(f'"{one}" is several phrases', fix=f"run.query([{listed}])")
        answers = self._engine.ask(phrases, **options)
        return answers[0] if isinstance(given, str) else answers

    def detect(self, phrases: Sequence[str] | None = None, **options: Any) -> tuple[Detection, ...]:
        """Put boxes around the objects on the run's surface, by falling score.

        Args:
            phrases: names to choose from; by default those of the run.
            options: `detector`, `metres_per_unit`; see `query.engine.QueryEngine.detect`.

        Raises:
            RunError: the run has no semantics.
            ConfigError: the surface has too few points.
        """
        return self._engine.detect(phrases, **options).detections

    def pose(self, phrases: Sequence[str] | None = None, **options: Any) -> tuple[InstancePose, ...]:
        """Tell which way the run's instances face, from their photos and their points. The run keeps it, as with
        `ovseg3d pose RUN`: answers and exports have it from now on.

        Args:
            phrases: names of the instances; by default those of the run.
            options: `poser`, `detector`, `max_views`; see `query.poses.pose_in_run`.

        Raises:
            RunError: the run has no semantics.
            ConfigError: the surface has too few points.
            SceneError: a photo cannot be read.
            OutputError: the run cannot be written to.
        """
        found = pose_in_run(self._engine, phrases=phrases, **options)
        keep_poses(self._engine, found)
        return found

    def calibrate(
        self, labels: Sequence[tuple[str, bool] | Label] | Path | str = (), *, reset: bool = False
    ) -> Calibration:
        """Fit presence to yes and no answers, and keep the calibration in the run; queries use it from now on.

        Args:
            labels: phrases with whether the scene shows them, labels with a place in a photo
                (`query.kept_calibration.Label`), or a CSV or JSON file of labels. They add to those of earlier calls.
            reset: take these labels alone, in place of what the run keeps; without labels, remove that.

        Returns:
            The calibration: slope and offset of log odds.

        Raises:
            ConfigError: there is no label, or one is damaged or at no surface.
            RunError: the run has no semantics.
            OutputError: the run cannot be written to.
        """
        if reset and not labels:
            calibrate.reset(self._engine)
            return calibrate.prior_of(self._engine).mean
        if isinstance(labels, Path | str):
            labels = read_labels(Path(labels))
        rows = [one if isinstance(one, Label) else Label(*one) for one in labels]
        return calibrate.calibrate(self._engine, rows, anew=reset).calibration

    def export(self, what: str | Sequence[str] = "cloud", folder: Path | None = None, **options: Any) -> list[Path]:
        """Export the surface, labels, instances, a video or a web page.

        Args:
            what: kinds of `export.WHAT`, a list or a text with commas.
            folder: output folder; by default the run's exports/.
            options: fields of `export.run.ExportOptions`, and `report`, `stop`.

        Returns:
            The files, in the order of `what`.

        Raises:
            ConfigError: a kind or option is unknown or does not apply to this run.
            RunError: the run has no semantics, and `what` needs them.
            OutputError: the folder cannot be written to. No partial files are left.
        """
        return export_run(self, what if isinstance(what, str) else ",".join(in_list(what)), folder, **options)

    @cached_property
    def _engine(self) -> QueryEngine:
        return QueryEngine(self)


def load(
    path: Path | str, trust: Trust = NO_TRUST, layout: Layout | None = None, *, scene: Path | str | None = None
) -> Run:
    """Open a run.

    Args:
        path: the run's folder or a file in it, a scene's folder in `outputs` or its `latest`, or a scene. A scene means
            its newest run.
        trust: the user's permissions for the run and its capture.
        layout: whether priors of rooms count in answers (`runs.config.SemanticsConfig`); None: as in its training.
        scene: the folder of the run's capture, if it has moved; read where photos or cameras are needed.

    Raises:
        ConfigError: the layout is unknown.
        RunError: there is no run, or it is truncated, of another version, or invalid.
    """
    run = open_run(path, trust)
    if layout is not None:
        if layout not in get_args(Layout):
            raise ConfigError(f"Layout is one of {', '.join(get_args(Layout))}, not {layout!r}", fix='layout="auto"')
        run = replace(run, config=replace(run.config, semantics=replace(run.config.semantics, layout=layout)))
    if scene is not None:
        run = replace(run, scene_path=Path(scene).resolve())
    return Run(**vars(run))
