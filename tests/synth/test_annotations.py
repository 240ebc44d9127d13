"""Annotations name what exists. No other test notices, because annotations of this part are never evaluated."""

import importlib
import inspect
import pkgutil
import typing

import pytest

from ovseg3d import synth

KERNELS = ("kernels", "quick_kernels", "shading")
MODULES = [name for _, name, _ in pkgutil.iter_modules(synth.__path__) if name not in KERNELS]


@pytest.mark.parametrize("name", MODULES)
def test_annotations_can_be_evaluated(name: str) -> None:
    module = importlib.import_module(f"ovseg3d.synth.{name}")
    for value in vars(module).values():
        if (inspect.isclass(value) or inspect.isfunction(value)) and value.__module__ == module.__name__:
            typing.get_type_hints(value)
