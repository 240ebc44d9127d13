"""What visitors ask, click and switch, without a browser: on playroom, whose things are known (objects.json)."""

import html
import json
import threading
import time
from dataclasses import replace
from pathlib import Path
from shutil import copytree
from types import SimpleNamespace

import numpy as np
import playroom
import pytest
from bare import Bare, wait_until
from playroom import PLAYROOM

from ovseg3d.errors import ConfigError, OutputError, RunError
from ovseg3d.pipeline.palette import colours
from ovseg3d.pipeline.paths import read_nerfstudio_path
from ovseg3d.pipeline.render import picture_of, render_film
from ovseg3d.pipeline.run import Run, load
from ovseg3d.scene import Camera, load_scene
from ovseg3d.scene.images import load_photo
from ovseg3d.semantics.scene import save_semantics
from ovseg3d.viewer import keep, layers
from ovseg3d.viewer.app import Viewer
from ovseg3d.viewer.ask import Question, ask, read_phrases, sentence
from ovseg3d.viewer.exhibit import THUMBNAIL, Exhibit, open_exhibit
from ovseg3d.viewer.fly import fly, stand_to_see
from ovseg3d.viewer.follow import Follower
from ovseg3d.viewer.lens import Viewpoint
from ovseg3d.viewer.pick import describe, find_spot
from ovseg3d.viewer.record import as_nerfstudio, flight
from ovseg3d.viewer.visitor import Visitor

THINGS = {thing["phrase"]: thing for thing in json.loads((PLAYROOM / "objects.json").read_text())}
MEETING = ("sofa", "thing 29")
"""Two phrases that would have one colour."""
EYE = np.array([1.5, -1.2, 1.5])
TARGET = (-1.0, 0.5, 0.5)


def inside(points: np.ndarray, thing: dict, margin: float = 0.1) -> float:
    """Share of points within a thing's box, upright boxes turned back by their yaw."""
    yaw = thing["yaw_rad"]
    away = points - np.array(thing["center"])
    x, y, z = away.T
    turned = np.stack([np.cos(yaw) * x + np.sin(yaw) * y, np.cos(yaw) * y - np.sin(yaw) * x, z], 1)
    return float((np.abs(turned) < np.array(thing["size"]) / 2 + margin).all(1).mean())


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
    reply = ask(exhibit, Question(("like it",), example=spot.point))
    centres = [hit.thing.center for hit in reply.hits]
    assert min(np.linalg.norm(np.subtract(c, THINGS["orange cushion"]["center"])) for c in centres) < 0.15
    assert reply.hits[0].thing.score > 0.8 and len(centres) < 8


class Slow:
    """In place of `ask`: a phrase that is held is answered only when it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, held: str) -> None:
        self.held, self.asked, self.go = held, [], threading.Event()
        monkeypatch.setattr("ovseg3d.viewer.asking.ask", self)

    def __call__(self, exhibit: Exhibit, question: Question, eye: np.ndarray | None):
        self.asked.append((question.title, question.threshold))
        if question.title == self.held:
            assert self.go.wait(30)
        return ask(exhibit, question, eye)


def test_the_newest_question_is_shown_whatever_is_ready_last(visit, monkeypatch: pytest.MonkeyPatch) -> None:
    _, visitor = visit()
    slow = Slow(monkeypatch, "sofa")
    first = threading.Thread(target=visitor.asking.ask, args=(Question(("sofa",)),))
    first.start()
    wait_until(lambda: slow.asked)
    visitor.asking.ask(Question(("teddy bear",)))
    slow.go.set()
    first.join(30)
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
    first.join(30)
    assert slow.asked == [("sofa", 0.55), ("sofa", pytest.approx(0.61))]
    assert visitor.asking.reply.question.threshold == slider.value and "0.61" in visitor.panel.answer.content


def test_what_is_repainted_for_a_new_question_is_its_answer(visit, monkeypatch: pytest.MonkeyPatch) -> None:
    _, visitor = visit()
    visitor.asking.ask(Question(("sofa", "floor")))
    seen: list[str] = []
    monkeypatch.setattr(visitor.pictures, "repaint", lambda: seen.append(visitor.asking.reply.question.title))
    visitor.asking.ask(Question(("an elephant", "teddy bear")))
    assert len(seen) > 1 and set(seen) == {"an elephant; teddy bear"}


def test_an_earlier_question_can_be_chosen_again_and_again(visit) -> None:
    _, visitor = visit()
    asking, history = visitor.asking, visitor.panel.history
    asking.ask(Question(("sofa",)))
    for _ in range(2):
        asking.ask(Question(("-",)))  # as the neutral entry is called
        history.value = "sofa"
        assert asking.reply.question.title == "sofa" and history.value == "-" and visitor.messages == []


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
    wait_until(lambda: bare.count["SetCameraPositionMessage"] > 3, 20, "the flight")
    place = bare.latest["SetCameraPositionMessage"]["position"]
    assert any(np.allclose(place, frame.camera.position) for frame in visitor.exhibit.scene.frames)
    np.testing.assert_allclose(
        bare.latest["SetCameraLookAtMessage"]["look_at"], THINGS["brown teddy bear"]["center"], atol=0.05
    )
    visitor.pointing.stand_at(5)
    wait_until(
        lambda: np.allclose(
            bare.latest["SetCameraPositionMessage"]["position"], visitor.exhibit.scene.frames[5].camera.position
        )
    )
    assert errors == []


def test_a_newer_flight_ends_an_older_one(visit) -> None:
    bare, visitor = visit()
    first = visitor.begin_flight()
    assert first()
    second = visitor.begin_flight()
    assert second() and not first()
    up, asked = visitor.exhibit.up, []
    fly(visitor.client, np.zeros(3), np.ones(3), up, lambda: bool(asked.append(0)) or len(asked) < 4, seconds=0.1)
    wait_until(lambda: bare.count["SetCameraPositionMessage"] >= 3, 10, "three steps")
    assert len(asked) == 4
    visitor.close()
    assert not second()


# -- layers ----------------------------------------------------------------------------------------------------------


def test_labels_have_lasting_colours_and_counts(exhibit: Exhibit) -> None:
    labelling = layers.make_labelling(exhibit, exhibit.scene.phrases)
    assert labelling.counts.sum() == len(exhibit.semantics.surface)
    floor = exhibit.scene.phrases.index("floor") + 1
    low = exhibit.semantics.surface.xyz[labelling.labels == floor]
    assert len(low) > 1000 and (np.abs(low[:, 2]) < 0.05).all()
    shown = layers.label_layer(labelling, 1.0).point_colours(exhibit)
    tint = colours(exhibit.scene.phrases)[floor].astype(float)
    seen = shown[labelling.labels == floor].astype(float)
    spread = seen / seen.max(1, keepdims=True) - tint / tint.max()
    assert np.abs(spread).max() < 0.05, "one hue, in the light of the picture"
    assert "floor" in layers.label_html(labelling) and "<script" not in layers.label_html(
        layers.make_labelling(exhibit, ["<script>"])
    )


def test_a_phrase_of_the_scene_has_one_colour_in_answers_and_labels(exhibit: Exhibit) -> None:
    exhibit.scene = replace(exhibit.scene, phrases=MEETING)
    tints = colours(MEETING)[1:]
    assert (colours(MEETING[1:])[1] == tints[0]).all(), "alone, the second has the first one's colour"
    np.testing.assert_array_equal(ask(exhibit, Question(MEETING[1:])).tints, tints[1:])
    np.testing.assert_array_equal(layers.make_labelling(exhibit, MEETING[::-1]).tints[1:], tints[::-1])


def test_the_picture_and_the_points_agree(exhibit: Exhibit) -> None:
    camera = exhibit.scene.frames[3].camera.scaled(160, 120)
    sheet = exhibit.render(camera)
    rendered = sheet.rendered
    reply = ask(exhibit, Question(("sofa",)))
    layer = layers.answer_layer(reply.relevancies, reply.tints, 0.5, 1.0)
    picture = layer.picture(exhibit, sheet).astype(int)
    met = rendered["depth_z"] > 0
    origins, directions = camera.rays(camera.pixel_centres())
    along = rendered["depth_z"].ravel() / (directions @ camera.forward)
    hits = (origins + directions * along[:, None]).reshape(120, 160, 3)
    sofa = THINGS["blue sofa"]
    there = np.array([inside(row, sofa, 0.02) for row in hits.reshape(-1, 1, 3)]).reshape(120, 160) > 0
    length = np.linalg.norm(picture, axis=-1) * np.linalg.norm(reply.tints[0].astype(float))
    coloured = (picture @ reply.tints[0].astype(float)) / np.maximum(length, 1) > 0.998
    # Cushions are in the sofa's box, and no sofa.
    assert there.sum() > 300 and coloured[there & met].mean() > 0.7 and coloured[~there & met].mean() < 0.05
    plain = layers.plain_layer(layers.DEPTH).picture(exhibit, sheet)
    assert plain.shape == (120, 160, 3)


# -- training ------------------------------------------------------------------------------------------------------


def test_a_new_surface_takes_the_numbers_of_the_old_one_away(visit, run, exhibit: Exhibit, tmp_path: Path) -> None:
    exhibit.run = load(copytree(run.folder, tmp_path / "run"))
    exhibit.refresh()
    bare, visitor = visit(tuple(EYE))
    asking, panel = visitor.asking, visitor.panel
    panel.points_on.value = panel.things_on.value = True
    visitor.pointing.point_at(EYE, np.array(THINGS["wooden chair"]["center"]) - EYE)
    visitor.pointing.more_like_this()
    asking.ask(Question(("sofa",)))
    panel.layer.value = layers.ANSWER
    asker, reply = exhibit.asker, asking.reply
    exhibit.refresh()  # a checkpoint of the field alone
    visitor.field_changed()
    assert exhibit.asker is asker and asking.reply is reply and bare.received("/points") == 1

    save_semantics(exhibit.run.folder, playroom.meaning(*playroom.exact_surface(PLAYROOM, 10_000)))
    exhibit.refresh()
    count = len(exhibit.semantics.surface)
    assert count < len(asker.semantics.surface) / 2
    visitor.field_changed()
    assert asking.reply is None and visitor.pointing.pointed is None and visitor.nodes.highlighted == 0
    assert [question.title for question in asking.history] == ["sofa"] and panel.history.options == ("-", "sofa")
    assert 0 < sum(thing.n_points for thing in visitor.scenery.things) < count
    wait_until(lambda: bare.received("/points") == 2, 10, "the new points")
    asking.ask(Question(("sofa",)))
    assert 0 < visitor.nodes.highlighted < count
    panel.layer.value = layers.ANSWER
    assert visitor.pictures.stream.wait_idle(20.0) and visitor.messages == []


def test_a_layer_of_an_earlier_surface_paints_nothing(exhibit: Exhibit) -> None:
    """The picture may be drawn after a new surface was read and before the visitor has been told."""
    sheet = exhibit.render(exhibit.scene.frames[3].camera.scaled(40, 30))
    layer = layers.relevancy_layer(np.ones(len(exhibit.semantics.surface) + 1), 1.0)
    np.testing.assert_array_equal(
        layer.picture(exhibit, sheet), layers.plain_layer(layers.COLOUR).picture(exhibit, sheet)
    )


def test_a_follower_goes_on_after_a_mistake_and_says_so(exhibit: Exhibit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ovseg3d.viewer.follow.SECONDS", 0.02)
    states = iter([ValueError("odd")] * 3 + ["running", ValueError("odd"), "running"])
    told, failed, seen = [], [], []

    def status() -> dict[str, str]:
        now = next(states, "done")
        seen.append(exhibit.training)
        if isinstance(now, Exception):
            raise now
        return {"status": now}

    exhibit.run = SimpleNamespace(
        status=status, folder=exhibit.run.folder, checkpoints=exhibit.run.checkpoints, metrics_log=Path("none")
    )
    follower = Follower(exhibit, told.append, failed.append)
    follower.join(10.0)
    assert [str(error) for error in failed] == ["odd", "odd"], "once for each time that it began"
    assert told == ["Training begins.", ""] and True in seen and not exhibit.training


# -- taking away -----------------------------------------------------------------------------------------------------


def test_a_recorded_path_is_read_back_as_it_was(tmp_path: Path) -> None:
    keys = [Viewpoint((0.9, 0.1, 0.3, 0.2), (0.0, 0.0, float(i)), 0.9, 641, 481) for i in range(3)]
    path = flight(keys, 2.0, 320, fps=5.0)
    assert len(path.cameras) == 10 and path.cameras[0].width == 320 and path.cameras[0].height % 2 == 0
    (tmp_path / "path.json").write_text(json.dumps(as_nerfstudio(path)))
    again = read_nerfstudio_path(tmp_path / "path.json")
    assert again.fps == 5.0
    for one, other in zip(path.cameras, again.cameras):
        np.testing.assert_allclose(one.c2w, other.c2w, atol=1e-9)
        assert one.fy == pytest.approx(other.fy) and (one.width, one.height) == (other.width, other.height)
    np.testing.assert_allclose(path.cameras[-1].c2w[:3, 3], [0, 0, 2])
    for few, seconds in ((keys[:1], 2.0), (keys, 0.0), (keys, 1e9)):
        with pytest.raises(ConfigError):
            flight(few, seconds, 320)


def test_nothing_outside_exports_is_ever_sent(tmp_path: Path) -> None:
    exports = tmp_path / "run" / "exports"
    exports.mkdir(parents=True)
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    (exports / "link.txt").symlink_to(secret)
    (exports / "fine.txt").write_text("fine")
    for path in (secret, exports / "link.txt", exports / ".." / ".." / "secret.txt"):
        with pytest.raises(OutputError):
            keep.packed(exports, [path])
    assert keep.packed(exports, [exports / "fine.txt"]) == ("fine.txt", b"fine")


# -- through the server ----------------------------------------------------------------------------------------------


def test_a_browser_gets_the_field_and_its_question_answered(visit, errors: list[str]) -> None:
    bare, visitor = visit()
    wait_until(lambda: bare.pictures() > 0, 20, "a picture")
    assert visitor.pictures.stream.wait_idle(20.0)
    visitor.panel.phrases.value = "teddy bear"
    visitor.asking.ask_typed()
    bear = ask(visitor.exhibit, Question(("teddy bear",)))
    assert visitor.nodes.highlighted == len(bear.answers[0].points) > 30
    wait_until(lambda: bare.count["PointCloudMessage"] >= 1)
    assert bare.latest["PointCloudMessage"]["name"] == "/highlight"
    assert visitor.asking.history[0].title == "teddy bear" and errors == []


def test_a_click_through_the_server_is_named(visit, errors: list[str]) -> None:
    bare, visitor = visit(tuple(EYE))
    bare.click(tuple(THINGS["wooden chair"]["center"]))
    wait_until(lambda: visitor.pointing.pointed is not None, 20, "the click")
    assert visitor.pointing.pointed.name == "chair" and "chair" in visitor.panel.pointed.content
    visitor.pointing.more_like_this()
    assert visitor.asking.reply.answers[0].present and errors == []


def test_every_layer_and_switch_can_be_shown(visit, errors: list[str]) -> None:
    _, visitor = visit()
    panel = visitor.panel
    visitor.asking.ask(Question(("a chair", "sofa")))
    for name in layers.LAYERS:
        panel.layer.value = name
        visitor.pictures.repaint()
        assert visitor.pictures.layer.name == name
        assert visitor.pictures.stream.wait_idle(20.0)
    panel.layer.value = layers.LABELS
    visitor.pictures.repaint()
    assert "floor" in panel.legend.content
    for switch in (panel.points_on, panel.cameras_on, panel.things_on, panel.picture_on):
        switch.value = not switch.value
        visitor.scenery.show_things()
        visitor.scenery.show_all()
    assert len(visitor.scenery.things) == len(THINGS) and errors == [] and visitor.messages == []
    visitor.asking.clear()
    assert visitor.asking.reply is None and visitor.nodes.highlighted == 0


def test_a_busy_visitor_keeps_nobody_waiting(visit) -> None:
    """More camera messages than viser has threads come while one visitor's scene is being changed."""
    bare, busy = visit()
    other, second = visit((0.0, -1.0, 1.2))
    busy.panel.cameras_on.value = True
    stands = busy.exhibit.scene.frames[5].camera.position
    (frustum,) = (camera for camera in busy.nodes._cameras if np.allclose(camera.position, stands))
    assert frustum.visible
    with busy.state:
        for number in range(80):
            bare.look((1.0 + 0.01 * number, -1.0, 1.2), TARGET)
        bare.look(tuple(stands), TARGET)
        wait_until(lambda: np.allclose(busy.pictures.eye, stands), 20, "the last of the messages")
        before = other.pictures()
        other.look((0.3, -1.0, 1.2), TARGET)
        wait_until(lambda: other.pictures() > before, 20, "a picture for the other")
    wait_until(lambda: not frustum.visible, 10, "the camera that the visitor stands in to be hidden")
    assert second.messages == busy.messages == []


def test_a_photo_is_read_no_larger_than_its_camera_shows_it(exhibit: Exhibit, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    monkeypatch.setattr(
        "ovseg3d.viewer.exhibit.load_photo", lambda frame: read.append(frame.camera) or load_photo(frame)
    )
    made, frame = exhibit.thumbnail(3), exhibit.scene.frames[3]
    (camera,) = read
    assert max(camera.width, camera.height) == THUMBNAIL == max(made.shape) and made.shape[2] == 3
    full = np.asarray(load_photo(frame), float).mean((0, 1))
    np.testing.assert_allclose(made.mean((0, 1)), full, atol=2)


def test_a_second_browser_is_independent(visit, errors: list[str]) -> None:
    _, first = visit()
    other, second = visit((0.0, -1.0, 1.2))
    first.panel.phrases.value = "sofa"
    first.asking.ask_typed()
    assert first.asking.reply is not None and second.asking.reply is None
    assert second.nodes.highlighted == 0 and second.panel.answer.content == "" and second.asking.history == []
    assert (
        first.pictures.viewpoint != second.pictures.viewpoint and other.count["PointCloudMessage"] == 0 and errors == []
    )


def test_a_broken_phrase_is_told_and_the_next_is_answered(visit, errors: list[str]) -> None:
    _, visitor = visit()
    for text in ("", " ; ", "x" * 400, "a\x00b"):
        visitor.panel.phrases.value = text
        visitor.asking.ask_typed()
        assert "Try" in visitor.panel.answer.content, text
    visitor.panel.canonical.value = ""
    visitor.panel.phrases.value = "sofa"
    visitor.asking.ask_typed()
    assert "compare" in visitor.panel.answer.content
    visitor.panel.canonical.value = "object"
    visitor.panel.phrases.value = "<b>sofa</b>"
    visitor.asking.ask_typed()
    assert "<b>" not in visitor.panel.answer.content and errors == []


def test_an_error_in_a_render_ends_nothing(visit, errors: list[str], exhibit: Exhibit) -> None:
    bare, visitor = visit()
    assert visitor.pictures.stream.wait_idle(20.0)
    exhibit.renderer.broken = True
    bare.look((0.5, -1.0, 1.0), (0, 0, 0.5))
    wait_until(lambda: errors, 20, "the error")
    assert "broken on purpose" in errors[0] and visitor.messages == ["A mistake in ovseg3d"]
    wait_until(lambda: "A mistake in ovseg3d" in bare.notices, 10, "the notice")
    exhibit.renderer.broken = False
    before = bare.pictures()
    bare.look((0.6, -1.0, 1.0), (0, 0, 0.5))
    wait_until(lambda: bare.pictures() > before, 20, "the next picture")
    errors.clear()  # that one was expected


def test_what_is_too_far_for_viser_stands_behind_everything(
    visit, exhibit: Exhibit, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare, visitor = visit()
    assert visitor.pictures.stream.wait_idle(20.0)
    wait_until(lambda: bare.pictures() > 0)
    assert bare.latest["BackgroundImageMessage"]["depth_data"]
    render = exhibit.renderer.render

    def in_millimetres(camera: Camera) -> dict[str, np.ndarray]:
        rendered = render(camera)
        return {**rendered, "depth_z": 1000 * rendered["depth_z"]}

    monkeypatch.setattr(exhibit.renderer, "render", in_millimetres)
    bare.look((0.5, -1.0, 1.0), (0, 0, 0.5))
    # A picture from before may still be on its way.
    wait_until(lambda: bare.latest["BackgroundImageMessage"]["depth_data"] is None, 20, "a picture without depth")
    assert visitor.messages == []


def test_a_browser_that_leaves_takes_only_itself_away(viewer: Viewer, visit) -> None:
    bare, _ = visit()
    other, second = visit()
    bare.close()
    wait_until(lambda: len(viewer.visitors) == 1, 20, "the first to be gone")
    before = other.pictures()
    other.look((0.5, -1.0, 1.0), (0, 0, 0.5))
    wait_until(lambda: other.pictures() > before, 20, "a picture")
    assert second.pictures.stream.wait_idle(20.0)


def test_a_browser_that_leaves_while_it_is_greeted_is_forgotten(
    viewer: Viewer, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    def late(client, *rest) -> Visitor:
        made.append(Visitor(client, *rest))
        bare.close()
        wait_until(lambda: client.client_id not in viewer.server.get_clients(), 20, "viser to notice")
        time.sleep(0.2)  # it is told off before it is registered
        return made[0]

    monkeypatch.setattr("ovseg3d.viewer.app.Visitor", late)
    bare = Bare(viewer.url, tuple(EYE), TARGET, (320, 240))
    wait_until(lambda: made and made[0].pictures.stream.closed, 30, "the visitor to be closed")
    assert viewer.visitors == {}


def test_pictures_films_and_exports_land_in_exports(
    visit, run, monkeypatch: pytest.MonkeyPatch, errors: list[str]
) -> None:
    bare, visitor = visit()
    keeper = visitor.keeper
    keeper.save_picture()
    keeper.save_picture()
    keeper.add_key()
    bare.look((0.5, -1.0, 1.0), (0, 0, 0.5))
    wait_until(lambda: visitor.pictures.viewpoint != keeper.keys[0], 10)
    keeper.add_key()
    keeper.seconds.value = 1.0
    monkeypatch.setattr(keep, "FILM_WIDTH", 64)
    keeper.save_film()
    assert [path.name for path in keeper.saved[:2]] == ["picture-0001.png", "picture-0002.png"]
    assert {path.suffix for path in keeper.saved[2:]} == {".mp4", ".json"}
    assert all(path.is_relative_to(run.exports) and path.stat().st_size > 100 for path in keeper.saved)
    assert "ovseg3d render" in keeper.told.content
    assert len(read_nerfstudio_path(keeper.saved[-1]).cameras) == 24
    wait_until(lambda: bare.count["FileTransferStartDownload"] == 3, 20, "the downloads")

    visitor.panel.labels.value = "sofa\nrug; it's"
    keeper.export("instances")
    assert keeper.saved[-1] == run.exports / "instances.json" and keeper.saved[-1].stat().st_size > 100
    assert "--what instances --phrases" in keeper.told.content and "&#x27;" in keeper.told.content
    for what in ("../../etc", "", "nothing"):
        with pytest.raises(ConfigError):
            keeper.export(what)
    busy = threading.Lock()
    busy.acquire()
    monkeypatch.setattr(visitor.exhibit, "exporting", busy)
    with pytest.raises(OutputError, match="just now"):
        keeper.export("cloud")
    assert errors == []


KEYS = [Viewpoint((1.0, 0.0, 0.0, 0.0), (0.0, 0.0, 0.5 + 0.5 * i), 0.9, 320, 240) for i in range(2)]


def test_the_command_line_is_told_as_the_viewer_was(visit, monkeypatch: pytest.MonkeyPatch) -> None:
    _, visitor = visit()
    keeper, panel, exhibit = visitor.keeper, visitor.panel, visitor.exhibit
    exhibit.device, exhibit.backend = "cpu", "torch"
    given, kinds = {}, []
    monkeypatch.setattr(Run, "export", lambda run, what, folder, **options: given.update(options) or [])

    def film(renderer, cameras, paths, fps, **_) -> list[Path]:
        kinds.extend(paths)
        for path in paths.values():
            path.write_bytes(b"film")
        return list(paths.values())

    def shown(layer: str) -> str:
        panel.layer.value = layer
        visitor.pictures.repaint()
        keeper.save_film()
        return html.unescape(keeper.told.content)

    keeper.export("cloud")
    assert (given["device"], given["backend"]) == ("cpu", "torch") and "phrases" not in given
    assert "--what cloud --device cpu --backend torch<" in keeper.told.content
    monkeypatch.setattr(keep, "render_film", film)
    keeper.keys, keeper.seconds.value = KEYS, 1.0
    for layer in (layers.COLOUR, layers.DEPTH, layers.FEATURES):
        assert f".json --what {layer.lower()} --device cpu --backend torch<" in shown(layer)
    assert kinds == ["colour", "depth", "colour"]
    panel.labels.value = "sofa\nrug"
    visitor.pictures.label()
    assert "--what labels --phrases 'sofa;rug' --device" in shown(layers.LABELS)
    visitor.asking.ask(Question(("teddy bear", "blue sofa")))
    panel.phrase.value = "blue sofa"
    assert "--what relevancy --phrase 'blue sofa' --device" in shown(layers.RELEVANCY)
    assert ".mp4" in shown(layers.ANSWER) and "command line" not in keeper.told.content
    visitor.asking.ask(Question(("sofa",), negatives=("rug",)))
    assert "command line" not in shown(layers.RELEVANCY) and visitor.messages == []


def test_a_film_that_is_stopped_leaves_nothing_and_one_of_depth_has_one_scale(
    visit, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, visitor = visit()
    keeper, spans = visitor.keeper, []
    keeper.keys, keeper.seconds.value = KEYS, 1.0
    monkeypatch.setattr(keep, "FILM_WIDTH", 32)
    visitor.panel.layer.value = layers.DEPTH
    visitor.pictures.repaint()

    def picture(kind: str, rendered: dict, span: tuple | None = None) -> np.ndarray:
        spans.append((kind, span))
        return picture_of(kind, rendered, span)

    monkeypatch.setattr("ovseg3d.pipeline.render.picture_of", picture)
    before = set((run.exports / "paths").glob("*"))
    keeper.save_film()
    assert len(spans) == 24 and len(set(spans)) == 1 and spans[0][0] == "depth"
    made = set((run.exports / "paths").glob("*")) - before
    assert {path.suffix for path in made} == {".mp4", ".json"} and len(made) == 2

    def stopped(*arguments, stop: threading.Event, **options) -> list[Path]:
        stop.set()
        return render_film(*arguments, stop=stop, **options)

    monkeypatch.setattr(keep, "render_film", stopped)
    keeper.save_film()
    assert "Stopped" in keeper.told.content and set((run.exports / "paths").glob("*")) == before | made


def test_viser_cannot_be_made_to_open_a_tunnel(viewer: Viewer, visit, monkeypatch: pytest.MonkeyPatch) -> None:
    bare, _ = visit()
    opened: list[tuple] = []
    monkeypatch.setattr("viser._tunnel.ViserTunnel.__init__", lambda *arguments: opened.append(arguments))
    bare.send("ShareUrlRequest")
    before = bare.pictures()
    bare.look((0.5, -1.0, 1.0), (0, 0, 0.5))  # what is sent later is seen to later
    wait_until(lambda: bare.pictures() > before, 20, "the next picture")
    assert viewer.server.request_share_url() is None and opened == []


# -- without a field, without a run ----------------------------------------------------------------------------------


def test_a_scene_without_a_run_shows_its_cameras(tiny_scene: Path, errors: list[str]) -> None:
    exhibit = Exhibit(load_scene(tiny_scene))
    assert exhibit.renderer is None and exhibit.notes
    with Viewer(exhibit, port=7320, notice=errors.append) as viewer:
        bare = Bare(viewer.url, (2.0, 2.0, 1.0), (0, 0, 0))
        wait_until(lambda: viewer.visitors, 20)
        wait_until(lambda: bare.count["CameraFrustumMessage"] == 8, 20, "the cameras")
        (visitor,) = viewer.visitors.values()
        visitor.panel.phrases.value = "a chair"
        visitor.asking.ask_typed()
        assert "learnt no meaning" in visitor.panel.answer.content and errors == []
        bare.close()


def test_what_is_opened_is_a_run_or_a_scene(tmp_path: Path, tiny_scene: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunError):
        open_exhibit(tmp_path / "nowhere")
    assert open_exhibit(tiny_scene).run is None
