"""The scene's basis against the full vectors, and relevancy against LERF's formula written out."""

import numpy as np
import pytest

from ovseg3d.errors import ConfigError
from ovseg3d.evaluate.metrics.relevancy import compare_relevancy
from ovseg3d.features.maps import cosines
from ovseg3d.points.basis import fit_basis
from ovseg3d.query.relevancy import CANONICAL, NONE, ensemble, label, relevancy


def unit(vectors):
    vectors = np.asarray(vectors, dtype=float)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def clip_like(seed: int, points: int, phrases: int, dim: int = 512):
    """Picture and text vectors with the statistics of a real CLIP.

    Pictures have one large vector in common (cosines among them of 0.6 and more), texts another; a picture of a thing
    and its text agree by about 0.27, others by 0.2. Texts lie in a space of far fewer dimensions than 512. Lifted
    vectors are means over several views, so little of the noise between views is left.
    """
    rng = np.random.default_rng(seed)
    inner = dim // 2
    turned = np.linalg.qr(rng.normal(size=(dim, inner)))[0].T
    meanings = unit(rng.normal(size=(phrases, inner)) / np.arange(1, inner + 1) ** 0.5) @ turned
    shared_text, shared_picture = unit(rng.normal(size=(2, dim)))
    texts = unit(0.8 * shared_text + 0.6 * meanings)
    instances = meanings[rng.choice(phrases, 30, replace=False)]
    clusters = unit(
        0.75 * shared_picture + 0.3 * instances + 0.25 * shared_text + 0.4 * unit(rng.normal(size=(30, dim)))
    )
    noise = unit(rng.normal(size=(points, dim)))
    return unit(clusters[rng.integers(0, 30, points)] + 0.1 * noise), texts


# -- basis -----------------------------------------------------------------------------------------------------


def test_axes_are_orthonormal_and_ordered():
    vectors, _ = clip_like(0, 3000, 40, 96)
    basis = fit_basis(vectors, 20)
    assert basis.axes.shape == (96, 20) and basis.axes.dtype == np.float32
    np.testing.assert_allclose(basis.axes.T @ basis.axes, np.eye(20), atol=1e-5)
    held = (basis.reduce(vectors) ** 2).sum(0)
    assert (np.diff(held) <= 1e-3 * held[0]).all()
    # The same space as the leading singular vectors.
    _, _, right = np.linalg.svd(vectors, full_matrices=False)
    np.testing.assert_allclose(np.linalg.svd(right[:20] @ basis.axes)[1], 1, atol=1e-3)


def test_vectors_in_the_span_come_back_and_keep_their_cosines():
    rng = np.random.default_rng(1)
    span = rng.normal(size=(10, 64))
    vectors, phrases = unit(rng.normal(size=(400, 10)) @ span), unit(rng.normal(size=(7, 64)))
    basis = fit_basis(vectors * rng.uniform(0.1, 3, (400, 1)), 10)
    np.testing.assert_allclose(basis.expand(basis.reduce(vectors)), vectors, atol=1e-5)
    assert basis.left_out < 1e-9
    found = cosines(basis.reduce(vectors), basis.reduce(phrases))
    np.testing.assert_allclose(found, vectors @ phrases.T, atol=1e-5)


def test_what_is_left_out_is_a_share_of_the_variance():
    rng = np.random.default_rng(2)
    plane = np.zeros((4000, 8))
    plane[:, 0], plane[:, 1:4] = 10.0, rng.normal(size=(4000, 3)) * [0.3, 0.2, 0.1]
    basis = fit_basis(plane, 3)
    # The first axis is what all have in common; of the variances 0.09, 0.04, 0.01 the last is left out.
    assert basis.left_out == pytest.approx(0.01 / 0.14, rel=0.1)
    assert fit_basis(np.tile(unit([1, 2, 3]), (50, 1)), 2).left_out < 1e-6


def test_zeros_are_left_out_and_lengths_do_not_count():
    vectors, _ = clip_like(3, 300, 40, 48)
    lengths = np.random.default_rng(0).uniform(0.2, 1, (300, 1))
    expected = fit_basis(vectors, 12)
    for other in (vectors * lengths, np.concatenate([vectors, np.zeros((50, 48))])):
        np.testing.assert_allclose(fit_basis(other, 12).axes, expected.axes, atol=1e-4)
    with pytest.raises(ValueError, match="not zero"):
        fit_basis(np.zeros((5, 8)), 4)


def test_the_sign_of_axes_is_fixed():
    vectors, _ = clip_like(4, 500, 40, 48)
    basis, again = fit_basis(vectors, 12), fit_basis(vectors.copy(), 12)
    assert basis.axes.tobytes() == again.axes.tobytes()
    assert (basis.axes[np.abs(basis.axes).argmax(0), np.arange(12)] > 0).all()
    np.testing.assert_allclose(fit_basis(-vectors, 12).axes, basis.axes, atol=1e-5)
    np.testing.assert_allclose(fit_basis(vectors[::-1], 12).axes, basis.axes, atol=1e-4)


def test_more_axes_than_there_is_to_hold():
    basis = fit_basis(np.array([[1.0, 0, 0, 0], [1, 0, 0, 0]]), 99)
    assert basis.axes.shape == (4, 4)
    np.testing.assert_allclose(basis.axes.T @ basis.axes, np.eye(4), atol=1e-6)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_queries_in_the_basis_answer_as_full_ones_do(seed):
    """200 phrases that the basis was not fitted to: rank correlation 0.98, the same best phrase at 97 % of points."""
    vectors, texts = clip_like(seed, 4000, 200)
    basis = fit_basis(vectors[:2000], 64)
    full = cosines(vectors.astype(np.float32), texts.astype(np.float32))
    scores = compare_relevancy(full, cosines(basis.reduce(vectors), basis.reduce(texts)))
    assert scores.spearman_mean > 0.98 and scores.top1 > 0.97
    few = fit_basis(vectors[:2000], 4)
    assert compare_relevancy(full, cosines(few.reduce(vectors), few.reduce(texts))).spearman_mean < 0.9


# -- relevancy -------------------------------------------------------------------------------------------------


def test_relevancy_is_lerf_s():
    rng = np.random.default_rng(0)
    phrase, canonical = rng.uniform(0.1, 0.4, (50, 3)), rng.uniform(0.1, 0.4, (50, 4))
    expected = np.empty((50, 3))
    for point in range(50):
        for number in range(3):
            pairs = [
                np.exp(10 * phrase[point, number]) / (np.exp(10 * phrase[point, number]) + np.exp(10 * other))
                for other in canonical[point]
            ]
            expected[point, number] = min(pairs)
    np.testing.assert_allclose(relevancy(phrase, canonical), expected, rtol=1e-12)
    assert len(CANONICAL) == 4


def test_relevancy_is_a_half_at_a_tie_and_never_overflows():
    assert relevancy(np.array([[0.3]]), np.array([[0.1, 0.3]])).item() == 0.5
    with np.errstate(over="raise"):
        extreme = relevancy(
            np.array([[1.0, -1.0]], np.float32),
            np.array(
                [
                    [-1.0],
                ],
                np.float32,
            ),
            40.0,
        )
    assert extreme[0, 0] == 1 and extreme[0, 1] == 0.5
    sharp = relevancy(np.array([[0.3]]), np.array([[0.2]]), 100.0).item()
    assert sharp == pytest.approx(1 / (1 + np.exp(-10)))


def test_without_a_canonical_phrase_there_is_no_relevancy():
    with pytest.raises(ConfigError) as caught:
        relevancy(np.zeros((3, 2)), np.zeros((3, 0)))
    assert "object" in caught.value.fix
    assert relevancy(np.zeros((0, 2)), np.zeros((0, 4))).shape == (0, 2)
    assert relevancy(np.zeros((3, 0)), np.zeros((3, 4))).shape == (3, 0)


def test_cosines_do_not_depend_on_the_points_length():
    vectors = np.array([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]])
    np.testing.assert_allclose(cosines(vectors, np.eye(2)), [[0.6, 0.8], [0.6, 0.8], [0, 0]])


def test_labels_count_from_one_and_none_is_zero():
    phrase = np.array([[0.3, 0.2], [0.1, 0.2], [0.25, 0.3], [0.2, 0.2]])
    assert label(phrase).tolist() == [1, 2, 2, 1]
    canonical = np.array([[0.25, 0.29], [0.1, 0.21], [0.3, 0.0], [0.0, 0.0]])
    # A tie with a canonical phrase stays with the phrase.
    assert label(phrase, canonical).tolist() == [1, NONE, 2, 1]
    assert label(phrase, np.zeros((4, 0))).tolist() == [1, 2, 2, 1]
    assert label(np.zeros((4, 0)), canonical).tolist() == [NONE] * 4


def test_of_duplicate_phrases_the_first_is_taken():
    phrase = np.random.default_rng(0).uniform(size=(40, 3))
    twice = phrase[:, [0, 1, 2, 1, 0]]
    np.testing.assert_array_equal(label(twice), label(phrase))
    np.testing.assert_array_equal(relevancy(twice, phrase)[:, 3], relevancy(phrase, phrase)[:, 1])


def test_an_ensemble_is_the_mean_direction():
    first, second = np.array([[2.0, 0, 0], [0, 0, 0]]), np.array([[0, 5.0, 0], [0, 0, 0]])
    np.testing.assert_allclose(ensemble([first, second]), [[0.5**0.5, 0.5**0.5, 0], [0, 0, 0]])
    np.testing.assert_allclose(ensemble([first]), [[1, 0, 0], [0, 0, 0]])
