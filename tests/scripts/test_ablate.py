"""The script that compares the methods, on the tiny scene with labels."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from exact import register
from PIL import Image
from tiny import BOXES, VIEWS, camera_to_world, draw, write_tiny_scene

from ovseg3d.errors import ConfigError
from scripts.benchmarks import ablate as script

ROWS = "2d,lift,default,no-fda"


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """The tiny scene with labels: 1 sand, 2 red, 3 blue, 0 the sky."""
    folder = write_tiny_scene(tmp_path / "scene")
    (folder / "labels").mkdir()
    described = json.loads((folder / "transforms.json").read_text())
    described["classes"] = {"1": "sand", "2": "red", "3": "blue"}
    for index in range(VIEWS):
        rgb, depth = draw(camera_to_world(index))
        directions = [np.array(colour) / np.linalg.norm(colour) for *_, colour in BOXES]
        found = 1 + np.argmax(rgb / np.linalg.norm(rgb, axis=-1, keepdims=True) @ np.stack(directions, 1), -1)
        file = f"labels/{index:04d}.png"
        Image.fromarray(np.where(depth > 0, found, 0).astype(np.uint8)).save(folder / file)
        described["frames"][index]["label_file_path"] = file
    (folder / "transforms.json").write_text(json.dumps(described))
    return folder


def test_each_row_is_made_once_and_kept(
    scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    register(monkeypatch, tmp_path / "cache")
    output = tmp_path / "ablation"
    options = {"output": output, "clip": "sharp", "dino": "sharp", "steps": 5, "refine_steps": 5, "forms": "dense"}
    script.Ablate(scene, rows=ROWS, **options).main()
    rows = json.loads((output / "rows.json").read_text())
    assert list(rows) == ROWS.split(",")
    assert rows["lift"]["miou"] > 0.75 and rows["default"]["miou"] > 0.75 and rows["2d"]["miou"] > 0.4
    assert rows["no-fda"]["features"] == "pyramid"
    assert rows["lift"]["features"] == "regions" and rows["2d"]["features"].startswith("dense, smoothed by")
    for name, row in rows.items():
        assert 0 <= row["accuracy"] <= 1 and 0 <= row["agree"] <= 1 and row.get("point_miou") is None
        assert row.get("steps") == (5 if name == "no-fda" else None)
    table = (output / "table.md").read_text().splitlines()
    assert len(table) == 2 + len(rows) and table[2].startswith("| 2D |")
    assert table[-1].startswith("| 3d-ovs without feature alignment |")

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("a row that was there is made again")

    # An interruption leaves the rows so far; only what is missing is made, and the table has all.
    del rows["no-fda"]
    (output / "rows.json").write_text(json.dumps(rows))
    monkeypatch.setattr(script, "train_scene", fail)
    capsys.readouterr()
    script.Ablate(scene, rows=ROWS, **options).main()
    assert capsys.readouterr().out.strip().endswith(table[-1])
    # Other settings are another row.
    with pytest.raises(AssertionError, match="made again"):
        script.Ablate(scene, rows="default", **(options | {"refine_steps": 6})).main()
    # So is one of another field under the same name.
    (checkpoint,) = (output / "field" / "checkpoints").glob("*.safetensors")
    before = checkpoint.read_bytes()
    checkpoint.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    with pytest.raises(AssertionError, match="made again"):
        script.Ablate(scene, rows="default", **options).main()
    # A field that was trained otherwise, or of something else, is not passed off as what was asked for.
    with pytest.raises(ConfigError, match=r"other settings: train\.steps"):
        script.Ablate(scene, rows="lift", **(options | {"steps": 6})).main()
    other = shutil.copytree(scene, tmp_path / "other")
    Image.new("RGB", (32, 32)).save(other / "images" / "0003.png")
    with pytest.raises(ConfigError, match="another scene"):
        script.Ablate(other, rows="lift", **options).main()


def test_mistakes_are_told_before_anything_is_trained(scene: Path, tiny_scene: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no row 'leaf'"):
        script.Ablate(scene, output=tmp_path / "out", rows="lift,leaf").main()
    with pytest.raises(ConfigError, match="no label images"):
        script.Ablate(tiny_scene, output=tmp_path / "out").main()
    assert not (tmp_path / "out").exists()
