"""Names of views: resolution of short names, and files of views with similar names."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from commands import Cli

from ovseg3d.errors import ConfigError
from ovseg3d.export.answers import save_answers
from ovseg3d.export.labels import label_views
from ovseg3d.query.engine import QueryEngine
from ovseg3d.render.views import spread, view_files
from ovseg3d.runs.folder import RunFolder
from ovseg3d.scene import Scene

NAMES = ("cam/1.png", "cam_1.png", "1.png", "left/2.png", "right/2.png", "a.jpg", "a.png", "A.jpg")


@pytest.fixture
def named(run: RunFolder) -> Scene:
    """The tiny scene with `NAMES`."""
    scene = run.load_scene()
    frames = tuple(replace(frame, name=name) for frame, name in zip(scene.frames, NAMES, strict=True))
    return replace(scene, frames=frames)


def test_each_view_has_files_of_its_own(named: Scene) -> None:
    files = view_files(named)
    assert list(files) == list(NAMES)
    assert [*files.values()] == ["cam_1", "cam_1_2", "1", "left_2", "right_2", "a", "a_2", "A_3"]


def test_a_whole_name_comes_before_the_last_part_of_another(run: RunFolder, named: Scene) -> None:
    engine = QueryEngine(run, named)
    assert engine.frame("1.png").name == "1.png" and engine.frame("cam/1.png").name == "cam/1.png"
    assert engine.camera("cam_1.png") is named.frames[1].camera
    with pytest.raises(ConfigError, match="2 views are called '2.png'") as caught:
        engine.camera("2.png")
    assert "left/2.png" in str(caught.value.fix)
    with pytest.raises(ConfigError, match="no view"):
        engine.ask(["red"], views=["3.png"])


def test_answers_and_labels_of_all_views_are_written(run: RunFolder, named: Scene, tmp_path: Path) -> None:
    engine = QueryEngine(run, named)
    told = save_answers(tmp_path / "query", engine, engine.ask(["red"]), NAMES)
    assert len({*told[0]["masks"].values()}) == len(NAMES) == len([*(tmp_path / "query").rglob("masks/*.png")])
    views = label_views(tmp_path / "labels", engine, ["red", "sand"], NAMES)["views"]
    assert len({*views.values()}) == len(NAMES)
    assert all((tmp_path / "labels" / file).exists() for file in views.values())


def test_a_short_name_is_enough(run: RunFolder, tmp_path: Path) -> None:
    engine = QueryEngine(run)
    (told,) = save_answers(tmp_path, engine, engine.ask(["red"]), ["0002.png"])
    assert told["masks"]["0002.png"].name == "images_0002.png" and told["image"].exists()
    told = label_views(tmp_path / "labels", engine, ["red", "sand"], ["0002.png"])
    assert told["views"] == {"0002.png": "images_0002.png"} and told["image"].exists()
    with pytest.raises(ConfigError, match="no view"):
        save_answers(tmp_path / "none", engine, engine.ask(["red"]), ["3.png"])
    assert not (tmp_path / "none").exists()


def test_render_writes_all_views(run: RunFolder, named: Scene, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RunFolder, "load_scene", lambda self, *_: named)
    done = cli("render", run.folder, "--views", "all", "--what", "colour", "--json")
    assert done.returncode == 0, done.stderr
    assert len({*json.loads(done.stdout)["files"]}) == len(NAMES)


def test_views_are_spread_from_the_first_to_the_last() -> None:
    assert spread(range(9), 5) == [0, 2, 4, 6, 8] and spread("abcdefg", 4) == ["a", "c", "e", "g"]
    assert spread(["one"], 4) == ["one"] and spread((), 4) == []
