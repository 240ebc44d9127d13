"""Errors that a user can cause and fix.

Each states what is wrong, where, and what to do. The command line prints this without a traceback and exits with code
2. In Python they are exceptions with a common base. Any other exception is a bug (exit code 1).
"""

import difflib
from collections.abc import Iterable
from pathlib import Path


def printable(text: str) -> str:
    r"""`text` with control characters and lone surrogates as escapes (\x1b).

    Newlines and tabs stay.
    """
    if text.isprintable():
        return text
    return "".join(c if c in "\n\t" or harmless(c) else c.encode("unicode_escape").decode() for c in text)


def harmless(character: str) -> bool:
    """Whether a terminal only displays the character."""
    # isprintable is false for control characters, surrogates and bidirectional marks, but also for rare spaces (in
    # names of macOS screenshots) and the joiners of Persian, Indic scripts and emoji.
    if character in "\u200c\u200d":
        return True
    return character.isprintable() or character.isspace() and ord(character) >= 0xA0 and character not in "\u2028\u2029"


class Ovseg3dError(Exception):
    """Base of all errors that the user can fix.

    Args:
        what: what is wrong, as a sentence without the final full stop.
        where: the file, folder, frame or key.
        fix: what to do.
    """

    def __init__(self, what: str, *, where: str | Path | None = None, fix: str | None = None) -> None:
        # Messages of libraries may quote arbitrary file content.
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
    """A setting that does not exist or has an invalid value."""


class DeviceError(Ovseg3dError):
    """A device or backend that was requested and is unavailable."""


class RunError(Ovseg3dError):
    """A run folder, or a file in it, that cannot be used."""


class EncoderError(Ovseg3dError):
    """A 2D model that cannot be loaded, or an input that it cannot process."""


class MeasureError(Ovseg3dError):
    """A prediction and a ground truth that cannot be compared."""


class ShapeError(Ovseg3dError):
    """A shape that cannot be read, seen or named."""


class PoseError(Ovseg3dError):
    """A pose of an object that cannot be used."""


class CacheError(Ovseg3dError):
    """A feature cache that cannot be used."""


class OutputError(Ovseg3dError):
    """A file or folder that cannot be written."""


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name most similar to `name`, or None if none is close."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return close[0] if close else None
