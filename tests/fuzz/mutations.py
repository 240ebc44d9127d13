"""Seeded damage: one file of a folder becomes something that a stranger, or a disk, might make of it.

`damage(folder, rng)` picks a file, and changes its JSON, its text, its header or its bytes, or puts a pipe, a folder, a
link or nothing in its place. The same seed damages the same folder in the same way.
"""

import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

NONSENSE: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2.0, 0.5, -0.0, 3.7, 1e-6, -1e9, 1e9, 1e30, 1e300, -1e300, 5e-324, 2**31 - 1, 2**31,
    2**63, 10**30, float("nan"), float("inf"), float("-inf"), "", " ", "0", "1e5", "nan", "chair", "/", "..", ".",
    "../../etc/passwd", "/etc/passwd", "/dev/zero", "a\0b", "\x1b[31mred\x1b[0m", "\x1b]0;title\x07", "[/red]", "\n",
    "\ud800", "\u202eabc", "x" * 300, "x" * 100_000, "é" * 200, "hf-hub:someone/else", "local-dir:/tmp", "~nobody/x",
    "C:\\", "%s%n", "{}", [], {}, [[]], [None], [1, 2], [1e300] * 3, ["a"] * 3, [[1, 2], [3]], {"": None}, {"a": 1},
    {"clip": "/tmp"}, [0.0] * 16, [[0.0] * 4] * 4, [[1e300] * 4] * 4, [[float("nan")] * 4] * 4, [True] * 3,
    [2**70] * 3, [[[[[[]]]]]],
)  # fmt: skip
"""Values that some key must not have."""

_LARGEST = 2**28
TEXTS = (".txt", ".yaml", ".yml", ".jsonl", ".csv")


def damage(folder: Path, rng: np.random.Generator, likely: tuple[str, ...] = ()) -> str:
    """Change one file below `folder`; says which and how.

    Args:
        folder: what to damage.
        rng: decides.
        likely: names, or ends of names, of the files that are chosen four times in five.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    if not files:
        return "nothing left"
    wanted = [path for path in files if path.name.endswith(likely)] if likely and rng.random() < 0.8 else []
    path = _one(rng, wanted or files)
    change = _one(rng, _changes(path))
    if path.stat().st_size > _LARGEST:  # damaged before: it states a size that it has not
        path.write_bytes(b"")
    try:
        text = change(path, rng)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, struct.error, RecursionError, MemoryError):
        change, text = flip, flip(path, rng)  # what was damaged before has no places to change
    return f"{path.relative_to(folder)}: {text or change.__name__}"


def _one(rng: np.random.Generator, choices: Any) -> Any:
    return choices[int(rng.integers(len(choices)))]


Change = Callable[[Path, np.random.Generator], str | None]


def _changes(path: Path) -> list[Change]:
    other: list[Change] = [flip, cut, replace]
    if path.suffix == ".json":
        return [value] * 12 + [raw_json] * 2 + other
    if path.suffix == ".safetensors":
        return [tensor_header] * 8 + [tensor_values] * 2 + other
    if path.suffix == ".npy":
        return [array_header] * 4 + [array_values] * 2 + other
    if path.suffix in TEXTS:
        return [text] * 6 + other
    return [flip] * 3 + [huge_number] * 3 + other


# JSON


def value(path: Path, rng: np.random.Generator) -> str | None:
    """Another value, no value, or another key somewhere in the tree."""
    try:
        tree = json.loads(path.read_bytes())
    except ValueError:
        return flip(path, rng)
    said = [change_tree(tree, rng) for _ in range(int(rng.integers(1, 3)))]
    path.write_bytes(json.dumps(tree).encode(errors="surrogatepass"))
    return ", ".join(said)


def change_tree(tree: Any, rng: np.random.Generator) -> str:
    """Change one place of a JSON tree, in place."""
    here, where = tree, []
    while True:
        keys = list(here) if isinstance(here, dict) else list(range(len(here)))
        if not keys:
            break
        key = _one(rng, keys)
        where.append(str(key)[:20])
        inner = here[key]
        if isinstance(inner, dict | list) and inner and rng.random() < 0.75:
            here = inner
            continue
        how = rng.random()
        if how < 0.1:
            del here[key]
            return f"{'.'.join(where)} deleted"
        if how < 0.15 and isinstance(here, dict):
            here[str(_one(rng, [v for v in NONSENSE if isinstance(v, str)]))] = inner
            return f"{'.'.join(where)} under another key"
        if how < 0.2 and isinstance(here, list):
            here.extend([inner] * int(_one(rng, [1, 5, 1000])))
            return f"{'.'.join(where)} repeated"
        if how < 0.3 and isinstance(inner, int | float) and not isinstance(inner, bool):
            here[key] = inner * float(_one(rng, [-1, 0, 1e-3, 1e3, 1e12, 1e-12]))
            return f"{'.'.join(where)} scaled to {here[key]:g}"
        here[key] = _one(rng, NONSENSE)
        return f"{'.'.join(where)} = {ascii(here[key])[:40]}"
    return "an empty place"


def raw_json(path: Path, rng: np.random.Generator) -> str | None:
    """Bytes that JSON's parser has trouble with."""
    deep = int(_one(rng, [900, 5000, 300_000]))
    made = _one(
        rng,
        [b"[" * deep, b'{"a":' * deep, b"[" * deep + b"]" * deep, b"null", b"[]", b"{}", b'"text"', b"1" * 5000, b"",
         b"\xff\xfe{}", b'{"a": 1e999999}', b'{"a": "\\ud800"}', b'{"a"', b"\0" * 100,
         b"{" + b'"a":1,' * 100_000 + b"}"],
    )  # fmt: skip
    path.write_bytes(made)
    return f"{made[:12]!r}... ({len(made)} bytes)"


# Text


def text(path: Path, rng: np.random.Generator) -> str | None:
    """Lines that are no words."""
    data = path.read_bytes()
    made = _one(
        rng,
        [b"", b"\n" * 1000, b"\xff\xfe\x00", data + b"\0", data + b"\x1b[2J\n", data + b"x" * 100_000, b"a\n" * 100_000,
         b"&a [*a]", b"a: &a [x, x]\nb: &b [*a, *a, *a, *a]\nc: &c [*b, *b, *b, *b]\nd: [*c, *c, *c, *c]\n",
         b"!!python/object/apply:os.system ['true']", b"[" * 5000, b"{" * 5000, data.replace(b" ", b"\xe2\x80\xae"),
         data + "\ud800".encode(errors="surrogatepass"), data[: len(data) // 2], data * 50, b"1e999 " * 20,
         data.replace(b"1", b"-1e300"), data.replace(b"0", b"nan"), data.replace(b"\n", b" ")],
    )  # fmt: skip
    path.write_bytes(made)
    return f"text {made[:20]!r} ({len(made)} bytes)"


# Headers and bytes


def flip(path: Path, rng: np.random.Generator) -> str | None:
    """Some bytes become others, most of them near the start, where headers are."""
    data = bytearray(path.read_bytes())
    if not data:
        return "empty already"
    for _ in range(int(rng.integers(1, 20))):
        reach = len(data) if rng.random() < 0.3 else min(len(data), 200)
        data[int(rng.integers(reach))] = int(rng.integers(256))
    path.write_bytes(bytes(data))
    return None


def cut(path: Path, rng: np.random.Generator) -> str | None:
    """The end is missing, or there is more of it."""
    data = path.read_bytes()
    if rng.random() < 0.8:
        data = data[: int(rng.integers(len(data) + 1))]
    else:
        data += data[: int(rng.integers(len(data) + 1))]
    path.write_bytes(data)
    return f"{len(data)} bytes"


def huge_number(path: Path, rng: np.random.Generator) -> str | None:
    """A whole number somewhere near the start becomes as large, or as small, as it can be."""
    data = bytearray(path.read_bytes())
    form = str(_one(rng, ["<Q", "<I", ">I", "<d", ">H"]))
    size = struct.calcsize(form)
    if len(data) < size:
        return "too short"
    at = int(rng.integers(min(len(data), 120) - size + 1)) if rng.random() < 0.8 else 0
    number = _one(rng, [1e300, float("nan"), -1.0, 0.0]) if form == "<d" else _one(rng, [0, 1, 2**31 - 1, -1])
    struct.pack_into(form, data, at, number if form == "<d" else number & (2 ** (8 * size) - 1))
    path.write_bytes(bytes(data))
    return f"{form} {number} at {at}"


def tensor_header(path: Path, rng: np.random.Generator) -> str | None:
    """The facts, types, shapes or places that a safetensors file states are others."""
    data = path.read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    facts = header.get("__metadata__", {})
    inner = next((key for key in facts if facts[key].startswith("{")), None)
    if inner is not None and rng.random() < 0.6:
        tree = json.loads(facts[inner])
        said = "facts " + change_tree(tree, rng)
        facts[inner] = json.dumps(tree)
    else:
        said = change_tree(header, rng)
    made = json.dumps(header).encode(errors="surrogatepass")
    path.write_bytes(struct.pack("<Q", len(made)) + made + data[8 + length :])
    return said


def tensor_values(path: Path, rng: np.random.Generator) -> str | None:
    """Numbers of a tensor become NaN, infinite, negative or as large as their type allows."""
    data = bytearray(path.read_bytes())
    (length,) = struct.unpack_from("<Q", data)
    size = len(data) - 8 - length
    if size < 16:
        return "no values"
    pattern = bytes(_one(rng, [b"\xff", b"\x7f", b"\x00\x00\x80\x7f", b"\x80", b"\x00\x7c"]))
    at = 8 + length + 4 * int(rng.integers(size // 4))
    count = min(len(data) - at, int(_one(rng, [4, 64, 4096])))
    data[at : at + count] = (pattern * count)[:count]
    path.write_bytes(bytes(data))
    return f"{count} bytes of {pattern!r}"


def array_header(path: Path, rng: np.random.Generator) -> str | None:
    """A .npy file states another type or shape than it holds."""
    shape = _one(rng, [(), (0,), (5,), (10**6, 10**6), (-1, 3), (3, 4, 5, 6), (2**62,), (32, 32), (9, 17), (1, 17)])
    kind = str(_one(rng, ["<u2", "<f8", "|O", "<c16", "<U9", "|V3", "|b1", "<i8", ">f4"]))
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": kind, "fortran_order": False, "shape": shape})
        file.write(rng.bytes(int(rng.integers(4096))))
        if rng.random() < 0.3:
            file.truncate(10**12)  # sparse
    return f"{kind} {shape}"


def array_values(path: Path, rng: np.random.Generator) -> str | None:
    """A .npy file of another type or shape, whole, with nonsense in it."""
    shape = _one(rng, [(), (0,), (5,), (9, 17), (32, 32), (32, 32, 3), (1, 1), (9, 16)])
    kind = str(_one(rng, ["float64", "float32", "uint16", "int64", "bool", "complex64"]))
    fill = _one(rng, [0, -1, 1e300, float("nan"), 1, 2**31 - 1])
    with np.errstate(all="ignore"):
        np.save(path, np.full(shape, fill).astype(kind))
    return f"{kind} {shape} of {fill}"


# Something else in its place


def replace(path: Path, rng: np.random.Generator) -> str | None:
    """Not a file, another file, or none."""
    others = sorted(p for p in path.parent.iterdir() if p.is_file() and p != path)
    kinds = ("pipe", "folder", "nothing", "empty", "outside", "loop", "zero", "sparse", "other", "postscript")
    kind = str(_one(rng, kinds))
    other = _one(rng, others).read_bytes() if kind == "other" and others else b""
    path.unlink()
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "empty" | "other":
            path.write_bytes(other)
        case "outside":
            path.symlink_to("/etc/hostname")
        case "loop":
            path.symlink_to(path.name)
        case "zero":
            path.symlink_to("/dev/zero")
        case "sparse":
            with open(path, "wb") as file:
                file.truncate(50 * 2**30)
        case "postscript":
            path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n")
    return kind


def copied(source: Path, target: Path) -> Path:
    """A copy to damage; `target` is made anew."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target, symlinks=True)
    return target
