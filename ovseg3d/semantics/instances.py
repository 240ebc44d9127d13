"""From surface points to things: "chair" is one label, five chairs are five instances.

1. Points become patches, alike in look (features, scaled to a variance of 1), normal and colour (see `graph`).
2. Patches merge into regions while they look alike. Their common border is asked too: concave speaks for two things;
   so does a photo one of whose regions ends there, and against it one whose region holds both sides. What consists of
   little but border, such as the seam that blurred features leave around a thing, merges easily.
3. The room (floor, walls, ceiling; see `structure`) is told by look from what lies or hangs on it.
4. What touches and looks alike is cut apart by shape (see `cuts`). What is left and large enough is an instance.

With labels only patches of one label merge, looks count less, and structural labels (wall, floor, ...) and points
without a label are no instances. Ids are 0 for none or the room, else from 1, the largest area first. Input frame.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int, Integer, UInt8
from scipy.spatial import cKDTree

from ovseg3d.field.surface import Sight, Surface
from ovseg3d.metrics.report import is_structural
from ovseg3d.semantics.cuts import CutConfig, cut_apart
from ovseg3d.semantics.graph import Contacts, add_up, agglomerate, spacing, touching
from ovseg3d.semantics.structure import Plane, StructureConfig, room_planes

NONE, FLOOR, CEILING, WALL = range(4)
"""What plane of the room a point lies on."""


@dataclass(frozen=True)
class InstanceConfig:
    """How points become things."""

    kept: int = 24
    """Principal axes of the features that make a look."""
    patch: float = 3.0
    """How much variance (times points) a merger may add while patches are made."""
    bend: float = 1.0
    """Weight of normals in patches; the weight of looks is 1."""
    colour: float = 2.0
    """Weight of colour in patches, in units of CIELAB / 100."""
    near: float = 0.03
    """Weight of distance in patches, in gaps between points."""
    alike: float = 0.6
    """Distance of looks up to which two large regions are one thing."""
    alike_labelled: float = 1.2
    """The same where both have one label."""
    tint: float = 0.6
    """Weight of colour when regions are compared, in units of CIELAB / 100."""
    large: float = 200.0
    """Points from which a region counts as large; smaller ones merge more easily."""
    seam: float = 2.0
    """How much a region counts as small because it consists of border."""
    crease: float = 1.5
    """How much a concave border speaks against merging: as exp(crease * bend), 1 for a bend by a right angle."""
    votes: float = 1.5
    """How much the regions of photos count, in the same way."""
    gather_share: float = 0.2
    """With labels: a piece this small beside another of its label, as a share of that one's area, belongs to it..."""
    gather_gaps: float = 5.0
    """...when it is no further away than so many typical gaps between points."""
    least: int = 15
    """Points that an instance has at least."""
    structure: StructureConfig = field(default_factory=StructureConfig)
    cut: CutConfig = field(default_factory=CutConfig)


@dataclass(frozen=True)
class Things:
    """What `find_instances` made of the points."""

    ids: Int[np.ndarray, " points"]
    """Instance of each point, 0 for none."""
    patch: Int[np.ndarray, " points"]
    """The small patch that a point belongs to, from 0."""
    room: Int[np.ndarray, " points"]
    """FLOOR, CEILING or WALL for points of the room, else NONE; always NONE with labels."""

    @property
    def count(self) -> int:
        """How many instances there are."""
        return int(self.ids.max(initial=0))


def find_instances(
    surface: Surface,
    features: Sequence[Float[np.ndarray, "points _"]],
    *,
    sights: Sequence[Sight] = (),
    regions: Sequence[Integer[np.ndarray, "_ _"]] = (),
    labels: Integer[np.ndarray, " points"] | None = None,
    phrases: Sequence[str] = (),
    config: InstanceConfig | None = None,
) -> Things:
    """Group surface points into things.

    Args:
        surface: the points.
        features: one or more sets of vectors, such as lifted CLIP and DINO ones; each counts the same. None at all:
            colour and shape alone.
        sights: which points each photo sees and where.
        regions: region maps of the same photos, of any size and numbering, one for each of `sights`; or none.
        labels: phrase of each point, k for `phrases[k - 1]`, 0 for none. Without, things of all kinds are looked for.
        phrases: what labels mean; those that name the room are no things.
        config: see there.
    """
    config = config or InstanceConfig()
    if len(surface) < 2:
        ids = np.full(len(surface), int(config.least <= 1))
        return Things(ids, np.zeros(len(surface), np.int64), np.zeros(len(surface), np.int64))
    xyz, normal = surface.xyz.astype(np.float64), surface.normal.astype(np.float64)
    # Stray points are further from each other than the cells of the surface are large.
    gap = np.minimum(spacing(xyz), 2 * surface.cell.astype(np.float64))
    typical = max(float(np.median(gap)), 1e-12)
    # A lone point far out must not count as a large area.
    area = np.clip(gap, 0.25 * typical, 4 * typical) ** 2
    colour = _lab(surface.rgb)
    look = _looks(features, area, config.kept) if features else _scaled(colour)
    edges = touching(xyz, gap, normal)
    shape = [config.bend * normal, config.colour * colour, config.near * xyz / typical]
    patch = agglomerate(edges, np.ones(len(xyz)), np.concatenate([look, *shape], 1), _ward, config.patch)
    weight = np.bincount(patch).astype(np.float64)
    means = add_up(np.concatenate([look, config.tint * colour, normal, xyz], 1), patch, len(weight)) / weight[:, None]
    between = edges.merged(patch, len(weight))
    bend = _bends(between.pair, means[:, -3:], means[:, -6:-3])
    vote = _votes(between.pair, patch, len(weight), sights, regions)
    if labels is None:
        plane = _on_planes(surface, room_planes(xyz, normal, area, surface.up, typical, config.structure))
        kind = _majority(patch, plane, len(weight), 0.6)
        allowed = np.full(len(weight), True)
    else:
        plane, kind = np.zeros(len(xyz), np.int64), _majority(patch, labels.astype(np.int64), len(weight), 0.0)
        things = [False, *(not is_structural(phrase) for phrase in phrases)]
        allowed = np.array(things)[kind]
    same = kind[between.pair[:, 0]] == kind[between.pair[:, 1]]
    usable = allowed[between.pair].all(1) & (same | (labels is None))
    border = between.sums[:, 0]
    contacts = Contacts(between.pair, border[:, None] * np.stack([np.ones(len(border)), bend, vote, same], 1))
    contacts = Contacts(contacts.pair[usable], contacts.sums[usable])
    price = _Price(config, config.alike if labels is None else config.alike_labelled)
    region = agglomerate(contacts, weight, means[:, :-6], price)
    patch_area = np.bincount(patch, area)
    room = np.zeros(len(weight), np.int64)
    if labels is None:
        share = np.stack([np.bincount(patch, area * (plane == k)) for k in (FLOOR, CEILING, WALL)], 1)
        room = _room(region, means[:, :-6], patch_area, share, 1.5 * config.alike)
    region = np.where(allowed & (room == NONE), region, -1)
    # Photos may hold together what shape would part, not the other way: their regions end inside of things too.
    crease = (bend + np.minimum(vote, 0))[usable]
    up = surface.up.astype(np.float64)
    region = cut_apart(contacts.pair, border[usable], crease, weight, means[:, -3:], up, region, config.cut)
    if labels is not None:
        region = _gathered(region, kind, patch, patch_area, xyz, config.gather_share, config.gather_gaps * typical)
    return Things(_numbered(region, weight, patch_area, config.least)[patch], patch, room[patch])


@dataclass(frozen=True)
class _Price:
    """What merging two regions costs; below 1 they are one. See the head of this file."""

    config: InstanceConfig
    alike: float

    def __call__(self, contacts: Contacts, weight: np.ndarray, means: np.ndarray) -> np.ndarray:
        a, b = contacts.pair.T
        border, bend, vote, same = contacts.sums.T
        open_ends = np.bincount(a, border, len(weight)) + np.bincount(b, border, len(weight))
        # A point has about six edges, so this is the share of a region's edges that lead out of it.
        core = weight * np.clip(1 - self.config.seam * open_ends / (6 * weight), 0.05, 1)
        one, other = np.minimum(core[a], self.config.large), np.minimum(core[b], self.config.large)
        size = 2 * one * other / (one + other) / self.config.large
        far = ((means[a] - means[b]) ** 2).sum(1) / self.alike**2
        hint = self.config.crease * np.clip(bend / border, -0.5, 1) + self.config.votes * vote / border
        return size * far * np.exp(hint) * (2 - same / border)


def _looks(features: Sequence[np.ndarray], area: np.ndarray, kept: int) -> np.ndarray:
    """Vectors as (points, axes): directions without their mean, on their main axes, with a variance of 1 in all."""
    share = (area / area.sum())[:, None]
    looks = []
    for vectors in features:
        unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
        unit = unit - (share * unit).sum(0)
        spread, axes = np.linalg.eigh((unit * share).T @ unit)
        # Vectors that are all the same stay together.
        looks.append(unit @ axes[:, ::-1][:, :kept] / np.sqrt(max(spread.sum(), 1e-6) * len(features)))
    return np.concatenate(looks, 1)


def _scaled(colour: np.ndarray) -> np.ndarray:
    """Colours as looks, for want of features."""
    apart = colour - colour.mean(0)
    return apart / max(float(np.sqrt((apart**2).sum(1).mean())), 1e-2)


def _lab(rgb: UInt8[np.ndarray, "points 3"]) -> Float[np.ndarray, "points 3"]:
    from skimage.color import rgb2lab

    return rgb2lab(rgb[None])[0] / 100


def _ward(contacts: Contacts, weight: np.ndarray, means: np.ndarray) -> np.ndarray:
    """How much variance (times weight) merging two regions adds."""
    a, b = contacts.pair.T
    far = np.empty(len(a))
    for start in range(0, len(a), 100_000):
        rows = slice(start, start + 100_000)
        far[rows] = ((means[a[rows]] - means[b[rows]]) ** 2).sum(1)
    return weight[a] * weight[b] / (weight[a] + weight[b]) * far


def _bends(pair: np.ndarray, middle: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """How the surface bends from one patch to the next: 0 flat, about 1 concave by a right angle, negative convex."""
    unit = normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9)
    a, b = pair.T
    apart = middle[b] - middle[a]
    apart /= np.maximum(np.linalg.norm(apart, axis=1, keepdims=True), 1e-12)
    return ((unit[a] - unit[b]) * apart).sum(1)


def _votes(
    pair: np.ndarray, patch: np.ndarray, count: int, sights: Sequence[Sight], regions: Sequence[np.ndarray]
) -> np.ndarray:
    """How much less often than usual the photos that see both patches of a pair put them on one region, -1 to 1."""
    same, both = np.zeros(len(pair)), np.zeros(len(pair))
    for sight, region in zip(sights, regions, strict=True) if regions else ():
        h, w = region.shape
        column, row = np.clip((sight.xy * (w, h)).astype(np.int64), 0, (w - 1, h - 1)).T
        most = _majority(patch[sight.point], region[row, column].astype(np.int64), count, 0.0, missing=-1)
        first, second = most[pair].T
        seen = (first >= 0) & (second >= 0)
        both += seen
        same += seen & (first == second)
    asked = both > 0
    share = same / np.maximum(both, 1)
    # Photos may be cut finely or coarsely: only the difference to the other borders says anything.
    usual = float(np.median(share[asked])) if asked.any() else 0.0
    return np.where(asked, usual - share, 0.0)


def _majority(group: np.ndarray, value: np.ndarray, count: int, share: float, missing: int = 0) -> np.ndarray:
    """The commonest value (0 or more) of each group, the least of equals; `missing` for one below `share` or none."""
    base = int(value.max(initial=0)) + 1
    key, number = np.unique(group.astype(np.int64) * base + value, return_counts=True)
    order = np.lexsort((-key, number))
    best, votes = np.full(count, missing), np.zeros(count)
    best[key[order] // base], votes[key[order] // base] = key[order] % base, number[order]
    total = np.bincount(group, minlength=count)
    return np.where(votes > share * total, best, missing)


def _on_planes(surface: Surface, planes: Sequence[Plane]) -> np.ndarray:
    """The kind of plane that each point lies on; the first of several."""
    kind = np.zeros(len(surface), np.int64)
    for plane in reversed(planes):
        tilt = float(plane.normal @ surface.up)
        own = FLOOR if tilt > 0.7 else CEILING if tilt < -0.7 else WALL
        kind[plane.holds(surface.xyz.astype(np.float64), surface.normal.astype(np.float64))] = own
    return kind


def _room(
    region: np.ndarray, look: np.ndarray, area: np.ndarray, share: np.ndarray, alike: float
) -> Int[np.ndarray, " patches"]:
    """What each patch is of the room: regions on its planes that look as most of them do.

    Walls are judged together: one may be hidden by a bookshelf, all are not.
    """
    count = int(region.max()) + 1
    size = np.bincount(region, area, count)
    mean = add_up(look * area[:, None], region, count) / size[:, None]
    on = add_up(share, region, count) / size[:, None]
    kind = np.zeros(count, np.int64)
    for column, name in enumerate((FLOOR, CEILING, WALL)):
        there = np.flatnonzero(on[:, column] > 0.5)
        if len(there):
            usual = mean[there[size[there].argmax()]]
            like = ((mean - usual) ** 2).sum(1) < alike**2
            kind[like & (on[:, column] > 0.3) & (kind == NONE)] = name
    return kind[region]


def _gathered(
    region: np.ndarray,
    kind: np.ndarray,
    patch: np.ndarray,
    area: np.ndarray,
    xyz: np.ndarray,
    share: float,
    near: float,
) -> np.ndarray:
    """Regions, with small pieces given to the large region of the same kind that is nearest (a chair's lone leg)."""
    count = int(region.max(initial=-1)) + 1
    inside = region >= 0
    size = np.bincount(region[inside], area[inside], count)
    of = np.zeros(count, np.int64)
    of[region[inside]] = kind[inside]
    target = np.arange(count)
    owner = region[patch]
    for label in np.unique(of[size > 0]):
        own = np.flatnonzero((of == label) & (size > 0))
        large = own[size[own] > share * size[own].max()]
        anchors = np.flatnonzero(np.isin(owner, large))
        tree = cKDTree(xyz[anchors])
        for piece in own[size[own] < share * size[own].max()]:
            distance, at = tree.query(xyz[owner == piece])
            best = owner[anchors[at[distance.argmin()]]]
            if distance.min() <= near and size[piece] < share * size[best]:
                target[piece] = best
    return np.where(inside, target[np.maximum(region, 0)] if count else region, -1)


def _numbered(region: np.ndarray, weight: np.ndarray, area: np.ndarray, least: int) -> np.ndarray:
    """Instance of each patch: regions (from 0) with enough points, by falling area."""
    inside = region >= 0
    if not inside.any():
        return np.zeros(len(region), np.int64)
    size, points = np.bincount(region[inside], area[inside]), np.bincount(region[inside], weight[inside])
    order = np.argsort(-size, kind="stable")
    order = order[points[order] >= least]
    number = np.zeros(len(size), np.int64)
    number[order] = np.arange(1, len(order) + 1)
    return np.where(inside, number[np.maximum(region, 0)], 0)
