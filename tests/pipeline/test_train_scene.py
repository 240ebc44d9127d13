"""Training from Python: content of a run, resuming to the same bits, stopping, and failures."""

import errno
import json
import math
import os
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from commands import Cli
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from tiny import small_settings, with_emptying, write_tiny_scene

from ovseg3d.engine import Event
from ovseg3d.errors import ConfigError, DeviceError, OutputError, RunError, SceneError
from ovseg3d.evaluate.views import evaluate
from ovseg3d.pipeline.train import train_scene
from ovseg3d.runs import devices
from ovseg3d.runs.config import Config
from ovseg3d.runs.fields import refined, restore
from ovseg3d.runs.folder import RunFolder
from ovseg3d.runs.settings import make_config
from ovseg3d.session import load


def settings(**train: object) -> Config:
    return make_config("cpu", flags=small_settings(**train))


def tensors(run: RunFolder) -> dict[str, np.ndarray]:
    (path,) = run.checkpoints.glob("*.safetensors")
    return load_file(path)


def test_a_run_holds_what_design_says(tiny_run: Path) -> None:
    run = load(tiny_run)
    assert run.status()["status"] == "done" and run.status()["step"] == 40
    metrics = run.metrics()
    for key in ("train_seconds", "steps", "psnr", "psnr_aligned", "ssim", "depth_rel_median", "peak_anonymous_bytes"):
        assert isinstance(metrics[key], int | float) and math.isfinite(metrics[key]), key
    assert metrics["steps"] == 40 and metrics["device"] == "cpu" and metrics["backend"] == "warp"
    assert 50e6 < metrics["peak_anonymous_bytes"] < 4e9
    assert not any(isinstance(value, dict | list) for value in metrics.values())
    lines = [json.loads(line) for line in run.metrics_log.read_text().splitlines()]
    assert lines and all({"step", "seconds", "psnr"} <= set(line) for line in lines)
    names = {path.name for path in run.previews.iterdir()}
    assert names == {"heldout.png", "000_0000.png", "001_0004.png"}
    sheet = Image.open(run.previews / "heldout.png")
    assert sheet.width > 4 * 32 and sheet.height > 2 * 32


def test_settings_may_be_a_mapping(tiny_scene: Path, tmp_path: Path) -> None:
    run = train_scene(tiny_scene, small_settings(steps=2, device="cpu"), output_dir=tmp_path / "run")
    assert run.metrics()["steps"] == 2 and run.config.train.steps == 2
    with pytest.raises(ConfigError, match="stepz"):
        train_scene(tiny_scene, {"train": {"stepz": 2}}, output_dir=tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_restored_field_renders_what_was_measured(tiny_run: Path) -> None:
    run = load(tiny_run)
    scene = run.load_scene()
    mean = evaluate(restore(run, scene), scene).mean()
    assert mean["psnr"] == pytest.approx(run.metrics()["psnr"], abs=1e-4)
    assert mean["depth_rel_median"] == pytest.approx(run.metrics()["depth_rel_median"], rel=1e-4)


def test_training_learns(tiny_scene: Path, tmp_path: Path) -> None:
    """Better than the best constant image (14.2 dB); on training views, since six are too few to hold any out."""
    flags = small_settings(steps=250)
    flags["field"]["bounds"] = "bounded"
    run = train_scene(tiny_scene, make_config("cpu", flags=flags), output_dir=tmp_path / "run")
    scene = run.load_scene()
    assert evaluate(restore(run, scene), scene, scene.train).mean()["psnr"] > 15.5


def test_training_views_are_looked_at_from_where_the_run_moved_them(tiny_scene: Path, tmp_path: Path, cli: Cli) -> None:
    from ovseg3d.evaluate.views import evaluate

    flags = with_emptying(small_settings(steps=60)) | {"scene": {"refine_poses": "on", "train_on_all": True}}
    flags["field"]["photo_learning_rate"] = 1e-2
    run = train_scene(tiny_scene, make_config("cpu", flags=flags), output_dir=tmp_path / "run")
    scene, renderer = run.load_scene(), restore(run, run.load_scene())
    moved = refined(run, scene)
    there = {score.name: score.psnr for score in evaluate(renderer, moved, scene.train).views}
    before = {score.name: score.psnr for score in evaluate(renderer, scene, scene.train).views}
    assert np.mean([abs(there[name] - before[name]) for name in there]) > 0.01
    measured = json.loads((run.folder / "views.json").read_text())["views"]
    done = cli("eval", run.folder, "--views", "train", "--json")
    for scores in (measured, json.loads(done.stdout)["views"]):
        wanted = [there[score["name"]] for score in scores]
        assert [score["psnr"] for score in scores] == pytest.approx(wanted, abs=1e-4)
    done = cli("render", run.folder, "--views", "train", "--json")
    with Image.open(json.loads(done.stdout)["files"][0]) as image:
        wanted = renderer.render(moved.frames[0].camera)["rgb"]
        np.testing.assert_allclose(np.asarray(image) / 255, wanted, atol=0.01)


def test_cameras_stay_without_refinement_and_need_their_corrections_with_it(tiny_run: Path) -> None:
    run = load(tiny_run)
    scene = run.load_scene()
    assert refined(run, scene) is scene
    refining = replace(run, config=replace(run.config, scene=replace(run.config.scene, refine_poses="on")))
    for view, frame in enumerate(refined(refining, scene).frames):  # which has learnt none
        np.testing.assert_array_equal(frame.camera.c2w, scene.frames[view].camera.c2w)
    with pytest.raises(RunError, match="'photos'"):
        refined(refining, replace(scene, train=scene.train[1:]))


def test_events_tell_the_story(tiny_scene: Path, tmp_path: Path) -> None:
    events: list[Event] = []
    train_scene(tiny_scene, settings(steps=5), output_dir=tmp_path / "run", report=events.append)
    assert events[1].message == "Real photos: photos and poses as given."
    kinds = [(event.stage, event.kind) for event in events if event is not events[1]]
    assert kinds[:4] == [("plan", "log"), ("set-up", "start"), ("set-up", "done"), ("field", "start")]
    assert events[0].message == "Plan: field -> evaluate"
    assert ("field", "done") in kinds and ("field", "checkpoint") in kinds
    assert kinds[-2:] == [("evaluate", "progress")] * 2
    assert events[-1].progress == 1


def test_same_seed_same_bits(tiny_scene: Path, tmp_path: Path) -> None:
    """Past the first clearing of cells and the trials after it."""
    config = make_config("cpu", flags=with_emptying(small_settings(steps=18)))
    runs = [train_scene(tiny_scene, config, output_dir=tmp_path / name) for name in "ab"]
    first, second = map(tensors, runs)
    assert set(first) == set(second)
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)
    assert not first["occupancy.occupied"].all()
    other = tensors(train_scene(tiny_scene, settings(steps=6, seed=1), output_dir=tmp_path / "c"))
    assert any((first[name] != other[name]).any() for name in first)


def test_stop_then_resume_gives_the_same_bits(tiny_scene: Path, tmp_path: Path) -> None:
    config = make_config("cpu", flags=with_emptying(small_settings(steps=20, checkpoint_seconds=1e-6)))
    whole = train_scene(tiny_scene, config, output_dir=tmp_path / "whole")
    stop = threading.Event()

    def stop_at_seven(event: Event) -> None:
        if event.step >= 7:
            stop.set()

    part = train_scene(tiny_scene, config, output_dir=tmp_path / "part", stop=stop, report=stop_at_seven)
    assert part.status()["status"] == "interrupted" and 7 <= part.status()["step"] < 20
    assert part.metrics() == {}
    with part.metrics_log.open("a") as log:  # as a process leaves it that is killed after its last checkpoint
        log.write('{"stage": "field", "step": 1000, "seconds": 1}\n{"stage": "fie')
    again = train_scene(tiny_scene, config, resume=tmp_path / "part")
    assert again.folder == part.folder and again.status()["status"] == "done" and again.status()["step"] == 20
    first, second = tensors(whole), tensors(again)
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)
    steps = [json.loads(line)["step"] for line in again.metrics_log.read_text().splitlines()]
    assert 1000 not in steps and steps == sorted(steps) and len(set(steps)) == len(steps)


def test_time_limits_a_run(tiny_scene: Path, tmp_path: Path) -> None:
    run = train_scene(tiny_scene, settings(max_seconds=1.0), output_dir=tmp_path / "run")
    assert 0.8 < run.metrics()["train_seconds"] < 6 and run.metrics()["steps"] > 3


def test_resume_keeps_scene_and_field(tiny_run: Path, tiny_scene: Path, tmp_path: Path) -> None:
    changed = small_settings(steps=50)
    config = make_config("cpu", flags=changed | {"field": changed["field"] | {"levels": 5}})
    with pytest.raises(ConfigError, match="field.levels cannot change"):
        train_scene(tiny_scene, config, resume=tiny_run)
    other = write_tiny_scene(tmp_path / "other")
    (other / "images/0003.png").write_bytes((other / "images/0002.png").read_bytes())
    with pytest.raises(ConfigError, match="not the capture"):
        train_scene(other, settings(steps=40), resume=tiny_run)


def test_resume_without_settings_takes_the_runs_own(tiny_scene: Path, tmp_path: Path) -> None:
    run = train_scene(tiny_scene, settings(steps=3), output_dir=tmp_path / "run")
    assert train_scene(tiny_scene, resume=run).config == run.config
    with pytest.raises(ConfigError, match="train.seed cannot change"):
        train_scene(tiny_scene, settings(steps=5, seed=1), resume=run)


def test_resume_keeps_its_new_limits(tiny_scene: Path, tmp_path: Path) -> None:
    run = train_scene(tiny_scene, settings(steps=3), output_dir=tmp_path / "run")
    train_scene(tiny_scene, settings(steps=5), resume=run)
    assert load(run.folder).config == settings(steps=5)


def test_resume_of_what_is_not_a_run(tiny_scene: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no such run"):
        train_scene(tiny_scene, settings(steps=5), resume=tmp_path / "absent")
    with pytest.raises(RunError, match="not a run"):
        train_scene(tiny_scene, settings(steps=5), resume=tiny_scene)


def fresh_run(tiny_scene: Path, folder: Path) -> tuple[RunFolder, Path]:
    """A run of a few steps, and its checkpoint's path."""
    run = train_scene(tiny_scene, settings(steps=2), output_dir=folder)
    (path,) = run.checkpoints.glob("*.safetensors")
    return run, path


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


def _no_checkpoint_at_all(path: Path) -> None:
    path.write_bytes(b"\x80\x04cos\nsystem\n(S'touch /tmp/pwned'\ntR.")  # a pickle that would run a command


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _absurd_header(path: Path) -> None:
    path.write_bytes((2**62).to_bytes(8, "little") + b"{}")


def _other_version(path: Path) -> None:
    save_file({"a": np.zeros(1)}, path, metadata={"ovseg3d": json.dumps({"format_version": 99, "facts": {}})})


def _by_somebody_else(path: Path) -> None:
    save_file({"a": np.zeros(1)}, path)


def _header(**facts: object) -> dict[str, str]:
    header = {"format_version": 1, "stage": "field", "step": 2, "seconds": 1.0, "facts": facts}
    return {"ovseg3d": json.dumps(header)}


def _nothing_but_a_table(path: Path) -> None:
    save_file({"table": np.zeros((3, 2), np.float32)}, path, metadata=_header())


def _other_shape(path: Path) -> None:
    with safe_open(path, framework="np") as file:
        metadata = file.metadata()
    state = load_file(path)
    state["network"] = state["network"][:-1].copy()
    save_file(state, path, metadata=metadata)


def _other_place(path: Path) -> None:
    state = load_file(path)
    facts = {"box": {"center": [0, "x", 0], "rotation": 1}}
    save_file(state, path, metadata=_header(**facts))


def test_a_checkpoint_without_a_place_is_refused(tiny_scene: Path, tmp_path: Path) -> None:
    run, path = fresh_run(tiny_scene, tmp_path / "run")
    _other_place(path)
    with pytest.raises(RunError, match="box of the checkpoint"):
        restore(run, run.load_scene())


DAMAGES = (_cut, _empty, _no_checkpoint_at_all, _absurd_header, _other_version, _by_somebody_else)


@pytest.mark.parametrize("damage", [*DAMAGES, _nothing_but_a_table, _other_shape])
def test_a_bad_checkpoint_is_refused(tiny_scene: Path, tmp_path: Path, damage: object) -> None:
    run, path = fresh_run(tiny_scene, tmp_path / "run")
    damage(path)  # type: ignore[operator]
    with pytest.raises(RunError) as caught:
        restore(run, run.load_scene())
    assert "checkpoints" in str(caught.value.where)
    with pytest.raises(RunError):
        train_scene(tiny_scene, settings(steps=4), resume=run)
    assert not Path("/tmp/pwned").exists()


def test_a_run_without_checkpoint_says_so(tiny_scene: Path, tmp_path: Path) -> None:
    run, path = fresh_run(tiny_scene, tmp_path / "run")
    path.unlink()
    with pytest.raises(RunError, match="no checkpoint"):
        restore(run, run.load_scene())


def test_a_full_disk_is_the_users_to_mend(tiny_scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.fsync

    def full(descriptor: int) -> None:
        if "checkpoints" in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="disk is full"):
        train_scene(tiny_scene, settings(steps=2), output_dir=tmp_path / "run")
    monkeypatch.undo()
    run = load(tmp_path / "run")
    assert run.status()["status"] == "failed" and "disk is full" in run.status()["message"]
    assert list(run.checkpoints.iterdir()) == []


def test_a_gpu_that_is_absent(tiny_scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    absent = devices.Availability("cuda", False, "there is none")
    monkeypatch.setattr(devices, "cuda_status", lambda: absent)
    with pytest.raises(DeviceError, match="there is none"):
        train_scene(tiny_scene, settings(steps=2, device="cuda"), output_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists(), "nothing is written before the device is known"


def test_depth_that_is_asked_for_and_absent(tmp_path: Path) -> None:
    scene = write_tiny_scene(tmp_path / "scene", with_depth=False)
    flags = small_settings() | {"scene": {"depth": "on"}}
    with pytest.raises(SceneError, match="have none"):
        train_scene(scene, make_config("cpu", flags=flags), output_dir=tmp_path / "run")


@pytest.mark.parametrize("broken", ["depth", "mask"])
def test_a_broken_file_of_a_held_out_view_costs_its_figures_only(tmp_path: Path, broken: str) -> None:
    folder = write_tiny_scene(tmp_path / "scene")
    if broken == "depth":
        path = folder / "depth/0004.png"
        path.write_bytes(path.read_bytes()[:100])
    else:
        path = folder / "nothing.png"
        Image.new("L", (32, 32)).save(path)
        described = json.loads((folder / "transforms.json").read_text())
        described["frames"][4]["mask_path"] = path.name
        (folder / "transforms.json").write_text(json.dumps(described))
    events: list[Event] = []
    run = train_scene(folder, settings(steps=2), output_dir=tmp_path / "run", report=events.append)
    assert run.status()["status"] == "done" and (run.previews / "001_0004.png").exists()
    told = [event.message for event in events if event.stage == "evaluate" and event.kind == "log"]
    assert len(told) == 1 and str(path) in told[0]
    whole, other = json.loads((run.folder / "views.json").read_text())["views"]
    assert other["depth_rel_median"] is None and (other["psnr"] is None) == (broken == "mask")
    assert run.metrics()["depth_rel_median"] == whole["depth_rel_median"] and run.metrics()["views"] == 2
    with pytest.raises(SceneError):  # who only measures may mend it first
        evaluate(restore(run, run.load_scene()), run.load_scene())


def test_depth_reaches_the_training(tiny_scene: Path, tmp_path: Path) -> None:
    flags = small_settings(steps=5) | {"scene": {"depth": "auto"}}
    with_depth = train_scene(tiny_scene, make_config("cpu", flags=flags), output_dir=tmp_path / "with")
    without = train_scene(tiny_scene, settings(steps=5), output_dir=tmp_path / "without")
    assert (tensors(with_depth)["network"] != tensors(without)["network"]).any()


def test_train_on_all_has_no_held_out_figures(tiny_scene: Path, tmp_path: Path) -> None:
    flags = small_settings(steps=2) | {"scene": {"train_on_all": True}}
    run = train_scene(tiny_scene, make_config("cpu", flags=flags), output_dir=tmp_path / "run")
    assert "psnr" not in run.metrics() and run.metrics()["views"] == 0
    assert (run.previews / "heldout.png").exists()


def test_no_limit_at_all(tiny_scene: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="length of training"):
        train_scene(tiny_scene, Config(), output_dir=tmp_path / "run")


def test_tensorboard_files(tiny_scene: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    run = train_scene(tiny_scene, settings(steps=3, tensorboard=True), output_dir=tmp_path / "run")
    assert list((run.folder / "tensorboard").glob("events.*"))


def test_nothing_is_printed(tiny_scene: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    train_scene(tiny_scene, settings(steps=2), output_dir=tmp_path / "run")
    assert capfd.readouterr().out == ""
