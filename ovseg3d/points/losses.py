"""Losses of a feature field: bounded, without weights that need tuning per scene.

Three kinds, after 3D-OVS (Liu et al. 2023, section 3): the rendered feature against the photos' (`feature_loss`), the
rendered distribution over phrases against the photos' (`relevancy_alignment`), and the distributions of two pixels
against each other, pulled together or pushed apart by their DINO similarity (`correlation_alignment`).

Divergences are Jensen-Shannon's, in nats: symmetric, zero for equals, at most ln 2 = 0.693. (The paper says JS too, but
for the third loss its code computes a one-sided KL, bounded only by its temperature.) Every distribution is
softmax(sharpness x cosines) over the phrases *and* the canonical phrases; sharpness is the encoder's own logit scale.
This compares phrases at one pixel only. The paper's code instead rescales each phrase's cosines to 0..1 over each view,
so that some pixel becomes a perfect example of an object that the view does not show. Here, pixels that resemble no
phrase leave their mass with the canonical ones. The logit scale was trained for the same softmax over captions, so it
is a property of the encoder, and no temperature has to be tuned per scene.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

LN2 = math.log(2.0)
"""The largest Jensen-Shannon divergence."""
HUBER_DELTA = 1.25
"""Error at which LERF's loss turns from square to linear."""
THRESHOLD = 0.7
"""Cosine of two DINO vectors above which pixels should have equal semantics; from 3D-OVS's code."""
PULL, PUSH = 2.0, 0.02
"""Weights of the two halves of `correlation_alignment`. The paper's code has 200 and 0.2, for KL at a sharpness of 5.
For distributions close to each other JS is a quarter of KL, and both grow with the square of the sharpness, so the same
force at a sharpness of 100 is 200 x 4 x (5 / 100)^2 = 2. By the same rule the push would be 0.002: it is weak in the
paper's code because that divergence is unbounded. Ours is at most ln 2, and ten times as much is safe."""
NUMBERS_AT_ONCE = 1 << 21
"""(pixel, pixel, phrase) numbers that exist at once: 8 MiB each in float32, for any size of patch."""
TINY = 1e-12


# -- features ----------------------------------------------------------------------------------------------------


def feature_loss(
    rendered: Float[Tensor, "rays dim"], target: Float[Tensor, "rays dim"], kind: str = "cosine"
) -> Float[Tensor, " rays"]:
    """Distance of rendered features from the photos', per ray; 0 to 2.

    Both are normalised first, since lengths along a ray express agreement of photos, not semantics.

    Args:
        rendered: of any length; a ray that hit nothing (zero) costs 1 and has no gradient.
        target: of any length.
        kind: `cosine`: 1 - cosine. `huber`: LERF's (Kerr et al. 2023): Huber's loss with delta 1.25, summed over the
            components. On unit vectors both are equal unless one component differs by more than delta, since
            |a - b|^2 / 2 = 1 - cos(a, b); it is provided to reproduce published figures.

    Raises:
        ValueError: the kind is unknown.
    """
    one, other = _unit(rendered), _unit(target)
    if kind == "cosine":
        return 1.0 - (one * other).sum(-1)
    if kind == "huber":
        return F.huber_loss(one, other, reduction="none", delta=HUBER_DELTA).sum(-1)
    raise ValueError(f"there is no feature loss {kind!r}: cosine or huber")


def _unit(vectors: Tensor) -> Tensor:
    """At unit length; zero stays zero, with zero gradient."""
    squares = vectors.square().sum(-1, keepdim=True)
    return torch.where(squares > TINY, vectors * squares.clamp_min(TINY).rsqrt(), torch.zeros_like(vectors))


# -- distributions over phrases ----------------------------------------------------------------------------------


def phrase_cosines(
    vectors: Float[Tensor, "*rows dim"], phrases: Float[Tensor, "phrases dim"]
) -> Float[Tensor, "*rows phrases"]:
    """Cosines with phrases; phrases keep the length that a `Basis` gives them, vectors have any length."""
    return _unit(vectors) @ phrases.T


def log_distribution(cosines: Float[Tensor, "*rows phrases"], sharpness: float) -> Float[Tensor, "*rows phrases"]:
    """Logarithms of softmax(sharpness x cosines).

    Args:
        cosines: with the phrases and the canonical phrases.
        sharpness: the encoder's logit scale (100 for OpenAI's CLIP).
    """
    return torch.log_softmax(sharpness * cosines, -1)


def jensen_shannon(
    log_p: Float[Tensor, "*rows phrases"], log_q: Float[Tensor, "*rows phrases"]
) -> Float[Tensor, "*rows"]:
    """Jensen-Shannon divergence of distributions given by finite logarithms, in nats: 0 to ln 2 (Lin 1991)."""
    log_m = torch.logaddexp(log_p, log_q) - LN2
    both = log_p.exp() * (log_p - log_m) + log_q.exp() * (log_q - log_m)
    return 0.5 * both.sum(-1)


def relevancy_alignment(
    field: Float[Tensor, "rays phrases"],
    photo: Float[Tensor, "rays scales phrases"],
    selection: Float[Tensor, "rays scales"],
    sharpness: float,
) -> Float[Tensor, " rays"]:
    """Divergence of the field's and a photo's distributions over phrases, per ray; 0 to ln 2.

    Relevancy-distribution alignment (Liu et al. 2023, section 3.3). Gradients go to all three arguments; `selection`,
    which weights the photo's scales, is trained by this loss.

    Args:
        field: cosines of the rendered features with the phrases, including the canonical ones.
        photo: cosines of the photo's features, for each scale of its encoding.
        selection: weights of the scales, not negative, summing to 1.
        sharpness: see `log_distribution`.
    """
    chosen = (selection[..., None] * photo).sum(-2)
    return jensen_shannon(log_distribution(field, sharpness), log_distribution(chosen, sharpness))


# -- distributions of two pixels ---------------------------------------------------------------------------------


def correlation_alignment(
    log_p: Float[Tensor, "pixels phrases"],
    dino: Float[Tensor, "pixels dim"],
    threshold: float = THRESHOLD,
    known: Bool[Tensor, " pixels"] | None = None,
    numbers: int = NUMBERS_AT_ONCE,
    balanced: bool = True,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Pull together pixels that DINO finds similar, and push others apart.

    Feature-distribution alignment (Liu et al. 2023, section 3.4). With c_ij = cos(dino_i, dino_j) - threshold and D_ij
    the Jensen-Shannon divergence of two pixels,
        pull = mean over pairs with c_ij > 0 of  c_ij D_ij              0 to (1 - threshold) ln 2
        push = mean over pairs with c_ij < 0 of -c_ij (ln 2 - D_ij)     0 to (1 + threshold) ln 2
    Each half is averaged over its own pairs, so that the many dissimilar pairs do not outweigh the few similar ones. A
    pixel is not paired with itself. Weights for the two: `PULL` and `PUSH`.

    The (pixels, pixels, phrases) divergences and their gradients never exist as a whole: pairs are processed in blocks,
    with the gradient in closed form, dD_ij / d log p_i = p_i log(p_i / m_ij) / 2. Only `log_p` has a gradient, and only
    a first one.

    Args:
        log_p: logarithms of the pixels' distributions.
        dino: DINO vectors of the pixels, of any length.
        threshold: cosine above which a pair is similar.
        known: pixels that count; None: all.
        numbers: size of a block, in (pixel, pixel, phrase) triples.
        balanced: whether each half is averaged over its own pairs; else both are divided by the number of all pairs.

    Returns:
        pull and push.
    """
    with torch.no_grad():
        one = _unit(dino)
        counted = torch.ones(len(dino), dtype=torch.bool, device=dino.device) if known is None else known
    return _Pairs.apply(log_p, one.to(log_p.dtype), counted, threshold, numbers, balanced)


class _Pairs(torch.autograd.Function):
    """Pull and push; gradients are computed in the forward pass."""

    @staticmethod
    def forward(ctx, log_p, dino, known, threshold, numbers, balanced):
        """The forward pass.

        Args:
            ctx: of the function.
            log_p, threshold, numbers, balanced: as for `correlation_alignment`.
            dino: unit vectors of the pixels.
            known: pixels that count.
        """
        count, phrases = log_p.shape
        p = log_p.exp()
        entropy = -(p * log_p).sum(-1)
        wanted = ctx.needs_input_grad[0]
        sums = log_p.new_zeros(2)
        pairs = log_p.new_zeros(2)
        grads = log_p.new_zeros(2, count, phrases) if wanted else None
        first = 0
        while first < count:
            # Pairs are symmetric: a block of rows is paired only with the pixels from its first one on.
            rows = max(1, min(count - first, numbers // max((count - first) * phrases, 1)))
            last = first + rows
            correlation = dino[first:last] @ dino[first:].T - threshold
            # Each pair once, and no pixel with itself.
            once = torch.ones_like(correlation, dtype=torch.bool).triu_(1)
            once &= known[first:last, None] & known[None, first:]
            pull, push = correlation.clamp_min(0) * once, -correlation.clamp_max(0) * once
            m = 0.5 * (p[first:last, None] + p[None, first:])
            log_m = m.clamp_min(torch.finfo(m.dtype).tiny).log()
            divergence = -(m * log_m).sum(-1) - 0.5 * (entropy[first:last, None] + entropy[None, first:])
            divergence = divergence.clamp(0.0, LN2)
            sums += torch.stack([(pull * divergence).sum(), (push * (LN2 - divergence)).sum()])
            pairs += torch.stack([(pull > 0).sum(), (push > 0).sum()])
            if grads is not None:
                for grad, weight in zip(grads, (pull, -push)):
                    grad[first:last] += weight.sum(1)[:, None] * log_p[first:last]
                    grad[first:last] -= torch.einsum("ij,ijc->ic", weight, log_m)
                    grad[first:] += weight.sum(0)[:, None] * log_p[first:]
                    grad[first:] -= torch.einsum("ij,ijc->jc", weight, log_m)
            first = last
        pairs = (pairs if balanced else pairs.sum().expand(2)).clamp_min(1)
        if grads is not None:
            ctx.save_for_backward(grads * (0.5 * p) / pairs[:, None, None])
        pull, push = sums / pairs
        return pull, push

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_pull, grad_push):  # pyright: ignore[reportIncompatibleMethodOverride]
        (grads,) = ctx.saved_tensors
        return grad_pull * grads[0] + grad_push * grads[1], None, None, None, None, None
