"""Tables of results on wide and narrow terminals."""

import io
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from ovseg3d.cli.detect import _columns
from ovseg3d.cli.tables import Column, decimals, fitted, make_table, print_table
from ovseg3d.heads.detection import Candidate, Detection


def shown(table: Any, width: int) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width).print(table)
    return [line.rstrip() for line in out.getvalue().splitlines()]


def test_digits_follow_the_size() -> None:
    assert [decimals([value, 0.0]) for value in (0.02, -0.9, 12.0, -515.9)] == [4, 2, 2, 0]
    assert decimals([]) == 4


def test_what_is_least_needed_goes_first() -> None:
    columns = [Column("name", ["stool"], "left"), *(Column("x" * 8, ["1"], spare=spare) for spare in (0, 2, 1))]
    for width, kept in ((40, [0, 0, 2, 1]), (30, [0, 0, 1]), (20, [0, 0]), (3, [0, 0])):
        assert [column.spare for column in fitted(columns, width)] == kept


def test_a_long_name_is_cut_and_the_numbers_stay() -> None:
    columns = [Column("name", ["a very long name of a thing"], "left"), Column("size", ["1 x 2 x 3"])]
    lines = shown(make_table(columns, 26), 26)
    assert len(lines) == 2 and lines[1].startswith("a very long") and "…" in lines[1] and lines[1].endswith("1 x 2 x 3")
    assert shown(make_table([Column("name", ["[red]"], "left")], 40), 40)[1] == "[red]", "no markup"


def test_a_pipe_gets_every_column() -> None:
    columns = [Column("name", ["chair"]), *(Column(f"heading {k}", ["x" * 20], spare=k) for k in range(1, 6))]
    out = io.StringIO()
    print_table(Console(file=out, width=80), columns)
    assert "heading 5" in out.getvalue() and "too narrow" not in out.getvalue()


@pytest.mark.parametrize("unit", [1.0, 1000.0])
def test_detections_keep_to_one_line_each(unit: float) -> None:
    one = Detection(
        (-1.234 * unit, -2.5 * unit, 0.38 * unit), (0.5159 * unit, 0.52696 * unit, 0.91595 * unit),
        (1.0, 0.0, 0.0, 0.0), 0.0, 1, (0.7, -0.7, 0.0), 0.73, np.eye(24)[0], np.arange(4), np.ones(2),
        (Candidate("dining table", 1.0),),
    )  # fmt: skip
    found: Any = SimpleNamespace(detections=(one, one), unit="m" if unit == 1 else "units")
    eye = (0.0, 0.0, 1.4 * unit)
    size = "0.52 x 0.53 x 0.92" if unit == 1 else "516 x 527 x 916"
    for width in (60, 80, 200):
        lines = shown(make_table(_columns(found, eye), width), width)
        assert lines[1] == lines[2] and size in lines[1] and max(map(len, lines)) <= width
        assert any("centre" in line for line in lines[3:]) == (width < 100)
        assert ("-1.23, -2.50, 0.38" in lines[1] or "-1234, -2500, 380" in lines[1]) == (not lines[3:])
