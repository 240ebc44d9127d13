"""Lenses: rays and projection undo each other, in numpy and in torch."""

import numpy as np
import pytest
import torch
import writers as w

from ovseg3d.scene import Camera, Cameras

PHONE = (0.0578421, -0.0805099, -0.000980296, 0.00015575)
LENSES = {
    "pinhole": ("OPENCV", ()),
    "phone": ("OPENCV", PHONE),
    "polynomial": ("OPENCV", (-0.2, 0.05, 0.001, -0.002, 0.01, -0.003)),
    "fisheye": ("OPENCV_FISHEYE", ()),
    "bent fisheye": ("OPENCV_FISHEYE", (0.04, -0.01, 0.005, -0.001)),
}


def _camera(lens: str, pose: int = 2) -> Camera:
    model, distortion = LENSES[lens]
    return Camera(640, 480, 400.0, 410.0, 322.0, 236.0, w.poses()[pose], model, distortion)


@pytest.mark.parametrize("lens", LENSES)
def test_projecting_a_ray_gives_back_its_pixel(lens):
    camera = _camera(lens)
    xy = np.random.default_rng(0).uniform([0, 0], [640, 480], (500, 2))
    origins, directions = camera.rays(xy)
    assert np.allclose(np.linalg.norm(directions, axis=1), 1)
    distances = np.random.default_rng(1).uniform(0.5, 5, (500, 1))
    back, z = camera.project(origins + directions * distances)
    assert np.abs(back - xy).max() < 1e-7
    assert np.allclose(z, distances[:, 0] * (directions @ camera.forward))


@pytest.mark.parametrize("lens", LENSES)
def test_a_sound_lens_reaches_all_of_its_picture(lens):
    xy = np.random.default_rng(0).uniform([0, 0], [640, 480], (500, 2))
    assert _camera(lens).reaches(xy).all()


@pytest.mark.parametrize(
    ("model", "k1", "largest"),
    # r (1 - r^2 / 3) grows up to r = 1, where it is 2/3; so does theta (1 - theta^2 / 3).
    [("OPENCV", -1 / 3, 2 / 3), ("OPENCV_FISHEYE", -1 / 3, 2 / 3)],
)
def test_a_lens_that_folds_back_reaches_as_far_as_its_polynomial_grows(model, k1, largest):
    camera = Camera(200, 200, 100.0, 100.0, 100.0, 100.0, np.eye(4), model, (k1,))
    offsets = np.array([0.0, 0.3, largest - 0.01, largest + 0.01, 0.9])
    xy = np.stack([100 + 100 * offsets, np.full(5, 100.0)], axis=-1)
    assert camera.reaches(xy).tolist() == [True, True, True, False, False]


def test_known_answers():
    pose = np.eye(4)
    pose[:3, 3] = [1, 2, 3]
    pinhole = Camera(100, 80, 50.0, 60.0, 40.0, 30.0, pose)
    origins, directions = pinhole.rays(np.array([[40.0, 30.0], [90.0, 30.0]]))
    assert np.allclose(origins, [1, 2, 3])
    assert np.allclose(directions, [[0, 0, 1], [np.sqrt(0.5), 0, np.sqrt(0.5)]])
    # One unit right, half a unit down, at z-depth 2: x = 40 + 50 * 0.5, y = 30 + 60 * 0.25.
    xy, z = pinhole.project(np.array([[2.0, 2.5, 5.0]]))
    assert np.allclose(xy, [[65, 45]]) and np.allclose(z, 2)
    # r^2 = 0.25: the radial factor is 1 + 0.4 * 0.25 + 0.16 * 0.0625 = 1.11; p1 adds 2 p2 x^2 + p2 r^2 to x.
    bent = Camera(100, 80, 50.0, 60.0, 40.0, 30.0, np.eye(4), "OPENCV", (0.4, 0.16, 0.0, 0.1))
    xy, _ = bent.project(np.array([[0.5, 0.0, 1.0]]))
    assert np.allclose(xy, [[40 + 50 * (0.5 * 1.11 + 0.1 * (0.25 + 0.5)), 30]])
    # An equidistant fisheye sees 90 degrees to the right at pi/2 focal lengths.
    fisheye = Camera(400, 400, 100.0, 100.0, 200.0, 200.0, np.eye(4), "OPENCV_FISHEYE")
    _, directions = fisheye.rays(np.array([[200 + 100 * np.pi / 2, 200.0], [200.0, 200.0]]))
    assert np.allclose(directions, [[1, 0, 0], [0, 0, 1]], atol=1e-12)


def test_behind_a_pinhole_there_is_no_pixel():
    xy, z = _camera("pinhole").project(np.array([w.poses()[2][:3, 3] * 2]))
    assert np.isnan(xy).all() and z[0] < 0


def test_the_scaled_camera_sees_the_same_directions():
    camera = _camera("phone")
    small = camera.scaled(160, 96)
    _, full = camera.rays(np.array([[100.0, 400.0]]))
    _, scaled = small.rays(np.array([[25.0, 80.0]]))
    assert np.allclose(full, scaled, atol=1e-12)


def test_torch_rays_agree_with_numpy_for_mixed_lenses():
    cameras = [_camera(lens, pose) for pose, lens in enumerate(LENSES)]
    for chosen in (cameras, cameras[1:2] * 3, cameras[4:], cameras[:1], [cameras[0], cameras[3]]):
        batch = Cameras.from_cameras(chosen)
        random = np.random.default_rng(5)
        view = torch.from_numpy(random.integers(0, len(chosen), 300))
        xy = torch.from_numpy(random.uniform([0, 0], [640, 480], (300, 2))).float()
        origins, directions, ratio = batch.rays(view, xy)
        for index, camera in enumerate(chosen):
            of = view == index
            o, d = camera.rays(xy[of].double().numpy())
            assert np.abs(origins[of].numpy() - o).max(initial=0) < 1e-6
            assert np.abs(directions[of].numpy() - d).max(initial=0) < 2e-6
            assert np.abs(ratio[of].numpy() - d @ camera.forward).max(initial=0) < 2e-6


def test_torch_rays_in_another_frame():
    turn = np.eye(4)
    turn[:3, :3] = 2.5 * np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1.0]])
    turn[:3, 3] = [1, 2, 3]
    camera = _camera("phone")
    for transform in (turn, torch.from_numpy(turn)):
        batch = Cameras.from_cameras([camera], transform)
        xy = torch.tensor([[10.0, 20.0], [600.0, 300.0]])
        origins, directions, _ = batch.rays(torch.zeros(2, dtype=torch.int64), xy)
        o, d = camera.rays(xy.double().numpy())
        assert np.allclose(origins, o @ turn[:3, :3].T + turn[:3, 3], atol=1e-5)
        assert np.allclose(directions, d @ turn[:3, :3].T / 2.5, atol=1e-5)
        assert torch.allclose(directions.norm(dim=1), torch.ones(2))


def test_the_grid_covers_every_pixel_row_by_row():
    camera = _camera("phone").scaled(8, 6)
    _, directions, _ = Cameras.from_cameras([_camera("pinhole"), camera]).grid(1)
    _, expected = camera.rays(camera.pixel_centres())
    assert directions.shape == (48, 3)
    assert np.allclose(directions, expected, atol=1e-6)


def test_gradients_reach_replaced_poses():
    batch = Cameras.from_cameras([_camera("phone")])
    c2w = batch.c2w.clone().requires_grad_()
    origins, directions, _ = batch.rays(torch.zeros(4, dtype=torch.int64), torch.rand(4, 2) * 400, c2w)
    (origins.sum() + directions.sum()).backward()
    assert c2w.grad is not None and c2w.grad[0, :3].abs().min() > 0
