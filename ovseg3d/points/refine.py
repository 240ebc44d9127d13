"""Train a feature field along gathered rays (`gather`), with the geometry frozen: the methods `3d-ovs` and `lerf`.

The losses are those of `losses`: the feature itself, reduced DINO, and with phrases the two alignments of 3D-OVS.
No weight needs tuning per scene.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from ovseg3d.field.optimizer import GridOptimizer, Schedule
from ovseg3d.points.feature_field import FeatureField
from ovseg3d.points.gather import Rays
from ovseg3d.points.losses import (
    PULL,
    PUSH,
    THRESHOLD,
    correlation_alignment,
    feature_loss,
    log_distribution,
    phrase_cosines,
    relevancy_alignment,
)


@dataclass(frozen=True)
class RefineConfig:
    """How a feature field is trained. Losses whose weight is 0 are not computed."""

    batch: int = 4096
    """Rays in a step."""
    patches: int = 2
    """Image patches in a step for the pairwise loss, which takes most of the time of a step with phrases."""
    learning_rate: float = 2e-2
    """Rate of the grid at the start."""
    network_learning_rate: float = 5e-3
    """Rate of the networks at the start."""
    decay: float = 0.05
    """Rates end at this share of their start."""

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
    balanced: bool = True
    """Whether pulled and pushed pairs are averaged separately."""
    threshold: float = THRESHOLD
    """Cosine of DINO vectors above which pixels should have equal semantics."""


class RefineStage:
    """Trains a feature field on gathered rays.

    Args:
        field: a new one; its `mean` becomes that of the rays' features.
        rays: from `gather_rays`.
        phrases: coefficients of the phrases and the canonical phrases; None: without the two alignments.
        sharpness: the encoder's logit scale.
        config: batch, rates and weights of the losses.
        seed: of the random draws.
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
        self._pairs = bool(self.phrases is not None and len(rays.patches) and rays.dino_full is not None
                           and (config.pull or config.push))  # fmt: skip
        hit = rays.hit[:, None] / rays.hit.sum().clamp_min(1)
        field.mean.copy_((rays.clip.mean(1) * hit).sum(0))
        rates = {"table": config.learning_rate, "network": config.network_learning_rate}
        schedule = Schedule(rates, config.decay, warmup=10)
        self._optimizer = GridOptimizer(field.backend, field.workers, field.table, {"network": field.network}, schedule)
        self._sums: dict[str, Tensor] = {}
        self._steps = 0

    def step(self, step: int, progress: float) -> None:
        generator = torch.Generator(self.field.device).manual_seed(self.seed * 1_000_003 + step)
        results = self.workers.map(lambda one: one(), self._work(generator))
        encodings = [(x, grad) for x, grad, *_ in results]
        self._optimizer.update(step, progress, encodings, {"network": [grad for _, _, grad, _ in results]})
        for *_, figures in results:
            for name, value in figures.items():
                self._sums[name] = self._sums.get(name, 0.0) + value
        self._steps += 1

    def _work(self, generator: torch.Generator) -> list[Callable[[], tuple]]:
        """The pieces of a step, each with its random draws."""
        work = [partial(self._single, chosen) for chosen in self._draw(generator, len(self.rays), self.config.batch)]
        if self._pairs:
            drawn = self._draw(generator, len(self.rays.patches), self.config.patches)
            work += [partial(self._paired, chosen) for chosen in drawn]
        return work

    def _draw(self, generator: torch.Generator, most: int, count: int) -> list[Tensor]:
        chosen = torch.randint(most, (count,), generator=generator, device=self.field.device)
        return list(chosen.chunk(self.workers.pieces))

    def _rendered(
        self, chosen: Tensor, *heads: str, size: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]:
        """Positions, the leaves for gradients (encoding, network), and the rendered outputs of the heads."""
        own, rays = self.field, self.rays
        x = rays.x.index_select(0, chosen).view(-1, 3)
        weight = rays.weight.index_select(0, chosen)[..., None]
        with torch.no_grad():
            encoded = own.backend.encode(x, own.table)
        encoded, network = encoded.requires_grad_(), own.network.detach().requires_grad_()
        outputs = own.heads(encoded, network, *heads, size=size)
        samples = weight.shape[1]
        return x, encoded, network, {k: (v.view(-1, samples, v.shape[1]) * weight).sum(1) for k, v in outputs.items()}

    def _single(self, chosen: Tensor) -> tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]:
        """Losses of single rays."""
        config, rays = self.config, self.rays
        x, encoded, network, outputs = self._rendered(chosen)
        clip = rays.clip.index_select(0, chosen)
        shares = self._scale_weights(outputs, clip)
        target = torch.nn.functional.normalize((shares[..., None] * clip).sum(1), dim=-1)
        losses = {"feature": (config.feature, feature_loss(outputs["clip"], target, config.feature_kind))}
        losses |= self._dino(chosen, outputs)
        if config.relevancy and self.phrases is not None:
            own, target_cosines = phrase_cosines(outputs["clip"], self.phrases), phrase_cosines(clip, self.phrases)
            losses["relevancy"] = (config.relevancy, relevancy_alignment(own, target_cosines, shares, self.sharpness))
        return x, *self._loss_gradients(chosen, losses, encoded, network)

    def _dino(self, chosen: Tensor, outputs: dict[str, Tensor]) -> dict[str, tuple[float, Tensor]]:
        """The loss of reduced DINO, if there is DINO."""
        if not self.config.dino or "dino" not in outputs or self.rays.dino is None:
            return {}
        return {"dino": (self.config.dino, feature_loss(outputs["dino"], self.rays.dino.index_select(0, chosen)))}

    def _loss_gradients(self, chosen: Tensor, losses: dict[str, tuple[float, Tensor]], *leaves: Tensor) -> tuple:
        """Gradients of the rays' weighted losses, and the mean of each loss."""
        rays = self.rays
        counts = rays.weight.index_select(0, chosen)[:, 0] > 0
        means = {name: (weight, (each * counts).sum() / self.config.batch) for name, (weight, each) in losses.items()}
        return *self._gradients(means, *leaves), {name: mean.detach() for name, (_, mean) in means.items()}

    def _paired(self, chosen: Tensor) -> tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]:
        """Losses of pairs of pixels within image patches."""
        config, rays, phrases, full = self.config, self.rays, self.phrases, self.rays.dino_full
        assert phrases is not None and full is not None, "see `_pairs`"
        index = rays.patches.index_select(0, chosen)
        x, encoded, network, outputs = self._rendered(index.view(-1), "clip")
        log_p = log_distribution(phrase_cosines(outputs["clip"], phrases), self.sharpness)
        halves = [
            correlation_alignment(
                p,
                full.index_select(0, one),
                config.threshold,
                rays.hit.index_select(0, one),
                balanced=config.balanced,
            )  # fmt: skip
            for p, one in zip(log_p.view(*index.shape, -1), index)
        ]
        pull, push = (cast(Tensor, sum(half)) / config.patches for half in zip(*halves))
        means = {"pull": (config.pull, pull), "push": (config.push, push)}
        grad_encoded, grad_network = self._gradients(means, encoded, network)
        return x, grad_encoded, grad_network, {"pull": pull.detach(), "push": push.detach()}

    @staticmethod
    def _gradients(means: dict[str, tuple[float, Tensor]], *leaves: Tensor) -> list[Tensor]:
        total = cast(Tensor, sum(weight * mean for weight, mean in means.values()))
        # With a size appended, the encoding's gradient is a view of a wider tensor.
        return [grad.contiguous() for grad in torch.autograd.grad(total, leaves)]

    def _scale_weights(self, outputs: dict[str, Tensor], clip: Tensor) -> Tensor:
        """Weights of the scales (rays, scales): the selection volume, 0 to 1 at each sample, rendered, then softmax.

        As in the paper's code the selection stays soft: of three scales, each has a weight from 0.16 to 0.58. A hard
        selection would end at the coarsest crops, which are the easiest to agree with.
        """
        if "scales" in outputs:
            return torch.softmax(outputs["scales"], -1)
        return torch.full_like(clip[..., 0], 1.0 / clip.shape[1])

    def measure(self) -> dict[str, float]:
        """Mean of each loss over the steps since the last call; not multiplied by its weight."""
        figures = {name: float(value) / max(self._steps, 1) for name, value in self._sums.items()}
        self._sums, self._steps = {}, 0
        return figures

    def state(self) -> dict[str, Tensor]:
        return {**self._optimizer.state(), "mean": self.field.mean}

    def load_state(self, state: dict[str, Tensor]) -> None:
        self._optimizer.load_state(state)
        self.field.mean.copy_(state["mean"])

    def facts(self) -> dict:
        return {**self.field.facts(), "refine": asdict(self.config), "sharpness": self.sharpness, "seed": self.seed}
