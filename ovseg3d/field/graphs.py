"""Replays work on a GPU as CUDA graphs.

A training step launches some 300 kernels, which takes the host longer than they take the device. A graph launches all
of them at once. Addresses and sizes in it are fixed, so there is one graph for each size of the inputs, and tensors
that the work reads from elsewhere must be changed in place.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

Result = TypeVar("Result")

KEPT_GRAPHS = 8
"""Graphs that are kept; each holds its own inputs and results."""


@dataclass(frozen=True)
class _Captured(Generic[Result]):
    graph: torch.cuda.CUDAGraph
    inputs: list[Tensor]
    result: Result


class CudaGraphs(Generic[Result]):
    """Graphs of the same kind of work, by key. The graphs share their memory: use a result before the next call.

    Args:
        device: a CUDA device.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._generator = torch.Generator(device)
        self._stream = torch.cuda.Stream(device)
        self._met: set[Hashable] = set()
        self._captured: dict[Hashable, _Captured[Result]] = {}
        self._off = False

    def run(
        self,
        key: Hashable,
        inputs: Sequence[Tensor],
        seed: int,
        work: Callable[[Sequence[Tensor], torch.Generator], Result],
    ) -> Result:
        """Do the work, from the second call with a key on as a graph.

        Args:
            key: of everything but the inputs' values and the seed that the work depends on.
            inputs: for `work`, in sizes that follow from the key.
            seed: of the random numbers.
            work: must neither wait for the device nor depend on the host but by `key`.
        """
        self._generator.manual_seed(seed)
        captured = self._captured.pop(key, None)
        # What is used first may be compiled or loaded, which cannot be captured.
        if captured is None and key in self._met:
            captured = self._captured_or_none(inputs, work)
        self._met.add(key)
        if captured is None:
            return work(inputs, self._generator)
        self._captured[key] = captured
        while len(self._captured) > KEPT_GRAPHS:
            del self._captured[next(iter(self._captured))]
        for fixed, given in zip(captured.inputs, inputs, strict=True):
            fixed.copy_(given)
        captured.graph.replay()
        return captured.result

    def _captured_or_none(
        self, inputs: Sequence[Tensor], work: Callable[[Sequence[Tensor], torch.Generator], Result]
    ) -> _Captured[Result] | None:
        """A new graph, or None where the memory is too small for graphs; then there are none from now on."""
        if self._off:
            return None
        if not self._captured:
            torch.cuda.empty_cache()  # a graph has memory of its own, and cannot use what earlier calls have left
        try:
            return self._capture(inputs, work)
        except torch.cuda.OutOfMemoryError:
            self._off = True
            self._captured.clear()
        torch.cuda.empty_cache()
        return None

    def _capture(
        self, inputs: Sequence[Tensor], work: Callable[[Sequence[Tensor], torch.Generator], Result]
    ) -> _Captured[Result]:
        others = list(self._captured.values())
        pool = others[-1].graph.pool() if others else None
        inputs = [tensor.clone() for tensor in inputs]
        graph, here = torch.cuda.CUDAGraph(), torch.cuda.current_stream(self._device)
        graph.register_generator_state(self._generator)
        self._stream.wait_stream(here)
        with torch.cuda.stream(self._stream):
            # Other threads may use the device meanwhile: photos are read in the background.
            graph.capture_begin(pool=pool, capture_error_mode="thread_local")
            try:
                result = work(inputs, self._generator)
            finally:
                graph.capture_end()
        here.wait_stream(self._stream)
        return _Captured(graph, inputs, result)
