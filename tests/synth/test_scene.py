"""Output of `synth`: labels and depth against an intersection with every triangle, boxes, clouds and bytes."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ovseg3d.errors import ConfigError, OutputError, Ovseg3dError, SceneError
from ovseg3d.scene import load_depth, load_scene
from ovseg3d.synth import Views, surface_cloud, synthesise
from ovseg3d.synth.cameras import is_off_path
from ovseg3d.synth.make import ROOMS
from ovseg3d.synth.render import DRAFT
from ovseg3d.synth.rooms import Room
from ovseg3d.synth.world import flatten

TINY = Views(train=6, test=4, width=48, height=36, depth="all")


def transforms(folder: Path) -> dict:
    return json.loads((folder / "transforms.json").read_text())


def opencv_c2w(frame: dict) -> np.ndarray:
    return np.array(frame["transform_matrix"]) @ np.diag([1.0, -1, -1, 1])


def hashes(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def hits(corners: np.ndarray, origin: np.ndarray, way: np.ndarray) -> np.ndarray:
    """The ray's parameter at each triangle, infinite where it misses: a 3 x 3 solve, without any tree."""
    matrix = np.stack(
        [corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0], np.broadcast_to(-way, (len(corners), 3))], 2
    )
    good = np.abs(np.linalg.det(matrix)) > 1e-14
    u, v, t = np.linalg.solve(matrix[good], (origin - corners[good, 0])[..., None])[..., 0].T
    found = np.full(len(corners), np.inf)
    found[good] = np.where((u >= 0) & (v >= 0) & (u + v <= 1) & (t > 0), t, np.inf)
    return found


def test_the_scene_loads_with_its_split_and_classes(playroom):
    scene = load_scene(playroom)
    assert scene.format == "nerfstudio" and scene.metric
    assert len(scene.train) == 6 and len(scene.test) == 4
    assert scene.classes[1] == "floor" and len(scene.classes) >= 15
    assert scene.recommended_encoder == {"clip": "builtin", "dino": "builtin"}
    depth = load_depth(scene.frames[scene.test[0]], scene)
    assert depth.shape == (36, 48) and 0.2 < np.median(depth) < 6


def test_labels_and_depth_agree_with_an_independent_ray_cast(playroom):
    flat = flatten(ROOMS["playroom"]())
    corners = np.concatenate([p.soup.points for p in flat.parts])
    t = transforms(playroom)
    rng = np.random.default_rng(0)
    agree = total = 0
    for frame in t["frames"][::4]:
        c2w = opencv_c2w(frame)
        x, y = rng.integers(0, t["w"], 12), rng.integers(0, t["h"], 12)
        way = np.stack([(x + 0.5 - t["cx"]) / t["fl_x"], (y + 0.5 - t["cy"]) / t["fl_y"], np.ones(12)], 1)
        world = way @ c2w[:3, :3].T
        label = np.asarray(Image.open(playroom / frame["label_file_path"]))
        depth = np.asarray(Image.open(playroom / frame["depth_file_path"])) * t["depth_unit_scale_factor"]
        for k in range(12):
            z = hits(corners, c2w[:3, 3], world[k])  # the camera ray has z 1, so its parameter is z-depth
            assert depth[y[k], x[k]] == pytest.approx(z.min(), abs=2e-3)
            agree += label[y[k], x[k]] == flat.face_label[z.argmin()]
            total += 1
    # A ray that hits two surfaces at one point (a rug's seam) may return either.
    assert agree >= total - 1


def test_depth_of_the_bare_shell_is_the_analytic_box(tmp_path):
    from ovseg3d.synth.cameras import on_path
    from ovseg3d.synth.world import trace

    room = ROOMS["playroom"]()
    from dataclasses import replace

    bare = replace(room, objects=())
    tracer = trace(flatten(bare), bare, detail=DRAFT)
    c2w = on_path(room.cameras, 0.3)
    shot = tracer.photo(c2w, 32, 24, 22.0, side=0)
    v, u = np.mgrid[0:24, 0:32] + 0.5
    way = np.stack([(u - 16) / 22, (v - 12) / 22, np.ones_like(u)], -1) @ c2w[:3, :3].T
    half = np.array(room.size) / 2
    eye = c2w[:3, 3] - [0, 0, half[2]]
    expected = np.min(np.where(way > 0, (half - eye) / way, (-half - eye) / way), axis=-1)
    # The skirting stands out by 16 mm at most.
    assert np.all(shot.depth_z <= expected + 1e-3)
    assert np.median(np.abs(shot.depth_z - expected)) < 1e-4


def test_boxes_contain_their_surface_points_tightly(playroom):
    cloud = surface_cloud(playroom, points=150_000)
    classes = transforms(playroom)["classes"]
    assert cloud.classes == tuple(classes.values())
    from scipy.spatial.transform import Rotation

    checked = 0
    for item in json.loads((playroom / "objects.json").read_text()):
        own = cloud.instance == item["id"]
        assert {cloud.classes[k - 1] for k in np.unique(cloud.label[own])} == {item["category"]}
        w, x, y, z = item["rotation_wxyz"]
        local = (cloud.xyz[own] - item["center"]) @ Rotation.from_quat([x, y, z, w]).as_matrix()
        half = np.array(item["size"]) / 2
        assert np.all(np.abs(local) <= half + 2e-5), item["phrase"]
        if own.sum() > 2000:
            assert np.all(np.abs(local).max(0) > 0.93 * half), item["phrase"]
            checked += 1
    assert checked >= 6


def test_surface_points_lie_on_the_rendered_depth(playroom):
    cloud = surface_cloud(playroom, points=20_000, seen=True)
    assert 0.2 < np.mean(cloud.seen > 0) < 0.98
    t = transforms(playroom)
    frame = t["frames"][0]
    c2w = opencv_c2w(frame)
    inside = (cloud.xyz - c2w[:3, 3]) @ c2w[:3, :3]
    z = inside[:, 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        x = np.floor(inside[:, 0] / z * t["fl_x"] + t["cx"])
        y = np.floor(inside[:, 1] / z * t["fl_y"] + t["cy"])
    ok = (z > 0.1) & (x >= 0) & (y >= 0) & (x < t["w"]) & (y < t["h"])
    depth = np.asarray(Image.open(playroom / frame["depth_file_path"])) * 1e-3
    at_pixel = depth[y[ok].astype(int), x[ok].astype(int)]
    # Behind the visible surface or on it, save for pixels that an edge or a slanted floor crosses.
    assert np.mean(z[ok] > 0.93 * at_pixel) > 0.97
    visible = ok & (cloud.seen > 0)
    near = np.abs(z[visible] / depth[y[visible].astype(int), x[visible].astype(int)] - 1) < 0.05
    assert near.mean() > 0.75


def test_half_of_the_test_views_are_off_the_path(playroom):
    t = transforms(playroom)
    train = np.array([opencv_c2w(f) for f in t["frames"] if f["split"] == "train"])
    off = [opencv_c2w(f) for f in t["frames"] if f["split"] == "off_path"]
    assert len(off) == 2 and all(is_off_path(c2w, train) for c2w in off)
    assert not is_off_path(train[0], train)
    assert t["test_filenames"] == [f["file_path"] for f in t["frames"] if f["split"] != "train"]


def test_3d_ovs_masks_are_the_labels(playroom):
    t = transforms(playroom)
    phrases = (playroom / "segmentations" / "classes.txt").read_text().split("\n")[:-1]
    assert phrases == list(t["classes"].values())
    for number, frame in enumerate(t["frames"]):
        folder = playroom / "segmentations" / f"{number:02d}"
        assert folder.is_dir() == (frame["split"] != "train")
        if not folder.is_dir():
            continue
        label = np.asarray(Image.open(playroom / frame["label_file_path"]))
        for k, phrase in enumerate(phrases, start=1):
            mask = np.asarray(Image.open(folder / f"{phrase}.png").convert("L"))
            assert set(np.unique(mask)) <= {0, 255}
            assert np.array_equal(mask == 255, label == k)


def test_same_seed_same_bytes_and_another_seed_another_room(tmp_path):
    made = [synthesise(tmp_path / name, seed=seed, views=TINY, detail=DRAFT) for name, seed in (("a", 7), ("b", 7))]
    assert hashes(tmp_path / "a") == hashes(tmp_path / "b")
    assert made[0].bytes == made[1].bytes
    from ovseg3d.synth.make import make_room

    rooms = [[o.phrase for o in make_room({"room": None, "seed": s}).objects] for s in (7, 8)]
    assert rooms[0] != rooms[1] and len(rooms[0]) > 12


def boxes_inside(room: Room) -> list[tuple[np.ndarray, np.ndarray]]:
    """The lower and upper corner of each object, after a look that none leaves the room."""
    flat = flatten(room)
    boxes = []
    for number in range(1, len(room.objects) + 1):
        points = np.concatenate(
            [flat.parts[k].soup.points.reshape(-1, 3) for k in np.flatnonzero(flat.part_instance == number)]
        )
        boxes.append((points.min(0), points.max(0)))
        half = np.array(room.size)[:2] / 2
        assert np.all(np.abs(points[:, :2]) <= half + 1e-3) and points[:, 2].min() > -1e-3
        assert points[:, 2].max() < room.size[2] + 1e-3
    return boxes


def test_chairs_of_the_waiting_room_touch_and_do_not_overlap():
    room = ROOMS["waiting-room"]()
    boxes = boxes_inside(room)
    chairs = [box for box, thing in zip(boxes, room.objects) if thing.category == "chair"]
    between = [
        np.maximum(a[0], b[0]) - np.minimum(a[1], b[1]) for i, a in enumerate(chairs) for b in chairs[:i]
    ]  # per axis: a gap above 0, an overlap below
    gaps = np.array([gap.max() for gap in between])
    assert len(chairs) == 11 and gaps.min() > -2e-3
    assert np.sum(gaps < 5e-3) == 3 + 2 + 1 + 1  # a row of four, one of three, back to back, and under the table


@pytest.mark.parametrize("seed", [1, 1001])
def test_random_rooms_place_things_inside_and_apart(seed):
    from ovseg3d.synth.make import make_room

    room = make_room({"room": None, "seed": seed})
    boxes = boxes_inside(room)
    for i, a in enumerate(boxes):
        for j in range(i):
            if "rug" in (room.objects[i].category, room.objects[j].category):
                continue
            overlap = np.minimum(a[1], boxes[j][1]) - np.maximum(a[0], boxes[j][0])
            assert np.any(overlap < 2e-3), (room.objects[i].phrase, room.objects[j].phrase)


def test_out_must_be_new_or_empty_and_nothing_is_left_behind(tmp_path):
    full = tmp_path / "full"
    full.mkdir()
    (full / "photo.jpg").write_bytes(b"mine")
    with pytest.raises(OutputError, match="not empty"):
        synthesise(full, room="playroom")
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError):
        synthesise(tmp_path / "file")
    with pytest.raises(OutputError):
        synthesise(tmp_path / "file" / "below", seed=3, views=TINY, detail=DRAFT)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "full"]


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"room": "playrom"}, "playroom"),
        ({"room": "desk", "assets": Path("nowhere")}, "--room"),
        ({"assets": Path("nowhere")}, "no such folder"),
        ({"world": Path("nowhere/house.world")}, "no such"),
    ],
)
def test_what_does_not_exist_is_said_clearly(tmp_path, arguments, match):
    with pytest.raises(ConfigError, match=match):
        synthesise(tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()


def test_a_cloud_needs_a_synthetic_scene(tmp_path):
    with pytest.raises(SceneError, match="no synth.json"):
        surface_cloud(tmp_path)
    (tmp_path / "synth.json").write_text('{"version": 99}')
    with pytest.raises(Ovseg3dError, match="version"):
        surface_cloud(tmp_path)
