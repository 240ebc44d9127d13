"""Measure a field on views: PSNR, SSIM, and depth error where the true depth is known.

Held-out views are measured at their given poses and, on request, once more after `align` has fitted pose and exposure
to the photo. The two kinds of figures never mix: those of the second kind end in `_aligned`.

RGBA photos are composited on white, as in the renderer. A frame's mask excludes pixels from PSNR and depth; SSIM needs
whole windows, so masked pixels are replaced by the photo's. Means are over the views that have a figure.
"""

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from ovseg3d.errors import SceneError
from ovseg3d.evaluate.align import RendersRays, align
from ovseg3d.evaluate.metrics.depth import depth_errors
from ovseg3d.evaluate.metrics.image import psnr, ssim
from ovseg3d.render.frames import Renders
from ovseg3d.render.images import photo_on_white
from ovseg3d.render.views import view_groups
from ovseg3d.scene import Scene, load_depth, load_mask

ALIGNED = ("psnr", "ssim", "depth_rel_median", "depth_within_5_percent")
"""Figures that are also measured after alignment, as `psnr_aligned` and so on."""
FIGURES = (*ALIGNED, "depth_abs_median", *(f"{name}_aligned" for name in ALIGNED))


@dataclass(frozen=True)
class ViewScore:
    """Figures of one view; NaN without ground truth."""

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
    group: str = ""
    """"train", "held-out", or what the capture calls a held-out view, such as "on_path"; see `view_groups`."""
    psnr_aligned: float = math.nan
    """dB, with pose and exposure aligned to the photo, like those below; NaN if not aligned."""
    ssim_aligned: float = math.nan
    depth_rel_median_aligned: float = math.nan
    depth_within_5_percent_aligned: float = math.nan


@dataclass(frozen=True)
class Evaluation:
    """Figures of several views."""

    views: tuple[ViewScore, ...]

    def mean(self) -> dict[str, float]:
        """Mean over views of each figure; NaN where no view has it.

        Over held-out views if there are any; if the capture marks held-out views on the camera's path, over these.
        `groups` has the others.
        """
        on_path = tuple(score for score in self.views if score.group == "on_path")
        held_out = tuple(score for score in self.views if score.group not in ("", "train"))
        return _means(on_path or held_out or self.views)

    def groups(self) -> dict[str, dict[str, float]]:
        """Means of each group ("train", "held-out", "on_path"); empty if there is only one."""
        names = sorted({score.group for score in self.views}, reverse=True)
        if len(names) < 2:
            return {}
        return {name or "other": _means(tuple(s for s in self.views if s.group == name)) for name in names}


def _means(scores: Sequence[ViewScore]) -> dict[str, float]:
    means = {}
    for figure in FIGURES:
        values = np.array([getattr(score, figure) for score in scores], dtype=np.float64)
        known = values[~np.isnan(values)]
        means[figure] = float(known.mean()) if len(known) else float("nan")
    return means


def evaluate(
    renderer: Renders,
    scene: Scene,
    views: Sequence[int] | None = None,
    *,
    aligned: bool = False,
    stop: threading.Event | None = None,
    on_view: Callable[[ViewScore, np.ndarray, dict[str, np.ndarray]], Any] | None = None,
    on_fault: Callable[[SceneError], Any] | None = None,
) -> Evaluation:
    """Render views and compare them with their photos.

    Args:
        renderer: renders the field.
        scene: the capture, with the cameras to render.
        views: indices into `scene.frames`; by default the held-out views.
        aligned: also measure held-out views with pose and exposure aligned to the photo; the renderer must be one of
            `RendersRays`, too.
        stop: set it to end early, with the views done so far.
        on_view: called after each view with its score, the photo and the rendered images.
        on_fault: receives the error of an unreadable mask or depth file instead of its being raised; see `score_view`.

    Raises:
        SceneError: a photo, mask or depth file cannot be read.
    """
    scores, groups = [], view_groups(scene)
    for view in scene.test if views is None else views:
        if stop is not None and stop.is_set():
            break
        frame = scene.frames[view]
        photo = photo_on_white(frame)
        rendered = renderer.render(frame.camera)
        score = replace(score_view(view, scene, photo, rendered, on_fault), group=groups.get(frame.name, ""))
        # Without a PSNR there is no mask, and so nothing to align to.
        if aligned and score.group != "train" and not math.isnan(score.psnr):
            score = replace(score, **_aligned(view, scene, photo, renderer))
        scores.append(score)
        if on_view is not None:
            on_view(score, photo, rendered)
    return Evaluation(tuple(scores))


def _aligned(view: int, scene: Scene, photo: np.ndarray, renderer: Renders) -> dict[str, float]:
    """The figures of a held-out view after alignment, by name. Faults of its files have been reported before."""
    assert isinstance(renderer, RendersRays), "only a renderer of rays can be aligned"
    frame = scene.frames[view]
    found = align(renderer, frame.camera, photo, load_mask(frame))
    rendered = renderer.render(found.camera)
    rendered["rgb"] = found.exposure.apply(rendered["rgb"])
    score = score_view(view, scene, photo, rendered, on_fault=lambda _: None)
    return {f"{name}_aligned": getattr(score, name) for name in ALIGNED}


def score_view(
    view: int,
    scene: Scene,
    photo: Float[np.ndarray, "h w 3"],
    rendered: dict[str, np.ndarray],
    on_fault: Callable[[SceneError], Any] | None = None,
) -> ViewScore:
    """Compare one rendered view with its photo and, where there is one, its depth.

    Args:
        view: index into `scene.frames`.
        scene: the capture, for the mask and the depth of the view.
        photo: (h, w, 3), 0 to 1, on white.
        rendered: "rgb" (h, w, 3), 0 to 1, and "depth_z" (h, w) in input units, 0 where there is none.
        on_fault: receives the error of an unreadable mask or depth file; figures that need the file are NaN then.

    Raises:
        SceneError: the mask or depth cannot be read, and there is no `on_fault`.
    """
    frame, rgb = scene.frames[view], rendered["rgb"]
    figures, depth = (math.nan, math.nan), (math.nan, math.nan, math.nan)
    try:
        usable = load_mask(frame)
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
    except SceneError as error:
        if on_fault is None:
            raise
        on_fault(error)
    return ViewScore(view, frame.name, *figures, *depth)
