"""Crops of real shapes: what is split, and whether the labels are those of the pictures."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ovseg3d.errors import ConfigError
from ovseg3d.geometry import rotation_of_angles
from scripts.benchmarks import pose_shapes
from scripts.benchmarks.pose_shapes import BACKGROUNDS, SIDE, Shapes, shapes_at_hand

GREEN = (0, 255, 0)


@pytest.fixture
def shapes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shapes:
    """Rods along y with a ball at their front, of four categories with four shapes each, before plain green."""
    rng = np.random.default_rng(0)
    ball = rng.normal(size=(2500, 3))
    ball = 0.15 * ball / np.linalg.norm(ball, axis=1, keepdims=True) + [0, -0.35, 0]
    rod = rng.uniform(-0.02, 0.02, (2500, 3)) + np.linspace(-0.3, 0.5, 2500)[:, None] * [0, 1, 0]
    cloud = np.concatenate([ball, rod])
    (tmp_path / "shapes").mkdir()
    names = np.repeat(["bottle", "car", "key", "pan"], 4)
    np.savez(tmp_path / "shapes" / "shapes.npz", points=np.tile(cloud, (16, 1, 1)).astype(np.float16), category=names)
    for folder in {folder for names in BACKGROUNDS.values() for folder in names}:
        (tmp_path / folder).mkdir(parents=True)
        Image.new("RGB", (200, 150), GREEN).save(tmp_path / folder / "0.png")
    monkeypatch.setenv("OVSEG3D_DATA", str(tmp_path))
    monkeypatch.setattr(pose_shapes, "KNOWN_COUNT", 2)
    return shapes_at_hand()


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
