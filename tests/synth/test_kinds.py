"""Every kind: within its stated size, resting on the floor, real triangles, in each style."""

import numpy as np
import pytest

from ovseg3d.errors import ConfigError
from ovseg3d.synth import KINDS
from ovseg3d.synth.kinds import Look, find_kind
from ovseg3d.synth.materials import linear, paint, to_linear, to_srgb


@pytest.mark.parametrize("name", sorted(KINDS))
def test_a_kind_fills_its_box_in_every_style(name):
    kind = KINDS[name]
    for number, style in enumerate(kind.styles):
        for pick in (0, 1) if number == 0 else (number % 2,):
            size = tuple(span[pick] for span in kind.sizes_of(style))
            parts = kind.make(size, style, Look(paint("#808080"), seed=3))
            points = np.concatenate([p.soup.points.reshape(-1, 3) for p in parts])
            low, high = points.min(0), points.max(0)
            half = np.array(size) / 2
            assert low[2] > -1e-6 and high[2] < size[2] * 1.02 + 0.003, (style, high[2], size)
            # Handles, covers and knobs may stand out by a few centimetres.
            assert np.all(high[:2] < half[:2] + 0.035) and np.all(low[:2] > -half[:2] - 0.035), (style, low, high)
            assert high[2] > 0.5 * size[2]
            for part in parts:
                norms = np.linalg.norm(part.soup.normals, axis=-1)
                assert np.allclose(norms, 1, atol=1e-4)


def test_there_are_enough_kinds_and_styles():
    assert len(KINDS) >= 40
    wanted = (
        "bed table sofa chair toilet desk dresser bookshelf bathtub cabinet door window picture counter curtain"
        " refrigerator sink lamp television monitor laptop keyboard mug bottle bowl plate book ball box plant vase"
        " cushion rug clock bin teapot cup banana apple shoe backpack guitar bicycle"
    )
    assert set(wanted.split()) | {"night stand", "shower curtain"} <= set(KINDS)
    assert all(len(set(kind.styles)) == len(kind.styles) >= 3 for kind in KINDS.values())


def test_an_unknown_kind_names_the_nearest():
    with pytest.raises(ConfigError, match="sofa"):
        find_kind("soffa")


def test_closed_shapes_face_outwards():
    from ovseg3d.synth.geometry import ball, box, cylinder, pillow, prism, rounded_box, tube

    grey = paint("#808080")
    outline = [(-1, 0), (1, 0), (1, 2), (-1, 2)]
    shapes = {
        "box": (box((1, 2, 3), (0, 0, 0), grey), 6.0, 0.001),
        "rounded": (rounded_box((1, 2, 3), (0, 0, 0), grey, 0.01), 6.0, 0.01),
        "cylinder": (cylinder(1, 2, (0, 0, 0), grey, segments=100), 2 * np.pi, 0.01),
        "ball": (ball(1, (0, 0, 0), grey, segments=80), 4 / 3 * np.pi, 0.01),
        "prism": (prism(outline, 3, (0, 0, 0), grey), 12.0, 0.001),
        "tube": (tube([(0, 0, 0), (0, 0, 1), (0, 0, 2)], 0.5, grey, sides=60), np.pi / 2, 0.01),
        "pillow": (pillow((1, 1, 0.5), (0, 0, 0), grey), 0.3, 0.5),
    }
    for name, (part, volume, within) in shapes.items():
        a, b, c = np.moveaxis(part.soup.points, 1, 0)
        measured = np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6
        assert measured == pytest.approx(volume, rel=within), name


def test_colours_round_trip():
    values = np.linspace(0, 1, 50)
    assert np.allclose(to_srgb(to_linear(values)), values)
    assert linear("#ffffff") == (1.0, 1.0, 1.0)
