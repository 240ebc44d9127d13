"""Figures of the code: files, lines, long functions, remaining words of the old dialect, constants of decisions, cold
start of `--help`.

    python -m scripts.benchmarks.code_figures            of this tree
    python -m scripts.benchmarks.code_figures --tree DIR --no-start   of another checkout, without running it

Words are counted in names: identifiers, and strings of a single word (JSON keys, flags, kinds). The synthetic rooms are
exempt.

The decision path is what lies between the photos' features and an answer of the default method (`DECISION_PATH`).
Constants are the numbers in its code, without 0, 1 and 2, sizes and indices of arrays, and guards of at most a
thousandth; words and learnt weights do not count.
"""

import ast
import io
import re
import statistics
import subprocess
import sys
import time
import tokenize
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import tyro

OLD_WORDS = frozenset(
    "meaning thing things scrap scraps wholes portrait portraits witness witnesses voice voices sight sights evened "
    "rival rivals household asker comparer judge learner exhibit visitor visitors bell errand errands begun film films "
    "strongest told_by".split()
)
"""Left column of the design's table of words, without those that are ordinary English ("place", "unit", "patch")."""
DECISION_PATH = {
    "points": ("basis", "lift", "smooth"),
    "instances": (
        "adjacency", "consensus", "crops", "graph", "grouping", "joined", "layout", "proposals", "selection",
        "superpoints",
    ),
    "query": (
        "answer", "candidates", "decision", "default_vocabulary", "hubness", "labels", "layout_prior", "phrase_encoder",
        "presence", "room_prior", "scene_decision", "shape_prior", "similarity", "vocabulary", "words",
    ),
}  # fmt: skip
"""Modules by part. Others read and write files, train the papers' methods, calibrate, or answer questions about places
and poses."""
GUARD = 1e-3
"""Largest number that only keeps a division or a logarithm finite."""
LONG_FUNCTION = 60
"""Lines from which a function counts as long."""
_WORD = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])")


@dataclass(frozen=True)
class CodeFigures:
    """Count the figures of one tree."""

    tree: Path = Path(".")
    """The checkout."""
    start: bool = True
    """Also time `ovseg3d --help`, best of five."""

    def main(self) -> None:
        """Print the figures, one a line."""
        package = self.tree / "ovseg3d"
        sources = {path: path.read_text(encoding="utf-8") for path in sorted(package.rglob("*.py"))}
        lines = {path: len(text.splitlines()) for path, text in sources.items()}
        largest = max(lines, key=lines.__getitem__)
        functions = [length for text in sources.values() for length in _function_lengths(text)]
        print(f"files                     {len(sources)}")
        print(f"lines                     {sum(lines.values()):,}")
        print(f"median file               {statistics.median(lines.values()):.0f} lines")
        print(f"largest file              {lines[largest]} lines ({largest.relative_to(self.tree)})")
        print(f"functions                 {len(functions):,}")
        print(f"functions over {LONG_FUNCTION} lines   {sum(length > LONG_FUNCTION for length in functions)}")
        counted = Counter(word for path, text in sources.items() if _counts(path) for word in _old_words(text))
        print(f"old words as names        {counted.total()} {dict(counted.most_common(6)) if counted else ''}")
        for part, names in DECISION_PATH.items():
            path = {source: text for source, text in sources.items() if source.parent == package / part}
            found = {source.stem: len(list(_constants(text))) for source, text in path.items() if source.stem in names}
            listed = ", ".join(f"{name} {count}" for name, count in sorted(found.items()) if count)
            print(f"constants of {part:<12} {sum(found.values())} ({listed}); {sum(lines[p] for p in path):,} lines")
        if self.start:
            print(f"cold start of --help      {min(_help_seconds() for _ in range(5)):.2f} s")


def _counts(path: Path) -> bool:
    return "synth" not in path.parts


def _function_lengths(source: str) -> Iterator[int]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield (node.end_lineno or node.lineno) - node.lineno + 1


def _old_words(source: str) -> Iterator[str]:
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        name = token.string.strip("\"'")
        if token.type == tokenize.NAME or (token.type == tokenize.STRING and re.fullmatch(r"[\w-]+", name)):
            yield from OLD_WORDS & {word.lower() for word in _WORD.findall(name)}


def _constants(source: str) -> Iterator[float]:
    """The numbers of a module that count as constants."""
    tree = ast.parse(source)
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    for node in ast.walk(tree):
        value = node.value if isinstance(node, ast.Constant) else None
        if isinstance(value, int | float) and value not in (0, 1, 2) and value > GUARD and not _shapes(node, parents):
            yield value


def _shapes(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> bool:
    """Whether a number is the index, axis or shape of an array."""
    while (parent := parents.get(node)) is not None and not isinstance(parent, ast.stmt):
        if isinstance(parent, ast.Subscript) and parent.slice is node:
            return True
        if isinstance(parent, ast.keyword) and parent.arg in ("axis", "minlength"):
            return True
        if isinstance(parent, ast.Call) and node is not parent.func:
            name = parent.func.attr if isinstance(parent.func, ast.Attribute) else ""
            made = name in ("zeros", "ones", "full", "empty", "eye") and node is parent.args[0]
            if made or name == "reshape":
                return True
        node = parent
    return False


def _help_seconds() -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "ovseg3d", "--help"], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


if __name__ == "__main__":
    tyro.cli(CodeFigures).main()
