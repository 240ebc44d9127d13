"""A playroom that needs no training, served to tests: see playroom.py."""

from collections.abc import Iterator
from pathlib import Path

import playroom
import pytest

from ovseg3d.encoders import registry
from ovseg3d.runs.folder import RunFolder
from ovseg3d.session import load
from ovseg3d.viewer.app import Viewer
from ovseg3d.viewer.exhibit import Exhibit
from ovseg3d.viewer.visitor import Visitor
from scripts.benchmarks.viewer_client import Bare, wait_until


def pytest_configure(config: pytest.Config) -> None:
    """As the viewer does for itself: a browser may leave in the very moment in which a picture is sent to it."""
    config.addinivalue_line("filterwarnings", "ignore:Queued a .* on a closed connection")


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of playroom, without a checkpoint."""
    return playroom.make_run(tmp_path_factory.mktemp("runs") / "playroom").folder


@pytest.fixture
def run(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    monkeypatch.setattr(registry, "_clips", dict(registry._clips))
    playroom.register()
    return load(run_folder)


@pytest.fixture
def exhibit(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> Exhibit:
    """Playroom with its exact surface for a field."""
    monkeypatch.setattr("ovseg3d.viewer.exhibit.restore", lambda run, *_: playroom.Splats(load_semantics_of(run)))
    return Exhibit(run.load_scene(), run)


def load_semantics_of(run: RunFolder):
    from ovseg3d.points.semantic_scene import load_semantics

    return load_semantics(run.folder).surface


@pytest.fixture
def errors() -> Iterator[list[str]]:
    """What the server complained about: it must be empty at the end, so a test that expects something clears it."""
    made: list[str] = []
    yield made
    assert made == []


@pytest.fixture
def viewer(exhibit: Exhibit, errors: list[str]) -> Iterator[Viewer]:
    """A server on a port that is free."""
    with Viewer(exhibit, port=7300, notice=errors.append) as made:
        yield made


@pytest.fixture
def visit(viewer: Viewer) -> Iterator:
    """visit() brings a browser without a picture: (the browser, the server's visitor)."""
    came: list[Bare] = []

    def one(position: tuple = tuple(playroom.EYE), target: tuple = playroom.TARGET) -> tuple[Bare, Visitor]:
        before = set(viewer.visitors)
        bare = Bare(viewer.url, position, target, (320, 240))
        came.append(bare)
        wait_until(lambda: set(viewer.visitors) - before, "the visitor")
        (number,) = set(viewer.visitors) - before
        return bare, viewer.visitors[number]

    yield one
    for bare in came:
        bare.close()
