"""Align a camera, and the exposure of its render, to its photo: part of measuring held-out views of real photos.

Poses of real photos are estimates, and exposure changes from photo to photo. An error of one pixel or of a tenth in
brightness costs more PSNR than most errors of a field. So BARF (Lin et al. 2021) measures held-out views after pose
optimisation, and NeRF-W (Martin-Brualla et al. 2021) after fitting the appearance. Here both are fitted to some pixels
of the photo: six numbers of the pose, and a gain and an offset for each channel. The field stays as it is.

Levenberg-Marquardt with Huber weights, on blocks of pixels that become smaller. Derivatives by the pose are central
differences of rendered colour. A pose's exposure is found in closed form, so that only the pose is searched.
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

RAYS = 1200
"""Largest number of rays of a render; a step takes about 13 renders."""
LEVELS = (8, 3, 1)
"""Sides of the blocks of pixels that are compared, one after the other."""
SAMPLES = 2
"""Largest number of rays along a block's side."""
FEWEST = 12
"""Fewer blocks than this are not compared: there are as many unknowns."""
ITERATIONS = 4
"""At each level."""
CLOSE = 0.01
"""A level ends with a step of less image motion, in sides of its blocks."""
STALE = 0.1
"""Derivatives are kept after a step of less image motion, in sides of the blocks."""
HUBER = 0.05
"""Residuals above this count linearly; 1 is white."""
PRIOR = 3e-9
"""Weight of the squared motion, in pixels, beside the mean squared residual: that of errors of some ten pixels in a
pose, and of 0.03 in each of 9,000 colours. It holds motions that the photo does not show."""
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
    found = Aligned(camera, Exposure(np.ones(3), np.zeros(3)))
    usable = np.ones(photo.shape[:2], dtype=bool) if usable is None else usable
    if not usable.any() or photo[usable].std(axis=0).max() < FLAT:
        return found
    motion = np.zeros(6)
    for side in LEVELS:
        blocks = _blocks(photo, usable, side)
        if len(blocks.xy) >= FEWEST:
            motion, found = _Search(renderer, camera, blocks).best(motion)
    return found


@dataclass(frozen=True)
class _Blocks:
    """Some square blocks of pixels of a photo."""

    side: int
    """Pixels."""
    xy: np.ndarray
    """Their centres, pixels (blocks, 2)."""
    seen: np.ndarray
    """Mean colours (blocks, 3)."""


def _blocks(photo: np.ndarray, usable: np.ndarray, side: int) -> _Blocks:
    """Draw blocks without unusable pixels, one from each of equal parts of all of them."""
    h, w = (size // side for size in usable.shape)
    small = photo[: h * side, : w * side].reshape(h, side, w, side, 3).mean((1, 3), dtype=np.float64)
    rows, columns = np.nonzero(usable[: h * side, : w * side].reshape(h, side, w, side).all((1, 3)))
    count = min(RAYS // min(side, SAMPLES) ** 2, len(rows))
    shares = (np.arange(count) + np.random.default_rng(0).random(count)) / max(count, 1)
    chosen = (shares * len(rows)).astype(np.int64)
    rows, columns = rows[chosen], columns[chosen]
    return _Blocks(side, (np.stack([columns, rows], -1) + 0.5) * side, small[rows, columns])


@dataclass(frozen=True)
class _Fit:
    """A pose with its best exposure."""

    rgb: np.ndarray
    """Rendered (blocks, 3)."""
    exposure: Exposure
    residual: np.ndarray
    """(blocks, 3)."""
    weight: np.ndarray
    """Huber weights (blocks, 3)."""
    cost: float


class _Search:
    """The least-squares problem of some blocks of a photo.

    A motion is six numbers, rotation then translation about and along the given camera's axes, each scaled so that 1
    moves the image by about a pixel.
    """

    def __init__(self, renderer: RendersRays, camera: Camera, blocks: _Blocks) -> None:
        self._renderer, self._camera, self._blocks = renderer, camera, blocks
        count = min(blocks.side, SAMPLES)
        inside = ((np.arange(count) + 0.5) / count - 0.5) * blocks.side
        shifts = np.stack(np.meshgrid(inside, inside), -1).reshape(-1, 2)
        xy = (blocks.xy[:, None] + shifts).reshape(-1, 2)
        self._xy = torch.tensor(xy, dtype=torch.float32, device=renderer.device)
        focal = float(np.sqrt(camera.fx * camera.fy))
        # Roll and forward motion move a pixel by its distance from the principal point.
        radius = float(np.sqrt(np.square(xy - (camera.cx, camera.cy)).sum(-1).mean()))
        radians = np.array([1 / focal, 1 / focal, 1 / max(radius, 1.0)])
        _, distance = self._render([camera])
        met = distance[distance > 0]
        depth = (float(np.median(met)) if len(met) else 1.0) * renderer.box.radius
        self._scale = np.concatenate([radians, depth * radians])

    def best(self, motion: np.ndarray) -> tuple[np.ndarray, Aligned]:
        """The motion of least cost near `motion`, or near none if that is better."""
        motion, fit = min(((start, self._fit(start)) for start in (np.zeros(6), motion)), key=lambda pair: pair[1].cost)
        damping, slopes = DAMPING, None
        for _ in range(ITERATIONS):
            slopes = self._slopes(motion) if slopes is None else slopes
            step = _step(fit, slopes, motion, damping)
            sides = float(np.linalg.norm(step)) / self._blocks.side
            trial = self._fit(motion + step)
            falls = trial.cost < fit.cost
            if falls:
                motion, fit = motion + step, trial
            damping *= 0.1 if falls else 10
            if sides < CLOSE:
                break
            if falls and sides > STALE:
                slopes = None
        return motion, Aligned(self._moved(motion), fit.exposure)

    def _moved(self, motion: np.ndarray) -> Camera:
        """The camera after a motion."""
        turn, step = np.split(motion * self._scale, 2)
        c2w = self._camera.c2w.copy()
        c2w[:3, 3] += c2w[:3, :3] @ step
        c2w[:3, :3] = c2w[:3, :3] @ Rotation.from_rotvec(turn).as_matrix()
        return replace(self._camera, c2w=c2w)

    def _fit(self, motion: np.ndarray) -> _Fit:
        """Render at a motion; find the exposure and the cost."""
        rgb = self._render([self._moved(motion)])[0][0]
        seen, weight = self._blocks.seen, np.ones_like(rgb)
        exposure = _expose(rgb, seen, weight)
        for _ in range(4):  # reweighted least squares
            size = np.abs(rgb * exposure.gain + exposure.offset - seen)
            weight = np.minimum(1, HUBER / np.maximum(size, HUBER))
            exposure = _expose(rgb, seen, weight)
        residual = rgb * exposure.gain + exposure.offset - seen
        size = np.abs(residual)
        huber = np.where(size < HUBER, size**2, HUBER * (2 * size - HUBER))
        return _Fit(rgb, exposure, residual, weight, float(huber.mean() + PRIOR * motion @ motion))

    def _slopes(self, motion: np.ndarray) -> np.ndarray:
        """Derivatives of rendered colour by the motion: (6, blocks, 3)."""
        reach = self._blocks.side / 2
        shifts = reach * np.concatenate([np.eye(6), -np.eye(6)])
        rgb, _ = self._render([self._moved(motion + shift) for shift in shifts])
        return (rgb[:6] - rgb[6:]) / (2 * reach)

    def _render(self, cameras: Sequence[Camera]) -> tuple[np.ndarray, np.ndarray]:
        """Mean colours (cameras, blocks, 3) from 0 to 1, and distances of all rays in field units."""
        batch = Cameras.from_cameras(cameras, self._renderer.box.field_from_input, self._renderer.device)
        view = torch.arange(len(cameras), device=batch.device).repeat_interleave(len(self._xy))
        origins, directions, _ = batch.rays(view, self._xy.repeat(len(cameras), 1))
        met = self._renderer.rays(origins, directions)
        rgb = met.rgb.clamp(0, 1).cpu().double().numpy()
        return rgb.reshape(len(cameras), len(self._blocks.xy), -1, 3).mean(2), met.distance.cpu().numpy()


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
