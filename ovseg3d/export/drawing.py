"""Overlays on photos and renders: relevancy and labels."""

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image

from ovseg3d.query.engine import QueryEngine
from ovseg3d.render.images import side_by_side, to_bytes
from ovseg3d.scene.images import load_photo


def over(
    photo: UInt8[np.ndarray, "h w 3"], relevancy: Float[np.ndarray, "h w"], threshold: float
) -> UInt8[np.ndarray, "h w 3"]:
    """Relevancy over a photo: grey below the threshold, a colour map with a fixed scale above."""
    from matplotlib import colormaps

    strength = ((relevancy - threshold) / (1 - threshold)).clip(0, 1)[..., None]
    grey = photo.mean(-1, keepdims=True) / 255 * 0.6
    glow = colormaps["inferno"](0.35 + 0.6 * strength[..., 0])[..., :3]
    lit = 0.35 * photo / 255 + 0.65 * glow
    return to_bytes(np.where(relevancy[..., None] >= threshold, lit, grey))


def shaded(
    rgb: Float[np.ndarray, "h w 3"], labels: Int[np.ndarray, "h w"], tints: UInt8[np.ndarray, "labels 3"]
) -> UInt8[np.ndarray, "h w 3"]:
    """Labels in their colours, shaded by the brightness of a render, 0 to 1."""
    shade = (0.35 + 0.65 * rgb.mean(-1, keepdims=True)).clip(0, 1)
    return to_bytes(tints[labels] / 255 * shade)


def photo_of(engine: QueryEngine, view: str) -> UInt8[np.ndarray, "h w 3"]:
    """The photo of a view. Raises ConfigError, SceneError."""
    return np.asarray(load_photo(engine.frame(view)))[..., :3]


def beside_photo(
    view: str, photo: UInt8[np.ndarray, "h w 3"], title: str, drawn: UInt8[np.ndarray, "h2 w2 3"]
) -> Image.Image:
    """A row of an overview: the photo and an image of the same view.

    Args:
        view: the name of the frame.
        photo: of the view.
        title: of the image.
        drawn: the image, at any size.
    """
    return side_by_side([(f"photo {view}", photo), (title, drawn)])
