"""The kernels at sizes that fill a GPU, against the torch reference on the CPU: threads that meet, and long buffers."""

import pytest
import torch

from ovseg3d.field.cell_bits import CellBits
from ovseg3d.field.kernels import WarpBackend
from ovseg3d.field.levels import GridLevels
from ovseg3d.field.operators import AdamStep
from ovseg3d.field.reference import TorchBackend
from ovseg3d.field.samples import RaySamples

CPU = torch.device("cpu")
LEVELS = GridLevels.build(8, 2, log2_table=12, base_resolution=4, max_resolution=256)
SAMPLES, RAYS, CAPACITY = 40_000, 1_500, 60_000


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> torch.device:
    return torch.device(request.param)


@pytest.fixture
def backends(device: torch.device) -> tuple[WarpBackend, TorchBackend]:
    return WarpBackend(LEVELS, device), TorchBackend(LEVELS, CPU)


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    """Uniform random numbers."""
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def packed() -> RaySamples:
    """Random samples front to back; every seventh ray has none."""
    counts = torch.randint(0, 2 * SAMPLES // RAYS, (RAYS,), generator=torch.Generator().manual_seed(1))
    counts[::7] = 0
    offsets = torch.cat([torch.zeros(1), counts.cumsum(0)]).int()
    ray = torch.repeat_interleave(torch.arange(RAYS), counts).int()
    n = len(ray)
    t = ray + drawn(n, seed=2)
    t = t.sort().values - ray
    return RaySamples(t, 0.01 + 0.1 * drawn(n, seed=3), ray, torch.zeros(n, dtype=torch.int32), offsets)


def moved(samples: RaySamples, device: torch.device) -> RaySamples:
    return RaySamples(*(getattr(samples, name).to(device) for name in RaySamples.__dataclass_fields__))


def assert_near(fast: torch.Tensor, reference: torch.Tensor, share: float = 1e-4) -> None:
    """Within a share of the reference's norm; a few wrong values would exceed it."""
    error = (fast.cpu() - reference).norm() / reference.norm().clamp_min(1e-12)
    assert fast.shape == reference.shape and float(error) < share, float(error)


def test_encoding_and_its_gradients(backends: tuple[WarpBackend, TorchBackend], device: torch.device) -> None:
    x, table = drawn(SAMPLES, 3) * 1.2 - 0.1, drawn(LEVELS.entries, LEVELS.features, seed=4) - 0.5
    weights = drawn(SAMPLES, LEVELS.width, seed=5) - 0.5
    results = []
    for backend in backends:
        leaves = [tensor.to(backend.device).requires_grad_() for tensor in (x, table)]
        out = backend.encode(*leaves)
        results.append([out.detach(), *torch.autograd.grad((out * weights.to(out)).sum(), leaves)])
    for fast, reference in zip(*results):
        assert_near(fast, reference)


def test_adam(backends: tuple[WarpBackend, TorchBackend]) -> None:
    tables = []
    for backend in backends:
        table = drawn(LEVELS.entries, LEVELS.features, seed=6).to(backend.device)
        grad, mean, square = (torch.zeros_like(table) for _ in range(3))
        for step in (1, 2):
            touched = drawn(LEVELS.entries, 1, seed=step) < 0.3
            grad.copy_((drawn(LEVELS.entries, LEVELS.features, seed=6 + step) - 0.5) * touched)
            backend.adam(table, grad, mean, square, AdamStep(0.01, step))
            assert not grad.any()
        tables.append(table)
    assert_near(*tables, share=1e-6)


@pytest.mark.parametrize("cone", [0.0, 0.01])
def test_marching(backends: tuple[WarpBackend, TorchBackend], cone: float) -> None:
    origins = drawn(RAYS, 3, seed=9) - 0.5
    directions = torch.nn.functional.normalize(drawn(RAYS, 3, seed=10) - 0.5, dim=-1)
    spans, jitter = torch.tensor([[0.05, 6.0]]).repeat(RAYS, 1), drawn(RAYS, seed=11)
    occupied = drawn(3, 16, 16, 16, seed=12) < 0.2
    met = []
    for backend in backends:
        there = backend.device
        cells = CellBits.pack(occupied.to(there))
        rays = [tensor.to(there) for tensor in (origins, directions, spans, jitter)]
        met.append(moved(backend.march(*rays, cells, 0.02, cone, 10 * CAPACITY), CPU))
    fast, reference = met
    used = int(reference.offsets[-1])
    counts = [samples.offsets.diff() for samples in met]
    # A sample within rounding of a cell's border may fall on either side.
    same = counts[0] == counts[1]
    assert used > 10_000 and same.float().mean() > 0.9
    rows = [same[samples.ray.long()] & (torch.arange(len(samples.ray)) < samples.offsets[-1]) for samples in met]
    assert_near(fast.t[rows[0]], reference.t[rows[1]], share=1e-3)
    assert (fast.cell[rows[0]] == reference.cell[rows[1]]).float().mean() > 0.99
    assert not fast.step[int(fast.offsets[-1]) :].any()


def test_merging(backends: tuple[WarpBackend, TorchBackend]) -> None:
    samples = packed()
    n = len(samples.t)
    density, draws = drawn(n, seed=13) ** 4 * 60, drawn(n, seed=14)
    results = []
    for backend in backends:
        given = moved(samples, backend.device)
        weight, index, step, offsets = backend.merge(
            density.to(backend.device), given, draws.to(backend.device), 1e-2, 0.05, CAPACITY
        )
        used = int(offsets[-1])
        assert not index[used:].any() and not step[used:].any()
        results.append((weight.cpu(), index[:used].cpu(), step[:used].cpu(), offsets.cpu()))
    (fast, reference) = results
    assert_near(fast[0], reference[0])
    # A group may end one sample earlier where its weight is within rounding of the quota.
    same = fast[3].diff() == reference[3].diff()
    assert same.float().mean() > 0.99
    chosen = [index[same[samples.ray[index.long()].long()]] for _, index, _, _ in results]
    assert (chosen[0] == chosen[1]).float().mean() > 0.99


def test_compositing_and_its_gradients(backends: tuple[WarpBackend, TorchBackend]) -> None:
    samples = packed()
    n = len(samples.t)
    inputs = (drawn(n, seed=15) * 20, drawn(n, 4, seed=16) - 0.5, samples.t, samples.step)
    results = []
    for backend in backends:
        leaves = [tensor.to(backend.device).requires_grad_() for tensor in inputs]
        outputs = backend.composite(*leaves, samples.offsets.to(backend.device))
        loss = sum((out * (drawn(*out.shape, seed=17) - 0.5).to(out)).sum() for out in outputs)
        results.append([*(out.detach() for out in outputs), *torch.autograd.grad(loss, leaves)])
    for fast, reference in zip(*results):
        assert_near(fast, reference)


def test_distortion_and_median(backends: tuple[WarpBackend, TorchBackend]) -> None:
    samples, results = packed(), []
    for backend in backends:
        given = moved(samples, backend.device)
        leaf = drawn(len(samples.t), seed=18).to(backend.device).requires_grad_()
        loss = backend.distortion(leaf, given.t, given.step, given.ray, given.offsets)
        (grad,) = torch.autograd.grad(loss.sum(), leaf)
        results.append((loss.detach(), grad, backend.median(leaf.detach(), given.t, given.step, given.offsets)))
    for fast, reference in zip(*results):
        assert_near(fast, reference)


def test_the_largest_of_many_writers(backends: tuple[WarpBackend, TorchBackend]) -> None:
    cell = (drawn(SAMPLES, seed=19) * 64).int()
    weight = drawn(SAMPLES, seed=20)
    weight[::3] = 0.0
    values = []
    for backend in backends:
        values.append(torch.zeros(1, 4, 4, 4, device=backend.device))
        backend.scatter_max(cell.to(backend.device), weight.to(backend.device), values[-1])
    assert torch.equal(values[0].cpu(), values[1])
