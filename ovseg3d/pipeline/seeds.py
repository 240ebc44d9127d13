"""Runs of one scene with several seeds, and statistics of their figures.

An existing run of the same capture, settings and seed is used again. An interrupted run is continued, and a missing
field or missing semantics are trained. So nothing is trained twice, and the evaluation can be interrupted at any time.
"""

import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ovseg3d.engine import Report, latest_checkpoint
from ovseg3d.errors import ConfigError, RunError
from ovseg3d.features.encode import from_anywhere
from ovseg3d.pipeline.train import train_scene
from ovseg3d.points.semantic_scene import FILE
from ovseg3d.runs.config import Config
from ovseg3d.runs.folder import RunFolder, is_scene, open_run, open_scene
from ovseg3d.runs.places import scene_folder
from ovseg3d.runs.settings import make_config, to_plain
from ovseg3d.scene import Scene

AGGREGATION = "One run for each seed, measured by itself; then the mean and the sample standard deviation over seeds."


def scene_and_settings(path: Path, config_file: Path | None = None) -> tuple[Scene, Config]:
    """The capture of `path`, and settings to train it with.

    Args:
        path: a scene or a run.
        config_file: settings; by default those of the run or of the scene's newest run, else the defaults.

    Raises:
        SceneError, ConfigError: the capture or the settings cannot be read.
    """
    default = make_config(config_file=config_file)
    try:
        run = open_run(path)
    except RunError:
        return open_scene(path, default), default
    return run.load_scene(), run.config if config_file is None else default


def run_of_seed(
    scene: Scene, config: Config, seed: int, semantics: bool, report: Report, stop: threading.Event
) -> RunFolder:
    """A finished run with `seed`: an existing one, continued if needed, or a new one.

    Args:
        scene: the capture.
        config: settings; the seed and the stages are replaced.
        seed: seed of the run.
        semantics: whether the run needs semantics.
        report: receives the events of training.
        stop: set it to end after the current step.

    Raises:
        KeyboardInterrupt: after `stop`. Also the errors of `train_scene`.
    """
    only = "field,semantics" if semantics else "field"
    wanted = replace(config, train=replace(config.train, seed=seed), only=only)
    run = _found(scene, wanted)
    if run is None:
        run = train_scene(scene, wanted, report=report, stop=stop)
    elif not _has_field(run):
        run = train_scene(scene, wanted, report=report, stop=stop, resume=run)
    if semantics and not stop.is_set() and not (run.folder / FILE).exists():
        run = train_scene(scene, replace(wanted, only="semantics"), report=report, stop=stop, resume=run)
    if stop.is_set():
        raise KeyboardInterrupt
    return run


def _found(scene: Scene, wanted: Config) -> RunFolder | None:
    """The run with this capture and these settings that is most complete; of several, the newest."""
    alike = []
    for file in sorted(scene_folder(scene.path, scene.name).glob("*/config.json")):
        try:
            run = open_run(file)
            if is_scene(scene, run.scene_hash) and not differences(run.config, wanted):
                started = latest_checkpoint(run.checkpoints) is not None
                has_semantics = "semantics" not in wanted.stages or (run.folder / FILE).exists()
                alike.append(((_has_field(run), started, has_semantics, run.folder.name), run))
        except RunError:
            continue  # of another version or incomplete
    return max(alike, key=lambda one: one[0])[1] if alike else None


def _has_field(run: RunFolder) -> bool:
    """Whether the run has a fully trained field; a run of features alone can be done without one."""
    trained = "steps" in run.metrics() and latest_checkpoint(run.checkpoints) is not None
    return trained and run.status()["status"] == "done"


def check_alike(run: RunFolder, scene: Scene, wanted: Config) -> None:
    """Raises ConfigError: an existing run is of another capture or has other settings than `wanted`."""
    fix = "use another --output, or remove that folder"
    if not is_scene(scene, run.scene_hash):
        raise ConfigError(f"The existing run is of another scene than {scene.path}", where=run.folder, fix=fix)
    if found := differences(run.config, wanted):
        raise ConfigError(f"The existing run has other settings: {', '.join(found)}", where=run.folder, fix=fix)


def differences(first: Config, second: Config) -> tuple[str, ...]:
    """The settings that differ between two runs, such as "train.steps", in order.

    Settings without effect on the result, such as the checkpoint interval, are ignored.
    """
    one, other = (to_plain(essence(config)) for config in (first, second))
    found = []
    for name, value in one.items():
        if isinstance(value, dict):
            found += [f"{name}.{key}" for key in value if value[key] != other[name][key]]
        elif value != other[name]:
            found.append(name)
    return tuple(found)


def essence(config: Config) -> Config:
    """The settings with neutral values where they have no effect on the result."""
    train = replace(config.train, checkpoint_seconds=1.0, tensorboard=False)
    return replace(config, train=train, encode=replace(from_anywhere(config.encode), cache_dir=None), only=None)


def over_seeds(results: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    """Mean and standard deviation of every figure over seeds.

    Args:
        results: figures by seed, in nested dictionaries; values other than floats are ignored.

    Returns:
        `aggregation`, `seeds`, and by figure ("index.held-out.miou") `mean`, `std` (None of one seed) and `values`.
    """
    flat = {seed: dict(_flat(figures)) for seed, figures in results.items()}
    figures = {}
    for name in dict.fromkeys(name for one in flat.values() for name in one):
        values = [one.get(name) for one in flat.values()]
        known = np.array([value for value in values if value is not None], dtype=np.float64)
        if len(known):
            spread = float(known.std(ddof=1)) if len(known) > 1 else None
            figures[name] = {"mean": float(known.mean()), "std": spread, "values": values}
    return {"aggregation": AGGREGATION, "seeds": list(results), "figures": figures}


def _flat(figures: Mapping[str, Any], prefix: str = "") -> list[tuple[str, float | None]]:
    rows = []
    for name, value in figures.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{prefix}{name}.")
        elif isinstance(value, float):
            rows.append((f"{prefix}{name}", value if np.isfinite(value) else None))
    return rows
