"""Sentences about depth views: every rule's parts are combined, and what says the same twice is dropped.

OpenDlign (Mao et al. 2024) rewrote the 80 templates of CLIP for depth maps by hand and with CLIP-Interrogator. Here a
template is a medium, a colour and a background; nothing is searched on test data.
"""

import re
from collections.abc import Sequence
from itertools import product

import torch
from jaxtyping import Float
from torch import Tensor

from ovseg3d.encoders import TextImageEncoder
from ovseg3d.encoders.base import unit
from ovseg3d.errors import ConfigError

MEDIA = ("", "a 3D model of ", "a depth image of ")
COLOURS = ("", "grey ", "white ")
BACKGROUNDS = ("", " on a white background")
SAME = 0.995
"""Two templates whose mean vectors have a larger cosine count once."""


def depth_templates() -> tuple[str, ...]:
    """Templates with {} for the name, without doubles."""
    made = (f"{m}a {c}{{}}{b}" for m, c, b in product(MEDIA, COLOURS, BACKGROUNDS))
    return tuple(dict.fromkeys(made))


_ARTICLE = re.compile(r"\ba (?=[aeiou])")


PLAIN_TEMPLATES = ("a {}",)
"""What is said without depth templates."""


def check_classes(classes: Sequence[str]) -> tuple[str, ...]:
    """The names, stripped; a list may be one text with semicolons.

    Raises:
        ConfigError: there is none, one is empty, or two are equal.
    """
    names = tuple(name.strip() for name in (classes.split(";") if isinstance(classes, str) else classes))
    if not names:
        raise ConfigError("No class is given", fix='--classes "chair;lamp"')
    if not all(names):
        raise ConfigError("A class has no name", fix='--classes "chair;lamp"')
    folded = [name.casefold() for name in names]
    doubles = [name for name, same in zip(names, folded) if folded.count(same) > 1]
    if doubles:
        raise ConfigError(f"The class {doubles[0]!r} is given twice", fix='say what differs: "mouse (a computer part)"')
    return names


def class_vectors(
    encoder: TextImageEncoder, classes: Sequence[str], templates: Sequence[str] | None = None
) -> Float[Tensor, "classes dim"]:
    """Unit vectors of names: the mean over templates (None: `depth_templates`).

    A name may be told apart by words in brackets, "mouse (a computer part)": they follow the name in every sentence.
    """
    sentences = depth_templates() if templates is None else tuple(templates)
    names = [_with_gloss(name) for name in classes]
    vectors = [encoder.encode_text([_sentence(template, name) for name in names]) for template in sentences]
    return unit(torch.stack(without_same(vectors)).mean(0))


def without_same(vectors: Sequence[Float[Tensor, "classes dim"]]) -> list[Tensor]:
    """Templates' vectors, less those that say of every class what an earlier one says."""
    kept: list[Tensor] = []
    for rows in vectors:
        if all(float((rows * other).sum(1).mean()) < SAME for other in kept):
            kept.append(rows)
    return kept


def _with_gloss(name: str) -> str:
    before, bracket, inside = name.partition(" (")
    return f"{before}, {inside.removesuffix(')')}" if bracket else name


def _sentence(template: str, name: str) -> str:
    return _ARTICLE.sub("an ", template.format(name))
