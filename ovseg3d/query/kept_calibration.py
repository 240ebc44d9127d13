"""Calibrations that a run keeps, in calibration.json, and the labels that they were fitted to.

Labels come as CSV or JSON, with `phrase` and `present` (yes or no), and for a place in a photo `image`, `x` and `y`:

    phrase,present,image,x,y                  [{"phrase": "mug", "present": true},
    mug,yes,,,                                 {"phrase": "a red chair", "present": false,
    a red chair,no,images/000012.jpg,310,95      "image": "images/000012.jpg", "x": 310, "y": 95}]

x and y are in pixels of the photo's file, from its top left corner. A calibration belongs to an encoder, by the hash of
its weights, and to answers with or without priors of rooms; a run may keep several.
"""

import csv
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from ovseg3d.errors import ConfigError, Ovseg3dError, RunError
from ovseg3d.files import output_error, read_json, write_json
from ovseg3d.limits import read_text
from ovseg3d.query.calibration import MIN_SLOPE, SCORES, Calibration
from ovseg3d.runs.phrases import check_text

FILE = "calibration.json"
MAX_LABELS = 100_000
_ANSWERS = {"yes": True, "y": True, "true": True, "1": True, "no": False, "n": False, "false": False, "0": False}


@dataclass(frozen=True)
class Label:
    """Whether the scene, or one place in a photo, shows a phrase."""

    phrase: str
    present: bool
    image: str | None = None
    """Name of a photo; None: the whole scene."""
    x: float | None = None
    y: float | None = None
    """In pixels of the photo's file."""

    def __post_init__(self) -> None:
        phrase, present = cast(Any, self.phrase), cast(Any, self.present)  # users may give anything
        if not isinstance(phrase, str) or not phrase.strip():
            raise ConfigError(f"A label has no phrase: {phrase!r}", fix='such as ("chair", True)')
        if not isinstance(present, bool | np.bool_):
            raise ConfigError(
                f'Whether "{phrase}" is present is neither True nor False: {present!r}', fix='such as ("chair", True)'
            )

    @property
    def place(self) -> tuple[str, str | None, float | None, float | None]:
        """What was asked; a later answer to the same replaces an earlier one."""
        return self.phrase, self.image, self.x, self.y


@dataclass(frozen=True)
class KeptCalibration:
    """A calibration of a run, with its labels."""

    calibration: Calibration
    labels: tuple[Label, ...]


def read_labels(path: Path) -> tuple[Label, ...]:
    """Read labels from a CSV or JSON file (by its suffix).

    Raises:
        ConfigError: the file cannot be read, has no labels, or a label is damaged; the message names its number.
    """
    text = read_text(path, ConfigError, "file of labels")
    try:
        rows = json.loads(text) if path.suffix.casefold() == ".json" else list(csv.DictReader(text.splitlines()))
    except (ValueError, RecursionError, csv.Error) as error:
        raise ConfigError(f"The labels cannot be read: {error}", where=path, fix="write them as CSV or JSON") from error
    if not isinstance(rows, list) or not 0 < len(rows) <= MAX_LABELS:
        raise ConfigError("The file has no list of labels", where=path, fix="a header phrase,present, and a line each")
    return tuple(_label(row, f"{path}, label {number}", ConfigError) for number, row in enumerate(rows, start=1))


def load_calibration(folder: Path, weight_hash: str, rooms: bool) -> KeptCalibration | None:
    """The calibration that a run keeps.

    Args:
        folder: of the run.
        weight_hash: of its encoder.
        rooms: whether priors of rooms count.

    Raises:
        RunError: the file is damaged.
    """
    for row in _rows(folder):
        if _key(row) == (weight_hash, rooms, SCORES):
            where = folder / FILE
            try:
                found = Calibration(float(row["slope"]), float(row["offset"]))
                if not (np.isfinite([found.slope, found.offset]).all() and found.slope >= MIN_SLOPE):
                    raise ValueError("no calibration")
                labels = tuple(_label(one, where, RunError) for one in row["labels"])
            except (KeyError, TypeError, ValueError) as error:
                raise _damaged(folder) from error
            return KeptCalibration(found, labels)
    return None


def save_calibration(folder: Path, weight_hash: str, rooms: bool, kept: KeptCalibration, alone: bool = False) -> Path:
    """Keep a calibration in a run; returns its file.

    Args:
        folder: of the run.
        weight_hash: of its encoder.
        rooms: whether priors of rooms count.
        kept: takes the place of an earlier one for the same encoder and priors.
        alone: in place of all others, too.

    Raises:
        OutputError: the run cannot be written to.
        RunError: the file is damaged, unless `alone`.
    """
    row = {
        "encoder": weight_hash, "rooms": rooms, "of": SCORES, **asdict(kept.calibration),
        "labels": [asdict(label) for label in kept.labels],
    }  # fmt: skip
    others = [] if alone else [one for one in _rows(folder) if _key(one) != _key(row)]
    write_json(folder / FILE, {"calibrations": [*others, row]})
    return folder / FILE


def remove_calibrations(folder: Path) -> bool:
    """Remove all calibrations of a run, also damaged ones; whether there was a file. Raises OutputError."""
    try:
        os.unlink(folder / FILE)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise output_error(error, folder / FILE) from error
    return True


def joined(earlier: Sequence[Label], later: Sequence[Label]) -> tuple[Label, ...]:
    """Labels of two times; the last answer to a question counts."""
    return tuple({label.place: label for label in (*earlier, *later)}.values())


def _rows(folder: Path) -> list[Mapping[str, Any]]:
    if not os.path.lexists(folder / FILE):
        return []
    rows = read_json(folder / FILE, RunError).get("calibrations")
    if not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
        raise _damaged(folder)
    return rows


def _key(row: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    return row.get("encoder"), row.get("rooms"), row.get("of")


def _damaged(folder: Path) -> RunError:
    return RunError(
        "The run's calibration cannot be read", where=folder / FILE, fix=f"ovseg3d calibrate {folder} --reset"
    )


def _label(row: Any, where: Path | str, error: type[Ovseg3dError]) -> Label:
    """A label from a file. Raises `error`."""
    row = row if isinstance(row, Mapping) else {}
    phrase, image = row.get("phrase"), row.get("image") or None
    present = _ANSWERS.get(str(row.get("present")).strip().casefold())
    try:
        if not isinstance(phrase, str) or not phrase.strip():
            raise ValueError("it has no phrase")
        check_text(phrase)
        if present is None:
            raise ValueError("present is neither yes nor no")
        if image is None:
            return Label(phrase.strip(), present)
        if not isinstance(image, str):
            raise ValueError("its image is no name")
        x, y = (float(row.get(name) or "nan") if row.get(name) != 0 else 0.0 for name in ("x", "y"))
        if not (np.isfinite([x, y]).all() and min(x, y) >= 0):
            raise ValueError("x and y have to be pixels of the image")
    except (ValueError, TypeError, ConfigError) as cause:
        said = cause.what if isinstance(cause, ConfigError) else cause
        raise error(f"A label cannot be used: {said}", where=where, fix="phrase,present,image,x,y") from cause
    return Label(phrase.strip(), present, image, x, y)
