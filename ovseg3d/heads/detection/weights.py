"""The file of a trained detection network: safetensors, with the shape and the names that it was trained with."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from ovseg3d.errors import ConfigError
from ovseg3d.files import write_atomic
from ovseg3d.heads.detection.network import DetectionNetwork, DetectionShape

SHIPPED = Path(__file__).parent / "shipped" / "detection.safetensors"
_NAMES = "names"


@dataclass(frozen=True)
class TrainedNetwork:
    """A network, and the names of what it was trained on with their text vectors."""

    network: DetectionNetwork
    names: tuple[str, ...]
    vectors: Float[Tensor, "names text"]


def save_network(path: Path, trained: TrainedNetwork) -> None:
    """Write `path` in half precision, atomically. Raises OutputError."""
    from safetensors.torch import save

    tensors = {name: value.detach().half().contiguous() for name, value in trained.network.state_dict().items()}
    tensors[_NAMES] = trained.vectors.half().contiguous()
    facts = {"shape": json.dumps(trained.network.facts()), _NAMES: json.dumps(trained.names)}
    write_atomic(path, save(tensors, metadata=facts))


def load_network(path: Path = SHIPPED) -> TrainedNetwork:
    """The network in a file; by default the shipped one.

    Raises:
        ConfigError: the file is missing, or holds no detection network.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            facts = file.metadata() or {}
            tensors = {name: file.get_tensor(name).float() for name in file.keys()}
        shape = json.loads(facts["shape"])
        shape["widths"] = tuple(shape["widths"])
        network = DetectionNetwork(DetectionShape(**shape))
        vectors, names = tensors.pop(_NAMES), tuple(json.loads(facts[_NAMES]))
        network.load_state_dict(tensors)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(
            "This is no file of a detection network", where=path, fix="make one with scripts.training.train_detection"
        ) from error
    return TrainedNetwork(network.eval().requires_grad_(False), names, torch.nn.functional.normalize(vectors, dim=1))
