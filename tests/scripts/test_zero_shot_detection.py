"""Zero-shot detection is measured on tiny copies of both layouts, with all classes of a protocol."""

from pathlib import Path

import numpy as np
import pytest

from ovseg3d.datasets import BoxScene, detection_protocol, write_mmdet3d, write_votenet
from ovseg3d.errors import MeasureError
from ovseg3d.files import read_json
from scripts.benchmarks.zero_shot_detection import ZeroShotDetection
from scripts.training.naming_pairs import held_out_shape

SCANNET = detection_protocol("ScanNet-18")


@pytest.fixture
def scan() -> BoxScene:
    """A chair and a toilet on a floor."""
    rng = np.random.default_rng(0)
    floor = np.concatenate([rng.uniform(0, 4, (4000, 2)), rng.normal(0, 0.004, (4000, 1))], 1)
    parts, boxes = [floor], []
    for kind, at in (("chair", 1.0), ("toilet", 3.0)):
        points = held_out_shape(rng, kind, 2000).points
        points = points + [at, at, -points[:, 2].min()]
        low, high = points.min(0), points.max(0)
        parts.append(points)
        boxes.append([*(low + high) / 2, *(high - low), 0.0])
    instance = np.repeat([0, 1, 2], [4000, 2000, 2000])
    return BoxScene(
        "scene0001_00",
        np.concatenate(parts),
        np.full((8000, 3), 150, np.uint8),
        np.array(boxes),
        ("chair", "toilet"),
        semantic=np.array([0, 5, 33])[instance],
        instance=instance,
        axis_align=np.eye(4),
    )


@pytest.mark.parametrize("votenet", [False, True])
def test_names_are_measured_with_all_classes(
    tmp_path: Path, scan: BoxScene, votenet: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    if votenet:
        write_votenet(tmp_path / "data", [scan], SCANNET)
    else:
        write_mmdet3d(tmp_path / "data", [scan], SCANNET, "infos.pkl")
    data = tmp_path / "data" if votenet else tmp_path / "data" / "infos.pkl"
    ZeroShotDetection(data, votenet=votenet, output=tmp_path / "found.json", device="cpu").main()
    found = read_json(tmp_path / "found.json")
    assert set(found["rows"]) == {
        "frozen", "tuned", "tuned, own points", "true boxes, frozen", "true boxes, tuned",
    }  # fmt: skip
    names = found["rows"]["true boxes, tuned"]
    assert names["agnostic_ap_25"] == 1 and names["true_boxes"] == 2
    assert set(names["by_class"]) >= {"chair", "toilet"} and names["ap_25"] >= 0.5  # the chair at least is named
    assert 0 < found["rows"]["tuned"]["agnostic_ap_25"] <= 1
    assert "ScanNet-18, 18 classes" in capsys.readouterr().out


def test_no_scene_is_an_error(tmp_path: Path, scan: BoxScene) -> None:
    write_mmdet3d(tmp_path, [scan], SCANNET, "infos.pkl")
    with pytest.raises(MeasureError, match="no scene"):
        ZeroShotDetection(tmp_path / "infos.pkl", limit=0, output=tmp_path / "found.json", device="cpu").main()
    assert not (tmp_path / "found.json").exists()
