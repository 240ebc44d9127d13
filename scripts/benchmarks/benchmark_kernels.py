"""The kernel rows of the benchmark: Warp, as training uses it (two threads on a CPU), against plain torch.

Both work on the same numbers in one process, on the grid that ships, and give the gradients that training takes: of
the table, and of densities and colours. Plain torch has one thread or all, whichever is faster; figures are medians,
after one run to warm up. Measure on an idle machine: torch's threads wait for one another. Used by
benchmark.py.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from typing import Any

import torch

from ovseg3d.engine import Workers
from ovseg3d.field.cell_bits import CellBits
from ovseg3d.field.config import FieldConfig
from ovseg3d.field.kernels import WarpBackend
from ovseg3d.field.levels import GridLevels, grid_levels
from ovseg3d.field.reference import TorchBackend


def measure_kernels() -> list[list[str]]:
    """Rows of the table: name, milliseconds of each, the ratio of the first two, the command."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    levels = grid_levels(FieldConfig())
    warp, reference, workers = WarpBackend(levels, device), TorchBackend(levels, device), Workers.for_device(device)
    rows = []
    for name, ours, *others in _kernel_work(warp, reference, workers, device):
        with workers.open():
            (fast,) = _medians_ms([ours], 15, device)
        counts = {1, torch.get_num_threads()}
        slow, *rest = (min(found) for found in zip(*(_with_threads(count, others, device) for count in counts)))
        command = "`python -m scripts.benchmarks.benchmark --rows kernels`"
        peer = f"{rest[0]:.1f}" if rest else "not installed" if name.startswith("encode") else "-"
        rows.append([name, f"{fast:.1f}", f"{slow:.1f}", peer, f"{slow / fast:.1f}x", command])
    return rows


def _kernel_work(
    warp: WarpBackend, reference: TorchBackend, workers: Workers, device: torch.device
) -> Iterator[tuple[Any, ...]]:
    """What is measured: a name, the work on Warp, the same work on torch, and by nerfstudio where it has any."""
    random = torch.Generator(device).manual_seed(0)

    def rand(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=random, device=device)

    levels, n = warp.levels, 65_536
    x, table, grad = rand(n, 3), rand(levels.entries, levels.features) - 0.5, rand(n, levels.width) - 0.5
    grad_table = torch.zeros_like(table)
    pieces = list(zip(x.chunk(workers.pieces), grad.chunk(workers.pieces)))

    def encode_warp() -> None:
        workers.map(lambda piece: warp.encode(piece[0], table), pieces)
        warp.add_table_gradient(pieces, grad_table.zero_(), workers)

    def encode_torch() -> None:
        leaf = table.detach().requires_grad_()
        torch.autograd.grad(reference.encode(x, leaf), leaf, grad)

    size = f"{len(levels.levels)} levels x {levels.features} features, 2^{levels.log2_table} entries"
    peer = _nerfstudio_grid(levels, x, grad)
    yield f"encode, forward and backward: {n:,} samples, {size}", encode_warp, encode_torch, *peer

    # Rays from outside through a shell, which is what occupancy looks like around surfaces.
    rays, cells = 4096, 128
    axis = (torch.arange(cells, device=device) + 0.5) / cells * 2 - 1
    distance = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij")).square().sum(0).sqrt()
    shell = CellBits.pack(((distance - 0.6).abs() < 0.06)[None])
    origins = torch.nn.functional.normalize(rand(rays, 3) - 0.5, dim=-1) * 2.0
    directions = torch.nn.functional.normalize((rand(rays, 3) - 0.5) * 0.8 - origins, dim=-1)
    spans = torch.tensor([[0.5, 3.5]], device=device).repeat(rays, 1)
    jitter, capacity = rand(rays), 2**20
    inputs = [tensor.chunk(workers.pieces) for tensor in (origins, directions, spans, jitter)]
    options: dict[str, Any] = {"cells": shell, "smallest_step": 1 / cells, "cone": 0.0, "capacity": capacity}
    samples = warp.march(origins, directions, spans, jitter, **options)

    def march_warp() -> None:
        workers.map(lambda piece: warp.march(*piece, **options), zip(*inputs))

    def march_torch() -> None:
        reference.march(origins, directions, spans, jitter, **options)

    total = int(samples.offsets[-1])
    yield f"march: {rays:,} rays to {total:,} samples in 128^3 cells", march_warp, march_torch

    density, values = rand(len(samples.t)) * 20, rand(len(samples.t), 3)
    halves = [warp.march(*piece, **options) for piece in zip(*inputs)]
    sizes = [len(half.t) for half in halves]
    parts = list(zip(halves, density.split(sizes), values.split(sizes)))

    def composite(backend: Any, samples: Any, density: Any, values: Any) -> None:
        leaves = [density.detach().requires_grad_(), values.detach().requires_grad_()]
        _, rgb, opacity, t = backend.composite(*leaves, samples.t, samples.step, samples.offsets)
        torch.autograd.grad(rgb.sum() + opacity.sum() + t.sum(), leaves)

    yield (
        f"composite, forward and backward: {total:,} samples, 3 channels",
        lambda: workers.map(lambda part: composite(warp, *part), parts),
        lambda: composite(reference, samples, density, values),
    )


def _nerfstudio_grid(levels: GridLevels, x: torch.Tensor, grad: torch.Tensor) -> list[Callable[[], None]]:
    """The same encoding and gradient by nerfstudio's HashEncoding in torch; nothing where it is not installed.

    It hashes coarse levels too, and its table has as many entries on each level.
    """
    try:
        encodings: Any = import_module("nerfstudio.field_components.encodings")
    except ImportError:
        return []
    config = FieldConfig()
    grid = encodings.HashEncoding(
        len(levels.levels), config.base_resolution, config.max_resolution, levels.log2_table, levels.features,
        implementation="torch",
    ).to(x.device)  # fmt: skip

    def encode() -> None:
        torch.autograd.grad(grid(x), grid.hash_table, grad)

    return [encode]


def _with_threads(threads: int, works: Sequence[Callable[[], Any]], device: torch.device) -> list[float]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return _medians_ms(works, 5, device)
    finally:
        torch.set_num_threads(before)


def _medians_ms(works: Sequence[Callable[[], Any]], repeats: int, device: torch.device) -> list[float]:
    """Of each work; they take turns."""
    times: list[list[float]] = [[] for _ in works]
    for _ in range(repeats + 1):
        for work, spent in zip(works, times):
            start = time.perf_counter()
            work()
            if device.type == "cuda":
                torch.cuda.synchronize()
            spent.append(1e3 * (time.perf_counter() - start))
    return [statistics.median(spent[1:]) for spent in times]  # the first warms up
