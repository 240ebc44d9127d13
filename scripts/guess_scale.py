"""How well the things in a scene tell its scale: of runs whose scale is known, as if it were not.

    python scripts/guess_scale.py outputs/playroom/latest outputs/rooms/*/run

A markdown table of what the capture states, what is guessed from names and sizes of things (see
ovseg3d/query/sizes.py), once with the run's own phrases and once with everyday words alone, and how far off it is.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

import tyro  # noqa: E402
from start import start  # noqa: E402

from ovseg3d.errors import ConfigError  # noqa: E402
from ovseg3d.query.engine import Asker  # noqa: E402
from ovseg3d.session import load  # noqa: E402


@dataclass(frozen=True)
class GuessScale:
    """Guess the scale of runs, and compare it with what their captures state."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Runs with meaning, of captures with a scale."""

    def main(self) -> None:
        """Print the table."""
        print("| scene | metres per unit | guessed, own phrases | guessed, everyday words |\n| --- | --- | --- | --- |")
        for path in self.runs:
            run = load(path)
            asker = Asker(run)
            stated = run.transform()[1]
            if stated is None:
                raise ConfigError("The capture states no scale to compare with", where=path, fix="another run")
            guesses = [_told(asker.guess_metres(names), stated) for names in (run.phrases, ())]
            print(f"| {run.scene_name} | {stated:g} | {guesses[0]} | {guesses[1]} |", flush=True)


def _told(guess: float | None, stated: float) -> str:
    return "not clear" if guess is None else f"{guess:.3g} ({guess / stated - 1:+.0%})"


if __name__ == "__main__":
    start(GuessScale)
