"""The command `pose`, end to end: its JSON, its files, and bad input."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli.test_detect_command import write_ply
from commands import Cli
from heads.test_detection import room_cloud
from PIL import Image
from scipy.spatial.transform import Rotation

from ovseg3d.errors import OutputError
from ovseg3d.export.poses import PosedScene, save_poses
from ovseg3d.geometry import from_wxyz, to_wxyz
from ovseg3d.instances import fit_box
from ovseg3d.points.semantic_scene import load_semantics
from ovseg3d.query.poses import InstancePose
from ovseg3d.scene import Camera
from ovseg3d.session import Run
from scripts.training.pose_crops import pose_crop

KEYS = {
    "id", "label", "bbox", "center", "size", "rotation_wxyz", "front", "azimuth_rad", "elevation_rad", "theta_rad",
    "symmetry_order", "pose_probabilities", "score", "source", "sources", "n_photos",
}  # fmt: skip


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An object of a procedural kind beside a plain wall."""
    crop = next(crop for k in range(20) if (crop := pose_crop(9, k, "new", room_share=0.0)).order == 1)
    wide = np.concatenate([crop.image, np.full_like(crop.image, 190)], 1)
    path = tmp_path_factory.mktemp("photo") / "object.png"
    Image.fromarray(wide).save(path)
    return path


def test_a_photo(cli: Cli, photo: Path, tmp_path: Path) -> None:
    boxes = "4,4,92,92; 104,8,188,92"
    done = cli("pose", photo, "--box", boxes, "--label", "thing", "--output", tmp_path / "out", "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["frame"] == "camera" and said["metric"] is False and said["up"] is None
    (one,) = said["objects"]
    assert set(one) == KEYS and one["label"] == "thing" and one["source"] == "photo" and one["center"] is None
    assert one["bbox"] == pytest.approx([4, 4, 92, 92]) and 0 < one["score"] <= 1
    assert said["notes"][0] == "No object is recognised in box 2." and "focal length" in said["notes"][1]
    assert json.loads((tmp_path / "out/poses.json").read_text())["objects"] == said["objects"]
    kept = np.load(tmp_path / "out/poses.npz")
    assert {name: len(kept[name]) for name in kept.files} == {f"0/{k}": 72 for k in ("azimuth", "elevation", "theta")}
    assert kept["0/azimuth"].sum() == pytest.approx(1, abs=1e-4) and one["pose_probabilities"] == "poses.npz#0"
    with Image.open(tmp_path / "out/overlay.png") as picture:
        assert picture.width >= 900
        red = np.asarray(picture.convert("RGB")).astype(int)
    assert ((red[..., 2] - red[..., 0]) > 150).sum() > 50, "the up axis is drawn in blue"


def test_the_table_and_a_photo_without_an_object(cli: Cli, photo: Path, tmp_path: Path) -> None:
    done = cli("pose", photo, "--box", "0,0,96,96")
    assert done.returncode == 0 and "azimuth" in done.stdout and "1 object with a pose." in done.stdout
    Image.new("RGB", (120, 90), (200, 200, 200)).save(tmp_path / "wall.png")
    done = cli("pose", tmp_path / "wall.png", "--json")
    assert done.returncode == 0 and json.loads(done.stdout)["objects"] == []
    assert "No object is recognised in the photo" in done.stderr


def test_noise_has_no_front_that_stands_out(cli: Cli, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    said = json.loads(cli("pose", tmp_path / "noise.png", "--json").stdout)
    (one,) = said["objects"]
    assert one["front"] is not None and one["score"] < 0.5
    (note,) = said["notes"]
    assert note == f"No front stands out in the photo: that which is found has a probability of {one['score']:.0%}."


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--box", "1,2,3"), "--box must be"),
        (("--box", " ; "), "--box is empty"),
        (("--label", " "), "--label is empty"),
        (("--box", "9,9,4,12"), "--box must be"),
        (("--box", "0,0,nan,4"), "--box must be"),
        (("--box", "0,0,999,90"), "outside the photo of 192 x 96 pixels"),
        (("--intrinsics", "1,2"), "--intrinsics must be"),
        (("--up", "y"), "--up would have no effect"),
        (("--view", "0001"), "--view would have no effect"),
        (("--label", "word " * 60), "too long"),
    ],
)
def test_flags_that_make_no_sense(cli: Cli, photo: Path, tmp_path: Path, arguments: tuple, words: str) -> None:
    done = cli("pose", photo, *arguments, "--output", tmp_path / "out")
    assert done.returncode == 2 and words in " ".join(done.stderr.split()) and "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_cloud(cli: Cli, tmp_path: Path) -> None:
    path = write_ply(tmp_path / "room.ply", room_cloud().xyz)
    done = cli("pose", path, "--min-score", 0.1, "--output", tmp_path / "out", "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["frame"] == "input" and said["metric"] is True and (tmp_path / "out/birds_eye.png").exists()
    for one in said["objects"]:
        assert set(one) == KEYS and one["source"] == "cloud" and one["azimuth_rad"] is None and one["label"]
        front = from_wxyz(one["rotation_wxyz"]).apply([0, -1, 0])
        assert one["front"] is None if one["symmetry_order"] != 1 else one["front"] == pytest.approx(front)
    assert said["objects"]
    done = cli("pose", write_ply(tmp_path / "bad.ply", np.full((100, 3), np.nan)))
    assert done.returncode == 2 and "no finite point" in done.stderr
    done = cli("pose", path, "--box", "0,0,9,9")
    assert done.returncode == 2 and "--box would have no effect" in " ".join(done.stderr.split())


def test_a_set_of_files_replaces_the_pictures_of_the_one_before(tmp_path: Path) -> None:
    """Those that its listing names, and only files of the folder itself."""
    camera, rgb = Camera(8, 8, 8.0, 8.0, 4.0, 4.0, np.eye(4)), np.zeros((8, 8, 3), np.uint8)
    two = PosedScene((), "camera", photos=(("a", rgb, camera), ("b", rgb, camera)))
    (tmp_path / "mine.png").write_bytes(b"mine")
    folder = tmp_path / "out"
    assert {path.name for path in save_poses(folder, two, "two")} >= {"overlay_a.png", "overlay_b.png"}
    (folder / "overlay_mine.png").write_bytes(b"mine")
    listing = json.loads((folder / "poses.json").read_text())
    assert listing["pictures"] == ["overlay_a.png", "overlay_b.png"]
    (folder / "poses.json").write_text(json.dumps({**listing, "pictures": [*listing["pictures"], "../mine.png", 3]}))
    save_poses(folder, replace(two, photos=two.photos[:1]), "one")
    assert {path.name for path in folder.iterdir()} == {"poses.json", "poses.npz", "overlay.png", "overlay_mine.png"}
    assert (tmp_path / "mine.png").read_bytes() == b"mine"


def test_a_run(cli: Cli, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run.folder, folder)
    view = run.load_scene().frames[0].name
    # Into the run's own folder, too: the poses that it keeps are another file.
    done = cli("pose", folder, "--view", view, "--output", folder, "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["frame"] == "input" and said["objects"]
    found = {one.instance.id: one for one in run.pose() if one.pose is not None}
    assert [one["id"] for one in said["objects"]] == list(found)
    for one, same in zip(said["objects"], found.values()):
        assert one["source"] in ("photo", "fused") and one["n_photos"] == len(same.views) > 0
        assert one["azimuth_rad"] is not None and set(one["sources"]) <= {"photo", "cloud"}
        assert same.pose is not None and one["rotation_wxyz"] == pytest.approx(same.pose.rotation_wxyz)
    # The head says a box of each instance, however unsure, so that its cloud counts.
    assert any("cloud" in one["sources"] for one in said["objects"])
    assert (folder / "overlay.png").exists() and (folder / "birds_eye.png").exists()
    done = cli("export", folder, "--what", "instances", "--output", tmp_path / "export", "--frame", "world")
    assert done.returncode == 0, done.stderr
    kept = json.loads((tmp_path / "export/instances.json").read_text())["instances"]
    assert {one["id"] for one in kept} >= set(found)
    similarity = run.transform()[0][:3, :3]
    world = Rotation.from_matrix(similarity / np.cbrt(np.linalg.det(similarity)))
    for one in kept:
        same = found[one["id"]].pose
        assert same is not None
        expected = world * from_wxyz(same.rotation_wxyz)
        assert (from_wxyz(one["pose"]["rotation_wxyz"]).inv() * expected).magnitude() < 1e-6
        if same.front is not None:
            assert one["pose"]["front"] == pytest.approx(world.apply(same.front))
            # The box lies along the pose.
            assert (from_wxyz(one["rotation_wxyz"]).inv() * expected).magnitude() < 1e-6
    done = cli("pose", folder)
    heading, *rows = done.stdout.splitlines()
    assert heading.split()[:3] == ["name", "id", "score"]
    start = heading.index("id")
    assert [int(row[: start + 2].split()[-1]) for row in rows[: len(found)]] == list(found)
    done = cli("pose", folder, "--view", "nothing")
    assert done.returncode == 2 and "no view 'nothing'" in done.stderr

    def refuse(*_: Any) -> None:
        raise OutputError("No permission to write here", where=folder)

    monkeypatch.setattr("ovseg3d.query.poses.keep_poses", refuse)
    done = cli("pose", folder, "--json")
    assert done.returncode == 0 and len(json.loads(done.stdout)["objects"]) == len(found)
    assert "does not keep these poses" in json.loads(done.stdout)["notes"][0]


def test_a_box_lies_along_the_pose_also_without_a_front(cli: Cli, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    turn, found = Rotation.from_euler("z", 0.7), run.pose()

    def turned(*_: Any, **__: Any) -> tuple[InstancePose, ...]:
        poses = [one.pose for one in found if one.pose is not None]
        made = [replace(p, rotation_wxyz=to_wxyz(from_wxyz(p.rotation_wxyz) * turn), symmetry_order=2) for p in poses]
        return tuple(replace(one, pose=pose) for one, pose in zip(found, made, strict=True))

    monkeypatch.setattr("ovseg3d.query.poses.pose_in_run", turned)
    monkeypatch.setattr("ovseg3d.query.poses.keep_poses", lambda *_: None)
    done = cli("pose", run.folder, "--json")
    assert done.returncode == 0, done.stderr
    semantics = load_semantics(run.folder)
    for one in json.loads(done.stdout)["objects"]:
        points = semantics.surface.xyz[semantics.instance == one["id"]].astype(float)
        box = fit_box(points, semantics.surface.up, rotation_wxyz=tuple(one["rotation_wxyz"]))
        assert one["size"] == pytest.approx(box.size) and one["center"] == pytest.approx(box.center)
