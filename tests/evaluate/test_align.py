"""Alignment of held-out views: a known error of pose and exposure is found again in a room that is a closed formula."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.spatial.transform import Rotation

from ovseg3d.evaluate.align import Aligned, align
from ovseg3d.evaluate.views import evaluate
from ovseg3d.field.box import FieldBox
from ovseg3d.field.renderer import RayColors
from ovseg3d.runs.fields import restore
from ovseg3d.scene import Camera, Cameras, Frame, Scene
from ovseg3d.session import load

GAIN, OFFSET = 0.8, 0.05
DISTANCE = 2.0
"""From the camera to what it sees, about, in input units."""


class Room:
    """The inside of the cube [-1, 1]^3 of field units, with waves of colour on its walls."""

    box = FieldBox((3.0, -1.0, 0.5), 2.0, False, 1, 0.0, ((0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (1.0, 0.0, 0.0)))
    device = torch.device("cpu")

    def rays(self, origins: torch.Tensor, directions: torch.Tensor) -> RayColors:
        distance = ((directions.sign() - origins) / directions).nan_to_num(1e9).amin(-1)
        at = origins + directions * distance[:, None]
        turned = at @ torch.tensor([[5.0, 9.0, 7.0], [8.0, -6.0, 4.0], [6.0, 5.0, -9.0]])
        rgb = 0.5 + 0.25 * torch.sin(turned) + 0.15 * torch.cos(2.3 * turned.roll(1, -1))
        return RayColors(rgb, distance, torch.ones_like(distance))

    def render(self, camera: Camera, normals: bool = False) -> dict[str, np.ndarray]:
        origins, directions, z = Cameras.from_cameras([camera], self.box.field_from_input).grid(0)
        met = self.rays(origins, directions)
        h, w = camera.height, camera.width
        return {
            "rgb": met.rgb.view(h, w, 3).numpy(),
            "depth_z": (met.distance * z * self.box.radius).view(h, w).numpy(),
            "opacity": met.opacity.view(h, w).numpy(),
        }


@pytest.fixture(autouse=True)
def aligning(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tests go without, see conftest.py."""
    monkeypatch.setattr("ovseg3d.evaluate.views.align", align)


@pytest.fixture(scope="module")
def camera() -> Camera:
    """Near the middle of the room, looking into a corner."""
    c2w = np.eye(4)
    c2w[:3, :3] = Rotation.from_euler("xyz", [70, 10, 25], degrees=True).as_matrix()
    c2w[:3, 3] = (2.8, -0.7, 0.6)
    return Camera(160, 120, 130.0, 131.0, 81.0, 59.0, c2w, distortion=(-0.05, 0.01))


def disturbed(camera: Camera, degrees: float, shift: float, seed: int = 0) -> Camera:
    """Turned by an angle and moved by a share of `DISTANCE`, in random directions."""
    turn, step = np.random.default_rng(seed).normal(size=(2, 3))
    c2w = camera.c2w.copy()
    c2w[:3, :3] = Rotation.from_rotvec(np.radians(degrees) * turn / np.linalg.norm(turn)).as_matrix() @ c2w[:3, :3]
    c2w[:3, 3] += shift * DISTANCE * step / np.linalg.norm(step)
    return replace(camera, c2w=c2w)


def errors(found: Camera, true: Camera) -> tuple[float, float]:
    """Degrees, and a share of `DISTANCE`."""
    turn = Rotation.from_matrix(found.c2w[:3, :3] @ true.c2w[:3, :3].T).magnitude()
    return math.degrees(turn), float(np.linalg.norm(found.position - true.position)) / DISTANCE


def photo_of(camera: Camera, gain: float = GAIN, offset: float = OFFSET) -> np.ndarray:
    """As a file would store it."""
    return np.rint((Room().render(camera)["rgb"] * gain + offset) * 255) / 255


def check(found: Aligned, true: Camera, gain: float = GAIN, offset: float = OFFSET) -> None:
    degrees, share = errors(found.camera, true)
    assert degrees < 0.02 and share < 5e-4
    assert found.exposure.gain == pytest.approx(gain, abs=0.01)
    assert found.exposure.offset == pytest.approx(offset, abs=0.01)


@pytest.mark.parametrize("seed", range(4))
def test_a_disturbed_pose_and_the_exposure_are_found(camera: Camera, seed: int) -> None:
    given = disturbed(camera, 0.5, 0.01, seed)
    assert errors(given, camera) == pytest.approx((0.5, 0.01))
    found = align(Room(), given, photo_of(camera))
    check(found, camera)
    assert replace(found.camera, c2w=given.c2w) == replace(given, c2w=given.c2w), "only the pose changes"
    np.testing.assert_allclose(found.camera.c2w[:3, :3] @ found.camera.c2w[:3, :3].T, np.eye(3), atol=1e-9)


def test_a_true_pose_stays(camera: Camera) -> None:
    check(align(Room(), camera, photo_of(camera, 1, 0)), camera, 1, 0)


def test_alignment_is_the_same_each_time(camera: Camera) -> None:
    given, photo = disturbed(camera, 0.5, 0.01), photo_of(camera)
    assert np.array_equal(align(Room(), given, photo).camera.c2w, align(Room(), given, photo).camera.c2w)


def test_wrong_pixels_count_little(camera: Camera) -> None:
    photo = photo_of(camera)
    photo[30:60, 40:90] = 1.0  # somebody walks by
    found = align(Room(), disturbed(camera, 0.5, 0.01), photo)
    degrees, share = errors(found.camera, camera)
    assert degrees < 0.15 and share < 5e-3, "without weights it would be a degree"


def test_hidden_pixels_do_not_count(camera: Camera) -> None:
    given, usable = disturbed(camera, 0.5, 0.01), np.ones((120, 160), dtype=bool)
    usable[:, 60:] = False
    photo = np.where(usable[..., None], photo_of(camera), photo_of(disturbed(camera, 2.0, 0.0, seed=9), 0.5, 0.4))
    check(align(Room(), given, photo, usable), camera)
    assert errors(align(Room(), given, photo).camera, camera)[0] > 0.1, "they would count"


@pytest.mark.parametrize("usable", [None, np.zeros((120, 160), dtype=bool)])
def test_without_content_nothing_changes(camera: Camera, usable: np.ndarray | None) -> None:
    photo = photo_of(camera) if usable is not None else np.full((120, 160, 3), 0.4)
    found = align(Room(), camera, photo, usable)
    assert found.camera is camera
    np.testing.assert_array_equal(found.exposure.apply(photo), photo)


def test_a_render_of_one_colour_leaves_the_pose(camera: Camera) -> None:
    class Fog(Room):
        def rays(self, origins: torch.Tensor, directions: torch.Tensor) -> RayColors:
            return RayColors(torch.full_like(origins, 0.5), torch.zeros(len(origins)), torch.zeros(len(origins)))

    found = align(Fog(), camera, photo_of(camera))
    np.testing.assert_allclose(found.camera.c2w, camera.c2w, atol=1e-12)
    assert found.exposure.gain == pytest.approx(1)


def test_a_bad_render_does_not_become_the_mean_colour(camera: Camera) -> None:
    noise = np.random.default_rng(0).random((120, 160, 3))
    assert align(Room(), camera, noise).exposure.gain == pytest.approx(0.5)


@pytest.fixture
def scene(tmp_path: Path, camera: Camera) -> Scene:
    """A held-out photo and a training photo of the room, both at disturbed poses, with the true depth."""
    Image.fromarray(np.rint(photo_of(camera) * 255).astype(np.uint8)).save(tmp_path / "a.png")
    depth = np.rint(Room().render(camera)["depth_z"] * 10000).astype(np.uint16)
    Image.fromarray(depth).save(tmp_path / "a_depth.png")
    frames = tuple(
        Frame(name, tmp_path / "a.png", disturbed(camera, 0.5, 0.03), depth_path=tmp_path / "a_depth.png")
        for name in ("a.png", "b.png")
    )
    return Scene(tmp_path, "room", "nerfstudio", frames, (1,), (0,), False, None, np.eye(4), depth_unit=1e-4)


def test_held_out_views_are_measured_at_both_poses(scene: Scene) -> None:
    given, both = evaluate(Room(), scene).mean(), evaluate(Room(), scene, aligned=True).mean()
    assert math.isnan(given["psnr_aligned"]) and math.isnan(given["depth_rel_median_aligned"])
    names = ("psnr", "ssim", "depth_rel_median", "depth_within_5_percent", "depth_abs_median")
    assert [both[name] for name in names] == [given[name] for name in names], "at the given poses as before"
    assert given["psnr"] < 25 and both["psnr_aligned"] > 45 and both["ssim_aligned"] > 0.99 > given["ssim"]
    assert given["depth_rel_median"] > 5e-3 and both["depth_rel_median_aligned"] < 5e-4
    assert both["depth_within_5_percent_aligned"] == 1


def test_a_trained_field_is_aligned(tiny_run: Path) -> None:
    run = load(tiny_run)
    scene = run.load_scene()
    (score,) = evaluate(restore(run, scene), scene, scene.test[:1], aligned=True).views
    assert score.psnr_aligned > score.psnr + 0.1


def test_training_views_are_not_aligned(scene: Scene) -> None:
    assert math.isnan(evaluate(Room(), scene, (1,), aligned=True).mean()["psnr_aligned"])
