"""Stages that are left out, on a tiny run."""

from contextlib import ExitStack
from unittest.mock import patch

import pytest

from ovseg3d.instances.grouping import find_instances
from ovseg3d.query.engine import QueryEngine
from ovseg3d.session import Run
from scripts.benchmarks.leave_one_out import ANSWERS, INSTANCES


@pytest.mark.parametrize("name", INSTANCES)
def test_instances_are_found_without_each_stage(name: str, run: Run) -> None:
    scene = QueryEngine(run).semantics
    with ExitStack() as stack:
        for target, value in INSTANCES[name].items():
            stack.enter_context(patch(target, value))
        found = find_instances(scene.surface, [scene.vectors])
    assert len(found.ids) == len(scene.surface) and found.count >= 0


@pytest.mark.parametrize("name", ANSWERS)
def test_questions_are_answered_without_each_stage(name: str, run: Run) -> None:
    with ExitStack() as stack:
        for target, value in ANSWERS[name].items():
            stack.enter_context(patch(target, value))
        (answer,) = QueryEngine(run).ask(["red"])
    assert 0 <= answer.score <= 1 and len(answer.relevancy) == len(QueryEngine(run).semantics.surface)
