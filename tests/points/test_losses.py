"""Losses against scipy, closed forms, double loops and finite differences; their bounds as properties."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon

from ovseg3d.points import losses
from ovseg3d.points.losses import (
    LN2,
    correlation_alignment,
    feature_loss,
    jensen_shannon,
    log_distribution,
    phrase_cosines,
    relevancy_alignment,
)

F64 = torch.float64


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def distributions(count: int, phrases: int, sharpness: float = 2.0, seed: int = 0) -> torch.Tensor:
    return log_distribution(numbers(count, phrases, seed=seed), sharpness)


# -- features


def test_feature_loss_of_known_angles():
    rendered = torch.tensor([[2.0, 0.0], [1.0, 1.0], [0.0, 3.0], [-1.0, 0.0], [0.0, 0.0]])
    target = torch.tensor([[1.0, 0.0]]).repeat(5, 1)
    found = feature_loss(rendered, target)
    assert found.tolist() == pytest.approx([0.0, 1 - math.sqrt(0.5), 1.0, 2.0, 1.0], abs=1e-6)


def test_huber_on_unit_vectors_is_the_cosine_loss_until_a_number_passes_delta():
    one, other = numbers(200, 64, seed=1), numbers(200, 64, seed=2)
    assert torch.allclose(feature_loss(one, other, "huber"), feature_loss(one, other), atol=1e-12)
    # Opposite ends of one axis differ by 2: 1.25 x (2 - 1.25 / 2).
    opposite = feature_loss(torch.tensor([[1.0, 0.0]]), torch.tensor([[-1.0, 0.0]]), "huber")
    assert opposite.item() == pytest.approx(1.25 * (2 - 0.625))


def test_feature_loss_has_bounded_gradients_even_for_nothing():
    assert torch.autograd.gradcheck(feature_loss, (numbers(4, 5).requires_grad_(), numbers(4, 5, seed=3)))
    nothing = torch.zeros(3, 5, requires_grad=True)
    feature_loss(nothing, torch.ones(3, 5)).sum().backward()
    assert not nothing.grad.any()


def test_an_unknown_feature_loss_is_refused():
    with pytest.raises(ValueError, match="cosine or huber"):
        feature_loss(torch.ones(1, 2), torch.ones(1, 2), "l1")


# -- divergences


def test_jensen_shannon_is_scipys():
    log_p, log_q = distributions(50, 7), distributions(50, 7, seed=1)
    expected = [jensenshannon(p, q) ** 2 for p, q in zip(log_p.exp().numpy(), log_q.exp().numpy())]
    assert np.allclose(jensen_shannon(log_p, log_q), expected, atol=1e-12)


def test_jensen_shannon_of_two_phrases_by_hand():
    p, q = torch.tensor([[0.5, 0.5]], dtype=F64), torch.tensor([[0.25, 0.75]], dtype=F64)
    m = (0.375, 0.625)
    by_hand = 0.5 * (0.5 * math.log(0.5 / m[0]) + 0.5 * math.log(0.5 / m[1]))
    by_hand += 0.5 * (0.25 * math.log(0.25 / m[0]) + 0.75 * math.log(0.75 / m[1]))
    assert jensen_shannon(p.log(), q.log()).item() == pytest.approx(by_hand)


@pytest.mark.parametrize("sharpness", [0.0, 1.0, 10.0, 100.0])
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_jensen_shannon_is_symmetric_bounded_and_zero_for_equals(sharpness, dtype):
    log_p, log_q = (distributions(300, 9, sharpness, seed).to(dtype) for seed in (4, 5))
    there, back = jensen_shannon(log_p, log_q), jensen_shannon(log_q, log_p)
    slack = 1e-6 if dtype == torch.float32 else 1e-12
    assert torch.allclose(there, back, atol=slack)
    assert (there >= -slack).all() and (there <= LN2 + slack).all()
    assert jensen_shannon(log_p, log_p).abs().max() <= slack


def test_jensen_shannon_reaches_its_end():
    far = log_distribution(torch.eye(2), 1000.0)
    assert jensen_shannon(far[:1], far[1:]).item() == pytest.approx(LN2)


def test_jensen_shannon_gradient():
    assert torch.autograd.gradcheck(
        lambda a, b: jensen_shannon(torch.log_softmax(a, -1), torch.log_softmax(b, -1)),
        (numbers(3, 4).requires_grad_(), numbers(3, 4, seed=9).requires_grad_()),
    )


# -- relevancy


def test_relevancy_alignment_is_zero_when_the_field_says_what_the_chosen_scale_says():
    photo = numbers(20, 3, 6) * 0.1
    second = torch.tensor([0.0, 1.0, 0.0], dtype=F64).expand(20, 3)
    assert relevancy_alignment(photo[:, 1], photo, second, 100.0).abs().max() < 1e-9
    assert relevancy_alignment(photo[:, 0], photo, second, 100.0).mean() > 0.1


def test_relevancy_alignment_against_scipy_and_finite_differences():
    field, photo, choice = numbers(4, 5) * 0.2, numbers(4, 3, 5, seed=1) * 0.2, numbers(4, 3, seed=2).softmax(-1)
    found = relevancy_alignment(field, photo, choice, 10.0)
    for i in range(4):
        p = (10 * field[i]).softmax(0)
        q = (10 * sum(choice[i, s] * photo[i, s] for s in range(3))).softmax(0)
        assert found[i].item() == pytest.approx(jensenshannon(p.numpy(), q.numpy()) ** 2)
    inputs = [x.clone().requires_grad_() for x in (field, photo, choice)]
    assert torch.autograd.gradcheck(lambda *x: relevancy_alignment(*x, 10.0), inputs)


def test_what_is_not_there_gets_no_peak():
    """No pixel of a view is like the third phrase; stretched cosines would call the likeliest one perfect."""
    generator = torch.Generator().manual_seed(0)
    cosines = 0.20 + 0.005 * torch.randn(1000, 3, generator=generator)
    cosines[:500, 0] += 0.08
    cosines[500:, 1] += 0.08
    cosines[:, 2] -= 0.03  # an elephant, say
    canonical = torch.full((1000, 4), 0.2)
    p = log_distribution(torch.cat([cosines, canonical], 1), 100.0).exp()
    assert p[:, 2].max() < 0.01
    stretched = (cosines[:, 2] - cosines[:, 2].min()) / (cosines[:, 2].max() - cosines[:, 2].min())
    assert stretched.max() == 1.0


def test_what_resembles_no_phrase_goes_to_the_canonical_ones():
    cosines = torch.tensor([[0.15, 0.16, 0.22, 0.21]])
    assert log_distribution(cosines, 100.0).exp()[0, 2:].sum() > 0.99


def test_phrase_cosines_ignore_length_and_survive_zero():
    vectors = torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    assert torch.allclose(phrase_cosines(vectors, torch.eye(2)), torch.tensor([[0.6, 0.8], [0.0, 0.0]]))


# -- pairs of pixels


def by_loops(log_p, dino, threshold=0.7, known=None):
    """Pull and push by the definition, over ordered pairs, which changes neither mean."""
    p, sums, counts = log_p.exp().detach().numpy(), [0.0, 0.0], [0, 0]
    unit = (dino / dino.norm(dim=1, keepdim=True)).numpy()
    for i in range(len(p)):
        for j in range(len(p)):
            if i == j or (known is not None and not (known[i] and known[j])):
                continue
            c, d = unit[i] @ unit[j] - threshold, jensenshannon(p[i], p[j]) ** 2
            if c > 0:
                sums[0], counts[0] = sums[0] + c * d, counts[0] + 1
            elif c < 0:
                sums[1], counts[1] = sums[1] - c * (LN2 - d), counts[1] + 1
    return [s / max(n, 1) for s, n in zip(sums, counts)]


@pytest.mark.parametrize("block", [1, 60, 200, 1 << 20])
@pytest.mark.parametrize("hidden", [False, True])
def test_pairs_are_those_of_a_double_loop_in_blocks_of_any_size(block, hidden):
    log_p, dino = distributions(23, 6), numbers(23, 3, seed=1)
    known = torch.arange(23) % 4 != 0 if hidden else None
    found = correlation_alignment(log_p, dino, 0.3, known, block)
    assert [x.item() for x in found] == pytest.approx(by_loops(log_p, dino, 0.3, known), rel=1e-9)


@pytest.mark.parametrize("block", [1, 90, 1 << 20])
def test_gradients_of_pairs(block):
    logits, dino = numbers(9, 4).requires_grad_(), numbers(9, 3, seed=1)
    known = torch.arange(9) != 4

    def both(x):
        return torch.stack(correlation_alignment(torch.log_softmax(x, -1), dino, 0.3, known, block))

    assert torch.autograd.gradcheck(both, (logits,))
    both(logits).sum().backward()
    assert not logits.grad[4].any() and logits.grad[:4].abs().min() > 0


@pytest.mark.parametrize("sharpness", [1.0, 30.0, 300.0])
def test_pairs_are_bounded(sharpness):
    for seed in range(10):
        log_p = distributions(40, 8, sharpness, seed).float()
        pull, push = correlation_alignment(log_p, numbers(40, 2, seed=seed).float())
        assert 0 <= pull <= 0.3 * LN2 + 1e-6 and 0 <= push <= 1.7 * LN2 + 1e-6


def test_equal_pixels_are_not_pulled_and_opposite_ones_not_pushed():
    same = distributions(1, 5).expand(6, 5)
    assert correlation_alignment(same, torch.ones(6, 2, dtype=F64))[0].item() == pytest.approx(0, abs=1e-12)
    apart = log_distribution(torch.eye(2, dtype=F64), 1000.0)
    pull, push = correlation_alignment(apart, torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=F64))
    assert pull.item() == 0 and push.item() == pytest.approx(0, abs=1e-9)


def test_halves_have_their_own_counts():
    """One alike pair among very many unlike ones weighs as much as alone."""
    log_p = distributions(30, 5)
    dino = torch.eye(30, dtype=F64)
    dino[1] = dino[0]
    pull, _ = correlation_alignment(log_p, dino)
    assert pull.item() == pytest.approx(0.3 * jensen_shannon(log_p[:1], log_p[1:2]).item())


def test_one_pixel_or_none_known_costs_nothing():
    for log_p, known in ((distributions(1, 3), None), (distributions(5, 3), torch.zeros(5, dtype=torch.bool))):
        found = correlation_alignment(log_p, numbers(len(log_p), 2), known=known)
        assert [x.item() for x in found] == [0.0, 0.0]


def test_following_the_loss_joins_what_is_alike_and_parts_the_rest():
    """Two objects by DINO, pixels with mixed semantics: in the end each object has one, and they differ."""
    dino = torch.zeros(40, 2)
    dino[:20, 0], dino[20:, 1] = 1.0, 1.0
    logits = numbers(40, 3).float()
    logits[:20, 0] += 0.5
    logits[20:, 1] += 0.5
    logits.requires_grad_()
    optimizer = torch.optim.Adam([logits], 0.05)
    for _ in range(200):
        pull, push = correlation_alignment(torch.log_softmax(logits, -1), dino)
        optimizer.zero_grad()
        (losses.PULL * pull + losses.PUSH * push).backward()
        optimizer.step()
    found = logits.argmax(1)
    assert len(found[:20].unique()) == len(found[20:].unique()) == 1 and found[0] != found[20]


def test_a_large_patch_never_exists_in_one_piece(monkeypatch):
    """1,024 pixels and 60 phrases are 63 million numbers, 250 MB; blocks are a small part of that."""
    largest = 0
    whole = torch.Tensor.log

    def watch(tensor):
        nonlocal largest
        largest = max(largest, tensor.numel())
        return whole(tensor)

    monkeypatch.setattr(torch.Tensor, "log", watch)
    log_p = distributions(1024, 60).float().requires_grad_()
    pull, push = correlation_alignment(log_p, numbers(1024, 8).float())
    (pull + push).backward()
    assert 0 < largest <= losses.NUMBERS_AT_ONCE and torch.isfinite(log_p.grad).all()


def test_unbalanced_halves_are_divided_by_all_pairs() -> None:
    generator = torch.Generator().manual_seed(0)
    log_p = torch.log_softmax(torch.randn(9, 4, generator=generator), -1)
    dino = torch.randn(9, 3, generator=generator)
    cosine = torch.nn.functional.normalize(dino, dim=1) @ torch.nn.functional.normalize(dino, dim=1).T
    alike = int((cosine > 0.7).triu(1).sum())
    assert 0 < alike < 36
    pull, push = correlation_alignment(log_p, dino)
    both = correlation_alignment(log_p, dino, balanced=False)
    assert torch.allclose(torch.stack(both), torch.stack([pull * alike, push * (36 - alike)]) / 36, atol=1e-6)
