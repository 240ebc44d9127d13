"""Protocols of single phrases by hand, and on the tiny run: selection, lerf-3d, 3d-ovs-phrase."""

import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from colours import CLASSES, true_labels, with_masks, with_polygons
from tiny import camera_to_world

from ovseg3d.errors import MeasureError
from ovseg3d.evaluate.metrics import overlap, phrase_scores, relevant_pixels, selection_scores
from ovseg3d.evaluate.papers import measure_ovs3d_phrases
from ovseg3d.evaluate.selection import measure_lerf_selection
from ovseg3d.query.engine import QueryEngine
from ovseg3d.runs.folder import RunFolder
from ovseg3d.scene import load_scene


def points(text: str) -> np.ndarray:
    return np.array([letter == "x" for letter in text])


def test_selection_by_hand() -> None:
    """IoU 1/4, 1/2, 3/4 and 0: 1/4 is not above 0.25, 1/2 not above 0.5."""
    true = {"a": points("x..."), "b": points("xx.."), "c": points("xxxx"), "d": points("...x")}
    selected = {"a": points("xxxx"), "b": points("x..."), "c": points(".xxx"), "d": points("....")}
    scores = selection_scores({"room": {name: overlap(selected[name], true[name]) for name in true}})
    assert scores.iou == {"room": {"a": 1 / 4, "b": 1 / 2, "c": 3 / 4, "d": 0}}
    assert (scores.miou, scores.acc_25, scores.acc_50) == (1.5 / 4, 2 / 4, 1 / 4)
    assert overlap(points(".."), points("..")) == 0
    with pytest.raises(MeasureError, match="No phrase"):
        selection_scores({"room": {}})


def test_level_with_the_highest_mean_relevancy_inside() -> None:
    """Means over pixels above 0.4: 0.65 of two, 0.7 of one, none. The highest value, 0.9, does not decide."""
    maps = np.array([[[0.9, 0.4, 0.41]], [[0.4, 0.7, 0.1]], [[0.4, 0.3, 0.2]]])
    assert relevant_pixels(maps).tolist() == [[False, True, False]]
    assert relevant_pixels(maps[[0, 2]]).tolist() == [[True, False, True]]
    assert not relevant_pixels(maps[2:]).any()
    scores = phrase_scores({"00": {"a": 1.0, "b": 0.5}, "01": {"a": 0.0, "b": 0.0}})
    assert scores.miou == 1.5 / 4 and scores.as_dict()["protocol"] == "3d-ovs-phrase"


def test_phrases_of_3d_ovs_are_segmented_by_themselves(run: RunFolder, tiny_scene: Path, tmp_path: Path) -> None:
    folder = with_masks(Path(shutil.copytree(tiny_scene, tmp_path / "tiny")), (0, 3))
    engine = QueryEngine(run, load_scene(folder))
    groups = {"held-out": engine.scene.test, "train": engine.scene.train}
    found = measure_ovs3d_phrases(engine, groups)
    assert set(found["held-out"].iou) == {"images/0000.png"} and set(found["train"].iou) == {"images/0003.png"}
    for group, view in (("held-out", 0), ("train", 3)):
        (iou,) = found[group].iou.values()
        labels = true_labels(camera_to_world(view))
        maps = engine.places(f"images/{view:04d}.png").image(engine.relevancy(CLASSES))
        for number, phrase in enumerate(CLASSES, start=1):
            chosen, true = maps[..., number - 1] > 0.4, labels == number
            assert iou[phrase] == pytest.approx((chosen & true).sum() / (chosen | true).sum(), abs=0.1), phrase
        assert found[group].miou == pytest.approx(sum(iou.values()) / 3)
    stop = threading.Event()
    stop.set()
    with pytest.raises(KeyboardInterrupt):
        measure_ovs3d_phrases(engine, groups, stop=stop)


def test_selected_points_are_shown_in_the_labelled_frames(
    run: RunFolder, tiny_scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels, engine = with_polygons(tmp_path / "label", (0, 1)), QueryEngine(run, load_scene(tiny_scene))
    groups = {"held-out": engine.scene.test, "train": engine.scene.train}
    found = measure_lerf_selection(engine, groups, labels)
    assert set(found) == {"held-out", "train"} and set(found["train"].iou) == {"0001.jpg"}
    for scores in found.values():
        assert scores.miou > 0.6 and scores.acc_50 == 1 and scores.as_dict()["protocol"] == "lerf-3d"
    # What is selected counts, not how relevant the rest is: the other box is the answer to no question here.
    ask = QueryEngine.ask
    monkeypatch.setattr(QueryEngine, "ask", lambda self, _: ask(self, ["red box"]))
    mixed = measure_lerf_selection(engine, groups, labels)["train"].iou["0001.jpg"]
    assert mixed["red box"] == found["train"].iou["0001.jpg"]["red box"] and mixed["blue box"] < 0.05
    stop = threading.Event()
    stop.set()
    with pytest.raises(KeyboardInterrupt):
        measure_lerf_selection(engine, groups, labels, stop=stop)
