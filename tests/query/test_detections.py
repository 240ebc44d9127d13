"""Detections of a run: the head runs once, and what it says reaches names, fronts and lengths."""

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from query.test_similarity import furniture
from scipy.spatial.transform import Rotation

from ovseg3d.cli.detect import _facing
from ovseg3d.errors import ConfigError
from ovseg3d.export import detections as export_detections
from ovseg3d.export.detections import draw_birds_eye
from ovseg3d.geometry import to_wxyz
from ovseg3d.heads.detection import Candidate, DetectedScene, Detection, Detector, Frame
from ovseg3d.heads.pose import likely_front
from ovseg3d.instances.kept_poses import save_poses
from ovseg3d.query import detections
from ovseg3d.query.answer import Answer, Criteria
from ovseg3d.query.decision import Decision
from ovseg3d.query.engine import QueryEngine
from ovseg3d.query.relations.run_items import AskedItems, seen_side
from ovseg3d.runs.config import Config
from ovseg3d.runs.folder import RunFolder
from ovseg3d.runs.phrases import keep_phrases
from ovseg3d.viewer.scene_nodes import front_arrow

FRONT = (1.0, 0.0, 0.0)
SOFA, MUG = np.arange(200), np.arange(200, 400)
"""Their points in `furniture`; a front is along the sofa's length."""


def detection(points: np.ndarray, front: tuple[float, float, float] | None = FRONT) -> Detection:
    yaw = np.full(24, 1 / 24) if front is None else np.eye(24)[6]
    return Detection(
        (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), (1.0, 0.0, 0.0, 0.0), 0.0, 0 if front is None else 1, front, 0.9,
        yaw, points, np.ones(4), (),
    )  # fmt: skip


def answered(**facts: Any) -> Answer:
    """What the decision says of a noun; by default that it is not there."""
    none = np.empty(0)
    made = Answer(
        "", False, 0.0, None, False, 0.5, None, points=none.reshape(0, 3), point_scores=none,
        point_index=none.astype(int), relevancy=none,
    )  # fmt: skip
    return replace(made, **facts)


@pytest.fixture
def head(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """A head that finds the sofa with a front and a mug without; the arguments of each time that it ran."""
    ran: list[dict[str, Any]] = []

    def detect_scene(cloud: Any, detector: Any, **arguments: Any) -> DetectedScene:
        ran.append(arguments)
        bear = (Candidate("bear", 0.4),)
        found = (replace(one, candidates=bear) for one in (detection(SOFA), replace(detection(MUG, None), score=0.1)))
        return DetectedScene(tuple(found), Frame(arguments["up"], arguments["metres_per_unit"] or 1.0, ()))

    monkeypatch.setattr(detections, "detect_scene", detect_scene)
    return ran


def test_the_head_runs_once_for_boxes_and_fronts(tmp_path: Path, head: list) -> None:
    engine = furniture(tmp_path, 0.01)
    assert [one.label for one in engine.detect(["sofa", "mug"]).detections] == ["sofa", "mug"]
    sofa, mug = engine.relations.items.space.items
    facing, round_ = engine.relations.items.front(sofa), engine.relations.items.front(mug)
    assert facing is not None and facing.tolist() == [1.0, 0.0] and round_ is None
    assert engine.detect().detections[0].front == FRONT
    assert len(head) == 1 and head[0]["metres_per_unit"] == engine.metres == 0.01
    assert [one.label for one in engine.detect("sofa; mug").detections] == ["sofa", "mug"], "a text with semicolons"
    with pytest.raises(ConfigError, match="no phrases"):
        engine.detect("")
    engine.detect(metres_per_unit=1.0)
    assert [one["metres_per_unit"] for one in head] == [0.01, 1.0]


def test_what_is_none_of_the_given_names_is_left_out(
    tmp_path: Path, head: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_phrases(tmp_path, ("sofa", "red mug"))
    engine = furniture(tmp_path, 0.01)
    sofa = np.zeros(len(engine.semantics.instance), np.int64)
    sofa[detection(SOFA).points] = 1
    monkeypatch.setattr(engine.label_model, "labels", lambda names: sofa)
    assert [one.label for one in engine.detect(["sofa"]).detections] == ["sofa"]
    found = engine.detect().detections
    assert [one.label for one in found] == ["sofa", None], "nothing is left out, and the head's name is no name"
    keep_phrases(tmp_path, ())
    assert [one.label for one in engine.detect().detections] == ["bear", "bear"], "no phrases: the head's own names"


def test_kept_poses_have_the_last_word_about_fronts_and_boxes(
    tmp_path: Path, head: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_phrases(tmp_path, ("sofa", "red mug"))
    engine = furniture(tmp_path, 1.0, {"sofa": (2.0, 0.8, 0.8), "red mug": (0.1, 0.1, 0.1)})
    turn = Rotation.from_euler("z", 0.3)
    front = tuple(turn.apply([0.0, -1.0, 0.0]))
    pose = {"rotation_wxyz": to_wxyz(turn), "score": 0.8, "source": "fused"}
    round_ = {**pose, "front": None, "symmetry_order": 0}
    kept = {1: {**pose, "front": front, "symmetry_order": 1}, 2: round_}
    save_poses(tmp_path, engine.semantics.instance, kept)
    sofa, mug = engine.relations.items.space.items
    assert engine.relations.items.front(sofa) == pytest.approx(front[:2], abs=1e-6)
    assert engine.relations.items.front(mug) is None
    monkeypatch.setattr(Decision, "answer", lambda *_: answered())
    (found,) = engine.relations.answer("the largest sofa", Criteria()).instances
    assert found.rotation_wxyz == pytest.approx(to_wxyz(turn)) and found.pose is not None
    save_poses(tmp_path, engine.semantics.instance, {1: round_})
    fresh = QueryEngine(engine.run, None, "cpu", semantics=engine.semantics)
    assert fresh.detections.of_instances[1].front == FRONT
    assert fresh.relations.items.front(replace(sofa, label="sofa")) is None, "the pose says that it has no front"


@pytest.mark.parametrize(
    ("changed", "believed"),
    [
        ({}, True), ({"yaw_probabilities": np.full(24, 1 / 24)}, False), ({"symmetry_probability": 0.4}, False),
        ({"yaw_probabilities": 0.6 * np.eye(24)[6] + 0.4 / 24, "symmetry_probability": 0.7}, False),
    ],
)  # fmt: skip
def test_a_front_that_is_likelier_wrong_than_right_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: dict[str, Any], believed: bool
) -> None:
    """The head gives a ball a front, too; "left of the ball" must ask for a view all the same."""
    keep_phrases(tmp_path, ("sofa", "ball"))
    engine = furniture(tmp_path, 1.0, {"sofa": (2.0, 0.8, 0.8), "ball": (0.2, 0.2, 0.2)})
    ball = replace(detection(MUG), **changed)
    assert (likely_front(ball) is not None) == believed and (_facing(ball) != "?") == believed
    frame, drawn = Frame((0.0, 0.0, 1.0), 1.0, ()), []
    monkeypatch.setattr(export_detections, "draw_from_above", lambda _, __, objects, *___: drawn.extend(objects))
    draw_birds_eye(tmp_path / "picture.png", engine.semantics.surface.cloud, DetectedScene((ball,), frame), "")
    assert (drawn[0].front is not None) == believed
    monkeypatch.setattr(detections, "detect_scene", lambda *_, **__: DetectedScene((ball,), frame))
    monkeypatch.setattr(Decision, "answer", lambda *_: answered())
    assert ball.front == FRONT and (front_arrow(ball) is not None) == believed
    words = r'"left of" needs a view: which way the ball faces is not known'
    with nullcontext() if believed else pytest.raises(ConfigError, match=words):
        answer = engine.relations.answer("the sofa left of the ball", Criteria())
        assert answer.relation is not None and answer.relation.kind == "left of"


@pytest.mark.parametrize(("score", "front"), [(0.6, True), (0.4, False)])
def test_so_is_that_of_a_kept_pose(tmp_path: Path, head: list, score: float, front: bool) -> None:
    engine = furniture(tmp_path, 1.0)
    pose = {"rotation_wxyz": [1, 0, 0, 0], "front": [0, -1, 0], "symmetry_order": 1, "score": score, "source": "fused"}
    save_poses(tmp_path, engine.semantics.instance, {1: pose})
    sofa, _ = engine.relations.items.space.items
    assert (engine.relations.items.front(replace(sofa, label="sofa")) is not None) == front


def test_the_objects_of_a_run_are_its_instances(tmp_path: Path, head: list) -> None:
    engine = furniture(tmp_path, 1.0)
    assert set(engine.detections.of_instances) == {1, 2}
    assert (head[0]["instance"] == engine.semantics.instance).all()
    assert len(engine.detect().detections) == 2, "whatever their score"
    assert not engine.detect(detector=Detector(min_score=0.95)).detections
    assert len(engine.detect(detector=Detector(min_score=0.3)).detections) == 1
    assert set(engine.detections.of_instances) == {1, 2}
    engine.semantics.instance[:] = 0
    fresh = QueryEngine(engine.run, None, "cpu", semantics=engine.semantics)
    assert len(fresh.detect().detections) == 2, "what the head finds, where there are none"
    assert head[-1]["instance"] is None and not fresh.detections.of_instances


@pytest.mark.parametrize(("metres", "unit"), [(1.0, "m"), (0.01, "units")])
def test_lengths_are_metres_only_where_a_unit_is_one(tmp_path: Path, metres: float, unit: str, head: list) -> None:
    space = furniture(tmp_path, metres).relations.space(None)
    assert space.unit == unit and space.metre == pytest.approx(1 / metres)


def test_pieces_of_one_object_are_one_item(tmp_path: Path, head: list) -> None:
    """Of the sofa, 2 m long, the right half is an instance of its own."""
    learnt = furniture(tmp_path, 1.0).semantics
    left = learnt.surface.xyz[SOFA, 0] < np.median(learnt.surface.xyz[SOFA, 0])
    learnt.instance[SOFA[~left]] = 3
    engine = QueryEngine(RunFolder(tmp_path, Config(), tmp_path, "room", ""), None, "cpu", semantics=learnt)
    (sofa,) = engine.relations.items.joined("sofa", [1, 3], {1: 0.6, 3: 0.9})
    assert sofa.members == (1, 3) and sofa.score == 0.9 and sofa.length == pytest.approx(2.0, abs=0.2)
    assert len(engine.relations.items.joined("sofa", [1, 2])) == 2, "these do not touch"


def test_a_small_piece_joins_the_two_large_ones_beside_it(tmp_path: Path, head: list) -> None:
    learnt = furniture(tmp_path, 1.0).semantics
    low, high = np.quantile(learnt.surface.xyz[SOFA, 0], [0.4, 0.6])
    learnt.instance[SOFA[learnt.surface.xyz[SOFA, 0] > low]] = 4
    learnt.instance[SOFA[learnt.surface.xyz[SOFA, 0] > high]] = 3
    engine = QueryEngine(RunFolder(tmp_path, Config(), tmp_path, "room", ""), None, "cpu", semantics=learnt)
    items = engine.relations.items
    assert len(items.joined("sofa", [1, 3])) == 2, "the ends do not touch"
    (sofa,) = items.joined("sofa", [1, 3, 4])
    assert set(sofa.members) == {1, 3, 4} and sofa.length == pytest.approx(2.0, abs=0.2)


def test_a_noun_of_the_runs_phrases_is_there(tmp_path: Path, head: list, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both instances have other names, and still one of them is the likeliest cup."""
    keep_phrases(tmp_path, ("sofa", "red mug", "a cup"))
    engine = furniture(tmp_path, 1.0, {"sofa": (2.0, 0.8, 0.8), "red mug": (0.1, 0.1, 0.1)})
    engine.texts._vectors["a cup"] = np.array([0.0, 0.6, 0.0, 0.8], np.float32)  # pyright: ignore[reportPrivateUsage]
    run = engine.relations.items
    asked = {noun: run.likeliest(noun) for noun in ("sofa", "mug", "red mug", "blue mug", "cup")}
    assert asked == {"sofa": [1], "mug": [2], "red mug": [2], "blue mug": [], "cup": [2]}
    monkeypatch.setattr(Decision, "answer", lambda *_: answered())
    for alternatives, found in ((None, [2]), ((), [])):
        items = AskedItems(run, engine.decision, Criteria(alternatives=alternatives), run.space).find("mug")
        assert [one.id for one in items] == found and all(one.score == 0.5 for one in items)
    guessed = engine.relations.answer("the largest mug", Criteria())
    assert guessed.relation is not None and "the mug is a guess" in guessed.relation.text
    for doubt in ("how many mugs are there?", "is there a mug on the sofa?"):
        assert not engine.relations.answer(doubt, Criteria()).instances, "these ask whether it is there"
    keep_phrases(tmp_path, ("red mug",))
    alone = QueryEngine(engine.run, None, "cpu", semantics=engine.semantics)
    alone.texts._vectors.update(engine.texts._vectors)  # pyright: ignore[reportPrivateUsage]
    assert alone.relations.items.likeliest("red mug") == [2], "not the larger one"
    engine.semantics.instance[:] = 0
    fresh = QueryEngine(engine.run, None, "cpu", semantics=engine.semantics)
    assert (
        not fresh.relations.items.likeliest("mug") and not fresh.relations.answer("the largest mug", Criteria()).present
    )


def test_a_rejected_fragment_stands_in_where_no_instance_is_meant(
    tmp_path: Path, head: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    learnt = furniture(tmp_path, 1.0).semantics
    instance = np.where(np.arange(400) < 200, 1, 0).astype(np.int32)
    learnt = replace(learnt, instance=instance, pieces=np.repeat([1, 2], 200).astype(np.int32))
    engine = QueryEngine(RunFolder(tmp_path, Config(), tmp_path, "room", ""), None, "cpu", semantics=learnt)
    relevancy = np.where(np.isin(np.arange(400), MUG[:150]), 0.9, 0.0)
    monkeypatch.setattr(Decision, "answer", lambda *_: answered(present=True, relevancy=relevancy))
    answer = engine.relations.answer("the largest mug", Criteria())
    (mug,) = answer.instances
    assert mug.id == 2 and mug.n_points == 200 and set(answer.point_index) == set(MUG)
    assert mug.center == pytest.approx(learnt.surface.xyz[MUG].mean(0), abs=0.02)
    monkeypatch.setattr(Decision, "answer", lambda *_: answered(relevancy=relevancy))
    assert not engine.relations.answer("the largest mug", Criteria()).instances


def test_an_instance_that_is_meant_counts_though_its_mean_relevancy_is_low(
    tmp_path: Path, head: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = furniture(tmp_path, 1.0)
    instance = engine.semantics.instance
    low = np.where((instance == 1) & (np.arange(len(instance)) % 5 < 3), 0.5, 0.0)
    monkeypatch.setattr(Decision, "answer", lambda *_: replace(answered(present=True), relevancy=low))
    answer = engine.relations.answer("the largest sofa", Criteria())
    assert answer.present and [one.id for one in answer.instances] == [1]


def test_a_flat_upright_thing_faces_the_side_that_is_seen() -> None:
    rng = np.random.default_rng(0)
    noise = 0.2 * rng.normal(size=(500, 3))
    for normals, facing in (
        (np.array([0.0, -1.0, 0.0]) + noise, True),
        (rng.normal(size=(500, 3)), False),
        (np.array([0.2, 0.0, 1.0]) + noise, False),
    ):
        seen = seen_side(normals / np.linalg.norm(normals, axis=1, keepdims=True))
        assert (seen is not None) == facing and (seen is None or seen @ [0, -1] > 0.99)
