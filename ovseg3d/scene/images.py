"""Reading photos, masks, depth and labels at the size that a frame's camera states.

Photos are averaged down by area, with premultiplied alpha; masks, depth and labels are sampled at pixel centres
(nearest). EXIF orientation is applied when `Frame.upright`. Arrays are (h, w, ...) with row 0 at the top. Every
failure is a SceneError that names the file.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image, UnidentifiedImageError

from ovseg3d.errors import SceneError
from ovseg3d.scene.capture import Frame, Scene

PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".heic", ".heif")
IGNORED = -1
"""What `load_labels` gives for pixels that count neither way."""
# Some releases of Pillow give a 16-bit picture as int32.
_LARGEST = {np.dtype(np.uint8): 255, np.dtype(np.uint16): 65535, np.dtype(np.int32): 65535}
_ORIENTATION_TAG = 0x0112
# EXIF orientation to the flip or turn that makes the picture upright.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Header:
    """What a picture file says about itself, read without decoding it."""

    width: int
    height: int
    orientation: int
    """EXIF's 1..8; from 5 on, the upright picture has width and height exchanged."""
    has_alpha: bool
    """Whether it has an alpha channel (not: whether anything is transparent)."""
    channels: int

    @property
    def upright_size(self) -> tuple[int, int]:
        """(width, height) after EXIF orientation."""
        return (self.height, self.width) if self.orientation >= 5 else (self.width, self.height)


def read_header(path: Path) -> Header:
    """Size, orientation and channels of a picture. Raises SceneError when it is no picture."""
    with _open(path) as picture:
        orientation = 1
        # Pillow decodes a whole PNG to look for EXIF data that may follow the pixels; we don't.
        if picture.format != "PNG" or "exif" in picture.info:
            orientation = picture.getexif().get(_ORIENTATION_TAG, 1)
        has_alpha = picture.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in picture.info
        valid = isinstance(orientation, int) and 1 <= orientation <= 8
        return Header(*picture.size, orientation if valid else 1, has_alpha, len(picture.getbands()))


def ends_well(path: Path) -> bool:
    """Whether a JPEG or PNG has its end mark, a cheap sign that it was not cut short; True for other kinds.

    False is a suspicion only: some phones append data of their own. Decoding tells.
    """
    try:
        with open(path, "rb") as file:
            start = file.read(4)
            file.seek(max(0, file.seek(0, 2) - 16))
            tail = file.read()
    except OSError:
        return False
    if start[:2] == b"\xff\xd8":
        return tail.rstrip(b"\0").endswith(b"\xff\xd9")
    if start == b"\x89PNG":
        return b"IEND" in tail
    return True


def load_photo(frame: Frame) -> UInt8[np.ndarray, "h w channels"]:
    """The photo at its camera's size: (h, w, 3), or (h, w, 4) with straight alpha when the file has alpha.

    Raises:
        SceneError: the file is missing, no picture, or cut short.
    """
    size = (frame.camera.width, frame.camera.height)
    header = read_header(frame.image_path)
    turned = frame.upright and header.orientation > 1
    with _open(frame.image_path) as picture:
        try:
            # A JPEG can be decoded at 1/2, 1/4 or 1/8 of its size, which is an area average of its own.
            raw_size = size[::-1] if turned and header.orientation >= 5 else size
            picture.draft("RGB", raw_size)
            picture = _to_rgb(picture)
            if turned:
                picture = picture.transpose(_UPRIGHT[header.orientation])
            if picture.size == size:
                return np.array(picture)
            if picture.mode == "RGB" and picture.width % size[0] == 0 and picture.height % size[1] == 0:
                return np.array(picture.reduce((picture.width // size[0], picture.height // size[1])))
        except (OSError, SyntaxError, ValueError, EOFError) as error:
            raise SceneError(
                f"The photo cannot be decoded: {error}",
                where=frame.image_path,
                fix="copy it again from the camera, or remove the frame from the capture",
            ) from error
        return area_resize(np.asarray(picture), *size)


def load_mask(frame: Frame) -> Bool[np.ndarray, "h w"]:
    """True where a pixel may be used, at the camera's size; all True when the frame has no mask.

    Raises:
        SceneError: the file is broken or of another size, or hides every pixel.
    """
    width, height = frame.camera.width, frame.camera.height
    if frame.mask_path is None:
        return np.ones((height, width), dtype=bool)
    values = _decode(frame.mask_path, "mask")
    if values.ndim == 3:
        values = values[..., :3].max(axis=-1) if values.shape[-1] >= 3 else values[..., 0]
    # Half of the largest value serves 0/255 and 0/1 alike, and noise of JPEG around black.
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
    """Whether what a photo shows at places (xy in 0..1 of it) may be used, see `load_mask`. Raises SceneError."""
    mask = load_mask(frame)
    h, w = mask.shape
    column, row = (xy * (w, h)).astype(np.int64).clip(0, (w - 1, h - 1)).T
    return mask[row, column]


def load_depth(frame: Frame, scene: Scene) -> Float[np.ndarray, "h w"]:
    """z-depth in input units at the camera's size, float32; 0 where unknown, or everywhere without a file.

    Raises:
        SceneError: the file is broken.
    """
    width, height = frame.camera.width, frame.camera.height
    if frame.depth_path is None:
        return np.zeros((height, width), dtype=np.float32)
    values = _decode(frame.depth_path, "depth")
    if values.ndim != 2:
        raise too_many_channels(frame.depth_path, values.shape[-1])
    depth = _nearest(values, width, height).astype(np.float32) * np.float32(scene.depth_unit)
    return np.where(np.isfinite(depth) & (depth > 0), depth, np.float32(0))


def too_many_channels(path: Path, channels: int) -> SceneError:
    """What a depth file is told that is a picture in colours."""
    return SceneError(
        f"The depth image has {channels} channels, expected one",
        where=path,
        fix="write depth as a 16-bit PNG with one channel, in millimetres",
    )


def load_labels(frame: Frame, scene: Scene | None = None) -> Int[np.ndarray, "h w"]:
    """Label index of each pixel at the camera's size, int64; 0 is none. All 0 when the frame has no labels.

    A 3D-OVS folder of masks becomes indices 1, 2, ... in the order of `segmentations/classes.txt`.

    Args:
        frame: whose labels.
        scene: says by `ignore_label` what counts neither way, and becomes `IGNORED`. Where it says nothing that is the
            largest value of an 8-bit or 16-bit picture, unless the scene has a class of that number.

    Raises:
        SceneError: a file is missing or broken.
    """
    width, height = frame.camera.width, frame.camera.height
    if frame.label_path is None:
        return np.zeros((height, width), dtype=np.int64)
    if not frame.label_path.is_dir():
        values = _decode(frame.label_path, "label image", keep_palette=True)
        if values.ndim == 3:
            values = values[..., 0]
        ignore = None if scene is None else scene.ignore_label
        if ignore is None:
            ignore = _LARGEST.get(values.dtype)
            ignore = None if scene is not None and ignore in scene.classes else ignore
        labels = _nearest(values, width, height).astype(np.int64)
        return labels if ignore is None else np.where(labels == ignore, IGNORED, labels)
    labels = np.zeros((height, width), dtype=np.int64)
    for index, phrase in enumerate(read_phrases(frame.label_path.parent / "classes.txt"), start=1):
        values = _decode(frame.label_path / f"{phrase}.png", "mask of a phrase")
        values = values[..., 0] if values.ndim == 3 else values
        labels[_nearest(values, width, height) > values.max(initial=0) / 2] = index
    return labels


def read_phrases(path: Path) -> tuple[str, ...]:
    """The phrases of a text file, one a line, in their order and without doubles."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SceneError(f"The list of phrases cannot be read: {error}", where=path, fix="save it as UTF-8") from error
    return tuple(dict.fromkeys(line.strip() for line in lines if line.strip()))


def area_resize(
    picture: UInt8[np.ndarray, "h w channels"], width: int, height: int
) -> UInt8[np.ndarray, "h2 w2 channels"]:
    """Average a picture down by area; colours of RGBA are weighted by alpha, so that hidden ones don't bleed."""
    rows, columns = _area_weights(picture.shape[0], height), _area_weights(picture.shape[1], width)
    values = picture.astype(np.float32)
    if picture.shape[-1] == 4:
        values[..., :3] *= values[..., 3:] / 255
    # Rows first: (height, h) @ (h, w * c), then the same for columns.
    channels = picture.shape[-1]
    values = (rows @ values.reshape(picture.shape[0], -1)).reshape(height, picture.shape[1], channels)
    values = (columns @ values.transpose(1, 0, 2).reshape(picture.shape[1], -1)).reshape(width, height, channels)
    values = values.transpose(1, 0, 2)
    if channels == 4:
        values[..., :3] *= 255 / np.maximum(values[..., 3:], 1e-3)
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


@lru_cache(maxsize=32)
def _area_weights(before: int, after: int):  # noqa: ANN202 - a scipy sparse matrix, imported late
    """Row i holds how much each of `before` cells overlaps cell i of `after`, summing to 1."""
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


def _nearest(values: np.ndarray, width: int, height: int) -> np.ndarray:
    """Sample an image at the centres of a width x height grid that spans it."""
    h, w = values.shape[:2]
    if (h, w) == (height, width):
        return values
    rows = np.minimum(((np.arange(height) + 0.5) * (h / height)).astype(np.int64), h - 1)
    columns = np.minimum(((np.arange(width) + 0.5) * (w / width)).astype(np.int64), w - 1)
    return values[rows[:, None], columns[None, :]]


def _decode(path: Path, kind: str, keep_palette: bool = False) -> np.ndarray:
    """Values of a mask, depth or label file as they are stored."""
    try:
        if path.suffix == ".npy":
            values = np.load(path, allow_pickle=False)
            return values[..., 0] if values.ndim == 3 and values.shape[-1] == 1 else values
        with _open(path, kind) as picture:
            if picture.mode in ("1", "P") and not keep_palette:
                picture = picture.convert("L")
            return np.array(picture)
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise SceneError(f"The {kind} cannot be decoded: {error}", where=path, fix="write the file again") from error


def _open(path: Path, kind: str = "photo") -> Image.Image:
    if path.suffix.lower() in (".heic", ".heif"):
        _register_heif()
    try:
        return Image.open(path)
    except FileNotFoundError:
        raise SceneError(f"The {kind} is missing", where=path, fix="put the file back") from None
    except UnidentifiedImageError:
        raise SceneError(
            f"The {kind} is not a readable image", where=path, fix="copy the file again, or remove its frame"
        ) from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise SceneError(
            f"The {kind} cannot be read: {error}", where=path, fix="copy the file again, or remove its frame"
        ) from error


@lru_cache(maxsize=1)
def _register_heif() -> None:
    import pillow_heif

    pillow_heif.register_heif_opener()


def _to_rgb(picture: Image.Image) -> Image.Image:
    """RGB, or RGBA where there is an alpha channel; 16-bit grey keeps its upper byte."""
    if picture.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in picture.info:
        return picture.convert("RGBA")
    if picture.mode.startswith("I"):
        grey = np.clip(np.asarray(picture, dtype=np.int64) // 256, 0, 255).astype(np.uint8)
        return Image.fromarray(grey).convert("RGB")
    return picture.convert("RGB")
