"""What a training step measures of itself, without waiting for the device."""

import math
import time
from collections import deque

import torch
from torch import Tensor


class LaggedCounts:
    """Numbers of samples of the last steps, on their way from the device.

    They are used `lag` steps later: by then a GPU has long computed them, and reading them does not make it wait.
    """

    def __init__(self, lag: int) -> None:
        self._lag = lag
        self._coming: deque[tuple[int, Tensor, torch.cuda.Event | None]] = deque()

    def put(self, rays: int, counts: Tensor) -> None:
        """Begin to fetch the counts of a step with so many rays."""
        arrived = None
        if counts.is_cuda:
            counts = torch.empty_like(counts, device="cpu", pin_memory=True).copy_(counts, non_blocking=True)
            arrived = torch.cuda.Event()
            arrived.record()
        self._coming.append((rays, counts, arrived))

    def take(self) -> tuple[int, list[int]] | None:
        """Rays and counts of the step `lag` steps ago; None in the first steps."""
        if len(self._coming) <= self._lag:
            return None
        rays, counts, arrived = self._coming.popleft()
        if arrived is not None:
            arrived.synchronize()
        return rays, counts.tolist()


class Measured:
    """Training error and speed since the last `take`; the error stays on the device until then."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._reset()

    def _reset(self) -> None:
        self._error, self._steps, self._rays = torch.zeros((), device=self._device), 0, 0
        self._since = time.monotonic()

    def add(self, error: Tensor | float, rays: int) -> None:
        self._error += error
        self._steps += 1
        self._rays += rays

    def take(self) -> dict[str, float]:
        steps, seconds = max(self._steps, 1), max(time.monotonic() - self._since, 1e-9)
        figures = {
            "psnr": -10.0 * math.log10(max(float(self._error) / steps, 1e-10)),
            "rays_per_second": self._rays / seconds,
            "steps_per_second": self._steps / seconds,
            "rays_per_step": self._rays / steps,
        }
        self._reset()
        return figures
