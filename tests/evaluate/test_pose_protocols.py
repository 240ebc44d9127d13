"""ImageNet3D's tasks by name: from a folder and a file of predictions to scores."""

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ovseg3d.datasets import PosedObject, read_imagenet3d, write_imagenet3d
from ovseg3d.errors import ConfigError, MeasureError
from ovseg3d.evaluate import POSE_PROTOCOLS, evaluate_poses, read_pose_predictions, write_pose_predictions
from ovseg3d.geometry import Viewpoint


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three chairs, one of them bad; a mug that is to be ignored, and a mug."""
    folder = tmp_path_factory.mktemp("imagenet3d")
    Image.new("RGB", (40, 30)).save(folder / "photo.jpg")
    chair = PosedObject(
        photo=folder / "photo.jpg", name="chair/n1", number=0, category="chair",
        viewpoint=Viewpoint(1.0, 0.25, 0.0, 5.0), center_px=(20.0, 15.0), bbox=(10.0, 5.0, 30.0, 25.0),
        focal_px=2000.0, size=(40, 30), status="status_good",
    )  # fmt: skip
    mug = replace(chair, name="mug/n2", category="mug")
    objects = [chair, replace(chair, number=1), replace(chair, number=2, status="status_bad"),
               replace(mug, ignore=True), replace(mug, number=1)]  # fmt: skip
    write_imagenet3d(folder / "data", objects)
    return folder / "data"


def answers(**changes: object) -> dict[str, dict[str, object]]:
    """Right answers for all five."""
    right = {"azimuth_rad": 1.0, "elevation_rad": 0.25, "theta_rad": 0.0, "bbox": [10, 5, 30, 25]} | changes
    names = ("chair/n1/0", "chair/n1/1", "chair/n1/2", "mug/n2/0", "mug/n2/1")
    return {name: right | {"label": name.split("/")[0]} for name in names}


def test_two_test_sets_and_four_tasks(data: Path) -> None:
    everything = list(read_imagenet3d(data, test_set=None))
    found = answers()
    found["chair/n1/0"]["azimuth_rad"] = 1 + math.radians(20)
    found["chair/n1/1"]["label"] = "mug"
    found["mug/n2/1"]["bbox"] = [0, 0, 5, 5]
    expected = {"pose": (1, 1, 0.75), "joint": (0.75, 0.75, 0.5), "joint-boxes": (0.5, 0.5, 0.25)}
    for task, (dataset, experiments, acc_10) in expected.items():
        for test_set, share in (("dataset", dataset), ("experiments", experiments)):
            scores = evaluate_poses(f"imagenet3d-{task}-{test_set}", everything, found)
            assert scores.figures["all"].acc_30 == share and scores.figures["all"].acc_10 == acc_10
            assert scores.figures["all"].objects == 4
    open_scores = evaluate_poses(
        "imagenet3d-open-vocabulary-dataset", everything, found | {"mug/n2/1": None}, known=["chair"],
        symmetry_orders={"mug": 0},
    )  # fmt: skip
    assert open_scores.figures["novel"].acc_30 == 0 and open_scores.figures["known"].acc_30 == 1
    assert open_scores.figures["novel"].unanswered == 1 and "novel, up to symmetry" in open_scores.figures
    assert len(POSE_PROTOCOLS) == 8


def test_a_file_there_and_back(data: Path, tmp_path: Path) -> None:
    objects = list(read_imagenet3d(data))
    path = tmp_path / "predictions.json"
    write_pose_predictions(path, {objects[0].key: objects[0].viewpoint, objects[1].key: None})
    scores = evaluate_poses("imagenet3d-pose-dataset", objects, read_pose_predictions(path))
    assert (scores.figures["all"].acc_10, scores.figures["all"].unanswered) == (0.25, 3)
    write_pose_predictions(path, {one.key: one.viewpoint for one in objects})
    assert evaluate_poses("imagenet3d-pose-dataset", objects, read_pose_predictions(path)).distance_error == 0


def test_what_is_wrong_with_predictions_is_said(data: Path, tmp_path: Path) -> None:
    objects = list(read_imagenet3d(data))
    pose, joint = "imagenet3d-pose-dataset", "imagenet3d-joint-boxes-dataset"
    for protocol, predictions, words in (
        (pose, {"n1": None}, r"No prediction is about one of the 4 objects \('n1' is not\)"),
        (pose, answers(azimuth_rad="left"), "'azimuth_rad' of a prediction is not a number"),
        (pose, {"chair/n1/0": {"azimuth_rad": 1}}, "no 'elevation_rad'"),
        (pose, {"chair/n1/0": 3}, "no record"),
        (joint, answers(bbox=[1, 2]), "'bbox' of a prediction is not 4 numbers"),
        (joint, {"chair/n1/0": {"azimuth_rad": 1}}, "needs the 'label'"),
    ):
        with pytest.raises(MeasureError, match=words):
            evaluate_poses(protocol, objects, predictions)
    with pytest.raises(ConfigError, match="needs the known categories"):
        evaluate_poses("imagenet3d-open-vocabulary-dataset", objects, answers())
    with pytest.raises(ConfigError, match="no pose protocol 'imagenet3d-pose'"):
        evaluate_poses("imagenet3d-pose", objects, answers())
    (tmp_path / "list.json").write_text('{"predictions": [1]}')
    with pytest.raises(MeasureError, match="no predictions by object"):
        read_pose_predictions(tmp_path / "list.json")


def test_on_the_command_line(data: Path, tmp_path: Path) -> None:
    (tmp_path / "known.txt").write_text("chair\n")
    (tmp_path / "meta.json").write_text('{"Furniture": ["chair"], "Household": ["mug"]}')
    write_pose_predictions(tmp_path / "found.json", answers())
    command = [
        sys.executable, "-m", "scripts.benchmarks.imagenet3d", "--data", data, "--predictions", tmp_path / "found.json",
        "--protocol", "imagenet3d-open-vocabulary-experiments", "--known", tmp_path / "known.txt",
        "--meta-classes", tmp_path / "meta.json", "--output", tmp_path / "scores.json",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    written = json.loads((tmp_path / "scores.json").read_text())
    assert written["protocol"] == "pose" and "over objects" in written["aggregation"]
    assert np.isclose(written["figures"]["novel, Household"]["acc_10"], 1) and "novel, Household" in done.stdout
    assert written["figures"]["all"]["objects"] == 4 and written["class_accuracy"] is None
