"""Files of weights: which are refused, and how they are identified."""

import json
from pathlib import Path

import pytest
import torch
from tiny_models import add_architecture, clip_config, random_clip, save_clip_folder

from ovseg3d.encoders import load_clip
from ovseg3d.errors import EncoderError


def test_a_checkpoint_of_another_architecture_names_what_differs(tiny: Path, tmp_path: Path) -> None:
    add_architecture(tmp_path, "tiny-wider", clip_config(width=64))
    with pytest.raises(EncoderError, match="another architecture than tiny-wider") as raised:
        load_clip(f"tiny-wider:{tiny / 'weights.pt'}")
    assert "[48]" in raised.value.what and "[64]" in raised.value.what
    # open_clip gives up on this one before it compares anything.
    config = clip_config({"width": 64})
    add_architecture(tmp_path, "tiny-wider-text", config)
    with pytest.raises(EncoderError, match="another architecture than tiny-wider-text") as raised:
        load_clip(f"tiny-wider-text:{tiny / 'weights.pt'}")
    assert "[16, 32] there and [16, 64] in the model" in raised.value.what
    add_architecture(tmp_path, "tiny-deeper", clip_config(layers=4))
    with pytest.raises(EncoderError, match="missing"):
        load_clip(f"tiny-deeper:{tiny / 'weights.pt'}")


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_positions_are_not_stretched_in_silence(tiny: Path, tmp_path: Path, suffix: str) -> None:
    from safetensors.torch import save_file

    add_architecture(tmp_path, "tiny-larger", clip_config(image_size=96))
    path = tmp_path / f"weights{suffix}"
    state = torch.load(tiny / "weights.pt")
    save_file(state, path) if suffix == ".safetensors" else torch.save({"state_dict": state}, path)
    with pytest.raises(EncoderError, match=r"positional_embedding is \[17, 48\] there and \[37, 48\]"):
        load_clip(f"tiny-larger:{path}")
    load_clip(f"tiny-named:{path}")


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("open_clip_model.safetensors", b"not weights", "cut or damaged"),
        ("open_clip_model.safetensors", None, "no weights"),
        ("open_clip_config.json", b"{", "not valid JSON"),
        ("open_clip_config.json", b"{}", "cannot be read"),
        ("open_clip_config.json", None, "holds no open_clip model"),
    ],
)
def test_broken_folders_are_refused(tiny: Path, tmp_path: Path, file: str, content: bytes | None, message: str) -> None:
    folder = save_clip_folder(tmp_path / "broken", clip_config(), random_clip("tiny-named"))
    (folder / file).unlink() if content is None else (folder / file).write_bytes(content)
    with pytest.raises(EncoderError, match=message):
        load_clip(str(folder))


def test_the_weights_that_are_loaded_are_the_ones_that_are_checked(tiny: Path, tmp_path: Path) -> None:
    """Folders of the hub hold the same weights for transformers too, under other names."""
    from safetensors.torch import save_file

    folder = save_clip_folder(tmp_path / "two", clip_config(), random_clip("tiny-named"))
    before = load_clip(str(folder)).weight_hash
    save_file({"vision_model.other": torch.zeros(3)}, folder / "model.safetensors")
    assert load_clip(str(folder)).weight_hash == before
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"]["vision_cfg"]["image_size"] = 96
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(EncoderError, match="positional_embedding"):
        load_clip(str(folder))


def test_a_folder_without_its_tokenizer(tmp_path: Path) -> None:
    text = {"hf_tokenizer_name": "anything", "vocab_size": 12}
    add_architecture(tmp_path, "tiny-wordless", {**clip_config(text), "custom_text": True})
    folder = save_clip_folder(
        tmp_path / "wordless", {**clip_config(text), "custom_text": True}, random_clip("tiny-wordless")
    )
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        (folder / name).unlink(missing_ok=True)
    with pytest.raises(EncoderError, match="The tokenizer cannot be read"):
        load_clip(str(folder))


def test_the_hash_is_of_the_content(tiny: Path, tmp_path: Path) -> None:
    copy = tmp_path / "renamed.pt"
    copy.write_bytes((tiny / "weights.pt").read_bytes())
    first, second = (load_clip(f"tiny-named:{path}").weight_hash for path in (tiny / "weights.pt", copy))
    assert first == second and len(first) == 16
    torch.save(random_clip("tiny-named", seed=1).state_dict(), copy)
    assert load_clip(f"tiny-named:{copy}").weight_hash != first


def test_no_name_is_taken_for_the_hash(tmp_path: Path) -> None:
    """The hub's cache calls a file by its SHA-256; one that was cut or exchanged later still has that name."""
    from ovseg3d.encoders.weights import hash_files

    path, other = tmp_path / ("a" * 64), tmp_path / "other"
    path.write_bytes(b"weights")
    other.write_bytes(b"weights")
    assert hash_files([path]) == hash_files([other])
    path.write_bytes(b"others.")
    assert hash_files([path]) != hash_files([other])


def test_a_card_may_choose_the_dense_path(tiny: Path, tmp_path: Path) -> None:
    folder = save_clip_folder(tmp_path / "carded", clip_config(), random_clip("tiny-named"))
    plain, images = load_clip(str(folder)), torch.rand(1, 3, 32, 32)
    expected = load_clip(str(folder), dense_path="maskclip")
    assert expected.id == f"{plain.id}+maskclip"
    (folder / "card.json").write_text('{"dense_path": "maskclip", "calibration": {"slope": 2.0}}')
    carded = load_clip(str(folder))
    assert carded.calibration == {"slope": 2.0}
    torch.testing.assert_close(carded.encode_dense(images), expected.encode_dense(images))
    assert carded.id == plain.id and carded.weight_hash != plain.weight_hash
    assert load_clip(str(folder), dense_path="auto").id == f"{plain.id}+auto"
    with pytest.raises(EncoderError, match="no dense path"):
        load_clip(str(folder), dense_path="best")
