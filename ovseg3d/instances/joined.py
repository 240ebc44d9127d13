"""Joined objects: nodes of the merge tree above pieces, which are instances and rejected fragments.

Selection may choose a part, and merging leaves fragments of an object whose parts differ, such as the fur of a fox. The
merges above them are kept beside the pieces, as further candidates of what a phrase names.

Pieces are numbered from 1, and joined objects after them, children before their parents. `parents` holds the number of
the joined object around each of them, in this order; 0: none.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Int

from ovseg3d.instances.graph import MergeTree


def join(
    tree: MergeTree, pieces: Int[np.ndarray, " pieces"], allowed: Bool[np.ndarray, " nodes"]
) -> Int[np.ndarray, " numbers"]:
    """`parents` of pieces and of the joined objects above them: the allowed merges both of whose children hold pieces.

    Args:
        tree: of regions.
        pieces: the node of each piece, in the order of their numbers; disjoint.
        allowed: which nodes may be joined objects.
    """
    number, above = np.zeros(len(tree), np.int64), np.zeros(len(tree), np.int64)
    number[pieces] = np.arange(1, len(pieces) + 1)
    is_piece = (number > 0)[:, None].astype(np.float64)
    holds = tree.sums(is_piece[: tree.regions], is_piece[tree.regions :])[:, 0] > 0
    merges = np.arange(tree.regions, len(tree))
    joined = merges[holds[tree.children].all(1) & allowed[merges]]
    number[joined] = len(pieces) + np.arange(1, len(joined) + 1)
    for node, parent in reversed([*enumerate(tree.parent)]):
        if parent >= 0:
            above[node] = number[parent] or above[parent]
    return above[np.concatenate([pieces, joined])]


def joined_levels(
    pieces: Int[np.ndarray, " points"], parents: Int[np.ndarray, " numbers"]
) -> Iterator[Int[np.ndarray, " points"]]:
    """The joined object of each point, 0 for none, at each height above the pieces: those of one height are disjoint.

    Args:
        pieces: piece of each point, from 1; 0 for none.
        parents: of pieces and joined objects.
    """
    above, height = np.append(0, parents), np.zeros(len(parents) + 1, np.int64)
    for number, parent in enumerate(parents.tolist(), 1):
        height[parent] = max(height[parent], height[number] + 1)
    height[0] = 0
    for level in range(1, int(height.max()) + 1):
        at = np.arange(len(above))
        while (low := (at > 0) & (height[at] < level)).any():
            at = np.where(low, above[at], at)
        yield np.where(height[at] == level, at, 0)[pieces]
