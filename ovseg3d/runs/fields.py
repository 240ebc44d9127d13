"""Build the field of a run: new for training, or from its newest checkpoint for rendering."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load, save

from ovseg3d.engine import Checkpoint, Workers, latest_checkpoint, load_checkpoint
from ovseg3d.errors import ConfigError, Ovseg3dError, RunError, SceneError
from ovseg3d.field.backends import make_backend
from ovseg3d.field.box import FieldBox
from ovseg3d.field.config import FieldConfig
from ovseg3d.field.corrections import corrected
from ovseg3d.field.levels import grid_levels
from ovseg3d.field.occupancy import OccupancyGrid
from ovseg3d.field.radiance import RadianceField
from ovseg3d.field.renderer import Renderer
from ovseg3d.field.stage import CaptureUse, FieldStage
from ovseg3d.files import write_atomic
from ovseg3d.limits import check_memory, read_bytes
from ovseg3d.runs.config import Config
from ovseg3d.runs.decisions import decide
from ovseg3d.runs.devices import AnyBackend, DeviceName, resolve_backend, resolve_device
from ovseg3d.runs.folder import RunFolder
from ovseg3d.scene import Scene
from ovseg3d.scene.sparse import SparseDepth

MAX_SPARSE_BYTES = 2**32
"""Largest file of sparse points that is read."""
SPARSE_FILE = "sparse_depth.safetensors"
"""Sparse points, adjusted poses and focal lengths of a run, in its folder."""


def make_stage(scene: Scene, config: Config, sparse: SparseDepth | None = None) -> FieldStage:
    """An untrained field for `scene`, on the device and backend of `config`.

    Args:
        scene: the capture as it was read.
        config: all settings.
        sparse: its sparse points and adjusted poses, if they are used.

    Raises:
        ConfigError: the field does not fit into memory.
        DeviceError: the device or backend is unavailable.
        SceneError: measured depth was requested, and the scene has none.
    """
    check_size(config.field, 4, scene.path, ConfigError)
    device = resolve_device(config.train.device)
    backend = resolve_backend(config.train.backend, device)
    decisions = decide(scene, config.scene)
    return FieldStage(
        scene,
        config.field,
        _torch_device(device),
        backend,
        seed=config.train.seed,
        use=CaptureUse(decisions.depth, decisions.exposure, decisions.refine_poses, sparse),
        steps=config.train.steps,
    )


def check_size(config: FieldConfig, copies: int, where: Path, error: type[Ovseg3dError]) -> None:
    """Refuse a field that does not fit into memory, before anything is built.

    Args:
        config: its sizes. Each is in its range, but their product is unlimited.
        copies: copies of its table: 1 to render, 4 to train (gradients, two moments).
        where: the file that requests it, for the message.
        error: which error to raise.

    Raises:
        error: the field does not fit.
    """
    levels = grid_levels(config)
    table = 4 * levels.entries * levels.features * copies
    cells = 8 * max(config.cascades, 6) * config.occupancy_resolution**3
    fix = "lower --field.log2-table, --field.features or --field.occupancy-resolution"
    check_memory(table + cells, "The field", where, error, fix)


def _torch_device(name: str) -> torch.device:
    """The torch device; for cuda with its index, which Warp needs."""
    return torch.device("cuda", torch.cuda.current_device()) if name == "cuda" else torch.device("cpu")


def newest_checkpoint(run: RunFolder) -> Checkpoint:
    """The newest checkpoint of a run. Raises RunError: there is none, or it is unusable.

    The run's settings are compared with the shapes in the file before tensors are read.
    """
    path = latest_checkpoint(run.checkpoints)
    if path is None:
        status = run.status()["status"]
        raise RunError(
            f"The run has no checkpoint (it is marked {status})", where=run.folder, fix="train the scene again"
        )
    levels = grid_levels(run.config.field)
    check_size(run.config.field, 1, run.folder / "config.json", RunError)
    return load_checkpoint(path, FieldStage.name, {"table": torch.Size((levels.entries, levels.features))})


def restore(run: RunFolder, scene: Scene, device: DeviceName = "auto", backend: AnyBackend = "auto") -> Renderer:
    """The trained field of a run, ready to render; nothing for training is allocated.

    Args:
        scene: the run's capture, from `Run.load_scene`.
        device: device to render on; may differ from that of training.
        backend: backend to render with; may differ from that of training.

    Raises:
        RunError: there is no checkpoint, or it is truncated, of another version, or does not fit the settings.
        DeviceError: the device or backend is unavailable.
    """
    name = resolve_device(device)
    target = _torch_device(name)
    operators = resolve_backend(backend, name)
    checkpoint = newest_checkpoint(run)
    config, box = run.config.field, _read_box(checkpoint, run)
    cells = (box.cascades, *(config.occupancy_resolution,) * 3)
    stored = checkpoint.state.get("occupancy.occupied")
    if stored is None or stored.shape != cells:  # before memory is allocated for them
        raise RunError("The checkpoint does not fit the run's settings", where=run.checkpoints, fix="train again")
    made = make_backend(operators, grid_levels(config), target)
    field = RadianceField(config, target, seed=0, run=made.perceptron)
    occupancy = OccupancyGrid(torch.zeros(cells, dtype=torch.bool, device=target), config.occupancy_threshold)
    own = {"table": field.table, "network": field.network}
    own |= {f"occupancy.{name}": tensor for name, tensor in occupancy.state().items()}
    _check_fits(own, checkpoint, run)
    with torch.no_grad():
        for name in ("table", "network"):
            own[name].copy_(checkpoint.state[name])
    prefix = "occupancy."
    occupancy.load_state(
        {k.removeprefix(prefix): v.to(target) for k, v in checkpoint.state.items() if k.startswith(prefix)}
    )
    return Renderer(field, made, box, occupancy, config, Workers.for_device(target), scene.has_alpha)


def refined(run: RunFolder, scene: Scene) -> Scene:
    """The capture with the training poses that the run adjusted by its sparse points, or refined in training.

    Comparisons of the field with training photos use these poses. Held-out cameras keep their poses; they share the
    adjusted lens of the training photos, see `SparseDepth.applied`.

    Args:
        scene: the run's capture as it was read. An already refined scene would be corrected twice.

    Raises:
        RunError: there is no checkpoint, or it or the sparse points do not fit the settings or the capture.
    """
    sparse = load_sparse(run, scene)
    if sparse is not None:
        scene = sparse.applied(scene)
    if run.config.scene.refine_poses != "on":
        return scene
    checkpoint = newest_checkpoint(run)
    _check_fits({"photos": torch.zeros(len(scene.train), 12)}, checkpoint, run)
    frames = list(scene.frames)
    cameras = [frames[view].camera for view in scene.train]
    for view, camera in zip(scene.train, corrected(cameras, checkpoint.state["photos"], _read_box(checkpoint, run))):
        frames[view] = replace(frames[view], camera=camera)
    return replace(scene, frames=tuple(frames))


def save_sparse(run: RunFolder, sparse: SparseDepth) -> None:
    """Write the sparse points of a run. Raises OutputError."""
    write_atomic(run.folder / SPARSE_FILE, save(sparse.arrays()))


def load_sparse(run: RunFolder, scene: Scene) -> SparseDepth | None:
    """The sparse points of a run; None if it does not use any.

    Raises:
        RunError: the file is damaged, or of another capture.
    """
    path = run.folder / SPARSE_FILE
    if not path.exists():
        return None
    try:
        return SparseDepth.from_arrays(load(read_bytes(path, most=MAX_SPARSE_BYTES)), len(scene.train))
    except (SafetensorError, SceneError, ValueError, OSError) as error:
        raise RunError(f"The sparse points are unusable ({error})", where=path, fix="train again") from error


def _read_box(checkpoint: Checkpoint, run: RunFolder) -> FieldBox:
    """The field's box from the checkpoint. Raises RunError: it is invalid."""
    try:
        stated = dict(checkpoint.facts["box"])
        for name in ("center", "rotation"):
            stated[name] = np.asarray(stated[name], dtype=np.float64)
        if stated["center"].shape != (3,) or stated["rotation"].shape != (3, 3):
            raise ValueError("center or rotation has another shape")
        stated["center"] = tuple(stated["center"].tolist())
        stated["rotation"] = tuple(map(tuple, stated["rotation"].tolist()))
        box = FieldBox(**stated)
        if type(box.cascades) is not int or not np.isfinite([*box.center, *np.ravel(box.rotation)]).all():
            raise ValueError("a number is not finite")
        if not (1 <= box.cascades <= 16 and 0 < box.radius < float("inf") and box.near >= 0):
            raise ValueError("a number is out of range")
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(
            f"The box of the checkpoint's field is missing or invalid ({error})",
            where=run.checkpoints,
            fix="train again",
        ) from error
    return box


def load_into(stage: FieldStage, checkpoint: Checkpoint, run: RunFolder) -> None:
    """Load the state of `checkpoint` into `stage`. Raises RunError: they do not fit."""
    _check_fits(stage.state(), checkpoint, run)
    if _read_box(checkpoint, run) != stage.box:
        raise RunError(
            "This version places the field of this run elsewhere, so that it cannot be trained further",
            where=run.checkpoints,
            fix="start a new run",
        )
    stage.load_state(checkpoint.state)


def _check_fits(own: dict[str, torch.Tensor], checkpoint: Checkpoint, run: RunFolder) -> None:
    for name, tensor in own.items():
        found = checkpoint.state.get(name)
        if found is None or found.shape != tensor.shape or found.dtype != tensor.dtype:
            raise RunError(
                f"The checkpoint does not fit the run's settings: {name!r} is missing or has another shape",
                where=run.checkpoints,
                fix="train again",
            )


def check_same(run: RunFolder, config: Config) -> None:
    """Check that a resumed run keeps its scene and field settings and its seed. Raises ConfigError: one differs."""
    for section in ("scene", "field", "train"):
        old, new = getattr(run.config, section), getattr(config, section)
        for name in ("seed",) if section == "train" else old.__dataclass_fields__:
            if getattr(old, name) != getattr(new, name):
                raise ConfigError(
                    f"{section}.{name} cannot change when a run is resumed"
                    f" (it was {getattr(old, name)!r}, now {getattr(new, name)!r})",
                    where=run.folder,
                    fix="leave out that flag, or start a new run",
                )
