"""Trainings in several processes and with small memory: the same loss curve as one process with the whole batch.

    torchrun --nproc-per-node 4 -m scripts.training.train_dino --batch 64

Every process computes its rows of each batch (data parallelism); sizes of batches are those of all processes together.
Many losses compare all rows of a batch with each other. Outputs are therefore gathered, and every process computes the
loss of the whole batch. Collectives pass gradients on: that of a sum over processes is the sum of its gradients. The
mean over processes of a parameter's gradients is then its gradient of that loss, whether the parameter was used for
own rows or for all, so `World.average` is all that comes before the optimiser's step.

Random numbers of rows are drawn for the whole batch, and each process takes its own (`BatchRandom`). The first process
alone writes files and prints. All other state is the same in all processes, as they do the same with it.

To accumulate gradients, `World.in_parts` runs a network on a few rows at a time and keeps outputs only; the backward
pass computes each part again and adds up the gradients (Gao et al. 2021, "Scaling Deep Contrastive Learning Batch Size
under Memory Limited Setup"). Plain accumulation over small batches would compare the rows of each small batch only.
"""

import os
import sys
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ovseg3d.engine import Clock
from ovseg3d.errors import ConfigError

_PATIENCE = timedelta(hours=6)
"""How long a process waits for the others, for instance while the first one renders."""
T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """The processes of a training; by default one."""

    rank: int = 0
    """Number of this process, from 0."""
    size: int = 1
    """Number of processes."""
    accumulate: int = 1
    """Parts that a process computes its rows in, one after another."""
    device: str = "cpu"
    """Device of this process."""

    @property
    def first(self) -> bool:
        """Whether this process writes and prints."""
        return self.rank == 0

    def check_batch(self, **counts: int) -> None:
        """Batches that must have as many rows in every process. Raises ConfigError."""
        for name, count in counts.items():
            if count % self.size:
                raise ConfigError(
                    f"{count} rows cannot be shared evenly by {self.size} processes",
                    where=f"--{name}",
                    fix=f"give a multiple of {self.size}",
                )

    def own(self, count: int) -> slice:
        """The rows, of `count`, that this process computes; they differ by one at most in number."""
        return slice(self.rank * count // self.size, (self.rank + 1) * count // self.size)

    def random(self, generator: torch.Generator, count: int, times: int = 1) -> "BatchRandom":
        """Random numbers of a batch that has `count` rows, `times` times over."""
        own = self.own(count)
        if self.size == 1:
            return BatchRandom(generator, count * times, slice(None))
        return BatchRandom(generator, count * times, torch.arange(count * times).view(times, count)[:, own].flatten())

    def total(self, value: Tensor) -> Tensor:
        """The sum over processes, (...) to (...), with gradients."""
        return value if self.size == 1 else _Total.apply(value)  # type: ignore[return-value]

    def mean(self, value: Tensor) -> Tensor:
        """The mean over processes with equally many rows each, (...) to (...), with gradients."""
        return value if self.size == 1 else self.total(value) / self.size

    def largest(self, value: Tensor) -> Tensor:
        """The elementwise maximum over processes, without gradients."""
        if self.size == 1:
            return value
        value = value.detach().clone()
        dist.all_reduce(value, dist.ReduceOp.MAX)
        return value

    def gather(self, rows: Tensor, count: int) -> Tensor:
        """All rows of a batch, (own rows, ...) to (count, ...), with gradients."""
        if self.size == 1:
            return rows
        own, rest = self.own(count), rows.shape[1:]
        before, after = (rows.new_zeros(number, *rest) for number in (own.start, count - own.stop))
        return self.total(torch.cat([before, rows, after]))

    def gather_list(self, rows: Sequence[T]) -> list[T]:
        """The rows of all processes, in order."""
        if self.size == 1:
            return list(rows)
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, list(rows))
        return [row for part in found for row in part]

    def average(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace gradients by their means over processes; a parameter that no process used keeps none."""
        trained = [p for p in parameters if p.requires_grad]
        if self.size == 1 or not trained:
            return
        used = torch.tensor([float(p.grad is not None) for p in trained]).to(trained[0])
        flat = [torch.zeros_like(p) if p.grad is None else p.grad for p in trained]
        whole = torch.cat([used, *(gradient.flatten() for gradient in flat)])
        dist.all_reduce(whole)
        counts, gradients = whole[: len(used)].tolist(), whole[len(used) :] / self.size
        for p, count, part in zip(trained, counts, gradients.split([p.numel() for p in trained])):
            if count:
                p.grad = torch.zeros_like(p) if p.grad is None else p.grad
                p.grad.copy_(part.view_as(p))

    def in_parts(self, function: Callable[..., tuple[Tensor, ...]], *inputs: Tensor) -> tuple[Tensor, ...]:
        """The outputs of a function of rows, computed part by part if gradients are accumulated.

        Args:
            function: of tensors (rows, ...), gives tensors (rows, ...). No row's outputs depend on the other rows.
            inputs: (rows, ...) each.
        """
        parts = min(self.accumulate, len(inputs[0]))
        if parts <= 1:
            return function(*inputs)
        cut = zip(*(value.tensor_split(parts) for value in inputs))
        found = [checkpoint(function, *part, use_reentrant=False) for part in cut]
        return tuple(torch.cat(outputs) for outputs in zip(*found))  # type: ignore[arg-type]

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process; all of them wait for each other."""
        return self.agree(0.0, flag)[1]

    def agree(self, seconds: float, flag: bool) -> tuple[float, bool]:
        """The first process's seconds, and whether the flag is set in any process."""
        if self.size == 1:
            return seconds, flag
        said = torch.tensor([seconds if self.first else 0.0, float(flag)], dtype=torch.float64)
        dist.all_reduce(said)
        return float(said[0]), bool(said[1])

    @contextmanager
    def first_goes_ahead(self) -> Generator[None, None, None]:
        """The first process runs the body before the others do, which find what it has written."""
        if not self.first:
            self.any(False)
        yield
        if self.first:
            self.any(False)


ALONE = World()


class BatchRandom:
    """Random numbers of a batch's rows: drawn for all of them, whichever process computes them.

    Args:
        generator: their source; it advances alike in all processes.
        count: rows of the whole batch.
        own: the rows that are returned.
    """

    def __init__(self, generator: torch.Generator, count: int, own: slice | Tensor = slice(None)) -> None:
        self.generator, self.count, self.own = generator, count, own

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """(own rows, *shape), uniform."""
        return torch.empty(self.count, *shape).uniform_(low, high, generator=self.generator)[self.own]

    def unit(self, *shape: int) -> Tensor:
        """(own rows, *shape), uniform from 0 to 1."""
        return torch.rand(self.count, *shape, generator=self.generator)[self.own]

    def some_uniform(self, share: float, low: float, high: float) -> dict[int, float]:
        """Uniform numbers for a random `share` of the batch, by the place of the row among the own ones."""
        chosen = (torch.rand(self.count, generator=self.generator) < share).nonzero()[:, 0].tolist()
        drawn = {row: float(torch.empty(()).uniform_(low, high, generator=self.generator)) for row in chosen}
        own = torch.arange(self.count)[self.own].tolist()
        return {place: drawn[row] for place, row in enumerate(own) if row in drawn}


class BatchDropout(nn.Dropout):
    """Dropout whose mask is drawn for the whole batch, as `nn.Dropout` draws it; `count` and `rows` are set before."""

    def __init__(self, p: float) -> None:
        super().__init__(p)
        self.count, self.rows = 0, torch.zeros(0, dtype=torch.long)

    def forward(self, input: Tensor) -> Tensor:
        """(rows, ...) to (rows, ...)."""
        if not self.training:
            return input
        kept = input.new_empty(self.count, *self._mask(input)).bernoulli_(1 - self.p)
        return input * kept[self.rows].div_(1 - self.p)

    def _mask(self, input: Tensor) -> tuple[int, ...]:
        """The shape of a row's mask."""
        return tuple(input.shape[1:])


class BatchDropout2d(BatchDropout):
    """The same for `nn.Dropout2d`: a channel is dropped as a whole."""

    def _mask(self, input: Tensor) -> tuple[int, ...]:
        return (input.shape[1], 1, 1)


class SharedBatchNorm(nn.BatchNorm2d):
    """A batch norm with the statistics of all processes. PyTorch's SyncBatchNorm has no CPU version.

    Args:
        own: gives weights and buffers, which stay shared with it.
        world: processes with equally many rows each.
    """

    def __init__(self, own: nn.BatchNorm2d, world: World) -> None:
        super().__init__(own.num_features, own.eps, own.momentum, own.affine, own.track_running_stats)
        self._parameters, self._buffers, self.training, self.world = own._parameters, own._buffers, own.training, world

    def forward(self, input: Tensor) -> Tensor:
        """(rows, channels, h, w) to the same."""
        if not self.training:
            return super().forward(input)
        values = input.float()
        mean = self.world.mean(values.mean((0, 2, 3), keepdim=True))
        centred = values - mean
        variance = self.world.mean(centred.square().mean((0, 2, 3), keepdim=True))
        with torch.no_grad():
            count = self.world.size * input.numel() / input.shape[1]
            assert self.running_mean is not None and self.running_var is not None and self.momentum is not None
            assert self.num_batches_tracked is not None
            self.running_mean.lerp_(mean.flatten(), self.momentum)
            self.running_var.lerp_(variance.flatten() * (count / (count - 1)), self.momentum)
            self.num_batches_tracked.add_(1)
        scale = (variance + self.eps).rsqrt() * self.weight.view(1, -1, 1, 1)
        return (centred * scale + self.bias.view(1, -1, 1, 1)).to(input.dtype)


def share_batch_norms(network: nn.Module, world: World) -> None:
    """Let the batch norms of a network see all rows of a batch.

    Raises:
        ConfigError: gradients are to be accumulated, for which a norm would have to see rows that come later; or
            a norm does more, such as timm's with an activation inside.
    """
    norms = [(name, module) for name, module in network.named_modules() if isinstance(module, nn.BatchNorm2d)]
    if norms and world.accumulate > 1:
        raise ConfigError(
            "The image tower has batch norms, whose statistics are of the whole batch",
            where="--accumulate",
            fix="use more processes, or a tower with layer norms, such as --tower convnext_atto",
        )
    for name, module in norms if world.size > 1 else ():
        if type(module) is not nn.BatchNorm2d:
            raise ConfigError(
                f"Processes cannot share the statistics of a {type(module).__name__}",
                where=name,
                fix="use one process, or another tower",
            )
        network.set_submodule(name, SharedBatchNorm(module, world))


class SharedClock(Clock):
    """A clock that shows the first process's seconds at the last `agree`, in all processes."""

    def __init__(self, world: World, spent: float = 0.0) -> None:
        super().__init__(spent)
        self._world, self._agreed = world, spent

    @property
    def seconds(self) -> float:
        """Agreed seconds."""
        return self._agreed

    def agree(self, flag: bool) -> bool:
        """Set the time anew; returns whether the flag is set in any process."""
        self._agreed, found = self._world.agree(super().seconds, flag)
        return found


@contextmanager
def join(device: str = "cpu", accumulate: int = 1) -> Generator[World, None, None]:
    """The processes that `torchrun` started, or this one alone. The output of all but the first is discarded.

    Args:
        device: "cpu" (gloo) or "cuda" (NCCL, one device for each process).
        accumulate: see `World`.

    Raises:
        ConfigError: less than one part, or more processes than devices.
    """
    if accumulate < 1:
        raise ConfigError("A batch has at least one part", where="--accumulate", fix="give 1 or more")
    if not dist.is_torchelastic_launched():
        yield World(accumulate=accumulate, device=device)
        return
    local, backend = int(os.environ["LOCAL_RANK"]), "gloo"
    if device.startswith("cuda"):
        if local >= torch.cuda.device_count():
            raise ConfigError(
                f"There are {torch.cuda.device_count()} CUDA devices",
                where="torchrun --nproc-per-node",
                fix="start at most one process for each",
            )
        device, backend = f"cuda:{local}", "cpu:gloo,cuda:nccl"
        torch.cuda.set_device(local)
    dist.init_process_group(backend, timeout=_PATIENCE)
    world = World(dist.get_rank(), dist.get_world_size(), accumulate, device)
    with open(os.devnull, "w") as nowhere, redirect_stdout(sys.stdout if world.first else nowhere):
        yield world
    dist.destroy_process_group()


class _Total(torch.autograd.Function):
    """Sum over processes; the gradient is the sum of their gradients."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        value = value.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(value)
        return value

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _Total.apply(gradients[0])  # type: ignore[return-value]
