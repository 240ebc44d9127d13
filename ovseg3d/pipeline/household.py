"""What rooms hold, in everyday words: what a question competes with in a run that nobody gave phrases.

Against canonical phrases alone ("object", "stuff") almost anything is somewhere: what looks most like an elephant in a
room is nearer to "elephant" than to "stuff". It is nearer still to what it is. Words that mean nearly what was asked
are left out by the encoder's own word for it: cosines of texts, from their mean over these words, since some encoders
put all texts close together.
"""

import numpy as np
from jaxtyping import Bool, Float

from ovseg3d.encoders.maps import normalise

HOUSEHOLD = """
floor|wall|ceiling|door|window|curtain|blinds|rug|carpet|stairs|column|radiator|fireplace|light switch|power socket
bed|bunk bed|crib|mattress|pillow|blanket|sofa|armchair|chair|office chair|stool|bench|ottoman|cushion|table
coffee table|desk|counter|night stand|dresser|wardrobe|cabinet|cupboard|shelf|bookshelf|chest|drawer|coat rack
refrigerator|oven|stove|microwave|dishwasher|washing machine|toaster|kettle|coffee maker|sink|tap|toilet|bathtub|shower
mirror|towel|soap|toothbrush|toilet paper|lamp|floor lamp|ceiling light|candle|fan|heater|air conditioner
television|monitor|computer|laptop|keyboard|mouse|printer|speaker|headphones|telephone|camera|remote control|cable
picture|poster|painting|clock|calendar|whiteboard|vase|plant|flowers|statue|basket|bin|bucket|box|bag|suitcase|backpack
umbrella|hat|coat|shirt|trousers|shoe|slipper|bottle|jar|can|mug|cup|glass|bowl|plate|pan|pot|teapot|knife|fork|spoon
chopping board|tray|book|magazine|newspaper|paper|pen|scissors|tape|toy|teddy bear|doll|ball|game|guitar|piano|drum
bicycle|scooter|skateboard|helmet|dumbbell|ladder|broom|vacuum cleaner|iron|ironing board|tool box|hammer
apple|banana|orange|bread|cake|cat|dog|person
""".strip().replace("\n", "|")
HOUSEHOLD = tuple(word for word in HOUSEHOLD.split("|") if word)
LIKE = 0.5
"""Cosine from which a word means nearly the same."""


def means_the_same(
    phrase: Float[np.ndarray, " dim"], words: Float[np.ndarray, "words dim"]
) -> Bool[np.ndarray, " words"]:
    """Which words mean nearly what a phrase does; vectors of texts, unit length."""
    middle = words.mean(0)
    return normalise(words - middle) @ normalise(phrase - middle) >= LIKE
