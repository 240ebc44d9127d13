"""Words of phrases, and which of them a phrase is about."""

from ovseg3d.query.words import about, share_a_word, tells_a_place, words_of


def test_what_stands_around_words_says_nothing() -> None:
    assert words_of(" Tool-box, (red)!  ? ") == ["tool-box", "red"] and words_of("...") == []
    assert about("Tool-box, (red)!") == ["tool", "box", "red"]


def test_a_place_is_not_what_a_phrase_is_about() -> None:
    meant = {
        "a picture on the wall": ["a", "picture"], "the chair next to the desk": ["the", "chair"],
        "Two pairs of red shoes by the door": ["red", "shoes"], "a lamp that hangs": ["a", "lamp"],
        "on the wall": ["on", "the", "wall"], "bottle of water": ["bottle"], "": [],
        "built-in oven": ["built", "in", "oven"], "a walk in closet by the bed": ["a", "walk", "in", "closet"],
    }  # fmt: skip
    for phrase, words in meant.items():
        assert about(phrase) == words, phrase


def test_which_phrases_tell_a_place() -> None:
    assert all(map(tells_a_place, ("Rug on the floor", "lamp near it", "a pair of shoes by the door")))
    others = ("bottle of water", "built-in oven", "a walk in closet", "on the wall", "mug", "")
    assert not any(map(tells_a_place, others))


def test_words_that_phrases_share() -> None:
    assert share_a_word("a red mug", "Mugs") and share_a_word("office chair", "chair?")
    assert share_a_word("built-in oven", "oven")
    for first, second in (
        ("a mug", "a cup"), ("bottle of water", "bowl of fruit"), ("curtain at the window", "window"), ("", "the"),
    ):  # fmt: skip
        assert not share_a_word(first, second)
