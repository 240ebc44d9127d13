"""The command `detect`, end to end: its JSON, its files, and bad input."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from commands import Cli
from heads.test_detection import room_cloud
from PIL import Image
from plyfile import PlyData, PlyElement

from ovseg3d.heads.detection import Detector
from ovseg3d.points.semantic_scene import load_semantics
from ovseg3d.scene import PointCloud
from ovseg3d.session import Run, load


def write_ply(path: Path, xyz: np.ndarray) -> Path:
    table = np.empty(len(xyz), dtype=[(name, "f4") for name in "xyz"])
    for name, column in zip("xyz", xyz.T):
        table[name] = column
    PlyData([PlyElement.describe(table, "vertex")]).write(str(path))
    return path


@pytest.fixture(scope="module")
def room_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_ply(tmp_path_factory.mktemp("cloud") / "room.ply", room_cloud().xyz)


def test_a_cloud(cli: Cli, room_file: Path, tmp_path: Path) -> None:
    done = cli("detect", room_file, "--min-score", 0.1, "--output", tmp_path / "boxes", "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["metric"] is True and said["frame"] == "input" and said["warnings"] == [] and said["detections"]
    first = said["detections"][0]
    assert set(first) >= {
        "label", "score", "center", "size", "rotation_wxyz", "yaw_rad", "front", "symmetry_order", "candidates",
        "n_points", "id",
    }  # fmt: skip
    kept = json.loads((tmp_path / "boxes/detections.json").read_text())
    assert kept["detections"] == said["detections"]
    with open(tmp_path / "boxes/detections.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["label"] for row in table] == [d["label"] for d in said["detections"]]
    assert float(table[0]["x"]) == pytest.approx(first["center"][0], abs=1e-3)
    with Image.open(tmp_path / "boxes/birds_eye.png") as picture:
        assert picture.width > 500


def test_an_exact_cloud_has_refined_boxes(cli: Cli, room_file: Path) -> None:
    """Those of `Detector(exact=True)`; a run's boxes are refined anyway."""
    found = json.loads(cli("detect", room_file, "--exact", "--json").stdout)["detections"]
    wanted = Detector(exact=True).detect(PointCloud(room_cloud().xyz.astype(np.float32)))
    assert found and len(found) == len(wanted)
    np.testing.assert_allclose([one["size"] for one in found], [one.size for one in wanted], atol=0.01)
    done = cli("detect", room_file.parent, "--exact")
    assert done.returncode == 2 and "--exact" in done.stderr and "point cloud" in done.stderr


def test_the_table(cli: Cli, room_file: Path) -> None:
    done = cli("detect", room_file, "--min-score", 0.1)
    assert done.returncode == 0 and "faces" in done.stdout and "in 46,000 points" in done.stdout


def test_pictures_of_a_cloud_with_colours(cli: Cli, room_file: Path, tmp_path: Path) -> None:
    xyz = room_cloud().xyz
    np.savez(tmp_path / "room.npz", xyz=xyz, rgb=np.where(xyz[:, 2:] > 0.01, [0.7, 0.2, 0.1], [0.5, 0.5, 0.5]))

    def found(path: Path, *flags: object) -> list[dict]:
        done = cli("detect", path, "--min-score", 0.1, "--json", *flags)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)["detections"]

    pictures, points = found(tmp_path / "room.npz", "--clip", "builtin"), found(tmp_path / "room.npz")
    assert [one["center"] for one in pictures] == [one["center"] for one in points]
    assert [one["candidates"] for one in pictures] != [one["candidates"] for one in points]


def test_a_negative_axis_and_the_encoder_of_pictures(cli: Cli, room_file: Path, tmp_path: Path) -> None:
    fallen = write_ply(tmp_path / "fallen.ply", room_cloud().xyz * [1, -1, -1])
    for flags in (("--up", "-z"), ("--up=-z",)):
        assert json.loads(cli("detect", *flags, fallen, "--json").stdout)["up"] == [0, 0, -1]
    text = " ".join(cli("detect", "--help").stdout.replace("│", " ").split())
    assert "With a point cloud: the text-image encoder" in text


def test_shapes_name_a_cloud_without_colours(cli: Cli, room_file: Path) -> None:
    def found(*flags: str) -> list[dict]:
        done = cli("detect", room_file, "--min-score", 0.1, "--json", *flags)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)["detections"]

    head, shape, both = found(), found("--name-by", "shape"), found("--name-by", "head, shape")
    assert head == found("--name-by", "head") and both == found("--clip", "builtin")
    names = [[one["candidates"] for one in own] for own in (head, shape, both)]
    assert names[0] != names[2] != names[1]
    assert len({json.dumps([one["center"] for one in own]) for own in (head, both)}) == 1


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--name-by", "images"), "has no colours"),
        (("--name-by", "head,colour"), "not 'colour'"),
        (("--name-by", ""), "--name-by takes"),
        (("--name-by", "head", "--clip", "builtin"), "no effect"),
        (("--device", "cpu"), "--clip or --name-by"),
    ],
)
def test_sources_of_names_that_a_cloud_lacks(cli: Cli, room_file: Path, flags: tuple[str, ...], words: str) -> None:
    done = cli("detect", room_file, *flags)
    assert done.returncode == 2 and words in " ".join(done.stderr.split()) and "Traceback" not in done.stderr


def test_only_a_clouds_names_have_sources(cli: Cli, tmp_path: Path) -> None:
    done = cli("detect", tmp_path, "--name-by", "shape")
    assert done.returncode == 2 and "use it with a point cloud" in " ".join(done.stderr.split())


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (np.zeros((0, 3)), "no finite point"),
        (np.full((100, 3), np.nan), "no finite point"),
        (np.random.default_rng(0).random((10, 3)), "10 points"),
    ],
    ids=["empty", "NaN", "10 points"],
)
def test_clouds_without_a_scene(cli: Cli, tmp_path: Path, content: np.ndarray, words: str) -> None:
    done = cli("detect", write_ply(tmp_path / "bad.ply", content), "--output", tmp_path / "out")
    assert done.returncode == 2 and words in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_one_plane_is_answered_with_a_warning(cli: Cli, tmp_path: Path) -> None:
    plane = np.column_stack([np.random.default_rng(0).uniform(0, 3, (5000, 2)), np.zeros(5000)])
    done = cli("detect", write_ply(tmp_path / "plane.ply", plane), "--json")
    assert done.returncode == 0 and "one plane" in json.loads(done.stdout)["warnings"][0] and "one plane" in done.stderr


@pytest.mark.parametrize("command", ["detect", "pose"])
def test_files_of_other_kinds(cli: Cli, tmp_path: Path, command: str) -> None:
    (tmp_path / "README.md").write_text("# Nothing\n")
    for name, words in (("README.md", "no point cloud"), ("m.xyzrgb", "no such file"), ("m.bin", "missing")):
        done = cli(command, tmp_path / name)
        assert done.returncode == 2 and words in done.stderr, name
        assert all(suffix in done.stderr for suffix in (".pcd", ".ply", ".jpg")) or name == "m.bin"
    done = cli(command, tmp_path / "no-run")
    assert done.returncode == 2 and "There is no such run" in done.stderr


@pytest.mark.parametrize(("shape", "word"), [((1, 1, 1), "line"), ((0, 0, 0), "place")])
def test_a_line_and_a_place_hold_no_objects(cli: Cli, tmp_path: Path, shape: tuple, word: str) -> None:
    file = write_ply(tmp_path / "cloud.ply", np.linspace(0, 4, 2000)[:, None] * shape + 1)
    done = cli("detect", file, "--output", tmp_path / "out")
    assert (
        done.returncode == 0
        and done.stderr.split() == f"Note: The cloud is one {word}: no object stands out from it.".split()
    )
    assert "0 objects in 2,000 points" in done.stdout and (tmp_path / "out/detections.json").is_file()
    done = cli("pose", file)
    assert done.returncode == 0 and f"one {word}" in done.stderr and "--min-score" not in done.stderr


def test_other_frames_are_answered_with_a_warning(cli: Cli, tmp_path: Path) -> None:
    xyz = room_cloud().xyz
    cases = {"cm": 100 * xyz, "y-up": xyz[:, [1, 2, 0]], "fallen": xyz * [1, -1, -1]}
    words = {"cm": "centimetres", "y-up": "y is taken as up", "fallen": "floor seems to be on top"}
    for name, points in cases.items():
        holed = np.concatenate([points, np.full((3, 3), np.nan)])
        done = cli("detect", write_ply(tmp_path / f"{name}.ply", holed), "--json", "--min-score", 0.1)
        said = json.loads(done.stdout)
        assert done.returncode == 0 and words[name] in " ".join(said["warnings"]), name
        assert said["detections"] and "3 points without" in done.stderr
        assert "3 points without" in " ".join(said["warnings"])


def test_classes(cli: Cli, room_file: Path, tmp_path: Path) -> None:
    many = tmp_path / "names.txt"
    many.write_text("\n".join(f"thing {n}" for n in range(498)) + "\ncupboard\ncrate\n")
    done = cli("detect", room_file, "--classes", many, "--json", "--min-score", 0.1)
    assert done.returncode == 0, done.stderr
    names = set(many.read_text().splitlines())
    assert all(d["label"] in names for d in json.loads(done.stdout)["detections"])
    done = cli("detect", room_file, "--classes", "; ;", "--json")
    assert done.returncode == 2 and "--classes" in done.stderr


def test_colours_are_used_but_not_needed(cli: Cli, tmp_path: Path) -> None:
    xyz = room_cloud().xyz
    rgb = np.random.default_rng(0).integers(0, 255, xyz.shape, np.uint8)
    for name, save in (("a.npz", lambda p: np.savez(p, xyz=xyz, rgb=rgb)), ("b.npy", lambda p: np.save(p, xyz))):
        save(tmp_path / name)
        done = cli("detect", tmp_path / name, "--json")
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--min-score", "2"), "--min-score"),
        (("--scale", "0"), "--scale"),
        (("--scale", "1e9"), "from 1e-6 to 1e6"),
        (("--camera", "0001"), "--camera would have no effect"),
    ],
)
def test_flags_that_make_no_sense(cli: Cli, room_file: Path, arguments: tuple[str, ...], words: str) -> None:
    done = cli("detect", room_file, *arguments)
    assert done.returncode == 2 and words in " ".join(done.stderr.split())


def test_files_that_are_no_clouds(cli: Cli, tmp_path: Path) -> None:
    for name, content in (("a.ply", b"no"), ("b.npz", b"no"), ("c.obj", b"no"), ("d.npy", b"\x93NUMPY")):
        (tmp_path / name).write_bytes(content)
        done = cli("detect", tmp_path / name)
        assert done.returncode == 2 and "Traceback" not in done.stderr, name
    assert cli("detect", tmp_path / "missing.ply").returncode == 2


def test_a_run(cli: Cli, colour_run: Path, tmp_path: Path) -> None:
    done = cli("detect", colour_run, "--json", "--min-score", 0, "--output", tmp_path / "boxes")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["frame"] == "input" and (tmp_path / "boxes/birds_eye.png").exists()
    listing = json.loads((tmp_path / "boxes/coco3d.json").read_text())
    assert listing["info"]["description"].startswith(load(colour_run).scene_name)  # not the folder's name


def test_distances_from_a_camera(cli: Cli, colour_run: Path, tmp_path: Path) -> None:
    camera = load(colour_run).load_scene().frames[1]
    done = cli("detect", colour_run, "--json", "--output", tmp_path, "--camera", camera.name)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["detections"]
    far = [float(np.linalg.norm(one["center"] - camera.camera.position)) for one in found]
    assert far and [one["distance"] for one in found] == pytest.approx(far)
    assert json.loads((tmp_path / "detections.json").read_text())["detections"] == found
    with open(tmp_path / "detections.csv", newline="") as file:
        assert [float(row["distance"]) for row in csv.DictReader(file)] == pytest.approx(far, abs=1e-3)


def test_a_run_in_python(run: Run) -> None:
    found = run.detect(detector=Detector(min_score=0.0))
    ids = load_semantics(run.folder).instance
    assert {one.id for one in found} <= set(ids.tolist()) - {0}
    assert all((ids[one.points] == one.id).all() for one in found)
    assert list(found) == sorted(found, key=lambda d: -d.score)
    named = run.detect(["red", "blue"], detector=Detector(min_score=0.0))
    assert [d.center for d in named] == [d.center for d in found]


def test_a_view_of_a_run_whose_photos_have_moved(cli: Cli, colour_run: Path, tmp_path: Path) -> None:
    moved = tmp_path / "run"
    shutil.copytree(colour_run, moved)
    config = json.loads((moved / "config.json").read_text())
    scene, config["scene"]["path"] = config["scene"]["path"], str(tmp_path / "nowhere")
    (moved / "config.json").write_text(json.dumps(config))
    asked = ("detect", moved, "--view", load(colour_run).load_scene().frames[0].name, "--depth-model", "builtin")
    done = cli(*asked)
    assert done.returncode == 2 and "photos of this run are no longer" in " ".join(done.stderr.split())
    done = cli(*asked, "--scene", scene)
    assert done.returncode == 0, done.stderr


def test_the_builtin_depth_of_a_photo(cli: Cli, tmp_path: Path) -> None:
    photo = Path(__file__).parents[2] / "scenes/playroom/images/00.jpg"
    done = cli("detect", photo, "--depth-model", "builtin", "--json", "--min-score", 0, "--output", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["frame"] == "camera" and "rendered rooms only" in said["warnings"][0]
    # Nothing states the focal length, and depth that takes it for granted cannot sharpen what is usual.
    assert said["intrinsics"]["source"] == "estimated" and said["intrinsics"]["relative_uncertainty"] == 0.2
    assert (tmp_path / "out/overlay.png").exists()
    stated = cli("detect", photo, "--json", "--intrinsics", "300,300,160,120", "--depth-model", "builtin")
    assert json.loads(stated.stdout)["intrinsics"]["source"] == "given"
    both = cli("detect", photo, "--depth", photo, "--depth-model", "builtin")
    assert both.returncode == 2 and "exclude each other" in both.stderr


def test_a_photo_with_depth(cli: Cli, tmp_path: Path) -> None:
    from heads.test_lifting import box_room

    depth_z, _ = box_room()
    Image.fromarray(np.full((*depth_z.shape, 3), 128, np.uint8)).save(tmp_path / "photo.png")
    Image.fromarray((depth_z * 1000).astype(np.uint16)).save(tmp_path / "depth.png")
    photo = ("detect", tmp_path / "photo.png")
    done = cli(*photo, "--depth", tmp_path / "depth.png", "--json", "--output", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["frame"] == "camera" and said["intrinsics"]["source"] == "estimated"
    assert "--intrinsics" in " ".join(said["warnings"]) and (tmp_path / "out/overlay.png").exists()
    listing = json.loads((tmp_path / "out/coco3d.json").read_text())
    assert len(listing["annotations"]) == len(said["detections"]) and len(listing["images"]) == 1
    done = cli(*photo)
    assert done.returncode == 2 and "--depth-model builtin" in done.stderr
    done = cli(*photo, "--depth-model", tmp_path / "nothing")
    assert done.returncode == 2 and "There is no folder" in done.stderr and "builtin" in done.stderr
    done = cli(*photo, "--depth", tmp_path / "depth.png", "--intrinsics", "1,2,3")
    assert done.returncode == 2 and "--intrinsics" in done.stderr


def test_a_view_is_named_by_the_phrases_of_its_capture(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "playroom"
    shutil.copytree(Path(__file__).parents[2] / "scenes/playroom", folder)

    def found(*flags: object) -> list[dict]:
        done = cli("detect", folder, "--view", "70.jpg", "--json", *flags)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)["detections"]

    shutil.rmtree(folder / "segmentations")
    listed = json.loads((folder / "transforms.json").read_text())
    listed["classes"] = {"1": "sofa", "2": "television", "3": "floor"}
    (folder / "transforms.json").write_text(json.dumps(listed))
    names = {one["label"] for one in found()}
    assert names == {"sofa", "television", None}, "what is none of them stays, without a name"
    assert {one["label"] for one in found("--classes", "sofa")} == {"sofa"}
    del listed["classes"]
    (folder / "transforms.json").write_text(json.dumps(listed))
    names = {one["label"] for one in found()}
    assert "cabinet" in names and None not in names, "without phrases: the detector's own names"
