"""Sessions of a viewer, without a browser: they are independent of each other, and no error ends the server."""

import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from shutil import copytree

import numpy as np
import playroom
import pytest
from playroom import EYE, INSTANCES, PLAYROOM, TARGET

from ovseg3d.errors import OutputError, RunError
from ovseg3d.geometry.rotations import from_wxyz
from ovseg3d.points.semantic_scene import FILE, save_semantics
from ovseg3d.scene import Camera, load_scene
from ovseg3d.scene.images import load_photo
from ovseg3d.session import load
from ovseg3d.viewer import layers
from ovseg3d.viewer.answers import Question, ask
from ovseg3d.viewer.app import Viewer, find_free_port, url_of
from ovseg3d.viewer.client_session import ClientSession
from ovseg3d.viewer.follow import Follower
from ovseg3d.viewer.pick import describe
from ovseg3d.viewer.shared_scene import THUMBNAIL_SIDE, SharedScene, open_shared_scene
from ovseg3d.viewer.viewpoint import Viewpoint
from scripts.benchmarks.viewer_client import PATIENCE, Bare, wait_until

# -- through the server ----------------------------------------------------------------------------------------------


def test_a_browser_gets_the_field_and_its_question_answered(connect, errors: list[str]) -> None:
    bare, session = connect()
    wait_until(lambda: bare.images() > 0, "an image")
    assert session.image.stream.wait_idle(PATIENCE)
    session.ask.phrases.value = "teddy bear"
    session.ask.ask_typed()
    bear = ask(session.context.shared, Question(("teddy bear",)))
    assert session.context.nodes.highlighted == len(bear.answers[0].points) > 30
    wait_until(lambda: bare.count["PointCloudMessage"] >= 1)
    assert bare.latest["PointCloudMessage"]["name"] == "/highlight"
    assert session.ask.history[0].title == "teddy bear" and errors == []


def test_a_click_through_the_server_is_named(connect, errors: list[str]) -> None:
    bare, session = connect(tuple(EYE))
    bare.click(tuple(INSTANCES["wooden chair"]["center"]))
    wait_until(lambda: session.ask.selection.card.content, "the click")
    assert session.view.selection.name == "chair" and "chair" in session.ask.selection.card.content
    session.ask.selection.more_like_this()
    assert session.view.reply.answers[0].present and errors == []


def test_every_layer_and_switch_can_be_shown(connect, errors: list[str]) -> None:
    _, session = connect()
    switches = session.layers.switches
    session.ask.ask(Question(("a chair", "sofa")))
    for name in layers.LAYERS:
        session.layers.layer.value = name
        session.layers.repaint()
        assert session.view.layer.name == name
        assert session.image.stream.wait_idle(PATIENCE)
    session.layers.layer.value = layers.LABELS
    session.layers.repaint()
    assert "floor" in session.layers.legend.content
    for switch in (switches.points, switches.cameras, switches.instances, switches.field):
        switch.value = not switch.value
        session.instances.show()
        session.overlays.show_all()
    assert len(session.view.instances) == len(INSTANCES) and errors == [] and session.context.messages == []
    session.ask.clear()
    assert session.view.reply is None and session.context.nodes.highlighted == 0


def test_a_busy_session_keeps_nobody_waiting(connect) -> None:
    """More messages than viser has threads come while one session's scene is being changed."""
    bare, busy = connect()
    other, second = connect((0.0, -1.0, 1.2))
    busy.layers.switches.cameras.value = True
    stands = busy.context.shared.scene.frames[5].camera.position
    (frustum,) = (camera for camera in busy.context.nodes._cameras if np.allclose(camera.position, stands))
    assert frustum.visible
    turn = busy.context.shared.scene.frames[5].camera.c2w[:3, :3]
    assert np.allclose(from_wxyz(frustum.wxyz).as_matrix(), turn, atol=1e-6)
    assert second.image.stream.wait_idle(PATIENCE)
    with busy.context.lock:
        for number in range(80):
            bare.look((1.0 + 0.01 * number, -1.0, 1.2), TARGET)
            bare.set("Opacity", 0.05 * (number % 20))
        bare.look(tuple(stands), TARGET)
        wait_until(lambda: np.allclose(busy.view.eye, stands), "the last of the messages")
        before = other.images()
        other.look((0.3, -1.0, 1.2), TARGET)
        wait_until(lambda: other.images() > before, "an image for the other")
    wait_until(lambda: not frustum.visible, "the camera that the session stands in to be hidden")
    assert second.context.messages == busy.context.messages == []


def test_a_slider_keeps_nobody_waiting_for_the_encoder(connect) -> None:
    """More messages than viser has threads come while labels wait for an encoder that is being loaded."""
    bare, busy = connect()
    other, second = connect((0.0, -1.0, 1.2))
    assert second.image.stream.wait_idle(PATIENCE)
    with busy.context.shared.query_lock:
        bare.set("Layer", layers.LABELS)
        for step in range(80):
            bare.set("Opacity", 0.05 * (step % 20))
        for name, told in ((layers.LABELS, "Nothing is labelled yet"), (layers.DEPTH, "Near is bright")) * 33:
            bare.set("Layer", name)
            wait_until(lambda told=told: told in busy.layers.legend.content, "the legend")
        before = other.images()
        other.look((0.3, -1.0, 1.2), TARGET)
        wait_until(lambda: other.images() > before, "an image for the other")
        bare.set("Layer", layers.LABELS)
        wait_until(lambda: busy.layers.layer.value == layers.LABELS, "the last of the messages")
    wait_until(lambda: busy.view.layer.name == layers.LABELS and "floor" in busy.layers.legend.content, "the labels")
    assert second.context.messages == busy.context.messages == []


def test_a_view_that_was_read_first_does_not_overtake_the_newest(connect, monkeypatch: pytest.MonkeyPatch) -> None:
    _, session = connect()
    view = session.view
    old, new = (replace(view.viewpoint, fov=fov) for fov in (0.7, 0.8))
    now, reading, go = [old], threading.Event(), threading.Event()

    def read(camera: object) -> Viewpoint:
        seen = now[0]
        if seen is old:
            reading.set()
            assert go.wait(PATIENCE)
        return seen

    monkeypatch.setattr("ovseg3d.viewer.background_image.read_viewpoint", read)
    threads = [threading.Thread(target=session.image.move, args=(session.context.client.camera,)) for _ in range(2)]
    threads[0].start()
    assert reading.wait(PATIENCE)
    now[0] = new
    threads[1].start()
    threads[1].join(0.3)  # time to be done, if it does not wait for the first
    go.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert view.viewpoint == new
    wait_until(lambda: session.image.stream._request[0] == new, "an image of that")


def test_a_photo_is_read_no_larger_than_its_camera_shows_it(
    shared: SharedScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []
    monkeypatch.setattr(
        "ovseg3d.viewer.shared_scene.load_photo", lambda frame: read.append(frame.camera) or load_photo(frame)
    )
    made, frame = shared.thumbnail(3), shared.scene.frames[3]
    (camera,) = read
    assert max(camera.width, camera.height) == THUMBNAIL_SIDE == max(made.shape) and made.shape[2] == 3
    full = np.asarray(load_photo(frame), float).mean((0, 1))
    np.testing.assert_allclose(made.mean((0, 1)), full, atol=2)


def test_a_second_browser_is_independent(connect, errors: list[str]) -> None:
    _, first = connect()
    other, second = connect((0.0, -1.0, 1.2))
    first.ask.phrases.value = "sofa"
    first.ask.ask_typed()
    assert first.view.reply is not None and second.view.reply is None
    assert second.context.nodes.highlighted == 0 and second.ask.answer.content == "" and second.ask.history == []
    assert first.view.viewpoint != second.view.viewpoint and other.count["PointCloudMessage"] == 0 and errors == []


def test_a_broken_phrase_is_told_and_the_next_is_answered(connect, errors: list[str]) -> None:
    _, session = connect()
    for text in ("", " ; ", "x" * 400, "a\x00b"):
        session.ask.phrases.value = text
        session.ask.ask_typed()
        assert "Try" in session.ask.answer.content, text
    session.ask.canonical.value = "x" * 400
    session.ask.phrases.value = "sofa"
    session.ask.ask_typed()
    assert "Try" in session.ask.answer.content
    session.ask.canonical.value = ""
    session.ask.ask_typed()
    assert "Try" not in session.ask.answer.content, "then what suits the encoder"
    session.ask.phrases.value = "<b>sofa</b>"
    session.ask.ask_typed()
    assert "<b>" not in session.ask.answer.content and errors == []


def test_an_error_in_a_render_ends_nothing(connect, errors: list[str], shared: SharedScene) -> None:
    bare, session = connect()
    assert session.image.stream.wait_idle(PATIENCE)
    shared.renderer.broken = True
    bare.look((0.5, -1.0, 1.0), (0, 0, 0.5))
    wait_until(lambda: errors, "the error")
    assert "broken on purpose" in errors[0] and session.context.messages == ["A mistake in ovseg3d"]
    wait_until(lambda: "A mistake in ovseg3d" in bare.notices, "the notice")
    shared.renderer.broken = False
    before = bare.images()
    bare.look((0.6, -1.0, 1.0), (0, 0, 0.5))
    wait_until(lambda: bare.images() > before, "the next image")
    errors.clear()  # that one was expected


def test_what_is_too_far_for_viser_stands_behind_everything(
    connect, shared: SharedScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare, session = connect()
    assert session.image.stream.wait_idle(PATIENCE)
    wait_until(lambda: bare.images() > 0)
    assert bare.latest["BackgroundImageMessage"]["depth_data"]
    render = shared.renderer.render

    def in_millimetres(camera: Camera) -> dict[str, np.ndarray]:
        rendered = render(camera)
        return {**rendered, "depth_z": 1000 * rendered["depth_z"]}

    monkeypatch.setattr(shared.renderer, "render", in_millimetres)
    bare.look((0.5, -1.0, 1.0), (0, 0, 0.5))
    # An image from before may still be on its way.
    wait_until(lambda: bare.latest["BackgroundImageMessage"]["depth_data"] is None, "an image without depth")
    assert session.context.messages == []


def test_a_browser_that_leaves_takes_only_itself_away(viewer: Viewer, connect) -> None:
    bare, _ = connect()
    other, second = connect()
    bare.close()
    wait_until(lambda: len(viewer.sessions) == 1, "the first to be gone")
    before = other.images()
    other.look((0.5, -1.0, 1.0), (0, 0, 0.5))
    wait_until(lambda: other.images() > before, "an image")
    assert second.image.stream.wait_idle(PATIENCE)


def test_a_browser_that_leaves_while_it_is_greeted_is_forgotten(
    viewer: Viewer, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    def late(client, *rest) -> ClientSession:
        made.append(ClientSession(client, *rest))
        bare.close()
        wait_until(lambda: client.client_id not in viewer.server.get_clients(), "viser to notice")
        time.sleep(0.2)  # it is told off before it is registered
        return made[0]

    monkeypatch.setattr("ovseg3d.viewer.app.ClientSession", late)
    bare = Bare(viewer.url, tuple(EYE), TARGET, (320, 240))
    wait_until(lambda: made and made[0].image.stream.closed, "the session to be closed")
    assert viewer.sessions == {}


def test_a_browser_that_is_greeted_as_training_ends_shows_the_newest(
    viewer: Viewer, connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(client, shared: SharedScene, report) -> ClientSession:
        made = ClientSession(client, shared, report)
        shared.version += 1  # those who are there already are told of it
        return made

    monkeypatch.setattr("ovseg3d.viewer.app.ClientSession", late)
    _, session = connect()
    wait_until(lambda: session._version == viewer.shared.version, "the new version to be shown")


def test_nodes_of_instances_are_changed_under_the_lock(connect, monkeypatch: pytest.MonkeyPatch) -> None:
    _, session = connect()
    clear, held = session.context.nodes.clear, []

    def cleared(group: str) -> None:
        held.append(session.context.lock._lock._is_owned())
        clear(group)

    monkeypatch.setattr(session.context.nodes, "clear", cleared)
    session.instances.show()
    assert held and all(held)


def test_viser_cannot_be_made_to_open_a_tunnel(viewer: Viewer, connect, monkeypatch: pytest.MonkeyPatch) -> None:
    bare, session = connect()
    opened: list[tuple] = []
    monkeypatch.setattr("viser._tunnel.ViserTunnel.__init__", lambda *arguments: opened.append(arguments))
    bare.send("ShareUrlRequest")
    bare.look((0.5, -1.0, 1.0), (0, 0, 0.5))  # what is sent later is seen to later
    wait_until(lambda: np.allclose(session.view.eye, (0.5, -1.0, 1.0)), "the move")
    assert viewer.server.request_share_url() is None and opened == []


# -- training ------------------------------------------------------------------------------------------------------


def test_a_new_surface_takes_the_numbers_of_the_old_one_away(connect, run, shared: SharedScene, tmp_path: Path) -> None:
    shared.run = load(copytree(run.folder, tmp_path / "run"))
    shared.refresh()
    bare, session = connect(tuple(EYE))
    tab, view, switches = session.ask, session.view, session.layers.switches
    switches.points.value = switches.instances.value = True
    session.ask.selection.select(EYE, np.array(INSTANCES["wooden chair"]["center"]) - EYE)
    session.ask.selection.more_like_this()
    tab.ask(Question(("sofa",)))
    session.layers.layer.value = layers.ANSWER
    engine, reply = shared.engine, view.reply
    wait_until(lambda: bare.received("/points") == 1, "the points")
    shared.refresh()  # a checkpoint of the field alone
    session.field_changed()
    assert shared.engine is engine and view.reply is reply

    save_semantics(shared.run.folder, playroom.meaning(*playroom.exact_surface(PLAYROOM, 10_000)))
    shared.refresh()
    count = len(shared.semantics.surface)
    assert count < len(engine.semantics.surface) / 2
    session.field_changed()
    assert view.reply is None and session.view.selection is None and session.context.nodes.highlighted == 0
    assert [question.title for question in tab.history] == ["sofa"] and tab.earlier.options == ("-", "sofa")
    assert 0 < sum(instance.n_points for instance in session.view.instances) < count
    wait_until(lambda: bare.received("/points") >= 2, "the new points")
    highlights = bare.received("/highlight")
    tab.ask(Question(("sofa",)))
    wait_until(lambda: bare.received("/highlight") > highlights, "what is sent last")
    assert bare.received("/points") == 2, "none were sent after the checkpoint of the field alone"
    assert 0 < session.context.nodes.highlighted < count
    session.layers.layer.value = layers.ANSWER
    assert session.image.stream.wait_idle(PATIENCE) and session.context.messages == []


def test_what_was_found_on_a_surface_that_has_gone_meanwhile_is_not_shown(
    connect, run, shared: SharedScene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A surface is replaced while the encoder is at work, and the session is told of it later."""
    shared.run = load(copytree(run.folder, tmp_path / "run"))
    shared.refresh()
    _, session = connect(tuple(EYE))
    tab, view, labels, switches = session.ask, session.view, session.layers.labels, session.layers.switches
    where = np.array(INSTANCES["wooden chair"]["center"]) - EYE
    tab.selection.select(EYE, where)
    labels.make()
    tab.ask(Question(("wall",)))
    former, engine, clicked, reply = shared.semantics, shared.engine, view.selection, view.reply

    def then_replace(work: Callable) -> Callable:
        def call(*arguments, **options):
            done = work(*arguments, **options)
            shared.engine = anew
            return done

        return call

    save_semantics(shared.run.folder, playroom.meaning(*playroom.exact_surface(PLAYROOM, 10_000)))
    shared.refresh()
    anew = shared.engine
    assert len(anew.semantics.surface) < len(former.surface) / 2
    # What is shown is of the former surface.
    switches.points.value = switches.instances.value = True
    session.ask.display.opacity.value = 0.3
    session.context.nodes.show_points(former.surface.rgb, True)
    assert len(session.context.nodes._points.colors) == len(anew.semantics.surface)
    assert {instance.label for instance in session.view.instances} == {None}, "labels are of the former one, too"
    session.ask.display.threshold.value = 0.55
    assert view.reply.question.phrases == ("wall",) and session.context.messages == []
    switches.instances.value = False
    labels.forget()
    shared.engine = engine
    for name, use in (
        ("ask", lambda: tab.ask(Question(("an elephant", "wall")))),
        ("closed", lambda: tab.selection.select(EYE, where)),
        ("labels", labels.make),
        ("labels", lambda: setattr(switches.instances, "value", True)),
    ):
        view.reply, view.selection = reply, clicked
        with monkeypatch.context() as patch:
            patch.setattr(engine, name, then_replace(getattr(engine, name)))
            use()
        assert shared.engine is anew and view.reply is reply and view.selection is clicked, name
        assert view.labelling is None and session.view.instances == () and session.context.messages == [], name
        shared.engine = engine
    shared.engine = anew
    tab.selection.more_like_this()
    assert view.reply is reply
    with pytest.raises(RunError, match="replaced since the click"):
        describe(shared, clicked.spot)
    session._version = -1
    session.field_changed()
    assert view.reply is None and view.selection is None and session.context.messages == []
    tab.ask(Question(("floor",)))
    assert view.reply.semantics is shared.semantics and len(session.view.instances) > 0


def test_an_engine_may_be_removed_at_any_moment(shared: SharedScene, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = shared.engine
    for use in (lambda: shared.semantics, lambda: shared.cloud, shared.need_engine, shared.prepare):
        seen = iter([engine])
        monkeypatch.setattr(SharedScene, "engine", property(lambda _, seen=seen: next(seen, None)), raising=False)
        use()
        assert next(seen, None) is None, "it was there once"


def test_what_was_learnt_of_a_former_field_goes(
    connect, run, shared: SharedScene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared.run = load(copytree(run.folder, tmp_path / "run"))
    shared.refresh()
    bare, session = connect(tuple(EYE))
    tab, view, switches = session.ask, session.view, session.layers.switches
    switches.points.value = switches.instances.value = True
    tab.ask(Question(("sofa",)))
    session.layers.layer.value = layers.ANSWER
    renderer = shared.renderer
    monkeypatch.setattr("ovseg3d.viewer.shared_scene.restore", lambda *_: renderer)
    (shared.run.folder / FILE).unlink()
    shared.refresh()
    session.field_changed()
    assert shared.semantics is None and "no semantics" in shared.notes[0]
    assert view.reply is None and session.context.nodes.highlighted == 0 and not session.view.instances
    tab.phrases.value = "sofa"
    tab.ask_typed()
    assert view.reply is None and "no semantics" in tab.answer.content
    assert session.image.stream.wait_idle(PATIENCE)


def test_a_follower_goes_on_after_a_mistake_and_says_so(shared: SharedScene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ovseg3d.viewer.follow.POLL_SECONDS", 0.02)
    states = iter([ValueError("odd")] * 3 + ["running", ValueError("odd"), "running"])
    told, failed, seen = [], [], []

    def status() -> dict[str, str]:
        now = next(states, "done")
        seen.append(shared.training)
        if isinstance(now, Exception):
            raise now
        return {"status": now}

    monkeypatch.setattr(type(shared.run), "status", lambda _: status())
    follower = Follower(shared, told.append, failed.append)
    follower.join(PATIENCE)
    assert [str(error) for error in failed] == ["odd", "odd"], "once for each time that it began"
    assert told == ["Training begins.", ""] and True in seen and not shared.training


# -- the end -----------------------------------------------------------------------------------------------------------


def test_the_end_waits_for_no_question(shared: SharedScene, errors: list[str]) -> None:
    """viser's threads outlive the server, and Python does not end before them."""
    with Viewer(shared, port=7310, notice=errors.append) as viewer:
        bare = Bare(viewer.url, tuple(EYE), TARGET, (320, 240))
        wait_until(lambda: viewer.sessions, "the session")
        (session,) = viewer.sessions.values()
        asked = threading.Thread(
            target=session.context.guarded(session.ask.ask), args=(Question(("sofa",)),), daemon=True
        )
        with shared.query_lock:  # somebody loads an encoder, for minutes
            asked.start()
            viewer.stop()
            asked.join(PATIENCE)
            assert not asked.is_alive() and viewer.wait_ready(0.0)
        assert session.view.reply is None and session.context.messages == ["The viewer has been closed"]
        with pytest.raises(RunError, match="closed"):
            ask(shared, Question(("sofa",)))
        bare.close()


def test_nothing_is_asked_of_an_encoder_that_comes_after_the_end(
    shared: SharedScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(shared.engine, "encode", lambda _: shared.close())
    monkeypatch.setattr(shared.engine, "ask", asked.append)
    shared.prepare()
    assert asked == []


# -- without a field, without a run ----------------------------------------------------------------------------------


def test_a_scene_without_a_run_shows_its_cameras(tiny_scene: Path, errors: list[str]) -> None:
    shared = SharedScene(load_scene(tiny_scene))
    assert shared.renderer is None and shared.notes
    with Viewer(shared, port=7320, notice=errors.append) as viewer:
        bare = Bare(viewer.url, (2.0, 2.0, 1.0), (0, 0, 0))
        wait_until(lambda: viewer.sessions)
        wait_until(lambda: bare.count["CameraFrustumMessage"] == 8, "the cameras")
        (session,) = viewer.sessions.values()
        session.ask.phrases.value = "a chair"
        session.ask.ask_typed()
        assert "no semantics" in session.ask.answer.content and errors == []
        bare.close()


@pytest.mark.parametrize("host", ["203.0.113.7", "no-such-host.invalid", "a" * 70, "."])
def test_a_host_that_is_not_ours_is_refused(host: str) -> None:
    with pytest.raises(OutputError, match="cannot listen") as caught:
        find_free_port(host, 7330)
    assert "--host 127.0.0.1" in caught.value.fix


def test_ports_that_are_taken_are_passed_over(tiny_scene: Path) -> None:
    with socket.create_server(("127.0.0.1", 65535)), pytest.raises(OutputError, match="no port is free"):
        Viewer(SharedScene(load_scene(tiny_scene)), port=65535)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        if port < 65535:
            assert find_free_port("127.0.0.1", port)[1] > port


def test_urls_of_ipv6_hosts_have_brackets() -> None:
    assert url_of("::1", 7007) == "http://[::1]:7007" == url_of("::", 7007)
    assert url_of("0.0.0.0", 7007) == "http://127.0.0.1:7007" and url_of("room.local", 1) == "http://room.local:1"


def test_what_is_opened_is_a_run_or_a_scene(tmp_path: Path, tiny_scene: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunError):
        open_shared_scene(tmp_path / "nowhere")
    assert open_shared_scene(tiny_scene).run is None
