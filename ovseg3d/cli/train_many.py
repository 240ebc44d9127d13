"""`ovseg3d train` with several scenes: one after another, in processes of this machine, or on Ray."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ovseg3d.errors import ConfigError, Ovseg3dError

if TYPE_CHECKING:
    from ovseg3d.limits import Trust
    from ovseg3d.pipeline.executors import Executor
    from ovseg3d.pipeline.many import SceneReport
    from ovseg3d.runs.config import Config


def choose_executor(on: str | None, workers: int | None, cpus: float | None, gpus: float | None) -> "Executor":
    """The executor of the flags --on, --workers, --cpus-per-scene and --gpus-per-scene. Raises ConfigError."""
    from ovseg3d.pipeline import OnRay, Processes, Sequential

    if workers is not None and workers < 1:
        raise ConfigError(f"--workers must be at least 1, not {workers}", fix="--workers 2")
    for flag, value, least in (("--cpus-per-scene", cpus, 0.01), ("--gpus-per-scene", gpus, 0.0)):
        if value is not None and not least <= value <= 1024:
            raise ConfigError(f"{flag} must be from {least:g} to 1024, not {value:g}", fix=f"{flag} 1")
    if on is not None:
        name, _, address = on.partition(":")
        if name != "ray":
            raise ConfigError(f"There is no --on {on!r}", fix="--on ray, or --on ray:ADDRESS for a cluster elsewhere")
        return OnRay(address or None, workers, 1.0 if cpus is None else cpus, gpus)
    if gpus is not None:
        raise ConfigError("--gpus-per-scene would have no effect: only Ray shares out GPUs", fix="use it with --on ray")
    if workers is None and cpus is not None:
        raise ConfigError("--cpus-per-scene would have no effect", fix="use it with --workers or --on ray")
    return Sequential() if workers is None else Processes(workers, None if cpus is None else max(1, round(cpus)))


def train_many(
    scenes: Sequence[Path],
    config: "Config",
    executor: "Executor",
    output_dir: Path | None,
    trust: "Trust",
    *,
    view: bool = False,
    json: bool = False,
) -> int:
    """Train the scenes, and print a report; returns the exit code.

    Args:
        scenes: as typed.
        config: the settings of all.
        executor: where to train.
        output_dir: folder of the run folders and of the ledger.
        trust: the user's permissions.
        view: show the run that started last in the browser.
        json: print one JSON object.
    """
    from ovseg3d.cli.console import get_console, interruptible, print_json, shell_path
    from ovseg3d.cli.many_progress import ManyProgress
    from ovseg3d.cli.view import Live
    from ovseg3d.pipeline.many import train_scenes
    from ovseg3d.pipeline.tasks import Started
    from ovseg3d.runs.folder import open_run
    from ovseg3d.runs.ledger import FILE

    console, stop = get_console(json), threading.Event()
    with interruptible(stop), Live(console, stop, view) as live:
        with ManyProgress(console) as progress:

            def watch(message: Any) -> None:
                progress(message)
                if view and isinstance(message, Started):
                    live.on_start(open_run(message.run))

            reports = train_scenes(
                scenes, config, executor=executor, output_dir=output_dir, report=watch, stop=stop, trust=trust
            )
        if json:
            print_json({"runs": [_describe(report) for report in reports]})
        states = [report.status for report in reports]
        counted = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
        ledger = (output_dir or Path("outputs")) / FILE
        console.print(f"{len(reports)} scenes: {counted}. Ledger: {shell_path(ledger)}", markup=False, soft_wrap=True)
    if "interrupted" in states or "not started" in states:
        console.print("Stopped. The same command goes on from here.")
        return 130
    if any(report.error is not None and not isinstance(report.error, Ovseg3dError) for report in reports):
        return 1
    return 2 if "failed" in states else 0


def _describe(report: "SceneReport") -> dict[str, Any]:
    from ovseg3d.runs.folder import open_run

    described: dict[str, Any] = {"scene": report.scene, "status": report.status}
    if report.run is not None:
        described = {"run": report.run, **described}
    if report.error is not None:
        return {**described, "error": str(report.error)}
    if report.run is None:
        return described
    try:
        return {**described, "metrics": open_run(report.run).metrics()}
    except Ovseg3dError as error:
        return {**described, "error": str(error)}
