"""Sparse points in a run: written, cached, kept on resuming, applied to cameras."""

import shutil
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from tiny import small_settings

from ovseg3d.engine import Event, latest_checkpoint
from ovseg3d.errors import ConfigError, RunError
from ovseg3d.pipeline.train import train_scene
from ovseg3d.runs.config import Config
from ovseg3d.runs.fields import SPARSE_FILE, load_sparse, refined
from ovseg3d.runs.folder import RunFolder
from ovseg3d.runs.settings import make_config
from ovseg3d.synth import Views, synthesise
from ovseg3d.synth.render import DRAFT


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A room without the file that calls it synthetic."""
    folder = tmp_path_factory.mktemp("real") / "room"
    synthesise(
        folder, room="playroom", views=Views(train=12, test=2, width=160, height=120, depth="none"), detail=DRAFT
    )
    (folder / "synth.json").unlink()
    return folder


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    flags = {"scene": {}, "encode": {"cache_dir": str(tmp_path_factory.mktemp("cache"))}}
    return make_config("cpu", flags=small_settings(steps=20) | flags)


@pytest.fixture(scope="module")
def made(real: Path, config: Config, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return train_scene(real, config, output_dir=tmp_path_factory.mktemp("runs") / "straight")


def test_a_run_of_real_photos_keeps_its_points_and_poses(made: RunFolder):
    scene = made.load_scene()
    sparse = load_sparse(made, scene)
    assert sparse is not None and len(sparse.points) > 30
    moved = refined(made, scene)
    for view, pose in zip(scene.train, sparse.c2w):
        np.testing.assert_array_equal(moved.frames[view].camera.c2w, pose)
    for view in scene.test:
        np.testing.assert_array_equal(moved.frames[view].camera.c2w, scene.frames[view].camera.c2w)


def test_another_run_takes_them_from_the_cache_and_a_resumed_one_has_the_same_bits(
    made: RunFolder, config: Config, real: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def unexpected(*_: object, **__: object) -> None:
        raise AssertionError("made again")

    monkeypatch.setattr("ovseg3d.pipeline.sparse.reconstruct", unexpected)
    monkeypatch.setattr("ovseg3d.engine.loop.PROGRESS_EVERY", 0.0)
    stop, messages = threading.Event(), []

    def report(event: Event) -> None:
        messages.append(event.message or "")
        if event.stage == "field" and event.step >= 8:
            stop.set()

    half = train_scene(real, config, output_dir=tmp_path / "half", report=report, stop=stop)
    assert any("points" in message for message in messages) and half.status()["status"] == "interrupted"
    resumed = train_scene(real, config, resume=half)
    first, second = (latest_checkpoint(run.checkpoints) for run in (made, resumed))
    assert first is not None and second is not None
    left, right = load_file(first), load_file(second)
    assert left.keys() == right.keys()
    for name, tensor in left.items():
        np.testing.assert_array_equal(tensor, right[name], err_msg=name)
    assert (made.folder / SPARSE_FILE).read_bytes() == (resumed.folder / SPARSE_FILE).read_bytes()


def test_damaged_points_are_an_error_that_names_the_file(made: RunFolder, tmp_path: Path):
    folder = Path(shutil.copytree(made.folder, tmp_path / "run"))
    from ovseg3d.runs.folder import open_run

    run = open_run(folder)
    scene = run.load_scene()
    for damage in (b"", b"x" * 100, (folder / SPARSE_FILE).read_bytes()[:-10]):
        (folder / SPARSE_FILE).write_bytes(damage)
        with pytest.raises(RunError, match="sparse points are unusable"):
            refined(run, scene)


def test_too_few_matches_are_said_and_training_goes_on(tiny_scene: Path, config: Config, tmp_path: Path):
    events: list[Event] = []
    run = train_scene(tiny_scene, config, output_dir=tmp_path / "run", report=events.append)
    assert any("too few matches" in event.message for event in events)
    assert not (run.folder / SPARSE_FILE).exists() and run.status()["status"] == "done"


def test_a_depth_prior_sees_each_photo_once_and_shapes_the_depth(
    made: RunFolder, config: Config, real: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    seen = []

    class Prior:
        weight_hash = "0" * 16

        def disparity(self, photo: np.ndarray, intrinsics: tuple[float, ...]) -> np.ndarray:
            """The completed disparity of the run without a prior, with waves on it."""
            alone = plain.disparity[completed[len(seen)]]
            seen.append((photo.shape, intrinsics))
            rows, columns = np.indices(photo.shape[:2]) // plain.cell[0]
            return 20 * alone[np.minimum(rows, alone.shape[0] - 1), np.minimum(columns, alone.shape[1] - 1)] + rows % 2

    plain = load_sparse(made, made.load_scene())
    assert plain is not None
    completed = np.flatnonzero(np.isfinite(plain.disparity_sigma).any((1, 2)))  # the others have too few points
    monkeypatch.setattr("ovseg3d.pipeline.sparse.load_depth_estimator", lambda *_: Prior())
    config = replace(config, scene=replace(config.scene, depth_prior="a/model"))
    run = train_scene(real, config, output_dir=tmp_path / "run")
    shaped = load_sparse(run, run.load_scene())
    camera = run.load_scene().frames[0].camera
    lens = (camera.fx, camera.fy, camera.cx, camera.cy)
    assert shaped is not None and seen == [((120, 160, 3), lens)] * len(completed) and len(seen) > 3
    np.testing.assert_array_equal(shaped.c2w, plain.c2w)
    assert np.abs(shaped.disparity / plain.disparity - 1).max() > 0.01


def test_a_depth_prior_without_sparse_depth_is_refused():
    with pytest.raises(ConfigError, match="needs sparse depth"):
        make_config("cpu", flags={"scene": {"depth_prior": "a/model", "sparse_depth": "off"}})
