"""The pixel pool: its draws, that they are deterministic, and that its memory is bounded."""

import json
import threading
from dataclasses import fields
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import writers as w
from PIL import Image

from ovseg3d.errors import SceneError
from ovseg3d.scene import PhotoPool, PixelBatch, load_photo, load_scene

ONE_PHOTO = w.WIDTH * w.HEIGHT * 3


def _same(a, b) -> bool:
    return all(torch.equal(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))


@pytest.fixture(autouse=True, params=["host", "device"])
def kept_on(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test holds for photos on the host, and for those on a device, which is the CPU here."""
    if request.param == "device":
        monkeypatch.setitem(globals(), "PhotoPool", partial(PhotoPool, device=torch.device("cpu")))


@pytest.fixture
def scene(tmp_path: Path):
    return load_scene(w.write_nerfstudio(tmp_path))


def test_pixels_are_those_of_the_photos(scene):
    with PhotoPool(scene, scene.train, seed=3) as pool:
        batch = pool.draw(0, 2000)
    assert set(batch.view.tolist()) == set(scene.train)
    photos = {view: load_photo(scene.frames[view]) for view in scene.train}
    for view, (x, y), rgb in zip(batch.view.tolist(), batch.xy.tolist(), batch.rgb):
        assert x % 1 == 0.5 and y % 1 == 0.5
        assert np.allclose(rgb * 255, photos[view][int(y), int(x)], atol=1e-3)
    assert (batch.alpha == 1).all() and batch.valid.all() and not batch.depth_z.any()


def test_pixels_are_uniform_over_photos_and_places(scene):
    with PhotoPool(scene, scene.train) as pool:
        batch = pool.draw(0, 70_000)
    shares = torch.bincount(batch.view, minlength=9)[1:8] / 70_000
    assert (shares - 1 / 7).abs().max() < 0.01
    assert abs(batch.xy[:, 0].mean() - 12) < 0.1 and abs(batch.xy[:, 1].mean() - 8) < 0.1
    assert batch.xy[:, 0].min() == 0.5 and batch.xy[:, 0].max() == 23.5


@pytest.mark.parametrize("slots", [1, 3, 100])
def test_a_draw_depends_on_seed_step_and_count_alone(scene, slots):
    budget = slots * ONE_PHOTO
    with PhotoPool(scene, scene.train, seed=5, budget_bytes=budget, steps=14) as pool:
        straight = [pool.draw(step, 64) for step in range(40)]
        again = pool.draw(7, 64)  # going back
    assert not _same(straight[0], straight[1])
    assert _same(again, straight[7])
    with PhotoPool(scene, scene.train, seed=5, budget_bytes=budget, steps=14) as pool:
        assert _same(pool.draw(23, 64), straight[23])  # resumed in the middle
        assert _same(pool.draw(24, 64), straight[24])
        assert _same(pool.draw(39, 64), straight[39])
    with PhotoPool(scene, scene.train, seed=6, budget_bytes=budget, steps=14) as pool:
        assert not _same(pool.draw(7, 64), straight[7])


def test_every_photo_has_its_turn_within_the_budget(scene):
    with PhotoPool(scene, scene.train, budget_bytes=3 * ONE_PHOTO, steps=14) as pool:
        assert pool.rotates
        seen: set[int] = set()
        before: set[int] = set()
        for step in range(2 * 7):
            views = set(pool.draw(step, 300).view.tolist())
            assert len(views) == 3
            assert not before or len(before - views) == (step % 2 == 0)
            before = views
            seen |= views
        assert seen == set(scene.train)


@pytest.mark.parametrize("steps", [4, 5, 14, 200, None])
def test_every_photo_has_its_turn_in_the_planned_steps(scene, steps, monkeypatch):
    """Whatever the number of steps is to that of the photos, and for about as long as any other."""
    import ovseg3d.scene.photos as module

    monkeypatch.setattr(module, "_USUAL_TURN", 20)
    length = steps or 20
    with PhotoPool(scene, scene.train, seed=2, budget_bytes=2 * ONE_PHOTO, steps=steps) as pool:
        views = torch.cat([pool.draw(step, 200).view for step in range(length)])
    counts = torch.bincount(views, minlength=9)[1:8]
    assert (counts > 0).all()
    assert counts.max() < 2.5 * counts.min()


def test_many_photos_are_exchanged_in_a_step_but_not_more_than_can_be_read(scene, monkeypatch):
    import ovseg3d.scene.photos as module

    reads = []
    monkeypatch.setattr(module, "load_photo", lambda frame: reads.append(frame.name) or load_photo(frame))
    views = list(scene.train) * 6
    with PhotoPool(scene, views, budget_bytes=8 * ONE_PHOTO, steps=3) as pool:
        for step in range(10):
            pool.draw(step, 8)
    assert len(reads) <= 8 + 4 * 10


def test_photos_that_fit_are_read_once(scene, monkeypatch):
    import ovseg3d.scene.photos as module

    reads = []
    monkeypatch.setattr(module, "load_photo", lambda frame: reads.append(frame.name) or load_photo(frame))
    with PhotoPool(scene, scene.train) as pool:
        for step in range(100):
            pool.draw(step, 8)
        assert not pool.rotates
    assert sorted(reads) == sorted(scene.frames[i].name for i in scene.train)


def test_a_rotating_pool_reads_one_photo_an_exchange(scene, monkeypatch):
    import ovseg3d.scene.photos as module

    threads = []
    monkeypatch.setattr(
        module,
        "load_photo",
        lambda frame: threads.append(threading.current_thread().name) or load_photo(frame),
    )
    with PhotoPool(scene, scene.train, budget_bytes=2 * ONE_PHOTO, steps=35) as pool:
        for step in range(50):
            pool.draw(step, 8)
    # The first photos, the exchanges, and one read ahead, which `close` may have cancelled.
    assert len(threads) in (2 + 9, 2 + 9 + 1)
    assert sum(name.startswith("photos") for name in threads) == len(threads) - 2


def test_hidden_pixels_are_never_valid(tmp_path):
    data = w.transforms()
    mask = np.zeros((w.HEIGHT, w.WIDTH), dtype=np.uint8)
    mask[2:5, 3:9] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    for frame in data["frames"][:5]:
        frame["mask_path"] = "mask.png"
    scene = load_scene(w.write_nerfstudio(tmp_path, data))
    with PhotoPool(scene, scene.train) as pool:
        batch = pool.draw(0, 5000)
    masked = batch.view < 5
    x, y = batch.xy[:, 0], batch.xy[:, 1]
    visible = ~masked | ((x > 3) & (x < 9) & (y > 2) & (y < 5))
    assert torch.equal(batch.valid, visible)
    assert 0 < (masked & batch.valid).sum()
    assert batch.valid.float().mean() > 0.8  # hidden ones were drawn again


def test_alpha_and_depth(tmp_path):
    data = w.transforms()
    depth = np.full((w.HEIGHT, w.WIDTH), 2500, dtype=np.uint16)
    depth[:, :12] = 0
    Image.fromarray(depth).save(tmp_path / "depth.png")
    for frame in data["frames"][:5]:
        frame["depth_file_path"] = "depth.png"
    w.write_nerfstudio(tmp_path, data)
    for path in (tmp_path / "images").iterdir():
        Image.new("RGBA", (w.WIDTH, w.HEIGHT), (255, 0, 0, 51)).save(path)
    scene = load_scene(tmp_path)
    with PhotoPool(scene, scene.train, with_depth=True) as pool:
        batch = pool.draw(0, 1000)
    assert torch.allclose(batch.alpha, torch.tensor(0.2))
    assert torch.allclose(batch.rgb, torch.tensor([1.0, 0, 0]))
    known = (batch.view < 5) & (batch.xy[:, 0] > 12)
    assert torch.allclose(batch.depth_z, torch.where(known, 2.5, 0.0))
    with PhotoPool(scene, scene.train) as pool:
        assert not pool.draw(0, 1000).depth_z.any()


def test_a_photo_without_alpha_is_opaque_among_others_with_alpha(tmp_path):
    w.write_nerfstudio(tmp_path)
    for path in sorted((tmp_path / "images").iterdir())[1:]:
        Image.new("RGBA", (w.WIDTH, w.HEIGHT), (255, 0, 0, 51)).save(path)
    scene = load_scene(tmp_path)
    assert scene.has_alpha
    with PhotoPool(scene, range(len(scene.frames))) as pool:
        batch = pool.draw(0, 1000)
    assert torch.allclose(batch.alpha, torch.where(batch.view == 0, 1.0, 0.2))


def test_photos_of_several_sizes(tmp_path):
    data = w.transforms()
    data["frames"][3].update(w=10, h=8, cx=5, cy=4)
    w.write_nerfstudio(tmp_path, data)
    w.photo(3, (10, 8)).save(tmp_path / "images/03.png")
    scene = load_scene(tmp_path)
    with PhotoPool(scene, [2, 3]) as pool:
        batch = pool.draw(0, 20_000)
    small = batch.view == 3
    assert abs(small.float().mean() - 80 / (80 + 384)) < 0.02
    assert batch.xy[small].amax(dim=0).tolist() == [9.5, 7.5]


def test_a_photo_that_breaks_later_is_named(scene):
    with PhotoPool(scene, scene.train, budget_bytes=ONE_PHOTO, steps=7) as pool:
        pool.draw(0, 4)
        for index in scene.train:
            path = scene.frames[index].image_path
            path.write_bytes(path.read_bytes()[:200])
        # The pool may read a file in the moment in which this test has it empty.
        with pytest.raises(SceneError, match="cannot be decoded|not a readable image") as caught:
            for step in range(1, 4):
                pool.draw(step, 4)
        assert Path(str(caught.value.where)).parent.name == "images"


def test_no_photos_is_an_error(scene):
    with pytest.raises(SceneError, match="no photos"):
        PhotoPool(scene, [])


def test_lines_of_three_pixels_are_flat_where_the_colour_is_constant(tmp_path):
    """Left half of the photo grey, right half a chessboard."""
    photo = np.full((48, 64, 3), 90, np.uint8)
    photo[:, 32:] = 255 * (np.indices((48, 32)).sum(0) % 2)[..., None]
    batch, first, middle, last = _lines(tmp_path / "lines", photo)
    assert torch.equal(first + last, 2 * middle)
    length = (last - first).norm(dim=-1)
    flat = batch.flatness.view(-1, 3)
    assert torch.equal(flat[:, 0], flat[:, 1]) and torch.equal(flat[:, 0], flat[:, 2])
    grey = (first[:, 0] < 31) & (last[:, 0] < 31) & (length > 0)
    board = (middle[:, 0] > 36) & (length > 1)
    assert grey.sum() > 100 and (flat[grey, 0] == 1).all()
    assert board.sum() > 100 and flat[board, 0].mean() < 0.3
    torch.testing.assert_close(batch.rgb, torch.from_numpy(photo[batch.xy[:, 1].long(), batch.xy[:, 0].long()]) / 255.0)


def test_lines_through_clipped_pixels_are_not_flat(tmp_path):
    """A third of the photo black, one grey, one white; a saturated colour is not clipped."""
    photo = np.full((48, 96, 3), 90, np.uint8)
    photo[:, :32], photo[:, 64:], photo[24:, 32:64] = 2, 254, (255, 0, 0)
    batch, first, _, last = _lines(tmp_path / "lines", photo)
    flat = batch.flatness.view(-1, 3)[:, 0]
    grey = (torch.minimum(first[:, 0], last[:, 0]) > 32) & (torch.maximum(first[:, 0], last[:, 0]) < 64)
    grey &= ((first[:, 1] < 24) == (last[:, 1] < 24)) & (first != last).any(-1)
    clipped = ((first[:, 0] < 32) | (first[:, 0] > 64)) & ((last[:, 0] < 32) | (last[:, 0] > 64))
    assert grey.sum() > 100 and (flat[grey] == 1).all()
    assert clipped.sum() > 100 and (flat[clipped] == 0).all()


def _lines(folder: Path, photo: np.ndarray) -> tuple[PixelBatch, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Lines of three pixels of a capture of this photo: the batch, their first, middle and last pixels."""
    folder.mkdir()
    height, width = photo.shape[:2]
    Image.fromarray(photo).save(folder / "photo.png")
    Image.fromarray(photo).save(folder / "other.png")
    aside = np.eye(4)
    aside[0, 3] = 1.0
    frames = [{"file_path": "photo.png", "transform_matrix": np.eye(4).tolist()}]
    frames += [{"file_path": "other.png", "transform_matrix": aside.tolist()}]
    lens = {"fl_x": 60.0, "fl_y": 60.0, "w": width, "h": height}
    (folder / "transforms.json").write_text(json.dumps({**lens, "frames": frames}))
    scene = load_scene(folder, train_on_all=True)
    with PhotoPool(scene, scene.train, lines=True) as pool:
        batch = pool.draw(0, 3000)
        again = pool.draw(0, 3000)
    assert _same(batch, again)
    return batch, *batch.xy.view(-1, 3, 2).unbind(1)
