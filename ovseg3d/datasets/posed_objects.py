"""Objects in photos with their viewpoint: what ImageNet3D, PASCAL3D+ and files in their layouts hold.

A photo is taken as one through a pinhole that looks at the object's centre, at `center_px`: a point X of the object,
in units of its own, is at

    u = center_x + focal_px * x / -z,   v = center_y - focal_px * y / -z,   (x, y, z) = R (X - C)

with R and C of `geometry.poses`. Pixels are counted from the upper left corner of the photo.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from ovseg3d.errors import SceneError
from ovseg3d.geometry import Viewpoint, angles_of_rotation, rotation_of_angles
from ovseg3d.limits import check_name, check_number

TestSet = Literal["dataset", "experiments"]
CENTERED_DISTANCE = 4.0
"""Of an object in `centered_photo`, as in ImageNet3D's code."""
MAX_SIDE = 16_384
"""Of a photo that is enlarged, pixels."""


@dataclass(frozen=True)
class PosedObject:
    """One object in one photo."""

    photo: Path
    """The image file."""
    name: str
    """Of the photo, with its folder: chair/n03001627_1."""
    number: int
    """Of the object in its photo, from 0."""
    category: str
    viewpoint: Viewpoint
    """Distance in units of the object's model; 0 or less where it is not annotated."""
    center_px: tuple[float, float]
    """Where the object's centre is in the photo."""
    bbox: tuple[float, float, float, float]
    """x1, y1, x2, y2."""
    focal_px: float
    size: tuple[int, int]
    """Width and height of the photo."""
    status: str | None = None
    """ImageNet3D: status_good, status_partially, status_barely or status_bad."""
    dense: bool | None = None
    """ImageNet3D: others of the category are close."""
    ignore: bool = False
    """To be left out; PASCAL3D+'s `difficult`."""
    cad_index: int | None = None
    """Number of the model that is most alike, from 1."""
    box_size: tuple[float, float, float] | None = None
    """Objectron: full lengths of its box along the object's own x, y and z axis, in the unit of the distance."""

    @property
    def key(self) -> str:
        """Name and number: what predictions are filed under."""
        return f"{self.name}/{self.number}"


TEST_SETS: Mapping[str, Callable[[PosedObject], bool]] = {
    "dataset": lambda one: not one.ignore and one.viewpoint.distance > 0,
    "experiments": lambda one: one.status not in (None, "status_bad") and one.viewpoint.distance > 0,
}
"""Which objects count. ImageNet3D's data repository leaves out those to be ignored; its experiments leave out bad and
missing statuses, and count what is to be ignored. These are different sets; figures of one are not those of the other.
"""


def viewpoint_of(record: Mapping[str, Any], where: Path, unit_rad: float = 1.0) -> Viewpoint:
    """The viewpoint of `azimuth`, `elevation`, `theta` and `distance`, with its angles in their ranges.

    Raises:
        SceneError: a number is missing or not finite.
    """
    numbers = [plain_number(record, key, where) for key in ("azimuth", "elevation", "theta", "distance")]
    angles = angles_of_rotation(rotation_of_angles(np.array(numbers[:3]) * unit_rad))
    azimuth, elevation, theta = angles.tolist()
    return Viewpoint(azimuth, elevation, theta, numbers[3])


def plain_number(record: Mapping[str, Any], key: str, where: Path, default: float | None = None) -> float:
    """A finite number of a record, or its default. Raises SceneError: it is missing or no finite number."""
    value = record.get(key, default)
    if isinstance(value, np.ndarray | np.generic) and value.size == 1:
        value = value.reshape(-1)[0].item()
    if value is None:
        raise SceneError(f"An object has no '{key}'", where=where, fix="fetch the file again")
    return check_number(int(value) if isinstance(value, bool) else value, key, where)


def plain_row(record: Mapping[str, Any], key: str, count: int, where: Path) -> tuple[float, ...]:
    """Finite numbers of a record. Raises SceneError: they are missing, not as many, or not finite."""
    try:
        row = np.array(record[key], dtype=np.float64).reshape(count)
    except (KeyError, TypeError, ValueError) as cause:
        raise SceneError(f"'{key}' is no row of {count} numbers", where=where, fix="fetch the file again") from cause
    if not np.isfinite(row).all():
        raise SceneError(f"'{key}' is not finite", where=where, fix="fetch the file again")
    return tuple(row.tolist())


def category_of(text: Any, where: Path) -> str:
    """The name of a category. Raises SceneError: it is no text, or no name of a folder."""
    if not isinstance(text, str) or not text or "/" in text or text in (".", ".."):
        raise SceneError(f"{text!r} is no name of a category", where=where, fix="fetch the file again")
    return check_name(text, where, SceneError, "category")


def centered_photo(
    image: Image.Image, one: PosedObject, size: tuple[int, int], distance: float = CENTERED_DISTANCE
) -> tuple[Image.Image, PosedObject]:
    """The photo as ImageNet3D's pose experiments show it: the object in the middle, and as far away in every photo.

    Args:
        image: the photo.
        one: the object.
        size: width and height of the result; black where the photo ends.
        distance: at which the object appears.

    Returns:
        The picture, and the object in it. (The released code moves the lower edge of the box by the padding at the
        bottom instead of the padding at the top.)

    Raises:
        SceneError: the object has no distance, or its photo would be larger than `MAX_SIDE`.
    """
    rate = one.viewpoint.distance / distance
    width, height = (max(1, round(side * rate)) for side in image.size)
    if rate <= 0 or max(width, height) > MAX_SIDE:
        raise SceneError("The object has no usable distance", where=one.key, fix="use a test set, which leaves it out")
    left, top = (round(side / 2 - at * rate) for side, at in zip(size, one.center_px))
    canvas = Image.new("RGB", size)
    canvas.paste(image.convert("RGB").resize((width, height), Image.Resampling.BICUBIC), (left, top))
    x, y = one.center_px
    x1, y1, x2, y2 = (side * rate for side in one.bbox)
    return canvas, replace(
        one,
        viewpoint=replace(one.viewpoint, distance=distance),
        center_px=(x * rate + left, y * rate + top),
        bbox=(x1 + left, y1 + top, x2 + left, y2 + top),
        size=size,
    )
