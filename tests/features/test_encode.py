"""The stage `features`: through the pipeline and the command line, with encoders whose answers are known."""

import json
import os
import subprocess
import typing
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import Cli
from exact import flags_of, register
from fake_encoders import MeanColour, MeanPatch
from PIL import Image
from tiny import small_settings

from ovseg3d.encoders import (
    DEFAULT_CLIP,
    DEFAULT_DINO,
    dino,
    load_clip,
    load_dino,
    openclip,
    register_clip,
    register_dino,
    registry,
)
from ovseg3d.encoders.base import TextImageEncoder
from ovseg3d.encoders.towers import DENSE_PATHS
from ovseg3d.errors import CacheError, ConfigError, EncoderError, RunError
from ovseg3d.features.encode import choose, encode_scene, load_features
from ovseg3d.features.images import region_image, save_feature_preview, vector_colours, vector_images
from ovseg3d.features.maps import Dense, Regions
from ovseg3d.limits import Trust
from ovseg3d.pipeline.seeds import differences
from ovseg3d.pipeline.train import train_scene
from ovseg3d.runs.config import EncodeConfig
from ovseg3d.runs.settings import make_config
from ovseg3d.scene import load_scene
from ovseg3d.session import load


@pytest.fixture(autouse=True)
def fakes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """The encoders are known by name, and the cache is the test's own."""
    monkeypatch.setattr(registry, "_clips", dict(registry._clips))
    monkeypatch.setattr(registry, "_dinos", dict(registry._dinos))
    register_clip("fake-clip", lambda device: MeanColour())
    register_dino("fake-dino", lambda device: MeanPatch())
    monkeypatch.setenv("OVSEG3D_CACHE_DIR", str(tmp_path / "cache"))
    yield


FAKE = EncodeConfig(clip="fake-clip", dino="fake-dino")
FLAGS = ("--clip", "fake-clip", "--dino", "fake-dino", "--device", "cpu")


def test_a_scene_is_encoded_with_events(tiny_scene: Path) -> None:
    events = []
    features = encode_scene(load_scene(tiny_scene), FAKE, report=events.append)
    assert features is not None and len(features) == 8 and isinstance(features[0].clip, Regions)
    assert [event.kind for event in events] == ["start", *["progress"] * 8, "done"]
    assert {event.stage for event in events} == {"features"} and events[-2].progress == events[-1].progress == 1
    assert "mean-colour and mean-patch" in events[0].message


def test_a_run_keeps_what_was_used_and_finds_its_features_again(tiny_scene: Path, tmp_path: Path) -> None:
    flags = {"encode": {"clip": "fake-clip", "dino": "none", "features": "dense"}, "only": "features"}
    config = make_config("cpu", flags=flags | {"train": {"device": "cpu"}})
    run = train_scene(tiny_scene, config, output_dir=tmp_path / "run")
    assert run.status()["status"] == "done" and not list(run.checkpoints.iterdir())
    metrics = run.metrics()
    assert metrics["features_encoded"] == 8 and metrics["features_mode"] == "dense" and metrics["dino"] is None
    stated = json.loads((run.folder / "features.json").read_text())
    assert stated["clip"]["id"] == "mean-colour" and stated["clip"]["weight_hash"] == "0" * 16
    features = load_features(load(run.folder))
    assert features.nbytes == metrics["features_bytes"] and isinstance(features.of(features.names[3]).clip, Dense)
    assert features.projection is None and load_features(run, tmp_path / "cache")[0].dino is None
    assert (run.previews / "features.png").is_file()
    save_feature_preview(tmp_path / "features.png", load_scene(tiny_scene), features)
    with Image.open(tmp_path / "features.png") as image:
        assert image.width > 400
    features.cache.clear()
    with pytest.raises(CacheError, match="no longer"):
        features[0]


def test_both_stages_in_one_run_and_time_for_features_does_not_count(tiny_scene: Path, tmp_path: Path) -> None:
    flags = small_settings(steps=5) | {"encode": {"clip": "fake-clip", "dino": "fake-dino"}, "only": "field,features"}
    run = train_scene(tiny_scene, make_config("cpu", flags=flags), output_dir=tmp_path / "run")
    metrics = run.metrics()
    assert metrics["steps"] == 5 and metrics["features_photos"] == 8 and "psnr" in metrics


def test_a_wrong_encoder_costs_nothing(tiny_scene: Path, tmp_path: Path) -> None:
    flags = {"encode": {"clip": "fake-clop", "dino": "fake-dino"}, "only": "features"}
    with pytest.raises(EncoderError, match="fake-clip"):
        train_scene(tiny_scene, make_config("cpu", flags=flags), output_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_auto_means(tiny_scene: Path) -> None:
    scene = load_scene(tiny_scene)
    assert choose("auto", "clip", scene) == DEFAULT_CLIP
    advised = replace(scene, recommended_encoder={"clip": "builtin"})
    assert choose("auto", "clip", advised) == "builtin"
    assert choose("auto", "dino", advised) == DEFAULT_DINO and choose("mine", "clip", advised) == "mine"


@pytest.mark.parametrize(
    "change",
    [{"clip_side": 0}, {"dino_side": -3}, {"crops": -1}, {"clip": " "}, {"dino_side": 10**6}, {"segments": "x"}],
)
def test_impossible_settings_are_refused(tiny_scene: Path, change: dict) -> None:
    with pytest.raises(ConfigError):
        encode_scene(load_scene(tiny_scene), replace(FAKE, **change))


def test_options_of_encoders_come_from_files_and_flags(
    tiny_scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And reach those who load: here they say what they were asked for."""
    (tmp_path / "settings.yaml").write_text("encode: {dense_path: maskclip, facet: keys}\n")
    config = make_config("cpu", config_file=tmp_path / "settings.yaml", flags={"encode": {"dense_path": "sclip"}})
    assert (config.encode.dense_path, config.encode.facet) == ("sclip", "keys")
    asked = []
    monkeypatch.setattr(openclip, "load", lambda name, device, **rest: asked.append(rest) or MeanColour())
    monkeypatch.setattr(dino, "load", lambda name, device, **rest: asked.append(rest) or MeanPatch())
    monkeypatch.setattr(MeanPatch, "places", (), raising=False)
    encode_scene(load_scene(tiny_scene), replace(config.encode, clip="some", dino="other"))
    assert asked == [{"dense_path": "sclip"}, {"facet": "keys"}]
    with pytest.raises(ConfigError, match="maskclip"):
        make_config("cpu", flags={"encode": {"dense_path": "maskclop"}})


def test_the_options_are_those_that_the_encoders_have() -> None:
    """They are written down twice, because settings are read without torch."""
    hints = typing.get_type_hints(EncodeConfig)
    dense_path, _ = typing.get_args(hints["dense_path"])
    assert typing.get_args(dense_path) == DENSE_PATHS and hints["facet"] == dino.Facet


def test_a_run_without_features_says_so(tiny_run: Path) -> None:
    with pytest.raises(RunError, match="no features"):
        load_features(load(tiny_run))


def test_the_command_line_encodes_and_a_second_start_finds_all(cli: Cli, tiny_scene: Path, tmp_path: Path) -> None:
    done = cli("train", tiny_scene, "--only", "features", *FLAGS)
    assert done.returncode == 0, done.stderr
    for words in ("8 photos encoded", "mean-colour", str(tmp_path / "cache"), "features.png", "photos' features: 100%"):
        assert words in done.stdout.replace("\n", ""), words
    again = cli("train", tiny_scene, "--only", "features", "--json", *FLAGS)
    found = json.loads(again.stdout)
    assert found["metrics"]["features_encoded"] == 0 and found["status"] == "done"
    other = cli("train", tiny_scene, "--only", "features", "--cache-dir", tmp_path / "other", "--json", *FLAGS)
    assert json.loads(other.stdout)["metrics"]["features_encoded"] == 8 and (tmp_path / "other").is_dir()


def test_what_an_encoder_prints_is_no_result(cli: Cli, tiny_scene: Path) -> None:
    def talks(device: torch.device) -> MeanColour:
        print("from Python")
        os.write(1, b"from compiled code\n")
        subprocess.run(["echo", "from another process"], check=True)
        return MeanColour()

    register_clip("talks", talks)
    flags = ("--only", "features", "--clip", "talks", "--dino", "none", "--device", "cpu")
    done = cli("train", tiny_scene, *flags, "--json")
    assert json.loads(done.stdout)["status"] == "done"
    for words in ("from Python", "from compiled code", "from another process"):
        assert words in done.stderr
    assert "from compiled code" in cli("train", tiny_scene, *flags).stdout  # only --json reserves stdout


@dataclass
class OfAnotherShape(MeanColour):
    """One method's vectors have another shape, or are no numbers."""

    wrong: str = ""

    def encode_dense(self, images: torch.Tensor) -> torch.Tensor:
        grid = super().encode_dense(images)
        return grid.transpose(2, 3) if self.wrong == "encode_dense" else grid

    def encode_image(self, images: torch.Tensor) -> torch.Tensor:
        return super().encode_image(images)[:, : 3 if self.wrong == "encode_image" else None]

    def encode_text(self, phrases: list[str]) -> torch.Tensor:
        vectors = super().encode_text(phrases)
        return vectors / 0 * 0 if self.wrong == "encode_text" else vectors


@pytest.mark.parametrize(
    ("method", "fault"),
    [
        ("encode_dense", r"\(1, 3, 8, 12\) has the shape \(1, 4, 3, 2\), not \(1, 4, 2, 3\)"),
        ("encode_image", r"\(1, 3, 16, 16\) has the shape \(1, 3\), not \(1, 4\)"),
        ("encode_text", "no finite numbers"),
    ],
)
def test_an_encoder_of_another_shape_is_refused_before_the_first_step(
    cli: Cli, tiny_scene: Path, tmp_path: Path, method: str, fault: str
) -> None:
    register_clip("other-shape", lambda device: OfAnotherShape(wrong=method))
    with pytest.raises(EncoderError, match=f"not usable: {method} .*{fault}"):
        load_clip("other-shape")
    done = cli("train", tiny_scene, "--clip", "other-shape", "--dino", "none", "--device", "cpu")
    assert done.returncode == 2 and "not usable" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "outputs").exists()


def test_a_dino_of_another_shape_is_refused() -> None:
    register_dino("other-shape", lambda device: OfAnotherShape(wrong="encode_dense"))
    with pytest.raises(EncoderError, match="not usable: encode_dense"):
        load_dino("other-shape")


def test_a_run_without_a_field_does_not_hide_one_that_has_it(cli: Cli, tiny_scene: Path, tmp_path: Path) -> None:
    for only in ("features", "field", "features"):
        field = ("--steps", 2, "--field.levels", 2, "--field.log2-table", 8, "--max-side", 8, "--device", "cpu")
        assert cli("train", tiny_scene, "--only", only, *(field if only == "field" else FLAGS)).returncode == 0
    runs = sorted((tmp_path / "outputs" / "tiny").glob("[0-9]*/config.json"))
    assert len(runs) == 3 and load(tmp_path / "outputs" / "tiny").folder == runs[1].parent


def test_mistakes_on_the_command_line(cli: Cli, tiny_scene: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    done = cli("train", tiny_scene, "--only", "features", "--cache-dir", tmp_path / "file" / "x", *FLAGS)
    assert done.returncode == 2 and "Features cannot be kept" in done.stderr and "--cache-dir" in done.stderr
    assert "Traceback" not in done.stderr
    assert cli("train", tiny_scene, "--only", "feature", *FLAGS).returncode == 2
    idle = cli("train", tiny_scene, "--only", "field", "--steps", 1, *FLAGS)
    assert idle.returncode == 2 and "--clip and --dino would" in idle.stderr
    assert cli("train", tiny_scene, "--features", "dense", "--only", "features", "--clip-side", "0").returncode == 2
    other = cli("train", tiny_scene, "--only", "features", "--dense-path", "plain", *FLAGS)
    assert other.returncode == 2 and "omit --dense-path" in other.stderr


def test_doctor_shows_and_clears_the_cache(cli: Cli, tiny_scene: Path, tmp_path: Path) -> None:
    encode_scene(load_scene(tiny_scene), FAKE)
    (tmp_path / "cache" / "mine.txt").write_text("keep")
    shown = json.loads(cli("doctor", "--json").stdout)["feature_cache"]
    assert shown["folder"] == str(tmp_path / "cache") and shown["files"] == 9 and shown["bytes"] > 1000
    assert str(tmp_path / "cache") in cli("doctor").stdout.replace("\n", "")
    cleared = cli("doctor", "--clear-cache")
    assert cleared.returncode == 0 and "9 files" in cleared.stdout and "freed" in cleared.stdout
    again = json.loads(cli("doctor", "--clear-cache", "--json").stdout)
    assert again["files"] == 0 and (tmp_path / "cache" / "mine.txt").exists()


def test_pictures_of_features() -> None:
    grid = np.zeros((4, 6, 8), dtype=np.float16)
    grid[:, :3, 0], grid[:, 3:, 1] = 1, 1
    left_right = vector_images([Dense(grid)], [(40, 60)])[0]
    assert left_right.shape == (40, 60, 3) and left_right.dtype == np.uint8
    assert np.abs(left_right[:, 0].astype(int) - left_right[:, -1].astype(int)).max() > 200
    assert (left_right[:, :20] == left_right[0, 0]).all()
    index = np.zeros((10, 10), dtype=np.uint16)
    index[:, 5:] = 1
    outlined = region_image(np.full((10, 10, 3), 200, dtype=np.uint8), index)
    assert (outlined[:, 5] == 0).all() and (outlined[:, :5] == 200).all() and (outlined[:, 6:] == 200).all()
    assert vector_images([Dense(np.ones((1, 1, 2), dtype=np.float16))], [(3, 3)])[0].shape == (3, 3, 3)


def test_a_colour_per_vector_is_its_component_between_percentiles() -> None:
    """On a line in the plane: the first component runs along it, the second is 0, and a third there is none."""
    along = np.linspace(-1, 1, 101, dtype=np.float32)
    found = vector_colours(np.stack([3 * along, 4 * along], -1))
    expected = ((along + 0.96) / 1.92).clip(0, 1)
    red = found[:, 0] if found[-1, 0] == 1 else found[::-1, 0]
    np.testing.assert_allclose(red, expected, atol=1e-5)
    np.testing.assert_array_equal(found[:, 2], 0.5)


def test_pictures_of_long_vectors_take_little_memory() -> None:
    """All vectors of such a picture would be 157 MB."""
    import tracemalloc

    grid = np.random.default_rng(0).normal(size=(12, 16, 512)).astype(np.float16)
    tracemalloc.start()
    try:
        images = vector_images([Dense(grid)], [(240, 320)])
        assert images[0].shape == (240, 320, 3) and tracemalloc.get_traced_memory()[1] < 100e6
    finally:
        tracemalloc.stop()


LOAD = openclip.load
"""As it is: the built-in CLIP says what shapes are called."""


def from_folder(name: str, *arguments: Any, **options: Any) -> TextImageEncoder:
    if name.startswith("local-dir:"):
        return LOAD(name, *arguments, **options)
    encoder = MeanColour(logit_scale=50.0)
    encoder.places = (Path(name).resolve(strict=True),)
    return encoder


def test_a_run_can_be_asked_and_repeated_from_another_folder(
    tiny_scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An encoder, a list and a cache that were named as they are seen from the folder of the training."""
    register(monkeypatch, tmp_path / "another cache")
    here, there = tmp_path / "here", tmp_path / "there"
    (here / "weights").mkdir(parents=True)
    there.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setattr(openclip, "load", from_folder)
    (here / "list.txt").write_text("a red box\na blue box\n")
    settings = flags_of("lift", steps=5)
    settings["encode"] |= {"clip": "./weights", "phrases": "list.txt", "cache_dir": "cache"}
    config = make_config("cpu", flags=settings)
    run = train_scene(tiny_scene, config, output_dir=here / "run")
    assert differences(config, run.config) == ()
    monkeypatch.chdir(there)
    weights = str(here / "weights")
    with pytest.raises(EncoderError, match="well-known"):
        load(run.folder).query("a red box")
    assert load(run.folder, Trust(clip=weights)).query("a red box", negatives=["sand"]).present
    again = train_scene(tiny_scene, replace(load(run.folder).config, only="features"), output_dir=there / "run")
    assert again.metrics()["features_encoded"] == 0 and again.phrases == ("a red box", "a blue box")
