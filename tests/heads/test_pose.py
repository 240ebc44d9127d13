"""The pose head: circular densities, crops and their cameras, fusion, weights, and what the shipped head knows."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from ovseg3d.encoders.base import Preprocess
from ovseg3d.errors import ConfigError
from ovseg3d.geometry import angles_of_rotation, from_wxyz, rotation_of_angles, to_wxyz
from ovseg3d.heads.detection import Detection
from ovseg3d.heads.pose import (
    CropPose,
    PhotoPoser,
    Pose,
    PoseNetwork,
    PoseShape,
    TrainedPoseNetwork,
    fuse,
    load_network,
    mask_box,
    pose_in_camera,
    pose_of_detection,
    save_network,
    square_crop,
    turn_to_box,
)
from ovseg3d.heads.pose.circular import (
    grid_angles,
    log_density,
    mode,
    negative_log_likelihood,
    probabilities,
    waves,
)
from ovseg3d.heads.pose.features import crop_features
from ovseg3d.heads.pose.fusion import peak, yaw_of_photo
from ovseg3d.heads.pose.network import SYMMETRY_ORDERS
from ovseg3d.heads.pose.photo import GRID
from ovseg3d.heads.pose.records import mass_near
from ovseg3d.scene.cameras import Camera
from ovseg3d.synth.cameras import look

LEVEL = Rotation.identity()


def bump(angle: float, sharpness: float = 8.0, order: int = 1, bins: int = GRID) -> np.ndarray:
    """A distribution on a grid, with `order` equal modes."""
    values = np.exp(sharpness * np.cos(order * (np.arange(bins) * 2 * np.pi / bins - angle)))
    return values / values.sum()


def crop_pose(azimuth: float, order: int = 1, sharpness: float = 8.0) -> CropPose:
    symmetry = np.where(np.array(SYMMETRY_ORDERS) == order, 0.85, 0.05)
    return CropPose(bump(azimuth, sharpness, max(order, 1)), bump(0.3), bump(0.05), symmetry, 0.9)


def yaw_of(pose: Pose) -> float:
    w, _, _, z = pose.rotation_wxyz
    return 2 * float(np.arctan2(z, w))


def apart(a: float, b: float) -> float:
    return float(np.degrees(abs((a - b + np.pi) % (2 * np.pi) - np.pi)))


def test_densities_add_up_and_have_their_modes() -> None:
    angle = torch.tensor([0.02, 2.0, 6.2])
    coefficients = 3.0 * waves(angle, 6)  # a ridge at the angle
    density = log_density(coefficients, grid_angles(720)).exp()
    assert torch.allclose(density.mean(1), torch.ones(3), atol=1e-4)
    found = probabilities(coefficients, GRID)
    assert torch.allclose(found.sum(1), torch.ones(3), atol=1e-5)
    assert max(apart(a, b) for a, b in zip(mode(found).tolist(), angle.tolist())) < 0.3


@pytest.mark.parametrize("order", [1, 2, 4, 0])
def test_the_loss_takes_equal_azimuths_as_equally_right(order: int) -> None:
    coefficients = torch.randn(1, 16, generator=torch.Generator().manual_seed(order))
    stated = torch.tensor([1.1])
    loss = negative_log_likelihood(coefficients, stated, torch.tensor([order]))
    equal = grid_angles(360) if order == 0 else stated + grid_angles(order)
    expected = -log_density(coefficients, equal).mean()
    assert float(loss) == pytest.approx(float(expected), abs=1e-4)


def test_a_turn_of_the_camera_to_a_box_keeps_what_is_seen() -> None:
    """The viewpoint on the ray through a box does not depend on where in the photo the box is."""
    thing = Rotation.from_euler("z", 0.7)
    expected = None
    for turn in (0.0, 0.35):  # the same eye, looking at the object and past it
        eye = np.array([3.0, 0.5, 1.5])
        to = -eye / np.linalg.norm(eye)
        c2w = look(eye, np.arctan2(to[1], to[0]) + turn, float(np.arcsin(to[2])))
        camera = Camera(320, 240, 300.0, 300.0, 160.0, 120.0, c2w)
        (x, y), *_ = camera.project(np.zeros((1, 3)))[0]
        turned = turn_to_box(camera, (x - 20, y - 10, x + 20, y + 10))
        assert turned.apply([0, 0, 1]) == pytest.approx(to, abs=1e-9)
        angles = angles_of_rotation(turned.inv() * thing)
        expected = angles if expected is None else expected
        assert angles[:2] == pytest.approx(expected[:2], abs=1e-6)


def test_crops_are_square_and_repeat_the_edge() -> None:
    rgb = np.zeros((60, 80, 3), np.uint8)
    rgb[20:40, 60:80] = 255
    mask = rgb[..., 0] > 0
    assert mask_box(mask) == (60.0, 20.0, 80.0, 40.0)
    crop = square_crop(rgb, mask_box(mask), 32, margin=1.0)
    assert crop.shape == (32, 32, 3)
    assert crop[16, 16].min() > 250 and crop[16, 31].min() > 250 and crop[16, 2].max() < 5 and crop[2, 31].max() < 5


def test_an_encoder_may_take_sides_that_are_no_multiples_of_its_patches() -> None:
    """As EfficientNet-Lite2 does, with 260 pixels and a stride of 16."""

    class Means:
        id, weight_hash, dim, patch = "means", "", 3, 16
        preprocess = Preprocess((260, 260), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))

        def encode_dense(self, images: torch.Tensor) -> torch.Tensor:
            assert images.shape[-2:] == (256, 256)
            return torch.nn.functional.avg_pool2d(images, self.patch)

    crops = np.zeros((2, 40, 40, 3), np.uint8)
    crops[1, :, 20:] = 255
    made = crop_features(Means(), crops, 4)
    assert made.shape == (2, 3, 4, 4) and made[0].abs().max() == 0
    torch.testing.assert_close(made[1, 0, 0], torch.tensor([0.0, 0.0, 1.0, 1.0]), atol=0.05, rtol=0)


@pytest.mark.parametrize("yaw", [0.4, 2.5, 5.0])
def test_photos_from_all_sides_agree_on_the_yaw(yaw: float) -> None:
    thing = Rotation.from_euler("z", yaw)
    crops, cameras = [], []
    for around in (0.3, 1.9, 4.0):
        eye = np.array([2 * np.cos(around), 2 * np.sin(around), 1.0])
        c2w = look(eye, around + np.pi, -float(np.arctan2(1.0, 2.0)))
        camera = Rotation.from_matrix(c2w[:3, :3])
        crops.append(crop_pose(float(angles_of_rotation(camera.inv() * thing)[0])))
        cameras.append(camera)
        assert apart(peak(yaw_of_photo(crops[-1].azimuth, camera, LEVEL), 1), yaw) < 1
    pose = fuse(crops, cameras, None, LEVEL)
    assert pose is not None and pose.source == "photo" and pose.front is not None
    assert pose.front == pytest.approx(thing.apply([0, -1, 0]), abs=0.02)
    assert pose.score > fuse(crops[:1], cameras[:1], None, LEVEL).score  # type: ignore[union-attr]
    cloud = fuse([], [], (bump(yaw, bins=24), 1), LEVEL)
    assert cloud is not None and cloud.source == "cloud" and apart(yaw_of(cloud), yaw) < 2
    both = fuse(crops, cameras, (bump(yaw, bins=24), 1), LEVEL)
    assert both is not None and both.source == "fused" and both.score > pose.score
    assert fuse([], [], None, LEVEL) is None


def test_one_source_that_errs_is_outvoted() -> None:
    c2w = look(np.array([0.0, -2.0, 0.0]), np.pi / 2, 0.0)
    camera = Rotation.from_matrix(c2w[:3, :3])
    crops = [crop_pose(0.0), crop_pose(0.1), crop_pose(np.pi)]
    pose = fuse(crops, [camera] * 3, None, LEVEL)
    assert pose is not None and pose.front == pytest.approx((0, -1, 0), abs=0.1)


def test_all_photos_of_an_object_count_as_one() -> None:
    """They make the same mistakes, so many of them are no surer than one, also beside a cloud that disagrees."""
    camera = Rotation.from_euler("x", -90, degrees=True)
    for cloud in (None, (bump(2.0, bins=24), 1)):
        one, many = (fuse([crop_pose(0.5)] * n, [camera] * n, cloud, LEVEL) for n in (1, 6))
        assert one is not None and many is not None and many.score == pytest.approx(one.score)
        np.testing.assert_allclose(many.pose_probabilities["yaw"], one.pose_probabilities["yaw"], atol=1e-12)


def test_boxes_pull_the_yaw_to_their_axes_but_know_no_front() -> None:
    c2w = look(np.array([0.0, -2.0, 0.0]), np.pi / 2, 0.0)
    camera = [Rotation.from_matrix(c2w[:3, :3])]
    for box_yaw in (0.0, np.pi / 2, np.pi):
        pose = fuse([crop_pose(0.25, sharpness=3.0)], camera, None, LEVEL, box_yaw_rad=box_yaw)
        assert pose is not None and abs(yaw_of(pose)) < np.radians(8)


@pytest.mark.parametrize("order", [2, 4, 0])
def test_symmetric_objects_have_no_front(order: int) -> None:
    c2w = look(np.array([0.0, -2.0, 0.0]), np.pi / 2, 0.0)
    camera = Rotation.from_matrix(c2w[:3, :3])
    pose = fuse([crop_pose(0.5, order)] * 2, [camera] * 2, None, LEVEL)
    assert pose is not None and pose.symmetry_order == order and pose.front is None
    assert pose.record()["front"] is None
    assert mass_near(bump(0.2, 60.0, 2), 0.2 + np.pi, 2) > 0.95 > 0.6 > mass_near(bump(0.2, 60.0, 2), 0.2, 1)


def test_frames_that_are_not_level() -> None:
    up = np.array([0.0, -1.0, 0.0])  # y down, as in a camera
    level = Rotation.align_vectors([[0, 0, 1]], [up])[0]
    pose = fuse([], [], (bump(1.0), 1), level)
    assert pose is not None
    assert from_wxyz(pose.rotation_wxyz).apply([0, 0, 1]) == pytest.approx(up, abs=1e-6)


def test_a_detection_is_a_pose() -> None:
    rotation = Rotation.from_euler("z", 1.0)
    box = {"center": (0.0, 0.0, 0.0), "size": (1.0, 1.0, 1.0), "rotation_wxyz": to_wxyz(rotation), "yaw_rad": 1.0}
    facing = {"symmetry_order": 1, "front": (1.0, 0.0, 0.0), "score": 0.8, "yaw_probabilities": bump(1.0, bins=24)}
    detection = Detection(**box, **facing, points=np.arange(3), embedding=np.ones(4))
    pose = pose_of_detection(detection)
    assert pose.source == "cloud" and pose.rotation_wxyz == detection.rotation_wxyz and 0.7 < pose.score <= 1
    assert set(pose.pose_probabilities) == {"yaw"}


def test_a_crop_in_its_camera() -> None:
    pose = pose_in_camera(crop_pose(0.5))
    expected = rotation_of_angles(np.array([0.5, 0.3, 0.05]))
    assert (from_wxyz(pose.rotation_wxyz).inv() * expected).magnitude() < np.radians(1)
    assert pose.frame == "camera" and set(pose.pose_probabilities) == {"azimuth", "elevation", "theta"}


def test_weights_survive_their_file(tmp_path: Path) -> None:
    network = PoseNetwork(PoseShape(channels=8, text=4, grid=2, reduced=4, hidden=8, waves=3))
    save_network(tmp_path / "a.safetensors", TrainedPoseNetwork(network, "dino:builtin", "abc", 1.5))
    found = load_network(tmp_path / "a.safetensors")
    assert (found.encoder, found.weight_hash, found.temperature) == ("dino:builtin", "abc", 1.5)
    features, text = torch.randn(3, 8, 2, 2), torch.randn(3, 4)
    again = found.network(features, text).azimuth
    assert torch.allclose(again, network.eval()(features, text).azimuth, atol=0.02)
    (tmp_path / "b.safetensors").write_bytes(b"no")
    for name in ("b.safetensors", "missing.safetensors"):
        with pytest.raises(ConfigError, match="photo head"):
            load_network(tmp_path / name)
    with pytest.raises(ConfigError, match="other weights"):
        _ = PhotoPoser(tmp_path / "a.safetensors").encoder


def test_the_shipped_head_belongs_to_the_shipped_dino() -> None:
    """The hash of the encoder's files is in the head; without it `pose PHOTO` refuses to work."""
    poser = PhotoPoser()
    assert poser.encoder.weight_hash == poser.trained.weight_hash
