"""The methods of `train`, each from photos to answers, on the tiny scene with an encoder that knows colours."""

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import Cli
from exact import flags_of, register
from PIL import Image
from safetensors import safe_open
from scipy.ndimage import binary_dilation
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation
from tiny import BOXES, write_tiny_scene

from ovseg3d.engine import Event, save_checkpoint
from ovseg3d.errors import ConfigError, EncoderError
from ovseg3d.heads.detection.records import Segmentation
from ovseg3d.instances.graph import MergeTree
from ovseg3d.instances.proposals import Proposals
from ovseg3d.instances.selection import SelectionConfig
from ovseg3d.pipeline.semantics import room_scale
from ovseg3d.pipeline.train import train_scene
from ovseg3d.points.lerf import COUNT
from ovseg3d.points.semantic_scene import FILE, load_semantics
from ovseg3d.query.engine import QueryEngine
from ovseg3d.query.relevancy import CANONICAL, relevancy
from ovseg3d.runs.fields import newest_checkpoint
from ovseg3d.runs.figures import EVALUATED
from ovseg3d.runs.folder import RunFolder, hash_scene
from ovseg3d.runs.settings import make_config
from ovseg3d.scene import load_scene
from ovseg3d.scene.cameras import OPENGL_AXES
from ovseg3d.session import load

PHRASES = ("red", "blue", "sand")
STEPS = {"lift": None, "default": None, "3d-ovs": 40, "lerf": 60}
Learn = Callable[..., RunFolder]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny scene, which names its phrases and labels nothing."""
    folder = write_tiny_scene(tmp_path_factory.mktemp("scenes") / "named")
    path = folder / "transforms.json"
    named = {"classes": {str(number): phrase for number, phrase in enumerate(PHRASES, start=1)}}
    path.write_text(json.dumps(json.loads(path.read_text()) | named))
    return folder


@pytest.fixture(scope="module")
def field(scene: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run with a field and no semantics yet. Do not write to it."""
    with pytest.MonkeyPatch.context() as patch:
        register(patch, tmp_path_factory.mktemp("cache"))
        config = make_config("cpu", flags=flags_of(steps=5) | {"only": "field"})
        made = tmp_path_factory.mktemp("runs") / "field"
        train_scene(scene, config, output_dir=made)
        yield made


@pytest.fixture
def learn(field: Path, scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Learn:
    """Teach a copy of the run by a method; keywords are those of the section `semantics`, and `stop` and `report`."""
    return _trainer(field, scene, tmp_path, monkeypatch)


def _trainer(field: Path, scene: Path, folder: Path, patch: pytest.MonkeyPatch) -> Learn:
    register(patch, folder / "cache")

    def learn(method: str, name: str = "run", encode: dict | None = None, **semantics: object) -> RunFolder:
        outside = {key: semantics.pop(key) for key in ("stop", "report") if key in semantics}
        if not (folder / name).exists():
            shutil.copytree(field, folder / name)
        run = load(folder / name)
        wanted = {"method": method, "refine_steps": STEPS[method], **semantics}
        # Three pixels of a photo this small are no crop for 3D-OVS; what its pyramids bring has a test of its own.
        features = "auto" if method == "lerf" else "dense"
        looks = {"clip": "sharp", "dino": "sharp", "features": features, **(encode or {})}
        config = replace(
            run.config,
            only="semantics",
            semantics=replace(run.config.semantics, **wanted),
            encode=replace(run.config.encode, **looks),
        )
        return train_scene(scene, config, resume=run, **outside)

    return learn


@pytest.fixture(scope="module")
def learnt(field: Path, scene: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, RunFolder]]:
    """A run for each method. Do not write to them."""
    with pytest.MonkeyPatch.context() as patch:
        learn = _trainer(field, scene, tmp_path_factory.mktemp("learnt"), patch)
        yield {method: learn(method, method) for method in STEPS}


def share_inside(points: np.ndarray, box: np.ndarray, margin: float = 0.15) -> float:
    return float(((points > box[0] - margin) & (points < box[1] + margin)).all(-1).mean())


@pytest.mark.parametrize("method", STEPS)
def test_every_method_ends_in_answers(learnt: dict[str, RunFolder], method: str) -> None:
    run = learnt[method]
    metrics = run.metrics()
    assert metrics["method"] == method and run.status()["status"] == "done" and metrics["refine_seconds"] >= 0
    assert not (run.folder / "semantics").exists(), "checkpoints are gone when the stage is done"
    engine = QueryEngine(run)
    xyz, labels = engine.semantics.surface.xyz, engine.labels(PHRASES, none=False)
    for number in (1, 2):
        low, high = (np.array(corner) for corner in BOXES[number][:2])
        inside = ((xyz > low - 0.02) & (xyz < high + 0.02) & (xyz[:, 2:] > -0.4)).all(1)
        assert (labels[inside] == number).mean() > 0.8, PHRASES[number - 1]
    red, green = engine.ask(["a red box", "a green box"])
    assert red.present and share_inside(red.points, np.array(BOXES[1][:2])) > 0.6
    assert red.score > green.score and not green.present
    image = engine.label_image(PHRASES, engine.scene.frames[0].name, none=False)
    assert image.shape == (32, 32) and set(np.unique(image)) == {0, 1, 2, 3}


def test_masked_pixels_give_no_features(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody in green stands before the red box in four photos of six, and masks hide him."""
    register(monkeypatch, tmp_path / "cache")
    folder = write_tiny_scene(tmp_path / "scene")
    stored = json.loads((folder / "transforms.json").read_text())
    for frame in [frame for frame in stored["frames"] if frame["file_path"] in stored["train_filenames"]][:4]:
        photo = np.asarray(Image.open(folder / frame["file_path"])).copy()
        box = (photo[..., 0] > 100) & (photo[..., 1] < 90)
        photo[box] = (30, 220, 30)
        Image.fromarray(photo).save(folder / frame["file_path"])
        frame["mask_path"] = frame["file_path"].replace("images/", "mask_")
        # An encoder sees a little of him beside him, too.
        Image.fromarray(~binary_dilation(box, iterations=3)).save(folder / frame["mask_path"])
    (folder / "transforms.json").write_text(json.dumps(stored))
    flags = flags_of("default", steps=5)
    flags |= {"encode": flags["encode"] | {"clip": "sharp", "dino": "sharp"}}
    engine = QueryEngine(train_scene(folder, make_config("cpu", flags=flags), output_dir=tmp_path / "run"))
    low, high = (np.array(corner) for corner in BOXES[1][:2])
    xyz, labels = engine.semantics.surface.xyz, engine.labels(("red", "green", "blue", "sand"), none=False)
    inside = ((xyz > low - 0.02) & (xyz < high + 0.02) & (xyz[:, 2:] > -0.4)).all(1)
    assert (labels[inside] == 1).mean() > 0.9 and not engine.ask(["green"])[0].present


def test_refined_poses_reach_semantics(
    field: Path, scene: Path, learnt: dict[str, RunFolder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run on wrong poses that learnt to correct them ends where one on the true poses does."""
    true, random = load(field).load_scene(), np.random.default_rng(0)
    turns, steps = 0.1 * random.normal(size=(2, len(true.train), 3))
    shutil.copytree(scene, tmp_path / "scene")
    stored = json.loads((tmp_path / "scene" / "transforms.json").read_text())
    poses = {frame["file_path"]: frame for frame in stored["frames"]}
    for view, turn, step in zip(true.train, turns, steps):
        wrong = true.frames[view].camera.c2w.copy()
        wrong[:3, :3] = Rotation.from_rotvec(-turn).as_matrix() @ wrong[:3, :3]
        wrong[:3, 3] -= step
        poses[true.frames[view].name]["transform_matrix"] = (wrong @ OPENGL_AXES).tolist()
    (tmp_path / "scene" / "transforms.json").write_text(json.dumps(stored))
    given = load_scene(tmp_path / "scene")
    shutil.copytree(field, tmp_path / "run")
    described = json.loads((tmp_path / "run" / "config.json").read_text())
    described["scene"] |= {"path": str(given.path), "content_hash": hash_scene(given)}
    described["config"]["scene"]["refine_poses"] = "on"
    (tmp_path / "run" / "config.json").write_text(json.dumps(described))
    checkpoint = newest_checkpoint(load(field))
    box = checkpoint.facts["box"]  # which has the axes of the capture
    checkpoint.state["photos"][:, 6:] = torch.from_numpy(np.concatenate([turns, steps / box["radius"]], 1))
    save_checkpoint(tmp_path / "run" / "checkpoints", checkpoint)
    engine = QueryEngine(_trainer(tmp_path / "run", given.path, tmp_path, monkeypatch)("default"))
    for frame in true.frames:
        np.testing.assert_allclose(engine.camera(frame.name).c2w, frame.camera.c2w, atol=1e-6)
    found, wanted = engine.semantics, load_semantics(learnt["default"].folder)
    apart, near = cKDTree(wanted.surface.xyz).query(found.surface.xyz)
    assert len(found.surface) == pytest.approx(len(wanted.surface), rel=0.01) and np.quantile(apart, 0.99) < 1e-3
    np.testing.assert_array_equal(
        engine.labels(PHRASES, none=False), QueryEngine(learnt["default"]).labels(PHRASES, none=False)[near]
    )


# -- lerf


def test_lerf_looks_for_each_phrase_at_the_size_where_it_peaks(learnt: dict[str, RunFolder]) -> None:
    """Against LERF's formula at every size, written out for one phrase at a time."""
    engine = QueryEngine(learnt["lerf"])
    known = engine.semantics
    assert known.sized is not None and 0 < known.sized.smallest < known.sized.largest
    phrases, others = ["red", "blue sand", "sand"], ["object", "texture", "green"]
    coefficients, alternatives = (known.basis.reduce(engine.encode(texts)) for texts in (phrases, others))
    _, sizes = known.sized.margins(coefficients, alternatives)
    found = relevancy(*known.compare(engine.encode(phrases), engine.encode(others)))
    for number, text in enumerate(coefficients):
        every = []
        for place in np.linspace(0, 1, COUNT):
            vectors = known.sized.at(place).astype(np.float64)
            own, other = np.exp(10 * vectors @ text), np.exp(10 * vectors @ alternatives.T)
            every.append((own[:, None] / (own[:, None] + other)).min(1))
        best = int(np.argmax([one.max() for one in every]))
        np.testing.assert_allclose(found[:, number], every[best], atol=2e-3)
        ratio = known.sized.largest / known.sized.smallest
        assert sizes[number] == pytest.approx(known.sized.smallest * ratio ** (best / (COUNT - 1)))


def test_lerf_fits_in_the_file_and_comes_back(learnt: dict[str, RunFolder]) -> None:
    run = learnt["lerf"]
    known = load_semantics(run.folder)
    with safe_open(run.folder / FILE, framework="numpy") as file:
        assert "vectors" not in file.keys() and file.get_tensor("sized.encoded").dtype == np.float16
    np.testing.assert_allclose(np.linalg.norm(known.vectors, axis=1), 1, atol=2e-3)
    # Without anything to compare with, the canonical phrases choose the size.
    words = QueryEngine(run).encode([*PHRASES, *CANONICAL])
    phrases, canonical = words[: len(PHRASES)], words[len(PHRASES) :]
    found, alternatives = known.compare(phrases, canonical[:0])
    np.testing.assert_allclose(found, known.compare(phrases, canonical)[0], atol=1e-5)
    assert alternatives.shape == (len(found), 0)


# -- 3d-ovs


def test_the_parts_of_3d_ovs_can_be_switched_off(learn: Learn) -> None:
    """Which losses are there says which parts were: from crops of three sizes, as in the paper."""
    auto = {"features": "auto"}
    whole = learn("3d-ovs", "whole", auto, refine_steps=3)
    assert whole.metrics()["features_mode"] == "pyramid"
    assert {"refine_feature", "refine_relevancy", "refine_pull", "refine_push"} <= set(whole.metrics())
    found = {(): (whole.folder / FILE).read_bytes()}
    for off, gone in (
        ("selection", set()),
        ("rda", {"refine_relevancy"}),
        ("fda", {"refine_pull", "refine_push"}),
        ("rebalance", set()),
    ):
        run = learn("3d-ovs", off, auto, refine_steps=3, **{off: False})
        assert not gone & set(run.metrics()), off
        found[off] = (run.folder / FILE).read_bytes()
    assert len(set(found.values())) == 5, "each part makes a difference"


def test_3d_ovs_needs_phrases_and_dino(
    field: Path, tiny_scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(monkeypatch, tmp_path / "cache")
    flags = flags_of("3d-ovs", steps=5)
    with pytest.raises(ConfigError, match="learns from phrases"):
        train_scene(tiny_scene, make_config("cpu", flags=flags), output_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    flags["encode"] |= {"dino": "none"}
    with pytest.raises(ConfigError, match="needs DINO"):
        make_config("cpu", flags=flags)
    make_config("cpu", flags=flags | {"semantics": {"method": "3d-ovs", "fda": False}})
    with pytest.raises(ConfigError, match="crops of several sizes"):
        make_config("cpu", flags=flags_of("lerf", steps=5))


# -- all that learn


@pytest.mark.parametrize("method", ["3d-ovs", "lerf"])
def test_an_interrupted_run_goes_on_to_the_same_bits(learn: Learn, method: str) -> None:
    straight = learn(method, "straight", refine_steps=6)
    stop, last = threading.Event(), "lerf" if method == "lerf" else "refine"

    def report(event: Event) -> None:
        if event.stage == last and event.kind == "start":
            stop.set()

    half = learn(method, "half", refine_steps=6, stop=stop, report=report)
    assert half.status()["status"] == "interrupted" and not (half.folder / FILE).exists()
    assert any((half.folder / "semantics").rglob("step-*.safetensors"))
    done = learn(method, "half", refine_steps=6)
    assert (done.folder / FILE).read_bytes() == (straight.folder / FILE).read_bytes()


@pytest.mark.parametrize("changed", ["phrases", "dino", "nothing"])
def test_a_checkpoint_of_other_phrases_or_another_dino_is_not_gone_on_with(learn: Learn, changed: str) -> None:
    stop, began = threading.Event(), []

    def interrupt(event: Event) -> None:
        if event.stage == "refine" and event.kind == "progress":
            stop.set()

    half = learn("3d-ovs", refine_steps=6, stop=stop, report=interrupt)
    assert half.status()["status"] == "interrupted"
    other = {"dino": {"dino": "patches"}, "phrases": {"phrases": "red;green;sand"}}.get(changed)
    learn("3d-ovs", encode=other, refine_steps=6, report=lambda e: began.append((e.stage, e.kind, e.step)))
    (step,) = [step for stage, kind, step in began if (stage, kind) == ("refine", "start")]
    assert (step > 0) == (changed == "nothing")


@pytest.mark.parametrize("moment", [("semantics", "start"), ("refine", "done")])
def test_a_stop_during_lifting_or_training_skips_the_rest(
    learn: Learn, monkeypatch: pytest.MonkeyPatch, moment: tuple[str, str]
) -> None:
    def found(*_: object, **__: object) -> None:
        raise AssertionError("instances are searched")

    monkeypatch.setattr("ovseg3d.pipeline.semantics.find_instances", found)
    stop, seen = threading.Event(), []

    def report(event: Event) -> None:
        seen.append((event.stage, event.kind))
        if seen[-1] == moment:
            stop.set()

    half = learn("3d-ovs", stop=stop, report=report)
    assert half.status()["status"] == "interrupted" and not (half.folder / FILE).exists()
    assert seen[seen.index(moment) + 1 :] == [("semantics", "interrupted")]


def test_a_run_stopped_at_instance_crops_resumes_there(learn: Learn) -> None:
    straight, stop, seen = learn("default", "straight"), threading.Event(), []

    def report(event: Event) -> None:
        seen.append((event.stage, event.kind))
        if event.stage == "instance_crops" and event.kind == "start":
            stop.set()

    half = learn("default", "half", stop=stop, report=report)
    assert half.status()["status"] == "interrupted" and not (half.folder / FILE).exists()
    assert ("instance_crops", "interrupted") in seen and seen.count(("instance_crops", "progress")) == 1, (
        "after one batch"
    )
    done = learn("default", "half")
    assert (done.folder / FILE).read_bytes() == (straight.folder / FILE).read_bytes()
    assert not (done.folder / "semantics").exists()


def test_a_rejected_fragment_has_a_crop_and_is_no_instance(learn: Learn, monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest of what is found."""
    select = SelectionConfig.select

    def fewer(self: SelectionConfig, tree: MergeTree, features: np.ndarray, allowed: np.ndarray) -> np.ndarray:
        """All but the largest of what is found."""
        chosen = select(self, tree, features, allowed)
        return np.delete(chosen, features[chosen, 0].argmax())

    monkeypatch.setattr(SelectionConfig, "select", fewer)
    run = learn("default")
    learnt, figures = load_semantics(run.folder), run.metrics()
    count, pieces = int(learnt.instance.max()), int(learnt.piece.max())
    assert (figures["rejected_fragments"], pieces) == (1, count + 1) and count > 0
    assert (learnt.instance[learnt.piece == pieces] == 0).all() and (learnt.piece == pieces).sum() > 10
    engine = QueryEngine(run)
    means = np.stack([learnt.vectors[learnt.piece == k + 1].mean(0) for k in range(pieces)])
    colours = learnt.basis.reduce(engine.encode(PHRASES))
    said = (learnt.instance_crops @ colours.T).argmax(1)
    np.testing.assert_array_equal(said, (means @ colours.T).argmax(1))
    name = PHRASES[said[-1]]
    answer = engine.ask([name])[0]
    assert answer.present and {*learnt.piece[answer.point_index]} & {pieces}
    assert all(instance.id <= count for instance in answer.instances)


def test_the_head_has_a_say_in_what_is_an_instance(learn: Learn, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes the whole scene for one proposal, and all of it for background: every group is a fragment."""

    def all_one(said: Segmentation) -> Proposals:
        count = len(said.foreground)
        return Proposals(np.zeros(count), np.zeros((count, 3)), np.zeros((count, 3)), [np.arange(count)], np.ones(1))

    monkeypatch.setattr("ovseg3d.pipeline.semantics.proposals_of", all_one)
    run = learn("default")
    assert run.metrics()["rejected_fragments"] > 1 and run.metrics()["instances"] == 0
    learnt = load_semantics(run.folder)
    assert not learnt.instance.any() and learnt.metres_per_unit == 1.0


def test_without_a_scale_cameras_in_the_hand_give_one(learn: Learn) -> None:
    scene, up = learn("lift").load_scene(), np.array([0.0, 0.0, 1.0])
    assert room_scale(scene, up, 0.0) == 1.0
    unknown = replace(scene, metres_per_unit=None)
    assert room_scale(scene, up, None) is None and room_scale(unknown, up, None) is None, "no room"
    height = float(np.median([scene.frames[view].camera.position[2] for view in scene.train]))
    assert room_scale(unknown, up, height - 2.9) == pytest.approx(0.5)
    assert room_scale(unknown, -up, height + 1.0) is None, "cameras below the floor"


def test_instances_without_features_have_no_crops(learn: Learn, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object) -> None:
        raise EncoderError("Its weights are gone", where="there")

    said = []
    monkeypatch.setattr("ovseg3d.pipeline.semantics.encode_instance_crops", gone)
    run = learn("default", report=lambda event: said.append((event.stage, event.message or "")))
    learnt = load_semantics(run.folder)
    assert learnt.instance_crops is None and learnt.instance.max() > 0
    assert ("instance_crops", "Instance crops are skipped: Its weights are gone") in said


def test_a_cpu_crops_instances_from_fewer_photos(learn: Learn, monkeypatch: pytest.MonkeyPatch) -> None:
    crops = {}

    def notices(name: str, **settings: int) -> list[str]:
        said = []
        learn("default", name, report=said.append, **settings)
        mine = [event for event in said if event.stage == "instance_crops"]
        crops[name] = next(event.steps for event in mine if event.kind == "done")
        return [event.message for event in mine if event.kind == "log" and "photos" in event.message]

    assert notices("usual") == []
    monkeypatch.setattr("ovseg3d.pipeline.semantics.CPU_PIXELS", 1.0)
    (few,) = notices("few")
    assert few == "Each instance is cropped from 1 photos; 6 would take long on a CPU (--instance-crops 6)"
    assert notices("asked", instance_crops=6) == [] and crops["asked"] == crops["usual"] > crops["few"]


def test_default_without_instance_crops_is_lift(learn: Learn, learnt: dict[str, RunFolder]) -> None:
    lifted, plain = (load_semantics(run.folder) for run in (learnt["lift"], learn("default", instance_crops=0)))
    np.testing.assert_array_equal(plain.vectors, lifted.vectors)
    assert not np.array_equal(load_semantics(learnt["default"].folder).vectors, lifted.vectors)


def test_a_method_as_a_command(field: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, tmp_path / "cache")
    folder = shutil.copytree(field, tmp_path / "run")
    learn = ("train", folder, "--resume", "--only", "semantics", "--clip", "sharp", "--dino", "sharp")
    done = cli(*learn, "--features", "dense", "--method", "3d-ovs", "--no-fda", "--refine-steps", 4, "--json")
    assert done.returncode == 0, done.stderr
    metrics = json.loads(done.stdout)["metrics"]
    assert metrics["method"] == "3d-ovs" and metrics["refine_steps"] == 4 and "refine_pull" not in metrics
    assert load(folder).config.semantics.fda is False
    load(folder).write_metrics(dict.fromkeys(EVALUATED, 0.5))
    done = cli("segment", folder, "--views", "held-out", "--output", tmp_path / "labels", "--json")
    assert done.returncode == 0 and len(json.loads(done.stdout)["views"]) == 2
    done = cli(*learn, "--method", "lerf", "--refine-steps", 4)
    assert done.returncode == 2 and "--features pyramid" in done.stderr, "the run's own setting was dense"
    done = cli(*learn, "--features", "auto", "--method", "lerf", "--refine-steps", 4)
    assert done.returncode == 0, done.stderr
    metrics = load(folder).metrics()
    assert metrics["lerf_steps"] == 4 and metrics["refine_steps"] is None, "figures are of one method"
    assert all(metrics[name] is None for name in EVALUATED) and "miou" in EVALUATED, (
        "what was measured was of the other"
    )
    done = cli("query", folder, "red", "--output", tmp_path / "red", "--json")
    assert done.returncode == 0 and json.loads(done.stdout)["answers"][0]["phrase"] == "red"
    done = cli("render", folder, "--what", "labels,relevancy,features", "--phrase", "red", "--views", "held-out",
               "--output", tmp_path / "pictures")  # fmt: skip
    assert done.returncode == 0, done.stderr
    done = cli("train", folder, "--resume", "--only", "field", "--steps", 6, "--no-rda")
    assert done.returncode == 2 and "does not learn semantics" in done.stderr
    done = cli("train", folder, "--resume", "--only", "semantics", "--method", "lurf")
    assert done.returncode == 2 and "lerf" in done.stderr


def test_learning_can_be_bounded_by_time(learn: Learn) -> None:
    run = learn("3d-ovs", refine_steps=10**6, refine_seconds=1.0)
    assert 0 < run.metrics()["refine_steps"] < 1000 and (run.folder / FILE).exists()
