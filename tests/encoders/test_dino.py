"""transformers' models through our adapter: patch tokens, keys, any size, and checkpoints that do not fit."""

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from tiny_models import save_dino

from ovseg3d.encoders import DenseEncoder, load_dino
from ovseg3d.errors import EncoderError

PREFIX = {"dino": 1, "dinov2": 1, "registers": 4, "dinov3": 3}


@pytest.fixture(scope="module", params=list(PREFIX))
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def folder(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_dino(tmp_path_factory.mktemp("dino") / kind, kind)


@pytest.mark.parametrize("size", [(32, 32), (40, 72), (8, 8)])
def test_features_are_the_last_hidden_states_patches(kind: str, folder: Path, size: tuple[int, int]) -> None:
    from transformers import AutoModel

    loaded = load_dino(str(folder))
    assert isinstance(loaded, DenseEncoder)
    assert (loaded.id, loaded.dim, loaded.patch) == (f"transformers:local-dir:{kind}", 32, 8)
    images = torch.rand(2, 3, *size)
    mean, std = torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.2, 0.25, 0.3])
    pixels = (images - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    options = {"interpolate_pos_encoding": True} if kind == "dino" else {}
    with torch.no_grad():
        hidden = AutoModel.from_pretrained(folder)(pixel_values=pixels, **options).last_hidden_state
    expected = hidden[:, PREFIX[kind] :].transpose(1, 2).unflatten(2, (size[0] // 8, size[1] // 8))
    torch.testing.assert_close(loaded.encode_dense(images), F.normalize(expected, dim=1), atol=1e-5, rtol=0)


def test_keys_are_the_last_blocks(kind: str, folder: Path) -> None:
    loaded, images = load_dino(str(folder), facet="keys"), torch.rand(1, 3, 24, 40)
    assert loaded.id.endswith("+keys")
    layer = [m for m in loaded.model.modules() if type(m).__name__.endswith("Layer")][-1]
    seen = {}
    norm = getattr(layer, "norm1", None) or layer.layernorm_before
    handle = norm.register_forward_hook(lambda m, a, out: seen.update(x=out))
    keys = loaded.encode_dense(images)
    handle.remove()
    expected = layer.attention.k_proj(seen["x"])[:, PREFIX[kind] :]
    torch.testing.assert_close(keys[0].flatten(1).T, F.normalize(expected[0], dim=-1), atol=1e-5, rtol=0)


def test_preprocessing_is_read_from_the_folder(folder: Path, tmp_path: Path) -> None:
    preprocess = load_dino(str(folder)).preprocess
    assert (preprocess.size, preprocess.interpolation, preprocess.resize_mode) == ((32, 32), "bilinear", "shortest")
    for file in ("config.json", "model.safetensors"):
        (tmp_path / file).write_bytes((folder / file).read_bytes())
    bare = load_dino(f"local-dir:{tmp_path}").preprocess
    assert (bare.mean, bare.size, bare.interpolation) == ((0.485, 0.456, 0.406), (32, 32), "bicubic")


def test_sides_have_to_be_multiples_of_the_patch(folder: Path) -> None:
    with pytest.raises(EncoderError, match="multiples of 8"):
        load_dino(str(folder)).encode_dense(torch.rand(1, 3, 32, 30))


def test_the_hash_is_of_the_content(tmp_path: Path) -> None:
    first = save_dino(tmp_path / "one", "dinov2")
    same = save_dino(tmp_path / "two", "dinov2")
    other = save_dino(tmp_path / "three", "dinov2", seed=1)
    hashes = [load_dino(str(path)).weight_hash for path in (first, same, other)]
    assert hashes[0] == hashes[1] != hashes[2]
    assert len(hashes[0]) == 16
    (same / "preprocessor_config.json").unlink()
    assert load_dino(str(same)).weight_hash != hashes[0]


def test_a_checkpoint_of_another_shape_is_refused(tmp_path: Path) -> None:
    folder = save_dino(tmp_path / "mixed", "dinov2")
    wide = save_dino(tmp_path / "wide", "dinov2", hidden_size=48)
    (folder / "model.safetensors").write_bytes((wide / "model.safetensors").read_bytes())
    with pytest.raises(EncoderError, match="another architecture") as raised:
        load_dino(str(folder))
    assert "48" in raised.value.what and "32" in raised.value.what


def test_a_checkpoint_that_leaves_something_out_is_refused(tmp_path: Path) -> None:
    folder = save_dino(tmp_path / "short", "dino")
    state = load_file(folder / "model.safetensors")
    dropped = next(key for key in state if "layers.1" in key or "layer.1" in key)
    state.pop(dropped)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(EncoderError, match="missing"):
        load_dino(str(folder))
    # The pooling layer is not ours to need.
    whole = save_dino(tmp_path / "unpooled", "dino")
    state = {key: value for key, value in load_file(whole / "model.safetensors").items() if "pooler" not in key}
    save_file(state, whole / "model.safetensors", metadata={"format": "pt"})
    load_dino(str(whole))


def test_old_formats_load(tmp_path: Path) -> None:
    """facebook/dino-vits8 is a pytorch_model.bin."""
    folder = save_dino(tmp_path / "old", "dino")
    images = torch.rand(1, 3, 32, 32)
    expected = load_dino(str(folder)).encode_dense(images)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    torch.testing.assert_close(load_dino(str(folder)).encode_dense(images), expected)
    torch.testing.assert_close(load_dino(str(folder / "pytorch_model.bin")).encode_dense(images), expected)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "model.safetensors").write_bytes(b"not weights"), "cut or damaged"),
        (lambda f: (f / "model.safetensors").unlink(), "no weights"),
        (lambda f: (f / "config.json").unlink(), "missing"),
        (lambda f: (f / "config.json").write_text("{}"), "model_type"),
        (lambda f: (f / "config.json").write_text(json.dumps({"model_type": "nothing-known"})), "does not know"),
    ],
)
def test_broken_folders_are_refused(tmp_path: Path, spoil, message: str) -> None:
    folder = save_dino(tmp_path / "broken", "dinov2")
    spoil(folder)
    with pytest.raises(EncoderError, match=message):
        load_dino(str(folder))


def test_other_kinds_of_models_are_refused(tmp_path: Path) -> None:
    from transformers import BertConfig, BertModel

    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 16}
    BertModel(BertConfig(vocab_size=10, **sizes)).save_pretrained(tmp_path / "bert")
    with pytest.raises(EncoderError, match="not a vision transformer"):
        load_dino(str(tmp_path / "bert"))
    with pytest.raises(EncoderError, match="facet"):
        load_dino(str(save_dino(tmp_path / "d", "dinov2")), facet="values")


def test_a_file_beside_the_one_that_would_be_loaded_is_refused(tmp_path: Path) -> None:
    """transformers takes model.safetensors, whichever file is named."""
    folder, other = save_dino(tmp_path / "two", "dino"), save_dino(tmp_path / "other", "dino", seed=1)
    torch.save(load_file(other / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "tuned.safetensors").write_bytes((other / "model.safetensors").read_bytes())
    for name in ("pytorch_model.bin", "tuned.safetensors"):
        with pytest.raises(EncoderError, match="Not this file but model.safetensors"):
            load_dino(str(folder / name))
    assert load_dino(str(folder / "model.safetensors")).weight_hash == load_dino(str(folder)).weight_hash


def test_towers_of_convolutions_are_refused(tmp_path: Path) -> None:
    """facebook/dinov3-convnext-tiny is one that somebody will try."""
    from transformers import ConvNextConfig, ConvNextModel

    ConvNextModel(ConvNextConfig(hidden_sizes=[4, 4, 4, 4], depths=[1, 1, 1, 1])).save_pretrained(tmp_path)
    with pytest.raises(EncoderError, match="not a vision transformer"):
        load_dino(str(tmp_path))
