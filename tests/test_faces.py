"""Every part's public face: what it says that it has, it has."""

import importlib
import pkgutil

import pytest

import ovseg3d

PARTS = sorted(module.name for module in pkgutil.walk_packages(ovseg3d.__path__, "ovseg3d.") if module.ispkg)


@pytest.mark.parametrize("name", PARTS)
def test_every_public_name_is_there(name: str) -> None:
    part = importlib.import_module(name)
    for public in getattr(part, "__all__", ()):
        assert hasattr(part, public), f"{name}.{public}"


@pytest.mark.parametrize("name", ["ovseg3d", *PARTS])
def test_no_public_name_is_a_submodule(name: str) -> None:
    """Importing the submodule would replace what the name meant."""
    part = importlib.import_module(name)
    assert not {module.name for module in pkgutil.iter_modules(part.__path__)} & set(getattr(part, "__all__", ()))
