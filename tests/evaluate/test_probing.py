"""Linear probing on features that hold the angles, or do not."""

import math

import numpy as np
import pytest
import torch

from ovseg3d.encoders import BlockTokens
from ovseg3d.errors import MeasureError
from ovseg3d.evaluate import ProbeConfig, ProbeSplit, probe_features, probe_poses
from ovseg3d.evaluate.metrics import TruePoses, pose_errors_rad

CONFIG = ProbeConfig(learning_rates=(1e-5, 0.003, 0.1), epochs=5)


def split(count: int, seed: int, *, groups: bool = False) -> ProbeSplit:
    """Features: a fixed random map of cosines and sines with noise, and pure noise. The map of the other group
    is the opposite, which no linear head can read beside the first."""
    rng, fixed = np.random.default_rng(seed), np.random.default_rng(99)
    angles = rng.uniform([0, -0.5, -0.5], [2 * math.pi, 1, 0.5], (count, 3))
    waves = np.hstack([np.cos(angles), np.sin(angles)])
    one = fixed.normal(size=(6, 24))
    maps = np.stack([one, -one])
    number = rng.integers(0, 2, count) if groups else np.zeros(count, dtype=int)
    seen = np.einsum("nk,nkd->nd", waves, maps[number]) + 0.1 * rng.normal(size=(count, 24)) + 5
    named = ["chairs" if k else "cars" for k in number] if groups else None
    return ProbeSplit({"noise": rng.normal(size=(count, 8)), "angles": seen * 40}, angles, named)


def accuracy(train: ProbeSplit, test: ProbeSplit, degrees: float = 30, **options) -> float:
    choose = split(400, 1, groups=train.groups is not None)
    if train.groups is None:
        choose = ProbeSplit(choose.features, choose.angles_rad)
    probed = probe_poses(train, choose, test.features, test.groups, config=CONFIG, **options)
    errors = pose_errors_rad(probed.predicted, TruePoses(test.angles_rad, ["x"] * len(test.angles_rad)))
    assert all(name == "angles" and rate > 1e-5 for name, rate in probed.chosen.values())
    assert len(next(iter(probed.accuracies.values()))) == 6
    return float(np.mean(np.degrees(errors) < degrees))


def test_linear_features_are_read() -> None:
    train, test = split(2000, 0), split(400, 2)
    periodic, bins = (accuracy(train, test, 10, readout=readout) for readout in ("periodic", "bins"))
    assert periodic > 0.9, "noise of 0.1 in 24 numbers leaves a few degrees"
    assert 0.2 < bins < periodic, "bins round, and a linear map cannot order 40 of them well"
    assert accuracy(train, test, readout="periodic") == 1
    binned = probe_poses(train, split(400, 1), test.features, readout="bins", config=CONFIG).predicted.angles_rad
    signed = np.angle(np.exp(1j * (binned - test.angles_rad)))
    assert np.abs(np.degrees(np.median(signed, axis=0))).max() < 2, "centres of bins, not their edges"


def test_a_group_has_its_own_heads() -> None:
    train, test = split(2000, 0, groups=True), split(400, 2, groups=True)
    apart = accuracy(train, test)
    together = probe_poses(
        ProbeSplit(train.features, train.angles_rad), ProbeSplit(train.features, train.angles_rad), test.features,
        config=CONFIG,
    )  # fmt: skip
    errors = pose_errors_rad(together.predicted, TruePoses(test.angles_rad, ["x"] * 400))
    assert apart > 0.95 and np.mean(np.degrees(errors) < 30) < apart - 0.2


def test_the_choice_is_by_its_own_split() -> None:
    """Where the split of the choice is shuffled so that only noise fits it, noise is chosen: nothing else is asked."""
    train, test = split(600, 0), split(100, 2)
    choose = split(600, 1)
    swapped = {"noise": choose.features["noise"], "angles": np.random.default_rng(5).normal(size=(600, 24)) * 1e4}
    train.features["noise"][:, :2] = np.c_[np.cos(train.angles_rad[:, 0]), np.sin(train.angles_rad[:, 0])]  # type: ignore[index]
    swapped["noise"][:, :2] = np.c_[np.cos(choose.angles_rad[:, 0]), np.sin(choose.angles_rad[:, 0])]
    probed = probe_poses(train, ProbeSplit(swapped, choose.angles_rad), test.features, config=CONFIG)
    assert probed.chosen["all"][0] == "noise"
    again = probe_poses(train, ProbeSplit(swapped, choose.angles_rad), test.features, config=CONFIG)
    assert np.array_equal(again.predicted.angles_rad, probed.predicted.angles_rad), "equal seeds, equal bits"


def test_splits_that_do_not_fit_are_refused() -> None:
    good, test = split(50, 0), split(20, 2)
    broken = {"noise": test.features["noise"], "angles": np.full((20, 24), math.nan)}
    for features, groups, words in (
        ({"noise": test.features["noise"]}, None, "sets of features differ: noise; noise, angles"),
        (broken, None, "'angles' do not fit the angles or are not finite"),
        (test.features, ["boats"] * 20, "group 'boats' is missing"),
    ):
        with pytest.raises(MeasureError, match=words):
            probe_poses(good, good, features, groups, config=CONFIG)
    with pytest.raises(MeasureError, match="do not fit"):
        probe_poses(good, ProbeSplit(good.features, test.angles_rad), test.features, config=CONFIG)


def tokens(count: int, *, first: bool = True) -> list[BlockTokens]:
    """Blocks whose class tokens are their number, and whose means are minus that."""
    return [
        BlockTokens(torch.full((2, 1), float(k)) if first else None, torch.full((2, 1), -float(k)))
        for k in range(count)
    ]


def test_six_sets_of_features_of_a_deep_tower() -> None:
    sets = {name: rows[0].tolist() for name, rows in probe_features(tokens(12)).items()}
    assert sets == {
        "last 1": [11], "last 1, mean": [11, -11],
        "last 4": [8, 9, 10, 11], "last 4, mean": [8, 9, 10, 11, -11],
        "uniform 4": [2, 5, 8, 11], "uniform 4, mean": [2, 5, 8, 11, -11],
    }  # fmt: skip
    assert len(sets) * len(ProbeConfig().learning_rates) == 78


def test_sets_that_would_be_equal_are_named_once() -> None:
    assert list(probe_features(tokens(4))) == ["last 1", "last 1, mean", "last 4", "last 4, mean"]
    stages = {name: rows[0].tolist() for name, rows in probe_features(tokens(5, first=False)).items()}
    assert stages == {"last 1": [-4], "last 4": [-1, -2, -3, -4]}
