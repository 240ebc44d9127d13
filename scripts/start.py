"""Entry point of scripts: flags are the fields of a dataclass, and errors are shown as by `ovseg3d`."""

import sys
from typing import Any

import tyro

from ovseg3d.cli.console import show_error
from ovseg3d.errors import Ovseg3dError


def start(script: type[Any]) -> None:
    """Parse the command line into a `script` and call its `main()`; an integer that it returns is the exit code.

    Errors of the user end with exit code 2 and no traceback.
    """
    try:
        code = tyro.cli(script, description=sys.modules[script.__module__].__doc__).main()
    except Ovseg3dError as error:
        show_error(error)
        sys.exit(2)
    sys.exit(code if isinstance(code, int) else 0)
