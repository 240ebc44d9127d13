"""The list of stages: plans, needs, and products of a run."""

from itertools import chain, combinations
from pathlib import Path

import pytest

from ovseg3d.errors import ConfigError
from ovseg3d.points.semantic_scene import FILE
from ovseg3d.runs.config import Config
from ovseg3d.runs.stages import SEMANTICS, STAGE_NAMES, STAGES, check_needs, describe_plan, plan


def names(only: str | None) -> tuple[str, ...]:
    return tuple(stage.name for stage in plan(only))


def test_the_plan_of_all() -> None:
    assert names(None) == STAGE_NAMES == Config().stages
    assert describe_plan(plan()) == "features -> field -> evaluate -> semantics"


@pytest.mark.parametrize(
    ("only", "stages"),
    [
        ("field", ("field", "evaluate")),
        ("features", ("features",)),
        ("evaluate", ("evaluate",)),
        ("semantics", ("features", "semantics")),
        ("features,semantics", ("features", "semantics")),
        ("semantics, field", ("features", "field", "evaluate", "semantics")),
    ],
)
def test_a_stage_brings_what_it_includes_in_the_order_of_the_list(only: str, stages: tuple[str, ...]) -> None:
    assert names(only) == stages


@pytest.mark.parametrize(
    "only", [",".join(some) for n in range(1, 5) for some in combinations(reversed(STAGE_NAMES), n)]
)
def test_any_combination_is_a_plan(only: str) -> None:
    planned = names(only)
    assert set(only.split(",")) <= set(planned)
    assert list(planned) == [name for name in STAGE_NAMES if name in planned]
    assert Config(only=only).stages == planned


@pytest.mark.parametrize(
    ("only", "words"), [("semantic", "did you mean semantics?"), ("", "the stages are"), ("field,,", "the stages are")]
)
def test_what_is_no_stage_is_explained(only: str, words: str) -> None:
    with pytest.raises(ConfigError, match="no stage") as caught:
        Config(only=only)
    assert words in str(caught.value)


def test_a_need_is_met_by_the_plan_or_by_the_run(tmp_path: Path) -> None:
    for only in ("semantics", "features,semantics", "evaluate"):
        for folder in (None, tmp_path):
            with pytest.raises(ConfigError, match="needs a trained field") as caught:
                check_needs(plan(only), folder, "the scene")
            assert caught.value.where == "the scene" and "--only field," in caught.value.fix
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "step-000000001.safetensors").touch()
    for only in ("semantics", "features,semantics", "evaluate"):
        check_needs(plan(only), tmp_path, "the scene")
    for only in (None, "features", "field", "field,semantics"):
        check_needs(plan(only), None, "the scene")


def test_every_stage_comes_after_what_it_needs() -> None:
    for stage in STAGES:
        assert set(stage.needs) <= set(STAGE_NAMES[: STAGE_NAMES.index(stage.name)])
        assert set(chain(stage.includes)) <= set(STAGE_NAMES)
    assert SEMANTICS.files == (FILE,)
