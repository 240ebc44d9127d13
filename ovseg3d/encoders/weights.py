"""Weights: hashes of their content, and differences of checkpoints of other models.

A hash is 16 hexadecimal digits of a SHA-256: over the bytes of the weight file and of its settings, else over a state
dict. Reading a file of 600 MB takes about a second, so it is done once per process and file. File names are not
trusted: the hub's cache names files by their SHA-256, but a truncated or replaced file keeps its name.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn

from ovseg3d.errors import EncoderError

_SHOWN = 4
_POSITIONS = ("positional_embedding", "pos_embed")


def hash_files(paths: Sequence[Path], note: str = "") -> str:
    """The hash of several files in order, and of a note; independent of the files' names and folders."""
    digest = hashlib.sha256(note.encode())
    for path in paths:
        digest.update(bytes.fromhex(_digest(path)))
    return digest.hexdigest()[:16]


def hash_state(state: Mapping[str, Tensor]) -> str:
    """The hash of a state dict: names, types, shapes and values."""
    digest = hashlib.sha256()
    for name, value in sorted(state.items()):
        value = value.detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes() if value.numel() else b"")
    return digest.hexdigest()[:16]


def file_state(path: Path) -> list[int]:
    """Size and times of a file: as long as they stay, so does its content. Raises OSError."""
    state = path.stat()
    # Not only when it was written, which copying tools set back, but also when that was set.
    return [state.st_size, state.st_mtime_ns, state.st_ctime_ns]


def _digest(path: Path) -> str:
    real = path.resolve()
    return _digest_of(real, *file_state(real))


@lru_cache(maxsize=64)
def _digest_of(path: Path, *state: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def wrong_checkpoint(error: BaseException, name: str, path: Path, model: nn.Module | None = None) -> EncoderError:
    """The error for weights `path` that cannot be loaded into the model `name`.

    Args:
        error: of torch, safetensors or pickle. A list of mismatched tensors is cut to the first few.
        name: the model's name.
        path: the weights.
        model: the model without weights, to compare with if `error` names no tensor.
    """
    text = str(error)
    shapes = re.findall(
        r"size mismatch for ([\w.]+):.*?shape torch\.Size\(\[([\d, ]*)\]\).*?shape in current model is "
        r"torch\.Size\(\[([\d, ]*)\]\)",
        text,
        flags=re.DOTALL,
    )
    missing = _names(text, "Missing key")
    unknown = _names(text, "Unexpected key")
    if model is not None and not (shapes or missing or unknown):
        shapes = _differences(model, path)
    if not (shapes or missing or unknown):
        line = (text.strip().splitlines() or [type(error).__name__])[0]
        return EncoderError(
            f"The weights cannot be read: {line}",
            where=path,
            fix="fetch the file again; it has to be a safetensors file or a plain torch state dict",
        )
    parts = []
    if shapes:
        parts += [f"{key} is [{theirs}] there and [{ours}] in the model" for key, theirs, ours in shapes[:_SHOWN]]
        parts += [f"{len(shapes) - _SHOWN} more shapes differ"] if len(shapes) > _SHOWN else []
    parts += [f"{len(missing)} tensors are missing ({', '.join(missing[:_SHOWN])}...)"] if missing else []
    parts += [f"{len(unknown)} are unknown ({', '.join(unknown[:_SHOWN])}...)"] if unknown else []
    return EncoderError(
        f"The weights belong to another architecture than {name}: {'; '.join(parts)}",
        where=path,
        fix="name the architecture that the weights were trained with",
    )


def _differences(model: nn.Module, path: Path) -> list[tuple[str, str, str]]:
    """Tensors whose shapes differ: name, shape in the file, shape in the model; empty for an unreadable file."""
    own = {key: list(value.shape) for key, value in model.state_dict().items()}
    try:
        theirs = _stored_shapes(path, own)
    except Exception:  # Not a weight file: the original error says so.
        return []
    return [
        (key, ", ".join(map(str, shape)), ", ".join(map(str, own[key])))
        for key, shape in theirs.items()
        if shape != own[key]
    ]


def _names(text: str, title: str) -> list[str]:
    """The quoted names behind a title of torch's message."""
    found = re.search(title + r"\(s\) in state_dict: (.*?)(?:\n|$)", text)
    return re.findall(r'"([^"]+)"', found.group(1)) if found else []


def check_positions(model: nn.Module, path: Path, name: str) -> None:
    """Check position embeddings. Raises EncoderError: they were resized to make a checkpoint fit.

    open_clip does so silently; the model would run at a resolution that it was not trained for.
    """
    own = {key: list(value.shape) for key, value in model.state_dict().items() if key.endswith(_POSITIONS)}
    theirs = _stored_shapes(path, own)
    if wrong := [key for key in theirs if theirs[key] != own[key]]:
        key = wrong[0]
        raise EncoderError(
            f"The weights belong to another architecture than {name}: {key} is {theirs[key]} there and {own[key]} in "
            "the model",
            where=path,
            fix="name the architecture, with the image size, that the weights were trained with",
        )


def _stored_shapes(path: Path, wanted: Iterable[str]) -> dict[str, list[int]]:
    """Shapes of some tensors of a weight file, if they can be read without loading it."""
    if path.suffix == ".safetensors":
        from safetensors import safe_open

        with safe_open(path, framework="pt") as file:
            have = set(file.keys())
            return {key: list(file.get_slice(key).get_shape()) for key in wanted if key in have}
    try:
        stored = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except Exception:  # An old format that cannot be mapped: it was loaded, only this check is left out.
        return {}
    stored = stored.get("state_dict", stored) if isinstance(stored, dict) else {}
    stored = {str(key).removeprefix("module."): value for key, value in stored.items()}
    return {key: list(stored[key].shape) for key in wanted if isinstance(stored.get(key), Tensor)}
