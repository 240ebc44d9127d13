"""Pseudo images: the renderer against a slow one, what it hides and fills, the choice of views, and names by them."""

from dataclasses import replace

import numpy as np
import pytest
from box_rooms import Room
from fake_encoders import MeanColour

from ovseg3d.errors import ShapeError
from ovseg3d.heads.detection import Detector, Names
from ovseg3d.heads.naming import PictureNamer, pictures
from ovseg3d.heads.naming.pseudo_images import (
    BACKGROUND,
    DEPTH_TOLERANCE,
    PIXEL_REACH,
    Surfels,
    coloured_surfels,
    drawable,
    fill_holes,
    lit,
    render,
)
from ovseg3d.heads.naming.viewpoints import choose_viewpoints
from ovseg3d.scene import PointCloud
from ovseg3d.scene.cameras import Camera

RED, BLUE, GREY = (1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.4, 0.4, 0.4)


def camera(side: int = 48, c2w: np.ndarray | None = None) -> Camera:
    """At the origin, along z; half of the picture is as wide as it is far away."""
    return Camera(side, side, side / 2, side / 2, side / 2, side / 2, np.eye(4) if c2w is None else c2w)


def wall(rng: np.random.Generator, z: float, half: float, rgb: tuple[float, ...], count: int = 4000) -> PointCloud:
    """A square across the camera's axis."""
    xyz = np.column_stack([rng.uniform(-half, half, (count, 2)), np.full(count, z)])
    return PointCloud(xyz, np.tile([0.0, 0.0, 1.0], (count, 1)), np.tile(np.float32(rgb), (count, 1)))


def joined(*clouds: PointCloud) -> PointCloud:
    parts = [np.concatenate([getattr(cloud, name) for cloud in clouds]) for name in ("xyz", "normal", "rgb")]
    return PointCloud(*parts)


def share_of(image: np.ndarray, rgb: tuple[float, ...]) -> float:
    """Of pixels that are nearer to a colour than to grey."""
    return float((np.abs(image - rgb).sum(-1) < 0.5).mean())


def slow_picture(surfels: Surfels, camera: Camera, near: float) -> tuple[np.ndarray, np.ndarray]:
    """Colour and depth by tracing every pixel's ray to every disc; NaN where it meets none."""
    rgb, depth = np.full((camera.height, camera.width, 3), np.nan), np.full((camera.height, camera.width), np.nan)
    axes = camera.c2w[:3, :3]
    for row in range(camera.height):
        for column in range(camera.width):
            ray = axes @ [(column + 0.5 - camera.cx) / camera.fx, (row + 0.5 - camera.cy) / camera.fy, 1.0]
            hits = []
            for xyz, normal, colour, radius in zip(surfels.xyz, surfels.normal, surfels.rgb, surfels.radius):
                local = axes.T @ (xyz - camera.position)
                if local[2] <= near:
                    continue
                at = normal @ (xyz - camera.position) / (normal @ ray)
                away = np.sum((camera.position + at * ray - xyz) ** 2) / radius**2
                x, y = local[0] / local[2] * camera.fx + camera.cx, local[1] / local[2] * camera.fy + camera.cy
                if away <= 1:
                    hits.append((at, np.exp(-2 * away), colour, radius))
                elif np.hypot(x - column - 0.5, y - row - 0.5) <= PIXEL_REACH:
                    hits.append((local[2], np.exp(-2), colour, radius))
            if hits:
                front = min(hit[0] for hit in hits)
                same = [hit for hit in hits if hit[0] <= front + DEPTH_TOLERANCE * hit[3]]
                weight = np.array([hit[1] for hit in same])
                rgb[row, column] = weight @ [hit[2] for hit in same] / weight.sum()
                depth[row, column] = weight @ [hit[0] for hit in same] / weight.sum()
    return rgb, depth


def test_the_renderer_is_a_slow_one() -> None:
    rng = np.random.default_rng(3)
    normal = rng.normal(size=(60, 3))
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    surfels = Surfels(
        rng.uniform((-1, -1, 0.8), (1, 1, 3), (60, 3)), normal, rng.uniform(0, 1, (60, 3)), rng.uniform(0.02, 0.4, 60)
    )
    turn = np.eye(4)
    turn[:3, :3] = [[0.8, 0, 0.6], [0, 1, 0], [-0.6, 0, 0.8]]
    turn[:3, 3] = (-0.7, 0.1, -0.2)
    for view, near in ((camera(24), 0.0), (camera(24, turn), 1.5)):
        rgb, depth = slow_picture(surfels, view, near)
        found = render(surfels, view, near)
        seen = found.covered
        # Other pixels are holes, or far surfaces in narrow gaps of near ones.
        assert not (seen & np.isnan(depth)).any() and 0.6 < seen.sum() / np.isfinite(depth).sum() <= 1
        np.testing.assert_allclose(found.rgb[seen], rgb[seen], atol=2e-3)
        np.testing.assert_allclose(found.depth_z[seen], depth[seen], atol=2e-3)


def test_a_pixel_knows_its_disc() -> None:
    rng = np.random.default_rng(0)
    cloud = joined(wall(rng, 2.0, 0.7, RED, 900), wall(rng, 3.0, 4.0, GREY))
    found = render(coloured_surfels(cloud), camera())
    shows = (found.point >= 0) & (found.point < 900)
    assert ((found.point >= 0) == found.covered).all() and found.covered.mean() > 0.97
    assert shows[20:28, 20:28].mean() > 0.9 and not shows[:10].any()
    assert share_of(found.rgb[shows], RED) > 0.85 and share_of(found.rgb[~shows], RED) == 0


def test_a_lamp_shows_edges_between_faces() -> None:
    xyz = np.array([[0.0, 0, 3], [0, 0, 3], [1, 0, 3], [-1, 0, 3], [0, 1, 3], [0, -1, 3]])
    normal = np.array([[0.0, 0, 1], [0, 0, -1], [-1, 0, 0], [1, 0, 0], [0, -1, 0], [0, 1, 0]])
    grey = Surfels(xyz, normal, np.full((6, 3), 0.5, np.float32), np.ones(6))
    front, same, left, right, top, bottom = lit(grey, camera()).rgb[:, 0]
    assert front == same  # the sign of a normal does not matter
    assert front > top > left > right == bottom == 0.25  # the lamp is before the thing, above it, and to its left


def test_what_is_behind_a_wall_is_hidden() -> None:
    rng = np.random.default_rng(0)
    cloud = joined(wall(rng, 2.0, 3.0, GREY), wall(rng, 3.0, 0.5, RED))
    surfels = coloured_surfels(cloud)
    assert share_of(render(surfels, camera()).rgb, RED) == 0
    assert render(surfels, camera()).depth_z == pytest.approx(np.full((48, 48), 2.0), abs=1e-3)
    # Cut away, it hides nothing.
    assert share_of(render(surfels, camera(192), near=2.5).rgb, RED) == pytest.approx((0.5 / 3) ** 2, rel=0.15)
    alone = render(coloured_surfels(wall(rng, 3.0, 0.5, RED)), camera())
    assert (alone.rgb[0, 0] == BACKGROUND).all() and alone.depth_z[0, 0] == 0 and not alone.covered[0, 0]


def test_nothing_shines_through_the_gaps_of_a_sparse_wall() -> None:
    rng = np.random.default_rng(1)
    sparse = wall(rng, 2.0, 2.2, GREY, 700)
    surfels = coloured_surfels(joined(sparse, wall(rng, 3.0, 3.2, RED, 8000)))
    found, hidden = render(surfels, camera(96)), render(coloured_surfels(sparse), camera(96))
    gaps = ~hidden.covered
    assert 0.002 < gaps.mean() < 0.1  # there are gaps
    assert share_of(found.rgb, RED) < 0.1 * gaps.mean()


def test_holes_of_a_sparse_plane_are_filled() -> None:
    rng = np.random.default_rng(2)
    cloud = wall(rng, 2.0, 2.2, BLUE, 600)
    gaps = np.linalg.norm(cloud.xyz[:, None, :2] - rng.uniform(-1.5, 1.5, (6, 2)), axis=-1).min(1) < 0.3
    found = render(coloured_surfels(cloud.take(np.flatnonzero(~gaps))), camera(96))
    assert 0.9 < found.covered.mean() < 0.99
    assert share_of(found.rgb, BLUE) == 1 and found.depth_z == pytest.approx(np.full((96, 96), 2.0), abs=1e-3)


def test_filling_does_not_bleed_over_an_edge_of_depth() -> None:
    """A near red square, a far blue plane, and a ring around the square that nobody has scanned."""
    image, covered = np.zeros((200, 200, 4)), np.ones((200, 200), bool)
    image[:] = (*BLUE, 4.0)
    covered[14:46, 14:46] = False
    image[20:40, 20:40], covered[20:40, 20:40] = (*RED, 1.0), True
    image[~covered] = 0
    filled = fill_holes(image, covered)
    assert (filled[~covered] == (*BLUE, 4.0)).all()
    assert (filled[covered] == image[covered]).all()


def test_what_has_no_surface_on_both_sides_stays_empty() -> None:
    image, covered = np.zeros((100, 100, 4)), np.zeros((100, 100), bool)
    image[:, :5], covered[:, :5] = (*RED, 1.0), True
    image[:, 40:], covered[:, 40:] = (*RED, 1.0), True  # too far from the other
    assert (fill_holes(image, covered)[:, 5:40] == 0).all()
    image[:, 15:], covered[:, 15:] = (*RED, 1.0), True
    assert (fill_holes(image, covered)[:, 5:15] == (*RED, 1.0)).all()


def test_views_avoid_walls_and_what_stands_in_front() -> None:
    """A cube stands against a wall; a screen hides it from one side."""
    rng = np.random.default_rng(0)
    cube = np.array([(0, 0, 0.5)]) + 0.5 * _cube(rng, 1500)
    behind = np.column_stack([rng.uniform(-3, 3, 6000), np.full(6000, 0.51), rng.uniform(0, 3, 6000)])
    screen = np.column_stack([np.full(2000, 0.7), rng.uniform(-0.8, 0.5, 2000), rng.uniform(0, 1.6, 2000)])
    xyz, own = np.concatenate([cube, behind, screen]), np.arange(len(cube))
    found = choose_viewpoints(xyz, own, np.array([0, 0, 0.5, 1, 1, 1, 0]), count=2, side=64)
    shares = [one.visibility for one in found]
    assert len(found) == 2 and shares == sorted(shares, reverse=True) and 0.1 < shares[0] < 0.6
    for one in found:
        x, y, z = one.camera.position
        assert y < 0 and x < 0.1 and z > 0.5


def _cube(rng: np.random.Generator, count: int) -> np.ndarray:
    """Points on the faces of a cube from -1 to 1."""
    points = rng.uniform(-1, 1, (count, 3))
    axis = rng.integers(0, 3, count)
    points[np.arange(count), axis] = rng.choice([-1.0, 1.0], count)
    return points


def test_colours_that_are_no_colours() -> None:
    rng = np.random.default_rng(0)
    cloud = wall(rng, 2.0, 1.0, RED, 300)
    with pytest.raises(ShapeError, match="no colours"):
        coloured_surfels(PointCloud(cloud.xyz))
    with pytest.raises(ShapeError, match="10 points"):
        coloured_surfels(cloud.take(np.arange(10)))
    assert not drawable(PointCloud(cloud.xyz)).any() and not drawable(cloud).any()  # none, and one
    assert cloud.rgb is not None
    cloud.rgb[0] = BLUE
    cloud.rgb[100:], cloud.xyz[50] = np.nan, np.inf
    assert np.flatnonzero(drawable(cloud)).tolist() == [*range(50), *range(51, 100)]


# Names


@pytest.fixture(scope="module")
def two_boxes() -> tuple[PointCloud, np.ndarray]:
    """A grey floor and wall with a red and a blue box, which are alike; and the instance of each point."""
    room = Room().sheet((-2, -2, 0), (4, 0, 0), (0, 4, 0), (0, 0, 1), 0, 0)
    room.sheet((-2, 2, 0), (4, 0, 0), (0, 0, 2), (0, -1, 0), 0, 0)
    room.box((-0.9, 0.5, 0), (0.6, 0.5, 0.7), 1, 1).box((0.9, 0.5, 0), (0.6, 0.5, 0.7), 2, 1)
    instance = np.concatenate(room.instance)
    rgb = np.array([GREY, (0.75, 0.15, 0.1), (0.1, 0.25, 0.75)], np.float32)[instance]
    return PointCloud(np.concatenate(room.xyz), np.concatenate(room.normal), rgb), instance


NAMES = Names(("blue box", "red box"), np.eye(1, 192).repeat(2, 0), np.zeros((0, 192)))
"""Which are the same to the head."""


def labels(cloud: PointCloud, instance: np.ndarray, namer: PictureNamer | None) -> dict[int, str | None]:
    found = Detector(min_score=0.0).detect(
        cloud, names=NAMES, instance=instance, namers=[] if namer is None else [namer]
    )
    return {int(instance[one.points[0]]): one.label for one in found}


def test_a_red_box_is_told_from_a_blue_one(two_boxes: tuple[PointCloud, np.ndarray]) -> None:
    cloud, instance = two_boxes
    encoder = MeanColour()
    assert labels(cloud, instance, PictureNamer(encoder)) == {1: "red box", 2: "blue box"}
    assert labels(cloud, instance, None) == {1: "blue box", 2: "blue box"}
    assert sum(shape[0] for shape in encoder.crops) == 4  # two views of each
    # In any frame and unit.
    fallen = replace(cloud, xyz=100 * cloud.xyz[:, [0, 2, 1]] * [1, 1, -1], normal=None)
    found = Detector(min_score=0.0).detect(
        fallen,
        up=(0.0, 1.0, 0.0),
        metres_per_unit=0.01,
        names=NAMES,
        instance=instance,
        namers=[PictureNamer(MeanColour())],
    )
    assert {int(instance[one.points[0]]): one.label for one in found} == {1: "red box", 2: "blue box"}


@pytest.mark.parametrize("rgb", [None, np.ones(3), np.full(3, np.nan)], ids=["none", "white", "NaN"])
def test_clouds_without_colours_are_named_as_before(two_boxes: tuple[PointCloud, np.ndarray], rgb) -> None:
    cloud, instance = two_boxes
    plain = replace(cloud, rgb=None if rgb is None else np.tile(rgb, (len(cloud), 1)).astype(np.float32))
    encoder, boxes = MeanColour(), np.array([[-0.9, 0.5, 0.35, 0.6, 0.5, 0.7, 0]])
    vectors = PictureNamer(encoder).embed(plain, boxes, instance - 1)
    assert not vectors.any() and not encoder.crops
    assert np.ptp(PictureNamer(encoder).log_probabilities(vectors, ["red", "blue"])) == 0
    if rgb is None:
        assert labels(plain, instance, PictureNamer(encoder)) == labels(plain, instance, None)


def test_objects_that_nothing_shows_and_points_without_colours(two_boxes: tuple[PointCloud, np.ndarray]) -> None:
    cloud, instance = two_boxes
    assert cloud.rgb is not None
    rgb = cloud.rgb.copy()
    rgb[::3] = np.nan
    boxes = np.array([[-0.9, 0.5, 0.35, 0.6, 0.5, 0.7, 0], [0.9, 0.5, 0.35, 0.6, 0.5, 0.7, 0], [50, 0, 0, 1, 1, 1, 0]])
    namer = PictureNamer(MeanColour())
    vectors = namer.embed(replace(cloud, rgb=rgb), boxes, instance - 1)
    said = namer.log_probabilities(vectors, ["a red box", "a blue box"])
    assert said.argmax(1)[:2].tolist() == [0, 1] and not vectors[2].any()
    np.testing.assert_allclose(np.exp(said).sum(1), 1, atol=1e-6)


def test_huge_clouds_are_thinned(two_boxes: tuple[PointCloud, np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    cloud, instance = two_boxes
    boxes, counts = np.array([[-0.9, 0.5, 0.35, 0.6, 0.5, 0.7, 0]]), []
    monkeypatch.setattr(pictures, "MAX_POINTS", 5000)
    monkeypatch.setattr(pictures, "coloured_surfels", lambda some: counts.append(len(some)) or coloured_surfels(some))
    vectors = PictureNamer(MeanColour()).embed(cloud, boxes, instance - 1)
    assert 2500 <= counts[0] <= 5000 < len(cloud) and vectors.any()
