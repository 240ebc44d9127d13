"""Protocols on a run: tiny scenes labelled in every layout, and a synthetic room whose truth is its own answer."""

import json
import shutil
import signal
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from colours import true_labels, with_label_images, with_masks, with_polygons
from commands import Cli
from PIL import Image
from tiny import camera_to_world

from ovseg3d.errors import ConfigError, SceneError
from ovseg3d.evaluate import measure
from ovseg3d.evaluate.metrics.consistency import ConsistencyScores
from ovseg3d.evaluate.metrics.lerf import LerfParameters
from ovseg3d.evaluate.papers import measure_lerf, measure_ovs3d
from ovseg3d.evaluate.protocols import PROTOCOLS, Evaluator
from ovseg3d.field.surface import Surface
from ovseg3d.points.basis import Basis
from ovseg3d.points.semantic_scene import EncoderFacts, SemanticScene
from ovseg3d.query.engine import QueryEngine
from ovseg3d.runs.config import Config
from ovseg3d.runs.folder import RunFolder
from ovseg3d.scene import load_scene
from ovseg3d.synth import Views, surface_cloud, synthesise
from ovseg3d.synth.cloud import instance_images
from ovseg3d.synth.render import DRAFT


@pytest.fixture(scope="module")
def labelled(tiny_scene: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tiny scene with label images."""
    folder = Path(shutil.copytree(tiny_scene, tmp_path_factory.mktemp("labelled") / "tiny"))
    return with_label_images(folder)


def test_index_tells_held_out_and_training_views_apart(run: RunFolder, labelled: Path, cli: Cli) -> None:
    told = json.loads(cli("eval", run.folder, "--scene", labelled, "--protocol", "index", "--json").stdout)
    assert told["metric"] is True and told["metres_per_unit"] == 1
    assert set(told["index"]) == {"held-out"} and told["index"]["held-out"]["protocol"] == "index"
    assert told["index"]["held-out"]["accuracy"] > 0.85 and told["index"]["held-out"]["miou"] > 0.6
    assert run.metrics()["miou"] == told["index"]["held-out"]["miou"]
    both = json.loads(
        cli("eval", run.folder, "--scene", labelled, "--protocol", "index", "--views", "all", "--json").stdout
    )
    assert both["index"]["held-out"] == told["index"]["held-out"] and set(both["index"]) == {"held-out", "train"}
    assert both["index"]["train"]["pixels"] == 3 * both["index"]["held-out"]["pixels"], "6 views and 2"
    drawn = cli("eval", run.folder, "--scene", labelled, "--protocol", "index,consistency,absence").stdout
    for words in ("protocol index", "protocol consistency", "protocol absence", "One confusion matrix", "held-out"):
        assert words in drawn


def test_labels_of_another_size_are_brought_to_the_render(run: RunFolder, tiny_scene: Path, tmp_path: Path) -> None:
    folder = with_label_images(Path(shutil.copytree(tiny_scene, tmp_path / "tiny")), size=96)
    evaluator = Evaluator(QueryEngine(run, load_scene(folder)))
    scores = evaluator.scores(["index"])["index"]["held-out"]
    assert scores.pixels == 2 * 32 * 32 and scores.accuracy > 0.85
    assert evaluator._labeller("images/0000.png").dtype == np.int16, "of every view, so they are kept in few bytes"


def test_what_nobody_labelled_counts_neither_way(run: RunFolder, tiny_scene: Path, tmp_path: Path) -> None:
    """255 in 8 bits without a word about it; other numbers stand for classes, gaps between them or not."""
    folder = with_label_images(Path(shutil.copytree(tiny_scene, tmp_path / "tiny")))
    described = json.loads((folder / "transforms.json").read_text())
    described["classes"] = {str(10 * int(number)): name for number, name in described["classes"].items()}
    for view, frame in enumerate(described["frames"]):
        labels = 10 * true_labels(camera_to_world(view))
        labels[:4] = 255
        Image.fromarray(labels).save(folder / frame["label_file_path"])
    path = folder / "transforms.json"
    path.write_text(json.dumps(described))
    evaluator = Evaluator(QueryEngine(run, load_scene(folder)))
    scores = evaluator.scores(["index"])["index"]["held-out"]
    assert scores.pixels == 2 * 28 * 32 and scores.accuracy > 0.85
    assert set(measure.shown_classes(evaluator.scene)) == set(described["classes"].values())
    del described["classes"]["20"]
    path.write_text(json.dumps(described))
    with pytest.raises(SceneError, match="Label 20 is none") as caught:
        Evaluator(QueryEngine(run, load_scene(folder))).scores(["index"])
    assert caught.value.where == folder / "labels" / "0000.png"
    path.write_text(json.dumps(described | {"ignore_label": 20}))
    with pytest.raises(SceneError, match="Label 255 is none"):
        Evaluator(QueryEngine(run, load_scene(folder))).scores(["index"])


def test_groups_without_label_images_are_left_out(run: RunFolder, tiny_scene: Path, tmp_path: Path, cli: Cli) -> None:
    folder = with_label_images(Path(shutil.copytree(tiny_scene, tmp_path / "tiny")))
    path = folder / "transforms.json"
    described = json.loads(path.read_text())
    for view, frame in enumerate(described["frames"]):
        if view not in (1, 2):
            del frame["label_file_path"]
    path.write_text(json.dumps(described))
    index = ("eval", run.folder, "--scene", folder, "--protocol", "index")
    told = json.loads(cli(*index, "--views", "all", "--json").stdout)["index"]
    assert set(told) == {"train"} and told["train"]["pixels"] == 2 * 32 * 32
    done = cli(*index)
    assert done.returncode == 2 and "No held-out view has a label image" in done.stderr and "--views all" in done.stderr


def test_3d_ovs_reads_its_layout_and_takes_the_argmax(run: RunFolder, tiny_scene: Path, tmp_path: Path) -> None:
    folder = with_masks(Path(shutil.copytree(tiny_scene, tmp_path / "tiny")), (0, 3))
    engine = QueryEngine(run, load_scene(folder))
    found = measure_ovs3d(engine, {"held-out": engine.scene.test, "train": engine.scene.train})
    assert set(found["held-out"].iou) == {"images/0000.png"} and set(found["train"].iou) == {"images/0003.png"}
    # The truth leaves the sky to nobody, and every pixel of it counts against whatever class it is given.
    sky = float((true_labels(camera_to_world(0)) == 0).mean())
    assert 0.8 * (1 - sky) < found["held-out"].accuracy <= 1 - sky
    elsewhere = with_masks(tmp_path / "elsewhere", (0,))
    for labels in (elsewhere, elsewhere / "segmentations"):
        again = measure_ovs3d(engine, {"held-out": engine.scene.test}, labels)
        assert again["held-out"].miou == found["held-out"].miou
    with pytest.raises(ConfigError, match="No train view has labels"):
        measure_ovs3d(engine, {"train": engine.scene.train}, elsewhere)
    with pytest.raises(SceneError, match="layout of 3D-OVS"):
        measure_ovs3d(engine, {"train": engine.scene.train}, tmp_path)


def test_3d_ovs_compares_each_mask_with_its_own_photo(run: RunFolder, tiny_scene: Path, tmp_path: Path) -> None:
    """Photos that are gone or have no pose count too."""
    folder = with_masks(Path(shutil.copytree(tiny_scene, tmp_path / "tiny")), (3, 4))
    (folder / "images" / "0001.png").unlink()
    described = json.loads((folder / "transforms.json").read_text())
    del described["frames"][2]
    (folder / "transforms.json").write_text(json.dumps(described))
    engine = QueryEngine(run, load_scene(folder))
    groups = {"held-out": engine.scene.test, "train": engine.scene.train}
    for labels in (None, with_masks(tmp_path / "elsewhere", (3, 4))):
        found = measure_ovs3d(engine, groups, labels)
        assert set(found["train"].iou) == {"images/0003.png"} and set(found["held-out"].iou) == {"images/0004.png"}
        assert found["train"].iou["images/0003.png"]["red box"] > 0.5
    (folder / "segmentations" / "08").mkdir()
    with pytest.raises(SceneError, match="08 belong to no photo: there are 8") as caught:
        measure_ovs3d(engine, groups)
    assert caught.value.where == folder / "segmentations" and "back beside" in caught.value.fix


def test_lerf_localises_and_segments_by_relevancy(run: RunFolder, tiny_scene: Path, tmp_path: Path, cli: Cli) -> None:
    folder = Path(shutil.copytree(tiny_scene, tmp_path / "lerf_ovs" / "tiny"))
    labels = with_polygons(tmp_path / "lerf_ovs" / "label" / "tiny", (0, 1))
    told = json.loads(
        cli("eval", run.folder, "--scene", folder, "--protocol", "lerf", "--views", "all", "--json").stdout
    )
    assert set(told["lerf"]) == {"held-out", "train"}
    for scores in told["lerf"].values():
        assert len(scores["units"]) == 2 and scores["resized_frames"] == 1 and scores["parameters"]["box"] == 30
    # The paper's windows are as large as these pictures; with small ones the boxes are found.
    engine, small = QueryEngine(run, load_scene(folder)), LerfParameters(box=3, majority=3)
    for views in (engine.scene.test, engine.scene.train):
        found = measure_lerf(engine, {"some": views}, labels, small)["some"]
        assert found.localisation == 1 and found.miou > 0.4
    stranger = with_polygons(tmp_path / "stranger", (7,))
    described = json.loads((stranger / "0007.json").read_text())
    described["info"]["name"] = "0099.jpg"
    (stranger / "0007.json").write_text(json.dumps(described))
    done = cli("eval", run.folder, "--protocol", "lerf", "--labels", stranger)
    assert done.returncode == 2 and "no photo 0099.jpg" in done.stderr
    done = cli("eval", run.folder, "--protocol", "lerf")
    assert done.returncode == 2 and "--labels" in done.stderr


def test_agreement_counts_views_that_see_a_point_and_what_they_call_it(run: RunFolder) -> None:
    engine = QueryEngine(run)
    scene, learnt, views = engine.scene, engine.semantics, engine.scene.train
    number = {scene.frames[view].name: view for view in views}

    def said(labeller: measure.Labeller) -> ConsistencyScores:
        return measure.measure_agreement(scene, learnt, labeller, engine.depth, views)

    one, each = said(lambda view: np.ones((32, 32), int)), said(lambda view: np.full((32, 32), number[view]))
    assert one.all_agree == one.pairs_agree == 1 and each.pairs_agree == 0
    assert 0.5 * len(learnt.surface) < one.points == each.points <= len(learnt.surface)
    # What each view really shows: labels of another size than the depth are looked up at the same place.
    true = said(lambda view: true_labels(camera_to_world(number[view]), 64).astype(int))
    assert true.pairs_agree > 0.9
    # A point behind an instance is not seen, whatever is called what there.
    hidden = measure.measure_agreement(scene, learnt, lambda view: np.ones((32, 32), int), near_wall, views)
    assert hidden.points == 0


def near_wall(view: str) -> np.ndarray:
    """Depth of a wall right before the camera."""
    return np.full((32, 32), 0.1)


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny synthetic playroom, half of its instances in a style of the holdout."""
    folder = tmp_path_factory.mktemp("rooms") / "playroom"
    synthesise(folder, room="playroom", views=Views(train=6, test=2, width=48, height=36), detail=DRAFT)
    instances = json.loads((folder / "objects.json").read_text())
    for instance in instances:
        instance["seen"] = instance["id"] % 2 == 0
    (folder / "objects.json").write_text(json.dumps(instances))
    return folder


class Knows(QueryEngine):
    """Whose surface is the exact one, with the labels and instances that it is given."""

    def __init__(self, scene, cloud, label: np.ndarray, instance: np.ndarray) -> None:  # noqa: ANN001
        count = len(cloud.xyz)
        surface = Surface(
            cloud.xyz.astype(np.float32), cloud.normal.astype(np.float32), cloud.rgb, np.ones(count, np.float32),
            np.full(count, 0.05, np.float32), np.array([0.0, 0.0, 1.0]), True,
        )  # fmt: skip
        basis = Basis(np.eye(4, dtype=np.float32), 0.0)
        facts = EncoderFacts("colours", "colours", "0" * 16, 10.0)
        zeros = np.zeros((count, 4), np.float32)
        semantics = SemanticScene(surface, basis, zeros, np.ones(count, np.float32), instance, facts)
        super().__init__(RunFolder(scene.path, Config(), scene.path, "playroom", ""), scene, semantics=semantics)
        self._label, self._truth = label, true_pictures(scene)

    def labels(self, phrases, canonical=(), none=True):  # noqa: ANN001, ANN202
        return self._label

    def ask(self, phrases):  # noqa: ANN001, ANN202
        (phrase,) = phrases
        return [
            SimpleNamespace(point_index=np.flatnonzero(self._label == measure.classes_of(self.scene).index(phrase) + 1))
        ]

    def label_image(self, phrases, view, canonical=(), none=True):  # noqa: ANN001, ANN202
        return self._truth[view]


def true_pictures(scene) -> dict[str, np.ndarray]:  # noqa: ANN001
    return {scene.frames[v].name: measure.true_labels(scene, v) for v in scene.test + scene.train}


def test_the_truth_of_a_room_has_full_marks_and_styles_are_told_apart(room: Path) -> None:
    scene, cloud = load_scene(room), surface_cloud(room, points=20_000)
    assert cloud.classes == measure.classes_of(scene)
    knows = Knows(scene, cloud, cloud.label.copy(), cloud.instance.astype(np.int32))
    found = Evaluator(knows, "all").scores(["index", "points", "instances", "instance-ap", "selection"])
    styles = ["seen styles", "unseen styles"]
    assert list(found["points"]) == list(found["instances"]) == ["scene", *styles]
    assert {f"train, {name}" for name in styles} < set(found["index"]) and len(found["index"]) == 6
    assert all(scores.miou == scores.accuracy == 1 for scores in found["index"].values())
    both = sum(found["index"][f"train, {name}"].pixels for name in styles)
    assert 0 < both < found["index"]["train"].pixels, "the room itself is of no style"
    assert found["points"]["scene"].point_accuracy > 0.95 and found["instances"]["scene"].recall_50 > 0.9
    selection = found["selection"]["scene"]
    assert selection.miou > 0.85 and selection.acc_50 == 1 and "wall" in selection.iou[scene.name]
    ap = found["instance-ap"]["scene"]
    assert ap.ap_50 == ap.agnostic_ap_50 == 1 and 0.8 < ap.ap < 1, "borders between the samples of two clouds"
    assert ap.true_instances + ap.ignored_instances == found["instances"]["scene"].true_instances
    assert ap.ignored_instances > 0 and not {"wall", "floor"} & set(ap.by_class)
    parts = [found["instances"][name].true_instances for name in styles]
    assert sum(parts) == found["instances"]["scene"].true_instances and min(parts) > 5
    assert found["instances"]["scene"].labelled_recall_50 > 0.9


def test_styles_are_seen_from_where_photos_are_said_to_be(room: Path) -> None:
    """As their label images are, also where training moved the cameras."""
    scene, cloud = load_scene(room), surface_cloud(room, points=2_000)
    knows = Knows(scene, cloud, cloud.label.copy(), cloud.instance.astype(np.int32))
    plain = Evaluator(knows, "train").scores(["index"])["index"]
    frames = list(scene.frames)
    for view in scene.train:
        frames[view] = replace(frames[view], camera=frames[scene.train[0]].camera)
    knows.views.__dict__["scene"] = replace(scene, frames=tuple(frames))
    moved = Evaluator(knows, "train").scores(["index"])["index"]
    assert len(moved) == 3 and {name: one.pixels for name, one in moved.items()} == {
        name: one.pixels for name, one in plain.items()
    }


def test_a_style_that_is_got_wrong_shows_in_its_own_figures(room: Path) -> None:
    scene, cloud = load_scene(room), surface_cloud(room, points=20_000)
    odd = cloud.instance % 2 == 1
    label, instance = np.where(odd, 1, cloud.label), np.where(odd, 0, cloud.instance).astype(np.int32)
    found = Evaluator(Knows(scene, cloud, label, instance)).scores(["points", "instances", "instance-ap", "selection"])
    assert found["instances"]["seen styles"].recall_50 > 0.9 and found["instances"]["unseen styles"].recall_50 == 0
    for style in ("seen styles", "unseen styles"):
        told = found["instances"][style].as_dict()
        assert told["precision_25"] is told["labelled_precision_50"] is told["count_error"] is None
        assert told["counts"] == {} and told["recall_25"] is not None, "of a part of the things only recall is known"
    assert found["instances"]["scene"].precision_50 > 0.9 and found["instances"]["scene"].counts
    assert 0.1 < found["selection"]["scene"].acc_50 < 0.9 and found["selection"]["scene"].miou < 0.9
    assert 0.2 < found["instance-ap"]["scene"].agnostic_ap_50 < 0.8, "the odd half is missed"
    assert found["points"]["seen styles"].point_accuracy > 0.9 and found["points"]["unseen styles"].point_accuracy < 0.1


def test_instance_images_agree_with_label_images(room: Path) -> None:
    scene = load_scene(room)
    kinds = {instance["id"]: instance["category"] for instance in measure.read_objects(scene)}
    number = {name: i for i, name in enumerate(measure.classes_of(scene), start=1)}
    of = np.array([0, *(number[kinds[i]] for i in sorted(kinds))])
    views = scene.test[:1]
    (image,) = instance_images(room, [scene.frames[views[0]].camera])
    labels = measure.true_labels(scene, views[0])
    assert (image > 0).any() and (of[image] == labels)[image > 0].all()


@pytest.mark.parametrize(
    ("protocol", "method"),
    [
        ("index", "label_image"),
        ("consistency", "label_image"),
        ("absence", "decide"),
        ("3d-ovs", "label_image"),
        ("lerf", "relevancy"),
    ],
)
def test_ctrl_c_ends_a_protocol_after_the_current_view_or_phrase(
    protocol: str,
    method: str,
    run: RunFolder,
    tiny_scene: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cli: Cli,
) -> None:
    folder = with_label_images(Path(shutil.copytree(tiny_scene, tmp_path / "data" / "tiny")))
    with_masks(folder, (0, 1, 2))
    with_polygons(tmp_path / "data" / "label" / "tiny", (0, 1, 2))
    before, asked, answer = run.metrics(), [], getattr(QueryEngine, method)

    def interrupted(*arguments: object, **options: object) -> object:
        asked.append(protocol)
        if len(asked) == 1:
            signal.raise_signal(signal.SIGINT)
        return answer(*arguments, **options)

    monkeypatch.setattr(QueryEngine, method, interrupted)
    flags = ("--scene", folder, "--protocol", protocol, "--views", "all", "--output", tmp_path / "figures.json")
    done = cli("eval", run.folder, *flags, "--json")
    assert done.returncode == 130 and done.stdout == "" and len(asked) == 1
    assert not (tmp_path / "figures.json").exists() and run.metrics() == before


@pytest.mark.parametrize(
    ("protocol", "measured"), [("points", "measure_cloud"), ("instances", "measure_run_instances")]
)
def test_nothing_starts_after_a_stop(protocol: str, measured: str, room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scene, cloud, stop, told = load_scene(room), surface_cloud(room, points=2_000), threading.Event(), []

    def interrupted(*_: object, **options: object) -> None:
        told.append(options["instances"])
        stop.set()

    monkeypatch.setattr(measure, measured, interrupted)
    evaluator = Evaluator(Knows(scene, cloud, cloud.label.copy(), cloud.instance.astype(np.int32)), stop=stop)
    with pytest.raises(KeyboardInterrupt):
        evaluator.scores([protocol])
    assert told == [None], "the whole scene, and no style"
    with pytest.raises(KeyboardInterrupt):
        evaluator.scores(["lerf"])  # it would find no labels


def test_flags_that_would_do_nothing_are_refused(run: RunFolder, cli: Cli, tmp_path: Path) -> None:
    for flags, words in (
        (("--labels", tmp_path), "--labels"),
        (("--protocol", "index", "--labels", tmp_path), "--labels"),
        (("--config", tmp_path / "c.yaml"), "--config"),
        (("--seeds", "0,1", "--scene", tmp_path), "--scene"),
    ):
        done = cli("eval", run.folder, *flags)
        assert done.returncode == 2 and words in done.stderr and "no effect" in done.stderr


def test_every_protocol_is_offered_and_says_what_it_lacks(run: RunFolder, cli: Cli) -> None:
    from ovseg3d.cli import eval as command

    assert set(command.PROTOCOLS) == {"field", *PROTOCOLS}
    for name in sorted(PROTOCOLS):
        done = cli("eval", run.folder, "--protocol", name)
        assert done.returncode == 2 and "Traceback" not in done.stderr, name
