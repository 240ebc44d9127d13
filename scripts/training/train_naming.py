"""Align a CLIP to depth views: tune a copy of its image tower's last stage (`ovseg3d/heads/naming/towers.py`).

    python -m scripts.training.train_naming --output outputs/naming                 # the built-in CLIP, all kinds
    python -m scripts.training.train_naming --output outputs/naming --without 14    # and one that never saw 14 kinds
    python -m scripts.training.train_naming --output outputs/naming --without 14 --part 1    # 14 others, for trials
    python -m scripts.training.train_naming --output outputs/contour --projection contour-aware    # OpenDlign's views
    python -m scripts.training.train_naming --output outputs/b16 --clip ViT-B-16:laion2b_s34b_b88k --device cuda

Pairs (`naming_pairs`) are made once and kept in OUTPUT/pairs.npz. The objective is OpenDlign's (Mao et al. 2024,
equations 4 to 6): the mean embedding of a shape's depth views is pulled to the mean of its pictures by the frozen
tower, by InfoNCE in both directions at CLIP's own temperature, plus their squared distance. Frozen stages are
evaluated once. Every batch has one shape of each kind, so that no negative is of the same kind. Pairs whose pictures do
not retrieve their own kind's name among the first `KEPT_RANK` are left out.

`--clip` takes any image tower of open_clip (ViT, ResNet, ConvNeXt and others) by name or from files. Views and pictures
have the tower's own size, at least `RELIEF_SIZE` and `PICTURE_SIZE`. The pairs of a large tower take much memory: those
of ViT-H-14 4.3 GB, of ViT-B-16 2.0 GB, a tenth of it with `--shapes 3`. OUTPUT/tuned.safetensors, with
tuned.background.safetensors beside it, goes to `--weights` of `ovseg3d name` and `find`, and of
`scripts.benchmarks.reproduce_opendlign`; of the built-in CLIP they are the package's
`heads/naming/weights/builtin.safetensors` and `builtin.background.safetensors`.

Pictures are rendered with random textures. With --control they come from a diffusion model under that depth ControlNet
(`naming_generated`), which takes a GPU, and days for many shapes.
"""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from ovseg3d.encoders import load_clip
from ovseg3d.errors import ConfigError
from ovseg3d.files import write_atomic, write_json
from ovseg3d.heads.naming.background import background_file, save_background
from ovseg3d.heads.naming.naming import PROJECTION
from ovseg3d.heads.naming.projections import ANY_VIEWS, OURS
from ovseg3d.heads.naming.prompts import PLAIN_TEMPLATES, class_vectors
from ovseg3d.heads.naming.towers import AlignedTower
from ovseg3d.runs.devices import DeviceName, resolve_device
from ovseg3d.synth.kinds import KINDS
from scripts.start import start
from scripts.training.distributed import ALONE, World, join
from scripts.training.naming_background import SHAPES, background
from scripts.training.naming_generated import DIFFUSION, Generator
from scripts.training.naming_pairs import PICTURE_SIZE, RELIEF_SIZE, picture, random_views, seen_shape

KEPT_RANK = 5
RECIPE = ("shapes", "views", "steps", "rate", "seed", "pairs_seed", "background", "control", "projection")


@dataclass(frozen=True)
class Pairs:
    """Frozen features of all pairs."""

    stem: torch.Tensor
    """[shapes, views, channels, h, w], half precision: depth views before the last stage."""
    target: torch.Tensor
    """[shapes, dim]: unit means of the pictures' vectors by the frozen tower."""
    kind: np.ndarray
    """[shapes]: index into KINDS."""


@dataclass(frozen=True)
class Train:
    """Tune the tower; see the module's docstring."""

    output: Path
    """Folder for pairs, weights and the log."""
    clip: str = "builtin"
    """The CLIP, as in --clip of train; its image tower must be open_clip's."""
    shapes: int = 30
    """Shapes of each kind."""
    views: int = 4
    """Views of each shape."""
    steps: int = 500
    rate: float = 3e-4
    """Largest learning rate, of a one-cycle schedule."""
    seed: int = 0
    """Draws batches and the shapes of no kind."""
    pairs_seed: int = 0
    """Draws the pairs."""
    without: int = 0
    """Leave out so many kinds; writes OUTPUT/tuned_without.safetensors."""
    part: int = 0
    """Which kinds are left out: the first so many of a fixed random order, or from 1 those that follow."""
    background: int = SHAPES
    """Shapes of no kind that tell the names' priors, see `naming_background`."""
    accumulate: int = 1
    """Parts that a batch is computed in, one after another, for less memory."""
    device: DeviceName = "cpu"
    control: str | None = None
    """A depth ControlNet of diffusers that makes the pictures, such as lllyasviel/control_v11f1p_sd15_depth."""
    diffusion: str = DIFFUSION
    """The model that --control steers."""
    projection: Literal["ours", "contour-aware", "PointCLIP V2"] = OURS
    """Of the depth views; contour-aware is OpenDlign's. All are in the same views as the pictures."""

    def main(self) -> None:
        """Make the pairs, tune, and write the weights."""
        if not 0 <= self.without < len(KINDS):
            raise ConfigError(f"--without must be from 0 to {len(KINDS) - 1}", fix="--without 14")
        if self.part < 0 or self.part * self.without >= len(KINDS):
            raise ConfigError(f"--part {self.part} leaves out no kind", fix="--part 0")
        if min(self.shapes, self.views, self.steps, self.background) < 1:
            raise ConfigError("--shapes, --views, --steps and --background must be at least 1", fix="leave them out")
        with join(str(resolve_device(self.device)), self.accumulate) as world:
            self._train(world)

    def _train(self, world: World) -> None:
        torch.set_num_threads(1)
        encoder = load_clip(self.clip, world.device)
        tower = AlignedTower(encoder)
        started = time.monotonic()
        pairs = self._pairs(tower, world)
        order = np.random.default_rng(0).permutation(len(KINDS))
        left_out = sorted(order[self.part * self.without : (self.part + 1) * self.without].tolist())
        kept = self._filtered(tower, pairs, left_out)
        if not len(kept):
            raise ConfigError(
                "No picture retrieves its own kind's name",
                where=f"--clip {self.clip}",
                fix="give a CLIP that was trained, and more --shapes",
            )
        log = self.tune(tower, pairs, kept, world)
        if not world.first:
            return
        name = "tuned_without" if self.without else "tuned"
        tensors = {key: value.detach().half().cpu().contiguous() for key, value in tower.trained().items()}
        facts = {"clip": encoder.id, "clip_weight_hash": encoder.weight_hash, PROJECTION: self.projection}
        weights = self.output / f"{name}.safetensors"
        write_atomic(weights, lambda path: save_file(tensors, path, facts))
        kinds = [kind for k, kind in enumerate(KINDS) if k not in left_out]
        vectors = background(tower, kinds, self.background, self.seed, self.projection)
        save_background(background_file(weights), vectors, encoder.weight_hash)
        card = {
            "name": name,
            "role": "tuned copy of the last stage of a CLIP's image tower, for depth views",
            "format_version": 1,
            "license": "Apache-2.0",
            "data": "procedural kinds in seen styles (scripts/training/naming_pairs.py); no real shape, no photograph",
            "left_out": [list(KINDS)[k] for k in left_out],
            **facts,
            "recipe": {key: getattr(self, key) for key in RECIPE},
            "pairs": {"made": len(pairs.kind), "kept": len(kept)},
            "seconds": round(time.monotonic() - started),
            "log": log,
        }
        write_json(self.output / f"{name}.json", card)

    def _pairs(self, tower: AlignedTower, world: World) -> Pairs:
        path = self.output / "pairs.npz"
        generated = None if self.control is None else [self.control, self.diffusion]
        settings = [tower.encoder.weight_hash, self.shapes, self.views, self.pairs_seed, generated]
        facts = json.dumps(settings if self.projection == OURS else [*settings, self.projection])
        if not world.any(path.is_file()):
            made = world.gather_list(self._make(tower, world))
            if world.first:
                stem, target, kind = (np.stack(part) for part in zip(*made))
                write_atomic(path, lambda to: np.savez(to, stem=stem, target=target, kind=kind, facts=facts))
            world.any(False)
        found = np.load(path)
        if "facts" not in found or str(found["facts"]) != facts:
            raise ConfigError("The pairs were made with another CLIP, or other settings", where=path, fix="remove them")
        return Pairs(torch.from_numpy(found["stem"]), torch.from_numpy(found["target"]), found["kind"])

    def _make(self, tower: AlignedTower, world: World) -> list[tuple[np.ndarray, np.ndarray, int]]:
        """Stem, target and kind of this process's pairs."""
        made, count, side = [], self.shapes * len(KINDS), tower.encoder.preprocess.size[0]
        generator, see = None, ANY_VIEWS[self.projection]
        if self.control is not None:
            generator = Generator(self.output / "pictures", self.control, self.diffusion, world.device)
        for index in range(count)[world.own(count)]:
            rng = np.random.default_rng([self.pairs_seed, index])
            kind = index % len(KINDS)
            shape, turns = seen_shape(rng, [list(KINDS)[kind]]), random_views(rng, self.views)
            grey = torch.from_numpy(see(shape.points, turns, max(RELIEF_SIZE, side))).float()[:, None]
            if generator is None:
                seen = np.stack([picture(shape, turn, rng, max(PICTURE_SIZE, side)) for turn in turns])
            else:
                seen = generator.pictures(shape.kind, shape.points, turns, self.views * index)
            coloured = torch.from_numpy(seen).permute(0, 3, 1, 2).float() / 255
            with torch.no_grad():
                stem = tower.stem(grey.expand(-1, 3, -1, -1)).half().cpu().numpy()
                target = F.normalize(tower.encode(coloured, 0.0).mean(0), dim=0).cpu().numpy()
            made.append((stem, target, kind))
            if index % 100 == 0:
                print(f"{index * world.size} of {count} shapes", flush=True)
        return made

    def _filtered(self, tower: AlignedTower, pairs: Pairs, left_out: list[int]) -> np.ndarray:
        """Indices of the pairs to train on: those of the kept kinds, whose pictures show what they should."""
        text = class_vectors(tower.encoder, tuple(KINDS), PLAIN_TEMPLATES).cpu()
        cosines = pairs.target @ text.T
        own = cosines[torch.arange(len(pairs.kind)), torch.from_numpy(pairs.kind)]
        rank = (cosines > own[:, None]).sum(1).numpy()
        return np.flatnonzero((rank < KEPT_RANK) & ~np.isin(pairs.kind, left_out))

    def tune(self, tower: AlignedTower, pairs: Pairs, kept: np.ndarray, world: World = ALONE) -> list[dict]:
        """Tune the tower on the pairs of these indices; returns the log.

        Args:
            tower: is changed.
            pairs: frozen features.
            kept: indices of the pairs to train on.
            world: the processes that share a batch.
        """
        parameters = list(tower.trained().values())
        for parameter in parameters:
            parameter.requires_grad_(True)
        optimizer = torch.optim.AdamW(parameters, lr=self.rate, betas=(0.9, 0.98), eps=1e-8, weight_decay=0.1)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.rate, total_steps=self.steps)
        rng = np.random.default_rng([self.seed, 1])
        groups = [group for k in range(len(KINDS)) if len(group := kept[pairs.kind[kept] == k])]
        scale, log = tower.encoder.logit_scale, []

        def finish(stem: torch.Tensor) -> tuple[torch.Tensor]:
            depth = tower.finish(stem.float().flatten(0, 1)).unflatten(0, stem.shape[:2])
            return (F.normalize(depth.mean(1), dim=1),)

        for step in range(self.steps):
            batch = torch.from_numpy(np.array([rng.choice(group) for group in groups]))
            (depth,) = world.in_parts(finish, pairs.stem[batch[world.own(len(batch))]].to(world.device))
            depth = world.gather(depth, len(batch))
            loss, contrast = alignment_loss(depth, pairs.target[batch].to(world.device), scale)
            optimizer.zero_grad()
            loss.backward()
            world.average(parameters)
            optimizer.step()
            schedule.step()
            if step % 50 == 0 or step == self.steps - 1:
                log.append(
                    {
                        "step": step,
                        "loss": round(float(loss.detach()), 4),
                        "contrast": round(float(contrast.detach()), 4),
                    }
                )
                print(json.dumps(log[-1]), flush=True)
        return log


def alignment_loss(depth: torch.Tensor, pictures: torch.Tensor, scale: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss of a batch of unit vectors of shapes, and its InfoNCE part."""
    logits = scale * depth @ pictures.T
    own = torch.arange(len(depth), device=depth.device)
    contrast = (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
    return contrast + (depth - pictures).square().sum(1).mean(), contrast


if __name__ == "__main__":
    start(Train)
