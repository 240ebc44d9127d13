"""Phrases of a run, from the flag to the label image; unusual phrases, views and features."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from colours import RED, flags, share_inside
from commands import Cli
from exact import register
from PIL import Image
from tiny import camera_to_world, draw

from ovseg3d.errors import CacheError, ConfigError
from ovseg3d.features.encode import load_features
from ovseg3d.features.maps import normalise
from ovseg3d.pipeline.train import train_scene
from ovseg3d.points.semantic_scene import FILE
from ovseg3d.query.engine import QueryEngine
from ovseg3d.render.palette import index_image
from ovseg3d.runs.folder import RunFolder
from ovseg3d.runs.phrases import in_list, kept_phrases, read_list, read_templates
from ovseg3d.runs.settings import make_config
from ovseg3d.session import load

MANY = [f"thing {number}" for number in range(198)]


@pytest.fixture
def own(run: RunFolder, tmp_path: Path) -> RunFolder:
    """A copy of the run, to write to."""
    return load(shutil.copytree(run.folder, tmp_path / "own"))


def with_phrases(tiny_scene: Path, folder: Path, phrases: str) -> RunFolder:
    settings = flags(steps=5)
    settings["encode"]["phrases"] = phrases
    return train_scene(tiny_scene, make_config("cpu", flags=settings), output_dir=folder)


def test_phrases_stay_with_the_run_and_can_be_replaced(
    run: RunFolder, tiny_scene: Path, tmp_path: Path, cli: Cli
) -> None:
    listed = tmp_path / "list.txt"
    listed.write_text("red\n\nSand \nred\n", encoding="utf-8")
    made = with_phrases(tiny_scene, tmp_path / "made", str(listed))
    listed.unlink()  # the run has its own list
    assert made.phrases == made.load_scene().phrases == ("red", "Sand")
    told = json.loads(cli("segment", made.folder, "--json").stdout)
    assert [entry["phrase"] for entry in told["labels"]] == ["none", "red", "Sand"]
    once = json.loads(cli("segment", made.folder, "--phrases", "blue", "--json").stdout)
    assert [entry["phrase"] for entry in once["labels"]] == ["none", "blue"] and made.phrases == ("red", "Sand")
    assert cli("segment", made.folder, "--phrases", "blue;sand", "--keep").returncode == 0
    assert load(made.folder).phrases == ("blue", "sand")
    # Resuming the run keeps its current phrases.
    again = train_scene(made.load_scene(), made.config, resume=made)
    assert again.phrases == ("blue", "sand")
    done = cli("segment", made.folder, "--keep")
    assert done.returncode == 2 and "--phrases" in done.stderr


def test_a_list_that_is_named_again_is_read_again(run: RunFolder, tiny_scene: Path, tmp_path: Path, cli: Cli) -> None:
    listed = tmp_path / "list.txt"
    listed.write_text("red\n")
    made = with_phrases(tiny_scene, tmp_path / "made", str(listed))
    listed.write_text("red\nblue\n")
    again = ("train", made.folder, "--resume", "--only", "semantics")
    assert cli(*again).returncode == 0 and load(made.folder).phrases == ("red",), "nobody asked for another list"
    assert cli(*again, "--phrases", listed).returncode == 0 and load(made.folder).phrases == ("red", "blue")
    assert cli("segment", made.folder, "--phrases", "sand", "--keep").returncode == 0
    assert cli(*again).returncode == 0 and load(made.folder).phrases == ("sand",)
    assert cli(*again, f"--phrases={listed}").returncode == 0 and load(made.folder).phrases == ("red", "blue")


def test_train_takes_phrases_as_a_flag(run: RunFolder, tiny_scene: Path, tmp_path: Path, cli: Cli) -> None:
    base = ("train", tiny_scene, "--steps", "5", "--output-dir", tmp_path / "run", "--phrases", "red;blue")
    done = cli(*base, "--only", "field")
    assert done.returncode == 2 and "--phrases would have no effect" in done.stderr
    done = cli(*base[:-1], tmp_path / "lost.txt", "--only", "field,semantics", "--clip", "colours", "--dino", "none")
    assert done.returncode == 2 and "There is no file with phrases" in done.stderr and not (tmp_path / "run").exists()


def test_without_phrases_things_are_coloured(run: RunFolder, own: RunFolder, cli: Cli, tmp_path: Path) -> None:
    out = tmp_path / "things"
    told = json.loads(cli("segment", own.folder, "--output", out, "--views", "held-out", "--json").stdout)
    ids = QueryEngine(run).semantics.instance
    assert len(told["instances"]) == ids.max() > 0 and set(told["views"]) == {"images/0000.png", "images/0004.png"}
    with Image.open(out / told["views"]["images/0000.png"]) as image:
        pixels, painted = np.asarray(image), np.asarray(image.convert("RGB"))
    assert set(np.unique(pixels)) <= {0, *(instance["id"] for instance in told["instances"])}
    for instance in told["instances"]:
        assert instance["label"] is None and len(instance["center"]) == 3
        assert (painted[pixels == instance["id"]] == instance["colour"]).all()
    assert sum(instance["pixels"] for instance in told["instances"]) > 0 and (out / "overview.png").exists()
    assert json.loads((out / "labels.json").read_text())["instances"] == told["instances"]
    named = cli("segment", own.folder, "--instances", "--phrases", "red;blue;sand", "--json", "--output", out)
    labels = {instance["label"] for instance in json.loads(named.stdout)["instances"]}
    assert "red" in labels and labels <= {"red", "blue", "sand", None}


def test_more_things_than_a_palette_has_go_into_16_bits() -> None:
    labels = np.arange(300).reshape(15, 20)
    assert (np.asarray(index_image(labels, [str(i) for i in range(300)])) == labels).all()
    assert index_image(labels % 200, MANY).mode == "P"


def test_templates_are_averaged(run: RunFolder, cli: Cli) -> None:
    plain, mixed = QueryEngine(run), QueryEngine(run, templates=("{}", "blue {}"))
    red, blue = plain.encode(["red", "blue"])
    np.testing.assert_allclose(mixed.encode(["red"])[0], normalise(red + blue), atol=1e-6)
    np.testing.assert_allclose(mixed.encode(["blue"])[0], blue, atol=1e-6)
    for text, words in (("a thing", "a thing"), ("a {} and a {}", "single {}"), (" ; ", "there is none")):
        with pytest.raises(ConfigError, match="for the phrase"):
            read_templates(text)
        done = cli("query", run.folder, "red", "--templates", text)
        assert done.returncode == 2 and words in done.stderr
    with pytest.raises(ConfigError, match="template .* is no text"):
        read_templates("caf\udce9 {}")
    assert read_templates("usual")[0] == "{}" and read_templates("a {};the {}") == ("a {}", "the {}")
    done = cli("query", run.folder, "red", "--templates", "usual", "--views", "none", "--negative", "sand", "--json")
    assert json.loads(done.stdout)["answers"][0]["present"]
    assert cli("segment", run.folder, "--phrases", "red;sand", "--templates", "{};a {}", "--json").returncode == 0


def test_doubles_and_empty_phrases(run: RunFolder, cli: Cli) -> None:
    done = cli("query", run.folder, "red", " red", "blue", "--views", "none", "--negative", "sand", "--json")
    assert [answer["phrase"] for answer in json.loads(done.stdout)["answers"]] == ["red", "blue"]
    assert read_list("red; blue;;red ; ") == ("red", "blue")
    long = [f"thing number {number}" for number in range(30)]
    assert len(";".join(long)) > 400 and read_list(";".join(long)) == tuple(long), "too long for a file's name"
    assert read_templates(";".join(f"the {word} {{}}" for word in long)) == tuple(f"the {word} {{}}" for word in long)
    with pytest.raises(ConfigError, match="There is no file with phrases"):
        read_list(f"{'thing ' * 60}.txt")
    engine = QueryEngine(run)
    twice = engine.ask(["red", "red"], negatives=["sand"])
    assert len(twice) == 2 and twice[0].score == twice[1].score, "from Python, an answer for each"


def test_a_phrase_that_cannot_be_asked_leaves_the_others(run: RunFolder, cli: Cli) -> None:
    wrong, ask = "red" * 100, ("query", run.folder, "--views", "none", "--negative", "sand")
    done = cli(*ask, "  ", "red", wrong)
    assert done.returncode == 0 and '"red": ' in done.stdout
    assert '"" cannot be asked: A phrase is empty' in done.stdout and "longer than 255 bytes" in done.stdout
    told = json.loads(cli(*ask, "  ", "red", wrong, "--json").stdout)
    assert [one["phrase"] for one in told["answers"]] == ["red"]
    assert [one["phrase"] for one in told["refused"]] == ["", wrong] and "shorten it" in told["refused"][1]["error"]
    assert json.loads(cli(*ask, "red", "--json").stdout)["refused"] == []
    done = cli(*ask, "  ", wrong)
    assert done.returncode == 2 and not done.stdout, "nothing is answered"
    assert "None of the 2 phrases" in done.stderr and "empty" in done.stderr and "255 bytes" in done.stderr
    assert "shorten it" in done.stderr, "the advice for each"
    done = cli(*ask, "red", "blue", "--camera", "none.png")
    assert done.returncode == 2 and "no view 'none.png'" in done.stderr, "no phrase is to blame"


def test_what_is_not_meant_may_stand_before_what_is(run: RunFolder, cli: Cli) -> None:
    asked = ("query", "--negative", "sand;blue", run.folder, "red", "--views", "none", "--json")
    (answer,) = json.loads(cli(*asked).stdout)["answers"]
    (expected,) = QueryEngine(run).ask(["red"], negatives=["sand", "blue"])
    assert answer["phrase"] == "red" and answer["score"] == pytest.approx(expected.score, abs=1e-6)
    asked = ("query", "--canonical", "sand", run.folder, "red", "--views", "none", "--json")
    (answer,) = json.loads(cli(*asked).stdout)["answers"]
    (expected,) = QueryEngine(run).ask(["red"], canonical=["sand"])
    assert answer["phrase"] == "red" and answer["score"] == pytest.approx(expected.score, abs=1e-6)
    for flag in ("--negative", "--canonical"):
        done = cli("query", run.folder, "red", flag, " ; ")
        assert done.returncode == 2 and f"The list of {flag} is empty" in done.stderr


def test_bytes_that_are_no_text_are_told(run: RunFolder, cli: Cli) -> None:
    for text in ("ch\udcffair", "table;ch\udcffair"):
        with pytest.raises(ConfigError, match=r"'ch\\udcffair' is no text"):
            read_list(text)
    for asked in ({"phrases": ["\udcff"]}, {"phrases": ["red"], "negatives": ["\udcff"]}):
        with pytest.raises(ConfigError, match="is no text"):
            QueryEngine(run).ask(**asked)
    for command in (("query", run.folder, "\udcff"), ("segment", run.folder, "--phrases", "\udcff")):
        done = cli(*command)
        assert done.returncode == 2 and "is no text" in done.stderr


def test_two_hundred_phrases(run: RunFolder, cli: Cli, tmp_path: Path) -> None:
    listed = tmp_path / "many.txt"
    listed.write_text("\n".join(["red", *MANY, "sand"]))
    told = json.loads(
        cli("segment", run.folder, "--phrases", listed, "--views", "held-out", "--no-none", "--json").stdout
    )
    assert len(told["labels"]) == 201 and told["labels"][1]["pixels"] > 0 and told["labels"][200]["pixels"] > 0
    answers = QueryEngine(run).ask(["red", *MANY, "sand"], alternatives=())
    assert len(answers) == 200 and answers[0].present


def test_rivals_as_a_flag(run: RunFolder, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    import fake_encoders

    monkeypatch.setitem(fake_encoders.WORDS, "orange", (0.8, 0.4, 0.1))
    ask = ("query", run.folder, "orange box", "--views", "none")
    assert json.loads(cli(*ask, "--phrases", "none", "--json").stdout)["answers"][0]["present"]
    done = cli(*ask, "--phrases", "red;sand")
    assert "is not in this scene" in done.stdout and 'more like "red"' in done.stdout


def test_a_list_of_notepads_has_no_mark_before_its_first_phrase(tmp_path: Path) -> None:
    (tmp_path / "phrases.txt").write_text("floor\nrug\n", encoding="utf-8-sig")
    assert kept_phrases(tmp_path) == ("floor", "rug")


def test_what_a_phrase_is_about_counts_as_much_as_where_it_says_that_is(run: RunFolder) -> None:
    asked = "red on sand"
    for templates in (("{}",), ("{}", "blue beside a {}")):
        engine = QueryEngine(run, templates=templates)
        both, head = engine.encode([asked])[0], engine.encode(["red"])[0]
        said = engine.clip.encode_text([template.format(asked) for template in templates]).numpy()
        np.testing.assert_allclose(both, normalise(normalise(said.sum(0)) + head), atol=1e-6)
    many, few = QueryEngine(run).encode(["blue", asked, "sand"]), QueryEngine(run).encode(["blue", "sand"])
    np.testing.assert_array_equal(many[[0, 2]], few)


def test_a_list_may_be_one_text_but_not_its_letters(run: RunFolder) -> None:
    engine = QueryEngine(run)
    for asked in ({"negatives": "sand; blue"}, {"alternatives": "sand; blue"}, {"canonical": "sand; blue"}):
        (text,), (listed,) = engine.ask("red", **asked), engine.ask(["red"], **dict.fromkeys(asked, ["sand", "blue"]))
        assert text.score == listed.score and (text.point_index == listed.point_index).all()


def test_what_two_views_see_is_found(run: RunFolder, tiny_scene: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_scene, tmp_path / "few"))
    described = json.loads((folder / "transforms.json").read_text())
    described["train_filenames"] = described["train_filenames"][:2]
    (folder / "transforms.json").write_text(json.dumps(described))
    made = train_scene(folder, make_config("cpu", flags=flags(steps=5)), output_dir=tmp_path / "run")
    answer = load(made.folder).query("red", negatives=["sand"])
    assert answer.present and share_inside(answer.points, RED) > 0.9


@pytest.mark.parametrize("wrong", ["swapped", "green"])
def test_a_photo_whose_features_are_wrong_is_named_and_outvoted(
    run: RunFolder, tiny_scene: Path, tmp_path: Path, wrong: str
) -> None:
    folder = Path(shutil.copytree(tiny_scene, tmp_path / "odd"))
    rgb, _ = draw(camera_to_world(2))
    rgb = rgb[..., ::-1] if wrong == "swapped" else np.full_like(rgb, 1) * (0.1, 0.9, 0.1)
    Image.fromarray(np.rint(rgb * 255).astype(np.uint8)).save(folder / "images" / "0002.png")
    made = train_scene(folder, make_config("cpu", flags=flags(steps=5)), output_dir=tmp_path / "run")
    assert made.metrics()["photos_not_trusted"] == ["images/0002.png"]
    red, green = (load(made.folder).query(phrase, negatives=["sand"]) for phrase in ("red", "green"))
    assert red.present and share_inside(red.points, RED) > 0.9
    assert not green.present, "one photo that shows nothing else does not put it into the scene"


def test_missing_features_are_made_again_or_missed_aloud(
    run: RunFolder, tiny_scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(monkeypatch, tmp_path / "own cache")
    made = train_scene(tiny_scene, make_config("cpu", flags=flags(steps=5)), output_dir=tmp_path / "run")
    before, features = (made.folder / FILE).read_bytes(), load_features(made)
    features.cache.path("photos", features.keys[2]).unlink()
    with pytest.raises(CacheError, match=r"0002\.png are no longer in the cache"):
        features[2]
    again = train_scene(made.load_scene(), made.config, resume=made)
    assert again.metrics()["features_encoded"] == 1 and (made.folder / FILE).read_bytes() == before


@pytest.mark.parametrize("given", [3, None, ["chair", 3], [["chair"]]])
def test_what_is_no_list_of_texts_is_refused(given: Any) -> None:
    with pytest.raises(ConfigError, match="A list of texts"):
        in_list(given)


def test_lists_of_texts() -> None:
    assert in_list("chair; lamp;") == in_list(("chair", "lamp")) == ["chair", "lamp"]
