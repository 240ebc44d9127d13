"""The file of a trained photo head: safetensors, with its shape and the encoder that it belongs to."""

import json
from dataclasses import dataclass
from pathlib import Path

from ovseg3d.engine.network_file import network_file, save_network_file
from ovseg3d.heads.pose.network import PoseNetwork, PoseShape

SHIPPED = Path(__file__).parent / "shipped" / "pose.safetensors"


@dataclass(frozen=True)
class TrainedPoseNetwork:
    """A network, and the encoder whose features it was trained on."""

    network: PoseNetwork
    encoder: str
    """As `load_dino` or `load_clip` takes it, after "dino:" or "clip:"."""
    weight_hash: str
    """Of the encoder."""
    temperature: float = 1.0
    """Divides the coefficients of the densities: fitted on development crops, so that probabilities are frequencies."""


def save_network(path: Path, trained: TrainedPoseNetwork) -> None:
    """Write `path` in half precision, atomically. Raises OutputError."""
    facts = {
        "shape": json.dumps(trained.network.facts()),
        "encoder": trained.encoder,
        "weight_hash": trained.weight_hash,
        "temperature": repr(trained.temperature),
    }
    save_network_file(path, trained.network.state_dict(), facts)


def load_network(path: Path = SHIPPED) -> TrainedPoseNetwork:
    """The network in a file; by default the shipped one.

    Raises:
        ConfigError: the file is missing, or holds no photo head.
    """
    with network_file(path, "a photo head for poses", "scripts.training.train_pose") as (tensors, facts):
        network = PoseNetwork(PoseShape(**json.loads(facts["shape"])))
        network.load_state_dict(tensors)
        temperature = float(facts["temperature"])
        if not 0.05 < temperature < 20:
            raise ValueError("no temperature")
        encoder, weight_hash = facts["encoder"], facts["weight_hash"]
    return TrainedPoseNetwork(network.eval().requires_grad_(False), encoder, weight_hash, temperature)
