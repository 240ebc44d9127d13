"""`name` and `find`, end to end on small files."""

import json
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh
from commands import Cli
from PIL import Image

from ovseg3d.cli.find import INDEX_NAME, Find


@pytest.fixture
def shapes(tmp_path: Path) -> Path:
    """A folder with a ball, a box below it, and a file that holds no shape."""
    folder = tmp_path / "shapes"
    (folder / "more").mkdir(parents=True)
    trimesh.PointCloud(trimesh.creation.icosphere(3).vertices).export(folder / "ball.ply")
    box = trimesh.sample.sample_surface(trimesh.creation.box((1, 1, 1)), 500, seed=0)[0]
    (folder / "more" / "box.obj").write_text("".join("v {} {} {}\n".format(*point) for point in box))
    np.save(folder / "three.npy", np.eye(3))
    return folder


def test_name_ranks_names(cli: Cli, shapes: Path) -> None:
    files = [shapes / "ball.ply", shapes / "more" / "box.obj"]
    done = cli("name", *files, "--classes", "ball;bicycle;box", "--up", "z", "--top", "2", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["shapes"]
    assert [one["file"] for one in found] == [str(file) for file in files]
    assert found[0]["candidates"][0]["label"] == "ball"
    assert all(one["up_axis"] == "z" and len(one["candidates"]) == 2 for one in found)
    scores = [one["score"] for one in found[0]["candidates"]]
    assert 1 >= scores[0] >= scores[1] >= 0


def test_name_has_a_default_list_and_prints_a_line(cli: Cli, shapes: Path) -> None:
    done = cli("name", shapes / "ball.ply")
    assert done.returncode == 0, done.stderr
    assert "ball.ply: " in done.stdout
    assert "(up: " in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "No file"),
        (("three.npy", "--classes", "a;b"), "at least 32 points"),
        (("ball.ply", "--classes", ";"), "list of --classes is empty"),
        (("ball.ply", "--classes", "chair;lamp;Chair"), "given twice"),
        (("ball.ply", "--top", "0"), "--top"),
        (("missing.ply",), "missing"),
        (("notes.doc",), "cannot be read from .doc"),
        (("ball.ply", "--clip", "buildin"), "buildin"),
    ],
)
def test_wrong_input_is_explained(
    cli: Cli, shapes: Path, arguments: tuple[str, ...], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shapes)
    done = cli("name", *arguments)
    assert done.returncode == 2
    assert words in " ".join(done.stderr.replace("│", " ").split())
    assert "Traceback" not in done.stderr


def test_find_by_text_picture_and_shape(cli: Cli, shapes: Path, tmp_path: Path) -> None:
    done = cli("find", shapes, "a ball", "--up", "z", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["query"] == {"text": "a ball", "picture": None, "shape": None}
    assert [Path(hit["file"]).name for hit in found["hits"]] == ["ball.ply", "box.obj"]
    assert "three.npy" in done.stderr
    Image.new("RGB", (40, 30), "red").save(tmp_path / "red.png")
    ball = shapes / "ball.ply"
    done = cli("find", shapes, "a ball", "--shape", ball, "--picture", tmp_path / "red.png", "--up", "z", "--json")
    assert len(json.loads(done.stdout)["hits"]) == 2
    done = cli("find", shapes, "--shape", ball, "--up", "z", "--top", "1")
    score, file = done.stdout.split()
    assert Path(file).name == "ball.ply"
    assert float(score) == pytest.approx(1, abs=1e-3)


def test_the_index_follows_the_folder(cli: Cli, shapes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ovseg3d.heads.naming import ShapeNamer

    def names() -> set[str]:
        done = cli("find", shapes, "a box", "--up", "z", "--json")
        return {Path(hit["file"]).name for hit in json.loads(done.stdout)["hits"]}

    assert names() == {"ball.ply", "box.obj"}
    embedded = []
    embed = ShapeNamer.embed
    monkeypatch.setattr(ShapeNamer, "embed", lambda *given: embedded.append(1) or embed(*given))
    (shapes / "ball.ply").unlink()
    np.save(shapes / "pole.npy", trimesh.sample.sample_surface(trimesh.creation.cylinder(0.2, 2.0), 500, seed=0)[0])
    assert names() == {"pole.npy", "box.obj"}
    assert len(embedded) == 2  # the new one, and the one that cannot be used


def test_another_model_of_the_up_axis_makes_an_index_anew(
    cli: Cli, shapes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ovseg3d.heads.naming import upright

    assert "made anew" not in cli("find", shapes, "a box").stderr
    other = shapes / "upright.txt"
    other.write_bytes(upright.WEIGHTS.read_bytes() + b" ")
    monkeypatch.setattr(upright, "WEIGHTS", other)
    assert "made anew" in cli("find", shapes, "a box").stderr


def test_an_index_that_cannot_be_used_or_kept_costs_no_answer(cli: Cli, shapes: Path, tmp_path: Path) -> None:
    """A file that the user names is not overwritten."""
    index = shapes / INDEX_NAME
    index.write_bytes(b"no index")
    done = cli("find", shapes, "a ball", "--up", "z")
    assert done.returncode == 0 and "made anew" in done.stderr and "ball.ply" in done.stdout
    done = cli("find", shapes, "a ball", "--up", "y")
    assert done.returncode == 0 and "made anew" in done.stderr, "another up axis"
    assert stat.S_IMODE(index.stat().st_mode) == stat.S_IMODE((shapes / "ball.ply").stat().st_mode)
    (tmp_path / "mine").write_bytes(b"something else")
    assert cli("find", shapes, "a ball", "--index", tmp_path / "mine").returncode == 2
    assert (tmp_path / "mine").read_bytes() == b"something else"
    done = cli("find", shapes, "a ball", "--up", "z", "--index", tmp_path / "mine" / "index")
    assert done.returncode == 0 and "is not kept" in done.stderr and "ball.ply" in done.stdout


def test_an_interrupted_search_keeps_what_it_has_indexed(shapes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ovseg3d.heads.naming import ShapeNamer

    embed, embedded = ShapeNamer.embed, []

    def stop_at_second(*given: Any) -> np.ndarray:
        embedded.append(1)
        if len(embedded) == 2:
            raise KeyboardInterrupt
        return embed(*given)

    monkeypatch.setattr(ShapeNamer, "embed", stop_at_second)
    find = Find(shapes, ("a ball",), up="z")
    with pytest.raises(KeyboardInterrupt):
        find.main()
    find.main()
    assert len(embedded) == 4, "one before, one interrupted; the second of two usable ones, and the unusable one"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("shapes",), "No query"),
        (("shapes", "a", "b"), "One phrase"),
        (("nowhere", "a ball"), "no such folder"),
        (("shapes", "a ball", "--picture", "shapes/ball.ply"), "picture"),
    ],
)
def test_wrong_searches_are_explained(cli: Cli, shapes: Path, arguments: tuple[str, ...], words: str) -> None:
    done = cli("find", *arguments)
    assert done.returncode == 2
    assert words in " ".join(done.stderr.replace("│", " ").split())


def test_a_bad_file_fails_alone(cli: Cli, shapes: Path) -> None:
    done = cli("name", shapes, "--classes", "ball;box", "--up", "z", "--json")
    assert done.returncode == 2
    found = {Path(one["file"]).name: one for one in json.loads(done.stdout)["shapes"]}
    assert set(found) == {"ball.ply", "box.obj", "three.npy"}
    assert "at least 32 points" in found["three.npy"]["error"]
    assert found["ball.ply"]["candidates"][0]["label"] == "ball"
    assert "1 of 3 shapes could not be named" in done.stderr
    done = cli("name", shapes / "three.npy", shapes / "ball.ply", "--classes", "ball;box", "--up", "z")
    assert done.returncode == 2
    assert "ball.ply: ball" in done.stdout


def test_a_list_of_names_goes_on_where_it_ended(cli: Cli, shapes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ovseg3d.heads.naming import ShapeNamer

    output = shapes / "names.jsonl"
    arguments = ("name", shapes, "--classes", "ball;box", "--up", "z", "--output", output, "--json")
    first = cli(*arguments)
    lines = output.read_text().splitlines()
    assert [json.loads(line).get("file") for line in lines[1:]] == [
        str(shapes / name) for name in ("ball.ply", "more/box.obj", "three.npy")
    ]
    output.write_text("\n".join(lines)[: -len(lines[-1]) - len(lines[-2]) // 2])  # killed within the second shape
    named = []
    name = ShapeNamer.name
    monkeypatch.setattr(ShapeNamer, "name", lambda *given, **more: named.append(1) or name(*given, **more))
    assert json.loads(cli(*arguments).stdout) == json.loads(first.stdout)
    assert len(named) == 2  # the second, and the one that cannot be named
    assert output.read_text().splitlines() == lines
    cli(*arguments)
    assert len(named) == 3
    (shapes / "ball.ply").touch()
    cli(*arguments)
    assert len(named) == 5


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (("--classes", "ball;cube"), "made with another classes"),
        (("--output", "shapes/three.npy"), "no list of names"),
        (("--output", "shapes"), "is a folder"),
        (("--output", "shapes/three.npy/names.jsonl"), "file exists where a folder"),
    ],
)
def test_other_lists_are_not_overwritten(
    cli: Cli, shapes: Path, changed: tuple[str, ...], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shapes.parent)
    arguments = ("name", "shapes/ball.ply", "--up", "z", "--classes", "ball;box", "--output", "names.jsonl")
    assert cli(*arguments).returncode == 0
    before = {path: path.read_bytes() for path in shapes.parent.rglob("*") if path.is_file()}
    done = cli(*arguments, *changed)
    assert done.returncode == 2
    assert words in " ".join(done.stderr.replace("│", " ").split())
    assert {path: path.read_bytes() for path in shapes.parent.rglob("*") if path.is_file()} == before
