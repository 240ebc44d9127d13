"""Untrusted model folders and names: no code of theirs runs, and no oversized model is built."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import Cli
from safetensors import safe_open
from safetensors.numpy import save_file
from tiny_models import clip_config, random_clip, save_clip_folder, save_dino

from ovseg3d.encoders import hub, load_clip, load_dino
from ovseg3d.encoders.registry import ADMITTED, DEFAULT_CLIP, admitted
from ovseg3d.errors import EncoderError
from ovseg3d.limits import Trust
from ovseg3d.pipeline.train import train_scene
from ovseg3d.runs.settings import make_config
from ovseg3d.session import load


@pytest.fixture
def ran(tmp_path: Path) -> Iterator[Path]:
    """A file that the folder's code would make; the test fails where it did."""
    path = tmp_path / "ran"
    yield path
    assert not path.exists(), "the code of a stranger ran"


@pytest.fixture
def clip_folder(tiny: Path, tmp_path: Path) -> Path:
    return save_clip_folder(tmp_path / "clip", clip_config(), random_clip("tiny-named"))


def with_code(folder: Path, ran: Path) -> Path:
    """A folder of CLIP whose tokenizer is Python of its own."""
    (folder / "mine.py").write_text(
        f"open({str(ran)!r}, 'w').close()\n"
        "from transformers import PreTrainedTokenizerFast\nclass Mine(PreTrainedTokenizerFast): pass\n"
    )
    change(folder / "open_clip_config.json", ("model_cfg", "text_cfg", "tokenizer_kwargs"), {"trust_remote_code": True})
    change(folder / "open_clip_config.json", ("model_cfg", "text_cfg", "hf_tokenizer_name"), "somebody/model")
    settings = {"tokenizer_class": "Mine", "auto_map": {"AutoTokenizer": [None, "mine.Mine"]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def change(path: Path, keys: tuple[str, ...], value: Any) -> None:
    """Set one value in a JSON file."""
    settings = json.loads(path.read_text()) if path.exists() else {}
    inner = settings
    for key in keys[:-1]:
        inner = inner.setdefault(key, {})
    inner[keys[-1]] = value
    path.write_text(json.dumps(settings))


def test_a_capture_cannot_name_code(cli: Cli, tiny_scene: Path, clip_folder: Path, tmp_path: Path, ran: Path) -> None:
    folder = with_code(clip_folder, ran)
    scene = shutil.copytree(tiny_scene, tmp_path / "scene")
    change(scene / "transforms.json", ("recommended_encoder",), {"clip": f"local-dir:{folder}", "dino": "builtin"})
    done = cli("train", scene, "--steps", "1", "--device", "cpu")
    assert done.returncode == 2 and "well-known" in done.stderr and "--clip" in done.stderr
    assert not (tmp_path / "outputs").exists()
    # Nor does it run when the user names the folder.
    done = cli("train", scene, "--steps", "1", "--device", "cpu", "--clip", folder)
    assert done.returncode == 2 and "asks for code of its own" in done.stderr


def test_a_run_cannot_name_code(
    colour_run: Path, clip_folder: Path, tmp_path: Path, ran: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    from exact import register

    register(monkeypatch, tmp_path / "cache")
    folder, run = with_code(clip_folder, ran), shutil.copytree(colour_run, tmp_path / "run")
    file = run / "semantics.safetensors"
    with safe_open(file, framework="numpy") as stored:
        facts = json.loads(stored.metadata()["ovseg3d"])
        arrays = {name: stored.get_tensor(name) for name in stored.keys()}
    usual = facts["encoder"]["name"]
    facts["encoder"]["name"] = str(folder)
    save_file(arrays, file, metadata={"ovseg3d": json.dumps(facts)})
    done = cli("query", run, "red", "--device", "cpu")
    assert done.returncode == 2 and "well-known" in done.stderr
    # The user may say where it is, and its hash tells whether that is true.
    assert cli("query", run, "red", "--device", "cpu", "--clip", usual).returncode == 0
    shutil.rmtree(folder)
    save_clip_folder(folder, clip_config(), random_clip("tiny-named"))
    done = cli("query", run, "red", "--device", "cpu", "--clip", folder)
    assert done.returncode == 2 and "has other weights" in done.stderr


@pytest.mark.parametrize("kind", ["clip", "dino"])
def test_a_run_that_is_resumed_cannot_name_a_folder(
    kind: str, tiny_run: Path, clip_folder: Path, tmp_path: Path, cli: Cli
) -> None:
    run = shutil.copytree(tiny_run, tmp_path / "run")
    change(run / "config.json", ("config", "encode", kind), str(clip_folder))
    for arguments in (
        (run, "--resume", "--only", "features"),
        (json.loads((run / "config.json").read_text())["scene"]["path"], "--config", run / "config.json"),
    ):
        done = cli("train", *arguments, "--device", "cpu")
        assert done.returncode == 2 and f"--{kind}" in done.stderr, done.stderr


def test_a_run_does_not_say_where_features_are_kept(tiny_run: Path, tmp_path: Path) -> None:
    from ovseg3d.features.encode import without_cache

    run = load(tiny_run)
    config = replace(run.config, encode=replace(run.config.encode, cache_dir=str(tmp_path / "theirs")))
    assert without_cache(config).encode.cache_dir is None
    assert without_cache(config, Trust(outside=True)).encode.cache_dir == str(tmp_path / "theirs")


def test_a_file_may_name_a_few_encoders_and_have_the_default_fetched_only(monkeypatch: pytest.MonkeyPatch) -> None:
    assert all(admitted(name, "clip") == name for name in ADMITTED["clip"])
    for name in ("hf-hub:somebody/model", "/tmp/model", "local-dir:x", "ViT-B-16:/tmp/weights.pt", "\x1b[2J"):
        with pytest.raises(EncoderError, match="well-known") as raised:
            admitted(name, "clip")
        assert "\x1b" not in str(raised.value)
    monkeypatch.setattr(hub, "_download", lambda *_: pytest.fail("was fetched"))
    monkeypatch.setattr(hub, "hub_answers", lambda *_: True)
    with hub.only_local(), pytest.raises(EncoderError, match="only a flag may"):
        load_clip(DEFAULT_CLIP)


def test_a_dino_with_code_of_its_own_is_refused_without_a_question(tmp_path: Path, ran: Path) -> None:
    folder = save_dino(tmp_path / "dino", "dino")
    (folder / "mine.py").write_text(f"open({str(ran)!r}, 'w').close()\n")
    change(folder / "config.json", ("auto_map",), {"AutoConfig": "mine.Mine", "AutoModel": "mine.Mine"})
    with pytest.raises(EncoderError, match="asks for code of its own"):
        load_dino(str(folder))


@pytest.mark.parametrize("name", ["preprocessor_config.json", "generation_config.json", "deep.json"])
def test_code_is_refused_in_every_file_and_at_every_depth(tmp_path: Path, name: str) -> None:
    folder = save_dino(tmp_path / "dino", "dino")
    change(folder / name, ("a", "b", "c", "auto_map"), {"AutoImageProcessor": "mine.Mine"})
    with pytest.raises(EncoderError, match="asks for code of its own"):
        load_dino(str(folder))
    (folder / name).write_text('{"model": {"vocab": {"auto_map": 7, "trust_remote_code": 8}}}')  # two words
    load_dino(str(folder))


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("model_cfg", "vision_cfg", "width"), 10**9),
        (("model_cfg", "vision_cfg", "width"), 16_000),
        (("model_cfg", "vision_cfg", "layers"), 10**6),
        (("model_cfg", "vision_cfg", "layers"), "many"),
        (("model_cfg", "text_cfg", "vocab_size"), 4_000_000),
        (("model_cfg", "text_cfg", "context_length"), -1),
        (("model_cfg", "embed_dim"), True),
        (("model_cfg", "vision_cfg", "image_size"), 1e300),
        (("model_cfg", "vision_cfg", "timm_model_name"), "local-dir:/tmp/other"),
        (("model_cfg", "text_cfg", "hf_model_name"), "../other"),
        (("preprocess_cfg", "mean"), "grey"),
        (("preprocess_cfg", "mean"), [1, 2]),
        (("preprocess_cfg", "std"), [0, 0, 0]),
        (("preprocess_cfg", "size"), [10**6, 10**6]),
        (("preprocess_cfg",), []),
    ],
)
def test_odd_settings_of_a_model_are_refused(clip_folder: Path, keys: tuple[str, ...], value: Any) -> None:
    change(clip_folder / "open_clip_config.json", keys, value)
    with pytest.raises(EncoderError):
        load_clip(str(clip_folder))


@pytest.mark.parametrize(
    ("file", "keys", "value"),
    [
        ("config.json", ("hidden_size",), 2**40),
        ("config.json", ("num_hidden_layers",), 10**7),
        ("config.json", ("image_size",), 8000),
        ("config.json", ("patch_size",), "eight"),
        ("preprocessor_config.json", ("image_mean",), [None]),
        ("preprocessor_config.json", ("image_std",), [0, 0, 0]),
        ("preprocessor_config.json", ("resample",), [1]),
        ("preprocessor_config.json", ("crop_size",), {"shortest_edge": "x"}),
    ],
)
def test_odd_settings_of_a_dino_are_refused(tmp_path: Path, file: str, keys: tuple[str, ...], value: Any) -> None:
    folder = save_dino(tmp_path / "dino", "dino")
    change(folder / file, keys, value)
    with pytest.raises(EncoderError):
        load_dino(str(folder))


class Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.path), "w")


def test_weights_that_hold_code_are_refused(clip_folder: Path, ran: Path, tmp_path: Path) -> None:
    (clip_folder / "open_clip_model.safetensors").unlink()
    weights = clip_folder / "open_clip_pytorch_model.bin"
    torch.save({"state_dict": Evil(ran), "room": torch.zeros(10**7)}, weights)
    with pytest.raises(EncoderError, match="cannot be read"):
        load_clip(str(clip_folder))
    torch.jit.save(torch.jit.script(torch.nn.Linear(3000, 3000)), weights)
    with pytest.raises(EncoderError, match="TorchScript"):
        load_clip(str(clip_folder))


def test_a_folder_cannot_lead_to_a_second_model(tmp_path: Path) -> None:
    folder = save_dino(tmp_path / "dino", "dino")
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "/tmp/other"}')
    with pytest.raises(EncoderError, match="another model"):
        load_dino(str(folder))


def test_what_the_user_names_still_loads(tiny_scene: Path, clip_folder: Path, tmp_path: Path) -> None:
    flags = {
        "encode": {"clip": str(clip_folder), "dino": "none", "cache_dir": str(tmp_path / "cache"), "features": "dense"},
        "only": "features",
        "train": {"device": "cpu"},
    }
    run = train_scene(tiny_scene, make_config("cpu", flags=flags), output_dir=tmp_path / "run")
    assert run.status()["status"] == "done"
    with pytest.raises(EncoderError, match="well-known"):
        train_scene(tiny_scene, resume=run.folder)
    train_scene(tiny_scene, resume=run.folder, trust=Trust(clip=str(clip_folder)))
