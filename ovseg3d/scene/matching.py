"""Which photos of a capture are matched with which, and how finely."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ovseg3d.scene.cameras import Camera

FEATURE_SIDE = 1024
"""Longest side of the photos in which features are found, pixels."""
MAX_FEATURES = 4096
"""Features of a photo."""
FULL_VIEWS = 240
"""Photos up to which these two hold; see `MatchingSize`."""
MAX_VIEWS = 1200
"""Photos that are matched, evenly spread. If there are more, no pose is adjusted: cameras that were moved would no
longer agree with those that were not."""
NEAREST_PAIRS = 15
"""Photos with the most similar pose that each photo is matched with."""
WIDE_PAIRS = 8
"""Further photos, drawn among those that look in a similar direction."""
MAX_PAIR_ANGLE = 60.0
"""Largest angle between the viewing directions of a pair, degrees."""


@dataclass(frozen=True)
class MatchingSize:
    """How many training photos are matched, and how finely.

    With more than `FULL_VIEWS` photos each has fewer pixels and features, so that all photos together have about as
    many: finding features costs pixels, triangulation and bundle adjustment cost observations, and matching, the
    product of two photos' features, becomes cheaper.
    """

    views: int
    """Photos that are matched."""
    side: int
    """Longest side of the photos in which features are found, pixels."""
    features: int
    """Most features of a photo."""

    @classmethod
    def of(cls, views: int) -> "MatchingSize":
        """For a capture with so many training photos."""
        views = min(views, MAX_VIEWS)
        share = min(1.0, FULL_VIEWS / max(views, 1))
        return cls(views, round(FEATURE_SIDE * math.sqrt(share)), round(MAX_FEATURES * share))

    @property
    def is_full(self) -> bool:
        """Whether photos are matched as finely as those of a small capture."""
        return self.side == FEATURE_SIDE


def matched_views(views: Sequence[int]) -> list[int]:
    """At most `MAX_VIEWS` of the views, evenly spread."""
    if len(views) <= MAX_VIEWS:
        return list(views)
    return [views[i] for i in np.linspace(0, len(views) - 1, MAX_VIEWS).round().astype(int)]


def near_pairs(cameras: list[Camera], seed: int) -> list[tuple[int, int]]:
    """Pairs (i, j), i < j, of cameras that may see the same: near ones, and some far apart."""
    eyes = np.stack([camera.position for camera in cameras])
    forward = np.stack([camera.forward for camera in cameras])
    angle = np.degrees(np.arccos(np.clip(forward @ forward.T, -1.0, 1.0)))
    apart = np.linalg.norm(eyes[:, None] - eyes[None], axis=-1)
    unlikeness = angle / (MAX_PAIR_ANGLE / 2) + apart / max(float(np.median(apart)), 1e-9)
    unlikeness[angle > MAX_PAIR_ANGLE] = np.inf
    np.fill_diagonal(unlikeness, np.inf)
    random = np.random.default_rng(seed)
    pairs = set()
    for i, row in enumerate(unlikeness):
        possible = np.flatnonzero(np.isfinite(row))
        near = possible[np.argsort(row[possible], kind="stable")][:NEAREST_PAIRS]
        for j in (*near, *random.permutation(possible)[:WIDE_PAIRS]):
            pairs.add((min(i, int(j)), max(i, int(j))))
    return sorted(pairs)
