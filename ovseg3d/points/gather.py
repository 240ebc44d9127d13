"""Rays of training photos, gathered once: their samples of the field, and the photos' features.

With frozen geometry a ray's samples do not change. So each ray stores its few heaviest samples with their render
weights, and its photo's reduced features. Half of the rays are independent, half lie in square image patches with a
fixed spacing, which the pairwise loss needs. A training step draws from them and needs neither photos nor the radiance
field. Memory does not grow with the number of photos: of very many photos only some have a patch.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ovseg3d.engine import Event, Report, ignore
from ovseg3d.features.maps import PhotoFeatures, Pyramid
from ovseg3d.features.projection import Projection
from ovseg3d.field.renderer import RayStops, Renderer
from ovseg3d.points.basis import Basis
from ovseg3d.scene import Camera, Cameras, Frame, usable_at

STAGE = "rays"
OPAQUE = 0.5
"""Rays of less total render weight have hit nothing, and are ignored."""


@dataclass(frozen=True)
class GatherConfig:
    """Which rays are gathered."""

    rays: int = 131_072
    """Approximate number over all photos; at most their number of pixels."""
    side: int = 16
    """Rays along each side of a patch."""
    reach: float = 0.4
    """Side of a patch, as a share of the photo's shorter side."""
    samples: int = 4
    """Most samples of a ray."""


@dataclass(frozen=True)
class Rays:
    """Gathered rays of training photos, with the photos' features."""

    x: Float[Tensor, "rays samples 3"]
    """Samples, in the unit cube."""
    weight: Float[Tensor, "rays samples"]
    """Render weights; 0 for missing samples, and for rays that hit nothing or are masked."""
    span: Float[Tensor, "rays samples"]
    """Extent of the photo's whole height at the sample, in field units; converts a crop's share of it to a size."""
    clip: Float[Tensor, "rays scales kept"]
    """Coefficients, unit length, at each scale of a pyramid (else at one)."""
    dino: Float[Tensor, "rays dino"] | None
    """Reduced DINO vectors."""
    dino_full: Float[Tensor, "rays full"] | None
    """Full DINO vectors up to a rotation, unit length, for correlations."""
    patches: Int[Tensor, "patches pixels"]
    """Indices of the rays of each patch."""

    def __len__(self) -> int:
        return len(self.x)

    @property
    def hit(self) -> Bool[Tensor, " rays"]:
        """Whether the ray hit a surface that is not masked."""
        return self.weight[:, 0] > 0


@dataclass(frozen=True)
class TrainingPhotos:
    """The training views and their features.

    Raises:
        ValueError: there is no view, or photos and frames differ in number.
    """

    frames: Sequence[Frame]
    photos: Sequence[PhotoFeatures]
    """In the order of the frames; each is read once."""
    basis: Basis
    """Of the CLIP coefficients."""
    projection: Projection | None = None
    """The reduction of DINO's vectors. With it, correlations are those of the original vectors: centred ones have other
    cosines, to which the paper's threshold does not apply."""

    def __post_init__(self) -> None:
        if not self.frames or len(self.frames) != len(self.photos):
            raise ValueError("rays are gathered from at least one photo, each with its camera")

    def features_at(self, view: int, xy: Float[np.ndarray, "rays 2"]) -> dict[str, Tensor]:
        """A photo's features at positions in 0..1 of it: columns of `Rays`."""
        photo = self.photos[view]
        columns = {"clip": _coefficients(photo, xy, self.basis)}
        if photo.dino is not None:
            columns["dino"] = torch.from_numpy(np.array(photo.dino.at(xy), np.float32))
            columns["dino_full"] = full_dino(columns["dino"], self.projection)
        return columns


def gather_rays(
    renderer: Renderer,
    training: TrainingPhotos,
    config: GatherConfig,
    *,
    seed: int = 0,
    report: Report = ignore,
    stop: threading.Event | None = None,
) -> Rays:
    """Gather rays of training photos; the same for the same seed.

    Args:
        renderer: the radiance field.
        training: the views; each photo's mask and features are read once.
        config: which rays.
        seed: of the positions in the photos.
        report: receives events of the stage "rays".
        stop: ends early, with the rays of the views so far.

    Raises:
        SceneError: a mask cannot be read.
    """
    cameras = [frame.camera for frame in training.frames]
    device = renderer.field.table.device
    placed = Cameras.from_cameras(cameras, renderer.box.field_from_input, device)
    pixels = config.side**2
    rays = min(config.rays, sum(camera.width * camera.height for camera in cameras))
    patches = _counts(rays, len(cameras), pixels) if config.side > 1 else np.zeros(len(cameras), int)
    single = max(1, (rays - int(patches.sum()) * pixels) // len(cameras))
    index: list[Tensor] = []
    gathered = 0
    parts: dict[str, list[Tensor]] = {}
    for view in range(len(cameras)):
        if stop is not None and stop.is_set() and parts:
            break
        random = np.random.default_rng((seed, view))
        xy = np.concatenate([random.random((single, 2)), *_patches(random, cameras[view], int(patches[view]), config)])
        index.append(torch.arange(gathered + single, gathered + len(xy)).view(-1, pixels))
        gathered += len(xy)
        one = _samples(renderer, placed, training.frames[view], view, xy, config.samples)
        one |= training.features_at(view, xy)
        for name, values in one.items():
            parts.setdefault(name, []).append(values.to(device))
        report(Event("progress", STAGE, view + 1, len(cameras), (view + 1) / len(cameras)))
    views = len(parts["x"])
    both = len(parts.get("dino", ())) == views
    columns: dict[str, Any] = {"dino": None, "dino_full": None}
    columns |= {name: torch.cat(values) for name, values in parts.items() if both or name not in ("dino", "dino_full")}
    return Rays(**columns, patches=torch.cat(index).to(device))


def _samples(
    renderer: Renderer, placed: Cameras, frame: Frame, view: int, xy: Float[np.ndarray, "rays 2"], samples: int
) -> dict[str, Tensor]:
    """Samples of a view's rays: columns of `Rays`; `xy` in 0..1 of the photo."""
    camera, device = frame.camera, renderer.field.table.device
    origins, directions, z_per_distance = placed.rays(
        torch.full((len(xy),), view, dtype=torch.int64, device=device),
        torch.from_numpy((xy * (camera.width, camera.height)).astype(np.float32)).to(device),
    )
    x, weight = _heaviest(renderer.stops(origins, directions, 0.8 / samples), samples)
    weight = weight * torch.from_numpy(usable_at(frame, xy)).to(device)[:, None]
    distance = (renderer.box.uncontract(x.view(-1, 3)).view(x.shape) - origins[:, None]).norm(dim=-1)
    return {"x": x, "weight": weight, "span": distance * z_per_distance[:, None] * (camera.height / camera.fy)}


def _counts(rays: int, views: int, pixels: int) -> Int[np.ndarray, " views"]:
    """Number of patches of each view: about half of the rays; equal in all views, or one each in some of them."""
    each = round(rays / views / 2 / pixels)
    if each:
        return np.full(views, each)
    some = max(1, round(rays / 2 / pixels))
    return np.diff(np.arange(views + 1) * some // views)


def _patches(random: np.random.Generator, camera: Camera, count: int, config: GatherConfig) -> list[np.ndarray]:
    """Positions of square patches, (pixels, 2) each, in 0..1 of the photo."""
    shorter = min(camera.width, camera.height)
    size = config.reach * shorter / np.array([camera.width, camera.height])
    steps = (np.stack(np.meshgrid(*[np.arange(config.side)] * 2), -1).reshape(-1, 2) + 0.5) / config.side
    return [random.random(2) * (1 - size) + steps * size for _ in range(count)]


def _heaviest(stops: RayStops, samples: int) -> tuple[Tensor, Tensor]:
    """Each ray's heaviest samples by falling weight, (rays, samples, 3), and their weights, (rays, samples)."""
    rays = len(stops.offsets) - 1
    counts = stops.offsets.diff()
    most = max(int(counts.max()) if rays else 0, samples)
    column = torch.arange(len(stops.x), device=stops.x.device) - stops.offsets[:-1].long().index_select(0, stops.ray)
    weight, x = stops.weight.new_zeros(rays, most), stops.x.new_full((rays, most, 3), 0.5)
    weight[stops.ray.long(), column], x[stops.ray.long(), column] = stops.weight, stops.x
    total = weight.sum(1, keepdim=True)
    weight, order = weight.topk(samples, 1)
    return x.gather(1, order[..., None].expand(-1, -1, 3)), weight * (total > OPAQUE)


def _coefficients(photo: PhotoFeatures, xy: np.ndarray, basis: Basis) -> Tensor:
    clip = photo.clip.projected(basis.axes)
    coefficients = [clip.at(xy, scale) for scale in clip.scales] if isinstance(clip, Pyramid) else [clip.at(xy)]
    return torch.nn.functional.normalize(torch.from_numpy(np.stack(coefficients, 1)), dim=-1)


def full_dino(reduced: Tensor, projection: Projection | None) -> Tensor:
    """DINO's vectors before their mean was subtracted, in the axes of the basis and one more for the rest."""
    if projection is not None:
        inside = projection.mean @ projection.basis
        outside = np.sqrt(max(float(projection.mean @ projection.mean - inside @ inside), 0.0))
        reduced = torch.cat([reduced + torch.from_numpy(inside), reduced.new_full((len(reduced), 1), outside)], 1)
    return torch.nn.functional.normalize(reduced, dim=-1)
