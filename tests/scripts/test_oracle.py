"""Encoders with known errors: their margins and their confusions."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from colours import with_label_images
from exact import Exact

from ovseg3d.runs.folder import RunFolder
from ovseg3d.scene import load_scene
from scripts.benchmarks import oracle as script


@pytest.mark.parametrize(("name", "margin"), [("A", 0.5**0.5), ("B", 0.05)])
def test_the_right_class_beats_the_average_wrong_one_by_what_is_said(name: str, margin: float) -> None:
    """On patches that show one class alone."""
    classes, made = 30, script.Oracle(Path(), oracle=name)
    for seed in range(3):
        text, random = made._texts(classes, seed), np.random.default_rng(seed)
        true = np.arange(40 * 30).reshape(40, 30) % classes
        common = script._unit(random.normal(size=script.DIM))
        cosines = made._said(np.eye(classes)[true], text, common, random, clean=False) @ text.T
        right = np.take_along_axis(cosines, true[..., None], 2)[..., 0]
        wrong = (cosines.sum(2) - right) / (classes - 1)
        assert (right - wrong).mean() == pytest.approx(margin, rel=0.1)


def test_a_class_is_taken_for_one_of_the_others() -> None:
    classes = np.repeat(np.arange(1, 6), 200)
    other = script._another(np.random.default_rng(0), classes, 5)
    assert (other != classes).all()
    for number in range(1, 6):
        assert set(other[classes == number]) == set(range(1, 6)) - {number}


def test_what_it_goes_by_is_named() -> None:
    """Every number at the head of the script is printed, for one oracle or the other."""
    numbers = {name for name, value in vars(script).items() if name.isupper() and isinstance(value, int | float)}
    assert numbers == set(script.FIXED).union(*script.OF_ORACLE.values())


@pytest.mark.parametrize("name", ["A", "B"])
def test_the_table_of_an_oracle(
    run: RunFolder, tiny_scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], name: str,
) -> None:  # fmt: skip
    """Without mistakes most is right; with them the lift knows more than the oracle's own word on a photo."""
    folder = with_label_images(Path(shutil.copytree(tiny_scene, tmp_path / "tiny")))
    monkeypatch.setattr(RunFolder, "load_scene", lambda self: load_scene(folder))
    monkeypatch.setattr(script, "restore", Exact)
    monkeypatch.setattr(script, "PATCH", 2)  # photos are of 32 pixels
    monkeypatch.setattr(script, "REGION", 12)
    script.Oracle(run.folder, oracle=name).main()
    printed = capsys.readouterr().out
    rows = {one.split("|")[2].strip(): one.split("|")[3:] for one in printed.splitlines() if one.startswith("| 0 ")}
    assert list(rows) == ["2D", "lift", "lift, smoothed", "ceiling"]
    assert "WRONG 0.2" in printed and ("MARGIN_B 0.05" in printed) == (name == "B")
    miou = {what: float(cells[0].strip(" %")) for what, cells in rows.items()}
    assert miou["ceiling"] > 70 and miou["ceiling"] > miou["lift, smoothed"] > miou["2D"]
