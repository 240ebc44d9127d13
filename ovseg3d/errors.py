"""Errors that a user can cause, and mend.

Each says what is wrong, where, and what to do. The command line prints that without a traceback and exits
with code 2; from Python they are ordinary exceptions with one common base. Anything else that escapes is a
bug of ours (exit code 1).
"""

import difflib
from collections.abc import Iterable
from pathlib import Path


def printable(text: str) -> str:
    r"""`text` without anything that a terminal obeys: control characters and lone surrogates as escapes (\x1b).

    New lines and tabs stay.
    """
    if text.isprintable():
        return text
    return "".join(c if c in "\n\t" or harmless(c) else c.encode("unicode_escape").decode() for c in text)


def harmless(character: str) -> bool:
    """Whether a terminal only draws it."""
    # isprintable is false for controls, surrogates, and marks that turn the direction of text; also for rare spaces
    # (macOS puts one into the names of screenshots) and the joiners of Persian, Indian scripts and emoji.
    if character in "\u200c\u200d":
        return True
    return character.isprintable() or character.isspace() and ord(character) >= 0xA0 and character not in "\u2028\u2029"


class Ovseg3dError(Exception):
    """Base of every error that the user can mend.

    Args:
        what: what is wrong, as a sentence without the final full stop.
        where: the file, folder, frame or key concerned.
        fix: what to do about it.
    """

    def __init__(self, what: str, *, where: str | Path | None = None, fix: str | None = None) -> None:
        # What libraries say of a file may hold anything that is in it.
        self.what, self.where, self.fix = printable(what), where, None if fix is None else printable(fix)
        parts = [self.what]
        if where is not None:
            parts.append(f"  in: {printable(str(where))}")
        if fix is not None:
            parts.append(f"  try: {self.fix}")
        super().__init__("\n".join(parts))


class SceneError(Ovseg3dError):
    """A capture that cannot be read or used."""


class ConfigError(Ovseg3dError):
    """A setting that does not exist or has an impossible value."""


class DeviceError(Ovseg3dError):
    """A device or backend that was asked for and is not there."""


class RunError(Ovseg3dError):
    """A run folder, or a checkpoint in it, that cannot be used."""


class EncoderError(Ovseg3dError):
    """A 2D model that cannot be had, or an input that it cannot take."""


class MeasureError(Ovseg3dError):
    """A prediction and a truth that cannot be compared."""


class CacheError(Ovseg3dError):
    """A folder for cached features that cannot be used."""


class OutputError(Ovseg3dError):
    """A place that cannot be written to."""


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is most like `name`, or None when nothing is close."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return close[0] if close else None
