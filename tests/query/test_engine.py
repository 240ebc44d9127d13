"""Parts of the query engine work alone: views without queries, and queries without a field."""

from dataclasses import replace

import numpy as np
import pytest

from ovseg3d.errors import ConfigError
from ovseg3d.points.semantic_scene import load_semantics
from ovseg3d.query import view_cache
from ovseg3d.query.answer import Criteria
from ovseg3d.query.context import RunContext
from ovseg3d.query.decision import Decision
from ovseg3d.query.engine import QueryEngine
from ovseg3d.query.phrase_encoder import PhraseEncoder
from ovseg3d.query.similarity import SimilarityModel
from ovseg3d.query.view_cache import ViewCache
from ovseg3d.query.vocabulary import Vocabulary
from ovseg3d.runs.folder import RunFolder


@pytest.fixture
def context(run: RunFolder) -> RunContext:
    return RunContext(run, None, load_semantics(run.folder))


def test_a_decision_needs_no_views(context: RunContext, run: RunFolder) -> None:
    texts = PhraseEncoder(context, "cpu", ("{}",))
    decision = Decision(SimilarityModel(context, texts), Vocabulary(context, texts))
    answer, (asked,) = (
        decision.answer("red", Criteria(negatives=("sand",))),
        QueryEngine(run).ask(["red"], negatives=["sand"]),
    )
    assert answer.present and answer.score == asked.score
    np.testing.assert_array_equal(answer.point_index, asked.point_index)


def test_an_engine_answers_from_the_semantics_that_it_is_given(context: RunContext, run: RunFolder) -> None:
    few = context.semantics.take(np.arange(0, len(context.semantics.surface), 2))
    few = replace(few, pieces=None, instance_crops=None)
    (answer,) = QueryEngine(run, semantics=few).ask(["red"], negatives=["sand"])
    assert len(answer.relevancy) == len(few.surface) < len(context.semantics.surface)


def test_the_newest_views_are_kept(context: RunContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(view_cache, "MAX_DEPTH_IMAGES", 2)
    views, rendered = ViewCache(context, "cpu", "auto"), []
    render = views.renderer.render
    monkeypatch.setattr(views.renderer, "render", lambda camera: rendered.append(camera) or render(camera))
    first, second, third = (frame.name for frame in views.scene.frames[:3])
    for view in (first, second, second, first, third, second, third):
        views.depth(view)
    assert len(rendered) == 3
    views.depth(first)
    assert len(rendered) == 4, "the oldest gave way"


@pytest.mark.parametrize("threshold", [0.0, 1.0, 1.5, float("nan")])
def test_a_threshold_lies_between_nothing_and_all(threshold: float) -> None:
    with pytest.raises(ConfigError, match="threshold"):
        Criteria(threshold=threshold)
