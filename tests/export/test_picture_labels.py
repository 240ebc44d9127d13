"""Labels in pictures are whole, readable, and arrows end in the picture."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from ovseg3d.export.detections import draw_from_above
from ovseg3d.export.picture_labels import Rect, draw_labels
from ovseg3d.export.poses import PosedObject, PosedScene, draw_axes
from ovseg3d.heads.pose import Pose
from ovseg3d.scene import Camera
from ovseg3d.scene.clouds import PointCloud

SIZE = (400, 300)


def shared(first: Rect, second: Rect) -> bool:
    return first[0] < second[2] and second[0] < first[2] and first[1] < second[3] and second[1] < first[3]


@pytest.mark.parametrize("named", [(0.0, 0.0, 8.0, 8.0), (392.0, 292.0, 400.0, 300.0), (-5.0, 290.0, 405.0, 320.0)])
def test_labels_are_whole_and_off_each_other(named: Rect) -> None:
    picture = Image.new("RGB", SIZE, (128, 128, 128))
    places = draw_labels(ImageDraw.Draw(picture), [(f"television {k}", named) for k in range(3)])
    for number, place in enumerate(places):
        assert place[0] >= 0 and place[1] >= 0 and place[2] <= SIZE[0] and place[3] <= SIZE[1]
        assert not any(shared(place, other) for other in places[:number])
    changed = np.argwhere((np.asarray(picture) != 128).any(-1))[:, ::-1]
    inside = [((changed >= place[:2]) & (changed <= place[2:])).all(1) for place in places]
    assert len(changed) and np.any(inside, axis=0).all(), "nothing is drawn elsewhere"


def test_a_label_avoids_what_is_taken() -> None:
    draw, named = ImageDraw.Draw(Image.new("RGB", SIZE)), (100.0, 100.0, 200.0, 150.0)
    (first,) = draw_labels(draw, [("sofa", named)])
    (second,) = draw_labels(draw, [("sofa", named)], [first])
    assert not shared(first, second)


def test_arrows_end_in_the_picture(tmp_path: Path) -> None:
    """A whole photo shows one object, whose axes would be longer than the photo is high."""
    camera, rgb = Camera(900, 300, 800.0, 800.0, 450.0, 150.0, np.eye(4)), np.full((300, 900, 3), 128, np.uint8)
    pose = Pose((0.5**0.5, 0.5**0.5, 0.0, 0.0), 1, 0.9, "photo")  # up is -y: upwards in the picture
    one = PosedObject("chair", pose, bbox=(0.0, 0.0, 900.0, 300.0))
    draw_axes(tmp_path / "axes.png", rgb, camera, PosedScene((one,), "camera"))
    with Image.open(tmp_path / "axes.png") as picture:
        drawn = np.argwhere((np.asarray(picture) == (60, 110, 255)).all(-1))  # the colour of the up axis
    rows = np.bincount(drawn[:, 0])
    top = int(drawn[:, 0].min())
    assert top > 0 and rows[top + 8] > rows[40], "the head is wider than the shaft, and whole"


@pytest.mark.parametrize(("depth", "least", "most"), [(1.0, 0.2, 0.5), (10.0, 0.9, 1.1), (100.0, 1.1, 1.4)])
def test_a_picture_from_above_has_the_shape_of_the_cloud(
    tmp_path: Path, depth: float, least: float, most: float
) -> None:
    xyz = np.random.default_rng(0).uniform(0, (10.0, depth, 2.0), (500, 3))
    draw_from_above(tmp_path / "above.png", PointCloud(xyz), (), (0.0, 0.0, 1.0), "m", "hall")
    with Image.open(tmp_path / "above.png") as picture:
        assert least < picture.height / picture.width < most
