"""Names for point clouds without colour: depth views, an image tower, and sentences about the names.

OpenDlign (Mao et al. 2024) shows half of the views to the frozen tower and half to the tuned one. Here every view is
seen by each tower that is asked for, and cosines are averaged.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8
from safetensors import safe_open
from torch import Tensor

from ovseg3d.encoders import TextImageEncoder, load_clip
from ovseg3d.encoders.base import unit
from ovseg3d.encoders.weights import hash_files
from ovseg3d.errors import ConfigError, EncoderError, ShapeError
from ovseg3d.heads.naming import upright
from ovseg3d.heads.naming.background import TOWERS, background_file, interpolate, load_background, log_prior
from ovseg3d.heads.naming.projections import OURS, PROJECTIONS
from ovseg3d.heads.naming.prompts import PLAIN_TEMPLATES, check_classes, class_vectors
from ovseg3d.heads.naming.records import NameScore, Naming
from ovseg3d.heads.naming.splat import relief
from ovseg3d.heads.naming.towers import AlignedTower
from ovseg3d.heads.naming.views import orbit

Towers = Literal["tuned", "frozen", "both"]
FEWEST_POINTS = 32
"""Points below which a surface cannot be told."""
MOST_POINTS = 10_000
"""Of larger clouds, so many are used, drawn at random with a fixed seed."""
MIN_UP_PROBABILITY = 0.02
"""Axes that are less likely to be up by geometry are not looked at: each costs a shape's views."""
_FLAT = 1e-4
"""A cloud whose second spread is smaller, as a share of its first, is a line."""
BUILTIN_WEIGHTS = Path(__file__).parent / "weights" / "builtin.safetensors"
_CLIP = "clip_weight_hash"
PROJECTION = "projection"
"""What tuned weights call the views that they were tuned to."""
_PARTS: dict[Towers, tuple[str, ...]] = {"tuned": ("tuned",), "frozen": ("frozen",), "both": ("tuned", "frozen")}
"""The towers whose vectors are averaged."""


class ShapeNamer:
    """Names shapes and embeds them in the space of a text-image encoder.

    Args:
        clip: the encoder, or its name as `load_clip` takes it. Tuned weights change the tower of an encoder in place.
        towers: which image tower sees the views; None: the tuned one where there are weights, else the frozen one.
        weights: tuned weights; None: those of the package, which belong to "builtin".
        views: depth views around a shape; of other projections than ours, their own ten.
        templates: sentences with {} for the name; None: "a {}".
        strength: how far the tuned copy is from CLIP's own weights: 1 as it was tuned, 0 not at all, between is an
            interpolation of weights (Wortsman et al. 2022). What the tower calls shapes of no kind is interpolated
            likewise.
        device: for computing.

    Raises:
        EncoderError: the encoder or the weights cannot be loaded, or do not belong together.
        ConfigError: `strength` is not from 0 to 1.
    """

    def __init__(
        self,
        clip: str | TextImageEncoder = "builtin",
        *,
        towers: Towers | None = None,
        weights: Path | None = None,
        views: int = 10,
        templates: Sequence[str] | None = None,
        strength: float = 1.0,
        device: str | torch.device = "cpu",
    ) -> None:
        if not 0 <= strength <= 1:
            raise ConfigError(f"The strength of tuned weights must be from 0 to 1, not {strength:g}", fix="use 1")
        weights = BUILTIN_WEIGHTS if weights is None and clip == "builtin" else weights
        if weights is None and towers in ("tuned", "both"):
            raise EncoderError(
                f"There are no tuned weights for {clip if isinstance(clip, str) else type(clip).__name__}",
                fix="use the frozen tower, or name weights",
            )
        self.encoder: TextImageEncoder = load_clip(clip, device) if isinstance(clip, str) else clip
        self.device = torch.device(device)
        self.towers: Towers = towers or ("tuned" if weights is not None else "frozen")
        self.views = views
        self.projection = OURS
        """Of `PROJECTIONS`: what the tuned weights were tuned to; others than ours have views of their own."""
        self.templates = PLAIN_TEMPLATES if templates is None else tuple(templates)
        self.tower: AlignedTower | None = None
        """The image tower with its tuned copy, where there are tuned weights."""
        self._last_names: tuple[tuple[str, ...], np.ndarray] = ((), np.zeros((0, self.encoder.dim)))
        """Names and their vectors, so that a list is encoded once for many shapes."""
        self.id = f"{self.encoder.id}+{self.towers}"
        """Encoder, tower and tuned weights; indices of others are refused."""
        self.scored_by = self.id
        """Likewise, and what scores depend on besides."""
        self._background: dict[str, np.ndarray] = {}
        """Unit vectors of shapes of no kind by tower, where there are tuned weights with such."""
        if weights is not None:
            self._load(Path(weights), strength)

    def embed(
        self, points: Float[np.ndarray, "points 3"], up: str = "z", stated_up: str | None = None
    ) -> Float[np.ndarray, " dim"]:
        """The unit vector of a shape: the mean over its views.

        Args:
            points: in any unit, at least `FEWEST_POINTS` that are finite and not all on one line.
            up: the axis that is up, or "auto".
            stated_up: the axis that the file's format defines as up.

        Raises:
            ShapeError: such points are not there.
            ConfigError: there is no such axis.
        """
        points = check_points(points)
        direction = upright.find_up(points, stated_up) if up == "auto" else _axis(up)
        return self._embedding(points, direction)

    def embed_names(self, classes: Sequence[str]) -> Float[np.ndarray, "classes dim"]:
        """Unit vectors of names or phrases. Raises ConfigError: none, an empty one or two equal ones."""
        names = check_classes(classes)
        if names != self._last_names[0]:
            with torch.no_grad():
                self._last_names = (names, class_vectors(self.encoder, names, self.templates).cpu().numpy())
        return self._last_names[1].copy()

    def embed_phrase(self, phrase: str) -> Float[np.ndarray, " dim"]:
        """The unit vector of a phrase as it is. Raises EncoderError: an empty or too long one."""
        with torch.no_grad():
            return self.encoder.encode_text([phrase])[0].cpu().numpy()

    def embed_picture(self, picture: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, " dim"]:
        """The unit vector of a photograph, by the frozen tower."""
        pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float() / 255
        with torch.no_grad():
            found = self.encoder.encode_image(pixels) if self.tower is None else self.tower.encode(pixels, 0.0)
            return found[0].cpu().numpy()

    def name(
        self,
        points: Float[np.ndarray, "points 3"],
        classes: Sequence[str],
        *,
        up: str = "auto",
        stated_up: str | None = None,
        top: int | None = None,
    ) -> Naming:
        """Rank names for a shape.

        Where the up axis is unknown, a name's score is its mean over axes by their probability: P(name) = sum over axes
        of P(axis) P(name | views around the axis). The axis that is reported is the likeliest one, by geometry alone.

        Args:
            points: as for `embed`.
            classes: names to choose from; "mouse (a computer part)" explains one in brackets.
            up: the axis that is up, such as "z" or "-y"; "auto" estimates it.
            stated_up: the axis that the file's format defines as up.
            top: names to return; None: all.

        Raises:
            ShapeError: there are too few points, or they are not finite, or all on one line.
            ConfigError: no class, an empty one, two equal ones, or no such axis.
        """
        names = check_classes(classes)
        points = check_points(points)
        directions, odds = upright.up_odds(points, stated_up) if up == "auto" else (_axis(up)[None], np.zeros(1))
        likely = odds > np.log(MIN_UP_PROBABILITY)
        direction, vectors = directions[int(odds.argmax())], self.embed_names(names)
        by_axis = [self.probabilities(self._embedding(points, one), vectors) for one in directions[likely]]
        scores = np.average(by_axis, axis=0, weights=np.exp(odds[likely]))
        order = np.argsort(-scores, kind="stable")[:top]
        found = tuple(NameScore(names[k], float(scores[k])) for k in order)
        x, y, z = (float(value) for value in direction)
        return Naming(found, upright.nearest_axis(direction), (x, y, z))

    def probabilities(
        self, vector: Float[np.ndarray, " dim"], names: Float[np.ndarray, "classes dim"]
    ) -> Float[np.ndarray, " classes"]:
        """Softmax of `logits`."""
        logits = self.logits(vector[None], names)[0]
        odds = np.exp(logits - logits.max())
        return odds / odds.sum()

    def logits(
        self, vectors: Float[np.ndarray, "shapes dim"], names: Float[np.ndarray, "classes dim"]
    ) -> Float[np.ndarray, "shapes classes"]:
        """Cosines at the encoder's own temperature, less the logarithm of each name's prior (see `background`).

        Args:
            vectors: unit vectors of shapes, by this namer's towers.
            names: unit vectors of all names that there are to choose from.
        """
        return self.encoder.logit_scale * vectors @ names.T - self.log_prior(names)

    def log_prior(
        self, names: Float[np.ndarray, "classes dim"], towers: Towers | None = None
    ) -> Float[np.ndarray, " classes"]:
        """The logarithm of each name's prior; 0 without tuned weights, or where no background belongs to them.

        Args:
            names: unit vectors of all names that there are to choose from.
            towers: None: those of this namer.
        """
        if not self._background:
            return np.zeros(len(names))
        mean = np.mean([self._background[name] for name in _PARTS[towers or self.towers]], axis=0)
        return log_prior(mean / np.linalg.norm(mean, axis=1, keepdims=True), names, self.encoder.logit_scale)

    def embed_views(
        self, pictures: Float[Tensor, "views 3 h w"], share: float | None = None
    ) -> Float[Tensor, "views dim"]:
        """Unit vectors of depth views.

        Args:
            pictures: from 0 to 1.
            share: part of the tuned copy in the last stage, 0 for the frozen tower; None: as this namer's towers are.
        """
        if self.tower is None:
            return self.encoder.encode_image(pictures)
        shares = (share,) if share is not None else tuple(TOWERS[name] for name in _PARTS[self.towers])
        return unit(torch.stack([self.tower.encode(pictures, one) for one in shares]).mean(0))

    def _embedding(self, points: np.ndarray, direction: np.ndarray) -> np.ndarray:
        """The unit mean over the views around a direction."""
        turn = upright.turn_up(direction)
        if self.projection == OURS:
            seen = relief(points, orbit(self.views) @ turn)
        else:
            seen = PROJECTIONS[self.projection](points @ turn.T).astype(np.float32)
        pictures = torch.from_numpy(seen)
        with torch.no_grad():
            return unit(self.embed_views(pictures[:, None].expand(-1, 3, -1, -1)).mean(0)).cpu().numpy()

    def _load(self, path: Path, strength: float) -> None:
        try:
            with safe_open(path, "pt") as file:
                tensors, facts = {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}
        except Exception as error:  # safetensors has errors of its own
            raise EncoderError(
                "The tuned weights cannot be read", where=path, fix="fetch or make them again"
            ) from error
        if _CLIP in facts and facts[_CLIP] != self.encoder.weight_hash:
            raise EncoderError(
                f"The tuned weights belong to the encoder {facts.get('clip')!r}, not to {self.encoder.id!r}",
                where=path,
                fix="name that one with --clip",
            )
        self.projection = facts.get(PROJECTION, OURS)
        if self.projection not in PROJECTIONS:
            raise EncoderError(
                f"The weights were tuned to views that are not known: {self.projection!r}",
                where=path,
                fix="make others",
            )
        self.id += f"@{hash_files([path])[:8]}" + ("" if strength == 1 else f"*{strength:g}")
        self.tower = AlignedTower(self.encoder)
        self.tower.load(tensors, strength)
        beside = background_file(path)
        self._background = interpolate(load_background(beside, self.encoder.weight_hash), strength)
        self.scored_by = f"{self.id}@{hash_files([beside])[:8]}" if self._background else self.id


def _axis(up: str) -> Float[np.ndarray, "3"]:
    if up not in upright.AXES:
        raise ConfigError(f"There is no up axis {up!r}", fix=f"use auto, {', '.join(upright.AXES)}")
    return np.array(upright.AXES[up])


def check_points(points: Float[np.ndarray, "points 3"]) -> Float[np.ndarray, "some 3"]:
    """The finite points of a shape, `MOST_POINTS` at most, in their own frame.

    Raises:
        ShapeError: there are too few, or all are on one line.
    """
    points = np.asarray(points, np.float64)
    points = points[np.isfinite(points).all(1)]
    if len(points) < FEWEST_POINTS:
        raise ShapeError(
            f"A shape needs at least {FEWEST_POINTS} points with finite coordinates; this one has {len(points)}",
            fix="give a denser cloud, or a mesh",
        )
    if len(points) > MOST_POINTS:
        points = points[np.random.default_rng(0).choice(len(points), MOST_POINTS, replace=False)]
    spread = np.linalg.svd(points - points.mean(0), compute_uv=False)
    if spread[1] <= _FLAT * max(spread[0], 1e-12):
        raise ShapeError("All points are on one line", fix="give a shape with a surface")
    return points


__all__ = ["BUILTIN_WEIGHTS", "ShapeNamer", "Towers", "check_points"]
