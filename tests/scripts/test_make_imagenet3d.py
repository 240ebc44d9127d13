"""A benchmark in ImageNet3D's layout: whether its annotations are those of its photos, and all protocols on it."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from shape_clouds import GREEN

from ovseg3d.datasets import PosedObject, read_imagenet3d, read_lines, read_symmetry_orders
from ovseg3d.errors import OutputError, SceneError
from ovseg3d.evaluate import evaluate_poses, read_pose_predictions
from ovseg3d.geometry import rotation_of_angles
from ovseg3d.heads.naming.splat import surfels
from scripts.benchmarks.imagenet3d import MeasurePoses
from scripts.benchmarks.make_imagenet3d import MakePhotos
from scripts.benchmarks.pose_answers import AnswerPoses
from scripts.benchmarks.pose_probes import ProbeEncoders, mirrored, ridge
from scripts.benchmarks.pose_shapes import Shapes


@pytest.fixture
def made(shapes: Shapes, tmp_path: Path) -> Path:
    MakePhotos(tmp_path / "made", train_views=4, views=2).main()
    return tmp_path / "made"


def test_annotations_are_those_of_the_photos(made: Path, shapes: Shapes) -> None:
    points, categories = shapes.clouds
    objects = list(read_imagenet3d(made, "val", test_set="experiments"))
    assert len(objects) == 20 and {one.category for one in objects} == {"bottle", "car", "key", "pan"}
    for one in objects:
        assert one.cad_index is not None
        own = np.flatnonzero(categories == one.category)[one.cad_index - 1]
        seen = one.viewpoint
        turn = rotation_of_angles(np.array([seen.azimuth_rad, seen.elevation_rad, seen.theta_rad]))
        local = turn.apply(surfels(points[own]).points) + [0, 0, seen.distance]
        at = local[:, :2] / local[:, 2:] * one.focal_px + one.center_px
        # Discs of a few pixels stand around the points.
        assert np.allclose([*at.min(0), *at.max(0)], one.bbox, atol=8)
        colours = np.asarray(Image.open(one.photo)).astype(int)
        there = np.abs(colours - GREEN).max(2) > 120
        rows, columns = np.flatnonzero(there.any(1)), np.flatnonzero(there.any(0))
        drawn = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
        assert np.allclose(drawn, one.bbox, atol=2), "JPEG blurs the edge"


def test_no_shape_is_in_two_splits(made: Path) -> None:
    known = read_lines(made / "known_categories.txt")
    parts = {
        split: {(one.category, one.cad_index) for one in read_imagenet3d(made, split)}
        for split in ("train", "choice", "val")
    }
    assert sum(len(part) for part in parts.values()) == len(set.union(*parts.values())) == 16
    assert {name for split in ("train", "choice") for name, _ in parts[split]} == set(known) and len(known) == 2
    orders = read_symmetry_orders(made / "symmetry_orders.json")
    assert orders == {"bottle": 0, "car": 1, "key": 2, "pan": 1}


def test_all_protocols_run_on_it(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ProbeEncoders(made, tmp_path / "probes", encoders=("dino:builtin",), readouts=("periodic",)).main()
    figures = json.loads((tmp_path / "probes/figures.json").read_text())
    assert list(figures) == ["one guess", "dino:builtin, periodic"]
    found = figures["dino:builtin, periodic"]
    assert found["heads"] == 52 and found["chosen"][0].startswith(("last", "uniform"))
    assert (found["known"]["objects"], found["novel"]["objects"]) == (4, 16)
    assert found["joint"]["acc_30"] <= found["known"]["acc_30"] and 0 <= found["joint"]["class_accuracy"] <= 1
    assert found["joint-boxes"]["unanswered"] >= found["joint"]["unanswered"] == 0
    AnswerPoses(made, tmp_path / "shipped.json", told=True).main()
    answers = read_pose_predictions(tmp_path / "shipped.json")
    objects = list(read_imagenet3d(made, "val"))
    assert answers.keys() == {one.key for one in objects}
    assert evaluate_poses("imagenet3d-joint-dataset", objects, answers).class_accuracy == 1, "the class was told"
    for task, file in (("pose", "shipped.json"), ("joint-boxes", "probes/dino-builtin-periodic-boxes.json")):
        MeasurePoses(
            made, tmp_path / file, protocol=f"imagenet3d-{task}-dataset", symmetries=made / "symmetry_orders.json"
        ).main()
    assert "all, up to symmetry" in capsys.readouterr().out


def test_procedural_kinds_have_their_own_photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scripts.benchmarks.make_imagenet3d.NAMES", ("night stand", "mug"))
    monkeypatch.setattr("scripts.benchmarks.make_imagenet3d.NOVEL", ("night stand",))
    MakePhotos(tmp_path, source="kinds", train_views=2, views=2).main()
    assert {one.category for one in read_imagenet3d(tmp_path, "train")} == {"mug"}
    objects: list[PosedObject] = list(read_imagenet3d(tmp_path, "val"))
    assert [one.category for one in objects] == ["mug", "mug", "night_stand", "night_stand"]
    for one in objects:
        x0, y0, x1, y1 = one.bbox
        assert x0 - 1 <= one.center_px[0] <= x1 + 1 and y0 - 1 <= one.center_px[1] <= y1 + 1
        # The radius of the box around the object, seen from its distance, is of the size of the picture of it.
        assert 0.3 < one.focal_px / one.viewpoint.distance / max(x1 - x0, y1 - y0) < 1.2
    assert read_lines(tmp_path / "known_categories.txt") == ["mug"]
    with pytest.raises(OutputError, match="lists of objects already"):
        MakePhotos(tmp_path, source="kinds").main()


@pytest.mark.parametrize("copies", [1, 4])
def test_ridge_regression_chooses_its_strength_elsewhere(copies: int) -> None:
    """Forty numbers and 100 objects; and more numbers than objects, which are copies."""
    rng = np.random.default_rng(0)
    x, weights = rng.normal(size=(300, 40)), rng.normal(size=(40, 2))
    y, x = x @ weights + 3, np.tile(x, (1, copies))
    (found,) = ridge(x[:100], y[:100], x[100:200], [x[200:]], lambda rows: -float(np.square(rows - y[100:200]).mean()))
    assert np.abs(found - y[200:]).max() < 0.1
    (worst,) = ridge(x[:100], y[:100], x[100:200], [x[200:]], lambda rows: float(np.square(rows - y[100:200]).mean()))
    assert np.abs(worst - y[:100].mean(0)).max() < 1, "the strongest decay leaves the mean"


def test_a_mirror_image_shows_the_mirrored_object() -> None:
    angles = np.random.default_rng(0).uniform([0, -1, -1], [6, 1, 1], (20, 3))
    across = np.diag([-1.0, 1, 1])  # left and right of the picture, and of the object
    turns = rotation_of_angles(angles).as_matrix()
    assert np.allclose(rotation_of_angles(mirrored(angles)).as_matrix(), across @ turns @ across)


def test_orders_of_symmetry_are_checked(tmp_path: Path) -> None:
    (tmp_path / "orders.json").write_text('{"chair": 3}')
    with pytest.raises(SceneError, match="Orders of symmetry are 0, 1, 2 or 4"):
        read_symmetry_orders(tmp_path / "orders.json")
