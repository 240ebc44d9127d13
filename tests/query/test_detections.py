"""Detections of a run: the head runs once, and what it says reaches names, fronts and lengths."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from query.test_similarity import furniture

from ovseg3d.heads.detection import DetectedScene, Detection, Frame
from ovseg3d.query import detections
from ovseg3d.query.engine import QueryEngine

FRONT = (1.0, 0.0, 0.0)
SOFA, MUG = np.arange(200), np.arange(200, 400)
"""Their points in `furniture`; a front is along the sofa's length."""


def detection(points: np.ndarray, front: tuple[float, float, float] | None = FRONT) -> Detection:
    return Detection(
        (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), (1.0, 0.0, 0.0, 0.0), 0.0, 0 if front is None else 1, front, 0.9,
        np.full(24, 1 / 24), points, np.ones(4), (),
    )  # fmt: skip


@pytest.fixture
def head(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """A head that finds the sofa with a front and a mug without; the arguments of each time that it ran."""
    ran: list[dict[str, Any]] = []

    def detect_scene(cloud: Any, detector: Any, **arguments: Any) -> DetectedScene:
        ran.append(arguments)
        found = (detection(SOFA), detection(MUG, None))
        return DetectedScene(found, Frame(arguments["up"], arguments["metres_per_unit"] or 1.0, ()))

    monkeypatch.setattr(detections, "detect_scene", detect_scene)
    return ran


def test_the_head_runs_once_for_boxes_and_fronts(tmp_path: Path, head: list) -> None:
    engine = furniture(tmp_path, 0.01)
    assert [one.label for one in engine.detect(["sofa", "mug"]).detections] == ["sofa", "mug"]
    assert list(engine.relations.fronts) == [1] and engine.relations.fronts[1].tolist() == [1.0, 0.0]
    assert engine.detect().detections[0].front == FRONT
    assert len(head) == 1 and head[0]["metres_per_unit"] == engine.metres == 0.01
    engine.detect(metres_per_unit=1.0)
    assert [one["metres_per_unit"] for one in head] == [0.01, 1.0]


def test_what_the_surface_does_not_support_gives_no_front(
    tmp_path: Path, head: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = furniture(tmp_path, 1.0)
    engine.semantics.instance[120:] = 0
    assert not engine.detect().detections[1:] and list(engine.relations.fronts) == [1]
    few = detection(SOFA[:40])
    monkeypatch.setattr(detections, "detect_scene", lambda *_, **__: DetectedScene((few,), Frame(FRONT, 1.0, ())))
    engine.semantics.instance[41:] = 0
    fresh = QueryEngine(engine.run, None, "cpu", semantics=engine.semantics)
    assert not fresh.detections.detect().detections and not fresh.relations.fronts


@pytest.mark.parametrize(("metres", "unit"), [(1.0, "m"), (0.01, "units")])
def test_lengths_are_metres_only_where_a_unit_is_one(tmp_path: Path, metres: float, unit: str, head: list) -> None:
    space = furniture(tmp_path, metres).relations.space(None)
    assert space.unit == unit and space.metre == pytest.approx(1 / metres)
