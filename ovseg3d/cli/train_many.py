"""`ovseg3d train` with several scenes: one after another, in processes of this machine, or on Ray."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ovseg3d.cli.many import counted, exit_code
from ovseg3d.errors import Ovseg3dError

if TYPE_CHECKING:
    from ovseg3d.limits import Trust
    from ovseg3d.pipeline.batch import TaskReport
    from ovseg3d.pipeline.executors import Executor
    from ovseg3d.runs.config import Config


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
        with ManyProgress(console, "scenes") as progress:

            def watch(message: Any) -> None:
                progress(message)
                if view and isinstance(message, Started) and message.folder is not None:
                    live.on_start(open_run(message.folder))

            reports = train_scenes(
                scenes, config, executor=executor, output_dir=output_dir, report=watch, stop=stop, trust=trust
            )
        if json:
            print_json({"runs": [_describe(report) for report in reports]})
        ledger = (output_dir or Path("outputs")) / FILE
        text = f"{len(reports)} scenes: {counted(reports)}. Ledger: {shell_path(ledger)}"
        console.print(text, markup=False, soft_wrap=True)
    return exit_code(reports, console)


def _describe(report: "TaskReport") -> dict[str, Any]:
    from ovseg3d.runs.folder import open_run

    described: dict[str, Any] = {"scene": report.item, "status": report.status}
    if report.folder is not None:
        described = {"run": report.folder, **described}
    if report.error is not None:
        return {**described, "error": str(report.error)}
    if report.folder is None:
        return described
    try:
        return {**described, "metrics": open_run(report.folder).metrics()}
    except Ovseg3dError as error:
        return {**described, "error": str(error)}
