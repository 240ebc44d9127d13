"""Sources of open_clip's models: names, and the files on this disk that they resolve to.

Names: `ARCHITECTURE:TAG` ("ViT-B-16:laion2b_s34b_b88k"), `ARCHITECTURE:FILE` (weights as open_clip saves them),
a folder or `local-dir:FOLDER` (open_clip_config.json, weights, tokenizer files), `hf-hub:OWNER/NAME`. A tag defines
preprocessing and activation. For `ARCHITECTURE:FILE`, preprocessing is what all published weights of the architecture
share. A file does not state its activation: OpenAI's own weights and some others need the architecture's "-quickgelu"
name.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ovseg3d.encoders import hub
from ovseg3d.encoders.folders import WEIGHT_SUFFIXES, check_model_folder, check_settings, check_weights
from ovseg3d.errors import EncoderError, nearest
from ovseg3d.files import expand, read_json

_TOKENIZER_FILES = ("tokenizer.json", "spiece.model", "sentencepiece.bpe.model", "vocab.txt", "vocab.json")
_TOKENIZER_EXTRAS = ("tokenizer_config.json", "special_tokens_map.json")


@dataclass(frozen=True)
class Source:
    """The source of a model, with all files on this disk."""

    name: str
    """The encoder's id."""
    model: str
    """Its name in open_clip."""
    files: tuple[Path, ...]
    """The hashed files, weights first."""
    places: tuple[Path, ...]
    """Files and folders: while they do not change, the name resolves to the same files."""
    pretrained: str | None = None
    quick_gelu: bool = False
    preprocess: dict[str, Any] = field(default_factory=dict)
    tokenizer: Path | None = None
    """A folder with the tokenizer's files, for a tokenizer of transformers."""
    dense_path: str = "auto"
    """The dense path in the model's card."""
    calibration: dict[str, Any] | None = None
    """The calibration of probabilities in the model's card."""


def models() -> list[str]:
    """The architectures of open_clip."""
    import open_clip

    return open_clip.list_models()


def resolve(name: str) -> Source:
    """The files of a model by name, downloaded if needed. Raises EncoderError: unknown, or not available."""
    if name.startswith("hf-hub:"):
        return _from_hub(name)
    folder = expand(name.removeprefix("local-dir:"), EncoderError)
    # os.path, not Path: what cannot be looked at (rights, a name too long) is not there, and no OSError.
    if name.startswith("local-dir:") or os.path.isdir(folder):
        return _from_folder(folder, f"open_clip:local-dir:{folder.resolve().name}")
    architecture, _, pretrained = name.partition(":")
    architecture = architecture.replace("/", "-")
    known = models()
    if architecture not in known:
        raise _unknown(name, architecture, known)
    return _from_weights(architecture, pretrained)


def _unknown(name: str, architecture: str, known: Sequence[str]) -> EncoderError:
    path = expand(name, EncoderError)
    if os.path.isfile(path):
        return EncoderError(
            "A file of weights does not say which architecture it belongs to",
            where=path,
            fix=f"write it in front: --clip ViT-B-16:{name}",
        )
    if "/" in name or name.startswith((".", "~")):
        return EncoderError(f"There is no folder {name}", fix="check the path, or write hf-hub:OWNER/NAME for the hub")
    close = nearest(architecture, ["builtin", *known])
    hint = f"did you mean {close}?" if close else "`open_clip.list_models()` lists the names"
    return EncoderError(f"Unknown model {architecture!r} for --clip", fix=hint)


def _from_weights(architecture: str, pretrained: str) -> Source:
    import open_clip
    from open_clip.constants import HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME
    from open_clip.pretrained import get_pretrained_cfg

    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if not pretrained:
        if len(tags) != 1:
            some = ", ".join(tags[:6]) + (", ..." if len(tags) > 6 else "")
            raise EncoderError(
                f"{architecture} says nothing about the weights",
                fix=f"write {architecture}:TAG with one of {some}" if tags else f"write {architecture}:FILE",
            )
        pretrained = tags[0]
    published: dict[str, Any] = get_pretrained_cfg(architecture, pretrained)
    if not published:
        return _from_file(architecture, pretrained, tags)
    repo, _, file = published["hf_hub"].rpartition("/")
    names = (HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME)
    if file:
        names = (str(Path(file).with_suffix(".safetensors")), file)
    example = f"{architecture}:/path/to/{names[0]}"
    path = hub.fetch(repo, names, flag="--clip", example=example)
    keys = ("mean", "std", "interpolation", "resize_mode")
    return Source(
        name=f"open_clip:{architecture}:{pretrained}",
        model=architecture,
        files=(path,),
        places=(path, hub.reference(path)) if hub.in_cache(path) else (path,),
        pretrained=str(path),
        quick_gelu=bool(published.get("quick_gelu")),
        preprocess={key: published[key] for key in keys if key in published},
        tokenizer=_text_files(architecture, example),
    )


def _from_file(architecture: str, pretrained: str, tags: Sequence[str]) -> Source:
    path = expand(pretrained, EncoderError)
    if not os.path.isfile(path):
        close = nearest(pretrained, tags)
        if path.suffix in WEIGHT_SUFFIXES or path.parent != Path("."):
            raise EncoderError("There is no such file of weights", where=path, fix="check the path")
        hint = f"did you mean {close}?" if close else f"use one of {', '.join(tags[:6])}, or the path of a file"
        raise EncoderError(f"{architecture} has no weights called {pretrained!r}", fix=hint)
    check_weights(path)
    beside = path.parent if any((path.parent / name).is_file() for name in _TOKENIZER_FILES) else None
    return Source(
        name=f"open_clip:{architecture}:{path.name}",
        model=architecture,
        files=(path,),
        places=(path,),
        pretrained=str(path),
        preprocess=_agreed(architecture, tags),
        tokenizer=_text_files(architecture, f"{architecture}:{path} with tokenizer.json beside it", beside),
    )


def _agreed(architecture: str, tags: Sequence[str]) -> dict[str, Any]:
    """The preprocessing that all published weights of an architecture share; empty if they differ."""
    from open_clip.pretrained import get_pretrained_cfg

    keys = ("mean", "std", "interpolation", "resize_mode")
    found = [{key: get_pretrained_cfg(architecture, tag).get(key) for key in keys} for tag in tags]
    same = bool(found) and all(entry == found[0] for entry in found)
    return {key: value for key, value in found[0].items() if value is not None} if same else {}


def _text_files(architecture: str, example: str, beside: Path | None = None) -> Path | None:
    """The folder of the tokenizer's files, for architectures whose tokenizer is on the hub."""
    import open_clip

    config = open_clip.get_model_config(architecture)
    assert config is not None, "the architecture was looked up before"
    text = config["text_cfg"]
    if text.get("hf_model_name"):
        hub.fetch(text["hf_model_name"], ("config.json",), flag="--clip", example=example)
    repo = text.get("hf_tokenizer_name")
    if not repo:
        return None
    if beside is not None:
        for file in sorted(beside.glob("*.json")):
            check_settings(file)
        return beside
    path = hub.fetch(repo, _TOKENIZER_FILES, flag="--clip", example=example)
    for name in _TOKENIZER_EXTRAS:
        hub.fetch_optional(repo, name)
    for file in sorted(path.parent.glob("*.json")):
        check_settings(file)
    return path.parent


def _from_hub(name: str) -> Source:
    from open_clip.constants import HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME

    repo = name.removeprefix("hf-hub:")
    example = "local-dir:/path/to/folder"
    config = hub.fetch(repo, ("open_clip_config.json",), flag="--clip", example=example)
    hub.fetch(repo, (HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME), flag="--clip", example=example)
    for file in (*_TOKENIZER_FILES[:1], *_TOKENIZER_EXTRAS):
        hub.fetch_optional(repo, file)
    return _from_folder(config.parent, f"open_clip:{name}")


def _from_folder(folder: Path, name: str) -> Source:
    # The file that open_clip itself would load; the function is private.
    from open_clip.factory import _find_checkpoint_in_dir  # pyright: ignore[reportPrivateUsage]

    config = folder / "open_clip_config.json"
    if not os.path.isfile(config):
        what = "holds no open_clip model" if os.path.isdir(folder) else "does not exist"
        raise EncoderError(
            f"The folder {what}",
            where=folder,
            fix="it needs open_clip_config.json, weights (open_clip_model.safetensors) and tokenizer files",
        )
    chosen = _find_checkpoint_in_dir(folder)  # a folder may hold several, in other formats too
    if chosen is None:
        raise EncoderError("The folder has no weights", where=folder, fix="add open_clip_model.safetensors")
    check_model_folder(folder, Path(chosen))
    if not isinstance(read_json(config, EncoderError).get("preprocess_cfg", {}), dict):
        raise EncoderError(
            "'preprocess_cfg' is no object", where=config, fix="use the file that belongs to the weights"
        )
    card = read_json(folder / "card.json", EncoderError) if (folder / "card.json").is_file() else {}
    path, calibration = str(card.get("dense_path", "auto")), card.get("calibration")
    return Source(
        name=name,
        model=f"local-dir:{folder}",
        files=(Path(chosen), config),
        places=(folder, hub.reference(folder)) if hub.in_cache(folder) else (folder,),
        dense_path=path,
        calibration=calibration if isinstance(calibration, dict) else None,
    )
