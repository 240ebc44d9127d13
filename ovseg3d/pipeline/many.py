"""Train many scenes. The run folders and the ledger hold all state: see `batch`."""

import hashlib
import json
import threading
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ovseg3d.features.encode import from_anywhere
from ovseg3d.limits import NO_TRUST, Trust
from ovseg3d.pipeline.batch import Batch, TaskReport, Watch, do_tasks
from ovseg3d.pipeline.executors import Executor
from ovseg3d.pipeline.seeds import essence
from ovseg3d.pipeline.training import Training
from ovseg3d.runs.config import Config
from ovseg3d.runs.ledger import FILE, Ledger
from ovseg3d.runs.lists import read_scenes
from ovseg3d.runs.settings import config_of, to_plain


def train_scenes(
    scenes: Path | str | Iterable[Path | str],
    config: Config | Mapping[str, Any] | None = None,
    *,
    executor: Executor | None = None,
    output_dir: Path | str | None = None,
    report: Watch | None = None,
    stop: threading.Event | None = None,
    trust: Trust = NO_TRUST,
) -> tuple[TaskReport, ...]:
    """Train scenes that are not done yet, and keep runs.jsonl in the output folder.

    Args:
        scenes: scenes, folders of scenes, globs or list files; see `runs.lists`.
        config: settings of all scenes, as in `train_scene`; by default the preset of this machine.
        executor: where to train, such as `Processes(2)` or `OnRay()`; by default one after another in this process.
        output_dir: folder of the run folders, OUTPUT_DIR/<scene>, and of the ledger; by default each run is
            outputs/<scene>/<timestamp>, and the ledger is in outputs.
        report: receives a `Planned`, and then the messages of `pipeline.tasks`.
        stop: set it, from another thread or a signal handler, to end all scenes with a checkpoint.
        trust: the user's permissions for the captures and their runs.

    Returns:
        A report for each scene (its `folder` is the run), in the order of the list. A scene that fails is reported and
        does not stop others.

    Raises:
        ConfigError, DeviceError: the list or the settings cannot be used.
        RunError, OutputError: the ledger cannot be read or written.
    """
    listed = read_scenes(scenes)
    config = config_of(config)
    config = replace(config, encode=from_anywhere(config.encode))
    folder = None if output_dir is None else Path(output_dir).absolute()
    settings = _hash(config)
    batch = Batch(
        listed,
        Training(config, trust),
        settings=lambda _: settings,
        ledger=Ledger((folder or Path("outputs").absolute()) / FILE),
        folder=folder,
        proof="config.json",
    )
    return do_tasks(batch, executor, report, stop)


def _hash(config: Config) -> str:
    """A short hash of the settings that affect a run."""
    values = {**to_plain(essence(config)), "only": config.only}
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]
