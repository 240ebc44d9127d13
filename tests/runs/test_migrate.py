"""Runs of an earlier version open under current names."""

import json
from pathlib import Path
from shutil import copytree

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from ovseg3d.points.semantic_scene import FILE, load_semantics
from ovseg3d.runs.migrate import FORMAT_VERSION, migrate_figures
from ovseg3d.session import Run, load


def as_format_1(folder: Path) -> Path:
    """Rewrite a current run in the format of the earlier version."""
    config, metrics = folder / "config.json", folder / "metrics.json"
    described = json.loads(config.read_text())
    described["format_version"] = 1
    settings = described["config"]
    settings["meaning"] = settings.pop("semantics")
    settings["meaning"]["portraits"] = settings["meaning"].pop("instance_crops")
    settings["train"]["backend"] = "torch"
    settings["field"]["exposure"] = settings["scene"].pop("exposure") == "on"
    settings["scene"]["refine_poses"] = settings["scene"]["refine_poses"] == "on"
    del settings["scene"]["sparse_depth"]
    config.write_text(json.dumps(described))
    figures = json.loads(metrics.read_text())
    figures["scraps"] = figures.pop("rejected_fragments")
    metrics.write_text(json.dumps(figures))
    with safe_open(folder / FILE, framework="numpy") as file:
        facts = json.loads(file.metadata()["ovseg3d"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    if "instance_crops" in tensors:
        tensors["portraits"] = tensors.pop("instance_crops")
    save_file(tensors, folder / FILE, metadata={"ovseg3d": json.dumps(facts | {"format_version": 1})})
    return folder


def test_a_run_of_format_1_opens_with_the_same_settings_and_answers(run: Run, tmp_path: Path) -> None:
    old = load(as_format_1(Path(copytree(run.folder, tmp_path / "old"))))
    assert old.config.semantics == run.config.semantics and old.config.train.backend == "auto"
    assert (old.config.scene.refine_poses, old.config.scene.exposure, old.config.scene.sparse_depth) == ("off",) * 3
    assert old.metrics()["rejected_fragments"] == run.metrics()["rejected_fragments"] and "scraps" not in old.metrics()
    ours, theirs = load_semantics(run.folder), load_semantics(old.folder)
    for name in ("vectors", "instance", "pieces", "instance_crops"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))
    new, former = run.query("a red thing"), old.query("a red thing")
    assert new.score == former.score and np.array_equal(new.points, former.points)


def test_training_further_writes_the_new_format(run: Run, tmp_path: Path) -> None:
    old = load(as_format_1(Path(copytree(run.folder, tmp_path / "old"))))
    old.write_config()
    described = json.loads((old.folder / "config.json").read_text())
    assert described["format_version"] == FORMAT_VERSION and "meaning" not in described["config"]
    assert load(old.folder).config == old.config


def test_a_new_figure_wins_over_an_old_one() -> None:
    assert migrate_figures({"scraps": 3, "rejected_fragments": 4}) == {"rejected_fragments": 4}
    assert migrate_figures({"rejected_fragments": 4, "scraps": 3}) == {"rejected_fragments": 4}
