"""Protocols 3d-ovs and lerf: their rules by hand, their files, and brute-force filters."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ovseg3d.errors import MeasureError, SceneError
from ovseg3d.evaluate.metrics.lerf import (
    LerfFrame,
    LerfParameters,
    LerfScene,
    LerfUnit,
    localise,
    polygon_mask,
    read_lerf_folder,
    read_lerf_labels,
    segment,
)
from ovseg3d.evaluate.metrics.ovs3d import Ovs3dViews, read_phrase_masks
from ovseg3d.evaluate.metrics.report import mean_over_scenes


def masks_of(labels: np.ndarray, phrases: int) -> np.ndarray:
    return np.stack([labels == k for k in range(1, phrases + 1)])


def test_3dovs_means_over_views_and_classes() -> None:
    views = Ovs3dViews(("bear", "sofa"))
    true = np.array([[1, 1, 2, 2]])
    views.update("00", np.array([[1, 2, 2, 2]]), masks_of(true, 2))  # bear 1/2, sofa 2/3
    views.update("01", np.array([[2, 2, 2, 2]]), masks_of(np.full((1, 4), 2), 2))  # bear absent from both: 0; sofa 1
    scores = views.result()
    assert scores.miou == pytest.approx((1 / 2 + 2 / 3 + 0 + 1) / 4)
    assert scores.miou_present == pytest.approx((1 / 2 + 2 / 3 + 1) / 3)
    assert scores.accuracy == pytest.approx((3 / 4 + 1) / 2)
    assert scores.iou["01"] == {"bear": 0.0, "sofa": 1.0}
    assert scores.as_dict()["protocol"] == "3d-ovs"


def test_3dovs_pixels_without_or_with_two_masks_are_wrong() -> None:
    masks = np.array([[[True, False, True, True, False]], [[False, False, True, False, False]]])
    views = Ovs3dViews(("a", "b"))
    views.update("00", np.array([[1, 1, 1, 0, 0]]), masks)
    scores = views.result()
    assert scores.accuracy == 1 / 5  # uncovered, doubly covered and predicted none are all wrong
    assert scores.iou["00"]["a"] == pytest.approx(2 / 4)


def test_3dovs_against_sklearn() -> None:
    """The paper's code takes scikit-learn's Jaccard score of one-hot rows by class."""
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    true, pred = rng.integers(0, 4, (6, 7)), rng.integers(1, 4, (6, 7))
    views = Ovs3dViews(("a", "b", "c", "never"))
    views.update("00", pred, masks_of(true, 4))
    rows = [masks_of(labels, 4).reshape(4, -1).T for labels in (true, pred)]
    expected = metrics.jaccard_score(*rows, average=None, zero_division=0)
    assert list(views.result().iou["00"].values()) == pytest.approx(expected.tolist())
    assert views.result().accuracy == pytest.approx(metrics.accuracy_score(*rows))


def test_3dovs_bad_input() -> None:
    views = Ovs3dViews(("a", "b"))
    with pytest.raises(MeasureError, match="size 3x2"):
        views.update("00", np.ones((2, 2), np.int64), np.zeros((2, 2, 3), bool))
    with pytest.raises(MeasureError, match="A label is 3"):
        views.update("00", np.full((2, 2), 3), np.zeros((2, 2, 2), bool))
    with pytest.raises(MeasureError, match="No view"):
        views.result()
    with pytest.raises(MeasureError, match="no phrases"):
        Ovs3dViews(())


def test_3dovs_masks_are_read_by_their_rule(tmp_path: Path) -> None:
    folder = tmp_path / "segmentations" / "07"
    folder.mkdir(parents=True)
    values = np.array([[255, 254], [128, 0]], np.uint8).repeat(3, 0).repeat(3, 1)
    Image.fromarray(values).save(folder / "red bag.png")
    Image.fromarray(values > 0).save(folder / "hand.png")  # one bit
    masks = read_phrase_masks(folder, ("red bag", "hand"), 2, 2)
    assert masks.tolist() == [[[True, False], [False, False]], [[True, True], [True, False]]]
    with pytest.raises(SceneError, match="no mask for the phrase 'camera'"):
        read_phrase_masks(folder, ("camera",), 2, 2)
    (folder / "camera.png").write_text("no picture")
    with pytest.raises(SceneError, match="not a readable image"):
        read_phrase_masks(folder, ("camera",), 2, 2)


def test_3dovs_masks_of_a_shipped_scene_say_what_its_labels_say() -> None:
    scene = Path(__file__).parents[2] / "scenes" / "desk"
    folder = min(path for path in (scene / "segmentations").iterdir() if path.is_dir())
    phrases = (scene / "segmentations" / "classes.txt").read_text().splitlines()
    labels = np.array(Image.open(scene / "labels" / f"{folder.name}.png")).astype(np.int64)
    masks = read_phrase_masks(folder, phrases, labels.shape[1], labels.shape[0])
    views = Ovs3dViews(phrases)
    views.update(folder.name, labels, masks)
    assert views.result().accuracy == 1.0 - (labels == 0).mean() and views.result().miou_present == 1.0


SMALL = LerfParameters(box=3, majority=3)


def loop_box(image: np.ndarray, side: int) -> np.ndarray:
    """Mean over side x side, borders mirrored about the last pixel; an even side reaches further up and left."""
    before, after = side // 2, side - side // 2 - 1
    wide = np.pad(image, ((before, after), (before, after)), mode="reflect")
    out = np.zeros_like(image)
    for i in range(image.shape[0]):
        for j in range(image.shape[1]):
            out[i, j] = wide[i : i + side, j : j + side].mean()
    return out


def loop_segment(image: np.ndarray, p: LerfParameters) -> np.ndarray:
    smooth = 0.5 * (image + loop_box(image, p.box))
    unit = (smooth - smooth.min()) / (smooth.max() - smooth.min())
    inside = np.clip(2 * unit - 1, 0, 1) > p.threshold
    out, r = inside.copy(), p.majority // 2
    for i in range(image.shape[0]):
        for j in range(image.shape[1]):
            window = inside[max(0, i - r) : i + r + 1, max(0, j - r) : j + r + 1]
            out[i, j] = window.sum() > window.size / 2
    return out


@pytest.mark.parametrize("box", [5, 6])
def test_lerf_filters_against_loops(box: int) -> None:
    rng = np.random.default_rng(box)
    maps = rng.random((2, 20, 24))
    maps[1] *= 0.5
    maps[1, 8:14, 9:18] += 0.8
    parameters = LerfParameters(box=box)
    mask, level = segment(maps, parameters)
    assert level == 1 and 0 < mask.sum() < mask.size
    assert (mask == loop_segment(maps[1], parameters)).all()
    averaged = loop_box(maps[1], box)
    y, x = np.unravel_index(averaged.argmax(), averaged.shape)
    at = (float(x), float(y))
    assert localise(maps, [at + at], parameters) == (True, 1)
    assert localise(maps, [(at[0] + 0.5, at[1], at[0] + 9, at[1])], parameters) == (False, 1)


def test_lerf_defaults_are_those_of_the_published_code() -> None:
    assert LerfParameters() == LerfParameters(box=30, threshold=0.4, majority=7)


def test_lerf_edges_are_inclusive_and_any_peak_hits() -> None:
    flat = np.zeros((1, 20, 20))
    flat[0, 3:8, 3:8] = flat[0, 12:17, 12:17] = 1.0  # with a box of 3 both plateaus peak at 3 x 3 pixels each
    for box, hit in [
        ((6.0, 6.0, 9.0, 9.0), True),
        ((6.1, 6.0, 9.0, 9.0), False),
        ((0.0, 0.0, 4.0, 4.0), True),
        ((15.0, 13.0, 19.0, 19.0), True),
        ((15.5, 13.0, 19.0, 19.0), False),
    ]:
        assert localise(flat, [box], SMALL)[0] is hit


def test_lerf_equal_peaks_are_equal_after_rounding() -> None:
    maps = np.random.default_rng(0).random((1, 20, 40)) / 3
    maps[0, 3:8, 3:8] = maps[0, 12:17, 30:35] = 0.7
    for box in [(4.0, 4.0, 6.0, 6.0), (31.0, 13.0, 33.0, 15.0)]:
        assert all(localise(maps, [(x, y, x, y)], SMALL)[0] for x in box[::2] for y in box[1::2])


def test_lerf_borders_are_mirrored_about_the_last_pixel() -> None:
    """A bright first row averages to (0 + 1 + 0) / 3, and loses to a plateau of 0.5; doubled it would win."""
    maps = np.zeros((1, 12, 12))
    maps[0, 0], maps[0, 5:9] = 1.0, 0.5
    assert localise(maps, [(0.0, 6.0, 11.0, 7.0)], SMALL)[0]
    assert not localise(maps, [(0.0, 0.0, 11.0, 1.0)], SMALL)[0]


def test_lerf_a_tie_is_outside() -> None:
    """Rows of 1 and 0 in turn; at the top border the window is cut to two rows, one of each."""
    maps = np.zeros((1, 6, 8))
    maps[0, ::2] = 1.0
    mask, _ = segment(maps, LerfParameters(box=1, majority=3))
    assert mask[:, 4].tolist() == [False, True, False, True, False, False]


def test_lerf_level_with_the_highest_peak() -> None:
    """One bright pixel loses to a plateau once averaged; the mask rule weighs the pixel itself in."""
    maps = np.zeros((2, 15, 15))
    maps[0, 2, 2] = 1.0
    maps[1, 8:13, 8:13] = 0.5
    assert localise(maps, [(8.0, 8.0, 12.0, 12.0)], SMALL) == (True, 1)
    assert segment(maps, SMALL)[1] == 0  # (1 + 1/9) / 2 against 0.5


def test_lerf_units_are_averaged() -> None:
    unit = LerfUnit("bear", ((2.0, 2.0, 9.0, 9.0),), (((2.0, 2.0), (9.0, 2.0), (9.0, 9.0), (2.0, 9.0)),))
    other = LerfUnit("cup", ((0.0, 0.0, 1.0, 1.0),), (((0.0, 0.0), (1.0, 0.0), (1.0, 1.0)),))
    frame = LerfFrame("frame_00001.jpg", 16, 16, (unit, other))
    sharp = np.zeros((1, 16, 16), np.float32)
    sharp[0, 2:10, 2:10] = 1
    scene = LerfScene(SMALL)
    scene.update(frame, {"bear": sharp, "cup": sharp, "unasked": sharp})
    scores = scene.result()
    assert [u.hit for u in scores.units] == [True, False] and scores.localisation == 0.5
    corners = 4 / 64  # the majority filter takes the four corner pixels
    assert [u.iou for u in scores.units] == pytest.approx([1 - corners, 0.0])
    assert scores.miou == pytest.approx((1 - corners) / 2)
    assert scores.resized_frames == 0
    assert scores.as_dict()["parameters"] == {"box": 3, "threshold": 0.4, "majority": 3}
    assert "over 2 scenes" in mean_over_scenes({"a": scores, "b": scores})["aggregation"]


def test_lerf_labels_are_scaled_to_the_relevancy() -> None:
    unit = LerfUnit("bear", ((4.0, 4.0, 19.0, 19.0),), (((4.0, 4.0), (19.0, 4.0), (19.0, 19.0), (4.0, 19.0)),))
    half = np.zeros((1, 16, 16))
    half[0, 2:10, 2:10] = 1
    scene = LerfScene(SMALL)
    scene.update(LerfFrame("f", 32, 32, (unit,)), {"bear": half})
    assert scene.result().resized_frames == 1 and scene.result().miou == pytest.approx(60 / 64)
    assert scene.result().localisation == 1.0


def test_lerf_a_flat_map_has_no_mask() -> None:
    assert not segment(np.full((1, 9, 9), 0.7), SMALL)[0].any()


def test_polygons_include_their_outline() -> None:
    square = [(1.0, 1.0), (3.9, 1.0), (3.0, 3.0), (1.0, 3.0)]
    expected = np.zeros((6, 6), bool)
    expected[1:4, 1:4] = True
    assert (polygon_mask([square], 6, 6) == expected).all()
    assert polygon_mask([square, [(5.0, 5.0)]], 6, 6)[5, 5]


def write_frame(path: Path, **changes: object) -> None:
    square = [[1, 1], [4, 1], [4, 4], [1, 4]]
    objects = [
        {"category": "sheep", "bbox": [1, 1, 4, 4], "segmentation": square, "group": 1},
        {"category": "apple", "bbox": [9, 8, 6, 6], "segmentation": [[6, 6], [9, 6], [9, 8]], "group": 2},
        {"category": "sheep", "bbox": [5, 0, 7, 2], "segmentation": [[5, 0], [7, 0], [7, 2], [5, 2]], "group": 3},
    ]
    value = {"info": {"name": "frame_00041.jpg", "width": 12, "height": 10}, "objects": objects, **changes}
    path.write_text(json.dumps(value))


def test_lerf_files(tmp_path: Path) -> None:
    write_frame(tmp_path / "frame_00041.json")
    (frame,) = read_lerf_folder(tmp_path)
    assert (frame.name, frame.width, frame.height) == ("frame_00041.jpg", 12, 10)
    sheep, apple = frame.units
    assert sheep.category == "sheep" and sheep.boxes == ((1.0, 1.0, 4.0, 4.0), (5.0, 0.0, 7.0, 2.0))
    assert apple.boxes == ((6.0, 6.0, 9.0, 8.0),)
    assert polygon_mask(sheep.polygons, 12, 10).sum() == 16 + 9


@pytest.mark.parametrize(
    "changes, told",
    [
        ({"info": {}}, "'width' is missing"),
        ({"info": {"width": 0, "height": 5}}, "'width' is 0"),
        ({"objects": [{"category": "a", "bbox": [1, 2, 3], "segmentation": []}]}, "LERF's layout"),
        ({"objects": [{"category": "a", "bbox": [1, 2, 3, 4], "segmentation": [1, 2]}]}, "polygon of 'a'"),
        ({"objects": None}, "LERF's layout"),
    ],
)
def test_lerf_files_of_another_layout(tmp_path: Path, changes: dict, told: str) -> None:
    write_frame(tmp_path / "f.json", **changes)
    with pytest.raises(SceneError, match=told):
        read_lerf_labels(tmp_path / "f.json")


def test_lerf_bad_input(tmp_path: Path) -> None:
    frame = LerfFrame("f", 4, 4, (LerfUnit("bear", (), ()),))
    with pytest.raises(MeasureError, match="No relevancy for: bear"):
        LerfScene().update(frame, {})
    with pytest.raises(MeasureError, match="not finite"):
        LerfScene().update(frame, {"bear": np.full((1, 4, 4), np.nan)})
    with pytest.raises(MeasureError, match="No phrase"):
        LerfScene().result()
    with pytest.raises(SceneError, match="no label files"):
        read_lerf_folder(tmp_path)
