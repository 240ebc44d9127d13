"""Refine a feature field along the rays of training photos, with the geometry frozen.

Rays are gathered once (`gather_rays`): where their light stops does not change, so each keeps its few heaviest places
with their render weights, and what its photo's encoders say, reduced. Half of the rays lie anywhere, half in square
patches whose neighbours are a fixed step apart, which the pairwise loss needs. A step draws from them and never looks
at a photo or at the radiance field again; memory does not grow with the number of photos.

The losses are those of `losses`: the feature itself, reduced DINO, and with phrases the two alignments. A ray counts
less where its photo contradicts what all photos together say of that place, as in `lift`: an encoder that errs in one
photo of ten must not blur the field. That is settled when rays are gathered, against the lifted features. To ask the
field itself while it learns would be a trap: what it has not learnt yet, such as a small thing, would count
as an error. Nothing here has a weight that a scene would need for itself.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.spatial import cKDTree
from torch import Tensor

from ovseg3d.encoders.maps import PhotoFeatures, Pyramid, normalise
from ovseg3d.encoders.projection import Projection
from ovseg3d.engine import Event, Report, ignore
from ovseg3d.field.renderer import RayStops, Renderer
from ovseg3d.scene import Camera, Cameras
from ovseg3d.semantics.basis import Basis
from ovseg3d.semantics.feature_field import FeatureField, Learner
from ovseg3d.semantics.losses import (
    PULL,
    PUSH,
    THRESHOLD,
    correlation_alignment,
    feature_loss,
    log_distribution,
    phrase_cosines,
    relevancy_alignment,
)

STAGE = "rays"
OPAQUE = 0.5
"""A ray that lets more light through than this has met nothing, and teaches nothing."""


@dataclass(frozen=True)
class RefineConfig:
    """How a feature field is refined. Losses whose weight is 0 are not computed."""

    # What is gathered.
    rays: int = 131_072
    """Rays of all photos together, about."""
    side: int = 16
    """Rays along each side of a patch."""
    reach: float = 0.4
    """Side of a patch, as a share of the photo's shorter side."""
    places: int = 4
    """Most places along a ray."""
    agreement: float = 2.0
    """How sharply a ray counts less whose photo contradicts the others: agreement to this power. 0: all count alike."""

    # Steps.
    steps: int = 200
    """How many, as a rule."""
    batch: int = 4096
    """Rays."""
    patches: int = 2
    """Patches for the pairwise loss, which is most of the time of a step with phrases."""
    learning_rate: float = 5e-3
    """Rate of the grid at the start."""
    network_learning_rate: float = 1e-3
    """Rate of the networks at the start."""
    decay: float = 0.1
    """Rates end at this share of their start."""

    # The losses.
    feature: float = 1.0
    """Weight of the feature loss."""
    feature_kind: str = "cosine"
    """cosine or huber, see `losses.feature_loss`."""
    dino: float = 0.5
    """Weight of the same loss for reduced DINO."""
    relevancy: float = 1.0
    """Weight of relevancy-distribution alignment; needs phrases."""
    pull: float = PULL
    push: float = PUSH
    """Weights of feature-distribution alignment; needs phrases and DINO."""
    threshold: float = THRESHOLD
    """Cosine of DINO vectors above which pixels should mean the same."""


@dataclass(frozen=True)
class Consensus:
    """What all photos together say: features lifted to surface points."""

    x: Float[np.ndarray, "points 3"]
    """The points, in the unit cube."""
    vectors: Float[np.ndarray, "points kept"]
    trust: Float[np.ndarray, " views"]
    """Of each training view, from `Lifted`."""

    @cached_property
    def _tree(self) -> cKDTree:
        return cKDTree(self.x)

    @cached_property
    def _common(self) -> np.ndarray:
        return normalise(self.vectors).mean(0)

    def agreement(
        self, x: Float[np.ndarray, "rays 3"], said: Float[np.ndarray, "rays kept"], view: int
    ) -> Float[np.ndarray, " rays"]:
        """How well a photo's word agrees with that of the nearest point, 0 to 1, times the trust in the photo.

        The cosine after what the scene has in common is taken away, and trust relative to the middle photo, as `lift`
        has them.
        """
        near = self.vectors[self._tree.query(x)[1]]
        one, other = (normalise(normalise(vectors) - self._common) for vectors in (near, said))
        trust = self.trust[view] / max(float(np.median(self.trust)), 1e-6)
        return (one * other).sum(1).clip(0.02, 1.0) * np.clip(trust, 0.05, 1.0)


@dataclass(frozen=True)
class Rays:
    """Gathered rays of training photos, and what the photos say there."""

    x: Float[Tensor, "rays places 3"]
    """Where their light stops, unit cube."""
    weight: Float[Tensor, "rays places"]
    """Render weights; 0 for places that there are not, and for all of a ray that met nothing."""
    clip: Float[Tensor, "rays scales kept"]
    """Coefficients, unit length, at each scale of a pyramid (else at one)."""
    dino: Float[Tensor, "rays dino"] | None
    """Reduced."""
    seen: Float[Tensor, "rays full"] | None
    """DINO's own vectors up to a rotation, unit length: what correlations are taken of."""
    trust: Float[Tensor, " rays"]
    """How much the photo is to be believed here, 0 to 1."""
    patches: Int[Tensor, "patches pixels"]
    """Indices of the rays of each patch."""

    def __len__(self) -> int:
        return len(self.x)

    @property
    def met(self) -> Bool[Tensor, " rays"]:
        """Whether the ray met anything."""
        return self.weight[:, 0] > 0


def gather_rays(
    renderer: Renderer,
    cameras: Sequence[Camera],
    photos: Sequence[PhotoFeatures],
    basis: Basis,
    config: RefineConfig,
    consensus: Consensus | None = None,
    projection: Projection | None = None,
    seed: int = 0,
    report: Report = ignore,
    stop: threading.Event | None = None,
) -> Rays:
    """Rays of training photos, the same for the same seed.

    Args:
        renderer: the radiance field.
        cameras, photos: of the training views, in one order; each photo's features are read once.
        basis: of the CLIP coefficients.
        consensus: from lifting; None: every ray counts alike.
        projection: what reduced DINO's vectors. With it correlations are those of the vectors as they were: centred
            ones have other cosines, for which the paper's threshold means nothing.
        stop: ends early, with the rays of the views so far.

    Raises:
        ValueError: there is no view, or photos and cameras differ in number.
    """
    if not cameras or len(cameras) != len(photos):
        raise ValueError("rays are gathered from at least one photo, each with its camera")
    device = renderer.field.table.device
    placed = Cameras.from_cameras(cameras, renderer.box.field_from_input, device)
    pixels = config.side**2
    patches = max(1, round(config.rays / len(cameras) / 2 / pixels)) if config.side > 1 else 0
    single = max(1, config.rays // len(cameras) - patches * pixels)
    parts: dict[str, list[Tensor]] = {}
    for view in range(len(cameras)):
        if stop is not None and stop.is_set() and parts:
            break
        random = np.random.default_rng((seed, view))
        xy = np.concatenate([random.random((single, 2)), *_patches(random, cameras[view], patches, config)])
        origins, directions, _ = placed.rays(
            torch.full((len(xy),), view, dtype=torch.int64, device=device),
            torch.from_numpy((xy * (cameras[view].width, cameras[view].height)).astype(np.float32)).to(device),
        )
        x, weight = _heaviest(renderer.stops(origins, directions, 0.8 / config.places), config.places)
        one = {"x": x, "weight": weight, "clip": _coefficients(photos[view], xy, basis)}
        dino = photos[view].dino
        if dino is not None:
            one["dino"] = torch.from_numpy(dino.at(xy).astype(np.float32))
            one["seen"] = as_seen(one["dino"], projection)
        one["trust"] = torch.ones(len(xy))
        if consensus is not None and config.agreement:
            mean = torch.nn.functional.normalize(one["clip"].mean(1), dim=-1).numpy()
            agreement = consensus.agreement(x[:, 0].cpu().numpy(), mean, view) ** config.agreement
            one["trust"] = torch.from_numpy(agreement.astype(np.float32))
        for name, values in one.items():
            parts.setdefault(name, []).append(values.to(device))
        report(Event("progress", STAGE, view + 1, len(cameras), (view + 1) / len(cameras)))
    views = len(parts["x"])
    first = torch.arange(views * patches, device=device).view(views, patches) * pixels
    first += (torch.arange(views, device=device)[:, None] + 1) * single
    index = first.view(-1, 1) + torch.arange(pixels if patches else 0, device=device)
    both = len(parts.get("dino", ())) == views
    columns = {name: torch.cat(values) for name, values in parts.items() if both or name not in ("dino", "seen")}
    return Rays(**{"dino": None, "seen": None} | columns, patches=index)


def _patches(random: np.random.Generator, camera: Camera, count: int, config: RefineConfig) -> list[np.ndarray]:
    """Places of square patches, (pixels, 2) each, in 0..1 of the photo."""
    shorter = min(camera.width, camera.height)
    size = config.reach * shorter / np.array([camera.width, camera.height])
    steps = (np.stack(np.meshgrid(*[np.arange(config.side)] * 2), -1).reshape(-1, 2) + 0.5) / config.side
    return [random.random(2) * (1 - size) + steps * size for _ in range(count)]


def _heaviest(stops: RayStops, places: int) -> tuple[Tensor, Tensor]:
    """Each ray's heaviest places, heaviest first, (rays, places, 3) and (rays, places)."""
    rays = len(stops.offsets) - 1
    counts = stops.offsets.diff()
    most = max(int(counts.max()) if rays else 0, places)
    column = torch.arange(len(stops.x), device=stops.x.device) - stops.offsets[:-1].long().index_select(0, stops.ray)
    weight, x = stops.weight.new_zeros(rays, most), stops.x.new_full((rays, most, 3), 0.5)
    weight[stops.ray.long(), column], x[stops.ray.long(), column] = stops.weight, stops.x
    total = weight.sum(1, keepdim=True)
    weight, order = weight.topk(places, 1)
    return x.gather(1, order[..., None].expand(-1, -1, 3)), weight * (total > OPAQUE)


def _coefficients(photo: PhotoFeatures, xy: np.ndarray, basis: Basis) -> Tensor:
    clip = photo.clip
    said = [clip.at(xy, scale) for scale in clip.scales] if isinstance(clip, Pyramid) else [clip.at(xy)]
    return torch.nn.functional.normalize(torch.from_numpy(np.stack([basis.reduce(one) for one in said], 1)), dim=-1)


def as_seen(reduced: Tensor, projection: Projection | None) -> Tensor:
    """DINO's vectors before their mean was taken away, in the axes of the basis and one more for what is outside."""
    if projection is not None:
        inside = projection.mean @ projection.basis
        outside = np.sqrt(max(float(projection.mean @ projection.mean - inside @ inside), 0.0))
        reduced = torch.cat([reduced + torch.from_numpy(inside), reduced.new_full((len(reduced), 1), outside)], 1)
    return torch.nn.functional.normalize(reduced, dim=-1)


class RefineStage:
    """Refines a feature field on gathered rays.

    Args:
        field: fitted to lifted features, or new.
        rays: from `gather_rays`.
        phrases: coefficients of the phrases and the canonical phrases; None leaves the two alignments out.
        sharpness: the encoder's logit scale.
        config: see there.
        seed: of what is drawn.
    """

    name = "refine"

    def __init__(
        self,
        field: FeatureField,
        rays: Rays,
        phrases: Float[Tensor, "phrases kept"] | None = None,
        sharpness: float = 100.0,
        config: RefineConfig | None = None,
        seed: int = 0,
    ) -> None:
        self.field, self.rays, self.seed, self.workers = field, rays, seed, field.workers
        self.config = config = config or RefineConfig()
        self.sharpness = sharpness
        self.phrases = None if phrases is None or not len(phrases) else phrases.to(field.device)
        self._pairs = bool(self.phrases is not None and len(rays.patches) and rays.seen is not None
                           and (config.pull or config.push))  # fmt: skip
        if not field.mean.any():
            met = rays.met[:, None] / rays.met.sum().clamp_min(1)
            field.mean.copy_((rays.clip.mean(1) * met).sum(0))
        self._learner = Learner(field, config.learning_rate, config.network_learning_rate, config.decay)
        self._sums: dict[str, Tensor] = {}
        self._steps = 0

    def step(self, step: int, progress: float) -> None:
        generator = torch.Generator(self.field.device).manual_seed(self.seed * 1_000_003 + step)

        def draw(most: int, count: int) -> list[Tensor]:
            chosen = torch.randint(most, (count,), generator=generator, device=self.field.device)
            return list(chosen.chunk(self.workers.pieces))

        work: list[Callable[[], tuple]] = []
        for chosen in draw(len(self.rays), self.config.batch):
            work.append(lambda chosen=chosen: self._single(chosen))
        if self._pairs:
            for chosen in draw(len(self.rays.patches), self.config.patches):
                work.append(lambda chosen=chosen: self._paired(chosen))
        results = self.workers.map(lambda one: one(), work)
        self._learner.update(step, progress, [result[:3] for result in results])
        for *_, figures in results:
            for name, value in figures.items():
                self._sums[name] = self._sums.get(name, 0.0) + value
        self._steps += 1

    def _rendered(self, chosen: Tensor, *heads: str) -> tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]:
        """Places, the leaves that gradients are taken of, and what the heads say along the rays."""
        own, rays = self.field, self.rays
        x = rays.x.index_select(0, chosen).view(-1, 3)
        weight = rays.weight.index_select(0, chosen)[..., None]
        with torch.no_grad():
            encoded = own.backend.encode(x, own.table)
        encoded, network = encoded.requires_grad_(), own.network.detach().requires_grad_()
        said = own.heads(encoded, network, *heads)
        places = weight.shape[1]
        return x, encoded, network, {k: (v.view(-1, places, v.shape[1]) * weight).sum(1) for k, v in said.items()}

    def _single(self, chosen: Tensor) -> tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]:
        """Losses of rays, each for itself."""
        config, rays = self.config, self.rays
        x, encoded, network, said = self._rendered(chosen)
        clip = rays.clip.index_select(0, chosen)
        choice = self._choice(said, clip)
        target = torch.nn.functional.normalize((choice[..., None] * clip).sum(1), dim=-1)
        counts = rays.trust.index_select(0, chosen) * (rays.weight.index_select(0, chosen)[:, 0] > 0)
        losses = {"feature": (config.feature, feature_loss(said["clip"], target, config.feature_kind))}
        if config.dino and "dino" in said and rays.dino is not None:
            losses["dino"] = (config.dino, feature_loss(said["dino"], rays.dino.index_select(0, chosen)))
        if config.relevancy and self.phrases is not None:
            ours, theirs = phrase_cosines(said["clip"], self.phrases), phrase_cosines(clip, self.phrases)
            losses["relevancy"] = (config.relevancy, relevancy_alignment(ours, theirs, choice, self.sharpness))
        means = {name: (weight, (each * counts).sum() / config.batch) for name, (weight, each) in losses.items()}
        return x, *self._gradients(means, encoded, network), {name: mean.detach() for name, (_, mean) in means.items()}

    def _paired(self, chosen: Tensor) -> tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]:
        """Losses of pairs of pixels within patches."""
        config, rays = self.config, self.rays
        index = rays.patches.index_select(0, chosen)
        x, encoded, network, said = self._rendered(index.view(-1), "clip")
        log_p = log_distribution(phrase_cosines(said["clip"], self.phrases), self.sharpness)
        halves = [
            correlation_alignment(p, rays.seen.index_select(0, one), config.threshold, rays.met.index_select(0, one))
            for p, one in zip(log_p.view(*index.shape, -1), index)
        ]
        pull, push = (sum(half) / config.patches for half in zip(*halves))
        means = {"pull": (config.pull, pull), "push": (config.push, push)}
        return x, *self._gradients(means, encoded, network), {"pull": pull.detach(), "push": push.detach()}

    @staticmethod
    def _gradients(means: dict[str, tuple[float, Tensor]], *leaves: Tensor) -> list[Tensor]:
        total = sum(weight * mean for weight, mean in means.values())
        return list(torch.autograd.grad(total, leaves))

    def _choice(self, said: dict[str, Tensor], clip: Tensor) -> Tensor:
        """Weights of the scales (rays, scales): the selection volume, rendered, then softmax."""
        if "scales" in said:
            return torch.softmax(said["scales"], -1)
        return torch.full_like(clip[..., 0], 1.0 / clip.shape[1])

    def measure(self) -> dict[str, float]:
        """Each loss, mean over the steps since the last look; not multiplied by its weight."""
        figures = {name: float(value) / max(self._steps, 1) for name, value in self._sums.items()}
        self._sums, self._steps = {}, 0
        return figures

    def state(self) -> dict[str, Tensor]:
        return self._learner.state()

    def load_state(self, state: dict[str, Tensor]) -> None:
        self._learner.load_state(state)

    def facts(self) -> dict:
        return {**self.field.facts(), "refine": asdict(self.config), "sharpness": self.sharpness}
