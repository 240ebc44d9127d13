"""The switch for detected objects: boxes, names and arrows, found once for all browsers, and never in the way."""

import threading
from collections.abc import Callable

import numpy as np
import pytest
from playroom import INSTANCES

from ovseg3d.errors import ConfigError
from ovseg3d.geometry.rotations import from_wxyz
from ovseg3d.heads.detection import Candidate, DetectedScene, Detection, Frame
from ovseg3d.query import detections
from ovseg3d.viewer.app import Viewer
from scripts.benchmarks.viewer_client import wait_until

CHAIR, TABLE = INSTANCES["wooden chair"], INSTANCES["round coffee table"]


class Head:
    """Finds the chair, sure of its front, and the coffee table, unsure; the rest of the head is tested elsewhere."""

    def __init__(self) -> None:
        self.ran, self.may_run = 0, threading.Event()
        self.fault: Exception | None = None
        self.ids: np.ndarray = np.empty(0)

    def __call__(self, *_: object, up: tuple[float, float, float], **__: object) -> DetectedScene:
        self.ran += 1
        assert self.may_run.wait(60)
        if self.fault is not None:
            raise self.fault
        return DetectedScene((self._detection(CHAIR, True), self._detection(TABLE, False)), Frame(up, 1.0, ()))

    def _detection(self, record: dict, sure: bool) -> Detection:
        x, y, z = from_wxyz(record["rotation_wxyz"]).apply([0.0, -1.0, 0.0]).tolist()
        return Detection(
            tuple(record["center"]), tuple(record["size"]), tuple(record["rotation_wxyz"]), None, 1,
            (x, y, z), 0.9, np.eye(24)[0] if sure else np.full(24, 1 / 24), np.flatnonzero(self.ids == record["id"]),
            np.ones(4), (Candidate("nothing", 1.0),),
        )  # fmt: skip


@pytest.fixture
def head(viewer: Viewer, monkeypatch: pytest.MonkeyPatch) -> Head:
    made = Head()
    made.ids = viewer.shared.need_engine().semantics.instance
    monkeypatch.setattr(detections, "detect_scene", made)
    return made


def test_boxes_names_and_arrows_come_in_the_background(connect: Callable, head: Head, errors: list[str]) -> None:
    bare, session = connect()
    part, groups, switches = session.layers.detected, session.context.nodes._groups, session.layers.switches
    part.switch.value = True
    wait_until(lambda: head.ran, "the head")
    assert part.progress.visible and "Finding objects" in part.card.content and "detected-boxes" not in groups
    head.may_run.set()
    wait_until(lambda: "ArrowMessage" in bare.latest, "the arrows")
    wait_until(lambda: not part.progress.visible, "the end")
    shown = session.view.detected
    assert shown is not None and "2 objects; arrows show the front of 1." in part.card.content
    ((start, end),) = groups["detected-arrows"][0].points
    front = from_wxyz(CHAIR["rotation_wxyz"]).apply([0.0, -1.0, 0.0])
    np.testing.assert_allclose(start, np.array(CHAIR["center"]) + front * CHAIR["size"][1] / 2, atol=1e-5)
    np.testing.assert_allclose((end - start) / np.linalg.norm(end - start), front, atol=1e-5)
    assert [one.text for one in groups["detected-names"]] == ["chair", "table"]
    assert [one.instance for one in shown.objects] == [CHAIR["id"], TABLE["id"]]
    # The switches for boxes and names hold for them, too.
    switches.boxes.value = switches.names.value = False
    kinds = ("boxes", "arrows", "names")
    wait_until(lambda: not any(one.visible for kind in kinds for one in groups[f"detected-{kind}"]), "nothing")
    # What is named as an instance is not named twice.
    switches.instances.value = True
    wait_until(lambda: len(groups.get("all-names", ())) == len(INSTANCES), "all instances")
    assert not groups["detected-names"]
    part.switch.value = False
    wait_until(lambda: session.view.detected is None and "detected-boxes" not in groups, "their end")
    assert not part.card.visible and errors == [] and session.context.messages == []


def test_the_head_runs_once_for_all_browsers(connect: Callable, head: Head) -> None:
    head.may_run.set()
    (_, first), (_, second) = connect(), connect((0.0, -1.0, 1.2))
    for session in (first, second):
        session.layers.detected.switch.value = True
    wait_until(lambda: first.view.detected is not None and second.view.detected is not None, "the objects")
    assert head.ran == 1


def test_an_error_is_shown_and_switching_tries_again(connect: Callable, head: Head, errors: list[str]) -> None:
    _, session = connect()
    head.may_run.set()
    head.fault = ConfigError("The cloud has 3 points", fix="use a denser cloud")
    part = session.layers.detected
    part.switch.value = True
    wait_until(lambda: "denser cloud" in part.card.content, "the error")
    assert not part.progress.visible and session.context.messages == ["The cloud has 3 points"]
    part.switch.value, head.fault = False, None
    wait_until(lambda: not part.card.visible, "the switch")
    part.switch.value = True
    wait_until(lambda: session.view.detected is not None, "the objects")
    assert errors == []


def test_what_is_found_too_late_is_not_shown(connect: Callable, head: Head, viewer: Viewer, errors: list[str]) -> None:
    """The switch is off again, or the browser has left, before the head is done."""
    bare, leaving = connect()
    _, session = connect((0.0, -1.0, 1.2))
    session.layers.detected.switch.value = True
    wait_until(lambda: head.ran, "the head")
    leaving.layers.detected.switch.value = True
    session.layers.detected.switch.value = False
    bare.close()
    wait_until(lambda: len(viewer.sessions) == 1, "the browser to leave")
    head.may_run.set()
    wait_until(lambda: not [one for one in threading.enumerate() if one.name == "ovseg3d-detect"], "the threads")
    assert session.view.detected is None and leaving.view.detected is None and errors == []
