"""Progress bars of commands that report a sentence and a fraction."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from ovseg3d.cli import progress
from ovseg3d.cli.progress import Progress, print_summary, sentence_bar, stage_bars
from ovseg3d.engine import Event
from ovseg3d.files import write_json
from ovseg3d.runs.config import Config
from ovseg3d.runs.folder import RunFolder


def test_sentences_become_a_line_at_each_change() -> None:
    out = io.StringIO()
    with sentence_bar(Console(file=out, width=60)) as report:
        for sentence, done in (("reading: a", 0.0), ("reading: b", 0.25), ("matching: a", 0.5)):
            report(sentence, done)
    assert out.getvalue() == "[  0 %] reading: a\n[ 50 %] matching: a\n"


def test_stages_become_a_line_each() -> None:
    out = io.StringIO()
    with stage_bars(Console(file=out, width=60)) as report:
        for stage, done in (("light", 0.0), ("light", 1.0), ("photos", 0.5), ("light", 1.0)):
            report(stage, done)
    assert out.getvalue() == "light...\nphotos...\n"


@pytest.mark.parametrize("bars", [sentence_bar, stage_bars])
def test_a_terminal_gets_a_bar(bars) -> None:
    out = io.StringIO()
    with bars(Console(file=out, width=80, force_terminal=True)) as report:
        report("matching [/a]", 0.5)
    assert "matching [/a]" in out.getvalue() and "━" in out.getvalue()


def test_what_is_counted_is_told_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "PLAIN_EVERY", 0.0)
    out = io.StringIO()
    with Progress(Console(file=out, width=80)) as report:
        report(Event("start", "instance_crops", 0, 1, message="encoding instance crops"))
        report(Event("progress", "instance_crops", 32, 64, 0.5))
        report(Event("progress", "surface", 1, 2, 0.5))
        report(Event("progress", "lift", 1, 2, 0.5))  # has no figures, and is short
    told = "instance crops:   0%  encoding instance crops\ninstance crops:  50%  32 of 64\nsurface:  50%  1 of 2\n"
    assert out.getvalue() == told


def test_set_up_tells_what_it_is_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "PLAIN_EVERY", 0.0)
    out = io.StringIO()
    with Progress(Console(file=out, width=80)) as report:
        report(Event("progress", "set-up", progress=0.5, message="matching: 100 of 490 pairs"))
        report(Event("progress", "set-up", progress=0.5))
    assert out.getvalue() == "set-up:  50%  matching: 100 of 490 pairs\n"


def test_the_summary_tells_both_kinds_of_figures_apart(tmp_path: Path) -> None:
    run = RunFolder(tmp_path, Config(), tmp_path / "room", "room", "")
    figures = {
        "steps": 10, "train_seconds": 1.0, "device": "cpu", "backend": "warp", "views": 3, "peak_anonymous_bytes": 1,
        "psnr": 21.5, "ssim": 0.71,
    }  # fmt: skip
    for aligned in ({}, {"psnr_aligned": 26.25, "ssim_aligned": 0.88}):
        write_json(tmp_path / "metrics.json", {**figures, **aligned})
        out = io.StringIO()
        print_summary(Console(file=out, width=120), run)
        given = "PSNR 21.50 dB, SSIM 0.710 at the given poses (3 views)"
        assert (given in out.getvalue()) == bool(aligned)
        assert ("PSNR 26.25 dB, SSIM 0.880 with pose and exposure aligned" in out.getvalue()) == bool(aligned)
