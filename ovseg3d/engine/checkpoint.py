"""Checkpoints: one safetensors file of plain tensors, with facts as JSON in its header.

Checkpoints cannot contain code. A file is written under another name and then renamed, so that an interruption leaves
the previous checkpoint usable. `step-000001000.json` beside each repeats the facts for people; it is never read.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeGuard

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ovseg3d.errors import RunError
from ovseg3d.files import write_atomic, write_json
from ovseg3d.limits import check_memory, tensor_headers

FORMAT_VERSION = 1
_MAX_BYTES = 64 * 2**30


@dataclass(frozen=True)
class Checkpoint:
    """The state of a stage: everything needed to continue with the same bits."""

    stage: str
    step: int
    seconds: float
    """Training time spent so far."""
    state: dict[str, torch.Tensor]
    facts: dict = field(default_factory=dict)
    """What a loader needs to build the stage (JSON values)."""


def save_checkpoint(folder: Path, checkpoint: Checkpoint, keep: int = 1) -> Path:
    """Write `folder/step-<step>.safetensors` and remove all but the newest `keep`.

    Raises:
        OutputError: the folder cannot be written to; earlier checkpoints are untouched.
    """
    facts = {
        "format_version": FORMAT_VERSION,
        "stage": checkpoint.stage,
        "step": checkpoint.step,
        "seconds": checkpoint.seconds,
        "facts": checkpoint.facts,
    }
    path = folder / f"step-{checkpoint.step:09d}.safetensors"
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.state.items()}
    write_atomic(path, lambda temporary: save_file(state, temporary, metadata={"ovseg3d": json.dumps(facts)}))
    write_json(path.with_suffix(".json"), facts)
    for old in sorted(folder.glob("step-*.safetensors"))[:-keep]:
        old.unlink(missing_ok=True)
        old.with_suffix(".json").unlink(missing_ok=True)
    return path


def latest_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint of `folder`, or None."""
    return max(folder.glob("step-*.safetensors"), default=None)


def load_checkpoint(path: Path, stage: str, shapes: Mapping[str, torch.Size] | None = None) -> Checkpoint:
    """Read and check a checkpoint.

    Args:
        path: the safetensors file.
        stage: the expected stage.
        shapes: expected shapes of some tensors, checked before any tensor is read.

    Raises:
        RunError: the file is missing, truncated, not a checkpoint, of another version or stage, has other shapes than
            `shapes` or numbers that are not finite, or does not fit into memory.
    """
    fix = "train again, or resume from an older copy of the run"
    stored, _ = tensor_headers(path, RunError, "checkpoint", _MAX_BYTES, fix=fix)
    check_memory(sum(tensor.bytes for tensor in stored.values()), "The checkpoint", path, RunError)
    for name, shape in (shapes or {}).items():
        found = stored[name].shape if name in stored else None
        if found != tuple(shape):
            raise RunError(f"The checkpoint's {name!r} has shape {found}, not {tuple(shape)}", where=path, fix=fix)
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("ovseg3d", "null"))
            state = {name: file.get_tensor(name) for name in file.keys()}
    except FileNotFoundError as error:
        raise RunError("The checkpoint is missing", where=path, fix=fix) from error
    except (SafetensorError, OSError, ValueError, TypeError, RecursionError) as error:
        raise RunError(f"The checkpoint is cut or damaged ({error})", where=path, fix=fix) from error
    if not isinstance(header, dict) or not isinstance(header.get("facts"), dict):
        raise RunError("This file was not written by ovseg3d", where=path, fix=fix)
    if header.get("format_version") != FORMAT_VERSION:
        raise RunError(
            f"The checkpoint has format version {header.get('format_version')}, this ovseg3d reads {FORMAT_VERSION}",
            where=path,
            fix="use the version of ovseg3d that wrote it, or train again",
        )
    if header.get("stage") != stage:
        raise RunError(f"The checkpoint is of the stage {header.get('stage')!r}, not {stage!r}", where=path)
    for name, tensor in state.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise RunError(f"The checkpoint's {name!r} holds numbers that are not finite", where=path, fix=fix)
    step, seconds = header.get("step"), header.get("seconds")
    if type(step) is not int or step < 0 or not _is_duration(seconds):
        raise RunError("The checkpoint's step or time is not a number of at least 0", where=path, fix=fix)
    return Checkpoint(stage, step, float(seconds), state, header["facts"])


def _is_duration(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf
