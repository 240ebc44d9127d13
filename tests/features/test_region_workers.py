"""Regions that other processes compute: the same bits, none left behind, and no harm when one is lost."""

import io
import pickle
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_encoders import MeanColour, MeanPatch
from PIL import Image

from ovseg3d.engine.workers import CORES_VARIABLE
from ovseg3d.features import extract, region_workers, scenes
from ovseg3d.features.cache import FeatureCache
from ovseg3d.features.extract import FeatureSettings
from ovseg3d.features.region_workers import RegionWorkers
from ovseg3d.features.scenes import MIN_PHOTOS, Encoders, encode_photos, region_processes
from ovseg3d.features.segments import region_map
from ovseg3d.scene import Camera, Frame, Scene

SETTINGS = FeatureSettings(clip_side=32, dino_side=32, window=4.0)


def photo(seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    return np.kron(random.integers(0, 256, (6, 8, 3), dtype=np.uint8), np.ones((8, 8, 1), dtype=np.uint8))


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    frames = []
    for number in range(MIN_PHOTOS):
        path = tmp_path / f"{number:02}.png"
        Image.fromarray(photo(number)).save(path)
        frames.append(Frame(path.name, path, Camera(64, 48, 50.0, 50.0, 32.0, 24.0, np.eye(4))))
    return Scene(tmp_path, "photos", "nerfstudio", tuple(frames), tuple(range(MIN_PHOTOS)), (), False, None, np.eye(4))


def encoders(cache: FeatureCache) -> Encoders:
    return Encoders(MeanColour(), MeanPatch(), None, SETTINGS, cache, "cpu")  # type: ignore[arg-type]


def refuse(*_: object) -> np.ndarray:
    raise AssertionError("a region map was computed here")


@pytest.mark.parametrize("count", [1, 2])
def test_the_number_of_processes_does_not_change_a_bit(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    found = []
    for number in (0, count):
        monkeypatch.setattr(scenes, "region_processes", lambda *_, number=number: number)
        cache = FeatureCache.at(tmp_path / str(number))
        features = encode_photos(scene, encoders(cache))
        assert features is not None and features.made == MIN_PHOTOS
        found.append([cache.read("photos", key) for key in features.keys])
        for module in (extract, region_workers):  # from now on, another process has to
            monkeypatch.setattr(module, "region_map", refuse)
    for alone, shared in zip(*found, strict=True):
        assert alone and shared and alone.keys() == shared.keys()
        for name, values in alone.items():
            np.testing.assert_array_equal(values, shared[name], err_msg=name)


def test_processes_are_for_many_photos_beside_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = []
    for cores in ("1", "3", "64"):
        monkeypatch.setenv(CORES_VARIABLE, cores)
        monkeypatch.setattr("os.sched_getaffinity", lambda _: range(64), raising=False)
        counts.append(region_processes("cuda", MIN_PHOTOS))
    assert counts == [0, 2, 3]
    assert region_processes("cuda", MIN_PHOTOS - 1) == region_processes("cpu", MIN_PHOTOS) == 0


def test_a_lost_process_costs_nothing_but_time() -> None:
    arguments = (None, 384, 16, 0.5)
    with RegionWorkers(1) as workers:
        first = workers.submit(photo(0), *arguments).result()
        (process,) = workers.processes
        process.send_signal(signal.SIGINT)  # Ctrl-C is for the command alone
        again = workers.submit(photo(1), *arguments).result()
        assert process.poll() is None
        process.kill()
        process.wait()
        later = workers.submit(photo(2), *arguments).result()
    for seed, index in enumerate((first, again, later)):
        np.testing.assert_array_equal(index, region_map(photo(seed), *arguments))


def test_an_unreadable_answer_is_not_taken_for_the_next_one() -> None:
    arguments = (None, 384, 16, 0.5)
    with RegionWorkers(1) as workers:
        workers.submit(photo(0), *arguments).result()
        (process,) = workers.processes
        process.stdout = io.BytesIO(b"no pickle")
        found = [workers.submit(photo(seed), *arguments).result() for seed in (1, 2)]
        assert len(workers.processes) == 2 and process.wait() != 0
    for seed, index in enumerate(found, start=1):
        np.testing.assert_array_equal(index, region_map(photo(seed), *arguments))


def test_files_of_the_current_folder_are_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("pickle.py").write_text("raise SystemExit")
    monkeypatch.setattr(region_workers, "region_map", refuse)
    with RegionWorkers(1) as workers:
        assert workers.submit(photo(0), None, 384, 16, 0.5).result().size


def test_photos_that_another_process_encodes_do_not_stop_the_others(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every second photo is made elsewhere just before its turn."""
    elsewhere, cache = FeatureCache.at(tmp_path / "elsewhere"), FeatureCache.at(tmp_path / "cache")
    there = encode_photos(scene, encoders(elsewhere))
    assert there is not None
    monkeypatch.setattr(scenes, "region_processes", lambda *_: 1)
    monkeypatch.setattr(extract, "region_map", refuse)  # of none of the others
    make = FeatureCache.try_make

    def share(own: FeatureCache, group: str, key: str, *arguments: Any) -> bool:
        made = make(own, group, key, *arguments)
        if own is cache and key in there.keys[:-1:2]:
            other = there.keys[there.keys.index(key) + 1]
            make(own, group, other, lambda: elsewhere.read(group, other))
        return made

    monkeypatch.setattr(FeatureCache, "try_make", share)
    shared = encode_photos(scene, encoders(cache))
    assert shared is not None and shared.made == MIN_PHOTOS // 2 and shared.keys == there.keys


def test_no_process_is_left() -> None:
    with RegionWorkers(2) as workers:
        for seed in range(4):
            workers.submit(photo(seed), None, 384, 16, 0.5)
        workers.submit(photo(9), None, 384, 16, 0.5).result()
    assert workers.processes and all(process.poll() is not None for process in workers.processes)


def test_an_end_does_not_compute_what_was_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(region_workers, "region_map", refuse)
    large = np.random.default_rng(0).integers(0, 256, (900, 1200, 3), dtype=np.uint8)
    with RegionWorkers(1) as workers:
        workers.submit(photo(0), None, 384, 16, 0.5).result()
        lost = workers.submit(large, None, 900, 16, 0.5)
        while not lost.running():
            time.sleep(0.01)
    assert isinstance(lost.exception(), OSError | EOFError | pickle.UnpicklingError)
