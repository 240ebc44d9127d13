"""The preview of semantics shows an answer that is visible in its view."""

from types import SimpleNamespace

import numpy as np

from ovseg3d.export.overlays import TRIED, _surest
from ovseg3d.query.engine import QueryEngine
from ovseg3d.query.view_cache import MAX_PLACES


class OnProgress(QueryEngine):
    """Answers with given scores, and with the share of each view that a phrase covers; there is no run."""

    def __init__(self, **known: tuple[float, tuple[float, ...]]) -> None:
        self.known = known

    def ask(self, phrases: list[str], *, views: list[str]) -> list[SimpleNamespace]:
        assert len(phrases) == 1, "pictures of all phrases at once may be too many"
        return [self.answer(phrase, views, *self.known[phrase]) for phrase in phrases]

    @staticmethod
    def answer(phrase: str, views: list[str], score: float, shares: tuple[float, ...]) -> SimpleNamespace:
        masks = {view: np.arange(100) < 100 * share for view, share in zip(views, shares)}
        return SimpleNamespace(phrase=phrase, score=score, masks=masks)


def test_the_query_of_the_summary_is_one_that_most_views_show() -> None:
    engine = OnProgress(chair=(0.7, (0.2, 0.3, 0.0)), mug=(0.9, (0.0, 0.1, 0.0)), sofa=(0.6, (0.4, 0.5, 0.0)))
    found = _surest(engine, ["mug", "chair", "sofa"], ["a", "b", "c"])
    assert found == ("chair", {"a": 0.2, "b": 0.3, "c": 0.0}), "in two views, and surer than the sofa"


def test_walls_are_asked_for_only_where_there_is_nothing_else() -> None:
    engine = OnProgress(wall=(0.9, (0.8, 0.8)), floor=(0.8, (0.2, 0.2)), mug=(0.6, (0.1, 0.0)))
    assert _surest(engine, ["wall", "mug", "floor"], ["a", "b"])[0] == "mug"
    assert _surest(engine, ["floor", "wall"], ["a", "b"])[0] == "wall"


def test_views_of_the_summary_are_rendered_once() -> None:
    assert TRIED <= MAX_PLACES
