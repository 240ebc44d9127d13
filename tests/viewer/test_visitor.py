"""Visitors who come, look, switch and leave, without a browser: each is served alone, and nothing ends the server."""

import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from shutil import copytree
from types import SimpleNamespace

import numpy as np
import playroom
import pytest
from playroom import EYE, PLAYROOM, TARGET, THINGS

from ovseg3d.errors import OutputError, RunError
from ovseg3d.points.semantic_scene import FILE, save_semantics
from ovseg3d.scene import Camera, load_scene
from ovseg3d.scene.images import load_photo
from ovseg3d.session import load
from ovseg3d.viewer import layers
from ovseg3d.viewer.app import Viewer, free_place, url_of
from ovseg3d.viewer.ask import Question, ask
from ovseg3d.viewer.exhibit import THUMBNAIL, Exhibit, open_exhibit
from ovseg3d.viewer.follow import Follower
from ovseg3d.viewer.lens import Viewpoint
from ovseg3d.viewer.pick import describe
from ovseg3d.viewer.visitor import Visitor
from scripts.benchmarks.viewer_client import PATIENCE, Bare, wait_until

# -- through the server ----------------------------------------------------------------------------------------------


def test_a_browser_gets_the_field_and_its_question_answered(visit, errors: list[str]) -> None:
    bare, visitor = visit()
    wait_until(lambda: bare.pictures() > 0, "a picture")
    assert visitor.pictures.stream.wait_idle(PATIENCE)
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
    wait_until(lambda: visitor.panel.pointed.content, "the click")
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
        assert visitor.pictures.stream.wait_idle(PATIENCE)
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
    """More messages than viser has threads come while one visitor's scene is being changed."""
    bare, busy = visit()
    other, second = visit((0.0, -1.0, 1.2))
    busy.panel.cameras_on.value = True
    stands = busy.exhibit.scene.frames[5].camera.position
    (frustum,) = (camera for camera in busy.nodes._cameras if np.allclose(camera.position, stands))
    assert frustum.visible
    assert second.pictures.stream.wait_idle(PATIENCE)
    with busy.state:
        for number in range(80):
            bare.look((1.0 + 0.01 * number, -1.0, 1.2), TARGET)
            bare.set("Opacity", 0.05 * (number % 20))
        bare.look(tuple(stands), TARGET)
        wait_until(lambda: np.allclose(busy.pictures.eye, stands), "the last of the messages")
        before = other.pictures()
        other.look((0.3, -1.0, 1.2), TARGET)
        wait_until(lambda: other.pictures() > before, "a picture for the other")
    wait_until(lambda: not frustum.visible, "the camera that the visitor stands in to be hidden")
    assert second.messages == busy.messages == []


def test_a_slider_keeps_nobody_waiting_for_the_encoder(visit) -> None:
    """More messages than viser has threads come while labels wait for an encoder that is being loaded."""
    bare, busy = visit()
    other, second = visit((0.0, -1.0, 1.2))
    assert second.pictures.stream.wait_idle(PATIENCE)
    with busy.exhibit.asking:
        bare.set("Picture", layers.LABELS)
        for step in range(80):
            bare.set("Opacity", 0.05 * (step % 20))
        for name, told in ((layers.LABELS, "Nothing is labelled yet"), (layers.DEPTH, "Near is bright")) * 33:
            bare.set("Picture", name)
            wait_until(lambda told=told: told in busy.panel.legend.content, "the legend")
        before = other.pictures()
        other.look((0.3, -1.0, 1.2), TARGET)
        wait_until(lambda: other.pictures() > before, "a picture for the other")
        bare.set("Picture", layers.LABELS)
        wait_until(lambda: busy.panel.layer.value == layers.LABELS, "the last of the messages")
    wait_until(lambda: busy.pictures.layer.name == layers.LABELS and "floor" in busy.panel.legend.content, "the labels")
    assert second.messages == busy.messages == []


def test_a_view_that_was_read_first_does_not_overtake_the_newest(visit, monkeypatch: pytest.MonkeyPatch) -> None:
    _, visitor = visit()
    pictures = visitor.pictures
    old, new = (replace(pictures.viewpoint, fov=fov) for fov in (0.7, 0.8))
    now, reading, go = [old], threading.Event(), threading.Event()

    def read(camera: object) -> Viewpoint:
        seen = now[0]
        if seen is old:
            reading.set()
            assert go.wait(PATIENCE)
        return seen

    monkeypatch.setattr("ovseg3d.viewer.pictures.read_viewpoint", read)
    threads = [threading.Thread(target=pictures.moved, args=(visitor.client.camera,)) for _ in range(2)]
    threads[0].start()
    assert reading.wait(PATIENCE)
    now[0] = new
    threads[1].start()
    threads[1].join(0.3)  # time to be done, if it does not wait for the first
    go.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert pictures.viewpoint == new
    wait_until(lambda: pictures.stream._wish[0] == new, "a picture of that")


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
    visitor.panel.canonical.value = "x" * 400
    visitor.panel.phrases.value = "sofa"
    visitor.asking.ask_typed()
    assert "Try" in visitor.panel.answer.content
    visitor.panel.canonical.value = ""
    visitor.asking.ask_typed()
    assert "Try" not in visitor.panel.answer.content, "then what suits the encoder"
    visitor.panel.phrases.value = "<b>sofa</b>"
    visitor.asking.ask_typed()
    assert "<b>" not in visitor.panel.answer.content and errors == []


def test_an_error_in_a_render_ends_nothing(visit, errors: list[str], exhibit: Exhibit) -> None:
    bare, visitor = visit()
    assert visitor.pictures.stream.wait_idle(PATIENCE)
    exhibit.renderer.broken = True
    bare.look((0.5, -1.0, 1.0), (0, 0, 0.5))
    wait_until(lambda: errors, "the error")
    assert "broken on purpose" in errors[0] and visitor.messages == ["A mistake in ovseg3d"]
    wait_until(lambda: "A mistake in ovseg3d" in bare.notices, "the notice")
    exhibit.renderer.broken = False
    before = bare.pictures()
    bare.look((0.6, -1.0, 1.0), (0, 0, 0.5))
    wait_until(lambda: bare.pictures() > before, "the next picture")
    errors.clear()  # that one was expected


def test_what_is_too_far_for_viser_stands_behind_everything(
    visit, exhibit: Exhibit, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare, visitor = visit()
    assert visitor.pictures.stream.wait_idle(PATIENCE)
    wait_until(lambda: bare.pictures() > 0)
    assert bare.latest["BackgroundImageMessage"]["depth_data"]
    render = exhibit.renderer.render

    def in_millimetres(camera: Camera) -> dict[str, np.ndarray]:
        rendered = render(camera)
        return {**rendered, "depth_z": 1000 * rendered["depth_z"]}

    monkeypatch.setattr(exhibit.renderer, "render", in_millimetres)
    bare.look((0.5, -1.0, 1.0), (0, 0, 0.5))
    # A picture from before may still be on its way.
    wait_until(lambda: bare.latest["BackgroundImageMessage"]["depth_data"] is None, "a picture without depth")
    assert visitor.messages == []


def test_a_browser_that_leaves_takes_only_itself_away(viewer: Viewer, visit) -> None:
    bare, _ = visit()
    other, second = visit()
    bare.close()
    wait_until(lambda: len(viewer.visitors) == 1, "the first to be gone")
    before = other.pictures()
    other.look((0.5, -1.0, 1.0), (0, 0, 0.5))
    wait_until(lambda: other.pictures() > before, "a picture")
    assert second.pictures.stream.wait_idle(PATIENCE)


def test_a_browser_that_leaves_while_it_is_greeted_is_forgotten(
    viewer: Viewer, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    def late(client, *rest) -> Visitor:
        made.append(Visitor(client, *rest))
        bare.close()
        wait_until(lambda: client.client_id not in viewer.server.get_clients(), "viser to notice")
        time.sleep(0.2)  # it is told off before it is registered
        return made[0]

    monkeypatch.setattr("ovseg3d.viewer.app.Visitor", late)
    bare = Bare(viewer.url, tuple(EYE), TARGET, (320, 240))
    wait_until(lambda: made and made[0].pictures.stream.closed, "the visitor to be closed")
    assert viewer.visitors == {}


def test_a_browser_that_is_greeted_as_training_ends_shows_the_newest(
    viewer: Viewer, visit, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(client, exhibit: Exhibit, report) -> Visitor:
        made = Visitor(client, exhibit, report)
        exhibit.version += 1  # those who are there already are told of it
        return made

    monkeypatch.setattr("ovseg3d.viewer.app.Visitor", late)
    _, visitor = visit()
    wait_until(lambda: visitor._version == viewer.exhibit.version, "the new version to be shown")


def test_nodes_of_things_are_changed_under_the_lock(visit, monkeypatch: pytest.MonkeyPatch) -> None:
    _, visitor = visit()
    clear, held = visitor.nodes.clear, []

    def cleared(group: str) -> None:
        held.append(visitor.state._lock._is_owned())
        clear(group)

    monkeypatch.setattr(visitor.nodes, "clear", cleared)
    visitor.scenery.show_things()
    assert held and all(held)


def test_viser_cannot_be_made_to_open_a_tunnel(viewer: Viewer, visit, monkeypatch: pytest.MonkeyPatch) -> None:
    bare, visitor = visit()
    opened: list[tuple] = []
    monkeypatch.setattr("viser._tunnel.ViserTunnel.__init__", lambda *arguments: opened.append(arguments))
    bare.send("ShareUrlRequest")
    bare.look((0.5, -1.0, 1.0), (0, 0, 0.5))  # what is sent later is seen to later
    wait_until(lambda: np.allclose(visitor.pictures.eye, (0.5, -1.0, 1.0)), "the move")
    assert viewer.server.request_share_url() is None and opened == []


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
    wait_until(lambda: bare.received("/points") == 1, "the points")
    exhibit.refresh()  # a checkpoint of the field alone
    visitor.field_changed()
    assert exhibit.asker is asker and asking.reply is reply

    save_semantics(exhibit.run.folder, playroom.meaning(*playroom.exact_surface(PLAYROOM, 10_000)))
    exhibit.refresh()
    count = len(exhibit.semantics.surface)
    assert count < len(asker.semantics.surface) / 2
    visitor.field_changed()
    assert asking.reply is None and visitor.pointing.pointed is None and visitor.nodes.highlighted == 0
    assert [question.title for question in asking.history] == ["sofa"] and panel.history.options == ("-", "sofa")
    assert 0 < sum(thing.n_points for thing in visitor.scenery.things) < count
    wait_until(lambda: bare.received("/points") >= 2, "the new points")
    highlights = bare.received("/highlight")
    asking.ask(Question(("sofa",)))
    wait_until(lambda: bare.received("/highlight") > highlights, "what is sent last")
    assert bare.received("/points") == 2, "none were sent after the checkpoint of the field alone"
    assert 0 < visitor.nodes.highlighted < count
    panel.layer.value = layers.ANSWER
    assert visitor.pictures.stream.wait_idle(PATIENCE) and visitor.messages == []


def test_what_was_found_on_a_surface_that_has_gone_meanwhile_is_not_shown(
    visit, run, exhibit: Exhibit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A surface is replaced while the encoder is at work, and the visitor is told of it later."""
    exhibit.run = load(copytree(run.folder, tmp_path / "run"))
    exhibit.refresh()
    _, visitor = visit(tuple(EYE))
    asking, pointing, pictures, panel = visitor.asking, visitor.pointing, visitor.pictures, visitor.panel
    where = np.array(THINGS["wooden chair"]["center"]) - EYE
    pointing.point_at(EYE, where)
    pictures.label()
    asking.ask(Question(("wall",)))
    former, asker, clicked, reply = exhibit.semantics, exhibit.asker, pointing.pointed, asking.reply

    def then_replace(work: Callable) -> Callable:
        def call(*arguments, **options):
            done = work(*arguments, **options)
            exhibit.asker = anew
            return done

        return call

    save_semantics(exhibit.run.folder, playroom.meaning(*playroom.exact_surface(PLAYROOM, 10_000)))
    exhibit.refresh()
    anew = exhibit.asker
    assert len(anew.semantics.surface) < len(former.surface) / 2
    # What is shown is of the former surface.
    panel.points_on.value = panel.things_on.value = True
    panel.opacity.value = 0.3
    visitor.nodes.show_points(former.surface.rgb, True)
    assert len(visitor.nodes._points.colors) == len(anew.semantics.surface)
    assert {thing.label for thing in visitor.scenery.things} == {None}, "labels are of the former one, too"
    panel.threshold.value = 0.55
    assert asking.reply.question.phrases == ("wall",) and visitor.messages == []
    panel.things_on.value = False
    pictures.forget_labels()
    exhibit.asker = asker
    for name, use in (
        ("ask", lambda: asking.ask(Question(("an elephant", "wall")))),
        ("closed", lambda: pointing.point_at(EYE, where)),
        ("labels", pictures.label),
        ("labels", lambda: setattr(panel.things_on, "value", True)),
    ):
        asking.reply, pointing.pointed = reply, clicked
        with monkeypatch.context() as patch:
            patch.setattr(asker, name, then_replace(getattr(asker, name)))
            use()
        assert exhibit.asker is anew and asking.reply is reply and pointing.pointed is clicked, name
        assert pictures.labelling is None and visitor.scenery.things == () and visitor.messages == [], name
        exhibit.asker = asker
    exhibit.asker = anew
    pointing.more_like_this()
    assert asking.reply is reply
    with pytest.raises(RunError, match="learnt anew meanwhile"):
        describe(exhibit, clicked.spot)
    visitor._version = -1
    visitor.field_changed()
    assert asking.reply is None and pointing.pointed is None and visitor.messages == []
    asking.ask(Question(("floor",)))
    assert asking.reply.semantics is exhibit.semantics and len(visitor.scenery.things) > 0


def test_an_asker_may_be_taken_away_at_any_moment(exhibit: Exhibit, monkeypatch: pytest.MonkeyPatch) -> None:
    asker = exhibit.asker
    for use in (lambda: exhibit.semantics, lambda: exhibit.cloud, exhibit.need_asker, exhibit.prepare):
        seen = iter([asker])
        monkeypatch.setattr(Exhibit, "asker", property(lambda _, seen=seen: next(seen, None)), raising=False)
        use()
        assert next(seen, None) is None, "it was there once"


def test_what_was_learnt_of_a_former_field_goes(
    visit, run, exhibit: Exhibit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exhibit.run = load(copytree(run.folder, tmp_path / "run"))
    exhibit.refresh()
    bare, visitor = visit(tuple(EYE))
    panel, asking = visitor.panel, visitor.asking
    panel.points_on.value = panel.things_on.value = True
    asking.ask(Question(("sofa",)))
    panel.layer.value = layers.ANSWER
    renderer = exhibit.renderer
    monkeypatch.setattr("ovseg3d.viewer.exhibit.restore", lambda *_: renderer)
    (exhibit.run.folder / FILE).unlink()
    exhibit.refresh()
    visitor.field_changed()
    assert exhibit.semantics is None and "learnt no meaning" in exhibit.notes[0]
    assert asking.reply is None and visitor.nodes.highlighted == 0 and not visitor.scenery.things
    panel.phrases.value = "sofa"
    asking.ask_typed()
    assert asking.reply is None and "learnt no meaning" in panel.answer.content
    assert visitor.pictures.stream.wait_idle(PATIENCE)


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
    follower.join(PATIENCE)
    assert [str(error) for error in failed] == ["odd", "odd"], "once for each time that it began"
    assert told == ["Training begins.", ""] and True in seen and not exhibit.training


# -- the end -----------------------------------------------------------------------------------------------------------


def test_the_end_waits_for_no_question(exhibit: Exhibit, errors: list[str]) -> None:
    """viser's threads outlive the server, and Python does not end before them."""
    with Viewer(exhibit, port=7310, notice=errors.append) as viewer:
        bare = Bare(viewer.url, tuple(EYE), TARGET, (320, 240))
        wait_until(lambda: viewer.visitors, "the visitor")
        (visitor,) = viewer.visitors.values()
        asked = threading.Thread(target=visitor.guarded(visitor.asking.ask), args=(Question(("sofa",)),), daemon=True)
        with exhibit.asking:  # somebody loads an encoder, for minutes
            asked.start()
            viewer.stop()
            asked.join(PATIENCE)
            assert not asked.is_alive() and viewer.wait_ready(0.0)
        assert visitor.asking.reply is None and visitor.messages == ["The viewer has been closed"]
        with pytest.raises(RunError, match="closed"):
            ask(exhibit, Question(("sofa",)))
        bare.close()


def test_nothing_is_asked_of_an_encoder_that_comes_after_the_end(
    exhibit: Exhibit, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(exhibit.asker, "encode", lambda _: exhibit.close())
    monkeypatch.setattr(exhibit.asker, "ask", asked.append)
    exhibit.prepare()
    assert asked == []


# -- without a field, without a run ----------------------------------------------------------------------------------


def test_a_scene_without_a_run_shows_its_cameras(tiny_scene: Path, errors: list[str]) -> None:
    exhibit = Exhibit(load_scene(tiny_scene))
    assert exhibit.renderer is None and exhibit.notes
    with Viewer(exhibit, port=7320, notice=errors.append) as viewer:
        bare = Bare(viewer.url, (2.0, 2.0, 1.0), (0, 0, 0))
        wait_until(lambda: viewer.visitors)
        wait_until(lambda: bare.count["CameraFrustumMessage"] == 8, "the cameras")
        (visitor,) = viewer.visitors.values()
        visitor.panel.phrases.value = "a chair"
        visitor.asking.ask_typed()
        assert "learnt no meaning" in visitor.panel.answer.content and errors == []
        bare.close()


@pytest.mark.parametrize("host", ["203.0.113.7", "no-such-host.invalid", "a" * 70, "."])
def test_a_host_that_is_not_ours_is_refused(host: str) -> None:
    with pytest.raises(OutputError, match="cannot listen") as caught:
        free_place(host, 7330)
    assert "--host 127.0.0.1" in caught.value.fix


def test_ports_that_are_taken_are_passed_over(tiny_scene: Path) -> None:
    with socket.create_server(("127.0.0.1", 65535)), pytest.raises(OutputError, match="no port is free"):
        Viewer(Exhibit(load_scene(tiny_scene)), port=65535)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        if port < 65535:
            assert free_place("127.0.0.1", port)[1] > port


def test_urls_of_ipv6_hosts_have_brackets() -> None:
    assert url_of("::1", 7007) == "http://[::1]:7007" == url_of("::", 7007)
    assert url_of("0.0.0.0", 7007) == "http://127.0.0.1:7007" and url_of("room.local", 1) == "http://room.local:1"


def test_what_is_opened_is_a_run_or_a_scene(tmp_path: Path, tiny_scene: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunError):
        open_exhibit(tmp_path / "nowhere")
    assert open_exhibit(tiny_scene).run is None
