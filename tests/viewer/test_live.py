"""The viewer follows a run in training; the two commands with a viewer, each in its own process."""

import http.client
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from tiny import small_settings

from ovseg3d.pipeline.train import train_scene
from ovseg3d.runs.folder import RunFolder
from ovseg3d.runs.settings import make_config
from ovseg3d.viewer.app import Viewer
from ovseg3d.viewer.shared_scene import SharedScene
from scripts.benchmarks.viewer_client import PATIENCE, Bare, wait_until


def test_training_is_shown_live_and_a_browser_does_not_disturb_it(tiny_scene: Path, tmp_path: Path) -> None:
    config = make_config("cpu", flags=small_settings(max_seconds=300.0, steps=None, checkpoint_seconds=0.5))
    served: list[Viewer] = []
    learnt: list[bool] = []
    stop = threading.Event()
    errors: list[str] = []

    def on_start(run: RunFolder) -> None:
        shared = SharedScene(run.load_scene(), run, "cpu")
        learnt.append(shared.renderer is not None)
        served.append(Viewer(shared, port=7340, notice=errors.append))

    worker = threading.Thread(
        target=lambda: train_scene(tiny_scene, config, output_dir=tmp_path / "run", on_start=on_start, stop=stop),
        daemon=True,
    )
    worker.start()
    wait_until(lambda: served, "the run to begin")
    (viewer,) = served
    assert learnt == [False]
    bare = Bare(viewer.url, (2.0, 2.0, 1.2), (0, 0, 0), (160, 120))
    wait_until(lambda: viewer.sessions, "the session")
    (session,) = viewer.sessions.values()
    wait_until(lambda: "Training" in session.status.content, "training to be told of")
    wait_until(lambda: bare.images() > 0, "an image of the young field")
    first = viewer.shared.version
    wait_until(lambda: viewer.shared.version > first, "the next checkpoint")
    stop.set()
    worker.join(2 * PATIENCE)
    wait_until(lambda: not viewer.shared.training and "Training" not in session.status.content, "the end")
    before = bare.images()
    bare.look((2.0, -2.0, 1.2), (0, 0, 0))
    wait_until(lambda: bare.images() > before, "an image of the trained field")
    viewer.stop()
    assert errors == []


class Server:
    """A command that serves."""

    def __init__(self, *arguments: object, folder: Path) -> None:
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", "COLUMNS": "200", "OMP_NUM_THREADS": "1"}
        environment["PYTHONPATH"] = str(Path(__file__).resolve().parents[2])
        self._process = subprocess.Popen(
            [sys.executable, "-m", "ovseg3d", *map(str, arguments)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=folder, env=environment,
        )  # fmt: skip
        self.said: list[str] = []
        threading.Thread(target=lambda: self.said.extend(iter(self._process.stdout.readline, "")), daemon=True).start()

    def wait_for(self, pattern: str, seconds: float = 2 * PATIENCE) -> re.Match:
        end = time.monotonic() + seconds
        while time.monotonic() < end and self._process.poll() is None:
            if found := re.search(pattern, "".join(self.said)):
                return found
            time.sleep(0.1)
        self._process.kill()
        pytest.fail(f"{pattern!r} was not said: {''.join(self.said)}")

    def interrupt(self) -> int:
        """Ctrl-C; returns the exit code."""
        self._process.send_signal(signal.SIGINT)
        return self._process.wait(PATIENCE)


def get(host: str, port: int, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(host, port, timeout=PATIENCE)
    connection.putrequest("GET", path, skip_accept_encoding=True)  # as it stands, with its dots
    connection.endheaders()
    answer = connection.getresponse()
    return answer.status, answer.read()


def test_view_serves_until_interrupted_and_gives_no_file_away(tiny_run: Path, tmp_path: Path) -> None:
    server = Server("view", tiny_run, "--port", 7360, folder=tmp_path)
    found = server.wait_for(r"http://([\d.]+):(\d+)")
    host, port = found[1], int(found[2])
    assert host == "127.0.0.1"
    status, page = get(host, port, "/")
    assert status == 200 and b"<html" in page.lower()
    for path in ("/config.json", f"/../../../../../../../../..{tiny_run}/config.json", "/%2e%2e/%2e%2e/etc/passwd"):
        status, content = get(host, port, path)
        assert b"format_version" not in content and b"root:" not in content and status in (400, 403, 404), path
    browser = Bare(found[0], (2.0, 2.0, 1.0), (0, 0, 0))
    wait_until(lambda: browser.count["GuiTabGroupMessage"], "the panel")
    assert server.interrupt() == 0, "".join(server.said)
    assert "Closed." in "".join(server.said)
    assert "Traceback" not in "".join(server.said) and "viser" not in "".join(server.said)


def test_train_view_goes_on_serving_what_was_trained(tiny_scene: Path, tmp_path: Path) -> None:
    field = {**small_settings()["field"]}
    flags = [text for name, value in field.items() for text in (f"--field.{name.replace('_', '-')}", value)]
    server = Server(
        "train", tiny_scene, "--only", "field", "--steps", 20, "--train-on-all", "--view", *flags, folder=tmp_path
    )
    server.wait_for(r"Watch it at")
    found = server.wait_for(r"The scene is still open at http://([\d.]+):(\d+)")
    assert get(found[1], int(found[2]), "/")[0] == 200
    assert server.interrupt() == 0
