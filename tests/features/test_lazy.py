"""A second start: facts about encoders are cached, so that none is loaded, and checked against their content."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fake_encoders import MeanColour
from PIL import Image
from tiny_models import add_architecture, clip_config, random_clip, save_clip_folder, save_dino

import ovseg3d
from ovseg3d.encoders import DenseEncoder, TextImageEncoder, TokenEncoder, dino, openclip, register_clip, registry, sam
from ovseg3d.encoders.base import facts
from ovseg3d.errors import EncoderError
from ovseg3d.features.cache import FeatureCache
from ovseg3d.features.encode import encode_scene
from ovseg3d.features.lazy import lazy_clip, lazy_dino
from ovseg3d.features.scenes import SceneFeatures
from ovseg3d.runs.config import EncodeConfig
from ovseg3d.scene import Scene, load_scene


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `clip` and `dino`, tiny and random."""
    folder = tmp_path_factory.mktemp("models")
    add_architecture(folder, "tiny-lazy", clip_config())
    save_clip_folder(folder / "clip", clip_config(), random_clip("tiny-lazy"))
    save_dino(folder / "dino", "dino")
    return folder


@pytest.fixture
def mine(models: Path, tmp_path: Path) -> Path:
    """A copy of those, to be changed."""
    return shutil.copytree(models, tmp_path / "models")


@pytest.fixture
def cache(tmp_path: Path) -> FeatureCache:
    return FeatureCache.at(tmp_path / "cache")


def unable(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on no model can be loaded."""
    for module, name in ((openclip, "load"), (dino, "load"), (sam, "load_sam")):
        monkeypatch.setattr(module, name, lambda *_, **__: pytest.fail("loaded a model"))


def few(scene: Scene) -> Scene:
    return replace(scene, frames=scene.frames[:2], train=(0, 1), test=())


def encode(scene: Scene, models: Path, cache: FeatureCache, **changes: object) -> SceneFeatures:
    settings = {"clip_side": 32, "dino_side": 32, "cache_dir": str(cache.folder), **changes}
    found = encode_scene(scene, EncodeConfig(clip=str(models / "clip"), dino=str(models / "dino"), **settings))
    assert found is not None
    return found


def test_a_second_start_loads_nothing(
    tiny_scene: Path, models: Path, cache: FeatureCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = few(load_scene(tiny_scene))
    first = encode(scene, models, cache)
    assert first.made == 2
    unable(monkeypatch)
    again = encode(scene, models, cache)
    assert again.made == 0 and again.keys == first.keys and again[1].dino is not None


def test_what_is_known_is_what_would_be_loaded(models: Path, cache: FeatureCache) -> None:
    for lazy, name, interface in ((lazy_clip, "clip", TextImageEncoder), (lazy_dino, "dino", DenseEncoder)):
        loaded, known = (lazy(str(models / name), cache) for _ in range(2))
        assert type(loaded) is not type(known) and isinstance(known, interface)
        for fact in facts(interface):
            assert getattr(known, fact) == getattr(loaded, fact), fact
        images = torch.rand(1, 3, 32, 64)
        torch.testing.assert_close(known.encode_dense(images), loaded.encode_dense(images))
    clip, known = (lazy_clip(str(models / "clip"), cache) for _ in range(2))
    torch.testing.assert_close(known.encode_text(["a chair"]), clip.encode_text(["a chair"]))
    torch.testing.assert_close(known.encode_image(images), clip.encode_image(images))


def test_weights_that_are_gone_do_no_harm_until_they_are_needed(
    tiny_scene: Path, mine: Path, cache: FeatureCache, tmp_path: Path
) -> None:
    folder = shutil.copytree(tiny_scene, tmp_path / "scene")
    encode(few(load_scene(folder)), mine, cache)
    shutil.rmtree(mine)
    assert encode(few(load_scene(folder)), mine, cache).made == 0
    Image.new("RGB", (32, 32), "teal").save(folder / "images" / "0001.png")
    with pytest.raises(EncoderError, match="no (such )?folder"):
        encode(few(load_scene(folder)), mine, cache)


def exchange(path: Path, other: Path) -> None:
    """Other content of the same length, with the old date."""
    before = path.stat()
    assert other.stat().st_size == before.st_size
    path.write_bytes(other.read_bytes())
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def others(mine: Path) -> Path:
    return save_dino(mine / "other", "dino", seed=1) / "model.safetensors"


def overwrite(mine: Path) -> None:
    exchange(mine / "dino" / "model.safetensors", others(mine))


def leave_older_ones(mine: Path) -> None:
    """Two files of weights, of which the first is what counts, until it is gone."""
    (mine / "dino" / "model.safetensors").unlink()


def other_settings(mine: Path) -> None:
    path = mine / "dino" / "preprocessor_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "image_mean": [0.1, 0.1, 0.1]}))


@pytest.mark.parametrize("change", [overwrite, leave_older_ones, other_settings])
def test_whatever_changes_is_seen(mine: Path, cache: FeatureCache, change: Callable[[Path], None]) -> None:
    from safetensors.torch import load_file

    torch.save(load_file(others(mine)), mine / "dino" / "pytorch_model.bin")
    before = lazy_dino(str(mine / "dino"), cache).weight_hash
    assert lazy_dino(str(mine / "dino"), cache).weight_hash == before
    change(mine)
    after = [lazy_dino(str(mine / "dino"), cache).weight_hash for _ in range(2)]
    assert after[0] == after[1] != before
    assert after[0] == registry.load_dino(str(mine / "dino")).weight_hash


def test_a_file_that_comes_in_addition_is_seen(mine: Path, cache: FeatureCache) -> None:
    before = lazy_clip(str(mine / "clip"), cache).weight_hash
    (mine / "clip" / "card.json").write_text('{"dense_path": "maskclip"}')
    assert lazy_clip(str(mine / "clip"), cache).weight_hash != before


def test_content_wins_over_what_was_known(mine: Path, cache: FeatureCache, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk whose dates say nothing."""
    monkeypatch.setattr("ovseg3d.features.lazy.file_state", lambda path: [1, 2, 3])
    before, images = lazy_dino(str(mine / "dino"), cache).weight_hash, torch.rand(1, 3, 32, 32)
    exchange(mine / "dino" / "model.safetensors", others(mine))
    wrong = lazy_dino(str(mine / "dino"), cache)
    assert wrong.weight_hash == before
    with pytest.raises(EncoderError, match="have changed since"):
        wrong.encode_dense(images)
    right = lazy_dino(str(mine / "dino"), cache)
    assert right.weight_hash != before and right.encode_dense(images).shape == (1, 32, 4, 4)


def test_weights_that_change_while_they_are_hashed_are_not_known(
    mine: Path, cache: FeatureCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, hash_files = others(mine), dino.weights.hash_files

    def slow(paths: list[Path]) -> str:
        found = hash_files(paths)
        exchange(mine / "dino" / "model.safetensors", other)
        return found

    monkeypatch.setattr(dino.weights, "hash_files", slow)
    before = lazy_dino(str(mine / "dino"), cache).weight_hash
    monkeypatch.setattr(dino.weights, "hash_files", hash_files)
    assert lazy_dino(str(mine / "dino"), cache).weight_hash != before


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"facts": 3, "places": 4, "files": 5, "folder": null}', None])
def test_damaged_notes_are_written_again(models: Path, cache: FeatureCache, text: str | None) -> None:
    expected = lazy_dino(str(models / "dino"), cache).weight_hash
    (note,) = (cache.folder / "encoders").iterdir()
    if text is None:
        stated = json.loads(note.read_text())
        del stated["facts"]["preprocess"]["mean"]
        text = json.dumps(stated)
    note.write_text(text)
    assert lazy_dino(str(models / "dino"), cache).weight_hash == expected
    assert json.loads(note.read_text())["facts"]["weight_hash"] == expected


def test_a_cache_that_cannot_be_written_to_knows_nothing(models: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for _ in range(2):
        assert isinstance(lazy_clip(str(models / "clip"), FeatureCache.at(tmp_path / "file" / "x")), TokenEncoder)


def test_a_name_that_is_a_path_from_here(
    mine: Path, cache: FeatureCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (mine / "dino").rename(mine / "one")
    save_dino(tmp_path / "two" / "one", "dino", seed=1)
    monkeypatch.chdir(mine)
    first = lazy_dino("./one", cache).weight_hash
    monkeypatch.chdir(tmp_path / "two")
    assert lazy_dino("./one", cache).weight_hash != first


def test_settings_of_encoders_are_known_apart(
    tiny_scene: Path, models: Path, cache: FeatureCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = few(load_scene(tiny_scene))
    usual = encode(scene, models, cache)
    plain, keys = encode(scene, models, cache, dense_path="plain"), encode(scene, models, cache, facet="keys")
    assert plain.made == keys.made == 2 and len({usual.keys, plain.keys, keys.keys}) == 3
    unable(monkeypatch)
    assert encode(scene, models, cache, dense_path="plain").keys == plain.keys
    assert encode(scene, models, cache, facet="keys").keys == keys.keys


def test_registered_ones_are_loaded_at_once(cache: FeatureCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_clips", {})
    register_clip("mine", lambda device: MeanColour())
    assert [type(lazy_clip("mine", cache)) for _ in range(2)] == [MeanColour] * 2
    with pytest.raises(EncoderError, match="no --dense-path"):
        lazy_clip("mine", cache, dense_path="plain")


def test_a_second_start_imports_no_library_of_models(models: Path, cache: FeatureCache) -> None:
    names = str(models / "clip"), str(models / "dino")
    lazy_clip(names[0], cache), lazy_dino(names[1], cache)
    code = (
        "import sys; from ovseg3d.features.cache import FeatureCache\n"
        "from ovseg3d.features.lazy import lazy_clip, lazy_dino\n"
        "cache = FeatureCache.at(sys.argv[1])\n"
        "print(lazy_clip(sys.argv[2], cache).dim, lazy_dino(sys.argv[3], cache).dim)\n"
        "print([m for m in ('open_clip', 'transformers', 'timm', 'torchvision') if m in sys.modules])\n"
    )
    # The same installation as here: another one would have built-in encoders of its own.
    home = {**os.environ, "PYTHONPATH": str(Path(ovseg3d.__file__).parents[1])}
    command = [sys.executable, "-P", "-c", code, str(cache.folder), *names]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=home)
    assert done.stdout.split("\n")[:2] == ["24 32", "[]"]
