"""Captions with poses: "a chair <pose6D> beside a dining table <pose6D>" as predictions of objects in photos.

ImageNet3D describes photos in captions in which a token stands for the 6D pose of each object that they name. Its
caption files are not public, and nothing states their format; this one is ours:

    {"captions": {"chair/n03001627_1": {"caption": "a chair <pose6D> beside a dining table <pose6D>", "poses": [
        {"azimuth_rad": 1.2, "elevation_rad": 0.1, "theta_rad": 0.0, "center_px": [120, 96]}, ...]}}}

with a pose for each token; `distance` is optional. A token belongs to the category that is named last before it, after
the token before. The tokens of a photo are paired with its objects by `center_px`, so that the sum of the distances is
the least. What comes out are predictions of the task `joint` (`evaluate.poses`): a wrong name is a wrong class, and an
object without a token has no answer.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from ovseg3d.datasets import PosedObject
from ovseg3d.errors import MeasureError
from ovseg3d.files import read_json

TOKEN = "<pose6D>"
NO_CATEGORY = ""
"""The label of a token before which no category is named."""


def read_captions(path: Path) -> dict[str, Any]:
    """The captions of a file by the names of photos. Raises MeasureError: it has no `captions`, or is no JSON."""
    found = read_json(path, MeasureError).get("captions")
    if not isinstance(found, dict):
        raise MeasureError("The file has no captions by photo", where=path, fix='{"captions": {"chair/ID": {...}}}')
    return found


def named_categories(caption: str, categories: Collection[str]) -> tuple[str, ...]:
    """The category that each token of a caption belongs to; NO_CATEGORY where none is named.

    Args:
        caption: with tokens.
        categories: names with spaces or underscores; of two that end at one place the longer counts.
    """
    found = []
    for words in caption.split(TOKEN)[:-1]:
        text = words.casefold().replace("_", " ")
        ends = [
            (match.end(1), len(name), name)
            for name in categories
            for match in re.finditer(rf"\b({re.escape(name.casefold().replace('_', ' '))})(?:s|es)?\b", text)
        ]
        found.append(max(ends)[2] if ends else NO_CATEGORY)
    return tuple(found)


def predictions_of_captions(
    objects: Sequence[PosedObject], captions: Mapping[str, Any], categories: Collection[str] | None = None
) -> dict[str, dict[str, Any]]:
    """Predictions by `PosedObject.key`, for `evaluate_poses` with a `joint` protocol.

    Args:
        objects: of the data set, all of each photo.
        captions: by `PosedObject.name`, as in the file.
        categories: that a caption may name; by default those of the objects.

    Raises:
        MeasureError: a caption is no text, has not as many poses as tokens, or a pose has no `center_px`.
    """
    names = {one.category for one in objects} if categories is None else categories
    photos: dict[str, list[PosedObject]] = {}
    for one in objects:
        photos.setdefault(one.name, []).append(one)
    made = {}
    for photo, own in photos.items():
        if captions.get(photo) is None:
            continue
        labels, poses = _read(photo, captions[photo], names)
        if not poses:
            continue
        there = np.array([one.center_px for one in own])
        found = np.array([_center(photo, pose) for pose in poses])
        rows, columns = linear_sum_assignment(np.linalg.norm(there[:, None] - found, axis=2))
        made |= {own[i].key: {**poses[k], "label": labels[k]} for i, k in zip(rows, columns)}
    return made


def _read(photo: str, record: Any, categories: Collection[str]) -> tuple[tuple[str, ...], list[dict[str, Any]]]:
    caption, poses = (record.get(key) if isinstance(record, dict) else None for key in ("caption", "poses"))
    if not isinstance(caption, str) or not isinstance(poses, list) or not all(isinstance(one, dict) for one in poses):
        raise MeasureError(
            "A caption needs a text and a list of poses", where=photo, fix='{"caption": ..., "poses": []}'
        )
    labels = named_categories(caption, categories)
    if len(labels) != len(poses):
        raise MeasureError(
            f"The caption has {len(labels)} {TOKEN} and {len(poses)} poses", where=photo, fix="one pose for each token"
        )
    return labels, poses


def _center(photo: str, pose: Mapping[str, Any]) -> tuple[float, float]:
    try:
        x, y = (float(value) for value in pose["center_px"])
    except (KeyError, TypeError, ValueError) as cause:
        raise MeasureError(
            "A pose of a caption needs where its object is", where=photo, fix='"center_px": [x, y]'
        ) from cause
    if not np.isfinite([x, y]).all():
        raise MeasureError("The 'center_px' of a pose is not finite", where=photo, fix="correct the file")
    return x, y
