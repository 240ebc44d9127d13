"""The built-in depth network: from a photo and its focal length to metric depth, normals and how sure the depth is.

The first stages of an ImageNet classifier (EfficientNet-Lite2), attention between the coarsest cells, and a small
decoder. Rays of the pixels are part of its input, so photos of any shape fit. What it predicts of depth is log(z / f)
with the focal length f in pixels of its input: twice the focal length makes things look twice as near (Metric3D's
canonical camera, Yin et al. 2023).
"""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from ovseg3d.engine.network_file import network_file, save_network_file

SHIPPED = Path(__file__).parent / "builtin/depth/model.safetensors"
STRIDE = 16
"""Pixels of the input that become one of the coarsest cells; sides of inputs are multiples."""
AREA = 128 * 96
"""Pixels of a photo as the network sees it."""
CANONICAL_FOCAL = 130.0
"""Focal length at which the network predicts plain log depth, pixels of its input."""


@dataclass(frozen=True)
class DepthShape:
    """Sizes of the network."""

    encoder: str = "tf_efficientnet_lite2"
    """timm's name."""
    stages: int = 5
    """Of the encoder; the others, for classes, are left out."""
    channels: tuple[int, ...] = (24, 32, 64, 128)
    """Of the decoder, at a half, a quarter, an eighth and a sixteenth of the input."""
    attention: int = 2
    """Blocks of attention between the coarsest cells."""
    heads: int = 4


@dataclass(frozen=True)
class DepthPredictions:
    """At half the input's size."""

    log_depth: Float[Tensor, "photos h w"]
    """Of z-depth in metres."""
    log_scale: Float[Tensor, "photos h w"]
    """Logarithm of the scale of a Laplace distribution of `log_depth`: its expected absolute error."""
    normal: Float[Tensor, "photos 3 h w"]
    """Unit vectors in the camera's frame, towards the camera."""


class _Residual(nn.Module):
    """Two 3x3 convolutions beside the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*_convolved(channels, channels), nn.ReLU(), *_convolved(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.layers(x))


def _convolved(inputs: int, outputs: int, side: int = 3, stride: int = 1) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(inputs, outputs, side, stride, side // 2, bias=False), nn.BatchNorm2d(outputs)


class DepthEncoder(nn.Module):
    """The first stages of an image classifier, its batch norms always in evaluation mode: they know photographs."""

    def __init__(self, name: str, stages: int) -> None:
        import timm

        super().__init__()
        whole: Any = timm.create_model(name, pretrained=False)
        self.stem, self.norm, self.stages = whole.conv_stem, whole.bn1, nn.ModuleList(whole.blocks[:stages])

    def train(self, mode: bool = True) -> "DepthEncoder":
        """Whatever the mode, nothing changes."""
        return super().train(False)

    def forward(self, rgb: Float[Tensor, "photos 3 h w"]) -> list[Tensor]:
        """Maps of each size, the finest first."""
        x, maps = self.norm(self.stem(2 * rgb - 1)), []
        for stage in self.stages:
            x = stage(x)
            if maps and maps[-1].shape[-1] == x.shape[-1]:
                maps.pop()
            maps.append(x)
        return maps


class DepthNetwork(nn.Module):
    """Photos to `DepthPredictions`."""

    def __init__(self, shape: DepthShape | None = None) -> None:
        super().__init__()
        self.shape = shape = shape or DepthShape()
        self.encoder = DepthEncoder(shape.encoder, shape.stages)
        with torch.no_grad():
            given = [x.shape[1] for x in self.encoder.eval()(torch.zeros(1, 3, 2 * STRIDE, 2 * STRIDE))]
        # Rays join the maps of each size. Norms: the encoder's maps have values of tens, under which ReLUs die.
        self.norms = nn.ModuleList([nn.BatchNorm2d(n) for n in given])
        self.beside = nn.ModuleList([nn.Conv2d(n + 3, channels, 1) for n, channels in zip(given, shape.channels)])
        self.narrow = nn.ModuleList([nn.Conv2d(b, a, 1) for a, b in zip(shape.channels, shape.channels[1:])])
        self.blocks = nn.ModuleList([_Residual(channels) for channels in shape.channels])
        last = shape.channels[-1]
        layer = nn.TransformerEncoderLayer(last, shape.heads, 2 * last, 0.0, "gelu", batch_first=True, norm_first=True)
        self.attention = nn.TransformerEncoder(layer, shape.attention, enable_nested_tensor=False)
        self.predict = nn.Conv2d(shape.channels[0], 5, 3, padding=1)

    def forward(
        self, rgb: Float[Tensor, "photos 3 h w"], rays: Float[Tensor, "photos 2 h w"], focal: Float[Tensor, " photos"]
    ) -> DepthPredictions:
        """Predictions.

        Args:
            rgb: 0 to 1; sides are multiples of `STRIDE`.
            rays: x / z and y / z of the pixels.
            focal: geometric mean of the focal lengths along both axes, pixels of `rgb`.
        """
        rays = torch.cat([rays, rays.square().sum(1, keepdim=True)], 1)
        levels = []
        for found, norm, beside in zip(self.encoder(rgb), self.norms, self.beside):
            around = F.interpolate(rays, found.shape[-2:], mode="area")
            levels.append(beside(torch.cat([norm(found), around], 1)))
        x = self.blocks[-1](levels.pop())
        x = self.attention(x.flatten(2).transpose(1, 2)).transpose(1, 2).reshape(x.shape)
        for narrow, block in zip(reversed(self.narrow), reversed(self.blocks[:-1])):
            x = block(levels.pop() + F.interpolate(narrow(x), scale_factor=2, mode="bilinear"))
        found = self.predict(x)
        log_depth = found[:, 0] + torch.log(focal / CANONICAL_FOCAL)[:, None, None]
        towards = torch.tensor([0.0, 0.0, 1.0]).to(found)[:, None, None]
        return DepthPredictions(log_depth, found[:, 1].clamp(-6, 2), F.normalize(found[:, 2:] - towards, dim=1))

    def facts(self) -> dict[str, Any]:
        """What builds this network before its weights are loaded (JSON values)."""
        return asdict(self.shape)


def input_size(width: int, height: int) -> tuple[int, int]:
    """Width and height at which the network sees a photo: about `AREA` pixels, both multiples of `STRIDE`."""
    ratio = min(max(width / height, 0.2), 5.0)
    w, h = math.sqrt(AREA * ratio), math.sqrt(AREA / ratio)
    return max(2, round(w / STRIDE)) * STRIDE, max(2, round(h / STRIDE)) * STRIDE


@torch.no_grad()
def predict_depth(
    network: DepthNetwork, photo: UInt8[Tensor, "h w 3"], focal: tuple[float, float], centre: tuple[float, float]
) -> DepthPredictions:
    """Predictions of one photo.

    Args:
        network: in evaluation mode.
        photo: on the network's device.
        focal: along both axes, pixels of the photo.
        centre: the principal point, pixels.
    """
    height, width = photo.shape[:2]
    size = input_size(width, height)
    image = photo.permute(2, 0, 1)[None].float() / 255
    image = F.interpolate(image, size[::-1], mode="bilinear", antialias=True)
    share = [after / before for after, before in zip(size, (width, height))]
    lines = [
        (torch.arange(n, device=photo.device) + 0.5 - c * s) / (f * s) for n, c, f, s in zip(size, centre, focal, share)
    ]
    y, x = torch.meshgrid(lines[1], lines[0], indexing="ij")
    mean = math.sqrt(focal[0] * share[0] * focal[1] * share[1])
    return network(image, torch.stack([x, y])[None], torch.tensor([mean], device=photo.device))


def save_network(path: Path, network: DepthNetwork) -> None:
    """Write `path` in half precision, atomically. Raises OutputError."""
    tensors = {name: value for name, value in network.state_dict().items() if value.is_floating_point()}
    save_network_file(path, tensors, {"shape": json.dumps(network.facts())})


def load_network(path: Path = SHIPPED) -> DepthNetwork:
    """The network in a file, in evaluation mode; by default the shipped one.

    Raises:
        ConfigError: the file is missing, or holds no depth network.
    """
    with network_file(path, "a depth network", "scripts.training.train_depth") as (tensors, facts):
        shape: dict[str, Any] = json.loads(facts["shape"])
        shape["channels"] = tuple(shape["channels"])
        network = DepthNetwork(DepthShape(**shape))
        counters = {name: value for name, value in network.state_dict().items() if not value.is_floating_point()}
        network.load_state_dict({**counters, **tensors})
    return network.eval().requires_grad_(False)
