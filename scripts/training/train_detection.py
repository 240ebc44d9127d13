"""Train the detection head on exact clouds of procedural rooms.

    python -m scripts.training.train_detection                                       # from nothing
    python -m scripts.training.train_detection --start WEIGHTS --surfaces FOLDER     # go on with given weights

Rooms are made first, half a second each, and kept; then each step trains on one of them, with holes, noise, and other
augmentation. Ctrl-C stops after the current step and writes a checkpoint; the same command goes on from there. Weights
are written to --output at every checkpoint.

With --surfaces some steps take surfaces of trained fields (scripts.training.field_surfaces), lifted photos with boxes
fitted to their masks (scripts.training.lifted_rooms), or runs with boxes fitted to their instances
(scripts.training.field_labels); with --room-count 0 all steps do.

The rooms' seeds are those of no report and no benchmark, and their looks are never those held out from training.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import tyro

from ovseg3d.encoders import load_clip
from ovseg3d.errors import ConfigError
from ovseg3d.files import write_json
from ovseg3d.heads.detection.losses import WEIGHTS
from ovseg3d.heads.detection.network import DetectionNetwork, DetectionShape
from ovseg3d.heads.detection.weights import SHIPPED, TrainedNetwork, load_network, save_network
from ovseg3d.synth.kinds import KINDS
from scripts import ROOT
from scripts.start import start
from scripts.training.detection_rooms import NOVEL, is_fitted, load_detection_room, read_kinds
from scripts.training.detection_stage import DetectionRecipe, DetectionStage
from scripts.training.distributed import ALONE, World, join
from scripts.training.session import INTERRUPTED, Session

FIRST_SEED = 500_000
"""Of the training rooms; benchmarks use others, see scripts/benchmarks/detection.py."""


@dataclass(frozen=True)
class TrainDetection:
    """Make rooms, train, and write the weights."""

    output: Path = SHIPPED
    """Where the weights go."""
    work: Path = ROOT / "outputs/detection"
    """Checkpoints; remove it to begin again."""
    rooms: Path = ROOT / "outputs/detection/rooms"
    """The rooms, 3 MB each; any of them may be removed."""
    start: Path | None = None
    """Weights to begin with, as this script writes them; --recipe's rates should be lower then."""
    surfaces: tuple[Path, ...] = ()
    """Surfaces of fields or lifted photos to train on, besides the rooms: .npz files, or folders of these."""
    room_count: int = 500
    """How many rooms; with 0 all steps take --surfaces."""
    make_rooms: bool = True
    """Make missing rooms, with exact labels; else one that is missing is an error."""
    hold_out: bool = False
    """Give objects of ten kinds no label (`detection_rooms.NOVEL`): for measuring, see scripts.benchmarks.detection."""
    max_seconds: float | None = 2400.0
    """Time for the training, earlier sessions counted in; making the rooms is not counted."""
    steps: int | None = None
    """Steps; with --max-seconds None equal seeds then give equal bits."""
    checkpoint_seconds: float = 120.0
    """Time between checkpoints."""
    threads: int = 1
    """Threads on the CPU."""
    recipe: tyro.conf.OmitArgPrefixes[DetectionRecipe] = field(default_factory=DetectionRecipe)
    shape: tyro.conf.OmitArgPrefixes[DetectionShape] = field(default_factory=DetectionShape)

    def main(self) -> int:
        """Train; 130 when interrupted."""
        with join() as world:
            print(json.dumps(vars(self), default=str), flush=True)
            return self.train(world)

    def train(self, world: World = ALONE) -> int:
        """The same in one of the processes that share a batch.

        Raises:
            ConfigError: there is nothing to learn from, or a room is missing that shall not be made.
        """
        if not self.room_count and not self._surfaces():
            raise ConfigError("There is nothing to learn from", fix="--surfaces FOLDER, or --room-count 500")
        torch.set_num_threads(self.threads)
        session = Session(self.work, self.checkpoint_seconds, world)
        session.catch_signals()
        seeds = range(FIRST_SEED, FIRST_SEED + self.room_count)
        for made, seed in list(enumerate(seeds))[world.rank :: world.size]:
            if session.stop.is_set():
                break
            if not (self.rooms / f"{seed}.npz").exists():
                if not self.make_rooms:
                    raise ConfigError(
                        f"Room {seed} is missing", where=self.rooms, fix="label all of them, or lower --room-count"
                    )
                load_detection_room(self.rooms, seed)
                print(f"room {made + 1} of {len(seeds)}", flush=True)
        if world.any(session.stop.is_set()):
            return INTERRUPTED
        begun = None if self.start is None else load_network(self.start)
        kinds = tuple(dict.fromkeys([*KINDS, *(begun.names if begun else ()), *self._names()]))
        vectors = torch.as_tensor(load_clip("builtin").encode_text(list(kinds))).float()
        torch.manual_seed(self.recipe.seed)
        network = begun.network.train().requires_grad_(True) if begun else DetectionNetwork(self.shape)
        stage = DetectionStage(
            self.rooms, seeds, kinds, vectors, self.recipe, network, self._surfaces(), world,
            NOVEL if self.hold_out else (),
        )  # fmt: skip
        if world.first:
            write_json(self.output.parent / "card.json", self._card(network))
        export = lambda: save_network(self.output, TrainedNetwork(stage.network, kinds, vectors))  # noqa: E731
        outcome = session.run(stage, self.steps, self.max_seconds, export)
        return INTERRUPTED if outcome.interrupted else 0

    def _surfaces(self) -> list[Path]:
        return [file for path in self.surfaces for file in (sorted(path.glob("*.npz")) if path.is_dir() else [path])]

    def _names(self) -> list[str]:
        """Of the objects of surfaces and rooms, in order; rooms that are made here have no others than `KINDS`."""
        rooms = [] if self.make_rooms else sorted(self.rooms.glob("*.npz"))
        return sorted({kind for path in [*self._surfaces(), *rooms] for kind in read_kinds(path)})

    def _card(self, network: DetectionNetwork) -> dict[str, Any]:
        """The data card, without figures: scripts.benchmarks.detection adds these."""
        fitted = sum(is_fitted(path) for path in self._surfaces())
        exact = self.room_count if self.make_rooms else 0
        data = {
            "clouds": f"exact surfaces of {exact} procedural rooms (ovseg3d.synth), seeds from {FIRST_SEED}: half of"
            " them of a type, half with random kinds",
            "labelled by a head": f"{self.room_count - exact} clouds (scripts/training/self_labels.py)",
            "augmentation": "holes by a depth buffer of random cameras, thinning, noise, yaw, mirroring, scale;"
            " offsets, normals, shades and stray points as in fields (scripts/training/field_like.py); without"
            " ceiling, colour or normals at random"
            " (scripts/training/detection_stage.py)",
            "surfaces": f"{len(self._surfaces()) - fitted} surfaces of trained fields of other such rooms"
            " (scripts/training/field_surfaces.py)",
            "fitted boxes": f"{fitted} surfaces: lifted photos, whose boxes are fitted to 2D masks"
            " (scripts/training/lifted_rooms.py), or runs, whose boxes are fitted to their instances"
            " (scripts/training/field_labels.py)",
            "names": "text vectors of the kinds by the built-in CLIP",
        }
        if exact and not fitted:
            data["never seen"] = "styles, textures and colours of ovseg3d/synth/holdout.py; any real scan"
        return {
            "name": "detection",
            "role": "3D boxes, fronts and names of objects in point clouds",
            "format_version": 1,
            "license": "Apache-2.0",
            "data": data,
            "limits": [
                *(["Trained on procedural rooms: real scans are another domain, see the figures."] if exact else []),
                *(["No fronts: fitted boxes say nothing of them."] if fitted and not exact else []),
                "Names are those of the training, and everyday words that the built-in CLIP takes for them.",
                "Boxes are upright.",
            ],
            "recipe": {
                "recipe": asdict(self.recipe),
                "shape": network.facts(),
                "loss_weights": WEIGHTS,
                "held_out": list(NOVEL) if self.hold_out else [],
                "started_from": None if self.start is None else self.start.name,
                "max_seconds": self.max_seconds,
                "steps": self.steps,
                "threads": self.threads,
            },
        }


if __name__ == "__main__":
    start(TrainDetection)
