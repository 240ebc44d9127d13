"""Many scenes: the ledger decides what is left, deaths are survived, and the bits are those of one undisturbed run."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deadly import Deadly
from safetensors.numpy import load_file
from tiny import small_settings

import ovseg3d
from ovseg3d.errors import ConfigError
from ovseg3d.pipeline import Processes
from ovseg3d.pipeline.batch import MAX_ATTEMPTS, Planned
from ovseg3d.pipeline.tasks import Died, Ended, Progress, Started, Task, run_task
from ovseg3d.pipeline.training import Training
from ovseg3d.runs.config import Config
from ovseg3d.runs.folder import open_run
from ovseg3d.runs.ledger import FILE, Ledger
from ovseg3d.runs.lock import RunLock
from ovseg3d.runs.settings import make_config


def settings(**train: object) -> Config:
    """Without held-out views, whose alignment takes long in other processes, where it is not replaced."""
    flags = small_settings(**train)
    return make_config("cpu", flags=flags | {"scene": flags["scene"] | {"train_on_all": True}})


@pytest.fixture
def scenes(tiny_scene: Path, tmp_path: Path) -> list[Path]:
    """Three scenes; the second is broken."""
    made = [shutil.copytree(tiny_scene, tmp_path / "scenes" / name) for name in ("a", "broken", "c")]
    (made[1] / "transforms.json").write_text("{")
    return made


def states(folder: Path) -> list[tuple[str, str, int]]:
    lines = [json.loads(line) for line in (folder / FILE).read_text().splitlines()]
    return [(Path(line["scene"]).name, line["state"], line["attempt"]) for line in lines]


def same_bits(one: Path, other: Path) -> None:
    first, second = (load_file(next(run.glob("checkpoints/*.safetensors"))) for run in (one, other))
    assert set(first) == set(second)
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


def leftovers(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if ".tmp" in path.name]


def test_a_bad_scene_fails_alone(scenes: list[Path], tmp_path: Path) -> None:
    seen: list[Any] = []
    reports = ovseg3d.train_scenes(
        tmp_path / "scenes", settings(steps=3), output_dir=tmp_path / "out", report=seen.append
    )
    assert [report.status for report in reports] == ["done", "failed", "done"]
    assert [report.folder for report in reports] == [tmp_path / "out/a", None, tmp_path / "out/c"]
    assert "not valid JSON" in str(reports[1].error) and not (tmp_path / "out/broken").exists()
    steps = [("a", "running", 1), ("a", "done", 1), ("broken", "failed", 1), ("c", "running", 1), ("c", "done", 1)]
    assert states(tmp_path / "out") == steps
    assert "not valid JSON" in Ledger(tmp_path / "out" / FILE).latest()[str(scenes[1])].message
    assert seen[0] == Planned(3, 0)
    kinds = [type(message) for message in seen[1:] if not isinstance(message, Progress)]
    assert kinds == [Started, Ended, Ended, Started, Ended]
    assert any(message.event.stage == "field" for message in seen if isinstance(message, Progress))


def test_the_same_call_again_does_what_is_missing(scenes: list[Path], tmp_path: Path) -> None:
    config, out = settings(steps=3), tmp_path / "out"
    ovseg3d.train_scenes(scenes, config, output_dir=out)
    before = (out / "a/status.json").stat().st_mtime_ns
    shutil.copy(scenes[0] / "transforms.json", scenes[1] / "transforms.json")
    shutil.rmtree(out / "c")  # to train it anew
    seen: list[Any] = []
    reports = ovseg3d.train_scenes(scenes, config, output_dir=out, report=seen.append)
    assert [report.status for report in reports] == ["done"] * 3 and seen[0] == Planned(3, 1)
    assert [message.item.name for message in seen if isinstance(message, Started)] == ["broken", "c"]
    assert (out / "a/status.json").stat().st_mtime_ns == before
    # Without the ledger the run folders are the truth.
    (out / FILE).unlink()
    reports = ovseg3d.train_scenes(scenes, config, output_dir=out)
    assert [report.status for report in reports] == ["done"] * 3
    assert (out / "a/status.json").stat().st_mtime_ns == before


def test_other_settings_are_refused_in_the_same_folder_and_new_runs_elsewhere(
    scenes: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder, wanted in ((tmp_path / "out", "failed"), (None, "done")):
        first = ovseg3d.train_scenes(scenes[:1], settings(steps=3), output_dir=folder)
        (report,) = ovseg3d.train_scenes(scenes[:1], settings(steps=4), output_dir=folder)
        assert report.status == wanted and (report.error is None or "train.steps" in str(report.error))
        assert first[0].folder is not None and open_run(first[0].folder).config.train.steps == 3
    assert (tmp_path / "outputs" / FILE).is_file() and len(list(tmp_path.glob("outputs/a/2*"))) == 2
    assert ovseg3d.train_scenes(scenes[:1], settings(steps=4))[0].folder == report.folder


def test_scenes_of_one_name_have_a_folder_each_in_every_call(tiny_scene: Path, tmp_path: Path) -> None:
    scenes = [shutil.copytree(tiny_scene, tmp_path / place / "scan") for place in "xyz"]
    first = ovseg3d.train_scenes(scenes[1:], settings(steps=1), output_dir=tmp_path / "out")
    again = ovseg3d.train_scenes([*scenes, scenes[0]], settings(steps=1), output_dir=tmp_path / "out")
    assert [report.folder for report in again[1:]] == [report.folder for report in first] and len(again) == 3
    assert len({report.folder for report in again}) == 3 and first[0].folder == tmp_path / "out/scan"


def test_a_scene_whose_worker_dies_is_tried_again(tiny_scene: Path, tmp_path: Path) -> None:
    executor = Deadly(MAX_ATTEMPTS - 1)
    (report,) = ovseg3d.train_scenes(tiny_scene, settings(steps=2), executor=executor, output_dir=tmp_path)
    assert report.status == "done" and len(executor.tasks) == MAX_ATTEMPTS
    kinds = [*[("tiny", "died", n) for n in range(1, MAX_ATTEMPTS)], ("tiny", "running", 5), ("tiny", "done", 5)]
    assert states(tmp_path) == kinds


def test_a_repeated_scene_waits_for_the_lock_of_its_lost_worker(tiny_scene: Path, tmp_path: Path) -> None:
    """As NFS keeps it for a while after a machine is gone."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    with ExitStack() as held:
        held.enter_context(RunLock(folder))
        threading.Timer(2.5, held.pop_all().close).start()
        task = Task(tiny_scene, Training(settings(steps=2)), folder, "config.json", attempt=2)
        assert run_task(task, lambda _: None, threading.Event()).status == "done"


def test_a_scene_that_always_dies_fails_and_others_go_on(scenes: list[Path], tmp_path: Path) -> None:
    reports = ovseg3d.train_scenes(
        scenes[::2], settings(steps=2), executor=Deadly(2 * MAX_ATTEMPTS - 1), output_dir=tmp_path / "out"
    )
    assert sorted(report.status for report in reports) == ["done", "failed"]
    (failed,) = (report for report in reports if report.status == "failed")
    assert f"It was lost, {MAX_ATTEMPTS} times" in str(failed.error) and "memory" in str(failed.error)


def test_a_bug_fails_alone_with_its_traceback(
    scenes: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, calls = ovseg3d.pipeline.train.train_scene, []

    def broken(scene: Any, *arguments: Any, **options: Any) -> Any:
        calls.append(scene)
        if len(calls) == 1:
            raise ZeroDivisionError("ours")
        return train(scene, *arguments, **options)

    monkeypatch.setattr("ovseg3d.pipeline.train.train_scene", broken)
    reports = ovseg3d.train_scenes(scenes[::2], settings(steps=2), output_dir=tmp_path / "out")
    assert [report.status for report in reports] == ["failed", "done"]
    assert "ZeroDivisionError: ours" in str(reports[0].error) and "in broken" in str(reports[0].error)


def test_a_stop_leaves_everything_to_be_continued(scenes: list[Path], tmp_path: Path) -> None:
    config, stop = settings(steps=20, checkpoint_seconds=1e-6), threading.Event()

    def watch(message: Any) -> None:
        if isinstance(message, Progress) and message.event.step >= 7:
            stop.set()

    reports = ovseg3d.train_scenes(scenes, config, output_dir=tmp_path / "out", report=watch, stop=stop)
    assert [report.status for report in reports] == ["interrupted", "not started", "not started"]
    assert states(tmp_path / "out")[-1] == ("a", "interrupted", 1)
    reports = ovseg3d.train_scenes(scenes, config, output_dir=tmp_path / "out")
    assert [report.status for report in reports] == ["done", "failed", "done"]
    ovseg3d.train_scenes(scenes[0], config, output_dir=tmp_path / "whole")
    same_bits(tmp_path / "out/a", tmp_path / "whole/a")


def test_two_workers_one_of_which_is_killed(scenes: list[Path], tmp_path: Path) -> None:
    """A worker is killed while it trains; the bits are those of one process."""
    config, killed = settings(steps=60, checkpoint_seconds=1e-6), list[int]()
    executor, seen = Processes(2, 1), list[Any]()

    def watch(message: Any) -> None:
        seen.append(message)
        if isinstance(message, Progress) and message.event.kind == "checkpoint" and message.event.step >= 5:
            if not killed and len(executor.pids) == 2:
                killed.append(executor.pids[1])
                os.kill(killed[0], signal.SIGKILL)

    reports = ovseg3d.train_scenes(scenes, config, executor=executor, output_dir=tmp_path / "many", report=watch)
    assert killed and [report.status for report in reports] == ["done", "failed", "done"]
    deaths = [message for message in seen if isinstance(message, Died)]
    assert len(deaths) == 1 and "SIGKILL" in deaths[0].reason
    name = deaths[0].item.name
    assert {(name, "died", 1), (name, "done", 2)} <= set(states(tmp_path / "many"))
    ovseg3d.train_scenes(scenes, config, output_dir=tmp_path / "one")
    for name in "ac":
        same_bits(tmp_path / "many" / name, tmp_path / "one" / name)
    assert not leftovers(tmp_path / "many")
    assert all(not _lives(pid) for pid in killed) and not executor.pids


def test_workers_end_with_their_parent(scenes: list[Path], tmp_path: Path) -> None:
    """The parent is killed, and so cannot say anything; its worker stops with a checkpoint all the same."""
    code = (
        "import sys, ovseg3d\nfrom pathlib import Path\nfrom ovseg3d.pipeline import Processes\n"
        "from ovseg3d.runs.settings import make_config\n"
        "def say(message):\n    print(getattr(message, 'folder', ''), executor.pids[0], flush=True)\n"
        "if __name__ == '__main__':\n"
        "    executor = Processes(1)\n"
        "    config = make_config('cpu', config_file=Path(sys.argv[2]))\n"
        "    ovseg3d.train_scenes(sys.argv[1], config, executor=executor, output_dir='out', report=lambda message:"
        " say(message) if executor.pids else None)\n"
    )
    (tmp_path / "main.py").write_text(code)
    flags = small_settings(steps=10**6)
    (tmp_path / "small.yaml").write_text(json.dumps(flags))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    parent = subprocess.Popen(
        [sys.executable, "main.py", scenes[0], "small.yaml"],
        cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert parent.stdout is not None
    worker = int(parent.stdout.readline().split()[-1])
    parent.kill()
    parent.wait()
    end = time.monotonic() + 60
    while _lives(worker):
        assert time.monotonic() < end, "the worker goes on"
        time.sleep(0.1)
    assert open_run(tmp_path / "out/a").status()["status"] == "interrupted"
    assert list(tmp_path.glob("out/a/checkpoints/step-*.safetensors"))


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_worker_has_its_share_of_threads() -> None:
    code = (
        "import sys\nfrom ovseg3d.pipeline.tasks import limit_threads\n"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules\n"
        "limit_threads(1)\nimport os, torch\nfrom ovseg3d.engine import Workers\n"
        "print(torch.get_num_threads(), Workers.for_device(torch.device('cpu')).threads, os.environ['OMP_NUM_THREADS'])"
    )
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "1", "1"]


@pytest.mark.parametrize("arguments", [(0,), (2, 0)])
def test_numbers_of_workers_and_threads_are_positive(arguments: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Processes(*arguments)


def test_a_list_that_is_empty(tmp_path: Path) -> None:
    (tmp_path / "list.txt").touch()
    with pytest.raises(ConfigError, match="no scene"):
        ovseg3d.train_scenes(tmp_path / "list.txt", settings(steps=1), output_dir=tmp_path / "out")
    assert not (tmp_path / "out").exists()
