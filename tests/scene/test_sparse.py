"""Sparse points: depth, disturbed poses, and the file."""

import dataclasses
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from ovseg3d.errors import OutputError, SceneError
from ovseg3d.scene import Camera, Scene, load_depth, load_scene
from ovseg3d.scene.matching import MatchingSize
from ovseg3d.scene.observations import Observations
from ovseg3d.scene.sparse import SparseDepth, reconstruct
from ovseg3d.scene.triangulation import Triangulation, triangulate
from ovseg3d.synth import Views, synthesise
from ovseg3d.synth.render import DRAFT


def test_a_run_can_still_be_told_to_end() -> None:
    """The libraries of structure from motion set a handler of their own, which ends the process at once."""
    code = """
        import os, signal
        told = []
        signal.signal(signal.SIGTERM, lambda *_: told.append(1))
        import ovseg3d.scene.colmap_library
        from pyceres.factors import NormalPrior
        from pycolmap.cost_functions import AbsolutePosePriorCost
        os.kill(os.getpid(), signal.SIGTERM)
        assert told
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """A synthetic room, seen closely enough for matches."""
    folder = tmp_path_factory.mktemp("room") / "playroom"
    synthesise(folder, room="playroom", views=Views(train=24, test=2, width=200, height=150, depth="all"), detail=DRAFT)
    return load_scene(folder)


@pytest.fixture(scope="module")
def sparse(room: Scene) -> SparseDepth:
    found = reconstruct(room, adjust=True)
    assert found is not None
    return found


def poses(scene: Scene) -> np.ndarray:
    return np.stack([scene.frames[view].camera.c2w for view in scene.train])


def test_points_and_completed_depth_are_near_the_truth(room: Scene, sparse: SparseDepth):
    at_points, completed = [], []
    for number, view in enumerate(room.train):
        true = load_depth(room.frames[view], room)
        seen = sparse.view == number
        x, y = sparse.xy[seen].astype(int).T
        at_points.extend(np.abs(sparse.depth_z[seen] / true[y, x] - 1))
        confident = sparse.disparity_sigma[number] < 0.05
        rows, columns = confident.shape
        centres = true[2 : 4 * rows : 4, 2 : 4 * columns : 4]
        completed.extend(np.abs(1 / (sparse.disparity[number] * centres) - 1)[confident])
    assert np.median(at_points) < 0.01 and np.mean(np.array(at_points) < 0.05) > 0.9
    assert len(completed) > 5000 and np.median(completed) < 0.02


def test_exact_poses_and_lenses_stay(room: Scene, sparse: SparseDepth):
    np.testing.assert_allclose(sparse.c2w[:, :3, 3], poses(room)[:, :3, 3], atol=0.02)
    np.testing.assert_array_equal(sparse.focal_ratio, 1.0)


def test_disturbed_poses_and_a_wrong_focal_length_return():
    """Poses by one degree and two centimetres each, the focal length by 3 %, in the room of the demo."""
    room = load_scene(Path(__file__).parents[2] / "scenes" / "playroom")
    room = replace(room, train=room.train[:32])
    true, random = poses(room), np.random.default_rng(0)
    frames = list(room.frames)
    for view, pose in zip(room.train, true):
        disturbed = pose.copy()
        disturbed[:3, :3] = Rotation.from_rotvec(np.radians(1.0) * _unit(random)).as_matrix() @ pose[:3, :3]
        disturbed[:3, 3] += 0.02 * _unit(random)
        frames[view] = replace(frames[view], camera=replace(frames[view].camera, c2w=disturbed))
    right = room.frames[0].camera
    wrong = [replace(frame, camera=_focused(frame.camera, 1.03)) for frame in frames]
    room = replace(room, frames=tuple(wrong))
    found = reconstruct(room, adjust=True)
    assert found is not None and found.errors_px[1] < 0.6 * found.errors_px[0]
    # Up to a similarity of everything, which nothing in the photos can tell.
    turns = Rotation.from_matrix(found.c2w[:, :3, :3] @ np.swapaxes(true[:, :3, :3], 1, 2))
    mean = turns.mean()
    assert np.degrees(np.median((turns * mean.inv()).magnitude())) < 0.3
    back, wanted = (eyes - eyes.mean(0) for eyes in (found.c2w[:, :3, 3], true[:, :3, 3]))
    turn = Rotation.align_vectors(wanted, back)[0]
    back = turn.apply(back) * np.sqrt(np.square(wanted).sum() / np.square(back).sum())
    assert np.median(np.linalg.norm(back - wanted, axis=1)) < 0.01
    for frame in found.applied(room).frames:
        assert abs(frame.camera.fx / right.fx - 1) < 0.003 and abs(frame.camera.fy / right.fy - 1) < 0.003


def _focused(camera: Camera, ratio: float) -> Camera:
    return replace(camera, fx=camera.fx * ratio, fy=camera.fy * ratio)


def _unit(random: np.random.Generator) -> np.ndarray:
    vector = random.standard_normal(3)
    return vector / np.linalg.norm(vector)


def test_poses_are_kept_without_adjustment(room: Scene):
    found = reconstruct(room, adjust=False)
    assert found is not None
    np.testing.assert_array_equal(found.c2w, poses(room))
    assert found.errors_px[0] == found.errors_px[1]


def test_focal_lengths_that_few_photos_share_stay(room: Scene, monkeypatch: pytest.MonkeyPatch):
    """Of 14 photos, 10 share a lens, which is given too long; 4 have another one, which is right."""
    monkeypatch.setattr("ovseg3d.scene.triangulation.MAX_ROUNDS", 1)
    monkeypatch.setattr("ovseg3d.scene.triangulation.MIN_FOCAL_GAIN", -1.0)
    few = np.arange(14) >= 10
    frames = list(room.frames)
    for view, rare in zip(room.train, few):
        frames[view] = replace(frames[view], camera=_focused(frames[view].camera, 1.0 if rare else 1.03))
    mixed = replace(room, frames=tuple(frames), train=room.train[:14])
    found = reconstruct(mixed, adjust=True)
    assert found is not None
    np.testing.assert_array_equal(found.focal_ratio[few], 1.0)
    assert (np.ptp(found.focal_ratio[~few], 0) == 0).all() and (found.focal_ratio[~few] < 0.995).all()


def test_many_photos_together_have_no_more_pixels_and_features_than_few():
    """Some may be left out only beyond 1,000."""
    few, many, more = MatchingSize.of(240), MatchingSize.of(1000), MatchingSize.of(5000)
    assert few.is_full and not many.is_full
    assert many.views == 1000 and many.views * many.side**2 == pytest.approx(few.views * few.side**2, rel=0.01)
    assert many.views * many.features == pytest.approx(few.views * few.features, rel=0.01)
    assert more.views < 5000 and more.side <= many.side


def test_poses_return_where_photos_are_matched_at_a_smaller_size(room: Scene, monkeypatch: pytest.MonkeyPatch):
    """As in a capture of nine times as many photos as are matched at full size, scaled to this small room."""
    monkeypatch.setattr("ovseg3d.scene.matching.FEATURE_SIDE", 540)
    monkeypatch.setattr("ovseg3d.scene.matching.FULL_VIEWS", 3)
    random = np.random.default_rng(2)
    frames = list(room.frames)
    for view in room.train:
        c2w = frames[view].camera.c2w.copy()
        c2w[:3, :3] = c2w[:3, :3] @ Rotation.from_rotvec(np.radians(1.0) * _unit(random)).as_matrix()
        frames[view] = replace(frames[view], camera=replace(frames[view].camera, c2w=c2w))
    found = triangulate(
        replace(room, frames=tuple(frames)), adjust=True, focal=False, threads=2, seed=0, report=lambda *_: None
    )
    assert found is not None and len(np.unique(found.observations.view)) == len(room.train)
    turns = Rotation.from_matrix(found.c2w[:, :3, :3] @ np.swapaxes(poses(room)[:, :3, :3], 1, 2))
    assert np.degrees(np.median((turns.mean().inv() * turns).magnitude())) < 0.3
    assert 0 <= found.observations.xy.min() and found.observations.xy[:, 0].max() > 190  # at the size of the photos


def test_nothing_moves_where_not_all_photos_are_matched(room: Scene, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("ovseg3d.scene.matching.MAX_VIEWS", 12)
    found = reconstruct(room, adjust=True)
    assert found is not None and len(np.unique(found.view)) <= 12
    np.testing.assert_array_equal(found.c2w, poses(room))
    np.testing.assert_array_equal(found.focal_ratio, 1.0)
    assert np.isinf(found.disparity_sigma).all((1, 2)).sum() >= len(room.train) - 12


def test_only_poses_move_where_focal_lengths_are_given(room: Scene, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("ovseg3d.scene.triangulation.MAX_ROUNDS", 1)
    few = replace(room, train=room.train[:12])
    found = reconstruct(few, adjust=True, focal=False)
    assert found is not None and (found.c2w != poses(few)).any()
    np.testing.assert_array_equal(found.focal_ratio, 1.0)


def test_held_out_photos_get_the_lens_that_they_share_and_keep_their_poses(room: Scene, sparse: SparseDepth):
    one, other = room.test[:2]
    frames = list(room.frames)
    frames[other] = replace(frames[other], camera=replace(frames[other].camera, cx=99.0))
    given = replace(room, frames=tuple(frames))
    adjusted = replace(sparse, focal_ratio=np.tile([1.1, 0.9], (len(room.train), 1)))
    applied = [frame.camera for frame in adjusted.applied(given).frames]
    for view in (*room.train, one):
        camera = frames[view].camera
        assert (applied[view].fx, applied[view].fy) == pytest.approx((1.1 * camera.fx, 0.9 * camera.fy))
        assert replace(applied[view], fx=camera.fx, fy=camera.fy, c2w=camera.c2w) == camera
    np.testing.assert_array_equal(applied[one].c2w, frames[one].camera.c2w)
    assert applied[other] is frames[other].camera


def test_photos_without_texture_have_no_points(tiny_scene: Path):
    assert reconstruct(load_scene(tiny_scene), adjust=True) is None


@pytest.mark.parametrize("text, kind", [("bad image", SceneError), ("database or disk is full", OutputError)])
def test_an_error_of_pycolmap_is_an_error_of_ours(room: Scene, monkeypatch: pytest.MonkeyPatch, text: str, kind: type):
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError(text)

    monkeypatch.setattr("ovseg3d.scene.triangulation.match_pairs", fail)
    with pytest.raises(kind, match="pycolmap|full"):
        reconstruct(replace(room, train=room.train[:3]), adjust=True)


def test_the_arrays_come_back_and_damaged_ones_are_refused(room: Scene, sparse: SparseDepth):
    arrays, views = sparse.arrays(), len(room.train)
    again = SparseDepth.from_arrays(arrays, views)
    for field in dataclasses.fields(SparseDepth):
        np.testing.assert_array_equal(getattr(again, field.name), getattr(sparse, field.name))
    applied = again.applied(room)
    np.testing.assert_array_equal(poses(applied), sparse.c2w)
    assert applied.points is not None and len(applied.points) == len(sparse.points)
    for damage in (
        {"xy": arrays["xy"][:-1]},
        {"c2w": arrays["c2w"][1:]},
        {"view": arrays["view"].astype(float)},
        {"view": arrays["view"] + views},
        {"depth_z": arrays["depth_z"] * np.nan},
        {"disparity": arrays["disparity"][:, :1, :1]},
        {"cell": arrays["cell"] * 0},
        {"depth_z": -arrays["depth_z"]},
        {"c2w": arrays["c2w"] + np.inf},
        {"focal_ratio": arrays["focal_ratio"][1:]},
        {"focal_ratio": arrays["focal_ratio"] * 0},
        {"focal_ratio": arrays["focal_ratio"] * 100},
    ):
        with pytest.raises(ValueError):
            SparseDepth.from_arrays({**arrays, **damage}, views)
    with pytest.raises(ValueError, match="sigma is missing"):
        SparseDepth.from_arrays({name: array for name, array in arrays.items() if name != "sigma"}, views)
    # A run of before lenses were adjusted.
    old = SparseDepth.from_arrays({name: array for name, array in arrays.items() if name != "focal_ratio"}, views)
    np.testing.assert_array_equal(old.focal_ratio, 1.0)


def test_photos_that_agree_make_more_of_the_completed_depth_right_and_sure(
    room: Scene, sparse: SparseDepth, monkeypatch: pytest.MonkeyPatch
):
    """Against the same points, completed in each photo by itself."""
    points = Triangulation(
        Observations(sparse.view, sparse.xy, sparse.depth_z, sparse.sigma, sparse.points),
        sparse.c2w, sparse.focal_ratio, sparse.errors_px,
    )  # fmt: skip
    monkeypatch.setattr("ovseg3d.scene.sparse.triangulate", lambda *args, **options: points)
    monkeypatch.setattr("ovseg3d.scene.sparse._agreed", lambda completed, *args: completed)
    alone = reconstruct(room, adjust=True)
    assert alone is not None

    def judged(found: SparseDepth) -> tuple[float, float]:
        """The share of cells within 5 % of the truth, and the mean weight of these; weights fall with the deviation."""
        near, weight = [], []
        for number, view in enumerate(room.train):
            true = load_depth(room.frames[view], room)
            rows, columns = found.disparity[number].shape
            middles = true[2 : 4 * rows : 4, 2 : 4 * columns : 4]
            near.append(np.abs(1 / (found.disparity[number] * middles) - 1) < 0.05)
            weight.append(1 / (1 + (found.disparity_sigma[number] / 0.02) ** 2))
        return float(np.mean(near)), float(np.mean(np.multiply(near, weight)))

    monkeypatch.undo()
    monkeypatch.setattr("ovseg3d.scene.sparse.triangulate", lambda *args, **options: points)
    monkeypatch.setattr("ovseg3d.scene.sparse.CELL_SIGMA", 1e4)
    own = reconstruct(room, adjust=True)  # the second completion has the photo's own points only
    assert own is not None
    (right, sure), (right_alone, sure_alone), (_, sure_own) = judged(sparse), judged(alone), judged(own)
    assert right > right_alone + 0.05 and sure > 1.5 * sure_alone and sure > 1.2 * sure_own
