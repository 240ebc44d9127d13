"""Exports of a run of the tiny scene, whose red and blue box an encoder of colours knows; see test_semantics.py."""

import importlib.util
import json
import math
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
from colours import BLUE, RED
from commands import Cli
from exact import Exact, flags_of, register
from PIL import Image
from plyfile import PlyData

from ovseg3d.engine import Event
from ovseg3d.errors import ConfigError, RunError
from ovseg3d.export import WHAT
from ovseg3d.export.answers import save_answers
from ovseg3d.export.mesh import LabelledMesh, mesh_of
from ovseg3d.export.options import ExportOptions, parse_what
from ovseg3d.pipeline.train import train_scene
from ovseg3d.query.engine import Answer, QueryEngine
from ovseg3d.query.relevancy import label
from ovseg3d.render.palette import colours
from ovseg3d.runs.phrases import keep_phrases
from ovseg3d.runs.settings import make_config
from ovseg3d.session import Run, load

PHRASES = ("a red box", "a blue box", "sand")
PAGE = Path(__file__).parents[2] / "docs" / "files.md"


@pytest.fixture(scope="module")
def folder(tiny_scene: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run of the tiny scene that knows colours. Do not write to it."""
    with pytest.MonkeyPatch.context() as patch:
        register(patch, tmp_path_factory.mktemp("cache"))
        patch.setattr("ovseg3d.export.source.restore", Exact)
        made = tmp_path_factory.mktemp("runs") / "tiny"
        train_scene(tiny_scene, make_config("cpu", flags=flags_of(steps=5)), output_dir=made)
        yield made


@pytest.fixture
def run(folder: Path) -> Run:
    return load(folder)


@pytest.fixture
def bare(folder: Path, tmp_path: Path) -> Run:
    """The same run, without semantics."""
    copytree(folder, tmp_path / "bare")
    (tmp_path / "bare" / "semantics.safetensors").unlink()
    return load(tmp_path / "bare")


def vertices(path: Path) -> np.ndarray:
    return PlyData.read(str(path))["vertex"].data


def places(rows: np.ndarray) -> np.ndarray:
    return np.stack([rows[name] for name in "xyz"], 1)


def inside(points: np.ndarray, box: np.ndarray, margin: float = 0.12) -> float:
    return float(((points > box[0] - margin) & (points < box[1] + margin)).all(-1).mean())


def test_a_cloud_has_the_runs_points_and_the_right_labels(run: Run, tmp_path: Path) -> None:
    files = run.export("cloud", tmp_path, phrases=PHRASES, none=False)
    assert [file.relative_to(tmp_path).as_posix() for file in files] == [
        f"cloud/{name}" for name in ("cloud.ply", "cloud_labels.ply", "cloud.npz", "labels.json")
    ]
    engine = QueryEngine(run)
    rows = vertices(files[0])
    np.testing.assert_array_equal(places(rows), engine.semantics.surface.xyz)
    np.testing.assert_array_equal(rows["label"], engine.labels(PHRASES, none=False))
    np.testing.assert_array_equal(rows["instance"], engine.semantics.instance)
    assert inside(places(rows)[rows["label"] == 1], RED) > 0.9 and inside(places(rows)[rows["label"] == 2], BLUE) > 0.9
    with np.load(files[2], allow_pickle=False) as read:
        np.testing.assert_array_equal(read["vectors"], engine.semantics.vectors.astype(np.float16))
        # What a reader needs to ask new phrases without us.
        text = engine.encode(PHRASES)
        again = read["vectors"].astype(np.float32) @ (read["axes"].T @ text.T)
        np.testing.assert_allclose(again, read["scores"], atol=3e-3)
        assert str(read["encoder"]) == "mean-colour"


def test_the_world_frame_is_entered_once(folder: Path, tmp_path: Path) -> None:
    """The tiny scene is in its world frame already, so another one is stated: twice as large, z becomes y, moved."""
    copytree(folder, tmp_path / "run")
    stated = json.loads((tmp_path / "run" / "scene_transform.json").read_text())
    np.testing.assert_array_equal(stated["world_from_input"], np.eye(4))
    world = [[2, 0, 0, 10], [0, 0, 2, 20], [0, -2, 0, 30], [0, 0, 0, 1]]
    stated |= {"world_from_input": world, "metric": True, "metres_per_unit": 2.0}
    (tmp_path / "run" / "scene_transform.json").write_text(json.dumps(stated))
    run = load(tmp_path / "run")
    here = run.export("cloud,instances,mesh", tmp_path / "input", phrases=PHRASES)
    there = run.export("cloud,instances,mesh", tmp_path / "world", phrases=PHRASES, frame="world")
    a, b = vertices(here[0]), vertices(there[0])
    world = np.array(world, float)
    np.testing.assert_allclose(places(b), places(a) @ world[:3, :3].T + world[:3, 3], atol=1e-5)
    np.testing.assert_allclose(b["ny"], a["nz"], atol=1e-6)
    np.testing.assert_array_equal(a["label"], b["label"])
    a, b = (json.loads(files[4].read_text(encoding="utf-8")) for files in (here, there))
    assert (a["unit"], a["metres_per_unit"], b["unit"], b["frame"]) == ("units", 2.0, "m", "world")
    assert len(a["instances"]) == len(b["instances"]) > 0
    for one, other in zip(a["instances"], b["instances"]):
        moved = world[:3, :3] @ one["center"] + world[:3, 3]
        np.testing.assert_allclose(other["center"], moved, atol=1e-4)
        assert np.prod(other["size"]) == pytest.approx(8 * np.prod(one["size"]), rel=1e-3)
        assert other["frame"] == "world" and other["label"] == one["label"]
    a, b = places(vertices(here[5])), places(vertices(there[5]))
    np.testing.assert_allclose((a.max(0) - a.min(0))[[0, 2, 1]] * 2, b.max(0) - b.min(0), rtol=0.05)


def test_instances_have_boxes_scores_and_embeddings(run: Run, tmp_path: Path) -> None:
    (file,) = run.export("instances", tmp_path, phrases=PHRASES, embedding=True)
    told = json.loads(file.read_text(encoding="utf-8"))
    red = [instance for instance in told["instances"] if instance["label"] == "a red box"]
    assert red and red[0]["label_id"] == 1
    best = max(red, key=lambda instance: instance["n_points"])
    np.testing.assert_allclose(best["center"], RED.mean(0), atol=0.15)
    assert next(iter(best["phrase_scores"])) == "a red box" and set(best["phrase_scores"]) == set(PHRASES)
    text = QueryEngine(run).encode(["a red box", "a blue box"])
    assert len(best["embedding"]) == 4 and np.linalg.norm(best["embedding"]) == pytest.approx(1)
    assert text[0] @ best["embedding"] > text[1] @ best["embedding"]
    (file,) = run.export("instances", tmp_path, phrases="")
    told = json.loads(file.read_text(encoding="utf-8"))
    assert told["instances"] and told["phrases"] == []
    assert all(instance["label"] is None and "embedding" not in instance for instance in told["instances"])


def test_labels_of_all_views_and_their_annotations_agree(run: Run, tmp_path: Path) -> None:
    events: list[Event] = []
    files = run.export("labels", tmp_path, phrases=PHRASES, none=False, report=events.append)
    told = json.loads((tmp_path / "labels" / "annotations.json").read_text(encoding="utf-8"))
    assert len(told["images"]) == 8 and all(file.exists() for file in files) and events[-1].step == 8
    assert [category["name"] for category in told["categories"]] == list(PHRASES)
    engine = QueryEngine(run)
    boxes = {one.id: one.record() for one in engine.context.instances.records()}
    shown = 0
    for image in told["images"]:
        found = np.asarray(Image.open(tmp_path / "labels" / image["label_file"]))
        assert found.shape == (image["height"], image["width"])
        np.testing.assert_array_equal(found, engine.label_image(PHRASES, image["file_name"], none=False))
        instances = engine.places(image["file_name"]).nearest(engine.semantics.instance)
        covered = np.zeros(found.shape, int)
        for one in told["annotations"]:
            if one["image_id"] != image["id"]:
                continue
            counts = one["segmentation"]["counts"]
            mask = np.repeat(np.arange(len(counts)) % 2, counts).reshape(found.shape[::-1]).T.astype(bool)
            assert mask.sum() == one["area"]
            covered += mask
            if one["iscrowd"]:
                assert (found[mask] == one["category_id"]).all()
            else:
                assert (instances[mask] == one["instance_id"]).all() and mask.sum() == (
                    instances == one["instance_id"]
                ).sum()
                box = boxes[one["instance_id"]]
                assert all(one[key] == box[key] for key in ("center", "size", "rotation_wxyz", "yaw_rad", "pose"))
                shown += 1
        assert covered.max() <= 1 and (covered[found > 0] == 1).all()
    assert shown > 8


def test_a_page_and_a_film(run: Run, tmp_path: Path) -> None:
    import imageio.v3 as imageio

    files = run.export("html,video", tmp_path, phrases=PHRASES, seconds=0.5, fps=8.0)
    assert [file.name for file in files] == ["tiny.html", "video.mp4", "video_labels.mp4"]
    for video in files[1:]:
        assert imageio.imread(video).shape == (4, 32, 32, 3)


def test_more_points_are_taken_from_the_field(run: Run, tmp_path: Path) -> None:
    own = len(QueryEngine(run).semantics.surface)
    files = run.export("cloud", tmp_path / "many", phrases=PHRASES, none=False, points=2 * own)
    rows = vertices(files[0])
    assert 1.2 * own < len(rows) <= 2 * own
    assert inside(places(rows)[rows["label"] == 1], RED) > 0.9 and inside(places(rows)[rows["label"] == 2], BLUE) > 0.9
    files = run.export("cloud", tmp_path / "few", phrases=PHRASES, points=200)
    assert 180 <= len(vertices(files[0])) <= 200
    files = run.export("cloud", tmp_path / "spaced", phrases=PHRASES, spacing=0.5)
    rows = np.floor((places(vertices(files[0])) - QueryEngine(run).semantics.surface.xyz.min(0)) / 0.5)
    assert len(np.unique(rows, axis=0)) == len(rows)


def test_a_cloud_says_what_the_whole_scene_says(run: Run, tmp_path: Path) -> None:
    """Planes and names that are known: a list for which plain cosines give other labels."""
    phrases = ("a red box", "a blue box", "wall", "red floor")
    keep_phrases(run.folder, phrases)
    try:
        engine = QueryEngine(run)
        plain = label(engine.semantics.scores(engine.encode(phrases)))
        told = engine.labels(phrases, none=False)
        rows = vertices(run.export("cloud", tmp_path, phrases=phrases, none=False)[0])
    finally:
        (run.folder / "phrases.txt").unlink()
    np.testing.assert_array_equal(rows["label"], told)
    assert (plain != told).any()


def test_a_mesh_is_of_as_many_points_as_were_asked_for(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    monkeypatch.setattr("ovseg3d.export.run.mesh_of", lambda cloud, step: made.append(cloud) or mesh_of(cloud, step))
    for points in (None, 400):
        run.export("mesh", tmp_path / str(points), phrases=PHRASES, points=points)
    whole, few = map(len, made)
    assert few <= 400 < whole == len(QueryEngine(run).semantics.surface)


def test_a_selection_and_an_empty_one(run: Run, tmp_path: Path) -> None:
    files = run.export("cloud,html", tmp_path / "a", phrases="; ".join(PHRASES), none=False, select=("a blue box",))
    assert set(vertices(files[0])["label"].tolist()) == {2}
    files = run.export("cloud,html", tmp_path / "b", phrases=(*PHRASES, "green"), none=False, select=("green",))
    assert len(vertices(files[0])) == 0 and files[-1].stat().st_size > 10_000
    with pytest.raises(ConfigError, match="No label is called 'a blu box'") as caught:
        run.export("cloud", tmp_path, phrases=PHRASES, select=("a blu box",))
    assert "a blue box" in str(caught.value.fix)
    with pytest.raises(ConfigError, match="no points to make a mesh"):
        run.export("mesh", tmp_path / "c", phrases=(*PHRASES, "green"), none=False, select=("green",))
    with pytest.raises(ConfigError, match="too far apart for a mesh"):
        run.export("cloud,mesh,html", tmp_path / "c", phrases=PHRASES, points=1)
    assert not (tmp_path / "c").exists()


def test_a_run_without_semantics_exports_its_surface(
    bare: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ovseg3d.export.source.restore", Exact)
    files = bare.export("cloud,mesh,html", tmp_path)
    rows = vertices(files[0])
    assert len(rows) > 500 and not rows["label"].any() and not rows["instance"].any()
    assert "vectors" not in np.load(files[2])
    for what in ("labels", "instances"):
        with pytest.raises(RunError, match="has no semantics") as caught:
            bare.export(f"cloud,{what}", tmp_path / "none")
        assert "--only semantics" in str(caught.value.fix)
    with pytest.raises(RunError, match="has no semantics"):
        bare.export("cloud", tmp_path / "none", phrases=("chair",))
    assert not (tmp_path / "none").exists()


def test_mistakes_are_named(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse_what(" cloud, html,cloud") == ("cloud", "html")
    with pytest.raises(ConfigError, match="no export 'meshes'") as caught:
        run.export("meshes", tmp_path)
    assert str(caught.value.fix).startswith("--what mesh; there are cloud, mesh,")
    with pytest.raises(ConfigError) as caught:
        parse_what("cloud,htlm,clod")
    assert str(caught.value.fix).startswith("--what cloud,html; there are")
    with pytest.raises(ConfigError, match="Nothing to export"):
        run.export(",", tmp_path)
    with pytest.raises(ConfigError, match="no export 'clod'"):
        run.export(["clod", "html"], tmp_path)
    with pytest.raises(ConfigError, match="no option 'pionts'") as caught:
        run.export("cloud", tmp_path, pionts=3)
    assert str(caught.value.fix).startswith("one of phrases, ") and str(caught.value.fix).endswith("is points")
    for name, value in (("points", 0), ("spacing", math.inf), ("seconds", math.inf), ("fps", 0.0), ("width", 200_000)):
        with pytest.raises(ConfigError, match=f"{name} must be above 0") as caught:
            run.export("cloud", tmp_path, **{name: value})
        if name in ("points", "spacing"):
            assert re.fullmatch(rf"--{name} [\d.]+", str(caught.value.fix))
    with pytest.raises(ConfigError, match="points must be at most"):
        run.export("cloud", tmp_path, points=10**9)
    with pytest.raises(ConfigError, match="names no phrases"):
        run.export("labels", tmp_path)
    monkeypatch.setitem(sys.modules, "laspy", None)
    with pytest.raises(ConfigError, match="laspy"):
        run.export("instances,cloud", tmp_path, las=True)
    assert list(tmp_path.iterdir()) == [] and ExportOptions().frame == "input"


def test_stopping_leaves_no_half_file(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    stop = threading.Event()
    stop.set()
    for what in WHAT:
        with pytest.raises(KeyboardInterrupt):
            run.export(what, tmp_path, phrases=PHRASES, stop=stop)
    for what, stage in (("labels", "segment"), ("video", "render")):
        stop.clear()
        told: list[Event] = []

        def end(event: Event, told: list[Event] = told) -> None:
            told.append(event)
            stop.set()

        with pytest.raises(KeyboardInterrupt):
            run.export(what, tmp_path, phrases=PHRASES, report=end, stop=stop)
        assert [event.stage for event in told if event.progress] == [stage] and told[-1].progress < 1
    stop.clear()

    def slow(*arguments: object) -> LabelledMesh:
        stop.set()
        return mesh_of(*arguments)

    monkeypatch.setattr("ovseg3d.export.run.mesh_of", slow)
    with pytest.raises(KeyboardInterrupt):
        run.export("mesh", tmp_path, phrases=PHRASES, stop=stop)
    assert stop.is_set() and [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_the_runs_own_phrases_have_one_colour_in_all_exports(folder: Path, tmp_path: Path) -> None:
    run = load(copytree(folder, tmp_path / "run"))
    meeting = ("a red box", "thing 31")
    keep_phrases(run.folder, meeting)
    own = colours(meeting)[1:]
    assert (colours(meeting[1:])[1] == own[0]).all(), "alone, the second has the first one's colour"
    for phrases in (meeting, meeting[::-1], meeting[1:]):
        run.export("cloud,labels", tmp_path / "out", phrases=phrases, views="held-out")
        for kind in ("cloud", "labels"):
            told = json.loads((tmp_path / "out" / kind / "labels.json").read_text(encoding="utf-8"))["labels"]
            found = {label["phrase"]: label["colour"] for label in told[1:]}
            assert found == {phrase: own[meeting.index(phrase)].tolist() for phrase in phrases}


def test_what_an_earlier_export_left_goes(run: Run, tmp_path: Path) -> None:
    video = {"seconds": 0.25, "fps": 8.0}
    run.export("cloud,video", tmp_path, phrases=PHRASES, las=importlib.util.find_spec("laspy") is not None, **video)
    (tmp_path / "cloud" / "cloud.las").touch()  # where laspy is not at hand
    (tmp_path / "cloud" / "mine.txt").touch()
    assert (tmp_path / "video_labels.mp4").exists()
    files = run.export("cloud,video", tmp_path, phrases=(), **video)
    left = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {*files, tmp_path / "cloud" / "mine.txt"} and len(files) == 5


def test_a_second_answer_takes_the_place_of_the_first(run: Run, tmp_path: Path) -> None:
    engine = QueryEngine(run)
    views, folder = [frame.name for frame in engine.scene.frames[:3]], tmp_path / "a_red_box"

    def save(answer: Answer, *views: str) -> set[str]:
        (told,) = save_answers(tmp_path, engine, [answer], views)
        assert all(path.exists() for path in (told["points"], told["image"], *told["masks"].values()) if path)
        return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}

    (answer,) = engine.ask(["a red box"])
    assert len([name for name in save(answer, *views) if name.startswith("masks/")]) == 3
    (folder / "notes.txt").touch()
    mask = f"masks/{engine.view_file(views[0])}.png"
    assert save(answer, views[0]) == {"points.ply", "overview.png", "masks", mask, "notes.txt"}
    (answer,) = engine.ask(["a red box"], threshold=0.9999)
    assert not answer.present and save(answer) == {"notes.txt"}
    (folder / "notes.txt").unlink()
    assert save(answer) == set() and not folder.exists(), "an absent phrase without views has no files"


def test_the_command(cli: Cli, folder: Path, tmp_path: Path) -> None:
    phrases = ("--phrases", "a red box;a blue box", "--output", tmp_path / "o")
    done = cli("export", folder, "--what", "cloud,instances", *phrases, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["what"] == ["cloud", "instances"] and all(Path(file).exists() for file in told["files"])
    done = cli("export", folder, "--what", "claud")
    assert done.returncode == 2 and "--what cloud" in done.stderr
    done = cli("export", folder, "--what", "cloud", *phrases)
    assert done.returncode == 0 and "cloud.ply" in done.stdout


def test_the_page_about_files_names_what_is_written_and_its_snippets_read_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page, made = PAGE.read_text(encoding="utf-8"), tmp_path / "outputs" / "my_room" / "latest"
    copytree(folder, made)
    keep_phrases(made, PHRASES)
    load(made).export("cloud,mesh,labels,instances", embedding=True)
    monkeypatch.chdir(tmp_path)
    read: dict = {}
    exec("\n".join(re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)), read)
    assert read["features"].shape == (len(read["xyz"]), 4) and read["like"][0] == pytest.approx(1, abs=1e-3)
    assert read["labels"].shape == (32, 32) and read["corners"].shape == (8, 3)
    instance, turn, corners = (read[name] for name in ("instance", "turn", "corners"))
    np.testing.assert_allclose(corners.mean(0), instance["center"], atol=1e-9)
    np.testing.assert_allclose(turn.as_rotvec(), [0, 0, instance["yaw_rad"]], atol=1e-9)
    np.testing.assert_allclose(np.ptp(turn.inv().apply(corners), axis=0), instance["size"], atol=1e-9)

    def keys(value: object) -> set[str]:
        """Of an object, and of those in its lists: what is named by views or phrases is not looked into."""
        own = set(value) if isinstance(value, dict) else set()
        lists = [part for part in value.values() if isinstance(part, list)] if isinstance(value, dict) else []
        return own.union(*map(keys, value if isinstance(value, list) else lists))

    exports = made / "exports"
    files = [*made.glob("[a-z]*"), *exports.glob("*/[a-hj-z]*")]  # no images_0000.png
    written = {path.name.partition(".")[0] for path in files}
    for name in ("instances.json", "cloud/labels.json", "mesh/labels.json", "labels/labels.json"):
        written |= keys(json.loads((exports / name).read_text(encoding="utf-8")))
    for name in ("config", "status", "scene_transform", "features"):
        written |= set(json.loads((made / f"{name}.json").read_text(encoding="utf-8")))
    with np.load(exports / "cloud" / "cloud.npz") as arrays:
        written |= {*arrays.files, *vertices(exports / "cloud" / "cloud.ply").dtype.names}
    prose = re.sub(r"```.*?```", "", page, flags=re.DOTALL)
    assert written - set(re.findall(r"\w+", " ".join(re.findall(r"`([^`]+)`", prose)))) == set()
