"""Lift photos and fit boxes to the masks of their objects: rooms for the detection head without 3D labels.

    python -m scripts.training.lifted_rooms outputs/lifted/photos outputs/lifted/rooms       # of lifted_photos
    python -m scripts.training.lifted_rooms instances.json outputs/lifted/own --depth MODEL  # COCO's or LVIS's layout

Photos are treated one by one. Each gives a cloud with the camera at the origin, turned level by the gravity that its
normals show. Each mask gives a box with a quality (`ovseg3d.heads.lifting.fit_box`). Depth is that of a metric model by
name; for photos of lifted_photos also exact. Pixels without a mask are taken as walls, floor and ceiling: objects that
nobody annotated teach the head that they are none.

For these photos the boxes are compared with the true ones at the end, which labels never use: the table says how many
masks got a box in this run, and its IoU. --depth, --gravity, --no-usual-sizes, --no-quality and --boxes say what a part
earns or costs.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image
from scipy.ndimage import distance_transform_edt
from scipy.spatial.transform import Rotation

from ovseg3d.datasets import AnnotatedPhoto, read_coco
from ovseg3d.encoders.depth import DepthEstimator, load_depth_estimator
from ovseg3d.errors import ConfigError, SceneError
from ovseg3d.files import read_json, write_json
from ovseg3d.geometry import rotated_iou
from ovseg3d.heads.detection.align import manhattan_yaw
from ovseg3d.heads.lifting import FittedBox, LiftedPhoto, fit_box, lift_photo, open_ends, usual_focal
from ovseg3d.heads.lifting.normals import depth_normals
from ovseg3d.scene import read_rgbd
from ovseg3d.scene.images import EXIF_TURNS, read_header
from scripts.start import start
from scripts.training.detection_rooms import IGNORED, DetectionRoom, save_detection_room
from scripts.training.lifted_photos import RoomPhotos, read_room_photos

MIN_PIXELS = 40
"""Smaller masks are not labelled: their points are ignored."""
MIN_QUALITY = 0.05
"""So are those whose box is no better than this. Both were chosen by hand."""
SQUARE = 1.15
"""Footprints with sides within this ratio look the same after a quarter of a turn."""
EXACT = "exact"
"""Depth as a perfect depth camera has it."""


@dataclass(frozen=True)
class LiftRecipe:
    """How photos become labels."""

    depth: str = "builtin"
    """builtin, or a model of metric depth by name or folder; of lifted_photos also exact: of a perfect depth camera."""
    gravity: Literal["estimated", "camera", "exact"] = "estimated"
    """camera: its upper edge is up; exact: of lifted_photos only."""
    usual_sizes: bool = True
    """Complete boxes to usual sizes."""
    quality: bool = True
    """Labels count by their quality."""
    boxes: Literal["fitted", "true"] = "fitted"
    """true: of lifted_photos only, the exact boxes instead; what fitting costs."""


@dataclass(frozen=True)
class SinglePhoto:
    """A photo with its depth and the masks of its objects."""

    lifted: LiftedPhoto
    depth_z: Float[np.ndarray, "h w"]
    instance: Int[np.ndarray, "h w"]
    """1 + the row of the object's name, 0 for none, below 0 where that is unknown."""
    names: tuple[str, ...]
    up: Float[np.ndarray, "3"] | None = None
    """True up in the camera's frame, if it is known."""


@dataclass(frozen=True)
class LabelledPhoto:
    """A cloud and its labels."""

    room: DetectionRoom
    rows: tuple[int, ...]
    """Of the objects with a box, in the photo's names."""
    level: Rotation
    """From the camera's frame to that of the cloud."""
    masks: int
    """Masks that are large enough for a label."""


def label_photo(photo: SinglePhoto, recipe: LiftRecipe = LiftRecipe()) -> LabelledPhoto:
    """Fit boxes to the masks of a photo."""
    cloud, camera = photo.lifted.cloud, photo.lifted.camera
    assert cloud.normal is not None and cloud.rgb is not None, "a lifted photo has both"
    if recipe.gravity == "exact":
        assert photo.up is not None, "exact gravity is that of lifted_photos"
        up = photo.up
    else:
        up = np.array(photo.lifted.up if recipe.gravity == "estimated" else (0.0, -1.0, 0.0))
    level = Rotation.align_vectors([[0, 0, 1]], [up])[0]
    # Along the walls, as detection turns clouds; a yaw of exactly 0 says that there are none.
    walls = manhattan_yaw(level.apply(cloud.normal))
    level = Rotation.from_euler("z", -walls) * level
    slope = cloud.xyz[:, :2] / cloud.xyz[:, 2:]
    column, row = np.floor(slope * (camera.fx, camera.fy) + (camera.cx, camera.cy)).astype(np.int64).T
    place = row.clip(0, camera.height - 1), column.clip(0, camera.width - 1)
    pixel, steps = photo.instance[place], open_ends(photo.instance, photo.depth_z)
    point = np.full(photo.instance.shape, -1)
    point[place] = np.arange(len(cloud))
    size = np.bincount(photo.instance[photo.instance > 0], minlength=len(photo.names) + 1)[1:]
    member, fitted, rows = np.where(pixel == 0, 0, IGNORED), [], []
    for own in np.flatnonzero(size >= MIN_PIXELS).tolist():
        mask = photo.instance == own + 1
        if not (mask & (point >= 0)).any():
            continue
        xyz, ends = _whole_mask(photo, mask, point, steps)
        box = fit_box(
            level.apply(xyz), level.apply(ends), np.zeros(3), photo.names[own], 0.0 if walls else None,
            usual=recipe.usual_sizes,
        )  # fmt: skip
        if box is not None and box.quality >= MIN_QUALITY:
            fitted.append(box)
            rows.append(own)
            kept = point[mask][box.points]
            member[kept[kept >= 0]] = len(fitted)
    xyz, normal = level.apply(cloud.xyz), level.apply(cloud.normal)
    kinds, rgb = [photo.names[k] for k in rows], np.round(255 * cloud.rgb).astype(np.uint8)
    room = fitted_room(xyz, normal, rgb, member, fitted, kinds, recipe.quality)
    return LabelledPhoto(room, tuple(rows), level, int((size >= MIN_PIXELS).sum()))


def _whole_mask(
    photo: SinglePhoto, mask: Bool[np.ndarray, "h w"], point: Int[np.ndarray, "h w"], steps: Float[np.ndarray, "h w 2"]
) -> tuple[Float[np.ndarray, "pixels 3"], Float[np.ndarray, "pixels 3"]]:
    """A point for each pixel of a mask, and the direction in which the surface goes on there, in the camera's frame.

    Lifting leaves out the rim of an object, where depth may be a mixture: half of a small one. What is left out has the
    depth of the nearest pixel of the mask.

    Args:
        photo: of the mask.
        mask: with a point at least.
        point: row of each pixel's point, -1 where it has none.
        steps: of `open_ends`.
    """
    camera, known = photo.lifted.camera, mask & (point >= 0)
    slope = (camera.pixel_centres().reshape(*mask.shape, 2) - (camera.cx, camera.cy)) / (camera.fx, camera.fy)
    nearest = distance_transform_edt(~known, return_distances=False, return_indices=True)
    assert isinstance(nearest, np.ndarray)
    nearest = tuple(nearest[:, mask])
    ray = np.pad(slope[mask], ((0, 0), (0, 1)), constant_values=1)
    # Of the mask's pixels alone: those of the cloud mix what is covered with what covers it.
    normal = np.nan_to_num(depth_normals(photo.depth_z, known, slope)[nearest])
    # Where the ray moves to in the plane of the surface. A photo that cuts a bed's top does not cut its height.
    aside = np.pad(steps[mask] / (camera.fx, camera.fy), ((0, 0), (0, 1)))
    along = aside - ray * ((normal * aside).sum(1) / np.minimum((normal * ray).sum(1), -1e-3))[:, None]
    return ray * photo.depth_z[nearest][:, None], along / np.maximum(np.linalg.norm(along, axis=1), 1e-9)[:, None]


def fitted_room(
    xyz: Float[np.ndarray, "points 3"],
    normal: Float[np.ndarray, "points 3"],
    rgb: UInt8[np.ndarray, "points 3"],
    member: Int[np.ndarray, " points"],
    fitted: Sequence[FittedBox],
    kinds: Sequence[str],
    use_quality: bool,
) -> DetectionRoom:
    """A room with fitted boxes, which say nothing of fronts.

    Args:
        xyz, normal: metres, z up.
        rgb: colours.
        member: 1 + the row of each point's box, 0 for the room itself, `IGNORED` where it is unknown.
        fitted: the boxes.
        kinds: their names.
        use_quality: labels count by their quality.
    """
    boxes = np.array([one.box for one in fitted]).reshape(-1, 7)
    ratio = boxes[:, 3:5].max(1) / boxes[:, 3:5].min(1)
    return DetectionRoom(
        xyz.astype(np.float32),
        np.round(normal * 127).astype(np.int8),
        rgb,
        member.astype(np.int16),
        boxes.astype(np.float32),
        tuple(kinds),
        np.where(ratio < SQUARE, 4, 2).astype(np.int64),
        np.zeros(len(fitted), np.int64),
        np.array([one.quality if use_quality else 1.0 for one in fitted], np.float32),
        np.array([one.open_sides for one in fitted], bool).reshape(-1, 6),
    )


def annotated_photos(
    annotations: Path, folder: Path | None, depth: str, kept: Collection[str]
) -> Iterator[tuple[str, SinglePhoto]]:
    """Photos of an annotation file in COCO's layout, and what to call them. Those without surface, or that cannot be
    read, are left out with a message.

    Args:
        annotations: the file.
        folder: of the photos; None: that of the file.
        depth: name of the model.
        kept: what is not needed again.

    Raises:
        SceneError: the file cannot be read. EncoderError: the model is missing, or not metric.
    """
    model = load_depth_estimator(depth, flag="--depth")
    for annotated in read_coco(annotations, folder=folder):
        name = f"{annotated.id:012d}"
        if name in kept:
            continue
        try:
            yield name, _annotated_photo(annotated, model)
        except SceneError as error:
            print(f"left out: {error}", flush=True)


def _annotated_photo(annotated: AnnotatedPhoto, model: DepthEstimator) -> SinglePhoto:
    header = read_header(annotated.path)
    masks = Image.fromarray(annotated.instance.astype(np.int32))
    if masks.size != (header.width, header.height):
        raise SceneError(
            f"The photo has {header.width} x {header.height} pixels, its annotations {masks.width} x {masks.height}",
            where=annotated.path,
            fix="take the photos that were annotated",
        )
    if turn := EXIF_TURNS.get(header.orientation):
        masks = masks.transpose(turn)
    read = read_rgbd(annotated.path)
    height, width = read.rgb.shape[:2]
    focal = read.focal_px or usual_focal(width, height)
    depth_z, told = model.metric_depth(read.rgb, (focal, focal, width / 2, height / 2))
    focal = read.focal_px or told or focal
    lifted = lift_photo(depth_z, read.rgb, intrinsics=(focal, focal, width / 2, height / 2))
    masks = masks.resize((width, height), Image.Resampling.NEAREST)
    return SinglePhoto(lifted, depth_z, np.asarray(masks).astype(np.int64), annotated.names)


def rendered_photo(photos: RoomPhotos, number: int, depth: str) -> SinglePhoto:
    """One of the photos of `lifted_photos`.

    Raises:
        SceneError: it has too little surface.
    """
    rgb, focal = photos.rgb[number], float(photos.focal[number])
    middle = rgb.shape[0] / 2
    intrinsics = focal, focal, middle, middle
    if depth == EXACT:
        log_depth = photos.log_depth[number].astype(np.float64)
        depth_z = np.exp(log_depth, out=np.zeros_like(log_depth), where=np.isfinite(log_depth))
    else:
        depth_z = _model(depth).metric_depth(rgb, intrinsics)[0].astype(np.float64)
    lifted = lift_photo(depth_z, rgb, intrinsics=intrinsics)
    up = photos.c2w[number, :3, :3].T[:, 2]
    return SinglePhoto(lifted, depth_z, photos.instance[number].astype(np.int64), photos.kinds, up)


def true_boxes(photos: RoomPhotos, number: int, found: LabelledPhoto) -> Float[np.ndarray, "boxes 7"]:
    """The exact boxes of the objects of `found`, in its frame."""
    c2w = photos.c2w[number]
    turn = found.level.as_matrix() @ c2w[:3, :3].T
    true = photos.boxes[list(found.rows)].astype(np.float64).reshape(-1, 7)
    true[:, :3] = (true[:, :3] - c2w[:3, 3]) @ turn.T
    true[:, 6] += np.arctan2(turn[1, 0], turn[0, 0])
    return true


@cache
def _model(name: str) -> DepthEstimator:
    return load_depth_estimator(name, flag="--depth")


@dataclass
class BoxQuality:
    """How good fitted boxes are."""

    masks: int = 0
    iou: list[float] = field(default_factory=list)
    quality: list[float] = field(default_factory=list)

    def add(self, found: LabelledPhoto, true: Float[np.ndarray, "boxes 7"]) -> None:
        """Count a photo."""
        self.masks += found.masks
        if found.rows:
            assert found.room.quality is not None
            self.iou += np.diag(rotated_iou(found.room.boxes.astype(np.float64), true)).tolist()
            self.quality += found.room.quality.tolist()

    def __str__(self) -> str:
        iou, quality = np.array(self.iou), np.array(self.quality)
        better = iou[quality >= np.median(quality)]
        return (
            "| masks | with a box | mean IoU | at least 0.25 | at least 0.5 | mean IoU, better half |\n"
            f"|{' --- |' * 6}\n"
            f"| {self.masks} | {len(iou) / max(self.masks, 1):.0%} | {iou.mean():.3f} | {(iou >= 0.25).mean():.1%} |"
            f" {(iou >= 0.5).mean():.1%} | {better.mean():.3f} |"
        )


@dataclass(frozen=True)
class LiftRooms:
    """Label photos."""

    photos: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="PHOTOS")]
    """A folder of scripts.training.lifted_photos, or a file of annotations in COCO's layout, beside its photos."""
    output: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]
    """Where the rooms go, a file for each photo with a box."""
    folder: Path | None = None
    """The folder of annotated photos; by default that of the file."""
    every: int = 1
    """Of a folder of lifted_photos, only every n-th photo of each room."""
    recipe: tyro.conf.OmitArgPrefixes[LiftRecipe] = field(default_factory=LiftRecipe)

    def main(self) -> None:
        """Label what is missing."""
        annotated = self.photos.suffix == ".json"
        if annotated and ("exact" in (self.recipe.depth, self.recipe.gravity) or self.recipe.boxes == "true"):
            raise ConfigError("Exact depth, gravity and boxes are known of lifted_photos only", where=self.photos)
        if not annotated and not any(self.photos.glob("*.npz")):
            raise SceneError("There are no photos", where=self.photos, fix="make them with lifted_photos")
        recipe, path = asdict(self.recipe), self.output / "recipe.json"
        if path.exists() and read_json(path) != recipe:
            raise ConfigError("The folder has labels by another recipe", where=path, fix="choose another folder")
        write_json(path, recipe)
        if annotated:
            self._annotated()
        else:
            self._rendered()

    def _annotated(self) -> None:
        kept = {path.stem for path in self.output.glob("*.npz")}
        boxes = 0
        for name, photo in annotated_photos(self.photos, self.folder, self.recipe.depth, kept):
            boxes += self._keep(name, label_photo(photo, self.recipe))
        print(f"{boxes} new boxes in {self.output}")

    def _rendered(self) -> None:
        files, measured = sorted(self.photos.glob("*.npz")), BoxQuality()
        for count, path in enumerate(files, start=1):
            photos = read_room_photos(path)
            for number in range(0, len(photos.rgb), self.every):
                name = f"{path.stem}_{number:03d}"
                if (self.output / f"{name}.npz").exists():
                    continue
                try:
                    labelled = label_photo(rendered_photo(photos, number, self.recipe.depth), self.recipe)
                except SceneError:
                    continue
                true = true_boxes(photos, number, labelled)
                measured.add(labelled, true)
                if self.recipe.boxes == "true":
                    exact = replace(labelled.room, boxes=true.astype(np.float32), quality=None, open_sides=None)
                    labelled = replace(labelled, room=exact)
                self._keep(name, labelled)
            print(f"room {count} of {len(files)}", flush=True)
        if measured.iou:
            print(measured)

    def _keep(self, name: str, labelled: LabelledPhoto) -> int:
        if labelled.rows:
            save_detection_room(self.output / f"{name}.npz", labelled.room)
        return len(labelled.rows)


if __name__ == "__main__":
    start(LiftRooms)
