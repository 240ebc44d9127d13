"""Runs learn from training photos and phrases only: a copy of the scene without everything else gives the same bits.

The test runs the full training on a tiny scene with labels, masks, depth, boxes and held-out photos, and on a copy
without them: field, surface, features, lift; then label images of the views in both.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from colours import CLASSES, true_labels
from exact import register_encoders
from PIL import Image
from tiny import camera_to_world, small_settings

from ovseg3d.export.labels import label_views
from ovseg3d.field.surface import SurfaceConfig
from ovseg3d.pipeline.train import train_scene
from ovseg3d.query.engine import QueryEngine
from ovseg3d.runs.folder import RunFolder
from ovseg3d.runs.settings import make_config


def full_scene(source: Path, folder: Path) -> Path:
    """The tiny scene with everything that could leak."""
    shutil.copytree(source, folder)
    described = json.loads((folder / "transforms.json").read_text())
    (folder / "labels").mkdir()
    for view, frame in enumerate(described["frames"]):
        labels = true_labels(camera_to_world(view))
        frame["label_file_path"] = f"labels/{view:04d}.png"
        Image.fromarray(labels).save(folder / frame["label_file_path"])
        masks = folder / "segmentations" / f"{view:02d}"
        masks.mkdir(parents=True)
        for number, name in enumerate(CLASSES, start=1):
            Image.fromarray((labels == number).astype(np.uint8) * 255).save(masks / f"{name}.png")
    (folder / "segmentations" / "classes.txt").write_text("\n".join(CLASSES))
    described["classes"] = {str(number): name for number, name in enumerate(CLASSES, start=1)}
    (folder / "transforms.json").write_text(json.dumps(described))
    box = {"id": 1, "category": "red box", "center": [-0.2, -0.2, -0.1], "size": [0.6, 0.6, 0.8]}
    (folder / "objects.json").write_text(json.dumps([box]))
    return folder


def bare_scene(full: Path, folder: Path) -> Path:
    """The copy, with training photos and poses only."""
    described = json.loads((full / "transforms.json").read_text())
    kept = set(described.pop("train_filenames"))
    for key in ("val_filenames", "test_filenames", "classes", "depth_unit_scale_factor"):
        described.pop(key)
    described["frames"] = [frame for frame in described["frames"] if frame["file_path"] in kept]
    described["metric"] = True  # depth files said so before
    (folder / "images").mkdir(parents=True)
    for frame in described["frames"]:
        shutil.copy(full / frame["file_path"], folder / frame["file_path"])
        frame.pop("label_file_path"), frame.pop("depth_file_path")
    (folder / "transforms.json").write_text(json.dumps(described))
    return folder


def test_a_copy_without_anything_to_leak_gives_the_same_bits(
    tiny_scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register_encoders(monkeypatch, tmp_path / "cache")
    # Short training gives no sharp surface, so a hazy one is accepted.
    haze = SurfaceConfig(support=1, against=1.0, termination=0.0, opacity=0.1)
    monkeypatch.setattr("ovseg3d.pipeline.semantics.SurfaceConfig", lambda: haze)
    full = full_scene(tiny_scene, tmp_path / "full")
    bare = bare_scene(full, tmp_path / "bare")
    runs = [learn(full, tmp_path, False), learn(bare, tmp_path, True)]
    assert [len(run.load_scene().frames) for run in runs] == [8, 6]
    first, second = (kept(run.folder) for run in runs)
    assert set(first) == set(second) and any(name.startswith("checkpoints") for name in first)
    assert "semantics.safetensors" in first and "phrases.txt" in first
    assert [name for name in first if first[name] != second[name]] == []
    projections = [json.loads((run.folder / "features.json").read_text())["projection"] for run in runs]
    assert projections[0] == projections[1] is not None, "held-out photos shape what DINO's vectors are reduced to"
    assert len({image for name, image in first.items() if name.startswith("labels")}) > 1, "views differ"


def learn(scene: Path, folder: Path, everything: bool) -> RunFolder:
    """Train for a fixed number of steps and label the views that were trained on."""
    encode = {
        "clip": "colours",
        "dino": "patches",
        "features": "regions",
        "clip_side": 64,
        "phrases": ";".join(CLASSES),
    }
    encode["cache_dir"] = str(folder / f"cache-{scene.name}")
    settings = small_settings(steps=30) | {"encode": encode, "only": "field,semantics"}
    config = make_config("cpu", flags=settings | {"scene": settings["scene"] | {"train_on_all": everything}})
    run = train_scene(scene, config, output_dir=folder / f"run-{scene.name}")
    engine = QueryEngine(run)
    names = [engine.scene.frames[view].name for view in engine.scene.train]
    label_views(run.folder / "labels", engine, run.phrases, names, none=False)
    return run


def kept(folder: Path) -> dict[str, bytes]:
    """Files of a run and its answers by name, as bytes; of checkpoints all but their seconds. Depth of held-out views
    is measured, not learnt from."""
    files = [*folder.glob("s*.safetensors"), *folder.glob("labels/*.png"), folder / "phrases.txt"]
    found = {str(path.relative_to(folder)): path.read_bytes() for path in files}
    for path in folder.glob("checkpoints/*.safetensors"):
        data = path.read_bytes()
        start = 8 + int.from_bytes(data[:8], "little")  # a length, a header of JSON, then the tensors
        header = json.loads(data[8:start])
        stated = json.loads(header["__metadata__"].pop("ovseg3d"))
        found[f"checkpoints/{path.name}"] = data[start:]
        found[f"checkpoints/{path.name}, header"] = json.dumps([header, {**stated, "seconds": 0}]).encode()
    return found
