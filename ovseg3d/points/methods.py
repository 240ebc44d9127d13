"""The methods of the stage `semantics`: what becomes of features once they are lifted.

lift      Nothing more: they were smoothed along the surface.
default   A feature field is fitted to them, then refined for a short while along the training photos' rays: the photos'
          features where others do not contradict them, and DINO's beside, which share the field's grid. What that
          changed is added to the lifted features, so what the field is too coarse to hold is not lost. No phrases.
          It is polish, and kept gentle on purpose. At a point the lifted mean is already the best answer to these
          photos; a field that learns for longer goes from there to what its grid can hold, and loses small things
          (with oracle features on a room: 40 slow steps leave mIoU where it was, 100 quick ones take 3 points).
3d-ovs    Liu et al. 2023 on our field, from nothing: features of crops of three sizes, among which the field chooses
          (selection), and two alignments of distributions over the scene's phrases: with the photos' own (rda), and of
          pixels that DINO finds alike or unlike (fda, re-balanced). Each part can be switched off.
lerf      Kerr et al. 2023 on our field, from nothing: see `points.lerf`.

The last two do not see what was lifted, but for the scene's basis. All are asked at the surface points in the end.
Their steps are bounded and equal seeds give equal bits; an interrupted run goes on from a checkpoint in `semantics/`,
a folder that is gone when the stage is done.
"""

import hashlib
import json
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ovseg3d.engine import Clock, Event, Report, Stage, latest_checkpoint, load_checkpoint, run_stage
from ovseg3d.features.maps import Pyramid, normalise
from ovseg3d.features.scenes import SceneFeatures
from ovseg3d.field.renderer import Renderer
from ovseg3d.field.surface import Surface
from ovseg3d.files import make_folder
from ovseg3d.points.basis import Basis
from ovseg3d.points.feature_field import FeatureField, FeatureFieldConfig, FieldShape, FitStage
from ovseg3d.points.gather import Consensus, GatherConfig, Rays, TrainingPhotos, gather_rays
from ovseg3d.points.lerf import LerfStage, Sized
from ovseg3d.points.lift import Lifted
from ovseg3d.points.refine import RefineConfig, RefineStage
from ovseg3d.runs.config import SemanticsConfig
from ovseg3d.scene import Scene

FOLDER = "semantics"
STEPS = {"default": 24, "3d-ovs": 600, "lerf": 1000}
FIT = 2
"""Steps of the fit before refinement, for each step of that."""
FROM_NOTHING = {"learning_rate": 2e-2, "network_learning_rate": 5e-3, "decay": 0.05}
"""Rates for a field that was not fitted to anything before."""


@dataclass(frozen=True)
class Words:
    """Vectors of the encoder's joint space, unit length."""

    phrases: Float[np.ndarray, "phrases dim"]
    """The scene's."""
    canonical: Float[np.ndarray, "canonical dim"]


@dataclass(frozen=True)
class Learnt:
    """What points mean."""

    vectors: Float[np.ndarray, "points kept"]
    """Coefficients, unit length."""
    sized: Sized | None = None
    figures: dict[str, float | int] = field(default_factory=dict)
    """Steps, and the last losses."""


@dataclass(frozen=True)
class FeatureTrainer:
    """What a method learns from, and its learning."""

    folder: Path
    """The run's."""
    config: SemanticsConfig
    scene: Scene
    renderer: Renderer
    backend: str
    features: SceneFeatures
    surface: Surface
    basis: Basis
    lifted: Lifted
    vectors: Float[np.ndarray, "points kept"]
    """Lifted and smoothed, unit length."""
    words: Words | None
    sharpness: float
    """The encoder's logit scale."""
    seed: int
    report: Report
    stop: threading.Event

    def learn(self) -> Learnt | None:
        """Follow the method; None after `stop`. Its checkpoints stay in `FOLDER` until somebody removes them."""
        ways: dict[str, Callable[[], Learnt | None]] = {
            "default": self._refined, "lift": lambda: Learnt(self.vectors), "3d-ovs": self._ovs, "lerf": self._lerf,
        }  # fmt: skip
        return ways[self.config.method]()

    def _refined(self) -> Learnt | None:
        consensus = Consensus(self._x.cpu().numpy().astype(np.float64), self.vectors, self.lifted.relative)
        rays = self._rays(GatherConfig(), consensus)
        if rays is None:
            return None
        own = self._field(FieldShape(self._kept, _width(rays.dino)))
        fit = FitStage(own, self._x, torch.from_numpy(self.vectors), self.seed)
        if self._train(fit, FIT, share=0.5) is None:
            return None
        before = own.at(self._x)
        figures = self._train(RefineStage(own, rays, config=RefineConfig(), seed=self.seed), share=0.5)
        if figures is None:
            return None
        changed = self.vectors + (own.at(self._x) - before).cpu().numpy()
        return Learnt(normalise(changed), figures=figures)

    def _ovs(self) -> Learnt | None:
        assert self.words is not None
        chosen = self.config
        rays = self._rays(GatherConfig(agreement=0.0))
        if rays is None:
            return None
        scales = rays.clip.shape[1]
        own = self._field(FieldShape(self._kept, 0, scales if chosen.selection and scales > 1 else 0))
        phrases = np.concatenate([self.words.phrases, self.words.canonical])
        off = {} if chosen.rda else {"relevancy": 0.0}
        off |= {} if chosen.fda else {"pull": 0.0, "push": 0.0}
        config = RefineConfig(**FROM_NOTHING, **off, balanced=chosen.rebalance)
        stage = RefineStage(own, rays, torch.from_numpy(self.basis.reduce(phrases)), self.sharpness, config, self.seed)
        figures = self._train(stage)
        return None if figures is None else Learnt(normalise(own.at(self._x).cpu().numpy()), figures=figures)

    def _lerf(self) -> Learnt | None:
        assert self.words is not None
        rays = self._rays(GatherConfig(agreement=0.0, side=1))
        if rays is None:
            return None
        clip = self.features[self.scene.train[0]].clip
        assert isinstance(clip, Pyramid)
        own = self._field(FieldShape(self._kept, _width(rays.dino), sized=True))
        stage = LerfStage(own, rays, clip.scales, RefineConfig(**FROM_NOTHING, feature_kind="huber"), self.seed)
        figures = self._train(stage)
        if figures is None:
            return None
        sized = stage.sized(self._x, self.basis.reduce(self.words.canonical), self.renderer.box.radius)
        return Learnt(sized.at(0.5), sized, figures)

    # -- what they share ---------------------------------------------------------------------------------------

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

    def _rays(self, config: GatherConfig, consensus: Consensus | None = None) -> Rays | None:
        frames = [self.scene.frames[view] for view in self.scene.train]
        photos = [self.features[view] for view in self.scene.train]
        training = TrainingPhotos(frames, photos, self.basis, self.features.projection)
        rays = gather_rays(
            self.renderer, training, config, consensus, seed=self.seed, report=self.report, stop=self.stop
        )
        return None if self.stop.is_set() else rays

    def _train(self, stage: Stage, times: int = 1, share: float = 1.0) -> dict[str, float | int] | None:
        """Train a stage to its end, from a checkpoint if there is one; its figures, or None after `stop`.

        Args:
            times: the number of steps, in the method's.
            share: of the time that may be spent.
        """
        steps = times * (self.config.refine_steps or STEPS[self.config.method])
        seconds = self.config.refine_seconds and self.config.refine_seconds * share
        folder = self.folder / FOLDER / f"{stage.name}-{self._fingerprint(stage, steps)}"
        clock, first = Clock(), 0
        if (path := latest_checkpoint(folder)) is not None:
            checkpoint = load_checkpoint(path, stage.name, {name: value.shape for name, value in stage.state().items()})
            stage.load_state(checkpoint.state)
            first = checkpoint.step
            clock.add(checkpoint.seconds)
        figures: dict[str, float] = {}
        make_folder(folder)

        def tell(event: Event) -> None:
            figures.update({f"{stage.name}_{name}": value for name, value in event.metrics.items()})
            self.report(event)

        with stage.workers.open():
            outcome = run_stage(
                stage, steps, seconds, first, clock, checkpoints=folder, report=tell, stop=self.stop,
            )  # fmt: skip
        return None if outcome.interrupted else {f"{stage.name}_steps": outcome.steps, **figures}

    def _fingerprint(self, stage: Stage, steps: int) -> str:
        """Of all that the stage learns from: a checkpoint of other points, photos or phrases is not gone on with."""
        facts = json.dumps([stage.facts(), asdict(self.config), steps], sort_keys=True, default=str)
        digest = hashlib.sha256(facts.encode())
        words = () if self.words is None else (self.words.phrases, self.words.canonical)
        for array in (self.surface.xyz, self.basis.axes, self.vectors, *words):
            digest.update(np.ascontiguousarray(array).tobytes())
        # What a photo's entry is called says which encoders it is from, DINO among them.
        digest.update("".join(self.features.keys[view] for view in self.scene.train).encode())
        return digest.hexdigest()[:12]


def _width(vectors: Tensor | None) -> int:
    return 0 if vectors is None else vectors.shape[1]
