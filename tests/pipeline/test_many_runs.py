"""Work on many runs: results are kept, deaths are survived, and what is done with the same settings is not repeated."""

import json
import shutil
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from deadly import Deadly

from ovseg3d.engine import Event, Report
from ovseg3d.errors import ConfigError, RunError
from ovseg3d.pipeline import Processes, use_runs
from ovseg3d.pipeline.batch import MAX_ATTEMPTS, Planned
from ovseg3d.pipeline.tasks import Died, Progress
from ovseg3d.runs.ledger import RESULTS


@dataclass(frozen=True)
class Measure:
    """Counts files of a run; a run named "bad" has a mistake, one named "bug" meets ours."""

    factor: int = 1

    def __call__(
        self, path: Path, folder: Path | None, report: Report, stop: threading.Event
    ) -> tuple[Mapping[str, Any], str]:
        if path.name == "bad":
            raise RunError("This run is bad", where=path)
        if path.name == "bug":
            raise ZeroDivisionError("ours")
        report(Event("progress", "evaluate", 1, 2, 0.5))
        return {"run": path, "files": self.factor * len(list(path.iterdir()))}, f"{path.name} was measured"


@pytest.fixture
def runs(tiny_run: Path, tmp_path: Path) -> Path:
    for name in ("a", "bad", "c"):
        shutil.copytree(tiny_run, tmp_path / "runs" / name)
    return tmp_path / "runs"


def test_workers_give_what_this_process_gives(runs: Path, tmp_path: Path) -> None:
    seen: list[Any] = []
    here = use_runs(runs, Measure(), report=seen.append)
    assert [one.status for one in here] == ["done", "failed", "done"] and "is bad" in str(here[1].error)
    assert here[0].result == {"run": str(runs / "a"), "files": len(list((runs / "a").iterdir()))}
    assert seen[0] == Planned(3, 0) and sum(isinstance(message, Progress) for message in seen) == 2
    there = use_runs(runs, Measure(), executor=Processes(2, 1), output_dir=tmp_path / "out")
    assert [one.result for one in there] == [one.result for one in here]
    assert json.loads((tmp_path / "out/c/result.json").read_text()) == here[2].result


def test_results_never_go_into_a_run(runs: Path) -> None:
    with pytest.raises(ConfigError, match="choose another output folder"):
        use_runs(runs, Measure(), output_dir=runs)
    assert not list(runs.rglob("result.json"))


def test_what_is_kept_is_not_done_again(runs: Path, tmp_path: Path) -> None:
    first = use_runs(runs, Measure(), settings="1", output_dir=tmp_path / "out")
    seen: list[Any] = []
    second = use_runs(runs, Measure(), settings="1", output_dir=tmp_path / "out", report=seen.append)
    assert seen[0] == Planned(3, 2) and second[0].result == first[0].result
    other = use_runs(runs, Measure(2), settings="2", output_dir=tmp_path / "out")
    assert other[0].result is not None and first[0].result is not None
    assert other[0].result["files"] == 2 * first[0].result["files"]
    (runs / "a/metrics.json").write_text("{}")  # a measurement notes its figures there
    use_runs(runs, Measure(2), settings="2", output_dir=tmp_path / "out", report=seen.append)
    (runs / "a/new").touch()
    use_runs(runs, Measure(2), settings="2", output_dir=tmp_path / "out", report=seen.append)
    (tmp_path / "out/c/result.json").unlink()
    use_runs(runs, Measure(2), settings="2", output_dir=tmp_path / "out", report=seen.append)
    assert [message.done for message in seen if isinstance(message, Planned)] == [2, 2, 1, 1]


def test_deaths_and_bugs(runs: Path, tmp_path: Path) -> None:
    (runs / "bad").rename(runs / "bug")
    seen: list[Any] = []
    reports = use_runs(
        runs, Measure(), executor=Deadly(MAX_ATTEMPTS - 1), output_dir=tmp_path / "out", report=seen.append
    )
    assert [one.status for one in reports] == ["done", "failed", "done"]
    assert "ZeroDivisionError: ours" in str(reports[1].error)
    assert sum(isinstance(message, Died) for message in seen) == MAX_ATTEMPTS - 1
    states = [json.loads(line)["state"] for line in (tmp_path / "out" / RESULTS).read_text().splitlines()]
    assert states.count("died") == MAX_ATTEMPTS - 1 and states.count("done") == 2


def test_a_stop_leaves_the_rest(runs: Path) -> None:
    stop = threading.Event()
    reports = use_runs(
        runs, Measure(), stop=stop, report=lambda message: stop.set() if isinstance(message, Progress) else None
    )
    assert [one.status for one in reports] == ["done", "not started", "not started"]


def test_a_worker_elsewhere_works_in_the_folder_of_the_command(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ovseg3d.pipeline.many_runs import RunWork
    from ovseg3d.pipeline.tasks import Task, run_task

    monkeypatch.chdir(tmp_path)
    task = Task(runs / "a", RunWork(Measure(), runs))
    assert run_task(task, lambda _: None, threading.Event()).status == "done" and Path.cwd() == runs
    task = Task(runs / "a", RunWork(Measure(), tmp_path / "absent"))
    assert "all machines share" in str(run_task(task, lambda _: None, threading.Event()).error)
