"""Rays of many views at once, in torch: the counterpart of `Camera.rays` for training and rendering.

Float32 tensors on one device. Directions are unit vectors in the frame that `transform` maps to (the input frame
without it). Distances along a ray are in that frame; times `z_per_distance` they are its z-depth. No function waits
for the device.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ovseg3d.geometry.lens import undistort_theta, undistort_xy
from ovseg3d.scene.cameras import Camera

# Newton's method doubles the correct digits with each step: phone lenses need three steps for float32.
_NEWTON_STEPS = 5


class Cameras:
    """Cameras of many views; build it with `from_cameras`.

    Attributes:
        c2w: (views, 4, 4) camera to frame, OpenCV axes. May be replaced, e.g. by refined poses.
        widths: of the images, a list.
        heights: of the images, a list.

    Args:
        c2w: see above.
        intrinsics: fx, fy, cx, cy in pixels.
        distortion: coefficients, padded with zeros; see `Camera`.
        fisheye: whether each camera is OPENCV_FISHEYE.
        sizes: (width, height) of each image.
    """

    def __init__(
        self,
        c2w: Float[Tensor, "views 4 4"],
        intrinsics: Float[Tensor, "views 4"],
        distortion: Float[Tensor, "views 6"],
        fisheye: Sequence[bool],
        sizes: Sequence[tuple[int, int]],
    ) -> None:
        self.c2w = c2w
        self._intrinsics = intrinsics
        self._distortion = distortion
        self._fisheye = torch.tensor(list(fisheye), device=c2w.device)
        self.widths = [width for width, _ in sizes]
        self.heights = [height for _, height in sizes]
        # Kept on the host, so that `rays` need not read them from the device.
        distorted = [bool(row.any()) for row in distortion.cpu()]
        self._any_fisheye = any(fisheye)
        self._any_distorted = any(d and not f for d, f in zip(distorted, fisheye))
        # If all views share a lens, the usual case, no coefficients per ray are needed.
        first = [float(value) for value in distortion[0].cpu()] if len(distortion) else []
        alike = len(set(fisheye)) == 1 and bool((distortion.cpu() == distortion[:1].cpu()).all())
        self._shared = first if alike else None

    @classmethod
    def from_cameras(
        cls,
        cameras: Sequence[Camera],
        transform: Any = None,
        device: torch.device | str = "cpu",
    ) -> "Cameras":
        """Move cameras to a device.

        Args:
            cameras: one per view.
            transform: 4x4 similarity (array or tensor) applied to the poses; None keeps the input frame.
            device: of the tensors.
        """
        poses = np.stack([camera.c2w for camera in cameras])
        if transform is not None:
            matrix = np.asarray(torch.as_tensor(transform).detach().cpu(), dtype=np.float64)
            poses = matrix @ poses
            poses[:, :3, :3] /= np.cbrt(np.linalg.det(matrix[:3, :3]))
        intrinsics = [(c.fx, c.fy, c.cx, c.cy) for c in cameras]
        distortion = [(c.coefficients + (0.0, 0.0))[:6] for c in cameras]
        return cls(
            torch.tensor(poses, dtype=torch.float32, device=device),
            torch.tensor(intrinsics, dtype=torch.float32, device=device),
            torch.tensor(distortion, dtype=torch.float32, device=device),
            [c.model == "OPENCV_FISHEYE" for c in cameras],
            [(c.width, c.height) for c in cameras],
        )

    def __len__(self) -> int:
        return len(self.widths)

    @property
    def device(self) -> torch.device:
        """Device of the tensors."""
        return self.c2w.device

    def rays(
        self,
        view: Int[Tensor, "rays"],
        xy: Float[Tensor, "rays 2"],
        c2w: Float[Tensor, "views 4 4"] | None = None,
    ) -> tuple[Float[Tensor, "rays 3"], Float[Tensor, "rays 3"], Float[Tensor, "rays"]]:
        """Rays through image positions.

        Args:
            view: index of each ray's camera, in the order given to `from_cameras`.
            xy: pixels; a pixel's centre is at +0.5.
            c2w: poses to use instead of `self.c2w`; gradients flow to them.

        Returns:
            Origins, unit directions, and z-depth per unit of distance along the ray.
        """
        local = self._local_directions(view, xy)
        # `index_select` by column: indexing with [] uses torch's thread pool even for a batch of 4,096, which costs
        # more than the work itself, and tens of milliseconds when the cores are busy.
        poses = self.c2w if c2w is None else c2w
        right, down, forward, origin = (poses[:, :3, i].index_select(0, view) for i in range(4))
        x, y, z = local.unsqueeze(-1).unbind(1)
        return origin, right * x + down * y + forward * z, local[:, 2]

    def grid(self, view_index: int) -> tuple[Float[Tensor, "rays 3"], Float[Tensor, "rays 3"], Float[Tensor, "rays"]]:
        """Rays through every pixel's centre of one view, row by row; as `rays`."""
        width, height = self.widths[view_index], self.heights[view_index]
        y, x = torch.meshgrid(
            torch.arange(height, device=self.device, dtype=torch.float32) + 0.5,
            torch.arange(width, device=self.device, dtype=torch.float32) + 0.5,
            indexing="ij",
        )
        xy = torch.stack([x.reshape(-1), y.reshape(-1)], dim=-1)
        view = torch.full((len(xy),), view_index, dtype=torch.int64, device=self.device)
        return self.rays(view, xy)

    def _local_directions(self, view: Tensor, xy: Tensor) -> Tensor:
        """Unit directions in camera axes."""
        intrinsics = self._intrinsics.index_select(0, view)
        plane = (xy - intrinsics[:, 2:]) / intrinsics[:, :2]
        x, y = plane[:, 0], plane[:, 1]
        if not (self._any_distorted or self._any_fisheye):
            return _normalised(x, y)
        if self._shared is not None:
            if self._any_fisheye:
                return _fisheye(x, y, self._shared[:4])
            return _normalised(*undistort_xy(x, y, self._shared, _NEWTON_STEPS))
        coefficients = self._distortion.index_select(0, view)
        fisheye = self._fisheye.index_select(0, view)
        local = None
        if self._any_distorted:
            # Fisheye views have other coefficients in the same columns; their rows are replaced below.
            k = (coefficients * (~fisheye)[:, None]).unbind(-1)
            local = _normalised(*undistort_xy(x, y, k, _NEWTON_STEPS))
        if self._any_fisheye:
            round_lens = _fisheye(x, y, (coefficients * fisheye[:, None]).unbind(-1)[:4])
            flat = _normalised(x, y) if local is None else local
            local = torch.where(fisheye[:, None], round_lens, flat)
        assert local is not None
        return local


def _normalised(x: Tensor, y: Tensor) -> Tensor:
    length = torch.rsqrt(x * x + y * y + 1)
    return torch.stack([x * length, y * length, length], dim=-1)


def _fisheye(x: Tensor, y: Tensor, k: Sequence[Tensor | float]) -> Tensor:
    radius = torch.hypot(x, y)
    theta = undistort_theta(radius, k, _NEWTON_STEPS)
    ratio = torch.where(radius > 1e-8, torch.sin(theta) / radius.clamp_min(1e-8), torch.ones_like(x))
    return torch.stack([x * ratio, y * ratio, torch.cos(theta)], dim=-1)
