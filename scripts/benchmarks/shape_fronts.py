"""Which way the categories of `shapes.npz` face: the turn to ImageNet3D's front, and the order of symmetry.

Judged by eye on pictures of all 318 clouds (ObjectNet3D's models, z up) from the front, the sides and above.
ImageNet3D's own sheets of models are not at hand. Its rule is known: categories are aligned by parts that they share,
then by shape, then by common knowledge. By the first part of that rule, two of the 41 categories are turned here: their
working end looks to +x, and that of all others that have one to -y.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from ovseg3d.errors import ConfigError


@dataclass(frozen=True)
class ShapeFront:
    """Of one category."""

    yaw_deg: int
    """Turn about the up axis (counter-clockwise from above) that brings its front to -y."""
    order: int
    """Of the symmetry about the up axis that the clouds show: 0 for round, 1 for none, 2 for half a turn."""
    reason: str
    """What looks to -y in the end."""


FRONTS: Mapping[str, ShapeFront] = {
    "aeroplane": ShapeFront(0, 1, "nose"),
    "ashtray": ShapeFront(0, 0, "no front: round, square or hexagonal"),
    "backpack": ShapeFront(0, 1, "the side away from the straps"),
    "bed": ShapeFront(0, 1, "foot end"),
    "bench": ShapeFront(0, 1, "seat, away from the back"),
    "bicycle": ShapeFront(0, 1, "front wheel"),
    "boat": ShapeFront(0, 1, "bow"),
    "bottle": ShapeFront(0, 0, "no front: round"),
    "bus": ShapeFront(0, 1, "windscreen"),
    "camera": ShapeFront(0, 1, "lens"),
    "car": ShapeFront(0, 1, "bonnet"),
    "cellphone": ShapeFront(0, 1, "screen and keys"),
    "clock": ShapeFront(0, 1, "face"),
    "coffee_maker": ShapeFront(0, 1, "jug and outlet; handles are at the back"),
    "diningtable": ShapeFront(0, 2, "a long side"),
    "dishwasher": ShapeFront(0, 1, "door"),
    "eyeglasses": ShapeFront(0, 1, "lenses, away from the temples"),
    "flashlight": ShapeFront(0, 0, "no front: upright and round, but for one of six, whose lamp is at -y"),
    "fork": ShapeFront(0, 1, "the side to which the tines bend"),
    "guitar": ShapeFront(0, 1, "strings"),
    "hair_dryer": ShapeFront(0, 1, "nozzle"),
    "hammer": ShapeFront(270, 1, "striking face; in the clouds at +x, unlike nozzles, bristles and blades on handles"),
    "key": ShapeFront(0, 2, "a flat side"),
    "laptop": ShapeFront(0, 1, "the edge away from the hinge"),
    "microphone": ShapeFront(0, 0, "no front for most: upright and round; those on booms lean to -y"),
    "motorbike": ShapeFront(0, 1, "front wheel"),
    "pan": ShapeFront(0, 1, "the side away from the handle"),
    "pillow": ShapeFront(0, 2, "a broad side"),
    "racket": ShapeFront(0, 2, "a side of the strings"),
    "refrigerator": ShapeFront(0, 1, "door"),
    "road_pole": ShapeFront(0, 1, "the side from which the arms are seen at full length"),
    "shoe": ShapeFront(0, 1, "toe"),
    "shovel": ShapeFront(0, 1, "hollow of the blade"),
    "sign": ShapeFront(0, 2, "a face; without its print, both are alike"),
    "skate": ShapeFront(0, 1, "toe"),
    "suitcase": ShapeFront(0, 1, "a broad side; with its lock or flap, if there is one"),
    "teapot": ShapeFront(270, 1, "spout; in the clouds at +x, with the handle at -x, unlike pans and coffee makers"),
    "toilet": ShapeFront(0, 1, "seat, away from the cistern"),
    "toothbrush": ShapeFront(0, 1, "bristles"),
    "train": ShapeFront(0, 2, "an end"),
    "tub": ShapeFront(0, 2, "a long side; steps, if there are any"),
}  # fmt: skip
"""By category."""


def front_of(category: str) -> ShapeFront:
    """The front of a category. Raises ConfigError: nobody has judged it."""
    if category not in FRONTS:
        raise ConfigError(f"No front is known for the shapes of {category!r}", fix="add it to FRONTS of shape_fronts")
    return FRONTS[category]
