"""Shapes that tests make: rods with a ball at their front."""

from pathlib import Path

import pytest
from shape_clouds import write_shapes

from scripts.benchmarks import pose_shapes
from scripts.benchmarks.pose_shapes import Shapes, shapes_at_hand


@pytest.fixture
def shapes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shapes:
    """Four categories, two of them known, with four shapes each, before plain green."""
    write_shapes(tmp_path)
    monkeypatch.setenv("OVSEG3D_DATA", str(tmp_path))
    monkeypatch.setattr(pose_shapes, "KNOWN_COUNT", 2)
    return shapes_at_hand()
