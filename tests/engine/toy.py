"""A stage with steps of microseconds: it pulls a vector towards random targets, with momentum."""

from collections.abc import Callable

import torch


class ToyStage:
    """All random numbers come from the step, so that equal steps give equal bits.

    Args:
        on_step: called with the step's number before it is done.
    """

    name = "toy"

    def __init__(self, on_step: Callable[[int], None] = lambda step: None) -> None:
        self.value, self.momentum = torch.zeros(5), torch.zeros(5)
        self.on_step = on_step
        self.seen: list[tuple[int, float]] = []
        """Step and progress of every call."""

    def step(self, step: int, progress: float) -> None:
        self.on_step(step)
        self.seen.append((step, progress))
        target = torch.randn(5, generator=torch.Generator().manual_seed(step))
        self.momentum.mul_(0.9).add_(target - self.value, alpha=0.1 * (1 - progress))
        self.value += self.momentum

    def measure(self) -> dict[str, float]:
        return {"norm": float(self.value.norm())}

    def state(self) -> dict[str, torch.Tensor]:
        return {"value": self.value, "momentum": self.momentum}

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        self.value.copy_(state["value"])
        self.momentum.copy_(state["momentum"])

    def facts(self) -> dict:
        return {"size": 5}
