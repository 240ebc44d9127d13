"""A labelled scene of a detection data set: points, boxes and their names, in one convention for all layouts.

Frames are z up and metric, boxes have full sizes and a yaw counter-clockwise about +z. Of SUN RGB-D this is the upright
depth frame (x right, y forward); of ScanNet the scan after its axis alignment.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, UInt8

from ovseg3d.errors import SceneError
from ovseg3d.limits import check_name
from ovseg3d.scene.cameras import Camera


@dataclass(frozen=True)
class BoxScene:
    """One scene: a frame of SUN RGB-D, or a scan of ScanNet."""

    name: str
    """Such as 000017 or scene0000_00."""
    xyz: Float[np.ndarray, "points 3"]
    """Metres, double precision, so that a scan can be turned back to its raw frame."""
    rgb: UInt8[np.ndarray, "points 3"] | None
    """Colours; None: the cloud has none."""
    boxes: Float[np.ndarray, "boxes 7"]
    """Centre, full size, yaw_rad."""
    labels: tuple[str, ...]
    """One name for each box, as the data set spells it."""
    boxes_2d: Float[np.ndarray, "boxes 4"] | None = None
    """SUN RGB-D: left, top, right, bottom of each box in the photo, pixels."""
    camera: Camera | None = None
    """SUN RGB-D: the photo's camera in the frame of the points."""
    photo: Path | None = None
    """SUN RGB-D: the photo, where it is on the disk."""
    semantic: Int[np.ndarray, " points"] | None = None
    """ScanNet: NYU40 number of each point, 0 for none."""
    instance: Int[np.ndarray, " points"] | None = None
    """ScanNet: number of each point's instance, 0 for none."""
    axis_align: Float[np.ndarray, "4 4"] | None = None
    """ScanNet: from the raw scan to this frame."""

    def select(self, classes: Sequence[str]) -> "BoxScene":
        """The scene with the boxes of these classes only."""
        keep = np.array([label in classes for label in self.labels], dtype=bool)
        return replace(
            self,
            boxes=self.boxes[keep],
            labels=tuple(label for label in self.labels if label in classes),
            boxes_2d=None if self.boxes_2d is None else self.boxes_2d[keep],
        )

    def numbers(self, classes: Sequence[str]) -> list[int]:
        """The place of each box's label in a list of classes. Raises SceneError: a label is not in it."""
        unknown = sorted(set(self.labels) - set(classes))
        if unknown:
            raise SceneError(f"The class {unknown[0]!r} is not in the list of classes", where=self.name)
        return [classes.index(label) for label in self.labels]


def each_once(scenes: Iterable[BoxScene]) -> Iterator[BoxScene]:
    """The scenes. Raises SceneError: a name is no file name, or comes twice."""
    seen: set[str] = set()
    for scene in scenes:
        if scene.name in seen or scene.name in ("", ".", "..") or "/" in scene.name or "\\" in scene.name:
            raise SceneError(
                f"The name {scene.name!r} is no file name, or there are two such scenes", fix="rename one of them"
            )
        seen.add(check_name(scene.name, None, SceneError, "scene"))
        yield scene
