"""Train a scene: from posed photos to a run folder with features, a field, figures and previews.

`train_scene` prints nothing and keeps nothing between calls. Progress comes as events; `stop` ends the run after
the current step, with a checkpoint, as Ctrl-C does on the command line.
"""

import importlib.util
import json
import math
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from ovseg3d.engine import Clock, Event, Report, ignore, run_stage
from ovseg3d.engine.memory import PeakMemory
from ovseg3d.errors import ConfigError, EncoderError, Ovseg3dError, RunError, SceneError
from ovseg3d.evaluate.views import Evaluation, ViewScore, evaluate
from ovseg3d.field.stage import FieldStage
from ovseg3d.files import output_error, plain, write_atomic, write_json
from ovseg3d.limits import MAX_TABLE_BYTES, NO_TRUST, Trust, read_bytes
from ovseg3d.render.images import contact_sheet, preview, save_picture
from ovseg3d.render.views import spread
from ovseg3d.runs.config import Config
from ovseg3d.runs.devices import resolve_backend, resolve_device
from ovseg3d.runs.fields import check_same, load_into, make_stage, newest_checkpoint, refined
from ovseg3d.runs.folder import RunFolder, RunLock, create_run, is_scene, open_run, open_scene
from ovseg3d.runs.phrases import keep_phrases, read_list, without_doubles
from ovseg3d.runs.settings import make_config
from ovseg3d.scene import Scene, load_depth

SHEET_VIEWS = 4
"""The contact sheet shows at most so many views."""
_OF_NO_FIELD = ("clip", "dino", "device", "peak_anonymous_bytes")
"""Figures, besides those of features, that stay true when the field changes."""


def train_scene(
    scene: Scene | Path | str,
    config: Config | None = None,
    *,
    output_dir: Path | str | None = None,
    report: Report | None = None,
    stop: threading.Event | None = None,
    resume: RunFolder | Path | str | None = None,
    begun: Callable[[RunFolder], None] | None = None,
    trust: Trust = NO_TRUST,
) -> RunFolder:
    """Fit a radiance field to a capture, measure it on the held-out views, and keep everything in a run folder.

    With the stage `features` its photos are encoded first, into a cache that all runs share; the time for that does
    not count against `max_seconds`.

    Args:
        scene: the capture, or its folder.
        config: settings; by default those of the run to resume, or of the preset for this machine.
        output_dir: the run folder; by default outputs/<scene>/<timestamp>.
        report: receives events (see `engine.Event`), of the stages "features", "field" and "evaluate", and of those
            that `learn_meaning` names.
        stop: set it, from another thread or a signal handler, to end after the current step.
        resume: a run to go on with, in its own folder. Its scene and field settings and its seed must be the same.
            When its field goes on learning, what was learnt and measured on it goes; `semantics` learns it anew.
        begun: called with the run once its folder is there and it is marked as running.
        trust: what the user allows the capture, and the run to resume, to ask for.

    Returns:
        The run; `run.status()["status"]` is "done", or "interrupted" after `stop`.

    Raises:
        SceneError, ConfigError, DeviceError, EncoderError, CacheError, RunError, OutputError: see their texts. A run
        that fails is marked "failed" in its status.json; a run that is killed can be resumed.
        KeyboardInterrupt: after `stop`, where encoders were being fetched; nothing has changed then.
    """
    from ovseg3d.encoders.hub import stoppable
    from ovseg3d.features.encode import check_names, from_anywhere, load_encoders, without_cache

    report, stop = report or ignore, stop or threading.Event()
    clock = Clock()
    earlier = open_run(resume, trust) if isinstance(resume, Path | str) else resume
    if config is None:
        config = make_config(resolve_device("auto")) if earlier is None else without_cache(earlier.config, trust)
    if earlier is not None and "features" in config.stages:
        check_names(earlier, config.encode, trust)
    config = replace(config, encode=from_anywhere(config.encode))
    # What is asked for is checked before anything is read or written.
    device = resolve_device(config.train.device)
    if "field" in config.stages:
        resolve_backend(config.train.backend, device)
    _check(config)
    if not isinstance(scene, Scene):
        scene = open_scene(scene, config, trust)
    if config.stages and "field" not in config.stages and "semantics" in config.stages and earlier is None:
        raise ConfigError(
            "Meaning is learnt on a trained field, and this run would have none",
            fix="--only field,semantics, or --only semantics --resume",
        )
    asked, had = config.encode.phrases, None if earlier is None else from_anywhere(earlier.config.encode).phrases
    if asked is not None and asked != had:
        scene = replace(scene, phrases=read_list(asked))
    if "semantics" in config.stages and config.meaning.method == "3d-ovs" and not without_doubles(scene.phrases):
        raise ConfigError(
            "3d-ovs learns from phrases, and this scene names none",
            where=scene.path,
            fix='--phrases "chair;table", or --method default',
        )
    encoders = None
    if "features" in config.stages:
        with clock.paused(), stoppable(stop):
            encoders = load_encoders(scene, config.views_as, device)
    with ExitStack() as held, PeakMemory() as memory:
        if earlier is None:
            place = Path(output_dir) if output_dir is not None else None
            run = create_run(scene, config, place, held=held, trust=trust)
        else:
            check_same(earlier, config)
            _check_same_capture(earlier, scene)
            run = replace(earlier, config=config)
            held.enter_context(RunLock(run.folder))
            run.write_config()  # its limits may be new
        if scene.phrases:
            keep_phrases(run.folder, scene.phrases)
        run.write_status("running")
        if begun is not None:
            begun(run)
        trained: dict[str, Any] = {}
        try:
            if encoders is not None:
                with clock.paused():
                    features = _encode(run, scene, encoders, report, stop, memory)
                if features is None:
                    run.write_status("interrupted")
                    return run
                facts = _encoder_facts(scene, config, encoders)
                words = _words(scene, config, encoders)
                clip, encoders = encoders.clip, None  # the field needs the memory
            if "field" in config.stages:
                trained = _train(run, scene, clock, report, stop, memory, resumed=earlier is not None)
                if trained is None:
                    return run
            if "semantics" in config.stages:
                from ovseg3d.export.overlays import save_meaning_preview
                from ovseg3d.pipeline.semantics import learn_meaning
                from ovseg3d.query.engine import Asker
                from ovseg3d.runs.fields import restore

                renderer = restore(run, scene, config.train.device, config.train.backend)
                if learn_meaning(run, scene, renderer, features, facts, words, clip, report, stop) is None:
                    run.write_status("interrupted", **trained)
                    return run
                try:
                    save_meaning_preview(run.previews / "meaning.png", Asker(run, scene, device, config.train.backend))
                except EncoderError as error:  # the photos' features were in the cache, the weights are gone
                    report(Event("log", "semantics", message=f"No preview of labels: {error.what}"))
                run.write_metrics({"peak_anonymous_bytes": memory.peak})
            run.write_status("done", **trained)
        except (KeyboardInterrupt, BrokenPipeError):  # the latter: whoever read the report has gone
            run.write_status("interrupted")
            raise
        except BaseException as error:
            _mark_failed(run, error)
            raise
    return run


def _check(config: Config) -> None:
    if "field" not in config.stages:
        return
    if config.train.steps is None and config.train.max_seconds is None:
        raise ConfigError("Nothing says how long to train", fix="--steps 2000 or --max-seconds 120")
    if config.train.tensorboard and importlib.util.find_spec("tensorboard") is None:
        raise ConfigError("--tensorboard needs a package", fix="pip install tensorboard")


def _check_same_capture(run: RunFolder, scene: Scene) -> None:
    if not is_scene(scene, run.scene_hash):
        raise ConfigError(
            "This is not the capture that the run was trained on", where=scene.path, fix="begin a new run"
        )


def _mark_failed(run: RunFolder, error: BaseException) -> None:
    try:
        run.write_status("failed", message=error.what if isinstance(error, Ovseg3dError) else repr(error))
    except Ovseg3dError:
        pass  # the disk is full, say: the first error is the one to tell


def _encode(
    run: RunFolder, scene: Scene, encoders: Any, report: Report, stop: threading.Event, memory: PeakMemory
) -> Any:
    """The stage `features`: them, or None after `stop`. `encoders` are `features.encode.Encoders`, imported late."""
    from ovseg3d.features.encode import encode_scene, keep_features
    from ovseg3d.features.images import save_feature_preview

    began = time.monotonic()
    features = encode_scene(scene, encoders=encoders, report=report, stop=stop)
    if features is None:
        return None
    seconds = time.monotonic() - began
    keep_features(run, encoders, features)
    save_feature_preview(run.previews / "features.png", scene, features)
    run.write_metrics(
        {
            "features_seconds": seconds,
            "features_photos": len(features),
            "features_encoded": features.made,
            "features_bytes": features.nbytes,
            "features_mode": features.settings.mode,
            "features_cache": features.cache.folder,
            "clip": encoders.clip.id,
            "dino": encoders.dino.id if encoders.dino is not None else None,
            "peak_anonymous_bytes": memory.peak,
            "device": encoders.device,
        }
    )
    return features


def _encoder_facts(scene: Scene, config: Config, encoders: Any) -> Any:
    """What a query has to know about the encoder that the features are from."""
    from ovseg3d.features.encode import choose
    from ovseg3d.points.semantic_scene import EncoderFacts

    clip = encoders.clip
    name = choose(config.encode.clip, "clip", scene)
    return EncoderFacts(name, clip.id, clip.weight_hash, clip.logit_scale)


def _words(scene: Scene, config: Config, encoders: Any) -> Any:
    """Vectors of the phrases that the method learns from or asks with; None for methods without."""
    from ovseg3d.points.methods import Words
    from ovseg3d.query.relevancy import CANONICAL

    if "semantics" not in config.stages or config.meaning.method not in ("3d-ovs", "lerf"):
        return None
    phrases = without_doubles(scene.phrases) if config.meaning.method == "3d-ovs" else ()
    vectors = encoders.clip.encode_text([*phrases, *CANONICAL]).detach().float().cpu().numpy()
    return Words(vectors[: len(phrases)], vectors[len(phrases) :])


def _train(
    run: RunFolder,
    scene: Scene,
    clock: Clock,
    report: Report,
    stop: threading.Event,
    memory: PeakMemory,
    resumed: bool,
) -> dict[str, Any] | None:
    """The stage `field`, with its figures: step and seconds for the status, or None after `stop`."""
    train = run.config.train
    first_step = 0
    for note in scene.notes:
        report(Event("log", "set-up", message=note))
    report(Event("start", "set-up", message="placing the field, compiling kernels"))
    stage = make_stage(scene, run.config)
    report(Event("done", "set-up", progress=1.0, seconds=clock.seconds))
    try:
        if resumed and any(run.checkpoints.glob("step-*.safetensors")):
            checkpoint = newest_checkpoint(run)
            load_into(stage, checkpoint, run)
            first_step = checkpoint.step
            clock.add(checkpoint.seconds)
        with MetricsLog(run, first_step, train.tensorboard) as log:

            def tell(event: Event) -> None:
                if event.metrics.get("rays_per_second") == 0:
                    event = replace(event, metrics={})  # measured over no step: nothing to say
                if event.kind == "progress" and event.metrics:
                    log.write(event)
                if resumed and event.kind == "checkpoint" and event.step > first_step:
                    _forget_former_field(run)
                if event.kind in ("checkpoint", "interrupted"):
                    status = "running" if event.kind == "checkpoint" else "interrupted"
                    run.write_status(status, step=event.step, seconds=event.seconds)
                report(event)

            with stage.workers.open():
                outcome = run_stage(
                    stage,
                    steps=train.steps,
                    max_seconds=train.max_seconds,
                    first_step=first_step,
                    clock=clock,
                    checkpoints=run.checkpoints,
                    checkpoint_seconds=train.checkpoint_seconds,
                    report=tell,
                    stop=stop,
                )
        if outcome.interrupted:
            return None
        if outcome.steps == 0:
            text = "Set-up took all of the time, nothing was learnt: give more with --max-seconds."
            report(Event("log", "field", message=text))
        began = time.monotonic()
        evaluation = _evaluate(run, refined(run, scene), stage, report, stop)
        if stop.is_set():
            run.write_status("interrupted", step=outcome.steps, seconds=outcome.seconds)
            return None
        device = resolve_device(train.device)
        run.write_metrics(
            {
                "train_seconds": outcome.seconds,
                "steps": outcome.steps,
                **summarise(evaluation),
                "eval_seconds": time.monotonic() - began,
                "peak_anonymous_bytes": memory.peak,
                "device": device,
                "backend": resolve_backend(train.backend, device),
                "metric": scene.metric,
                "metres_per_unit": scene.metres_per_unit if scene.metric else None,
            }
        )
        return {"step": outcome.steps, "seconds": outcome.seconds}
    finally:
        stage.close()


def _forget_former_field(run: RunFolder) -> None:
    """Remove what was learnt and measured on the field that a resumed run had: it would be read as the new one's.

    Called when the new field's first checkpoint is there, so that whoever is stopped before loses nothing.
    """
    from ovseg3d.points.semantic_scene import FILE

    for path in (run.folder / FILE, run.folder / "views.json", run.previews / "meaning.png"):
        path.unlink(missing_ok=True)
    figures = run.metrics()
    kept = {name: value for name, value in figures.items() if name.startswith("features_") or name in _OF_NO_FIELD}
    if kept != figures:
        write_json(run.folder / "metrics.json", kept)


def summarise(evaluation: Evaluation) -> dict[str, Any]:
    """Flat figures for metrics.json: the means, and those of each other group of views as `psnr_off_path`."""
    figures: dict[str, Any] = {"views": len(evaluation.views)}
    for group, means in {"": evaluation.mean(), **evaluation.groups()}.items():
        if group != "on_path":  # those are the means already
            suffix = f"_{group}" if group else ""
            figures.update({f"{name}{suffix}": value for name, value in means.items() if not math.isnan(value)})
    return figures


def _evaluate(run: RunFolder, scene: Scene, stage: FieldStage, report: Report, stop: threading.Event) -> Evaluation:
    """Measure the held-out views (all, when none is held out: a few training views) and draw their previews."""
    views = scene.test or tuple(spread(scene.train, SHEET_VIEWS))
    shown = set(spread(views, SHEET_VIEWS))
    pictures, began = [], time.monotonic()

    def on_view(score: ViewScore, photo: Any, rendered: Mapping[str, Any]) -> None:
        if score.view in shown:
            frame = scene.frames[score.view]
            true_z = None
            with suppress(SceneError):  # `on_fault` has told it
                true_z = load_depth(frame, scene)
            picture = preview(score.name, photo, dict(rendered), true_z, score.psnr)
            save_picture(run.previews / f"{len(pictures):03d}_{Path(score.name).stem}.png", picture)
            pictures.append(picture)
        done = views.index(score.view) + 1
        metrics = {"psnr": score.psnr}
        report(
            Event(
                "progress",
                "evaluate",
                done,
                len(views),
                done / len(views),
                time.monotonic() - began,
                metrics=metrics,
            )
        )

    def on_fault(error: SceneError) -> None:
        # The field is trained by now: a figure may be missing, the rest of the run need not.
        report(Event("log", "evaluate", message=f"Not all of a view is measured: {error.what} ({error.where})"))

    evaluation = evaluate(stage.renderer, scene, views, stop=stop, on_view=on_view, on_fault=on_fault)
    if pictures:
        save_picture(run.previews / "heldout.png", contact_sheet(pictures))
    write_json(run.folder / "views.json", {"views": [asdict(score) for score in evaluation.views]})
    return evaluation if scene.test else Evaluation(())


class MetricsLog:
    """Writes metrics.jsonl as training goes, and tensorboard's files when asked.

    A resumed run first drops what was logged after the checkpoint that it goes on from.
    """

    def __init__(self, run: RunFolder, first_step: int, tensorboard: bool) -> None:
        self._path = run.metrics_log
        kept = [line for line in self._lines() if line.get("step", 0) <= first_step] if first_step else []
        write_atomic(self._path, b"".join(_line(entry) for entry in kept))
        try:
            self._file = open(self._path, "ab", buffering=0)
        except OSError as error:
            raise output_error(error, self._path) from error
        self._writer: Any = None
        if tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(run.folder / "tensorboard"), purge_step=first_step)

    def _lines(self) -> list[dict[str, Any]]:
        """Entries of an earlier log; a last line that was cut is left out."""
        entries = []
        try:
            for line in read_bytes(self._path, RunError, most=MAX_TABLE_BYTES).splitlines():
                entry = json.loads(line)
                if isinstance(entry, dict) and isinstance(entry.get("step", 0), int):
                    entries.append(entry)
        except (RunError, ValueError, RecursionError):
            pass
        return entries

    def write(self, event: Event) -> None:
        entry = {"stage": event.stage, "step": event.step, "seconds": round(event.seconds, 3), **event.metrics}
        try:
            self._file.write(_line(entry))
        except OSError as error:
            raise output_error(error, self._path) from error
        if self._writer is not None:
            for name, value in event.metrics.items():
                self._writer.add_scalar(f"{event.stage}/{name}", value, event.step)

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if self._writer is not None:
            self._writer.close()


def _line(entry: Mapping[str, Any]) -> bytes:
    return (json.dumps(plain(dict(entry))) + "\n").encode()
