"""Features of a photo: dense, pyramid and regions, against values computed for a mean-colour encoder."""

import math

import numpy as np
import pytest
import torch
from fake_encoders import MeanColour, MeanPatch, direction

from ovseg3d.errors import ConfigError
from ovseg3d.features.dense import dense_grid, resize_photo, window_places
from ovseg3d.features.extract import FeatureSettings, extract_features, region_box, to_tensor
from ovseg3d.features.maps import Dense, Pyramid, Regions, from_arrays, to_arrays
from ovseg3d.features.pyramid import LERF_SCALES, lerf_pyramid, lerf_tiles, ovs_pyramid, ovs_starts
from ovseg3d.features.segments import mask_layers, merge, overlay, pooling, segment, superpixels

RED, GREEN, BLUE = (220, 30, 20), (20, 200, 40), (30, 40, 230)
SMALL = FeatureSettings(clip_side=48, dino_side=48, window=8.0, map_side=96)


def three_parts(h: int = 60, w: int = 90) -> np.ndarray:
    """Red on the left, green on the upper right, blue on the lower right."""
    photo = np.empty((h, w, 3), dtype=np.uint8)
    photo[:, : w // 3], photo[: h // 2, w // 3 :], photo[h // 2 :, w // 3 :] = RED, GREEN, BLUE
    return photo


def vector(colour: tuple[float, ...], dim: int = 4) -> np.ndarray:
    return direction(torch.tensor(colour) / 255, dim).numpy()


MIDDLES = np.array([[1 / 6, 0.5], [0.7, 0.2], [0.7, 0.8]])
COLOURS = (RED, GREEN, BLUE)


def ramp(h: int, w: int) -> np.ndarray:
    """Red grows from left to right, green from top to bottom."""
    v, u = np.mgrid[0:h, 0:w] + 0.5
    return np.stack([u / w, v / h, np.zeros_like(u)], axis=-1)


def colours_of(vectors: np.ndarray) -> np.ndarray:
    """The mean colour that a vector stands for: the constant undoes the unit length."""
    return vectors[:, :3] / vectors[:, 3:4] * 0.5


def as_photo(colours: np.ndarray) -> np.ndarray:
    return np.rint(colours * 255).astype(np.uint8)


def test_dense_answers_are_the_patches_colours_between_their_middles() -> None:
    photo = as_photo(ramp(32, 64))
    found = extract_features(photo, MeanColour(), None, FeatureSettings(mode="dense", clip_side=32, window=8.0)).clip
    assert isinstance(found, Dense) and found.grid.shape == (8, 16, 4) and found.grid.dtype == np.float16
    xy = np.random.default_rng(0).uniform(0.1, 0.9, (50, 2))
    assert np.abs(colours_of(found.at(xy))[:, :2] - xy).max() < 0.02
    assert np.allclose(np.linalg.norm(found.at(xy), axis=1), 1, atol=1e-5)
    assert np.allclose(found.at(np.array([[-1.0, 2.0]])), found.at(np.array([[0.0, 1.0]])))


def test_a_tensor_in_gives_a_tensor_out() -> None:
    found = extract_features(three_parts(), MeanColour(), MeanPatch(), SMALL)
    xy = torch.rand(7, 2)
    for features in (found.clip, found.dino):
        answer = features.at(xy)
        assert isinstance(answer, torch.Tensor) and answer.dtype == torch.float32
        assert np.array_equal(answer.numpy(), features.at(xy.numpy()))


@pytest.mark.parametrize("size", [(60, 90), (90, 60), (1, 1), (3, 200)])
def test_windows_give_what_one_pass_gives(size: tuple[int, int]) -> None:
    """The fake's patches do not see each other, so that windows and their blending must not show."""
    photo = torch.rand(3, *size, generator=torch.Generator().manual_seed(1))
    whole, pieces = MeanPatch(), MeanPatch()
    once = dense_grid(photo, whole, side=64, window=100.0)
    many = dense_grid(photo, pieces, side=64, window=1.5, overlap=0.25, batch=3)
    assert len(whole.shapes) == 1 and torch.allclose(once, many, atol=1e-5)
    assert all(max(shape[-2:]) <= 24 for shape in pieces.shapes) and sum(s[0] for s in pieces.shapes) > 4


@pytest.mark.parametrize(("length", "window", "overlap"), [(10, 10, 0.2), (11, 10, 0.2), (57, 10, 0.5), (3, 10, 0.0)])
def test_windows_cover_everything_and_overlap(length: int, window: int, overlap: float) -> None:
    size, starts = window_places(length, window, overlap)
    assert size <= window and starts[0] == 0 and starts[-1] == length - size
    gaps = [later - earlier for earlier, later in zip(starts, starts[1:])]
    assert all(gap <= math.ceil(size * (1 - overlap)) for gap in gaps)


def test_windows_that_disagree_fade_into_each_other() -> None:
    class Moody(MeanPatch):
        def encode_dense(self, images):  # noqa: ANN001, ANN202
            grid = super().encode_dense(images) * 0
            grid[:, len(self.shapes) % 2] = 1
            return grid

    row = dense_grid(torch.rand(3, 16, 64), Moody(), side=16, window=1.0, overlap=0.5)[0]
    steps = (row[1:] - row[:-1]).norm(dim=-1)
    assert steps.max() < 1.2 and (row[:, :2] > 0.1).all(dim=-1).sum() >= 4


def test_windows_are_as_few_and_as_small_as_can_be() -> None:
    assert window_places(62, 56, 0.25) == (36, [0, 26]), "not two windows of 56 for 62 cells"
    clip = MeanPatch()
    dense_grid(torch.rand(3, 30, 50), clip, side=24, window=2.0)
    assert [shape[-2:] for shape in clip.shapes] == [(24, 40)], "no more patches than a square window: one pass"


def test_a_strip_does_not_fill_the_memory() -> None:
    assert resize_photo(torch.zeros(3, 2, 9000), 32, 4).shape == (3, 32, 128)


def test_regions_are_the_parts_and_hold_their_colours() -> None:
    photo = three_parts()
    found = extract_features(photo, MeanColour(), MeanPatch(), SMALL).clip
    assert isinstance(found, Regions) and found.index.dtype == np.uint16
    assert found.index.shape == (60, 90) and len(found.vectors) == found.index.max() + 1
    assert np.abs(found.at(MIDDLES) - np.stack([vector(colour) for colour in COLOURS])).max() < 0.03
    truth = np.select([(photo == RED).all(-1), (photo == GREEN).all(-1)], [0, 1], 2)
    for part in range(3):  # no region reaches into two parts
        inside = np.isin(found.index, np.unique(found.index[truth == part]))
        assert (inside == (truth == part)).mean() > 0.99


def test_flat_parts_merge_into_one_region_each_and_a_flat_photo_into_one() -> None:
    index = segment(three_parts(), None, regions=100)
    assert index.max() + 1 == 3 and len(np.unique(index)) == 3
    assert segment(np.full((40, 50, 3), 99, dtype=np.uint8), None, regions=100).max() == 0


def test_no_more_regions_than_asked_for_and_each_connected() -> None:
    from skimage.measure import label

    photo = np.random.default_rng(0).integers(0, 255, (80, 100, 3), dtype=np.uint8)
    index = segment(photo, None, regions=17)
    assert index.max() + 1 == 17 == label(index + 1, connectivity=1).max()


def test_dino_parts_what_colour_does_not() -> None:
    """A grey photo whose left half DINO sees otherwise: superpixels are cut by the lattice, then joined by DINO."""
    photo = np.full((60, 90, 3), 128, dtype=np.uint8)
    grid = np.zeros((12, 18, 2), dtype=np.float32)
    grid[:, :9, 0] = grid[:, 9:, 1] = 1
    index = segment(photo, grid, regions=2)
    assert index.max() == 1 and index[30, 5] != index[30, 85]
    border = np.abs(np.diff(index.astype(int), axis=1)).argmax(axis=1)
    assert np.abs(border - 44).max() <= 5, "within a cell of the lattice"


def test_pooling_is_the_mean_of_the_enlarged_grid() -> None:
    from ovseg3d.features.maps import bilinear

    index = np.random.default_rng(0).integers(0, 5, (13, 21))
    grid = np.random.default_rng(1).normal(size=(4, 6, 3)).astype(np.float32)
    v, u = np.mgrid[0:13, 0:21] + 0.5
    whole = bilinear(grid, np.stack([u / 21, v / 13], axis=-1).reshape(-1, 2), (0.5 / 6, 0.5 / 4), (1 / 6, 1 / 4))
    expected = np.stack([whole[index.ravel() == region].mean(axis=0) for region in range(5)])
    assert np.allclose(pooling(index, 4, 6) @ grid.reshape(-1, 3), expected, atol=1e-5)


def test_ward_merges_the_cheapest_pair() -> None:
    labels = np.array([[0, 1, 2, 3]])
    vectors = np.array([[0.0], [1.0], [1.5], [9.0]])
    assert merge(labels, vectors, 3).tolist() == [[0, 1, 1, 2]]
    assert merge(labels, vectors, 2).tolist() == [[0, 0, 0, 1]]


def test_superpixels_are_numbered_without_gaps() -> None:
    index = superpixels(as_photo(np.concatenate([ramp(40, 60), 1 - ramp(40, 60)])))
    assert np.array_equal(np.unique(index), np.arange(index.max() + 1))


def test_masks_lie_over_regions_small_above_large() -> None:
    photo, masks = np.full((40, 40, 3), 9, dtype=np.uint8), np.zeros((2, 40, 40), dtype=bool)
    masks[0, 10:20, 10:20], masks[1, 5:35, 5:35] = True, True
    layers = mask_layers(masks, (40, 40))
    assert layers.shape == (2, 40, 40) and {int(layer.max()) for layer in layers} == {1, 2}
    index = overlay(segment(photo, None, 8), layers)
    assert len({index[0, 0], index[30, 30], index[15, 15]}) == 3 == index.max() + 1


def test_layers_keep_every_mask_whole() -> None:
    random = np.random.default_rng(0)
    masks = [random.random((30, 40)) < share for share in (0.05, 0.2, 0.5, 0.05, 0.01)] + [np.zeros((30, 40), bool)]
    layers = mask_layers(masks, (30, 40))
    assert layers.dtype == np.uint16
    for number, mask in enumerate(masks[:-1], start=1):
        assert ((layers == number).any(0) == mask).all()
    small = mask_layers(masks, (30, 40), least=int(masks[0].sum()))
    assert small.max() == 1 + (masks[3].sum() > masks[0].sum()) + 1 and not mask_layers([], (3, 4)).any()


def test_regions_of_an_encoder_without_dense_features_come_from_crops() -> None:
    clip = MeanColour(dense=False)
    found = extract_features(three_parts(), clip, MeanPatch(), FeatureSettings(dino_side=48, context=0.0)).clip
    assert (
        isinstance(found, Regions) and not clip.shapes and sum(shape[0] for shape in clip.crops) == len(found.vectors)
    )
    # The crop of the left part is square: it reaches as far to the right as the photo is high.
    seen = three_parts()[:, :60].mean(axis=(0, 1))
    assert found.at(MIDDLES)[0] @ vector(tuple(seen)) > 0.999
    with pytest.raises(ConfigError, match="no dense features"):
        extract_features(three_parts(), clip, None, FeatureSettings(mode="dense"))


def test_crops_are_mixed_in_for_the_largest_regions() -> None:
    plain = extract_features(three_parts(), MeanColour(), None, SMALL).clip
    clip = MeanColour()
    from dataclasses import replace

    mixed = extract_features(three_parts(), clip, None, replace(SMALL, crops=1, crop_weight=1.0)).clip
    assert sum(shape[0] for shape in clip.crops) == 1
    changed = (plain.vectors != mixed.vectors).any(axis=1)
    assert changed.sum() == 1 and changed[np.bincount(plain.index.ravel()).argmax()]


def test_a_regions_box_is_square_with_context_and_inside_the_photo() -> None:
    index = np.zeros((50, 100), dtype=np.uint16)
    index[20:30, 40:60] = 1
    assert region_box(index, 1, (100, 200), context=0.25) == (20, 70, 80, 130)
    assert region_box(index, 0, (100, 200), context=0.25) == (0, 0, 100, 200)
    index[0, 99] = 2
    assert region_box(index, 2, (50, 100), context=1.0) == (0, 97, 3, 100)


def test_lerf_has_1169_tiles_for_994_by_738() -> None:
    tiles = [lerf_tiles(738, 994, scale) for scale in LERF_SCALES]
    assert [rows * columns for _, _, rows, columns in tiles] == [588, 234, 154, 80, 48, 35, 30]
    assert [side for side, *_ in tiles] == [36, 92, 147, 202, 258, 313, 369]
    assert lerf_tiles(756, 1008, 0.125)[:2] == (94, 58), "the stride is a share of the side in whole pixels"


def test_3d_ovs_has_3453_crops_for_504_by_378() -> None:
    counts = [len(ovs_starts(378, side, side // 4)) * len(ovs_starts(504, side, side // 4)) for side in (75, 54, 37)]
    assert counts == [450, 936, 2067]


def test_lerf_pyramid_knows_what_is_where() -> None:
    """Linear colours: the mean of a tile inside the photo is the colour in its middle."""
    photo = to_tensor(as_photo(ramp(80, 120)), "cpu")
    pyramid = lerf_pyramid(photo, MeanColour(native=16), batch=7)
    assert np.allclose(pyramid.scales, LERF_SCALES)
    xy = np.random.default_rng(0).uniform(0.3, 0.7, (40, 2))
    for scale in (0.05, 0.1, 0.4, 0.5, 3.0):
        assert np.abs(colours_of(pyramid.at(xy, scale))[:, :2] - xy).max() < 0.03, scale
    each = pyramid.at(xy, np.linspace(0.05, 0.5, 40))
    assert np.allclose(each[0], pyramid.at(xy[:1], 0.05)[0]) and np.allclose(each[-1], pyramid.at(xy[-1:], 0.5)[0])
    # Around the photo it is black: a tile in the corner is a quarter photo.
    corner = colours_of(pyramid.at(np.array([[1.0, 1.0]]), 0.5))[0]
    assert 0.1 < corner[0] < 0.35


def test_between_two_levels_answers_are_between_their_answers() -> None:
    pyramid = lerf_pyramid(to_tensor(three_parts(), "cpu"), MeanColour())
    xy = np.array([[0.4, 0.5]])
    low, high = pyramid.at(xy, LERF_SCALES[2])[0], pyramid.at(xy, LERF_SCALES[3])[0]
    middle = low + high
    assert np.allclose(pyramid.at(xy, sum(LERF_SCALES[2:4]) / 2)[0], middle / np.linalg.norm(middle), atol=5e-3)


def test_3d_ovs_pyramid_knows_what_is_where_and_is_seeded() -> None:
    photo = to_tensor(as_photo(ramp(60, 90)), "cpu")
    pyramid = ovs_pyramid(photo, MeanColour(), seed=3)
    assert np.allclose(pyramid.scales, [6 / 60, 8 / 60, 12 / 60])
    xy = np.random.default_rng(0).uniform(0.15, 0.85, (40, 2))
    for scale in pyramid.scales:
        assert np.abs(colours_of(pyramid.at(xy, scale))[:, :2] - xy).max() < 0.04
    again, other = ovs_pyramid(photo, MeanColour(), seed=3), ovs_pyramid(photo, MeanColour(), seed=4)
    assert np.array_equal(pyramid.levels[2].grid, again.levels[2].grid)
    assert not np.array_equal(pyramid.levels[2].grid, other.levels[2].grid)
    assert all((np.abs(level.grid).sum(axis=-1) > 0).all() for level in pyramid.levels), "every cell is covered"


@pytest.mark.parametrize("mode", ["dense", "regions", "pyramid"])
@pytest.mark.parametrize("size", [(1, 1), (2, 300), (40, 7)])
def test_odd_photos_have_features(mode: str, size: tuple[int, int]) -> None:
    photo = np.full((*size, 3), RED, dtype=np.uint8)
    found = extract_features(photo, MeanColour(), MeanPatch(), FeatureSettings(mode=mode))  # type: ignore[arg-type]
    # Tiles of a pyramid may be mostly black border, which makes the colour darker but not another.
    red, green, blue = colours_of(found.clip.at(np.array([[0.5, 0.5]])))[0]
    assert np.allclose([green / red, blue / red], [30 / 220, 20 / 220], atol=0.01)
    assert mode == "pyramid" or abs(red - 220 / 255) < 0.01
    assert found.dino is not None and np.isfinite(found.dino.at(np.array([[0.5, 0.5]]))).all()


@pytest.mark.parametrize("mode", ["dense", "regions", "pyramid"])
def test_features_survive_being_taken_apart(mode: str) -> None:
    found = extract_features(three_parts(), MeanColour(), MeanPatch(), FeatureSettings(mode=mode))  # type: ignore[arg-type]
    again = from_arrays(to_arrays(found))
    assert type(again.clip) is type(found.clip) and again.nbytes == found.nbytes > 0
    assert np.array_equal(again.clip.at(MIDDLES), found.clip.at(MIDDLES))
    assert np.array_equal(again.dino.at(MIDDLES), found.dino.at(MIDDLES))
    if isinstance(found.clip, Pyramid):
        assert np.array_equal(again.clip.at(MIDDLES, 0.3), found.clip.at(MIDDLES, 0.3))


def test_what_cannot_be_set_is_said() -> None:
    with pytest.raises(ConfigError, match="dino_dims"):
        FeatureSettings(dino_dims=65)
    with pytest.raises(ConfigError, match="sam"):
        FeatureSettings(segments="sam")
    assert FeatureSettings().resolved(MeanColour()).clip_side == 24
