"""Names of a cloud's objects by reliefs of their points, beside the head's own and without it."""

from dataclasses import replace

import numpy as np
import pytest
from heads.test_naming import thing

from ovseg3d.heads.detection import Detector, Names
from ovseg3d.heads.naming import ReliefNamer, ShapeNamer
from ovseg3d.scene import PointCloud

LABELS = ("bicycle", "chair", "toilet")
ALIKE = Names(LABELS, np.eye(1, 192).repeat(3, 0), np.zeros((0, 192)))
"""Which are the same to the head."""
NO_BOXES = np.zeros((3, 7))
"""Reliefs do not depend on them."""


@pytest.fixture(scope="module")
def namer() -> ReliefNamer:
    return ReliefNamer(ShapeNamer(views=4))


@pytest.fixture(scope="module")
def three() -> tuple[PointCloud, np.ndarray]:
    """A chair, a bicycle and a toilet, without colours; and the instance of each point."""
    things = [thing(kind) + [2.0 * k, 0, 0] for k, kind in enumerate(("chair", "bicycle", "toilet"))]
    return PointCloud(np.concatenate(things)), np.repeat([1, 2, 3], [len(points) for points in things])


def test_objects_are_named_by_their_points_alone(namer: ReliefNamer, three: tuple[PointCloud, np.ndarray]) -> None:
    cloud, instance = three
    fallen = replace(cloud, xyz=100 * cloud.xyz[:, [0, 2, 1]] * [1, 1, -1])
    frames = ((cloud, (0.0, 0.0, 1.0), 1.0), (fallen, (0.0, 1.0, 0.0), 0.01))
    for by_head in (True, False):
        for points, up, metres in frames:
            found = Detector(names_objects=by_head).detect(
                points, up=up, metres_per_unit=metres, names=ALIKE, instance=instance, namers=[namer]
            )
            labels = {int(instance[one.points[0]]): one.label for one in found}
            assert labels == {1: "chair", 2: "bicycle", 3: "toilet"}


def test_reliefs_say_what_a_shape_namer_says(namer: ReliefNamer, three: tuple[PointCloud, np.ndarray]) -> None:
    cloud, instance = three
    vectors = namer.embed(cloud, NO_BOXES, instance - 1)
    names = namer.namer.embed_names(LABELS)
    for vector, said in zip(vectors, namer.log_probabilities(vectors, LABELS)):
        assert np.allclose(np.exp(said), namer.namer.probabilities(vector, names), atol=1e-6)


def test_sources_are_added_with_their_weight(namer: ReliefNamer, three: tuple[PointCloud, np.ndarray]) -> None:
    cloud, instance = three
    detector = Detector()
    alone, both = (detector.detect(cloud, instance=instance, namers=namers) for namers in ([], [namer]))
    for before, after in zip(alone, both):
        said = namer.log_probabilities(namer.embed(cloud, NO_BOXES, instance - 1), detector.names.texts)
        row = said[int(instance[before.points[0]]) - 1]
        odds = detector.names.log_probabilities(before.embedding[None])[0] + 0.25 * row
        expected = detector.names.candidates(odds)
        assert [one.label for one in after.candidates] == [one.label for one in expected]
        assert [one.score for one in after.candidates] == pytest.approx([one.score for one in expected], abs=1e-3)
        assert after.candidates != before.candidates
    for one in Detector(names_objects=False).detect(cloud, instance=instance, namers=[namer]):
        said = namer.log_probabilities(namer.embed(cloud, NO_BOXES, instance - 1), detector.names.texts)
        expected = detector.names.candidates(said[int(instance[one.points[0]]) - 1])
        assert one.candidates[0].label == expected[0].label
        # The detector turns the cloud first, which rounds its views a little otherwise.
        assert one.candidates[0].score == pytest.approx(expected[0].score, abs=0.01)


def test_of_what_no_source_knows_there_is_no_name(namer: ReliefNamer, three: tuple[PointCloud, np.ndarray]) -> None:
    """Ten points are no shape. Without the head they have no name, though a list has one name only."""
    cloud, instance = three
    few = np.where((instance == 3) & (np.cumsum(instance == 3) > 10), 0, instance)
    vectors = namer.embed(cloud, NO_BOXES, few - 1)
    assert vectors[:2].any(1).all() and not vectors[2].any()
    assert np.ptp(namer.log_probabilities(vectors, LABELS)[2]) == 0
    one = Names(("thing",), np.eye(1, 192), np.zeros((0, 192)))
    for names, by_head, count in (
        (one, True, 3),
        (one, False, 2),
        (replace(one, keep_unnamed=True), False, 3),
    ):
        found = Detector(names_objects=by_head).detect(cloud, names=names, instance=few, namers=[namer])
        assert len(found) == count
    assert [one.label for one in found].count(None) == 1
