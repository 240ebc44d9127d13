"""The viewer's access control: which requests are admitted, and which messages of a browser are passed on."""

import http.server
import resource
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import msgspec.msgpack
import pytest
from browser import Browser
from hostile import CAMERA, attack, come, greeted, messages
from websockets.exceptions import InvalidStatus

from ovseg3d.viewer import access
from ovseg3d.viewer.access import MAX_MESSAGE_BYTES, MAX_TEXT_LENGTH, validate
from ovseg3d.viewer.app import Viewer
from ovseg3d.viewer.shared_scene import SharedScene
from scripts.benchmarks.viewer_client import wait_until


def status(url: str, **headers: str) -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


@pytest.mark.parametrize("host", ["evil.example", "evil.example:7300", "127.0.0.1.evil.com", "10.0.0.1", "[::2]", ""])
def test_a_foreign_host_is_refused(viewer: Viewer, host: str) -> None:
    assert status(viewer.url, Host=host) == 403


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:9999", "LOCALHOST", "[::1]:80"])
def test_this_machine_is_served_by_all_its_names_and_through_tunnels(viewer: Viewer, host: str) -> None:
    assert status(viewer.url, Host=host) == 200
    assert status(viewer.url, Host=host, Origin=f"http://{host}") == 200


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://127.0.0.1:1", "file://", "http://[", "x" * 9]
)
def test_a_foreign_origin_gets_no_websocket(viewer: Viewer, origin: str) -> None:
    with pytest.raises(InvalidStatus, match="403"):
        come(viewer.url, origin=origin)
    assert not viewer.sessions
    come(viewer.url, origin=viewer.url).close()


def test_one_browser_more_than_allowed_is_refused(viewer: Viewer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "MAX_CLIENTS", 2)
    first, second = (come(viewer.url, origin=viewer.url) for _ in range(2))
    with pytest.raises(InvalidStatus, match="403"):
        come(viewer.url, origin=viewer.url)
    first.close()
    wait_until(lambda: status(viewer.url) == 200, "the first to be gone")
    come(viewer.url, origin=viewer.url).close()
    second.close()


def test_other_machines_need_the_token(shared: SharedScene, errors: list[str]) -> None:
    with Viewer(shared, "0.0.0.0", 7400, errors.append) as viewer:
        page, _, token = viewer.url.partition("/?token=")
        assert len(token) > 20
        assert status(page) == status(f"{page}/?token=x") == status(f"{page}/?token=") == 403
        with urllib.request.urlopen(viewer.url, timeout=10) as answer:
            cookie = answer.headers["Set-Cookie"]
        assert "HttpOnly" in cookie and "SameSite=Strict" in cookie
        cookie = cookie.partition(";")[0]
        assert status(page, Cookie=cookie) == 200 and status(page, Cookie="ovseg3d=x") == 403
        with pytest.raises(InvalidStatus, match="403"):
            come(page)
        with pytest.raises(InvalidStatus, match="403"):
            come(page, origin="http://evil.example", additional_headers={"Cookie": cookie})
        come(page, origin=page, additional_headers={"Cookie": cookie}).close()


def test_a_page_is_not_shown_inside_another(viewer: Viewer) -> None:
    with urllib.request.urlopen(viewer.url, timeout=10) as answer:
        assert answer.headers["Content-Security-Policy"] == "frame-ancestors 'self'"


@pytest.mark.parametrize(
    "changes",
    [
        {"wxyz": [0, 0, 0, 0]},
        {"wxyz": [float("nan"), 0, 0, 1]},
        {"position": [1e300, 0, 0]},
        {"image_width": 10**12, "image_height": 2},
        {"image_width": 16_385},
        {"image_width": 5001, "image_height": 100},
        {"image_height": 0},
        {"image_height": True},
        {"fov": 4.0},
        {"type": "GuiUpdateMessage"},
        {"type": "Message"},
    ],
)
def test_what_no_camera_says_is_dropped(changes: dict) -> None:
    assert validate(msgspec.msgpack.encode(CAMERA)) is not None
    assert validate(msgspec.msgpack.encode({**CAMERA, **changes})) is None


@pytest.mark.parametrize(
    "updates",
    [{"update_cb": "x"}, {"value": "x" * (MAX_TEXT_LENGTH + 1)}, {"value": 1e300}, {"value": {}}, {}, [], None],
)
def test_what_no_control_says_is_dropped(updates: object) -> None:
    message = {"type": "GuiUpdateMessage", "uuid": "a"}
    assert validate(msgspec.msgpack.encode({**message, "updates": {"value": "mug"}})) is not None
    assert validate(msgspec.msgpack.encode({**message, "updates": updates})) is None


def test_a_control_takes_only_what_it_offers(connect, viewer: Viewer) -> None:
    bare, session = connect()
    before = session.ask.display.threshold.value, session.layers.layer.value
    for control in (session.ask.display.threshold, session.layers.layer):
        for value in ("other", -5.0, 1e6, True, ["x"]):
            message = {"type": "GuiUpdateMessage", "uuid": control._impl.uuid, "updates": {"value": value}}
            bare._socket.send(msgspec.msgpack.encode(message))
    message = {"type": "GuiUpdateMessage", "uuid": session.ask.display.threshold._impl.uuid, "updates": {"value": 0.7}}
    bare._socket.send(msgspec.msgpack.encode(message))
    end = time.monotonic() + 20
    while session.ask.display.threshold.value == before[0] and time.monotonic() < end:
        time.sleep(0.05)
    assert (session.ask.display.threshold.value, session.layers.layer.value) == (0.7, before[1])


def test_a_hostile_browser_does_not_disturb_the_others(connect, viewer: Viewer) -> None:
    """Neither its messages, nor a megabyte at once, nor uploads that nobody asked for."""
    connect()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    attack(viewer.url, [b"x" * (MAX_MESSAGE_BYTES + 1), *messages(0, 300)])
    assert greeted(viewer.url)
    assert len(viewer.sessions) >= 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**20  # KiB


@pytest.fixture
def foreign_page(viewer: Viewer, tmp_path: Path) -> Iterator[str]:
    """The address of a page of another origin, which tries to reach the viewer."""
    (tmp_path / "index.html").write_text(
        f"""<p id=said></p><script>
        const say = text => document.getElementById('said').textContent += text + ' ';
        const socket = new WebSocket('{viewer.url.replace("http", "ws")}', ['viser-v0']);
        socket.onopen = () => say('socket-open'); socket.onerror = () => say('socket-refused');
        fetch('{viewer.url}').then(() => say('fetched')).catch(() => say('fetch-refused'));
        </script>"""
    )

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(tmp_path))

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_foreign_page_is_refused_in_a_real_browser(viewer: Viewer, foreign_page: str, tmp_path: Path) -> None:
    browser = Browser(tmp_path / "chromium")
    try:
        page = browser.open(foreign_page)
        page.wait_text("socket-refused")
        page.wait_text("fetch-refused")
        assert "socket-open" not in page.js("document.body.innerText")
        assert not viewer.sessions
        # Its own page is served, in the same browser.
        browser.open(viewer.url).wait_text("Export")
    finally:
        browser.close()
