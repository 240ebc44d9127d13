"""Protocols on labelled meshes of ScanNet and Replica: figures by hand, against `points`, and on a trained run."""

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
from colours import flags
from commands import Cli
from exact import register
from fake_encoders import WORDS
from scans import SCAN, tiny_vertices, write_replica_labels, write_scannet_labels, write_tiny_scan

from ovseg3d.datasets import SEGMENTATION_PROTOCOLS
from ovseg3d.errors import MeasureError
from ovseg3d.evaluate.metrics import TrueCloud, average_precision_scannet, measure_points, measure_vertices
from ovseg3d.evaluate.protocols import Evaluator
from ovseg3d.field.surface import Surface
from ovseg3d.pipeline.train import train_scene
from ovseg3d.points.basis import Basis
from ovseg3d.points.semantic_scene import EncoderFacts, SemanticScene
from ovseg3d.query.engine import QueryEngine
from ovseg3d.runs.config import Config
from ovseg3d.runs.folder import RunFolder
from ovseg3d.runs.settings import make_config
from ovseg3d.scene import Scene, load_scene

NYU40 = {"wall": 1, "floor": 2, "chair": 5, "sofa": 6, "table": 7, "bookshelf": 10, "other": 40}


def line(*x: float) -> np.ndarray:
    """Points on the x axis."""
    return np.array([[v, 0.0, 0.0] for v in x]).reshape(-1, 3)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def test_vertices_by_hand() -> None:
    """At 0 right, at 1 wrong, at 2 right, at 3 not labelled, at 10 missed; class c does not occur."""
    scores = measure_vertices(
        line(0.1, 1.2, 2.1, 3), ints(1, 2, 2, 1), TrueCloud(line(0, 1, 2, 3, 10), ints(1, 1, 2, 0, 2)), ("a", "b", "c"),
        limit=0.5, splits={"head": ["a"], "tail": ["b", "c"], "none": ["c"]},
    )  # fmt: skip
    assert scores.iou == pytest.approx({"a": 1 / 2, "b": 1 / 3}), "b: 1 right, 1 too many, 1 missed"
    assert scores.class_accuracy == {"a": 1 / 2, "b": 1 / 2} and scores.mean_accuracy == scores.accuracy == 1 / 2
    assert scores.miou == pytest.approx(5 / 12) and scores.completeness == 3 / 4
    assert scores.split_miou["head"] == 1 / 2 and scores.split_miou["tail"] == pytest.approx(1 / 3)
    assert scores.split_mean_accuracy["tail"] == 1 / 2 and math.isnan(scores.split_miou["none"])
    assert (scores.vertices, scores.unlabelled, scores.limit) == (4, 1, 0.5)
    assert scores.as_dict()["split_miou"]["none"] is None
    with pytest.raises(MeasureError, match="no true point"):
        measure_vertices(line(0), ints(1), TrueCloud(line(0), ints(0)), ("a", "b"), limit=1.0)


def test_mean_accuracy_is_by_class_and_accuracy_by_vertex() -> None:
    scores = measure_vertices(
        line(0, 1, 2, 3), ints(1, 1, 1, 1), TrueCloud(line(0, 1, 2, 3), ints(1, 1, 1, 2)), ("a", "b"), limit=0.1
    )
    assert (scores.accuracy, scores.mean_accuracy) == (3 / 4, 1 / 2) and scores.miou == (3 / 4 + 0) / 2


@pytest.mark.parametrize("seed", range(3))
def test_vertices_agree_with_points_on_the_same_cloud(seed: int) -> None:
    rng = np.random.default_rng(seed)
    xyz, true_xyz = rng.random((60, 3)), rng.random((80, 3))
    label, truth = rng.integers(0, 4, 60), rng.integers(0, 4, 80)
    points = measure_points(xyz, label, TrueCloud(true_xyz, truth, truth > 0), ("a", "b", "c"), limit=0.15)
    found = measure_vertices(xyz, label, TrueCloud(true_xyz, truth), ("a", "b", "c"), limit=0.15)
    assert found.miou == points.point_miou and found.accuracy == points.point_accuracy and found.iou == points.iou
    assert (found.completeness, found.vertices) == (points.completeness, points.true_points)


class Told(QueryEngine):
    """Whose surface points have the names and instances that it is given."""

    def __init__(
        self, scene: Scene, xyz: np.ndarray, names: np.ndarray, instance: np.ndarray, confidence: np.ndarray
    ) -> None:
        count, self._names = len(xyz), names
        surface = Surface(
            xyz.astype(np.float32), np.tile(np.float32([0, 0, 1]), (count, 1)), np.zeros((count, 3), np.uint8),
            confidence.astype(np.float32), np.full(count, 0.05, np.float32), np.array([0.0, 0.0, 1.0]), True,
        )  # fmt: skip
        facts = EncoderFacts("colours", "colours", "0" * 16, 10.0)
        semantics = SemanticScene(
            surface, Basis(np.eye(4, dtype=np.float32), 0.0), np.zeros((count, 4), np.float32),
            np.ones(count, np.float32), instance.astype(np.int32), facts,
        )  # fmt: skip
        super().__init__(RunFolder(scene.path, Config(), scene.path, SCAN, ""), scene, semantics=semantics)

    def labels(self, phrases, canonical=(), none=True):  # noqa: ANN001, ANN202
        place = {phrase: k for k, phrase in enumerate(phrases, start=1)}
        return np.array([place.get(name, 0) for name in self._names])


# Six instances of 150 points each in a row of cubes.
KINDS = ("wall", "floor", "chair", "chair", "table", "other")
PLACES = np.random.default_rng(1).random((6, 150, 3)) + np.arange(6)[:, None, None] * [2.0, 0, 0]
XYZ, IDS = PLACES.reshape(-1, 3), np.repeat(np.arange(1, 7), 150)


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A capture in ScanNet's layout, with labels of the row of cubes."""
    folder = write_tiny_scan(tmp_path_factory.mktemp("scans") / SCAN)
    label = np.array([0, *(NYU40[kind] for kind in KINDS)])[IDS]
    objects: dict[str, list[np.ndarray]] = {}
    for number, kind in enumerate(KINDS, start=1):
        objects.setdefault("bag of flour" if kind == "other" else kind, []).append(IDS == number)
    return write_scannet_labels(folder, XYZ, label, objects)


def scores_of(scan: Path, name: str, labels: Path | None = None, **changed: np.ndarray):  # noqa: ANN201
    """Scores of what is right but for what is `changed`."""
    told = {"names": np.array(["", *KINDS])[IDS].astype(object), "instance": IDS, "confidence": np.ones(len(IDS))}
    engine = Told(load_scene(scan), XYZ, **(told | changed))
    return Evaluator(engine, labels=labels).scores([name])[name]["scene"]


@pytest.mark.parametrize("name", ["scannet-20", "scannet-19", "scannet-200"])
def test_the_truth_of_a_scan_has_full_marks(scan: Path, name: str) -> None:
    scores = scores_of(scan, name)
    assert scores.miou == scores.mean_accuracy == scores.accuracy == scores.completeness == 1
    assert set(scores.iou) == {"wall", "floor", "chair", "table"}, "what is labelled as other does not count"
    assert (scores.vertices, scores.unlabelled) == (750, 150)
    ap = scores_of(scan, "scannet-200-instance-ap" if name == "scannet-200" else "scannet-instance-ap")
    assert ap.ap == ap.ap_50 == ap.ap_25 == ap.agnostic_ap == 1 and set(ap.by_class) == {"chair", "table"}
    assert (ap.true_instances, ap.scenes) == (3, 1)


def test_the_engine_is_asked_in_plain_english(scan: Path, tmp_path: Path) -> None:
    number = np.array([0, 1, 2, 39, 39, 7, 40])[IDS]
    labels = write_scannet_labels(tmp_path / SCAN, XYZ, number, {"mattress": [IDS == 3]})
    names = np.array(["", "wall", "floor", "other furniture", "other furniture", "table", ""])[IDS].astype(object)
    assert scores_of(scan, "scannet-20", labels, names=names).iou["otherfurniture"] == 1
    assert "otherfurniture" not in scores_of(scan, "scannet-19", labels, names=names).iou


def test_a_wrong_name_costs_both_classes(scan: Path) -> None:
    names = np.array(["", "wall", "floor", "chair", "table", "table", "sofa"])[IDS].astype(object)
    scores = scores_of(scan, "scannet-20", names=names)
    assert scores.iou == {"wall": 1, "floor": 1, "chair": 1 / 2, "table": 1 / 2} and scores.miou == 3 / 4
    assert scores.class_accuracy == {"wall": 1, "floor": 1, "chair": 1 / 2, "table": 1} and scores.accuracy == 4 / 5
    large = scores_of(scan, "scannet-200", names=names)
    assert large.miou == large.split_miou["head"] == 3 / 4 and math.isnan(large.split_miou["tail"])


def test_instances_by_hand(scan: Path) -> None:
    """A chair is found, one is missed, the table is called a chair; what lies on the wall or on bags is left out."""
    names = np.array(["", "chair", "floor", "chair", "chair", "chair", "chair"])[IDS].astype(object)
    confidence = np.array([0, 0.3, 0.3, 0.9, 0.9, 0.5, 0.4])[IDS]
    ap = scores_of(scan, "scannet-instance-ap", names=names, confidence=confidence, instance=np.where(IDS == 4, 0, IDS))
    chair = average_precision_scannet(np.array([0.9, 0.5]), np.array([True, False]), 1)
    assert ap.by_class["chair"]["ap_50"] == pytest.approx(chair) and 0 < chair < 1
    assert ap.by_class["table"]["ap_50"] == 0 and ap.ap_50 == pytest.approx(chair / 2)
    both = average_precision_scannet(np.array([0.9, 0.5]), np.array([True, True]), 1)
    assert ap.agnostic_ap_50 == ap.agnostic_ap_25 == pytest.approx(both)


def test_instances_that_are_too_small_or_too_large_count_up_to_their_iou(scan: Path) -> None:
    """Of the table 100 of 150 points, an IoU of 0.67; then table and chair as one instance, an IoU of 0.5."""
    part = np.where((IDS == 5) & (np.arange(len(IDS)) % 3 == 0), 0, IDS)
    scores = scores_of(scan, "scannet-instance-ap", instance=part)
    assert scores.by_class["table"] == pytest.approx({"ap": 4 / 9, "ap_50": 1, "ap_25": 1})
    names = np.array(["", "wall", "floor", "chair", "table", "table", ""])[IDS].astype(object)
    scores = scores_of(scan, "scannet-instance-ap", instance=np.where(IDS == 4, 5, IDS), names=names)
    assert scores.by_class["table"] == pytest.approx({"ap": 0, "ap_50": 0, "ap_25": 1}), "it must be above 0.5"


def test_replica_has_classes_and_instances(scan: Path, tmp_path: Path) -> None:
    numbers = {"wall": 93, "floor": 40, "chair": 20, "table": 80, "other": -1}
    quads = IDS[: len(IDS) // 4 * 4].reshape(-1, 4)[:, 0]
    whole = (IDS[: len(quads) * 4].reshape(-1, 4) == quads[:, None]).all(1)
    keep = np.repeat(whole, 4)
    kinds = {number: numbers[kind] for number, kind in enumerate(KINDS, start=1)}
    room = write_replica_labels(tmp_path / "room_0", XYZ[: len(keep)][keep], quads[whole], kinds)
    scores = scores_of(scan, "replica", room)
    assert scores.miou == scores.mean_accuracy == 1 and set(scores.iou) == {"wall", "floor", "chair", "table"}
    assert scores.split_miou["head"] == 1 and math.isnan(scores.split_miou["tail"])
    ap = scores_of(scan, "replica-instance-ap", room)
    assert ap.ap_50 == ap.agnostic_ap == 1 and ap.true_instances == 3 and set(ap.by_class) == {"chair", "table"}


@pytest.fixture(scope="module")
def tiny_scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny scene in ScanNet's layout, labelled: the sand is a floor, the red box a chair, the blue one a table."""
    folder = write_tiny_scan(tmp_path_factory.mktemp("tiny") / "scans" / SCAN)
    xyz, shown = tiny_vertices()
    objects = {"floor": [shown == 1], "chair": [shown == 2], "table": [shown == 3]}
    write_scannet_labels(folder, xyz, np.array([0, 2, 5, 7])[shown], objects, above=True)
    quads = [np.flatnonzero(shown == kind)[: (shown == kind).sum() // 4 * 4] for kind in (1, 2, 3)]
    kinds = np.repeat([1, 2, 3], [len(quad) // 4 for quad in quads])
    write_replica_labels(folder, xyz[np.concatenate(quads)], kinds, {1: 40, 2: 20, 3: 80})
    return folder


@pytest.fixture(scope="module")
def scan_run(tiny_scan: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of it that knows colours."""
    with pytest.MonkeyPatch.context() as patch:
        register(patch, tmp_path_factory.mktemp("cache"))
        made = tmp_path_factory.mktemp("runs") / "scan"
        return train_scene(tiny_scan, make_config("cpu", flags=flags(steps=5)), output_dir=made).folder


@pytest.fixture
def knows(scan_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, with its encoders, which now know furniture by its colour."""
    register(monkeypatch, tmp_path / "cache")
    for word, colour in (("floor", "sand"), ("chair", "red"), ("table", "blue")):
        monkeypatch.setitem(WORDS, word, WORDS[colour])
    return scan_run


def test_a_run_of_a_scan_is_measured_from_end_to_end(knows: Path, tiny_scan: Path, cli: Cli, tmp_path: Path) -> None:
    names = [*SEGMENTATION_PROTOCOLS, "scannet-instance-ap", "replica-instance-ap", "scannet-200-instance-ap"]
    asked = ("eval", knows, "--protocol", ",".join(names))
    done = cli(*asked, "--json", "--table", "table.csv")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["metric"] is True and told["metres_per_unit"] == 1
    for name in SEGMENTATION_PROTOCOLS:
        assert set(told[name]) == {"scene"} and told[name]["scene"]["protocol"] == "vertices"
        assert told[name]["scene"]["completeness"] > 0.95, "the run lies where the mesh does"
    assert told["scannet-20"]["scene"]["miou"] > 0.75 and told["scannet-20"]["scene"]["accuracy"] > 0.9
    assert set(told["scannet-20"]["scene"]["iou"]) == {"floor", "chair", "table"}
    assert told["replica"]["scene"]["miou"] > 0.6 and told["scannet-19"] == told["scannet-20"]
    assert told["scannet-instance-ap"]["scene"]["true_instances"] == 2
    with (tmp_path / "table.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert float(row["scannet-20.scene.miou"]) == told["scannet-20"]["scene"]["miou"]
    assert "scannet-instance-ap.scene.ap_50" in row
    drawn = cli(*asked, "--labels", tiny_scan).stdout
    for words in ("protocol scannet-20", "protocol replica-instance-ap", "iou of chair", "split_miou of head"):
        assert words in drawn


def test_labels_of_another_frame_or_of_nothing_are_refused(knows: Path, cli: Cli, tmp_path: Path) -> None:
    xyz, shown = tiny_vertices()
    far = write_scannet_labels(
        tmp_path / SCAN, xyz + 100, np.array([0, 2, 5, 7])[shown], {"chair": [shown == 2], "table": [shown == 3]}
    )
    for name in ("scannet-20", "scannet-200", "scannet-instance-ap"):
        done = cli("eval", knows, "--protocol", name, "--labels", far)
        assert done.returncode == 2 and "No labelled vertex is near the run's surface" in done.stderr
    for name, words in (("scannet-20", "_vh_clean_2.labels.ply"), ("replica", "mesh_semantic.ply")):
        done = cli("eval", knows, "--protocol", name, "--labels", tmp_path)
        assert done.returncode == 2 and words in done.stderr and "Traceback" not in done.stderr
