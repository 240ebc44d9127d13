"""Tables of results that fit the terminal: cells keep to one line, and what is least needed is left out first."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

GAP = 2
"""Spaces after a column."""
UNLIMITED = 200
"""Characters of a line in a pipe or a file."""
NAME = 20
"""Characters that the first column, of names, may need before others are left out; longer names are cut."""


@dataclass(frozen=True)
class Column:
    """One column of a table."""

    heading: str
    cells: Sequence[str]
    justify: Literal["left", "right"] = "right"
    spare: int = 0
    """Where the terminal is narrow, columns with the largest number go first; 0: never."""

    @property
    def width(self) -> int:
        """Characters of its widest cell."""
        from rich.cells import cell_len

        return max(map(cell_len, (self.heading, *self.cells)))


def fitted(columns: Sequence[Column], width: int) -> list[Column]:
    """The columns that fit into `width` characters, of which the first needs no more than `NAME`."""
    kept, first = list(columns), min(columns[0].width, NAME)
    while first + GAP + sum(GAP + column.width for column in kept[1:]) > width:
        least = max(kept, key=lambda column: column.spare)
        if not least.spare:
            break
        kept.remove(least)
    return kept


def print_table(console: Any, columns: Sequence[Column]) -> None:
    """Print a table; where there is no terminal, such as in a pipe, no column is left out."""
    if not console.is_terminal:
        console.width = max(console.width, UNLIMITED)
    console.print(make_table(columns, console.width))


def make_table(columns: Sequence[Column], width: int) -> Any:
    """A table of rich for a terminal of `width` characters; columns that are left out are named below it."""
    from rich.table import Table
    from rich.text import Text

    kept = fitted(columns, width)
    missing = ", ".join(column.heading.partition(",")[0] for column in columns if column not in kept)
    caption = Text(f"The terminal is too narrow for: {missing}", style="dim") if missing else None
    table = Table(box=None, header_style="bold", padding=(0, GAP, 0, 0), caption=caption, caption_justify="left")
    room = max(1, width - sum(GAP + column.width for column in kept[1:]) - GAP)
    for number, column in enumerate(kept):
        table.add_column(
            column.heading, justify=column.justify, no_wrap=True, max_width=None if number else room,
            min_width=column.width if number else None,
        )  # fmt: skip
    for row in zip(*(column.cells for column in kept)):
        table.add_row(*(Text(cell) for cell in row))
    return table


def triples(between: str, values: Sequence[Sequence[float]]) -> list[str]:
    """Cells of three lengths each, such as "0.49 x 0.53 x 0.91", all with the same digits."""
    digits = decimals(length for triple in values for length in triple)
    return [between.join(f"{length:.{digits}f}" for length in triple) for triple in values]


def decimals(values: Iterable[float]) -> int:
    """Digits after the point that lengths of this size need: none for millimetres of furniture, two for metres."""
    largest = max(map(abs, values), default=0.0)
    return 0 if largest >= 100 else 2 if largest >= 0.1 else 4
