"""The command line: one level of subcommands, one small module for each.

A command is a frozen dataclass in `ovseg3d/cli/<name>.py` with a `main()`; its docstring is the help text and
tyro reads the flags from its fields. A module is imported only when its command is called, and imports the
heavy parts inside `main()`, so that `ovseg3d --help` is instant. Only this part prints and exits.

Exit codes: 0 done, 1 a bug, 2 a mistake of the user (one message, no traceback), 130 interrupted (resumable).
"""

import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from dataclasses import is_dataclass
from typing import Annotated, Any, get_args

from ovseg3d.cli.commands import COMMANDS


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    from ovseg3d.errors import Ovseg3dError

    try:
        code = _dispatch(arguments)
        sys.stdout.flush()
        return code
    except Ovseg3dError as error:
        from ovseg3d.cli.console import show_error

        show_error(error)
        return 2
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of the output (`| head`) has closed it. This is no error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except SystemExit as leave:
        # tyro exits after printing help (0) or after reporting a wrong flag (2).
        return leave.code if isinstance(leave.code, int) else int(leave.code is not None)
    except Exception:
        traceback.print_exc()
        from ovseg3d import __version__

        print(
            f"\nThis is a bug in ovseg3d {__version__}. Please report it with the lines above and the output of"
            " `ovseg3d doctor`.",
            file=sys.stderr,
        )
        return 1


def _dispatch(arguments: list[str]) -> int:
    name = arguments[0] if arguments else "--help"
    if name in ("--help", "-h", "help"):
        from ovseg3d.cli.overview import print_overview

        print_overview()
        return 0
    if name in ("--version", "-V"):
        from ovseg3d import __version__

        print(f"ovseg3d {__version__}")
        return 0
    if name not in COMMANDS:
        from ovseg3d.errors import ConfigError, nearest

        kind = "flag" if name.startswith("-") else "command"
        close = nearest(name, ("--help", "--version") if kind == "flag" else COMMANDS)
        fix = f"ovseg3d {close}" if close else "ovseg3d --help lists the commands"
        raise ConfigError(f"There is no {kind} {name!r}", fix=fix)
    command = load_command(name)
    parse = getattr(command, "parse", None)
    instance = parse(arguments[1:]) if parse else parse_arguments(name, command, arguments[1:])
    result = _run(instance)
    return result if isinstance(result, int) else 0


def _run(instance: Any) -> Any:
    if not getattr(instance, "json", False):
        return instance.main()
    from ovseg3d.cli.console import json_only

    with json_only():
        return instance.main()


def load_command(name: str) -> type:
    """Import the dataclass of a command."""
    entry = COMMANDS[name]
    return getattr(importlib.import_module(f"ovseg3d.cli.{entry.module}"), entry.cls)


def parse_arguments(name: str, cls: type, arguments: Sequence[str], default: Any = None) -> Any:
    """Parse `arguments` into an instance of `cls`. For help and for wrong flags, tyro prints and exits."""
    import tyro

    _join_lines(cls)
    options = {} if default is None else {"default": default}
    return tyro.cli(cls, prog=f"ovseg3d {name}", args=list(arguments), **options)


def _join_lines(cls: type) -> None:
    """Join each setting's docstring into one paragraph of help; tyro would keep its line breaks."""
    import docstring_parser
    import tyro

    texts = {param.arg_name: param.description or "" for param in docstring_parser.parse_from_object(cls).params}
    for name, hint in cls.__annotations__.items():
        if "\n" in texts.get(name, ""):
            cls.__annotations__[name] = Annotated[hint, tyro.conf.arg(help=" ".join(texts[name].split()))]
        for part in (hint, *get_args(hint)):
            if isinstance(part, type) and is_dataclass(part):
                _join_lines(part)
