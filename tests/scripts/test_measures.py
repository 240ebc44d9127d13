"""Measures of the built-in encoders, on known answers."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from ovseg3d.query.calibration import SCORES
from scripts.training import measures as m
from scripts.training.calibration import calibrate, fit
from scripts.training.cards import write_cards
from scripts.training.compared_encoders import Colour, to_patches, windows


class Knows:
    """Answers with a vector for each phrase; of a picture it knows the phrase by its red channel."""

    scale, side, patch = 10.0, 8, 8

    def __init__(self, phrases: list[str]) -> None:
        self.phrases = phrases

    def text(self, phrases: list[str]) -> torch.Tensor:
        known = [self.phrases.index(p) if p in self.phrases else len(self.phrases) for p in phrases]
        return torch.eye(len(self.phrases) + 1)[known]

    def image(self, images: torch.Tensor) -> torch.Tensor:
        return torch.eye(len(self.phrases) + 1)[(images[:, 0].mean((1, 2)) * 100).round().long()]


def views(kinds: list[str], colours: list[str | None], says: list[int]) -> m.ObjectViews:
    images = torch.zeros(len(kinds), 3, 8, 8)
    images[:, 0] = torch.tensor(says)[:, None, None] / 100
    return m.ObjectViews(images, tuple(kinds), tuple(colours))


def test_naming_counts_what_was_said_of_what_it_is() -> None:
    score, confusion = m.naming(
        Knows(["a bed", "an apple"]), views(["bed", "bed", "apple"], [None] * 3, [0, 1, 1]), ["bed", "apple"]
    )
    assert score == pytest.approx(2 / 3) and confusion.tolist() == [[1, 1], [0, 1]]


def test_a_synonym_competes_with_the_other_kinds_only() -> None:
    clip = Knows(["a cot", "an apple"])  # "a bed" is as far from everything as what it does not know
    found = m.synonyms(clip, views(["bed", "bed"], [None] * 2, [0, 1]), ["bed", "apple"], [("cot", "bed")])
    assert found == {"top-1": 0.5, "words": {"cot": 0.5}}


def test_pairs_leave_out_what_has_no_colour() -> None:
    clip = Knows(["a red bed", "a blue bed", "a red cup", "a blue cup"])
    seen = views(["bed", "bed", "cup"], ["red", "blue", None], [0, 2, 0])
    assert m.pairs(clip, seen, ["bed", "cup"], ["red", "blue"]) == {"pairs": 0.5, "colour given kind": 0.5}


def test_miou_is_over_the_classes_that_are_there() -> None:
    true = np.array([[1, 1, 2, 2, 0, 255]])
    said = np.array([[1, 2, 2, 2, 3, 3]])
    assert m.miou([said], [true], 3) == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert m.miou([np.array([[3, 3, 3, 3, 3, 3]])], [true], 3) == 0.0


def test_windows_agree_where_they_overlap() -> None:
    images = torch.rand(2, 3, 48, 40, generator=torch.Generator().manual_seed(0))
    found = windows(lambda x: torch.nn.functional.avg_pool2d(x, 8), images, 16, 8)
    torch.testing.assert_close(found, torch.nn.functional.avg_pool2d(images, 8))


def room(name: str, flip: bool) -> m.RoomViews:
    """A red bed and a blue floor; the other way round when flipped in a second view."""
    photo = np.zeros((32, 32, 3), np.uint8)
    photo[:16, :, 0], photo[16:, :, 2] = 250, 250
    label = np.repeat(np.repeat([[1], [2]], 16, 0), 32, 1)
    both = (photo[::-1].copy(), label[::-1].copy()) if flip else (photo, label)
    instances = ({"category": "bed", "phrase": "red bed", "center": [0, 0, 0.3], "size": [2, 1, 0.6]},)
    return m.RoomViews(name, (both[0],), (both[1],), (photo,), (label,), ("red bed", "floor"), instances)


def test_labels_go_from_view_to_view_by_the_nearest_patches() -> None:
    rooms = [room("one", True)]
    assert m.transfer(Colour(8), None, rooms, 1.0) == 1.0
    assert m.transfer(Colour(8), [room("two", False)], rooms, 1.0) == 1.0
    assert m.probe(Colour(8), [room("two", False)], rooms, 1.0) == 1.0


def test_the_baselines_know_colours_and_sizes() -> None:
    one = room("one", True)
    assert m.miou(m.colour_labels(one, [room("two", False)]), one.labels, 2) > 0.9
    assert m.miou(m.size_labels(one, [room("two", False)]), one.labels, 2) == 1.0


def test_photos_are_brought_to_whole_patches() -> None:
    assert to_patches(np.zeros((45, 61, 3), np.uint8), 1.0, 8, 16).shape == (1, 3, 48, 64)
    assert to_patches(np.zeros((1, 1, 3), np.uint8), 1.0, 8, 16).shape == (1, 3, 16, 16)


def test_calibration_finds_the_numbers_that_made_the_scores() -> None:
    random = np.random.default_rng(0)
    odds = random.normal(0, 3, 20_000)
    there = random.uniform(size=20_000) < 1 / (1 + np.exp(-(0.5 * odds - 1.0)))
    slope, offset = fit(odds, there)
    # What is not there is in the majority, and weighs no more: the offset that is found is that of even numbers.
    even = offset + np.log(there.mean() / (1 - there.mean()))
    assert slope == pytest.approx(0.5, abs=0.03) and even == pytest.approx(-1.0, abs=0.1)


def test_a_calibration_is_judged_by_scenes_that_it_was_not_fitted_to() -> None:
    right = {"one": {"mug": 0.9, "sofa": 0.8}, "two": {"mug": 0.95}}
    wrong = {"one": {"tram": 0.1}, "two": {"tram": 0.05, "goat": 0.2}}
    what = ("object",), "0"
    found = calibrate(right, wrong, *what)
    assert found["slope"] > 0 and found["brier"] < 0.05 and found["expected_calibration_error"] < 0.2
    assert (found["of"], found["scenes"], found["present"], found["absent"]) == (SCORES, 2, 3, 3)
    swapped = calibrate({**right, "two": wrong["two"]}, {**wrong, "two": right["two"]}, *what)
    assert swapped["brier"] > 0.5, "one scene says the opposite of the other"
    alone = calibrate({"one": right["one"]}, {"one": wrong["one"]}, *what)
    assert alone["brier"] is None and alone["slope"] > 0


def test_a_card_keeps_what_no_row_measures(tmp_path: Path) -> None:
    kept = {"calibration": {"slope": 2.0}, "data": {"history": "two sittings"}, "figures": {"a": "old"}}
    (tmp_path / "card.json").write_text(json.dumps(kept))
    rows = [{"key": "a", "figures": {"seen": 0.5}, "baselines": {}}]
    write_cards(tmp_path, tmp_path, {"rows": rows})
    card = json.loads((tmp_path / "card.json").read_text())
    assert card["calibration"] == {"slope": 2.0} and card["data"]["history"] == "two sittings"
    assert card["figures"]["a"]["figures"] == {"seen": 0.5} and card["data"]["pictures"]
