"""The public face of each part: every declared name exists."""

import importlib
import pkgutil
from pathlib import Path

import pytest

import ovseg3d

PARTS = sorted(module.name for module in pkgutil.walk_packages(ovseg3d.__path__, "ovseg3d.") if module.ispkg)


@pytest.mark.parametrize("name", PARTS)
def test_every_public_name_is_there(name: str) -> None:
    part = importlib.import_module(name)
    for public in getattr(part, "__all__", ()):
        assert hasattr(part, public), f"{name}.{public}"


LAZY = [
    name for name in ["ovseg3d", *PARTS] if Path(importlib.import_module(name).__file__).with_suffix(".pyi").exists()
]


@pytest.mark.parametrize("name", LAZY)
def test_no_public_name_is_a_submodule(name: str) -> None:
    """Importing the submodule would replace what the name meant."""
    part = importlib.import_module(name)
    assert not {module.name for module in pkgutil.iter_modules(part.__path__)} & set(getattr(part, "__all__", ()))
