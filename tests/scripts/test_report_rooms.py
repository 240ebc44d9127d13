"""Rooms for reports: their seeds are used once for a report, and every use is recorded."""

import json
import shutil
from pathlib import Path

import pytest

from ovseg3d.errors import ConfigError
from scripts.benchmarks import report_rooms
from scripts.benchmarks.report_seeds import LISTS, open_seeds


@pytest.fixture
def lists(tmp_path: Path) -> Path:
    return Path(shutil.copy(LISTS, tmp_path / "seeds.json"))


def looks(lists: Path, report: str) -> list[dict[str, str]]:
    return json.loads(lists.read_text())[report]["looks"]


def test_no_room_is_in_two_lists_and_what_was_looked_at_says_so() -> None:
    known = json.loads(LISTS.read_text())
    seeds = [seed for one in known.values() for seed in one["seeds"]]
    assert len(seeds) == len(set(seeds))
    assert known["0.1.0"]["seeds"] == [1001, 1002, 1003, 1004, 1005] and known["0.1.0"]["looks"]
    assert "looked at while what they showed was mended" in known["0.1.0"]["note"].lower()


def test_a_look_is_added_once_however_often_its_command_goes_on(lists: Path) -> None:
    before = looks(lists, "0.1.0")
    for _ in range(2):
        assert open_seeds("0.1.0", "a test", lists) == (1001, 1002, 1003, 1004, 1005)
    after = looks(lists, "0.1.0")
    assert after[:-1] == before and after[-1]["why"] == "a test" and after[-1].keys() == {"date", "commit", "why"}
    open_seeds("0.1.0", "another", lists)
    assert len(looks(lists, "0.1.0")) == len(after) + 1


def test_mistakes_are_told_before_a_list_is_opened(lists: Path) -> None:
    before = lists.read_bytes()
    with pytest.raises(ConfigError, match=r"9\.9"):
        open_seeds("9.9", "a test", lists)
    with pytest.raises(ConfigError, match="--why"):
        open_seeds("0.1.0", " ", lists)
    assert lists.read_bytes() == before


def test_the_report_is_of_its_own_rooms(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys) -> None:
    opened = []
    monkeypatch.setattr(report_rooms, "open_seeds", lambda report, why: opened.append((report, why)) or (7, 8))
    monkeypatch.setattr(report_rooms.Report, "_run", lambda self, seed: type("Run", (), {"config": {}}))
    monkeypatch.setattr(report_rooms, "to_plain", dict)
    monkeypatch.setattr(report_rooms, "_encoder", lambda run: "hash")
    figures = dict.fromkeys(report_rooms.SHARES, 0.5) | {"seconds": 1.0, "MiB": 2.0}
    monkeypatch.setattr(report_rooms, "_figures", lambda run: figures)
    report_rooms.Report("0.2.0", "a test", tmp_path).main()
    assert opened == [("0.2.0", "a test")]
    table = (tmp_path / "table.md").read_text()
    assert all(f"| {name} |" in table for name in ("room 7", "room 8", "mean")) and table in capsys.readouterr().out
