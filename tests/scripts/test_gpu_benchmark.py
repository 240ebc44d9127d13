"""The table about a GPU: every row runs on the CPU, and mistakes and lack of time are said."""

from pathlib import Path

import pytest
import torch

from ovseg3d.errors import ConfigError
from ovseg3d.scene import load_scene
from scripts.benchmarks.gpu import Gpu, with_fewer_photos


def rows(text: str) -> dict[str, list[str]]:
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    return {first: rest for first, *rest in cells[2:]}


def test_every_row_of_a_tiny_capture(tiny_scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "table.md"
    assert Gpu(tiny_scene, device="cpu", tiny=True, questions=2, output=table).main() == 0
    printed = rows(capsys.readouterr().out)
    assert printed == rows(table.read_text()) and len(printed) == 9
    peer = printed.pop("20 steps, peer: tinycudann and nerfacc")
    assert "needs a CUDA device" in peer[2]
    outcomes = {name: outcome for name, (_, _, outcome) in printed.items()}
    assert not [text for text in outcomes.values() if "not measured" in text or "failed" in text]
    assert "8 photos" in outcomes["photos' features, built-in encoders"] and "120 steps" in outcomes["field"]
    assert float(outcomes["held-out views"].split()[1]) > 12 and "surface points" in outcomes["semantics"]
    assert "ms" in outcomes["median of 2 queries"] and "ms" in outcomes["image of 96x72"]


def test_some_of_the_photos(tiny_scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = load_scene(tiny_scene)
    scene = load_scene(with_fewer_photos(tiny_scene, tmp_path / "some", 5))
    assert [frame.name for frame in scene.frames] == [whole.frames[number].name for number in (0, 1, 3, 4, 6)]
    with pytest.raises(ConfigError, match="8 photos"):
        Gpu(tiny_scene, device="cpu", tiny=True, photos=9).main()
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="transforms.json"):
        Gpu(tmp_path / "empty", device="cpu", tiny=True, photos=4).main()
    capsys.readouterr()
    assert Gpu(tiny_scene, device="cpu", tiny=True, photos=5, seconds=1e-3).main() == 0
    assert len(rows(capsys.readouterr().out)) == 9


def test_what_is_left_when_the_time_is_over(tiny_scene: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert Gpu(tiny_scene, device="cpu", tiny=True, seconds=1e-3).main() == 0
    assert {outcome for *_, outcome in rows(capsys.readouterr().out).values()} <= {
        "not measured: out of time", "ended: out of time",
    }  # fmt: skip


def test_a_row_that_fails_leaves_the_others(
    tiny_scene: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr("scripts.benchmarks.gpu.train_scene", broken)
    assert Gpu(tiny_scene, device="cpu", tiny=True).main() == 1
    printed = rows(capsys.readouterr().out)
    assert "failed: ZeroDivisionError: ours" in printed["field"] and "steps/s" in printed["20 steps, warp"][2]


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_machine_without_a_gpu(tiny_scene: Path) -> None:
    with pytest.raises(ConfigError, match="no GPU") as error:
        Gpu(tiny_scene).main()
    assert "--device cpu --tiny" in str(error.value.fix)
    with pytest.raises(ConfigError, match="no --device 'tpu'"):
        Gpu(tiny_scene, device="tpu").main()


@pytest.mark.gpu
def test_the_whole_table_on_a_gpu(tiny_scene: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert Gpu(tiny_scene, tiny=True, questions=2).main() == 0
    assert all("GiB" in memory for _, memory, text in rows(capsys.readouterr().out).values() if text[:3] != "not")
