"""The stage `field`: fit the radiance field to the photos, with checkpoints."""

import importlib.util
from dataclasses import replace
from typing import Literal

from ovseg3d.engine import CheckpointFolder, Event, Outcome, Start, run_stage
from ovseg3d.errors import ConfigError
from ovseg3d.field.stage import FieldStage
from ovseg3d.files import write_json
from ovseg3d.pipeline.context import Context, Stage
from ovseg3d.pipeline.metrics_log import MetricsLog
from ovseg3d.pipeline.sparse import sparse_depth
from ovseg3d.runs.config import Config
from ovseg3d.runs.decisions import decide
from ovseg3d.runs.devices import resolve_backend
from ovseg3d.runs.fields import load_into, make_stage, newest_checkpoint
from ovseg3d.runs.folder import RunFolder
from ovseg3d.runs.stages import FIELD, STAGES, depends_on_field
from ovseg3d.scene.pycolmap_calls import Stopped


class TrainFieldStage(Stage):
    """Trains the field. A resumed run continues from its newest checkpoint; a fully trained one takes no more steps."""

    spec = FIELD

    def check(self, config: Config, device: Literal["cpu", "cuda"]) -> None:
        """Raises ConfigError: no limit is set, or tensorboard is missing. DeviceError: the backend is unavailable."""
        resolve_backend(config.train.backend, device)
        if config.train.steps is None and config.train.max_seconds is None:
            raise ConfigError("The length of training is not set", fix="--steps 2000 or --max-seconds 120")
        if config.train.tensorboard and importlib.util.find_spec("tensorboard") is None:
            raise ConfigError("--tensorboard needs the package tensorboard", fix="pip install tensorboard")

    def run(self, context: Context) -> bool:
        run, scene, clock = context.run, context.scene, context.clock
        for note in scene.notes:
            context.log("set-up", note)
        decisions = decide(scene, run.config.scene)
        context.log("plan", decisions.describe())
        context.report(Event("start", "set-up", message="placing the field, compiling kernels"))
        try:
            with clock.paused():
                sparse = sparse_depth(context, decisions)
        except Stopped:
            return False
        stage = make_stage(scene, run.config, sparse)
        context.report(Event("done", "set-up", progress=1.0, seconds=clock.seconds))
        first_step = 0
        try:
            if context.resumed and FIELD.is_in(run.folder):
                checkpoint = newest_checkpoint(run)
                load_into(stage, checkpoint, run)
                first_step = checkpoint.step
                clock.add(checkpoint.seconds)
            outcome = _fit(context, stage, first_step)
        finally:
            stage.close()
        context.trained = {"step": outcome.steps, "seconds": outcome.seconds}
        context.new_steps = outcome.steps - first_step
        if outcome.interrupted:
            return False
        _report_short_time(context, outcome)
        context.renderer = stage.renderer
        run.write_metrics(
            {
                "train_seconds": outcome.seconds,
                "steps": outcome.steps,
                "peak_anonymous_bytes": context.memory.peak,
                "device": context.device,
                "backend": resolve_backend(run.config.train.backend, context.device),
                "metric": scene.metric,
                "metres_per_unit": scene.metres_per_unit if scene.metric else None,
            }
        )
        return True


def _fit(context: Context, stage: FieldStage, first_step: int) -> Outcome:
    """Train, and write the log, the status and the checkpoints."""
    run, train = context.run, context.run.config.train
    with MetricsLog(run, first_step, train.tensorboard) as log:

        def on_event(event: Event) -> None:
            if event.metrics.get("rays_per_second") == 0:
                event = replace(event, metrics={})  # measured over no steps
            if event.kind == "progress" and event.metrics:
                log.write(event)
            if context.resumed and event.kind == "checkpoint" and event.step > first_step:
                _remove_stale(run)
            if event.kind in ("checkpoint", "interrupted"):
                status = "running" if event.kind == "checkpoint" else "interrupted"
                run.write_status(status, step=event.step, seconds=event.seconds)
            context.report(event)

        with stage.workers.open():
            return run_stage(
                stage,
                steps=train.steps,
                max_seconds=train.max_seconds,
                start=Start(first_step, context.clock),
                checkpoints=CheckpointFolder(run.checkpoints, train.checkpoint_seconds),
                report=on_event,
                stop=context.stop,
            )


def _report_short_time(context: Context, outcome: Outcome) -> None:
    """Report that time ended the training early."""
    train = context.config.train
    if outcome.steps == 0:
        context.log("field", "Set-up used all of the time, so nothing was trained. Increase --max-seconds.")
    elif train.steps is not None and outcome.steps < train.steps:
        context.log(
            "field",
            f"Time ended training after {outcome.steps:,} of {train.steps:,} steps, before the learning rates had "
            f"decayed. --max-seconds {train.max_seconds:g} alone fits the rates to the time; "
            f"--resume --steps {train.steps} runs the remaining steps.",
        )


def _remove_stale(run: RunFolder) -> None:
    """Remove semantics and figures of the former field of a resumed run.

    This is called after the first checkpoint of the new field, so that a run stopped before loses nothing. Figures
    added by `eval` are removed too.
    """
    for stage in STAGES:
        if depends_on_field(stage) and stage is not FIELD:
            for pattern in (*stage.files, *stage.previews):
                for path in run.folder.glob(pattern):
                    path.unlink(missing_ok=True)
    figures = run.metrics()
    lasting = {name for stage in STAGES if not depends_on_field(stage) for name in stage.figures}
    kept = {name: value for name, value in figures.items() if name in lasting}
    if kept != figures:
        write_json(run.folder / "metrics.json", kept)
