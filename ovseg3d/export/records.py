"""JSON records of a labelled cloud: frame, labels and instances.

Every record states its frame and unit; boxes are `center`, full `size`, `rotation_wxyz`, and `yaw_rad` if the frame is
z-up. Label 0 is none; its phrase is null.
"""

from typing import Any

import numpy as np
from jaxtyping import Float

from ovseg3d import __version__
from ovseg3d.export.labelled import LabelledCloud
from ovseg3d.instances.records import Instance
from ovseg3d.scene import describe_scale

FORMAT_VERSION = 1


def place(cloud: LabelledCloud) -> dict[str, Any]:
    """Frame, unit and origin of a cloud."""
    return {
        "format_version": FORMAT_VERSION,
        "generator": f"ovseg3d {__version__}",
        "scene": cloud.name,
        "frame": cloud.frame,
        **describe_scale(cloud.metres_per_unit),
        "up": cloud.surface.up,
        "frame_from_input": cloud.frame_from_input,
    }


def describe(cloud: LabelledCloud) -> dict[str, Any]:
    """The content of labels.json: id, phrase, colour, counts, instances and boxes of each label."""
    points = np.bincount(cloud.label, minlength=len(cloud.phrases) + 1)
    labels = []
    for number, phrase in enumerate([None, *cloud.phrases]):
        instances = [instance for instance in cloud.instances if instance.label == phrase]
        labels.append(
            {
                "id": number,
                "phrase": phrase,
                "colour": cloud.colours[number],
                "points": int(points[number]),
                "instances": [instance.id for instance in instances],
                "boxes": [box_of(instance) for instance in instances],
            }
        )
    return {**place(cloud), "points": len(cloud), "labels": labels}


def box_of(instance: Instance) -> dict[str, Any]:
    """The box of an instance."""
    return {
        "center": list(instance.center),
        "size": list(instance.size),
        "rotation_wxyz": list(instance.rotation_wxyz),
        "yaw_rad": instance.yaw_rad,
    }


def instance_records(
    cloud: LabelledCloud,
    scores: Float[np.ndarray, "points phrases"] | None = None,
    embedding: Float[np.ndarray, "points dim"] | None = None,
) -> list[dict[str, Any]]:
    """A record of each instance, with mean scores and embedding of its points.

    Args:
        cloud: with all of the run's points.
        scores: relevancy of the points; an instance gets the mean over its points.
        embedding: vectors of the points; an instance gets their normalised mean, in the same space.
    """
    number = {phrase: k for k, phrase in enumerate(cloud.phrases, start=1)}
    records = []
    for instance in cloud.instances:
        members = np.flatnonzero(cloud.instance == instance.id)
        record = instance.record() | {"label_id": number.get(instance.label, 0) if instance.label is not None else 0}
        if scores is not None:
            means = scores[members].mean(0)
            order = np.argsort(-means, kind="stable")
            record["phrase_scores"] = {cloud.phrases[k]: float(means[k]) for k in order}
        if embedding is not None:
            mean = embedding[members].mean(0, dtype=np.float64)
            record["embedding"] = mean / max(float(np.linalg.norm(mean)), 1e-12)
        records.append(record)
    return records
