"""Commands about a run, applied to many runs one after another."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from ovseg3d.errors import Ovseg3dError

_MORE = (
    "More runs. A RUN may also be a folder of runs, a glob in quotes, or a list: a .txt file with a path per line, or a"
    ' .jsonl file with {"run": PATH} per line.'
)
MoreRuns = Annotated[
    tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN...", help=_MORE, help_behavior_hint="")
]


def are_many(paths: Sequence[Path]) -> bool:
    """Whether `paths` are several runs, or one that stands for several."""
    from ovseg3d.runs.lists import is_run_list

    return len(paths) > 1 or is_run_list(paths[0])


def over_runs(
    paths: Sequence[Path], work: Callable[[Path, str | None], dict[str, Any]], json: bool
) -> tuple[dict[str, Any], int]:
    """Apply `work` to a run, or to each of several.

    Args:
        paths: as typed; they may stand for several runs each.
        work: gets a path, and a name that no other run of the list has (None for a single run).
        json: whether stdout is reserved for JSON.

    Returns:
        The result, or {"runs": [a result for each]}, and the exit code. A run that cannot be used is shown and does not
        stop the others.

    Raises:
        Ovseg3dError: of a single run.
    """
    from rich.markup import escape

    from ovseg3d.cli.console import get_console, shell_path, show_error
    from ovseg3d.runs.lists import read_runs

    if not are_many(paths):
        return work(paths[0], None), 0
    console, results, names, code = get_console(json), [], set[str](), 0
    for one in read_runs(paths):
        name, number = one.name, 2
        while name in names:
            name, number = f"{one.name}-{number}", number + 1
        names.add(name)
        console.print(f"[bold]{escape(shell_path(one.path))}[/bold]")
        try:
            results.append(work(Path(one.path), name))
        except Ovseg3dError as error:
            show_error(error)
            results.append({"run": one.path, "error": str(error)})
            code = 2
    return {"runs": results}, code


def folder_of(output: Path | None, name: str | None) -> Path | None:
    """The output folder for a run: --output itself, or a folder in it for one of several."""
    return output if output is None or name is None else output / name
