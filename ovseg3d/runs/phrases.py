"""Lists of phrases, from a flag, a file or a run, and templates for them.

A run stores its phrases in phrases.txt, one per line: those of `train --phrases`, else those of the capture. `segment`
and `query` accept others for one call, and `segment --keep` stores them. Phrases keep their order and spelling;
duplicates and empty ones are dropped.
"""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ovseg3d.errors import ConfigError, RunError
from ovseg3d.files import write_atomic
from ovseg3d.limits import check_name, read_text

FILE = "phrases.txt"
TEMPLATES = ("{}", "a photo of a {}", "a photo of the {}", "a {} in a room", "the {} on its own")
"""Templates of `--templates usual`; a phrase's embedding is the mean over these sentences."""


def without_doubles(phrases: Iterable[str]) -> tuple[str, ...]:
    """Phrases stripped of surrounding spaces, without duplicates and empty ones, in order."""
    return tuple(dict.fromkeys(phrase.strip() for phrase in phrases if phrase.strip()))


def in_list(phrases: Any) -> list[str]:
    """Texts as a list, from several texts or from one that is separated by semicolons. Raises ConfigError: others."""
    if isinstance(phrases, str):
        return [phrase.strip() for phrase in phrases.split(";") if phrase.strip()]
    found = list(phrases) if isinstance(phrases, Iterable) else [phrases]
    for one in found:
        if not isinstance(one, str):
            raise ConfigError(f"A list of texts has no place for {repr(one):.80}", fix='["chair", "lamp"]')
    return found


def read_list(text: str, flag: str = "--phrases") -> tuple[str, ...]:
    """Read phrases separated by semicolons, or from a file with one per line; without duplicates, in order.

    Raises:
        ConfigError: the list is empty or invalid; the message names `flag`.
    """
    phrases = without_doubles(_lines(text, "phrases"))
    if not phrases:
        raise ConfigError(f"The list of {flag} is empty", fix=f'{flag} "chair;table;floor"')
    for phrase in phrases:
        check_text(phrase)
    return phrases


def read_names(text: str, flag: str) -> tuple[str, ...]:
    """Read names as `read_list` does, but keep duplicates, so that they can be refused. Raises ConfigError."""
    names = tuple(line.strip() for line in _lines(text, "names") if line.strip())
    if not names:
        raise ConfigError(f"The list of {flag} is empty", fix=f'{flag} "chair;lamp"')
    for name in names:
        check_text(name, "name")
    return names


def whole_list(text: str) -> str:
    """An argument of `read_list` that works from any folder: a file name becomes an absolute path."""
    return os.path.abspath(text) if os.path.isfile(text) else text


def check_text(phrase: str, what: str = "phrase") -> None:
    """Raises ConfigError: the text is too long, or has control characters or bytes that are not UTF-8."""
    check_name(phrase, None, ConfigError, what)


def read_templates(text: str) -> tuple[str, ...]:
    """Read templates: "usual", sentences separated by semicolons, or a file with one per line. Raises ConfigError."""
    if text.strip() == "usual":
        return TEMPLATES
    templates = without_doubles(_lines(text, "templates"))
    wrong = [template for template in templates if template.count("{}") != 1]
    if wrong or not templates:
        problem = f"{wrong[0]!r} does not" if wrong else "there is none"
        raise ConfigError(f"A template has a single {{}} for the phrase, but {problem}", fix='"a photo of a {}"')
    for template in templates:
        check_text(template, "template")
    return templates


def _lines(text: str, what: str) -> list[str]:
    if "\n" in text:
        return text.splitlines()
    path = Path(text)
    # `os.path.exists`, since `Path.exists` raises for names that are too long.
    there = "\0" not in text and os.path.exists(path) and not os.path.isdir(path)
    if path.suffix == ".txt" and ";" not in text and not there:
        raise ConfigError(f"There is no file with {what}", where=path, fix="check its name")
    try:
        return read_text(path, ConfigError, f"list of {what}").splitlines() if there else text.split(";")
    except (OSError, ValueError) as error:
        raise ConfigError(f"The list of {what} cannot be read as text", where=path, fix="write one per line") from error


def keep_phrases(folder: Path, phrases: Sequence[str]) -> None:
    """Replace a run's phrases. Raises OutputError."""
    write_atomic(folder / FILE, "".join(f"{phrase}\n" for phrase in phrases).encode())


def kept_phrases(folder: Path) -> tuple[str, ...]:
    """A run's phrases; empty if it has no list. Raises RunError: the file is not text."""
    path = folder / FILE
    if not os.path.lexists(path):
        return ()
    phrases = without_doubles(read_text(path, RunError, "run's list of phrases").splitlines())
    return tuple(check_name(phrase, path, RunError, "phrase") for phrase in phrases)
