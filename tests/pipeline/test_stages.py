"""Training as a list of stages: what runs, what is skipped, products, and time limits."""

import json
import shutil
import threading
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from colours import flags
from commands import Cli
from safetensors.numpy import load_file
from test_imports import import_graph
from tiny import small_settings

from ovseg3d.engine import Event
from ovseg3d.errors import ConfigError
from ovseg3d.files import write_json
from ovseg3d.pipeline import train
from ovseg3d.pipeline.train import train_scene
from ovseg3d.runs.folder import RunFolder
from ovseg3d.runs.settings import make_config
from ovseg3d.runs.stages import STAGE_NAMES, STAGES
from ovseg3d.session import load


@pytest.fixture
def copied(tiny_run: Path, tmp_path: Path) -> RunFolder:
    """A copy of a trained field, to be changed."""
    return load(shutil.copytree(tiny_run, tmp_path / "run"))


def logs(events: list[Event], stage: str) -> list[str]:
    return [event.message for event in events if (event.kind, event.stage) == ("log", stage)]


def test_every_stage_can_be_made() -> None:
    assert set(train.STAGES) == set(STAGE_NAMES)
    assert all(train.STAGES[stage.name]().spec is stage for stage in STAGES)


def test_training_does_not_read_evaluation() -> None:
    graph, seen = import_graph(), set()
    ahead = ["ovseg3d.pipeline.stages.features", "ovseg3d.pipeline.stages.field", "ovseg3d.pipeline.stages.semantics"]
    while ahead:
        module = ahead.pop()
        seen.add(module)
        ahead += graph.get(module, set()) - seen
    assert not [module for module in seen if "evaluate" in module]


def test_a_run_holds_what_its_stages_promise(run: RunFolder, tiny_scene: Path, tmp_path: Path) -> None:
    """A run with all four stages; the shared one may have figures of `eval`."""
    run = train_scene(tiny_scene, run.config, output_dir=tmp_path / "run")
    promised = [pattern for stage in STAGES for pattern in stage.figures]
    for key in run.metrics():
        assert any(fnmatch(key, pattern) for pattern in promised), key
    for stage in STAGES:
        assert stage.is_in(run.folder)
        assert all(any(run.folder.glob(pattern)) for pattern in stage.previews), stage.name
        for key in stage.figures:
            assert "*" in key or key == "instance_crops_seconds" or key in run.metrics(), key


def test_features_and_semantics_go_on_from_a_field(run: RunFolder, tiny_scene: Path, tmp_path: Path) -> None:
    """Refused without a field, before anything is written."""
    config = make_config("cpu", flags=flags(steps=5) | {"only": "features,semantics"})
    with pytest.raises(ConfigError, match="semantics needs a trained field"):
        train_scene(tiny_scene, config, output_dir=tmp_path / "none")
    assert not (tmp_path / "none").exists()
    made, events = load(shutil.copytree(run.folder, tmp_path / "run")), []
    (made.folder / "semantics.safetensors").unlink()
    checkpoint = next(made.checkpoints.glob("*.safetensors")).stat().st_mtime_ns
    config = replace(config, field=made.config.field)
    again = train_scene(tiny_scene, config, resume=made, report=events.append)
    assert again.status()["status"] == "done" and (made.folder / "semantics.safetensors").exists()
    assert logs(events, "plan") == ["Plan: features -> semantics"]
    assert next(made.checkpoints.glob("*.safetensors")).stat().st_mtime_ns == checkpoint


def test_a_field_is_not_measured_twice_unless_asked(copied: RunFolder, tiny_scene: Path) -> None:
    before, events = copied.metrics(), []
    train_scene(tiny_scene, resume=copied, report=events.append)
    assert "Skipped: evaluate, the run has figures of the held-out views" in logs(events, "plan")
    assert not [event for event in events if event.stage == "evaluate"]
    assert copied.metrics()["psnr"] == before["psnr"] and copied.status()["status"] == "done"
    events.clear()
    train_scene(tiny_scene, replace(copied.config, only="evaluate"), resume=copied, report=events.append)
    assert [event.step for event in events if event.stage == "evaluate"] == [1, 2]
    assert copied.metrics()["psnr"] == pytest.approx(before["psnr"], abs=1e-4)
    (copied.folder / "views.json").unlink()
    train_scene(tiny_scene, replace(copied.config, only="field"), resume=copied)
    assert (copied.folder / "views.json").exists()


def test_semantics_are_learned_again_only_if_something_has_changed(
    run: RunFolder, tiny_scene: Path, tmp_path: Path
) -> None:
    made = load(shutil.copytree(run.folder, tmp_path / "run"))

    def learns(only: str | None = None, **changes: Any) -> bool:
        """Whether a resumed training learns semantics."""
        config, events = replace(load(made.folder).config, only=only), []
        parts = {name: replace(getattr(config, name), **change) for name, change in changes.items()}
        train_scene(tiny_scene, replace(config, **parts), resume=made.folder, report=events.append)
        return not any("Skipped: semantics" in message for message in logs(events, "plan"))

    train_scene(tiny_scene, replace(made.config, only=None), resume=made)
    assert not learns()
    assert learns(only="semantics"), "the user asks for it"
    assert learns(semantics={"instance_crops": 1}) and not learns(semantics={"instance_crops": 1})
    learns(semantics={"instance_crops": 2}, only="evaluate")
    assert learns(), "an evaluation has learned nothing with its settings"
    assert learns(encode={"phrases": "sand;stone"}) and not learns()
    made.write_status("interrupted")
    assert learns()
    described = made.encoded()
    described["clip"]["weight_hash"] = "other"
    write_json(made.folder / "features.json", described)
    assert learns(), "an encoder has changed"


def test_a_stop_while_views_are_measured_is_made_up_for(copied: RunFolder, tiny_scene: Path) -> None:
    stop = threading.Event()

    def stop_at_view(event: Event) -> None:
        if event.stage == "evaluate":
            stop.set()

    steps = copied.metrics()["steps"] + 2
    config = replace(copied.config, train=replace(copied.config.train, steps=steps))
    train_scene(tiny_scene, config, resume=copied, report=stop_at_view, stop=stop)
    assert copied.status()["status"] == "interrupted" and copied.status()["step"] == steps
    assert "psnr" not in copied.metrics() and not (copied.folder / "views.json").exists()
    train_scene(tiny_scene, resume=load(copied.folder))
    assert copied.status()["status"] == "done" and copied.metrics()["views"] == 2


def test_only_on_the_command_line(cli: Cli, tiny_scene: Path, copied: RunFolder) -> None:
    for only, words in (
        ("features,semantics", "semantics needs a trained field"),
        ("evaluate", "evaluate needs a trained field"),
        ("fields", "did you mean field?"),
    ):
        done = cli("train", tiny_scene, "--only", only, "--output-dir", "none")
        assert done.returncode == 2 and words in " ".join(done.stderr.replace("│", " ").split()), done.stderr
    done = cli("train", copied.folder, "--resume", "--only", "evaluate")
    assert done.returncode == 0 and done.stdout.startswith("Plan: evaluate\n"), done.stderr


def test_info_shows_the_plan(cli: Cli, tiny_scene: Path) -> None:
    assert "features -> field -> evaluate -> semantics" in cli("info", tiny_scene).stdout
    assert json.loads(cli("info", tiny_scene, "--json").stdout)["plan"] == list(STAGE_NAMES)


def test_time_ends_a_run_of_steps_and_changes_none_of_them(tiny_scene: Path, tmp_path: Path) -> None:
    many, events, stop = 100_000, [], threading.Event()
    short = make_config("cpu", flags=small_settings(steps=many, max_seconds=1.0))
    ended = train_scene(tiny_scene, short, output_dir=tmp_path / "ended", report=events.append)
    taken = ended.metrics()["steps"]
    assert 0 < taken < many and ended.status()["status"] == "done"
    (told,) = logs(events, "field")
    assert f"after {taken:,} of 100,000 steps" in told and "--max-seconds" in told

    def stop_there(event: Event) -> None:
        if event.stage == "field" and event.step == taken:
            stop.set()

    steps = make_config("cpu", flags=small_settings(steps=many, checkpoint_seconds=1e-6))
    stopped = train_scene(tiny_scene, steps, output_dir=tmp_path / "stopped", report=stop_there, stop=stop)
    assert stopped.status()["step"] == taken
    one, other = (load_file(next(run.checkpoints.glob("*.safetensors"))) for run in (ended, stopped))
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)
