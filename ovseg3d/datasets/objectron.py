"""Objectron (Ahmadyan et al., CVPR 2021): videos of a phone that goes around objects of 9 categories, with their boxes.

    index/<category>_annotations_{train,test}          videos, one a line: chair/batch-1/30
    annotations/<category>/batch-<i>/<j>.pbdata        a message `Sequence` of its annotation_data.proto
    videos/<category>/batch-<i>/<j>/<frame>.jpg        its frames from 0: ffmpeg -i video.MOV -start_number 0 %d.jpg

These are the names of its public bucket, where a video is one file `video.MOV`. Of a sequence are read: each object's
rotation, translation and scale (a box in the world, metres), and each frame's camera (size, projection and view matrix)
and list of objects with their visibility. Keypoints say the same in other words. The sensor lies on its side in a phone
that is held upright: axes of the camera, width and height belong to the lying sensor; photos and answers are upright.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float

from ovseg3d.datasets.imagenet3d import read_lines
from ovseg3d.datasets.posed_objects import PosedObject, category_of
from ovseg3d.datasets.protobuf import Message, encoded
from ovseg3d.datasets.sunrgbd import copy_photo
from ovseg3d.errors import PoseError, SceneError
from ovseg3d.files import write_together
from ovseg3d.geometry import convert_pose, pose_of_viewpoint, viewpoint
from ovseg3d.limits import MAX_LENGTH, MAX_SIDE, read_bytes

MAX_BYTES = 8 * 2**20
"""Of an annotation; 600 frames with three objects take about 1 MB."""
VISIBLE = 0.1
"""Visibility above which the released evaluation counts an object, if its centre is in the photo."""
CORNERS = np.array([[0, 0, 0], *([x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5))])
"""Middle and corners of a box of size 1, in Objectron's order."""
NEAR, FAR = 0.01, 1000.0
"""Of the projection matrices that are written."""


@dataclass(frozen=True)
class _Camera:
    """Of a frame; `size` is that of the upright photo."""

    size: tuple[int, int]
    projection: Float[np.ndarray, "4 4"]
    view: Float[np.ndarray, "4 4"]

    @property
    def focal_px(self) -> float:
        return float(self.projection[1, 1]) * self.size[0] / 2

    def project(self, xyz: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 2"]:
        """Pixels of the upright photo, of points in the camera's axes: its x points down there, and its y right."""
        clip = np.c_[xyz, np.ones(len(xyz))] @ self.projection.T
        return (1 + clip[:, [1, 0]] / clip[:, 3:]) / 2 * self.size


def read_objectron(
    folder: Path, category: str, split: Literal["train", "test"] = "test", *, visible: bool = True
) -> Iterator[PosedObject]:
    """Objects of the videos of one category, frame by frame; distances and sizes are metres.

    Args:
        folder: of the data set.
        category: such as cereal_box.
        split: of the videos.
        visible: leave out what the released evaluation does: visibility up to 0.1, or the centre outside the photo.
            Objects behind the camera are left out in any case.

    Raises:
        SceneError: a file is missing, damaged or not in this layout.
    """
    for video in read_lines(folder / "index" / f"{category_of(category, folder)}_annotations_{split}"):
        parts = [category_of(part, folder) for part in video.split("/")]
        path = folder.joinpath("annotations", *parts[:-1], f"{parts[-1]}.pbdata")
        data = read_bytes(path, SceneError, "annotation", MAX_BYTES)
        try:
            yield from _read_video(Message(data), folder.joinpath("videos", *parts), video, category, visible)
        except (ValueError, PoseError) as cause:
            raise SceneError("The annotation cannot be read", where=path, fix="fetch it again") from cause


def write_objectron(folder: Path, objects: Iterable[PosedObject], split: Literal["train", "test"] = "test") -> None:
    """Write objects and their photos in Objectron's layout, all or none. Photos are copied.

    Every frame has objects of its own, seen from the origin, with the principal point in the middle. `bbox`, status and
    the like are not kept: a box in the photo is that of the box in the world.

    Raises:
        SceneError: a name is not CATEGORY/batch-I/J/FRAME, an object has no `box_size`, distance or focal length, or a
            photo is missing.
        OutputError: the folder is not writable, or the like.
    """
    videos: dict[str, dict[int, list[PosedObject]]] = {}
    for one in objects:
        video, _, frame = one.name.rpartition("/")
        if video.count("/") != 2 or frame != str(int(frame) if frame.isdecimal() else None):
            raise SceneError(f"The name {one.name!r} is not CATEGORY/batch-I/J/FRAME", fix="rename the photo")
        if one.box_size is None or one.viewpoint.distance <= 0 or one.focal_px <= 0:
            raise SceneError("An object has no box, distance or focal length", where=one.key, fix="leave it out")
        videos.setdefault(video, {}).setdefault(int(frame), []).append(one)
    with write_together(folder, None) as staging:
        for video, frames in videos.items():
            parts = [category_of(part, Path(video)) for part in video.split("/")]
            path, photos = staging.joinpath("annotations", *parts), staging.joinpath("videos", *parts)
            path.parent.mkdir(parents=True, exist_ok=True)
            photos.mkdir(parents=True)
            for frame, own in frames.items():
                copy_photo(own[0].photo, photos / f"{frame}.jpg")
            path.with_name(f"{parts[-1]}.pbdata").write_bytes(_sequence(frames))
        (staging / "index").mkdir()
        for category in sorted({video.split("/")[0] for video in videos}):
            text = "".join(f"{video}\n" for video in videos if video.startswith(f"{category}/"))
            (staging / "index" / f"{category}_annotations_{split}").write_text(text, encoding="utf-8")


def _read_video(sequence: Message, photos: Path, video: str, category: str, visible: bool) -> Iterator[PosedObject]:
    """Objects of a `Sequence`. Raises ValueError, PoseError."""
    boxes = {one.integer(1): _box_of(one) for one in sequence.messages(1)}
    for frame in sequence.messages(2):
        found = frame.messages(2)
        if not found:
            continue
        camera, frame_id = _camera_of(frame.messages(3)), frame.integer(1)
        for number, annotation in enumerate(found):
            if (identity := annotation.integer(1)) not in boxes:
                raise ValueError("an annotation of no object")
            pose, scale = boxes[identity]
            seen = camera.view @ pose
            points = CORNERS * scale @ seen[:3, :3].T + seen[:3, 3]
            if points[0, 2] >= 0:
                continue
            pixels = camera.project(points[points[:, 2] < 0])
            if not np.isfinite(pixels).all():
                raise ValueError("a projection that is not finite")
            shown = bool(((pixels[0] > 0) & (pixels[0] < camera.size)).all())
            if visible and not (shown and annotation.floats(3)[-1:].sum() > VISIBLE):
                continue
            low, high = np.clip([pixels.min(0), pixels.max(0)], 0, camera.size).tolist()
            yield PosedObject(
                photo=photos / f"{frame_id}.jpg",
                name=f"{video}/{frame_id}",
                number=number,
                category=category,
                viewpoint=viewpoint(np.eye(4), convert_pose(seen, "objectron")),
                center_px=(float(pixels[0, 0]), float(pixels[0, 1])),
                bbox=(*low, *high),
                focal_px=camera.focal_px,
                size=camera.size,
                box_size=(float(scale[0]), float(scale[2]), float(scale[1])),
            )


def _box_of(one: Message) -> tuple[Float[np.ndarray, "4 4"], Float[np.ndarray, "3"]]:
    """The pose of an `Object` in the world, and the lengths of its box. Raises ValueError."""
    pose, scale = np.eye(4), _row(one, 6, 3)
    pose[:3, :3], pose[:3, 3] = _row(one, 4, 9).reshape(3, 3), _row(one, 5, 3)
    if (scale <= 0).any():
        raise ValueError("a box without size")
    return pose, scale


def _camera_of(cameras: list[Message]) -> _Camera:
    """The last `ARCamera`. Raises ValueError."""
    if not cameras:
        raise ValueError("a frame without a camera")
    one = cameras[-1]
    size = one.integer(6), one.integer(5)
    if not all(0 < side <= MAX_SIDE for side in size):
        raise ValueError("a photo without size")
    camera = _Camera(size, _row(one, 8, 16).reshape(4, 4), _row(one, 9, 16).reshape(4, 4))
    if camera.focal_px <= 0:
        raise ValueError("a camera without focal length")
    return camera


def _row(one: Message, number: int, count: int) -> Float[np.ndarray, " count"]:
    row = one.floats(number)
    if len(row) != count or not (np.abs(row) <= MAX_LENGTH).all():
        raise ValueError(f"no row of {count} numbers")
    return row


def _sequence(frames: dict[int, list[PosedObject]]) -> bytes:
    """The message of a video."""
    objects, annotated, identity = [], [], 0
    for frame, own in sorted(frames.items()):
        annotations, camera = [], _camera_for(own[0])
        for one in sorted(own, key=lambda one: one.number):
            (width, height), (x, y), lengths = one.size, one.center_px, one.box_size or (0.0, 0.0, 0.0)
            ray = (x - width / 2) / one.focal_px, (y - height / 2) / one.focal_px, 1.0
            pose = convert_pose(pose_of_viewpoint(np.eye(4), one.viewpoint, ray), "opencv", "objectron")
            scale = np.array([lengths[0], lengths[2], lengths[1]])
            identity += 1
            box = (4, pose[:3, :3].ravel()), (5, pose[:3, 3]), (6, scale)
            objects.append((1, encoded((1, identity), (2, one.category), (3, 1), *box)))
            points = CORNERS * scale @ pose[:3, :3].T + pose[:3, 3]
            keypoints = [
                (2, encoded((1, k), (2, _triple(point)), (3, _triple([*pixel, -point[2]]))))
                for k, (point, pixel) in enumerate(zip(points, camera.project(points) / camera.size))
            ]
            annotations.append((2, encoded((1, identity), *keypoints, (3, 1.0))))
        image = (5, camera.size[1]), (6, camera.size[0])
        matrices = (3, np.eye(4).ravel()), *image, (8, camera.projection.ravel()), (9, camera.view.ravel())
        annotated.append((2, encoded((1, frame), *annotations, (3, encoded(*matrices)))))
    return encoded(*objects, *annotated)


def _camera_for(one: PosedObject) -> _Camera:
    """The camera of an object's photo, with the principal point in the middle."""
    width, height = one.size
    depth = -(FAR + NEAR) / (FAR - NEAR), -2 * FAR * NEAR / (FAR - NEAR)
    projection = np.zeros((4, 4))
    projection[0, 0], projection[1, 1] = 2 * one.focal_px / height, 2 * one.focal_px / width
    projection[2, 2:], projection[3, 2] = depth, -1
    return _Camera(one.size, projection, np.eye(4))


def _triple(values: Iterable[float]) -> bytes:
    return encoded(*enumerate(map(float, values), start=1))
