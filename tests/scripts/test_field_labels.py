"""Runs as teachers of the detection head: boxes of their instances, and the command that labels them."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from colours import flags
from exact import Exact, register_encoders
from scipy.spatial.transform import Rotation
from tiny import BOXES, SIZE, camera_to_world, draw
from tiny import FOCAL as TINY_FOCAL

from ovseg3d.errors import ConfigError
from ovseg3d.field.surface import DepthView, Surface
from ovseg3d.geometry import rotated_iou
from ovseg3d.heads.detection import Detector
from ovseg3d.heads.detection.network import DetectionNetwork, DetectionShape
from ovseg3d.instances.grouping import Instances
from ovseg3d.instances.layout import FLOOR, NONE
from ovseg3d.runs.folder import RunFolder
from ovseg3d.runs.settings import make_config
from ovseg3d.scene import Camera
from ovseg3d.session import Run, load
from scripts.training import field_labels, run_boxes
from scripts.training.detection_rooms import IGNORED, is_fitted, read_detection_room, save_detection_room
from scripts.training.detection_stage import DetectionRecipe, DetectionStage
from scripts.training.field_labels import MakeFieldLabels, RoomRecipe, TeacherQuality
from scripts.training.run_boxes import (
    BoxRecipe,
    GroupedRun,
    TrueObjects,
    fit_boxes,
    group_run,
    open_ends,
    true_boxes,
)

RED = 1
"""Row of the red box in `BOXES`."""
PHRASES = ("red thing", "blue thing", "yellow thing")
DIRECTIONS = np.concatenate([np.eye(3), -np.eye(3)])


def box_points(low: np.ndarray, high: np.ndarray, step: float = 0.025) -> tuple[np.ndarray, np.ndarray]:
    """Points on the sides of a box but for the lower one, and their normals."""
    xyz, normal = [], []
    for axis, side in ((0, 0), (0, 1), (1, 0), (1, 1), (2, 1)):
        a, b = (k for k in range(3) if k != axis)
        u, v = np.meshgrid(np.arange(low[a], high[a] + 1e-9, step), np.arange(low[b], high[b] + 1e-9, step))
        on = np.empty((u.size, 3))
        on[:, a], on[:, b], on[:, axis] = u.ravel(), v.ravel(), (low, high)[side][axis]
        xyz.append(on)
        normal.append(np.tile((2 * side - 1) * np.eye(3)[axis], (u.size, 1)))
    return np.concatenate(xyz), np.concatenate(normal)


def surface_of(xyz: np.ndarray, normal: np.ndarray) -> Surface:
    ones = np.ones(len(xyz), np.float32)
    rgb = np.full((len(xyz), 3), 128, np.uint8)
    return Surface(xyz, normal, rgb, ones, 0.025 * ones, np.array([0.0, 0.0, 1.0]), True)


def view_of(number: int) -> DepthView:
    """A view of the tiny scene."""
    c2w = camera_to_world(number)
    rgb, depth_z = draw(c2w)
    camera = Camera(SIZE, SIZE, TINY_FOCAL, TINY_FOCAL, SIZE / 2, SIZE / 2, c2w)
    return DepthView(camera, depth_z, (depth_z > 0).astype(float), rgb)


def test_an_object_may_go_on_where_nothing_was_seen() -> None:
    """Half of the red box, from views of that side; what lies beyond the cut was not seen."""
    low, high, _ = (np.array(part) for part in BOXES[RED])
    xyz, normal = box_points(low, high)
    shown = xyz[:, 0] > -0.2
    surface = surface_of(xyz[shown], normal[shown])
    ends = open_ends(surface, np.ones(len(surface), np.int64), [view_of(0)], DIRECTIONS, 1.0)
    cut, front = surface.xyz[:, 0] < -0.17, surface.normal[:, 0] > 0.5
    assert (ends[cut, 0] < 0).all(), "it goes on behind the cut"
    front &= surface.xyz[:, 2] > 0.1  # below, the blue box hides it
    assert not ends[front, 0].any(), "the camera sees through what is before it"
    assert not ends[front & (np.abs(surface.xyz[:, 1] + 0.2) < 0.2)].any(), "the surface goes on beside"
    others = open_ends(surface, np.zeros(len(surface), np.int64), [view_of(0)], DIRECTIONS, 1.0)
    assert not others.any(), "points of no instance"


def grouped(names: tuple[str, ...] = ("box", "dot")) -> GroupedRun:
    """A box of 1.2 x 0.8 x 0.6 m, five points on the floor, a rejected fragment, and floor."""
    xyz, normal = box_points(np.array([1.0, 0, 0]), np.array([2.2, 0.8, 0.6]))
    up = np.tile([0.0, 0.0, 1.0], (5, 1))
    others = np.random.default_rng(0).uniform(0, 0.05, (15, 3)) + np.repeat([[3, 0, 0], [4, 0, 0], [5, 0, 0]], 5, 0)
    ids = np.repeat([1, 2, 3, 0], [len(xyz), 5, 5, 5])
    layout = np.where(np.arange(len(ids)) >= len(ids) - 5, FLOOR, NONE)
    found = Instances(ids, np.zeros_like(ids), layout, 1, np.array([0.8, 0.5]))
    surface = surface_of(np.concatenate([xyz, others]), np.concatenate([normal, up, up, up]))
    level = Rotation.identity()
    ends = np.zeros((len(surface), 3))
    return GroupedRun(surface.xyz, surface.normal, surface, level, 1.0, ends, np.array([0, 0, 1.5]), True, found, names)


def test_boxes_of_instances_make_a_round_trip(tmp_path: Path) -> None:
    room = fit_boxes(grouped(), BoxRecipe(usual_sizes=False))
    assert room.kinds == ("box",) and room.open_sides is not None and not room.open_sides.any()
    assert rotated_iou(room.boxes.astype(float), np.array([[1.6, 0.4, 0.3, 1.2, 0.8, 0.6, 0]]))[0, 0] > 0.95
    on = len(room.xyz) - 15
    assert (room.instance[:on] == 1).mean() > 0.95
    assert (room.instance[on : on + 10] == IGNORED).all(), "an instance without a box, and a rejected fragment"
    assert (room.instance[-5:] == 0).all(), "the layout is background"
    save_detection_room(tmp_path / "room.npz", room)
    back = read_detection_room(tmp_path / "room.npz")
    assert is_fitted(tmp_path / "room.npz") and back.kinds == room.kinds
    for name in ("xyz", "normal", "rgb", "instance", "boxes", "symmetry", "quality", "open_sides"):
        np.testing.assert_array_equal(getattr(back, name), getattr(room, name))


def test_a_label_counts_by_the_quality_of_its_instance() -> None:
    run = grouped()
    best, half = (
        fit_boxes(replace(run, instances=replace(run.instances, quality=np.array([quality, 0.5]))))
        for quality in (1.0, 0.5)
    )
    assert best.quality is not None and half.quality is not None
    assert half.quality[0] == pytest.approx(best.quality[0] / 2) and best.quality[0] > 0.3
    bad = fit_boxes(replace(run, instances=replace(run.instances, quality=np.array([0.01, 0.5]))))
    assert not bad.kinds and (bad.instance[:-5] == IGNORED).all(), "its points are ignored, too"


@pytest.fixture
def run(colour_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The tiny scene with an exact surface, whose phrases are colours."""
    register_encoders(monkeypatch, tmp_path / "cache")
    monkeypatch.setattr(run_boxes, "restore", Exact)
    folder = shutil.copytree(colour_run, tmp_path / "runs" / "tiny")
    (folder / "phrases.txt").write_text("\n".join(PHRASES))
    return load(folder)


def test_instances_of_a_run_are_found_without_the_head(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("the teacher asks its pupil")

    monkeypatch.setattr(Detector, "segment", fail)
    monkeypatch.setattr(Detector, "detect", fail)
    room = fit_boxes(group_run(run), BoxRecipe(usual_sizes=False))
    true = np.array([[*np.add(low, high) / 2, *np.subtract(high, low), 0.0] for low, high, _ in BOXES[1:]])
    iou = rotated_iou(true, room.boxes.astype(float))
    assert (iou.max(1) > 0.5).all()
    assert [room.kinds[row] for row in iou.argmax(1)] == ["red thing", "blue thing"]


def test_the_command_labels_runs_and_goes_on(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = shutil.copytree(run.folder, tmp_path / "runs" / "other")
    output, calls = tmp_path / "labels", []

    def counted(found: Run) -> GroupedRun:
        calls.append(found.folder.name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return group_run(found)

    monkeypatch.setattr(field_labels, "group_run", counted)
    command = MakeFieldLabels(output, runs=(run.folder, other))
    with pytest.raises(KeyboardInterrupt):
        command.main()
    assert len(list(output.glob("*.npz"))) == 1
    command.main()
    assert calls == ["tiny", "other", "other"], "what is labelled is kept"
    first, second = (read_detection_room(path) for path in sorted(output.glob("*.npz")))
    np.testing.assert_array_equal(first.boxes, second.boxes)
    with pytest.raises(ConfigError, match="another recipe"):
        replace(command, boxes=BoxRecipe(ends=False)).main()

    torch.manual_seed(0)
    network = DetectionNetwork(DetectionShape(stem=8, widths=(8, 8, 8, 8), head=8, embedding=8))
    kinds = tuple(dict.fromkeys(first.kinds))
    stage = DetectionStage(
        tmp_path, range(0), kinds, torch.eye(len(kinds), 8), DetectionRecipe(), network, sorted(output.glob("*.npz"))
    )
    stage.step(0, 0.5)
    assert {"iou", "size", "name"} <= set(stage.measure())


def test_a_run_that_cannot_be_labelled_is_left_out(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run.folder / "phrases.txt").unlink()
    with pytest.raises(ConfigError, match="No run has an instance with a good box"):
        MakeFieldLabels(tmp_path / "labels", runs=(run.folder,)).main()
    assert "left out: The run has no phrases" in capsys.readouterr().out
    assert not list((tmp_path / "labels").glob("*.npz"))


def test_rooms_are_made_once_and_continued(
    tiny_scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A room of the tiny scene, whose training is interrupted."""
    register_encoders(monkeypatch, tmp_path / "cache")
    made, resumed = [], []
    train: Callable[..., RunFolder] = field_labels.train_scene

    def write(_: object, folder: Path, *__: object, **___: object) -> None:
        made.append(folder)
        shutil.copytree(tiny_scene, folder)

    def interrupted(*arguments: object, **options: object) -> RunFolder:
        resumed.append(options["resume"])

        def report(event: object) -> None:
            if len(resumed) == 1 and getattr(event, "stage", "") == "field":
                raise KeyboardInterrupt

        return train(*arguments, report=report, **options)

    config = make_config("cpu", flags={**flags(steps=20), "only": "field,features"})
    monkeypatch.setattr(field_labels, "furnished", lambda seed: seed)
    monkeypatch.setattr(field_labels, "write_room", write)
    monkeypatch.setattr(field_labels, "train_scene", interrupted)
    monkeypatch.setattr(field_labels, "make_config", lambda *_, **__: config)
    command = MakeFieldLabels(tmp_path / "labels", work=tmp_path / "work", count=1)
    with pytest.raises(KeyboardInterrupt):
        command.main()
    for _ in range(2):  # the tiny scene has no phrases: the run is left out
        with pytest.raises(ConfigError, match="No run has an instance"):
            command.main()
    assert len(made) == 1 and len(resumed) == 2 and resumed[0] is None and resumed[1] is not None
    assert load(tmp_path / "work" / str(field_labels.FIRST_SEED) / "run").status()["status"] == "done"
    with pytest.raises(ConfigError, match="another recipe"):
        replace(command, rooms=RoomRecipe(steps=1)).main()


def test_true_objects_are_turned_as_the_labels(run: Run) -> None:
    found, scene = group_run(run), run.load_scene()
    assert not true_boxes(found, scene).kinds, "nothing is known of a capture without objects.json"
    (Path(shutil.copytree(scene.path, run.folder / "scene")) / "objects.json").write_text(
        '[{"category": "box", "center": [1, 0, 0], "size": [0.2, 0.4, 0.6], "yaw_rad": 0.1}]'
    )
    turned = replace(found, level=Rotation.from_euler("z", 90, degrees=True), metres_per_unit=2.0)
    true = true_boxes(turned, replace(scene, path=run.folder / "scene"))
    np.testing.assert_allclose(true.boxes, [[0, 2, 0, 0.4, 0.8, 1.2, 0.1 + np.pi / 2]], atol=1e-9)
    assert true.kinds == ("box",)


def test_the_table_counts_boxes_and_objects() -> None:
    quality = TeacherQuality()
    boxes = np.array([[1.6, 0.4, 0.3, 1.2, 0.8, 0.6, 0], [9, 9, 9, 1, 1, 1, 0]])
    quality.add(fit_boxes(grouped(), BoxRecipe(usual_sizes=False)), TrueObjects(boxes, ("box", "mug")))
    assert quality.found == [True, False] and quality.named == [True] and quality.iou[0] > 0.95
    assert "| 1 | 2 | 50% | 1 |" in str(quality)
