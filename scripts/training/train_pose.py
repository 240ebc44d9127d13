"""Train the photo head of poses on rendered crops of procedural objects, by the features of a frozen encoder.

    python -m scripts.training.train_pose

With torchrun, --batch counts the crops of all processes together (scripts/training/distributed.py).
Crops are rendered first, some 30 ms each, and their features are computed once; both are kept, so that an interrupted
command goes on where it was. Then the head takes a minute or two on one core. At the end the temperature of its
densities is fitted to development crops. Ctrl-C stops after the current step and writes a checkpoint.
"""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro

from ovseg3d.files import write_json
from ovseg3d.heads.pose.circular import negative_log_likelihood
from ovseg3d.heads.pose.network import PoseShape
from ovseg3d.heads.pose.weights import SHIPPED, TrainedPoseNetwork, save_network
from scripts import ROOT
from scripts.start import start
from scripts.training.distributed import ALONE, World, join
from scripts.training.pose_crops import NAMES, NOVEL, ROOM_SHARE, CropSet, Individuals, crop_set, joined
from scripts.training.pose_stage import PoseRecipe, PoseStage, cached_features, load_encoder
from scripts.training.session import INTERRUPTED, Session

TRAIN_SEED, ALONE_SEED, DEV_SEED = 700_000, 701_000, 710_000
"""Of the sets of crops; benchmarks use others, see scripts/benchmarks/pose.py."""
TEMPERATURES = np.exp(np.linspace(np.log(0.5), np.log(4.0), 61))


@dataclass(frozen=True)
class TrainPose:
    """Render crops, train, and write the weights."""

    output: Path = SHIPPED
    """Where the weights go."""
    work: Path = ROOT / "outputs/pose/checkpoints"
    """Checkpoints; remove it to begin again."""
    data: Path = ROOT / "outputs/pose"
    """Crops (27 kB each) and features."""
    encoder: str = "dino:builtin"
    """ "dino:NAME" or "clip:NAME"."""
    crops: int = 7_680
    """Crops of objects before backdrops and in rooms."""
    alone: int = 19_200
    """Further crops of objects before backdrops, which are cheaper."""
    dev_crops: int = 1_920
    """To fit the temperature to."""
    known_only: bool = False
    """Leave out the novel kinds of the benchmark."""
    max_seconds: float | None = None
    """Time for the training, earlier sessions counted in."""
    steps: int | None = 2_000
    checkpoint_seconds: float = 60.0
    accumulate: int = 1
    """Parts that a batch is computed in, one after another, for less memory."""
    grid: tyro.conf.Suppress[int] = PoseShape.grid
    """Patches along a side."""
    recipe: tyro.conf.OmitArgPrefixes[PoseRecipe] = field(default_factory=PoseRecipe)

    def main(self) -> int:
        """Train; 130 when interrupted."""
        with join("cpu", self.accumulate) as world:
            return self.train(world)

    def train(self, world: World = ALONE) -> int:
        """The same in one of the processes that share a batch."""
        torch.set_num_threads(1)
        with world.first_goes_ahead():
            crops, features = self.training_set()
        stage = PoseStage(crops, features, self.recipe, PoseShape(features.shape[1]), world)
        session = Session(self.work, self.checkpoint_seconds, world)
        session.catch_signals()
        outcome = session.run(stage, self.steps, self.max_seconds, lambda: None)
        if outcome.interrupted:
            return INTERRUPTED
        if not world.first:
            return 0
        temperature = fit_temperature(stage, *self._set("new", DEV_SEED, self.dev_crops))
        trained = TrainedPoseNetwork(
            stage.network, self.encoder, load_encoder(self.encoder).weight_hash, round(temperature, 4)
        )
        save_network(self.output, trained)
        write_json(self.output.parent / "card.json", self._card(len(crops.kind), temperature))
        return 0

    def training_set(self) -> tuple[CropSet, torch.Tensor]:
        """The crops to train on, and their features."""
        sets = [self._set("training", TRAIN_SEED, self.crops)]
        if self.alone:
            sets.append(self._set("training", ALONE_SEED, self.alone, 0.0))
        return joined([crops for crops, _ in sets]), torch.cat([features for _, features in sets])

    def _set(
        self, individuals: Individuals, seed: int, count: int, room_share: float = ROOM_SHARE
    ) -> tuple[CropSet, torch.Tensor]:
        crops = crop_set(self.data / "crops", seed, count, individuals, room_share)
        features = cached_features(self.data / "features", self.encoder, f"{individuals}{seed}", crops, self.grid)
        if not self.known_only:
            return crops, features
        rows = np.flatnonzero(~np.isin(crops.kind, [NAMES.index(kind) for kind in NOVEL]))
        return crops.of(rows), features[torch.from_numpy(rows)]

    def _card(self, crops: int, temperature: float) -> dict[str, Any]:
        """The data card."""
        return {
            "name": "pose",
            "role": "azimuth, elevation, in-plane rotation and symmetry of an object in a crop of a photo",
            "format_version": 1,
            "license": "Apache-2.0",
            "data": {
                "crops": f"{crops} renders of procedural kinds in seen styles (scripts/training/pose_crops.py):"
                f" {self.crops} of seed {TRAIN_SEED}, four in ten in furnished rooms; {self.alone} of seed"
                f" {ALONE_SEED}, before backdrops; labels are exact",
                "never seen": "styles, textures, lights and colours of ovseg3d/synth/holdout.py; any photograph",
                "fronts": "FACING of scripts/training/detection_rooms.py; other kinds by their shape's symmetry",
                "phrases": "text vectors of the kinds by the built-in CLIP, told of half of the crops",
            },
            "limits": [
                "Trained on procedural renders alone, with a small encoder: it knows little of photographs.",
                "One object to a crop; boxes come from elsewhere.",
            ],
            "recipe": {
                "encoder": self.encoder,
                "recipe": asdict(self.recipe),
                "steps": self.steps,
                "max_seconds": self.max_seconds,
            },
            "temperature": {"value": round(temperature, 4), "fitted on": f"{self.dev_crops} crops of seed {DEV_SEED}"},
        }


def fit_temperature(stage: PoseStage, crops: CropSet, features: torch.Tensor) -> float:
    """The divisor of the coefficients under which development azimuths are likeliest."""
    rows = torch.from_numpy(np.flatnonzero((crops.kind >= 0) & (crops.order > 0)))
    with torch.no_grad():
        found = stage.network.eval()(features[rows].float(), torch.zeros(len(rows), stage.network.shape.text))
        angle, order = torch.from_numpy(crops.angles)[rows, 0].float(), torch.from_numpy(crops.order)[rows]
        losses = [float(negative_log_likelihood(found.azimuth / t, angle, order).mean()) for t in TEMPERATURES]
    return float(TEMPERATURES[int(np.argmin(losses))])


if __name__ == "__main__":
    start(TrainPose)
