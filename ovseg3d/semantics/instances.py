"""From surface points to things: "chair" is one label, five chairs are five instances.

Shape and colour come first: they are known to the point, while features are blurred over cells of the photos.

1. Normals and colours are steadied along the surface (see `smooth`), and points become patches that are alike in them,
   and a little in their looks: features on their main axes, scaled to a variance of 1 over the scene.
2. The planes of the room (floor, walls, ceiling; see `structure`) are found, and which of them a patch lies on.
3. Patches merge into regions, those first whose border has least to say against it (see `borders`).
4. What lies on the planes of the room is told by colour and look: most of it is the room, the rest hangs or lies there.
   Pieces that hang side by side, with much of their outline in common, are one: a picture is of many colours. Fog above
   the walls is ceiling.
5. What touches and looks alike is cut apart by shape (see `cuts`). Where the room bulges off its planes it is told by
   colour (see `bulges`). What is left and large enough is an instance.

Ids are 0 for none or the room, else from 1, the largest area first. Input frame. What things are called is not asked
here: `things.instances_of` names them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, Int, Integer
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from ovseg3d.field.surface import Sight, Surface
from ovseg3d.semantics.borders import BorderConfig, Price, bends, tint, votes, weigh
from ovseg3d.semantics.bulges import BulgeConfig, bulges
from ovseg3d.semantics.cuts import CutConfig, cut_apart
from ovseg3d.semantics.graph import Contacts, add_up, agglomerate, majority, spacing, touching
from ovseg3d.semantics.smooth import SmoothConfig, smooth, to_lab
from ovseg3d.semantics.structure import (
    CEILING,
    FLOOR,
    NONE,
    WALL,
    StructureConfig,
    lies_on,
    room_planes,
    upper_edge,
)

WHOLE = 0.9
"""Share of a region above a room's walls from which it is the ceiling, and nothing that is high..."""
FRAYED = 6.0
"""...and how far below their edge that is still above them, in gaps between points."""


@dataclass(frozen=True)
class InstanceConfig:
    """How points become things."""

    steady: SmoothConfig = field(default_factory=lambda: SmoothConfig(steps=5, turn=0.6))
    """How normals and colours are steadied."""
    kept: int = 24
    """Principal axes of the features that make a look."""
    patch: float = 3.0
    """How much variance (times points) a merger may add while patches are made; the weight of normals is 1."""
    colour: float = 6.0
    """Weight of colour in patches, in units of CIELAB / 100."""
    look: float = 0.3
    """Weight of looks in patches."""
    near: float = 0.03
    """Weight of distance in patches, in gaps between points."""
    tint: float = 0.2
    """Difference in tint (see `borders.tint`) up to which a region on a plane of the room is the room..."""
    shade: float = 0.6
    """...and in lightness..."""
    alike: float = 1.1
    """...and distance of looks; together they are an ellipsoid."""
    flat: float = 0.9
    """Share of a piece on a wall that lies on its plane..."""
    hung: float = 0.3
    """...most of the plane that it may be, a wall of another colour being none..."""
    common: float = 0.4
    """...and share of the shorter outline of two that is common to both, from which they are one."""
    least: int = 15
    """Points that an instance has at least."""
    border: BorderConfig = field(default_factory=BorderConfig)
    structure: StructureConfig = field(default_factory=StructureConfig)
    bulge: BulgeConfig = field(default_factory=BulgeConfig)
    cut: CutConfig = field(default_factory=CutConfig)


@dataclass(frozen=True)
class Things:
    """What `find_instances` made of the points."""

    ids: Int[np.ndarray, " points"]
    """Instance of each point, 0 for none."""
    patch: Int[np.ndarray, " points"]
    """The small patch that a point belongs to, from 0."""
    room: Int[np.ndarray, " points"]
    """FLOOR, CEILING or WALL for points of the room, else NONE."""

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
    config: InstanceConfig | None = None,
) -> Things:
    """Group surface points into things.

    Args:
        surface: the points.
        features: one or more sets of vectors, such as lifted CLIP and DINO ones; each counts the same. None at all:
            colour and shape alone.
        sights: which points each photo sees and where.
        regions: region maps of the same photos, of any size and numbering, one for each of `sights`; or none.
        config: see there.
    """
    config = config or InstanceConfig()
    if len(surface) < 2:
        ids = np.full(len(surface), int(config.least <= 1))
        return Things(ids, np.zeros(len(surface), np.int64), np.zeros(len(surface), np.int64))
    made = _patches(surface, features, config)
    pair, count = made.border.pair, len(made.weight)
    vote = votes(pair, made.patch, count, sights, regions)
    plane, kind = _on_planes(surface, made, config.structure)
    contacts = weigh(made.border, plane, vote, config.border)
    region = agglomerate(contacts, made.weight, made.seen, Price(config.border))
    room = _room(region, made.seen, made.area, kind, config)
    room[_ceiling(region, room, plane, kind, made, surface.up.astype(np.float64), config.structure)] = CEILING
    region = np.where(room == NONE, _hung(region, room, plane, kind, made, config), -1)
    # Photos may hold together what shape would part, not the other way: their regions end inside of things too.
    crease = bends(contacts.pair, made.middle, made.facing) + np.minimum(vote, 0)
    up, edges = surface.up.astype(np.float64), contacts.sums[:, 0]
    region = cut_apart(contacts.pair, edges, crease, made.weight, made.middle, up, region, config.cut)
    room = bulges(made.border, region, room, made.seen, made.facing @ up, made.area, config.bulge)
    region = np.where(room == NONE, region, -1)
    return Things(_numbered(region, made.weight, made.area, config.least)[made.patch], made.patch, room[made.patch])


@dataclass(frozen=True)
class _Patches:
    """Points as small patches that are alike, and what is known of them."""

    xyz: Float[np.ndarray, "points 3"]
    normal: Float[np.ndarray, "points 3"]
    """Steadied."""
    gap: float
    """Typical distance between points."""
    point_area: Float[np.ndarray, " points"]
    patch: Int[np.ndarray, " points"]
    weight: Float[np.ndarray, " patches"]
    """Points of each."""
    area: Float[np.ndarray, " patches"]
    seen: Float[np.ndarray, "patches seen"]
    """Mean looks, then the three numbers of a mean colour."""
    facing: Float[np.ndarray, "patches 3"]
    """Mean normals, unit length."""
    middle: Float[np.ndarray, "patches 3"]
    border: Contacts
    """Its sums are edges between points, their steps in colour and their bends."""


def _patches(surface: Surface, features: Sequence[np.ndarray], config: InstanceConfig) -> _Patches:
    xyz = surface.xyz.astype(np.float64)
    # Stray points are further from each other than the cells of the surface are large.
    gap = np.minimum(spacing(xyz), 2 * surface.cell.astype(np.float64))
    typical = max(float(np.median(gap)), 1e-12)
    # A lone point far out must not count as a large area.
    area = np.clip(gap, 0.25 * typical, 4 * typical) ** 2
    normal, colour = _steadied(surface, config.steady)
    look = _looks(features, area, config.kept)
    edges = touching(xyz, gap, surface.normal.astype(np.float64))
    kin = np.concatenate([config.look * look, normal, config.colour * colour, config.near * xyz / typical], 1)
    patch = agglomerate(edges, np.ones(len(xyz)), kin, _ward, config.patch)
    weight = np.bincount(patch).astype(np.float64)
    means = add_up(np.concatenate([look, colour, surface.normal, xyz], 1), patch, len(weight)) / weight[:, None]
    step = np.linalg.norm(colour[edges.pair[:, 0]] - colour[edges.pair[:, 1]], axis=1)
    cues = np.stack([np.ones(len(step)), step, bends(edges.pair, xyz, normal)], 1)
    return _Patches(
        xyz, normal, typical, area, patch, weight, np.bincount(patch, area), means[:, :-6], _unit(means[:, -6:-3]),
        means[:, -3:], Contacts(edges.pair, cues).merged(patch, len(weight)),
    )  # fmt: skip


def _on_planes(surface: Surface, made: _Patches, config: StructureConfig) -> tuple[np.ndarray, np.ndarray]:
    """The plane of the room that each patch lies on, from 1, and its kind; 0 and NONE for none."""
    planes = room_planes(made.xyz, made.normal, made.point_area, surface.up.astype(np.float64), made.gap, config)
    own = lies_on(planes, made.xyz, made.normal, surface.cell.astype(np.float64))
    plane = majority(made.patch, own, len(made.weight), 0.5)
    return plane, np.array([NONE, *(one.kind(surface.up.astype(np.float64)) for one in planes)])[plane]


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


def _steadied(
    surface: Surface, config: SmoothConfig
) -> tuple[Float[np.ndarray, "points 3"], Float[np.ndarray, "points 3"]]:
    """Unit normals, and colours in CIELAB / 100, carried along the surface."""
    known = np.concatenate([surface.normal, to_lab(surface.rgb) / 100], 1)
    known = smooth(known, surface, np.ones(len(surface)), config).astype(np.float64)
    return _unit(known[:, :3]), known[:, 3:]


def _looks(features: Sequence[np.ndarray], area: np.ndarray, kept: int) -> np.ndarray:
    """Vectors as (points, axes): directions without their mean, on their main axes, with a variance of 1 in all."""
    share = (area / area.sum())[:, None]
    looks = [np.zeros((len(area), 0))]
    for vectors in features:
        unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
        unit = unit - (share * unit).sum(0)
        spread, axes = np.linalg.eigh((unit * share).T @ unit)
        # Vectors that are all the same stay together.
        looks.append(unit @ axes[:, ::-1][:, :kept] / np.sqrt(max(spread.sum(), 1e-6) * len(features)))
    return np.concatenate(looks, 1)


def _ward(contacts: Contacts, weight: np.ndarray, means: np.ndarray) -> np.ndarray:
    """How much variance (times weight) merging two regions adds."""
    a, b = contacts.pair.T
    far = np.empty(len(a))
    for start in range(0, len(a), 100_000):
        rows = slice(start, start + 100_000)
        far[rows] = ((means[a[rows]] - means[b[rows]]) ** 2).sum(1)
    return weight[a] * weight[b] / (weight[a] + weight[b]) * far


def _room(
    region: np.ndarray, seen: np.ndarray, area: np.ndarray, kind: np.ndarray, config: InstanceConfig
) -> Int[np.ndarray, " patches"]:
    """What each patch is of the room: regions on its planes that look as most of them do.

    Walls are judged together: one may be hidden by a bookshelf, all are not. A region may go around a corner: what of
    it lies on a plane is what that plane is.
    """
    count = int(region.max()) + 1
    size = np.bincount(region, area, count)
    mean = add_up(seen * area[:, None], region, count) / size[:, None]
    found = np.zeros(count, np.int64)
    for name in (FLOOR, CEILING, WALL):
        on = np.bincount(region, area * (kind == name), count) / size
        there = np.flatnonzero(on > 0.5)
        if len(there):
            usual = there[size[there].argmax()]
            apart, hue = mean - mean[usual], tint(mean[:, -3:])
            look, light, other = (apart[:, :-3] ** 2).sum(1), apart[:, -3] ** 2, ((hue - hue[usual]) ** 2).sum(1)
            far = look / config.alike**2 + light / config.shade**2 + other / config.tint**2
            found[(far < 1) & (on > 0.4) & (found == NONE)] = name
    found = found[region]
    return np.where((found != NONE) & (kind != NONE), kind, found)


def _ceiling(
    region: np.ndarray,
    room: np.ndarray,
    plane: np.ndarray,
    kind: np.ndarray,
    made: _Patches,
    up: np.ndarray,
    config: StructureConfig,
) -> Bool[np.ndarray, " patches"]:
    """Patches above a room's walls that lie on none of its planes, but for those of things that begin below."""
    wall = (room == WALL) & (kind == WALL)
    if len(np.unique(plane[wall])) < config.around:
        return np.zeros(len(room), bool)
    edge = upper_edge(made.xyz @ up, made.point_area, wall[made.patch], made.gap, config)
    height, size = made.middle @ up, np.bincount(region, made.area)
    fog = np.bincount(region, made.area * height) > edge * size
    fog &= np.bincount(region, made.area * (height > edge - FRAYED * made.gap)) >= WHOLE * size
    return (kind == NONE) & np.where(room == NONE, fog[region], height > edge)


def _hung(
    region: np.ndarray, room: np.ndarray, plane: np.ndarray, kind: np.ndarray, made: _Patches, config: InstanceConfig
) -> Int[np.ndarray, " patches"]:
    """Regions, of which those are one that hang side by side on a wall."""
    count = int(region.max()) + 1
    usual = majority(region, plane, count, 0.0)
    size, there = np.bincount(region, made.area, count), np.bincount(plane, made.area)
    on = np.bincount(region, made.area * (plane == usual[region]), count)
    walls = np.zeros(len(there), bool)
    walls[plane[kind == WALL]] = True
    hangs = walls[usual] & (on >= config.flat * size) & (on <= config.hung * there[usual])
    hangs &= np.bincount(region, room != NONE, count) == 0
    border = made.border.merged(region, count)
    pair, edges = border.pair, border.sums[:, 0]
    outline = np.bincount(pair.ravel(), np.repeat(edges, 2), count)
    one = hangs[pair].all(1) & (usual[pair[:, 0]] == usual[pair[:, 1]])
    one &= edges >= config.common * outline[pair].min(1)
    graph = csr_array((np.ones(int(one.sum())), pair[one].T), shape=(count, count))
    return connected_components(graph, directed=False)[1][region]


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
