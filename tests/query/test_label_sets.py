"""Label images match the list of phrases beside them, also after an earlier export."""

import json
import threading
from pathlib import Path

import numpy as np
import pytest
from commands import Cli
from PIL import Image

from ovseg3d.export.labels import instance_views, label_views
from ovseg3d.query.engine import QueryEngine
from ovseg3d.runs.folder import RunFolder

PHRASES = ("red", "blue", "sand")


def content(folder: Path) -> dict[str, bytes]:
    """Every file, hidden ones and those of hidden folders too."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def names_of(run: RunFolder) -> list[str]:
    return [frame.name for frame in run.load_scene().frames]


def agree(folder: Path, phrases: tuple[str, ...], views: list[str]) -> None:
    """The folder holds a set of these phrases and views, and nothing of any other."""
    labels = json.loads((folder / "labels.json").read_text(encoding="utf-8"))
    assert [entry["phrase"] for entry in labels["labels"]] == ["none", *phrases] and list(labels["views"]) == views
    told = json.loads((folder / "annotations.json").read_text(encoding="utf-8"))
    assert [category["name"] for category in told["categories"]] == list(phrases)
    assert [image["file_name"] for image in told["images"]] == views
    for image in told["images"]:
        found = np.asarray(Image.open(folder / image["label_file"]))
        of_this = [one for one in told["annotations"] if one["image_id"] == image["id"]]
        assert sum(one["area"] for one in of_this) >= (found > 0).sum() and found.max() <= len(phrases)
    others = {"labels.json", "annotations.json", "overview.png"}
    assert {path.name for path in folder.iterdir()} == {*labels["views"].values(), *others}


def test_segment_and_export_write_the_same_files(run: RunFolder, cli: Cli, tmp_path: Path) -> None:
    told = cli("segment", run.folder, "--phrases", ";".join(PHRASES), "--output", tmp_path / "a" / "labels", "--json")
    assert told.returncode == 0, told.stderr
    assert json.loads(told.stdout)["annotations"] == str(tmp_path / "a" / "labels" / "annotations.json")
    files = run.export("labels", tmp_path / "b", phrases=PHRASES)
    a, b = content(tmp_path / "a"), content(tmp_path / "b")
    assert a == b and {str(file.relative_to(tmp_path / "b")) for file in files} == set(b)
    agree(tmp_path / "a" / "labels", PHRASES, names_of(run))


def test_an_earlier_set_goes_whole_and_other_files_stay(run: RunFolder, cli: Cli, tmp_path: Path) -> None:
    run.export("labels", tmp_path, phrases=PHRASES)
    folder, held_out = tmp_path / "labels", [run.load_scene().frames[view].name for view in run.load_scene().test]
    done = cli("segment", run.folder, "--phrases", "red", "--views", "held-out", "--output", folder)
    assert done.returncode == 0, done.stderr
    agree(folder, ("red",), held_out)
    (folder / "mine.txt").write_text("mine")
    instance_views(folder, QueryEngine(run), held_out)
    images = {f"images_{Path(name).stem}.png" for name in held_out}
    assert {path.name for path in folder.iterdir()} == {*images, "labels.json", "overview.png", "mine.txt"}
    run.export("labels", tmp_path, phrases=PHRASES)
    (folder / "mine.txt").unlink()
    agree(folder, PHRASES, names_of(run))


def test_the_legend_of_instances_has_their_names(run: RunFolder, tmp_path: Path) -> None:
    engine, views, overviews = QueryEngine(run), names_of(run)[:1], []
    for phrases in ((), PHRASES):
        written = instance_views(tmp_path / str(len(phrases)), engine, views, phrases=phrases)
        with Image.open(written["image"]) as image:
            overviews.append(np.asarray(image))
    numbers, names = overviews
    assert numbers.shape == names.shape and (numbers != names).any()


def test_an_interrupted_call_leaves_the_earlier_set(run: RunFolder, tmp_path: Path) -> None:
    engine, names, stop = QueryEngine(run), names_of(run), threading.Event()
    label_views(tmp_path, engine, PHRASES, names)
    before = content(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        label_views(tmp_path, engine, ("blue", "red"), names, report=lambda _: stop.set(), stop=stop)
    with pytest.raises(KeyboardInterrupt):
        instance_views(tmp_path, engine, names, stop=stop)
    assert content(tmp_path) == before


def test_a_listing_cannot_have_files_elsewhere_deleted(run: RunFolder, tmp_path: Path) -> None:
    precious = tmp_path / "precious.png"
    precious.write_text("precious")
    folder = tmp_path / "labels"
    folder.mkdir()
    for views in ({"a": "../precious.png", "b": str(precious), "c": 3, "d": "..", "e": [1]}, ["../precious.png"], None):
        (folder / "labels.json").write_text(json.dumps({"views": views}))
        label_views(folder, QueryEngine(run), ("red",), names_of(run)[:1])
        agree(folder, ("red",), names_of(run)[:1])
    # Somebody else's files that have the same names as some of ours.
    (folder / "labels.json").write_text("{}")
    (folder / "annotations.json").write_text("theirs")
    instance_views(folder, QueryEngine(run), names_of(run)[:1])
    assert precious.read_text() == "precious" and (folder / "annotations.json").read_text() == "theirs"
