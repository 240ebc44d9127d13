"""Lists of scenes and of runs, in each form; mistakes are named with their line."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ovseg3d.errors import ConfigError
from ovseg3d.runs.ledger import FILE, Entry, Ledger
from ovseg3d.runs.lists import is_run_list, is_scene_list, read_runs, read_scenes


def scene(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "transforms.json").write_text("{}")
    return folder


def run(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    return folder


def paths(listed: tuple) -> list[str]:
    return [one.path for one in listed]


def test_a_folder_of_scenes(tmp_path: Path) -> None:
    wanted = [str(scene(tmp_path / "all" / name)) for name in ("0002", "a", "b")]
    (tmp_path / "all" / "notes").mkdir()
    scene(tmp_path / "all" / ".hidden")
    assert paths(read_scenes(tmp_path / "all")) == wanted and is_scene_list(tmp_path / "all")
    assert paths(read_scenes(wanted[0])) == wanted[:1] and not is_scene_list(wanted[0])
    assert not is_scene_list(tmp_path / "absent") and paths(read_scenes("absent")) == [str(Path("absent").absolute())]


def test_a_glob(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = [str(scene(tmp_path / name)) for name in ("room_1", "room_2")]
    scene(tmp_path / "hall"), (tmp_path / "room_notes.txt").touch()
    monkeypatch.chdir(tmp_path)
    assert paths(read_scenes(["room_*"])) == wanted and is_scene_list("room_*")
    with pytest.raises(ConfigError, match="no scene in this list"):
        read_scenes("cellar_*")
    named = scene(tmp_path / "[old]")
    assert paths(read_scenes(named)) == [str(named)] and not is_scene_list(named)


def test_a_text_file(tmp_path: Path) -> None:
    file = tmp_path / "list.txt"
    file.write_text(f"\ufeff# rooms\n\nroom_1\n  sub/room 2  \n/data/room_3\nroom_1\n{tmp_path}/room_1\n")
    assert paths(read_scenes(file)) == [str(tmp_path / "room_1"), str(tmp_path / "sub/room 2"), "/data/room_3"]
    assert is_scene_list(file)


def test_a_jsonl_file(tmp_path: Path) -> None:
    file = tmp_path / "list.jsonl"
    file.write_text('{"scene": "scan/a", "name": "kitchen"}\n\n{"scene": "/b/scan", "more": 1}\n')
    listed = read_scenes([file, tmp_path / "c"])
    assert [one.name for one in listed] == ["kitchen", "scan", "c"]
    assert paths(listed) == [str(tmp_path / "scan/a"), "/b/scan", str(tmp_path / "c")]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "not valid JSON"),
        ("[1]", 'no "scene"'),
        ('{"run": "a"}', 'no "scene"'),
        ('{"scene": ""}', 'no "scene"'),
        ('{"scene": "a", "name": "../b"}', "name of a folder"),
        ('{"scene": "a", "name": "b\\nc"}', "control characters"),
        ('{"scene": "a\\u0000"}', "not a path"),
        ('{"scene": "' + "a" * 5000 + '"}', "not a path"),
        ("x" * 100_000, "too long"),
        ("\udcff", "not UTF-8"),
    ],
)
def test_a_mistake_in_a_file_is_named_with_its_line(tmp_path: Path, line: str, words: str) -> None:
    file = tmp_path / "list.jsonl"
    file.write_bytes(f'{{"scene": "a"}}\n\n{line}\n'.encode(errors="surrogateescape"))
    with pytest.raises(ConfigError, match=words) as error:
        read_scenes(file)
    assert str(error.value.where).endswith("list.jsonl, line 3") and error.value.fix


def test_a_list_that_is_missing_or_empty(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such|missing|There is no"):
        read_scenes(tmp_path / "absent.txt")
    (tmp_path / "empty.txt").write_text("# nothing\n\n")
    with pytest.raises(ConfigError, match="no scene in this list"):
        read_scenes(tmp_path / "empty.txt")


def test_a_folder_of_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs"
    wanted = [str(run(folder / name)) for name in ("a", "b")]
    (folder / "notes").mkdir()
    assert paths(read_runs(folder)) == wanted and is_run_list(folder)
    assert not is_run_list(folder / "a") and paths(read_runs(folder / "a")) == wanted[:1]
    # With a ledger: those that are done, also where names look like times.
    run(folder / "0042")
    for name, state in (("0042", "done"), ("b", "failed"), ("a", "running"), ("a", "done")):
        Ledger(folder / FILE).append(Entry(f"/data/{name}", state, folder / name))
    for given in (folder, folder / FILE):
        assert paths(read_runs(given)) == [str(folder / "0042"), str(folder / "a")] and is_run_list(given)


def test_a_folder_with_runs_of_one_scene_is_its_newest(tmp_path: Path) -> None:
    for stamp in ("2026-01-01_000000", "2026-01-02_000000"):
        run(tmp_path / "room" / stamp)
    assert not is_run_list(tmp_path / "room") and paths(read_runs(tmp_path / "room")) == [str(tmp_path / "room")]
    assert paths(read_runs(tmp_path)) == [str(tmp_path / "room")] and is_run_list(tmp_path)


def test_a_hundred_thousand_scenes_start_at_once(tmp_path: Path) -> None:
    """In a process of its own, to measure its memory alone."""
    file = tmp_path / "list.jsonl"
    lines = (json.dumps({"scene": f"/data/buildings/{index // 100}/rooms/{index}/scan"}) for index in range(100_000))
    file.write_text("\n".join(lines))
    code = (
        "import sys, time, resource\nfrom ovseg3d.runs.lists import read_scenes\n"
        "before = resource.getrusage(resource.RUSAGE_SELF)\n"
        "assert len(read_scenes(sys.argv[1])) == 100_000\n"
        "after = resource.getrusage(resource.RUSAGE_SELF)\n"
        "print(after.ru_utime - before.ru_utime, after.ru_maxrss - before.ru_maxrss)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(file)], capture_output=True, text=True, check=True)
    seconds, kilobytes = map(float, done.stdout.split())
    assert seconds < 10 and kilobytes < 200_000
