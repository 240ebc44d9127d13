"""Captions with poses: which category a token belongs to, and which object of the photo it answers."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ovseg3d.datasets import PosedObject, write_imagenet3d
from ovseg3d.errors import MeasureError
from ovseg3d.evaluate import evaluate_poses, predictions_of_captions
from ovseg3d.evaluate.pose_captions import named_categories
from ovseg3d.geometry import Viewpoint


def an_object(number: int, category: str, center_px: tuple[float, float], azimuth: float) -> PosedObject:
    return PosedObject(
        photo=Path("photo.jpg"), name="chair/n1", number=number, category=category,
        viewpoint=Viewpoint(azimuth, 0.25, 0.0, 5.0), center_px=center_px, bbox=(0.0, 0.0, 30.0, 25.0),
        focal_px=2000.0, size=(100, 80), status="status_good",
    )  # fmt: skip


OBJECTS = [an_object(0, "chair", (10.0, 40.0), 1.0), an_object(1, "chair", (80.0, 40.0), 2.0),
           an_object(2, "dining_table", (50.0, 60.0), 3.0)]  # fmt: skip


def pose(azimuth: float, *center_px: float) -> dict[str, Any]:
    return {"azimuth_rad": azimuth, "elevation_rad": 0.25, "theta_rad": 0.0, "center_px": list(center_px)}


@pytest.mark.parametrize(
    ("caption", "named"),
    [
        ("a chair <pose6D> beside a dining table <pose6D>.", ("chair", "dining_table")),
        ("Two Chairs <pose6D> <pose6D>", ("chair", "")),
        ("a chair, or rather a table <pose6D> near an armchair <pose6D>", ("table", "")),
        ("a chair without a pose", ()),
    ],
)
def test_a_token_belongs_to_the_category_named_last_before_it(caption: str, named: tuple[str, ...]) -> None:
    assert named_categories(caption, ("chair", "table", "dining_table")) == named


def test_tokens_answer_the_objects_that_they_are_nearest_to() -> None:
    caption = {"caption": "a dining table <pose6D>, a mug <pose6D> and a chair <pose6D>",
               "poses": [pose(3.0, 50, 60), pose(1.0, 12, 40), pose(2.0, 70, 40)]}  # fmt: skip
    found = predictions_of_captions(OBJECTS, {"chair/n1": caption}, ("chair", "mug", "dining_table"))
    assert {key: one["label"] for key, one in found.items()} == {
        "chair/n1/0": "mug", "chair/n1/1": "chair", "chair/n1/2": "dining_table"
    }  # fmt: skip
    scores = evaluate_poses("imagenet3d-joint-experiments", OBJECTS, found)
    assert scores.figures["all"].acc_10 == pytest.approx(2 / 3) and scores.class_accuracy == pytest.approx(2 / 3)
    fewer = {"caption": "a chair <pose6D>", "poses": [pose(2.0, 70, 40)]}
    found = predictions_of_captions(OBJECTS, {"chair/n1": fewer})
    scores = evaluate_poses("imagenet3d-joint-experiments", OBJECTS, found)
    assert list(found) == ["chair/n1/1"] and scores.figures["all"].unanswered == 2
    assert predictions_of_captions(OBJECTS, {"chair/n1": None, "chair/other": fewer}) == {}


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ("a chair <pose6D>", "needs a text and a list"),
        ({"caption": "a chair <pose6D>", "poses": []}, "1 <pose6D> and 0 poses"),
        ({"caption": "a chair <pose6D>", "poses": [{"azimuth_rad": 1.0}]}, "needs where its object is"),
        ({"caption": "a chair <pose6D>", "poses": [pose(1.0, float("nan"), 2)]}, "not finite"),
    ],
)
def test_bad_captions_are_told(record: Any, said: str) -> None:
    with pytest.raises(MeasureError, match=said) as told:
        predictions_of_captions(OBJECTS, {"chair/n1": record})
    assert told.value.where == "chair/n1"


def test_the_script_measures_captions(tmp_path: Path) -> None:
    Image.new("RGB", (100, 80)).save(tmp_path / "photo.jpg")
    write_imagenet3d(tmp_path / "data", [replace(one, photo=tmp_path / "photo.jpg") for one in OBJECTS])
    caption = {"caption": "a chair <pose6D>", "poses": [pose(1.0, 10, 40)]}
    (tmp_path / "captions.json").write_text(json.dumps({"captions": {"chair/n1": caption}}))
    command = [sys.executable, "-m", "scripts.benchmarks.imagenet3d", "--data", tmp_path / "data",
               "--captions", tmp_path / "captions.json", "--output", tmp_path / "scores.json"]  # fmt: skip
    wrong = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    assert wrong.returncode == 2 and "--protocol imagenet3d-joint-experiments" in wrong.stderr
    right = [*map(str, command), "--protocol", "imagenet3d-joint-experiments"]
    done = subprocess.run(right, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "scores.json").read_text())["figures"]["all"]["acc_10"] == pytest.approx(1 / 3)
