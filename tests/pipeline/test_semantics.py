"""Asking a run: the stage `semantics` and the commands on it, with an encoder that knows colours and nothing else.

The tiny scene has a red box, a blue box and sandy ground, so that every answer is known. Its field is trained for a
moment only; what it shows is taken from the scene's own geometry, since a test has no time to learn it.
"""

import json
import shutil
import threading
import weakref
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from colours import BLUE, RED, flags, share_inside
from commands import Cli
from fake_encoders import WORDS, MeanColour
from PIL import Image
from plyfile import PlyData
from safetensors import safe_open
from safetensors.numpy import save_file
from tiny import camera_to_world

from ovseg3d.encoders import register_clip
from ovseg3d.errors import ConfigError, EncoderError, RunError
from ovseg3d.export import answers as answers_module
from ovseg3d.export import drawing
from ovseg3d.export import overlays as painter
from ovseg3d.instances.layout import FLOOR, NONE, WALL
from ovseg3d.pipeline.semantics import segment
from ovseg3d.pipeline.train import train_scene
from ovseg3d.points.semantic_scene import FILE, load_semantics, save_semantics
from ovseg3d.query.context import RunContext
from ovseg3d.query.engine import QueryEngine
from ovseg3d.query.layout_prior import LOG_ODDS
from ovseg3d.render.palette import colours
from ovseg3d.runs.folder import RunFolder
from ovseg3d.runs.settings import make_config
from ovseg3d.session import load


def test_the_stage_leaves_points_features_and_figures(run: RunFolder) -> None:
    assert run.status()["status"] == "done"
    metrics = run.metrics()
    learnt = load_semantics(run.folder)
    assert metrics["surface_points"] == len(learnt.surface) > 500
    assert metrics["semantics_bytes"] == (run.folder / FILE).stat().st_size < 30e6
    assert metrics["photos_not_trusted"] == []
    assert learnt.encoder.id == "mean-colour" and learnt.encoder.name == "colours" and learnt.surface.metric
    assert np.allclose(np.linalg.norm(learnt.vectors, axis=1), 1, atol=2e-3), "half floats of unit vectors"
    np.testing.assert_allclose(learnt.surface.up, [0, 0, 1], atol=1e-6)


def test_a_phrase_finds_its_box_and_not_the_other(run: RunFolder) -> None:
    red, blue, green = QueryEngine(run).ask(["a red box", "a blue box", "a green box"], negatives=["sand"])
    assert red.present and blue.present and not green.present
    assert share_inside(red.points, RED) > 0.9 and share_inside(blue.points, BLUE) > 0.9
    assert (np.diff(red.point_scores) <= 0).all() and red.point_scores[0] > 0.5, "best first"
    assert green.points.shape == (0, 3) and green.score < green.threshold
    assert red.probability is None and not red.calibrated
    assert share_inside(run.query("a red box", negatives=["sand"]).points, RED) > 0.9


def test_a_mask_covers_what_the_photo_shows(run: RunFolder) -> None:
    engine = QueryEngine(run)
    view = engine.scene.frames[engine.scene.test[0]].name
    answer = engine.ask(["red"], negatives=["sand"], views=[view])[0]
    photo = np.asarray(Image.open(engine.scene.frames[engine.scene.test[0]].image_path).convert("RGB")).astype(int)
    true = (photo[..., 0] > 100) & (photo[..., 1] < 90)
    mask = answer.masks[view]
    assert (mask & true).sum() / (mask | true).sum() > 0.6
    assert ((answer.relevancies[view] >= answer.threshold) == mask).all()


def test_many_views_are_rendered_once_for_all_phrases_and_few_are_kept(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    for limit in ("MAX_DEPTH_IMAGES", "MAX_PLACES"):
        monkeypatch.setattr(f"ovseg3d.query.view_cache.{limit}", 2)
    engine, rendered = QueryEngine(run), []
    views = [frame.name for frame in engine.scene.frames[:4]]
    render = engine.renderer.render
    monkeypatch.setattr(engine.renderer, "render", lambda camera: rendered.append(camera) or render(camera))
    red, blue = engine.ask(["red", "blue"], negatives=["sand"], views=views)
    assert len(rendered) == len(views)
    engine.depth(views[-1])
    assert len(rendered) == len(views), "the newest is kept"
    engine.places(views[0])
    assert len(rendered) == len(views) + 1, "the oldest is not"
    assert list(red.masks) == list(red.relevancies) == list(blue.masks) == views
    for answer in (red, blue):
        np.testing.assert_array_equal(answer.masks[views[0]], QueryEngine(run).ask(
            [answer.phrase], negatives=["sand"], views=views[:1])[0].masks[views[0]])  # fmt: skip


def test_pictures_of_many_views_are_written_one_by_one_and_few_are_held(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files equal the answers' own images; the overview has the views with the most of the answer."""
    engine, held, rows = QueryEngine(run), [], []
    views = [frame.name for frame in engine.scene.frames]
    answers = engine.ask(["red", "blue"], negatives=["sand"], views=views)
    monkeypatch.setattr(answers_module, "SHOWN", 2)
    draw, show = engine.image, drawing.side_by_side

    def watched(*asked: object) -> np.ndarray:
        made = draw(*asked)
        held.append(weakref.ref(made))
        assert sum(one() is not None for one in held) <= 2 * 2 + 2, "and this one, and the one before"
        return made

    monkeypatch.setattr(engine, "image", watched)
    monkeypatch.setattr(drawing, "side_by_side", lambda panels: rows.append(panels) or show(panels))
    told = answers_module.save_answers(tmp_path, engine, answers, views)
    assert len(held) == 2 * len(views)
    for answer, one, shown in zip(answers, told, (rows[:2], rows[2:])):
        for view in views:
            np.testing.assert_array_equal(np.asarray(Image.open(one["masks"][view])) > 0, answer.masks[view])
        most = sorted(views, key=lambda view: -answer.masks[view].sum())[:2]
        assert [title for (title, _), _ in shown] == [f"photo {view}" for view in most]
        photo = shown[0][0][1]
        np.testing.assert_array_equal(shown[0][1][1], drawing.over(photo, answer.relevancies[most[0]], 0.5))


def test_places_take_few_bytes_a_pixel(run: RunFolder) -> None:
    engine = QueryEngine(run)
    places = engine.places(engine.scene.frames[0].name)
    assert sum(part.nbytes for part in (places.pixel, places.near, places.weight)) == 36 * len(places.pixel)
    np.testing.assert_allclose(places.weight.sum(1), 1, atol=1e-6)


def test_a_closed_list_takes_the_nearest_and_none_where_the_canonical_is_nearer(run: RunFolder) -> None:
    engine = QueryEngine(run)
    xyz = engine.semantics.surface.xyz
    labels = engine.labels(["blue", "red", "sand"], none=False)
    assert set(labels) == {1, 2, 3}
    assert share_inside(xyz[labels == 2], RED) > 0.8 and share_inside(xyz[labels == 1], BLUE) > 0.8
    # With a list without sand, the ground has no label: grey is nearer.
    assert (engine.labels(["blue", "red"])[labels == 3] == 0).mean() > 0.9
    doubled = engine.labels(["blue", "red", "red", "sand"], none=False)
    assert ((doubled == 2) == (labels == 2)).all() and not (doubled == 3).any(), "the first of equals"


def test_a_thing_is_hardly_a_floor_and_the_floor_is_one_also_from_the_file(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Red objects similar to "a red floor" are less likely to be one, once the layout planes are known."""
    monkeypatch.setitem(WORDS, "floor", WORDS["red"])
    engine = QueryEngine(run)
    assert engine.semantics.plane is not None
    names, red = ["red wall", "floor", "blue"], engine.labels(["red", "sand", "blue"], none=False) == 1
    known = replace(
        engine.semantics, plane=np.where(red, FLOOR, NONE).astype(np.int8), instance=0 * red.astype(np.int32),
        pieces=None, instance_crops=None, shapes=None,
    )  # fmt: skip
    save_semantics(tmp_path, known)
    for plane, wanted in ((FLOOR, "floor"), (WALL, "red wall")):
        learnt = replace(load_semantics(tmp_path), plane=np.where(red, plane, NONE).astype(np.int8))
        engine = QueryEngine(run, semantics=learnt)
        assert {names[i - 1] for i in set(engine.labels(names, none=False)[red])} == {wanted}
        assert engine.ask([wanted], canonical=["sand"], alternatives=names)[0].present
    thing = replace(load_semantics(tmp_path), instance=red.astype(np.int32))
    told, plain = (
        QueryEngine(run, semantics=one).compare(names, ())[0][red] for one in (thing, replace(thing, plane=None))
    )
    step = LOG_ODDS / engine.semantics.encoder.logit_scale
    np.testing.assert_allclose(told - plain, np.tile([-step, -step, 0], (len(told), 1)), atol=1e-5)


def test_wrong_questions_are_explained(run: RunFolder) -> None:
    engine = QueryEngine(run)
    for phrases, options, words in (
        ([" "], {}, "empty"),
        (["red"], {"canonical": ()}, "compare"),
        (["red"], {"threshold": 1.5}, "threshold"),
        (["red"], {"views": ["nowhere.png"]}, "no view"),
        (["red"], {"camera": np.eye(4)}, "position"),
        (["red"], {"camera": (0.0, 0.0, float("nan"))}, "position"),
    ):
        with pytest.raises(ConfigError, match=words):
            engine.ask(phrases, **options)
    with pytest.raises(ConfigError, match="no phrases"):
        engine.labels([])


def test_another_encoder_is_refused(run: RunFolder) -> None:
    register_clip("colours", lambda device: MeanColour(weight_hash="1" * 16))
    with pytest.raises(RunError, match="other weights"):
        QueryEngine(run).ask(["red"])


def test_what_is_missing_or_damaged_is_told(run: RunFolder, tiny_run: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="has no semantics"):
        QueryEngine(load(tiny_run))
    whole = (run.folder / FILE).read_bytes()
    for damaged in (whole[:1000], b"", whole[:-5]):
        (tmp_path / FILE).write_bytes(damaged)
        with pytest.raises(RunError, match="cut or damaged"):
            load_semantics(tmp_path)


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("instance", lambda a: np.where(np.arange(len(a)) == 3, -1, a).astype(a.dtype), "'instance' has a negative"),
        ("plane", lambda a: a - 9, "'plane' has a negative"),
        ("plane", lambda a: a[:-1], "'plane' is of shape"),
        ("xyz", lambda a: a[:, :2], "'xyz' is of shape"),
        ("normal", lambda a: np.repeat(a, 2, 1), "'normal' is of shape"),
        ("cell", lambda a: a[:-1], "'cell' is of shape"),
        ("vectors", lambda a: a[:, 1:], "'vectors' is of shape"),
        ("xyz", lambda a: np.where(a == a[5], np.float32("nan"), a), "'xyz' has a number that is not finite"),
        ("agreement", lambda a: np.full_like(a, np.inf), "'agreement' has a number that is not finite"),
        ("rgb", lambda a: a.astype(np.int32), "'rgb' is int32"),
    ],
)
def test_what_is_read_is_checked(run: RunFolder, tmp_path: Path, name: str, change: Callable, words: str) -> None:
    with safe_open(run.folder / FILE, framework="numpy") as file:
        arrays, facts = {key: file.get_tensor(key) for key in file.keys()}, file.metadata()
    save_file(arrays | {name: np.ascontiguousarray(change(arrays[name]))}, tmp_path / FILE, facts)
    with pytest.raises(RunError, match=words):
        load_semantics(tmp_path)


def test_a_run_keeps_what_the_head_says_of_its_instances(run: RunFolder) -> None:
    known = load_semantics(run.folder)
    said = segment(known.surface, 1.0)
    assert said is not None and known.shapes is not None and known.piece.max() > 0
    described = said.describe(known.piece)[1:]
    assert ((known.shapes * described).sum(1) > 0.95).all(), "but for the rounding of normals"


def test_shapes_are_saved_and_checked(run: RunFolder, tmp_path: Path) -> None:
    known = replace(load_semantics(run.folder), instance_crops=None)
    count = int(known.piece.max())
    shapes = np.eye(count, 4, dtype=np.float32)
    save_semantics(tmp_path, replace(known, shapes=shapes))
    np.testing.assert_array_equal(load_semantics(tmp_path).shapes, shapes)
    save_semantics(tmp_path, replace(known, shapes=None))
    assert load_semantics(tmp_path).shapes is None, "as in a file of before"
    for wrong, why in ((shapes[:-1], "are not those of"), (shapes * np.nan, "not finite")):
        save_semantics(tmp_path, replace(known, shapes=wrong))
        with pytest.raises(RunError, match=why):
            load_semantics(tmp_path)


def test_rejected_fragments_and_instance_crops_are_saved_and_checked(run: RunFolder, tmp_path: Path) -> None:
    known = replace(load_semantics(run.folder), shapes=None, parents=None)
    count = int(known.instance.max())
    pieces = np.where((known.instance == 0) & (np.arange(len(known.instance)) % 5 == 0), count + 1, known.instance)
    faces = np.eye(count + 1, known.vectors.shape[1], dtype=np.float32)
    save_semantics(tmp_path, replace(known, pieces=pieces, instance_crops=faces))
    again = load_semantics(tmp_path)
    np.testing.assert_array_equal(again.instance_crops, faces)
    np.testing.assert_array_equal(again.piece, pieces)
    np.testing.assert_array_equal(again.instance, known.instance)
    np.testing.assert_array_equal(again.take(np.arange(0, 50, 5)).piece, pieces[:50:5])
    save_semantics(tmp_path, replace(known, pieces=None, instance_crops=None))
    again = load_semantics(tmp_path)
    assert again.instance_crops is None and again.pieces is None, "as in a file of before"
    np.testing.assert_array_equal(again.piece, known.instance)
    for name, wrong, words in (
        ("instance_crops", faces[:-1], "are not those of"), ("instance_crops", faces * np.nan, "not finite"),
        ("pieces", np.roll(pieces, 1), "are not those of"), ("pieces", pieces - 1, "negative"),
    ):  # fmt: skip
        save_semantics(tmp_path, replace(known, **{"pieces": pieces, "instance_crops": faces} | {name: wrong}))
        with pytest.raises(RunError, match=f"'{name}' .*{words}"):
            load_semantics(tmp_path)


def test_parents_are_saved_and_checked(run: RunFolder, tmp_path: Path) -> None:
    known = load_semantics(run.folder)
    count = int(known.piece.max())
    whole = replace(known, shapes=None, instance_crops=np.eye(count + 1, known.vectors.shape[1], dtype=np.float32))
    parents = np.append(np.full(count, count + 1), 0).astype(np.int32)
    save_semantics(tmp_path, replace(whole, parents=parents))
    np.testing.assert_array_equal(load_semantics(tmp_path).parents, parents)
    for wrong in (parents[: count - 1], np.append(parents[:-1], count + 1), np.append(1, parents[1:]), parents + 1):
        save_semantics(tmp_path, replace(whole, parents=wrong))
        with pytest.raises(RunError, match="'parents' do not follow"):
            load_semantics(tmp_path)


def test_a_surface_without_points_is_none(run: RunFolder, tmp_path: Path) -> None:
    known = load_semantics(run.folder)
    rows = ("vectors", "agreement", "instance", "plane", "pieces")
    save_semantics(tmp_path, replace(known, surface=known.surface.take(np.arange(0)), **{
        name: getattr(known, name)[:0] for name in rows}))  # fmt: skip
    with pytest.raises(RunError, match="no points"):
        load_semantics(tmp_path)


def test_equal_seeds_give_equal_bits_and_labels_are_never_read(
    run: RunFolder, tiny_scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("label images were read in training")

    monkeypatch.setattr("ovseg3d.scene.images.load_labels", refuse)
    again = train_scene(tiny_scene, make_config("cpu", flags=flags(steps=5)), output_dir=tmp_path / "again")
    assert (again.folder / FILE).read_bytes() == (run.folder / FILE).read_bytes()


def test_semantics_need_a_field_and_can_be_added_to_one(
    run: RunFolder, tiny_scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = flags(steps=20)
    with pytest.raises(ConfigError, match="trained field"):
        train_scene(
            tiny_scene, make_config("cpu", flags=settings | {"only": "semantics"}), output_dir=tmp_path / "none"
        )
    field = train_scene(tiny_scene, make_config("cpu", flags=settings | {"only": "field"}), output_dir=tmp_path / "run")
    checkpoint = next(field.checkpoints.glob("*.safetensors"))
    before = checkpoint.read_bytes()
    config = replace(field.config, only="semantics", encode=replace(field.config.encode, clip="colours", dino="none"))
    later = train_scene(tiny_scene, config, resume=field)
    assert (later.folder / FILE).exists() and checkpoint.read_bytes() == before
    assert later.metrics()["steps"] == 20 and later.status()["status"] == "done"


def test_semantics_are_removed_with_their_field(run: RunFolder, tiny_scene: Path, tmp_path: Path, cli: Cli) -> None:
    made = load(shutil.copytree(run.folder, tmp_path / "run"))
    made.write_metrics({"miou": 0.9})
    before, points = made.metrics(), (made.folder / FILE).read_bytes()
    stop = threading.Event()
    stop.set()
    longer = replace(made.config, only="field", train=replace(made.config.train, steps=before["steps"] + 5))
    train_scene(made.load_scene(), longer, resume=made, stop=stop)
    assert made.metrics() == before and (made.folder / FILE).read_bytes() == points, "the field is still the same"
    done = cli("train", made.folder, "--resume", "--only", "field", "--steps", longer.train.steps)
    assert done.returncode == 0 and "surface points" not in done.stdout
    after = made.metrics()
    assert after["steps"] == longer.train.steps and {"psnr", "features_photos", "clip"} <= after.keys()
    assert not {"miou", "surface_points", "lift_seconds", "method"} & after.keys()
    with pytest.raises(RunError, match="has no semantics"):
        made.query("red")
    assert not (made.previews / "semantics.png").exists()
    assert cli("train", made.folder, "--resume", "--only", "semantics").returncode == 0
    assert made.query("red", negatives=["sand"]).present and made.metrics()["psnr"] == after["psnr"]


def test_a_preview_that_cannot_be_drawn_costs_no_run(
    run: RunFolder, tiny_scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise EncoderError("The weights are gone", fix="bring them back")

    monkeypatch.setattr("ovseg3d.pipeline.stages.semantics.save_semantics_preview", fail)
    events = []
    config = make_config("cpu", flags=flags(steps=5))
    made = train_scene(tiny_scene, config, output_dir=tmp_path / "run", report=events.append)
    assert made.status()["status"] == "done" and (made.folder / FILE).exists()
    assert any("weights are gone" in event.message for event in events)


def test_query_as_a_command(run: RunFolder, cli: Cli, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = cli("query", run.folder, "red", "a green thing", "--negative", "sand", "--output", out, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    red, green = told["answers"]
    assert told["metric"] is True and told["frame"] == "input" and red["phrase"] == "red" and red["present"]
    assert told["metres_per_unit_guess"] is None, "the capture says it"
    vertices = PlyData.read(red["points"])["vertex"]
    assert len(vertices) == red["n_points"] and min(vertices["relevancy"]) >= 0.5
    assert share_inside(np.stack([vertices[axis] for axis in "xyz"], -1), RED) > 0.9
    with Image.open(red["masks"]["images/0000.png"]) as mask:
        assert mask.size == (32, 32) and set(np.unique(np.asarray(mask))) == {0, 255}
    assert Path(red["image"]).exists()
    assert not green["present"] and green["points"] is None and green["n_points"] == 0 and green["instances"] == []
    instance = red["instances"][0]
    assert instance["label"] == "red" and instance["frame"] == "input" and instance["distance"] is None
    np.testing.assert_allclose(instance["center"], RED.mean(0), atol=0.15)
    done = cli("query", run.folder, "red", "--negative", "sand", "--camera", "0002.png", "--views", "none", "--json")
    (instance,) = json.loads(done.stdout)["answers"][0]["instances"][:1]
    assert abs(instance["distance"] - np.linalg.norm(camera_to_world(2)[:3, 3] - RED.mean(0))) < 0.2
    done = cli("query", run.folder, "a green thing", "--negative", "sand", "--views", "none", "--output", out)
    assert done.returncode == 0 and "is not in this scene" in done.stdout, "not here is an answer, no error"
    assert cli("query", run.folder).returncode == 2


def test_segment_as_a_command(run: RunFolder, cli: Cli, tmp_path: Path) -> None:
    out = tmp_path / "labels"
    done = cli("segment", run.folder, "--phrases", "red;blue;sand", "--no-none", "--output", out, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert [entry["phrase"] for entry in told["labels"]] == ["none", "red", "blue", "sand"]
    assert len(told["views"]) == 8
    with Image.open(out / told["views"]["images/0000.png"]) as image:
        assert image.mode == "P" and set(np.unique(np.asarray(image))) <= {0, 1, 2, 3}
        colour = np.asarray(image.convert("RGB"))[np.asarray(image) == 1][0]
    assert colour.tolist() == told["labels"][1]["colour"] == colours(["red"])[1].tolist()
    assert (out / "labels.json").exists() and (out / "overview.png").exists()
    listed = tmp_path / "list.txt"
    listed.write_text("rouge \n\nред\n", encoding="utf-8")
    done = cli("segment", run.folder, "--phrases", listed, "--views", "held-out", "--output", out, "--json")
    assert [entry["phrase"] for entry in json.loads(done.stdout)["labels"]] == ["none", "rouge", "ред"]
    for wrong, words in ((" ; ", "empty"), (";".join(map(str, range(300))), "may have 254 phrases")):
        done = cli("segment", run.folder, "--phrases", wrong)
        assert done.returncode == 2 and words in done.stderr
    done = cli("eval", run.folder, "--protocol", "index")
    assert done.returncode == 2 and "no label images" in done.stderr
    done = cli("eval", run.folder, "--protocol", "indx")
    assert done.returncode == 2 and "--protocol index" in done.stderr


def test_a_length_is_called_m_only_where_a_unit_is_one(run: RunFolder, cli: Cli, tmp_path: Path) -> None:
    plain, scaled = (Path(shutil.copytree(run.folder, tmp_path / name)) for name in ("plain", "scaled"))
    out = tmp_path / "out"
    described = json.loads((scaled / "config.json").read_text())
    described["config"]["scene"]["scale"] = 0.5
    (scaled / "config.json").write_text(json.dumps(described))
    stated = json.loads((scaled / "scene_transform.json").read_text())
    (scaled / "scene_transform.json").write_text(json.dumps(stated | {"metres_per_unit": 0.5}))
    for folder, scale, unit in ((plain, 1, "m"), (scaled, 0.5, "units")):
        asked = ("query", folder, "red", "--negative", "sand", "--views", "none", "--output", out)
        instances = ("segment", folder, "--instances", "--views", "held-out", "--output", out, "--json")
        assert f" {unit} at (" in cli(*asked).stdout
        more = (("detect", folder, "--json"), ("eval", folder, "--json"), ("pose", folder, "--json"))
        told = [json.loads(done.stdout) for done in (cli(*asked, "--json"), cli(*instances), *(cli(*m) for m in more))]
        for one in (*told, json.loads((out / "labels.json").read_text())):
            assert (one["metric"], one["metres_per_unit"], one["unit"]) == (True, scale, unit)
            assert one.get("frame", "input") == "input"


def test_query_tells_a_scale_that_no_capture_states(
    run: RunFolder, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = replace(run.load_scene(), metric=False, metres_per_unit=None)
    monkeypatch.setattr(RunFolder, "load_scene", lambda *_: scene)
    asked = ("query", run.folder, "red", "--negative", "sand", "--views", "none", "--output", tmp_path / "out")
    for metres in (0.3, None):
        monkeypatch.setattr(QueryEngine, "metres", metres)
        told = json.loads(cli(*asked, "--json").stdout)
        assert told["metres_per_unit_guess"] == metres and told["metres_per_unit"] is None
        assert ("a unit is about 0.3 m" in cli(*asked).stdout) == (metres is not None)
    monkeypatch.setattr(RunContext, "stated_metres", None)
    monkeypatch.setattr(RunContext, "metres", 1.0)
    told = json.loads(cli("detect", run.folder, "--json").stdout)
    assert (told["metric"], told["unit"], told["metres_per_unit"], told["metres_per_unit_guess"]) == (
        False, "units", None, 1.0,
    )  # fmt: skip
    told = json.loads(cli("detect", run.folder, "--json", "--scale", "1").stdout)
    assert told["metric"] and told["metres_per_unit_guess"] is None


def test_render_draws_semantics(run: RunFolder, cli: Cli, tmp_path: Path) -> None:
    out = tmp_path / "images"
    what = ("--what", "features,labels,relevancy,instances", "--phrases", "red;blue;sand", "--phrase", "red")
    done = cli("render", run.folder, *what, "--output", out, "--json")
    assert done.returncode == 0, done.stderr
    files = [Path(file) for file in json.loads(done.stdout)["files"]]
    kinds = ("features", "labels", "relevancy", "instances")
    assert [file.name for file in files[:4]] == [f"images_0000_{kind}.png" for kind in kinds]
    images = [np.asarray(Image.open(file)).astype(int) for file in files[:4]]
    assert all(image.shape == (32, 32, 3) and image.std() > 5 for image in images)
    for options, words in (
        (("--what", "labels"), "has no phrases"),
        (("--what", "relevancy"), "Relevancy needs a phrase"),
        (("--what", "lables"), "--what labels"),
    ):
        done = cli("render", run.folder, *options)
        assert done.returncode == 2 and words in done.stderr


def test_render_leaves_unlabelled_what_segment_leaves_unlabelled(run: RunFolder, cli: Cli, tmp_path: Path) -> None:
    """With a list without sand, the ground is none of these (black), unless that is disabled."""
    names, engine, blacks = ("red", "blue"), QueryEngine(run), []
    for flag, none in (((), True), (("--no-none",), False)):
        out = tmp_path / str(none)
        what = ("--what", "labels", "--phrases", ";".join(names), "--output", out, "--json")
        done = cli("render", run.folder, *what, *flag)
        assert done.returncode == 0, done.stderr
        with Image.open(json.loads(done.stdout)["files"][0]) as image:
            black = (np.asarray(image) == 0).all(-1)
        assert (black == (engine.label_image(names, "images/0000.png", none=none) == 0)).all()
        done = cli("segment", run.folder, *what[2:], *flag, "--views", "held-out")
        with Image.open(out / json.loads(done.stdout)["views"]["images/0000.png"]) as labels:
            assert (black == (np.asarray(labels) == 0)).all()
        blacks.append(black.mean())
    assert blacks[0] > blacks[1] + 0.2, "much of the view is ground"


def test_a_run_has_a_preview_of_its_semantics(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli, tiny_scene: Path
) -> None:
    """Photo, render, features; labels and a query of an object if there are phrases, else instances."""
    titles: list[list[str]] = []
    kept = painter.side_by_side
    monkeypatch.setattr(
        painter, "side_by_side", lambda panels: titles.append([title for title, _ in panels]) or kept(panels)
    )
    engine = QueryEngine(run, run.load_scene())
    painter.save_semantics_preview(tmp_path / "plain.png", engine)
    assert titles == [["photo", "render", "features", "instances"]] * 2
    titles.clear()
    (run.folder / "phrases.txt").write_text("wall\nblue\nsand\nred\ngreen\n")
    try:
        painter.save_semantics_preview(tmp_path / "named.png", QueryEngine(run, run.load_scene()))
    finally:
        (run.folder / "phrases.txt").unlink()
    assert titles[0][:4] == ["photo", "render", "features", "labels"]
    assert titles[0][4] in ('"red"', '"blue"'), "a thing that is there, and not the wall"
    with Image.open(tmp_path / "plain.png") as plain, Image.open(tmp_path / "named.png") as named:
        assert named.width > plain.width > 700 and (run.previews / "semantics.png").exists()
    settings = flags(steps=5)
    arguments = ["--clip", "colours", "--dino", "none", "--steps", "5", "--only", "field,semantics"]
    (tmp_path / "small.json").write_text(json.dumps(settings))
    done = cli("train", tiny_scene, "--config", tmp_path / "small.json", *arguments)
    words = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("  ovseg3d ")]
    assert "semantics.png" in done.stdout and words == ["view", "query", "segment", "export", "render", "eval"]


def test_the_scenes_own_phrases_keep_their_colours_where_others_meet_them() -> None:
    names = [f"thing {i}" for i in range(65)]
    first, second = next(
        pair for pair in combinations(names, 2) if (colours(pair[:1])[1] == colours(pair[1:])[1]).all()
    )
    own = colours((first, second))[1:]
    assert (own[0] != own[1]).any() and (colours((second, first))[1:] != own[::-1]).any(), "they meet"
    for words in ((second,), (second, first), ("sofa", second.upper()), (*names[:30], second)):
        found = colours(words, (first, second))[1:]
        for word, tint in zip(words, found):
            if word.lower() in (first, second):
                np.testing.assert_array_equal(tint, own[(first, second).index(word.lower())])
    assert (colours((first,), (second,))[1] == own[1]).all(), "a new phrase makes way"


def test_a_phrase_keeps_its_colour_in_any_list() -> None:
    alone = colours(["Chair"])[1]
    long = [f"thing {i}" for i in range(200)]
    assert (colours(["chair", *long])[1] == alone).all() and len(colours(long)) == 201
    first = colours(long[:40])
    assert len(np.unique(first, axis=0)) == 41, "no two of forty are equal"
