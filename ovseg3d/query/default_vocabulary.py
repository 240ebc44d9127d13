"""The default vocabulary: words for everyday objects, as alternatives of a phrase.

Against canonical phrases alone ("object", "stuff") almost any phrase is present: what resembles an elephant most is
nearer to "elephant" than to "stuff". It is nearer still to its own name. So presence is decided against all of these
words (see `presence`). Near synonyms of the phrase are left out, by cosines of texts from their mean over these words,
since some encoders put all texts close together.
"""

import numpy as np
from jaxtyping import Bool, Float

from ovseg3d.features.maps import normalise

_WORDS = """
door; window; curtain; blinds; rug; carpet; stairs; column; radiator; fireplace; light switch; power socket; bed;
bunk bed; crib; mattress; pillow; blanket; sofa; armchair; chair; office chair; stool; bench; ottoman; cushion;
table; coffee table; desk; counter; night stand; dresser; wardrobe; cabinet; cupboard; shelf; bookshelf; chest;
drawer; coat rack; refrigerator; oven; stove; microwave; dishwasher; washing machine; toaster; kettle; coffee maker;
sink; tap; toilet; bathtub; shower; mirror; towel; soap; toothbrush; toilet paper; lamp; floor lamp; ceiling light;
candle; fan; heater; air conditioner; television; monitor; computer; laptop; keyboard; mouse; printer; speaker;
headphones; telephone; camera; remote control; cable; picture; poster; painting; clock; calendar; whiteboard; vase;
plant; flowers; statue; basket; bin; bucket; box; bag; suitcase; backpack; umbrella; hat; coat; shirt; trousers;
shoe; slipper; bottle; jar; can; mug; cup; glass; bowl; plate; pan; pot; teapot; knife; fork; spoon; chopping board;
tray; book; magazine; newspaper; paper; pen; scissors; tape; toy; teddy bear; doll; ball; game; guitar; piano; drum;
bicycle; scooter; skateboard; helmet; dumbbell; ladder; broom; vacuum cleaner; iron; ironing board; tool box;
hammer; apple; banana; orange; bread; cake; cat; dog; person
"""
DEFAULT_VOCABULARY = ("floor", "wall", "ceiling", *(word.strip() for word in _WORDS.split(";")))
SYNONYM_COSINE = 0.5
"""Least cosine of near synonyms."""


def means_the_same(
    phrase: Float[np.ndarray, " dim"], words: Float[np.ndarray, "words dim"], center: Float[np.ndarray, " dim"]
) -> Bool[np.ndarray, " words"]:
    """Whether each word is a near synonym of a phrase: unit vectors of texts, and the mean vector of the vocabulary."""
    return normalise(words - center) @ normalise(phrase - center) >= SYNONYM_COSINE
