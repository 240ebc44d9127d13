"""Operators along rays: kernels against the torch reference, and both against closed forms."""

import math

import numpy as np
import pytest
import torch
from counting import as_on_a_gpu

from ovseg3d.field.cell_bits import CellBits
from ovseg3d.field.kernels import WarpBackend
from ovseg3d.field.levels import GridLevels
from ovseg3d.field.reference import TorchBackend
from ovseg3d.field.samples import RaySamples

CPU = torch.device("cpu")
LEVELS = GridLevels.build(2, 2, 8, 4, 8)


@pytest.fixture(params=["warp", "torch"])
def backend(request):
    return {"warp": WarpBackend, "torch": TorchBackend}[request.param](LEVELS, CPU)


def packed(counts: list[int], seed: int = 0) -> RaySamples:
    """Random samples, front to back; `counts` may hold rays without samples."""
    generator = torch.Generator().manual_seed(seed)
    n = sum(counts)
    step = torch.rand(n, generator=generator) * 0.2 + 0.01
    t = torch.cat([torch.rand(c, generator=generator).sort().values * 3 + 0.1 for c in counts]) if n else step
    ray = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts)).int()
    offsets = torch.tensor([0, *torch.tensor(counts).cumsum(0).tolist()], dtype=torch.int32)
    return RaySamples(t, step, ray, torch.zeros(n, dtype=torch.int32), offsets)


SHAPES = [[5, 0, 3, 1], [0, 0], [1], [40, 7, 0, 13, 2]]


@pytest.mark.parametrize("counts", SHAPES)
@pytest.mark.parametrize("channels", [1, 3, 70])
def test_composite_matches_reference(counts, channels):
    samples, n = packed(counts), sum(counts)
    generator = torch.Generator().manual_seed(1)
    values = torch.randn(n, channels, generator=generator)
    density = torch.rand(n, generator=generator) * 20
    results = {}
    for backend in (WarpBackend(LEVELS, CPU), TorchBackend(LEVELS, CPU)):
        leaves = [tensor.clone().requires_grad_() for tensor in (density, values, samples.t, samples.step)]
        outputs = backend.composite(*leaves, samples.offsets)
        mix = torch.Generator().manual_seed(2)
        loss = sum((out * torch.randn(out.shape, generator=mix)).sum() for out in outputs)
        gradients = torch.autograd.grad(loss, leaves, allow_unused=True)
        results[backend.name] = [*(out.detach() for out in outputs), *gradients]
    for fast, reference in zip(results["warp"], results["torch"]):
        torch.testing.assert_close(fast, reference, atol=2e-5, rtol=1e-4)


def test_composite_of_fog_is_beer_lambert(backend):
    n, density, length = 200, 1.7, 2.0
    step = torch.full((n,), length / n)
    t = (torch.arange(n) + 0.5) * length / n
    offsets = torch.tensor([0, n], dtype=torch.int32)
    _, rgb, opacity, distance = backend.composite(torch.full((n,), density), torch.ones(n, 1) * 0.3, t, step, offsets)
    expected = 1 - math.exp(-density * length)
    assert opacity.item() == pytest.approx(expected, rel=1e-5)
    assert rgb.item() == pytest.approx(0.3 * expected, rel=1e-5)
    # The integral of t times the density of absorption, in closed form.
    mean = 1 / density - math.exp(-density * length) * (length + 1 / density)
    assert distance.item() == pytest.approx(mean, rel=1e-3)


@pytest.mark.parametrize("counts", SHAPES)
def test_distortion_matches_reference(counts):
    samples = packed(counts)
    weight = torch.rand(sum(counts), generator=torch.Generator().manual_seed(3))
    results = []
    for backend in (WarpBackend(LEVELS, CPU), TorchBackend(LEVELS, CPU)):
        leaf = weight.clone().requires_grad_()
        loss = backend.distortion(leaf, samples.t, samples.step, samples.ray, samples.offsets)
        scale = torch.arange(1.0, len(counts) + 1)
        results.append((loss.detach(), torch.autograd.grad((loss * scale).sum(), leaf, allow_unused=True)[0]))
    for fast, reference in zip(*results):
        torch.testing.assert_close(
            fast, torch.zeros_like(fast) if reference is None else reference, atol=1e-5, rtol=1e-4
        )


@pytest.mark.parametrize("n", [1, 7])
def test_distortion_of_even_weight_is_that_of_the_integral(backend, n):
    """Equation 15 is the integral of w(s) w(t) |s - t|: a third for a weight of 1 on [0, 1], however it is cut."""
    t, even = (torch.arange(n) + 0.5) / n, torch.full((n,), 1 / n)
    ray, offsets = torch.zeros(n, dtype=torch.int32), torch.tensor([0, n], dtype=torch.int32)
    assert backend.distortion(even, t, even, ray, offsets).item() == pytest.approx(1 / 3, rel=1e-5)


def test_median_is_interpolated_within_a_step(backend):
    weight, t, step = torch.tensor([0.1, 0.3, 0.2]), torch.tensor([1.0, 2.0, 4.0]), torch.tensor([1.0, 1.0, 3.0])
    # Half of 0.6 is reached after two thirds of the second step, which begins at 1.5. The other ray is empty.
    found = backend.median(weight, t, step, torch.tensor([0, 3, 3], dtype=torch.int32))
    assert found.tolist() == pytest.approx([1.5 + 2 / 3, 0.0], rel=1e-5)


@pytest.mark.parametrize("counts", SHAPES)
def test_median_matches_reference(counts):
    samples = packed(counts)
    weight = torch.rand(sum(counts), generator=torch.Generator().manual_seed(11))
    fast, reference = (
        backend.median(weight, samples.t, samples.step, samples.offsets)
        for backend in (WarpBackend(LEVELS, CPU), TorchBackend(LEVELS, CPU))
    )
    torch.testing.assert_close(fast, reference, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("counts", SHAPES)
@pytest.mark.parametrize("quota", [0.0, 0.05, 0.5])
def test_merge_matches_reference(counts, quota):
    samples = packed(counts)
    generator = torch.Generator().manual_seed(4)
    density = torch.rand(sum(counts), generator=generator) ** 4 * 60
    draws = torch.rand(sum(counts), generator=generator)
    fast, reference = (
        backend.merge(density, samples, draws, 1e-2, quota, 1000)
        for backend in (WarpBackend(LEVELS, CPU), TorchBackend(LEVELS, CPU))
    )
    torch.testing.assert_close(fast[0], reference[0], atol=1e-6, rtol=1e-4)
    assert torch.equal(fast[1], reference[1]) and torch.equal(fast[3], reference[3])
    torch.testing.assert_close(fast[2], reference[2], atol=1e-6, rtol=1e-4)


def test_merge_drops_what_is_hidden_and_what_is_empty(backend):
    samples = packed([4])
    density = torch.tensor([0.0, 1e6, 1e6, 3.0])
    weight, index, step, offsets = backend.merge(density, samples, torch.full((4,), 0.5), 1e-3, 0.0, 100)
    torch.testing.assert_close(weight, torch.tensor([0.0, 1.0, 0.0, 0.0]))
    assert index.tolist() == [1] and offsets.tolist() == [0, 1]
    torch.testing.assert_close(step, samples.step[1:2])


def test_merge_respects_its_capacity(backend):
    samples = packed([10, 10, 10])
    full = backend.merge(torch.full((30,), 2.0), samples, torch.full((30,), 0.5), 1e-6, 0.0, 100)
    cut = backend.merge(torch.full((30,), 2.0), samples, torch.full((30,), 0.5), 1e-6, 0.0, 17)
    assert len(full[1]) == 30 and len(cut[1]) == 17 and cut[3].tolist() == [0, 10, 17, 17]
    assert torch.equal(full[1][:17], cut[1]) and torch.equal(full[2][:17], cut[2])


def test_merged_samples_render_the_same_on_average():
    """Opacity exactly; colour and the gradient of every density within the error of a Monte Carlo mean."""
    backend, trials = WarpBackend(LEVELS, CPU), 20_000
    samples = packed([30])
    density = torch.rand(30, generator=torch.Generator().manual_seed(8)) * 3
    color = torch.randn(30, 1, generator=torch.Generator().manual_seed(9))

    def render(density, index, step, offsets):
        return backend.composite(density[index], color[index], samples.t[index], step, offsets)

    leaf = density.clone().requires_grad_()
    everything = torch.arange(30)
    _, exact_rgb, exact_opacity, _ = render(leaf, everything, samples.step, samples.offsets)
    exact_grad = torch.autograd.grad(exact_opacity.sum(), leaf)[0]
    # One long packed batch: the same ray many times, with new draws.
    many = RaySamples(
        samples.t.repeat(trials), samples.step.repeat(trials), torch.arange(trials).repeat_interleave(30).int(),
        samples.cell.repeat(trials), torch.arange(0, 30 * trials + 1, 30, dtype=torch.int32),
    )  # fmt: skip
    draws = torch.rand(30 * trials, generator=torch.Generator().manual_seed(10))
    _, index, step, offsets = backend.merge(density.repeat(trials), many, draws, 1e-6, 0.2, 30 * trials)
    assert len(index) < 8 * trials
    leaf = density.clone().requires_grad_()
    _, rgb, opacity, _ = render(leaf, (index % 30).long(), step, offsets)
    torch.testing.assert_close(opacity, exact_opacity.expand(trials), atol=1e-4, rtol=1e-4)
    error = rgb.std() / trials**0.5
    assert (rgb.mean() - exact_rgb).abs().item() < 4 * error
    grad = torch.autograd.grad(opacity.sum() / trials, leaf)[0]
    torch.testing.assert_close(grad, exact_grad, atol=0.08 * exact_grad.max().item(), rtol=0)


def rays(count: int, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    origins = torch.randn(count, 3, generator=generator) * 0.5
    directions = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=-1)
    return origins, directions


@pytest.mark.parametrize("cascades", [1, 3])
@pytest.mark.parametrize("cone", [0.0, 0.02])
@pytest.mark.parametrize("resolution", [8, 16])
def test_march_matches_reference(cascades, cone, resolution):
    origins, directions = rays(256)
    grid = torch.rand(cascades, *(resolution,) * 3, generator=torch.Generator().manual_seed(5))
    cells = CellBits.pack(grid < 0.12)  # a third of the eighths of blocks are empty
    spans = torch.tensor([[0.05, 6.0]]).repeat(256, 1)
    spans[3] = 0.0
    jitter = torch.rand(256, generator=torch.Generator().manual_seed(6))
    fast, reference = (
        backend.march(origins, directions, spans, jitter, cells, 0.03, cone, 100_000)
        for backend in (WarpBackend(LEVELS, CPU), TorchBackend(LEVELS, CPU))
    )
    # A sample within rounding of a cell's border may fall on either side; nearly all must agree.
    fast_set = set(zip(fast.ray.tolist(), fast.t.mul(1e3).round().tolist()))
    reference_set = set(zip(reference.ray.tolist(), reference.t.mul(1e3).round().tolist()))
    assert len(fast_set) > 500
    assert len(fast_set ^ reference_set) <= 0.02 * len(fast_set)
    # Where both have a sample, its step and cell agree, but for cells within rounding of a border.
    found = {}
    for samples in (fast, reference):
        keys = zip(samples.ray.tolist(), samples.t.mul(1e3).round().tolist())
        found[samples is fast] = dict(zip(keys, zip(samples.step.tolist(), samples.cell.tolist())))
    pairs = [(found[True][key], found[False][key]) for key in fast_set & reference_set]
    assert all(a[0] == pytest.approx(b[0], rel=1e-4) for a, b in pairs)
    assert sum(a[1] != b[1] for a, b in pairs) <= 0.01 * len(pairs)
    assert cascades == 1 or max(cell for _, cell in found[True].values()) >= 512
    assert fast.offsets[3] == fast.offsets[4]


def test_one_pass_finds_what_two_passes_find(monkeypatch):
    """The CPU marches and merges in one pass, a GPU in two, into buffers with spare rows."""
    origins, directions = rays(64)
    cells = CellBits.pack(torch.rand(2, 16, 16, 16, generator=torch.Generator().manual_seed(5)) < 0.2)
    generator = torch.Generator().manual_seed(6)
    spans, jitter = torch.tensor([[0.05, 6.0]]).repeat(64, 1), torch.rand(64, generator=generator)
    backend = WarpBackend(LEVELS, CPU)
    density, draws = 20.0 * torch.rand(3000, generator=generator), torch.rand(3000, generator=generator)

    def sampled(capacity=3000, most=2000):
        samples = backend.march(origins, directions, spans, jitter, cells, 0.03, 0.01, capacity)
        n = int(samples.offsets[-1])
        weight, index, step, offsets = backend.merge(
            density[: len(samples.t)], samples, draws[: len(samples.t)], 1e-3, 0.1, most
        )
        kept = int(offsets[-1])
        columns = (samples.t, samples.step, samples.ray, samples.cell, weight)
        return [*(column[:n] for column in columns), samples.offsets, index[:kept], step[:kept], offsets]

    once, cut = sampled(), sampled(500, 100)
    as_on_a_gpu(monkeypatch)
    twice = sampled()
    assert all(torch.equal(a, b) for a, b in zip(cut, sampled(500, 100), strict=True))
    assert len(cut[0]) == 500 and len(cut[6]) == 100
    assert 1000 < len(once[0]) < 3000 and 200 < len(once[6]) < len(once[0])
    assert all(torch.equal(a, b) for a, b in zip(once, twice, strict=True))


def test_march_takes_exactly_the_occupied_stretch(backend):
    occupied = torch.zeros(1, 8, 8, 8, dtype=torch.bool)
    occupied[0, 4, 4, 6] = True  # x from 0.5 to 0.75, y and z from 0 to 0.25
    origins, directions = torch.tensor([[-2.0, 0.1, 0.1]]), torch.tensor([[1.0, 0.0, 0.0]])
    samples = backend.march(
        origins, directions, torch.tensor([[1.0, 3.0]]), torch.zeros(1), CellBits.pack(occupied), 0.01, 0.0, 999
    )
    x = samples.t - 2.0
    assert 0.5 <= x.min() < 0.511 and 0.739 < x.max() <= 0.75
    assert len(x) == 25 and samples.offsets.tolist() == [0, 25]
    assert set(samples.cell.tolist()) == {(4 * 8 + 4) * 8 + 6}


def crossings(origin, direction, occupied, end, fine):
    """Stretches (t, t) of a ray in one occupied cell each, from the cell of points at distance `fine`; in numpy."""
    t = np.arange(fine / 2, end, fine)
    points = origin + direction * t[:, None]
    cascades, resolution = occupied.shape[:2]
    largest = np.abs(points).max(-1)
    cascade = np.searchsorted(2.0 ** np.arange(cascades), largest, side="right")
    half = 2.0**cascade
    inside = cascade < cascades
    x, y, z = np.clip(np.floor((points.T / half + 1) / 2 * resolution).astype(int), 0, resolution - 1)
    cell = np.stack([np.minimum(cascade, cascades - 1), z, y, x], -1)
    hit = occupied[tuple(cell.T)] & inside
    ends = np.flatnonzero((cell[1:] != cell[:-1]).any(-1) | (hit[1:] != hit[:-1]))
    first, last = np.concatenate([[0], ends + 1]), np.concatenate([ends, [len(t) - 1]])
    return [(t[a], t[b]) for a, b in zip(first, last) if hit[a]]


@pytest.mark.parametrize("cone", [0.0, 0.02])
@pytest.mark.parametrize("resolution", [8, 9, 10, 11, 16, 31])
def test_march_samples_every_occupied_cell(backend, resolution, cone):
    """Also where the borders of cells are not those of the cells of the next cascade."""
    origins, directions = rays(64, seed=resolution)
    origins = origins - 2.0 * directions  # they come in, and go out again
    occupied = torch.rand(3, *(resolution,) * 3, generator=torch.Generator().manual_seed(5)) < 0.1
    spans, jitter = torch.tensor([[0.0, 5.0]]).repeat(64, 1), torch.rand(64, generator=torch.Generator().manual_seed(6))
    smallest = 0.25 / resolution
    samples = backend.march(origins, directions, spans, jitter, CellBits.pack(occupied), smallest, cone, 100_000)
    crossed = 0
    for ray, (origin, direction) in enumerate(zip(origins.double().numpy(), directions.double().numpy())):
        t = samples.t[samples.ray == ray].double().numpy()
        for first, last in crossings(origin, direction, occupied.numpy(), 4.9, smallest / 50):
            if first > 2 * smallest and last - first > 1.01 * max(smallest, cone * last):
                crossed += 1
                assert ((t > first - 1e-3) & (t < last + 1e-3)).any(), (ray, first, last)
    assert crossed > 40


@pytest.mark.parametrize("resolution", [4, 8, 9, 31])
def test_cells_survive_packing(resolution):
    generator = torch.Generator().manual_seed(resolution)
    occupied = torch.rand(2, *(resolution,) * 3, generator=generator) < 0.3
    assert torch.equal(CellBits.pack(occupied).unpack(), occupied)


def test_a_bit_is_where_the_documentation_says():
    occupied = torch.zeros(2, 8, 8, 8, dtype=torch.bool)
    occupied[1, 3, 5, 7] = True
    words = CellBits.pack(occupied).words
    # Block z 0, y 1, x 1; within it z 3, y 1, x 3.
    assert words.nonzero().tolist() == [[1, 0, 1, 1]] and words[1, 0, 1, 1] == 1 << 16 * 3 + 4 * 1 + 3


def test_march_respects_its_capacity(backend):
    origins, directions = rays(32)
    occupied = torch.ones(1, 4, 4, 4, dtype=torch.bool)
    spans = torch.tensor([[0.0, 1.0]]).repeat(32, 1)
    samples = backend.march(origins * 0.1, directions, spans, torch.zeros(32), CellBits.pack(occupied), 0.05, 0.0, 100)
    assert len(samples.t) == 100 and samples.offsets[-1] == 100
    assert torch.equal(samples.ray, samples.ray.sort().values)
