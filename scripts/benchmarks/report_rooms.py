"""Train and measure the rooms for reports, one run each.

    python -m scripts.benchmarks.report_rooms --report 0.5.0 --why "figures of report 0.5.0"

Each is a room of `ovseg3d synth --seed N`, of playroom's size and number of views, trained with all defaults of
`ovseg3d train`. Each report has its own list of seeds, which is opened once (see report_seeds.py): every call of this
script is recorded as a look at its rooms. Never choose a setting by these rooms.

Results are kept in OUTPUT/rooms.json, so that an interrupted command can be continued; a room with other weights or
settings is measured again. An existing run is never trained again, even after changes of the code: remove OUTPUT then.
The table is also in OUTPUT/table.md. `python -m scripts.benchmarks.absence OUTPUT/*/run` plots the absence curve of all
rooms.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ovseg3d.cli.console import get_console
from ovseg3d.cli.progress import Progress
from ovseg3d.errors import RunError
from ovseg3d.evaluate.protocols import Evaluator
from ovseg3d.files import read_json, write_atomic, write_json
from ovseg3d.pipeline.train import train_scene
from ovseg3d.query.engine import QueryEngine
from ovseg3d.runs.devices import resolve_device
from ovseg3d.runs.folder import RunFolder, open_scene
from ovseg3d.runs.settings import (
    make_config,
    to_plain,
)
from ovseg3d.session import load
from ovseg3d.synth import synthesise
from scripts.benchmarks.report_seeds import open_seeds
from scripts.start import start

PROTOCOLS = ("index", "points", "consistency", "instances", "absence")
SHARES = {
    "mIoU": ("index", "held-out", "miou"),
    "seen styles": ("index", "held-out, seen styles", "miou"),
    "unseen styles": ("index", "held-out, unseen styles", "miou"),
    "accuracy": ("index", "held-out", "accuracy"),
    "points": ("points", "scene", "point_miou"),
    "agree": ("consistency", "held-out", "all_agree"),
    "recall 0.25": ("instances", "scene", "recall_25"),
    "precision 0.25": ("instances", "scene", "precision_25"),
    "recall 0.5": ("instances", "scene", "recall_50"),
    "precision 0.5": ("instances", "scene", "precision_50"),
    "false alarms": ("absence", "scene", "false_alarm_rate"),
}
"""Columns of the table: protocol, group, and name of the figure."""


@dataclass(frozen=True)
class Report:
    """Measure the rooms of a report, and print a markdown table."""

    report: str
    """The number of the report whose list of seeds is opened, such as 0.5.0. It is no version of the package."""
    why: str
    """The reason for the look; it is recorded beside the seeds."""
    output: Path = Path("outputs/rooms")
    """Where rooms, runs, figures and the table are kept."""

    def main(self) -> None:
        """Record the look, and measure what is missing."""
        seeds = open_seeds(self.report, self.why)
        kept = self.output / "rooms.json"
        found: dict[str, Any] = read_json(kept, RunError) if kept.exists() else {}
        for seed in seeds:
            run = self._run(seed)
            facts = json.loads(json.dumps({"config": to_plain(run.config), "encoder": _encoder(run)}))
            if found.get(str(seed), {}).get("of") != facts:
                found[str(seed)] = {"of": facts, **_figures(run)}
                write_json(kept, found)
            print(_line(f"room {seed}", found[str(seed)]), flush=True)
        rows = [found[str(seed)] for seed in seeds]
        mean = {name: _mean([row[name] for row in rows]) for name in (*SHARES, "seconds", "MiB")}
        head = ["room", *SHARES, "train, s", "MiB"]
        lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
        lines += [_line(f"room {seed}", row) for seed, row in zip(seeds, rows)] + [_line("mean", mean)]
        write_atomic(self.output / "table.md", "\n".join([*lines, ""]).encode())
        print("\n".join(["", *lines]))

    def _run(self, seed: int) -> RunFolder:
        """The room's run: existing, resumed, or trained."""
        place = self.output / str(seed)
        scene, folder = place / "room", place / "run"
        if not (scene / "transforms.json").exists():
            synthesise(scene, seed=seed)
        config = make_config(resolve_device("auto"))
        run = load(folder) if (folder / "config.json").exists() else None
        if run is not None and run.status()["status"] == "done":
            return run
        with Progress(get_console(True)) as progress:
            return train_scene(open_scene(scene, config), config, output_dir=folder, report=progress, resume=run)


def _encoder(run: RunFolder) -> str:
    return QueryEngine(run).semantics.encoder.weight_hash


def _figures(run: RunFolder) -> dict[str, Any]:
    scores = Evaluator(QueryEngine(run, run.load_scene())).scores(PROTOCOLS)
    metrics = run.metrics()
    figures = {
        name: float(getattr(scores[protocol][group], figure)) if group in scores[protocol] else None
        for name, (protocol, group, figure) in SHARES.items()
    }
    stages = ("train", "eval", "features", "surface", "lift", "refine", "instances", "instance_crops")
    seconds = sum(metrics[f"{stage}_seconds"] or 0.0 for stage in stages)
    return figures | {"seconds": seconds, "MiB": metrics["peak_anonymous_bytes"] / 2**20}


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None and np.isfinite(value)]
    return float(np.mean(known)) if known else None


def _line(name: str, row: dict[str, Any]) -> str:
    def cell(value: float | None, form: str) -> str:
        return "-" if value is None or value != value else format(value, form)

    shares = [cell(row[column], ".1%") for column in SHARES]
    return f"| {' | '.join([name, *shares, cell(row['seconds'], '.0f'), cell(row['MiB'], ',.0f')])} |"


if __name__ == "__main__":
    start(Report)
