"""What a command of a test said."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


Cli = Callable[..., Done]
"""The fixture `cli`: runs `ovseg3d ARGUMENTS`."""
