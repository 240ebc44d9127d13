"""Names of encoders: suggestions, paths, registration and entry points."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny_models import add_architecture, clip_config, random_clip, save_clip_folder, save_dino

from ovseg3d.encoders import (
    Preprocess,
    TextImageEncoder,
    TokenEncoder,
    load_clip,
    load_dino,
    register_clip,
    register_dino,
    registry,
)
from ovseg3d.errors import EncoderError


@pytest.mark.parametrize(
    ("load", "name", "hint"),
    [
        (load_clip, "ViT-B16:openai", "ViT-B-16"),
        (load_clip, "ViT-B-16:laion2b_s34b_b88", "laion2b_s34b_b88k"),
        (load_clip, "ViT-B-16", "ViT-B-16:TAG"),
        (load_clip, "bulitin", "builtin"),
        (load_dino, "dinov2-smal", "facebook/dinov2-small"),
        (load_dino, "bulitin", "builtin"),
    ],
)
def test_unknown_names_get_a_suggestion(load, name: str, hint: str) -> None:
    with pytest.raises(EncoderError) as raised:
        load(name)
    assert hint in (raised.value.fix or "")


@pytest.mark.parametrize(
    ("load", "name", "message"),
    [
        (load_clip, "local-dir:/nowhere/at/all", "does not exist"),
        (load_clip, "/nowhere/at/all", "no folder"),
        (load_clip, "tiny-named:/nowhere/weights.pt", "no such file"),
        (load_dino, "/nowhere/at/all", "no such folder"),
        (load_dino, "local-dir:/nowhere", "no such folder"),
        (load_clip, "x" * 300, "Unknown model"),
        (load_clip, "tiny-named:" + "x" * 300, "no weights called"),
        (load_dino, "x" * 300, "Unknown model"),
        (load_dino, "/" + "x" * 300, "no such folder"),
    ],
)
def test_paths_that_are_not_there(tiny: Path, load, name: str, message: str) -> None:
    with pytest.raises(EncoderError, match=message):
        load(name)


def test_weights_alone_do_not_say_their_architecture(tiny: Path) -> None:
    for load in (load_clip, load_dino):
        with pytest.raises(EncoderError, match="which architecture"):
            load(str(tiny / "weights.pt"))


def test_the_builtin_ones_are_found_where_they_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "__file__", str(tmp_path / "registry.py"))
    for load, kind in ((load_clip, "CLIP"), (load_dino, "DINO")):
        with pytest.raises(EncoderError, match=f"built-in {kind} is not in this installation"):
            load("builtin")
    add_architecture(tmp_path, "tiny-named", clip_config())
    save_clip_folder(tmp_path / "builtin" / "clip", clip_config(), random_clip("tiny-named"))
    save_dino(tmp_path / "builtin" / "dino", "dinov2")
    assert load_clip("builtin").id == "builtin"
    assert load_dino("builtin").id == "builtin"


class Colours:
    """The smallest encoder: the mean colour of every patch."""

    id, weight_hash, dim, patch = "colours", "0" * 16, 3, 4
    preprocess = Preprocess(size=(16, 16), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def encode_dense(self, images: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(torch.nn.functional.avg_pool2d(images, self.patch), dim=1)


def test_an_encoder_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_dinos", {})
    monkeypatch.setattr(registry, "_clips", {})
    register_dino("colours", Colours)
    assert load_dino("colours", "cpu").encode_dense(torch.rand(1, 3, 8, 8)).shape == (1, 3, 2, 2)
    with pytest.raises(EncoderError) as raised:
        load_dino("colors")
    assert "colours" in raised.value.fix
    assert registry.names("dino") == ["colours"]
    register_dino("broken", lambda device: 1 // 0)
    with pytest.raises(EncoderError, match="broken.*ZeroDivisionError"):
        load_dino("broken")
    register_clip("ViT-B-16", Colours)
    with pytest.raises(EncoderError, match="'ViT-B-16' lacks .*encode_text"):
        load_clip("ViT-B-16")
    with pytest.raises(EncoderError, match="cannot be called"):
        register_clip("builtin", lambda device: None)


class MyClip(Colours):
    """What a text-image encoder has to have, and nothing more."""

    dense, logit_scale, logit_bias = True, 10.0, None

    def encode_text(self, phrases: list[str]) -> torch.Tensor:
        return torch.eye(3)[: len(phrases)]

    def encode_image(self, images: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(images.mean(dim=(2, 3)), dim=1)


def test_a_clip_of_ones_own_needs_only_what_features_need(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_clips", {})
    register_clip("my-clip", MyClip)
    loaded = load_clip("my-clip")
    assert isinstance(loaded, TextImageEncoder) and not isinstance(loaded, TokenEncoder)
    with pytest.raises(EncoderError, match="no --dense-path"):
        load_clip("my-clip", dense_path="plain")
    monkeypatch.setattr(registry, "_dinos", {"colours": Colours})
    with pytest.raises(EncoderError, match="no --facet"):
        load_dino("colours", facet="keys")


def test_an_entry_point_needs_no_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that is only installed: a module and the entry points in its metadata."""
    (tmp_path / "others_encoders.py").write_text("from test_registry import Colours as make\n")
    info = tmp_path / "others-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: others\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[ovseg3d.clip]\nbroken = others_nothing:make\n[ovseg3d.dino]\ntheir-dino = others_encoders:make\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert load_dino("their-dino").id == "colours"
    assert "their-dino" in registry.names("dino")
    with pytest.raises(EncoderError, match="broken.*cannot be loaded"):
        load_clip("broken")
    with pytest.raises(EncoderError) as raised:
        load_dino("their-din")
    assert "their-dino" in raised.value.fix


def test_importing_is_light() -> None:
    code = (
        "import sys, ovseg3d.encoders; from ovseg3d.encoders import load_clip, load_dino\n"
        "print([m for m in ('open_clip', 'transformers', 'timm', 'torchvision') if m in sys.modules])\n"
        "import ovseg3d.encoders as e; del e\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ})
    assert done.stdout.strip() == "[]"


def test_names_that_mean_the_same_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "_clips", {"mine": None})
    for folder in ("weights/it", "facebook/dino-vits8", "builtin", "mine", "owner/name"):
        (tmp_path / folder).mkdir(parents=True)
    for file in ("w.pt", "openai", "RN50"):
        (tmp_path / file).touch()
    whole = {
        "clip": ("weights/it", "local-dir:weights/it", "ViT-B-16:w.pt"),
        "dino": ("weights/it", "./weights/it", "facebook/dino-vits8", "w.pt"),
        "segments": ("sam:weights/it",),
    }
    for kind, names in whole.items():
        for name in names:
            before, colon, path = name.rpartition(":")
            assert registry.whole_name(name, kind) == f"{before}{colon}{tmp_path / path}"
    # What no folder or file here decides stays as it is, though something here has its name.
    others = ("auto", "builtin", "mine", "ViT-B-16:openai", "RN50", "hf-hub:owner/name", "absent", str(tmp_path))
    for name in others:
        assert registry.whole_name(name, "clip") == name
    for way in ("dino", "superpixels"):
        (tmp_path / way).mkdir()
        assert registry.whole_name(way, "segments") == way
    assert registry.whole_name("none", "dino") == "none"


def test_every_release_of_transformers_reads_the_shipped_dino() -> None:
    """Newer ones rename tensors as they load them; older ones know only the names of the hub's files."""
    from safetensors import safe_open

    from ovseg3d.encoders.registry import builtin_folder

    with safe_open(builtin_folder("dino", "config.json") / "model.safetensors", "pt") as file:
        names = list(file.keys())
    assert "encoder.layer.0.attention.attention.query.weight" in names
    assert not [name for name in names if "_proj" in name]
