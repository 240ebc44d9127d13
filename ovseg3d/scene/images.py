"""Reading photos, masks, depth and labels at the size that a frame's camera states.

Photos are averaged down by area, with premultiplied alpha; masks, depth and labels are sampled at pixel centres
(nearest). EXIF orientation is applied if `Frame.upright`. Arrays are (h, w, ...) with row 0 at the top. Every failure
is a SceneError that names the file. `opening.py` opens images and rejects unsafe ones.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image

from ovseg3d.errors import SceneError
from ovseg3d.limits import MAX_PIXELS, check_array, check_name, first_line, open_regular, read_text, shorten
from ovseg3d.scene.capture import Frame, Scene
from ovseg3d.scene.opening import open_image, orientation_of

PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".heic", ".heif")
CLIPPED = 4
"""Distance from black and from white in which a pixel is clipped, of 255; all channels count."""
IGNORED = -1
"""Label of pixels that evaluation ignores, see `load_labels`."""
# Some releases of Pillow return a 16-bit image as int32.
_LARGEST = {np.dtype(np.uint8): 255, np.dtype(np.uint16): 65535, np.dtype(np.int32): 65535}
_MAX_PHRASES = 10_000
_LABELS = (-(2**31), 2**31 - 1)
# Values per block, so that large photos do not take gigabytes.
_AT_ONCE = 2**22
EXIF_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""The transposition that makes an image upright, by EXIF orientation."""


@dataclass(frozen=True)
class Header:
    """The header of an image file, read without decoding."""

    width: int
    height: int
    orientation: int
    """EXIF's 1..8; from 5 on, the upright image has width and height exchanged."""
    has_alpha: bool
    """Whether there is an alpha channel; pixels need not be transparent."""
    channels: int

    @property
    def upright_size(self) -> tuple[int, int]:
        """(width, height) after EXIF orientation."""
        return (self.height, self.width) if self.orientation >= 5 else (self.width, self.height)


def read_header(path: Path, max_pixels: int = MAX_PIXELS, what: str = "photo") -> Header:
    """Size, orientation and channels of an image. Raises SceneError: not an image, or too large."""
    with open_image(path, what, max_pixels) as image:
        has_alpha = image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info
        return Header(*image.size, orientation_of(image), has_alpha, len(image.getbands()))


def ends_well(path: Path) -> bool:
    """Whether a JPEG or PNG has its end mark, a cheap check for truncation; True for other formats.

    False is only a suspicion, as some phones append data. Decoding gives certainty.
    """
    try:
        with open_regular(path, what="photo") as file:
            start = file.read(4)
            file.seek(max(0, file.seek(0, 2) - 16))
            tail = file.read()
    except (OSError, SceneError):
        return False
    if start[:2] == b"\xff\xd8":
        return tail.rstrip(b"\0").endswith(b"\xff\xd9")
    if start == b"\x89PNG":
        return b"IEND" in tail
    return True


def load_photo(frame: Frame) -> UInt8[np.ndarray, "h w channels"]:
    """The photo at its camera's size: (h, w, 3), or (h, w, 4) with straight alpha if the file has alpha.

    Raises:
        SceneError: the file is missing, not an image, or truncated.
    """
    size = (frame.camera.width, frame.camera.height)
    with open_image(frame.image_path, "photo", frame.max_pixels) as image:
        orientation = orientation_of(image) if frame.upright else 1
        # A JPEG can be decoded at 1/2, 1/4 or 1/8 of its size, which is also an area average.
        image.draft("RGB", (size[1], size[0]) if orientation >= 5 else size)
        upright = _to_rgb(image)
        if orientation > 1:
            upright = upright.transpose(EXIF_TURNS[orientation])
        if upright.mode == "RGB" and upright.width % size[0] == 0 and upright.height % size[1] == 0:
            factors = (upright.width // size[0], upright.height // size[1])
            upright = upright if factors == (1, 1) else upright.reduce(factors)
        pixels = _pixels(upright)
    return pixels if pixels.shape[1::-1] == size else area_resize(pixels, *size)


def unclipped(rgb: UInt8[np.ndarray, "*shape channels"]) -> Bool[np.ndarray, "*shape"]:
    """Whether pixels are neither black nor white in all channels: a clipped pixel's constant colour tells no shape."""
    return (rgb.max(-1) > CLIPPED) & (rgb.min(-1) < 255 - CLIPPED)


def load_mask(frame: Frame) -> Bool[np.ndarray, "h w"]:
    """True for usable pixels, at the camera's size; all True without a mask.

    Raises:
        SceneError: the file is broken or of another size, or hides every pixel.
    """
    width, height = frame.camera.width, frame.camera.height
    if frame.mask_path is None:
        return np.ones((height, width), dtype=bool)
    values = _decode(frame.mask_path, "mask", frame.max_pixels)
    if values.ndim == 3:
        values = values[..., :3].max(axis=-1) if values.shape[-1] >= 3 else values[..., 0]
    # Half of the largest value works for 0/255 and 0/1, and for JPEG noise around black.
    usable = values > values.max(initial=0) / 2
    mask = _nearest(usable, width, height)
    if not mask.any():
        raise SceneError(
            f"The mask of {frame.name} hides every pixel",
            where=frame.mask_path,
            fix="white pixels are used and black ones hidden: invert the mask, or remove the frame",
        )
    return mask


def usable_at(frame: Frame, xy: Float[np.ndarray, "samples 2"]) -> Bool[np.ndarray, "samples"]:
    """Whether a photo's pixels at `xy` (0 to 1 of its size) are usable, see `load_mask`. Raises SceneError."""
    mask = load_mask(frame)
    h, w = mask.shape
    column, row = (xy * (w, h)).astype(np.int64).clip(0, (w - 1, h - 1)).T
    return mask[row, column]


def load_depth(frame: Frame, scene: Scene) -> Float[np.ndarray, "h w"]:
    """z-depth in input units at the camera's size, float32; 0 where unknown.

    Raises:
        SceneError: the file is broken.
    """
    width, height = frame.camera.width, frame.camera.height
    if frame.depth_path is None:
        return np.zeros((height, width), dtype=np.float32)
    values = _decode(frame.depth_path, "depth", frame.max_pixels, kinds="uif")
    if values.ndim != 2:
        raise too_many_channels(frame.depth_path, values.shape[-1])
    with np.errstate(all="ignore"):  # infinite values become unknown
        depth = _nearest(values, width, height, frame.depth_window).astype(np.float32) * np.float32(scene.depth_unit)
    return np.where(np.isfinite(depth) & (depth > 0), depth, np.float32(0))


def too_many_channels(path: Path, channels: int) -> SceneError:
    """The error for a depth file with several channels."""
    return SceneError(
        f"The depth image has {channels} channels, expected one",
        where=path,
        fix="write depth as a 16-bit PNG with one channel, in millimetres",
    )


def load_labels(frame: Frame, scene: Scene | None = None) -> Int[np.ndarray, "h w"]:
    """Label index of each pixel at the camera's size, int64; 0 is no label. All 0 without a label file.

    A 3D-OVS folder of masks becomes indices 1, 2, ... in the order of `segmentations/classes.txt`.

    Args:
        frame: its labels are read.
        scene: its `ignore_label` becomes `IGNORED`. If that is None, the largest value of an 8-bit or 16-bit image is
            ignored, unless it is the number of a class.

    Raises:
        SceneError: a file is missing or broken, is a colour image, or holds a value that is not an integer.
    """
    width, height = frame.camera.width, frame.camera.height
    if frame.label_path is None:
        return np.zeros((height, width), dtype=np.int64)
    if not os.path.isdir(frame.label_path):
        values = _decode(frame.label_path, "label image", frame.max_pixels, keep_palette=True)
        ignore = None if scene is None else scene.ignore_label
        if ignore is None:
            ignore = _LARGEST.get(values.dtype)
            ignore = None if scene is not None and ignore in scene.classes else ignore
        labels = _whole(_nearest(values, width, height), frame.label_path)
        return labels if ignore is None else np.where(labels == ignore, IGNORED, labels)
    labels = np.zeros((height, width), dtype=np.int64)
    for index, phrase in enumerate(read_phrases(frame.label_path.parent / "classes.txt"), start=1):
        values = _decode(mask_path(frame.label_path, phrase), "mask of a phrase", frame.max_pixels)
        values = values[..., 0] if values.ndim == 3 else values
        labels[_nearest(values, width, height) > values.max(initial=0) / 2] = index
    return labels


def mask_path(folder: Path, phrase: str) -> Path:
    """The mask of a phrase in a 3D-OVS folder. Raises SceneError: the phrase is a path."""
    if os.path.basename(phrase) != phrase:
        what = f"The phrase {shorten(ascii(phrase))} is to name a mask, but is a path"
        raise SceneError(what, where=folder.parent / "classes.txt", fix="write it without slashes")
    return folder / f"{phrase}.png"


def _whole(values: np.ndarray, path: Path) -> Int[np.ndarray, "h w"]:
    """Labels as int64, from an array or image of any type, with one channel or equal channels."""
    if values.ndim == 3:
        colours = values[..., :3] if values.shape[-1] in (3, 4) else values[..., :1]  # RGB and RGBA; grey
        if values.shape[-1] > 4 or (colours != colours[..., :1]).any():
            what = f"The label image has {values.shape[-1]} channels, which differ"
            raise SceneError(what, where=path, fix="write the index of each pixel's class in one channel")
        values = colours[..., 0]
    with np.errstate(invalid="ignore"):  # NaN compares as False
        usable = (values >= _LABELS[0]) & (values <= _LABELS[1])
        if values.dtype.kind == "f":
            usable &= values == np.rint(values)
    if not usable.all():
        strange = values[~usable].flat[0]
        raise SceneError(f"The label image holds {strange}, which is no index", where=path, fix="write whole numbers")
    return values.astype(np.int64)


def read_phrases(path: Path) -> tuple[str, ...]:
    """The phrases of a text file, one a line, in order, without duplicates. Raises SceneError."""
    lines = read_text(path, what="list of phrases").splitlines()
    phrases = tuple(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if len(phrases) > _MAX_PHRASES:
        what = f"The list holds {len(phrases)} phrases, and {_MAX_PHRASES} are the most"
        raise SceneError(what, where=path, fix="shorten the list")
    for phrase in phrases:
        check_name(phrase, path, what="phrase")
    return phrases


def area_resize(
    image: UInt8[np.ndarray, "h w channels"], width: int, height: int
) -> UInt8[np.ndarray, "h2 w2 channels"]:
    """Average an image down by area; colours of RGBA are weighted by alpha, so that transparent ones don't bleed."""
    rows, columns = _area_weights(image.shape[0], height), _area_weights(image.shape[1], width)
    channels = image.shape[-1]
    small = np.empty((height, width, channels), dtype=np.uint8)
    step = max(1, _AT_ONCE // (image.shape[1] * channels))
    for top in range(0, height, step):
        some = rows[top : top + step]
        first, last = int(some.indices[0]), int(some.indices[-1]) + 1
        # Rows first: (rows of the result, of the image) @ (rows of the image, w * c), then the same for columns.
        values = _rows_averaged(some[:, first:last], image[first:last])
        values = (columns @ values.transpose(1, 0, 2).reshape(image.shape[1], -1)).reshape(width, -1, channels)
        values = values.transpose(1, 0, 2)
        if channels == 4:
            values[..., :3] *= 255 / np.maximum(values[..., 3:], 1e-3)
        small[top : top + step] = np.clip(np.rint(values), 0, 255)
    return small


def _rows_averaged(weights: Any, image: np.ndarray) -> np.ndarray:
    """`weights` (of `_area_weights`) @ the rows of an image, as float32; colours are weighted by alpha."""
    averaged = np.empty((weights.shape[0], *image.shape[1:]), dtype=np.float32)
    step = max(1, _AT_ONCE // (image.shape[0] * image.shape[-1]))
    for left in range(0, image.shape[1], step):
        values = image[:, left : left + step].astype(np.float32)
        if image.shape[-1] == 4:
            values[..., :3] *= values[..., 3:] / 255
        some = (weights @ values.reshape(len(values), -1)).reshape(len(averaged), -1, image.shape[-1])
        averaged[:, left : left + step] = some
    return averaged


@lru_cache(maxsize=32)
def _area_weights(before: int, after: int) -> Any:  # csr_matrix, imported late
    """Row i holds the overlap of each of `before` cells with cell i of `after`; rows sum to 1."""
    from scipy.sparse import csr_matrix

    edges = np.arange(after + 1) * (before / after)
    rows, columns, weights = [], [], []
    for i in range(after):
        low, high = edges[i], edges[i + 1]
        for j in range(int(low), min(int(np.ceil(high - 1e-9)), before)):
            overlap = min(high, j + 1) - max(low, j)
            if overlap > 1e-9:
                rows.append(i)
                columns.append(j)
                weights.append(overlap / (high - low))
    return csr_matrix((np.array(weights, dtype=np.float32), (rows, columns)), shape=(after, before))


def _nearest(
    values: np.ndarray, width: int, height: int, window: tuple[float, float, float, float] | None = None
) -> np.ndarray:
    """Sample an image at the centres of a width x height grid that spans it, or a window, see `Frame.depth_window`.

    What lies outside the image is 0.
    """
    h, w = values.shape[:2]
    if window is not None:
        left, top, right, bottom = window
        rows = np.floor((top + (np.arange(height) + 0.5) * ((bottom - top) / height)) * h).astype(np.int64)
        columns = np.floor((left + (np.arange(width) + 0.5) * ((right - left) / width)) * w).astype(np.int64)
        inside = ((rows >= 0) & (rows < h))[:, None] & ((columns >= 0) & (columns < w))
        return np.where(inside, values[rows.clip(0, h - 1)[:, None], columns.clip(0, w - 1)], 0)
    if (h, w) == (height, width):
        return values
    rows = np.minimum(((np.arange(height) + 0.5) * (h / height)).astype(np.int64), h - 1)
    columns = np.minimum(((np.arange(width) + 0.5) * (w / width)).astype(np.int64), w - 1)
    return values[rows[:, None], columns[None, :]]


def _decode(path: Path, what: str, max_pixels: int, *, kinds: str = "buif", keep_palette: bool = False) -> np.ndarray:
    """Values of a mask, depth or label file as they are stored: (h, w) or (h, w, channels)."""
    if path.suffix == ".npy":
        height, width, *channels = check_array(path, what=what, kinds=kinds, most=8 * max_pixels)
        if height * width > max_pixels:
            raise SceneError(f"The {what} has {height * width / 1e6:.0f} million values", where=path)
        with open_regular(path, what=what) as file:
            try:
                values = np.load(file, allow_pickle=False)
            except Exception as error:  # the file has changed since the check
                what = f"The {what} cannot be read: {first_line(error)}"
                raise SceneError(what, where=path, fix="write the file again") from error
        return values[..., 0] if channels == [1] else values
    with open_image(path, what, max_pixels, fix="write the file again") as image:
        if image.mode in ("1", "P") and not keep_palette:
            return _pixels(image.convert("L"))
        return _pixels(image)


def _pixels(image: Image.Image, convert: Callable[[np.ndarray], np.ndarray] = np.asarray) -> np.ndarray:
    """An image as a writable array, `convert`ed by strips; Pillow's conversion takes three times as much memory."""
    step = max(1, _AT_ONCE // image.width)
    strips = (image.crop((0, y, image.width, min(y + step, image.height))) for y in range(0, image.height, step))
    if image.height <= step:
        return np.array(convert(np.asarray(image)))
    first = convert(np.asarray(next(strips)))
    pixels = np.empty((image.height, *first.shape[1:]), dtype=first.dtype)
    pixels[:step] = first
    for number, strip in enumerate(strips, start=1):
        pixels[number * step : (number + 1) * step] = convert(np.asarray(strip))
    return pixels


def _to_rgb(image: Image.Image) -> Image.Image:
    """RGB, or RGBA where there is an alpha channel; 16-bit grey keeps its upper byte."""
    if image.mode == "RGB" and "transparency" not in image.info:
        image.load()  # `convert` would copy it
        return image
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        return image.convert("RGBA")
    if image.mode.startswith("I"):
        return Image.fromarray(_pixels(image, _upper_byte)).convert("RGB")
    return image.convert("RGB")


def _upper_byte(values: np.ndarray) -> np.ndarray:
    return np.clip(values.astype(np.int64) // 256, 0, 255).astype(np.uint8)
