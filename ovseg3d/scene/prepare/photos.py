"""Photos of a phone: find them in a folder, turn them upright, measure them, and write them for the scene.

If a photo is re-encoded, EXIF orientation is applied to the pixels and the EXIF block is dropped. HEIC is
read through pillow-heif. A photo that is already upright, JPEG or PNG, and small enough is copied byte by byte.
"""

import re
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from ovseg3d.errors import SceneError
from ovseg3d.scene.opening import open_image, orientation_of
from ovseg3d.scene.prepare.selection import GREY_SIDE, Measure, measure

SUFFIXES = {".jpg", ".jpeg", ".png", ".heic", ".heif", ".webp", ".tif", ".tiff", ".bmp"}
_EXIF_IFD, _FOCAL_35MM = 0x8769, 0xA405
_DIAGONAL_35MM = 43.2666  # millimetres, of a 36 x 24 film frame


@dataclass(frozen=True)
class Photo:
    """One readable photo: its file, its upright size, its measure, and its focal length if EXIF states it.

    `focal_35mm` is millimetres on 35 mm film with the same diagonal field of view.
    """

    path: Path
    width: int
    height: int
    focal_35mm: float | None
    measure: Measure

    def focal_px(self, width: int, height: int) -> float | None:
        """The focal length in pixels of this photo at another size (CIPA's definition: equal diagonals)."""
        if self.focal_35mm is None:
            return None
        return self.focal_35mm / _DIAGONAL_35MM * float(np.hypot(width, height))


def find_photos(folder: Path, leave_out: Path) -> list[Path]:
    """All photos in `folder` and below, in natural order (2 before 10), without hidden ones and `leave_out`."""
    found = [
        p
        for p in folder.rglob("*")
        if p.suffix.lower() in SUFFIXES
        and not any(part.startswith(".") for part in p.relative_to(folder).parts)
        and leave_out not in p.parents
        and p.is_file()
    ]
    return sorted(found, key=lambda p: natural_key(p.relative_to(folder).as_posix()))


def natural_key(name: str) -> list[tuple[int, str]]:
    """Sort key under which IMG_2 comes before IMG_10."""
    parts = re.split(r"(\d+)", name.lower())
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


@contextmanager
def _open(path: Path) -> Generator[Image.Image, None, None]:
    """Raises ValueError: it cannot be opened or decoded."""
    try:
        with open_image(path) as image:
            yield image
    except SceneError as error:
        raise ValueError(error.what) from error


def read_photo(path: Path) -> Photo:
    """Read and measure one photo. Raises OSError (PIL's UnidentifiedImageError is one) or ValueError."""
    with _open(path) as image:
        width, height = image.size
        if orientation_of(image) >= 5:  # 5 to 8 turn by 90 degrees
            width, height = height, width
        if min(width, height) < 24:
            raise ValueError(f"only {width}x{height} pixels")
        focal = _focal_35mm(image)
        # A JPEG can be decoded at an eighth of its size for an eighth of the time.
        image.draft("L", (GREY_SIDE, GREY_SIDE))
        small = ImageOps.exif_transpose(image).convert("L")
    small.thumbnail((GREY_SIDE, GREY_SIDE), Image.Resampling.BOX)
    return Photo(path, width, height, focal, measure(np.asarray(small)))


def _focal_35mm(image: Image.Image) -> float | None:
    try:
        focal = float(image.getexif().get_ifd(_EXIF_IFD)[_FOCAL_35MM])
    except Exception:  # noqa: BLE001 - there is none, or damaged EXIF data raise any error
        return None
    return focal if 5 < focal < 1000 else None


def write_photo(photo: Photo, folder: Path, stem: str, max_side: int | None) -> tuple[str, int, int]:
    """Write the photo into `folder` as stem + suffix; returns its name, width and height there."""
    with _open(photo.path) as image:
        upright = orientation_of(image) == 1
        fits = max_side is None or max(image.size) <= max_side
        as_is = image.format in ("JPEG", "PNG") and image.mode in ("RGB", "RGBA")
        if upright and fits and as_is:
            name = stem + (".jpg" if image.format == "JPEG" else ".png")
            shutil.copyfile(photo.path, folder / name)
            return name, *image.size
        # Keep the colour profile: photos of phones are often in Display P3.
        profile = image.info.get("icc_profile")
        alpha = image.mode in ("RGBA", "LA") or "transparency" in image.info
        image = ImageOps.exif_transpose(image).convert("RGBA" if alpha else "RGB")
    if max_side is not None and max(image.size) > max_side:
        factor = max_side / max(image.size)
        size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
        image = image.resize(size, Image.Resampling.BOX if factor < 0.5 else Image.Resampling.LANCZOS)
    image.info.clear()
    name = stem + (".png" if alpha else ".jpg")
    if alpha:
        image.save(folder / name, icc_profile=profile)
    else:
        image.save(folder / name, quality=95, subsampling=0, icc_profile=profile)
    return name, *image.size


def unique_stems(paths: list[Path], root: Path) -> list[str]:
    """A file stem for each photo: its own, made safe, with its folders before it when two share one."""
    safe = [re.sub(r"[^\w.-]+", "_", p.stem) for p in paths]
    longer = [re.sub(r"[^\w.-]+", "_", p.relative_to(root).with_suffix("").as_posix()) for p in paths]
    lower = [s.lower() for s in safe]
    stems = [long if lower.count(s.lower()) > 1 else s for s, long in zip(safe, longer)]
    taken: set[str] = set()
    for i, stem in enumerate(stems):
        name, number = stem, 1
        while name.lower() in taken:  # a.jpg beside a.png
            number += 1
            name = f"{stem}_{number}"
        taken.add(name.lower())
        stems[i] = name
    return stems
