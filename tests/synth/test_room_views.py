"""The quick renderer agrees with rays, and captions of room views name the visible objects."""

import numpy as np
import pytest

from ovseg3d.synth import room_views
from ovseg3d.synth.cameras import look, on_path
from ovseg3d.synth.captions import article
from ovseg3d.synth.examples import ROOM_EXAMPLES, room_example
from ovseg3d.synth.furnish import ROOM_TYPES, random_room
from ovseg3d.synth.holdout import SEEN
from ovseg3d.synth.kinds import KINDS
from ovseg3d.synth.quick import look_at_room, shade_room
from ovseg3d.synth.render import DRAFT
from ovseg3d.synth.world import flatten


@pytest.fixture(scope="module")
def made():
    patch = pytest.MonkeyPatch()
    patch.setattr(room_views, "COARSE", DRAFT)
    room_views.room_of.cache_clear()
    yield room_views.room_of(5, 0, "seen")
    patch.undo()
    room_views.room_of.cache_clear()


def test_the_depth_buffer_agrees_with_rays(made):
    for place in (0.1, 0.6):
        c2w = on_path(made.room.cameras, place)
        view = look_at_room(made.tracer, c2w, 48, 40.0, side=1)
        shot = made.tracer.photo(c2w, 48, 48, 40.0, side=0)
        depth, face = view.depth_z.reshape(48, 48), view.face.reshape(48, 48)
        assert np.mean(np.abs(depth - shot.depth_z) < 2e-3 * shot.depth_z) > 0.99
        same = made.face_instance[face] == made.face_instance[shot.face]
        assert same.mean() > 0.99


def test_a_shaded_view_looks_like_the_photo(made):
    c2w = on_path(made.room.cameras, 0.3)
    quick = shade_room(made.tracer, look_at_room(made.tracer, c2w, 40, 34.0, side=3))
    slow, _, _ = made.tracer.radiance(c2w, 40, 40, 34.0, 3)
    # Rays are jittered within a pixel and see mirrors; both are small on the whole.
    assert np.median(np.abs(quick - slow)) < 0.02 and np.corrcoef(quick.ravel(), slow.ravel())[0, 1] > 0.97


def test_a_camera_amid_large_faces_needs_no_clipping(made):
    half = np.array(made.room.size) / 2
    view = look_at_room(made.tracer, look(np.array([0.0, 0.0, half[2]]), 0.3, -1.2), 32, 12.0, side=1)
    assert np.all(view.face >= 0)


def test_captions_name_what_is_visible(made):
    names = {o["category"] for o in made.flat.objects}
    told, aimed, third = set(), 0, None
    for index in range(24):
        example = room_example(5, index, 64)
        third = example if index == 3 else third
        assert example.image.shape == (64, 64, 3) and example.captions
        text = " ".join(example.captions)
        said = {k for k in KINDS if f" {k}" in f" {text}"}
        # "picture" and other kinds are named only if the room holds them ("box" is in "tissue box").
        assert {k for k in said if not any(k in n for n in names)} == set()
        told |= said
        if example.kind is not None:
            assert example.captions[0] == article(example.kind), "the object that the image shows is named first"
            assert example.color is None or example.captions[1] == article(f"{example.color} {example.kind}")
            aimed += 1
        else:
            assert example.captions[0].split(maxsplit=1)[-1] not in KINDS, (
                "no image of an object that is hardly visible"
            )
    assert len(told) >= 5 and 4 < aimed < 20
    again = room_example(5, 3, 64)
    assert np.array_equal(again.image, third.image) and again.captions == third.captions, "whatever was made in between"
    assert ROOM_EXAMPLES > 24


def test_rooms_of_training_hold_nothing_of_the_holdout(made):
    assert all(o["seen"] for o in made.flat.objects)
    for name, (colour, texture) in made.room.surfaces.items():
        assert name in ("floor", "wall") and colour in SEEN.colours and texture in SEEN.textures


def test_rooms_by_seed_are_of_all_types_and_say_what_is_seen():
    found = {}
    for seed in range(1001, 1006):
        room = random_room(seed)
        found[room.furnished_as] = {o.category for o in room.objects}
        objects = flatten(room).objects
        assert all({"style", "color", "texture", "seen"} <= set(o) for o in objects)
        assert {True, False} == {o["seen"] for o in objects}
        assert all((o["color"] is None) or o["phrase"].startswith(o["color"]) or o["phrase"] == "ceiling light"
                   for o in objects)  # fmt: skip
    assert len(found) == 5 and set(found) <= {t.name for t in ROOM_TYPES}
    assert "toilet" in found["bathroom"] and "bed" in found["bedroom"] and "desk" in found["study"]
    assert "refrigerator" in found["kitchen"] and "sofa" in found["living room"]
    assert not any("toilet" in kinds for name, kinds in found.items() if name != "bathroom")
