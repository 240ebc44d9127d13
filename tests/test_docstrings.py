"""Docstrings say what signatures cannot: Args of long signatures, and which errors are raised on purpose."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import ovseg3d

PACKAGE = Path(ovseg3d.__file__).parent
PARTS = sorted(path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists())
ERRORS = {node.name for node in ast.parse((PACKAGE / "errors.py").read_text()).body if isinstance(node, ast.ClassDef)}
MANY, MOST = 5, 8
KERNELS = ("wp.kernel", "wp.func")
"""Warp kernels: nobody but a launch calls them, and their arguments are arrays that the module describes."""

DECLARED = re.compile(r"See `\w+\.\w+`")
"""An implementation names the declaration, which has the Args: "See `FieldBackend.march`."."""

Def = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Function:
    """A function or a method of the package; nested functions are nobody's face."""

    where: str
    node: Def
    method: bool
    private: bool
    """In a class whose name begins with an underscore."""

    @property
    def public(self) -> bool:
        return not (self.private or self.node.name.startswith("_"))

    @property
    def doc(self) -> str:
        return ast.get_docstring(self.node) or ""

    @property
    def parameters(self) -> int:
        """How many it takes; self and cls are not counted."""
        taken = self.node.args
        named = [*taken.posonlyargs, *taken.args, *taken.kwonlyargs, *filter(None, (taken.vararg, taken.kwarg))]
        return len(named) - (self.method and bool(named) and named[0].arg in ("self", "cls"))

    @property
    def raised(self) -> set[str]:
        """Errors of ours that its own body raises."""
        calls = [node.exc for node in own_nodes(self.node) if isinstance(node, ast.Raise)]
        named = [call.func if isinstance(call, ast.Call) else call for call in calls]
        return {name.id for name in named if isinstance(name, ast.Name)} & ERRORS


def own_nodes(function: Def) -> Iterator[ast.AST]:
    """The nodes of a function, without those of functions and classes inside it."""
    left: list[ast.AST] = list(function.body)
    while left:
        node = left.pop()
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            yield node
            left += ast.iter_child_nodes(node)


def functions_of(source: str, name: str) -> Iterator[Function]:
    """The functions and methods of a module."""

    def walk(body: list[ast.stmt], method: bool, private: bool = False) -> Iterator[Function]:
        for node in body:
            if isinstance(node, ast.ClassDef):
                yield from walk(node.body, True, private or node.name.startswith("_"))
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                if not any(ast.unparse(decorator).startswith(KERNELS) for decorator in node.decorator_list):
                    yield Function(f"{name}:{node.lineno} {node.name}", node, method, private)

    return walk(ast.parse(source).body, False)


def problems_of(function: Function) -> list[str]:
    """What a function lacks."""
    found = []
    if function.parameters > MOST:
        found.append(f"{function.where} takes {function.parameters} parameters; give it a record")
    if (
        function.public
        and function.parameters >= MANY
        and not ("Args:" in function.doc or DECLARED.search(function.doc))
    ):
        found.append(f"{function.where} takes {function.parameters} parameters and has no Args")
    if function.public and function.raised and "Raises" not in function.doc:
        found.append(f"{function.where} raises {', '.join(sorted(function.raised))} and does not say so")
    return found


@pytest.mark.parametrize("part", PARTS)
def test_docstrings_say_what_signatures_cannot(part: str) -> None:
    folder = PACKAGE / part
    paths = sorted(folder.rglob("*.py")) if folder.is_dir() else [folder.with_suffix(".py")]
    functions = [
        function for path in paths for function in functions_of(path.read_text(), path.relative_to(PACKAGE).as_posix())
    ]
    found = [problem for function in functions for problem in problems_of(function)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("source", "lacks"),
    [
        ("def f(a, b, c, d, e): ...", "has no Args"),
        ("def f(a, b, c, d, *, e): ...", "has no Args"),
        ("class A:\n  def f(self, a, b, c, d, e): ...", "has no Args"),
        ("def _f(a, b, c, d, e, f, g, h, i): ...", "give it a record"),
        ("def f():\n  if True:\n    raise SceneError('no')", "raises SceneError"),
    ],
)
def test_what_is_missing_is_found(source: str, lacks: str) -> None:
    (function,) = functions_of(source, "module.py")
    assert lacks in problems_of(function)[0]


@pytest.mark.parametrize(
    "source",
    [
        "def f(a, b, c, d): ...",
        "class A:\n  def f(self, a, b, c, d): ...",
        "class _A:\n  def f(self, a, b, c, d, e): ...",
        "class A:\n  def f(self, a, b, c, d, e):\n    '''See `B.f`.'''",
        "def _f(a, b, c, d, e):\n  raise SceneError('no')",
        "def f():\n  '''Raises SceneError.'''\n  raise SceneError('no')",
        "def f():\n  def g():\n    raise SceneError('no')",
        "def f(a, b, c, d, e):\n  '''X.\n\n  Args:\n    a: ...\n  '''",
    ],
)
def test_what_is_there_is_seen(source: str) -> None:
    assert not [problem for function in functions_of(source, "module.py") for problem in problems_of(function)]
