"""What visitors ask, click and fly to, without a browser: on playroom, whose things are known (objects.json)."""

import threading
from dataclasses import replace

import numpy as np
import pytest
from bare import PATIENCE, Bare, wait_until
from playroom import EYE, THINGS, inside, is_taken

from ovseg3d.encoders import TextImageEncoder, load_clip
from ovseg3d.errors import ConfigError
from ovseg3d.query.engine import THRESHOLD
from ovseg3d.viewer import layers
from ovseg3d.viewer.ask import Question, ask, hit_text, read_phrases, sentence
from ovseg3d.viewer.exhibit import Exhibit
from ovseg3d.viewer.fly import fly, stand_to_see
from ovseg3d.viewer.panel import SHOW
from ovseg3d.viewer.pick import describe, find_spot, members_of

# -- asking ----------------------------------------------------------------------------------------------------------


def test_a_phrase_finds_its_thing_and_an_absent_one_is_said_to_be_absent(exhibit: Exhibit) -> None:
    reply = ask(exhibit, Question(("teddy bear", "an elephant")), EYE)
    bear, elephant = reply.answers
    assert bear.present and not elephant.present
    assert inside(exhibit.semantics.surface.xyz[bear.points], THINGS["brown teddy bear"]) > 0.95
    assert sentence(elephant) == '"an elephant" is not in this scene.'
    (hit,) = reply.hits
    true = THINGS["brown teddy bear"]
    np.testing.assert_allclose(hit.thing.center, true["center"], atol=0.05)
    assert hit.thing.distance == pytest.approx(np.linalg.norm(EYE - true["center"]), abs=0.05)
    points, phrase = reply.found()
    assert set(phrase) == {0} and set(points) == set(bear.points)


def test_what_is_no_thing_is_a_hit_that_one_can_fly_to(exhibit: Exhibit) -> None:
    (hit,) = ask(exhibit, Question(("floor",))).hits
    assert hit.thing.id == 0 and abs(hit.thing.center[2]) < 0.1, "on the floor"


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


def test_a_scene_may_name_more_phrases_than_a_question(visit) -> None:
    _, visitor = visit()
    phrases = [*visitor.exhibit.scene.phrases, *(f"thing {i}" for i in range(40))]
    visitor.panel.labels.value = "\n".join(phrases)
    visitor.pictures.label_typed()
    assert visitor.pictures.labelling.phrases == tuple(phrases)
    visitor.pictures.forget_labels()
    visitor.panel.things_on.value = True
    assert len(visitor.scenery.things) == len(THINGS)
    visitor.keeper.export("instances")
    assert visitor.messages == []
    visitor.panel.labels.value = ";".join(map(str, range(255)))
    with pytest.raises(ConfigError, match="255 phrases are too many"):
        visitor.pictures.label()


def test_more_like_this_finds_the_others_of_a_kind(exhibit: Exhibit) -> None:
    spot = find_spot(exhibit, EYE, np.array(THINGS["orange cushion"]["center"]) - EYE)
    reply = ask(exhibit, Question(("like it",), example=spot))
    centres = [hit.thing.center for hit in reply.hits]
    assert min(np.linalg.norm(np.subtract(c, THINGS["orange cushion"]["center"])) for c in centres) < 0.15
    assert reply.hits[0].thing.score > 0.8 and len(centres) < 8


def test_a_click_on_a_scrap_means_the_scrap(exhibit: Exhibit) -> None:
    """And nothing beside it, though it is no thing."""
    spot = find_spot(exhibit, EYE, np.array(THINGS["orange cushion"]["center"]) - EYE)
    known = spot.semantics
    cushion = known.instance == known.instance[spot.point]
    assert known.instance[spot.point] > 0 and 0 < cushion.sum() < len(cushion)
    # What it lies on is no thing here, either.
    room = np.where(cushion, 0, np.where(known.instance == 1, 1, 0)).astype(np.int32)
    scrap = replace(known, instance=room, pieces=np.where(cushion, 2, room).astype(np.int32))
    np.testing.assert_array_equal(members_of(scrap, spot.point), np.flatnonzero(cushion))
    apart = np.linalg.norm(known.surface.xyz - known.surface.xyz[cushion].mean(0), axis=1)
    beside = int(np.where(scrap.piece == 0, apart, np.inf).argmin())
    assert not cushion[members_of(scrap, beside)].any()


class Slow:
    """In place of `ask`: a phrase that is held is answered only when it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, held: str) -> None:
        self.held, self.asked, self.go = held, [], threading.Event()
        monkeypatch.setattr("ovseg3d.viewer.asking.ask", self)

    def __call__(self, exhibit: Exhibit, question: Question, eye: np.ndarray | None):
        self.asked.append((question.title, question.threshold))
        if question.title == self.held:
            assert self.go.wait(PATIENCE)
        return ask(exhibit, question, eye)


def test_the_newest_question_is_shown_whatever_is_ready_last(visit, monkeypatch: pytest.MonkeyPatch) -> None:
    _, visitor = visit()
    slow = Slow(monkeypatch, "sofa")
    first = threading.Thread(target=visitor.asking.ask, args=(Question(("sofa",)),))
    first.start()
    wait_until(lambda: slow.asked)
    visitor.asking.ask(Question(("teddy bear",)))
    slow.go.set()
    first.join(PATIENCE)
    assert visitor.asking.reply.question.title == "teddy bear"
    assert "teddy bear" in visitor.panel.answer.content and len(visitor.asking.history) == 1


def test_the_slider_is_answered_for_where_it_stands_last(visit, monkeypatch: pytest.MonkeyPatch) -> None:
    _, visitor = visit()
    visitor.asking.ask(Question(("sofa",)))
    slow, slider = Slow(monkeypatch, "sofa"), visitor.panel.threshold
    first = threading.Thread(target=lambda: setattr(slider, "value", 0.55))
    first.start()
    wait_until(lambda: slow.asked)
    for step in range(6):
        slider.value = 0.56 + 0.01 * step  # comes back at once
    slow.go.set()
    first.join(PATIENCE)
    assert slow.asked == [("sofa", 0.55), ("sofa", pytest.approx(0.61))]
    assert visitor.asking.reply.question.threshold == slider.value and "0.61" in visitor.panel.answer.content


def test_what_is_repainted_for_a_new_question_is_its_answer(visit, monkeypatch: pytest.MonkeyPatch) -> None:
    _, visitor = visit()
    visitor.asking.ask(Question(("sofa", "floor")))
    seen: list[str] = []
    monkeypatch.setattr(visitor.pictures, "repaint", lambda: seen.append(visitor.asking.reply.question.title))
    visitor.asking.ask(Question(("an elephant", "teddy bear")))
    assert len(seen) > 1 and set(seen) == {"an elephant; teddy bear"}


def test_the_slider_says_which_points_are_marked(visit) -> None:
    _, visitor = visit()
    asking, panel, nodes = visitor.asking, visitor.panel, visitor.nodes
    panel.opacity.value, panel.layer.value = 1.0, layers.ANSWER
    asking.ask(Question(("sofa",)))
    xyz, relevancy = visitor.exhibit.semantics.surface.xyz, asking.reply.relevancies[:, 0]
    strict = float(np.median(relevancy[relevancy >= THRESHOLD]))
    for threshold in (strict, THRESHOLD):
        panel.threshold.value = threshold
        (marked,) = nodes._groups["highlight"]
        np.testing.assert_array_equal(marked.points, xyz[relevancy >= threshold])
        assert nodes.highlighted == (relevancy >= threshold).sum() > 100
        painted = np.ptp(visitor.pictures.layer.point_colours(visitor.exhibit).astype(int), axis=1) > 5
        np.testing.assert_array_equal(painted, relevancy >= threshold, "the rest is grey")
    too_strict = (asking.reply.answers[0].score + 1) / 2
    panel.threshold.value = too_strict
    assert nodes.highlighted == 0 and "highlight" not in nodes._groups and asking.reply.hits == ()
    assert "is not in this scene" in panel.answer.content and not panel.found.visible
    panel.layer.value = layers.RELEVANCY
    assert f"left:{too_strict:.0%}" in panel.scale.content, "the mark on the scale"


def test_the_opacity_slider_is_that_of_the_marked_points_too(visit) -> None:
    _, visitor = visit()
    visitor.asking.ask(Question(("sofa",)))
    own = visitor.exhibit.cloud[1][visitor.asking.reply.found()[0]].astype(int)
    (marked,) = visitor.nodes._groups["highlight"]
    shown = []
    for opacity in (1.0, 0.5, 0.0):
        visitor.panel.opacity.value = opacity
        shown.append(marked.colors.astype(int))
    full, half, none = shown
    np.testing.assert_array_equal(none, own)
    assert np.abs(full - own).mean() > 10 and np.abs(2 * half - full - own).max() <= 2, "half way, but for rounding"
    visitor.asking.clear()
    visitor.panel.opacity.value = 0.8
    assert visitor.messages == []


def test_an_answer_is_shown_as_points_as_a_mask_or_as_relevancy(visit) -> None:
    _, visitor = visit()
    visitor.asking.ask(Question(("sofa",)))
    for way, layer in zip(SHOW, (layers.COLOUR, layers.ANSWER, layers.RELEVANCY)):
        visitor.panel.show_as.value = way
        (marked,) = visitor.nodes._groups["highlight"]
        assert visitor.pictures.layer.name == layer and marked.visible == (way == "Points")
        assert visitor.panel.phrase.visible == (way == "Relevancy")


# -- what was asked before -------------------------------------------------------------------------------------------


def test_an_earlier_question_can_be_chosen_again_and_again(visit) -> None:
    _, visitor = visit()
    asking, history = visitor.asking, visitor.panel.history
    asking.ask(Question(("sofa",)))
    for _ in range(2):
        asking.ask(Question(("-",)))  # as the neutral entry is called
        history.value = "sofa"
        assert asking.reply.question.title == "sofa" and history.value == "-" and visitor.messages == []


def test_the_history_brings_a_question_back_as_it_was_asked(visit) -> None:
    _, visitor = visit()
    asking, panel = visitor.asking, visitor.panel

    def typed(phrases: str, negatives: str, canonical: str) -> None:
        panel.phrases.value, panel.negatives.value, panel.canonical.value = phrases, negatives, canonical
        asking.ask_typed()

    typed("sofa", "orange cushion; rug", "object; stuff")
    asked, marked = asking.reply.question, visitor.nodes.highlighted
    assert asked == Question(("sofa",), ("orange cushion", "rug"), ("object", "stuff")) and marked > 100
    typed("teddy bear; floor", "", "")
    stricter = "sofa · not orange cushion; rug · compared with object; stuff"
    assert panel.history.options == ("-", "teddy bear; floor", stricter), "the newest first"
    panel.history.value = stricter
    assert asking.reply.question == asked and visitor.nodes.highlighted == marked
    assert panel.phrases.value == "sofa" and "sofa" in panel.answer.content
    asking.ask_typed()
    assert asking.reply.question == asked, "the form asks it again"
    assert panel.history.options == ("-", stricter, "teddy bear; floor"), "each is there once"
    typed("sofa", "", "")
    assert panel.history.options == ("-", "sofa", stricter, "teddy bear; floor"), "another question of the same phrase"
    panel.threshold.value = 0.55
    panel.history.value = "teddy bear; floor"
    assert asking.reply.question == Question(("teddy bear", "floor"), threshold=0.55), "as strict as the slider is now"
    assert visitor.messages == []


def test_the_history_brings_an_example_back_and_leaves_the_form(visit) -> None:
    _, visitor = visit()
    asking, panel = visitor.asking, visitor.panel
    visitor.pointing.point_at(EYE, np.array(THINGS["wooden chair"]["center"]) - EYE)
    visitor.pointing.more_like_this()
    example, found = asking.reply.question, asking.reply.answers[0].points
    panel.phrases.value = "sofa"
    asking.ask_typed()
    panel.history.value = example.title
    assert asking.reply.question == example and example.example is not None
    np.testing.assert_array_equal(asking.reply.answers[0].points, found)
    assert panel.phrases.value == "sofa" and visitor.messages == []


def test_the_history_forgets_the_oldest(visit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ovseg3d.viewer.asking.LONGEST_HISTORY", 2)
    _, visitor = visit()
    for phrase in ("sofa", "floor", "rug"):
        visitor.asking.ask(Question((phrase,)))
    assert [question.title for question in visitor.asking.history] == ["rug", "floor"]
    assert visitor.panel.history.options == ("-", "rug", "floor")


# -- pointing --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("phrase", ["brown teddy bear", "wooden chair", "white bowl", "striped ball"])
def test_a_click_names_what_is_there(exhibit: Exhibit, phrase: str) -> None:
    thing = THINGS[phrase]
    spot = find_spot(exhibit, EYE, np.array(thing["center"]) - EYE)
    pointed = describe(exhibit, spot, exhibit.scene.phrases)
    assert pointed.name == thing["category"] and pointed.fits
    assert pointed.thing is not None
    np.testing.assert_allclose(pointed.thing.center, thing["center"], atol=0.06)
    assert spot.distance <= np.linalg.norm(EYE - thing["center"])


def test_a_click_loads_the_encoder_in_its_turn(exhibit: Exhibit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a large one is loaded twice, by the click and by whoever has the turn."""
    held = []

    def load(*arguments: object) -> TextImageEncoder:
        held.append(is_taken(exhibit.asking))
        return load_clip(*arguments)

    monkeypatch.setattr("ovseg3d.query.phrase_encoder.load_clip", load)
    describe(exhibit, find_spot(exhibit, EYE, np.array(THINGS["wooden chair"]["center"]) - EYE))
    assert held == [True]


def test_a_click_on_a_wall_names_it_and_shows_no_box(exhibit: Exhibit) -> None:
    pointed = describe(exhibit, find_spot(exhibit, EYE, np.array([-1.0, 0.3, 0.25])), exhibit.scene.phrases)
    assert pointed.thing is None and pointed.name == "wall"
    assert find_spot(exhibit, np.array([0.0, 0.0, 50.0]), np.array([0.0, 0.0, 1.0])) is None


def test_one_flies_to_where_a_thing_is_seen(exhibit: Exhibit) -> None:
    reply = ask(exhibit, Question(("teddy bear",)))
    stand = stand_to_see(exhibit, reply.hits[0].thing)
    center = np.array(reply.hits[0].thing.center)
    met = find_spot(exhibit, stand, center - stand)
    assert met.distance > np.linalg.norm(center - stand) - 0.5, "nothing stands before it"
    assert any(np.allclose(stand, frame.camera.position) for frame in exhibit.scene.frames)


def test_a_hit_takes_the_browser_there(visit, errors: list[str]) -> None:
    bare, visitor = visit()
    visitor.asking.ask(Question(("teddy bear",)))
    visitor.asking.fly_to_hit(0)
    stands = [frame.camera.position for frame in visitor.exhibit.scene.frames]
    wait_until(lambda: any(stands_at(bare, place) for place in stands), "the end of the flight")
    wait_until(lambda: looks_at(bare, THINGS["brown teddy bear"]["center"], 0.05), "the turn to the bear")
    visitor.pointing.stand_at(5)
    wait_until(lambda: stands_at(bare, stands[5]), "the flight to a photo")
    assert errors == []


def test_the_button_of_a_hit_takes_the_browser_to_that_hit(visit, errors: list[str]) -> None:
    bare, visitor = visit()
    visitor.asking.ask(Question(("teddy bear", "sofa")))
    hits, (bear, sofa) = visitor.asking.reply.hits, visitor.asking.reply.answers
    assert visitor.panel.found.visible and {hit.phrase for hit in hits} == {0, 1}
    assert len(hits) == len(bear.instances) + len(sofa.instances)
    for hit in hits:
        bare.press(hit_text(hit, visitor.asking.reply.question.phrases, visitor.exhibit.unit))
        wait_until(lambda center=hit.thing.center: looks_at(bare, center), f"the flight to {hit.thing.label}")
    assert errors == []


@pytest.mark.parametrize("where", [np.array(THINGS["wooden chair"]["center"]) - EYE, np.array([-1.0, 0.3, 0.25])])
def test_a_button_takes_the_browser_to_what_was_clicked(visit, where: np.ndarray, errors: list[str]) -> None:
    bare, visitor = visit()
    visitor.pointing.point_at(EYE, where)
    pointed = visitor.pointing.pointed
    bare.press("Fly there")
    place = pointed.thing.center if pointed.thing else pointed.spot.xyz
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


def test_a_newer_flight_ends_an_older_one(visit) -> None:
    bare, visitor = visit()
    first = visitor.begin_flight()
    assert first()
    second = visitor.begin_flight()
    assert second() and not first()
    up, asked, start = visitor.exhibit.up, [], np.array(visitor.client.camera.position)
    fly(visitor.client, np.zeros(3), np.ones(3), up, lambda: bool(asked.append(0)) or len(asked) < 4, steps=6)
    assert len(asked) == 4
    wait_until(lambda: stands_at(bare, start / 2), "half the way: three of six steps")
    visitor.close()
    assert not second()
