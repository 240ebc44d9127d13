"""Finding a photo's file: the full-size one, or a smaller copy in an `images_N` folder beside it.

`images/a/0001.jpg` has its half-size copy in `images_2/a/0001.jpg`, perhaps with another suffix. LLFF's copies have
other names altogether; then the sorted names correspond, provided that there are equally many. A folder that the
capture names itself is no copy (`cam` and `cam_2` may be two cameras), and outside the capture none is looked for.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from ovseg3d.limits import MAX_REDUCTION, NO_TRUST, Trust, inside
from ovseg3d.scene.images import PHOTO_SUFFIXES


class Copies:
    """Which files hold the photos of one capture, at which sizes.

    Args:
        root: the capture's folder.
        photos: where the full-size photo of each frame is expected.
        trust: what the user allows.

    Raises:
        SceneError: a folder of photos or of copies is a link that leads out of the capture.
    """

    def __init__(self, root: Path, photos: Sequence[Path], trust: Trust = NO_TRUST) -> None:
        self._root = root
        self._places = {photo: place for photo in photos if (place := self._place(photo)) is not None}
        self._names: dict[Path, list[str]] = {}
        for base, rest in self._places.values():
            self._names.setdefault(base, []).append(rest)
        self._versions = _versions(root, set(self._names), trust)
        self._maps: dict[tuple[Path, int], dict[str, Path]] = {}

    def find(self, photo: Path, factor: float) -> tuple[Path, int] | None:
        """The smallest copy that is still large enough for `factor`, else the nearest larger reduction.

        Returns:
            The file and its N (1 for the full-size folder), or None when there is no file at all.
        """
        if photo not in self._places:
            return (photo, 1) if photo.is_file() else None
        base, rest = self._places[photo]
        versions = self._versions[base]
        enough = sorted((n for n in versions if n <= factor + 1e-6), reverse=True)
        for n in enough + sorted(set(versions) - set(enough)):
            path = self._map(base, n).get(rest)
            if path is not None:
                return path, n
        return (photo, 1) if photo.is_file() else None

    def listing(self, folder: Path) -> list[str]:
        """Names of all photos in the `folder` of one, or in its largest copy where it has none."""
        place = self._place(folder / "_")
        folders = [folder]
        if place is not None:
            base, rest = place
            folders = [version / Path(rest).parent for _, version in sorted(self._versions[base].items())]
        return next(filter(None, map(_photos_in, folders)), [])

    def _place(self, photo: Path) -> tuple[Path, str] | None:
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
    """For each folder in `named`: N to folder, for itself (1) and its siblings `_N` that the capture does not name."""
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
    """Names of a folder's own photos; a hidden file is none (macOS leaves "._0001.jpg" beside "0001.jpg")."""
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
