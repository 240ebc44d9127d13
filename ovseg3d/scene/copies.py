"""Find a photo's file: the full-size one, or a smaller copy in an `images_N` folder beside it.

The half-size copy of `images/a/0001.jpg` is `images_2/a/0001.jpg`, perhaps with another suffix. LLFF's copies have
different names; then sorted names correspond, if there are equally many. A folder that the capture itself names is
not a copy (`cam` and `cam_2` may be two cameras). Copies outside the capture are not used.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from ovseg3d.limits import MAX_REDUCTION, NO_TRUST, Trust, inside
from ovseg3d.scene.images import PHOTO_SUFFIXES


class Copies:
    """The files of a capture's photos, at all sizes.

    Args:
        root: the capture's folder.
        photos: expected path of the full-size photo of each frame.
        trust: what the user allows.

    Raises:
        SceneError: a folder of photos or of copies is a link to outside the capture.
    """

    def __init__(self, root: Path, photos: Sequence[Path], trust: Trust = NO_TRUST) -> None:
        self._root = root
        self._locations = {photo: found for photo in photos if (found := self._locate(photo)) is not None}
        self._names: dict[Path, list[str]] = {}
        for base, rest in self._locations.values():
            self._names.setdefault(base, []).append(rest)
        self._versions = _versions(root, set(self._names), trust)
        self._maps: dict[tuple[Path, int], dict[str, Path]] = {}

    def find(self, photo: Path, factor: float) -> tuple[Path, int] | None:
        """The smallest copy that is large enough for the reduction `factor`, else the largest smaller one.

        Returns:
            The file and its N (1 for the full-size folder), or None when there is no file at all.
        """
        if photo not in self._locations:
            return (photo, 1) if photo.is_file() else None
        base, rest = self._locations[photo]
        versions = self._versions[base]
        enough = sorted((n for n in versions if n <= factor + 1e-6), reverse=True)
        for n in enough + sorted(set(versions) - set(enough)):
            path = self._map(base, n).get(rest)
            if path is not None:
                return path, n
        return (photo, 1) if photo.is_file() else None

    def listing(self, folder: Path) -> list[str]:
        """Names of all photos in `folder`, or in its largest copy if it has none."""
        found = self._locate(folder / "_")
        folders = [folder]
        if found is not None:
            base, rest = found
            folders = [version / Path(rest).parent for _, version in sorted(self._versions[base].items())]
        return next(filter(None, map(_photos_in, folders)), [])

    def _locate(self, photo: Path) -> tuple[Path, str] | None:
        """The folder in the capture that may have `_N` siblings, and the rest of the path; None outside."""
        try:
            parts = photo.relative_to(self._root).parts
        except ValueError:
            parts = ()
        if len(parts) > 1 and ".." not in parts:
            return self._root / parts[0], "/".join(parts[1:])
        return None

    def _map(self, base: Path, n: int) -> dict[str, Path]:
        key = (base, n)
        if key not in self._maps:
            self._maps[key] = self._match(self._versions[base][n], self._names[base])
        return self._maps[key]

    @staticmethod
    def _match(folder: Path, names: list[str]) -> dict[str, Path]:
        files = _photo_names(folder)
        by_stem = {os.path.splitext(name)[0]: name for name in sorted(files, reverse=True)}
        matched = {}
        for name in names:
            found = name if name in files else by_stem.get(os.path.splitext(name)[0])
            if found is not None:
                matched[name] = folder / found
        wanted = sorted(set(names))
        if not matched and len(files) == len(wanted):
            matched = {name: folder / file for name, file in zip(wanted, sorted(files))}
        return matched


def _versions(root: Path, named: set[Path], trust: Trust) -> dict[Path, dict[int, Path]]:
    """For each folder in `named`: itself (N = 1) and its siblings `_N` that the capture does not name, by N."""
    versions = {base: {1: base} if base.is_dir() else {} for base in named}
    for sibling in root.iterdir() if root.is_dir() else ():
        match = re.fullmatch(r"(.+)_(\d{1,9})", sibling.name, re.DOTALL)
        base = root / match[1] if match else root
        if match and base in named and 1 < int(match[2]) <= MAX_REDUCTION:
            if sibling not in named and sibling.is_dir():
                versions[base][int(match[2])] = sibling
    for folder in (folder for found in versions.values() for folder in found.values()):
        inside(root, folder.name, trust=trust)
    return versions


def _photos_in(folder: Path) -> list[str]:
    """Names of a folder's own photos; hidden files are left out (macOS writes "._0001.jpg" beside "0001.jpg")."""
    _, _, files = next(os.walk(folder), ("", [], []))
    return [file for file in files if file[0] != "." and os.path.splitext(file)[1].lower() in PHOTO_SUFFIXES]


def _photo_names(folder: Path) -> set[str]:
    names = set()
    for directory, _, files in os.walk(folder):
        prefix = Path(directory).relative_to(folder).as_posix()
        for file in files:
            if os.path.splitext(file)[1].lower() in PHOTO_SUFFIXES:
                names.add(file if prefix == "." else f"{prefix}/{file}")
    return names
