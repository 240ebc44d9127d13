"""Poses, viewpoint angles and conventions: against scipy, against the data sets' formulas, and there and back."""

import math
import typing
from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from ovseg3d.errors import ConfigError, PoseError
from ovseg3d.geometry import (
    CONVENTIONS,
    Viewpoint,
    angles_of_rotation,
    check_pose,
    convention,
    convert_angles,
    convert_camera,
    convert_object,
    convert_pose,
    geodesic_rad,
    object_pose,
    pose_of_viewpoint,
    rotation_of_angles,
    symmetric_geodesic_rad,
    to_wxyz,
    viewpoint,
)

quick = settings(max_examples=60, deadline=None)
angles = st.tuples(st.floats(0.001, 6.28), st.floats(-math.pi / 2, math.pi / 2), st.floats(-3.14, 3.14))
seeds = st.integers(0, 2**32 - 1)
BASIC = {"x": np.eye(3)[0], "y": np.eye(3)[1], "z": np.eye(3)[2]}


def turned(axis: str, angle: float) -> np.ndarray:
    """A rotation about an axis, by Rodrigues' formula: nothing of scipy's Euler angles is in it."""
    k = np.cross(np.eye(3), BASIC[axis])
    return np.eye(3) + math.sin(angle) * k + (1 - math.cos(angle)) * k @ k


def random_pose(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = Rotation.random(None, rng).as_matrix(), rng.normal(size=3) * 3
    return pose


@quick
@given(angles, st.floats(0.1, 50), seeds)
def test_angles_are_imagenet3ds(seen, distance, seed):
    """The camera's place and rotation by the formulas of ImageNet3D, with the object in the middle of the world."""
    a, e, t = seen
    place = distance * np.array([math.cos(e) * math.sin(a), -math.cos(e) * math.cos(a), math.sin(e)])
    to_opengl = turned("z", t) @ turned("x", -(math.pi / 2 - e)) @ turned("z", -a)
    c2w = np.eye(4)
    c2w[:3, :3], c2w[:3, 3] = to_opengl.T @ np.diag([1, -1, -1]), place
    assert np.allclose(rotation_of_angles(np.array(seen)).as_matrix(), c2w[:3, :3].T)
    frame = random_pose(seed)  # both moved together: nothing changes
    found = viewpoint(frame @ c2w, frame)
    assert found.distance == pytest.approx(distance)
    again = rotation_of_angles(np.array([found.azimuth_rad, found.elevation_rad, found.theta_rad]))
    assert geodesic_rad(again, Rotation.from_matrix(c2w[:3, :3].T)) < 1e-6
    if math.cos(e) > 1e-3:
        assert (found.azimuth_rad, found.elevation_rad, found.theta_rad) == pytest.approx(seen, abs=1e-9)


@quick
@given(seeds)
def test_a_view_there_and_back(seed):
    """With the direction of the object, a pose is what its view says; the direction alone never changes the place."""
    c2w, pose = random_pose(seed), random_pose(seed + 1)
    seen = viewpoint(c2w, pose)
    ray = np.linalg.inv(c2w)[:3] @ pose[:, 3]
    assert np.allclose(pose_of_viewpoint(c2w, seen, tuple(ray)), pose)
    place = np.linalg.inv(pose)[:3] @ c2w[:, 3]
    assert math.atan2(place[0], -place[1]) % (2 * math.pi) == pytest.approx(seen.azimuth_rad)
    assert math.asin(place[2] / np.linalg.norm(place)) == pytest.approx(seen.elevation_rad)
    ahead = viewpoint(c2w, pose_of_viewpoint(c2w, seen))
    assert astuple(ahead) == pytest.approx(astuple(seen))


def test_what_one_sees():
    """A photographer's words: at azimuth 90 degrees the front is at the left; elevation looks down on the top."""
    front, up = np.array([0, -1.0, 0]), np.array([0, 0, 1.0])
    side, above, tilted = rotation_of_angles(np.radians([[90, 0, 0], [0, 60, 0], [0, 0, 90]]))
    assert np.allclose(side.apply(front), [-1, 0, 0]), "left in the image"
    assert above.apply(up)[2] < 0, "the top turns towards the camera"
    assert np.allclose(tilted.apply(up), [-1, 0, 0]), "counter-clockwise"


@pytest.mark.parametrize("elevation", [math.pi / 2, -math.pi / 2])
def test_straight_above_and_below(elevation):
    seen = np.array([[a, elevation, t] for a in (0, 1, 4) for t in (-2, 0, 3)])
    found = angles_of_rotation(rotation_of_angles(seen))
    assert (found[:, 2] == 0).all()
    assert geodesic_rad(rotation_of_angles(found), rotation_of_angles(seen)).max() < 1e-7


@quick
@given(seeds, st.sampled_from(sorted(CONVENTIONS)), st.sampled_from(sorted(CONVENTIONS)))
def test_conventions_there_and_back(seed, one, other):
    matrix = random_pose(seed)
    for convert in (convert_camera, convert_pose, convert_object):
        assert np.allclose(convert(convert(matrix, one, other), other, one), matrix)
        assert np.allclose(convert(convert(matrix, one, "opencv"), "opencv", other), convert(matrix, one, other))
        assert np.linalg.det(convert(matrix, one, other)) == pytest.approx(1)


def test_every_axis_of_every_convention():
    assert all(np.linalg.det(own.camera_axes) == np.linalg.det(own.object_axes) == 1 for own in CONVENTIONS.values())
    c2w = random_pose(1)
    assert np.allclose(convert_camera(np.linalg.inv(c2w), "colmap"), c2w)
    for name in ("pix3d", "imagenet3d", "objectnet3d", "pascal3d+", "orient-anything"):
        assert np.allclose(convert_camera(np.linalg.inv(c2w), name)[:3, 3], c2w[:3, 3]), "they lead to the camera"
    for name in ("opengl", "blender"):
        assert np.allclose(convert_camera(c2w, name), c2w @ np.diag([1, -1, -1, 1]))
    for name in ("opengl", "objectron"):
        assert np.allclose(convention(name).object_axes.T @ [0, -1, 0], [0, 0, 1]), "+z is the front"
    assert np.allclose(convert_camera(c2w, "objectron")[:3, 0], c2w[:3, 1]), "the sensor lies: its y is the photo's x"


def test_pix3d_projects_as_its_authors_say():
    """u = cx - f x / z and v = cy - f y / z of rot_mat X + trans_mat; the model's x is left, y up, z away."""
    pose = random_pose(3)
    pose[:3, 3] = [0.2, 0.1, 4]
    point = np.array([0.3, -0.2, 0.1, 1])
    x, y, z = (pose @ point)[:3]
    ours = np.linalg.inv(convert_object(np.eye(4), "pix3d")) @ point
    right, down, forward = (convert_pose(pose, "pix3d") @ ours)[:3]
    assert (right / forward, down / forward) == pytest.approx((-x / z, -y / z))
    canonical = np.eye(4)
    canonical[2, 3] = 4
    assert astuple(viewpoint(np.eye(4), convert_pose(canonical, "pix3d"))) == pytest.approx((0, 0, 0, 4))


@quick
@given(angles)
def test_orient_anything_turns_its_own_way(seen):
    """Rx(rotation) Ry(polar) Rz(-azimuth), with x of the object its front and x of the view towards the camera."""
    a, e, t = seen
    pose = np.eye(4)
    pose[:3, :3] = turned("x", t) @ turned("y", e) @ turned("z", -a)
    ours = convert_pose(pose, "orient-anything")[:3, :3]
    assert np.allclose(ours, rotation_of_angles(np.array(seen)).as_matrix())
    bins = convert_angles(np.array([seen]), "imagenet3d", "orient-anything")
    assert bins[0] == pytest.approx([math.degrees(a), math.degrees(e) + 90, math.degrees(t) + 180])
    assert np.allclose(convert_angles(bins, "orient-anything"), seen)
    assert np.allclose(convert_angles(bins, "orient-anything", "pascal3d+"), np.degrees(seen))


@pytest.mark.parametrize(("seed", "order"), list(enumerate([1, 2, 3, 4, 6])))
def test_the_error_is_the_angle_of_the_turn_between(seed, order):
    rng = np.random.default_rng(seed)
    a, b = Rotation.random(5, rng), Rotation.random(5, rng)
    trace = np.trace(np.swapaxes(a.as_matrix(), 1, 2) @ b.as_matrix(), axis1=1, axis2=2)
    assert np.allclose(geodesic_rad(a, b), np.arccos((trace - 1) / 2))
    turns = [b * Rotation.from_euler("z", 360 * k / order, degrees=True) for k in range(order)]
    assert np.allclose(symmetric_geodesic_rad(a, b, order), np.min([geodesic_rad(a, turn) for turn in turns], axis=0))
    fine = [geodesic_rad(a, b * Rotation.from_euler("z", k, degrees=True)) for k in range(360)]
    assert np.allclose(symmetric_geodesic_rad(a, b, 0), np.min(fine, axis=0), atol=math.radians(0.5))


def test_each_object_has_its_own_symmetry():
    angles = np.radians([[0, 0, 0], [90, 0, 0], [180, 0, 0], [77, 0, 0], [77, 20, 0]])
    seen, front = rotation_of_angles(angles), rotation_of_angles(np.zeros(3))
    errors = symmetric_geodesic_rad(seen, front, np.array([1, 4, 2, 0, 0]))
    assert np.degrees(errors) == pytest.approx([0, 0, 0, 0, 20], abs=1e-6)
    assert np.degrees(symmetric_geodesic_rad(seen, front, 1)[:4]) == pytest.approx([0, 90, 180, 77])
    tiny = rotation_of_angles(np.array([[0, 1e-9, 0]]))
    assert symmetric_geodesic_rad(tiny, front, 0) == pytest.approx(1e-9), "small errors keep their digits"
    with pytest.raises(PoseError, match="symmetry order is negative"):
        symmetric_geodesic_rad(seen, front, -1)


def test_a_record_is_a_pose():
    pose = random_pose(4)
    turn = to_wxyz(Rotation.from_matrix(pose[:3, :3]))
    assert np.allclose(object_pose(turn, tuple(pose[:3, 3])), pose)
    for wxyz, center in (
        ((0, 0, 0, 0), (0, 0, 0)),
        ((1, 0, 0, math.nan), (0, 0, 0)),
        ((1, 0, 0), (0, 0, 0)),
        ((1, 0, 0, 0), (0, 0)),
    ):
        with pytest.raises(PoseError, match="needs rotation_wxyz"):
            object_pose(wxyz, center)
    with pytest.raises(PoseError, match="not finite"):
        object_pose((1, 0, 0, 0), (0, 0, math.nan))


def test_bad_poses_are_refused():
    good, far = np.eye(4), np.eye(4)
    far[2, 3] = 5
    nan = far.copy()
    nan[0, 3] = math.nan
    for bad, words in (
        (np.diag([1.0, 1, -1, 1]), "mirrored"),
        (np.diag([2.0, 2, 2, 1]), "no rotation"),
        (np.ones((4, 4)), "no rotation"),
        (nan, "not finite"),
    ):
        for use in (check_pose, lambda m: viewpoint(good, m), lambda m: convert_pose(m, "opengl")):
            with pytest.raises(PoseError, match=words):
                use(bad)
        with pytest.raises(PoseError, match="camera"):
            viewpoint(bad, far)
    with pytest.raises(PoseError, match="at the centre"):
        viewpoint(good, good)
    with pytest.raises(PoseError, match="direction of the object"):
        pose_of_viewpoint(good, Viewpoint(0.0, 0.0, 0.0, 1.0), (0, 0, 0))
    with pytest.raises(PoseError, match="not finite"):
        pose_of_viewpoint(good, Viewpoint(0.0, math.nan, 0.0, 1.0))
    with pytest.raises(PoseError, match="not finite"):
        convert_angles(np.array([0.0, math.nan, 0.0]), "pascal3d+")
    with pytest.raises(PoseError, match="three each"):
        convert_angles(np.zeros((2, 4)), "pascal3d+")
    for bad in ([[1, 2, 3], [1, 2]], ["a", "b", "c"]):
        with pytest.raises(PoseError, match="three each"):
            typing.no_type_check(convert_angles)(bad, "pascal3d+")


def test_unknown_conventions_are_refused_with_the_list():
    for use in (lambda: convert_pose(np.eye(4), "opengll"), lambda: convert_camera(np.eye(4), "opencv", "OpenGL")):
        with pytest.raises(ConfigError, match=r"opencv, colmap, opengl, blender, pix3d.*\n.*use opengl"):
            use()
    with pytest.raises(ConfigError, match="no viewpoint angles; imagenet3d, objectnet3d"):
        convert_angles(np.zeros((1, 3)), "colmap")
