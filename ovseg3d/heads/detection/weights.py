"""The file of a trained detection network: safetensors, with the shape and the names that it was trained with."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from ovseg3d.engine.network_file import network_file, save_network_file
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
    facts = {"shape": json.dumps(trained.network.facts()), _NAMES: json.dumps(trained.names)}
    save_network_file(path, {**trained.network.state_dict(), _NAMES: trained.vectors}, facts)


def load_network(path: Path = SHIPPED) -> TrainedNetwork:
    """The network in a file; by default the shipped one.

    Raises:
        ConfigError: the file is missing, or holds no detection network.
    """
    with network_file(path, "a detection network", "scripts.training.train_detection") as (tensors, facts):
        shape = json.loads(facts["shape"])
        shape["widths"] = tuple(shape["widths"])
        network = DetectionNetwork(DetectionShape(**shape))
        vectors, names = tensors.pop(_NAMES), tuple(json.loads(facts[_NAMES]))
        network.load_state_dict(tensors)
    return TrainedNetwork(network.eval().requires_grad_(False), names, torch.nn.functional.normalize(vectors, dim=1))
