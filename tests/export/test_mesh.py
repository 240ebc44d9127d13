"""Meshes from points of a sphere, whose surface is known."""

import json
from pathlib import Path

import numpy as np
import pytest
from plyfile import PlyData
from shapes import COLOURS, in_world, sphere_cloud

from ovseg3d.errors import ConfigError
from ovseg3d.export.labelled import LabelledCloud
from ovseg3d.export.mesh import mesh_of, save_mesh

MIDDLE = np.array([1.0, 2.0, 3.0])


def test_a_sphere_comes_back_closed_and_outside_out() -> None:
    trimesh = pytest.importorskip("trimesh")
    mesh = mesh_of(sphere_cloud())
    from_middle = mesh.xyz - MIDDLE
    assert np.abs(np.linalg.norm(from_middle, axis=1) - 0.5).max() < 0.01
    assert ((mesh.normal * from_middle).sum(1) > 0.45).all()
    shape = trimesh.Trimesh(mesh.xyz, mesh.faces, process=False)
    assert shape.is_watertight and shape.volume == pytest.approx(4 / 3 * np.pi * 0.125, rel=0.02)


def test_vertices_know_what_they_are() -> None:
    mesh = mesh_of(sphere_cloud())
    clear = np.abs(mesh.xyz[:, 2] - 3) > 0.03
    upper = mesh.xyz[:, 2] > 3
    np.testing.assert_array_equal(mesh.label[clear], np.where(upper, 1, 3)[clear])
    np.testing.assert_array_equal(mesh.instance[clear], np.where(upper, 4, 0)[clear])
    np.testing.assert_array_equal(mesh.rgb[clear, 2], np.where(upper, 255, 0)[clear])


def test_where_no_points_are_is_a_hole_and_two_sides_stay_apart() -> None:
    """A sheet 1.5 cells thick, seen from both sides: two surfaces, and no rim where there are no points."""
    step = 0.02
    x, y = (axis.ravel() for axis in np.meshgrid(np.arange(0, 1, step), np.arange(0, 1, step)))
    top = np.stack([x, y, np.full_like(x, 1.5 * step)], 1)
    xyz = np.concatenate([top, top * [1, 1, 0]])
    normal = np.repeat([[0.0, 0, 1], [0, 0, -1]], len(x), axis=0)
    mesh = mesh_of(_cloud(xyz, normal, step))
    height = mesh.xyz[:, 2]
    above = height > 0.75 * step
    np.testing.assert_allclose(height[above], 1.5 * step, atol=0.1 * step)
    np.testing.assert_allclose(height[~above], 0, atol=0.1 * step)
    assert (mesh.normal[above, 2] > 0.9).all() and (mesh.normal[~above, 2] < -0.9).all()
    assert above[mesh.faces].all(1).sum() + (~above)[mesh.faces].all(1).sum() == len(mesh.faces)
    assert np.ptp(mesh.xyz[:, 0]) < 0.98 + 5 * step


def _cloud(xyz: np.ndarray, normal: np.ndarray, step: float) -> LabelledCloud:
    from dataclasses import replace

    base = sphere_cloud(len(xyz))
    surface = replace(
        base.surface, xyz=xyz.astype(np.float32), normal=normal.astype(np.float32),
        cell=np.full(len(xyz), step, np.float32),
    )  # fmt: skip
    return replace(base, surface=surface)


def test_far_and_coarse_points_and_crumbs_are_left_out() -> None:
    from dataclasses import replace

    cloud = sphere_cloud()
    far = cloud.surface.xyz.copy()
    far[:8] += 100
    cell = cloud.surface.cell.copy()
    cell[:8] = 5
    crumb = far.copy()
    crumb[8] += 1
    mesh = mesh_of(replace(cloud, surface=replace(cloud.surface, xyz=crumb, cell=cell)))
    assert np.abs(mesh.xyz - MIDDLE).max() < 0.55


def test_a_ply_read_by_plyfile_is_the_mesh(tmp_path: Path) -> None:
    cloud = sphere_cloud()
    mesh = mesh_of(cloud)
    files = save_mesh(tmp_path, cloud, mesh)
    assert [file.name for file in files] == ["mesh.ply", "mesh.glb", "mesh_labels.glb", "labels.json"]
    ply = PlyData.read(str(files[0]))
    rows = ply["vertex"].data
    np.testing.assert_array_equal(np.stack([rows[name] for name in "xyz"], 1), mesh.xyz)
    np.testing.assert_array_equal(np.stack([rows[name] for name in ("red", "green", "blue")], 1), mesh.rgb)
    np.testing.assert_array_equal(rows["label"], mesh.label)
    np.testing.assert_array_equal(rows["instance"], mesh.instance)
    np.testing.assert_array_equal(np.stack(ply["face"]["vertex_indices"]), mesh.faces)
    told = json.loads(files[3].read_text(encoding="utf-8"))
    assert told["vertices"] == len(mesh.xyz) and told["faces"] == len(mesh.faces)


@pytest.mark.parametrize("where", ["input", "world"])
def test_a_glb_read_by_trimesh_is_the_mesh_stood_upright(tmp_path: Path, where: str) -> None:
    trimesh = pytest.importorskip("trimesh")
    cloud = sphere_cloud() if where == "input" else in_world(sphere_cloud())
    mesh = mesh_of(cloud)
    files = save_mesh(tmp_path, cloud, mesh)
    for file, rgb in ((files[1], mesh.rgb), (files[2], COLOURS[mesh.label])):
        scene = trimesh.load(file, process=False)
        (shape,) = scene.geometry.values()
        np.testing.assert_allclose(shape.vertices, mesh.xyz, atol=1e-6)
        np.testing.assert_array_equal(shape.faces, mesh.faces)
        np.testing.assert_array_equal(shape.vertex_attributes["_LABEL"].ravel(), mesh.label)
        np.testing.assert_array_equal(shape.vertex_attributes["_INSTANCE"].ravel(), mesh.instance)
        linear = np.asarray(shape.visual.vertex_attributes["color"], np.float64)[:, :3]
        shown = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
        np.testing.assert_array_equal(np.rint(shown * 255), rgb)
    turn, _ = scene.graph["surface"]
    np.testing.assert_allclose(turn[:3, :3] @ cloud.surface.up, [0, 1, 0], atol=1e-9)
    np.testing.assert_allclose(turn, json.loads(files[3].read_text(encoding="utf-8"))["gltf_from_frame"], atol=1e-9)


def test_a_thinned_cloud_gives_a_coarser_mesh_without_holes() -> None:
    trimesh = pytest.importorskip("trimesh")
    fine, coarse = mesh_of(sphere_cloud()), mesh_of(sphere_cloud().thinned(points=1000))
    assert len(coarse.faces) < 0.6 * len(fine.faces)
    assert trimesh.Trimesh(coarse.xyz, coarse.faces, process=False).is_watertight


def test_what_cannot_be_a_mesh_is_refused() -> None:
    cloud = sphere_cloud()
    with pytest.raises(ConfigError, match="no points"):
        mesh_of(cloud.take(cloud.label == 2))
    with pytest.raises(ConfigError, match="too far apart"):
        mesh_of(cloud.take(np.arange(0, 4000, 200)), spacing=0.02)
    with pytest.raises(ConfigError, match="above 0"):
        mesh_of(cloud, spacing=0.0)
