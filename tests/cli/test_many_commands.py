"""Commands on many scenes and many runs: what is printed, the table, exit codes, and mistakes."""

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from commands import Cli, Done
from rich.console import Console
from tiny import copy_runs, small_settings

from ovseg3d.cli.many_progress import ManyProgress
from ovseg3d.cli.many_runs import Output
from ovseg3d.engine import Event
from ovseg3d.errors import SceneError
from ovseg3d.pipeline.batch import Planned
from ovseg3d.pipeline.tasks import Died, Ended, Message, Progress, Started
from ovseg3d.runs.ledger import FILE
from ovseg3d.session import Run


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Settings with which training takes a second."""
    flags = small_settings(steps=5)
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(flags | {"scene": flags["scene"] | {"train_on_all": True}}))
    return path


def fails(done: Done, *words: str) -> None:
    """Assert a user mistake: exit code 2, one message with `words`."""
    flat = " ".join(done.stderr.replace("│", " ").split())
    assert done.returncode == 2 and "Traceback" not in flat, flat
    for word in words:
        assert word in flat, flat


def test_a_list_with_workers(cli: Cli, tiny_scene: Path, small: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_scene, tmp_path / "second")
    lines = [{"scene": str(tiny_scene), "name": "first"}, {"scene": "absent"}, {"scene": "second"}]
    (tmp_path / "list.jsonl").write_text("\n".join(map(json.dumps, lines)))
    command = ("train", "list.jsonl", "--config", small, "--output-dir", "out", "--workers", 2, "--json")
    done = cli(*command)
    assert done.returncode == 2, done.stderr
    runs = json.loads(done.stdout)["runs"]
    assert [run["status"] for run in runs] == ["done", "failed", "done"]
    assert [run.get("run") for run in runs] == [str(tmp_path / "out/first"), None, str(tmp_path / "out/second")]
    assert runs[0]["metrics"]["steps"] == 5 and "no such folder" in runs[1]["error"]
    assert "no such folder" in done.stderr and "3 scenes: 2 done, 1 failed" in done.stderr
    shutil.copytree(tiny_scene, tmp_path / "absent")
    done = cli("train", "list.jsonl", "--config", small, "--output-dir", "out")  # sequentially: the same settings
    assert done.returncode == 0, done.stderr
    assert "2 of 3 scenes were done before" in done.stdout and "3 scenes: 3 done" in done.stdout
    assert "absent: training in" in done.stdout and "first: training in" not in done.stdout


def test_ctrl_c_leaves_everything_to_be_continued(cli: Cli, tiny_scene: Path, small: Path, tmp_path: Path) -> None:
    for name in "ab":
        shutil.copytree(tiny_scene, tmp_path / "scenes" / name)
    flags = ["--config", "small.yaml", "--output-dir", "out", "--steps", "60", "--checkpoint-seconds", "0.1"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    process = subprocess.Popen(
        [sys.executable, "-m", "ovseg3d", "train", "scenes", *flags, "--workers", "2"],
        cwd=tmp_path, env=environment, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    end = time.monotonic() + 120
    while not list(tmp_path.glob("out/*/checkpoints/step-*.json")):
        assert time.monotonic() < end and process.poll() is None, "nothing was trained"
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does it
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "The same command goes on from here" in out and "Traceback" not in err
    stopped = [json.loads(line)["state"] for line in (tmp_path / "out" / FILE).read_text().splitlines()]
    assert "interrupted" in stopped and "died" not in stopped
    done = cli("train", "scenes", *flags, "--json")
    assert done.returncode == 0, done.stderr
    assert [run["metrics"]["steps"] for run in json.loads(done.stdout)["runs"]] == [60, 60]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--workers 0", "--workers must be at least 1"),
        ("--workers 2 --cpus-per-scene 0", "--cpus-per-scene must be from 0.01"),
        ("--cpus-per-scene 2", "--cpus-per-scene would have no effect"),
        ("--workers 2 --gpus-per-scene 1", "--gpus-per-scene would have no effect"),
        ("--on slurm", "There is no --on 'slurm'"),
        ("--workers 2 --resume", "--resume continues one run"),
        ("--workers 2 --only field --crops 3", "--crops would have no effect"),
    ],
)
def test_flags_that_make_no_sense(cli: Cli, tiny_scene: Path, small: Path, flags: str, words: str) -> None:
    fails(cli("train", tiny_scene, "--config", small, "--output-dir", "out", *flags.split()), words)
    assert not Path("out").exists()


def test_mistakes_in_a_list(cli: Cli, small: Path, tmp_path: Path) -> None:
    (tmp_path / "list.jsonl").write_text('{"scene": "a"}\n{"scen": "b"}\n')
    fails(cli("train", "list.jsonl", "--config", small), "list.jsonl, line 2", '"scene"')
    fails(cli("train", "absent.txt", "--config", small), "absent.txt")
    fails(cli("eval", "list.jsonl"), "list.jsonl, line 1", '"run"')
    assert not (tmp_path / "outputs").exists()


def test_a_table_of_many_runs(cli: Cli, tiny_run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    for name in ("a", "b"):
        shutil.copytree(tiny_run, folder / name)
    shutil.rmtree(folder / "b" / "checkpoints")
    done = cli("eval", folder, "--json", "--table", "table.csv", "--output", "all.json")
    assert done.returncode == 2 and "checkpoint" in done.stderr
    one, other = json.loads(done.stdout)["runs"]
    assert json.loads((tmp_path / "all.json").read_text())["runs"] == [one, other]
    assert one["mean"]["psnr"] > 5 and "checkpoint" in other["error"] and other["run"] == str(folder / "b")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "table.csv").read_text())))
    assert [row["run"] for row in rows] == [str(folder / "a"), str(folder / "b")]
    assert float(rows[0]["mean.psnr"]) == pytest.approx(one["mean"]["psnr"]) and rows[1]["mean.psnr"] == ""
    assert rows[0]["scene"] == one["scene"] and "views" not in rows[0]
    done = cli("eval", folder / "a", tiny_run, "--json")
    assert done.returncode == 0 and [run["run"] for run in json.loads(done.stdout)["runs"]] == [
        str(folder / "a"),
        str(tiny_run),
    ]
    fails(cli("eval", folder, "--scene", tiny_run), "--scene would have no effect")


def test_a_parquet_table(cli: Cli, tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fails(cli("eval", tiny_run, "--table", "table.xls"), "no kind of table '.xls'")
    with monkeypatch.context() as patch:
        patch.setattr("ovseg3d.evaluate.table.find_spec", lambda _: None)
        fails(cli("eval", tiny_run, "--table", "t.parquet"), "needs the package pyarrow", "pip install pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet", reason='needs pyarrow: pip install "ovseg3d[ray]"')
    done = cli("eval", tiny_run, "--json", "--table", "t.parquet")
    assert done.returncode == 0, done.stderr
    (row,) = parquet.read_table(tmp_path / "t.parquet").to_pylist()
    assert row["mean.psnr"] == json.loads(done.stdout)["mean"]["psnr"] and row["metric"] is True


def test_questions_and_exports_of_many_runs(cli: Cli, run: Run, tmp_path: Path) -> None:
    """`run` is opened for its encoders."""
    for name in ("3101", "b"):  # a digit is no date
        shutil.copytree(run.folder, tmp_path / "runs" / name)
    fails(cli("query", "runs/3101", "runs/b", "red"), "runs/b is a run, not a phrase")
    flags = ("--views", "none", "--output", "answers", "--json")
    done = cli("query", "runs", "red", *flags)
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)["runs"]
    assert [Path(one["run"]).name for one in answers] == ["3101", "b"]
    assert all(one["answers"][0]["phrase"] == "red" for one in answers)
    for name in ("3101", "b"):
        assert json.loads((tmp_path / "answers" / name / "result.json").read_text())["answers"][0]["phrase"] == "red"
    again = cli("query", "runs", "red", *flags)
    assert "2 of 2 runs were done before" in again.stderr and json.loads(again.stdout) == json.loads(done.stdout)
    other = cli("query", "runs", "blue", *flags)
    assert "done before" not in other.stderr and json.loads(other.stdout)["runs"][0]["answers"][0]["phrase"] == "blue"
    done = cli("export", "runs/3101", "runs/b", "--what", "cloud", "--json")
    assert done.returncode == 0, done.stderr
    for one in json.loads(done.stdout)["runs"]:
        assert one["files"] and all(Path(file).is_file() for file in one["files"])
    done = cli("detect", "runs/*", "--json", "--output", "boxes")
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["runs"]) == 2 and (tmp_path / "boxes/b/detections.json").is_file()


def test_runs_in_workers_with_a_ledger(cli: Cli, tiny_run: Path, tiny_scene: Path, tmp_path: Path) -> None:
    """A bad run fails alone, and the same command again measures what is missing or has changed."""
    copy_runs(tiny_run, tiny_scene, tmp_path / "runs", "abc")
    (tmp_path / "runs/b/checkpoints").rename(tmp_path / "kept")
    command = ("eval", "runs", "--output-dir", "out", "--table", "table.csv")
    done = cli(*command, "--workers", 2, "--json")
    assert done.returncode == 2 and "checkpoint" in done.stderr and "3 runs: 2 done, 1 failed" in done.stderr
    first = json.loads(done.stdout)["runs"]
    assert [Path(one["run"]).name for one in first] == ["a", "b", "c"] and "checkpoint" in first[1]["error"]
    kept = json.loads((tmp_path / "out/a/result.json").read_text())
    assert kept == first[0] and not (tmp_path / "out/b/result.json").exists()
    (tmp_path / "kept").rename(tmp_path / "runs/b/checkpoints")
    os.utime(tmp_path / "runs/c/status.json", (1, 1))  # as if it was trained again
    done = cli(*command)
    assert done.returncode == 0 and "1 of 3 runs were done before" in done.stdout
    assert "runs/b: done" in done.stdout and "runs/c: done" in done.stdout and "runs/a: done" not in done.stdout
    assert "PSNR" in done.stdout  # the table of a run's views
    rows = list(csv.DictReader(io.StringIO((tmp_path / "table.csv").read_text())))
    assert [float(row["mean.psnr"]) == pytest.approx(first[0]["mean"]["psnr"]) for row in rows] == [True] * 3
    before = (tmp_path / "out/results.jsonl").read_text()
    assert '"state": "failed"' in before and before.count('"state": "done"') == 4
    done = cli(*command)
    assert "3 of 3 runs were done before" in done.stdout and (tmp_path / "out/results.jsonl").read_text() == before
    done = cli(*command, "--views", "train")  # other settings
    assert done.returncode == 0 and "were done before" not in done.stdout


def test_flags_of_workers_for_runs(cli: Cli, tiny_run: Path) -> None:
    fails(cli("eval", tiny_run, "--workers", 0), "--workers must be at least 1")
    fails(cli("eval", tiny_run, "--seeds", "0", "--workers", 2), "--workers would have no effect")
    fails(cli("eval", tiny_run, "--output-dir", "out"), "--output-dir would have no effect")
    fails(cli("query", tiny_run, "red", "--on", "slurm"), "There is no --on 'slurm'")
    fails(cli("export", tiny_run, "--workers", 1, "--scene", tiny_run), "--scene would have no effect")


def test_the_display(tmp_path: Path) -> None:
    a, b = tmp_path / "room_a", tmp_path / "room_b"
    messages: list[Message | Planned] = [
        Planned(3, 1),
        Started(a, tmp_path / "out/room_a", 1),
        Progress(a, Event("log", "set-up", message="odd photos")),
        Progress(a, Event("progress", "field", 10, 20, 0.5, metrics={"psnr": 21.5})),
        Died(a, "The worker was killed by SIGKILL"),
        Started(a, tmp_path / "out/room_a", 2),
        Ended(a, "done", tmp_path / "out/room_a"),
        Ended(b, "failed", None, SceneError("There is no such folder", where=b)),
    ]
    drawn = {}
    for terminal in (False, True):
        stream = io.StringIO()
        with ManyProgress(Console(file=stream, force_terminal=terminal, width=120, highlight=False)) as progress:
            for message in messages:
                progress(message)
            if terminal:
                assert progress._live is not None
                progress._live.refresh()
        drawn[terminal] = stream.getvalue()
    for text in drawn.values():
        for words in ("1 of 3 scenes were done", "room_a: warning: odd photos", "tried again", "room_a: done after"):
            assert words in text
    assert "room_a: training in" in drawn[False] and "2 of 3 done, 1 failed" in drawn[True]


@pytest.mark.parametrize(("command", "waits"), [("query", False), ("detect", False), ("eval", True), ("export", True)])
def test_ctrl_c_ends_one_run_at_once_unless_its_work_listens(
    cli: Cli, tiny_run: Path, monkeypatch: pytest.MonkeyPatch, command: str, waits: bool
) -> None:
    from ovseg3d.cli import load_command

    def interrupted(self: Any, path: Path, folder: Path | None, output: Output) -> dict[str, Any]:
        signal.raise_signal(signal.SIGINT)
        assert output.stop.is_set()
        raise SceneError("It has seen the signal")

    monkeypatch.setattr(load_command(command), "use", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # workers of the tests ignore the signal
    try:
        done = cli(command, tiny_run, *(["red"] if command == "query" else []))
    finally:
        signal.signal(signal.SIGINT, before)
    assert done.returncode == (2 if waits else 130) and ("has seen" in done.stderr) == waits
