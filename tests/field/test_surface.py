"""Surface points of a field in closed form, whose true surface is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from ovseg3d.engine import Workers
from ovseg3d.errors import RunError
from ovseg3d.field.box import FieldBox
from ovseg3d.field.config import FieldConfig
from ovseg3d.field.kernels import WarpBackend
from ovseg3d.field.levels import grid_levels
from ovseg3d.field.occupancy import OccupancyGrid
from ovseg3d.field.radiance import RadianceField
from ovseg3d.field.reference import TorchBackend
from ovseg3d.field.renderer import NEAR, Renderer
from ovseg3d.field.surface import DepthView, SurfaceConfig, between, extract_surface, look, normals
from ovseg3d.scene import Camera, Cameras

UP = np.array([0.0, 0.0, 1.0])
CONFIG = SurfaceConfig(points=4000, pixels=2500, relative=0.01)
BOX = FieldBox(center=(0.0, 0.0, 0.0), radius=2.0, open=False, cascades=1, near=0.01)


# -- a field in closed form --------------------------------------------------------------------------------------


def sphere(center, radius):
    def meet(origins, directions):
        apart = origins - np.asarray(center)
        b = (apart * directions).sum(-1)
        under = b * b - (apart * apart).sum(-1) + radius**2
        t = -b - np.sqrt(np.maximum(under, 0))
        return np.where((under > 0) & (t > 0), t, np.inf)

    return meet


def slab(low, high):
    def meet(origins, directions):
        with np.errstate(divide="ignore", invalid="ignore"):
            a, b = (np.asarray(low) - origins) / directions, (np.asarray(high) - origins) / directions
        enter, leave = np.minimum(a, b).max(-1), np.maximum(a, b).min(-1)
        return np.where((enter < leave) & (enter > 0), enter, np.inf)

    return meet


class Drawn(Renderer):
    """Renders shapes in closed form; `extra` are shapes that only the camera of that number shows."""

    def __init__(self, *shapes, box=BOX, extra=None):
        self.shapes, self.box, self.extra, self.number = shapes, box, extra or {}, 0

    def render(self, camera, normals=False, termination=False):
        origins, directions = camera.rays(camera.pixel_centres())
        shapes = [*self.shapes, *self.extra.get(self.number, [])]
        self.number += 1
        t = np.min([shape(origins, directions) for shape in shapes], axis=0)
        met = np.isfinite(t)
        depth = np.where(met, np.where(met, t, 0) * (directions @ camera.forward), 0.0)
        size = (camera.height, camera.width)
        rgb = np.where(met[:, None], [0.2, 0.4, 0.6], 1.0).reshape(*size, 3)
        return {
            "rgb": rgb, "depth_z": depth.reshape(size), "opacity": met.astype(np.float32).reshape(size),
            "termination": met.astype(np.float32).reshape(size),
        }  # fmt: skip


def camera_at(eye, target=(0.0, 0.0, 0.0), size=50, focal=55.0, **lens) -> Camera:
    eye = np.asarray(eye, dtype=float)
    forward = np.asarray(target) - eye
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, UP if abs(forward[2]) < 0.99 else [0.0, 1.0, 0.0])
    right /= np.linalg.norm(right)
    c2w = np.eye(4)
    c2w[:3] = np.stack([right, np.cross(forward, right), forward, eye], axis=1)
    return Camera(size, size, focal, focal, size / 2, size / 2, c2w, **lens)


def ring(count=8, radius=3.0, height=1.5, **lens) -> list[Camera]:
    turns = 2 * np.pi * np.arange(count) / count
    return [camera_at((radius * np.cos(a), radius * np.sin(a), height), **lens) for a in turns]


def surface_of(renderer, cameras, config=CONFIG):
    return extract_surface(renderer, list(look(renderer, cameras, config)), UP, True, config)


# -- extract_surface -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("is_open", [False, True])
def test_the_points_of_a_sphere_lie_on_it(is_open, turned):
    rotation = Rotation.from_euler("xyz", [0.4, -0.3, 0.8]).as_matrix() if turned else np.eye(3)
    box = replace(
        BOX, open=is_open, center=(0.3, 0.1, -0.2), cascades=4 if is_open else 1,
        rotation=tuple(map(tuple, rotation.tolist())),
    )  # fmt: skip
    cameras = ring() + ring(6, height=-1.5)
    surface = surface_of(Drawn(sphere((0.3, 0.1, -0.2), 0.8), box=box), cameras)
    apart = surface.xyz - np.array([0.3, 0.1, -0.2])
    distance = np.linalg.norm(apart, axis=1)
    assert 500 < len(surface) <= CONFIG.points
    # The mean of a cell lies below a curved surface by no more than about cell^2 / 8r.
    assert np.abs(distance - 0.8).max() < 0.01
    assert ((surface.normal * apart).sum(1) / distance).min() > 0.95
    np.testing.assert_allclose(np.linalg.norm(surface.normal, axis=1), 1, atol=1e-5)
    assert (surface.rgb == [51, 102, 153]).all()
    assert 0 < surface.confidence.min() and 0.6 < np.median(surface.confidence) < 1
    assert surface.metric and (surface.up == UP).all()
    # Every visible side has points; the poles are the hardest.
    directions = np.random.default_rng(0).normal(size=(200, 3))
    directions[:, 2] *= 0.5
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    assert (np.linalg.norm(apart[:, None] / 0.8 - directions, axis=-1).min(0)).max() < 0.15


def test_the_cell_is_about_the_distance_to_the_next_point():
    surface = surface_of(
        Drawn(slab((-1, -1, -0.1), (1, 1, 0))), [camera_at((x, y, 3.0)) for x in (-1, 1) for y in (0, 1)]
    )
    xyz = surface.xyz[np.abs(surface.xyz[:, :2]).max(1) < 0.8]
    apart = np.linalg.norm(xyz[:, None] - xyz[None], axis=-1) + 9 * np.eye(len(xyz))
    assert 0.5 < np.median(apart.min(1)) / np.median(surface.cell) < 1.5


def test_there_are_never_more_points_than_asked_for():
    for most in (50, 700):
        assert 0 < len(surface_of(Drawn(sphere((0, 0, 0), 0.8)), ring(), replace(CONFIG, points=most))) <= most


def test_a_point_is_the_mean_of_several_hits():
    renderer = Drawn(sphere((0, 0, 0), 0.8))
    views = list(look(renderer, ring(), CONFIG))
    hits = sum((view.depth_z > 0).sum() for view in views)
    for each in (4, 20):
        config = replace(CONFIG, points=10**6, hits=each)
        assert 0.3 * hits / each < len(extract_surface(renderer, views, UP, True, config)) <= hits / each + 1


def test_far_things_take_larger_cells():
    box = replace(BOX, radius=0.5, open=True, cascades=5)
    near, far = slab((-0.4, -0.4, -0.5), (0.4, 0.4, -0.3)), slab((-8, 6, -4), (8, 6.1, 4))
    cameras = [camera_at((x, -2.0, 0.6), (0, 1, 0)) for x in (-0.4, 0, 0.4)]
    surface = surface_of(Drawn(near, far, box=box), cameras, replace(CONFIG, points=1500))
    is_far = surface.xyz[:, 1] > 5
    assert is_far.sum() > 20 and (~is_far).sum() > 20
    # Contraction scales by the square of the largest coordinate in field units, 12 and more at the wall.
    assert surface.cell[is_far].min() > 100 * surface.cell[~is_far].max()
    at = np.abs(surface.xyz[is_far]).max(1) / 0.5
    ratio = surface.cell[is_far] / surface.cell[~is_far].min()
    np.testing.assert_allclose(ratio, at**2, rtol=0.15)


def test_a_floater_that_others_see_through_goes():
    floater = sphere((0.9, 0.0, 1.0), 0.15)
    ground, cameras = slab((-1.5, -1.5, -0.1), (1.5, 1.5, 0)), ring()
    kept = surface_of(Drawn(ground, floater), cameras)
    assert (kept.xyz[:, 2] > 0.5).sum() > 5
    for shown in ({0: [floater]}, {0: [floater], 1: [floater], 2: [floater]}):
        assert (surface_of(Drawn(ground, extra=shown), cameras).xyz[:, 2] < 0.1).all()


def test_what_few_views_see_is_less_sure_than_what_many_see():
    ground, cameras = slab((-1.5, -1.5, -0.1), (1.5, 1.5, 0)), ring(8)
    few, many = surface_of(Drawn(ground), cameras[:2]), surface_of(Drawn(ground), cameras)
    # Of 2 or 8 views, all of which see the middle, with `support` more that do not.
    for surface, sure in ((few, 2 / 4), (many, 8 / 10)):
        middle = np.linalg.norm(surface.xyz[:, :2], axis=1) < 0.5
        assert middle.sum() > 20
        np.testing.assert_allclose(np.median(surface.confidence[middle]), sure, rtol=1e-6)


def test_a_floater_before_nothing_goes_too():
    """Rays without a hit see through the floater, too."""
    floater = sphere((0.0, 0.0, 1.2), 0.15)
    low = [camera_at((3 * np.cos(a), 3 * np.sin(a), 0.3), (0, 0, 0.6)) for a in np.arange(8) * np.pi / 4]
    instance = sphere((0, 0, 0), 0.4)
    surface = surface_of(Drawn(instance, extra={0: [floater], 1: [floater]}), low)
    assert surface.xyz[:, 2].max() < 0.5


def test_thin_things_are_not_taken_for_floaters():
    """A pole is hardly wider than a pixel: background beside it must not count as seeing through it."""
    pole, ground = slab((0.21, 0.13, 0), (0.26, 0.18, 1)), slab((-1.5, -1.5, -0.1), (1.5, 1.5, 0))
    surface = surface_of(Drawn(pole, ground), ring(12, height=1.0))
    heights = surface.xyz[surface.xyz[:, 2] > 0.05][:, 2]
    assert np.histogram(heights, 10, (0.05, 1.0))[0].min() > 0
    assert surface.confidence[surface.xyz[:, 2] > 0.1].min() > 0.65


def test_what_one_view_alone_sees_is_dropped():
    ground, cameras = slab((-1.5, -1.5, -0.1), (1.5, 1.5, 0)), [camera_at((-0.8, 0, 2), (-0.8, 0, 0), focal=100.0)]
    cameras += [camera_at((0.8, y, 2), (0.8, y, 0), focal=100.0) for y in (0.0, 0.1)]
    surface = surface_of(Drawn(ground), cameras)
    assert surface.xyz[:, 0].min() > 0.2
    alone = surface_of(Drawn(ground), cameras[:1])
    assert len(alone) > 100 and alone.xyz[:, 0].max() < 0


def test_equal_input_gives_equal_bits_in_any_order_of_views():
    renderer = Drawn(sphere((0, 0, 0), 0.8), slab((-1.5, -1.5, -0.9), (1.5, 1.5, -0.8)))
    views = list(look(renderer, ring(), CONFIG))
    first = extract_surface(renderer, views, UP, False, CONFIG)
    for again in (views, views[::-1], [views[i] for i in (3, 1, 7, 0, 2, 6, 5, 4)]):
        other = extract_surface(renderer, again, UP, False, CONFIG)
        for name in ("xyz", "normal", "rgb", "confidence", "cell"):
            assert getattr(first, name).tobytes() == getattr(other, name).tobytes(), name


def test_a_field_that_shows_nothing_is_an_error_with_a_fix():
    renderer = Drawn(sphere((0, 0, 50), 0.1))
    for views in ([], list(look(renderer, ring(), CONFIG))):
        with pytest.raises(RunError, match="no surface") as caught:
            extract_surface(renderer, views, UP, True, CONFIG)
        assert caught.value.fix
    disagreeing = Drawn(sphere((0, 0, 50), 0.1), extra={i: [sphere((0, 0, 0), 0.1 + 0.3 * i)] for i in range(3)})
    with pytest.raises(RunError, match="two views agree") as caught:
        surface_of(disagreeing, ring(3))
    assert caught.value.fix


def test_hits_without_focus_are_not_taken():
    renderer = Drawn(sphere((0, 0, 0), 0.8))
    views = [replace(view, termination=np.full_like(view.termination, 0.4)) for view in look(renderer, ring(), CONFIG)]
    with pytest.raises(RunError, match="no surface"):
        extract_surface(renderer, views, UP, True, CONFIG)


def test_some_points_of_a_surface():
    surface = surface_of(Drawn(sphere((0, 0, 0), 0.8)), ring())
    some = surface.take(surface.xyz[:, 2] > 0)
    assert 0 < len(some) < len(surface) and (some.xyz[:, 2] > 0).all() and len(some.normal) == len(some)
    assert (
        len(surface.take(np.array([3, 1]))) == 2 and (surface.take(np.array([3, 1])).xyz == surface.xyz[[3, 1]]).all()
    )


def test_normals_of_few_points_are_unit_vectors_towards_the_cameras():
    for count in (1, 2, 3):
        xyz = np.eye(3)[:count]
        found = normals(xyz, np.full((count, 3), 0.7), 32)
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1)
        assert (found.sum(1) > -1e-9).all()


# -- look and between ------------------------------------------------------------------------------------------


def test_looking_is_small_reports_and_stops():
    import threading

    events, stop = [], threading.Event()
    cameras = [replace(camera, width=400, cx=200.0, fx=120.0) for camera in ring(3)]
    views = look(Drawn(sphere((0, 0, 0), 0.8)), cameras, replace(CONFIG, pixels=1000), events.append, stop)
    first = next(views)
    assert first.depth_z.shape == (first.camera.height, first.camera.width)
    assert 900 <= first.camera.width * first.camera.height <= 1100
    next(views)
    stop.set()
    assert list(views) == []
    assert [(event.step, event.steps) for event in events] == [(1, 3), (2, 3)]


def test_light_that_hardly_stops_is_no_hit():
    class Fog(Drawn):
        def render(self, camera, normals=False, termination=False):
            return super().render(camera) | {"opacity": np.full((camera.height, camera.width), 0.4, np.float32)}

    view = next(look(Fog(sphere((0, 0, 0), 0.8)), ring(1), CONFIG))
    assert not view.depth_z.any() and not view.termination.any()


def test_between_stands_half_way_and_names_no_pair_twice():
    cameras = ring(8)
    made = between(cameras)
    # Each has two neighbours that are as near as each other; each pair is named once.
    assert 4 <= len(made) <= 8
    places = {tuple(np.round(camera.position, 9)) for camera in made}
    assert len(places) == len(made)
    middles = [(cameras[i].position + cameras[(i + 1) % 8].position) / 2 for i in range(8)]
    for camera in made:
        assert min(np.linalg.norm(camera.position - middle) for middle in middles) < 1e-9
        np.testing.assert_allclose(camera.c2w[:3, :3] @ camera.c2w[:3, :3].T, np.eye(3), atol=1e-12)
        # Half way between two that look at the middle, one still looks at the axis.
        assert camera.forward[:2] @ camera.position[:2] < -0.9 * np.linalg.norm(camera.position[:2]) * 0.85


def test_between_prefers_those_that_look_alike():
    a, b = camera_at((0, 0, 0), (1, 0, 0)), camera_at((0.1, 0, 0), (-1, 0, 0))
    c = camera_at((0.3, 0, 0), (1.3, 0, 0))
    made = between([a, b, c])
    assert any(np.allclose(camera.position, [0.15, 0, 0]) and np.allclose(camera.forward, [1, 0, 0]) for camera in made)


def test_between_of_one_of_none_and_of_the_same_place():
    assert between([]) == [] and between(ring(1)) == []
    panorama = [camera_at((0, 0, 0), (np.cos(a), np.sin(a), 0)) for a in (0.0, 0.5, 1.0)]
    assert all(np.allclose(camera.position, 0) for camera in between(panorama))


# -- what a view sees ------------------------------------------------------------------------------------------


def view_of(camera: Camera, *shapes) -> DepthView:
    return next(look(Drawn(*shapes), [camera], replace(CONFIG, pixels=10**6)))


def some_cells(points, size=0.01):
    return np.full(len(points), size)


@pytest.mark.parametrize("target", [(0, 0, 0), (1.5, 1.5, 0)])
def test_a_slanted_surface_is_seen_up_to_the_picture_s_border(target):
    """Points anywhere in a pixel, not only at its centre, belong to the surface that it shows."""
    camera = camera_at((2.0, 1.5, 1.2), target, size=30, focal=25.0)
    view = view_of(camera, slab((-50, -50, -1), (50, 50, 0)))
    rng = np.random.default_rng(0)
    rows = np.flatnonzero((view.depth_z > 0).all(1) & (view.depth_z < 6).all(1))
    xy = np.stack([rng.uniform(0, 30, 4000), rng.uniform(rows[0], rows[-1] + 1, 4000)], -1)
    origins, directions = camera.rays(xy)
    points = origins - directions * (origins[:, 2] / directions[:, 2])[:, None]
    visibility = view.see(points, some_cells(points, 1e-3), replace(CONFIG, relative=1e-3))
    assert len(visibility.point) > 0.99 * len(points) and not len(visibility.through)
    np.testing.assert_allclose(visibility.xy * 30, xy[visibility.point], atol=1e-4)
    assert visibility.weight.min() > 0 and np.median(visibility.weight) > 0.99


def test_what_is_before_behind_and_outside():
    camera = camera_at((0, 0, 2), size=40, focal=40.0)
    view = view_of(camera, slab((-5, -5, -1), (5, 5, 0)))
    points = np.array(
        [
            [0, 0, 0],  # on the surface
            [0, 0, 1.0],  # before it: seen through
            [0, 0, -0.5],  # hidden
            [0, 0, 3.0],  # behind the camera
            [0, 0, 2.0],  # in it
            [1.01, 0, 0],  # just outside, the image spans 2 x 2 at this distance
            [0.99, 0.99, 0],
            [0, 0, 0.05],  # within two tolerances: neither
        ]
    )
    visibility = view.see(points, some_cells(points, 0.02), CONFIG)
    assert visibility.point.tolist() == [0, 6] and visibility.through.tolist() == [1]
    expected = [(0.5, 0.5), ((20 + 0.99 * 20 * camera.c2w[0, 0]) / 40, (20 + 0.99 * 20 * camera.c2w[1, 1]) / 40)]
    np.testing.assert_allclose(visibility.xy, expected, atol=1e-6)


def test_weight_falls_with_the_distance_from_the_surface():
    camera = camera_at((0, 0, 2), size=40, focal=40.0)
    view = view_of(camera, slab((-5, -5, -1), (5, 5, 0)))
    view = replace(view, termination=np.full_like(view.termination, 0.8))
    points = np.array([[0, 0, z] for z in (0.0, 0.015, 0.029, -0.015, 0.031)])
    visibility = view.see(points, some_cells(points, 0.02), CONFIG)
    assert visibility.point.tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(visibility.weight, [0.8, 0.4, 0.8 / 30, 0.4], atol=1e-5)


def test_far_away_tolerance_is_a_share_of_the_depth():
    camera = camera_at((0, 0, 10), size=40, focal=40.0)
    view = view_of(camera, slab((-50, -50, -1), (50, 50, 0)))
    points = np.array([[0, 0, 0.09], [0, 0, 0.11]])
    assert view.see(points, some_cells(points, 1e-4), CONFIG).point.tolist() == [0]


@pytest.mark.parametrize(
    "lens",
    [
        {"model": "OPENCV_FISHEYE", "distortion": (0.05, -0.01)},
        {"model": "OPENCV_FISHEYE", "focal": 14.0},
        {"distortion": (0.05, -0.03)},
        {"distortion": (-0.2, 0.02, 0.001, 0.002)},
    ],
)
def test_other_lenses_see_their_picture_and_nothing_else(lens):
    """Points all around: those in the image are where `project` puts them; none is behind or folded back into it."""
    camera = camera_at((0, 0, 0), (1, 0, 0), **({"focal": 30.0} | lens))
    directions = np.random.default_rng(1).normal(size=(4000, 3))
    points = 2 * directions / np.linalg.norm(directions, axis=1, keepdims=True)
    # The camera stands in a hollow ball.
    origins, ahead = camera.rays(camera.pixel_centres())
    depth = (2 * ahead @ camera.forward).reshape(50, 50)
    view = DepthView(camera, np.maximum(depth, 0), np.ones_like(depth), np.zeros((50, 50, 3)))
    visibility = view.see(points, some_cells(points, 0.1), CONFIG)
    assert not len(visibility.through) and len(visibility.point) > 50
    # Independent check: a visible point lies next to a pixel's ray, 0.71 pixels from it, or more where lenses squeeze.
    cosine = (points / 2) @ ahead.T
    near = np.arccos(cosine.max(1).clip(-1, 1)) < 1.3 / camera.fx
    assert near[visibility.point].all()
    seen = np.zeros(len(points), bool)
    seen[visibility.point] = True
    deep = (points @ camera.forward) > 0.7
    pixel = cosine.argmax(1)
    middle = np.abs(camera.pixel_centres()[pixel] - 25).max(1) < 23
    assert seen[near & deep & middle & (np.arccos(cosine.max(1).clip(-1, 1)) < 0.2 / camera.fx)].all()


def test_a_point_without_any_depth_behind_it_is_seen_through_only_where_all_is_empty():
    camera = camera_at((0, 0, 2), size=40, focal=40.0)
    view = view_of(camera, slab((-0.5, -5, -1), (0.5, 5, 0)))
    column = camera.project(np.array([[0.5, 0.0, 0.0]]))[0][0, 0]
    assert column == pytest.approx(30) or column == pytest.approx(10)
    points = np.array([[0.51, 0.0, 0.0], [0.8, 0.0, 0.0]])
    assert view.see(points, some_cells(points), CONFIG).through.tolist() == [1]


# -- termination -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", [WarpBackend, TorchBackend])
def test_focus_is_the_light_that_stops_near_the_median(backend):
    """Against a sum in plain Python over finely marched samples of the same field."""
    config = FieldConfig(
        levels=2, features=2, log2_table=9, base_resolution=4, max_resolution=8, hidden=8, geometry_features=3,
        occupancy_resolution=128, cone=0.0, cascades=1,
    )  # fmt: skip
    cpu = torch.device("cpu")
    operators = backend(grid_levels(config), cpu)
    field = RadianceField(config, cpu, seed=3)
    field.table.uniform_(-1, 1, generator=torch.Generator().manual_seed(5))
    field.network.mul_(9.0)
    occupancy = OccupancyGrid(torch.ones(1, 128, 128, 128, dtype=torch.bool), 0.01)
    box = replace(BOX, near=0.05)
    renderer = Renderer(field, operators, box, occupancy, config, Workers(1), white=True)
    camera = camera_at((2.5, 1.0, 2.0), size=9, focal=12.0)
    shown = renderer.render(camera, termination=True)
    assert "termination" not in renderer.render(camera)
    origins, directions, _ = Cameras.from_cameras([camera], box.field_from_input).grid(0)
    spans, layers, step = (
        box.spans(origins, directions),
        field.layers(field.network),
        config.step_size * 2.0 / config.occupancy_resolution,
    )
    expected, median_z = [], []
    for ray in range(len(origins)):
        t = spans[ray, 0] + step + torch.arange(0, float(spans[ray, 1] - spans[ray, 0]) - 0.5 * step, step)
        x = box.contract(origins[ray] + t[:, None] * directions[ray])
        density = field.density(TorchBackend(grid_levels(config), cpu).encode(x, field.table), layers)
        weights, left = [], 1.0
        for value in density.tolist():
            weights.append(left * (1 - np.exp(-value * step)))
            left *= np.exp(-value * step)
        half, reached, median = 0.5 * sum(weights), 0.0, 0.0
        for place, weight in zip(t.tolist(), weights):
            if reached < half <= reached + weight:
                median = place + step * ((half - reached) / weight - 0.5)
            reached += weight
        window = NEAR * max(median, 1.0)
        expected.append([sum(w for p, w in zip(t.tolist(), weights) if abs(p - median) <= size) for size in
                         (window - step, window + step)])  # fmt: skip
        median_z.append(
            median * box.radius * float(directions[ray] @ torch.tensor(camera.forward, dtype=torch.float32))
        )
    low, high = np.array(expected).T
    termination = shown["termination"].ravel()
    assert 0.02 < termination.mean() < 0.98 and termination.min() >= 0 and termination.max() <= 1 + 1e-5
    # A merged sample represents a few steps, so the limits of the sum are known to one step.
    assert ((termination > low - 0.02) & (termination < high + 0.02)).mean() > 0.95
    np.testing.assert_allclose(np.median(np.abs(shown["depth_z"].ravel() - median_z)), 0, atol=2 * step * box.radius)


def test_focus_of_walls_and_of_fog():
    """A wall stops all light at one depth; in thin fog it stops everywhere."""
    config = FieldConfig(levels=1, features=2, log2_table=9, hidden=8, occupancy_resolution=64, cone=0.0, cascades=1)
    cpu = torch.device("cpu")
    found = {}
    for name, value in (("wall", 200.0), ("fog", 0.5)):
        operators, field = WarpBackend(grid_levels(config), cpu), RadianceField(config, cpu)
        field.density = lambda features, layers, value=value: torch.full((len(features),), value)
        field.geometry = lambda features, layers, value=value: (
            torch.full((len(features),), value),
            torch.zeros(len(features), config.geometry_features),
        )
        occupancy = OccupancyGrid(torch.ones(1, 64, 64, 64, dtype=torch.bool), 0.01)
        renderer = Renderer(field, operators, BOX, occupancy, config, Workers(1), white=True)
        found[name] = renderer.render(camera_at((3.0, 0, 0), size=5, focal=20.0), termination=True)["termination"]
    assert found["wall"].min() > 0.99
    # A window of 2 x 0.02 field units around the median m, where transmittance is (1 + exp(-d L)) / 2.
    length, density = 2.0, 0.5
    middle = 0.5 * (1 + np.exp(-density * length))
    expected = middle * 2 * np.sinh(density * NEAR)
    assert found["fog"][2, 2] == pytest.approx(expected, rel=0.3)
