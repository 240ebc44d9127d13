"""Protocol `lerf`: localisation and mIoU of single phrases on LERF's scenes, with LangSplat's labels and evaluator.

Labels: one JSON for each frame, {"info": {name, width, height}, "objects": [{category, bbox, segmentation}]}; bbox is
x1, y1, x2, y2 and segmentation a polygon of x, y, in pixels of the frame. Objects of one category in a frame are one
unit (all their boxes, the union of their polygons).

Relevancy maps have one or more levels (LangSplat's three sizes of regions; a method with one map gives one level).
- Localisation: each level is averaged over a box; the level with the highest peak is taken; a hit is any pixel with
  that peak in any of the boxes, edges included. (A flat map has its peak everywhere, and hits.)
- Segmentation: r' = (r + its box average) / 2; the level with the highest r' is taken; r' is stretched to 0..1; pixels
  with 2 r' - 1 above `threshold` are inside (0.4: above 0.7 of the range); a 7 x 7 majority filter smooths the mask.
Both are averaged over the units of a scene, then over scenes (`mean_over_scenes`), never over units of all scenes.
Difference from the published evaluator: its majority filter leaves out one pixel at the last row and column.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
from jaxtyping import Bool, Float
from PIL import Image, ImageDraw

from ovseg3d.errors import MeasureError, SceneError
from ovseg3d.evaluate.metrics.report import Scores
from ovseg3d.files import read_json
from ovseg3d.limits import MAX_LENGTH, MAX_SIDE, check_name, check_number

Pair = tuple[float, float]


@dataclass(frozen=True)
class LerfParameters:
    """Free parameters of the protocol; the defaults are those of LangSplat's code."""

    box: int = 30
    """Side of the averaging box in pixels: 20 in the paper, 30 in its code, 29 in LangSplatV2. A box with an even side
    extends one pixel further to the left and up; edges of the image are mirrored."""
    threshold: float = 0.4
    """On 2 r' - 1."""
    majority: int = 7
    """Side of the majority window in pixels, odd, cropped at the edge of the image; a tie is outside."""


@dataclass(frozen=True)
class LerfUnit:
    """One phrase in one frame."""

    category: str
    boxes: tuple[tuple[float, float, float, float], ...]
    """x_min, y_min, x_max, y_max."""
    polygons: tuple[tuple[Pair, ...], ...]
    """Corners x, y."""


@dataclass(frozen=True)
class LerfFrame:
    """The labels of one frame."""

    name: str
    width: int
    height: int
    units: tuple[LerfUnit, ...]


@dataclass(frozen=True)
class LerfResult:
    """The result of one unit."""

    frame: str
    category: str
    hit: bool
    iou: float
    level_localisation: int
    level_segmentation: int


@dataclass(frozen=True)
class LerfScores(Scores):
    """Results of `LerfScene`."""

    protocol: ClassVar[str] = "lerf"
    aggregation: ClassVar[str] = "Mean over the units (a phrase in a frame) of the scene."

    localisation: float
    """Share of the units that are hit."""
    miou: float
    """Mean IoU of the units."""
    units: tuple[LerfResult, ...]
    parameters: LerfParameters
    resized_frames: int
    """Frames whose relevancy had another size than the labels; filters then cover another share of the image."""


@dataclass
class LerfScene:
    """Accumulates the frames of one scene; `result` returns the scores."""

    parameters: LerfParameters = field(default_factory=LerfParameters)
    _units: list[LerfResult] = field(default_factory=list)
    _resized: int = 0

    def update(self, frame: LerfFrame, relevancy: Mapping[str, Float[np.ndarray, "levels h w"]]) -> None:
        """Add one frame.

        Args:
            frame: its labels.
            relevancy: maps by category, one for each level; higher is more relevant. Boxes and polygons are scaled to
                the size of the maps.

        Raises:
            MeasureError: a category has no map, or a value is not finite.
        """
        missing = [unit.category for unit in frame.units if unit.category not in relevancy]
        if missing:
            raise MeasureError(
                f"No relevancy for: {', '.join(missing)}", where=frame.name, fix="query every category of the frame"
            )
        resized = False
        for unit in frame.units:
            maps = relevancy[unit.category].astype(np.float64)
            if not np.isfinite(maps).all() or not maps.size:
                raise MeasureError(
                    f"The relevancy of {unit.category!r} is empty or not finite", where=frame.name, fix="query again"
                )
            height, width = maps.shape[1:]
            scale = (width / frame.width, height / frame.height)
            resized |= scale != (1.0, 1.0)
            hit, first = localise(maps, [_scaled_box(box, scale) for box in unit.boxes], self.parameters)
            mask, second = segment(maps, self.parameters)
            true = polygon_mask(unit.polygons, width, height, scale)
            union = (mask | true).sum()
            iou = float((mask & true).sum() / union) if union else 0.0
            self._units.append(LerfResult(frame.name, unit.category, hit, iou, first, second))
        self._resized += resized

    def result(self) -> LerfScores:
        """The scores over all frames. Raises MeasureError: there are no units."""
        if not self._units:
            raise MeasureError("No phrase was measured", fix="the label files need objects")
        return LerfScores(
            localisation=float(np.mean([unit.hit for unit in self._units])),
            miou=float(np.mean([unit.iou for unit in self._units])),
            units=tuple(self._units),
            parameters=self.parameters,
            resized_frames=self._resized,
        )


def localise(
    maps: Float[np.ndarray, "levels h w"],
    boxes: Sequence[tuple[float, float, float, float]],
    parameters: LerfParameters,
) -> tuple[bool, int]:
    """Whether the peak of the averaged relevancy is in one of the boxes, and the chosen level."""
    averaged = _box_mean(maps, parameters.box)
    level = int(averaged.max(axis=(1, 2)).argmax())
    # The tolerance covers rounding of the running sums, which must not decide between equal peaks.
    rows, columns = np.nonzero(averaged[level] >= averaged[level].max() - 1e-9)
    hit = any(((columns >= x1) & (columns <= x2) & (rows >= y1) & (rows <= y2)).any() for x1, y1, x2, y2 in boxes)
    return bool(hit), level


def segment(maps: Float[np.ndarray, "levels h w"], parameters: LerfParameters) -> tuple[Bool[np.ndarray, "h w"], int]:
    """The mask of a relevancy map, and the chosen level."""
    from scipy.ndimage import convolve1d

    smooth = (maps + _box_mean(maps, parameters.box)) / 2
    level = int(smooth.max(axis=(1, 2)).argmax())
    chosen = smooth[level]
    spread = chosen.max() - chosen.min()
    if spread < 1e-9:  # flat
        return np.zeros(chosen.shape, dtype=bool), level
    inside = 2 * (chosen - chosen.min()) / spread - 1 > parameters.threshold
    window = np.ones(parameters.majority, dtype=np.int64)
    votes = np.where(inside, 1, -1)
    for axis in (0, 1):
        votes = convolve1d(votes, window, axis=axis, mode="constant", cval=0)
    return votes > 0, level


def polygon_mask(
    polygons: Sequence[Sequence[Pair]], width: int, height: int, scale: Pair = (1.0, 1.0)
) -> Bool[np.ndarray, "h w"]:
    """Union of polygons times `scale`; corners are truncated to whole pixels, and the outline is inside."""
    image = Image.new("L", (width, height))
    draw = ImageDraw.Draw(image)
    for polygon in polygons:
        corners = [(int(x * scale[0]), int(y * scale[1])) for x, y in polygon]
        draw.polygon(corners if len(corners) > 2 else corners * 3, fill=1, outline=1)
    return np.asarray(image) > 0


def read_lerf_labels(path: Path) -> LerfFrame:
    """Read the labels of one frame.

    Raises:
        SceneError: the file is missing, no JSON, or not of this layout.
    """
    value = read_json(path)
    try:
        info = value["info"]
        width, height = (int(check_number(info[side], side, path, 1, MAX_SIDE)) for side in ("width", "height"))
        merged: dict[str, tuple[list, list]] = {}
        for instance in value["objects"]:
            category = check_name(str(instance["category"]), path, what="category")
            boxes, polygons = merged.setdefault(category, ([], []))
            corners = np.array(instance["bbox"], dtype=np.float64).reshape(-1, 2, 2)
            boxes += [tuple(np.r_[box.min(axis=0), box.max(axis=0)].tolist()) for box in corners]
            polygon = np.array(instance["segmentation"], dtype=np.float64)
            if polygon.ndim != 2 or polygon.shape[1] != 2 or not len(polygon):
                raise ValueError(f"the polygon of {category!r} is no list of [x, y]")
            if not np.abs(np.r_[polygon.ravel(), corners.ravel()]).max() <= MAX_LENGTH:  # nor is NaN
                raise ValueError(f"{category!r} lies outside of every image")
            polygons.append(tuple(map(tuple, polygon.tolist())))
        units = tuple(LerfUnit(name, tuple(boxes), tuple(polygons)) for name, (boxes, polygons) in merged.items())
        name = check_name(str(info.get("name", path.stem)), path)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        what = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
        raise SceneError(
            f"This is no label file of LERF's layout: {what}",
            where=path,
            fix="expected info (name, width, height) and objects with category, bbox and segmentation",
        ) from error
    return LerfFrame(name, width, height, units)


def read_lerf_folder(folder: Path) -> tuple[LerfFrame, ...]:
    """All label files of a scene, `*.json`, by name. Raises SceneError: there are none."""
    paths = sorted(folder.glob("*.json"))
    if not paths:
        raise SceneError("There are no label files", where=folder, fix="expected one .json for each labelled frame")
    return tuple(read_lerf_labels(path) for path in paths)


def _box_mean(maps: np.ndarray, side: int) -> np.ndarray:
    from scipy.ndimage import uniform_filter

    return uniform_filter(maps, size=(1, side, side), mode="mirror")  # pyright: ignore[reportArgumentType]


def _scaled_box(box: tuple[float, float, float, float], scale: Pair) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = box
    return (x1 * scale[0], y1 * scale[1], x2 * scale[0], y2 * scale[1])
