"""Lifting of depth images: edges, normals, gravity, focal length, on a box room with a known camera."""

import numpy as np
import pytest
from scipy.ndimage import uniform_filter
from scipy.spatial.transform import Rotation

from ovseg3d.errors import SceneError
from ovseg3d.heads.lifting import depth_edges, lift_depth, lift_photo, usual_focal
from ovseg3d.scene import Camera

WIDTH, HEIGHT, FOCAL = 160, 120, 120.0
HALF = np.array([2.5, 2.0, 1.4])


def box_room(
    pitch: float = -20.0, yaw: float = 35.0, roll: float = 5.0, focal: float = FOCAL
) -> tuple[np.ndarray, np.ndarray]:
    """Exact z-depth of an empty room, and up in the camera's frame."""
    level = np.array([[0, 0, 1], [-1, 0, 0], [0, -1, 0]], float)
    turn = Rotation.from_euler("zyx", [yaw, -pitch, roll], degrees=True).as_matrix() @ level
    camera = Camera(WIDTH, HEIGHT, focal, focal, WIDTH / 2, HEIGHT / 2, np.eye(4))
    _, rays = camera.rays(camera.pixel_centres())
    world = rays @ turn.T
    with np.errstate(divide="ignore"):
        distance = (HALF / np.abs(world)).min(1)
    return (distance * rays[:, 2]).reshape(HEIGHT, WIDTH), turn.T @ [0.0, 0.0, 1.0]


def angle(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.degrees(np.arccos(np.clip(np.dot(a, b), -1, 1))))


def test_points_and_normals_are_those_of_the_planes() -> None:
    depth_z, _ = box_room()
    cloud = lift_depth(depth_z, Camera(WIDTH, HEIGHT, FOCAL, FOCAL, WIDTH / 2, HEIGHT / 2, np.eye(4)))
    assert cloud.normal is not None and len(cloud) > 0.97 * depth_z.size
    assert (np.einsum("pi,pi->p", cloud.normal, cloud.xyz) < 0).all()
    directions = np.unique(np.round(cloud.normal, 2), axis=0, return_counts=True)
    assert directions[1].max() > 2000


@pytest.mark.parametrize("pitch", [-35.0, -20.0, 0.0])
def test_gravity_and_intrinsics(pitch: float) -> None:
    depth_z, up = box_room(pitch)
    given = lift_photo(depth_z, intrinsics=(FOCAL, FOCAL, WIDTH / 2, HEIGHT / 2))
    assert angle(np.array(given.up), up) < 2
    assert not any("focal" in text for text in given.warnings)
    guessed = lift_photo(depth_z)
    assert guessed.focal.source == "estimated" and any("--intrinsics" in text for text in guessed.warnings)
    assert abs(np.log(guessed.focal.pixels / FOCAL)) < 2 * guessed.focal.share


@pytest.mark.parametrize("focal", [90.0, 170.0])
def test_unusual_lenses_are_estimated_from_right_angles(focal: float) -> None:
    found, usual = lift_photo(box_room(focal=focal)[0]).focal, usual_focal(WIDTH, HEIGHT)
    assert abs(np.log(found.pixels / focal)) < 0.3 * abs(np.log(usual / focal))


@pytest.mark.parametrize("corner", [slice(None, 20), slice(-20, None)])
def test_depth_that_is_far_out_is_no_error(corner: slice) -> None:
    """Such as 10,000 km, which a file of floats may hold where nothing was measured."""
    depth_z, up = box_room()
    depth_z[corner, corner] = 1e7
    assert angle(np.array(lift_photo(depth_z).up), up) < 2


def test_mixed_pixels_are_edges_and_clean_ones_are_not() -> None:
    depth_z, _ = box_room()
    depth_z = depth_z.copy()
    depth_z[40:80, 60:100] = 0.8
    assert depth_edges(depth_z).mean() < 0.02
    mixed = uniform_filter(depth_z, 3)
    wrong = np.abs(mixed / depth_z - 1) > 0.05
    found = depth_edges(mixed)
    assert found[wrong].mean() > 0.8 and found[~wrong].mean() < 0.03


def test_a_photo_of_the_sky() -> None:
    with pytest.raises(SceneError, match="pixels have a depth"):
        lift_photo(np.zeros((HEIGHT, WIDTH)))
