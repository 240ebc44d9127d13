"""Safe opening of untrusted images: `open_image`, which all readers of images use.

Only regular files of a few formats are opened (others start programs, such as Ghostscript for PostScript), and only
if the header states a size that can be decoded in bounded time and memory.
"""

import os
import struct
import threading
from collections.abc import Generator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from PIL import Image, UnidentifiedImageError

from ovseg3d.errors import Ovseg3dError, SceneError
from ovseg3d.limits import MAX_PIXELS, first_line, open_regular

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")
"""Pillow's names of the accepted formats (JPEG includes the MPO of phones); HEIF is accepted by suffix, see `_HEIF`."""
LONGEST_SIDE = 65_536
"""Longest accepted side of an image, pixels."""
_HEIF = (".heic", ".heif")
_BYTES_PER_PIXEL = 5
"""Of the largest accepted file: uncompressed RGBA takes 4."""
_MAX_SCANS = 500
"""Of a progressive JPEG. Each decodes all pixels; ten are usual."""
_MAX_VALUES = 2**20
"""Of one TIFF tag, such as the offsets of an image's strips."""
_ORIENTATION_TAG = 0x0112
# Held while the process-wide pixel limit of `Image.open` is disabled.
_opening = threading.Lock()


@contextmanager
def open_image(
    path: Path,
    what: str = "photo",
    max_pixels: int = MAX_PIXELS,
    error: type[Ovseg3dError] = SceneError,
    fix: str = "give an image such as .jpg or .png; copy the file again if it is damaged",
) -> Generator[Image.Image, None, None]:
    """Open an image and read its header; decode it inside the `with` block.

    Args:
        path: the file.
        what: name of the kind of image for messages, such as "mask".
        max_pixels: larger images are rejected.
        error: type of the error to raise.
        fix: advice for a file that is not an image, or truncated.

    Raises:
        error: the file is missing, not a regular file, not an image of one of `FORMATS`, or too large; from the block,
            for anything that Pillow raises when it decodes the image.
    """
    path = Path(path)
    with open_regular(path, error, what) as file:
        try:
            _check_file(file, max_pixels)
            image = _open(file, path.suffix.lower() in _HEIF)
            _check_image(image, file, max_pixels)
        except UnidentifiedImageError:
            raise error(f"The {what} is not a readable image", where=path, fix=fix) from None
        except _TooLarge as cause:
            raise error(f"The {what} {cause}", where=path, fix=cause.fix) from None
        except Exception as cause:  # Pillow reports broken files with a dozen kinds
            raise error(f"The {what} cannot be read: {first_line(cause)}", where=path, fix=fix) from cause
        try:
            yield image
        except Ovseg3dError:
            raise
        except Exception as cause:
            raise error(f"The {what} cannot be decoded: {first_line(cause)}", where=path, fix=fix) from cause


def orientation_of(image: Image.Image) -> int:
    """EXIF orientation, 1 to 8; 1 if there is none that can be read."""
    # Pillow would decode the whole PNG to find EXIF data after the pixels.
    if image.format == "PNG" and "exif" not in image.info:
        return 1
    try:
        orientation = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # noqa: BLE001 - damaged EXIF data raise any error; the image itself may be fine
        return 1
    return orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1


class _TooLarge(Exception):
    """An image that would take too long, or too much memory."""

    def __init__(self, what: str, fix: str = "write the file again") -> None:
        self.fix = fix
        super().__init__(what)


def _open(file: BinaryIO, heif: bool) -> Image.Image:
    formats = FORMATS
    if heif:
        _register_heif()
        formats = (*FORMATS, "HEIF")
    with _opening:
        most, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(file, formats=formats)
        finally:
            Image.MAX_IMAGE_PIXELS = most


@lru_cache(maxsize=1)
def _register_heif() -> None:
    import pillow_heif

    pillow_heif.register_heif_opener()


def _check_file(file: BinaryIO, max_pixels: int) -> None:
    """Raises _TooLarge: Pillow would read or allocate too much when it opens the file."""
    size = os.fstat(file.fileno()).st_size
    if size > _BYTES_PER_PIXEL * max_pixels:
        raise _TooLarge(f"takes {size / 2**20:.0f} MiB, more than an image of {max_pixels / 1e6:g} megapixels")
    start = file.read(64)
    if start[:2] in (b"II", b"MM"):
        _check_tiff(file, "<" if start[:2] == b"II" else ">", start, max_pixels)
    elif start[8:16] == b"WEBPVP8X":  # Pillow allocates the whole image at once
        width, height = (int.from_bytes(start[i : i + 3], "little") + 1 for i in (24, 27))
        _check_size(width, height, max_pixels)
    file.seek(0)


def _check_tiff(file: BinaryIO, order: str, start: bytes, max_pixels: int) -> None:
    """Raises _TooLarge: the first directory has too many values, or tiles larger than an image."""
    big = start[2:4] in (b"+\0", b"\0+")
    (place,) = struct.unpack_from(f"{order}{'Q' if big else 'L'}", start, 8 if big else 4)
    file.seek(place)
    (count,) = struct.unpack(f"{order}{'Q' if big else 'H'}", file.read(8 if big else 2))
    entry = struct.Struct(f"{order}{'HHQ8s' if big else 'HHL4s'}")
    if count > 2**16:
        raise _TooLarge(f"has {count} tags")
    data = file.read(count * entry.size)
    tile = {322: 1, 323: 1}  # width and length
    for tag, kind, number, value in entry.iter_unpack(data[: len(data) // entry.size * entry.size]):
        if number > _MAX_VALUES and kind not in (1, 2, 6, 7):  # text and bytes take no more memory than file
            raise _TooLarge(f"has a tag of {number} values")
        if tag in tile:
            tile[tag] = struct.unpack_from(f"{order}{'H' if kind == 3 else 'L'}", value)[0]
    if tile[322] * tile[323] > max_pixels:
        raise _TooLarge(f"has tiles of {tile[322]} x {tile[323]} pixels")


def _check_image(image: Image.Image, file: BinaryIO, max_pixels: int) -> None:
    """Raises _TooLarge: decoding would take too much time or memory."""
    width, height = image.size
    _check_size(width, height, max_pixels)
    tiles = getattr(image, "tile", ())
    if sum((x2 - x1) * (y2 - y1) for _, (x1, y1, x2, y2), *_ in tiles) > 8 * width * height:
        raise _TooLarge("has parts that cover it many times")
    if image.format in ("JPEG", "MPO") and "progression" in image.info:
        place = file.tell()
        file.seek(0)
        scans = file.read().count(b"\xff\xda")
        file.seek(place)
        if scans > _MAX_SCANS:
            raise _TooLarge(f"is sent in {scans} passes, which would take very long")


def _check_size(width: int, height: int, max_pixels: int) -> None:
    fix = "use a smaller copy, or say --max-megapixels if you trust who made this"
    if width * height > max_pixels:
        raise _TooLarge(f"has {width} x {height} pixels, more than {max_pixels / 1e6:g} megapixels", fix)
    if max(width, height) > LONGEST_SIDE:
        raise _TooLarge(f"has {width} x {height} pixels, more than {LONGEST_SIDE} on a side", "use a smaller copy")
    if min(width, height) < 1:
        raise _TooLarge("has no pixels")
