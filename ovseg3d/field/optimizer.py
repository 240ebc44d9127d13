"""Training of a hash grid: Adam for its table and for small tensors, and scaling of gradients."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ovseg3d.engine import Workers
from ovseg3d.field.operators import AdamStep, FieldBackend


@torch.no_grad()
def adam(parameter: Tensor, grad: Tensor, mean: Tensor, square: Tensor, by: AdamStep) -> None:
    """Adam (Kingma and Ba 2015, algorithm 1) in place, for dense gradients.

    Args:
        parameter: any shape, and so the next three.
        grad: its gradient.
        mean: first moment.
        square: second moment.
        by: learning rate and decay.
    """
    mean.lerp_(grad, 1 - by.beta1)
    square.mul_(by.beta2).addcmul_(grad, grad, value=1 - by.beta2)
    denominator = (square / (1 - by.beta2**by.step)).sqrt_().add_(by.epsilon)
    parameter.addcdiv_(mean, denominator, value=-by.rate / (1 - by.beta1**by.step))


@dataclass(frozen=True)
class Schedule:
    """Learning rates of a training: linear warm-up, and exponential decay."""

    rates: Mapping[str, float]
    """Rate of each tensor at the start."""
    decay: float
    """Rates at the end, as a share of those at the start."""
    warmup: int
    """Steps of the linear warm-up."""

    def at(self, name: str, step: int, progress: float) -> AdamStep:
        """Parameters of a step of the tensor `name`; `progress` from 0 to 1."""
        return AdamStep(self.rates[name] * (min(1.0, (step + 1) / self.warmup) * self.decay**progress), step + 1)


class GridOptimizer:
    """Trains a grid's table with its backend, and small tensors with torch.

    Args:
        backend: of the grid.
        workers: threads.
        table: of the grid.
        small: other tensors, by name.
        schedule: with a rate for `table` and each of `small`.
    """

    def __init__(
        self,
        backend: FieldBackend,
        workers: Workers,
        table: Float[Tensor, "entries features"],
        small: Mapping[str, Tensor],
        schedule: Schedule,
    ) -> None:
        self._backend, self._workers, self._schedule = backend, workers, schedule
        self._trained = {"table": table, **small}
        self._moments = {
            f"{name}.{moment}": torch.zeros_like(tensor)
            for name, tensor in self._trained.items()
            for moment in ("mean", "square")
        }
        self._grad_table = torch.zeros_like(table)

    def update(
        self,
        step: int,
        progress: float,
        encoded: Sequence[tuple[Float[Tensor, "_ 3"], Float[Tensor, "_ dim"]]],
        small: Mapping[str, Sequence[Tensor]],
    ) -> None:
        """One step of Adam; the gradients of the pieces of a step are added in order.

        Args:
            step: from 0.
            progress: completed share of the training.
            encoded: positions and the gradient of their encoding, for each piece.
            small: gradients of the small tensors, by name, for each piece. Tensors without an entry are not changed.
        """
        self._backend.add_table_gradient(encoded, self._grad_table, self._workers)
        table, by = self._trained["table"], self._schedule.at("table", step, progress)
        self._backend.adam(table, self._grad_table, *self._moments_of("table"), by, self._workers)
        for name, pieces in small.items():
            grad = torch.stack(list(pieces)).sum(0)
            adam(self._trained[name], grad, *self._moments_of(name), self._schedule.at(name, step, progress))

    def _moments_of(self, name: str) -> tuple[Tensor, Tensor]:
        return self._moments[f"{name}.mean"], self._moments[f"{name}.square"]

    def state(self) -> dict[str, Tensor]:
        """The trained tensors and their moments, not copied."""
        return {**self._trained, **self._moments}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Copy the values of `state`, which may hold more."""
        for name, tensor in self.state().items():
            tensor.copy_(state[name])


class _ScaleGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor) -> Tensor:
        ctx.save_for_backward(scale)
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return grad * ctx.saved_tensors[0], None


def scale_gradient(x: Tensor, scale: Tensor) -> Tensor:
    """x, with its gradient multiplied by `scale`.

    Space near a camera is sampled densely, by few views. Without scaled gradients floaters form there (Philip and
    Deschaintre 2023, "Floaters No More").
    """
    return _ScaleGradient.apply(x, scale)
