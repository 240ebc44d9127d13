"""Align a camera, and the exposure of its render, to its photo: part of measuring held-out views of real photos.

Poses of real photos are estimates, and exposure changes from photo to photo. An error of one pixel or of a tenth in
brightness costs more PSNR than most errors of a field. So BARF (Lin et al. 2021) measures held-out views after pose
optimisation, and NeRF-W (Martin-Brualla et al. 2021) after fitting the appearance. Here both are fitted to some pixels
of the photo: six numbers of the pose, and a gain and an offset for each channel. The field stays as it is.

Levenberg-Marquardt with Huber weights; derivatives by the pose are central differences of rendered colour. A pose's
exposure is found in closed form, so that only the pose is searched.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.spatial.transform import Rotation
from torch import Tensor

from ovseg3d.field.box import FieldBox
from ovseg3d.field.renderer import RayColors
from ovseg3d.scene import Camera, Cameras

PIXELS = 3000
"""Largest number of pixels that are compared."""
ITERATIONS = 10
CLOSE = 0.01
"""Steps end below this image motion, in pixels."""
WIDEST, NARROWEST = 2.0, 0.5
"""Image motion to either side for central differences, in pixels. Wide differences first see past fine texture."""
STALE = 0.25
"""Derivatives are kept while the image has moved by less than this many pixels."""
HUBER = 0.05
"""Residuals above this count linearly; 1 is white."""
PRIOR = 3e-9
"""Weight of the squared motion, in pixels, beside the mean squared residual: that of errors of some ten pixels in a pose
and 0.03 in each of 9,000 colours. It holds motions that the photo does not show."""
DAMPING = 1e-3
"""First damping, as a share of the mean curvature."""
GAIN_PRIOR = 1e-4
"""Variance of a channel below which its gain stays near 1."""
GAINS = (0.5, 2.0)
"""Smallest and largest gain. A gain near 0 would turn a bad render into the photo's mean colour."""
FLAT = 1 / 255
"""A photo of less standard deviation shows nothing to align to."""


@runtime_checkable
class RendersRays(Protocol):
    """A renderer of single rays, such as `field.Renderer`."""

    @property
    def box(self) -> FieldBox:
        """Field coordinates."""
        ...

    @property
    def device(self) -> torch.device:
        """Where rays are rendered."""
        ...

    def rays(self, origins: Float[Tensor, "rays 3"], directions: Float[Tensor, "rays 3"]) -> RayColors:
        """Colours and distances of rays, in field units and axes."""
        ...


@dataclass(frozen=True)
class Exposure:
    """Colours of a photo from rendered ones."""

    gain: Float[np.ndarray, "3"]
    """Of r, g, b."""
    offset: Float[np.ndarray, "3"]
    """Of r, g, b; 1 is white."""

    def apply(self, rgb: Float[np.ndarray, "h w 3"]) -> Float[np.ndarray, "h w 3"]:
        """The photo's colours, clipped to 0..1."""
        return np.clip(rgb * self.gain + self.offset, 0, 1).astype(rgb.dtype)


@dataclass(frozen=True)
class Aligned:
    """What fits a photo best."""

    camera: Camera
    """With the aligned pose."""
    exposure: Exposure


def align(
    renderer: RendersRays,
    camera: Camera,
    photo: Float[np.ndarray, "h w 3"],
    usable: Bool[np.ndarray, "h w"] | None = None,
) -> Aligned:
    """Find the pose near the camera's, and the exposure, at which the render fits the photo best.

    A photo of one colour changes nothing.

    Args:
        renderer: renders the field.
        camera: the camera with the given pose, in the input frame.
        photo: 0 to 1, at the camera's size.
        usable: pixels to compare; all by default.
    """
    given = Aligned(camera, Exposure(np.ones(3), np.zeros(3)))
    rows, columns = _draw(np.ones(photo.shape[:2], dtype=bool) if usable is None else usable)
    seen = photo[rows, columns].astype(np.float64)
    if not len(seen) or seen.std(axis=0).max() < FLAT:
        return given
    search = _Search(renderer, camera, np.stack([columns, rows], -1) + 0.5, seen)
    motion, best = search.best()
    return Aligned(search.moved(motion), best.exposure) if np.isfinite(best.cost) else given


def _draw(usable: Bool[np.ndarray, "h w"]) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of some pixels, one from each of equal parts of the usable ones."""
    rows, columns = np.nonzero(usable)
    count = min(PIXELS, len(rows))
    shares = (np.arange(count) + np.random.default_rng(0).random(count)) / max(count, 1)
    chosen = (shares * len(rows)).astype(np.int64)
    return rows[chosen], columns[chosen]


@dataclass(frozen=True)
class _Fit:
    """A pose with its best exposure."""

    rgb: np.ndarray
    """Rendered (pixels, 3)."""
    exposure: Exposure
    residual: np.ndarray
    """(pixels, 3)."""
    weight: np.ndarray
    """Huber weights (pixels, 3)."""
    cost: float


class _Search:
    """The least-squares problem of one photo.

    A motion is six numbers, rotation then translation about and along the given camera's axes, each scaled so that 1
    moves the image by about a pixel.
    """

    def __init__(self, renderer: RendersRays, camera: Camera, xy: np.ndarray, seen: np.ndarray) -> None:
        self._renderer, self._camera, self._seen = renderer, camera, seen
        self._xy = torch.tensor(xy, dtype=torch.float32, device=renderer.device)
        _, distance = self._render([camera])
        met = distance[distance > 0]
        depth = (float(np.median(met)) if len(met) else 1.0) * renderer.box.radius
        focal = float(np.sqrt(camera.fx * camera.fy))
        # Roll and forward motion move a pixel by its distance from the principal point.
        radius = float(np.sqrt(np.square(xy - (camera.cx, camera.cy)).sum(-1).mean()))
        radians = np.array([1 / focal, 1 / focal, 1 / max(radius, 1.0)])
        self._scale = np.concatenate([radians, depth * radians])

    def moved(self, motion: np.ndarray) -> Camera:
        """The camera after a motion."""
        turn, step = np.split(motion * self._scale, 2)
        c2w = self._camera.c2w.copy()
        c2w[:3, 3] += c2w[:3, :3] @ step
        c2w[:3, :3] = c2w[:3, :3] @ Rotation.from_rotvec(turn).as_matrix()
        return replace(self._camera, c2w=c2w)

    def best(self) -> tuple[np.ndarray, _Fit]:
        """The motion of least cost, and its fit."""
        motion, fit = np.zeros(6), self._fit(np.zeros(6))
        reach, damping, slopes = WIDEST, DAMPING, None
        for _ in range(ITERATIONS):
            if slopes is None:
                slopes = self._slopes(motion, reach)
            step = _step(fit, slopes, motion, damping)
            size = float(np.linalg.norm(step))
            trial = self._fit(motion + step)
            falls = trial.cost < fit.cost
            if falls:
                motion, fit = motion + step, trial
            damping *= 0.1 if falls else 10
            narrow = reach == NARROWEST
            if narrow and size < CLOSE:
                break
            if not narrow or (falls and size > STALE):
                reach, slopes = max(reach / 2, NARROWEST), None
        return motion, fit

    def _fit(self, motion: np.ndarray) -> _Fit:
        """Render at a motion; find the exposure and the cost."""
        rgb = self._render([self.moved(motion)])[0][0]
        weight = np.ones_like(rgb)
        for _ in range(5):  # reweighted least squares
            exposure = _expose(rgb, self._seen, weight)
            residual = rgb * exposure.gain + exposure.offset - self._seen
            weight = np.minimum(1, HUBER / np.maximum(np.abs(residual), HUBER))
        size = np.abs(residual)
        huber = np.where(size < HUBER, size**2, HUBER * (2 * size - HUBER))
        return _Fit(rgb, exposure, residual, weight, float(huber.mean() + PRIOR * motion @ motion))

    def _slopes(self, motion: np.ndarray, reach: float) -> np.ndarray:
        """Derivatives of rendered colour by the motion: (6, pixels, 3)."""
        shifts = reach * np.concatenate([np.eye(6), -np.eye(6)])
        rgb, _ = self._render([self.moved(motion + shift) for shift in shifts])
        return (rgb[:6] - rgb[6:]) / (2 * reach)

    def _render(self, cameras: Sequence[Camera]) -> tuple[np.ndarray, np.ndarray]:
        """Colours (cameras, pixels, 3) from 0 to 1, and distances (cameras, pixels) in field units."""
        batch = Cameras.from_cameras(cameras, self._renderer.box.field_from_input, self._renderer.device)
        count = len(self._xy)
        view = torch.arange(len(cameras), device=batch.device).repeat_interleave(count)
        origins, directions, _ = batch.rays(view, self._xy.repeat(len(cameras), 1))
        met = self._renderer.rays(origins, directions)
        rgb = met.rgb.clamp(0, 1).view(len(cameras), count, 3)
        return rgb.cpu().double().numpy(), met.distance.view(len(cameras), count).cpu().numpy()


def _expose(rgb: np.ndarray, seen: np.ndarray, weight: np.ndarray) -> Exposure:
    """Weighted least squares for gain and offset of each channel, with a prior for a gain of 1."""
    share = weight / weight.sum(axis=0)
    rgb_mean, seen_mean = (share * rgb).sum(axis=0), (share * seen).sum(axis=0)
    from_mean = rgb - rgb_mean
    variance, covariance = (share * from_mean**2).sum(axis=0), (share * from_mean * (seen - seen_mean)).sum(axis=0)
    gain = np.clip((covariance + GAIN_PRIOR) / (variance + GAIN_PRIOR), *GAINS)
    return Exposure(gain, seen_mean - gain * rgb_mean)


def _step(fit: _Fit, slopes: np.ndarray, motion: np.ndarray, damping: float) -> np.ndarray:
    """The damped Gauss-Newton step of the motion, with gains and offsets free to follow."""
    count = len(fit.rgb)
    jacobian = np.zeros((12, count, 3))
    jacobian[:6] = slopes * fit.exposure.gain
    for channel in range(3):
        jacobian[6 + channel, :, channel] = fit.rgb[:, channel]
        jacobian[9 + channel, :, channel] = 1
    jacobian = jacobian.reshape(12, -1)
    weighted = jacobian * fit.weight.reshape(-1) / (3 * count)
    curvature, gradient = weighted @ jacobian.T, weighted @ fit.residual.reshape(-1)
    held = PRIOR + damping * np.diagonal(curvature)[:6].mean()
    curvature += np.diag(np.repeat([held, GAIN_PRIOR], 6))
    gradient[:6] += PRIOR * motion
    return -np.linalg.solve(curvature, gradient)[:6]
