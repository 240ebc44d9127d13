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


def test_no_public_name_of_the_pipeline_is_a_submodule() -> None:
    """Importing the submodule would replace what the name meant."""
    import ovseg3d.pipeline as pipeline

    assert not {module.name for module in pkgutil.iter_modules(pipeline.__path__)} & set(pipeline.__all__)
