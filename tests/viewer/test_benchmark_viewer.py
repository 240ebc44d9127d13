"""The benchmark of the viewer, on a playroom without training."""

import numpy as np
import pytest

from ovseg3d.viewer.image_stream import COARSE_PIXELS
from ovseg3d.viewer.shared_scene import SharedScene
from scripts.benchmarks import benchmark_viewer as script


def test_a_row_holds_what_was_measured(shared: SharedScene, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process, since the playroom is known to no other."""
    monkeypatch.setattr(script, "WINDOW", (400, 300))
    monkeypatch.setattr(script, "TIMES", 1)
    monkeypatch.setattr(script, "ASKED", 3)
    row = script.measure(script.BenchmarkViewer(shared.run.folder, seconds=1.5, device="cpu"), 50_000)
    cells = dict(zip(script.COLUMNS, row, strict=True))
    assert cells["points"] == "50,000" and cells["its size"] == "400x300"
    width, height = map(int, cells["their size"].split("x"))
    assert COARSE_PIXELS <= width * height <= 400 * 300
    assert 0 < float(cells["images/s, moving"]) < 1.2 * script.UPDATES_PER_SECOND
    times = [float(cells[name].split()[0]) for name in script.COLUMNS if name.endswith(", s")]
    assert len(times) == 7 and all(0 <= seconds < script.PATIENCE for seconds in times)
    assert float(cells["resident, MiB"]) > 100


def test_more_points_lie_where_the_runs_own_lie(shared: SharedScene) -> None:
    own = shared.semantics
    script.multiply(shared, 100_000)
    many = shared.semantics
    assert len(many.surface) == len(many.vectors) == len(many.instance) == 100_000
    for instance in np.unique(own.instance):
        here, there = own.surface.xyz[own.instance == instance], many.surface.xyz[many.instance == instance]
        assert len(there) >= 2 * len(here)
        cell = float(own.surface.cell.max())
        assert (there.min(0) > here.min(0) - cell).all() and (there.max(0) < here.max(0) + cell).all()
