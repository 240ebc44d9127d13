"""Train the built-in DINOv2 from nothing, by self-distillation on renders without labels or captions.

python -m scripts.training.train_dino                              # two hours on two cores, rendering included
python -m scripts.training.train_dino --device cuda --workers 12 --batch 256 --fresh 128 --max-seconds 900
torchrun --nproc-per-node 8 -m scripts.training.train_dino --device cuda --workers 12 --batch 1024 --fresh 512

With torchrun, --batch counts the images of all processes together (scripts/training/distributed.py).
Ctrl-C stops after the current step and writes a checkpoint; the same command goes on from there. Weights (the
teacher's, fp16) are written to --output at every checkpoint, for `transformers.AutoModel.from_pretrained(FOLDER)`.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
import tyro

from scripts import ROOT
from scripts.start import start
from scripts.training.dino import DinoRecipe, DinoStage, save_dino
from scripts.training.distributed import ALONE, World, join
from scripts.training.pool import Pool, Source
from scripts.training.session import INTERRUPTED, Session, write_recipe


@dataclass(frozen=True)
class TrainDino:
    """Train, and write a folder that transformers loads."""

    output: Path = ROOT / "ovseg3d/encoders/builtin/dino"
    """Where the weights go."""
    work: Path = ROOT / "outputs/encoders/dino"
    """Checkpoints; remove it to begin again."""
    pool: Path = ROOT / "outputs/encoders/pictures"
    """Rendered images; train_clip.py may use the same folder at the same time."""
    max_seconds: float | None = 7000.0
    """Time for everything, earlier sessions counted in."""
    steps: int | None = None
    """Steps; with --max-seconds None equal seeds then give equal bits."""
    checkpoint_seconds: float = 300.0
    """Time between checkpoints."""
    device: str = "cpu"
    """cpu or cuda."""
    accumulate: int = 1
    """Parts that a batch is computed in, one after another, for less memory."""
    workers: int = 1
    """Processes that render, for each process that trains."""
    threads: int = 1
    """Threads of the training process on the CPU."""
    capacity: int = 98304
    """Images that are kept. Trainings that share a pool must not be further apart than this."""
    render_size: int = 96
    """Pixels of a rendered image's side."""
    rooms: float = 0.4
    """Share of views of rooms."""
    factory: str = "scripts.training.pool:world_example"
    """Where images come from: module:function of (seed, index, size, rooms)."""
    recipe: tyro.conf.OmitArgPrefixes[DinoRecipe] = field(default_factory=DinoRecipe)

    def main(self) -> int:
        """Train; 130 when interrupted."""
        with join(self.device, self.accumulate) as world:
            print(json.dumps(vars(self), default=str), flush=True)
            return self.train(world)

    def train(self, world: World = ALONE) -> int:
        """The same in one of the processes that share a batch."""
        torch.set_num_threads(self.threads)
        session = Session(self.work, self.checkpoint_seconds, world)
        session.catch_signals()
        source = Source(str(self.pool), self.factory, self.recipe.seed, self.render_size, self.rooms, self.capacity)
        with world.first_goes_ahead():
            images = Pool(source, self.workers, share=(world.rank, world.size))
        if world.first:
            write_recipe(
                self.output,
                recipe=asdict(self.recipe),
                rooms=self.rooms,
                render_size=self.render_size,
                max_seconds=self.max_seconds,
                steps=self.steps,
            )
        try:
            stage = DinoStage(images, self.recipe, world)
            export = lambda: save_dino(self.output, stage.teacher.backbone, self.recipe.shape)  # noqa: E731
            outcome = session.run(stage, self.steps, self.max_seconds, export)
        finally:
            images.close()
        return INTERRUPTED if outcome.interrupted else 0


if __name__ == "__main__":
    start(TrainDino)
