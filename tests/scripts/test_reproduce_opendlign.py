"""OpenDlign's table on tiny copies of the data sets, with a tiny random encoder."""

from dataclasses import replace
from pathlib import Path

import named_shapes as copies
import numpy as np
import pytest
from safetensors.torch import save_file
from tiny_models import add_architecture, clip_config, random_clip, save_clip_folder

from ovseg3d.datasets import SHAPE_PROTOCOLS, NamedShape
from ovseg3d.encoders import load_clip
from ovseg3d.errors import ConfigError, MeasureError, ShapeError
from ovseg3d.evaluate.naming import PROJECTIONS, name_shapes
from ovseg3d.files import read_json
from ovseg3d.heads.naming import ShapeNamer
from ovseg3d.heads.naming.towers import AlignedTower
from scripts.benchmarks.reproduce_opendlign import ReproduceOpenDlign


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("clip")
    name = add_architecture(folder, "tiny-opendlign", clip_config())
    return str(save_clip_folder(folder / "tiny", clip_config(), random_clip(name)))


@pytest.fixture(scope="module")
def weights(clip: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tuned weights that differ from the frozen ones."""
    path = tmp_path_factory.mktemp("weights") / "tuned.safetensors"
    tuned = AlignedTower(load_clip(clip)).trained()
    save_file({name: (3 * parameter + 1).detach().contiguous() for name, parameter in tuned.items()}, path)
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    copies.write_modelnet(folder / "ModelNet40", SHAPE_PROTOCOLS["ModelNet40"].classes)
    copies.write_scanobjectnn(folder / "ScanObjectNN", {"main_split_nobg/test_objectdataset.h5": [0, 14, 14]})
    copies.write_omniobject3d(folder / "OmniObject3D", ("anise_001", "toy_car_001"))
    copies.write_lvis(folder / "Objaverse-LVIS", {"bow_(weapon)": ["a"], "chair": ["b"], "cup": ["c"]}, missing=("c",))
    return folder


def test_the_table_in_one_command(
    data: Path, clip: str, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ReproduceOpenDlign(data, output=tmp_path / "out.json", clip=clip, weights=weights, limit=2, device="cpu").main()
    found = read_json(tmp_path / "out.json")["data_sets"]
    assert {name: one["listed"] for name, one in found.items()} == {
        "ModelNet40": 40, "ScanObjectNN-OBJ_ONLY": 3, "OmniObject3D": 2, "Objaverse-LVIS": 2,
    }  # fmt: skip
    for one in found.values():
        assert set(one["towers"]) == {"frozen", "tuned", "half-half", "both"}
        for scores in one["towers"].values():
            assert scores["shapes"] == 2 and 0 <= scores["top1"] <= scores["top3"] <= scores["top5"] <= 1
    assert found["Objaverse-LVIS"]["towers"]["both"]["classes"] == 3
    assert found["Objaverse-LVIS"]["towers"]["both"]["top3"] == 1
    shown = capsys.readouterr().out
    assert "2 of 40 shapes" in shown and "82.6" in shown and "59.5" in shown


def test_time_and_memory_need_no_weights(
    data: Path, clip: str, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the architecture that the fixture `clip` has added."""
    output = tmp_path / "out.json"
    run = ReproduceOpenDlign(data, ("ScanObjectNN-OBJ_ONLY",), output, "tiny-opendlign", random_weights=True, limit=1)
    run.main()
    found = read_json(output)["data_sets"]["ScanObjectNN-OBJ_ONLY"]
    assert set(found["towers"]) == {"frozen", "tuned", "half-half", "both"}
    assert min(found["cost"].values()) > 0
    assert "each shape: " in capsys.readouterr().out
    with pytest.raises(ConfigError, match="--weights"):
        replace(run, weights=weights).main()
    with pytest.raises(ConfigError, match="no architecture"):
        replace(run, clip="ViT-Z").main()


def test_missing_data_sets_are_said(data: Path, clip: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "OmniObject3D").symlink_to(data / "OmniObject3D")
    ReproduceOpenDlign(tmp_path, output=tmp_path / "out.json", clip=clip, omniobject3d_up="y", device="cpu").main()
    assert "ModelNet40 is left out" in capsys.readouterr().out
    assert list(read_json(tmp_path / "out.json")["data_sets"]["OmniObject3D"]["towers"]) == ["frozen"]
    (tmp_path / "OmniObject3D").unlink()
    with pytest.raises(ConfigError, match="None of the data sets"):
        ReproduceOpenDlign(tmp_path, clip=clip).main()


def test_shapes_are_thinned_out_and_turned_upright(clip: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A box as high as 9, in a file with y up and in one with z up."""
    box = copies.cloud(0, 5000) / np.abs(copies.cloud(0, 5000)).max(0) * (1, 2, 9)
    seen: list[np.ndarray] = []
    monkeypatch.setitem(PROJECTIONS, "ours", lambda points: seen.append(points) or np.ones((2, 64, 64)))
    y_up = box[:, [0, 2, 1]] * (1, 1, -1)
    shapes = [NamedShape("a", "box", "z", lambda: box), NamedShape("b", "box", "y", lambda: y_up)]
    name_shapes(ShapeNamer(clip), SHAPE_PROTOCOLS["OmniObject3D"], shapes, ("box",), projection="ours")
    assert [points.shape for points in seen] == [(4096, 3)] * 2
    assert all(np.abs(points).max(0)[2] == pytest.approx(9) for points in seen)
    assert np.ptp(seen[1][:, 2]) == pytest.approx(18, abs=0.1) and (seen[0][:, 2] > 0).mean() == pytest.approx(
        (seen[1][:, 2] > 0).mean()
    )


def test_a_shape_that_cannot_be_read_is_an_error(clip: str, tmp_path: Path) -> None:
    folder = copies.write_omniobject3d(tmp_path, ("anise_001", "toy_car_001"))
    (folder / "toy_car" / "toy_car_001" / "pcd_4096.ply").write_text("nothing")
    protocol, namer = SHAPE_PROTOCOLS["OmniObject3D"], ShapeNamer(clip)
    shapes = protocol.read(folder)
    found = name_shapes(namer, protocol, shapes, ("anise", "toy_car"), projection="ours")["frozen"]
    assert found.by_class["toy_car"] == 0 and found.top5 == 0.5
    with pytest.raises(ShapeError, match="cannot be read"):
        name_shapes(namer, protocol, shapes[1:], ("anise", "toy_car"))
    with pytest.raises(MeasureError, match="'toy_car'"):
        name_shapes(namer, protocol, shapes, ("anise",))
