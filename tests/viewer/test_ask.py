"""Queries, clicks and camera flights of sessions, without a browser, on playroom with known instances."""

import json
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from playroom import EYE, INSTANCES, inside, is_taken

from ovseg3d.cli import main
from ovseg3d.encoders import TextImageEncoder, load_clip
from ovseg3d.errors import ConfigError
from ovseg3d.geometry import from_wxyz, to_wxyz
from ovseg3d.instances.kept_poses import FILE, save_poses
from ovseg3d.query.engine import THRESHOLD
from ovseg3d.viewer import layers
from ovseg3d.viewer.answer_html import hit_text, reply_html, sentence
from ovseg3d.viewer.answers import Question, ask, read_phrases
from ovseg3d.viewer.navigation import fly, stand_to_see
from ovseg3d.viewer.pick import describe, find_spot, members_of
from ovseg3d.viewer.shared_scene import SharedScene
from ovseg3d.viewer.tabs.answer_display import SHOW
from scripts.benchmarks.viewer_client import PATIENCE, Bare, wait_until

# -- asking ----------------------------------------------------------------------------------------------------------


def test_a_phrase_finds_its_instance_and_an_absent_one_is_said_to_be_absent(shared: SharedScene) -> None:
    reply = ask(shared, Question(("teddy bear", "an elephant")), EYE)
    bear, elephant = reply.answers
    assert bear.present and not elephant.present
    assert inside(shared.semantics.surface.xyz[bear.points], INSTANCES["brown teddy bear"]) > 0.95
    assert sentence(elephant) == '"an elephant" is not in this scene.'
    (hit,) = reply.hits
    true = INSTANCES["brown teddy bear"]
    np.testing.assert_allclose(hit.instance.center, true["center"], atol=0.05)
    assert hit.instance.distance == pytest.approx(np.linalg.norm(EYE - true["center"]), abs=0.05)
    points, phrase = reply.found()
    assert set(phrase) == {0} and set(points) == set(bear.points)
    by_labels = replace(reply, answers=tuple(replace(one, calibrated_by="labels") for one in reply.answers))
    assert "Calibrated by the labels of this run" in reply_html(by_labels)
    assert "labels of this run" not in reply_html(reply)


def test_the_viewer_python_and_the_command_line_give_one_answer(
    shared: SharedScene, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    phrases = ("teddy bear", "an elephant", "what is on the desk?", "how many chairs are there?")
    command = ["query", str(shared.run.folder), *phrases, "--views", "none", "--output", str(tmp_path / "q"), "--json"]
    assert main(command) == 0
    printed = json.loads(capsys.readouterr().out)["answers"]
    shown = ask(shared, Question(phrases)).answers
    for phrase, viewed, said in zip(phrases, shown, printed, strict=True):
        asked = shared.run.query(phrase)
        assert viewed.present == asked.present == said["present"], phrase
        assert viewed.score == pytest.approx(asked.score) == said["score"]
        np.testing.assert_array_equal(viewed.points, asked.point_index)
        assert said["n_points"] == len(asked.point_index)
        ids = [instance.id for instance in asked.instances]
        assert [one.id for one in viewed.instances] == ids == [one["id"] for one in said["instances"]]


def test_arrows_show_the_fronts_that_the_run_keeps(connect, shared: SharedScene, errors: list[str]) -> None:
    engine = shared.need_engine()
    chair, laptop = INSTANCES["wooden chair"], INSTANCES["silver laptop"]
    turn = from_wxyz(chair["rotation_wxyz"])
    front = turn.apply([0.0, -1.0, 0.0])
    pose = {"rotation_wxyz": list(to_wxyz(turn)), "front": front.tolist(), "symmetry_order": 1, "score": 0.9,
            "source": "fused"}  # fmt: skip
    save_poses(shared.run.folder, engine.semantics.instance, {chair["id"]: pose})
    try:
        _, session = connect()
        groups, switches = session.context.nodes._groups, session.layers.switches
        session.ask.phrases.value = "wooden chair; silver laptop"
        session.ask.ask_typed()
        assert {hit.instance.id for hit in session.view.reply.hits} == {chair["id"], laptop["id"]}
        switches.instances.value = True
        session.ask.selection.select(EYE, np.subtract(chair["center"], EYE))
        assert session.view.selection.instance.id == chair["id"]
        for group in ("answer", "all", "selection"):
            ((start, end),) = groups[f"{group}-arrows"][0].points
            np.testing.assert_allclose((end - start) / np.linalg.norm(end - start), front, atol=1e-5, err_msg=group)
            away = (start - np.array(chair["center"])) @ front
            assert away == pytest.approx(chair["size"][1] / 2, abs=0.05), group
        switches.instances.value = False
        assert "all-arrows" not in groups and errors == [] and session.context.messages == []
    finally:
        (shared.run.folder / FILE).unlink()


def test_a_question_about_places_is_answered_with_its_reason(connect, errors: list[str]) -> None:
    bare, session = connect()
    session.ask.phrases.value = "what is on the desk?; how many chairs are there?; the bear on the sofa"
    session.ask.ask_typed()
    text, groups = session.ask.answer.content, session.context.nodes._groups
    for said in ("laptop on the desk", "1 chair<br>", "no bear is on the sofa", "is not in this scene"):
        assert said in text, said
    laptop, lamp, chair = (INSTANCES[name] for name in ("silver laptop", "green desk lamp", "wooden chair"))
    hits = session.view.reply.hits
    assert {hit.instance.id for hit in hits} == {laptop["id"], lamp["id"], chair["id"]}
    named = {hit.instance.id: session.view.reply.name_of(hit) for hit in hits}
    assert "laptop" in named[laptop["id"]] and "chair" in named[chair["id"]], "what they are, not what was asked"
    # Boxes, names and highlighted points are those of the instances.
    assert len(groups["answer-names"]) == 3 and len(groups["answer-boxes"][0].points) == 3 * 12
    meant = np.isin(session.context.shared.semantics.instance, [hit.instance.id for hit in hits])
    assert session.context.nodes.highlighted == meant.sum()
    # Left is seen from where the browser looks: the same lamp is right of the laptop from the other side.
    x, y, _ = np.subtract(lamp["center"], laptop["center"])
    for side, found in ((2.0, True), (-2.0, False)):
        eye = np.add(laptop["center"], [-side * y, side * x, 0.5])
        bare.look(tuple(eye), tuple(laptop["center"]))
        wait_until(lambda eye=eye: np.allclose(session.view.eye, eye), "the view")
        session.ask.phrases.value = "lamps left of the laptop"
        session.ask.ask_typed()
        assert (lamp["id"] in [hit.instance.id for hit in session.view.reply.hits]) == found
    assert errors == [] and session.context.messages == []


def test_what_is_no_instance_is_a_hit_that_one_can_fly_to(shared: SharedScene) -> None:
    (hit,) = ask(shared, Question(("floor",))).hits
    assert hit.instance.id == 0 and abs(hit.instance.center[2]) < 0.1, "on the floor"


def test_phrases_are_read_and_broken_ones_refused() -> None:
    assert read_phrases(" a chair; red ball\n\nred ball ;") == ("a chair", "red ball")
    assert read_phrases("") == ()
    for text, words in (
        ("a;" * 40 + ";".join(map(str, range(40))), "too many"),
        ("x" * 301, "301"),
        ("a\x07b", "read"),
    ):
        with pytest.raises(ConfigError, match=words):
            read_phrases(text)


def test_a_scene_may_name_more_phrases_than_a_question(connect) -> None:
    _, session = connect()
    phrases = [*session.context.shared.scene.phrases, *(f"thing {i}" for i in range(40))]
    session.layers.labels.text.value = "\n".join(phrases)
    session.layers.labels.make_typed()
    assert session.view.labelling.phrases == tuple(phrases)
    session.layers.labels.forget()
    session.layers.switches.instances.value = True
    assert len(session.view.instances) == len(INSTANCES)
    session.export.save("instances")
    assert session.context.messages == []
    session.layers.labels.text.value = ";".join(map(str, range(255)))
    with pytest.raises(ConfigError, match="255 phrases are too many"):
        session.layers.labels.make()


def test_more_like_this_finds_the_others_of_a_kind(shared: SharedScene) -> None:
    spot = find_spot(shared, EYE, np.array(INSTANCES["orange cushion"]["center"]) - EYE)
    reply = ask(shared, Question(("like it",), example=spot))
    centres = [hit.instance.center for hit in reply.hits]
    assert min(np.linalg.norm(np.subtract(c, INSTANCES["orange cushion"]["center"])) for c in centres) < 0.15
    assert reply.hits[0].instance.score > 0.8 and len(centres) < 8


def test_a_click_on_a_fragment_selects_the_fragment(shared: SharedScene) -> None:
    """And nothing beside it, though it is no instance."""
    spot = find_spot(shared, EYE, np.array(INSTANCES["orange cushion"]["center"]) - EYE)
    known = spot.semantics
    cushion = known.instance == known.instance[spot.point]
    assert known.instance[spot.point] > 0 and 0 < cushion.sum() < len(cushion)
    # What it lies on is no instance here, either.
    room = np.where(cushion, 0, np.where(known.instance == 1, 1, 0)).astype(np.int32)
    rejected_fragment = replace(known, instance=room, pieces=np.where(cushion, 2, room).astype(np.int32))
    np.testing.assert_array_equal(members_of(rejected_fragment, spot.point), np.flatnonzero(cushion))
    apart = np.linalg.norm(known.surface.xyz - known.surface.xyz[cushion].mean(0), axis=1)
    beside = int(np.where(rejected_fragment.piece == 0, apart, np.inf).argmin())
    assert not cushion[members_of(rejected_fragment, beside)].any()


class Slow:
    """In place of `ask`: a phrase that is held is answered only when it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, held: str) -> None:
        self.held, self.asked, self.go = held, [], threading.Event()
        monkeypatch.setattr("ovseg3d.viewer.tabs.ask.ask", self)

    def __call__(self, shared: SharedScene, question: Question, eye: np.ndarray | None):
        self.asked.append((question.title, question.threshold))
        if question.title == self.held:
            assert self.go.wait(PATIENCE)
        return ask(shared, question, eye)


def test_the_newest_question_is_shown_whatever_is_ready_last(connect, monkeypatch: pytest.MonkeyPatch) -> None:
    _, session = connect()
    slow = Slow(monkeypatch, "sofa")
    first = threading.Thread(target=session.ask.ask, args=(Question(("sofa",)),))
    first.start()
    wait_until(lambda: slow.asked)
    session.ask.ask(Question(("teddy bear",)))
    slow.go.set()
    first.join(PATIENCE)
    assert session.view.reply.question.title == "teddy bear"
    assert "teddy bear" in session.ask.answer.content and len(session.ask.history) == 1


def test_the_slider_is_answered_for_where_it_stands_last(connect, monkeypatch: pytest.MonkeyPatch) -> None:
    _, session = connect()
    session.ask.ask(Question(("sofa",)))
    slow, slider = Slow(monkeypatch, "sofa"), session.ask.display.threshold
    first = threading.Thread(target=lambda: setattr(slider, "value", 0.55))
    first.start()
    wait_until(lambda: slow.asked)
    for step in range(6):
        slider.value = 0.56 + 0.01 * step  # comes back at once
    slow.go.set()
    first.join(PATIENCE)
    assert slow.asked == [("sofa", 0.55), ("sofa", pytest.approx(0.61))]
    assert session.view.reply.question.threshold == slider.value and "0.61" in session.ask.answer.content


def test_what_is_repainted_for_a_new_question_is_its_answer(connect, monkeypatch: pytest.MonkeyPatch) -> None:
    _, session = connect()
    session.ask.ask(Question(("sofa", "floor")))
    seen: list[str] = []
    session.view.layer_changed.connect(lambda: seen.append(session.view.reply.question.title))
    session.ask.ask(Question(("an elephant", "teddy bear")))
    assert len(seen) > 1 and set(seen) == {"an elephant; teddy bear"}


def test_the_slider_says_which_points_are_marked(connect) -> None:
    _, session = connect()
    tab, view, nodes = session.ask, session.view, session.context.nodes
    session.ask.display.opacity.value, session.layers.layer.value = 1.0, layers.ANSWER
    tab.ask(Question(("sofa",)))
    xyz, relevancy = session.context.shared.semantics.surface.xyz, view.reply.relevancies[:, 0]
    strict = float(np.median(relevancy[relevancy >= THRESHOLD]))
    for threshold in (strict, THRESHOLD):
        session.ask.display.threshold.value = threshold
        (marked,) = nodes._groups["highlight"]
        np.testing.assert_array_equal(marked.points, xyz[relevancy >= threshold])
        assert nodes.highlighted == (relevancy >= threshold).sum() > 100
        painted = np.ptp(session.view.layer.point_colours(session.context.shared).astype(int), axis=1) > 5
        np.testing.assert_array_equal(painted, relevancy >= threshold, "the rest is grey")
    too_strict = (view.reply.answers[0].score + 1) / 2
    session.ask.display.threshold.value = too_strict
    assert nodes.highlighted == 0 and "highlight" not in nodes._groups and view.reply.hits == ()
    assert "is not in this scene" in tab.answer.content and not tab.found.visible
    session.layers.layer.value = layers.RELEVANCY
    assert f"left:{too_strict:.0%}" in session.ask.display.scale.content, "the mark on the scale"


def test_the_opacity_slider_is_that_of_the_marked_points_too(connect) -> None:
    _, session = connect()
    session.ask.ask(Question(("sofa",)))
    own = session.context.shared.cloud[1][session.view.reply.found()[0]].astype(int)
    (marked,) = session.context.nodes._groups["highlight"]
    shown = []
    for opacity in (1.0, 0.5, 0.0):
        session.ask.display.opacity.value = opacity
        shown.append(marked.colors.astype(int))
    full, half, none = shown
    np.testing.assert_array_equal(none, own)
    assert np.abs(full - own).mean() > 10 and np.abs(2 * half - full - own).max() <= 2, "half way, but for rounding"
    session.ask.clear()
    session.ask.display.opacity.value = 0.8
    assert session.context.messages == []


def test_an_answer_is_shown_as_points_as_a_mask_or_as_relevancy(connect) -> None:
    _, session = connect()
    session.ask.ask(Question(("sofa",)))
    for way, layer in zip(SHOW, (layers.COLOUR, layers.ANSWER, layers.RELEVANCY)):
        session.ask.display.show_as.value = way
        (marked,) = session.context.nodes._groups["highlight"]
        assert session.view.layer.name == layer and marked.visible == (way == "Points")
        assert session.ask.display.phrase.visible == (way == "Relevancy")


# -- what was asked before -------------------------------------------------------------------------------------------


def test_an_earlier_question_can_be_chosen_again_and_again(connect) -> None:
    _, session = connect()
    tab, view, history = session.ask, session.view, session.ask.earlier
    tab.ask(Question(("sofa",)))
    for _ in range(2):
        tab.ask(Question(("-",)))  # as the neutral entry is called
        history.value = "sofa"
        assert view.reply.question.title == "sofa" and history.value == "-" and session.context.messages == []


def test_the_history_brings_a_question_back_as_it_was_asked(connect) -> None:
    _, session = connect()
    tab, view = session.ask, session.view

    def typed(phrases: str, negatives: str, canonical: str) -> None:
        tab.phrases.value, tab.negatives.value, tab.canonical.value = phrases, negatives, canonical
        tab.ask_typed()

    typed("sofa", "orange cushion; rug", "object; stuff")
    asked, marked = view.reply.question, session.context.nodes.highlighted
    assert asked == Question(("sofa",), ("orange cushion", "rug"), ("object", "stuff")) and marked > 100
    typed("teddy bear; floor", "", "")
    stricter = "sofa · not orange cushion; rug · compared with object; stuff"
    assert tab.earlier.options == ("-", "teddy bear; floor", stricter), "the newest first"
    tab.earlier.value = stricter
    assert view.reply.question == asked and session.context.nodes.highlighted == marked
    assert tab.phrases.value == "sofa" and "sofa" in tab.answer.content
    tab.ask_typed()
    assert view.reply.question == asked, "the form asks it again"
    assert tab.earlier.options == ("-", stricter, "teddy bear; floor"), "each is there once"
    typed("sofa", "", "")
    assert tab.earlier.options == ("-", "sofa", stricter, "teddy bear; floor"), "another question of the same phrase"
    session.ask.display.threshold.value = 0.55
    tab.earlier.value = "teddy bear; floor"
    assert view.reply.question == Question(("teddy bear", "floor"), threshold=0.55), "as strict as the slider is now"
    assert session.context.messages == []


def test_the_history_brings_an_example_back_and_leaves_the_form(connect) -> None:
    _, session = connect()
    tab, view = session.ask, session.view
    session.ask.selection.select(EYE, np.array(INSTANCES["wooden chair"]["center"]) - EYE)
    session.ask.selection.more_like_this()
    example, found = view.reply.question, view.reply.answers[0].points
    tab.phrases.value = "sofa"
    tab.ask_typed()
    tab.earlier.value = example.title
    assert view.reply.question == example and example.example is not None
    np.testing.assert_array_equal(view.reply.answers[0].points, found)
    assert tab.phrases.value == "sofa" and session.context.messages == []


def test_the_history_forgets_the_oldest(connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ovseg3d.viewer.tabs.ask.MAX_HISTORY", 2)
    _, session = connect()
    for phrase in ("sofa", "floor", "rug"):
        session.ask.ask(Question((phrase,)))
    assert [question.title for question in session.ask.history] == ["rug", "floor"]
    assert session.ask.earlier.options == ("-", "rug", "floor")


# -- pointing --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("phrase", ["brown teddy bear", "wooden chair", "white bowl", "striped ball"])
def test_a_click_names_what_is_there(shared: SharedScene, phrase: str) -> None:
    instance = INSTANCES[phrase]
    spot = find_spot(shared, EYE, np.array(instance["center"]) - EYE)
    pointed = describe(shared, spot, shared.scene.phrases)
    assert pointed.name == instance["category"] and pointed.fits
    assert pointed.instance is not None
    np.testing.assert_allclose(pointed.instance.center, instance["center"], atol=0.06)
    assert spot.distance <= np.linalg.norm(EYE - instance["center"])


def test_a_click_loads_the_encoder_in_its_turn(shared: SharedScene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a large one is loaded twice, by the click and by whoever has the turn."""
    held = []

    def load(*arguments: object) -> TextImageEncoder:
        held.append(is_taken(shared.query_lock))
        return load_clip(*arguments)

    monkeypatch.setattr("ovseg3d.query.phrase_encoder.load_clip", load)
    describe(shared, find_spot(shared, EYE, np.array(INSTANCES["wooden chair"]["center"]) - EYE))
    assert held == [True]


def test_a_click_on_a_wall_names_it_and_shows_no_box(shared: SharedScene) -> None:
    pointed = describe(shared, find_spot(shared, EYE, np.array([-1.0, 0.3, 0.25])), shared.scene.phrases)
    assert pointed.instance is None and pointed.name == "wall"
    assert find_spot(shared, np.array([0.0, 0.0, 50.0]), np.array([0.0, 0.0, 1.0])) is None


def test_one_flies_to_where_a_thing_is_seen(shared: SharedScene) -> None:
    reply = ask(shared, Question(("teddy bear",)))
    stand = stand_to_see(shared, reply.hits[0].instance)
    center = np.array(reply.hits[0].instance.center)
    met = find_spot(shared, stand, center - stand)
    assert met.distance > np.linalg.norm(center - stand) - 0.5, "nothing stands before it"
    assert any(np.allclose(stand, frame.camera.position) for frame in shared.scene.frames)


def test_a_hit_takes_the_browser_there(connect, errors: list[str]) -> None:
    bare, session = connect()
    session.ask.ask(Question(("teddy bear",)))
    session.ask.fly_to_hit(0)
    stands = [frame.camera.position for frame in session.context.shared.scene.frames]
    wait_until(lambda: any(stands_at(bare, place) for place in stands), "the end of the flight")
    wait_until(lambda: looks_at(bare, INSTANCES["brown teddy bear"]["center"], 0.05), "the turn to the bear")
    session.navigator.fly_to_frame(5)
    wait_until(lambda: stands_at(bare, stands[5]), "the flight to a photo")
    assert errors == []


def test_the_button_of_a_hit_takes_the_browser_to_that_hit(connect, errors: list[str]) -> None:
    bare, session = connect()
    session.ask.ask(Question(("teddy bear", "sofa")))
    hits, (bear, sofa) = session.view.reply.hits, session.view.reply.answers
    assert session.ask.found.visible and {hit.phrase for hit in hits} == {0, 1}
    assert len(hits) == len(bear.instances) + len(sofa.instances)
    for hit in hits:
        bare.press(hit_text(hit, session.view.reply.name_of(hit), session.context.shared.unit))
        wait_until(lambda center=hit.instance.center: looks_at(bare, center), f"the flight to {hit.instance.label}")
    assert errors == []


@pytest.mark.parametrize("where", [np.array(INSTANCES["wooden chair"]["center"]) - EYE, np.array([-1.0, 0.3, 0.25])])
def test_a_button_takes_the_browser_to_what_was_clicked(connect, where: np.ndarray, errors: list[str]) -> None:
    bare, session = connect()
    session.ask.selection.select(EYE, where)
    pointed = session.view.selection
    bare.press("Fly there")
    place = pointed.instance.center if pointed.instance else pointed.spot.xyz
    wait_until(lambda: looks_at(bare, place), f"the flight to {pointed.name}")
    assert errors == []


def looks_at(bare: Bare, place: np.ndarray | tuple | list, within: float = 1e-3) -> bool:
    """Whether a browser was last told to look at a place."""
    told = bare.latest.get("SetCameraLookAtMessage")
    return told is not None and np.allclose(told["look_at"], place, atol=within)


def stands_at(bare: Bare, place: np.ndarray) -> bool:
    """Whether a browser was last told to stand at a place."""
    told = bare.latest.get("SetCameraPositionMessage")
    return told is not None and np.allclose(told["position"], place)


def test_a_newer_flight_ends_an_older_one(connect) -> None:
    bare, session = connect()
    first = session.navigator.begin()
    assert first()
    second = session.navigator.begin()
    assert second() and not first()
    up, asked, start = session.context.shared.up, [], np.array(session.context.client.camera.position)
    fly(session.context.client, np.zeros(3), np.ones(3), up, lambda: bool(asked.append(0)) or len(asked) < 4, steps=6)
    assert len(asked) == 4
    wait_until(lambda: stands_at(bare, start / 2), "half the way: three of six steps")
    session.close()
    assert not second()
