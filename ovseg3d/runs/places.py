"""Where run folders are: the folder of a scene below `outputs`, the name of a new run, and the newest run."""

import hashlib
import os
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from ovseg3d.errors import OutputError, RunError
from ovseg3d.files import looking, make_folder, output_error, write_atomic
from ovseg3d.limits import read_bytes, read_text

STAMPED = "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]_*"
"""Names of `timestamped_folder`, as a glob."""


def hashed_name(scene_path: Path, name: str, digits: int = 4) -> str:
    """<name>-<hex digits of the path>: the name of a scene if <name> belongs to another scene."""
    return f"{name}-{hashlib.sha256(os.fsencode(scene_path.resolve())).hexdigest()[:digits]}"


def scene_folder(scene_path: Path, name: str, claim: bool = False) -> Path:
    """outputs/<name>, or outputs/<name>-<4 hex of the path> if <name> belongs to another scene.

    A file `.scene` in the folder contains the path of its scene; `claim` creates it, in one process only.
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
                os.link(offer, owner)  # fails if another process was first
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
            continue  # unclaimed or unreadable
    return hashed


def timestamped_folder(parent: Path) -> Path:
    """Create a folder in `parent`, named by the time; two processes never get the same. Raises OutputError."""
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
    raise OutputError("Too many runs were started in this second", where=parent)


def point_latest(folder: Path) -> None:
    """Point `latest` (a link, if the system has links) and latest.txt to `folder`, each atomically.

    Raises OutputError.
    """
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


@looking(RunError)
def find_run(path: Path) -> Path:
    """Find the run folder for `path`; see `folder.open_run`. Raises RunError."""
    given = path
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
        raise RunError("There is no such run", where=path, fix="ovseg3d train SCENE creates one under outputs/")
    if given.is_file():
        raise RunError("This file is not of a run", where=given, fix="give the folder of a run: outputs/SCENE/latest")
    raise RunError(
        "This folder is not a run, and no run of it is known here",
        where=path,
        fix=f"ovseg3d train {path}",
    )


def _newest_in(parent: Path) -> Path | None:
    """The run named in latest.txt, or else the newest one that is named by its time. Others are runs of several scenes,
    of which none stands for all."""
    try:
        name = read_text(parent / "latest.txt", RunError, most=4096).strip()
    except RunError:
        name = ""
    # Only a plain name is valid: it must not lead out of the folder.
    with suppress(OSError, ValueError):  # of an invalid name
        if name and Path(name).name == name and (parent / name / "config.json").is_file():
            return (parent / name).resolve()
    runs = [file.parent for file in parent.glob(f"{STAMPED}/config.json")]
    return max(runs, key=lambda run: run.name).resolve() if runs else None
