"""Scenes on Ray: a cluster of two nodes on this machine, one of which is lost. Skipped where Ray is not installed."""

import json
import shutil
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import Cli
from safetensors.numpy import load_file
from tiny import copy_runs, small_settings

import ovseg3d
from ovseg3d.errors import ConfigError
from ovseg3d.pipeline import OnRay
from ovseg3d.pipeline.tasks import Died, Progress
from ovseg3d.runs.config import Config
from ovseg3d.runs.ledger import FILE
from ovseg3d.runs.settings import make_config


def settings(**train: object) -> Config:
    flags = small_settings(**train)
    return make_config("cpu", flags=flags | {"scene": flags["scene"] | {"train_on_all": True}})


def same_field(*runs: Path) -> None:
    """Both runs ended with the same bits."""
    first, second = (load_file(next(run.glob("checkpoints/*.safetensors"))) for run in runs)
    assert first.keys() == second.keys() and first
    for key in first:
        np.testing.assert_array_equal(first[key], second[key], err_msg=key)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes of one CPU each."""
    reason = 'Ray is not installed: pip install "ovseg3d[ray]"'
    pytest.importorskip("ray", reason=reason)
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    made.add_node(num_cpus=1)
    yield made
    made.shutdown()


def test_a_cluster_too_small_for_a_scene(cluster: Any, tiny_scene: Path, tmp_path: Path) -> None:
    executor = OnRay(cluster.address, cpus_per_scene=64)
    with pytest.raises(ConfigError, match="no room for a scene with 64 CPUs"):
        ovseg3d.train_scenes(tiny_scene, settings(steps=1), executor=executor, output_dir=tmp_path)


def test_a_node_that_is_lost(cluster: Any, tiny_scene: Path, tmp_path: Path) -> None:
    """Its scene goes on elsewhere, with the bits of one process; a bad scene fails alone."""
    scenes = [shutil.copytree(tiny_scene, tmp_path / "scenes" / name) for name in ("a", "b", "broken")]
    (scenes[2] / "transforms.json").write_text("{")
    config = settings(steps=60, checkpoint_seconds=1e-6)
    seen, started, lost = list[Any](), set[Path](), list[Any]()

    def watch(message: Any) -> None:
        seen.append(message)
        if isinstance(message, Progress) and message.event.kind == "checkpoint":
            started.add(message.item)
            if len(started) == 2 and not lost:
                lost.append(cluster.worker_nodes.copy().pop())
                cluster.remove_node(lost[0], allow_graceful=False)

    reports = ovseg3d.train_scenes(
        scenes, config, executor=OnRay(cluster.address), output_dir=tmp_path / "ray", report=watch
    )
    assert [report.status for report in reports] == ["done", "done", "failed"]
    assert "not valid JSON" in str(reports[2].error)
    assert len([message for message in seen if isinstance(message, Died)]) == 1
    lines = [json.loads(line) for line in (tmp_path / "ray" / FILE).read_text().splitlines()]
    assert {line["attempt"] for line in lines if line["state"] == "done"} == {1, 2}
    for name in "ab":
        ovseg3d.train_scenes(tmp_path / "scenes" / name, config, output_dir=tmp_path / "one")
        same_field(tmp_path / "ray" / name, tmp_path / "one" / name)


def test_a_stop_leaves_scenes_that_go_on(cluster: Any, tiny_scene: Path, tmp_path: Path) -> None:
    """As with Ctrl-C, a worker hears of it by the mailbox, and ends with a checkpoint. No bit changes."""
    scenes = [shutil.copytree(tiny_scene, tmp_path / "scenes" / name) for name in "ab"]
    config, stop = settings(steps=400, checkpoint_seconds=1e9), threading.Event()

    def watch(message: Any) -> None:
        if isinstance(message, Progress) and message.event.kind == "progress" and message.event.step > 0:
            stop.set()

    def train(**rest: Any) -> list[str]:
        out, executor = tmp_path / "ray", OnRay(cluster.address, workers=1)
        return [r.status for r in ovseg3d.train_scenes(scenes, config, executor=executor, output_dir=out, **rest)]

    assert train(report=watch, stop=stop) == ["interrupted", "not started"]
    (path,) = (tmp_path / "ray" / "a").glob("checkpoints/*.safetensors")
    assert 0 < int(path.stem.removeprefix("step-")) < 400
    assert train() == ["done", "done"]
    ovseg3d.train_scenes(scenes[0], config, output_dir=tmp_path / "one")
    same_field(tmp_path / "ray" / "a", tmp_path / "one" / "a")


def test_runs_on_a_cluster(cluster: Any, cli: Cli, tiny_run: Path, tiny_scene: Path, tmp_path: Path) -> None:
    copy_runs(tiny_run, tiny_scene, tmp_path / "runs", "ab")
    shutil.rmtree(tmp_path / "runs/b/checkpoints")
    command = ("eval", "runs", "--json", "--output-dir", "out")
    done = cli(*command, "--on", f"ray:{cluster.address}")
    assert done.returncode == 2 and "2 runs: 1 done, 1 failed" in done.stderr, done.stderr
    one, other = json.loads(done.stdout)["runs"]
    here = cli("eval", "runs/a", "--json")
    assert one == json.loads(here.stdout) and "checkpoint" in other["error"]
    assert "1 of 2 runs were done before" in cli(*command).stderr


def test_a_cluster_that_is_not_there(tiny_scene: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason='Ray is not installed: pip install "ovseg3d[ray]"')
    with pytest.raises(ConfigError, match="cannot be reached"):
        ovseg3d.train_scenes(tiny_scene, settings(steps=1), executor=OnRay("127.0.0.1:1"), output_dir=tmp_path)


def test_ray_that_is_absent(tiny_scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ovseg3d.pipeline.on_ray.find_spec", lambda _: None)
    with pytest.raises(ConfigError, match="Ray is not installed") as error:
        ovseg3d.train_scenes(tiny_scene, settings(steps=1), executor=OnRay(), output_dir=tmp_path)
    assert "pip install" in str(error.value.fix)


def test_ray_is_imported_on_use_only() -> None:
    import subprocess

    code = "import sys, ovseg3d.pipeline.many, ovseg3d.pipeline.on_ray\nassert 'ray' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
