"""Parts import in one direction only, as DEVELOPMENT.md lists them, and the package itself is light to import."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import ovseg3d

PACKAGE = Path(ovseg3d.__file__).parent
# A part may import itself and what comes after it.
PARTS = (
    "cli", "viewer", "pipeline", "head", "cloud", "semantics", "field", "engine", "encoders", "synth", "metrics",
    "scene", "start_warp", "files", "limits", "errors",
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


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_parts_import_in_one_direction(path: Path) -> None:
    place = path.relative_to(PACKAGE)
    part = place.parts[0].removesuffix(".py")
    if part in ENTRY:
        return
    assert part in PARTS, f"{part} is not in the list of parts: add it there and to DEVELOPMENT.md"
    package = ".".join(["ovseg3d", *place.parent.parts])
    assert violations(part, path.read_text(), package) == []


@pytest.mark.parametrize(
    "source",
    [
        "import ovseg3d.cli",
        "from ovseg3d.cli import main",
        "from ovseg3d import cli, __version__",
        "from ..pipeline import Run",
        "from .. import pipeline",
        "def later():\n    from ovseg3d.pipeline.run import load",
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
