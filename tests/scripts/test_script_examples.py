"""The examples of the Python API run on the tiny scene."""

import json
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from colours import BLUE, RED, flags, share_inside
from plyfile import PlyData

from ovseg3d.session import Run

EXAMPLES = Path(__file__).resolve().parents[2] / "scripts" / "examples"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "settings.json"
    path.write_text(json.dumps(flags(steps=5)))
    return path


def example(number: int):
    """The module of an example, whose name begins with its number."""
    (path,) = EXAMPLES.glob(f"{number:02d}_*.py")
    return import_module(f"scripts.examples.{path.stem}")


def test_examples_are_numbered_and_short() -> None:
    numbered = sorted(path for path in EXAMPLES.glob("*.py") if path.name != "__init__.py")
    assert [int(path.name[:2]) for path in numbered] == list(range(1, len(numbered) + 1))
    assert all(len(path.read_text().splitlines()) < 60 for path in numbered)


def test_01_trains_once_and_answers(run: Run, tiny_scene: Path, tmp_path: Path, config: Path, capsys) -> None:
    """`run`: its encoders are registered."""
    command = example(1).TrainAndAsk(tiny_scene, ("red", "green"), tmp_path / "made", config)
    command.main()
    told = capsys.readouterr().out
    assert "red: " in told and "not here" not in told.partition("green")[0] and "green: not here" in told
    trained = (tmp_path / "made" / "config.json").stat().st_mtime_ns
    command.main()
    assert capsys.readouterr().out == told and (tmp_path / "made" / "config.json").stat().st_mtime_ns == trained


def test_02_points_have_the_colour_of_their_label(run: Run, tmp_path: Path, capsys) -> None:
    example(2).LabelledCloud(run.folder, ("red", "blue"), tmp_path / "by_label.ply").main()
    points = PlyData.read(tmp_path / "by_label.ply")["vertex"].data
    colours = np.stack([points[name] for name in ("red", "green", "blue")], 1)
    places = np.stack([points[name] for name in "xyz"], 1)
    for label, box in ((1, RED), (2, BLUE)):
        chosen = points["label"] == label
        assert chosen.any() and len(np.unique(colours[chosen], axis=0)) == 1
        assert share_inside(places[chosen], box) > 0.9
    assert len(np.unique(colours, axis=0)) == len(np.unique(points["label"]))
    assert "red: " in capsys.readouterr().out


def test_03_an_encoder_of_ones_own_tells_what_it_knows(
    run: Run, tiny_scene: Path, tmp_path: Path, config: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    example(3).OwnEncoder(tiny_scene, ("red", "blue"), config).main()
    counts = [int(line.split()[1].replace(",", "")) for line in capsys.readouterr().out.splitlines()]
    assert len(counts) == 2 and all(count > 0 for count in counts)
