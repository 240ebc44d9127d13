"""Checks of model folders, which may come from untrusted sources, before a library opens them.

No setting may name code (`auto_map`, `trust_remote_code`), a path or another model. Sizes must be plausible, and match
the size of the weights and the memory. Weights are safetensors, or torch files that are read as plain tensors.
"""

import json
import math
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ovseg3d.errors import EncoderError
from ovseg3d.limits import check_memory, check_number, check_regular, read_bytes, shorten, tensor_headers

WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth")
_MAX_JSON_BYTES = 128 * 2**20
"""The largest tokenizer.json in use takes some 35 MB."""
_MAX_WEIGHTS_BYTES = 64 * 2**30
_CODE = ("auto_map", "trust_remote_code", "custom_pipelines", "quantization_config")
_SETTINGS = ("open_clip_config.json", "config.json")
_REFUSED_FILES = ("adapter_config.json",)
"""It makes transformers load a second model from any path."""
_SIZES = {
    "embed_dim": 16_384, "width": 16_384, "hidden_size": 16_384, "intermediate_size": 131_072, "layers": 512,
    "num_hidden_layers": 512, "heads": 512, "num_attention_heads": 512, "head_width": 4096, "image_size": 8192,
    "patch_size": 1024, "num_channels": 16, "vocab_size": 4_000_000, "context_length": 65_536,
    "max_position_embeddings": 1_000_000, "num_register_tokens": 1024, "mlp_ratio": 64, "size": 8192,
    "shortest_edge": 8192, "longest_edge": 8192, "height": 8192, "crop_size": 8192,
}  # fmt: skip
"""The largest plausible value of each size."""
_NAMES = ("hf_model_name", "hf_tokenizer_name", "timm_model_name")
"""Models that open_clip looks up by name; paths are refused."""


def check_model_folder(folder: Path, weights: Path) -> None:
    """Read all settings of a model folder before a library does.

    Args:
        folder: with config.json or open_clip_config.json, and what else belongs to the model.
        weights: the file, or the first of the files, that will be loaded.

    Raises:
        EncoderError: a setting names code or a place, or a size that no model has or that is not the weights'; a file
            is no regular one, or the weights are of a kind that can hold code.
    """
    if not any((folder / name).is_file() for name in _SETTINGS):
        raise EncoderError(f"The folder has no {' and no '.join(_SETTINGS)}", where=folder, fix="add it")
    for name in _REFUSED_FILES:
        if (folder / name).exists():
            raise EncoderError(f"{name} would load another model", where=folder, fix="merge the adapter, and remove it")
    for path in sorted(folder.glob("*.json")):
        check_settings(path)
    for path in (folder / name for name in _SETTINGS):
        if path.is_file():
            _check_amount(_read(path), path, check_weights(weights))


def check_settings(path: Path) -> None:
    """Check a JSON file of a model. Raises EncoderError: it names code or a path, or has an implausible size."""
    for key, value, parents in _entries(_read(path)):
        # A vocabulary may hold any word, and gives it a number.
        if key in _CODE and not _is_number(value):
            raise EncoderError(
                f"The model asks for code of its own ({key!r}), which is never run",
                where=path,
                fix="use a model without it, or register an encoder from Python (see docs/encoders.md)",
            )
        if "vocab" in parents or "added_tokens" in parents:
            continue
        if key in _NAMES and value is not None and not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", str(value)):
            raise EncoderError(f"{key!r} is {shorten(repr(value))}, expected the name of a model", where=path)
        if path.name in (*_SETTINGS, "preprocessor_config.json") and key in _SIZES:
            for number in value if isinstance(value, list) else [value]:
                if number is not None and not isinstance(number, dict):
                    check_number(number, key, path, 0, _SIZES[key], EncoderError, "use the file that belongs to it")


def check_weights(path: Path) -> int:
    """The size in bytes of a weight file. Raises EncoderError: it is not one, or its format can hold code."""
    if path.suffix not in WEIGHT_SUFFIXES:
        known = ", ".join(WEIGHT_SUFFIXES)
        raise EncoderError("This is no file of weights", where=path, fix=f"use one of {known}")
    size = check_regular(path, EncoderError, "weights file")
    if path.suffix == ".safetensors":
        tensor_headers(path, EncoderError, "weights file", _MAX_WEIGHTS_BYTES, 100 * 2**20)
    elif _is_torchscript(path):
        raise EncoderError(
            "The weights are a TorchScript archive, which holds code", where=path, fix="save the state dict instead"
        )
    return size


def _is_torchscript(path: Path) -> bool:
    """Whether torch would load a file as a program: it has constants, which plain tensors do not have."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") or "/code/" in name for name in archive.namelist())
    except (OSError, ValueError, zipfile.BadZipFile):
        return False  # the old format, which cannot hold any; or no file of torch's at all


def _read(path: Path) -> Any:
    try:
        return json.loads(read_bytes(path, EncoderError, most=_MAX_JSON_BYTES))
    except (ValueError, RecursionError) as error:
        raise EncoderError("The file is not valid JSON", where=path, fix="fetch the model again") from error


def _entries(value: Any) -> Iterator[tuple[str, Any, tuple[str, ...]]]:
    """All keys in nested JSON, with their values and parent keys."""
    left: list[tuple[Any, tuple[str, ...]]] = [(value, ())]
    while left:
        item, parents = left.pop()
        if isinstance(item, dict):
            for key, inner in item.items():
                yield key, inner, parents
                if isinstance(inner, dict | list):
                    left.append((inner, (*parents[-8:], key)))
        elif isinstance(item, list):
            left.extend((inner, parents) for inner in item if isinstance(inner, dict | list))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check_amount(settings: Any, path: Path, stored: int) -> None:
    """Raises EncoderError: what the settings describe is far larger than the weights, or does not fit the memory."""
    if not isinstance(settings, dict):
        raise EncoderError(f"Expected one JSON object, found {type(settings).__name__}", where=path)
    inner = settings.get("model_cfg", settings)
    towers = [inner, *(inner.get(key) for key in ("vision_cfg", "text_cfg"))] if isinstance(inner, dict) else []
    values = sum(_values(tower) for tower in towers if isinstance(tower, dict))
    if values > max(stored, 2**20):  # two bytes each; the count is approximate
        raise EncoderError(
            f"The settings describe a model of about {values / 1e6:.0f} million values, the weights hold at most "
            f"{stored / 2e6:.0f} million",
            where=path,
            fix="use the file that belongs to the weights",
        )
    check_memory(8 * values, "The model", path, EncoderError, "use a smaller one")


def _values(tower: dict[str, Any]) -> float:
    """Approximate lower bound of a transformer's number of values."""

    def number(*names: str) -> float:
        found = next((tower[name] for name in names if _is_number(tower.get(name))), 0)
        return float(found) if math.isfinite(found) else 0.0

    width, layers = number("width", "hidden_size"), number("layers", "num_hidden_layers")
    image, patch = number("image_size"), number("patch_size")
    tokens = (image / patch) ** 2 if patch >= 1 else 0.0
    return width * (4 * width * layers + number("vocab_size") + number("context_length") + tokens)
