"""Commands of the README exist, and CI runs its test command."""

import re
import tomllib
from pathlib import Path

import pytest
from test_imports import PARTS

from ovseg3d.cli import COMMANDS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"]
PAGES += sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, flags=re.DOTALL)
SHELL = [line for kind, block in BLOCKS if kind == "bash" for line in block.splitlines() if line.strip()]
DEVELOPING = (ROOT / "docs" / "developing.md").read_text(encoding="utf-8")
INSTALLS = "python3 -m venv .venv && . .venv/bin/activate && pip install -c constraints.txt"


def invocations(text: str) -> list[tuple[str, str]]:
    """Every `ovseg3d COMMAND ...` in a text: the command, and what follows it up to the end of the code or line."""
    return re.findall(r"\bovseg3d (?!COMMAND)([a-z]+)\b([^`#\n&]*)", text)


def typed() -> list[tuple[str, str]]:
    """Those of the README that stand in code."""
    inline = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", README, flags=re.DOTALL))
    return [found for text in [*SHELL, *inline] for found in invocations(text)]


def test_the_two_commands_come_first() -> None:
    main, tests = [line for line in SHELL if "pip install" in line]
    assert main == f"{INSTALLS} . && ovseg3d train scenes/playroom"
    assert tests == f'{INSTALLS} ".[test]" && pytest -n auto'


def test_ci_ends_with_the_readmes_test_command() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    lines = [line for line in script.splitlines() if line.strip() and not line.startswith("#")]
    assert lines[-1] == next(line for line in SHELL if line.endswith("pytest -n auto"))
    assert "set -euo pipefail" in lines
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111


def test_the_readmes_commands_exist_and_all_are_named() -> None:
    named = {command for command, _ in typed()}
    assert named == set(COMMANDS)


@pytest.mark.parametrize("command", list(COMMANDS))
def test_flags_of_a_command_exist(command: str, cli) -> None:
    flags = {flag for name, rest in typed() if name == command for flag in re.findall(r"(?<!\S)--[a-z-]+", rest)}
    known = set(re.findall(r"--[a-z][a-z-]*", cli(command, "--help").stdout))
    assert flags <= known


def test_flags_in_the_text_exist(cli) -> None:
    known = {"--help"}
    for command in COMMANDS:
        known |= set(re.findall(r"--[a-z][a-z-]*", cli(command, "--help").stdout))
    prose = re.sub(r"```.*?```|<!--.*?-->", "", README, flags=re.DOTALL)
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", re.sub(r"`(python|pip) [^`]*`", "", prose))) <= known


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 180


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    folder = (ROOT / page).parent
    links = [link for link in re.findall(r"\]\(([^)#]+)", text) if "://" not in link]
    assert [link for link in links if not (folder / link).exists()] == []
    presets = re.findall(r"`(configs/\w+\.yaml)`", text)
    assert [preset for preset in presets if not (ROOT / preset).exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_scripts_in_the_text_exist(page: str) -> None:
    """Scripts that left the tree are named by their path and commit, and are not checked."""
    text = (ROOT / page).read_text(encoding="utf-8")
    modules = set(re.findall(r"\bscripts\.(?:training|benchmarks|examples)\.\w+", text))
    assert [name for name in modules if not (ROOT / (name.replace(".", "/") + ".py")).exists()] == []


def test_every_script_is_listed() -> None:
    scripts = [*(ROOT / "scripts").glob("training/*.py"), *(ROOT / "scripts").glob("benchmarks/*.py")]
    commands = {f"scripts.{path.parent.name}.{path.stem}" for path in scripts if "__main__" in path.read_text("utf-8")}
    listed = re.findall(r"`(scripts\.\w+\.\w+)`", DEVELOPING.split("\n## Scripts")[1].split("\n## ")[0])
    assert len(commands) > 40 and commands <= set(listed), commands - set(listed)


def test_modules_of_the_walks_exist_and_are_visited_once_or_twice() -> None:
    for walk in DEVELOPING.split("\n### ")[1:3]:
        modules = re.findall(r"^\| \d+ \| `([^`]+)`", walk, flags=re.MULTILINE)
        assert len(modules) > 10
        assert [name for name in modules if not (ROOT / "ovseg3d" / name).exists()] == []
        assert max(map(modules.count, modules)) <= 2


def test_the_parts_are_listed_in_their_order() -> None:
    listed = re.findall(r"^\| `(\w+)` \|", DEVELOPING.split("\n## Parts")[1].split("\n## ")[0], flags=re.MULTILINE)
    assert tuple(listed) == PARTS


def test_every_page_is_in_the_site() -> None:
    entered = re.findall(r"[\w/]+\.md", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    assert sorted(f"docs/{page}" for page in entered) == [page for page in PAGES if page.startswith("docs/")]


def test_pictures_are_small() -> None:
    for image in [path for path in (ROOT / "docs").rglob("*") if path.suffix in (".png", ".jpg")]:
        assert image.stat().st_size < 500_000, image


def test_the_python_example_uses_what_there_is() -> None:
    import ovseg3d

    code = next(block for kind, block in BLOCKS if kind == "python")
    compile(code, "README.md", "exec")
    for name in re.findall(r"\bovseg3d\.(\w+)", README):
        assert hasattr(ovseg3d, name), name


def test_constraints_cover_what_pyproject_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pinned = dict(re.findall(r"^([A-Za-z0-9_.-]+)==(\S+)", (ROOT / "constraints.txt").read_text(), flags=re.MULTILINE))
    asked = project["dependencies"] + sum((project["optional-dependencies"][e] for e in ("test", "tensorboard")), [])
    for requirement in asked:
        name = re.match(r"[A-Za-z0-9_-]+", requirement).group().lower()
        assert name in pinned, f"{name} is not in constraints.txt"
    text = (ROOT / "constraints.txt").read_text()
    assert "://" not in text and "--" not in text
