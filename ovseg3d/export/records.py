"""What JSON says about a labelled cloud: its frame, its labels and its things.

Every record names its frame and unit; boxes are `center`, full `size`, `rotation_wxyz`, and `yaw_rad` where the frame
is z-up. Label 0 is none: its phrase is null.
"""

from typing import Any

import numpy as np
from jaxtyping import Float

from ovseg3d import __version__
from ovseg3d.export.labelled import LabelledCloud
from ovseg3d.instances.records import Instance

FORMAT_VERSION = 1


def place(cloud: LabelledCloud) -> dict[str, Any]:
    """Where the cloud's numbers are counted from."""
    return {
        "format_version": FORMAT_VERSION,
        "generator": f"ovseg3d {__version__}",
        "scene": cloud.name,
        "frame": cloud.frame,
        "metric": cloud.metres_per_unit is not None,
        "unit": cloud.unit,
        "metres_per_unit": cloud.metres_per_unit,
        "up": cloud.surface.up,
        "frame_from_input": cloud.frame_from_input,
    }


def describe(cloud: LabelledCloud) -> dict[str, Any]:
    """What labels.json says: id, phrase, colour, counts and boxes of each label, and its things."""
    points = np.bincount(cloud.label, minlength=len(cloud.phrases) + 1)
    labels = []
    for number, phrase in enumerate([None, *cloud.phrases]):
        things = [thing for thing in cloud.things if thing.label == phrase]
        labels.append(
            {
                "id": number,
                "phrase": phrase,
                "colour": cloud.colours[number],
                "points": int(points[number]),
                "instances": [thing.id for thing in things],
                "boxes": [box_of(thing) for thing in things],
            }
        )
    return {**place(cloud), "points": len(cloud), "labels": labels}


def box_of(thing: Instance) -> dict[str, Any]:
    """A thing's box alone."""
    return {
        "center": list(thing.center),
        "size": list(thing.size),
        "rotation_wxyz": list(thing.rotation_wxyz),
        "yaw_rad": thing.yaw_rad,
    }


def instance_records(
    cloud: LabelledCloud,
    scores: Float[np.ndarray, "points phrases"] | None = None,
    embedding: Float[np.ndarray, "points dim"] | None = None,
) -> list[dict[str, Any]]:
    """A record of each thing, with what its points score and mean.

    Args:
        cloud: with all of the run's points.
        scores: relevancy of its points with its phrases; a thing has the mean over its points.
        embedding: vectors of its points; a thing has the mean direction, in the same space.
    """
    number = {phrase: k for k, phrase in enumerate(cloud.phrases, start=1)}
    records = []
    for thing in cloud.things:
        members = np.flatnonzero(cloud.instance == thing.id)
        record = thing.record() | {"label_id": number.get(thing.label, 0) if thing.label is not None else 0}
        if scores is not None:
            means = scores[members].mean(0)
            order = np.argsort(-means, kind="stable")
            record["phrase_scores"] = {cloud.phrases[k]: float(means[k]) for k in order}
        if embedding is not None:
            mean = embedding[members].mean(0, dtype=np.float64)
            record["embedding"] = mean / max(float(np.linalg.norm(mean)), 1e-12)
        records.append(record)
    return records
