"""Fixtures that many tests share."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jaxtyping
import pytest
from commands import Cli, Done
from sampled_checks import sampled
from tiny import small_settings, write_tiny_scene

if TYPE_CHECKING:
    from ovseg3d.session import Run


def pytest_configure() -> None:
    """Annotations are checked in some calls only.

    One thread of torch for each worker of xdist, which otherwise compete for the cores. Torch reads it when it is
    imported; processes that tests start inherit it."""
    jaxtyping.jaxtyped = sampled(jaxtyping.jaxtyped)
    if "PYTEST_XDIST_WORKER" in os.environ:
        os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Neighbours stay with one worker, so that most fixtures of a module are made once; an idle worker takes over."""
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log)


@pytest.fixture
def data_dir() -> Path:
    """The development captures; a test that needs them skips, with the reason, where they are absent."""
    folder = os.environ.get("OVSEG3D_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("needs the development captures: set OVSEG3D_DATA to their folder")
    return Path(folder)


@pytest.fixture(scope="session", autouse=True)
def given_poses() -> Iterator[None]:
    """Held-out views are measured at the given poses. Alignment takes 20 times as long as training the tiny scene; its
    own tests (test_align.py) bring it back."""
    from exact import keep_poses

    with pytest.MonkeyPatch.context() as patch:
        keep_poses(patch)
        yield


@pytest.fixture(scope="session", autouse=True)
def blank_previews() -> Iterator[None]:
    """Runs have blank previews of features and semantics, which take a quarter of a tiny training. The functions that
    draw them have tests of their own."""
    from PIL import Image

    def blank(path: Path, *_: object) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ovseg3d.pipeline.stages.features.save_feature_preview", blank)
        patch.setattr("ovseg3d.pipeline.stages.semantics.save_semantics_preview", blank)
        yield


@pytest.fixture(scope="session", autouse=True)
def no_sync() -> Iterator[None]:
    """Files are not forced to the disk, which no test outlives."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture(scope="session")
def tiny_scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the scene of tiny.py: 8 views of 32 x 32. Do not write to it."""
    return write_tiny_scene(tmp_path_factory.mktemp("scenes") / "tiny")


@pytest.fixture(scope="session")
def tiny_run(tiny_scene: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run trained on the tiny scene for 40 steps. Do not write to it."""
    from ovseg3d.pipeline.train import train_scene
    from ovseg3d.runs.settings import make_config

    config = make_config("cpu", flags=small_settings())
    return train_scene(tiny_scene, config, output_dir=tmp_path_factory.mktemp("runs") / "tiny").folder


@pytest.fixture(scope="session")
def colour_run(tiny_scene: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of the tiny scene that knows colours, see colours.py. Do not write to it."""
    from colours import flags
    from exact import register

    from ovseg3d.pipeline.train import train_scene
    from ovseg3d.runs.settings import make_config

    with pytest.MonkeyPatch.context() as patch:
        register(patch, tmp_path_factory.mktemp("cache"))
        made = tmp_path_factory.mktemp("runs") / "colours"
        return train_scene(tiny_scene, make_config("cpu", flags=flags(steps=5)), output_dir=made).folder


@pytest.fixture
def run(colour_run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> "Run":
    """The same, opened, with its encoders registered."""
    from exact import register

    from ovseg3d.session import load

    register(monkeypatch, tmp_path / "cache")
    return load(colour_run)


@pytest.fixture
def closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is not for us to look into, whatever is in it: tests may run as root, who may look anywhere."""
    folder, look = tmp_path / "closed", os.stat
    folder.mkdir()

    def stat(path: Any, *arguments: Any, **options: Any) -> os.stat_result:
        if isinstance(path, str | Path) and folder in Path(path).parents:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return look(path, *arguments, **options)

    monkeypatch.setattr(os, "stat", stat)
    return folder


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Cli:
    """Run `ovseg3d ARGUMENTS` in `tmp_path`, in this process (a new one would import torch each time)."""
    from ovseg3d.cli import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")

    def run(*arguments: object) -> Done:
        capfd.readouterr()
        code = main([str(argument) for argument in arguments])
        return Done(code, *capfd.readouterr())

    return run
