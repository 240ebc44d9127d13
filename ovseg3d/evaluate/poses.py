"""ImageNet3D's tasks as protocols by name, on a file of predictions.

    imagenet3d-TASK-TESTSET, such as imagenet3d-pose-experiments

Tasks: `pose` (class and box are given), `open-vocabulary` (the same; known and novel categories apart), `joint` (the
class is predicted, the box given) and `joint-boxes` (both are predicted). Test sets: `dataset` and `experiments`, see
`datasets.TEST_SETS`. Published figures are those of `experiments`. Metrics: `evaluate.metrics.pose`.

Predictions are a JSON file. An object is named by its photo and its number in it:

    {"predictions": {"chair/n03001627_1/0": {"azimuth_rad": 1.2, "elevation_rad": 0.1, "theta_rad": 0.0,
                                             "label": "chair", "bbox": [10, 20, 200, 180]}}}

`label` and `bbox` (x1, y1, x2, y2) are needed where they are predicted; `center_px` and `distance` are measured where
all predictions have them. An object that is not there, or null, has no answer.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float

from ovseg3d.datasets import TEST_SETS, PosedObject, TestSet
from ovseg3d.errors import ConfigError, MeasureError, nearest
from ovseg3d.evaluate.metrics.pose import PoseScores, PredictedPoses, TruePoses, measure_poses
from ovseg3d.files import read_json, write_json
from ovseg3d.geometry import Viewpoint

PoseTask = Literal["pose", "open-vocabulary", "joint", "joint-boxes"]


@dataclass(frozen=True)
class PoseProtocol:
    """What is given, what is predicted, and which objects count."""

    name: str
    task: PoseTask
    test_set: TestSet

    @property
    def predicts_class(self) -> bool:
        """Whether a wrong class is an error."""
        return self.task.startswith("joint")

    @property
    def predicts_box(self) -> bool:
        """Whether a box elsewhere is no answer."""
        return self.task == "joint-boxes"


POSE_PROTOCOLS: Mapping[str, PoseProtocol] = {
    f"imagenet3d-{task}-{test_set}": PoseProtocol(f"imagenet3d-{task}-{test_set}", task, test_set)
    for task in get_args(PoseTask)
    for test_set in get_args(TestSet)
}
"""By name."""


def pose_protocol(name: str) -> PoseProtocol:
    """The protocol of this name. Raises ConfigError: there is none."""
    if name not in POSE_PROTOCOLS:
        close, known = nearest(name, POSE_PROTOCOLS), ", ".join(POSE_PROTOCOLS)
        raise ConfigError(f"There is no pose protocol {name!r}", fix=f"{close}?" if close else f"one of {known}")
    return POSE_PROTOCOLS[name]


def evaluate_poses(
    protocol: str,
    objects: Sequence[PosedObject],
    predictions: Mapping[str, Any],
    *,
    known: Collection[str] | None = None,
    meta_classes: Mapping[str, Collection[str]] | None = None,
    symmetry_orders: Mapping[str, int] | None = None,
) -> PoseScores:
    """Measure predictions by a protocol.

    Args:
        protocol: its name.
        objects: of the data set; those that the test set leaves out are left out here.
        predictions: by `PosedObject.key`, as in the file.
        known: categories that were trained on; needed for `open-vocabulary`.
        meta_classes: categories of each meta-class, to be reported apart.
        symmetry_orders: of categories, for figures up to symmetry; 1 for those that are not named.

    Raises:
        ConfigError: there is no such protocol, or it needs the known categories.
        MeasureError: no prediction belongs to the objects, or one lacks what the protocol needs.
    """
    chosen = pose_protocol(protocol)
    if chosen.task == "open-vocabulary" and known is None:
        raise ConfigError(f"{protocol} needs the known categories", fix="give the list that was trained on")
    counts = TEST_SETS[chosen.test_set]
    objects = [one for one in objects if counts(one)]
    rows = [predictions.get(one.key) for one in objects]
    if not any(rows):
        some = next(iter(predictions), "nothing")
        raise MeasureError(
            f"No prediction is about one of the {len(objects)} objects ({some!r} is not)", fix="name them chair/ID/0"
        )
    true = _true(objects, symmetry_orders)
    return measure_poses(_predicted(chosen, objects, rows), true, known=known, meta_classes=meta_classes)


def read_pose_predictions(path: Path) -> dict[str, Any]:
    """The predictions of a file. Raises MeasureError: it has no `predictions`, or is no JSON."""
    found = read_json(path, MeasureError).get("predictions")
    if not isinstance(found, dict):
        raise MeasureError(
            "The file has no predictions by object", where=path, fix='{"predictions": {"chair/ID/0": ...}}'
        )
    return found


def write_pose_predictions(path: Path, predictions: Mapping[str, Viewpoint | Mapping[str, Any] | None]) -> None:
    """Write predictions by `PosedObject.key`: viewpoints, records as in the file, or None. Raises OutputError."""
    records = {key: asdict(one) if isinstance(one, Viewpoint) else one for key, one in predictions.items()}
    write_json(path, {"predictions": records})


def _true(objects: Sequence[PosedObject], orders: Mapping[str, int] | None) -> TruePoses:
    seen = [one.viewpoint for one in objects]
    return TruePoses(
        np.array([(one.azimuth_rad, one.elevation_rad, one.theta_rad) for one in seen]).reshape(-1, 3),
        [one.category for one in objects],
        None if orders is None else np.array([orders.get(one.category, 1) for one in objects]),
        np.array([one.bbox for one in objects]).reshape(-1, 4),
        np.array([one.center_px for one in objects]).reshape(-1, 2),
        np.array([one.distance for one in seen]),
    )


def _predicted(protocol: PoseProtocol, objects: Sequence[PosedObject], rows: Sequence[Any]) -> PredictedPoses:
    names = [one.key for one in objects]
    for name, row in zip(names, rows):
        if row is not None and not isinstance(row, dict):
            raise MeasureError("A prediction is no record", where=name, fix="write null for no answer")
    labels = [None if row is None else row.get("label") for row in rows]
    if protocol.predicts_class and not all(row is None or isinstance(label, str) for row, label in zip(rows, labels)):
        raise MeasureError(
            f"{protocol.name} needs the 'label' of every prediction", fix="add them, or use another task"
        )
    distances = _if_stated(names, rows, {"distance": 1})
    return PredictedPoses(
        _table(names, rows, {"azimuth_rad": 1, "elevation_rad": 1, "theta_rad": 1}),
        [label or "" for label in labels] if protocol.predicts_class else None,
        _table(names, rows, {"bbox": 4}) if protocol.predicts_box else None,
        _if_stated(names, rows, {"center_px": 2}),
        None if distances is None else distances[:, 0],
    )


def _if_stated(
    names: Sequence[str], rows: Sequence[Any], keys: Mapping[str, int]
) -> Float[np.ndarray, "n width"] | None:
    """A table of what all predictions have, else None."""
    return _table(names, rows, keys) if all(row is None or keys.keys() <= row.keys() for row in rows) else None


def _table(names: Sequence[str], rows: Sequence[Any], keys: Mapping[str, int]) -> Float[np.ndarray, "n width"]:
    """Numbers of each prediction: so many of each key. NaN where there is no answer."""
    blank = [math.nan] * sum(keys.values())
    table = [
        blank if row is None else [value for key, count in keys.items() for value in _numbers(row, key, count, name)]
        for name, row in zip(names, rows)
    ]
    return np.array(table, dtype=np.float64)


def _numbers(row: Mapping[str, Any], key: str, count: int, name: str) -> list[float]:
    try:
        return np.array(row[key], dtype=np.float64).reshape(count).tolist()
    except KeyError as cause:
        raise MeasureError(f"A prediction has no '{key}'", where=name, fix="write null for no answer") from cause
    except (TypeError, ValueError) as cause:
        what = "a number" if count == 1 else f"{count} numbers"
        raise MeasureError(f"The '{key}' of a prediction is not {what}", where=name, fix="correct the file") from cause
