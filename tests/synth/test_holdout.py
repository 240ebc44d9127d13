"""The held-out kinds and the demo rooms do not change."""

import hashlib

import numpy as np
import pytest

from ovseg3d.synth.holdout import (
    ALL,
    HELD_COLOURS,
    HELD_LIGHTS,
    HELD_PAIRS,
    HELD_STYLES,
    HELD_TEXTURES,
    SEEN,
    UNSEEN,
    choose,
    is_seen,
)  # fmt: skip
from ovseg3d.synth.kinds import KINDS
from ovseg3d.synth.looks import COLOURS, LIGHTS, TEXTURES
from ovseg3d.synth.make import ROOMS
from ovseg3d.synth.world import flatten


def test_the_lists_are_frozen():
    assert HELD_TEXTURES == ("dots", "bands", "damask")
    assert HELD_LIGHTS == ("evening", "backlight")
    assert HELD_COLOURS == ("teal", "navy", "lime")
    text = repr((sorted(HELD_STYLES.items()), sorted(HELD_PAIRS)))
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "676087b7335c06b4"


def test_a_fifth_is_held_out_and_one_style_of_each_kind():
    for held, whole in ((HELD_TEXTURES, TEXTURES), (HELD_LIGHTS, LIGHTS), (HELD_COLOURS, COLOURS)):
        assert set(held) < set(whole) and len(held) == 0.2 * len(whole)
    assert set(HELD_STYLES) == set(KINDS)
    for name, style in HELD_STYLES.items():
        assert style in KINDS[name].styles and style not in SEEN.styles[name] and len(SEEN.styles[name]) >= 2
    for colour, name in HELD_PAIRS:
        assert colour in SEEN.colours and KINDS[name].colour_shows and colour not in KINDS[name].natural


def test_what_is_drawn_keeps_to_its_pool():
    rng = np.random.default_rng(0)
    for name in KINDS:
        for _ in range(20):
            assert choose(rng, name, SEEN).seen
        assert not choose(rng, name, UNSEEN).seen
        assert choose(rng, name, ALL).style in KINDS[name].styles
    assert not is_seen("chair", "slats", "pink", "plain") and is_seen("chair", "slats", "red", "plain")


@pytest.mark.parametrize(("name", "known"), [("playroom", "092862decc31c969"), ("desk", "1f513e34dd31625e")])
def test_new_kinds_leave_the_demo_rooms_alone(name, known):
    flat, digest = flatten(ROOMS[name]()), hashlib.sha256()
    for part in flat.parts:
        material = part.material
        digest.update(np.round(part.soup.points * 1e4).astype(np.int64).tobytes())
        values = (*material.colour, *material.second, material.scale, material.gloss, material.glow)
        digest.update(repr((material.pattern, [round(float(v), 5) for v in values])).encode())
    digest.update(repr((flat.classes, [(o["phrase"], sorted(o)) for o in flat.objects])).encode())
    assert digest.hexdigest()[:16] == known
