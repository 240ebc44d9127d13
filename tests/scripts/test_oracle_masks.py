"""The errors of the stand-in for a segmenter."""

from dataclasses import replace

import numpy as np

from scripts.benchmarks.oracle_masks import Errors, spoiled

TRUE = np.zeros((60, 80), np.int64)
TRUE[10:30, 10:30], TRUE[10:30, 32:60], TRUE[45:55, 60:75] = 1, 2, 3
NONE = Errors(split=0, merged=0, missing=0, border=0)


def spoil(errors: Errors, seed: int = 0) -> np.ndarray:
    return spoiled(TRUE, np.random.default_rng(seed), errors)


def test_without_errors_masks_are_true() -> None:
    assert (spoil(NONE) == TRUE).all()


def test_each_error_does_what_it_says() -> None:
    assert not spoil(replace(NONE, missing=1)).any()
    split = spoil(replace(NONE, split=1))
    assert ((split > 0) == (TRUE > 0)).all() and all(len(np.unique(split[TRUE == one])) in (2, 3) for one in (1, 2, 3))
    merged = spoil(replace(NONE, merged=1))
    assert len(np.unique(merged[TRUE > 0])) < 3 and (merged[TRUE == 3] == 3).all()  # the third has no neighbour
    moved = spoil(replace(NONE, border=3))
    inner = np.zeros_like(TRUE, bool)
    inner[15:25, 15:25] = True
    assert (moved != TRUE).any() and (moved[inner] == 1).all()


def test_seeds_repeat() -> None:
    assert (spoil(Errors(), 3) == spoil(Errors(), 3)).all() and (spoil(Errors(), 3) != spoil(Errors(), 4)).any()
