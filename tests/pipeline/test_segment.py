"""What the stage `semantics` asks the detection head of a surface, before instances are selected."""

import numpy as np
from box_rooms import two_boxes

from ovseg3d.field.surface import Surface
from ovseg3d.pipeline.semantics import segment


def test_the_head_proposes_on_a_surface_with_a_scale_only() -> None:
    surface = two_boxes().surface(0.004)
    said = segment(surface, 1.0)
    assert said is not None and said.foreground.shape == (len(surface),)
    assert ((said.foreground >= 0) & (said.foreground <= 1)).all() and len(said.masks) == len(said.scores)
    assert segment(surface, None) is None
    few = Surface(
        *(getattr(surface, name)[:20] for name in ("xyz", "normal", "rgb", "confidence", "cell")), surface.up, True
    )
    assert segment(few, 1.0) is None


def test_proposals_do_not_depend_on_the_unit() -> None:
    surface = two_boxes().surface(0.004)
    large = Surface(
        surface.xyz * 100, surface.normal, surface.rgb, surface.confidence, surface.cell * 100, surface.up, True
    )
    one, other = segment(surface, 1.0), segment(large, 0.01)
    assert one is not None and other is not None and len(one.masks) == len(other.masks)
    np.testing.assert_allclose(one.foreground, other.foreground, atol=0.05)
