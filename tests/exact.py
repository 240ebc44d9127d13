"""The tiny scene as a renderer that has learnt it perfectly, and encoders that know colours, for tests of semantics."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from fake_encoders import WORDS, MeanColour, MeanPatch
from tiny import draw, meet, small_settings
from torch import Tensor

from ovseg3d.encoders import register_clip, register_dino, registry
from ovseg3d.evaluate.align import Aligned, Exposure
from ovseg3d.field.renderer import RayStops, Renderer
from ovseg3d.runs.fields import _read_box, newest_checkpoint
from ovseg3d.runs.folder import RunFolder
from ovseg3d.scene import Camera, Scene

SAME_EXPOSURE = Exposure(np.ones(3), np.zeros(3))


class Exact(Renderer):
    """A renderer that has learnt the tiny scene perfectly."""

    def __init__(self, run: RunFolder, scene: Scene, *_: object) -> None:
        self.box = _read_box(newest_checkpoint(run), run)
        self.field = SimpleNamespace(table=torch.zeros(1))

    def stops(self, origins: Tensor, directions: Tensor, quota: float = 0.2) -> RayStops:
        box, turn = self.box, np.asarray(self.box.rotation)
        ahead = directions.numpy().astype(float) @ turn
        _, distance = meet(origins.numpy() @ turn * box.radius + np.asarray(box.center), ahead)
        met = torch.from_numpy(distance > 0)
        ray = met.nonzero()[:, 0]
        x = box.along(origins, directions, ray, torch.from_numpy(distance / box.radius).float()[ray])
        offsets = torch.cat([torch.zeros(1, dtype=torch.int64), met.cumsum(0)])
        return RayStops(x, torch.ones(len(ray)), ray, offsets)

    def render(self, camera: Camera, normals: bool = False, termination: bool = False) -> dict[str, np.ndarray]:
        rgb, depth_z = draw(camera.c2w, camera.width, camera.fx)
        opacity = (depth_z > 0).astype(np.float64)
        return {"rgb": rgb, "depth_z": depth_z, "opacity": opacity, "termination": opacity}


def register(patch: pytest.MonkeyPatch, cache: Path) -> None:
    """Bring in the encoders, and the exact renderer in place of what was trained."""
    register_encoders(patch, cache)
    patch.setattr("ovseg3d.runs.fields.restore", Exact)
    patch.setattr("ovseg3d.query.view_cache.restore", Exact)
    patch.setattr("ovseg3d.query.view_cache.load_view_depth", lambda _: {})  # which the trained field has rendered
    keep_poses(patch)  # it renders whole images only; its poses are exact already


def keep_poses(patch: pytest.MonkeyPatch) -> None:
    """Held-out views are not aligned: their figures are those of the given poses."""
    patch.setattr("ovseg3d.evaluate.views.align", lambda _renderer, camera, *_: Aligned(camera, SAME_EXPOSURE))


def register_encoders(patch: pytest.MonkeyPatch, cache: Path) -> None:
    """The encoders, and a cache of their own."""
    patch.setattr(registry, "_clips", dict(registry._clips))
    patch.setattr(registry, "_dinos", dict(registry._dinos))
    register_clip("colours", lambda device: MeanColour(logit_scale=50.0))
    register_dino("patches", lambda device: MeanPatch())
    register_clip("sharp", lambda device: SharpColour(id="sharp-colour", logit_scale=50.0))
    register_dino("sharp", lambda device: SharpPatch(id="sharp-patch"))
    patch.setenv("OVSEG3D_CACHE_DIR", str(cache))


def flags_of(method: str = "lift", **train: object) -> dict:
    """Settings of a run that learns meaning; keywords go to the section `train`. The sand counts as a floor."""
    encode = {"clip": "colours", "dino": "patches", "features": "dense", "clip_side": 64}
    semantics = {"method": method, "layout": "indoor"}
    return small_settings(**train) | {"encode": encode, "only": "field,semantics", "semantics": semantics}


def named_colours(colours: Tensor) -> Tensor:
    """How much a colour is each of `WORDS`, whatever its brightness: unit vectors of four numbers."""
    words = F.normalize(torch.tensor(list(WORDS.values())), dim=-1)
    apart = (F.normalize(colours, dim=-1)[..., None, :] - words).square().sum(-1)
    return F.normalize(torch.softmax(-20 * apart, -1), dim=-1)


class SharpPatch(MeanPatch):
    """A DINO that tells named colours apart."""

    def encode_dense(self, images: Tensor) -> Tensor:
        means = F.avg_pool2d(images, self.patch)
        return named_colours(means.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class SharpColour(MeanColour):
    """A CLIP that does, and for which a phrase without a colour is like all of them."""

    encode_dense = SharpPatch.encode_dense

    def encode_image(self, images: Tensor) -> Tensor:
        """As encoders do, it tells what is in the middle of a picture, not what is around it."""
        down, right = (length // 4 for length in images.shape[-2:])
        middle = images[..., down : images.shape[-2] - down, right : images.shape[-1] - right]
        return named_colours(middle.mean(dim=(2, 3)))

    def encode_text(self, phrases: list[str]) -> Tensor:
        found = torch.tensor([[float(word in phrase.split()) for word in WORDS] for phrase in phrases])
        return F.normalize(found + (found.sum(1, keepdim=True) == 0), dim=-1)
