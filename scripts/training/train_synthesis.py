"""Train neural meshes, for poses by synthesis, on the crops of train_pose.

    python -m scripts.training.train_synthesis --output outputs/pose/meshes.safetensors

With torchrun, --crops counts the crops of a kind of all processes together (scripts/training/distributed.py).
Crops and features are those of scripts/training/train_pose.py, but for a finer grid of patches. Ctrl-C stops after the
current step and writes a checkpoint. Nothing of this is shipped.
"""

from dataclasses import dataclass, field
from pathlib import Path

import torch
import tyro

from ovseg3d.heads.pose.meshes import Outline
from ovseg3d.heads.pose.synthesis import MeshesShape
from ovseg3d.heads.pose.synthesis_poser import TrainedMeshes, save_meshes
from scripts import ROOT
from scripts.start import start
from scripts.training.distributed import ALONE, World, join
from scripts.training.pose_crops import NAMES, NOVEL, CropSet
from scripts.training.pose_stage import load_encoder
from scripts.training.session import INTERRUPTED, Session
from scripts.training.synthesis_stage import SynthesisRecipe, SynthesisStage, mean_halves
from scripts.training.train_pose import TrainPose


@dataclass(frozen=True)
class TrainSynthesis:
    """Render crops, train, and write the meshes."""

    output: Path = ROOT / "outputs/pose/meshes.safetensors"
    """Where the meshes go."""
    work: Path = ROOT / "outputs/pose/synthesis"
    """Checkpoints; remove it to begin again."""
    data: Path = ROOT / "outputs/pose"
    """Crops and features."""
    encoder: str = "dino:builtin"
    """ "dino:NAME" or "clip:NAME"."""
    outline: Outline = "cuboid"
    """Of the meshes: one cuboid for each kind, of its proportions, or the sphere for all."""
    crops: int = 7_680
    """Crops of objects before backdrops and in rooms."""
    alone: int = 15_360
    """Further crops of objects before backdrops."""
    known_only: bool = False
    """Leave out the novel kinds of the benchmark."""
    steps: int | None = 800
    max_seconds: float | None = None
    """Time for the training, earlier sessions counted in."""
    checkpoint_seconds: float = 120.0
    recipe: tyro.conf.OmitArgPrefixes[SynthesisRecipe] = field(default_factory=SynthesisRecipe)

    def main(self) -> int:
        """Train; 130 when interrupted."""
        with join() as world:
            return self.train(world)

    def train(self, world: World = ALONE) -> int:
        """The same in one of the processes that share a batch."""
        torch.set_num_threads(1)
        stage = self.stage(world)
        session = Session(self.work, self.checkpoint_seconds, world)
        session.catch_signals()
        if session.run(stage, self.steps, self.max_seconds, lambda: None).interrupted:
            return INTERRUPTED
        if world.first:
            encoder = load_encoder(self.encoder)
            save_meshes(self.output, TrainedMeshes(stage.meshes, self.encoder, encoder.weight_hash))
        return 0

    def stage(self, world: World = ALONE) -> SynthesisStage:
        """The training of meshes of all kinds, or of the known ones."""
        with world.first_goes_ahead():
            crops, features = self.training_set()
        kinds = tuple(name for name in NAMES if not (self.known_only and name in NOVEL))
        unit = (1.0, 1.0, 1.0)
        halves = tuple(mean_halves(name) if self.outline == "cuboid" else unit for name in kinds)
        shape = MeshesShape(kinds, halves, features.shape[1], self.outline)
        return SynthesisStage(crops, features, shape, self.recipe, world)

    def training_set(self) -> tuple[CropSet, torch.Tensor]:
        """The crops to train on, and their features."""
        return TrainPose(
            data=self.data, encoder=self.encoder, crops=self.crops, alone=self.alone, known_only=self.known_only,
            grid=MeshesShape.grid,
        ).training_set()  # fmt: skip


if __name__ == "__main__":
    start(TrainSynthesis)
