"""The default vocabulary is a list of words."""

from ovseg3d.query.default_vocabulary import DEFAULT_VOCABULARY


def test_the_list_is_words_each_once() -> None:
    assert len(DEFAULT_VOCABULARY) == len({*DEFAULT_VOCABULARY}) > 120 and all(
        word == word.strip() != "" for word in DEFAULT_VOCABULARY
    )
