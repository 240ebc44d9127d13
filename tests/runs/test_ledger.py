"""The ledger of many scenes: what is written is read, and what is cut harms nothing."""

import json
from pathlib import Path

import pytest

from ovseg3d.errors import OutputError, RunError
from ovseg3d.runs.ledger import FILE, MAX_MESSAGE, RESULTS, Entry, Ledger


def test_the_last_line_of_a_scene_is_its_state(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "out" / FILE)
    assert ledger.latest() == {}
    first = Entry("/data/röom", "running", tmp_path / "out/röom", settings="ab")
    second = Entry("/data/b", "failed", None, 2, 'a "message"\nof two lines')
    last = Entry("/data/röom", "done", tmp_path / "out/röom", settings="ab")
    for entry in (first, second, last):
        ledger.append(entry)
    assert ledger.latest() == {"/data/röom": last, "/data/b": second}
    lines = ledger.path.read_text().splitlines()
    assert [json.loads(line)["state"] for line in lines] == ["running", "failed", "done"]
    assert all(
        set(json.loads(line)) == {"time", "scene", "state", "run", "attempt", "message", "settings"} for line in lines
    )


def test_the_output_folder_may_move(tmp_path: Path) -> None:
    Ledger(tmp_path / "a" / FILE).append(Entry("/s", "done", tmp_path / "a/s"))
    (tmp_path / "a").rename(tmp_path / "b")
    assert Ledger(tmp_path / "b" / FILE).latest()["/s"].folder == tmp_path / "b/s"


def test_a_ledger_of_results_names_runs_and_folders(tmp_path: Path) -> None:
    ledger, entry = Ledger(tmp_path / RESULTS), Entry("/runs/a", "done", tmp_path / "a", settings="ab")
    ledger.append(entry)
    assert ledger.latest() == {"/runs/a": entry}
    line = json.loads(ledger.path.read_text())
    assert line["run"] == "/runs/a" and line["folder"] == "a" and "scene" not in line


def test_a_torn_line_is_skipped_and_ended(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / FILE)
    ledger.append(Entry("/a", "done"))
    whole = ledger.path.read_bytes()
    ledger.append(Entry("/b", "done"))
    ledger.path.write_bytes(ledger.path.read_bytes()[:-20])
    assert set(ledger.latest()) == {"/a"}
    ledger.append(Entry("/c", "failed", message="x" * 10_000))
    assert set(ledger.latest()) == {"/a", "/c"}
    assert ledger.path.read_bytes().startswith(whole)
    assert len(ledger.latest()["/c"].message) == MAX_MESSAGE


def test_foreign_lines_are_skipped(tmp_path: Path) -> None:
    good = json.dumps({"scene": "/a", "state": "done", "run": "a", "attempt": 1, "message": "", "settings": ""})
    foreign = ["", "[]", "{}", "nonsense", good.replace('"done"', '"finished"'), good.replace('"a"', '"a\\u0000"')]
    foreign += [good.replace("1", '"1"'), "x" * 100_000, good.replace('"/a"', "3")]
    (tmp_path / FILE).write_text("\n".join([*foreign, good.replace("/a", "/kept"), "[" * 50_000]))
    assert set(Ledger(tmp_path / FILE).latest()) == {"/kept"}


def test_a_ledger_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / FILE).mkdir()
    with pytest.raises(RunError, match="folder"):
        Ledger(tmp_path / FILE).latest()
    with pytest.raises(OutputError):
        Ledger(tmp_path / FILE).append(Entry("/a", "done"))
