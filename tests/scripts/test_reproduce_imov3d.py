"""ImOV3D's stages run on tiny copies of its layouts, and go on from what is kept."""

from pathlib import Path

import numpy as np
import pytest
import torch
from coco_photos import SquareInFront, coco

from ovseg3d.datasets import BoxScene, detection_protocol, write_mmdet3d
from ovseg3d.files import read_json
from ovseg3d.heads.detection import Detector, load_network
from scripts.benchmarks.reproduce_imov3d import ReproduceImOV3D
from scripts.training import lifted_rooms
from scripts.training.train_detection import TrainDetection

SCANNET = detection_protocol("ScanNet-18")


def scan(name: str) -> BoxScene:
    """A block on a floor before a wall."""
    rng = np.random.default_rng(0)
    floor = np.concatenate([rng.uniform(0, 3, (3000, 2)), np.zeros((3000, 1))], 1)
    wall = np.stack([rng.uniform(0, 3, 3000), np.full(3000, 3.0), rng.uniform(0, 2.5, 3000)], 1)
    low, high = np.array([1.0, 1.0, 0.0]), np.array([1.6, 1.6, 0.7])
    block = rng.uniform(low, high, (2000, 3))
    face = rng.integers(3, size=2000)
    block[np.arange(2000), face] = np.where(rng.random(2000) < 0.5, low[face], high[face])
    box = np.array([[*(low + high) / 2, *(high - low), 0.0]])
    xyz = np.concatenate([floor, wall, block])
    return BoxScene(name, xyz, np.full((8000, 3), 150, np.uint8), box, ("chair",), axis_align=np.eye(4))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_network(folder / "detection.safetensors").network.state_dict()


def test_the_stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(lifted_rooms, "load_depth_estimator", lambda name, flag: SquareInFront())
    for split in ("train", "val"):
        write_mmdet3d(tmp_path / split, [scan("scene0001_00")], SCANNET, "infos.pkl")
    work = tmp_path / "work"
    stages = ReproduceImOV3D(
        coco(tmp_path), tmp_path / "val/infos.pkl", tmp_path / "train/infos.pkl", protocol="ScanNet-18", work=work,
        steps=2, recipe=lifted_rooms.LiftRecipe(depth="any"),
    )  # fmt: skip
    # After two steps a head finds nothing; the shipped one stands in for it.
    label = ReproduceImOV3D._label
    monkeypatch.setattr(ReproduceImOV3D, "_label", lambda self, weights: label(self, Detector().weights))
    stages.main()
    assert len(list((work / "photos").glob("*.npz"))) == 1 and len(list((work / "clouds").glob("*.npz"))) == 1
    figures = read_json(work / "figures.json")
    assert set(figures["rows"]) == {"pretrained", "adapted"}
    assert figures["rows"]["adapted"]["true_boxes"] == 1 and figures["rows"]["adapted"]["scenes"] == 1
    assert "ScanNet-18, 18 classes" in capsys.readouterr().out
    pretrained, adapted = (weights(work / stage) for stage in ("pretrained", "adapted"))
    assert not all(torch.equal(pretrained[name], adapted[name]) for name in adapted), "it learnt more"
    stages.main()
    again = weights(work / "adapted")
    assert all(torch.equal(again[name], adapted[name]) for name in adapted), "nothing is done twice"
    assert "0 new boxes" in capsys.readouterr().out


def test_no_label_of_the_clouds_is_read(tmp_path: Path) -> None:
    write_mmdet3d(tmp_path / "a", [scan("scene0001_00")], SCANNET, "infos.pkl")
    moved = scan("scene0001_00")
    moved.boxes[:, :3] += 0.5
    write_mmdet3d(tmp_path / "b", [moved], SCANNET, "infos.pkl")
    rooms = []
    for folder in ("a", "b"):
        stages = ReproduceImOV3D(
            tmp_path / "none.json", tmp_path / "none.pkl", tmp_path / folder / "infos.pkl", protocol="ScanNet-18",
            work=tmp_path / folder / "work",
        )  # fmt: skip
        stages._label(Detector().weights)
        rooms.append((tmp_path / folder / "work/clouds/scene0001_00.npz").read_bytes())
    assert rooms[0] == rooms[1]


def test_an_interrupted_training_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifted_rooms, "load_depth_estimator", lambda name, flag: SquareInFront())
    monkeypatch.setattr(TrainDetection, "train", lambda self: 130)
    stages = ReproduceImOV3D(
        coco(tmp_path), tmp_path / "none.pkl", tmp_path / "none.pkl", work=tmp_path / "work",
        recipe=lifted_rooms.LiftRecipe(depth="any"),
    )  # fmt: skip
    with pytest.raises(SystemExit) as ended:
        stages.main()
    assert ended.value.code == 130 and not (tmp_path / "work/clouds").exists(), "an unfinished head labels nothing"
