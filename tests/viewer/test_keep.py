"""What visitors take away, without a browser: pictures, films, exports, and that nothing else is given away."""

import html
import json
import threading
from pathlib import Path

import numpy as np
import pytest
from bare import wait_until

from ovseg3d.errors import ConfigError, OutputError
from ovseg3d.render.frames import picture_of, render_film
from ovseg3d.render.paths import read_nerfstudio_path
from ovseg3d.session import Run
from ovseg3d.viewer import keep, layers
from ovseg3d.viewer.ask import Question
from ovseg3d.viewer.lens import Viewpoint
from ovseg3d.viewer.record import as_nerfstudio, flight


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


def test_pictures_films_and_exports_land_in_exports(
    visit, run, monkeypatch: pytest.MonkeyPatch, errors: list[str]
) -> None:
    bare, visitor = visit()
    keeper = visitor.keeper
    keeper.save_picture()
    keeper.save_picture()
    keeper.add_key()
    bare.look((0.5, -1.0, 1.0), (0, 0, 0.5))
    wait_until(lambda: visitor.pictures.viewpoint != keeper.keys[0])
    keeper.add_key()
    keeper.seconds.value = 1.0
    monkeypatch.setattr(keep, "FILM_WIDTH", 64)
    keeper.save_film()
    assert [path.name for path in keeper.saved[:2]] == ["picture-0001.png", "picture-0002.png"]
    assert {path.suffix for path in keeper.saved[2:]} == {".mp4", ".json"}
    assert all(path.is_relative_to(run.exports) and path.stat().st_size > 100 for path in keeper.saved)
    assert "ovseg3d render" in keeper.told.content
    assert len(read_nerfstudio_path(keeper.saved[-1]).cameras) == 24
    wait_until(lambda: bare.count["FileTransferStartDownload"] == 3, "the downloads")

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


def test_what_is_sent_is_packed_before_somebody_else_may_write(visit, monkeypatch: pytest.MonkeyPatch) -> None:
    _, visitor = visit()
    held = []

    def pack(*arguments) -> tuple[str, bytes | None]:
        held.append(visitor.exhibit.exporting.locked())
        return packed(*arguments)

    packed = keep.packed
    monkeypatch.setattr(keep, "packed", pack)
    visitor.keeper.export("instances")
    assert held == [True] and not visitor.exhibit.exporting.locked()


def test_a_cloud_is_thinned_and_written_as_las_where_that_is_wanted(visit, run, errors: list[str]) -> None:
    keeper = visit()[1].keeper
    keeper.points.value, keeper.las.value = 500, True
    keeper.export("instances")
    assert "--points" not in keeper.told.content and "--las" not in keeper.told.content, "it has neither"
    keeper.export("cloud")
    assert "--what cloud --las --points 500" in html.unescape(keeper.told.content)
    (las,) = (path for path in keeper.saved if path.suffix == ".las")
    (arrays,) = (path for path in keeper.saved if path.suffix == ".npz")
    with np.load(arrays) as held:
        assert 0 < len(held["xyz"]) <= 500 and las.stat().st_size > 500 * 12
    assert errors == []


KEYS = [Viewpoint((1.0, 0.0, 0.0, 0.0), (0.0, 0.0, 0.5 + 0.5 * i), 0.9, 320, 240) for i in range(2)]


def test_the_command_line_is_told_as_the_viewer_was(visit, monkeypatch: pytest.MonkeyPatch) -> None:
    _, visitor = visit()
    keeper, panel, exhibit = visitor.keeper, visitor.panel, visitor.exhibit
    exhibit.device, exhibit.backend = "cpu", "warp"
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
    assert (given["device"], given["backend"]) == ("cpu", "warp") and "phrases" not in given
    assert "--what cloud --device cpu --backend warp<" in keeper.told.content
    monkeypatch.setattr(keep, "render_film", film)
    keeper.keys, keeper.seconds.value = KEYS, 1.0
    for layer in (layers.COLOUR, layers.DEPTH, layers.FEATURES):
        assert f".json --what {layer.lower()} --device cpu --backend warp<" in shown(layer)
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

    monkeypatch.setattr("ovseg3d.render.frames.picture_of", picture)
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
