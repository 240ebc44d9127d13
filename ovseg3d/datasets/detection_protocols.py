"""Protocols of 3D detection by name: which classes and scenes a published figure is about.

Figures of different protocols cannot be compared. Scores are those of `evaluate.metrics.detection`.
"""

from dataclasses import dataclass, field
from typing import Literal

from ovseg3d.datasets.protocol_names import find_protocol

Dataset = Literal["sunrgbd", "scannet"]


@dataclass(frozen=True)
class DetectionProtocol:
    """Classes, scenes and source of one benchmark."""

    name: str
    dataset: Dataset
    """Which data set's layouts, frames and units its files have."""
    classes: tuple[str, ...]
    """Names as its files spell them, in the order of its class numbers."""
    train_scenes: int
    """Frames of SUN RGB-D and of ScanNet-20, scans of ScanNet-18."""
    val_scenes: int
    source: str
    """Who published the class list and the split."""
    caution: str = ""
    """What its figures do not show."""
    nyu40: tuple[int, ...] = ()
    """ScanNet-18: the NYU40 number of each class, as in boxes and semantic labels of VoteNet's layout."""
    phrases: dict[str, str] = field(default_factory=dict)
    """Plain English where the name is none."""

    def phrase(self, label: str) -> str:
        """The name of a class in plain English, as a text encoder should read it."""
        return self.phrases.get(label, label.replace("_", " "))


_SINGLE_VIEW = "Frames of one depth image each: boxes reach beyond what is seen."

DETECTION_PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        DetectionProtocol(
            "SUN-10",
            "sunrgbd",
            ("bed", "table", "sofa", "chair", "toilet", "desk", "dresser", "night_stand", "bookshelf", "bathtub"),
            5285,
            5050,
            "Song et al., SUN RGB-D, CVPR 2015; VoteNet, Qi et al., ICCV 2019; labels of version 1.",
            _SINGLE_VIEW,
        ),
        DetectionProtocol(
            "SUN-20",
            "sunrgbd",
            (
                "toilet", "bed", "chair", "bathtub", "sofa", "dresser", "scanner", "fridge", "lamp", "desk",
                "table", "stand", "cabinet", "counter", "bin", "bookshelf", "pillow", "microwave", "sink", "stool",
            ),
            5268,
            5049,
            "OV-3DET, Lu et al., CVPR 2023; ImOV3D, Yang et al., NeurIPS 2024.",
            _SINGLE_VIEW,
        ),
        DetectionProtocol(
            "ScanNet-18",
            "scannet",
            (
                "cabinet", "bed", "chair", "sofa", "table", "door", "window", "bookshelf", "picture", "counter",
                "desk", "curtain", "refrigerator", "showercurtrain", "toilet", "sink", "bathtub", "garbagebin",
            ),
            1201,
            312,
            "Dai et al., ScanNet, CVPR 2017; VoteNet, Qi et al., ICCV 2019.",
            "Boxes are parallel to the axes of the aligned scan: nothing tests a yaw.",
            nyu40=(3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 16, 24, 28, 33, 34, 36, 39),
            phrases={"showercurtrain": "shower curtain", "garbagebin": "garbage bin"},
        ),
        DetectionProtocol(
            "ScanNet-20",
            "scannet",
            (
                "toilet", "bed", "chair", "sofa", "dresser", "table", "cabinet", "bookshelf", "pillow", "sink",
                "bathtub", "refrigerator", "desk", "night stand", "counter", "door", "curtain", "box", "lamp", "bag",
            ),
            11994,
            8955,
            "OV-3DET, Lu et al., CVPR 2023; ImOV3D, Yang et al., NeurIPS 2024; frames of scannet_frames_25k.",
            "Leak: 308 of the 495 rooms for validation are also trained on, in other scans (59 % of the frames for "
            "validation). True boxes are made from fused labelled frames and are not ScanNet's. Figures cannot be "
            "compared with those of official splits.",
        ),
    )
}  # fmt: skip
"""By name."""


def detection_protocol(name: str) -> DetectionProtocol:
    """The protocol of this name; case does not matter. Raises ConfigError: there is none."""
    return find_protocol(name, DETECTION_PROTOCOLS, f"There is no detection protocol {name!r}")
