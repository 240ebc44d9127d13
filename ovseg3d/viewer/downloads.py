"""Files of a run's exports/ folder: names of new files, and downloads."""

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path

from ovseg3d.errors import OutputError
from ovseg3d.files import make_folder

MAX_DOWNLOAD_BYTES = 256 * 2**20
"""Larger downloads are not sent; the user is shown the folder instead."""


def next_free_path(folder: Path, stem: str, suffix: str) -> Path:
    """folder/stem-0001.suffix, or with the first unused number. Raises OutputError."""
    make_folder(folder)
    taken = {path.stem for path in folder.glob(f"{stem}-*")}
    return next(folder / f"{name}{suffix}" for i in range(1, 100_000) if (name := f"{stem}-{i:04d}") not in taken)


def pack_files(exports: Path, files: Sequence[Path]) -> tuple[str, bytes | None]:
    """Files of a run's exports/ as one download: its name and bytes, or None if it is too large.

    Raises:
        OutputError: a file lies outside `exports`, links followed.
    """
    root = exports.resolve()
    for path in files:
        if not path.resolve().is_relative_to(root):
            raise OutputError("Only files of the run's exports can be downloaded", where=path)
    if not files or sum(path.stat().st_size for path in files) > MAX_DOWNLOAD_BYTES:
        return "", None
    if len(files) == 1:
        return files[0].name, files[0].read_bytes()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in files:
            archive.write(path, path.resolve().relative_to(root).as_posix())
    folders = {path.resolve().relative_to(root).parts[0] for path in files}
    name = Path(folders.pop()).stem if len(folders) == 1 else "exports"
    return f"{name}.zip", buffer.getvalue()
