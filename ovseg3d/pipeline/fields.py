"""Build the field stage of a run, new or from its newest checkpoint."""

import torch

from ovseg3d.engine import Checkpoint, latest_checkpoint, load_checkpoint
from ovseg3d.errors import ConfigError, RunError, SceneError
from ovseg3d.field.stage import FieldStage
from ovseg3d.pipeline.config import Config
from ovseg3d.pipeline.devices import resolve_backend, resolve_device
from ovseg3d.pipeline.run import Run
from ovseg3d.scene import Scene


def make_stage(scene: Scene, config: Config) -> FieldStage:
    """A field for `scene` that has learnt nothing yet, on the device and backend that `config` asks for.

    Raises:
        DeviceError: they are not there.
        SceneError: measured depth was asked for, and the scene has none.
    """
    device = resolve_device(config.train.device)
    backend = resolve_backend(config.train.backend, device)
    measured = any(scene.frames[view].depth_path for view in scene.train)
    if config.scene.depth == "on" and not measured:
        raise SceneError(
            "Supervision with depth was asked for, but the training views have none",
            where=scene.path,
            fix="--depth auto, or --depth off",
        )
    return FieldStage(
        scene,
        config.field,
        torch.device(device),
        backend,
        seed=config.train.seed,
        use_depth=measured and config.scene.depth != "off",
        refine_poses=config.scene.refine_poses,
    )


def newest_checkpoint(run: Run) -> Checkpoint:
    """The newest checkpoint of a run. Raises RunError when there is none or it cannot be used."""
    path = latest_checkpoint(run.checkpoints)
    if path is None:
        status = run.status()["status"]
        raise RunError(
            f"The run has no checkpoint (it is marked {status})", where=run.folder, fix="train the scene again"
        )
    return load_checkpoint(path, FieldStage.name)


def restore(run: Run, scene: Scene, device: str | None = None, backend: str | None = None) -> FieldStage:
    """The trained field of a run, ready to render.

    Args:
        scene: the run's capture, from `Run.load_scene`.
        device, backend: as in `TrainConfig`; by default whatever this machine has.

    Raises:
        RunError: there is no checkpoint, or it is cut, of another version, or does not fit its settings.
    """
    from dataclasses import replace

    checkpoint = newest_checkpoint(run)
    train = replace(run.config.train, device=device or "auto", backend=backend or "auto")
    stage = make_stage(scene, replace(run.config, train=train))
    load_into(stage, checkpoint, run)
    return stage


def load_into(stage: FieldStage, checkpoint: Checkpoint, run: Run) -> None:
    """Give `stage` the state of `checkpoint`; RunError where the two do not fit."""
    own = stage.state()
    for name, tensor in own.items():
        found = checkpoint.state.get(name)
        if found is None or found.shape != tensor.shape or found.dtype != tensor.dtype:
            raise RunError(
                f"The checkpoint does not fit the settings of the run: {name!r} is missing or has another shape",
                where=run.checkpoints,
                fix="train again",
            )
    try:
        stage.load_state(checkpoint.state)
    except (KeyError, ValueError, RuntimeError) as error:
        raise RunError(f"The checkpoint cannot be used: {error}", where=run.checkpoints) from error


def check_same(run: Run, config: Config) -> None:
    """A resumed run keeps its scene and field settings: ConfigError for any that `config` changes."""
    for section in ("scene", "field"):
        old, new = getattr(run.config, section), getattr(config, section)
        for name in old.__dataclass_fields__:
            if getattr(old, name) != getattr(new, name):
                raise ConfigError(
                    f"{section}.{name} cannot change when a run is resumed"
                    f" (it was {getattr(old, name)!r}, now {getattr(new, name)!r})",
                    where=run.folder,
                    fix="leave that flag away, or begin a new run",
                )
