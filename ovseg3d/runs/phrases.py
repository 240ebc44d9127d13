"""Lists of phrases: from a flag or a file, kept with a run, and the sentences that they may be put into.

A run keeps its phrases in phrases.txt, one a line: what `train --phrases` said, else what the capture says. `segment`
and `query` take others for one call, and `segment --keep` writes them there. Phrases keep their order and spelling;
doubles and empty ones are left out.
"""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from ovseg3d.errors import ConfigError, RunError
from ovseg3d.files import write_atomic
from ovseg3d.limits import check_name, read_text

FILE = "phrases.txt"
TEMPLATES = ("{}", "a photo of a {}", "a photo of the {}", "a {} in a room", "the {} on its own")
"""What `--templates usual` means: a phrase's vector is the mean over these sentences."""


def without_doubles(phrases: Iterable[str]) -> tuple[str, ...]:
    """Phrases without spaces around them, each once, none empty, in their order."""
    return tuple(dict.fromkeys(phrase.strip() for phrase in phrases if phrase.strip()))


def in_list(said: Sequence[str] | str) -> Sequence[str]:
    """Phrases in a list, or in one text with semicolons: its letters would make a list, too."""
    return [phrase.strip() for phrase in said.split(";") if phrase.strip()] if isinstance(said, str) else said


def read_list(text: str, flag: str = "--phrases") -> tuple[str, ...]:
    """Phrases with semicolons, or a file with one a line; each once, in their order. Raises ConfigError, which names
    the `flag` that said so."""
    phrases = without_doubles(_lines(text, "phrases"))
    if not phrases:
        raise ConfigError(f"The list of {flag} is empty", fix=f'{flag} "chair;table;floor"')
    for phrase in phrases:
        check_text(phrase)
    return phrases


def whole_list(text: str) -> str:
    """What `read_list` takes for the same list from any folder: a file's name becomes its whole path."""
    return os.path.abspath(text) if os.path.isfile(text) else text


def check_text(phrase: str, what: str = "phrase") -> None:
    """Raises ConfigError: it is too long, has control characters, or bytes that are no UTF-8 (as a shell passes on)."""
    check_name(phrase, None, ConfigError, what)


def read_templates(text: str) -> tuple[str, ...]:
    """Sentences with {} for the phrase: "usual", or with semicolons, or a file with one a line. Raises ConfigError."""
    if text.strip() == "usual":
        return TEMPLATES
    templates = without_doubles(_lines(text, "templates"))
    wrong = [template for template in templates if template.count("{}") != 1]
    if wrong or not templates:
        said = f"{wrong[0]!r} has no single {{}}" if wrong else "there is none"
        raise ConfigError(f"A template says with {{}} where the phrase goes, but {said}", fix='"a photo of a {}"')
    for template in templates:
        check_text(template, "template")
    return templates


def _lines(text: str, what: str) -> list[str]:
    if "\n" in text:
        return text.splitlines()
    path = Path(text)
    # Not `Path`'s: what is too long for a file's name is not there, and no error.
    there = "\0" not in text and os.path.exists(path) and not os.path.isdir(path)
    if path.suffix == ".txt" and ";" not in text and not there:
        raise ConfigError(f"There is no file with {what}", where=path, fix="check its name")
    try:
        return read_text(path, ConfigError, f"list of {what}").splitlines() if there else text.split(";")
    except (OSError, ValueError) as error:
        raise ConfigError(f"The list of {what} cannot be read as text", where=path, fix="one a line") from error


def keep_phrases(folder: Path, phrases: Sequence[str]) -> None:
    """Write a run's phrases, in place of those that it had. Raises OutputError."""
    write_atomic(folder / FILE, "".join(f"{phrase}\n" for phrase in phrases).encode())


def kept_phrases(folder: Path) -> tuple[str, ...]:
    """The phrases that a run keeps; none when it keeps no list. Raises RunError: the file is no text."""
    path = folder / FILE
    if not os.path.lexists(path):
        return ()
    phrases = without_doubles(read_text(path, RunError, "run's list of phrases").splitlines())
    return tuple(check_name(phrase, path, RunError, "phrase") for phrase in phrases)
