"""A playroom that needs no training, served to tests: see playroom.py."""

from collections.abc import Iterator
from pathlib import Path

import playroom
import pytest

from ovseg3d.encoders import registry
from ovseg3d.runs.folder import RunFolder
from ovseg3d.session import load
from ovseg3d.viewer.app import Viewer
from ovseg3d.viewer.client_session import ClientSession
from ovseg3d.viewer.shared_scene import SharedScene
from scripts.benchmarks.viewer_client import Bare, wait_until


def pytest_configure(config: pytest.Config) -> None:
    """As the viewer does for itself: a browser may leave in the very moment in which an image is sent to it."""
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
def shared(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> SharedScene:
    """Playroom with its exact surface for a field."""
    monkeypatch.setattr("ovseg3d.viewer.shared_scene.restore", lambda run, *_: playroom.Splats(load_semantics_of(run)))
    return SharedScene(run.load_scene(), run)


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
def viewer(shared: SharedScene, errors: list[str]) -> Iterator[Viewer]:
    """A server on a port that is free."""
    with Viewer(shared, port=7300, notice=errors.append) as made:
        yield made


@pytest.fixture
def connect(viewer: Viewer) -> Iterator:
    """connect() brings a browser without an image: (the browser, the server's session)."""
    came: list[Bare] = []

    def one(position: tuple = tuple(playroom.EYE), target: tuple = playroom.TARGET) -> tuple[Bare, ClientSession]:
        before = set(viewer.sessions)
        bare = Bare(viewer.url, position, target, (320, 240))
        came.append(bare)
        wait_until(lambda: set(viewer.sessions) - before, "the session")
        (number,) = set(viewer.sessions) - before
        return bare, viewer.sessions[number]

    yield one
    for bare in came:
        bare.close()
