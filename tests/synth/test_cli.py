"""`ovseg3d synth`: its JSON output, its hint for the next command, and errors with exit code 2."""

import json

import pytest

from ovseg3d.cli import main
from ovseg3d.synth.render import DRAFT

SMALL = ["--views", "2", "--test-views", "2", "--width", "24", "--height", "18"]


@pytest.fixture(autouse=True)
def rough_light(monkeypatch):
    monkeypatch.setattr("ovseg3d.synth.world.Detail", lambda: DRAFT)


def test_json_is_one_object_and_alone_on_stdout(tmp_path, capsys):
    assert main(["synth", str(tmp_path / "room"), "--seed", "4", "--json", *SMALL]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["frames"] == 4 and made["objects"] > 10 and "floor" in made["classes"]
    assert (tmp_path / "room" / "transforms.json").is_file()
    assert json.loads((tmp_path / "room" / "synth.json").read_text())["seed"] == 4


def test_it_says_what_to_type_next(tmp_path, capsys):
    assert main(["synth", str(tmp_path / "desk"), "--room", "desk", *SMALL]) == 0
    out = capsys.readouterr().out
    assert "ovseg3d train" in out and "26 objects" in out


def test_the_help_says_what_a_seed_does_with_a_named_room(tmp_path, capsys):
    assert main(["synth", "--help"]) == 0
    said = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "with --room, only cameras and light are drawn from it" in said
    rooms = {}
    for seed in ("0", "4"):
        assert main(["synth", str(tmp_path / seed), "--room", "desk", "--seed", seed, *SMALL]) == 0
        rooms[seed] = json.loads((tmp_path / seed / "transforms.json").read_text())
    poses = [[frame["transform_matrix"] for frame in room["frames"]] for room in rooms.values()]
    assert rooms["0"]["classes"] == rooms["4"]["classes"] and poses[0] != poses[1]


@pytest.mark.parametrize(
    "wrong",
    [
        ["--room", "dek"],
        ["--views", "1"],
        ["--seed", "-1"],
        ["--width", "100000", "--height", "100000"],
        ["--world", "nowhere.world"],
    ],
)
def test_mistakes_end_with_code_2_and_leave_nothing(tmp_path, capsys, wrong):
    assert main(["synth", str(tmp_path / "room"), *wrong]) == 2
    assert "Try" in capsys.readouterr().err or wrong[0] == "--views"
    assert not list(tmp_path.iterdir())
