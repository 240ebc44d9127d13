"""The default vocabulary: the nearest words of each point approximate all words."""

import numpy as np

from ovseg3d.query.default_vocabulary import DEFAULT_VOCABULARY, KEPT_WORDS, Nearest
from ovseg3d.query.point_margins import batches


def test_few_words_of_each_point_say_what_all_do() -> None:
    random = np.random.default_rng(0)
    cosines = random.uniform(-1, 1, (200, 50)).astype(np.float32)
    nearest = Nearest.of(np.array_split(cosines, 7, axis=1))
    assert nearest.word.shape == nearest.cosine.shape == (200, KEPT_WORDS)
    allowed = np.ones(50, bool)
    allowed[random.choice(50, KEPT_WORDS - 1, replace=False)] = False
    for mask in (allowed, np.ones(50, bool)):
        np.testing.assert_array_equal(nearest.best(mask), cosines[:, mask].max(1))
    # Without any of the few, no word is nearer than the last of them.
    np.testing.assert_array_equal(nearest.best(np.zeros(50, bool)), np.sort(cosines, axis=1)[:, -KEPT_WORDS])


def test_fewer_words_than_are_kept_are_all_kept() -> None:
    nearest = Nearest.of([np.array([[0.1, 0.7], [0.2, -0.3]], np.float32), np.array([[0.4], [0.9]], np.float32)])
    assert nearest.word.tolist() == [[1, 2, 0], [2, 0, 1]]
    np.testing.assert_allclose(nearest.best(np.array([True, False, True])), [0.4, 0.9])


def test_the_list_is_words_each_once() -> None:
    assert len(DEFAULT_VOCABULARY) == len({*DEFAULT_VOCABULARY}) > 120 and all(
        word == word.strip() != "" for word in DEFAULT_VOCABULARY
    )
    assert [word for part in batches(DEFAULT_VOCABULARY) for word in part] == [*DEFAULT_VOCABULARY], "planes come first"
