"""Yes and no clicks to an answer of the viewer, which calibrate the run."""

from collections.abc import Iterator

import pytest
from playroom import EYE, INSTANCES

from ovseg3d.errors import OutputError
from ovseg3d.query.engine import QueryEngine
from ovseg3d.query.kept_calibration import FILE, load_calibration
from ovseg3d.runs.folder import RunFolder
from ovseg3d.viewer.answers import Question
from ovseg3d.viewer.pick import find_spot
from ovseg3d.viewer.shared_scene import SharedScene
from ovseg3d.viewer.tabs.feedback import NONE_YET


@pytest.fixture(autouse=True)
def _uncalibrated(run: RunFolder) -> Iterator[None]:
    yield
    (run.folder / FILE).unlink(missing_ok=True)


def test_clicks_calibrate_the_run_and_the_answer_follows(
    connect, run: RunFolder, shared: SharedScene, errors: list[str]
) -> None:
    _, session = connect()
    feedback, ask = session.ask.feedback, session.ask
    assert not feedback.folder.visible
    ask.phrases.value = "teddy bear; an elephant"
    ask.ask_typed()
    before = session.view.reply.answers
    assert feedback.folder.visible and feedback.phrase.options == ("teddy bear", "an elephant")
    assert NONE_YET in feedback.card.content and not feedback.forget.visible
    # The user says the contrary of the answer, again and again: the score follows.
    feedback.phrase.value = "an elephant"
    for phrase in ("an elephant", "a giraffe", "a zebra"):
        ask.phrases.value = phrase
        ask.ask_typed()
        feedback.say(True)
    ask.phrases.value = "teddy bear; an elephant"
    ask.ask_typed()
    after = session.view.reply.answers
    assert after[1].score > before[1].score + 0.05 and after[1].calibrated_by == "labels"
    assert "Calibrated by the labels of this run" in ask.answer.content
    feedback.phrase.value = "an elephant"
    feedback.say(True)  # the same answer once more is the same label
    assert "Calibrated by 3 answers. You said yes to &quot;an elephant&quot;." in feedback.card.content
    # The run keeps them: other commands see the same scores.
    engine = shared.need_engine()
    kept = load_calibration(run.folder, engine.semantics.encoder.weight_hash, engine.similarity.prior.on)
    assert kept is not None and [label.present for label in kept.labels] == [True] * 3
    ask.phrases.value = "an elephant"
    ask.ask_typed()
    (other,) = QueryEngine(run, shared.scene).ask(["an elephant"])
    assert other.calibrated_by == "labels"
    assert other.score == pytest.approx(session.view.reply.answers[0].score, abs=1e-6)
    feedback.forget_all()
    assert not (run.folder / FILE).exists() and not feedback.forget.visible
    ask.phrases.value = "teddy bear; an elephant"
    ask.ask_typed()
    assert session.view.reply.answers[1].score == pytest.approx(before[1].score, abs=1e-9)
    assert errors == [] and session.context.messages == []


def test_only_plain_phrases_are_asked_about(connect, shared: SharedScene) -> None:
    _, session = connect()
    feedback, ask = session.ask.feedback, session.ask
    ask.phrases.value = "the bear on the sofa; teddy bear"
    ask.ask_typed()
    assert feedback.phrase.options == ("teddy bear",)
    ask.negatives.value = "a cushion"
    ask.ask_typed()
    assert not feedback.folder.visible, "scores against other negatives are not calibrated"
    ask.negatives.value = ""
    spot = find_spot(shared, EYE, INSTANCES["orange cushion"]["center"] - EYE)
    ask.ask(Question(("like this",), example=spot))
    assert not feedback.folder.visible
    ask.phrases.value = "teddy bear"
    ask.ask_typed()
    assert feedback.folder.visible
    ask.clear()
    assert not feedback.folder.visible


def test_a_run_that_cannot_be_written_says_so_and_keeps_its_answers(connect, shared, monkeypatch, errors) -> None:
    def full(*_: object, **__: object) -> None:
        raise OutputError("The disk is full", fix="free some space")

    _, session = connect()
    session.ask.phrases.value = "teddy bear"
    session.ask.ask_typed()
    score = session.view.reply.answers[0].score
    monkeypatch.setattr("ovseg3d.query.calibrate.save_calibration", full)
    session.context.guarded(lambda: session.ask.feedback.say(False))()
    assert session.context.messages == ["The disk is full"]
    assert session.view.reply.answers[0].score == score and shared.need_engine().decision.kept_calibration is None
    assert errors == []
