"""The commands as programs, end to end on the tiny scene: exit codes, stdout, files, messages."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from commands import Cli, Done
from PIL import Image
from rich.console import Console
from safetensors.torch import load_file
from tiny import small_settings, write_tiny_scene

from ovseg3d.cli.doctor import examine
from ovseg3d.cli.eval import _draw as draw_figures
from ovseg3d.cli.render import parse_kinds
from ovseg3d.cli.train import LIVE_SECONDS, Train
from ovseg3d.encoders.sam import load_sam
from ovseg3d.errors import ConfigError, EncoderError
from ovseg3d.evaluate.views import Evaluation, ViewScore
from ovseg3d.pipeline.train import train_scene
from ovseg3d.runs.folder import RunFolder
from ovseg3d.runs.settings import make_config


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Settings with which training takes a second."""
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(small_settings(steps=5)))
    return path


def test_train_as_a_program(tiny_scene: Path, small: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    command = [sys.executable, "-m", "ovseg3d", "train", tiny_scene, "--config", small, "--json", "--train-on-all"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["metrics"]["steps"] == 5
    assert (tmp_path / "outputs/tiny/latest/metrics.json").exists()


def test_train_eval_render(cli: Cli, tiny_scene: Path, small: Path, tmp_path: Path) -> None:
    done = cli("train", tiny_scene, "--config", small)
    assert done.returncode == 0, done.stderr
    for words in ("5 steps in", "PSNR", "SSIM", "iB peak", "heldout.png"):  # MiB, or GiB where kernels are compiled
        assert words in done.stdout
    next_steps = [line.split() for line in done.stdout.splitlines() if line.startswith("  ovseg3d ")]
    assert [words[1] for words in next_steps] == ["view", "render", "eval"]
    assert not [line for line in done.stdout.splitlines() if "\r" in line or "\x1b" in line], (
        "plain when not a terminal"
    )

    # The printed commands work; the viewer, which stays open, has its own tests.
    done = cli(*next_steps[2][1:])
    assert done.returncode == 0 and "images/0004.png" in done.stdout and "mean" in done.stdout
    done = cli(*next_steps[1][1:])
    assert done.returncode == 0, done.stderr
    files = sorted(path.name for path in tmp_path.glob("outputs/tiny/latest/exports/views-held-out/*"))
    assert "images_0000.png" in files and "images_0004_depth_mm.png" in files and len(files) == 6


def test_train_refuses_flags_that_would_do_nothing(
    cli: Cli, tiny_scene: Path, tiny_run: Path, small: Path, tmp_path: Path
) -> None:
    for given, flags in (
        ("--method lift --refine-steps 9", "--refine-steps"),
        ("--refine-steps 9", "--refine-steps"),
        ("--method lift --no-fda", "--fda"),
        ("--method 3d-ovs --instance-crops 9", "--instance-crops"),
        ("--features dense --segments superpixels --crops 9", "--segments and --crops"),
        ("--pyramid lerf", "--pyramid"),
    ):
        done = cli("train", tiny_scene, "--output-dir", "out", *given.split())
        assert done.returncode == 2 and f"{flags} would have no effect" in done.stderr, done.stderr
    for given, flags in (
        ("--steps 9000 --refine-poses on", "--steps and --refine-poses"),
        ("--field.near-gradient 1 --field.levels=4", "--field.levels and --field.near-gradient"),
    ):
        done = cli("train", tiny_run, "--resume", "--only", "semantics", *given.split())
        assert done.returncode == 2 and f"{flags} would have no effect" in done.stderr, done.stderr
    assert not (tmp_path / "out").exists() and "9000" not in (tiny_run / "config.json").read_text()
    # The field finds its sparse points in the cache.
    done = cli("train", tiny_scene, "--config", small, "--only", "field", "--cache-dir", "cache", "--output-dir", "out")
    assert done.returncode == 0, done.stderr


def test_next_steps_where_no_view_is_held_out(cli: Cli, tiny_scene: Path, small: Path, tmp_path: Path) -> None:
    done = cli("train", tiny_scene, "--config", small, "--train-on-all", "--output-dir", "out")
    lines = [line.split() for line in done.stdout.splitlines() if line.startswith("  ovseg3d ")]
    next_steps = {words[1]: words[1:] for words in lines}
    done = cli(*next_steps["render"])
    assert done.returncode == 0 and len(list(tmp_path.glob("out/exports/views-some/*_depth.png"))) == 8, done.stderr
    done = cli(*next_steps["eval"])
    assert done.returncode == 0 and "images/0000.png" in done.stdout
    done = cli("render", "out", "--views", "held-out")
    assert done.returncode == 2 and "no held-out views" in done.stderr


def test_train_json_is_one_object(cli: Cli, tiny_scene: Path, small: Path, tmp_path: Path) -> None:
    done = cli("train", tiny_scene, "--config", small, "--json", "--output-dir", "out")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["run"] == str(tmp_path / "out") and report["status"] == "done"
    assert report["metrics"] == json.loads((tmp_path / "out/metrics.json").read_text())
    assert "step" in done.stderr
    assert not (tmp_path / "outputs").exists()


def test_eval_json_agrees_with_training(cli: Cli, tiny_run: Path, tmp_path: Path) -> None:
    done = cli("eval", tiny_run, "--json", "--output", "figures.json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result == json.loads((tmp_path / "figures.json").read_text())
    assert result["mean"]["psnr"] == pytest.approx(
        json.loads((tiny_run / "metrics.json").read_text())["psnr"], abs=1e-4
    )
    assert [view["name"] for view in result["views"]] == ["images/0000.png", "images/0004.png"]
    assert np.mean([view["psnr"] for view in result["views"]]) == pytest.approx(result["mean"]["psnr"])
    both = json.loads(cli("eval", tiny_run, "--views", "all", "--json").stdout)
    assert len(both["views"]) == 8 and both["mean"] == both["groups"]["held-out"] == result["mean"]
    assert set(both["groups"]) == {"held-out", "train"} and both["groups"]["train"] != both["mean"]
    drawn = cli("eval", tiny_run, "--views", "all").stdout
    assert "mean, held-out" in drawn and "mean, train" in drawn


def test_eval_shows_depth_that_only_training_views_have(capsys: pytest.CaptureFixture[str]) -> None:
    without = ViewScore(0, "held", 20.0, 0.5, *(float("nan"),) * 3, group="held-out")
    known = ViewScore(1, "trained", 30.0, 0.9, 0.125, 0.5, 0.25, group="train")
    for views, shown in (((without, known), True), ((without,), False)):
        draw_figures(Console(width=150), Evaluation(views), None)
        drawn = capsys.readouterr().out
        assert ("within 5 %" in drawn) == ("12.5%" in drawn) == shown and "20.00" in drawn


def test_render_a_film_and_a_nerfstudio_path(cli: Cli, tiny_run: Path, tmp_path: Path) -> None:
    done = cli("render", tiny_run, "--path", "spiral", "--seconds", 0.2, "--fps", 10, "--json", "--output", "films")
    assert done.returncode == 0, done.stderr
    assert [Path(file).name for file in json.loads(done.stdout)["files"]] == ["spiral.mp4", "spiral_depth.mp4"]
    assert (tmp_path / "films/spiral.mp4").stat().st_size > 100
    entry = {"camera_to_world": np.eye(4).reshape(-1).tolist(), "fov": 50}
    path = {"camera_path": [entry], "render_width": 20, "render_height": 10, "fps": 5}
    (tmp_path / "path.json").write_text(json.dumps(path))
    done = cli("render", tiny_run, "--path", "path.json", "--images", "--what", "opacity", "--output", "p")
    assert done.returncode == 0, done.stderr
    assert Image.open(tmp_path / "p/path/00000_opacity.png").size == (20, 10)


def test_several_scenes(cli: Cli, tiny_scene: Path, small: Path, tmp_path: Path) -> None:
    other = shutil.copytree(tiny_scene, tmp_path / "second")
    done = cli("train", tiny_scene, tmp_path / "absent", other, "--config", small, "--json", "--output-dir", "out")
    assert done.returncode == 2, "one of them could not be trained"
    runs = json.loads(done.stdout)["runs"]
    assert [run["status"] for run in runs] == ["done", "failed", "done"]
    assert (tmp_path / "out/tiny/metrics.json").exists() and (tmp_path / "out/second/metrics.json").exists()
    assert "absent" in done.stderr and "Traceback" not in done.stderr


def wait_for(condition: object, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGKILL], ids=["interrupted", "killed"])
def test_a_run_that_was_cut_goes_on(
    cli: Cli, tiny_scene: Path, small: Path, tmp_path: Path, kind: signal.Signals
) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    command = [sys.executable, "-m", "ovseg3d", "train", tiny_scene, "--config", small, "--output-dir", "run"]
    command += ["--steps", "100000", "--checkpoint-seconds", "0.2"]
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_for(lambda: list(tmp_path.glob("run/checkpoints/*.json")))
    process.send_signal(kind)
    out, err = process.communicate(timeout=60)
    if kind == signal.SIGINT:
        assert process.returncode == 130, err
        assert "ovseg3d train run --resume" in out
    before = max(int(path.stem.partition("-")[2]) for path in tmp_path.glob("run/checkpoints/*.safetensors"))
    done = cli("train", "run", "--resume", "--steps", before + 3, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["run"] == str(tmp_path / "run") and report["metrics"]["steps"] == before + 3


def test_a_training_whose_reader_goes_away_can_go_on(tiny_scene: Path, small: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    command = f"{sys.executable} -m ovseg3d train {tiny_scene} --config {small} --output-dir run | true"
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], cwd=tmp_path, env=environment, check=False)
    assert done.returncode == 0
    assert json.loads((tmp_path / "run/status.json").read_text())["status"] == "interrupted"


def test_resume_by_scene_and_output_dir(cli: Cli, tiny_scene: Path, small: Path, tmp_path: Path) -> None:
    assert cli("train", tiny_scene, "--config", small).returncode == 0
    done = cli("train", tiny_scene, "--resume", "--steps", 7, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["metrics"]["steps"] == 7 and Path(report["run"]) == (tmp_path / "outputs/tiny/latest").resolve()
    shutil.move(report["run"], tmp_path / "moved")
    done = cli("train", tiny_scene, "--resume", "--output-dir", "moved", "--steps", 9, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["metrics"]["steps"] == 9


def test_resume_of_a_capture_that_has_moved(cli: Cli, tiny_scene: Path, small: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_scene, tmp_path / "first")
    assert cli("train", "first", "--config", small, "--output-dir", "run").returncode == 0
    shutil.move(tmp_path / "first", tmp_path / "moved")
    fails(cli("train", "run", "--resume", "--steps", 7), "no longer where they were", "--resume --output-dir RUN")
    done = cli("train", "moved", "--resume", "--output-dir", "run", "--steps", 7, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["metrics"]["steps"] == 7
    capture = json.loads((tmp_path / "moved/transforms.json").read_text())
    capture["frames"].pop()
    (tmp_path / "moved/transforms.json").write_text(json.dumps(capture))
    fails(cli("train", "moved", "--resume", "--output-dir", "run", "--steps", 9), "The capture has changed")


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_scenes_that_a_stop_leaves_out_are_counted(
    cli: Cli, tiny_scene: Path, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: list[str]
) -> None:
    def stopped_late(*arguments: Any, stop: threading.Event, **options: Any) -> RunFolder:
        run = train_scene(*arguments, stop=stop, **options)
        stop.set()
        return run

    monkeypatch.setattr("ovseg3d.pipeline.train.train_scene", stopped_late)
    shutil.copytree(tiny_scene, tmp_path / "second")
    done = cli("train", tiny_scene, "second", "--config", small, "--output-dir", "out", *flags)
    assert done.returncode == 130
    assert "2 scenes: 1 done, 1 not started" in (done.stderr if flags else done.stdout)
    if flags:
        assert [run["status"] for run in json.loads(done.stdout)["runs"]] == ["done", "not started"]
    assert not (tmp_path / "out/second").exists()


def test_a_resumed_run_that_is_watched_keeps_checkpoints_often() -> None:
    assert make_config("cpu").train.checkpoint_seconds > LIVE_SECONDS
    assert parsed("--resume", "--view")._resumed(make_config("cpu")).train.checkpoint_seconds == LIVE_SECONDS
    often = parsed("--resume", "--view", "--checkpoint-seconds", "40")._resumed(make_config("cpu"))
    assert often.train.checkpoint_seconds == 40


@pytest.mark.parametrize("flag", ["--quality=high", "--config=other.yaml", "--preset=cpu"])
def test_resume_does_not_take_other_settings(cli: Cli, tiny_run: Path, tmp_path: Path, flag: str) -> None:
    (tmp_path / "other.yaml").write_text("field: {levels: 2}")
    fails(cli("train", tiny_run, "--resume", flag), flag.partition("=")[0])


def test_steps_alone_go_on_from_a_run_that_time_ended(cli: Cli, tiny_scene: Path, small: Path) -> None:
    done = cli("train", tiny_scene, "--config", small, "--max-seconds", 1, "--output-dir", "run", "--json")
    assert done.returncode == 0, done.stderr
    steps = json.loads(done.stdout)["metrics"]["steps"]
    done = cli("train", "run", "--resume", "--steps", steps + 3, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["metrics"]["steps"] == steps + 3
    limits = json.loads(Path("run/config.json").read_text())["config"]["train"]
    assert (limits["steps"], limits["max_seconds"]) == (steps + 3, None)


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_what_the_reader_noticed_is_a_warning(cli: Cli, small: Path, tmp_path: Path, flags: list[str]) -> None:
    scene = write_tiny_scene(tmp_path / "double")
    capture = json.loads((scene / "transforms.json").read_text())
    capture["frames"].append(capture["frames"][1])
    (scene / "transforms.json").write_text(json.dumps(capture))
    done = cli("train", scene, "--config", small, *flags)
    assert done.returncode == 0, done.stderr
    assert "warning: frames that are listed more than once: 1" in (done.stderr if flags else done.stdout)


def test_scenes_of_one_name_get_a_folder_each(cli: Cli, tiny_scene: Path, small: Path, tmp_path: Path) -> None:
    other = shutil.copytree(tiny_scene, tmp_path / "elsewhere" / "tiny")
    done = cli("train", tiny_scene, other, "--config", small, "--json", "--output-dir", "out")
    assert done.returncode == 0, done.stderr
    names = [Path(run["run"]).name for run in json.loads(done.stdout)["runs"]]
    assert names[0] == "tiny" and re.fullmatch("tiny-[0-9a-f]{4}", names[1])


def test_lengths_are_in_metres_where_they_are_known(cli: Cli, tiny_scene: Path, small: Path) -> None:
    done = cli("train", tiny_scene, "--config", small, "--scale", 100, "--output-dir", "run", "--json")
    metrics = json.loads(done.stdout)["metrics"]
    assert metrics["metric"] and metrics["metres_per_unit"] == 100
    table = cli("eval", "run").stdout
    assert "depth err. m" in table and f"{100 * metrics['depth_abs_median']:.3f}" in table


def fails(done: Done, *words: str) -> None:
    """Assert a user mistake: exit code 2, one message with `words`, nothing on stdout."""
    flat = " ".join(done.stderr.replace("│", " ").split())
    assert done.returncode == 2, flat
    assert "Traceback" not in flat and done.stdout == ""
    for word in words:
        assert word in flat, flat


def test_mistakes_of_train(cli: Cli, tiny_scene: Path, tmp_path: Path) -> None:
    fails(cli("train"), "SCENE")
    fails(cli("train", "absent"), "absent")
    fails(cli("train", tiny_scene, "--stpes", 3), "--steps")
    fails(cli("train", tiny_scene, "--quality", "hihg"), "high")
    fails(cli("train", tiny_scene, "--steps", -1), "--steps must be above 0")
    fails(cli("train", tiny_scene, "--config", "absent.yaml"), "settings file is missing", "absent.yaml")
    (tmp_path / "bad.yaml").write_text("field: {levls: 3}")
    fails(cli("train", tiny_scene, "--config", "bad.yaml"), "field.levls", "did you mean field.levels?")
    fails(cli("train", tiny_scene, "--resume"), "not a run")
    fails(cli("train", tiny_scene, "--field.log2-table", 60), "--field.log2-table must be")
    (tmp_path / "file").write_text("")
    idle = ("--only", "field", "--steps", 1, "--output-dir", "file/run")
    fails(cli("train", tiny_scene, *idle), "exists where a folder is needed")
    assert not (tmp_path / "outputs").exists()


def test_homes_of_users_whom_nobody_knows(cli: Cli, tiny_scene: Path) -> None:
    words, path = "home folder of this user", "~no-such-user/x"
    fails(cli("doctor", "--cache-dir", path), words)
    fails(cli("prepare", path, "out"), words)
    for clip in (path, f"ViT-B-32:{path}.pt"):
        fails(cli("train", tiny_scene, "--only", "features", "--clip", clip), words)
    for flag in ("--dino", "--cache-dir"):
        fails(cli("train", tiny_scene, "--only", "features", "--clip", "builtin", flag, path), words)
    with pytest.raises(EncoderError, match=words):
        load_sam(path)


def test_brackets_in_names_are_not_markup(cli: Cli, small: Path, tmp_path: Path) -> None:
    scene = write_tiny_scene(tmp_path / "[old]")
    capture = json.loads((scene / "transforms.json").read_text())
    capture["classes"] = {"1": "sofa [/old]"}
    capture["frames"][0]["file_path"] = "images/0000[b].png"
    (scene / "images/0000.png").rename(scene / "images/0000[b].png")
    (scene / "transforms.json").write_text(json.dumps(capture))
    done = cli("info", scene)
    assert done.returncode == 0 and "sofa [/old]" in done.stdout, done.stderr
    done = cli("train", scene, "--config", small, "--output-dir", "run")
    assert done.returncode == 0 and "[old] ─" in done.stdout, done.stderr
    done = cli("eval", "run", "--views", "all")
    assert done.returncode == 0 and "0000[b].png" in done.stdout, done.stderr
    done = cli("doctor", "--cache-dir", "a[b]")
    assert done.returncode == 0 and "/a[b]" in done.stdout.replace("\n", ""), done.stderr


def test_a_gpu_that_is_absent(cli: Cli, tiny_scene: Path) -> None:
    if examine()["cuda"]["on"]:
        pytest.skip("there is one")
    fails(cli("train", tiny_scene, "--device", "cuda"), "A GPU was requested", "--device cpu")


def test_mistakes_of_eval_and_render(cli: Cli, tiny_scene: Path, tiny_run: Path, tmp_path: Path) -> None:
    fails(cli("view", "x" * 300), "cannot be accessed")
    for command in ("eval", "render"):
        fails(cli(command, "absent"), "no such run")
        fails(cli(command, tiny_scene), "not a run")
        copy = shutil.copytree(tiny_run, tmp_path / f"copy-{command}")
        (checkpoint,) = copy.glob("checkpoints/*.safetensors")
        checkpoint.write_bytes(checkpoint.read_bytes()[:500])
        fails(cli(command, copy), "cut or damaged")
    fails(cli("export", tiny_run, "--select", ""), "list of --select is empty")
    fails(cli("render", tiny_run, "--path", "spirl"), "--path spiral")
    fails(cli("render", tiny_run, "--what", "depht"), "--what depth")
    video = ("render", tiny_run, "--path", "spiral")
    fails(cli(*video, "--fps", 0), "--fps must be above 0")
    fails(cli(*video, "--seconds", "inf"), "--seconds must be above 0 and at most")
    fails(cli(*video, "--width", 200_000), "--width must be above 0 and at most")


@pytest.mark.parametrize(
    ("command", "flags"),
    [
        ("render --what colour", ["--phrase red", "--phrases red", "--no-none", "--images", "--seconds 3", "--fps 3"]),
        ("render --path spiral", ["--views all"]),
        ("render --path a.json", ["--seconds 3", "--fps 3"]),
        ("export --what html", ["--las", "--embedding", "--views train", "--seconds 3", "--fps 3", "--width 3"]),
        ("export --what labels,video", ["--select red", "--points 3", "--spacing 3", "--frame world", "--las"]),
        ("segment --instances", ["--no-none", "--templates {}"]),
    ],
)
def test_flags_that_would_do_nothing_are_refused(cli: Cli, tiny_run: Path, command: str, flags: list[str]) -> None:
    name, *given = command.split()
    for flag in flags:
        fails(cli(name, tiny_run, *given, *flag.split()), f"{flag.split()[0]} would have no effect here")


def test_kinds_of_picture() -> None:
    assert parse_kinds("color, depth,depth") == ("colour", "depth")
    with pytest.raises(ConfigError):
        parse_kinds(",")
    with pytest.raises(ConfigError) as caught:
        parse_kinds("depth,lables")
    assert str(caught.value.fix).startswith("--what depth,labels; there are colour,")


def parsed(*arguments: str) -> Train:
    return Train.parse(["scene", "--device", "cpu", *arguments])


def test_flags_beat_files(tmp_path: Path) -> None:
    (tmp_path / "f.yaml").write_text("{field: {levels: 3, hidden: 16}, train: {steps: 9}, scene: {depth: auto}}")
    file = str(tmp_path / "f.yaml")
    settings = parsed("--config", file, "--field.levels", "5", "--downscale", "2").settings()
    assert (settings.field.levels, settings.field.hidden, settings.train.steps) == (5, 16, 9)
    assert settings.scene.downscale == 2 and settings.scene.depth == "auto"


def test_one_limit_on_the_command_line_takes_the_other_back(tmp_path: Path) -> None:
    assert parsed("--steps", "9").settings().train.max_seconds is None
    (tmp_path / "f.yaml").write_text("train: {steps: 9}")
    train = parsed(f"--config={tmp_path / 'f.yaml'}", "--max_seconds=4").settings().train
    assert (train.steps, train.max_seconds) == (None, 4)
    train = parsed("--steps", "9", "--max-seconds", "4").settings().train
    assert (train.steps, train.max_seconds) == (9, 4)


def test_doctor(cli: Cli) -> None:
    done = cli("doctor")
    assert done.returncode == 0 and done.stderr.count("Traceback") == 0
    for words in ("device", "backend warp", "backend tcnn", "torch", "kernel cache", "memory free"):
        assert words in done.stdout
    found = json.loads(cli("doctor", "--json").stdout)
    assert found["device"] in ("cpu", "cuda") and found["memory_free_bytes"] > 0
    assert all(backend["why"] for backend in found["backends"])
    assert {backend["name"] for backend in found["backends"]} == {"warp", "tcnn"}
    (tcnn,) = (backend["why"] for backend in found["backends"] if backend["name"] == "tcnn")
    assert all(word in tcnn for word in ("tinycudann", "nerfacc", "untested"))


@pytest.mark.slow
def test_two_trainings_at_once_with_a_cold_kernel_cache(tiny_scene: Path, small: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    environment["WARP_CACHE_PATH"] = str(tmp_path / "kernels")
    command = [sys.executable, "-m", "ovseg3d", "train", tiny_scene, "--config", small, "--steps", "30"]
    runs = [tmp_path / "one", tmp_path / "two"]
    together = [
        subprocess.Popen([*command, "--output-dir", run], env=environment, stderr=subprocess.PIPE, text=True)
        for run in runs
    ]
    for process in together:
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
    assert any((tmp_path / "kernels").iterdir()), "the cache was elsewhere"
    first, second = (load_file(next(run.glob("checkpoints/*.safetensors"))) for run in runs)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
