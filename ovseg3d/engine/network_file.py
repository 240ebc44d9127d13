"""The file of a trained network: safetensors in half precision, with facts as texts in its header."""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor

from ovseg3d.errors import ConfigError
from ovseg3d.files import write_atomic


def save_network_file(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, str]) -> None:
    """Write `path` in half precision, atomically. Raises OutputError."""
    from safetensors.torch import save

    halves = {name: value.detach().half().contiguous() for name, value in tensors.items()}
    write_atomic(path, save(halves, metadata=dict(facts)))


@contextmanager
def network_file(path: Path, what: str, script: str) -> Generator[tuple[dict[str, Tensor], dict[str, str]], None, None]:
    """The tensors of a file in single precision, and its facts. The block makes a network of them.

    Args:
        path: the file.
        what: such as "a depth network", for messages.
        script: that makes such files.

    Raises:
        ConfigError: the file is missing, or the block finds no such network in it.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            facts = file.metadata() or {}
            tensors = {name: file.get_tensor(name).float() for name in file.keys()}
        yield tensors, facts
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(f"This is no file of {what}", where=path, fix=f"make one with {script}") from error
