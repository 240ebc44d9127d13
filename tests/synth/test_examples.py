"""Images with captions: pure functions of their arguments, of the right split, with allowed words."""

import re

import numpy as np
import pytest

from ovseg3d.synth import room_views
from ovseg3d.synth.examples import KINDS, SYNONYMS, Example, object_example, room_example
from ovseg3d.synth.holdout import HELD_COLOURS, HELD_PAIRS, HELD_STYLES
from ovseg3d.synth.render import DRAFT


@pytest.fixture(scope="module")
def some() -> dict[str, list[Example]]:
    return {s: [object_example(7, k, 48, split=s) for k in range(14)] for s in ("seen", "unseen", "pairs")}


def test_the_same_numbers_give_the_same_picture(some):
    again = object_example(7, 3, 48)
    assert np.array_equal(again.image, some["seen"][3].image) and again.captions == some["seen"][3].captions
    assert not np.array_equal(again.image, object_example(8, 3, 48).image)
    assert again.image.shape == (48, 48, 3) and again.image.dtype == np.uint8


def test_splits_hold_what_they_say(some):
    assert all(e.seen for e in some["seen"])
    assert not any(e.seen for e in some["unseen"] + some["pairs"])
    assert all(e.style != HELD_STYLES[e.kind] for e in some["seen"] + some["pairs"])
    assert all(e.style == HELD_STYLES[e.kind] for e in some["unseen"])
    assert all((e.color, e.kind) in HELD_PAIRS for e in some["pairs"])
    assert all((e.color, e.kind) not in HELD_PAIRS for e in some["seen"])
    said = " ".join(c for e in some["seen"] for c in e.captions)
    assert not any(re.search(rf"\b{colour}\b", said) for colour in HELD_COLOURS)


def test_captions_name_the_thing_and_no_synonym(some, monkeypatch):
    monkeypatch.setattr(room_views, "COARSE", DRAFT)
    rooms = [room_example(7, k, 48) for k in range(8)]
    room_views.room_of.cache_clear()
    for example in [e for s in some.values() for e in s] + rooms:
        assert example.captions and (example.kind is None or example.kind in example.captions[0])
        for caption in example.captions:
            for word, kind in SYNONYMS:
                assert not re.search(rf"\b{word}\b", caption, re.IGNORECASE), (caption, word, kind)


def test_thirty_synonyms_mean_kinds_and_are_none():
    assert len(SYNONYMS) == len({w for w, _ in SYNONYMS}) == 30
    assert not {w for w, _ in SYNONYMS} & set(KINDS)
