"""What lies flush in a plane of the room and has its colour, such as a white door in a white wall.

Shape and colour, which things are found by, do not tell it from its plane; the photos' features do. Where a stretch of
a plane is nearer to some word than to all others, and much nearer than to the plane's own ("wall"), it may be a thing
of its own. The words are the run's phrases; without any, what rooms hold.

Features are blurred over the cells of the photos, though, and a wall beside a bookshelf looks like a bookshelf. So a
stretch does not count if it touches a thing that is nearer to its word than the stretch is itself: the features are
that thing's. And once it was seen as a whole, as things are (`instance_crops`), it has to be nearest to the same word again.
After that the word is forgotten: what a thing is called is not asked here.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import csr_array, eye_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from ovseg3d.field.surface import Surface
from ovseg3d.instances.graph import add_up, spacing, touching
from ovseg3d.instances.grouping import Instances
from ovseg3d.instances.layout import CEILING, FLOOR, NONE, WALL

KNOWN, UNKNOWN = 2.0, 4.5
"""How sure one has to be of what is known to be in the scene, and of what may be in any room; chosen on playroom."""
_ROWS = 16_384


@dataclass(frozen=True)
class PanelConfig:
    """When a stretch of a plane is a thing."""

    sure: float = UNKNOWN
    """How much nearer it is to its word than to the plane's, on average, in logits of the encoder."""
    share: float = 0.005
    """Least area, as a share of all surface..."""
    most: float = 0.5
    """...and most, as a share of all planes of its kind: what covers a floor is the floor."""
    rounds: int = 2
    """How often the features of a point are averaged with those of its neighbours."""
    beside: float = 3.0
    """How far away what touches it may be, in gaps between points..."""
    maker: float = 0.1
    """...and how large it must be beside it, in points, for its features to be blurred that far: a handle's are not."""


@dataclass(frozen=True)
class Panels:
    """What may be things of their own in planes of the room."""

    points: tuple[Int[np.ndarray, " _"], ...] = ()
    """Numbers of the points of each, the largest first."""
    word: tuple[int, ...] = ()
    """The word that each is nearest to."""

    def join(self, instances: Instances) -> Instances:
        """The things with these after them, as many as there are."""
        behind = instances.ids > instances.count  # scraps
        ids, room = instances.ids + len(self.points) * behind, instances.layout.copy()
        for number, own in enumerate(self.points, start=instances.count + 1):
            ids[own], room[own] = number, NONE
        return replace(instances, ids=ids, layout=room)

    def confirmed(
        self, instance_crops: Float[np.ndarray, "panels dim"], words: Float[np.ndarray, "words dim"]
    ) -> list[int]:
        """Which of them are nearest to their word as wholes, too (see `instance_crops.encode_instance_crops`); unit vectors, or zero where
        none was seen."""
        if not len(instance_crops):
            return []
        best = (instance_crops @ words.T).argmax(1)
        return [row for row, face in enumerate(instance_crops) if best[row] == self.word[row] and face.any()]

    def only(self, rows: list[int]) -> "Panels":
        """Some of them."""
        return Panels(tuple(self.points[row] for row in rows), tuple(self.word[row] for row in rows))


def find_panels(
    surface: Surface,
    instances: Instances,
    vectors: Float[np.ndarray, "points kept"],
    words: Float[np.ndarray, "words kept"],
    kinds: Int[np.ndarray, " words"],
    logit_scale: float,
    config: PanelConfig | None = None,
) -> Panels:
    """Look for stretches of the room's planes that are something else.

    Args:
        surface: the points.
        things: what was found in them.
        vectors: what photos say of each point, unit length or zero.
        words: what may be there, in the same space.
        kinds: FLOOR, CEILING or WALL for words that name these, else NONE; each of the four at least once.
        logit_scale: factor from the encoder's cosines to logits.
        config: see there.
    """
    config, rows = config or PanelConfig(), np.flatnonzero((instances.ids == 0) & (instances.layout != NONE))
    if len(rows) < 2:
        return Panels()
    xyz, normal, room = surface.xyz[rows].astype(np.float64), surface.normal[rows], instances.layout[rows]
    gap = np.minimum(spacing(xyz), 2 * surface.cell[rows].astype(np.float64))
    pair = touching(xyz, gap, normal.astype(np.float64)).pair
    first, second = pair.T
    pair = pair[(room[first] == room[second]) & ((normal[first] * normal[second]).sum(1) > 0)]  # not around corners
    steady = _steadied(vectors[rows], pair, config.rounds)
    word, near, ahead = _nearest(steady, words, kinds, room)

    likely = _stretches((word[pair[:, 0]] == word[pair[:, 1]]) & (ahead[pair] > 0).all(1), pair, len(rows))
    area = np.clip(gap, 0.25 * np.median(gap), 4 * np.median(gap)) ** 2  # a lone point far out is no large area
    whole = len(surface) / len(rows) * area.sum()
    # What is blurred ends where it has fallen to half.
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
    return Panels(tuple(points), tuple(names))


def _steadied(
    vectors: Float[np.ndarray, "rows kept"], pair: Int[np.ndarray, "edges 2"], rounds: int
) -> Float[np.ndarray, "rows kept"]:
    """Means over neighbours, unit length or zero."""
    count = len(vectors)
    near = csr_array((np.ones(len(pair), np.float32), pair.T), shape=(count, count))
    near = near + near.T + eye_array(count, dtype=np.float32)
    for _ in range(rounds):
        vectors = _unit(near @ vectors)
    return vectors


def _nearest(
    vectors: Float[np.ndarray, "rows kept"],
    words: Float[np.ndarray, "words kept"],
    kinds: Int[np.ndarray, " words"],
    room: Int[np.ndarray, " rows"],
) -> tuple[Int[np.ndarray, " rows"], Float[np.ndarray, " rows"], Float[np.ndarray, " rows"]]:
    """The word for no plane that each row is nearest to, its cosine, and how much nearer it is than the plane's own."""
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
    """The connected stretch of each row."""
    graph = csr_array((np.ones(int(joined.sum())), pair[joined].T), shape=(count, count))
    return connected_components(graph, directed=False)[1]


def _large(
    stretch: Int[np.ndarray, " rows"], area: Float[np.ndarray, " rows"], least: float
) -> list[Int[np.ndarray, " _"]]:
    """Rows of the stretches (from 0) that have at least an area, the largest first."""
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
    """Numbers of the things that some points touch."""
    if not len(ids):
        return np.zeros(0, np.int64)
    distance, place = tree.query(xyz, distance_upper_bound=reach)
    return np.unique(ids[place[np.isfinite(distance)]])
