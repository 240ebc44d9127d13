"""True labels of clouds, as data sets ship them, in one value type, and checks that its readers share.

The readers are `scannet_labels.py` and `replica_labels.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from ovseg3d.errors import SceneError


@dataclass(frozen=True)
class LabelledCloud:
    """Vertices of a scanned room with their true classes and instances."""

    xyz: Float[np.ndarray, "points 3"]
    """In the data set's own frame, which captures of it share; metres, z up."""
    label: Int[np.ndarray, " points"]
    """k is `classes[k - 1]`; 0 is not labelled, or none of these."""
    classes: tuple[str, ...]
    instance: Int[np.ndarray, " points"] | None = None
    """0 for none; None: they were not asked for."""


def checked_cloud(
    xyz: Float[np.ndarray, "points 3"],
    label: Int[np.ndarray, " points"],
    classes: tuple[str, ...],
    instance: Int[np.ndarray, " points"] | None,
    where: Path,
) -> LabelledCloud:
    """The cloud of a file.

    Args:
        xyz, label, classes, instance: as in `LabelledCloud`.
        where: the file, for messages.

    Raises:
        SceneError: a vertex is not finite, or none has a label.
    """
    if not np.isfinite(xyz).all():
        raise SceneError("A vertex has a coordinate that is not finite", where=where, fix="fetch it again")
    if not (label > 0).any():
        raise SceneError(
            f"No vertex has one of the {len(classes)} classes", where=where, fix="check that these are its labels"
        )
    return LabelledCloud(xyz.astype(np.float64), label, classes, instance)


def entries(parsed: Mapping[str, Any], key: str, kinds: Mapping[str, type], where: Path) -> list[dict[str, Any]]:
    """The list `parsed[key]` of objects, whose values under the keys of `kinds` have these types.

    Raises SceneError: it is none.
    """
    found = parsed.get(key)
    right = isinstance(found, list) and all(
        isinstance(entry, dict) and all(type(entry.get(name)) is kind for name, kind in kinds.items())
        for entry in found
    )
    if not right:
        wanted = ", ".join(f"{name} ({kind.__name__})" for name, kind in kinds.items())
        raise SceneError(f"'{key}' is no list of objects with {wanted}", where=where, fix="fetch it again")
    assert isinstance(found, list)
    return found


def whole_numbers(values: Any, what: str, where: Path) -> Int[np.ndarray, " values"]:
    """A list of whole numbers as an array. Raises SceneError: it is none."""
    if isinstance(values, list) and set(map(type, values)) <= {int}:
        try:
            return np.array(values, dtype=np.int64)
        except OverflowError:
            pass
    raise SceneError(f"'{what}' is no list of whole numbers", where=where, fix="fetch it again")
