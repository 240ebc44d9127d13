"""A run: the folder that training leaves behind, and how it is found again.

    outputs/<scene>/<timestamp>/       or exactly the folder given as --output-dir
        config.json                    format_version, the scene (absolute path, hash of its content), settings
        status.json                    running, interrupted, done or failed; step; seconds
        scene_transform.json           input frame -> world frame, metric or not
        checkpoints/ metrics.jsonl metrics.json views.json exports/ previews/
        semantics.safetensors          surface points and what they mean
        features.json              encoders, and where in the cache the photos' features are
        phrases.txt                what the scene is said to hold, one phrase a line (see `phrases`)
    outputs/<scene>/latest             a link to the newest run, and latest.txt with its name

Everything read back from a run is checked: it may be cut, older, or made by somebody else. A process that trains
holds a lock on the folder, so that two never train one run, and a killed one can be told from a running one.
"""

import hashlib
import os
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from ovseg3d import __version__
from ovseg3d.errors import ConfigError, OutputError, RunError, SceneError
from ovseg3d.files import looking, make_folder, output_error, read_json, sweep, write_atomic, write_json
from ovseg3d.limits import NO_TRUST, Trust, open_regular, read_bytes, read_text
from ovseg3d.runs.config import Config
from ovseg3d.runs.migrate import FORMAT_VERSION, READABLE_VERSIONS, migrate_figures, migrate_settings
from ovseg3d.runs.phrases import kept_phrases
from ovseg3d.runs.settings import from_plain, to_plain
from ovseg3d.scene.capture import Scene

LOCK_SECONDS = 1.0
"""How long a trainer tries for the lock: whoever looks at the run holds it for a moment."""
_WITH_LENS = "2:"
"""What the hash of a capture begins with since lenses count."""
STATES = ("running", "interrupted", "done", "failed")
_KEPT = ("metrics.json", "phrases.txt", "features.json")
"""What an earlier run may have left in a folder, and a new one would take for its own."""


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
    """What the user who opened it allows."""

    @property
    def checkpoints(self) -> Path:
        """The folder of the field as it was last kept: what training goes on from, and what it leaves."""
        return self.folder / "checkpoints"

    @property
    def previews(self) -> Path:
        """The folder of the pictures that training leaves to be looked at."""
        return self.folder / "previews"

    @property
    def exports(self) -> Path:
        """The folder that files made of the run go to, where no other is said."""
        return self.folder / "exports"

    @property
    def metrics_log(self) -> Path:
        """One JSON object a line, for each progress event."""
        return self.folder / "metrics.jsonl"

    def status(self) -> dict[str, Any]:
        """What status.json says; a run whose process was killed counts as interrupted. Raises RunError."""
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
        """Replace the settings in config.json by this run's."""
        path = self.folder / "config.json"
        described = read_json(path, RunError)
        write_json(path, {**described, "format_version": FORMAT_VERSION, "config": to_plain(self.config)})

    def metrics(self) -> dict[str, Any]:
        """The figures of metrics.json; empty before training has ended."""
        path = self.folder / "metrics.json"
        return migrate_figures(read_json(path, RunError)) if path.exists() else {}

    def write_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Lay `metrics` over those in metrics.json."""
        write_json(self.folder / "metrics.json", {**self.metrics(), **metrics})

    @property
    def phrases(self) -> tuple[str, ...]:
        """What the scene is said to hold; see `runs.phrases`. Raises RunError."""
        return kept_phrases(self.folder)

    def transform(self) -> tuple[Float[np.ndarray, "4 4"], float | None]:
        """The similarity from the input frame to the world's, and metres per input unit: None where nobody knows.

        Raises:
            RunError: scene_transform.json is missing, or says something else.
        """
        path = self.folder / "scene_transform.json"
        stated = read_json(path, RunError)
        try:
            matrix = np.array(stated["world_from_input"], dtype=np.float64)
            metres = stated["metres_per_unit"]
            metres = None if metres is None or not stated["metric"] else float(metres)
            if matrix.shape != (4, 4) or not np.isfinite(matrix).all() or np.linalg.det(matrix[:3, :3]) <= 0:
                raise ValueError("world_from_input is no similarity")
            if metres is not None and not 0 < metres < np.inf:
                raise ValueError("metres_per_unit is no length")
        except (KeyError, TypeError, ValueError) as error:
            raise RunError(f"The run's frames are not stated ({error})", where=path, fix="train again") from error
        return matrix, metres

    @looking(RunError)
    def load_scene(self, path: Path | None = None) -> Scene:
        """The capture that this run was trained on, read the same way; its phrases are those that the run keeps.

        Args:
            path: where it is now, if it has moved.

        Raises:
            RunError: there is no such folder any more, or it holds other photos or poses than it did.
            SceneError: it cannot be read.
        """
        path = path or self.scene_path
        if not path.exists():
            raise RunError(
                "The photos of this run are no longer where they were",
                where=path,
                fix="name their new place with --scene PATH (to train: PATH --resume --output-dir RUN)",
            )
        scene = open_scene(path, self.config, self.trust)
        if not is_scene(scene, self.scene_hash):
            raise RunError(
                "The capture has changed since this run was trained (other photos, poses or lenses)",
                where=path,
                fix="train again, or name the original with --scene PATH (to train: PATH --resume --output-dir RUN)",
            )
        return replace(scene, phrases=self.phrases or scene.phrases)


def open_scene(path: Path | str, config: Config, trust: Trust = NO_TRUST) -> Scene:
    """Read a capture the way `config` says, and as far as the user allows. Raises SceneError."""
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
    """A hash of names, poses, lenses and photos (their size and first bytes, so that 2,000 photos take no time).

    A lens counts in shares of the picture's sides, whatever size the photos are read at.

    Args:
        lens: False leaves them out, as runs that were made before they counted.
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
    """Whether a run that states this hash is of the capture."""
    return hash_scene(scene, stated.startswith(_WITH_LENS)) == stated


def create_run(
    scene: Scene,
    config: Config,
    output_dir: Path | None = None,
    *,
    held: ExitStack | None = None,
    trust: Trust = NO_TRUST,
) -> RunFolder:
    """Make the folder of a new run, and name it the newest of its scene.

    Args:
        output_dir: use exactly this folder, instead of outputs/<scene>/<timestamp>.
        held: takes the lock on the folder, which is there before anything is written; without it the lock goes again.
        trust: what the user allows the run and its capture to ask for.

    Raises:
        OutputError: the place cannot be written to, or holds a run already.
        RunError: another process is at work on it.
    """
    if held is None:
        with ExitStack() as held:
            return create_run(scene, config, output_dir, held=held, trust=trust)
    if output_dir is None:
        folder = _timestamped(scene_folder(scene.path, scene.name, claim=True))
    else:
        folder = make_folder(Path(output_dir).absolute())
        _refuse_a_run(folder)
    held.enter_context(RunLock(folder))
    if output_dir is not None:
        _refuse_a_run(folder)  # it may have been made while we came for the lock
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
        _point_latest(folder)
    return run


def _refuse_a_run(folder: Path) -> None:
    if _holds_a_run(folder):
        raise OutputError(
            "This folder holds a run already",
            where=folder,
            fix="--resume to go on with it, or another --output-dir",
        )


def _holds_a_run(folder: Path) -> bool:
    """Whether a run in `folder` learnt something, or is done; one that failed or was stopped before may be replaced."""
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


def hashed_name(scene_path: Path, name: str) -> str:
    """<name>-<4 hex of the path>: what a scene is called when <name> belongs to another."""
    return f"{name}-{hashlib.sha256(os.fsencode(scene_path.resolve())).hexdigest()[:4]}"


def scene_folder(scene_path: Path, name: str, claim: bool = False) -> Path:
    """outputs/<name>, or outputs/<name>-<4 hex of the path> when <name> belongs to another scene.

    A file `.scene` in the folder says whose it is; with `claim` it is made, by one process only.
    """
    path = os.fsencode(scene_path.resolve())
    plain = Path("outputs").absolute() / name
    hashed = plain.with_name(hashed_name(scene_path, name))
    for folder in (plain, hashed):
        owner = folder / ".scene"
        if claim and not os.path.exists(owner):
            make_folder(folder)
            offer = folder / f".scene.{os.getpid()}.tmp"
            write_atomic(offer, path)
            try:
                os.link(offer, owner)  # fails when another process was first
            except FileExistsError:
                pass
            except OSError:
                write_atomic(owner, path)  # a file system without hard links
            finally:
                with suppress(OSError):
                    offer.unlink(missing_ok=True)
        try:
            if read_bytes(owner, RunError, most=2**16) == path:
                return folder
        except RunError:
            continue  # nobody's, or closed to us
    return hashed


def _timestamped(parent: Path) -> Path:
    """A new folder in `parent`, named by the time; two processes never get the same."""
    stamp = datetime.now().strftime("%Y-%m-%d_%H%M%S")
    for suffix in ("", *(f"-{i}" for i in range(2, 1000))):
        folder = parent / f"{stamp}{suffix}"
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            continue
        except OSError as error:
            raise output_error(error, folder) from error
    raise OutputError("Too many runs were begun in this second", where=parent)


def _point_latest(folder: Path) -> None:
    """Make `latest` (a link, where the system has links) and latest.txt name `folder`, each in one step."""
    parent = folder.parent
    write_atomic(parent / "latest.txt", f"{folder.name}\n".encode())
    link = parent / f".latest.{os.getpid()}.tmp"
    try:
        link.unlink(missing_ok=True)
        link.symlink_to(folder.name, target_is_directory=True)
        os.replace(link, parent / "latest")
    except OSError:
        with suppress(OSError):
            link.unlink(missing_ok=True)


def open_run(path: Path | str, trust: Trust = NO_TRUST) -> RunFolder:
    """Open a run.

    Args:
        path: the run's folder or a file in it, a scene's folder in `outputs` or its `latest`, or a scene
            itself; the last two mean the newest run.
        trust: what the user allows the run and its capture to ask for.

    Raises:
        RunError: there is no run, or what is there is cut, of another version, or not what it should be.
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
        raise RunError("The scene of this run is not stated", where=where, fix="train again")
    try:
        config = from_plain(Config, migrate_settings(settings), str(where))
    except ConfigError as error:
        raise RunError(error.what, where=error.where, fix=error.fix) from error
    return RunFolder(folder, config, Path(texts[0]), texts[1], texts[2], trust)


@looking(RunError)
def find_run(path: Path) -> Path:
    """The folder of the run that `path` means; see `load`. Raises RunError."""
    if path.is_file() and path.parent.name == "checkpoints":
        path = path.parent.parent
    if path.is_file() and path.name != "latest.txt":
        path = path.parent
    if (path / "config.json").is_file():
        return path.resolve()
    parents = [path] if path.name not in ("latest", "latest.txt") else [path.parent]
    if path.is_dir():
        parents.append(scene_folder(path, path.resolve().name))
    for parent in parents:
        newest = _newest_in(parent)
        if newest is not None:
            return newest
    if not path.exists():
        raise RunError("There is no such run", where=path, fix="ovseg3d train SCENE makes one under outputs/")
    raise RunError(
        "This folder is not a run, and no run of it is known here",
        where=path,
        fix=f"ovseg3d train {path}",
    )


def _newest_in(parent: Path) -> Path | None:
    """The run that latest.txt names, or else the newest folder with a config.json."""
    try:
        name = read_text(parent / "latest.txt", RunError, most=4096).strip()
    except RunError:
        name = ""
    # Only a plain name counts: the file must not lead out of its folder.
    with suppress(OSError, ValueError):  # of what is no name
        if name and Path(name).name == name and (parent / name / "config.json").is_file():
            return (parent / name).resolve()
    runs = [file.parent for file in parent.glob("[0-9]*/config.json")]
    return max(runs, key=lambda run: run.name).resolve() if runs else None


class RunLock:
    """Held while a process trains a run; the system lets go of it when the process ends, however it ends."""

    def __init__(self, folder: Path) -> None:
        self._path, self._file = folder / ".lock", None

    def __enter__(self) -> "RunLock":
        try:
            import fcntl
        except ImportError:  # Windows: no lock, and two processes on one run are the user's to avoid
            return self
        try:
            # Not through a link, nor a pipe that nobody reads; nothing is written.
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            self._file = os.fdopen(os.open(self._path, flags, 0o666), "rb", buffering=0)
        except OSError as error:
            raise output_error(error, self._path) from error
        end = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() < end:
                    time.sleep(0.02)
                    continue
                self._file.close()
                raise RunError(
                    "Another process is training this run",
                    where=self._path.parent,
                    fix="wait for it, or stop it, then --resume",
                ) from None
            except OSError:
                return self  # a file system without locks
            for part in ("", "checkpoints", "previews"):
                sweep(self._path.parent / part, 0.0)  # nobody else writes there
            return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()


def is_locked(folder: Path) -> bool:
    """Whether some process is training the run in `folder`.

    Looking takes a shared lock, so that lookers do not see each other, and needs no right to write.
    """
    try:
        import fcntl

        with open_regular(folder / ".lock", RunError) as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except (ImportError, OSError, RunError):  # no locks here, or no lock file: nobody trains
        return False
    return False
