"""The detection network: a sparse U-Net over voxels, and dense class-agnostic predictions at the finest ones.

Every voxel of 5 cm predicts whether it belongs to an object, and that object's box: centre, size, rotation about the
up axis as a distribution, order of symmetry, and a text-aligned embedding. Convolutions begin at 10 cm; a voxel of
5 cm adds what its own points say. Norms are per voxel, so that a scene's result does not depend on a batch.
"""

from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from ovseg3d.heads.detection.sparse import SparseConv, Taps
from ovseg3d.heads.detection.voxels import CHANNELS, Level, Voxels

YAW_BINS = 24
"""Of 15 degrees, over the full circle."""
SYMMETRY_ORDERS = (1, 2, 4, 0)
"""1: the object has a front; 2, 4: it looks the same after half or a quarter of a turn; 0: it is round."""


@dataclass(frozen=True)
class DetectionShape:
    """Sizes of the network."""

    stem: int = 32
    widths: tuple[int, ...] = (32, 64, 80, 80)
    """Channels of the levels of 0.1, 0.2, 0.4 and 0.8 m."""
    head: int = 64
    embedding: int = 192
    """Dimension of the text-aligned embedding."""


@dataclass(frozen=True)
class Predictions:
    """What each finest voxel says; lengths in metres."""

    foreground: Float[Tensor, " voxels"]
    """Log odds of belonging to an object."""
    quality: Float[Tensor, " voxels"]
    """Logit of the IoU of its box with the object's."""
    center: Float[Tensor, "voxels 3"]
    log_size: Float[Tensor, "voxels 3"]
    yaw: Float[Tensor, "voxels bins"]
    """Log odds of the yaw's bins; bin k is centred at 2 pi k / bins."""
    symmetry: Float[Tensor, "voxels orders"]
    hidden: Float[Tensor, "voxels dim"]
    """Input of `embed`."""

    def take(self, rows: Int[Tensor, " some"]) -> "Predictions":
        """Those of some of the voxels."""
        return Predictions(*(values.index_select(0, rows) for values in vars(self).values()))


class DetectionNetwork(nn.Module):
    """Trunk and head."""

    def __init__(self, shape: DetectionShape = DetectionShape()) -> None:
        super().__init__()
        self.shape = shape
        stem, widths = shape.stem, shape.widths
        self.stem = nn.Sequential(
            nn.Linear(CHANNELS, stem), nn.LayerNorm(stem), nn.ReLU(inplace=True), nn.Linear(stem, stem)
        )
        self.down = nn.ModuleList(_Resample(a, b) for a, b in zip((stem, *widths), widths))
        self.encode = nn.ModuleList(_Block(width) for width in widths)
        self.up = nn.ModuleList(_Resample(b, a) for a, b in zip(widths, widths[1:]))
        self.decode = nn.ModuleList(_Block(width) for width in widths[:-1])
        self.out = _Resample(widths[0], shape.head)
        self.join = nn.Linear(stem, shape.head)
        self.head = nn.Sequential(
            nn.LayerNorm(shape.head), nn.ReLU(inplace=True), nn.Linear(shape.head, shape.head), nn.ReLU(inplace=True)
        )
        self.predict = nn.Linear(shape.head, 8 + YAW_BINS + len(SYMMETRY_ORDERS))
        self.embedding = nn.Linear(shape.head, shape.embedding)
        with torch.no_grad():
            self.predict.bias[:2] = -2.0  # most voxels are background
            self.predict.bias[5:8] = -1.0  # log size: objects of 0.4 m

    def forward(self, voxels: Voxels) -> Predictions:
        """Predictions of every finest voxel."""
        levels = voxels.levels
        fine = self.stem(voxels.features)
        x, kept = F.relu(fine), []
        for level, (down, encode) in enumerate(zip(self.down, self.encode), start=1):
            x = encode(F.relu_(down(x, levels[level - 1].up)), levels[level])
            kept.append(x)
        for level in range(len(self.up), 0, -1):
            x = self.up[level - 1](x, levels[level].down).add_(kept[level - 1])
            x = self.decode[level - 1](x, levels[level])
        hidden = self.head(self.out(x, levels[0].down).add_(self.join(fine)))
        parts = self.predict(hidden).split([1, 1, 3, 3, YAW_BINS, len(SYMMETRY_ORDERS)], 1)
        foreground, quality, offset, log_size, yaw, symmetry = parts
        log_size = log_size.clamp(-5.0, 2.5)
        return Predictions(foreground[:, 0], quality[:, 0], voxels.xyz + offset, log_size, yaw, symmetry, hidden)

    def embed(self, hidden: Float[Tensor, "n dim"]) -> Float[Tensor, "n text"]:
        """Text-aligned embeddings of unit length."""
        return F.normalize(self.embedding(hidden), dim=1)

    def facts(self) -> dict[str, Any]:
        """What builds this network before its weights are loaded (JSON values)."""
        return asdict(self.shape)


class _Resample(nn.Module):
    """To the parents (stride 2) or to the children, normalised."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv, self.norm = SparseConv(inputs, outputs, 8), nn.LayerNorm(outputs)

    def forward(self, x: Tensor, taps: Taps) -> Tensor:
        return self.norm(self.conv(x, taps))


class _Block(nn.Module):
    """Two convolutions with a residual (He et al. 2016)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = SparseConv(width, width), SparseConv(width, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x: Tensor, level: Level) -> Tensor:
        y = F.relu_(self.norm1(self.first(x, level.around)))
        return F.relu_(self.norm2(self.second(y, level.around)).add_(x))
