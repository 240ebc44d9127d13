"""The hash grid: level geometry, the kernels against the torch reference, gradients against finite differences."""

import pytest
import torch
from counting import as_on_a_gpu

from ovseg3d.engine import Workers
from ovseg3d.field.kernels import WarpBackend
from ovseg3d.field.levels import GridLevels
from ovseg3d.field.operators import AdamStep
from ovseg3d.field.reference import TorchBackend

CPU = torch.device("cpu")


def grid(features: int = 4, levels: int = 5) -> GridLevels:
    return GridLevels.build(levels, features, log2_table=10, base_resolution=4, max_resolution=64)


def positions(count: int, seed: int = 0) -> torch.Tensor:
    """Mostly inside the unit cube, some outside, some exactly on its border."""
    x = torch.rand(count, 3, generator=torch.Generator().manual_seed(seed)) * 1.2 - 0.1
    if count >= 8:
        x[:2], x[2:4], x[4:6] = 0.0, 1.0, torch.tensor([0.0, 0.5, 1.0])
    return x


def table_for(levels: GridLevels, seed: int = 1) -> torch.Tensor:
    return torch.randn(levels.entries, levels.features, generator=torch.Generator().manual_seed(seed))


def test_levels_follow_tinycudann():
    levels = GridLevels.build(8, 4, 17, 16, 1024)
    assert [level.resolution for level in levels.levels] == [16, 29, 53, 96, 173, 313, 566, 1024]
    # 53^3 = 148,877 cells are more than 2^17 = 131,072 entries.
    assert [level.dense for level in levels.levels] == [True, True] + [False] * 6
    assert levels.levels[1].offset == 16**3 and levels.levels[2].offset == 16**3 + 24_392
    assert levels.width == 32 and levels.entries == 16**3 + 24_392 + 6 * 2**17


def test_dense_level_interpolates_its_corners():
    levels = GridLevels.build(1, 1, log2_table=12, base_resolution=8, max_resolution=8)
    # A table that holds each corner's x coordinate must return the position on the grid: 7 x + 0.5.
    corner_x = torch.arange(8.0).repeat(64)[:, None]
    x = torch.rand(50, 3) * 0.9
    for backend in (WarpBackend(levels, CPU), TorchBackend(levels, CPU)):
        torch.testing.assert_close(backend.encode(x, corner_x)[:, 0], x[:, 0] * 7 + 0.5, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kernels", ["of a CPU", "of a GPU"])
def test_hashed_level_is_where_tinycudann_has_it(kernels, monkeypatch):
    """Equation 4 of Mueller et al. 2022, in 32 bits. Tables of checkpoints are laid out so."""
    if kernels == "of a GPU":
        as_on_a_gpu(monkeypatch)
    levels = GridLevels.build(1, 1, log2_table=10, base_resolution=64, max_resolution=64)
    corners = torch.randint(1, 63, (50, 3), generator=torch.Generator().manual_seed(0))
    expected = [(x ^ (y * 2654435761) % 2**32 ^ (z * 805459861) % 2**32) % 1024 for x, y, z in corners.tolist()]
    table = torch.arange(1024.0)[:, None]
    for backend in (WarpBackend(levels, CPU), TorchBackend(levels, CPU)):
        found = backend.encode((corners - 0.5) / 63, table)[:, 0]
        torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float32), atol=0.05, rtol=0)


@pytest.mark.parametrize("features", [1, 2, 3, 4, 6, 8])
@pytest.mark.parametrize("count", [0, 1, 257])
@pytest.mark.parametrize("kernels", ["of a CPU", "of a GPU"])
def test_encode_matches_reference(features, count, kernels, monkeypatch):
    if kernels == "of a GPU":
        as_on_a_gpu(monkeypatch)
    levels = grid(features)
    table, x = table_for(levels), positions(count)
    weights = torch.randn(count, levels.width, generator=torch.Generator().manual_seed(2))
    outputs = {}
    for backend in (WarpBackend(levels, CPU), TorchBackend(levels, CPU)):
        leaf_x, leaf_table = x.clone().requires_grad_(), table.clone().requires_grad_()
        out = backend.encode(leaf_x, leaf_table)
        (out * weights).sum().backward()
        outputs[backend.name] = out.detach(), leaf_x.grad, leaf_table.grad
    for fast, reference in zip(outputs["warp"], outputs["torch"]):
        torch.testing.assert_close(fast, reference, atol=1e-4, rtol=1e-4)


def test_position_gradient_against_finite_differences():
    levels = grid()
    backend, table = WarpBackend(levels, CPU), table_for(levels)
    # Steps of 1e-3 stay within a cell of the finest level for nearly all positions; compare the median.
    x = torch.rand(400, 3) * 0.9 + 0.05
    leaf = x.clone().requires_grad_()
    backend.encode(leaf, table).sum().backward()
    step = 1e-3
    for axis in range(3):
        moved = torch.zeros(3)
        moved[axis] = step
        change = (backend.encode(x + moved, table) - backend.encode(x - moved, table)).sum(-1) / (2 * step)
        assert (change - leaf.grad[:, axis]).abs().median() < 0.02 * leaf.grad[:, axis].abs().median()


def test_table_gradient_is_the_same_to_the_bit_for_one_and_two_threads():
    levels = GridLevels.build(8, 4, 12, 8, 128)
    backend = WarpBackend(levels, CPU)
    pieces = [(positions(4000, seed), torch.randn(4000, levels.width)) for seed in (0, 1)]
    totals = []
    for threads in (1, 2):
        workers = Workers(2, threads)
        totals.append(torch.zeros(levels.entries, levels.features))
        backend.add_table_gradient(pieces, totals[-1], workers)
    assert torch.equal(*totals)
    # Thousands of samples share the 512 entries of the coarsest level, so a lost update would show here too.
    reference = torch.zeros_like(totals[0])
    TorchBackend(levels, CPU).add_table_gradient(pieces, reference)
    torch.testing.assert_close(totals[0], reference, atol=2e-3, rtol=1e-4)


def test_adam_matches_torch_and_leaves_untouched_entries_alone():
    levels = grid()
    start = table_for(levels)
    touched = torch.rand(len(start), generator=torch.Generator().manual_seed(3)) < 0.5
    expected = start[touched].clone().requires_grad_()
    optimiser = torch.optim.Adam([expected], lr=0.01, betas=(0.9, 0.99), eps=1e-15)
    tables = {b.name: (b, start.clone(), [torch.zeros_like(start) for _ in range(3)]) for b in backends(levels)}
    for step in range(1, 4):
        gradient = torch.randn(start.shape, generator=torch.Generator().manual_seed(step)) * touched[:, None]
        expected.grad = gradient[touched].clone()
        optimiser.step()
        for backend, table, (grad, mean, square) in tables.values():
            grad.copy_(gradient)
            backend.adam(table, grad, mean, square, AdamStep(0.01, step))
            assert not grad.any()
    for _, table, _ in tables.values():
        torch.testing.assert_close(table[touched], expected.detach(), atol=1e-5, rtol=1e-4)
        assert torch.equal(table[~touched], start[~touched])


def test_adam_takes_in_the_smallest_gradients():
    """1e-30 squared is 0 in single precision; the entry must count as touched, and its gradient be reset."""
    levels = grid()
    for backend in backends(levels):
        table = torch.zeros(levels.entries, levels.features)
        grad, mean, square = (torch.zeros_like(table) for _ in range(3))
        grad[3, 1] = 1e-30
        backend.adam(table, grad, mean, square, AdamStep(0.1, 1))
        assert not grad.any() and mean[3, 1] > 0


def backends(levels: GridLevels) -> list:
    return [WarpBackend(levels, CPU), TorchBackend(levels, CPU)]
