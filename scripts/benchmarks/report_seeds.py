"""The seeds of the rooms for reports, and the looks at each list: report_seeds.json.

Each report has its own list, which is opened once, for the figures that the report states. Its number is no version of
the package. A change between two looks may have been chosen by these rooms, so every look is recorded.
"""

import subprocess
from datetime import date
from pathlib import Path
from typing import Any

from ovseg3d.errors import ConfigError
from ovseg3d.files import read_json, write_json
from scripts import ROOT

LISTS = Path(__file__).with_suffix(".json")


def open_seeds(report: str, why: str, lists: Path = LISTS) -> tuple[int, ...]:
    """The seeds of a report's rooms; the look is recorded, unless it equals the last one.

    Args:
        report: its number, such as "0.5.0".
        why: the reason for the look.
        lists: the file with the lists.

    Raises:
        ConfigError: there is no list for this report, or no reason.
    """
    known = read_json(lists, ConfigError)
    if report not in known:
        fix = f"one of {', '.join(known)}, or add a list of fresh seeds to {lists.name}"
        raise ConfigError(f"There are no rooms for report {report}", where="--report", fix=fix)
    if not why.strip():
        raise ConfigError(
            "A look at rooms for reports needs a reason", where="--why", fix='--why "figures of report 0.5.0"'
        )
    look = {"date": date.today().isoformat(), "commit": _commit(), "why": why.strip()}
    looks: list[dict[str, Any]] = known[report]["looks"]
    if not looks or looks[-1] != look:
        looks.append(look)
        write_json(lists, known)
    return tuple(known[report]["seeds"])


def _commit() -> str:
    """Short hash of the checkout's commit, "-dirty" where other files than the lists differ; "unknown" without git."""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    try:
        differs = git("status", "--porcelain", "--untracked-files=no", "--", ".", f":!{LISTS.relative_to(ROOT)}")
        return git("rev-parse", "--short", "HEAD") + ("-dirty" if differs else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
