"""Train a scene: run the stages of `runs.stages` in order, in a run folder.

`train_scene` prints nothing and has no state between calls. It reports progress as events. `stop` ends the run after
the current step, with a checkpoint, as Ctrl-C does on the command line.
"""

import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ovseg3d.engine import Report, ignore, memory_limit, out_of_memory_error
from ovseg3d.errors import ConfigError, Ovseg3dError
from ovseg3d.features.encode import check_names, from_anywhere, without_cache
from ovseg3d.limits import NO_TRUST, Trust
from ovseg3d.pipeline.context import Context, Stage
from ovseg3d.pipeline.stages.evaluate import EvaluateStage
from ovseg3d.pipeline.stages.features import FeaturesStage
from ovseg3d.pipeline.stages.field import TrainFieldStage
from ovseg3d.pipeline.stages.semantics import SemanticsStage
from ovseg3d.runs.config import Config
from ovseg3d.runs.devices import resolve_device
from ovseg3d.runs.fields import check_same
from ovseg3d.runs.folder import RunFolder, create_run, is_scene, open_run, open_scene
from ovseg3d.runs.lock import RunLock
from ovseg3d.runs.phrases import keep_phrases, read_list
from ovseg3d.runs.settings import config_of
from ovseg3d.runs.stages import check_needs, describe_plan, named, plan
from ovseg3d.scene import Scene

STAGES: dict[str, Callable[[], Stage]] = {
    kind.spec.name: kind for kind in (FeaturesStage, TrainFieldStage, EvaluateStage, SemanticsStage)
}
"""Implementations of the stages; `runs.stages` has their order."""


def train_scene(
    scene: Scene | Path | str,
    config: Config | Mapping[str, Any] | None = None,
    *,
    output_dir: Path | str | None = None,
    report: Report | None = None,
    stop: threading.Event | None = None,
    resume: RunFolder | Path | str | None = None,
    on_start: Callable[[RunFolder], None] | None = None,
    trust: Trust = NO_TRUST,
) -> RunFolder:
    """Run the stages of the settings (see `runs.stages`), and write their products to a run folder.

    The time for encoding photos does not count towards `max_seconds`.

    Args:
        scene: the capture, or its folder.
        config: settings, or some of them over the defaults, nested as in a file: {"train": {"steps": 500}}; by default
            those of the run to resume, or the preset of this machine.
        output_dir: the run folder; by default outputs/<scene>/<timestamp>.
        report: receives events (see `engine.Event`): the plan, then those of "features", "set-up", "field" and
            "evaluate", and those of `learn_semantics`.
        stop: set it, from another thread or a signal handler, to end after the current step.
        resume: a run to continue in its own folder. Its scene and field settings and its seed must be unchanged. If its
            field is trained further, its semantics and figures are removed. Stages that are done and not stale are
            skipped, unless `config.only` names them.
        on_start: called with the run once its folder exists and it is marked as running.
        trust: the user's permissions for the capture and the run to resume.

    Returns:
        The run; `run.status()["status"]` is "done", or "interrupted" after `stop`.

    Raises:
        SceneError, ConfigError, DeviceError, EncoderError, CacheError, RunError, OutputError: see `errors`. A run that
            fails is marked "failed" in its status.json; a run that is killed can be resumed.
        KeyboardInterrupt: after `stop` during the download of encoders; nothing has changed then.
    """
    earlier = open_run(resume, trust) if isinstance(resume, Path | str) else resume
    if config is None and earlier is not None:
        config = without_cache(earlier.config, trust)
    config = config_of(config)
    if earlier is not None and "features" in config.stages:
        check_names(earlier, config.encode, trust)
    config = replace(config, encode=from_anywhere(config.encode))
    stages = [STAGES[name]() for name in config.stages]
    # Settings are checked before anything is read or written.
    device = resolve_device(config.train.device)
    for stage in stages:
        stage.check(config, device)
    if earlier is None:
        check_needs(plan(config.only), None, scene.path if isinstance(scene, Scene) else scene)
    else:
        check_needs(plan(config.only), earlier.folder, earlier.folder)
    if not isinstance(scene, Scene):
        scene = open_scene(scene, config, trust)
    scene = _with_phrases(scene, config, earlier)
    context = Context(scene, config, device, report or ignore, stop or threading.Event(), resumed=earlier is not None)
    with ExitStack() as held, context.memory, memory_limit(config.train.max_vram if device == "cuda" else None):
        for stage in stages:
            stage.prepare(context)
        if earlier is None:
            folder = Path(output_dir) if output_dir is not None else None
            context.run = create_run(scene, config, folder, held=held, trust=trust)
        else:
            context.learned_with = _learned_with(earlier, scene, config)
            context.run = _continue_run(earlier, scene, config, held)
        if scene.phrases:
            keep_phrases(context.run.folder, scene.phrases)
        context.run.write_status("running")
        if on_start is not None:
            on_start(context.run)
        _run_stages(stages, context)
    return context.run


def _with_phrases(scene: Scene, config: Config, earlier: RunFolder | None) -> Scene:
    """The capture with the phrases of the settings, unless the earlier run read them from the same source."""
    asked, had = config.encode.phrases, None if earlier is None else from_anywhere(earlier.config.encode).phrases
    return replace(scene, phrases=read_list(asked)) if asked is not None and asked != had else scene


def _learned_with(earlier: RunFolder, scene: Scene, config: Config) -> dict[str, Any] | None:
    """The features.json of a run that has learned semantics with these settings and phrases; else None."""
    before = earlier.config
    same = (from_anywhere(before.encode), before.semantics) == (config.encode, config.semantics)
    learned = "semantics" in before.stages and earlier.status()["status"] == "done"
    phrases = scene.phrases == earlier.phrases or not scene.phrases
    return earlier.encoded() if same and learned and phrases else None


def _continue_run(earlier: RunFolder, scene: Scene, config: Config, held: ExitStack) -> RunFolder:
    """The earlier run with new settings, and its lock in `held`. Raises ConfigError: they do not fit the run."""
    check_same(earlier, config)
    if not is_scene(scene, earlier.scene_hash):
        raise ConfigError(
            "This is not the capture that the run was trained on", where=scene.path, fix="start a new run"
        )
    run = replace(earlier, config=config)
    held.enter_context(RunLock(run.folder))
    run.write_config()  # its limits may have changed
    return run


def _run_stages(stages: list[Stage], context: Context) -> None:
    """Run the stages in order, and write the outcome to the run's status."""
    run, asked = context.run, named(context.config.only)
    try:
        context.log("plan", f"Plan: {describe_plan(plan(context.config.only))}")
        for stage in stages:
            if context.resumed and stage.spec.name not in asked and stage.may_skip(context):
                context.log("plan", f"Skipped: {stage.spec.name}, the run has {stage.spec.product}")
            elif not stage.run(context):
                run.write_status("interrupted", **context.trained)
                return
        run.write_status("done", **context.trained)
    except (KeyboardInterrupt, BrokenPipeError):  # BrokenPipeError: the reader of the output has closed it
        run.write_status("interrupted")
        raise
    except torch.cuda.OutOfMemoryError:
        _mark_failed(run, out_of_memory_error())
        raise
    except BaseException as error:
        _mark_failed(run, error)
        raise


def _mark_failed(run: RunFolder, error: BaseException) -> None:
    try:
        run.write_status("failed", message=error.what if isinstance(error, Ovseg3dError) else repr(error))
    except Ovseg3dError:
        pass  # such as a full disk; the first error is the one to report
