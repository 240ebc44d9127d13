"""Sizes of everyday objects, as a prior of names: no mug is as large as a bed.

The extent of an instance is (width, height, cell): the longer side seen from above, the height, and a typical cell of
its surface, which limits how well it is measured. Row k of an array of extents is of instance k; row 0 and numbers
without points are zeros. `SIZES` has typical widths and heights of words, from what is built and sold, not from any
scene. With x the logarithms of a width and a height in metres, and mu and sigma a word's means and deviations of these,

    log p(x | word) / p(x) = log((1 - OUTLIERS) N(x; mu, sigma^2 + blur^2) / p(x) + OUTLIERS)

where p(x) is the mean over all words. Outliers are instances of which half was found, or two that were not separated.
blur is a cell, at least `RESOLUTION`, relative to the instance. A word without a known size may have any: its density
is exp(`ANY_SIZE`), or p(x) if that is less.

Captures by a single camera have no scale. `likeliest_scale` finds the one at which most instances have the sizes of
what they resemble.
"""

import re
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from scipy.special import logsumexp

from ovseg3d.field.surface import Surface
from ovseg3d.instances.records import fit_box
from ovseg3d.query.words import about, words_of

Size = tuple[float, float, float, float]
"""Means of the logs of a width and a height in metres, and their deviations."""

_RANGES = """
door .6-1.8 1.8-2.3|window .4-2.5 .4-2.2|curtain .3-2.5 1-2.6|blinds .4-2.5 .4-2.2|rug .6-3.5 .0-.1|carpet 1-5 .0-.1
stairs .8-4 .5-3.5|column .2-.8 2-3.5|radiator .4-2 .3-1.8|fireplace .8-1.8 .7-1.5|light switch .06-.2 .06-.15
power socket .06-.2 .06-.15|bed 1.8-2.3 .4-1.3|bunk bed 1.8-2.3 1.4-2|crib .9-1.5 .7-1.2|mattress 1.8-2.2 .1-.4
pillow .35-.9 .08-.4|blanket .7-2.4 .03-.4|sofa 1.3-3 .6-1.1|armchair .6-1.2 .7-1.2|chair .38-.75 .7-1.15
office chair .5-.8 .8-1.35|stool .27-.6 .35-.85|bench .7-2 .35-.95|ottoman .4-1.1 .3-.5|cushion .25-.7 .08-.5
table .5-2.4 .35-1.1|coffee table .5-1.4 .3-.55|desk .9-2 .65-.8|counter .8-4 .8-1.1|night stand .3-.7 .4-.75
dresser .6-1.8 .6-1.3|wardrobe .7-3 1.6-2.4|cabinet .4-2.2 .4-2.2|cupboard .4-2 .6-2.3|shelf .3-1.8 .03-2.1
bookshelf .4-2 .7-2.4|chest .5-1.4 .3-.9|drawer .3-1 .1-.5|coat rack .3-1.2 .2-2|refrigerator .5-1 .8-2
oven .45-.75 .4-1|stove .5-.95 .1-1|microwave .4-.6 .22-.4|dishwasher .45-.65 .75-.95|washing machine .5-.75 .75-1.05
toaster .2-.45 .17-.3|kettle .15-.32 .17-.35|coffee maker .15-.45 .25-.45|sink .35-1 .12-1|tap .1-.35 .1-.5
toilet .45-.8 .4-1|bathtub 1.2-1.9 .4-.8|shower .7-1.5 1.8-2.3|mirror .3-1.5 .3-2|towel .3-1.4 .05-1
soap .05-.15 .02-.2|toothbrush .03-.2 .02-.2|toilet paper .08-.25 .09-.25|lamp .12-.7 .2-1.9|floor lamp .25-.8 1.1-2
ceiling light .2-1.2 .05-.9|candle .03-.15 .05-.4|fan .25-1.4 .25-1.4|heater .25-1.2 .3-.9
air conditioner .6-1.1 .25-.9|television .5-1.8 .4-1.1|monitor .4-1 .3-.65|computer .2-.6 .3-.6|laptop .28-.42 .02-.3
keyboard .28-.5 .01-.06|mouse .09-.14 .02-.05|printer .3-.65 .12-.5|speaker .08-.5 .1-1.1|headphones .14-.24 .05-.24
telephone .06-.26 .01-.25|camera .06-.2 .05-.17|remote control .05-.25 .01-.05|cable .1-2 .01-.3
picture .15-1.5 .15-1.3|poster .2-1.2 .28-1.5|painting .2-2 .2-1.6|clock .08-.5 .08-.5|calendar .1-.6 .1-.8
whiteboard .5-2.4 .4-1.3|vase .08-.35 .12-.7|plant .12-1.1 .15-2|flowers .1-.6 .1-.7|statue .1-.8 .15-1.8
basket .2-.6 .12-.65|bin .18-.65 .22-1|bucket .2-.4 .2-.45|box .1-.9 .05-.7|bag .15-.7 .1-.7|suitcase .35-.8 .2-.85
backpack .25-.55 .3-.65|umbrella .1-1.1 .1-1|hat .2-.45 .08-.25|coat .3-.8 .6-1.4|shirt .3-.8 .05-.9
trousers .2-.6 .05-1.2|shoe .15-.35 .05-.3|slipper .18-.32 .04-.14|bottle .05-.15 .14-.4|jar .05-.2 .07-.35
can .05-.12 .06-.2|mug .08-.15 .07-.14|cup .06-.13 .05-.16|glass .05-.12 .07-.25|bowl .1-.36 .04-.17
plate .14-.34 .01-.05|pan .2-.6 .04-.15|pot .15-.5 .1-.4|teapot .16-.32 .1-.27|knife .1-.36 .01-.05
fork .14-.23 .01-.05|spoon .12-.3 .01-.05|chopping board .2-.55 .01-.4|tray .22-.6 .01-.09|book .12-.38 .01-.33
magazine .2-.35 .003-.05|newspaper .25-.6 .003-.05|paper .1-.45 .001-.05|pen .1-.17 .01-.15|scissors .1-.26 .01-.05
tape .05-.2 .02-.12|toy .05-.5 .04-.4|teddy bear .12-.6 .15-.7|doll .1-.45 .05-.55|ball .06-.75 .06-.75
game .1-.5 .02-.4|guitar .25-1.1 .1-1.1|piano 1.2-2.2 .8-1.35|drum .25-.7 .2-.8|bicycle .9-1.9 .6-1.2
scooter .6-1.9 .6-1.3|skateboard .5-1.1 .08-.8|helmet .2-.36 .16-.35|dumbbell .15-.5 .07-.25|ladder .35-1.2 .6-3
broom .2-1.4 .1-1.5|vacuum cleaner .25-.6 .08-1.2|iron .22-.35 .1-.17|ironing board .3-1.5 .7-1.5
tool box .22-.75 .14-.5|hammer .1-.4 .02-.15|apple .06-.1 .05-.1|banana .1-.28 .03-.2|orange .06-.11 .05-.1
bread .1-.45 .05-.18|cake .15-.45 .05-.3|cat .25-.75 .15-.4|dog .3-1.2 .2-.9|person .35-1.9 .3-2
"""
"""Words with ranges of widths (the longer side seen from above) and heights in metres."""
COMPOUNDS = {
    "trash can": "bin", "garbage can": "bin", "notebook computer": "laptop", "laptop computer": "laptop",
    "microwave oven": "microwave", "chest of drawers": "dresser", "bean bag": "armchair",
    "bedside table": "night stand", "dog bed": "cushion", "cat bed": "cushion", "piano keyboard": "piano",
}  # fmt: skip
"""Names whose last word names another object."""
POSTURES = {"hanging", "left", "lying", "right", "sitting", "standing"}
"""Words before which a phrase may have named its object: "a lamp standing on a desk"."""
RESOLUTION = 0.05
"""Metres below which lengths are not distinguished."""
MIN_DEVIATION = 0.15
"""Least deviation of the logarithm of a length."""
OUTLIERS = 0.2
"""Probability that an instance has another size than its name's, or was not found whole."""
TRIM = 0.02
"""Share of an instance's points that is trimmed at each end; twice that of its box, which stray points widen."""
SCALES = np.exp(np.arange(np.log(0.0005), np.log(2000), 0.05))
"""Metres per unit that are tried: steps of 5 %, from millimetres to kilometres."""
MIN_MARGIN, OTHER_SCALE = 10.0, 1.5
"""Least log likelihood ratio of the best scale to any that differs by this factor."""
ANY_SIZE = -2 * np.log(np.log(30 / 0.03))
"""Log density of sizes between 3 cm and 30 m, in width and height."""


def _read(ranges: str) -> dict[str, Size]:
    """Sizes from ranges of two deviations to either side of the mean."""
    found = {}
    for entry in ranges.strip().replace("\n", "|").split("|"):
        name, *sides = entry.rsplit(" ", 2)
        low, high = np.log(np.maximum([[float(end) for end in side.split("-")] for side in sides], RESOLUTION)).T
        (width, height), spread = (low + high) / 2, np.maximum((high - low) / 4, MIN_DEVIATION)
        found[name] = (float(width), float(height), float(spread[0]), float(spread[1]))
    return found


SIZES = _read(_RANGES)
"""Sizes of words."""


def size_of(phrase: str) -> Size | None:
    """The size of what a phrase names: "two red mugs on the table" are mugs. None: unknown."""
    text = " ".join(words_of(phrase))
    for compound, meant in COMPOUNDS.items():
        text = re.sub(rf"\b{compound.replace(' ', '[ -]')}\b", meant, text)
    words = about(text)
    if "toy" in words:
        return SIZES["toy"]
    ends = [k for k, word in enumerate(words) if word in POSTURES]
    named = (_named(words[:end]) for end in (len(words), *reversed(ends)))
    return next((size for size in named if size is not None), None)


def _named(words: Sequence[str]) -> Size | None:
    """The size of the longest known name at the end of words."""
    for first in range(len(words)):
        name = " ".join(words[first:])
        for form in (name, name.removesuffix("s"), name.removesuffix("es"), name + "s", *_of_ves(name)):
            if form in SIZES:
                return SIZES[form]
    return None


def _of_ves(name: str) -> tuple[str, ...]:
    """Singulars of "shelves" or "knives"."""
    return (name[:-3] + "f", name[:-3] + "fe") if name.endswith("ves") else ()


def extents(surface: Surface, instance: Int[np.ndarray, " points"]) -> Float[np.ndarray, "instances 3"]:
    """Extents of all instances, in the surface's units: those of their boxes, but no less than a cell.

    Args:
        surface: the points.
        instance: instance of each point, from 1; 0 for none.
    """
    made = np.zeros((int(instance.max(initial=0)) + 1, 3))
    order = np.argsort(instance, kind="stable")
    numbers, first = np.unique(instance[order], return_index=True)
    for number, rows in zip(numbers.tolist(), np.split(order, first[1:])):
        if number:
            cell = float(np.median(surface.cell[rows]))
            *across, height = np.maximum(fit_box(surface.xyz[rows].astype(np.float64), surface.up, TRIM).size, cell)
            made[number] = max(across), height, cell
    return made


def size_log_odds(
    extent: Float[np.ndarray, "instances 3"], sizes: Sequence[Size | None]
) -> Float[np.ndarray, "instances names"]:
    """log p(x | word) / p(x) of each instance and name.

    Args:
        extent: from `extents`, in metres; rows of zeros get zeros.
        sizes: from `size_of`; None: unknown.
    """
    made, there = np.zeros((len(extent), len(sizes))), extent[:, 0] > 0
    if there.any() and sizes:
        usual = _density(extent[there], list(SIZES.values()))
        usual = logsumexp(usual, axis=1) - np.log(usual.shape[1])
        own = np.tile(np.minimum(ANY_SIZE - usual, 0)[:, None], len(sizes))
        known = np.flatnonzero([size is not None for size in sizes])
        own[:, known] = _density(extent[there], [size for size in sizes if size is not None]) - usual[:, None]
        made[there] = np.logaddexp(np.log(1 - OUTLIERS) + own, np.log(OUTLIERS))
    return made


def _density(extent: np.ndarray, sizes: Sequence[Size]) -> np.ndarray:
    """log p(x | word), instances x words."""
    extent, words = np.maximum(extent, RESOLUTION), np.array(sizes).reshape(-1, 4)
    blur = extent[:, None, 2:] / extent[:, None, :2]
    variance = words[:, 2:] ** 2 + blur**2
    off = (np.log(extent[:, None, :2]) - words[:, :2]) ** 2 / variance
    return -0.5 * (off + np.log(2 * np.pi * variance)).sum(-1)


def likeliest_scale(
    extent: Float[np.ndarray, "instances 3"],
    appearance: Float[np.ndarray, "instances names"],
    sizes: Sequence[Size | None],
    count: Int[np.ndarray, " instances"],
) -> float | None:
    """Metres per unit at which instances have the sizes of what they resemble; None where that is not clear.

    With p(name) from appearance alone, the log likelihood of an instance is log((1 - OUTLIERS) sum p(name) p(x + log
    scale | name) + OUTLIERS p(any)), weighted by the root of its points. Names of unknown size fit at any scale.

    Args:
        extent: from `extents`, in units.
        appearance: logits of names.
        sizes: from `size_of`.
        count: points of each instance.
    """
    large, known = extent[:, 0] > 0, np.array([size is not None for size in sizes], bool)
    if not large.any() or not known.any():
        return None
    log_name = appearance[large].astype(np.float64)
    log_name -= np.asarray(logsumexp(log_name, axis=1, keepdims=True))
    named, other = [size for size in sizes if size is not None], np.log(OUTLIERS) + ANY_SIZE
    if not known.all():
        other = np.logaddexp(other, np.log(1 - OUTLIERS) + ANY_SIZE + logsumexp(log_name[:, ~known], axis=1))
    weight = np.sqrt(count[large] / count[large].mean())
    likely = (log_name[:, known] + _density(extent[large] * scale, named) for scale in SCALES)
    fits = np.stack([np.asarray(logsumexp(one, axis=1)) for one in likely])
    found = np.logaddexp(np.log(1 - OUTLIERS) + fits, other) @ weight
    best = int(found.argmax())
    far = np.abs(np.log(SCALES / SCALES[best])) > np.log(OTHER_SCALE)
    clear = 0 < best < len(SCALES) - 1 and found[best] - found[far].max() > MIN_MARGIN
    return float(SCALES[best]) if clear else None
