"""What the detection head's proposals say of groups."""

import math

import numpy as np
import pytest
from test_grouping import INDOOR, two_boxes

from ovseg3d.field.surface import Surface
from ovseg3d.instances.grouping import find_instances
from ovseg3d.instances.proposals import FEATURES, Proposals, group_features
from ovseg3d.pipeline.semantics import propose


def test_features_of_groups_are_those_of_their_definition() -> None:
    ids = np.array([1, 1, 1, 1, 2, 2, 0, 0, 0, 0])
    foreground = np.array([0.9, 0.9, 0.7, 0.7, 0.0, 0.0, 0.5, 0.5, 0.5, 0.5])
    masks = [np.array([0, 1, 2, 6]), np.array([4, 5, 6, 7, 8])]
    said = Proposals(foreground, masks, np.array([0.5, 0.8]))
    told = group_features(ids, np.array([9.0, -1.0]), said)
    assert told.shape == (2, len(FEATURES))
    # Three of four points are in the first proposal, which has one more; it is no larger than the group.
    assert told[0] == pytest.approx([6.0, math.log(4), 0.5 * 3 / 5, 0.0, math.log(4)])
    # Both points are in the second proposal, of five.
    assert told[1] == pytest.approx([-1.0, math.log(0.005 / 0.995), 0.8 * 2 / 5, 0.8, math.log(2)])


def test_a_group_that_the_head_proposes_is_an_instance_and_a_part_of_a_proposal_is_none() -> None:
    room = two_boxes()
    surface, true = room.surface(0.004), room.instances
    masks = [np.flatnonzero(true == 1), np.flatnonzero(true != 1)]
    seen = Proposals(np.where(true == 1, 0.95, 0.01), masks, np.array([0.8, 0.8]))
    found = find_instances(surface, [room.features()], proposals=seen, config=INDOOR)
    assert found.count == 1 and found.rejected_fragments == 1
    assert (found.instance[true == 1] == 1).mean() > 0.95 and not found.instance[true == 2].any()
    assert (found.ids[true == 2] == 2).mean() > 0.95


def test_the_head_proposes_on_a_surface_with_a_scale_only() -> None:
    surface = two_boxes().surface(0.004)
    said = propose(surface, 1.0)
    assert said is not None and said.foreground.shape == (len(surface),)
    assert ((said.foreground >= 0) & (said.foreground <= 1)).all() and len(said.masks) == len(said.scores)
    assert propose(surface, None) is None
    few = Surface(
        *(getattr(surface, name)[:20] for name in ("xyz", "normal", "rgb", "confidence", "cell")), surface.up, True
    )
    assert propose(few, 1.0) is None


def test_proposals_do_not_depend_on_the_unit() -> None:
    surface = two_boxes().surface(0.004)
    large = Surface(
        surface.xyz * 100, surface.normal, surface.rgb, surface.confidence, surface.cell * 100, surface.up, True
    )
    one, other = propose(surface, 1.0), propose(large, 0.01)
    assert one is not None and other is not None and len(one.masks) == len(other.masks)
    np.testing.assert_allclose(one.foreground, other.foreground, atol=0.05)
