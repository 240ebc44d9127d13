"""The loop: progress, limits, events, and resuming to the same bits."""

import threading
from types import SimpleNamespace

import pytest
import torch
from toy import ToyStage

from ovseg3d.engine import CheckpointFolder, Clock, Event, Stage, Start, latest_checkpoint, load_checkpoint, run_stage


def test_the_toy_is_a_stage():
    assert isinstance(ToyStage(), Stage)


def test_steps_alone_set_progress():
    stage = ToyStage()
    outcome = run_stage(stage, steps=4)
    assert stage.seen == [(0, 0.0), (1, 0.25), (2, 0.5), (3, 0.75)]
    assert outcome.steps == 4 and not outcome.interrupted


@pytest.mark.parametrize(("seconds_a_step", "taken"), [(1.0, 10), (4.0, 5)])
def test_time_ends_a_run_of_steps_and_schedules_nothing(seconds_a_step, taken):
    """Ten steps or twenty seconds: a slow stage is ended by its time, and its steps have the bits of a quick one."""
    quick, slow, clock = ToyStage(lambda step: stop.set() if step == taken - 1 else None), ToyStage(), Clock()
    stop = threading.Event()
    run_stage(quick, steps=10, stop=stop)
    outcome = run_stage(
        slow, steps=10, max_seconds=20.0, start=Start(clock=clock), after_step=lambda step: clock.add(seconds_a_step)
    )
    assert outcome.steps == taken and not outcome.interrupted
    assert slow.seen == quick.seen == [(step, step / 10) for step in range(taken)]
    assert torch.equal(slow.value, quick.value)


def test_set_up_changes_no_step():
    def after(set_up):
        clock, stage = Clock(spent=set_up), ToyStage()
        run_stage(stage, steps=10, max_seconds=20.0, start=Start(clock=clock), after_step=lambda step: clock.add(0.5))
        return stage.seen

    assert after(0.0) == after(13.0) and len(after(0.0)) == 10


def test_time_left_is_what_ends_first():
    events, clock = [], Clock()
    run_stage(
        ToyStage(), steps=100, max_seconds=30.0, start=Start(clock=clock), report=events.append,
        after_step=lambda step: clock.add(1.0),
    )  # fmt: skip
    tenth = next(event for event in events if event.kind == "progress" and event.step == 10)
    assert tenth.seconds_left == pytest.approx(20.0, abs=0.5) and tenth.progress == pytest.approx(0.1)


def test_time_left_of_a_resumed_run_does_not_count_the_time_before():
    """50 steps took 500 seconds; those after resuming take a second each."""
    events, clock = [], Clock(spent=500.0)
    run_stage(
        ToyStage(), steps=100, start=Start(50, clock), report=events.append, after_step=lambda step: clock.add(1.0)
    )
    tenth = next(event for event in events if event.kind == "progress" and event.step == 60)
    assert tenth.seconds_left == pytest.approx(40.0, abs=0.5) and tenth.seconds == pytest.approx(510.0, abs=0.5)


def test_time_alone_ends_a_run_with_decayed_rates():
    clock = Clock()
    stage = ToyStage()
    outcome = run_stage(stage, max_seconds=20.5, start=Start(clock=clock), after_step=lambda step: clock.add(1.0))
    # The 21st step started in time; none starts afterwards.
    assert outcome.steps <= 21 and 20.5 <= outcome.seconds < 22.0
    assert 0.9 < stage.seen[-1][1] < 1.0


def test_set_up_counts_when_the_clock_started_earlier():
    clock = Clock(spent=30.0)
    outcome = run_stage(ToyStage(), max_seconds=20.0, start=Start(clock=clock))
    assert outcome.steps == 0


def test_no_limit_is_an_error():
    with pytest.raises(ValueError, match="steps"):
        run_stage(ToyStage())


def test_stop_ends_after_the_current_step_with_a_checkpoint(tmp_path):
    stop, events = threading.Event(), []
    stage = ToyStage(lambda step: stop.set() if step == 4 else None)
    outcome = run_stage(stage, steps=1000, checkpoints=CheckpointFolder(tmp_path), report=events.append, stop=stop)
    assert outcome.interrupted and outcome.steps == 5
    assert [event.kind for event in events][-2:] == ["checkpoint", "interrupted"]
    kept = load_checkpoint(latest_checkpoint(tmp_path), "toy")
    assert kept.step == 5 and kept.facts == {"size": 5}
    assert torch.equal(kept.state["value"], stage.value)


def test_events_tell_the_whole_story(tmp_path):
    events: list[Event] = []
    clock = Clock()
    run_stage(
        ToyStage(),
        steps=100,
        start=Start(clock=clock),
        checkpoints=CheckpointFolder(tmp_path, 30.0),
        report=events.append,
        after_step=lambda step: clock.add(1.0),
    )
    kinds = [event.kind for event in events]
    assert kinds[0] == "start" and kinds[-1] == "done"
    # A checkpoint every 30 s of 100, and one at the end.
    assert kinds.count("checkpoint") == 4
    assert all(event.stage == "toy" and event.steps == 100 for event in events)
    steps = [event.step for event in events]
    assert steps == sorted(steps) and steps[-1] == 100
    half = next(event for event in events if event.kind == "progress" and event.step == 50)
    assert half.progress == pytest.approx(0.5) and half.seconds_left == pytest.approx(50.0, rel=0.05)
    assert "norm" in half.metrics


def test_a_resumed_run_goes_on_to_the_same_bits(tmp_path):
    straight = ToyStage()
    run_stage(straight, steps=30)

    stop = threading.Event()
    first = ToyStage(lambda step: stop.set() if step == 11 else None)
    run_stage(first, steps=30, checkpoints=CheckpointFolder(tmp_path), stop=stop)
    kept = load_checkpoint(latest_checkpoint(tmp_path), "toy")
    second = ToyStage()
    second.load_state(kept.state)
    outcome = run_stage(
        second, steps=30, start=Start(kept.step, Clock(kept.seconds)), checkpoints=CheckpointFolder(tmp_path)
    )
    assert outcome.steps == 30 and second.seen[0] == (12, 0.4)
    assert not torch.equal(first.value, straight.value)
    for name, tensor in straight.state().items():
        assert torch.equal(second.state()[name], tensor)


def test_an_error_of_the_stage_comes_out_and_keeps_the_last_checkpoint(tmp_path):
    clock = Clock()

    def fail(step: int) -> None:
        clock.add(1.0)
        if step == 7:
            raise ArithmeticError("diverged")

    with pytest.raises(ArithmeticError, match="diverged"):
        run_stage(ToyStage(fail), steps=100, start=Start(clock=clock), checkpoints=CheckpointFolder(tmp_path, 3.0))
    assert load_checkpoint(latest_checkpoint(tmp_path), "toy").step == 6


# -- the clock -------------------------------------------------------------------------------------------------


@pytest.fixture
def now(monkeypatch):
    """Fake time for the clock; set `now.time`."""
    fake = SimpleNamespace(time=100.0)
    monkeypatch.setattr("ovseg3d.engine.clock.time", SimpleNamespace(monotonic=lambda: fake.time))
    return fake


def test_a_pause_does_not_count(now):
    clock = Clock(spent=5.0)
    now.time += 2.0
    with clock.paused():
        now.time += 60.0
    now.time += 1.0
    assert clock.seconds == pytest.approx(8.0)
    clock.add(4.0)
    assert clock.seconds == pytest.approx(12.0)


def test_an_error_ends_a_pause(now):
    clock = Clock()
    with pytest.raises(KeyError), clock.paused():
        now.time += 60.0
        raise KeyError
    now.time += 1.0
    assert clock.seconds == pytest.approx(1.0)
