"""Features of a scene: every photo is encoded once, results are reproducible and small, and all image modes work."""

import shutil
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fake_encoders import MeanColour, MeanPatch, direction
from PIL import Image
from safetensors.numpy import load_file

from ovseg3d.errors import CacheError, SceneError
from ovseg3d.features.cache import FeatureCache
from ovseg3d.features.extract import FeatureSettings
from ovseg3d.features.maps import Regions
from ovseg3d.features.projection import fit_projection
from ovseg3d.features.scenes import Encoders, SceneFeatures, encode_photos, read_photo
from ovseg3d.scene import Camera, Frame, Scene, load_scene

SMALL = FeatureSettings(clip_side=32, dino_side=32, window=4.0)


def encode(scene: Scene, cache: FeatureCache, settings: FeatureSettings = SMALL, **rest: object) -> SceneFeatures:
    clip, dino = rest.pop("clip", MeanColour()), rest.pop("dino", MeanPatch())
    encoders = Encoders(clip, dino, rest.pop("segmenter", None), settings, cache, "cpu")  # type: ignore[arg-type]
    found = encode_photos(scene, encoders, **rest)  # type: ignore[arg-type]
    assert found is not None
    return found


def few(scene: Scene) -> Scene:
    """The same capture with two photos, for speed."""
    return replace(scene, frames=scene.frames[:2], train=(0, 1), test=())


def scene_of(*files: Path) -> Scene:
    """A capture of these photos; cameras are all the same."""
    frames = []
    for path in files:
        with Image.open(path) as image:
            size = image.size
        frames.append(Frame(path.name, path, Camera(*size, 10.0, 10.0, size[0] / 2, size[1] / 2, np.eye(4))))
    return Scene(
        files[0].parent, "photos", "nerfstudio", tuple(frames), tuple(range(len(files))), (), False, None, np.eye(4)
    )


def test_every_photo_is_encoded_once_and_read_afterwards(tiny_scene: Path, tmp_path: Path) -> None:
    scene, cache, told = load_scene(tiny_scene), FeatureCache.at(tmp_path), []
    first = encode(scene, cache, report=lambda *what: told.append(what))
    assert first.made == len(first) == 8 and told[-1][:2] == (8, 8) and [done for done, *_ in told] == list(range(1, 9))
    clip, dino = MeanColour(), MeanPatch()
    again = encode(scene, cache, clip=clip, dino=dino)
    assert again.made == 0 and not clip.shapes and not dino.shapes and again.keys == first.keys
    photo = read_photo(scene.frames[3], SMALL)
    assert isinstance(again[3].clip, Regions) and np.array_equal(
        again.of(scene.frames[3].name).clip.index, again[3].clip.index
    )
    assert 0 < again.nbytes < 8 * photo.size * 10


def test_dino_is_reduced_by_a_stored_orthonormal_projection(tiny_scene: Path, tmp_path: Path) -> None:
    scene, dino = load_scene(tiny_scene), MeanPatch(dim=80)
    found = encode(scene, FeatureCache.at(tmp_path / "a"), replace(SMALL, dino_dims=3), dino=dino)
    basis = found.projection
    assert basis is not None and basis.basis.shape == (80, 3) and basis.explained > 0.99
    assert np.allclose(basis.basis.T @ basis.basis, np.eye(3), atol=1e-5)
    assert (
        found[0].dino is not None and found[0].dino.grid.shape == (8, 8, 3) and found[0].dino.grid.dtype == np.float16
    )
    # What was reduced can be brought back: here three numbers hold all there is.
    photo = Image.open(scene.frames[0].image_path).convert("RGB").resize((8, 8), Image.Resampling.BOX)
    import torch

    whole = direction(torch.from_numpy(np.asarray(photo) / 255).float(), 80).numpy()
    assert np.abs(found[0].dino.grid.astype(np.float32) @ basis.basis.T + basis.mean - whole).max() < 0.05
    other = encode(scene, FeatureCache.at(tmp_path / "b"), replace(SMALL, dino_dims=3), dino=MeanPatch(dim=80))
    assert other.keys == found.keys and np.array_equal(other[5].dino.grid, found[5].dino.grid)


def test_a_projection_keeps_the_largest_variance_and_few_numbers_are_kept_whole() -> None:
    random = np.random.default_rng(0)
    grids = [
        random.normal(size=(5, 6, 10)).astype(np.float32) * np.array([9, 1, 1, 1, 5, 1, 1, 1, 1, 1]) for _ in range(9)
    ]
    fitted = fit_projection(iter(grids), 2)
    assert abs(fitted.basis[0, 0]) > 0.9 and abs(fitted.basis[4, 1]) > 0.9
    assert (fitted.basis[[0, 4], [0, 1]] > 0).all(), "signs are fixed"
    whole = fit_projection(grids, 10)
    assert np.array_equal(whole.reduce(grids[0]), grids[0].astype(np.float32)) and whole.explained == 1


@pytest.mark.parametrize(
    "change",
    [
        {"settings": replace(SMALL, regions=3)},
        {"settings": replace(SMALL, dino_dims=2)},
        {"settings": replace(SMALL, mode="dense")},
        {"clip": MeanColour(id="other")},
        {"clip": MeanColour(weight_hash="1" * 16)},
        {"dino": MeanPatch(weight_hash="1" * 16)},
        {"dino": None},
    ],
)
def test_whatever_makes_a_difference_makes_new_features(tiny_scene: Path, tmp_path: Path, change: dict) -> None:
    scene, cache = few(load_scene(tiny_scene)), FeatureCache.at(tmp_path)
    encode(scene, cache)
    assert encode(scene, cache, **change).made == 2
    assert encode(scene, cache).made == 0, "the old ones are still there"


def test_a_changed_photo_alone_is_encoded_again(tiny_scene: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_scene, tmp_path / "scene")
    cache = FeatureCache.at(tmp_path / "cache")
    dino = None  # whose projection may change with any photo
    encode(load_scene(folder), cache, dino=dino)
    Image.new("RGB", (32, 32), "teal").save(folder / "images" / "0003.png")
    found = encode(load_scene(folder), cache, dino=dino)
    assert found.made == 1 and found[3].clip.index.max() == 0
    # The same content elsewhere, under other names, is known.
    moved = shutil.move(folder, tmp_path / "moved")
    assert encode(load_scene(moved), cache, dino=dino).made == 0


def test_settings_that_make_no_difference_make_no_new_features(tiny_scene: Path, tmp_path: Path) -> None:
    scene, cache = few(load_scene(tiny_scene)), FeatureCache.at(tmp_path)
    encode(scene, cache)
    same = replace(SMALL, batch=3, pyramid="3d-ovs", mode="regions", crops=0)
    assert encode(scene, cache, same).made == 0


def test_a_cut_entry_is_made_again_the_same(tiny_scene: Path, tmp_path: Path) -> None:
    scene, cache = load_scene(tiny_scene), FeatureCache.at(tmp_path)
    found = encode(scene, cache)
    paths = [cache.path("photos", key) for key in found.keys]
    contents = [load_file(path) for path in paths]
    paths[2].write_bytes(paths[2].read_bytes()[:-7])
    paths[5].unlink()
    with pytest.raises(CacheError, match="no longer in the cache"):
        found[5]
    assert encode(scene, cache).made == 2
    for path, arrays in zip(paths, contents):
        assert all(np.array_equal(array, arrays[name]) for name, array in load_file(path).items())


def test_two_at_once_share_the_work(tiny_scene: Path, tmp_path: Path) -> None:
    scene, cache, made, both = load_scene(tiny_scene), FeatureCache.at(tmp_path), [], threading.Barrier(2)

    class Slow(MeanColour):
        def encode_dense(self, images):  # noqa: ANN001, ANN202
            threading.Event().wait(0.05)
            return super().encode_dense(images)

    def work() -> None:
        both.wait()
        made.append(encode(scene, cache, clip=Slow()).made)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sum(made) == 8 and all(made), made


def test_stopping_keeps_what_was_done(tiny_scene: Path, tmp_path: Path) -> None:
    scene, cache, stop = load_scene(tiny_scene), FeatureCache.at(tmp_path), threading.Event()

    def report(done: int, total: int, name: str) -> None:
        if done == 3:
            stop.set()

    assert (
        encode_photos(scene, Encoders(MeanColour(), MeanPatch(), None, SMALL, cache, "cpu"), report, stop=stop) is None
    )
    assert encode(scene, cache).made == 5


def test_waiting_for_another_process_holds_no_lock_of_stop(
    tiny_scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal handler that sets it in this thread would wait for that lock for ever."""

    class Unwaited(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            raise AssertionError("this holds the lock")

    stop, asked = Unwaited(), []

    def busy(*_: object) -> bool:
        asked.append(None)
        if len(asked) > 2:
            stop.set()
        return False

    monkeypatch.setattr(FeatureCache, "try_make", busy)
    scene = few(load_scene(tiny_scene))
    assert (
        encode_photos(scene, Encoders(MeanColour(), None, None, SMALL, FeatureCache.at(tmp_path), "cpu"), stop=stop)
        is None
    )


def test_stopping_does_not_wait_for_the_projection(tiny_scene: Path, tmp_path: Path) -> None:
    scene, stop, dino = load_scene(tiny_scene), threading.Event(), MeanPatch()
    stop.set()
    assert (
        encode_photos(scene, Encoders(MeanColour(), dino, None, SMALL, FeatureCache.at(tmp_path), "cpu"), stop=stop)
        is None
    )
    assert not dino.shapes and encode(scene, FeatureCache.at(tmp_path)).made == 8


@pytest.mark.parametrize("schedule", ["lerf", "3d-ovs"])
def test_a_pyramid_tells_and_stops_between_batches(tiny_scene: Path, tmp_path: Path, schedule: str) -> None:
    scene, cache, stop = few(load_scene(tiny_scene)), FeatureCache.at(tmp_path), threading.Event()
    settings = replace(SMALL, mode="pyramid", pyramid=schedule, batch=16)
    told: list[float] = []
    clip = MeanColour()
    found = encode(scene, cache, settings, clip=clip, dino=None, report=lambda done, *_: told.append(done))
    assert found.made == 2 and told[-1] == 2 and 1 in told
    assert told == sorted(told) and len(told) == len(clip.crops), "one word for each batch"
    batches, cache = len(clip.crops), FeatureCache.at(tmp_path / "other")

    def report(done: float, total: int, name: str) -> None:
        if done > 1:
            stop.set()

    clip = MeanColour()
    assert encode_photos(scene, Encoders(clip, None, None, settings, cache, "cpu"), report, stop=stop) is None
    assert len(clip.crops) == batches // 2 + 1, "one batch of the second photo"
    assert encode(scene, cache, settings, dino=None).made == 1, "the first photo is kept, the second one is not"


def image(folder: Path, kind: str) -> Path:
    colour = (200, 40, 90)
    path = folder / f"{kind}.png"
    if kind == "16-bit":
        Image.fromarray(np.full((30, 40), 200 * 257, dtype=np.uint16)).save(path)
    elif kind == "CMYK":
        path = folder / "cmyk.jpg"
        Image.new("RGB", (40, 30), colour).convert("CMYK").save(path, quality=95)
    elif kind == "1x1":
        Image.new("RGB", (1, 1), colour).save(path)
    elif kind == "grey":
        Image.new("L", (40, 30), 200).save(path)
    else:
        pixels = np.zeros((30, 40, 4), dtype=np.uint8)
        pixels[:, :20] = (*colour, 255)
        Image.fromarray(pixels).save(path)
    return path


@pytest.mark.parametrize("kind", ["1x1", "grey", "16-bit", "CMYK", "transparent"])
def test_any_kind_of_picture(tmp_path: Path, kind: str) -> None:
    import torch

    scene = scene_of(image(tmp_path, kind))
    found = encode(scene, FeatureCache.at(tmp_path / "cache"))[0]
    colour = (200, 200, 200) if kind in ("grey", "16-bit") else (200, 40, 90)
    expected = direction(torch.tensor(colour) / 255).numpy()
    assert np.abs(found.clip.at(np.array([[0.2, 0.5]]))[0] - expected).max() < 0.03
    if kind == "transparent":
        assert np.abs(found.clip.at(np.array([[0.9, 0.5]]))[0] - direction(torch.ones(3)).numpy()).max() < 0.03


def test_a_photo_that_is_gone_is_the_users_to_mend(tmp_path: Path) -> None:
    scene = scene_of(image(tmp_path, "grey"), image(tmp_path, "1x1"))
    scene.frames[1].image_path.unlink()
    with pytest.raises(SceneError, match="photo is missing"):
        encode(scene, FeatureCache.at(tmp_path / "cache"))


def test_large_photos_are_read_smaller_and_field_size_does_not_matter(tmp_path: Path) -> None:
    Image.new("RGB", (400, 100)).save(tmp_path / "large.png")
    frame = scene_of(tmp_path / "large.png").frames[0]
    frame = replace(frame, camera=frame.camera.scaled(40, 10))
    assert read_photo(frame, SMALL).shape == (100, 400, 3)
    assert read_photo(frame, replace(SMALL, photo_side=150)).shape == (33, 133, 3)


def test_at_most_5_mb_for_a_photo_of_1008_by_756(tmp_path: Path) -> None:
    """With a 512-dim CLIP and all of DINO's 64 numbers at LERF's full size; noise gives the most regions."""
    noise = np.random.default_rng(0).integers(0, 255, (63, 84, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((1008, 756), Image.Resampling.BICUBIC).save(tmp_path / "large.png")
    clip, dino = MeanColour(dim=512, patch=16, native=224), MeanPatch(dim=384, patch=8, native=224)
    settings = FeatureSettings(dino_side=500, dino_dims=64)
    found = encode(
        scene_of(tmp_path / "large.png"), FeatureCache.at(tmp_path / "cache"), settings, clip=clip, dino=dino
    )
    assert found[0].clip.vectors.shape == (256, 512) and found[0].dino.grid.shape[-1] == 64
    assert found.nbytes < 5_000_000
    assert found.nbytes < 1_500_000, "as the documentation says"
