"""Runs by seed: trained once, found again, continued after an interruption; mean and deviation by hand."""

import json
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from colours import flags, with_label_images
from commands import Cli
from tiny import write_tiny_scene

from ovseg3d.engine import ignore
from ovseg3d.pipeline.seeds import over_seeds, run_of_seed, scene_and_settings
from ovseg3d.pipeline.train import train_scene
from ovseg3d.points.semantic_scene import FILE
from ovseg3d.runs.folder import RunFolder
from ovseg3d.runs.settings import make_config
from ovseg3d.scene import load_scene
from ovseg3d.session import load


def test_mean_and_spread_by_hand() -> None:
    told = over_seeds(
        {
            0: {"index": {"held-out": {"miou": 0.5, "iou": {"a": 1.0, "b": float("nan")}, "pixels": 7}}},
            3: {"index": {"held-out": {"miou": 0.7, "iou": {"a": 0.0, "b": 0.25}, "pixels": 7}}},
        }
    )
    assert told["seeds"] == [0, 3] and "standard deviation" in told["aggregation"]
    assert set(told["figures"]) == {"index.held-out.miou", "index.held-out.iou.a", "index.held-out.iou.b"}
    miou = told["figures"]["index.held-out.miou"]
    assert miou["mean"] == pytest.approx(0.6) and miou["std"] == pytest.approx(0.2 / 2**0.5)
    assert told["figures"]["index.held-out.iou.b"] == {"mean": 0.25, "std": None, "values": [None, 0.25]}


def test_a_run_for_each_seed_and_none_twice(run: RunFolder, tmp_path: Path, cli: Cli) -> None:
    scene = with_label_images(write_tiny_scene(tmp_path / "tiny"))
    config = tmp_path / "settings.json"
    config.write_text(json.dumps(flags(steps=5)))
    first = ("eval", scene, "--seeds", "0,2", "--protocol", "index,field", "--config", config, "--json")
    told = json.loads(cli(*first).stdout)
    folders = sorted(path.parent for path in (tmp_path / "outputs" / "tiny").glob("*-*/config.json"))
    assert told["seeds"] == [0, 2] and len(folders) == 2
    assert sorted(load(folder).config.train.seed for folder in folders) == [0, 2]
    miou = told["figures"]["index.held-out.miou"]
    assert miou["values"] == [told["runs"][seed]["index"]["held-out"]["miou"] for seed in ("0", "2")]
    assert miou["mean"] == pytest.approx(sum(miou["values"]) / 2) and "mean.psnr" in told["figures"]
    # By default with the settings of the newest run; each further seed is one more run.
    again = cli("eval", scene, "--seeds", "0,1,2", "--protocol", "index")
    assert again.returncode == 0 and "index.held-out.miou" in again.stdout and "sample standard" in again.stdout
    assert len(list((tmp_path / "outputs" / "tiny").glob("*-*/config.json"))) == 3
    for wrong in ("", "a", "0;1", "-1"):
        done = cli("eval", scene, f"--seeds={wrong}")
        assert done.returncode == 2 and "whole numbers" in done.stderr


def test_a_run_is_finished_and_given_semantics(
    run: RunFolder, tiny_scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ovseg3d.engine.loop.PROGRESS_EVERY", 0.0)  # twenty steps may take less than the usual time
    field = make_config("cpu", flags=flags(steps=20) | {"only": "field"})
    stop = threading.Event()
    half = train_scene(tiny_scene, field, report=lambda event: stop.set() if event.step > 5 else None, stop=stop)
    assert half.status()["status"] == "interrupted"
    scene, config = scene_and_settings(tiny_scene)
    assert config == field
    done = run_of_seed(scene, config, 0, False, ignore, threading.Event())
    assert done.folder == half.folder and done.status()["status"] == "done" and not (done.folder / FILE).exists()
    meant = run_of_seed(scene, config, 0, True, ignore, threading.Event())
    assert meant.folder == half.folder and (meant.folder / FILE).exists() and meant.metrics()["steps"] == 20
    # A newer run of the field alone gets no semantics if another run has them.
    train_scene(tiny_scene, config)
    assert run_of_seed(scene, config, 0, True, ignore, threading.Event()).folder == half.folder
    other = replace(config, field=replace(config.field, levels=3))
    stopped = threading.Event()
    stopped.set()
    with pytest.raises(KeyboardInterrupt):
        run_of_seed(scene, other, 0, False, ignore, stopped)


def test_a_run_of_features_alone_is_given_a_field(
    run: RunFolder, tiny_scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli
) -> None:
    features = make_config("cpu", flags=flags(steps=20) | {"only": "features"})
    alone = train_scene(tiny_scene, features)
    assert alone.status()["status"] == "done" and not any(alone.checkpoints.iterdir())
    done = cli("eval", tiny_scene, "--seeds", "0", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["runs"]["0"]["run"] == str(alone.folder) and any(alone.checkpoints.iterdir())
    monkeypatch.setattr("ovseg3d.engine.loop.PROGRESS_EVERY", 0.0)  # twenty steps may take less than the usual time
    # A partly trained field is continued too, whatever else was done in its run; it precedes runs of features alone.
    config, stop = replace(features, train=replace(features.train, seed=1)), threading.Event()
    field = replace(config, only="field")
    half = train_scene(tiny_scene, field, report=lambda event: stop.set() if event.step > 5 else None, stop=stop)
    train_scene(tiny_scene, config, resume=half)
    newer = train_scene(tiny_scene, config)
    assert half.status()["status"] == newer.status()["status"] == "done" and "steps" not in half.metrics()
    found = run_of_seed(load_scene(tiny_scene), config, 1, True, ignore, threading.Event())
    assert found.folder == half.folder and found.metrics()["steps"] == 20 and (found.folder / FILE).exists()
