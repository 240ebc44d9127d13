"""Fixtures that many tests share."""

import os
from pathlib import Path

import pytest


@pytest.fixture
def data_dir() -> Path:
    """The development captures; a test that needs them skips, with the reason, where they are absent."""
    folder = os.environ.get("OVSEG3D_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("needs the development captures: set OVSEG3D_DATA to their folder")
    return Path(folder)
