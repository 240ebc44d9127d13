"""Regions that other processes compute: the same bits, none left behind, and no harm when one is lost."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest
from fake_encoders import MeanColour, MeanPatch
from PIL import Image

from ovseg3d.engine.workers import CORES_VARIABLE
from ovseg3d.features import extract, region_workers, scenes
from ovseg3d.features.cache import FeatureCache
from ovseg3d.features.extract import FeatureSettings
from ovseg3d.features.region_workers import RegionWorkers
from ovseg3d.features.scenes import MIN_PHOTOS, Encoders, encode_photos
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


@pytest.mark.parametrize("cores", ["2", "3"])
def test_the_number_of_processes_does_not_change_a_bit(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cores: str
) -> None:
    monkeypatch.setattr("ovseg3d.features.scenes.available_cores", lambda: int(os.environ[CORES_VARIABLE]))
    found = []
    for number in ("1", cores):
        monkeypatch.setenv(CORES_VARIABLE, number)
        cache = FeatureCache.at(tmp_path / number)
        features = encode_photos(scene, encoders(cache))
        assert features is not None and features.made == MIN_PHOTOS
        found.append([cache.read("photos", key) for key in features.keys])
        for module in (extract, region_workers):  # from now on, another process has to
            monkeypatch.setattr(module, "region_map", refuse)
    for alone, shared in zip(*found, strict=True):
        assert alone and shared and alone.keys() == shared.keys()
        for name, values in alone.items():
            np.testing.assert_array_equal(values, shared[name], err_msg=name)


def test_few_photos_start_no_process(scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenes, "RegionWorkers", refuse)
    monkeypatch.setattr(scenes, "available_cores", lambda: 8)
    monkeypatch.setattr(scenes, "MIN_PHOTOS", MIN_PHOTOS + 1)
    assert encode_photos(scene, encoders(FeatureCache.at(tmp_path / "cache"))) is not None


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


def test_no_process_is_left() -> None:
    with RegionWorkers(2) as workers:
        for seed in range(4):
            workers.submit(photo(seed), None, 384, 16, 0.5)
        workers.submit(photo(9), None, 384, 16, 0.5).result()
    assert workers.processes and all(process.poll() is not None for process in workers.processes)
