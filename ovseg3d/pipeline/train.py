"""Train a scene: run the stages of `runs.stages` in their order, in a run folder.

`train_scene` prints nothing and keeps nothing between calls. Progress comes as events; `stop` ends the run after
the current step, with a checkpoint, as Ctrl-C does on the command line.
"""

import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from ovseg3d.engine import Report, ignore
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
from ovseg3d.runs.folder import RunFolder, RunLock, create_run, is_scene, open_run, open_scene
from ovseg3d.runs.phrases import keep_phrases, read_list
from ovseg3d.runs.settings import make_config
from ovseg3d.runs.stages import check_needs, describe_plan, named, plan
from ovseg3d.scene import Scene

STAGES: dict[str, Callable[[], Stage]] = {
    kind.spec.name: kind for kind in (FeaturesStage, TrainFieldStage, EvaluateStage, SemanticsStage)
}
"""How the stages of `runs.stages`, which has their order, are made."""


def train_scene(
    scene: Scene | Path | str,
    config: Config | None = None,
    *,
    output_dir: Path | str | None = None,
    report: Report | None = None,
    stop: threading.Event | None = None,
    resume: RunFolder | Path | str | None = None,
    on_start: Callable[[RunFolder], None] | None = None,
    trust: Trust = NO_TRUST,
) -> RunFolder:
    """Run the stages that the settings ask for (see `runs.stages`), and keep what they make in a run folder.

    The time for encoding photos does not count against `max_seconds`.

    Args:
        scene: the capture, or its folder.
        config: settings; by default those of the run to resume, or of the preset for this machine.
        output_dir: the run folder; by default outputs/<scene>/<timestamp>.
        report: receives events (see `engine.Event`): the plan, then those of the stages "features", "set-up", "field"
            and "evaluate", and of those that `learn_semantics` names.
        stop: set it, from another thread or a signal handler, to end after the current step.
        resume: a run to go on with, in its own folder. Its scene and field settings and its seed must be the same.
            When its field goes on learning, what was learnt and measured on it goes; `semantics` learns it anew. What
            is done and not stale may be skipped, unless `config.only` asks for it.
        begun: called with the run once its folder is there and it is marked as running.
        trust: what the user allows the capture, and the run to resume, to ask for.

    Returns:
        The run; `run.status()["status"]` is "done", or "interrupted" after `stop`.

    Raises:
        SceneError, ConfigError, DeviceError, EncoderError, CacheError, RunError, OutputError: see their texts. A run
        that fails is marked "failed" in its status.json; a run that is killed can be resumed.
        KeyboardInterrupt: after `stop`, where encoders were being fetched; nothing has changed then.
    """
    earlier = open_run(resume, trust) if isinstance(resume, Path | str) else resume
    if config is None:
        config = make_config(resolve_device("auto")) if earlier is None else without_cache(earlier.config, trust)
    if earlier is not None and "features" in config.stages:
        check_names(earlier, config.encode, trust)
    config = replace(config, encode=from_anywhere(config.encode))
    stages = [STAGES[name]() for name in config.stages]
    # What is asked for is checked before anything is read or written.
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
    for stage in stages:
        stage.prepare(context)
    with ExitStack() as held, context.memory:
        if earlier is None:
            place = Path(output_dir) if output_dir is not None else None
            context.run = create_run(scene, config, place, held=held, trust=trust)
        else:
            context.run = _go_on(earlier, scene, config, held)
        if scene.phrases:
            keep_phrases(context.run.folder, scene.phrases)
        context.run.write_status("running")
        if on_start is not None:
            on_start(context.run)
        _run_stages(stages, context)
    return context.run


def _with_phrases(scene: Scene, config: Config, earlier: RunFolder | None) -> Scene:
    """The capture with the phrases that the settings name, unless the run has had them from the same place before."""
    asked, had = config.encode.phrases, None if earlier is None else from_anywhere(earlier.config.encode).phrases
    return replace(scene, phrases=read_list(asked)) if asked is not None and asked != had else scene


def _go_on(earlier: RunFolder, scene: Scene, config: Config, held: ExitStack) -> RunFolder:
    """The earlier run with new settings, and its lock in `held`. Raises ConfigError where they do not fit it."""
    check_same(earlier, config)
    if not is_scene(scene, earlier.scene_hash):
        raise ConfigError(
            "This is not the capture that the run was trained on", where=scene.path, fix="begin a new run"
        )
    run = replace(earlier, config=config)
    held.enter_context(RunLock(run.folder))
    run.write_config()  # its limits may be new
    return run


def _run_stages(stages: list[Stage], context: Context) -> None:
    """Run them one after another; the run's status says how it went, whatever happens."""
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
    except (KeyboardInterrupt, BrokenPipeError):  # the latter: whoever read the report has gone
        run.write_status("interrupted")
        raise
    except BaseException as error:
        _mark_failed(run, error)
        raise


def _mark_failed(run: RunFolder, error: BaseException) -> None:
    try:
        run.write_status("failed", message=error.what if isinstance(error, Ovseg3dError) else repr(error))
    except Ovseg3dError:
        pass  # the disk is full, say: the first error is the one to tell
