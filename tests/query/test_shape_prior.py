"""Log odds of names by the shapes of instances."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import logsumexp

from ovseg3d.encoders import load_clip
from ovseg3d.encoders.base import TextImageEncoder
from ovseg3d.field.surface import Surface
from ovseg3d.heads.detection import Detector
from ovseg3d.heads.detection.losses import TEXT_SCALE
from ovseg3d.points.basis import Basis
from ovseg3d.points.semantic_scene import EncoderFacts, SemanticScene
from ovseg3d.query import shape_prior
from ovseg3d.query.engine import QueryEngine
from ovseg3d.query.presence import LOGIT_SHARE
from ovseg3d.query.shape_prior import UNKNOWN, ShapePrior
from ovseg3d.runs.folder import RunFolder


@pytest.fixture
def scene() -> SemanticScene:
    """Instance 1 has the shape of a chair, 2 has none that is known; point 0 is of no instance."""
    xyz = np.arange(9.0, dtype=np.float32).reshape(3, 3)
    surface = Surface(
        xyz, np.zeros((3, 3), np.float32), np.zeros((3, 3), np.uint8), np.ones(3, np.float32), np.ones(3, np.float32),
        np.array([0.0, 0.0, 1.0]), True,
    )  # fmt: skip
    chair = load_clip("builtin").encode_text(["chair"]).numpy()
    return SemanticScene(
        surface, Basis(np.eye(4, dtype=np.float32), 0.0), np.zeros((3, 4), np.float32), np.ones(3, np.float32),
        np.array([0, 1, 2]), EncoderFacts("fake", "fake", "0", 100.0),
        shapes=np.concatenate([chair, np.zeros_like(chair)]),
    )  # fmt: skip


def test_a_shape_speaks_for_its_kind_and_against_others(scene: SemanticScene) -> None:
    odds = ShapePrior(scene).log_odds(["chair", "a red chair", "television"])
    assert odds.shape == (3, 3)
    np.testing.assert_allclose(odds[[0, 2]], 0, atol=1e-6, err_msg="no instance, and no shape")
    chair, red, television = odds[1]
    assert chair == red > 0 > television >= np.log(UNKNOWN), "a red chair is a chair"


def test_log_odds_are_those_of_a_mixture(scene: SemanticScene) -> None:
    names = Detector().names
    assert scene.shapes is not None
    logits = TEXT_SCALE * names.vectors @ scene.shapes[0]
    share = np.exp(logits - logsumexp(logits))
    expected = np.log((1 - UNKNOWN) * len(share) * share + UNKNOWN)
    np.testing.assert_allclose(ShapePrior(scene).log_odds(names.labels)[1], expected, atol=1e-4)


def test_what_the_head_never_learnt_gets_nothing(scene: SemanticScene) -> None:
    prior = ShapePrior(scene)
    assert not prior.log_odds(["floor", "a white wall", "zebra crossing", "very " * 200 + "large chair"]).any()
    assert prior.log_odds(["floor", "chair"])[1].tolist() == [0.0, prior.log_odds(["chair"])[1, 0]]


def test_the_encoder_of_shapes_is_loaded_once(scene: SemanticScene, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []

    def load(name: str) -> TextImageEncoder:
        loaded.append(name)
        return load_clip(name)

    monkeypatch.setattr(shape_prior, "load_clip", load)
    prior = ShapePrior(scene)
    for phrase in ("chair", "television", "a red chair"):
        prior.log_odds([phrase])
    assert loaded == ["builtin"]


def test_a_run_of_the_builtin_encoder_encodes_a_phrase_once(
    scene: SemanticScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip, asked = load_clip("builtin"), []

    def encode(phrases: Sequence[str]) -> np.ndarray:
        asked.extend(phrases)
        return clip.encode_text(list(phrases)).numpy()

    expected = ShapePrior(scene).log_odds(["chair", "sofa"])
    monkeypatch.setattr(shape_prior, "load_clip", None)
    np.testing.assert_array_equal(ShapePrior(scene, encode).log_odds(["chair", "sofa"]), expected)
    assert asked == ["chair", "sofa"]


def test_shapes_count_in_the_answers_of_a_room(run: RunFolder) -> None:
    known = QueryEngine(run).semantics
    chair = load_clip("builtin").encode_text(["chair"]).numpy()
    shapes = np.repeat(chair, int(known.piece.max()), 0)
    shaped, plain = (QueryEngine(run, semantics=replace(known, shapes=each)) for each in (shapes, None))
    names = ("red", "chair", "television")
    (more,), (less,) = (engine.decision.scene.logits(names) for engine in (shaped, plain))
    of_piece = shaped.decision.scene.candidates.scene.piece > 0
    expected = LOGIT_SHARE * ShapePrior(shaped.semantics).log_odds(names)[1]
    np.testing.assert_allclose(more - less, of_piece[:, None] * expected, atol=1e-4)
    assert of_piece.any() and expected[0] == 0 < expected[1]
    listed = shaped.compare(names, ())[0] - plain.compare(names, ())[0]
    assert (listed[known.instance > 0, 1] > 0).all() and not listed[known.piece == 0].any()


def test_a_run_without_shapes_has_no_opinion(scene: SemanticScene) -> None:
    assert not ShapePrior(replace(scene, shapes=None)).log_odds(["chair"]).any()
    foreign = replace(scene, shapes=np.eye(2, 7, dtype=np.float32))
    assert not ShapePrior(foreign).log_odds(["chair"]).any(), "of a head with another text encoder"
    nothing = replace(scene, instance=np.zeros(3, np.int64), shapes=np.zeros((0, 4), np.float32))
    assert not ShapePrior(nothing).log_odds(["chair"]).any()
