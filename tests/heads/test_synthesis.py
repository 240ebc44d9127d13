"""Analysis by synthesis: poses and kinds that the renderer itself drew are found; symmetry, files and bad inputs."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ovseg3d.encoders import load_dino
from ovseg3d.errors import ConfigError, PoseError
from ovseg3d.geometry import geodesic_rad, rotation_of_angles
from ovseg3d.heads.pose import (
    MeshesShape,
    NeuralMeshes,
    SynthesisPoser,
    TrainedMeshes,
    load_meshes,
    save_meshes,
)
from ovseg3d.heads.pose.meshes import vertex_weights
from ovseg3d.heads.pose.network import SYMMETRY_ORDERS
from ovseg3d.heads.pose.records import mass_near
from ovseg3d.heads.pose.synthesis import (
    CONCENTRATION,
    kind_log_likelihoods,
    log_likelihoods,
    pose_grid,
    posterior,
    rendered_grid,
    rotations_of,
)
from ovseg3d.heads.pose.synthesis_poser import answers, kind_prior

SHAPE = MeshesShape(("box", "slab"), ((1.0, 0.7, 0.8), (1.0, 0.4, 0.2)), channels=5, texels=2, dim=16, text=4)
ANGLES = np.array([[0.4, 0.3, 0.05], [2.0, 0.1, -0.1], [4.5, 0.6, 0.0], [6.2, 0.4, 0.1]])


def random_meshes(shape: MeshesShape = SHAPE) -> NeuralMeshes:
    torch.manual_seed(0)
    meshes = NeuralMeshes(shape).eval().requires_grad_(False)
    meshes.own.normal_()
    return meshes


def drawn(meshes: NeuralMeshes, kind: int, angles: np.ndarray = ANGLES, noise: float = 0.1) -> torch.Tensor:
    """What the renderer shows of a kind, with noise: vectors of cells."""
    weights = vertex_weights(meshes.surface(kind), rotations_of(angles), meshes.shape.grid)
    clutter = F.normalize(meshes.clutter, dim=1)[torch.arange(weights.shape[1]) % len(meshes.clutter)]
    made = weights @ meshes.vertices[kind] + (1 - weights.sum(2))[..., None] * clutter
    return F.normalize(made + noise * torch.randn(made.shape), dim=2)


def equal(meshes: NeuralMeshes, crops: int) -> torch.Tensor:
    return kind_prior(meshes, torch.zeros(crops, meshes.shape.text))


@pytest.mark.parametrize("outline", ["cuboid", "sphere"])
def test_what_the_renderer_drew_is_found_again(outline: str) -> None:
    meshes = random_meshes(replace(SHAPE, outline=outline))
    meshes.temperature.fill_(2.0)
    for kind, name in enumerate(SHAPE.kinds):
        found = posterior(meshes, drawn(meshes, kind), equal(meshes, len(ANGLES)))
        assert (found.kinds.argmax(1) == kind).all()
        assert (found.evidence > 2).all()
        for answer, angles in zip(answers(meshes, found), ANGLES):
            assert answer.kind == name and answer.pose.present > 0.85
            error = geodesic_rad(rotation_of_angles(np.array(answer.pose.angles)), rotation_of_angles(angles))
            assert np.degrees(error) < 14  # the grid has steps of up to 11 degrees
        apart = geodesic_rad(rotation_of_angles(found.best.numpy()), rotation_of_angles(ANGLES))
        assert np.degrees(apart).max() < 16


def test_clutter_is_no_object() -> None:
    meshes = random_meshes()
    clutter = F.normalize(meshes.clutter, dim=1)[torch.arange(64) % 8].expand(2, -1, -1)
    found = posterior(meshes, clutter, equal(meshes, 2))
    assert (found.evidence < 0).all()


@pytest.mark.parametrize("order", [2, 4])
def test_a_mesh_that_repeats_itself_has_a_density_that_does(order: int) -> None:
    """The vertices of a cube are copied from each side to those that a turn brings there."""
    meshes = random_meshes(replace(SHAPE, kinds=("cube",), halves=((1.0, 1.0, 1.0),)))
    meshes.temperature.fill_(4.0)
    meshes.own.zero_()
    faces = meshes.shared.view(6, 2, 2, -1)  # +x, -x, +y, -y, +z, -z; by the lower and the higher other axis
    # A half turn takes (y, z) on +x to (-y, z) on -x; a quarter turn (y, z) on +x to (-x, z) on +y.
    faces[1], faces[3] = faces[0].flip(0), faces[2].flip(0)
    if order == 4:
        faces[2] = faces[0].flip(0)
        faces[3] = faces[0]
    faces[4:] = faces[4:].mean((1, 2), keepdim=True)
    found = answers(meshes, posterior(meshes, drawn(meshes, 0, noise=0.0), equal(meshes, len(ANGLES))))
    for answer, angles in zip(found, ANGLES):
        azimuth = answer.pose.azimuth
        assert mass_near(azimuth, angles[0], order) > 0.95
        shares = [mass_near(azimuth, angles[0] + turn, 1) for turn in 2 * np.pi / order * np.arange(order)]
        assert min(shares) > 0.6 / order and max(shares) < 1.4 / order


def test_the_order_of_symmetry_is_that_of_the_likely_kinds() -> None:
    meshes = random_meshes()
    meshes.orders.copy_(torch.tensor([[0.9, 0.1, 0.0, 0.0], [0.0, 0.0, 0.2, 0.8]]))
    for kind, order in ((0, 1), (1, 0)):
        found = answers(meshes, posterior(meshes, drawn(meshes, kind), equal(meshes, len(ANGLES))))
        assert [one.pose.symmetry_order for one in found] == [order] * len(ANGLES)
        assert found[0].pose.symmetry.sum() == pytest.approx(1, abs=1e-5) and len(SYMMETRY_ORDERS) == 4


def test_a_phrase_chooses_the_mesh() -> None:
    meshes = random_meshes()
    meshes.texts.copy_(torch.eye(2, 4))
    told = kind_prior(meshes, torch.tensor([[1.0, 0, 0, 0], [0, 1.0, 0, 0], [0.0, 0, 0, 0]]))
    assert told.argmax(1)[:2].tolist() == [0, 1] and told[0, 0] > 0.99 and told[2].tolist() == [0.5, 0.5]
    found = posterior(meshes, drawn(meshes, 1, ANGLES[:2]), told[:1].expand(2, -1))
    assert (found.kinds[:, 0] > 0.99).all()


def test_the_prior_of_poses_counts() -> None:
    """Where nothing is seen, the poses of the training crops remain."""
    meshes = random_meshes()
    meshes.shared.fill_(1.0)
    meshes.own.zero_()
    meshes.clutter.fill_(1.0)
    meshes.poses.view(2, 36, 6, 3)[:, 9:18] += 3.0
    found = posterior(meshes, drawn(meshes, 0, noise=0.0), equal(meshes, len(ANGLES)))
    assert (found.azimuth[:, 9:18].sum(1) > 0.8).all()


def test_kinds_compare_at_a_pose_as_on_the_grid() -> None:
    """Of two meshes with one shape, where the pose is on the grid."""
    meshes = random_meshes(replace(SHAPE, outline="sphere", halves=((1.0, 1.0, 1.0),) * 2))
    weights = rendered_grid(meshes.surface(0), 8)[[5, 300]]
    vectors = drawn(meshes, 1, pose_grid()[[5, 300]])
    found = kind_log_likelihoods(meshes, vectors, torch.tensor([0, 1]), weights)
    for kind in (0, 1):
        on_grid = log_likelihoods(meshes, vectors, kind, weights)
        torch.testing.assert_close(found[:, kind], on_grid.diagonal(), atol=1e-3, rtol=1e-4)
    assert (found[:, 1] > found[:, 0] + 5).all()


def test_a_likelihood_is_the_sum_over_what_a_cell_may_show() -> None:
    meshes = random_meshes()
    weights = vertex_weights(meshes.surface(0), rotations_of(ANGLES), 8)
    vectors = F.normalize(torch.randn(1, 64, 16), dim=2)
    clutter = F.normalize(meshes.clutter, dim=1)
    for pose, found in enumerate(log_likelihoods(meshes, vectors, 0, weights)[0].tolist()):
        total = 0.0
        for cell, vector in enumerate(vectors[0]):
            shares = weights[pose, cell]
            kernel = [float(torch.exp(CONCENTRATION * (vector @ one - 1))) for one in meshes.vertices[0]]
            behind = np.mean([float(torch.exp(CONCENTRATION * (vector @ one - 1))) for one in clutter])
            total += np.log(np.dot(shares.numpy(), kernel) + (1 - float(shares.sum())) * behind)
        assert found == pytest.approx(total, rel=1e-4)


def test_meshes_survive_their_file(tmp_path: Path) -> None:
    meshes = random_meshes()
    meshes.temperature.fill_(2.5)
    save_meshes(tmp_path / "a.safetensors", TrainedMeshes(meshes, "dino:builtin", "abc"))
    found = load_meshes(tmp_path / "a.safetensors")
    assert (found.encoder, found.weight_hash, found.meshes.shape) == ("dino:builtin", "abc", SHAPE)
    features = torch.randn(3, 5, 8, 8)
    assert torch.allclose(found.meshes(features), meshes(features), atol=0.02)
    before, after = (posterior(m, m(features), equal(m, 3)).azimuth for m in (meshes, found.meshes))
    assert torch.allclose(before, after, atol=0.03)
    (tmp_path / "b.safetensors").write_bytes(b"no")
    for name in ("b.safetensors", "missing.safetensors"):
        with pytest.raises(ConfigError, match="neural meshes"):
            load_meshes(tmp_path / name)
    with pytest.raises(ConfigError, match="other weights"):
        SynthesisPoser(tmp_path / "a.safetensors").look(np.zeros((1, 64, 64, 3), np.uint8))


def test_from_photos_to_records(tmp_path: Path) -> None:
    shape = replace(SHAPE, channels=144, text=192)
    encoder = load_dino("builtin")
    save_meshes(tmp_path / "a.safetensors", TrainedMeshes(random_meshes(shape), "dino:builtin", encoder.weight_hash))
    poser = SynthesisPoser(tmp_path / "a.safetensors")
    crops = np.random.default_rng(0).integers(0, 255, (2, 96, 96, 3), np.uint8)
    found = poser.analyse(crops, ["box", None])
    assert [set(one.kinds) for one in found] == [{"box", "slab"}] * 2
    for one, pose in zip(found, poser.look(crops, ["box", None])):
        assert sum(one.kinds.values()) == pytest.approx(1, abs=1e-5)
        for part in ("azimuth", "elevation", "theta"):
            assert getattr(one.pose, part).sum() == pytest.approx(1, abs=1e-6)
        assert np.array_equal(one.pose.azimuth, pose.azimuth)
    assert poser.analyse(crops[:0]) == []


def test_features_that_are_no_numbers_are_refused() -> None:
    meshes = random_meshes()
    vectors = drawn(meshes, 0)
    vectors[1, 3, 2] = torch.nan
    with pytest.raises(PoseError, match="not finite"):
        posterior(meshes, vectors, equal(meshes, len(vectors)))
