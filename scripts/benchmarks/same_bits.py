"""Check that two runs have the same bits and answers, for changes of the code that should change neither.

    python -m scripts.benchmarks.same_bits RUN_A RUN_B
    python -m scripts.benchmarks.same_bits RUN_A RUN_B --phrases "a red chair" "the floor" --views held-out

Tensors are those of all safetensors files of a run. They are compared by type, shape and SHA-256 of their bytes, not by
name or order, so that names may change. Answers are those of `ovseg3d query --json`, without its seconds; each file
that an answer names counts by its content. Runs without semantics are compared by their tensors alone. Prints a
markdown table; the exit code is 1 where something differs.
"""

import hashlib
import io
import json
import tempfile
from collections import Counter
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from ovseg3d.errors import ConfigError, RunError
from ovseg3d.limits import tensor_headers
from ovseg3d.points.semantic_scene import FILE
from ovseg3d.session import load
from scripts.start import start

Tensors = Counter[tuple[str, tuple[int, ...], str]]
"""How often a run has a tensor of this type, shape and content."""


@dataclass(frozen=True)
class SameBits:
    """Compare two runs, and print a markdown table."""

    one: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN_A")]
    """A run folder."""
    other: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN_B")]
    """The run to compare it with."""
    phrases: tuple[str, ...] = ("a red chair", "a lamp", "the floor", "a picture on the wall", "a bicycle")
    """What both are asked; one of them had better be absent."""
    views: Literal["held-out", "train", "all", "none"] = "none"
    """Views whose masks are compared as well; each has to be rendered."""

    def main(self) -> int:
        """Returns 1 where something differs, else 0."""
        folders = [load(path).folder for path in (self.one, self.other)]
        one, other = (tensors_of(folder) for folder in folders)
        rows = [["tensors", str(one.total()), str(other.total()), _verdict(one == other)]]
        rows += [["in one run only", str((one - other).total()), str((other - one).total()), ""]] * (one != other)
        known = [(folder / FILE).is_file() for folder in folders]
        if known[0] != known[1]:
            rows.append(["semantics", *("yes" if has else "no" for has in known), _verdict(False)])
        elif all(known):
            first, second = (answers_of(folder, self.phrases, self.views) for folder in folders)
            rows += [[f'"{phrase}"', _short(first[phrase]), _short(second[phrase]),
                      _verdict(first[phrase] == second[phrase])] for phrase in first]  # fmt: skip
        print("| what | RUN_A | RUN_B | |\n| --- | --- | --- | --- |")
        for row in rows:
            print(f"| {' | '.join(row)} |")
        return int(any(row[-1] == _verdict(False) for row in rows))


def tensors_of(folder: Path) -> Tensors:
    """The tensors of all safetensors files below a run's folder. Raises RunError: there is none, or one is broken."""
    found: Tensors = Counter()
    for path in sorted(folder.rglob("*.safetensors")):
        tensors, _ = tensor_headers(path, RunError)
        # Read as bytes, since numpy lacks some of the types. The file begins with its header's length and its header.
        data = memoryview(path.read_bytes())
        start_of_tensors = 8 + int.from_bytes(data[:8], "little")
        header = json.loads(bytes(data[8:start_of_tensors]))
        for name, tensor in tensors.items():
            begin, end = (start_of_tensors + offset for offset in header[name]["data_offsets"])
            found[tensor.dtype, tensor.shape, hashlib.sha256(data[begin:end]).hexdigest()] += 1
    if not found:
        raise RunError("This run holds no tensors", where=folder, fix="a run that was trained")
    return found


def answers_of(run: Path, phrases: tuple[str, ...], views: str) -> dict[str, dict[str, Any]]:
    """What `ovseg3d query --json` says of each phrase, with hashes in place of files. Raises ConfigError."""
    from ovseg3d.cli import main

    said = io.StringIO()
    with tempfile.TemporaryDirectory() as folder:
        with redirect_stdout(said):
            code = main(["query", str(run), *phrases, "--views", views, "--output", folder, "--json"])
        if code:
            raise ConfigError("This run cannot be asked", where=run, fix="see the message above")
        result = json.loads(said.getvalue())
        answers = {answer["phrase"]: answer for answer in _by_content(result.pop("answers"), Path(folder))}
    scene = {key: result[key] for key in result.keys() - {"run", "query_seconds"}}
    return {phrase: answer | scene for phrase, answer in answers.items()}


def _by_content(value: Any, folder: Path) -> Any:
    """The same JSON, each path of a file in `folder` replaced by the hash of its content."""
    if isinstance(value, dict):
        return {key: _by_content(each, folder) for key, each in value.items()}
    if isinstance(value, list):
        return [_by_content(each, folder) for each in value]
    if isinstance(value, str) and value.startswith(str(folder)):
        return hashlib.sha256(Path(value).read_bytes()).hexdigest()
    return value


def _short(answer: dict[str, Any]) -> str:
    here = f"{len(answer['instances'])} instances, {answer['n_points']:,} points" if answer["present"] else "not here"
    return f"{here}, score {answer['score']:.6f}"


def _verdict(same: bool) -> str:
    return "same" if same else "DIFFERENT"


if __name__ == "__main__":
    start(SameBits)
