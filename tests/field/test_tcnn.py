"""The plumbing of `--backend tcnn`, with a stand-in for tinycudann, which cannot even be imported without a GPU."""

import sys
import types

import pytest
import torch

from ovseg3d.errors import DeviceError
from ovseg3d.field.backends import make_backend
from ovseg3d.field.levels import GridLevels
from ovseg3d.field.reference import TorchBackend
from ovseg3d.field.reference.encode import encode

CPU = torch.device("cpu")
LEVELS = GridLevels.build(5, 2, 10, 4, 64)


class StandIn(torch.nn.Module):
    """A grid that is built from tinycudann's own words for its settings."""

    def __init__(self, inputs: int, config: dict, dtype: torch.dtype) -> None:
        super().__init__()
        assert (inputs, config["otype"], dtype) == (3, "HashGrid", torch.float32)
        finest = config["base_resolution"] * config["per_level_scale"] ** (config["n_levels"] - 1)
        self.levels = GridLevels.build(
            config["n_levels"],
            config["n_features_per_level"],
            config["log2_hashmap_size"],
            config["base_resolution"],
            round(finest),
        )
        self.params = torch.nn.Parameter(torch.zeros(self.levels.entries * self.levels.features))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return encode(x, self.params.view(-1, self.levels.features), self.levels)


def test_tcnn_agrees_with_the_reference(monkeypatch):
    monkeypatch.setitem(sys.modules, "tinycudann", types.SimpleNamespace(Encoding=StandIn))
    fast, reference = make_backend("tcnn", LEVELS, CPU), TorchBackend(LEVELS, CPU)
    x, table = torch.rand(40, 3) * 1.2 - 0.1, torch.randn(LEVELS.entries, LEVELS.features)
    grad = torch.randn(40, LEVELS.width)
    torch.testing.assert_close(fast.encode(x, table), reference.encode(x, table))
    torch.testing.assert_close(fast.position_gradient(x, table, grad), reference.position_gradient(x, table, grad))
    totals = [torch.zeros_like(table) for _ in range(2)]
    for backend, total in zip((fast, reference), totals):
        backend.add_table_gradient([(x, grad)], total)
    torch.testing.assert_close(*totals)


def test_absent_tinycudann_is_said_plainly(monkeypatch):
    monkeypatch.setitem(sys.modules, "tinycudann", None)
    with pytest.raises(DeviceError, match="tinycudann.*cannot be used here"):
        make_backend("tcnn", LEVELS, CPU)


def test_another_layout_is_refused(monkeypatch):
    class Other(StandIn):
        def __init__(self, *arguments, **keywords) -> None:
            super().__init__(*arguments, **keywords)
            self.params = torch.nn.Parameter(torch.zeros(7))

    monkeypatch.setitem(sys.modules, "tinycudann", types.SimpleNamespace(Encoding=Other))
    with pytest.raises(DeviceError, match="has 7 parameters"):
        make_backend("tcnn", LEVELS, CPU)
