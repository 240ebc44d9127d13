"""LERF on our field (Kerr et al. 2023): features that depend on position and size, and a size selected per query.

A crop of 5 % of a photo's height has other features than one of 50 %. A crop of share s of the photo's height around a
position at z-depth d has the size s x d x height / fy. For an object this does not depend on the camera's distance, so
photos agree by size, not by share. The network's input is log(size), scaled to 0..1 over the sizes that the rays cover.
In training each ray draws a share in every step; its target is interpolated between the two nearest pyramid levels.

A query evaluates each phrase at `COUNT` sizes and selects the one where its relevancy, the margin over the nearest
canonical phrase, has the highest maximum over all points: one size per scene, where the paper has one per image. The
paper's sizes are spaced linearly, ours logarithmically, because a room holds cups and cupboards. The paper renders the
field for every query; we evaluate surface points, which all images show, so that images and points agree.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ovseg3d.features.maps import normalise
from ovseg3d.points.feature_field import FeatureField
from ovseg3d.points.gather import Rays
from ovseg3d.points.losses import feature_loss
from ovseg3d.points.refine import RefineConfig, RefineStage

COUNT = 10
"""Number of sizes that a query tries."""
_ROWS = 16_384
"""Points evaluated at once."""


@dataclass(frozen=True)
class Sized:
    """Features of surface points at any size."""

    encoded: Float[np.ndarray, "points width"]
    """Grid features of each point, float16."""
    layers: tuple[Float[np.ndarray, "_ _"], ...]
    """The network: grid features, size and 1 - size in, coefficients less `mean` out."""
    mean: Float[np.ndarray, " kept"]
    canonical: Float[np.ndarray, "canonical kept"]
    """Coefficients of the canonical phrases, for queries without negatives."""
    smallest: float
    """Size of the network's input 0, in input units."""
    largest: float
    """Size of the network's input 1, in input units."""

    def arrays(self) -> dict[str, np.ndarray]:
        """Arrays for a file; the inverse is `from_arrays`."""
        layers = {f"sized.layer.{number}": np.ascontiguousarray(layer) for number, layer in enumerate(self.layers)}
        range_ = np.array([self.smallest, self.largest])
        rest = {"encoded": self.encoded, "mean": self.mean, "canonical": self.canonical, "range": range_}
        return layers | {f"sized.{name}": np.ascontiguousarray(array) for name, array in rest.items()}

    @staticmethod
    def from_arrays(arrays: Mapping[str, np.ndarray]) -> "Sized":
        """The inverse of `arrays`. Raises KeyError, ValueError: the arrays are incomplete or do not fit together."""
        layers = tuple(arrays[name] for name in sorted(arrays) if name.startswith("sized.layer."))
        encoded, mean, canonical, range_ = (
            arrays[f"sized.{name}"] for name in ("encoded", "mean", "canonical", "range")
        )
        widths = [encoded.shape[1] + 2, *(layer.shape[1] for layer in layers)]
        outs = (mean.shape[0], canonical.shape[1])
        if [layer.shape[0] for layer in layers] != widths[:-1] or outs != (widths[-1],) * 2:
            raise ValueError("the layers do not belong together")
        smallest, largest = range_.tolist()
        if not (len(canonical) and np.isfinite(canonical).all() and 0 < smallest < largest < np.inf):
            raise ValueError("the canonical phrases or the sizes are not usable")
        return Sized(encoded, layers, mean, canonical, smallest, largest)

    def take(self, rows: Int[np.ndarray, " rows"]) -> "Sized":
        """The points with these indices."""
        return replace(self, encoded=self.encoded[rows])

    def at(self, size: float) -> Float[np.ndarray, "points kept"]:
        """Unit vectors at a size from 0 to 1."""
        parts = []
        for first in range(0, len(self.encoded), _ROWS):
            values = self.encoded[first : first + _ROWS].astype(np.float32)
            values = np.concatenate([values, np.tile(np.array([size, 1 - size], np.float32), (len(values), 1))], 1)
            for layer in self.layers[:-1]:
                values = np.maximum(values @ layer, 0)
            parts.append(normalise(values @ self.layers[-1] + self.mean))
        return np.concatenate(parts)

    @cached_property
    def _swept(self) -> list[np.ndarray]:
        """Unit vectors at all sizes of a query, float16: some 210 MB for 130,000 points of 80 numbers."""
        return [self.at(size).astype(np.float16) for size in np.linspace(0, 1, COUNT)]

    def margins(
        self, phrases: Float[np.ndarray, "phrases kept"], others: Float[np.ndarray, "others kept"]
    ) -> tuple[Float[np.ndarray, "points phrases"], Float[np.ndarray, " phrases"]]:
        """The margin of each phrase over the nearest negative at each point, in cosines.

        Args:
            phrases: coefficients.
            others: coefficients of the negatives; empty: the canonical phrases.

        Returns:
            The margins of each phrase, at the size where the largest margin is greatest, and that size, input units.
        """
        alternatives = others if len(others) else self.canonical
        best = np.full((len(self.encoded), len(phrases)), -np.inf, np.float32)
        chosen = np.zeros(len(phrases))
        for size, vectors in zip(np.linspace(0, 1, COUNT), self._swept):
            cosines = vectors.astype(np.float32) @ np.concatenate([phrases, alternatives]).T
            found = cosines[:, : len(phrases)] - cosines[:, len(phrases) :].max(1, keepdims=True)
            better = found.max(0) > best.max(0)
            best[:, better], chosen[better] = found[:, better], size
        return best, self.smallest * (self.largest / self.smallest) ** chosen


class LerfStage(RefineStage):
    """Trains a sized field on the photos' pyramids.

    Args:
        field: with `FieldShape.sized`.
        rays: of photos with pyramids.
        scales: their levels, as shares of the photos' height.
        config: its two alignments are not used.
        seed: of the random draws.
    """

    name = "lerf"

    def __init__(
        self, field: FeatureField, rays: Rays, scales: Sequence[float], config: RefineConfig, seed: int = 0
    ) -> None:
        super().__init__(field, rays, config=config, seed=seed)
        self._scales = torch.tensor(scales, dtype=torch.float32, device=field.device)
        spans = rays.span[rays.hit][:, 0]
        least, most = torch.quantile(spans[:: max(1, len(spans) // 100_000)], spans.new_tensor([0.02, 0.98])).tolist()
        self.smallest = max(least, 1e-6) * scales[0]
        """Field units."""
        self.largest = max(most * scales[-1], self.smallest * 1.001)

    def _work(self, generator: torch.Generator) -> list[Callable[[], tuple]]:
        chosen = self._draw(generator, len(self.rays), self.config.batch)
        drawn = torch.rand(self.config.batch, generator=generator, device=self.field.device)
        levels = (drawn * (len(self._scales) - 1)).split([len(one) for one in chosen])
        return [partial(self._at_level, one, level) for one, level in zip(chosen, levels)]

    def _at_level(self, chosen: Tensor, level: Tensor) -> tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]:
        """Losses of rays, each at a fractional level of its pyramid."""
        config, rays = self.config, self.rays
        lower = level.long().clamp_max(len(self._scales) - 2)
        share = level - lower
        clip = rays.clip.index_select(0, chosen)
        row = torch.arange(len(chosen), device=level.device)
        target = torch.lerp(clip[row, lower], clip[row, lower + 1], share[:, None])
        scale = torch.lerp(self._scales[lower], self._scales[lower + 1], share)
        size = (rays.span.index_select(0, chosen) * scale[:, None]).clamp_min(1e-9).log() - np.log(self.smallest)
        size = (size / np.log(self.largest / self.smallest)).clamp(0, 1)
        x, encoded, network, outputs = self._rendered(chosen, size=size.view(-1))
        losses = {"feature": (config.feature, feature_loss(outputs["clip"], target, config.feature_kind))}
        losses |= self._dino(chosen, outputs)
        return x, *self._loss_gradients(chosen, losses, encoded, network)

    def facts(self) -> dict:
        return {**super().facts(), "scales": self._scales.tolist()}

    def sized(
        self, x: Float[Tensor, "points 3"], canonical: Float[np.ndarray, "canonical kept"], radius: float
    ) -> Sized:
        """The trained features at surface points.

        Args:
            x: the points, in the unit cube.
            canonical: coefficients of the canonical phrases.
            radius: input units in a field unit.
        """
        layers = self.field.layers(self.field.network)["clip"]
        return Sized(
            self.field.encode(x).cpu().numpy().astype(np.float16),
            tuple(layer.cpu().numpy() for layer in layers),
            self.field.mean.cpu().numpy(),
            canonical,
            self.smallest * radius,
            self.largest * radius,
        )
