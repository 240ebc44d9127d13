"""A run folder: its layout, how training creates it, and how it is opened.

    outputs/<scene>/<timestamp>/       or exactly the folder given as --output-dir
        config.json                    format_version, the scene (absolute path, hash of its content), settings
        status.json                    running, interrupted, done or failed; step; seconds
        scene_transform.json           input frame -> world frame, metric or not
        checkpoints/ metrics.jsonl metrics.json views.json exports/ previews/
        semantics.safetensors          surface points with their semantics
        features.json                  encoders, and keys of the photos' features in the cache
        phrases.txt                    phrases of the scene, one per line (see `phrases`)
        sparse_depth.safetensors       sparse points that the field is trained with, if it uses any
    outputs/<scene>/latest             a link to the newest run, and latest.txt with its name

Everything read from a run is checked: it may be truncated, older, or made by somebody else. `places` finds the folder,
`lock` says whether a process trains in it.
"""

import hashlib
import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from ovseg3d import __version__
from ovseg3d.errors import ConfigError, OutputError, RunError, SceneError
from ovseg3d.files import looking, make_folder, output_error, read_json, write_json
from ovseg3d.limits import NO_TRUST, Trust, open_regular
from ovseg3d.runs.config import Config
from ovseg3d.runs.lock import RunLock, is_locked
from ovseg3d.runs.migrate import FORMAT_VERSION, READABLE_VERSIONS, migrate_figures, migrate_settings
from ovseg3d.runs.phrases import kept_phrases
from ovseg3d.runs.places import find_run, point_latest, scene_folder, timestamped_folder
from ovseg3d.runs.settings import from_plain, to_plain
from ovseg3d.scene.capture import Scene

_WITH_LENS = "2:"
"""Prefix of capture hashes that include lenses."""
STATES = ("running", "interrupted", "done", "failed")
_KEPT = ("metrics.json", "phrases.txt", "features.json", "sparse_depth.safetensors")
"""Files of an earlier run in the same folder that a new run would take for its own."""


@dataclass(frozen=True)
class RunFolder:
    """One trained (or half-trained) scene on disk."""

    folder: Path
    """Absolute."""
    config: Config
    scene_path: Path
    """Absolute path of the capture when the run was made."""
    scene_name: str
    scene_hash: str
    """`hash_scene` of the capture when the run was made."""
    trust: Trust = NO_TRUST
    """Permissions of the user who opened it."""

    @property
    def checkpoints(self) -> Path:
        """Folder of the field's checkpoints."""
        return self.folder / "checkpoints"

    @property
    def previews(self) -> Path:
        """Folder of the preview images that training writes."""
        return self.folder / "previews"

    @property
    def exports(self) -> Path:
        """Default folder of exported files."""
        return self.folder / "exports"

    @property
    def metrics_log(self) -> Path:
        """Path of the log: one JSON object per line and progress event."""
        return self.folder / "metrics.jsonl"

    def status(self) -> dict[str, Any]:
        """Content of status.json; a run whose process was killed counts as interrupted. Raises RunError."""
        status = read_json(self.folder / "status.json", RunError)
        if status.get("status") not in STATES:
            raise RunError(f"Unknown status {status.get('status')!r}", where=self.folder / "status.json")
        if status["status"] == "running" and not is_locked(self.folder):
            status["status"] = "interrupted"
        return status

    def write_status(self, status: str, **facts: Any) -> None:
        """Replace status.json."""
        now = datetime.now().astimezone().isoformat(timespec="seconds")
        write_json(self.folder / "status.json", {"status": status, "updated": now, **facts})

    def write_config(self) -> None:
        """Write this run's settings to config.json."""
        path = self.folder / "config.json"
        described = read_json(path, RunError)
        write_json(path, {**described, "format_version": FORMAT_VERSION, "config": to_plain(self.config)})

    def metrics(self) -> dict[str, Any]:
        """Content of metrics.json; empty before training has ended. Raises RunError."""
        path = self.folder / "metrics.json"
        return migrate_figures(read_json(path, RunError)) if path.exists() else {}

    def write_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Merge `metrics` into metrics.json."""
        write_json(self.folder / "metrics.json", {**self.metrics(), **metrics})

    def encoded(self) -> dict[str, Any] | None:
        """Content of features.json; None before the photos are encoded. Raises RunError."""
        path = self.folder / "features.json"
        return read_json(path, RunError) if path.exists() else None

    @property
    def phrases(self) -> tuple[str, ...]:
        """Phrases of the scene; see `runs.phrases`. Raises RunError."""
        return kept_phrases(self.folder)

    def transform(self) -> tuple[Float[np.ndarray, "4 4"], float | None]:
        """The similarity from input to world frame (4, 4), and metres per input unit, or None if unknown.

        Raises:
            RunError: scene_transform.json is missing or invalid.
        """
        path = self.folder / "scene_transform.json"
        stated = read_json(path, RunError)
        try:
            matrix = np.array(stated["world_from_input"], dtype=np.float64)
            metres = stated["metres_per_unit"]
            metres = None if metres is None or not stated["metric"] else float(metres)
            if matrix.shape != (4, 4) or not np.isfinite(matrix).all() or np.linalg.det(matrix[:3, :3]) <= 0:
                raise ValueError("world_from_input is not a similarity")
            if metres is not None and not 0 < metres < np.inf:
                raise ValueError("metres_per_unit is not a length")
        except (KeyError, TypeError, ValueError) as error:
            raise RunError(
                f"The run's coordinate frames are missing or invalid ({error})", where=path, fix="train again"
            ) from error
        return matrix, metres

    @looking(RunError)
    def load_scene(self, path: Path | None = None) -> Scene:
        """The capture that this run was trained on, read the same way, with the phrases of the run.

        Args:
            path: the capture's folder, if it has moved.

        Raises:
            RunError: the folder is gone, or its photos, poses or lenses have changed.
            SceneError: it cannot be read.
        """
        path = path or self.scene_path
        if not path.exists():
            raise RunError(
                "The photos of this run are no longer where they were",
                where=path,
                fix="give their new folder with --scene PATH (to train: PATH --resume --output-dir RUN; in Python: "
                "ovseg3d.load(RUN, scene=PATH))",
            )
        scene = open_scene(path, self.config, self.trust)
        if not is_scene(scene, self.scene_hash):
            raise RunError(
                "The capture has changed since this run was trained (other photos, poses or lenses)",
                where=path,
                fix="train again, or give the original with --scene PATH (to train: PATH --resume --output-dir RUN)",
            )
        return replace(scene, phrases=self.phrases)


def open_scene(path: Path | str, config: Config, trust: Trust = NO_TRUST) -> Scene:
    """Read a capture with the settings of `config` and the user's permissions. Raises SceneError."""
    from ovseg3d.scene import load_scene

    settings = config.scene
    return load_scene(
        Path(path),
        format=settings.format,
        downscale=settings.downscale,
        max_side=settings.max_side,
        scale=settings.scale,
        train_on_all=settings.train_on_all,
        trust=trust,
    )


def hash_scene(scene: Scene, lens: bool = True) -> str:
    """Hash of names, poses, lenses and photos (size and first bytes only, for speed).

    Intrinsics are relative to the image size, so that the hash does not depend on the size that photos are read at.

    Args:
        scene: the capture.
        lens: whether to include lenses; False gives the hash of older runs.
    """
    digest = hashlib.sha256()
    for frame in scene.frames:
        camera = frame.camera
        digest.update(frame.name.encode())
        digest.update(camera.c2w.round(9).tobytes())
        if lens:
            w, h = camera.width, camera.height
            numbers = (camera.fx / w, camera.fy / h, camera.cx / w, camera.cy / h, *camera.distortion)
            digest.update(f"{camera.model} {[round(float(number), 6) for number in numbers]}".encode())
        try:
            with open_regular(frame.image_path) as photo:
                digest.update(photo.read(4096))
                digest.update(str(os.fstat(photo.fileno()).st_size).encode())
        except (OSError, SceneError):
            digest.update(b"missing")
    return f"{_WITH_LENS if lens else ''}{digest.hexdigest()[:16]}"


def is_scene(scene: Scene, stated: str) -> bool:
    """Whether `stated`, the hash in a run, is that of the capture."""
    return hash_scene(scene, stated.startswith(_WITH_LENS)) == stated


def create_run(
    scene: Scene,
    config: Config,
    output_dir: Path | None = None,
    *,
    held: ExitStack | None = None,
    trust: Trust = NO_TRUST,
) -> RunFolder:
    """Create the folder of a new run, and make it the scene's newest.

    Args:
        scene: the capture.
        config: all settings.
        output_dir: use exactly this folder, instead of outputs/<scene>/<timestamp>.
        held: receives the lock on the folder, taken before anything is written; without it, the lock is released on
            return.
        trust: the user's permissions for the run and its capture.

    Raises:
        OutputError: the folder cannot be written to, or contains a run.
        RunError: another process is training it.
    """
    if held is None:
        with ExitStack() as held:
            return create_run(scene, config, output_dir, held=held, trust=trust)
    if output_dir is None:
        folder = timestamped_folder(scene_folder(scene.path, scene.name, claim=True))
    else:
        folder = make_folder(Path(output_dir).absolute())
        _refuse_a_run(folder)
    held.enter_context(RunLock(folder))
    if output_dir is not None:
        _refuse_a_run(folder)  # it may have been created before we got the lock
        try:
            for name in _KEPT if (folder / "config.json").is_file() else ():
                (folder / name).unlink(missing_ok=True)
        except OSError as error:
            raise output_error(error, folder) from error
    run = RunFolder(folder, config, scene.path.absolute(), scene.name, hash_scene(scene), trust)
    write_json(folder / "config.json", _describe(run, scene.format))
    write_json(
        folder / "scene_transform.json",
        {
            "format_version": FORMAT_VERSION,
            "world_from_input": scene.world_from_input,
            "metric": scene.metric,
            "metres_per_unit": scene.metres_per_unit,
        },
    )
    run.write_status("running", step=0, seconds=0.0)
    for part in (run.checkpoints, run.exports, run.previews):
        make_folder(part)
    # A run without a field must not hide one that can be rendered.
    if output_dir is None and ("field" in config.stages or not (folder.parent / "latest.txt").exists()):
        point_latest(folder)
    return run


def _refuse_a_run(folder: Path) -> None:
    if _holds_a_run(folder):
        raise OutputError(
            "This folder contains a run already",
            where=folder,
            fix="--resume to continue it, or another --output-dir",
        )


def _holds_a_run(folder: Path) -> bool:
    """Whether `folder` has a run that is done or has a checkpoint; other runs may be replaced."""
    if not os.path.isfile(folder / "config.json"):
        return False
    try:
        finished = read_json(folder / "status.json", RunError).get("status") == "done"
    except RunError:
        finished = False
    return finished or any((folder / "checkpoints").glob("step-*"))


def _describe(run: RunFolder, scene_format: str) -> dict[str, Any]:
    return {
        "format_version": FORMAT_VERSION,
        "ovseg3d_version": __version__,
        "created": datetime.now().astimezone().isoformat(timespec="seconds"),
        "scene": {
            "path": str(run.scene_path),
            "name": run.scene_name,
            "format": scene_format,
            "content_hash": run.scene_hash,
        },
        "config": to_plain(run.config),
    }


def open_run(path: Path | str, trust: Trust = NO_TRUST) -> RunFolder:
    """Open a run.

    Args:
        path: the run's folder or a file in it, a scene's folder in `outputs` or its `latest`, or a scene. A scene means
            its newest run.
        trust: the user's permissions for the run and its capture.

    Raises:
        RunError: there is no run, or it is truncated, of another version, or invalid.
    """
    folder = find_run(Path(path))
    where = folder / "config.json"
    described = read_json(where, RunError)
    version = described.get("format_version")
    if version not in READABLE_VERSIONS:
        raise RunError(
            f"The run has format version {version!r}, this ovseg3d reads {READABLE_VERSIONS[0]} to {FORMAT_VERSION}",
            where=where,
            fix="use the version of ovseg3d that wrote it, or train again",
        )
    scene, settings = described.get("scene"), described.get("config")
    if not isinstance(scene, dict) or not isinstance(settings, dict):
        raise RunError("This file does not describe a run", where=where, fix="train again")
    texts = [text for key in ("path", "name", "content_hash") if isinstance(text := scene.get(key), str)]
    if len(texts) != 3 or not all(text and "\0" not in text for text in texts):
        raise RunError("The scene of this run is missing in its config.json", where=where, fix="train again")
    try:
        config = from_plain(Config, migrate_settings(settings), str(where))
    except ConfigError as error:
        raise RunError(error.what, where=error.where, fix=error.fix) from error
    return RunFolder(folder, config, Path(texts[0]), texts[1], texts[2], trust)
