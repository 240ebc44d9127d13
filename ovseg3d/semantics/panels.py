"""What lies flush in a plane of the room and has its colour, such as a white door in a white wall.

Shape and colour, which things are found by, do not tell it from its plane; the photos' features do. Where a stretch of
a plane is nearer to some everyday word than to all others, and much nearer than to the plane's own ("wall"), it may be
a thing of its own.

Features are blurred over the cells of the photos, though, and a wall beside a bookshelf looks like a bookshelf. So a
stretch does not count if it touches a thing that is nearer to its word than the stretch is itself: the features are
that thing's. And once it was seen as a whole, as things are (`portraits`), it has to be nearest to the same word again.
After that the word is forgotten: what a thing is called is not asked here.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csr_array, eye_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from ovseg3d.field.surface import Surface
from ovseg3d.semantics.graph import add_up, spacing, touching
from ovseg3d.semantics.instances import Things
from ovseg3d.semantics.structure import CEILING, FLOOR, NONE, WALL


@dataclass(frozen=True)
class PanelConfig:
    """When a stretch of a plane is a thing."""

    sure: float = 4.5
    """How much nearer it is to its word than to the plane's, on average, in logits of the encoder."""
    share: float = 0.005
    """Least area, as a share of all surface."""
    rounds: int = 2
    """How often the features of a point are averaged with those of its neighbours."""
    beside: float = 3.0
    """How far away what touches it may be, in gaps between points."""


@dataclass(frozen=True)
class Panels:
    """What may be things of their own in planes of the room."""

    points: tuple[Int[np.ndarray, " _"], ...] = ()
    """Numbers of the points of each, the largest first."""
    word: tuple[int, ...] = ()
    """The word that each is nearest to."""

    def join(self, things: Things) -> Things:
        """The things with these after them, as many as there are."""
        ids, room = things.ids.copy(), things.room.copy()
        for number, own in enumerate(self.points, start=things.count + 1):
            ids[own], room[own] = number, NONE
        return replace(things, ids=ids, room=room)

    def confirmed(
        self, portraits: Float[np.ndarray, "panels dim"], words: Float[np.ndarray, "words dim"]
    ) -> list[int]:
        """Which of them are nearest to their word as wholes, too (see `portraits.portray`); unit vectors."""
        return [row for row, best in enumerate((portraits @ words.T).argmax(1)) if best == self.word[row]]

    def only(self, rows: list[int]) -> "Panels":
        """Some of them."""
        return Panels(tuple(self.points[row] for row in rows), tuple(self.word[row] for row in rows))


def find_panels(
    surface: Surface,
    things: Things,
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
        words: everyday words, in the same space.
        kinds: FLOOR, CEILING or WALL for words that name these, else NONE; each of the four at least once.
        logit_scale: factor from the encoder's cosines to logits.
        config: see there.
    """
    config, rows = config or PanelConfig(), np.flatnonzero((things.ids == 0) & (things.room != NONE))
    if len(rows) < 2:
        return Panels()
    xyz = surface.xyz.astype(np.float64)
    gap = spacing(xyz)
    pair = touching(xyz[rows], gap[rows], surface.normal[rows].astype(np.float64)).pair
    near = csr_array((np.ones(len(pair)), pair.T), shape=(len(rows), len(rows)))
    near = near + near.T + eye_array(len(rows))
    steady = vectors[rows].astype(np.float64)
    for _ in range(config.rounds):
        steady = near @ steady
    steady /= np.maximum(np.linalg.norm(steady, axis=1, keepdims=True), 1e-9)
    others = np.flatnonzero(kinds == NONE)
    scores = steady @ words[others].T
    plain = np.stack([(steady @ words[kinds == kind].T).max(1) for kind in (FLOOR, CEILING, WALL)], 1)
    word, ahead = scores.argmax(1), scores.max(1) - plain[np.arange(len(rows)), things.room[rows] - 1]

    joined = (word[pair[:, 0]] == word[pair[:, 1]]) & (ahead[pair] > 0).all(1)
    graph = csr_array((np.ones(int(joined.sum())), pair[joined].T), shape=(len(rows), len(rows)))
    count, stretch = connected_components(graph, directed=False)
    typical = float(np.median(gap))
    area = np.clip(gap, 0.25 * typical, 4 * typical) ** 2  # a lone point far out must not count as a large area
    least, size = config.share * area.sum(), np.bincount(stretch, area[rows], count)
    told = _means(vectors, things.ids) @ words[others].T
    there = np.flatnonzero(things.ids > 0)
    tree, points, names = cKDTree(xyz[there]), [], []
    for number in np.argsort(-size, kind="stable")[: int((size >= least).sum())]:
        own = np.flatnonzero(stretch == number)
        # What is blurred ends where it has fallen to half.
        own = own[ahead[own] >= 0.5 * np.quantile(ahead[own], 0.9)]
        name = word[own[0]]
        nearest = plain[own].mean(0).max() < scores[own, name].mean()
        if area[rows[own]].sum() < least or not nearest or logit_scale * ahead[own].mean() < config.sure:
            continue
        reach = config.beside * float(np.median(gap[rows[own]]))
        beside = _beside(tree, things.ids[there], xyz[rows[own]], reach)
        if not (told[beside, name] > scores[own, name].mean()).any():
            points.append(rows[own])
            names.append(int(others[name]))
    return Panels(tuple(points), tuple(names))


def _means(vectors: np.ndarray, ids: Int[np.ndarray, " points"]) -> Float[np.ndarray, "groups kept"]:
    """The mean vector of the points of each number, unit length or zero."""
    total = add_up(vectors, ids, int(ids.max(initial=0)) + 1)
    return total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-9)


def _beside(tree: cKDTree, ids: np.ndarray, xyz: np.ndarray, reach: float) -> Int[np.ndarray, " numbers"]:
    """Numbers of the things that some points touch."""
    if not len(ids):
        return np.zeros(0, np.int64)
    distance, place = tree.query(xyz, distance_upper_bound=reach)
    return np.unique(ids[place[np.isfinite(distance)]])
