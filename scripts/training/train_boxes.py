"""Fit the network that refines boxes (`ovseg3d/heads/detection/faces.py`) to what the shipped head says of rooms.

    python -m scripts.training.train_boxes --output outputs/faces.safetensors

The examples of a room (`box_examples`) are kept as WORK/HEAD/SEED.npz, where HEAD is the hash of the head's weights, so
that the same command goes on after an interruption; a room takes five seconds of a core, the fit 15 s. The loss of a
box is 1 - IoU with the true one in its own frame, which leaves errors of the yaw out, and how far its faces are off,
relative to its sides; that of a score is its cross-entropy with this IoU, 0 for what is no object. Write the result
over the package's file when it is better in rooms of development and runs (`scripts.benchmarks.detection`).
"""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ovseg3d.encoders.weights import hash_files
from ovseg3d.files import write_atomic, write_json
from ovseg3d.heads.detection import load_network
from ovseg3d.heads.detection.faces import FACES, FaceNetwork, save_faces
from ovseg3d.heads.detection.weights import SHIPPED
from scripts import ROOT
from scripts.start import start
from scripts.training.box_examples import BoxExamples, box_examples
from scripts.training.optim import warm_cosine

FIRST_SEED = 910_000
"""Of the rooms; no other training and no benchmark uses these."""
SMALLEST = 0.03
"""Errors of faces are relative to the true side, taken as at least this long; metres."""


@dataclass(frozen=True)
class BoxRecipe:
    """Settings of the fit."""

    seed: int = 0
    width: int = 48
    epochs: int = 15
    batch: int = 256
    rate: float = 3e-3
    decay: float = 0.01
    faces: float = 0.5
    """Weight of the error of faces..."""
    score: float = 0.3
    """...and of the score, beside 1 - IoU."""
    rough: float = 2.0
    """Weight of objects in clouds as of fields."""


@dataclass(frozen=True)
class TrainBoxes:
    """Make missing examples, fit, and write the network with its card."""

    output: Path
    """The file to write; faces.json beside it is its card."""
    work: Path = ROOT / "outputs/detection/faces"
    """Where examples are kept, 1 MB a room."""
    first: int = FIRST_SEED
    """Seed of the first room."""
    rooms: int = 125
    """How many."""
    weights: Path = SHIPPED
    """Of the detection head."""

    def main(self) -> None:
        """Make what is missing, and fit."""
        torch.set_num_threads(1)
        recipe = BoxRecipe()
        head = hash_files([self.weights])
        folder = self.work / head[:12]
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / f"{seed}.npz" for seed in range(self.first, self.first + self.rooms)]
        if missing := [path for path in paths if not path.exists()]:
            network = load_network(self.weights).network
            for path in missing:
                _save(path, box_examples(int(path.stem), network))
        examples = _read(paths)
        faces, losses = fit(examples, recipe)
        save_faces(self.output, faces)
        card = {
            "name": FACES.stem,
            "role": "moves the faces of the detection head's boxes, and says their scores",
            "format_version": 1,
            "license": "Apache-2.0",
            "data": "procedural rooms in seen styles, exact, noisy, sparse, as one photo sees them, and disturbed as "
            "the surfaces of fields are (scripts/training/box_examples.py); no trained field, no real scan",
            "head": head,
            "recipe": {"rooms": self.rooms, "first": self.first, "objects": len(examples.boxes), **asdict(recipe)},
            "losses": losses,
        }
        write_json(self.output.with_suffix(".json"), card)
        print(losses)


def fit(examples: BoxExamples, recipe: BoxRecipe) -> tuple[FaceNetwork, dict[str, float]]:
    """A network of faces, and its mean losses in the last epoch."""
    torch.manual_seed(recipe.seed)
    data = {name: torch.from_numpy(values).float() for name, values in vars(examples).items()}
    network = FaceNetwork(recipe.width)
    network.mean.copy_(data["features"].mean((0, 1, 2)))
    network.deviation.copy_(data["features"].std((0, 1, 2)) + 1e-3)
    optimizer = torch.optim.AdamW(network.parameters(), recipe.rate, weight_decay=recipe.decay)
    weight = 1 + (recipe.rough - 1) * data["rough"]
    a_time = max(len(weight) // recipe.batch, 1)
    order, sums = torch.arange(len(weight)), dict[str, float]()
    for step in range(recipe.epochs * a_time):
        if step % a_time == 0:
            order, sums = torch.randperm(len(weight)), {}
        rows = order[step % a_time * recipe.batch :][: recipe.batch]
        batch = {name: values[rows] for name, values in data.items()}
        if torch.rand(()) < 0.5:
            batch |= {name: mirrored(batch[name]) for name in ("features", "places", "true")}
        losses = losses_of(network, batch, weight[rows])
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate * warm_cosine(step / (recipe.epochs * a_time), 0.03)
        optimizer.zero_grad()
        (losses["iou"] + recipe.faces * losses["faces"] + recipe.score * losses["score"]).backward()
        optimizer.step()
        sums = {name: sums.get(name, 0.0) + loss.item() / a_time for name, loss in losses.items()}
    return network.eval().requires_grad_(False), {name: round(value, 4) for name, value in sums.items()}


def mirrored(values: Tensor) -> Tensor:
    """Left and right ends of the boxes swapped."""
    return torch.cat([values[:, :1].flip(2), values[:, 1:]], 1)


def losses_of(network: FaceNetwork, batch: dict[str, Tensor], weight: Tensor) -> dict[str, Tensor]:
    """Means over the boxes of a batch."""
    step, change = network(batch["features"], batch["places"])
    size, true = batch["boxes"][:, 3:6], batch["true"]
    iou, known = overlap(size, step, true), batch["matched"] * weight
    side = (size + true.sum(2)).clamp(min=SMALLEST)[:, :, None]
    off = F.smooth_l1_loss(step / side, true / side, reduction="none", beta=0.1).clamp(max=2).mean((1, 2))
    odds = batch["scores"].clamp(0.01, 0.99).logit() + change
    score = F.binary_cross_entropy_with_logits(odds, (iou * batch["matched"]).detach(), reduction="none")
    return {
        "iou": (known * (1 - iou)).sum() / known.sum(),
        "faces": (known * off).sum() / known.sum(),
        "score": (weight * score).sum() / weight.sum(),
    }


def overlap(
    size: Float[Tensor, "boxes 3"], step: Float[Tensor, "boxes 3 2"], true: Float[Tensor, "boxes 3 2"]
) -> Float[Tensor, " boxes"]:
    """IoU of boxes whose faces moved outwards by `step` with those whose faces moved by `true`."""
    half = size[:, :, None] / 2
    common = torch.minimum(half + step, half + true).sum(2).clamp(min=0).prod(1)
    moved, wanted = ((half + by).sum(2).clamp(min=1e-3).prod(1) for by in (step, true))
    return common / (moved + wanted - common)


def _save(path: Path, examples: BoxExamples) -> None:
    def write(to: Path) -> None:
        with open(to, "wb") as file:
            np.savez(file, **vars(examples))

    write_atomic(path, write)


def _read(paths: list[Path]) -> BoxExamples:
    rooms = [dict(np.load(path)) for path in paths]
    return BoxExamples(**{name: np.concatenate([room[name] for room in rooms]) for name in rooms[0]})


if __name__ == "__main__":
    start(TrainBoxes)
