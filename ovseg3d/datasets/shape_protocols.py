"""Protocols of naming shapes by name: which shapes, points and classes a published figure is about.

Figures of different protocols cannot be compared. Points per shape are those of OpenDlign (Mao et al. 2024).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from ovseg3d.datasets.named_shapes import (
    NamedShape,
    lvis_classes,
    read_modelnet,
    read_objaverse_lvis,
    read_omniobject3d,
)
from ovseg3d.datasets.protocol_names import find_protocol
from ovseg3d.datasets.scanobjectnn import SCANOBJECTNN_CLASSES, read_scanobjectnn

MODELNET10_CLASSES = (
    "bathtub", "bed", "chair", "desk", "dresser", "monitor", "night_stand", "sofa", "table", "toilet",
)  # fmt: skip
MODELNET40_CLASSES = (
    "airplane", "bathtub", "bed", "bench", "bookshelf", "bottle", "bowl", "car", "chair", "cone", "cup", "curtain",
    "desk", "door", "dresser", "flower_pot", "glass_box", "guitar", "keyboard", "lamp", "laptop", "mantel", "monitor",
    "night_stand", "person", "piano", "plant", "radio", "range_hood", "sink", "sofa", "stairs", "stool", "table",
    "tent", "toilet", "tv_stand", "vase", "wardrobe", "xbox",
)  # fmt: skip


@dataclass(frozen=True)
class ShapeProtocol:
    """Shapes, classes and source of one benchmark."""

    name: str
    folder: str
    """What its folder is usually called."""
    read: Callable[[Path], list[NamedShape]]
    """Its test shapes."""
    classes: tuple[str, ...]
    """As its files spell them; empty: those of the files."""
    points: int
    """Of each shape; larger clouds are thinned out."""
    shapes: int
    """How many there are in the release that published figures are about; fewer or more are another test."""
    source: str
    caution: str = ""
    """What its figures do not show."""
    phrases: dict[str, str] = field(default_factory=dict)
    """Plain English where the name is none."""

    def phrase(self, label: str) -> str:
        """The name of a class in plain English, as a text encoder should read it."""
        return self.phrases.get(label, label.replace("_", " "))

    def class_list(self, shapes: Sequence[NamedShape], folder: Path) -> tuple[str, ...]:
        """The classes that names are chosen from."""
        if self.classes:
            return self.classes
        return lvis_classes(folder) if self.read is read_objaverse_lvis else tuple(sorted({s.label for s in shapes}))


_MODELNET = "Wu et al., 3D ShapeNets, CVPR 2015."
_SCANOBJECTNN = "Uy et al., ScanObjectNN, ICCV 2019; main split."

SHAPE_PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        ShapeProtocol(
            "ModelNet10",
            "ModelNet10",
            partial(read_modelnet, classes=MODELNET10_CLASSES),
            MODELNET10_CLASSES,
            10_000,
            908,
            _MODELNET,
        ),
        ShapeProtocol(
            "ModelNet40",
            "ModelNet40",
            partial(read_modelnet, classes=MODELNET40_CLASSES),
            MODELNET40_CLASSES,
            10_000,
            2468,
            _MODELNET,
            "Some classes can hardly be told apart: flower pot, plant and vase; table and desk.",
            {"tv_stand": "TV stand", "xbox": "Xbox"},
        ),
        *(
            ShapeProtocol(
                f"ScanObjectNN-{variant}",
                "ScanObjectNN",
                partial(read_scanobjectnn, variant=variant),
                SCANOBJECTNN_CLASSES,
                2048,
                2882 if variant == "PB_T50_RS" else 581,
                _SCANOBJECTNN,
                caution,
            )
            for variant, caution in (
                ("OBJ_ONLY", "The easiest of the three variants: no background, whole boxes."),
                ("OBJ_BG", "With points of what is around the object."),
                ("PB_T50_RS", "The hardest variant: boxes moved, turned and scaled, so parts are missing."),
            )
        ),
        ShapeProtocol(
            "OmniObject3D",
            "OmniObject3D",
            read_omniobject3d,
            (),
            4096,
            5911,
            "Wu et al., OmniObject3D, CVPR 2023.",
            "The classes are the folders; the release does not state which axis is up.",
        ),
        ShapeProtocol(
            "Objaverse-LVIS",
            "Objaverse-LVIS",
            read_objaverse_lvis,
            (),
            10_000,
            46_205,
            "Deitke et al., Objaverse, CVPR 2023; categories of LVIS.",
            "Objects were uploaded by many people: not all stand upright.",
        ),
    )
}
"""By name."""


def shape_protocol(name: str) -> ShapeProtocol:
    """The protocol of this name; case does not matter. Raises ConfigError: there is none."""
    return find_protocol(name, SHAPE_PROTOCOLS, f"There is no protocol {name!r} of naming shapes")
