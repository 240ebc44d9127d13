"""Instance crops: choice of photos, cropping, and the share in the points' features."""

import numpy as np
import pytest
import torch
from fake_encoders import MeanColour, direction

from ovseg3d.field.surface import Visibility
from ovseg3d.instances.crops import CropConfig, Pose, add_instance_crops, choose_poses, encode_instance_crops, outlines
from ovseg3d.points.basis import Basis, fit_basis

NOTHING = np.zeros(0, np.int32)
RED, BLUE = (200, 20, 20), (20, 20, 200)


def square(first: int, count: int, left: float, side: float, weight: float = 1.0) -> Visibility:
    """A view of points `first`... in a square of that side at (left, 0.2), on a lattice without its border's jitter."""
    along = np.linspace(0, side, round(count**0.5))
    x, y = np.meshgrid(left + along, 0.2 + along)
    points = np.arange(first, first + x.size, dtype=np.int32)
    return Visibility(points, np.stack([x.ravel(), y.ravel()], -1).astype(np.float32), np.full(x.size, weight), NOTHING)


def both(*visibilities: Visibility) -> Visibility:
    return Visibility(
        *(np.concatenate(parts) for parts in zip(*(vars(visibility).values() for visibility in visibilities)))
    )


def test_photos_that_show_more_of_a_thing_or_show_it_larger_are_chosen() -> None:
    ids = np.repeat([1, 2, 0], 100)
    small, large, faint = (square(0, 100, 0.1, side, w) for side, w in ((0.1, 1.0), (0.4, 1.0), (0.4, 0.1)))
    views = [small, both(large, square(100, 100, 0.6, 0.3)), faint, both(square(200, 100, 0.0, 0.9))]
    poses = choose_poses(ids, views, CropConfig(views=2, stray=0.0))
    assert [(pose.view, pose.instance) for pose in poses] == [(0, 1), (1, 1), (1, 2)], (
        "nothing of points without an instance"
    )
    assert poses[1].box == pytest.approx((0.1, 0.2, 0.5, 0.6), abs=1e-6)
    assert poses[2].box == pytest.approx((0.6, 0.2, 0.9, 0.5), abs=1e-6)


def test_ragged_points_do_not_stretch_a_box() -> None:
    visibility = square(0, 400, 0.4, 0.2)
    visibility.xy[0], visibility.xy[-1] = (0.0, 0.0), (1.0, 1.0)
    (pose,) = choose_poses(np.ones(400, int), [visibility], CropConfig(stray=0.02))
    assert pose.box == pytest.approx((0.4, 0.2, 0.6, 0.4), abs=0.02)


def seeing(red: tuple[float, float, float, float]) -> tuple[np.ndarray, Visibility]:
    """Points on a lattice of a photo, with instance 2 where it lies in the box `red`, and the view that sees them."""
    x, y = (np.stack(np.meshgrid(*[(np.arange(80) + 0.5) / 80] * 2), -1).reshape(-1, 2)).T
    ids = np.where((x > red[0]) & (x < red[2]) & (y > red[1]) & (y < red[3]), 2, 0)
    xy = np.stack([x, y], -1).astype(np.float32)
    return ids, Visibility(np.arange(len(ids), dtype=np.int32), xy, np.ones(len(ids), np.float32), NOTHING)


def test_cells_show_the_thing_whose_points_are_seen_there_or_nearest() -> None:
    ids, visibility = seeing((0.5, 0.25, 0.75, 0.75))
    expected = np.zeros((8, 8), int)
    expected[2:6, 4:6] = 2
    assert (outlines(ids, visibility, 8, 8) == expected).all()
    some = np.random.default_rng(0).random(len(ids)) < 0.03
    thin = Visibility(*(vars(visibility)[name][some] for name in ("point", "xy", "weight")), NOTHING)
    assert (outlines(ids, thin, 40, 40) == np.kron(expected, np.ones((5, 5), int))).mean() > 0.9
    nothing = Visibility(*(vars(visibility)[name][:0] for name in ("point", "xy", "weight")), NOTHING)
    assert not outlines(ids, nothing, 4, 4).any()


def test_an_instance_embedding_is_the_mean_of_its_crops() -> None:
    photo = np.zeros((40, 60, 3), np.uint8)
    photo[:], photo[10:30, 30:50] = BLUE, RED
    box, read = (0.5, 0.25, 50 / 60, 0.75), []
    ids, visibility = seeing(box)

    def give(view: int) -> np.ndarray:
        read.append(view)
        return photo

    clip, done = MeanColour(), []
    poses = [Pose(2, 0, box), Pose(2, 1, (0.5, 0.25, 40 / 60, 0.5))]
    config = CropConfig(margins=(0.0,))
    found = encode_instance_crops(
        poses, ids, [visibility, visibility], give, clip, config, lambda crops, total: done.append((crops, total))
    )
    red, blue = (torch.tensor(colour) / 255.0 for colour in (RED, BLUE))
    np.testing.assert_allclose(found, np.stack([np.zeros(4), direction(red).numpy()]), atol=0.02)
    assert read == [0, 1] and done == [(4, 4)]
    # With half of its side around it on each side, a quarter of the crop is the instance.
    wide = encode_instance_crops(poses[:1], ids, [visibility], give, clip, CropConfig(margins=(0.5,)))[1]
    np.testing.assert_allclose(wide, direction((red + 3 * blue) / 4).numpy(), atol=0.02)


def test_by_default_a_thing_is_seen_alone_and_within_what_is_around_it() -> None:
    """On a checkered ground the blurred crops are smooth around it, the others are not; both sorts count."""
    photo = np.kron(np.indices((30, 30)).sum(0) % 2 * 255, np.ones((2, 2))).astype(np.uint8)[..., None].repeat(3, 2)
    photo[15:45, 15:45] = RED
    ids, visibility = seeing((0.25, 0.25, 0.75, 0.75))
    contrast = []

    class Watching(MeanColour):
        def encode_image(self, images: torch.Tensor) -> torch.Tensor:
            contrast.extend(float(image[:, :3].std()) for image in images)
            return super().encode_image(images)

    encode_instance_crops(
        [Pose(2, 0, (0.25, 0.25, 0.75, 0.75))], ids, [visibility], lambda view: photo, Watching(native=60)
    )
    alone, within = np.split(np.array(contrast), 2)
    assert len(alone) >= 2 and len(within) >= 2
    assert max(alone) < 0.5 * min(within)


def test_what_is_around_a_thing_is_blurred_and_the_thing_is_not() -> None:
    """Sharp: as much contrast within the crop as in the photo; around it none is left."""
    rng = np.random.default_rng(0)
    photo = rng.integers(0, 256, (60, 60, 3)).astype(np.uint8)
    ids, visibility = seeing((0.25, 0.25, 0.75, 0.75))
    crops = []

    class Watching(MeanColour):
        def encode_image(self, images: torch.Tensor) -> torch.Tensor:
            crops.extend(images)
            return super().encode_image(images)

    pose = Pose(2, 0, (0.0, 0.0, 1.0, 1.0))
    encode_instance_crops([pose], ids, [visibility], lambda view: photo, Watching(native=60),
            CropConfig(margins=(0.0,), blur=0.1))  # fmt: skip
    crop, _ = crops
    inner, border = crop[:, 20:40, 20:40], crop[:, :, :10]
    assert crop.shape == (3, 60, 60) and border.std() < 0.25 * inner.std()
    whole = torch.from_numpy(photo.transpose(2, 0, 1)) / 255.0
    torch.testing.assert_close(inner, whole[:, 20:40, 20:40].to(inner), atol=1e-3, rtol=0)


def test_points_of_a_thing_speak_together_in_a_basis_that_holds_it() -> None:
    """The embedding points out of the old basis; afterwards cosines are those of the full vectors."""
    rng = np.random.default_rng(0)
    axes = np.linalg.qr(rng.normal(size=(16, 3)))[0].astype(np.float32)
    unit = lambda rows: rows / np.linalg.norm(rows, axis=-1, keepdims=True)  # noqa: E731
    vectors = unit(rng.normal(size=(800, 3)) + 0.5).astype(np.float32)
    ids, room = np.repeat([0, 1, 2, 0], 200), np.repeat([0, 0, 1, 1], 200)
    instance_crops = np.stack([np.eye(16, dtype=np.float32)[5], np.zeros(16, np.float32)])
    wide = Basis(np.pad(axes, ((0, 0), (0, 5))), 0.0)
    config = CropConfig(share=0.4, pooled=0.3)
    basis, mixed = add_instance_crops(wide, np.pad(vectors, ((0, 0), (0, 5))), ids, instance_crops, room, config)
    full = vectors.copy()
    for rows in (slice(200, 400), slice(400, 600), slice(600, 800)):
        full[rows] = unit(0.7 * vectors[rows] + 0.3 * unit(vectors[rows].mean(0)))
    full = full @ axes.T
    full[ids == 1] = 0.6 * full[ids == 1] + 0.4 * instance_crops[0]
    asked = rng.normal(size=(16, 5)).astype(np.float32)
    np.testing.assert_allclose(basis.expand(mixed) @ asked, unit(full) @ asked, atol=1e-3)


def test_a_basis_holds_the_embedding_of_an_instance_that_no_sample_is_of() -> None:
    vectors = np.eye(16, 4, dtype=np.float32).T[np.arange(400) % 4]
    basis, ids = fit_basis(vectors, 6), (np.arange(400) == 7).astype(int)
    face = np.eye(16, dtype=np.float32)[9:10]
    samples = [seed for seed in range(5) if 7 not in np.random.default_rng(seed).permutation(400)[:40]]
    assert samples
    made, _ = add_instance_crops(basis, basis.reduce(vectors), ids, face, samples=40, seed=samples[0])
    np.testing.assert_allclose(np.linalg.norm(made.reduce(face)), 1, atol=1e-4)


def test_nothing_to_portray_changes_nothing() -> None:
    assert choose_poses(np.zeros(100, int), [square(0, 100, 0.1, 0.2)]) == []
    clip, ids = MeanColour(), np.zeros(40, int)
    none = encode_instance_crops([], ids, [], lambda view: np.zeros((4, 4, 3), np.uint8), clip)
    assert none.shape == (0, clip.dim) and not clip.crops
    vectors = np.eye(4, dtype=np.float32)[np.arange(40) % 3]
    basis = fit_basis(vectors, 3)
    same = add_instance_crops(basis, basis.reduce(vectors), ids, none)
    np.testing.assert_allclose(same[0].expand(same[1]), vectors, atol=1e-5)


def test_many_things_are_seen_in_fewer_photos_by_a_large_encoder() -> None:
    config = CropConfig(views=6, margins=(0.1, 0.8))
    crop = 4.0 * 224 * 224

    def views(instances: int, budget: float) -> int:
        return config.affordable(instances, (224, 224), budget).views

    assert views(10, 60 * crop) == 6 and views(10, 59 * crop) == 5 and views(20, 59 * crop) == 2
    assert views(1000, 59 * crop) == 1, "each instance is seen at least once"
    assert views(10, 1e12) == 6 and views(0, 59 * crop) == 6
    assert config.affordable(20, (112, 112), 59 * crop).views == 6, "four small crops cost what a large one does"
