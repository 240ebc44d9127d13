"""Planar instances: objects flush with a plane of the layout and of its colour, such as a white door in a white wall.

Shape and colour do not separate them from their plane; the photos' features do. A connected part of a plane is a
candidate if it is nearest to one word, and much nearer to it than to the plane's own ("wall"). The words are the run's
phrases, or the default vocabulary.

Features are blurred over cells of the photos: a wall beside a bookshelf resembles a bookshelf. So a candidate is
rejected if it touches an instance that is nearer to the candidate's word than the candidate itself. The embedding of
its crops (see `crops`) has to be nearest to the same word again. The word is not kept: instances are named elsewhere.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import csr_array, eye_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree  # pyright: ignore[reportAttributeAccessIssue]

from ovseg3d.field.surface import Surface
from ovseg3d.instances.graph import add_up, spacing, touching
from ovseg3d.instances.grouping import Instances
from ovseg3d.instances.layout import CEILING, FLOOR, NONE, WALL

KNOWN, UNKNOWN = 2.0, 4.5
"""Least `PlanarConfig.sure` for phrases of the scene, and for the default vocabulary; chosen on playroom."""
_ROWS = 16_384


@dataclass(frozen=True)
class PlanarConfig:
    """When a part of a plane is an instance."""

    sure: float = UNKNOWN
    """Least mean margin of its word over the plane's, in logits of the encoder."""
    share: float = 0.005
    """Least area, as a share of all surface..."""
    most: float = 0.5
    """...and greatest, as a share of all planes of its class: what covers a floor is the floor."""
    rounds: int = 2
    """How often the features of a point are averaged with those of its neighbours."""
    beside: float = 3.0
    """Greatest distance of an instance that touches it, in gaps between points..."""
    maker: float = 0.1
    """...and least size of that instance relative to it, in points: the features of a handle do not blur that far."""


@dataclass(frozen=True)
class PlanarInstances:
    """Candidates for planar instances."""

    points: tuple[Int[np.ndarray, " _"], ...] = ()
    """Indices of the points of each, the largest first."""
    word: tuple[int, ...] = ()
    """The nearest word of each."""

    def join(self, instances: Instances) -> Instances:
        """The instances, with these numbered after them."""
        behind = instances.ids > instances.count  # rejected fragments
        ids, room = instances.ids + len(self.points) * behind, instances.layout.copy()
        for number, own in enumerate(self.points, start=instances.count + 1):
            ids[own], room[own] = number, NONE
        return replace(instances, ids=ids, layout=room)

    def confirmed(
        self, instance_crops: Float[np.ndarray, "panels dim"], words: Float[np.ndarray, "words dim"]
    ) -> list[int]:
        """Indices of those whose embedding is nearest to their word, too.

        Args:
            instance_crops: from `crops.encode_instance_crops`: unit vectors, or zero where there is no crop.
            words: unit vectors.
        """
        if not len(instance_crops):
            return []
        best = (instance_crops @ words.T).argmax(1)
        return [row for row, face in enumerate(instance_crops) if best[row] == self.word[row] and face.any()]

    def only(self, rows: list[int]) -> "PlanarInstances":
        """The candidates with these indices."""
        return PlanarInstances(tuple(self.points[row] for row in rows), tuple(self.word[row] for row in rows))


def find_planar_instances(
    surface: Surface,
    instances: Instances,
    vectors: Float[np.ndarray, "points kept"],
    words: Float[np.ndarray, "words kept"],
    kinds: Int[np.ndarray, " words"],
    logit_scale: float,
    config: PlanarConfig | None = None,
) -> PlanarInstances:
    """Find candidates for planar instances.

    Args:
        surface: the points.
        instances: from `grouping.find_instances`.
        vectors: lifted features of the points, unit length or zero.
        words: unit vectors in the same space.
        kinds: FLOOR, CEILING or WALL for words that name these, else NONE; each of the four at least once.
        logit_scale: factor from the encoder's cosines to logits.
        config: when a part of a plane is a candidate.
    """
    config, rows = config or PlanarConfig(), np.flatnonzero((instances.ids == 0) & (instances.layout != NONE))
    if len(rows) < 2:
        return PlanarInstances()
    xyz, normal, room = surface.xyz[rows].astype(np.float64), surface.normal[rows], instances.layout[rows]
    gap = np.minimum(spacing(xyz), 2 * surface.cell[rows].astype(np.float64))
    pair = touching(xyz, gap, normal.astype(np.float64)).pair
    first, second = pair.T
    pair = pair[(room[first] == room[second]) & ((normal[first] * normal[second]).sum(1) > 0)]  # not around corners
    steady = _steadied(vectors[rows], pair, config.rounds)
    word, near, ahead = _nearest(steady, words, kinds, room)

    likely = _stretches((word[pair[:, 0]] == word[pair[:, 1]]) & (ahead[pair] > 0).all(1), pair, len(rows))
    area = np.clip(gap, 0.25 * np.median(gap), 4 * np.median(gap)) ** 2  # an isolated point is no large area
    whole = len(surface) / len(rows) * area.sum()
    # A blurred candidate ends where its margin has fallen to half.
    core = np.zeros(len(rows), bool)
    for own in _large(likely, area, max(config.share * whole, 1e-12)):
        core[own] = ahead[own] >= 0.5 * np.quantile(ahead[own], 0.9)
    core &= ahead > 0
    stretch = _stretches((likely[pair[:, 0]] == likely[pair[:, 1]]) & core[pair].all(1), pair, len(rows))
    told, size = _means(vectors, instances.ids), np.bincount(instances.ids)
    there = np.flatnonzero(instances.ids > 0)
    tree, points, names = cKDTree(surface.xyz[there]), [], []
    for own in _large(np.where(core, stretch, -1), area, max(config.share * whole, 1e-12)):
        name, plane = word[own[0]], room == room[own[0]]
        plain = (words[kinds != NONE] @ _unit(steady[own].mean(0))).max()
        nearest = plain < words[name] @ _unit(steady[own].mean(0))
        if not nearest or logit_scale * ahead[own].mean() < config.sure:
            continue
        if area[own].sum() > config.most * area[plane].sum():
            continue
        beside = _beside(tree, instances.ids[there], xyz[own], config.beside * float(np.median(gap[own])))
        beside = beside[size[beside] >= config.maker * len(own)]
        if not (told[beside] @ words[name] > near[own].mean()).any():
            points.append(rows[own])
            names.append(int(name))
    return PlanarInstances(tuple(points), tuple(names))


def _steadied(
    vectors: Float[np.ndarray, "rows kept"], pair: Int[np.ndarray, "edges 2"], rounds: int
) -> Float[np.ndarray, "rows kept"]:
    """Means over neighbours, unit length or zero."""
    count = len(vectors)
    near = csr_array((np.ones(len(pair), np.float32), pair.T), shape=(count, count))
    near = near + near.T + eye_array(count, dtype=np.float32)  # pyright: ignore[reportArgumentType]
    for _ in range(rounds):
        vectors = _unit(near @ vectors)
    return vectors


def _nearest(
    vectors: Float[np.ndarray, "rows kept"],
    words: Float[np.ndarray, "words kept"],
    kinds: Int[np.ndarray, " words"],
    room: Int[np.ndarray, " rows"],
) -> tuple[Int[np.ndarray, " rows"], Float[np.ndarray, " rows"], Float[np.ndarray, " rows"]]:
    """The nearest word of each row that names no plane, its cosine, and its margin over the plane's own words."""
    word, near, ahead = np.zeros(len(vectors), np.int64), np.zeros(len(vectors)), np.zeros(len(vectors))
    others = np.flatnonzero(kinds == NONE)
    for first in range(0, len(vectors), _ROWS):
        rows = slice(first, first + _ROWS)
        scores = vectors[rows] @ words.T
        best, plain = scores[:, others], [scores[:, kinds == kind].max(1) for kind in (FLOOR, CEILING, WALL)]
        word[rows], near[rows] = others[best.argmax(1)], best.max(1)
        ahead[rows] = near[rows] - np.choose(room[rows] - 1, plain)
    return word, near, ahead


def _stretches(
    joined: Bool[np.ndarray, " edges"], pair: Int[np.ndarray, "edges 2"], count: int
) -> Int[np.ndarray, " rows"]:
    """The connected component of each row."""
    graph = csr_array((np.ones(int(joined.sum())), pair[joined].T), shape=(count, count))
    return connected_components(graph, directed=False)[1]


def _large(
    stretch: Int[np.ndarray, " rows"], area: Float[np.ndarray, " rows"], least: float
) -> list[Int[np.ndarray, " _"]]:
    """Rows of the components (from 0) of at least an area, the largest first."""
    inside = stretch >= 0
    size = np.bincount(stretch[inside], area[inside])
    order = np.argsort(-size, kind="stable")
    return [np.flatnonzero(stretch == number) for number in order[size[order] >= least]]


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)


def _means(vectors: np.ndarray, ids: Int[np.ndarray, " points"]) -> Float[np.ndarray, "groups kept"]:
    """The mean vector of the points of each number, unit length or zero."""
    return _unit(add_up(vectors, ids, int(ids.max(initial=0)) + 1))


def _beside(tree: cKDTree, ids: np.ndarray, xyz: np.ndarray, reach: float) -> Int[np.ndarray, " numbers"]:
    """Ids of the instances that some points touch."""
    if not len(ids):
        return np.zeros(0, np.int64)
    distance, place = tree.query(xyz, distance_upper_bound=reach)
    return np.unique(ids[place[np.isfinite(distance)]])
