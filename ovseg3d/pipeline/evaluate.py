"""Measure a field on views: PSNR, SSIM, and depth error where the true depth is known.

RGBA photos are put on white, as the renderer does. A frame's mask leaves pixels out of PSNR and depth; SSIM,
which needs whole windows, sees the photo's own pixels there. A mean is over views, of those that have a figure.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from ovseg3d.metrics import depth_errors, psnr, ssim
from ovseg3d.scene import Camera, Frame, Scene, load_depth, load_mask, load_photo

FIGURES = ("psnr", "ssim", "depth_rel_median", "depth_within_5_percent", "depth_abs_median")


@runtime_checkable
class Renders(Protocol):
    """What can draw a view: `field.Renderer`, or anything that does the same."""

    def render(self, camera: Camera) -> dict[str, np.ndarray]:
        """rgb (h, w, 3) from 0 to 1, depth_z (h, w) in input units, and more."""


@dataclass(frozen=True)
class ViewScore:
    """Figures of one view; NaN where there is nothing to compare with."""

    view: int
    """Index into `Scene.frames`."""
    name: str
    psnr: float
    """dB."""
    ssim: float
    depth_rel_median: float
    depth_within_5_percent: float
    """0 to 1."""
    depth_abs_median: float
    """Input units."""


@dataclass(frozen=True)
class Evaluation:
    """Figures of several views."""

    views: tuple[ViewScore, ...]

    def mean(self) -> dict[str, float]:
        """Mean over views of each figure, NaN where no view has it."""
        means = {}
        for figure in FIGURES:
            values = np.array([getattr(score, figure) for score in self.views], dtype=np.float64)
            known = values[~np.isnan(values)]
            means[figure] = float(known.mean()) if len(known) else float("nan")
        return means

    def groups(self) -> dict[str, dict[str, float]]:
        """Means by the folder that the views lie in, where they lie in several ("test_on", "test_off")."""
        folders = sorted({score.name.rpartition("/")[0] for score in self.views})
        if len(folders) < 2:
            return {}
        return {
            folder: Evaluation(tuple(s for s in self.views if s.name.rpartition("/")[0] == folder)).mean()
            for folder in folders
        }


def photo_on_white(frame: Frame) -> Float[np.ndarray, "h w 3"]:
    """A frame's photo, 0 to 1, with what is transparent replaced by white. Raises SceneError."""
    photo = load_photo(frame).astype(np.float32) / 255
    if photo.shape[-1] == 3:
        return photo
    alpha = photo[..., 3:]
    return photo[..., :3] * alpha + (1 - alpha)


def evaluate(
    renderer: Renders,
    scene: Scene,
    views: Sequence[int] | None = None,
    *,
    stop: threading.Event | None = None,
    on_view: Callable[[ViewScore, np.ndarray, dict[str, np.ndarray]], Any] | None = None,
) -> Evaluation:
    """Render views and compare them with their photos.

    Args:
        views: indices into `scene.frames`; the held-out views by default.
        stop: set it to end early, with the views done so far.
        on_view: called after each view with its score, the photo and what was rendered.

    Raises:
        SceneError: a photo or depth file cannot be read.
    """
    scores = []
    for view in scene.test if views is None else views:
        if stop is not None and stop.is_set():
            break
        frame = scene.frames[view]
        photo = photo_on_white(frame)
        rendered = renderer.render(frame.camera)
        score = score_view(view, scene, photo, rendered)
        scores.append(score)
        if on_view is not None:
            on_view(score, photo, rendered)
    return Evaluation(tuple(scores))


def score_view(view: int, scene: Scene, photo: np.ndarray, rendered: dict[str, np.ndarray]) -> ViewScore:
    """Compare one rendered view with its photo and, where there is one, its depth."""
    frame = scene.frames[view]
    rgb, usable = rendered["rgb"], load_mask(frame)
    if usable.all():
        figures = (psnr(rgb, photo), ssim(rgb, photo))
    else:
        figures = (
            psnr(rgb[usable][None], photo[usable][None]),
            ssim(np.where(usable[..., None], rgb, photo), photo),
        )
    true_z = np.where(usable, load_depth(frame, scene), 0) if frame.depth_path else np.zeros(photo.shape[:2])
    errors = depth_errors(rendered["depth_z"], true_z)
    depth = (errors.rel_median, errors.within_5_percent, errors.abs_median)
    return ViewScore(view, frame.name, *figures, *depth)
