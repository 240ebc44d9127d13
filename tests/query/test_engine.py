"""Parts of the query engine work alone: views without queries, and queries without a field."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from ovseg3d.errors import ConfigError, RunError
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
from ovseg3d.runs.fields import restore
from ovseg3d.runs.folder import RunFolder, open_run
from ovseg3d.runs.view_depth import FILE, load_view_depth, save_view_depth


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


def test_a_question_is_encoded_in_one_batch(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = QueryEngine(run)
    engine.ask(["a red cube"])  # encodes the phrases of the run and the default vocabulary, too
    encode, batches = engine.clip.encode_text, []
    monkeypatch.setattr(engine.clip, "encode_text", lambda texts: batches.append(list(texts)) or encode(texts))
    (answer,) = engine.ask(["a blue cube with a lid"])
    assert len(batches) == 1 and answer.phrase in batches[0]


def test_an_engine_answers_from_the_semantics_that_it_is_given(context: RunContext, run: RunFolder) -> None:
    few = context.semantics.take(np.arange(0, len(context.semantics.surface), 2))
    few = replace(few, pieces=None, instance_crops=None, shapes=None)
    (answer,) = QueryEngine(run, semantics=few).ask(["red"], negatives=["sand"])
    assert len(answer.relevancy) == len(few.surface) < len(context.semantics.surface)


def test_an_object_of_several_pieces_is_one_instance_of_the_answer(context: RunContext, run: RunFolder) -> None:
    """Halves of a box are fragments that look like nothing; together they look like what is asked."""
    known = context.semantics
    pieces = np.where(np.arange(len(known.instance)) % 2, 2, 1).astype(np.int32)
    named = QueryEngine(run).encode(["red", "sand"])
    crops = known.basis.reduce(np.stack([named[1], named[1], named[0]]))
    halves = replace(
        known, instance=np.zeros_like(pieces), pieces=pieces, plane=None, shapes=None, instance_crops=crops,
        parents=np.array([3, 3, 0], np.int32),
    )  # fmt: skip
    (answer,) = QueryEngine(run, semantics=halves).ask(["red"], negatives=["sand"])
    assert answer.present and len(answer.point_index) == len(pieces)
    assert [(one.id, one.n_points) for one in answer.instances] == [(3, len(pieces))]
    (apart,) = QueryEngine(run, semantics=replace(halves, parents=None)).ask(["red"], negatives=["sand"])
    assert not apart.present and not apart.instances


def test_the_newest_views_are_kept(context: RunContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(view_cache, "MAX_DEPTH_IMAGES", 2)
    views, rendered = ViewCache(context, "cpu", "auto"), []
    render = views.renderer.render
    monkeypatch.setattr(views.renderer, "render", lambda camera: rendered.append(camera) or render(camera))
    first, second, third = (views.scene.frames[view].name for view in views.scene.train[:3])
    for view in (first, second, second, first, third, second, third):
        views.depth(view)
    assert len(rendered) == 3
    views.depth(first)
    assert len(rendered) == 4, "the oldest gave way"


def test_held_out_views_are_not_rendered_again(
    context: RunContext, tiny_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(view_cache, "restore", restore)  # the trained field, not the exact one
    monkeypatch.setattr(view_cache, "load_view_depth", load_view_depth)
    views = ViewCache(RunContext(open_run(tiny_run), None, context.semantics), "cpu", "auto")
    view = views.scene.frames[views.scene.test[0]].name
    rendered = views.renderer.render(views.camera(view))["depth_z"]
    monkeypatch.setattr(views.renderer, "render", lambda camera: pytest.fail("rendered"))
    np.testing.assert_array_equal(views.depth(view), rendered)


def test_kept_depth_of_another_size_or_damaged(
    context: RunContext, run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(view_cache, "load_view_depth", load_view_depth)
    shutil.copytree(run.folder, tmp_path / "run")
    copied = replace(run, folder=tmp_path / "run")
    views = ViewCache(RunContext(copied, None, context.semantics), "cpu", "auto")
    frame = views.scene.frames[views.scene.test[0]]
    shape = (frame.camera.height, frame.camera.width)
    save_view_depth(copied, {frame.name: np.ones((2, 2))})
    assert views.depth(frame.name).shape == shape, "rendered anew"
    path = copied.folder / FILE
    for damaged in (path.read_bytes()[:-3], save({"a": np.zeros((2, 2))}), save({"a": np.full((2, 2), np.nan, "f4")})):
        path.write_bytes(damaged)
        with pytest.raises(RunError, match=r"depth of (the )?views"):
            ViewCache(RunContext(copied, None, context.semantics), "cpu", "auto").depth(frame.name)
    path.unlink()
    assert ViewCache(RunContext(copied, None, context.semantics), "cpu", "auto").depth(frame.name).shape == shape


@pytest.mark.parametrize("threshold", [0.0, 1.0, 1.5, float("nan")])
def test_a_threshold_lies_between_nothing_and_all(threshold: float) -> None:
    with pytest.raises(ConfigError, match="threshold"):
        Criteria(threshold=threshold)
