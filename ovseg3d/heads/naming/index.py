"""An index of shapes on disk: one vector for each file, in safetensors, searched by cosine.

A million vectors of 192 numbers are multiplied in a fifth of a second, so no approximate search is needed.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float
from safetensors.numpy import load_file, save

from ovseg3d.errors import CacheError
from ovseg3d.files import write_atomic
from ovseg3d.limits import tensor_headers

FORMAT = 1


@dataclass(frozen=True)
class Entry:
    """A file of an index: its name relative to the folder, and its size and time, which change when it does."""

    file: str
    state: tuple[int, int]


@dataclass(frozen=True)
class Hit:
    """A file that was found, and its cosine with the query."""

    file: str
    score: float


@dataclass(frozen=True)
class ShapeIndex:
    """Vectors of shapes.

    Attributes:
        encoder: id of what made the vectors; queries of another one would be meaningless.
        entries: the files.
        vectors: unit vectors, a row for each file.
    """

    encoder: str
    entries: tuple[Entry, ...]
    vectors: Float[np.ndarray, "shapes dim"]

    def search(self, query: Float[np.ndarray, " dim"], top: int = 10) -> list[Hit]:
        """The nearest shapes, best first; equal ones in the order of their names."""
        scores = self.vectors @ query
        order = np.argsort(-scores, kind="stable")[:top]
        return [Hit(self.entries[k].file, float(scores[k])) for k in order]

    def known(self) -> dict[Entry, Float[np.ndarray, " dim"]]:
        """The vectors by file and state."""
        return dict(zip(self.entries, self.vectors))

    def save(self, path: Path) -> None:
        """Write the index, whole or not at all. Raises OutputError."""
        listing = json.dumps([[entry.file, *entry.state] for entry in self.entries])
        facts = {"format_version": str(FORMAT), "encoder": self.encoder, "entries": listing}
        write_atomic(path, save({"vectors": self.vectors.astype(np.float32)}, facts))


def load_index(path: Path, encoder: str) -> ShapeIndex:
    """Read an index that `ShapeIndex.save` wrote.

    Args:
        path: the file.
        encoder: id of the encoder that queries come from.

    Raises:
        CacheError: the file is missing, broken or of another version, or another encoder made it.
    """
    fix = "remove it; it will be made again"
    _, facts = tensor_headers(path, CacheError, "index of shapes", most_header=2**27, fix=fix)
    if facts.get("format_version") != str(FORMAT):
        raise CacheError("The index of shapes is of another version", where=path, fix=fix)
    if facts.get("encoder") != encoder:
        made = facts.get("encoder")
        raise CacheError(f"The index was made by the encoder {made!r}, not {encoder!r}", where=path, fix=fix)
    try:
        vectors = load_file(path)["vectors"]
        entries = tuple(Entry(str(f), (int(size), int(time))) for f, size, time in json.loads(facts["entries"]))
    except (KeyError, ValueError, TypeError) as error:
        raise CacheError("The index of shapes is broken", where=path, fix=fix) from error
    if vectors.ndim != 2 or len(vectors) != len(entries):
        raise CacheError("The index of shapes is broken", where=path, fix=fix)
    return ShapeIndex(encoder, entries, vectors)


def mean_query(vectors: Iterable[Float[np.ndarray, " dim"]]) -> Float[np.ndarray, " dim"]:
    """One query of several, such as a text and a picture: their mean at unit length."""
    total = np.sum(list(vectors), axis=0)
    return total / max(float(np.linalg.norm(total)), 1e-12)
