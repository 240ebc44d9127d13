"""Every backend provides the operators of `FieldBackend`, with the same signatures."""

import inspect

import pytest
import stand_ins
import torch

from ovseg3d.field.backends import BACKENDS, make_backend
from ovseg3d.field.levels import GridLevels
from ovseg3d.field.operators import FieldBackend

OPERATORS = [name for name, value in vars(FieldBackend).items() if inspect.isfunction(value) and name[0] != "_"]


@pytest.fixture(params=BACKENDS)
def made(request, monkeypatch):
    stand_ins.put_in_place(monkeypatch)
    return request.param, make_backend(request.param, GridLevels.build(2, 2, 8, 4, 8), torch.device("cpu"))


def test_every_backend_satisfies_the_protocol(made):
    name, backend = made
    assert isinstance(backend, FieldBackend)
    assert backend.name == name and backend.levels.width == 4 and backend.device.type == "cpu"


@pytest.mark.parametrize("operator", OPERATORS)
def test_every_operator_takes_the_same_arguments(made, operator):
    _, backend = made
    declared = list(inspect.signature(getattr(FieldBackend, operator)).parameters.values())[1:]
    given = inspect.signature(getattr(backend, operator)).parameters.values()
    assert [(one.name, one.kind, one.default) for one in given] == [(o.name, o.kind, o.default) for o in declared]
