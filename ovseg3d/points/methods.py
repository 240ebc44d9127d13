"""The methods of the stage `semantics`: where the features of surface points come from.

lift      Features of the photos, lifted to the points and smoothed along the surface (`points.lift`). No training.
default   The same; instances also get an embedding from crops (`instances.crops`).
3d-ovs    Liu et al. 2023 on our field, from scratch: features of crops of three sizes, among which the field selects
          (selection), and two alignments of distributions over the scene's phrases: with the photos' (rda), and of
          pixels that DINO finds similar or dissimilar (fda, re-balanced). Each part can be switched off.
lerf      Kerr et al. 2023 on our field, from scratch: see `points.lerf`.

The last two train a feature field, use only the basis of the lifted features, and are evaluated at the surface points.
The number of steps is bounded, and equal seeds give equal bits. An interrupted run resumes from a checkpoint in
`semantics/`, which is removed when the stage is done.
"""

import hashlib
import json
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ovseg3d.engine import (
    CheckpointFolder,
    Clock,
    Event,
    Report,
    Stage,
    Start,
    latest_checkpoint,
    load_checkpoint,
    run_stage,
)
from ovseg3d.features.maps import Pyramid, normalise
from ovseg3d.features.scenes import SceneFeatures
from ovseg3d.field.renderer import Renderer
from ovseg3d.field.surface import Surface
from ovseg3d.files import make_folder
from ovseg3d.points.basis import Basis
from ovseg3d.points.feature_field import FeatureField, FeatureFieldConfig, FieldShape
from ovseg3d.points.gather import GatherConfig, Rays, TrainingPhotos, gather_rays
from ovseg3d.points.lerf import LerfStage, Sized
from ovseg3d.points.refine import RefineConfig, RefineStage
from ovseg3d.runs.config import SemanticsConfig
from ovseg3d.scene import Scene

FOLDER = "semantics"
STEPS = {"3d-ovs": 600, "lerf": 1000}


@dataclass(frozen=True)
class Words:
    """Vectors of the encoder's joint space, unit length."""

    phrases: Float[np.ndarray, "phrases dim"]
    """The scene's."""
    canonical: Float[np.ndarray, "canonical dim"]


@dataclass(frozen=True)
class Learnt:
    """Features of the surface points by a method."""

    vectors: Float[np.ndarray, "points kept"]
    """Coefficients, unit length."""
    sized: Sized | None = None
    figures: dict[str, float | int] = field(default_factory=dict)
    """Steps, and the last losses."""


@dataclass(frozen=True)
class FeatureTrainer:
    """The inputs of a method, and its training."""

    folder: Path
    """The run's."""
    config: SemanticsConfig
    scene: Scene
    renderer: Renderer
    backend: str
    features: SceneFeatures
    surface: Surface
    basis: Basis
    vectors: Float[np.ndarray, "points kept"]
    """Lifted and smoothed, unit length."""
    words: Words | None
    sharpness: float
    """The encoder's logit scale."""
    seed: int
    report: Report
    stop: threading.Event

    def learn(self) -> Learnt | None:
        """Run the method; None after `stop`. Its checkpoints stay in `FOLDER` until the caller removes them."""
        ways: dict[str, Callable[[], Learnt | None]] = {"3d-ovs": self._ovs, "lerf": self._lerf}
        return ways.get(self.config.method, lambda: Learnt(self.vectors))()

    def _ovs(self) -> Learnt | None:
        assert self.words is not None
        chosen = self.config
        rays = self._rays(GatherConfig())
        if rays is None:
            return None
        scales = rays.clip.shape[1]
        own = self._field(FieldShape(self._kept, 0, scales if chosen.selection and scales > 1 else 0))
        phrases = np.concatenate([self.words.phrases, self.words.canonical])
        off: dict[str, Any] = {} if chosen.rda else {"relevancy": 0.0}
        off |= {} if chosen.fda else {"pull": 0.0, "push": 0.0}
        config = RefineConfig(**off, balanced=chosen.rebalance)
        stage = RefineStage(own, rays, torch.from_numpy(self.basis.reduce(phrases)), self.sharpness, config, self.seed)
        figures = self._train(stage)
        return None if figures is None else Learnt(normalise(own.at(self._x).cpu().numpy()), figures=figures)

    def _lerf(self) -> Learnt | None:
        assert self.words is not None
        rays = self._rays(GatherConfig(side=1))
        if rays is None:
            return None
        clip = self.features[self.scene.train[0]].clip
        assert isinstance(clip, Pyramid)
        own = self._field(FieldShape(self._kept, _width(rays.dino), sized=True))
        stage = LerfStage(own, rays, clip.scales, RefineConfig(feature_kind="huber"), self.seed)
        figures = self._train(stage)
        if figures is None:
            return None
        sized = stage.sized(self._x, self.basis.reduce(self.words.canonical), self.renderer.box.radius)
        return Learnt(sized.at(0.5), sized, figures)

    # -- shared by the methods ---------------------------------------------------------------------------------

    @property
    def _kept(self) -> int:
        return self.basis.axes.shape[1]

    @cached_property
    def _x(self) -> Float[Tensor, "points 3"]:
        """The surface points in the unit cube."""
        box = self.renderer.box
        turn, shift = box.field_from_input[:3, :3], box.field_from_input[:3, 3]
        placed = torch.from_numpy((self.surface.xyz @ turn.T + shift).astype(np.float32))
        return box.contract(placed).to(self.renderer.field.table.device)

    def _field(self, shape: FieldShape) -> FeatureField:
        return FeatureField(FeatureFieldConfig(), shape, self._x.device, self.backend, self.seed)

    def _rays(self, config: GatherConfig) -> Rays | None:
        frames = [self.scene.frames[view] for view in self.scene.train]
        photos = [self.features[view] for view in self.scene.train]
        training = TrainingPhotos(frames, photos, self.basis, self.features.projection)
        rays = gather_rays(self.renderer, training, config, seed=self.seed, report=self.report, stop=self.stop)
        return None if self.stop.is_set() else rays

    def _train(self, stage: RefineStage) -> dict[str, float | int] | None:
        """Train a stage, from a checkpoint if there is one; returns its figures, or None after `stop`."""
        steps = self.config.refine_steps or STEPS[self.config.method]
        folder = self.folder / FOLDER / f"{stage.name}-{self._fingerprint(stage, steps)}"
        clock, first = Clock(), 0
        if (path := latest_checkpoint(folder)) is not None:
            checkpoint = load_checkpoint(path, stage.name, {name: value.shape for name, value in stage.state().items()})
            stage.load_state(checkpoint.state)
            first = checkpoint.step
            clock.add(checkpoint.seconds)
        figures: dict[str, float] = {}
        make_folder(folder)

        def forward(event: Event) -> None:
            figures.update({f"{stage.name}_{name}": value for name, value in event.metrics.items()})
            self.report(event)

        with stage.workers.open():
            start, kept = Start(first, clock), CheckpointFolder(folder)
            outcome = run_stage(stage, steps, self.config.refine_seconds, start, kept, report=forward, stop=self.stop)
        return None if outcome.interrupted else {f"{stage.name}_steps": outcome.steps, **figures}

    def _fingerprint(self, stage: Stage, steps: int) -> str:
        """Hash of all inputs of the stage: checkpoints of other points, photos or phrases are not resumed."""
        facts = json.dumps([stage.facts(), asdict(self.config), steps], sort_keys=True, default=str)
        digest = hashlib.sha256(facts.encode())
        words = () if self.words is None else (self.words.phrases, self.words.canonical)
        for array in (self.surface.xyz, self.basis.axes, self.vectors, *words):
            digest.update(np.ascontiguousarray(array).tobytes())
        # The key of a photo's cache entry identifies its encoders, including DINO.
        digest.update("".join(self.features.keys[view] for view in self.scene.train).encode())
        return digest.hexdigest()[:12]


def _width(vectors: Tensor | None) -> int:
    return 0 if vectors is None else vectors.shape[1]
