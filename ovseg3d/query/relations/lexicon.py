"""Words of English with a meaning in questions about places; see `grammar` for the rules that use them."""

MARKERS = {
    "on": ("on top of", "on", "upon", "atop", "onto"),
    "under": ("under", "underneath", "beneath", "below"),
    "above": ("above", "over"),
    "in": ("inside of", "inside", "within", "into", "in"),
    "beside": (
        "next to", "beside", "close to", "near to", "near", "by", "alongside", "adjacent to", "against", "at",
    ),
    "between": ("in between", "between"),
    "in front of": ("in front of", "in the front of"),
    "behind": ("behind", "in back of", "at the back of"),
    "left of": (
        "to the left of", "on the left of", "on the left side of", "to the left side of", "at the left of", "left of",
    ),
    "right of": (
        "to the right of", "on the right of", "on the right side of", "to the right side of", "at the right of",
        "right of",
    ),
    "facing": (
        "facing", "faces", "face", "looking at", "looks at", "look at", "looking towards", "looking toward",
        "turned to", "turned towards", "turned toward", "pointing at", "oriented towards", "oriented toward",
    ),
}  # fmt: skip
"""Kinds of relations between two instances (`between`: three), and the words for each."""
RANKS = {
    "nearest": ("nearest", "closest"),
    "farthest": ("farthest", "furthest", "most distant"),
    "largest": ("largest", "biggest"),
    "smallest": ("smallest", "littlest", "tiniest"),
    "tallest": ("tallest",),
}
"""Superlatives, and the words for each."""
FROM_HERE = {"nearest": ("to",), "farthest": ("away from", "from", "to")}
"""Superlatives that compare distances, and the words before what the distance is measured to."""
NOT_UNDERSTOOD = {
    "across", "along", "around", "among", "opposite", "through", "towards", "toward", "than", "do", "does", "did",
    "have", "has", "touching", "leftmost", "rightmost",
}  # fmt: skip
"""Words that begin what the grammar does not cover."""

DEFINITE = {"the", "my", "your", "our", "his", "her", "their", "this", "that", "these", "those", "both"}
DETERMINERS = DEFINITE | {"a", "an", "any", "some", "all", "every", "each", "one", "two", "three", "four", "five"}
"""Words before a noun that are no part of its name."""
COPULAS = {
    "is", "are", "was", "were", "that", "which", "who", "stands", "standing", "sits", "sitting", "lies", "lying",
    "hangs", "hanging", "placed", "located", "resting", "positioned", "mounted", "there",
}  # fmt: skip
"""Words between a noun and what is said of its place."""
STANDS = {"night", "tv", "plant", "music", "umbrella", "cake"}
"""Words after which "stands" belongs to the noun."""
VERBS = {"stand", "sit", "lie", "hang"}
"""The same after a plural only: "the chairs stand on the rug", but "the night stand on the rug"."""
ANYTHING = {"", "thing", "object", "item", "everything", "anything", "something", "stuff", "what"}
"""Nouns for any instance."""
EVERYWHERE = {"room", "scene", "house", "apartment", "flat", "here", "there"}
"""Being in one of these is no condition."""
LAYOUT = {
    "wall",
    "floor",
    "ceiling",
    "ground",
    "corner",
    "middle",
    "center",
    "centre",
    "side",
    "background",
    *EVERYWHERE,
}
"""Nouns that are no instances: a relation to one of these is not checked."""
SEATS = {
    "chair", "armchair", "sofa", "couch", "seat", "bench", "toilet", "bed", "wheelchair", "bicycle", "bike", "bear",
    "doll", "person", "man", "woman", "child", "dog", "cat",
}  # fmt: skip
"""What one sits or lies on, and bodies: their left is the left of who sits there. Of anything else it is the left of
who stands before it (Herskovits 1986, Language and spatial cognition, chapter 10)."""

OPENERS = (
    r"(?:please )?(?:can|could|would) you (?:please )?(?:find|show|give|tell|get|segment|highlight|locate)(?: me)?",
    r"(?:please )?(?:find|show|give|get|tell|segment|highlight|locate|select|mark|list|pick)(?: me)?",
    r"i(?:'m| am) looking for", r"i (?:want|need)", r"where(?:'s| is| are| do| does)?", r"who(?:'s| is)",
    r"(?:do|can) you see", r"look for",
)  # fmt: skip
"""Ways to begin a question that add nothing to it."""
ASPECTS = r"(?:all )?(?:the )?(?:points?|masks?|box(?:es)?|instances?|pixels?|positions?|locations?|places?) (?:of|for)"
"""What may be asked of an instance; the answer holds all of these."""
