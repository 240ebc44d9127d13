"""The labels of photographs, and the script that compares answers with them."""

import json
from pathlib import Path

import numpy as np
import pytest
from tiny import BOXES, camera_to_world, draw

from ovseg3d.errors import ConfigError
from ovseg3d.evaluate.metrics.lerf import read_lerf_folder
from ovseg3d.geometry.boxes import box_from_record
from ovseg3d.heads.detection import Detector
from ovseg3d.query.engine import QueryEngine
from ovseg3d.session import Run
from scripts.benchmarks import answers

CAPTURES = ("fox", "hololens_office", "studio_room")


@pytest.mark.parametrize("capture", CAPTURES)
def test_labels_are_complete_and_lie_in_their_photos(capture: str) -> None:
    folder = answers.LABELS / capture
    halves = [read_lerf_folder(folder / split) for split in ("development", "test")]
    views = [frame.name for half in halves for frame in half]
    assert len(views) == len(set(views)) >= 8 and len(halves[0]) == len(halves[1])
    phrases = answers.phrases_of([frame for half in halves for frame in half])
    absent = (folder / "absent.txt").read_text().split("\n")[:-1]
    assert len(phrases) >= 8 and len(absent) >= 3 and not {*phrases} & {*absent}
    for frame in (frame for half in halves for frame in half):
        assert (
            any(len(unit.polygons) > 1 for unit in frame.units) or capture != "hololens_office" or len(frame.units) > 1
        )
        corners = np.array([xy for unit in frame.units for polygon in unit.polygons for xy in polygon])
        assert corners.min() >= 0 and (corners <= [frame.width, frame.height]).all()


def test_boxes_are_of_different_objects_above_the_floor() -> None:
    records = json.loads((answers.LABELS / "hololens_office" / "objects.json").read_text())
    boxes = [box_from_record(record) for record in records]
    assert len(boxes) >= 15 and len({record["id"] for record in records}) == len(records)
    assert all(box.center[2] - box.size[2] / 2 > -0.01 and max(box.size) < 4 for box in boxes)


@pytest.fixture
def labels(run: Run, tmp_path: Path) -> Path:
    """The red box of the tiny scene, by a rectangle around its pixels in one view."""
    rgb, _ = draw(camera_to_world(0))
    directions = [np.array(colour) / np.linalg.norm(colour) for *_, colour in BOXES]
    kind = np.argmax(rgb / np.linalg.norm(rgb, axis=-1, keepdims=True) @ np.stack(directions, 1), -1)
    rows, columns = np.nonzero((kind == 1) & (rgb.sum(-1) < 2))
    x1, y1, x2, y2 = (int(v) for v in (columns.min(), rows.min(), columns.max(), rows.max()))
    corners = [[x1, y1], [x2, y1], [x2, y2], [x1, y2]]
    scene = run.load_scene()
    folder = tmp_path / "labels" / scene.name
    (folder / "development").mkdir(parents=True)
    height, width = rgb.shape[:2]
    described = {
        "info": {"name": Path(scene.frames[0].name).name, "width": width, "height": height},
        "objects": [{"category": "red", "bbox": [x1, y1, x2, y2], "segmentation": corners}],
    }
    (folder / "development" / "0.json").write_text(json.dumps(described))
    (folder / "absent.txt").write_text("green\n")
    return tmp_path / "labels"


def test_a_row_is_measured_once_and_chance_is_the_area(
    run: Run, labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    script = answers.Answers(run.folder, output=tmp_path / "rows", labels=labels)
    script.main()
    table = capsys.readouterr().out
    rows = {path.stem.split("-")[-1]: json.loads(path.read_text())["row"] for path in (tmp_path / "rows").iterdir()}
    # Localisation is not looked at: the protocol's filter is nearly as wide as these photos.
    answers_in_3d = rows["3D"]
    assert answers_in_3d["mask_miou"] > 0.6 and answers_in_3d["present"] == answers_in_3d["refused"] == 1
    assert min(answers_in_3d["miou"], rows["2D"]["miou"]) > 4 * rows["chance"]["miou"]
    (frame,) = read_lerf_folder(next(labels.iterdir()) / "development")
    x1, y1, x2, y2 = frame.units[0].boxes[0]
    area = (x2 - x1 + 1) * (y2 - y1 + 1) / (frame.width * frame.height)
    assert rows["chance"] == pytest.approx({"miou": area, "localisation": area})
    for measure in ("in_3d", "in_2d", "chance"):
        monkeypatch.setattr(answers, measure, lambda *_: pytest.fail("measured again"))
    script.main()
    assert capsys.readouterr().out == table
    with pytest.raises(ConfigError, match="no labels"):
        answers.Answers(run.folder, split="test", output=tmp_path, labels=labels).main()


def test_boxes_are_those_of_detect(run: Run, tmp_path: Path) -> None:
    engine = QueryEngine(run)
    found = [detection.record() for detection in engine.detections.detect(Detector(min_score=0.0)).detections]
    assert found and answers.boxes(engine, tmp_path) == {}, "no labelled boxes"
    kept = engine.detections.detect().detections
    (tmp_path / "objects.json").write_text(json.dumps(found))
    row = answers.boxes(engine, tmp_path)
    assert row["recall_25"] == row["recall_50"] == pytest.approx(len(kept) / len(found))
    assert row["precision_50"] == (1 if kept else 0)
