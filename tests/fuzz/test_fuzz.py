"""Damaged and hostile input of every kind: nothing crashes, hangs, or fills the memory (see docs/security.md)."""

import pytest

from fuzz.parent import Case, describe, run_cases


def _check(cases: list[Case], count: int, seed: int) -> None:
    faults = [case for case in cases if case.fault]
    assert not faults, "\n\n".join(describe(case, seed) for case in faults[:5])
    assert len(cases) == count
    # Damage that nobody notices tests nothing.
    assert sum(case.end == "refused" for case in cases) > 0.3 * count


@pytest.mark.timeout(300)
def test_two_hundred_cases() -> None:
    _check(run_cases(200, seed=0, places=2), 200, 0)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_ten_thousand_cases() -> None:
    _check(run_cases(10_000, seed=1, places=2), 10_000, 1)
