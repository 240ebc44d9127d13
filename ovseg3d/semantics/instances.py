"""From surface points to things: "chair" is one label, five chairs are five instances.

1. Points become superpoints: small patches alike in feature, normal and colour (see `graph`).
2. Superpoints merge while they look alike. What a border says counts too: a concave crease speaks for two things, a
   convex or smooth one for one; and so do photos, if their regions are given: does one region hold both sides?
3. The room (floor, walls, ceiling; see `structure`) is told from what lies or hangs on it by look.
4. What is left and large enough is an instance. With labels, only superpoints of one label merge, and structural
   labels are the room.

Id 0 is none or the room; instances are numbered from 1 by area, the largest first. Input frame throughout.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Integer, UInt8

from ovseg3d.field.surface import Sight, Surface
from ovseg3d.semantics.graph import Contacts, add_up, agglomerate, spacing, touching
from ovseg3d.semantics.structure import Plane, StructureConfig, room_planes


@dataclass(frozen=True)
class InstanceConfig:
    """How points become things."""

    patch: float = 3.0
    """Variance (in points) that a superpoint may gain when patches merge."""
    bend: float = 1.0
    """Weight of normals in superpoints, beside features of variance 1."""
    colour: float = 2.0
    """Weight of colour in superpoints, in units of CIELAB / 100."""
    near: float = 0.03
    """Weight of distance in superpoints, in gaps between points."""
    alike: float = 0.35
    """Distance of looks (features of variance 1) up to which two large regions are one thing."""
    tint: float = 0.5
    """Weight of colour in looks."""
    large: float = 60.0
    """Points from which a region counts as large; smaller ones merge more easily."""
    crease: float = 2.0
    """How much a concave border speaks against merging."""
    votes: float = 1.0
    """How much the regions of photos count."""
    least: int = 15
    """Points that an instance has at least."""
    strip: float = 1.0
    kept: int = 24
    """Principal axes of the features that are used."""


def find(surface, vectors, config=None, more=None, regions=None, sights=None, labels=None):
    config = config or InstanceConfig()
    xyz, normal = surface.xyz.astype(np.float64), surface.normal.astype(np.float64)
    gap = spacing(xyz)
    typical = float(np.median(gap))
    area = np.clip(gap, 0.25 * typical, 4 * typical) ** 2
    look = looks(vectors, area, config.kept)
    lab = _lab(surface.rgb)
    edges = touching(xyz, gap)
    patch = agglomerate(edges, np.ones(len(xyz)), np.concatenate([look, config.bend * normal, config.colour * lab, config.near * xyz / typical], 1), _ward, config.patch)
    count = int(patch.max()) + 1
    weight = np.bincount(patch, minlength=count).astype(float)
    mean = lambda x: add_up(x, patch, count) / weight[:, None]
    n = mean(normal); n /= np.maximum(np.linalg.norm(n, axis=1, keepdims=True), 1e-9)
    x = mean(xyz)
    between = edges.merged(patch, count)
    a, b = between.pair.T
    d = x[b] - x[a]; d /= np.maximum(np.linalg.norm(d, axis=1, keepdims=True), 1e-9)
    bend = ((n[a] - n[b]) * d).sum(1)
    planes = room_planes(xyz, normal, area, surface.up, typical)
    kind = plane_of(planes, xyz, normal, surface.up)   # 0 none 1 floor 2 ceiling 3 wall
    on = np.stack([np.bincount(patch, kind == k, minlength=count) for k in range(1, 4)], 1) / weight[:, None]
    which = np.where(on.max(1) > 0.6, on.argmax(1) + 1, 0)
    borders = between.sums[:, 0]
    same_plane = (which[a] == which[b]).astype(float)
    sums = np.stack([borders, borders * bend, borders * same_plane], 1)
    said = vote(between.pair, patch, sights, regions) if regions is not None else np.zeros((len(a), 2))
    ok = said[:, 1] > 0
    usual = float(np.median(said[ok, 0] / said[ok, 1])) if ok.any() else 0.5
    # Without a word the usual.
    share = np.where(ok, said[:, 0] / np.maximum(said[:, 1], 1), usual)
    sums = np.concatenate([sums, (borders * (usual - share))[:, None]], 1)
    means = np.concatenate([mean(look), config.tint * config.colour * mean(lab)], 1)
    def price(c, w, m):
        a, b = c.pair.T
        cross = np.bincount(a, c.sums[:, 0], minlength=len(w)) + np.bincount(b, c.sums[:, 0], minlength=len(w))
        core = w * np.clip(1 - config.strip * cross / (6 * w), 0.05, 1)
        wa, wb = np.minimum(core[a], config.large), np.minimum(core[b], config.large)
        size = 2 * wa * wb / (wa + wb) / config.large
        crease = c.sums[:, 1] / c.sums[:, 0]
        flat = c.sums[:, 2] / c.sums[:, 0]
        far = ((m[a] - m[b]) ** 2).sum(1) / config.alike**2
        return size * (far + 0.0) * np.exp(config.crease * np.clip(crease, -0.5, 1)) * (2 - flat) * np.exp(config.votes * c.sums[:, 3] / c.sums[:, 0])
    region = agglomerate(Contacts(between.pair, sums), weight, means, price)[patch]
    # structure
    rc = int(region.max()) + 1
    size = np.bincount(region, area, minlength=rc)
    rl = add_up(means[patch] * area[:, None], region, rc) / size[:, None]
    ron = np.stack([np.bincount(region, area * (kind == k), minlength=rc) for k in range(1, 4)], 1) / size[:, None]
    structure = np.zeros(rc, bool)
    for k in range(3):
        there = ron[:, k] > 0.5
        if not there.any(): continue
        big = np.flatnonzero(there)[size[there].argmax()]
        like = ((rl - rl[big]) ** 2).sum(1) < (1.5 * config.alike) ** 2
        structure |= there & like
        structure |= (ron[:, k] > 0.3) & like
    keep = ~structure & (np.bincount(region, minlength=rc) >= config.least)
    order = np.flatnonzero(keep); order = order[np.argsort(-size[order], kind="stable")]
    number = np.zeros(rc, int); number[order] = np.arange(1, len(order) + 1)
    return number[region], region, patch, kind

def vote(pair, patch, sights, regions):
    """For each pair of patches in how many photos one region holds most of both, and in how many both are seen."""
    count = int(patch.max()) + 1
    said = np.zeros((len(pair), 2))
    for sight, region in zip(sights, regions):
        h, w = region.shape
        place = np.clip((sight.xy * (w, h)).astype(np.int64), 0, (w - 1, h - 1))
        number = region[place[:, 1], place[:, 0]].astype(np.int64)
        many = int(region.max()) + 1
        key, votes = np.unique(patch[sight.point] * many + number, return_counts=True)
        order = np.lexsort((-key, votes))
        most = np.full(count, -1)
        most[key[order] // many] = key[order] % many
        first, second = most[pair].T
        both = (first >= 0) & (second >= 0)
        said += np.stack([both & (first == second), both], 1)
    return said

def plane_of(planes, xyz, normal, up):
    kind = np.zeros(len(xyz), int)
    for p in planes[::-1]:
        tilt = p.normal @ up
        kind[p.holds(xyz, normal)] = 1 if tilt > 0.7 else 2 if tilt < -0.7 else 3
    return kind

def looks(vectors, area, kept):
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    share = area / area.sum()
    unit = unit - share @ unit
    spread, axes = np.linalg.eigh((unit * share[:, None]).T @ unit)
    return unit @ axes[:, ::-1][:, :kept] / max(np.sqrt(spread.sum()), 1e-9)

def _ward(contacts: Contacts, weight: np.ndarray, means: np.ndarray) -> np.ndarray:
    a, b = contacts.pair.T
    far = np.concatenate([((means[a[k : k + 100_000]] - means[b[k : k + 100_000]]) ** 2).sum(1) for k in range(0, len(a), 100_000)])
    return weight[a] * weight[b] / (weight[a] + weight[b]) * far

def _lab(rgb):
    from skimage.color import rgb2lab
    return rgb2lab(rgb[None])[0] / 100
