"""Voxels of the detection head, and sums over groups of rows, against loops."""

import numpy as np
import pytest
import torch

from ovseg3d.heads.detection.bags import Bags
from ovseg3d.heads.detection.voxels import CHANNELS, VOXEL, Taps, floor_height, voxelize
from ovseg3d.scene import PointCloud


def random_cloud(points: int = 600) -> PointCloud:
    rng = np.random.default_rng(0)
    normal = rng.normal(size=(points, 3))
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    return PointCloud(rng.uniform(-0.2, 0.3, (points, 3)), normal, rng.random((points, 3)))


@pytest.mark.parametrize("columns", [1, 7, 40])
def test_sums_and_means_of_groups(columns: int) -> None:
    torch.manual_seed(0)
    group, values = torch.randint(-1, 9, (200,)), torch.randn(200, columns)
    group[group == 4] = 5  # nothing is in the fifth
    bags = Bags.of(group, 11)
    sums = torch.stack([values[group == row].sum(0) for row in range(11)])
    count = torch.tensor([int((group == row).sum()) for row in range(11)])
    assert bags.sizes.tolist() == count.tolist()
    torch.testing.assert_close(bags.sums(values), sums)
    torch.testing.assert_close(bags.means(values), sums / count.clamp(min=1)[:, None])
    for row, start in enumerate(bags.starts.tolist()):
        own = bags.rows[start : start + int(count[row])]
        assert own.tolist() == (group == row).nonzero()[:, 0].tolist(), "in their order"


def test_no_rows_have_no_sums() -> None:
    none = Bags.of(torch.full((3,), -1), 2)
    assert none.sums(torch.ones(3, 4)).tolist() == [[0.0] * 4] * 2
    assert Bags.of(torch.full((3,), -1), 0).sums(torch.ones(3, 4)).shape == (0, 4)


@pytest.mark.parametrize("shift", [(0.0, 0.0, 0.0), (0.5, 0.25, 0.75)])
def test_features_are_the_means_over_the_points_of_a_voxel(shift: tuple[float, float, float]) -> None:
    cloud = random_cloud()
    assert cloud.normal is not None and cloud.rgb is not None
    voxels = voxelize(cloud, shift=shift)
    low = cloud.xyz.astype(np.float32).min(0)
    cells = np.floor((cloud.xyz.astype(np.float32) - low) / np.float32(VOXEL) + np.float32(shift)).astype(int)
    kept = [np.array(cell) for cell in sorted({tuple(cell) for cell in cells.tolist()})]
    assert len(kept) == len(voxels.xyz) and voxels.features.shape[1] == CHANNELS
    floor = float(floor_height(voxels.xyz[:, 2]))
    for row, cell in enumerate(kept):
        own = np.flatnonzero((cells == cell).all(1))
        assert np.flatnonzero(voxels.point_voxel.numpy() == row).tolist() == own.tolist()
        center, (x, y, z) = cloud.xyz[own].mean(0), cloud.normal[own].T
        offset = (center - low) / VOXEL - (cell - shift + 0.5)
        normals = [float((a * b).mean()) for a, b in ((x, x), (y, y), (z, z), (x, y), (y, z), (z, x))]
        expected = [*offset, center[2] - floor, np.log(len(own)), *normals, *cloud.rgb[own].mean(0) - 0.5, 1.0]
        np.testing.assert_allclose(voxels.xyz[row], center, atol=1e-5)
        np.testing.assert_allclose(voxels.features[row], expected, atol=1e-4)


def test_what_a_cloud_lacks_is_zero() -> None:
    cloud = random_cloud()
    whole, bare = (voxelize(each).features for each in (cloud, PointCloud(cloud.xyz)))
    assert (bare[:, 5:] == 0).all() and (whole[:, 14] == 1).all()
    torch.testing.assert_close(bare[:, :5], whole[:, :5], atol=0, rtol=0)


def test_taps_connect_neighbours_and_parents() -> None:
    voxels = voxelize(random_cloud())
    levels = voxels.levels
    low = torch.from_numpy(random_cloud().xyz).float().min(0).values
    cells = torch.stack([((voxels.xyz - low) / VOXEL).floor().long()[row] for row in range(len(voxels.xyz))])
    for level, following in zip(levels, levels[1:]):
        parents = torch.unique(cells >> 1, dim=0)
        assert pairs_of(level.up) == {
            (int((parents == cell >> 1).all(1).nonzero()), row, int((cell & 1) @ torch.tensor([4, 2, 1])))
            for row, cell in enumerate(cells)
        }
        assert pairs_of(level.down) == {(child, parent, tap) for parent, child, tap in pairs_of(level.up)}
        cells = parents
        step = cells[None] - cells[:, None]
        out, inp = (step.abs() <= 1).all(2).nonzero().T
        tap = (step[out, inp] + 1) @ torch.tensor([9, 3, 1])
        assert pairs_of(following.around) == set(zip(out.tolist(), inp.tolist(), tap.tolist()))


def pairs_of(taps: Taps) -> set[tuple[int, int, int]]:
    """Rows of output and input, and the number of the tap."""
    found = [(int(o), int(i), tap) for tap, pair in enumerate(taps.pairs) for o, i in zip(*pair)]
    assert len(found) == len(set(found)) == len(taps.of_outputs.rows)
    outputs = torch.tensor([o for o, _, _ in found])
    assert outputs[taps.of_outputs.rows].tolist() == sorted(outputs.tolist())
    return set(found)
