"""Labels without 3D annotation: photos, lifted rooms with fitted boxes, annotations in COCO's layout, self-training."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from coco_photos import SquareInFront, coco
from PIL import Image
from scipy.spatial.transform import Rotation

from ovseg3d import limits
from ovseg3d.datasets import read_coco
from ovseg3d.errors import ConfigError, SceneError
from ovseg3d.geometry import inside_boxes, rotated_iou
from ovseg3d.heads.detection import Candidate, Detection, Detector
from ovseg3d.heads.detection.network import DetectionNetwork, DetectionShape
from ovseg3d.scene import PointCloud
from ovseg3d.synth.render import DRAFT
from scripts.training import lifted_photos, lifted_rooms, self_labels
from scripts.training.detection_rooms import IGNORED, load_detection_room, read_detection_room, read_kinds
from scripts.training.detection_stage import DetectionRecipe, DetectionStage, placed
from scripts.training.lifted_photos import RoomPhotos, make_room_photos, read_room_photos, save_room_photos
from scripts.training.lifted_rooms import LiftRecipe, LiftRooms, annotated_photos, label_photo, rendered_photo
from scripts.training.self_labels import SelfLabels, self_labelled
from scripts.training.train_detection import FIRST_SEED, TrainDetection

SIDE, FOCAL = 120, 100.0
TABLE = np.array([0.3, 0.2, 0.375, 1.2, 0.8, 0.75, 0.0])
ROOM = np.array([2.5, 2.5, 1.3])
EXACT = LiftRecipe(depth="exact")


def rendered(eye: tuple[float, float, float] = (-1.6, -0.9, 1.6)) -> RoomPhotos:
    """One photo of a block in an empty room, ray-traced; walls are along the axes."""
    forward = TABLE[:3] - eye
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, [0, 0, 1])
    right /= np.linalg.norm(right)
    c2w = np.eye(4)
    c2w[:3, :3], c2w[:3, 3] = np.stack([right, np.cross(forward, right), forward], 1), eye
    line = (np.arange(SIDE) + 0.5 - SIDE / 2) / FOCAL
    rays = np.stack([*np.meshgrid(line, line), np.ones((SIDE, SIDE))], -1) @ c2w[:3, :3].T
    low, high = np.array([-ROOM[0], -ROOM[1], 0]), np.array([ROOM[0], ROOM[1], 2 * ROOM[2]])
    with np.errstate(divide="ignore"):
        wall = np.maximum((low - eye) / rays, (high - eye) / rays).min(-1)
        ends = np.stack([(TABLE[:3] + sign * TABLE[3:6] / 2 - eye) / rays for sign in (-1, 1)])
    near, far = ends.min(0).max(-1), ends.max(0).min(-1)
    hit = (near < far) & (near > 0)
    depth = np.where(hit, near, wall)
    return RoomPhotos(
        np.full((1, SIDE, SIDE, 3), 128, np.uint8),
        hit[None].astype(np.int16),
        ("table",),
        np.array([FOCAL], np.float32),
        np.log(depth)[None].astype(np.float16),
        c2w[None],
        TABLE[None].astype(np.float32),
    )


def test_a_mask_gives_the_box_of_its_object() -> None:
    photos = rendered()
    labelled = label_photo(rendered_photo(photos, 0, "exact"), EXACT)
    room = labelled.room
    assert labelled.rows == (0,) and room.kinds == ("table",) and labelled.masks == 1
    turn = labelled.level.as_matrix() @ photos.c2w[0, :3, :3].T
    true = TABLE.copy()
    true[:3] = turn @ (TABLE[:3] - photos.c2w[0, :3, 3])
    true[6] = np.arctan2(turn[1, 0], turn[0, 0])
    assert np.degrees(np.arccos(turn[2, 2])) < 2, "level"
    assert rotated_iou(room.boxes.astype(float), true[None])[0, 0] > 0.8
    assert room.symmetry.tolist() == [2] and room.facing.tolist() == [0], "a mask says nothing of a front"
    assert (room.instance == 1).sum() > 500 and (room.instance == 0).sum() > 5000


def test_walls_lie_along_the_axes() -> None:
    room = label_photo(rendered_photo(rendered(), 0, "exact"), EXACT).room
    normal = np.abs(room.normal.astype(float) / 127)
    assert (normal.max(1) > 0.98).mean() > 0.8


def test_a_cut_object_is_open_where_the_photo_ends() -> None:
    photos = rendered()
    half = RoomPhotos(**{**vars(photos), "instance": photos.instance.copy(), "log_depth": photos.log_depth.copy()})
    columns = np.flatnonzero(photos.instance[0].any(0))
    nearer = columns[len(columns) // 2]
    half.instance[0][:, nearer:] = 0
    half.log_depth[0][:, nearer:] = np.log(0.5)  # a post in front of it
    whole, cut = (label_photo(rendered_photo(one, 0, "exact"), EXACT).room for one in (photos, half))
    assert whole.quality is not None and cut.quality is not None
    assert whole.open_sides is not None and cut.open_sides is not None
    assert cut.open_sides.sum() > whole.open_sides.sum() and cut.quality[0] < whole.quality[0]
    even = label_photo(rendered_photo(half, 0, "exact"), LiftRecipe(depth="exact", quality=False)).room
    assert even.quality is not None and even.quality.tolist() == [1.0]


def test_a_cut_is_of_the_side_to_which_the_surface_goes_on() -> None:
    """What is nearer covers the lower part of the photo from within the block's top on: that cuts the block towards the
    camera, not its height."""
    photos = rendered((-0.9, 0.2, 2.4))
    half = replace(photos, instance=photos.instance.copy(), log_depth=photos.log_depth.copy())
    below = int(np.flatnonzero(photos.instance[0].any(1))[0]) + 15
    half.instance[0][below:], half.log_depth[0][below:] = 0, np.log(0.3)
    room = label_photo(rendered_photo(half, 0, "exact"), replace(EXACT, gravity="exact", usual_sizes=False)).room
    assert room.open_sides is not None
    box, sides = room.boxes[0].astype(float), room.open_sides[0]
    toward = Rotation.from_euler("z", box[6]).inv().apply([-box[0], -box[1], 0])
    axis = int(np.abs(toward).argmax())
    assert sides[2 * axis + int(toward[axis] > 0)] and not sides[4:].any()


def test_the_rim_of_a_mask_counts() -> None:
    """Lifting leaves out the rim of a small thing; its box reaches to the mask's end all the same."""
    photos = rendered((-1.2, 0.2, 2.0))
    small = rendered_photo(photos, 0, "exact")
    mask = np.zeros_like(small.instance)
    row, column = int(np.argwhere(small.instance == 1)[0, 0]) + 12, SIDE // 2  # within the top
    mask[row - 6 : row + 6, column - 6 : column + 6] = 1
    cloud = small.lifted.cloud
    off = np.abs(cloud.xyz[:, :2] / cloud.xyz[:, 2:] * FOCAL + SIDE / 2 - (column, row)).max(1)
    inner = (off < 4) | (off > 6)
    cut = PointCloud(cloud.xyz[inner], *(None if one is None else one[inner] for one in (cloud.normal, cloud.rgb)))
    recipe = replace(EXACT, gravity="exact", usual_sizes=False)
    whole, rimless = (
        label_photo(replace(small, instance=mask, lifted=replace(small.lifted, cloud=one)), recipe).room
        for one in (cloud, cut)
    )
    assert (rimless.instance == 1).sum() == 64 < (whole.instance == 1).sum()
    assert (rimless.boxes[0, 3:5] > 0.75 * whole.boxes[0, 3:5]).all(), "8 of 12 pixels alone are less"


def test_gravity_by_the_camera_is_tilted() -> None:
    labelled = label_photo(rendered_photo(rendered(), 0, "exact"), LiftRecipe(depth="exact", gravity="camera"))
    up = labelled.level.apply(rendered().c2w[0, :3, :3].T[:, 2])
    assert np.degrees(np.arccos(up[2])) > 10
    exact = label_photo(rendered_photo(rendered(), 0, "exact"), LiftRecipe(depth="exact", gravity="exact"))
    assert exact.level.apply(rendered().c2w[0, :3, :3].T[:, 2])[2] > 1 - 1e-9


def test_rooms_are_kept_and_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_room_photos(tmp_path / "photos/1.npz", rendered())
    assert read_room_photos(tmp_path / "photos/1.npz").kinds == ("table",)
    LiftRooms(tmp_path / "photos", tmp_path / "rooms", recipe=EXACT).main()
    assert "| 1 | 100% |" in capsys.readouterr().out
    room = read_detection_room(tmp_path / "rooms/1_000.npz")
    assert room.quality is not None and room.open_sides is not None and room.open_sides.shape == (1, 6)
    with pytest.raises(ConfigError, match="another recipe"):
        LiftRooms(tmp_path / "photos", tmp_path / "rooms").main()
    LiftRooms(tmp_path / "photos", tmp_path / "rooms", recipe=EXACT).main()
    assert "mean IoU" not in capsys.readouterr().out, "nothing was missing"


def test_photos_of_a_room_have_masks_and_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifted_photos, "LIGHT", DRAFT)
    photos = make_room_photos(lifted_photos.FIRST_SEED + 500, 2)
    assert photos.rgb.shape[0] == 2 and photos.instance.max() <= len(photos.kinds) == len(photos.boxes)
    for instance, log_depth, focal, c2w in zip(photos.instance, photos.log_depth, photos.focal, photos.c2w):
        own = int(np.bincount(instance[instance > 0]).argmax())
        row, column = (instance == own).nonzero()
        z = np.exp(log_depth[row, column].astype(float))
        middle = instance.shape[0] / 2
        xyz = np.stack([(column + 0.5 - middle) / focal * z, (row + 0.5 - middle) / focal * z, z], 1)
        box = photos.boxes[own - 1].astype(float)
        local = (xyz @ c2w[:3, :3].T + c2w[:3, 3] - box[:3]) @ Rotation.from_euler("z", box[6]).as_matrix()
        assert (np.abs(local) < box[3:6] / 2 + 0.05).all(1).mean() > 0.97, "the mask's points are in the object's box"


def test_annotations_in_cocos_layout(tmp_path: Path) -> None:
    first, second = read_coco(coco(tmp_path))
    assert first.path == tmp_path / "a.png" and first.names == ("table", "folding chair")
    assert first.instance[15, 15] == 2 and first.instance[25, 15] == 2, "the smaller object is in front"
    assert first.instance[35, 15] == 1 and first.instance[5, 5] == 0
    assert (first.instance[10:29, 10:29] == 2).all(), "pixels whose centres are inside"
    assert (first.instance == 2).sum() == 19 * 19 and (first.instance == 1).sum() == 59 * 19 - 19 * 9
    assert second.path.name == "b.png" and second.names == () and (second.instance == -1).sum() == 4 * 5


@pytest.mark.parametrize(
    "changes",
    [
        {"categories": 3},
        {"images": [{"id": 1, "width": 60, "height": 40}]},
        {
            "annotations": [
                {"image_id": 1, "category_id": 9, "segmentation": [[0, 0, 5, 0, 5, 5]], "bbox": [0, 0, 1, 1]}
            ]
        },
        {"images": [{"id": 1, "file_name": "../a.png", "width": 60, "height": 40}]},
        {"images": [{"id": 1, "file_name": "a.png", "width": 10**30, "height": 40}]},
        {"images": [{"id": 1, "file_name": "a.png", "width": 0, "height": 40}]},
        {"images": [{"id": 1, "file_name": "a.png", "width": 10**6, "height": 10**6}]},
        {"images": [{"id": 1, "file_name": None, "width": 60, "height": 40}]},
        {"images": [7]},
        {"images": 7},
        {"annotations": [7]},
        {"annotations": [{"image_id": 1, "category_id": 5, "segmentation": [[0, 0, float("nan"), 0, 5, 5]]}]},
        {"annotations": [{"image_id": 1, "category_id": 5, "segmentation": [[0, 0, 5, 0, 5]]}]},
        {"annotations": [{"image_id": 1, "category_id": 5, "segmentation": None}]},
        {"categories": [{"id": 5, "name": None}]},
    ],
)
def test_a_file_in_another_layout_is_an_error(tmp_path: Path, changes: dict[str, object]) -> None:
    with pytest.raises(SceneError):
        list(read_coco(coco(tmp_path, **changes)))


def test_annotations_above_the_usual_limit_of_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = coco(tmp_path, info="x" * 2000)
    monkeypatch.setattr(limits, "MAX_TEXT_BYTES", 1000)
    assert len(list(read_coco(path))) == 2


def test_annotated_photos_are_lifted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifted_rooms, "load_depth_estimator", lambda name, flag: SquareInFront())
    LiftRooms(coco(tmp_path), tmp_path / "rooms", recipe=LiftRecipe(depth="any")).main()
    room = read_detection_room(tmp_path / "rooms/000000000001.npz")
    assert room.kinds == ("table", "folding chair") == read_kinds(tmp_path / "rooms/000000000001.npz")
    assert not (tmp_path / "rooms/000000000002.npz").exists(), "a crowd has no box"
    chair = room.xyz[room.instance == 2]
    assert np.allclose(np.ptp(chair @ [0, 0, 1]), 2 * 18 / 55, atol=0.1), "in metres, by the model's focal length"


def test_masks_turn_with_their_photo_and_have_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = []

    class Model(SquareInFront):
        def metric_depth(self, photo: np.ndarray, intrinsics: tuple[float, ...]) -> tuple[np.ndarray, float]:
            shapes.append(photo.shape)
            return super().metric_depth(photo, intrinsics)

    monkeypatch.setattr(lifted_rooms, "load_depth_estimator", lambda name, flag: Model())
    path, exif = coco(tmp_path), Image.Exif()
    exif[0x0112] = 6  # shown turned clockwise
    Image.fromarray(np.full((40, 60, 3), 100, np.uint8)).save(tmp_path / "a.png", exif=exif)
    found = dict(annotated_photos(path, None, "any", ()))
    photo = found["000000000001"]
    assert shapes[0][:2] == photo.instance.shape == (60, 40)
    # The table is in the file's lower half; turned clockwise that is the left half.
    assert (photo.instance[:, :20] > 0).mean() > 0.9 > 0.4 > (photo.instance[:, 20:] == 1).mean()
    Image.fromarray(np.full((30, 60, 3), 100, np.uint8)).save(tmp_path / "a.png")
    assert "000000000001" not in dict(annotated_photos(path, None, "any", ()))


def test_what_only_rendered_photos_know(tmp_path: Path) -> None:
    for recipe in (EXACT, LiftRecipe(gravity="exact"), LiftRecipe(boxes="true")):
        with pytest.raises(ConfigError, match="lifted_photos"):
            LiftRooms(coco(tmp_path), tmp_path / "rooms", recipe=recipe).main()
    with pytest.raises(SceneError, match="no photos"):
        LiftRooms(tmp_path, tmp_path / "rooms").main()


def test_open_sides_are_mirrored_with_their_boxes() -> None:
    room = label_photo(rendered_photo(rendered(), 0, "exact"), EXACT).room
    open_sides = np.zeros((1, 6), bool)
    open_sides[0, 1] = True
    room = type(room)(**{**vars(room), "open_sides": open_sides})
    for seed in range(12):
        cloud, moved = placed(np.random.default_rng(seed), room, room.normal / np.float32(127), None)
        points = (cloud.xyz - moved.boxes[0, :3]) @ Rotation.from_euler("z", moved.boxes[0, 6]).as_matrix()
        before = (room.xyz - room.boxes[0, :3]) @ Rotation.from_euler("z", room.boxes[0, 6]).as_matrix()
        assert moved.open_sides is not None and moved.open_sides.sum() == 1
        scale = moved.boxes[0, 3] / room.boxes[0, 3]
        high, was = np.quantile(points[:, 0], 0.99), np.quantile(before[:, 0], 0.99)
        low, old = np.quantile(points[:, 0], 0.01), np.quantile(before[:, 0], 0.01)
        # The side that is open keeps the same part of the room beyond it.
        beyond = high if moved.open_sides[0, 1] else -low
        assert moved.open_sides[0, 0] or moved.open_sides[0, 1]
        assert np.isclose(beyond, was * scale, rtol=0.02) and not np.isclose(was, -old, rtol=0.05)


def test_a_step_on_lifted_rooms_alone(tmp_path: Path) -> None:
    save_room_photos(tmp_path / "photos/1.npz", rendered())
    LiftRooms(tmp_path / "photos", tmp_path / "rooms", recipe=EXACT).main()
    torch.manual_seed(0)
    network = DetectionNetwork(DetectionShape(stem=8, widths=(8, 8, 8, 8), head=16, embedding=4))
    vectors = torch.nn.functional.normalize(torch.randn(1, 4), dim=1)
    surfaces = sorted((tmp_path / "rooms").glob("*.npz"))
    stage = DetectionStage(tmp_path, range(0), ("table",), vectors, DetectionRecipe(), network, surfaces)
    for step in range(2):
        stage.step(step, 0.5)
    assert all(np.isfinite(value) for value in stage.measure().values()) and "iou" in stage.measure()


def test_a_head_labels_clouds_without_their_labels(tmp_path: Path) -> None:
    room = load_detection_room(tmp_path / "rooms", FIRST_SEED + 4, points=30_000)
    path = tmp_path / "rooms" / f"{FIRST_SEED}.npz"
    (tmp_path / "rooms" / f"{FIRST_SEED + 4}.npz").rename(path)
    weights = Detector().weights
    cloud = PointCloud(room.xyz, room.normal.astype(np.float32) / 127, room.rgb.astype(np.float32) / 255)
    overlaps = {}
    for boxes in ("points", "head"):
        SelfLabels(weights, tmp_path / boxes, tmp_path / "rooms", room_count=1, boxes=boxes).main()
        labelled = read_detection_room(tmp_path / boxes / path.name)
        assert labelled.quality is not None and (labelled.quality >= 0.25).all() and not labelled.facing.any()
        iou = rotated_iou(labelled.boxes.astype(float), room.boxes.astype(float)).max(1)
        assert (iou > 0.25).mean() > 0.5, "most of its boxes are about right"
        overlaps[boxes] = iou[iou > 0.25].mean()
        again = self_labelled(weights, cloud, boxes)
        assert np.array_equal(again.boxes, labelled.boxes), "labels of the room are not read"
        found = labelled.instance[labelled.instance > 0]
        assert set(found.tolist()) <= set(range(1, len(labelled.boxes) + 1)) and (labelled.instance == IGNORED).any()
    assert overlaps["points"] > overlaps["head"] + 0.05, "exact points show where objects end"


def detection(center: tuple[float, float, float], points: np.ndarray) -> Detection:
    return Detection(
        center, (1.0, 1.0, 1.0), (1.0, 0.0, 0.0, 0.0), 0.0, 2, None, 0.6, np.zeros(24), points, np.zeros(3),
        (Candidate("box", 1.0),),
    )  # fmt: skip


def test_points_of_a_box_that_disagrees_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    xyz = np.concatenate([rng.uniform(-0.5, 0.5, (200, 3)), rng.uniform(-0.5, 0.5, (200, 3)) + (3, 0, 0), [[9, 9, 0]]])
    beside = detection((3.9, 0.0, 0.0), np.arange(200, 400))
    found = (detection((0.0, 0.0, 0.0), np.arange(200)), beside)
    said = SimpleNamespace(foreground=np.zeros(len(xyz)))
    detector = SimpleNamespace(detect=lambda cloud: found, segment=lambda cloud: said)
    monkeypatch.setattr(self_labels, "_detector", lambda weights, boxes: detector)
    cloud = PointCloud(xyz, np.tile([0.0, 0.0, 1.0], (len(xyz), 1)).astype(np.float32), None)
    room = self_labelled(Path("none"), cloud)
    assert room.kinds == ("box",) and room.quality is not None and room.quality[0] == 1.0
    assert (room.instance[:200] == 1).all() and (room.instance[200:400] == IGNORED).all() and room.instance[400] == 0
    assert len(self_labelled(Path("none"), cloud, "head").kinds) == 2


def test_a_missing_labelled_room_is_an_error(tmp_path: Path) -> None:
    training = TrainDetection(
        output=tmp_path / "w.safetensors", work=tmp_path / "work", rooms=tmp_path / "none", room_count=1,
        make_rooms=False, steps=1,
    )  # fmt: skip
    with pytest.raises(ConfigError, match="is missing"):
        training.train()
    with pytest.raises(ConfigError, match="nothing to learn"):
        replace(training, room_count=0).train()


def test_true_boxes_are_those_of_the_objects(tmp_path: Path) -> None:
    save_room_photos(tmp_path / "photos/1.npz", rendered())
    LiftRooms(tmp_path / "photos", tmp_path / "rooms", recipe=replace(EXACT, boxes="true")).main()
    room = read_detection_room(tmp_path / "rooms/1_000.npz")
    assert np.allclose(room.boxes[0, 3:6], TABLE[3:6]) and room.quality is None and room.open_sides is None
    own = room.xyz[room.instance == 1].astype(float)
    assert inside_boxes(own, room.boxes.astype(float) + [0, 0, 0, 0.05, 0.05, 0.05, 0])[0].mean() > 0.98
