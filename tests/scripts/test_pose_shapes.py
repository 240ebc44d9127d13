"""Crops of real shapes: what is split, and whether the labels are those of the pictures."""

from pathlib import Path

import numpy as np
import pytest
from shape_clouds import GREEN, write_shapes

from ovseg3d.errors import ConfigError
from ovseg3d.geometry import rotation_of_angles
from scripts.benchmarks.pose_shapes import SIDE, Shapes, shapes_at_hand
from scripts.benchmarks.shape_fronts import FRONTS


def test_parts_share_no_shape(shapes: Shapes) -> None:
    parts = [set(shapes.of(part)) for part in ("training", "known", "novel")]
    assert [len(part) for part in parts] == [6, 2, 8] and len(set.union(*parts)) == 16
    assert len(shapes.known) == 2


def test_the_front_is_where_the_angles_say(shapes: Shapes) -> None:
    crops = shapes.crops("novel", 3, seed=1)
    assert crops.image.shape == (24, SIDE, SIDE, 3)
    assert set(crops.category).isdisjoint(shapes.known) and set(crops.order) <= {0, 1, 2}
    front = rotation_of_angles(crops.angles).apply([0.0, -1.0, 0.0])[:, :2]
    clear = np.linalg.norm(front, axis=1) > 0.4
    assert clear.sum() > 10
    for image, way in zip(crops.image[clear], front[clear]):
        there = np.argwhere((image != GREEN).any(2))
        # The ball, which holds most of the pixels, is at the front end.
        middle = (there.min(0) + there.max(0)) / 2
        assert (there.mean(0) - middle)[::-1] @ way > 0
    again = shapes.crops("novel", 3, seed=1)
    assert (again.image == crops.image).all() and (shapes.crops("novel", 3, seed=2).image != crops.image).any()


def test_what_is_missing_is_named(shapes: Shapes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shapes" / "shapes.npz").unlink()
    with pytest.raises(ConfigError) as told:
        shapes_at_hand()
    assert told.value.where == tmp_path / "shapes" / "shapes.npz"
    monkeypatch.delenv("OVSEG3D_DATA")
    with pytest.raises(ConfigError, match="are not there"):
        shapes_at_hand()


def test_every_category_has_a_front(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(FRONTS) == 41 and {front.yaw_deg for front in FRONTS.values()} <= {0, 90, 180, 270}
    assert {name for name, front in FRONTS.items() if front.yaw_deg} == {"hammer", "teapot"}
    write_shapes(tmp_path, ("car", "teapot"))
    monkeypatch.setenv("OVSEG3D_DATA", str(tmp_path))
    points, categories = shapes_at_hand().clouds
    ball = points[:, :2500].mean(1)
    # A quarter of a turn clockwise from above takes what is at +x to -y, and so what is at -y to -x.
    assert np.allclose(ball[categories == "car"], [0, -0.35, 0], atol=0.02)
    assert np.allclose(ball[categories == "teapot"], [-0.35, 0, 0], atol=0.02)
    (tmp_path / "shapes" / "shapes.npz").unlink()
    np.savez(tmp_path / "shapes" / "shapes.npz", points=points, category=["rod"] * len(points))
    with pytest.raises(ConfigError, match="No front is known for the shapes of 'rod'"):
        _ = shapes_at_hand().clouds
