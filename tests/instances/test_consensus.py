"""View consensus: masks with known errors of objects whose points are known."""

import numpy as np
import pytest
from box_rooms import INDOOR

from ovseg3d.field.surface import Surface, Visibility
from ovseg3d.instances.consensus import MAX_MASKS, find_mask_instances, fit_agreement
from ovseg3d.instances.grouping import find_instances
from ovseg3d.instances.layout import FLOOR, NONE

SIDE = 40
TRUE = np.zeros((SIDE, SIDE), np.int64)
TRUE[4:20, 2:20], TRUE[4:20, 20:38], TRUE[24:36, 6:30], TRUE[26:30, 10:14] = 1, 2, 3, 4
"""Two objects side by side, and a small one in front of a third."""
Drawn = tuple[list[Visibility], list[np.ndarray]]


def drawn(views: int, seed: int = 0, *, split: float = 0.0, merged: float = 0.0, missing: float = 0.0) -> Drawn:
    """Photos of windows of TRUE, a point in each pixel, with errors of the masks in the given shares."""
    random = np.random.default_rng(seed)
    visibilities, masks = [], []
    for _ in range(views):
        top, left = random.integers(0, SIDE // 3, 2)
        h, w = random.integers(SIDE // 2, 2 * SIDE // 3, 2)
        window = TRUE[top : top + h, left : left + w]
        layer = window.copy()
        for number in range(1, 5):
            own = window == number
            if random.random() < split:
                layer[own & (np.arange(window.shape[1]) > random.integers(0, w))] = 10 + number
            if random.random() < merged:
                layer[own] = 1 + number % 4
            if random.random() < missing:
                layer[own] = 0
        y, x = (values.ravel() for values in np.indices(window.shape))
        xy = np.stack([(x + 0.5) / window.shape[1], (y + 0.5) / window.shape[0]], 1).astype(np.float32)
        point = ((y + top) * SIDE + x + left).astype(np.int32)
        visibilities.append(Visibility(point, xy, np.ones(len(point), np.float32), np.empty(0, np.int32)))
        masks.append(layer[None])
    return visibilities, masks


def found_in(photos: Drawn, max_masks: int = MAX_MASKS) -> np.ndarray:
    return find_mask_instances(SIDE * SIDE, *photos, 15, max_masks).reshape(SIDE, SIDE)


def ious(photos: Drawn, max_masks: int = MAX_MASKS) -> list[float]:
    """IoU of each object with the instance of most of its points, among points that three photos see; each instance is
    one object's."""
    found = found_in(photos, max_masks)
    seen = (np.bincount(np.concatenate([one.point for one in photos[0]]), minlength=TRUE.size) >= 3).reshape(TRUE.shape)
    best = [np.bincount(found[number == TRUE], minlength=2)[1:].argmax() + 1 for number in range(1, 5)]
    assert sorted(best) == np.unique(found[found > 0]).tolist()
    pairs = [((found == one) & seen, (number == TRUE) & seen) for number, one in enumerate(best, start=1)]
    return [float((own & true).sum() / (own | true).sum()) for own, true in pairs]


def test_the_rates_of_two_binomials_are_found() -> None:
    random = np.random.default_rng(0)
    trials, one = random.integers(5, 40, 4000).astype(float), random.random(4000) < 0.3
    successes = random.binomial(trials.astype(int), np.where(one, 0.7, 0.15)).astype(float)
    rates = fit_agreement(successes, trials)
    assert rates.one == pytest.approx(0.7, abs=0.02) and rates.two == pytest.approx(0.15, abs=0.03)
    equal = rates.limit * np.log(rates.one / rates.two) + (1 - rates.limit) * np.log((1 - rates.one) / (1 - rates.two))
    assert equal == pytest.approx(0, abs=1e-9)


def test_exact_masks_are_found_exactly() -> None:
    assert ious(drawn(30)) == [1, 1, 1, 1]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_photos_outvote_errors(seed: int) -> None:
    assert min(ious(drawn(60, seed, split=0.3, merged=0.2, missing=0.2))) > 0.9


def test_masks_of_groups_in_some_photos_do_not_join_objects() -> None:
    visibilities, masks = drawn(60, 4, missing=0.2)
    random = np.random.default_rng(5)
    masks = [
        np.concatenate([layers, np.where((layers > 0) & (random.random() < 0.3), 50, 0)])  # all objects in one mask
        for layers in masks
    ]
    assert min(ious((visibilities, masks))) > 0.9


def test_what_few_masks_spill_onto_is_left_out() -> None:
    visibilities, masks = drawn(60, 6)
    random = np.random.default_rng(7)
    spilt = [np.where(layers == 0, 3, layers) if random.random() < 0.3 else layers for layers in masks]
    assert min(ious((visibilities, spilt))) > 0.9


def test_a_mask_of_one_photo_is_no_instance() -> None:
    visibilities, masks = drawn(20)
    masks = [np.where(layers == 4, 3, layers) for layers in masks]
    masks[0] = masks[0].copy()
    masks[0][0, :6, :6] = 77
    assert len(np.unique(found_in((visibilities, masks)))) == 4


def test_nothing_is_found_without_masks() -> None:
    visibilities, masks = drawn(3)
    assert not found_in((visibilities, [np.zeros_like(layers) for layers in masks])).any()
    assert not found_in(([], [])).any()


def test_few_masks_are_enough() -> None:
    assert min(ious(drawn(60), 100)) > 0.95


def test_a_mask_of_the_floor_is_the_floor_and_what_has_no_mask_is_a_fragment() -> None:
    y, x = np.mgrid[0:50, 0:50] * 0.04
    floor = np.stack([x, y, np.zeros_like(x)], -1).reshape(-1, 3)
    tops = [np.stack([x[:12, :12] + at, y[:12, :12] + 0.4, np.full((12, 12), 0.5)], -1) for at in (0.2, 1.2)]
    xyz = np.concatenate([floor, *(top.reshape(-1, 3) for top in tops)]).astype(np.float32)
    kind = np.repeat([1, 2, 3], [len(floor), 144, 144])
    grey = np.array([90, 200, 30], np.uint8)
    surface = Surface(
        xyz, np.tile(np.float32([0, 0, 1]), (len(xyz), 1)), grey[kind - 1, None].repeat(3, 1),
        np.ones(len(xyz), np.float32), np.full(len(xyz), 0.04, np.float32), np.float32([0, 0, 1]), True,
    )  # fmt: skip
    # Each photo sees every point in a pixel of its own.
    place = np.stack([(np.arange(len(xyz)) + 0.5) / len(xyz), np.full(len(xyz), 0.5)], 1).astype(np.float32)
    sees = Visibility(np.arange(len(xyz), dtype=np.int32), place, np.ones(len(xyz), np.float32), np.empty(0, np.int32))
    layers = np.where(kind == 3, 0, kind)[None, None]
    found = find_instances(surface, [], config=INDOOR, visibilities=[sees] * 4, masks=[layers] * 4)
    assert found.count == 1 and (found.instance[kind == 2] == 1).all() and found.rejected_fragments >= 1
    assert (found.layout[kind == 1] == FLOOR).all() and (found.layout[kind == 2] == NONE).all()
    assert (found.ids[kind == 3] > 1).mean() > 0.9
    # A segmenter that found nothing takes nothing away.
    alone = find_instances(surface, [], config=INDOOR, visibilities=[sees] * 4)
    without = find_instances(surface, [], config=INDOOR, visibilities=[sees] * 4, masks=[np.zeros_like(layers)] * 4)
    assert alone.count == without.count == 2 and (without.ids == alone.ids).all()
