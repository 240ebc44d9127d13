"""The benchmark of encoders, with tiny random models."""

from pathlib import Path

import pytest
from tiny_models import add_architecture, clip_config, random_clip, save_clip_folder, save_dino

from scripts.benchmarks import benchmark_encoders as script


@pytest.fixture
def options(tmp_path: Path, tiny_scene: Path) -> script.BenchmarkEncoders:
    add_architecture(tmp_path, "tiny-timed", clip_config())
    clip = save_clip_folder(tmp_path / "clip", clip_config(), random_clip("tiny-timed"))
    dino = save_dino(tmp_path / "dino", "dino")
    return script.BenchmarkEncoders(tiny_scene, clip=str(clip), dino=str(dino), rows="stage", photos=2)


def test_the_stage_is_timed_from_an_empty_cache(
    options: script.BenchmarkEncoders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OVSEG3D_CACHE_DIR", str(tmp_path / "mine"))
    for _ in range(2):  # nothing of the first time is found the second time
        cells = dict(zip(script.COLUMNS, script.measure(options, "stage"), strict=True))
        assert cells["encoder"] == "open_clip:local-dir:clip + transformers:local-dir:dino" and cells["photos"] == "2"
        assert cells["encoder sees"].startswith("regions, CLIP side 96, DINO side 256; second start: ")
        again = float(cells["encoder sees"].split()[-2])
        assert again < float(cells["s per photo"]) * 2 and "of 2 timed" not in cells["all photos, s"]
    assert not (tmp_path / "mine").exists()


def test_a_row_ends_when_its_time_is_over(options: script.BenchmarkEncoders) -> None:
    from dataclasses import replace

    cells = script.measure(replace(options, max_seconds=1e-9), "stage")
    assert "second start: not measured" in cells[3] and "timed)" in cells[6]
