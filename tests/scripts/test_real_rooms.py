"""The table of real captures, on a tiny one."""

from pathlib import Path

import pytest
from tiny import small_settings

from ovseg3d.errors import ConfigError
from scripts.benchmarks import real_rooms as script


def test_rows_are_trained_once_and_printed(
    tiny_scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    small = small_settings()["field"]
    rows = {name: {**flags, "field": {**small, **flags.get("field", {})}} for name, flags in script.ROWS.items()}
    monkeypatch.setattr(script, "ROWS", rows)
    options = script.RealRooms((tiny_scene,), output=tmp_path, rows="photos,none", steps=3)
    assert options.main() == 0
    table = capsys.readouterr().out.splitlines()
    assert len(table) == 4 and table[2].startswith("| tiny | photos |") and table[3].startswith("| tiny | none |")
    assert all(row.count("|") == table[0].count("|") for row in table)
    made = (tmp_path / "tiny-none-3-0" / "metrics.json").stat().st_mtime_ns
    assert options.main() == 0 and capsys.readouterr().out.splitlines() == table
    assert (tmp_path / "tiny-none-3-0" / "metrics.json").stat().st_mtime_ns == made


def test_cells_are_means_with_their_spread():
    measured = [{"psnr": 20.0, "depth_rel_median": 0.02}, {"psnr": 22.0, "depth_rel_median": 0.03}]
    assert script.cells(measured)[:3] == ["21.00 ±1.0", "2.5% ±0.5", "-"]


def test_an_unknown_row_is_an_error(tiny_scene: Path):
    with pytest.raises(ConfigError, match="no row"):
        script.RealRooms((tiny_scene,), rows="everything").main()
