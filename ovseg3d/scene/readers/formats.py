"""Choose the reader of a folder, or the error if none can read it.

The order is transforms.json, transforms_train.json, COLMAP, LLFF, Replica, ScanNet. A reader whose files are incomplete
yields to the next one, with a note. `--format` selects one reader.
"""

from collections.abc import Callable
from pathlib import Path

from ovseg3d.errors import SceneError, nearest
from ovseg3d.limits import NO_TRUST, Trust, inside
from ovseg3d.scene.capture import FORMATS
from ovseg3d.scene.images import PHOTO_SUFFIXES
from ovseg3d.scene.readers.colmap import find_model, read_colmap
from ovseg3d.scene.readers.llff import read_llff
from ovseg3d.scene.readers.raw import Incomplete, RawCapture
from ovseg3d.scene.readers.replica import read_replica
from ovseg3d.scene.readers.scannet import read_scannet
from ovseg3d.scene.readers.transforms import read_blender, read_transforms

_VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".avi", ".m4v", ".webm")


def read_capture(path: Path, format: str | None = None, trust: Trust = NO_TRUST) -> RawCapture:
    """Read `path` with the reader for `format`, or with the first one whose files are complete.

    Raises:
        SceneError: there is no folder, no known format, or a file that the reader rejects.
    """
    if format is not None and format not in FORMATS:
        close = nearest(format, FORMATS)
        hint = f"did you mean {close}? " if close else ""
        raise SceneError(f"There is no format {format!r}", fix=f"{hint}known: {', '.join(FORMATS)}")
    if not path.exists():
        raise SceneError("There is no such folder", where=path, fix="check the spelling")
    if path.is_file():
        if path.suffix != ".json":
            kind = "a video" if path.suffix.lower() in _VIDEO_SUFFIXES else "a file, not a scene folder"
            fix = f"make a scene of it first: ovseg3d prepare {path} {path.with_suffix('')}"
            raise SceneError(f"This is {kind}", where=path, fix=fix)
        if path.stem in ("transforms_train", "transforms_val", "transforms_test"):
            path = path.parent
        else:
            return _named(read_transforms(path, trust), format)
    single = path / "transforms.json"
    readers: dict[str, Callable[[], RawCapture]] = {
        "nerfstudio": lambda: read_transforms(inside(path, single.name, trust=trust), trust),
        "instant-ngp": lambda: readers["nerfstudio"]() if _there(single) else read_blender(path, trust),
        "blender": lambda: (
            read_blender(path, trust) if not _there(single) or _has_train(path) else readers["nerfstudio"]()
        ),
        "colmap": lambda: read_colmap(path, trust),
        "llff": lambda: read_llff(path, trust),
        "replica": lambda: read_replica(path, trust),
        "scannet": lambda: read_scannet(path, trust),
    }
    if format is not None:
        try:
            return _named(readers[format](), format)
        except Incomplete as error:
            raise SceneError(f"Not readable as {format}: {error}", where=path, fix="leave out --format") from None
    found = detect_formats(path)
    reasons = []
    for name in found:
        try:
            capture = readers[name]()
        except Incomplete as error:
            reasons.append(str(error))
            continue
        passed = [f"{reason[0].upper()}{reason[1:]}; read as {name} instead" for reason in reasons]
        capture.notes = passed + capture.notes
        return capture
    raise _no_format(path, reasons)


def detect_formats(path: Path) -> list[str]:
    """The formats whose main file is in the folder, in the order in which they are tried; nothing is read."""
    marks = {
        "nerfstudio": lambda: _there(path / "transforms.json"),
        "blender": lambda: _has_train(path),
        "colmap": lambda: find_model(path) is not None,
        "llff": lambda: _there(path / "poses_bounds.npy"),
        "replica": lambda: _there(path / "traj.txt") and (path / "results").is_dir(),
        "scannet": lambda: (path / "color").is_dir() and (path / "pose").is_dir(),
    }
    return [name for name, there in marks.items() if there()]


def _there(path: Path) -> bool:
    """Whether the path exists and is not a folder; the reader reports files that are not regular."""
    return path.exists() and not path.is_dir()


def _has_train(path: Path) -> bool:
    return _there(path / "transforms_train.json")


def _named(capture: RawCapture, format: str | None) -> RawCapture:
    if format is not None:
        capture.format = format
    return capture


def _model_below(path: Path) -> Path | None:
    """A COLMAP model in the folder or up to three folders down."""
    places = (f"{above}cameras.{kind}" for above in ("", "*/", "*/*/", "*/*/*/") for kind in ("bin", "txt"))
    return next((found.parent for place in places for found in sorted(path.glob(place))), None)


def _no_format(path: Path, reasons: list[str]) -> SceneError:
    """The error for a folder that no reader can read, with the next command to run."""
    if reasons:
        reason = reasons[0][0].upper() + reasons[0][1:]
        return SceneError(
            f"No complete capture is here: {reason}",
            where=path,
            fix=f"run structure from motion again: ovseg3d prepare {path / 'images'} OUT",
        )
    if (path / "config.json").is_file() and (path / "scene_transform.json").is_file():
        return SceneError(
            "This folder is a run, not a capture",
            where=path,
            fix=f"the capture that it was trained on; to train on: ovseg3d train {path} --resume",
        )
    # ns-process-data knows these exports of phone apps.
    for mark, kind in (("keyframes", "polycam"), ("metadata", "record3d")):
        if (path / mark).exists() and ((path / "keyframes").is_dir() or (path / "rgb").is_dir()):
            return SceneError(
                f"This is a raw {kind} export, without poses that can be read here",
                where=path,
                fix=f"ns-process-data {kind} --data {path} --output-dir OUT, then train OUT",
            )
    if model := _model_below(path):
        holders = [folder for folder in model.parents if path in folder.parents and find_model(folder) is not None]
        place = path / "sparse" / "0"
        return SceneError(
            f"There is a COLMAP model in {model.relative_to(path).as_posix()}/, where none is looked for",
            where=path,
            fix=f"the folder {holders[0]}" if holders else f"move it to {place}, with the photos in {path / 'images'}",
        )
    folders = [path] + sorted(p for p in path.iterdir() if p.is_dir())
    for folder in folders:
        suffixes = [p.suffix.lower() for p in folder.iterdir()]
        video = next((p for p in sorted(folder.iterdir()) if p.suffix.lower() in _VIDEO_SUFFIXES), None)
        if video is not None or any(suffix in PHOTO_SUFFIXES for suffix in suffixes):
            source = video or folder
            return SceneError(
                "There are photos or a video here, but no camera poses",
                where=path,
                fix=f"make a scene of them first: ovseg3d prepare {source} OUT (or ns-process-data)",
            )
    return SceneError(
        "This folder holds no known kind of capture",
        where=path,
        fix="it needs transforms.json, transforms_train.json, sparse/0, poses_bounds.npy, traj.txt with results/, or "
        "color/ with pose/",
    )
