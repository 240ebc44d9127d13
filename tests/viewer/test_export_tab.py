"""Exports from the viewer, without a browser: images, videos and files, and no other file is sent."""

import html
import json
import threading
from pathlib import Path

import numpy as np
import pytest

from ovseg3d.errors import ConfigError, OutputError
from ovseg3d.render.frames import image_of, render_video
from ovseg3d.render.paths import read_nerfstudio_path
from ovseg3d.runs.folder import RunFolder
from ovseg3d.viewer import downloads, layers
from ovseg3d.viewer.answers import Question
from ovseg3d.viewer.camera_path import as_nerfstudio, smooth_path
from ovseg3d.viewer.tabs import export, video
from ovseg3d.viewer.viewpoint import Viewpoint
from scripts.benchmarks.viewer_client import wait_until


def test_a_recorded_path_is_read_back_as_it_was(tmp_path: Path) -> None:
    keys = [Viewpoint((0.9, 0.1, 0.3, 0.2), (0.0, 0.0, float(i)), 0.9, 641, 481) for i in range(3)]
    path = smooth_path(keys, 2.0, 320, fps=5.0)
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
            smooth_path(few, seconds, 320)


def test_nothing_outside_exports_is_ever_sent(tmp_path: Path) -> None:
    exports = tmp_path / "run" / "exports"
    exports.mkdir(parents=True)
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    (exports / "link.txt").symlink_to(secret)
    (exports / "fine.txt").write_text("fine")
    for path in (secret, exports / "link.txt", exports / ".." / ".." / "secret.txt"):
        with pytest.raises(OutputError):
            downloads.pack_files(exports, [path])
    assert downloads.pack_files(exports, [exports / "fine.txt"]) == ("fine.txt", b"fine")


def test_images_videos_and_files_land_in_exports(
    connect, run, monkeypatch: pytest.MonkeyPatch, errors: list[str]
) -> None:
    bare, session = connect()
    tab = session.export
    tab.save_image()
    tab.save_image()
    tab.video.add_view()
    bare.look((0.5, -1.0, 1.0), (0, 0, 0.5))
    wait_until(lambda: session.view.viewpoint != tab.video.views[0])
    tab.video.add_view()
    tab.video.seconds.value = 1.0
    monkeypatch.setattr(video, "VIDEO_WIDTH", 64)
    tab.video.save_video()
    assert [path.name for path in tab.jobs.saved[:2]] == ["image-0001.png", "image-0002.png"]
    assert {path.suffix for path in tab.jobs.saved[2:]} == {".mp4", ".json"}
    assert all(path.is_relative_to(run.exports) and path.stat().st_size > 100 for path in tab.jobs.saved)
    assert "ovseg3d render" in tab.jobs.result.content
    assert len(read_nerfstudio_path(tab.jobs.saved[-1]).cameras) == 24
    wait_until(lambda: bare.count["FileTransferStartDownload"] == 3, "the downloads")

    session.layers.labels.text.value = "sofa\nrug; it's"
    tab.save("instances")
    assert tab.jobs.saved[-1] == run.exports / "instances.json" and tab.jobs.saved[-1].stat().st_size > 100
    assert "--what instances --phrases" in tab.jobs.result.content and "&#x27;" in tab.jobs.result.content
    for what in ("../../etc", "", "nothing"):
        with pytest.raises(ConfigError):
            tab.save(what)
    busy = threading.Lock()
    busy.acquire()
    monkeypatch.setattr(session.context.shared, "export_lock", busy)
    with pytest.raises(OutputError, match="Another export is being written"):
        tab.save("cloud")
    assert errors == []


def test_what_is_sent_is_packed_before_somebody_else_may_write(connect, monkeypatch: pytest.MonkeyPatch) -> None:
    _, session = connect()
    held = []

    def pack(*arguments) -> tuple[str, bytes | None]:
        held.append(session.context.shared.export_lock.locked())
        return pack_files(*arguments)

    pack_files = downloads.pack_files
    monkeypatch.setattr(downloads, "pack_files", pack)
    session.export.save("instances")
    assert held == [True] and not session.context.shared.export_lock.locked()


def test_a_cloud_is_thinned_and_written_as_las_where_that_is_wanted(connect, run, errors: list[str]) -> None:
    tab = connect()[1].export
    tab.points.value, tab.las.value = 500, True
    tab.save("instances")
    assert "--points" not in tab.jobs.result.content and "--las" not in tab.jobs.result.content, "it has neither"
    tab.save("cloud")
    assert "--what cloud --las --points 500" in html.unescape(tab.jobs.result.content)
    (las,) = (path for path in tab.jobs.saved if path.suffix == ".las")
    (arrays,) = (path for path in tab.jobs.saved if path.suffix == ".npz")
    with np.load(arrays) as held:
        assert 0 < len(held["xyz"]) <= 500 and las.stat().st_size > 500 * 12
    assert errors == []


KEYS = [Viewpoint((1.0, 0.0, 0.0, 0.0), (0.0, 0.0, 0.5 + 0.5 * i), 0.9, 320, 240) for i in range(2)]


def test_the_command_line_is_told_as_the_viewer_was(connect, monkeypatch: pytest.MonkeyPatch) -> None:
    _, session = connect()
    tab, shared = session.export, session.context.shared
    shared.device, shared.backend = "cpu", "torch"
    given, kinds = {}, []
    monkeypatch.setattr(export, "export_run", lambda run, what, folder, **options: given.update(options) or [])

    def render(renderer, cameras, paths, fps, **_) -> list[Path]:
        kinds.extend(paths)
        for path in paths.values():
            path.write_bytes(b"video")
        return list(paths.values())

    def shown(layer: str) -> str:
        session.layers.layer.value = layer
        session.layers.repaint()
        tab.video.save_video()
        return html.unescape(tab.jobs.result.content)

    tab.save("cloud")
    assert (given["device"], given["backend"]) == ("cpu", "torch") and "phrases" not in given
    assert "--what cloud --device cpu --backend torch<" in tab.jobs.result.content
    monkeypatch.setattr(video, "render_video", render)
    tab.video.views, tab.video.seconds.value = KEYS, 1.0
    for layer in (layers.COLOUR, layers.DEPTH, layers.FEATURES):
        assert f".json --what {layer.lower()} --device cpu --backend torch<" in shown(layer)
    assert kinds == ["colour", "depth", "colour"]
    session.layers.labels.text.value = "sofa\nrug"
    session.layers.labels.make()
    assert "--what labels --phrases 'sofa;rug' --device" in shown(layers.LABELS)
    session.ask.ask(Question(("teddy bear", "blue sofa")))
    session.ask.display.phrase.value = "blue sofa"
    assert "--what relevancy --phrase 'blue sofa' --device" in shown(layers.RELEVANCY)
    assert ".mp4" in shown(layers.ANSWER) and "command line" not in tab.jobs.result.content
    session.ask.ask(Question(("sofa",), negatives=("rug",)))
    assert "command line" not in shown(layers.RELEVANCY) and session.context.messages == []


def test_a_video_that_is_stopped_leaves_nothing_and_one_of_depth_has_one_scale(
    connect, run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, session = connect()
    tab, spans = session.export, []
    tab.video.views, tab.video.seconds.value = KEYS, 1.0
    monkeypatch.setattr(video, "VIDEO_WIDTH", 32)
    session.layers.layer.value = layers.DEPTH
    session.layers.repaint()

    def drawn(kind: str, rendered: dict, span: tuple | None = None) -> np.ndarray:
        spans.append((kind, span))
        return image_of(kind, rendered, span)

    monkeypatch.setattr("ovseg3d.render.frames.image_of", drawn)
    before = set((run.exports / "paths").glob("*"))
    tab.video.save_video()
    assert len(spans) == 24 and len(set(spans)) == 1 and spans[0][0] == "depth"
    made = set((run.exports / "paths").glob("*")) - before
    assert {path.suffix for path in made} == {".mp4", ".json"} and len(made) == 2

    def stopped(*arguments, stop: threading.Event, **options) -> list[Path]:
        stop.set()
        return render_video(*arguments, stop=stop, **options)

    monkeypatch.setattr(video, "render_video", stopped)
    tab.video.save_video()
    assert "Stopped" in tab.jobs.result.content and set((run.exports / "paths").glob("*")) == before | made
