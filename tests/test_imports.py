"""Parts import in one direction only, no files import in a circle, and the package itself is light to import.

    python tests/test_imports.py       prints the graph of the parts

Imports count wherever they stand: at the top, inside functions, under TYPE_CHECKING, in the stubs of lazy faces, and
as dotted names in strings.
"""

import ast
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

import ovseg3d

PACKAGE = Path(ovseg3d.__file__).parent
# A part may import itself and what comes after it.
PARTS = (
    "cli", "viewer", "session", "pipeline", "evaluate", "export", "query", "heads", "instances", "points", "features",
    "render", "runs", "encoders", "field", "engine", "datasets", "synth", "scene", "geometry", "start_warp", "files",
    "limits", "errors",
)  # fmt: skip
ENTRY = ("__init__", "__main__")
"""The package's own face; it may name any part, and parts may only ask it for the version."""
MODULE_NAME = re.compile(r"ovseg3d(\.\w+)+")


def imported(source: str, package: str) -> set[str]:
    """Every module of ours that a source names in an import, anywhere in it, or in a string that is a module's name."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            found |= {f"{module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and MODULE_NAME.fullmatch(node.value):
            found.add(node.value)
    return {name for name in found if name.split(".")[0] == "ovseg3d"}


def violations(part: str, source: str, package: str) -> list[str]:
    """What `part` must not import."""
    wrong = []
    for name in sorted(imported(source, package)):
        other = name.split(".")[1] if "." in name else ""
        if other in PARTS:
            if PARTS.index(other) < PARTS.index(part):
                wrong.append(f"{part} imports {name}")
        elif other != "__version__":
            wrong.append(f"{part} imports {name}: not a part, or the whole package")
    return wrong


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if path.relative_to(PACKAGE).parts[0] not in ("configs",))


def module_name(path: Path) -> str:
    return ".".join(["ovseg3d", *path.relative_to(PACKAGE).with_suffix("").parts]).removesuffix(".__init__")


def package_of(path: Path) -> str:
    return ".".join(["ovseg3d", *path.relative_to(PACKAGE).parent.parts])


def import_graph() -> dict[str, set[str]]:
    """Modules by the modules that they import; the stub of a lazy face counts as the face."""
    names = {module_name(path) for path in modules()}
    graph: dict[str, set[str]] = {}
    for path in modules():
        sources = [path.read_text(), *(stub.read_text() for stub in [path.with_suffix(".pyi")] if stub.exists())]
        found = {name for source in sources for name in imported(source, package_of(path))}
        known = {name if name in names else name.rpartition(".")[0] for name in found}
        graph[module_name(path)] = (known & names) - {module_name(path), "ovseg3d"}
    return graph


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of modules that reach each other (Tarjan's strongly connected components of more than one)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in graph.get(node, ()):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            group = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(group) > 1:
                found.append(sorted(group))

    for node in graph:
        if node not in index:
            visit(node)
    return found


def part_graph() -> dict[str, dict[str, int]]:
    """Parts by the parts that they import, with the number of imports."""
    edges: dict[str, dict[str, int]] = {part: defaultdict(int) for part in PARTS}
    for module, others in import_graph().items():
        part = module.split(".")[1] if "." in module else ""
        for other in others:
            if part in edges and other.split(".")[1] != part:
                edges[part][other.split(".")[1]] += 1
    return edges


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_parts_import_in_one_direction(path: Path) -> None:
    part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if part in ENTRY:
        return
    assert part in PARTS, f"{part} is not in the list of parts: add it there and to docs/developing.md"
    assert violations(part, path.read_text(), package_of(path)) == []


def test_no_files_import_in_a_circle() -> None:
    graph = import_graph()
    assert sum(map(len, graph.values())) > 500, "the graph is not read"
    assert circles(graph) == []


def test_a_circle_is_seen() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]
    assert circles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


@pytest.mark.parametrize(
    "source",
    [
        "import ovseg3d.cli",
        "from ovseg3d.cli import main",
        "from ovseg3d import cli, __version__",
        "from ..pipeline import train_scene",
        "from .. import pipeline",
        "def later():\n    from ovseg3d.runs.folder import open_run",
        "importlib.import_module('ovseg3d.viewer')",
        "import ovseg3d",
        "from ovseg3d import load",
    ],
)
def test_a_violation_is_seen(source: str) -> None:
    assert violations("field", source, "ovseg3d.field")


def test_what_is_allowed_passes() -> None:
    source = "from ovseg3d import __version__\nfrom ovseg3d.engine import Clock\nfrom . import box\nimport torch"
    assert violations("field", source, "ovseg3d.field") == []


def test_errors_and_files_stand_alone() -> None:
    """What everybody imports must not pull in anything heavy."""
    for name in ("errors", "files"):
        for node in ast.walk(ast.parse((PACKAGE / f"{name}.py").read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            for module in names:
                assert module.split(".")[0] in {*sys.stdlib_module_names, "ovseg3d"}


@pytest.mark.parametrize("statement", ["import ovseg3d", "import ovseg3d.scene", "import ovseg3d.pipeline"])
def test_importing_is_light(statement: str) -> None:
    code = f"import sys\n{statement}\nprint([m for m in ('torch', 'warp', 'viser', 'matplotlib') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_only_the_command_line_prints_and_exits() -> None:
    """print() and sys.exit() belong to cli; everything else reports events and raises."""
    for path in modules():
        part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if part in ("cli", "__main__"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in ("print", "sys.exit", "exit", "quit"), f"{path}:{node.lineno} calls {called}"
            if isinstance(node, ast.Raise) and node.exc is not None:
                assert "SystemExit" not in ast.unparse(node.exc), f"{path}:{node.lineno}"


if __name__ == "__main__":
    for part, others in part_graph().items():
        if others:
            print(f"{part:>10} -> " + ", ".join(f"{name} {others[name]}" for name in PARTS if name in others))
