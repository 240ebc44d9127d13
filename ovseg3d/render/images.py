"""Images of depth, normals and opacity, and previews of a run.

Images are uint8 (h, w, 3), rows from the top. A preview shows a held-out photo, its render and depth, and the depth
error if the true depth is known.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from io import BytesIO
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont

from ovseg3d.files import write_atomic
from ovseg3d.scene import Frame, load_photo

GAP, LABEL = 4, 18
"""Space between images, and height of a label, in pixels."""
LARGEST_ERROR = 0.1
"""Relative depth error of the last colour in an error image."""


def to_bytes(rgb: Float[np.ndarray, "*shape 3"]) -> UInt8[np.ndarray, "*shape 3"]:
    """Convert 0..1 to 0..255, with clipping."""
    return np.rint(np.clip(rgb, 0, 1) * 255).astype(np.uint8)


@lru_cache(maxsize=4)
def _palette(name: str) -> np.ndarray:
    import matplotlib

    return (matplotlib.colormaps[name](np.linspace(0, 1, 256))[:, :3] * 255).astype(np.uint8)


def depth_range(depth_z: Float[np.ndarray, "h w"]) -> tuple[float, float]:
    """Range of depth for an image: 2nd to 98th percentile of the known values."""
    known = depth_z[np.isfinite(depth_z) & (depth_z > 0)]
    if not len(known):
        return 1.0, 2.0
    low, high = np.percentile(known, [2, 98])
    return float(low), float(max(high, low * 1.001))


def depth_image(
    depth_z: Float[np.ndarray, "h w"], span: tuple[float, float] | None = None
) -> UInt8[np.ndarray, "h w 3"]:
    """Depth as colours, linear in 1/depth: near is bright, far is dark, unknown is black."""
    low, high = span or depth_range(depth_z)
    known = np.isfinite(depth_z) & (depth_z > 0)
    inverse = 1 / np.where(known, depth_z, high)
    share = (inverse - 1 / high) / (1 / low - 1 / high)
    colours = _palette("inferno")[np.clip(np.rint(share * 255), 0, 255).astype(np.int64)]
    return np.where(known[..., None], colours, np.uint8(0))


def depth_error_image(pred_z: Float[np.ndarray, "h w"], true_z: Float[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """Relative depth error from 0 (dark) to LARGEST_ERROR (bright); grey where the true depth is unknown."""
    known = np.isfinite(true_z) & (true_z > 0)
    error = np.abs(np.nan_to_num(pred_z) - true_z) / np.where(known, true_z, 1)
    index = np.clip(np.rint(error / LARGEST_ERROR * 255), 0, 255).astype(np.int64)
    return np.where(known[..., None], _palette("viridis")[index], np.uint8(128))


def normal_image(normal: Float[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """Unit normals as colours: x, y, z as red, green, blue."""
    return to_bytes(normal * 0.5 + 0.5)


def opacity_image(opacity: Float[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """Opacity as grey: white is opaque."""
    return to_bytes(np.repeat(opacity[..., None], 3, axis=-1))


def preview(
    name: str,
    photo: Float[np.ndarray, "h w 3"],
    rendered: dict[str, np.ndarray],
    true_z: Float[np.ndarray, "h w"] | None,
    psnr: float,
) -> Image.Image:
    """Photo, render, depth and, if known, depth error side by side, with labels.

    Args:
        name: name of the photo.
        photo: (h, w, 3), 0 to 1.
        rendered: result of `Renders.render` for the photo's camera.
        true_z: measured z-depth (h, w) in input units, 0 where unknown; None without.
        psnr: PSNR of the render in dB, or NaN.
    """
    depth_z = rendered["depth_z"]
    images = [
        (f"photo {Path(name).name}", to_bytes(photo)),
        ("render" if math.isnan(psnr) else f"render, {psnr:.1f} dB", to_bytes(rendered["rgb"])),
        ("depth", depth_image(depth_z)),
    ]
    if true_z is not None and (true_z > 0).any():
        images.append((f"depth error, 0 to {LARGEST_ERROR:.0%}", depth_error_image(depth_z, true_z)))
    return side_by_side(images)


def side_by_side(images: Sequence[tuple[str, np.ndarray]]) -> Image.Image:
    """Images of one size in a row, with a label above each."""
    h, w = images[0][1].shape[:2]
    zoom = max(1, round(200 / w))  # tiny images are enlarged, so that the label is readable
    h, w = h * zoom, w * zoom
    sheet = Image.new("RGB", (len(images) * (w + GAP) + GAP, h + LABEL + GAP), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for column, (label, pixels) in enumerate(images):
        left = GAP + column * (w + GAP)
        draw.text((left, 2), label, fill="black", font=font)
        sheet.paste(Image.fromarray(pixels).resize((w, h), Image.Resampling.NEAREST), (left, LABEL))
    return sheet


def contact_sheet(previews: Sequence[Image.Image]) -> Image.Image:
    """Stack previews vertically; the result is at most 1280 pixels wide."""
    width = max(image.width for image in previews)
    sheet = Image.new("RGB", (width, sum(image.height for image in previews)), "white")
    top = 0
    for image in previews:
        sheet.paste(image, (0, top))
        top += image.height
    if width > 1280:
        sheet = sheet.resize((1280, round(sheet.height * 1280 / width)), Image.Resampling.LANCZOS)
    return sheet


def save_image(path: Path, image: Image.Image | np.ndarray) -> None:
    """Write a JPEG or PNG, by the suffix of `path`, atomically. Raises OutputError."""
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    buffer = BytesIO()
    image.save(buffer, format="JPEG" if path.suffix.lower() in (".jpg", ".jpeg") else "PNG")
    write_atomic(path, buffer.getvalue())


def photo_on_white(frame: Frame) -> Float[np.ndarray, "h w 3"]:
    """A frame's photo, 0 to 1, on a white background. Raises SceneError."""
    photo = load_photo(frame).astype(np.float32) / 255
    if photo.shape[-1] == 3:
        return photo
    alpha = photo[..., 3:]
    return photo[..., :3] * alpha + (1 - alpha)
