"""Losses that teach a feature field: bounded, without weights that a scene would need for itself.

Three kinds, after 3D-OVS (Liu et al. 2023, section 3): the rendered feature against the photos' (`feature_loss`), the
rendered distribution over phrases against the photos' (`relevancy_alignment`), and the distributions of two pixels
against each other, pulled together or pushed apart by how alike DINO finds them (`correlation_alignment`).

Divergences are Jensen-Shannon's, in nats: symmetric, zero for equals, at most ln 2 = 0.693. (The paper says JS too, but
for the third loss its code computes KL against one side, unbounded but for its temperature.) Every distribution is
softmax(sharpness x cosines) over the phrases *and* the canonical phrases, sharpness being the encoder's own logit
scale. That only compares phrases at one pixel. The paper's code stretches each phrase's cosines to reach from 0 to 1
over each view instead, which makes some pixel the perfect example of a thing that the view does not show; here what
resembles no phrase leaves its mass with the canonical ones. A logit scale was learned so that this very softmax tells
which caption a picture has, so it is a property of the encoder, and no scene has to tune a temperature.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

LN2 = math.log(2.0)
"""The largest Jensen-Shannon divergence."""
HUBER_DELTA = 1.25
"""Where LERF's loss turns from square to linear."""
THRESHOLD = 0.7
"""Cosine of two DINO vectors above which they should mean the same; from 3D-OVS's code."""
PULL, PUSH = 2.0, 0.02
"""Weights of the two halves of `correlation_alignment`. The paper's code has 200 and 0.2, for KL at a sharpness of 5.
For distributions close to each other JS is a quarter of KL, and both grow with the square of the sharpness, so the same
force at a sharpness of 100 is 200 x 4 x (5 / 100)^2 = 2. By the same rule the push would be 0.002, weak because the
code's divergence has no upper end and the push would win; this one ends at ln 2, and ten times as much is safe."""
NUMBERS_AT_ONCE = 1 << 21
"""How many (pixel, pixel, phrase) numbers exist at once: 8 MiB each in float32, whatever the patch."""
TINY = 1e-12


# -- features ----------------------------------------------------------------------------------------------------


def feature_loss(
    rendered: Float[Tensor, "rays dim"], target: Float[Tensor, "rays dim"], kind: str = "cosine"
) -> Float[Tensor, " rays"]:
    """How far rendered features are from the photos', each ray for itself; 0 to 2.

    Both are brought to unit length first: along a ray lengths mean how much the photos agree, not what is there.

    Args:
        rendered: of any length; a ray that met nothing (zero) costs 1 and has no gradient.
        target: of any length.
        kind: `cosine`: 1 - cosine. `huber`: LERF's (Kerr et al. 2023): Huber's loss with delta 1.25, summed over the
            numbers. On unit vectors it is the same thing unless one number alone differs by more than delta, since
            |a - b|^2 / 2 = 1 - cos(a, b); it is here so that its figures can be reproduced.

    Raises:
        ValueError: there is no such kind.
    """
    one, other = _unit(rendered), _unit(target)
    if kind == "cosine":
        return 1.0 - (one * other).sum(-1)
    if kind == "huber":
        return F.huber_loss(one, other, reduction="none", delta=HUBER_DELTA).sum(-1)
    raise ValueError(f"there is no feature loss {kind!r}: cosine or huber")


def _unit(vectors: Tensor) -> Tensor:
    """At unit length; zero stays zero, with a gradient of zero rather than a huge one."""
    squares = vectors.square().sum(-1, keepdim=True)
    return torch.where(squares > TINY, vectors * squares.clamp_min(TINY).rsqrt(), torch.zeros_like(vectors))


# -- distributions over phrases ----------------------------------------------------------------------------------


def phrase_cosines(
    vectors: Float[Tensor, "*rows dim"], phrases: Float[Tensor, "phrases dim"]
) -> Float[Tensor, "*rows phrases"]:
    """Cosines with phrases, which have the length that a `Basis` leaves them; vectors have any."""
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
    """Divergence between what the field and what a photo says about phrases, each ray for itself; 0 to ln 2.

    Relevancy-distribution alignment (Liu et al. 2023, section 3.3). Gradients go to all three arguments: the photo's
    scales are weighted by `selection`, which learns from this.

    Args:
        field: cosines of the rendered features with the phrases, canonical ones among them.
        photo: the same of the photo's features, for each scale that it was encoded at.
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
    """Pixels that DINO finds alike should mean the same, and others something else.

    Feature-distribution alignment (Liu et al. 2023, section 3.4). With c_ij = cos(dino_i, dino_j) - threshold and D_ij
    the Jensen-Shannon divergence of two pixels,
        pull = mean over pairs with c_ij > 0 of  c_ij D_ij              0 to (1 - threshold) ln 2
        push = mean over pairs with c_ij < 0 of -c_ij (ln 2 - D_ij)     0 to (1 + threshold) ln 2
    Each half has its own count, so that the many unlike pairs do not drown the few alike ones. A pixel is no pair with
    itself. Weights for the two: `PULL` and `PUSH`.

    Neither the divergences' (pixels, pixels, phrases) nor their gradients exist in one piece: pairs go through in
    blocks, with the gradient in closed form, dD_ij / d log p_i = p_i log(p_i / m_ij) / 2. Only `log_p` gets a
    gradient, and only a first one.

    Args:
        log_p: logarithms of the pixels' distributions.
        dino: what the photo's DINO says there, of any length.
        threshold: see there.
        known: pixels that count; None: all.
        numbers: the size of a block, in (pixel, pixel, phrase) triples.
        balanced: whether each half has its own count; else both are divided by the number of all pairs.

    Returns:
        pull and push.
    """
    with torch.no_grad():
        one = _unit(dino)
        counted = torch.ones(len(dino), dtype=torch.bool, device=dino.device) if known is None else known
    return _Pairs.apply(log_p, one.to(log_p.dtype), counted, threshold, numbers, balanced)


class _Pairs(torch.autograd.Function):
    """Pull and push, with their gradients found on the way."""

    @staticmethod
    def forward(ctx, log_p, dino, known, threshold, numbers, balanced):
        count, phrases = log_p.shape
        p = log_p.exp()
        entropy = -(p * log_p).sum(-1)
        wanted = ctx.needs_input_grad[0]
        sums = log_p.new_zeros(2)
        pairs = log_p.new_zeros(2)
        grads = log_p.new_zeros(2, count, phrases) if wanted else None
        first = 0
        while first < count:
            # Pairs are symmetric: a block of rows meets only the pixels from its first one on.
            rows = max(1, min(count - first, numbers // max((count - first) * phrases, 1)))
            last = first + rows
            correlation = dino[first:last] @ dino[first:].T - threshold
            # Each pair once, and none of a pixel with itself.
            once = torch.ones_like(correlation, dtype=torch.bool).triu_(1)
            once &= known[first:last, None] & known[None, first:]
            pull, push = correlation.clamp_min(0) * once, -correlation.clamp_max(0) * once
            m = 0.5 * (p[first:last, None] + p[None, first:])
            log_m = m.clamp_min(torch.finfo(m.dtype).tiny).log()
            divergence = -(m * log_m).sum(-1) - 0.5 * (entropy[first:last, None] + entropy[None, first:])
            divergence = divergence.clamp(0.0, LN2)
            sums += torch.stack([(pull * divergence).sum(), (push * (LN2 - divergence)).sum()])
            pairs += torch.stack([(pull > 0).sum(), (push > 0).sum()])
            if wanted:
                for grad, weight in zip(grads, (pull, -push)):
                    grad[first:last] += weight.sum(1)[:, None] * log_p[first:last]
                    grad[first:last] -= torch.einsum("ij,ijc->ic", weight, log_m)
                    grad[first:] += weight.sum(0)[:, None] * log_p[first:]
                    grad[first:] -= torch.einsum("ij,ijc->jc", weight, log_m)
            first = last
        pairs = (pairs if balanced else pairs.sum().expand(2)).clamp_min(1)
        if wanted:
            ctx.save_for_backward(grads * (0.5 * p) / pairs[:, None, None])
        pull, push = sums / pairs
        return pull, push

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_pull, grad_push):
        (grads,) = ctx.saved_tensors
        return grad_pull * grads[0] + grad_push * grads[1], None, None, None, None, None
