"""One table of figures over many runs: CSV, or Parquet where pyarrow is installed."""

import csv
import io
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ovseg3d.errors import ConfigError
from ovseg3d.files import plain, write_atomic

SUFFIXES = (".csv", ".parquet")


def check_table(path: Path) -> None:
    """Raises ConfigError: the format is unknown, or its package is missing."""
    if path.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"There is no kind of table {path.suffix!r}", where=path, fix="name it FILE.csv or .parquet")
    if path.suffix.lower() == ".parquet" and find_spec("pyarrow") is None:
        raise ConfigError("Parquet needs the package pyarrow", where=path, fix="pip install pyarrow, or name it .csv")


def row_of(figures: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The numbers and texts of nested figures, by dotted names such as "index.held-out.miou".

    Lists are left out, and so are figures of single instances, whose keys are numbers, and how a figure was averaged.
    """
    row: dict[str, Any] = {}
    for name, value in plain(dict(figures)).items():
        if isinstance(value, dict):
            row |= row_of(value, f"{prefix}{name}.")
        elif not isinstance(value, list) and not name.isdigit() and name != "aggregation":
            row[prefix + name] = value
    return row


def write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows, one per run; columns are all names in order of appearance, and missing values are empty.

    Raises:
        ConfigError: see `check_table`.
        OutputError: the file cannot be written.
    """
    check_table(path)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    if path.suffix.lower() == ".csv":
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_atomic(path, text.getvalue().encode(errors="backslashreplace"))
        return
    arrow: Any = import_module("pyarrow")
    table = arrow.table({name: _column([row.get(name) for row in rows]) for name in columns})
    parquet: Any = import_module("pyarrow.parquet")
    write_atomic(path, lambda temporary: parquet.write_table(table, temporary))


def _column(values: list[Any]) -> list[Any]:
    """Values of one type, which Parquet demands: mixed ones become texts."""
    kinds = {str if isinstance(value, str) else float for value in values if value is not None}
    return values if len(kinds) < 2 else [None if value is None else str(value) for value in values]
