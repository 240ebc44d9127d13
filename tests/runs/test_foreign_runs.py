"""Untrusted run folders: one defect at a time, reported before anything is allocated."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import Cli
from safetensors import safe_open
from safetensors.numpy import save_file

from ovseg3d.errors import ConfigError, Ovseg3dError, RunError
from ovseg3d.pipeline.train import train_scene
from ovseg3d.points.semantic_scene import FILE, load_semantics
from ovseg3d.runs.fields import restore
from ovseg3d.runs.folder import hash_scene, is_scene
from ovseg3d.runs.settings import make_config, read_settings
from ovseg3d.scene import Scene
from ovseg3d.session import load

pytestmark = pytest.mark.timeout(60, method="signal")


@pytest.fixture
def mine(colour_run: Path, tmp_path: Path) -> Path:
    """A copy of a run, to be damaged."""
    return shutil.copytree(colour_run, tmp_path / "run")


def set_in(path: Path, *keys: str, value: Any) -> None:
    """Set one value in a JSON file."""
    tree = json.loads(path.read_text())
    inner = tree
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    path.write_text(json.dumps(tree))


def change(path: Path, edit: Callable[[dict[str, np.ndarray]], None]) -> None:
    """Rewrite a safetensors file with other tensors and the same facts."""
    with safe_open(path, framework="numpy") as file:
        facts, arrays = file.metadata(), {name: file.get_tensor(name).copy() for name in file.keys()}
    edit(arrays)
    save_file(arrays, path, metadata=facts)


def checkpoint(run: Path) -> Path:
    (found,) = (run / "checkpoints").glob("*.safetensors")
    return found


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("levels",), 32),
        (("log2_table",), 24),
        (("occupancy_resolution",), 512),
        (("occupancy_resolution",), 64.5),
        (("levels",), True),
        (("features",), 8),
    ],
)
def test_a_field_that_is_not_the_checkpoints_is_never_built(
    mine: Path, keys: tuple[str, ...], value: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each setting is in its range, but together they need 17 GB."""
    set_in(mine / "config.json", "config", "field", *keys, value=value)
    monkeypatch.setattr("ovseg3d.runs.fields.RadianceField", lambda *_, **__: pytest.fail("was built"))
    with pytest.raises(RunError):
        run = load(mine)
        restore(run, run.load_scene(), "cpu", "torch")


@pytest.mark.parametrize("cascades", [True, 2.0, 16, -1, "2", 1e300])
def test_cascades_are_those_of_the_checkpoint(mine: Path, cascades: Any) -> None:
    path = checkpoint(mine)
    with safe_open(path, framework="numpy") as file:
        facts = json.loads(file.metadata()["ovseg3d"])
        arrays = {name: file.get_tensor(name) for name in file.keys()}
    facts["facts"]["box"]["cascades"] = cascades
    save_file(arrays, path, metadata={"ovseg3d": json.dumps(facts)})
    run = load(mine)
    with pytest.raises(RunError):
        restore(run, run.load_scene(), "cpu", "torch")


def test_a_field_that_does_not_fit_the_memory_is_refused(tiny_scene: Path, tmp_path: Path) -> None:
    flags = {"field": {"levels": 32, "features": 8, "log2_table": 24, "max_resolution": 65536}, "only": "field"}
    flags |= {"train": {"device": "cpu", "steps": 1}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ovseg3d.limits.free_memory", lambda: 16 * 2**30)
        with pytest.raises(ConfigError, match="GiB"):
            train_scene(tiny_scene, make_config("cpu", flags=flags), output_dir=tmp_path / "run")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_checkpoint_of_nan_gives_no_figures(mine: Path, value: float, cli: Cli) -> None:
    def spoil(arrays: dict[str, np.ndarray]) -> None:
        arrays["table"][7] = value

    change(checkpoint(mine), spoil)
    done = cli("eval", mine, "--device", "cpu")
    assert done.returncode == 2 and "not finite" in done.stderr and "psnr" not in done.stdout.lower()


def test_another_lens_is_another_capture(mine: Path, scene: Scene) -> None:
    camera = scene.frames[0].camera
    for other in (
        replace(camera, fx=camera.fx * 1.01),
        replace(camera, cx=camera.cx + 1),
        replace(camera, distortion=(0.1, *camera.distortion[1:]) if camera.distortion else (0.1, 0.0, 0.0, 0.0)),
    ):
        frames = (replace(scene.frames[0], camera=other), *scene.frames[1:])
        assert not is_scene(replace(scene, frames=frames), hash_scene(scene))
        assert is_scene(replace(scene, frames=frames), hash_scene(scene, lens=False))
    # A run whose hash does not include lenses still opens.
    set_in(mine / "config.json", "scene", "content_hash", value=hash_scene(scene, lens=False))
    load(mine).load_scene()
    set_in(mine / "config.json", "scene", "content_hash", value="2:" + "0" * 16)
    with pytest.raises(RunError, match="lenses"):
        load(mine).load_scene()


@pytest.fixture
def scene(mine: Path) -> Scene:
    return load(mine).load_scene()


@pytest.mark.parametrize(
    "name",
    [
        "config.json",
        "status.json",
        "scene_transform.json",
        "metrics.json",
        "features.json",
        "phrases.txt",
        FILE,
        "step",
    ],
)
def test_a_pipe_in_place_of_a_file_does_not_hang(mine: Path, name: str, cli: Cli) -> None:
    path = checkpoint(mine) if name == "*" else mine / name
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    for call in (
        lambda: load(mine).status(),
        lambda: load(mine).metrics(),
        lambda: load(mine).transform(),
        lambda: load(mine).phrases,
        lambda: load_semantics(mine),
        lambda: restore(load(mine), load(mine).load_scene(), "cpu", "torch"),
    ):
        try:
            call()
        except Ovseg3dError:
            pass
    assert cli("query", mine, "red", "--device", "cpu").returncode in (0, 2)


@pytest.mark.parametrize(
    "edit",
    [
        lambda a: a["instance"].__setitem__(0, 2**31 - 1),
        lambda a: a.update(pieces=np.full_like(a["instance"], 2**31 - 1)),
        lambda a: a["xyz"].__setitem__(0, np.nan),
        lambda a: a.update(xyz=a["xyz"][:3]),
        lambda a: a.update(axes=a["axes"][:, :0]),
    ],
)
def test_semantics_that_cannot_be_are_refused(mine: Path, edit: Callable[[dict[str, np.ndarray]], None]) -> None:
    change(mine / FILE, edit)
    with pytest.raises(RunError, match="semantics"):
        load_semantics(mine)


def test_phrases_of_a_run_are_words(mine: Path) -> None:
    for text in ("red\x1b[2J\n", "x" * 300, "\x00"):
        (mine / "phrases.txt").write_text(text)
        with pytest.raises(RunError, match="phrase"):
            _ = load(mine).phrases


def test_settings_are_a_small_file_without_aliases(tmp_path: Path) -> None:
    (tmp_path / "bomb.yaml").write_text("a: &a [x, x]\nb: &b [*a, *a]\ntrain: {steps: *b}\n")
    with pytest.raises(ConfigError, match="aliases"):
        read_settings(tmp_path / "bomb.yaml")
    (tmp_path / "deep.yaml").write_text("[" * 5000)
    with pytest.raises(ConfigError, match="deep"):
        read_settings(tmp_path / "deep.yaml")
    with pytest.raises(ConfigError, match="no regular file"):
        read_settings(Path("/dev/zero"))
    (tmp_path / "large.yaml").write_text("# " + "x" * 10**6)
    with pytest.raises(ConfigError, match="larger"):
        read_settings(tmp_path / "large.yaml")


def test_names_of_others_do_not_reach_the_terminal_as_they_are(mine: Path, cli: Cli) -> None:
    set_in(mine / "config.json", "format_version", value="\x1b]0;title\x07\x9b31m")
    done = cli("query", mine, "red")
    assert done.returncode == 2 and not set("\x1b\x07\x9b") & set(done.stderr)
    with pytest.raises(RunError) as caught:
        load(mine)
    assert "\x1b" not in str(caught.value)


def test_a_checkpoint_of_the_run_still_opens(mine: Path) -> None:
    run = load(mine)
    image = restore(run, run.load_scene(), "cpu", "torch").render(run.load_scene().frames[0].camera.scaled(4, 4))
    assert np.isfinite(image["rgb"]).all()


@pytest.mark.usefixtures("run")  # registers the encoders that the run names
def test_a_run_made_with_the_torch_backend_still_opens(mine: Path) -> None:
    set_in(mine / "config.json", "config", "train", "backend", value="torch")
    for encoder in ("clip", "dino"):  # another run may not name the tests' own
        set_in(mine / "config.json", "config", "encode", encoder, value="builtin")
    assert load(mine).config.train.backend == "auto"
    assert make_config("cpu", config_file=mine).train.backend == "auto"
