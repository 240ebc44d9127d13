"""The field's operators on Warp kernels; see `FieldBackend`."""

from collections.abc import Sequence
from functools import cached_property
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ovseg3d.engine import Workers
from ovseg3d.field.cell_bits import CellBits
from ovseg3d.field.kernels.runtime import array, launch, vectors
from ovseg3d.field.levels import GridLevels, Level
from ovseg3d.field.networks import perceptron
from ovseg3d.field.operators import AdamStep
from ovseg3d.field.samples import RaySamples, offsets_of, padded, used
from ovseg3d.start_warp import start_warp


class WarpBackend:
    """Operators of one grid on one device.

    Args:
        levels: geometry of the hash grid.
        device: `cpu` or a CUDA device.
    """

    name = "warp"
    perceptron = staticmethod(perceptron)
    """Runs the layers of `RadianceField`. Torch's matrix products are fast enough."""

    def __init__(self, levels: GridLevels, device: torch.device) -> None:
        start_warp()
        self.levels, self.device = levels, device
        # Compile now, in one thread: all kernels of a module are compiled at its first use.
        x, table = torch.zeros(1, 3, device=device), torch.zeros(levels.entries, levels.features, device=device)
        self.position_gradient(x, table, self.encode(x, table))
        empty = torch.zeros(1, device=device)
        one = torch.tensor([0, 1], dtype=torch.int32, device=device)
        self.distortion(empty, empty, empty, one[:1], one)

    # -- the hash grid ---------------------------------------------------------------------------------------

    @cached_property
    def _grid(self) -> SimpleNamespace:
        from ovseg3d.field.kernels.encode import encode_kernels

        return encode_kernels(self.levels.features)

    @cached_property
    def _grid_on_cpu(self) -> SimpleNamespace | None:
        """The loops for a CPU; None on a GPU, and for entries that fill no vector of the machine."""
        from ovseg3d.field.kernels.encode_cpu import WIDTHS, encode_cpu_kernels

        if padded(self.device) or self.levels.features not in WIDTHS:
            return None
        return encode_cpu_kernels(self.levels.features)

    @cached_property
    def _levels(self) -> Any:
        import warp as wp

        from ovseg3d.field.kernels.encode import LevelData

        def data(level: Level) -> Any:
            item = LevelData()
            item.scale, item.resolution, item.size = level.scale, level.resolution, level.size
            item.offset, item.dense = level.offset, int(level.dense)
            return item

        # By name, which also works for a torch device "cuda" without an index.
        device = "cpu" if self.device.type == "cpu" else wp.device_from_torch(str(self.device))
        return wp.array([data(level) for level in self.levels.levels], dtype=LevelData, device=device)

    def encode(
        self, x: Float[Tensor, "samples 3"], table: Float[Tensor, "entries features"]
    ) -> Float[Tensor, "samples dim"]:
        """See `FieldBackend.encode`."""
        return _Encode.apply(x, table, self)

    def encode_into(self, x: Tensor, table: Tensor, out: Tensor) -> None:
        """`encode` without gradients, written to `out` (samples, dim)."""
        features, count = self.levels.features, len(self.levels.levels)
        rows = vectors(out.view(len(x), count, features), features)
        given = [vectors(x, 3), vectors(table, features), self._levels]
        if self._grid_on_cpu is None:
            launch(self._grid.encode, (count, len(x)), [*given, rows], self.device)
        else:
            launch(self._grid_on_cpu.encode, count, [*given, 0, rows], self.device)

    def add_table_gradient(
        self,
        pieces: Sequence[tuple[Tensor, Tensor]],
        grad_table: Float[Tensor, "entries features"],
        workers: Workers | None = None,
    ) -> None:
        """See `FieldBackend.add_table_gradient`."""
        # Warp's atomic_add is a plain addition on a CPU, so each thread takes whole levels, whose tables are disjoint.
        features = self.levels.features
        total = vectors(grad_table, features)
        rows = [
            (vectors(x, 3), vectors(g.view(len(x), len(self.levels.levels), features), features), len(x))
            for x, g in pieces
        ]

        def add(first: int, count: int) -> None:
            for x, g, n in rows:
                if self._grid_on_cpu is None:
                    launch(self._grid.table_gradient, (count, n), [x, g, self._levels, first, total], self.device)
                else:
                    launch(self._grid_on_cpu.table_gradient, count, [x, total, self._levels, first, g], self.device)

        count = len(self.levels.levels)
        if workers is None or workers.threads == 1:
            add(0, count)
        else:
            workers.map(lambda level: add(level, 1), reversed(range(count)))

    def position_gradient(
        self,
        x: Float[Tensor, "samples 3"],
        table: Float[Tensor, "entries features"],
        grad: Float[Tensor, "samples dim"],
    ) -> Float[Tensor, "samples 3"]:
        """See `FieldBackend.position_gradient`."""
        features, out = self.levels.features, torch.empty_like(x)
        rows = vectors(grad.view(len(x), len(self.levels.levels), features), features)
        count = len(self.levels.levels)
        launch(
            self._grid.position_gradient,
            len(x),
            [vectors(x, 3), vectors(table, features), rows, self._levels, count, vectors(out, 3)],
            self.device,
        )
        return out

    def adam(
        self,
        table: Float[Tensor, "entries features"],
        grad: Float[Tensor, "entries features"],
        mean: Float[Tensor, "entries features"],
        square: Float[Tensor, "entries features"],
        by: AdamStep,
        workers: Workers | None = None,
    ) -> None:
        """See `FieldBackend.adam`."""
        features = self.levels.features
        arrays = [vectors(tensor, features) for tensor in (table, grad, mean, square)]
        rate, root = by.rate / (1 - by.beta1**by.step), (1 - by.beta2**by.step) ** -0.5
        scalars = [rate, by.beta1, by.beta2, root, by.epsilon]

        def update(offset: int, size: int) -> None:
            launch(self._grid.adam, size, [*arrays, offset, *scalars], self.device)

        if workers is None or workers.threads == 1:
            update(0, self.levels.entries)
        else:
            workers.map(lambda level: update(level.offset, level.size), self.levels.levels)

    # -- along rays ------------------------------------------------------------------------------------------

    @cached_property
    def ray_kernels(self) -> ModuleType:
        """The kernels along rays."""
        from ovseg3d.field.kernels import rays

        return rays

    def march(
        self,
        origins: Float[Tensor, "rays 3"],
        directions: Float[Tensor, "rays 3"],
        spans: Float[Tensor, "rays 2"],
        jitter: Float[Tensor, " rays"],
        cells: CellBits,
        smallest_step: float,
        cone: float,
        capacity: int | None,
    ) -> RaySamples:
        """See `FieldBackend.march`."""
        rays = [vectors(origins, 3), vectors(directions, 3), vectors(spans, 2), array(jitter)]
        grid = [array(cells.words.view(-1)), cells.resolution, len(cells.words), smallest_step, cone]
        ints, floats = self._empty

        def run(in_order: bool, counts: Tensor, starts: Tensor, offsets: Tensor, columns: Sequence[Tensor]) -> None:
            outputs = [array(tensor) for tensor in (counts, starts, offsets, *columns)]
            launch(self.ray_kernels.march, len(origins), [*rays, *grid, in_order, *outputs], self.device)

        def rows(n: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
            t, step = (torch.zeros(n, device=self.device) for _ in range(2))
            ray, cell = (torch.zeros(n, dtype=torch.int32, device=self.device) for _ in range(2))
            return t, step, ray, cell

        if capacity is not None and not padded(self.device):
            offsets = torch.zeros(len(origins) + 1, dtype=torch.int32)
            t, step, ray, cell = rows(capacity)
            run(True, ints, floats, offsets, (t, step, ray, cell))
            n = int(offsets[-1])
            return RaySamples(t[:n], step[:n], ray[:n], cell[:n], offsets)
        counts = torch.empty(len(origins), dtype=torch.int32, device=self.device)
        starts = torch.empty(len(origins), device=self.device)
        run(False, counts, starts, ints, [floats, floats, ints, ints])
        offsets = offsets_of(counts, capacity)
        t, step, ray, cell = rows(used(offsets, capacity))
        run(False, ints, starts, offsets, (t, step, ray, cell))
        return RaySamples(t, step, ray, cell, offsets)

    @cached_property
    def _empty(self) -> tuple[Tensor, Tensor]:
        """Stand for outputs that a kernel does not write: int32 and float32."""
        return torch.empty(0, dtype=torch.int32, device=self.device), torch.empty(0, device=self.device)

    def merge(
        self,
        density: Float[Tensor, " samples"],
        samples: RaySamples,
        draws: Float[Tensor, " samples"],
        least_transmittance: float,
        quota: float,
        capacity: int | None,
    ) -> tuple[Float[Tensor, " samples"], Int[Tensor, " merged"], Float[Tensor, " merged"], Int[Tensor, " offsets"]]:
        """See `FieldBackend.merge`."""
        rays = len(samples.offsets) - 1
        weight = torch.zeros_like(density)
        inputs = [array(density), array(samples.step), array(samples.offsets), array(draws), least_transmittance, quota]
        ints, floats = self._empty

        def run(in_order: bool, counts: Tensor, offsets: Tensor, index: Tensor, step: Tensor) -> None:
            outputs = [array(tensor) for tensor in (weight, counts, offsets, index, step)]
            launch(self.ray_kernels.merge, rays, [*inputs, in_order, *outputs], self.device)

        def rows(n: int) -> tuple[Tensor, Tensor]:
            return torch.zeros(n, dtype=torch.int32, device=self.device), torch.zeros(n, device=self.device)

        if not padded(self.device):
            offsets = torch.zeros(rays + 1, dtype=torch.int32)
            index, step = rows(len(density) if capacity is None else min(capacity, len(density)))
            run(True, ints, offsets, index, step)
            n = int(offsets[-1])
            return weight, index[:n], step[:n], offsets
        counts = torch.empty(rays, dtype=torch.int32, device=self.device)
        run(False, counts, ints, ints, floats)
        offsets = offsets_of(counts, capacity)
        index, step = rows(used(offsets, capacity))
        run(False, ints, offsets, index, step)
        return weight, index, step, offsets

    def scatter_max(
        self,
        cell: Int[Tensor, " samples"],
        weight: Float[Tensor, " samples"],
        value: Float[Tensor, "cascades cells cells cells"],
    ) -> None:
        """See `FieldBackend.scatter_max`."""
        launch(
            self.ray_kernels.scatter_max, len(cell), [array(cell), array(weight), array(value.view(-1))], self.device
        )

    def composite(
        self,
        density: Float[Tensor, " samples"],
        values: Float[Tensor, "samples dim"],
        t: Float[Tensor, " samples"],
        step: Float[Tensor, " samples"],
        offsets: Int[Tensor, " offsets"],
    ) -> tuple[Float[Tensor, " samples"], Float[Tensor, "rays dim"], Float[Tensor, " rays"], Float[Tensor, " rays"]]:
        """See `FieldBackend.composite`."""
        return _Composite.apply(density, values, t, step, offsets, self)

    def median(
        self,
        weight: Float[Tensor, " samples"],
        t: Float[Tensor, " samples"],
        step: Float[Tensor, " samples"],
        offsets: Int[Tensor, " offsets"],
    ) -> Float[Tensor, " rays"]:
        """See `FieldBackend.median`."""
        out = torch.empty(len(offsets) - 1, device=self.device)
        arrays = [array(tensor) for tensor in (weight, t, step, offsets, out)]
        launch(self.ray_kernels.median, len(out), arrays, self.device)
        return out

    def distortion(
        self,
        weight: Float[Tensor, " samples"],
        t: Float[Tensor, " samples"],
        step: Float[Tensor, " samples"],
        ray: Int[Tensor, " samples"],
        offsets: Int[Tensor, " offsets"],
    ) -> Float[Tensor, " rays"]:
        """See `FieldBackend.distortion`."""
        return _Distortion.apply(weight, t, step, ray, offsets, self)


class _Encode(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, table: Tensor, backend: WarpBackend) -> Tensor:
        ctx.backend = backend
        x, table = x.contiguous(), table.contiguous()
        ctx.save_for_backward(x, table)
        out = torch.empty(len(x), backend.levels.width, device=x.device)
        backend.encode_into(x, table, out)
        return out

    @staticmethod
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, grad: Tensor
    ) -> tuple[Tensor | None, Tensor | None, None]:
        x, table = ctx.saved_tensors
        grad, grad_x, grad_table = grad.contiguous(), None, None
        if ctx.needs_input_grad[0]:
            grad_x = ctx.backend.position_gradient(x, table, grad)
        if ctx.needs_input_grad[1]:
            grad_table = torch.zeros_like(table)
            ctx.backend.add_table_gradient([(x, grad)], grad_table)
        return grad_x, grad_table, None


class _Composite(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, density: Tensor, values: Tensor, t: Tensor, step: Tensor, offsets: Tensor, backend: WarpBackend
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        rays = len(offsets) - 1
        inputs = [tensor.contiguous() for tensor in (density, values, t, step)]
        # Rows after the last ray's are unused; their weight is zero.
        weight = torch.zeros_like(inputs[0])
        out = torch.empty(rays, values.shape[1], device=values.device)
        opacity, distance = torch.empty_like(out[:, 0]), torch.empty_like(out[:, 0])
        arrays = [array(tensor) for tensor in (*inputs, offsets, weight, out, opacity, distance)]
        launch(backend.ray_kernels.composite, rays, arrays, backend.device)
        ctx.save_for_backward(*inputs, offsets, weight)
        ctx.backend = backend
        return weight, out, opacity, distance

    @staticmethod
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, grad_weight: Tensor, grad_out: Tensor, grad_opacity: Tensor, grad_distance: Tensor
    ) -> tuple[Tensor | None, ...]:
        density, values, t, step, offsets, weight = ctx.saved_tensors
        grads = [torch.zeros_like(tensor) for tensor in (density, values, t, step)]
        given = [tensor.contiguous() for tensor in (grad_weight, grad_out, grad_opacity, grad_distance)]
        arrays = [array(tensor) for tensor in (density, values, t, step, offsets, weight, *given, *grads)]
        launch(ctx.backend.ray_kernels.composite_gradient, len(offsets) - 1, arrays, ctx.backend.device)
        return (*grads, None, None)


class _Distortion(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, weight: Tensor, t: Tensor, step: Tensor, ray: Tensor, offsets: Tensor, backend: WarpBackend
    ) -> Tensor:
        inputs = [tensor.contiguous() for tensor in (weight, t, step)]
        loss = torch.empty(len(offsets) - 1, device=weight.device)
        slope = torch.zeros_like(inputs[0])
        arrays = [array(tensor) for tensor in (*inputs, offsets, loss, slope)]
        launch(backend.ray_kernels.distortion, len(loss), arrays, backend.device)
        ctx.save_for_backward(slope, ray)
        return loss

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        slope, ray = ctx.saved_tensors
        return slope * grad[ray], None, None, None, None, None
