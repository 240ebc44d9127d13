"""Scripts of the papers' protocols, on tiny data in the papers' layouts."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from colours import CLASSES, flags, with_masks, with_polygons
from PIL import Image
from tiny import FOCAL, SIZE, VIEWS, camera_to_world, draw

from ovseg3d.errors import ConfigError
from ovseg3d.runs.folder import RunFolder
from scripts.benchmarks.reproduce_3dovs import Reproduce3dOvs
from scripts.benchmarks.reproduce_lerf import ReproduceLerf


def llff_scene(folder: Path) -> Path:
    """The tiny scene as 3D-OVS has its own: photos, poses_bounds.npy."""
    (folder / "images").mkdir(parents=True)
    rows = []
    for view in range(VIEWS):
        rgb, _ = draw(camera_to_world(view))
        Image.fromarray(np.rint(rgb * 255).astype(np.uint8)).save(folder / "images" / f"{view:04d}.png")
        c2w = camera_to_world(view)
        axes = np.stack([c2w[:3, 1], c2w[:3, 0], -c2w[:3, 2], c2w[:3, 3], [SIZE, SIZE, FOCAL]], 1)
        rows.append([*axes.ravel(), 0.5, 12.0])
    np.save(folder / "poses_bounds.npy", np.array(rows))
    return folder


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "settings.json"
    path.write_text(json.dumps({**flags(steps=5), "only": None}))
    return path


def test_3d_ovs_trains_measures_and_averages(
    run: RunFolder, tmp_path: Path, config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    for name, views in (("bed", (0, 3)), ("sofa", (2,))):
        with_masks(llff_scene(data / name), views)
    (data / "notes").mkdir()
    script = Reproduce3dOvs(data, output=tmp_path / "out", clip="colours", dino="patches", config=config)
    told = script.main()
    assert set(told["train"]["scenes"]) == {"bed", "sofa"} and "held-out" not in told
    bed, sofa = (told["train"]["scenes"][name]["miou"] for name in ("bed", "sofa"))
    assert told["train"]["mean"]["miou"] == pytest.approx((bed + sofa) / 2) and min(bed, sofa) > 0.3
    assert set(told["train"]["scenes"]["sofa"]["iou"]["images/0002.png"]) == set(CLASSES)
    printed = capsys.readouterr().out
    assert "| bed | trained on |" in printed and "mean of 2" in printed and "plain mean over 2 scenes" in printed
    written = json.loads((tmp_path / "out" / "3d-ovs.json").read_text())
    made = written["runs"]["bed"]
    assert written["clip"] == "colours" and set(written["runs"]) == {"bed", "sofa"}
    assert made["clip"]["id"] == "mean-colour" and made["dino"]["weight_hash"] and made["config"]["train"]["steps"] == 5
    # A second call trains nothing.
    monkeypatch.setattr("scripts.benchmarks.paper_runs.train_scene", None)
    assert script.main()["train"]["mean"] == told["train"]["mean"]
    # What is there is not passed off as what was made otherwise, or of other photos.
    for change, words in (
        ({"dino": "none"}, r"other settings: encode\.dino"),
        ({"max_side": 16}, r"other settings: scene\.max_side"),
    ):
        with pytest.raises(ConfigError, match=words):
            replace(script, **change).main()
    Image.new("RGB", (SIZE, SIZE)).save(data / "sofa" / "images" / "0001.png")
    with pytest.raises(ConfigError, match="another scene than .*sofa"):
        script.main()
    with pytest.raises(ConfigError, match="no scene"):
        Reproduce3dOvs(tmp_path / "data" / "notes").main()
    with pytest.raises(ConfigError, match="no such folder"):
        Reproduce3dOvs(tmp_path / "nowhere").main()


def test_3d_ovs_with_views_held_out(run: RunFolder, tmp_path: Path, config: Path) -> None:
    with_masks(llff_scene(tmp_path / "data" / "bed"), (0, 3))
    script = Reproduce3dOvs(
        tmp_path / "data", output=tmp_path / "out", clip="colours", dino="none", config=config, train_on_all=False
    )
    told = script.main()
    assert {"held-out", "train"} < set(told)
    assert set(told["held-out"]["scenes"]["bed"]["iou"]) == {"images/0000.png"}


def test_lerf_trains_measures_and_averages(run: RunFolder, tiny_scene: Path, tmp_path: Path, config: Path) -> None:
    for name in ("ramen", "teatime"):
        shutil.copytree(tiny_scene, tmp_path / "data" / name)
        with_polygons(tmp_path / "data" / "label" / name, (0, 1))
    script = ReproduceLerf(tmp_path / "data", output=tmp_path / "out", clip="colours", dino="none", config=config)
    assert script.names() == ("ramen", "teatime")
    told = script.main()
    mean, scenes = told["train"]["mean"], told["train"]["scenes"]
    assert mean["protocol"] == "lerf" and mean["scenes"] == ["ramen", "teatime"]
    assert mean["miou"] == pytest.approx(np.mean([scene["miou"] for scene in scenes.values()]))
    assert len(scenes["ramen"]["units"]) == 4
