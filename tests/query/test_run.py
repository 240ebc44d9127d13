"""The Python interface to a run: what it keeps, and what it refuses."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from ovseg3d.errors import ConfigError, RunError
from ovseg3d.heads.pose import Pose
from ovseg3d.instances.kept_poses import FILE
from ovseg3d.instances.records import InstancePoints
from ovseg3d.query.engine import QueryEngine
from ovseg3d.query.poses import InstancePose
from ovseg3d.session import Run, load


@pytest.fixture
def own(run: Run, tmp_path: Path) -> Run:
    """A run of one's own to write to."""
    shutil.copytree(run.folder, tmp_path / "own")
    return load(tmp_path / "own")


def test_several_phrases_are_no_phrase(own: Run) -> None:
    with pytest.raises(ConfigError, match="several phrases") as told:
        own.query("red;green")
    assert told.value.fix == 'run.query(["red", "green"])'
    assert [one.phrase for one in own.query(["red", "green"])] == ["red", "green"]
    assert own.query("red").phrase == "red" and own.query([]) == []


def test_a_capture_may_have_moved(own: Run, run: Run) -> None:
    settings = own.folder / "config.json"
    settings.write_text(settings.read_text().replace(str(run.scene_path), "/nowhere"))
    with pytest.raises(RunError, match="no longer where they were") as told:
        load(own.folder).load_scene()
    assert "scene=PATH" in str(told.value.fix)
    moved = load(own.folder, scene=run.scene_path)
    assert moved.load_scene().path == run.scene_path
    view = moved.load_scene().frames[0].name
    assert view in moved.query("red", views=[view]).masks


def test_poses_are_kept_and_answers_have_them(own: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    before = own.query("red").instances
    assert before and all(one.pose is None for one in before)
    semantics = QueryEngine(own).semantics
    pose = Pose((1.0, 0.0, 0.0, 0.0), 1, 0.9, "fused")
    found = tuple(InstancePose(one, pose) for one in InstancePoints(semantics.surface, semantics.instance).records())
    found += (InstancePose(replace(found[0].instance, id=99), None),)
    monkeypatch.setattr("ovseg3d.session.pose_in_run", lambda *_, **__: found)
    assert own.pose() == found and (own.folder / FILE).exists()
    for asked in (own, load(own.folder)):
        kept = [one.pose for one in asked.query("red").instances]
        assert kept and all(one is not None and one["front"] == pytest.approx([0, -1, 0]) for one in kept)
