"""Protocols of semantic and instance segmentation in 3D by name: which classes a published figure is about.

Figures of different protocols cannot be compared. Scores are those of `evaluate.metrics.vertices` and `.instance_ap`.
"""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from jaxtyping import Int, Integer

from ovseg3d.datasets.protocol_names import find_protocol
from ovseg3d.datasets.scannet_classes import SCANNET_20, SCANNET_200, SCANNET_200_SPLITS

# In three splits of 17 classes each, by how often they occur.
_REPLICA = {
    "head": {
        93: "wall", 31: "ceiling", 40: "floor", 20: "chair", 12: "blinds", 76: "sofa", 80: "table", 98: "rug",
        97: "window", 47: "lamp", 37: "door", 61: "pillow", 8: "bench", 87: "tv-screen", 18: "cabinet",
        60: "pillar", 11: "blanket",
    },
    "common": {
        88: "tv-stand", 29: "cushion", 10: "bin", 92: "vent", 7: "bed", 78: "stool", 59: "picture",
        44: "indoor-plant", 34: "desk", 26: "comforter", 54: "nightstand", 71: "shelf", 91: "vase",
        63: "plant-stand", 3: "basket", 64: "plate", 52: "monitor",
    },
    "tail": {
        62: "pipe", 56: "panel", 35: "desk-organizer", 95: "wall-plug", 13: "book", 15: "box", 22: "clock",
        70: "sculpture", 83: "tissue-paper", 17: "camera", 82: "tablet", 65: "pot", 14: "bottle", 19: "candle",
        16: "bowl", 23: "cloth", 79: "switch",
    },
}  # fmt: skip
REPLICA_51 = dict(sorted((_REPLICA["head"] | _REPLICA["common"] | _REPLICA["tail"]).items()))
"""The classes of Replica that occur in office 0 to 4 and room 0 to 2, numbered as in its info_semantic.json."""


@dataclass(frozen=True)
class SegmentationProtocol:
    """Classes and source of one benchmark."""

    name: str
    dataset: Literal["scannet", "replica"]
    """Which data set's files hold its labels."""
    numbers: dict[int, str]
    """Names as its files or its authors spell them, by the number in the files. Everything else is not labelled."""
    stuff: tuple[str, ...]
    """Classes that have no instances."""
    source: str
    splits: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Groups of classes whose means are published, too."""
    phrases: dict[str, str] = field(default_factory=dict)
    """Plain English where the name is none."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The names, in the order of their numbers."""
        return tuple(self.numbers[number] for number in sorted(self.numbers))

    def phrase(self, label: str) -> str:
        """The name of a class in plain English, as a text encoder should read it."""
        return self.phrases.get(label, label.replace("-", " "))

    def labels(self, numbers: Integer[np.ndarray, " points"]) -> Int[np.ndarray, " points"]:
        """Labels from the numbers in the data set's files: k is `classes[k - 1]`, 0 is none of them."""
        known = np.array(sorted(self.numbers), dtype=np.int64)
        place = np.searchsorted(known, numbers).clip(max=len(known) - 1)
        return np.where(known[place] == numbers, place + 1, 0).astype(np.int64)


_SCANNET = "Dai et al., ScanNet, CVPR 2017"
_OTHER = {"otherfurniture": "other furniture"}

SEGMENTATION_PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        SegmentationProtocol("scannet-20", "scannet", SCANNET_20, ("wall", "floor"), _SCANNET, phrases=_OTHER),
        SegmentationProtocol(
            "scannet-19",
            "scannet",
            {number: name for number, name in SCANNET_20.items() if name != "otherfurniture"},
            ("wall", "floor"),
            f"{_SCANNET}, without other furniture; OpenGaussian, Wu et al., NeurIPS 2024.",
        ),
        SegmentationProtocol(
            "scannet-200",
            "scannet",
            SCANNET_200,
            ("wall", "floor"),
            "Rozenberszki et al., ScanNet200, ECCV 2022.",
            splits={name: tuple(split.values()) for name, split in SCANNET_200_SPLITS.items()},
        ),
        SegmentationProtocol(
            "replica",
            "replica",
            REPLICA_51,
            ("wall", "floor", "ceiling"),
            "Straub et al., Replica, 2019; classes and splits of OpenNeRF, Engelmann et al., ICLR 2024; instances are "
            "those of OpenMask3D, Takmaz et al., NeurIPS 2023.",
            splits={name: tuple(split.values()) for name, split in _REPLICA.items()},
        ),
    )
}
"""By name."""


def segmentation_protocol(name: str) -> SegmentationProtocol:
    """The protocol of this name; case does not matter. Raises ConfigError: there is none."""
    return find_protocol(name, SEGMENTATION_PROTOCOLS, f"There is no protocol of segmentation {name!r}")
