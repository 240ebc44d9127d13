"""What `pose` looks at: a photo, a point cloud, or a run."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ovseg3d.errors import ConfigError, OutputError

if TYPE_CHECKING:
    import numpy as np

    from ovseg3d.cli.flags import Where
    from ovseg3d.export.poses import PosedObject, PosedScene
    from ovseg3d.heads.pose import Box
    from ovseg3d.query.engine import QueryEngine
    from ovseg3d.query.poses import InstancePose
    from ovseg3d.runs.devices import DeviceName
    from ovseg3d.scene import Camera, RgbdPhoto

USUAL_FOCAL = 0.9
"""Focal length of a photo without EXIF, in units of its longer side: 58 degrees, as phones have."""
DRAWN_VIEWS = 3
"""Photos of a run that are drawn."""


@dataclass(frozen=True)
class Posed:
    """Objects with poses, and what should be known of them."""

    scene: "PosedScene"
    notes: tuple[str, ...] = ()
    name: str | None = None
    """Of the run's capture; None: that of the file."""


def parse_boxes(text: str | None) -> "tuple[Box, ...]":
    """The boxes of --box. Raises ConfigError."""
    if text is None:
        return ()
    boxes = []
    for part in filter(str.strip, text.split(";")):
        try:
            x0, y0, x1, y1 = (float(word) for word in part.split(","))
            if not (abs(x0) < x1 < 1e6 and abs(y0) < y1 < 1e6 and x0 >= 0 and y0 >= 0):
                raise ValueError
        except ValueError as error:
            raise ConfigError(
                f"--box must be x0,y0,x1,y1 in pixels with x0 < x1 and y0 < y1, not {part.strip()!r}",
                fix="--box 40,60,210,230",
            ) from error
        boxes.append((x0, y0, x1, y1))
    if not boxes:
        raise ConfigError("--box is empty", fix="--box 40,60,210,230, or leave it out for the whole photo")
    return tuple(boxes)


def in_photo(
    path: Path,
    boxes: "Sequence[Box]",
    label: str | None,
    intrinsics: tuple[float, float, float, float] | None,
    device: "DeviceName",
) -> Posed:
    """The objects of a photo.

    Args:
        path: the file.
        boxes: of the objects, pixels of the upright photo; none for all of it.
        label: what they are.
        intrinsics: of the upright photo.
        device: for the encoder.

    Raises:
        SceneError, ConfigError, EncoderError: the photo or a flag is not usable.
    """
    import numpy as np

    from ovseg3d.export.poses import PosedScene
    from ovseg3d.heads.pose import MIN_FRONT_PROBABILITY, PhotoPoser, square_crop
    from ovseg3d.runs.devices import resolve_device
    from ovseg3d.scene import read_rgbd

    read = read_rgbd(path)
    height, width = read.rgb.shape[:2]
    camera, assumed = _camera_of(read, intrinsics)
    own: list[Box] = [tuple(v * read.scale for v in box) for box in boxes]  # type: ignore[misc]
    for box, given in zip(own, boxes):
        if box[2] > width + 1 or box[3] > height + 1:
            size = f"{width / read.scale:.0f} x {height / read.scale:.0f}"
            raise ConfigError(
                f"The box {','.join(f'{v:g}' for v in given)} is outside the photo of {size} pixels",
                where=path,
                fix="give pixels of the upright photo",
            )
    whole = [(0.0, 0.0, float(width), float(height))]
    poser = PhotoPoser(device=resolve_device(device))
    side = poser.encoder.preprocess.size[0]
    margin = {} if boxes else {"margin": 0.0}
    crops = np.stack([square_crop(read.rgb, box, side, **margin) for box in own or whole])
    objects, notes = [], []
    for number, (box, seen) in enumerate(zip(own or whole, poser.look(crops, [label] * len(crops)))):
        place = f"box {number + 1}" if boxes else "the photo"
        if seen.present < PRESENT:
            notes.append(f"No object is recognised in {place}.")
            continue
        objects.append(_in_photo(seen, camera, box, label, read.scale))
        if objects[-1].front is not None and objects[-1].score <= MIN_FRONT_PROBABILITY:
            notes.append(
                f"No front stands out in {place}: that which is found has a probability of {objects[-1].score:.0%}."
            )
    if assumed and boxes and objects:
        notes.append("The focal length is not known: rotations of objects off the middle are rough; --intrinsics.")
    shown = PosedScene(tuple(objects), "camera", photos=((path.stem, read.rgb, camera),))
    return Posed(shown, tuple(notes))


PRESENT = 0.5
"""Least probability that a crop shows an object."""


def _in_photo(seen: Any, camera: "Camera", box: "Box", label: str | None, scale: float) -> "PosedObject":
    from ovseg3d.export.poses import PosedObject
    from ovseg3d.geometry import Viewpoint
    from ovseg3d.heads.pose import pose_in_camera, turn_to_box

    pose = pose_in_camera(seen, turn_to_box(camera, box))
    return PosedObject(label, pose, bbox=box, view=Viewpoint(*seen.angles, distance=1.0), photos=1, bbox_scale=scale)


def _camera_of(read: "RgbdPhoto", intrinsics: tuple[float, float, float, float] | None) -> "tuple[Camera, bool]":
    """The photo's camera in its own frame, and whether its focal length is only assumed."""
    import numpy as np

    from ovseg3d.scene import Camera

    height, width = read.rgb.shape[:2]
    if intrinsics is not None:
        fx, fy, cx, cy = (value * read.scale for value in intrinsics)
        return Camera(width, height, fx, fy, cx, cy, np.eye(4)), False
    focal = read.focal_px or USUAL_FOCAL * max(width, height)
    return Camera(width, height, focal, focal, width / 2, height / 2, np.eye(4)), read.focal_px is None


def in_cloud(
    path: Path, min_score: float, labels: Sequence[str] | None, up: Any, metres_per_unit: float | None
) -> Posed:
    """The objects of a point cloud.

    Args:
        path: the file.
        min_score: least score of a detection.
        labels: names to choose from.
        up: unit vector, or None to guess.
        metres_per_unit: or None to guess.

    Raises:
        SceneError, ConfigError: the input or a flag is not usable.
    """
    from ovseg3d.cli import detect_inputs
    from ovseg3d.export.poses import PosedObject, PosedScene
    from ovseg3d.heads.detection import Detector, given_names
    from ovseg3d.heads.pose import pose_of_detection

    detector = Detector(min_score=min_score)
    names = None if labels is None else given_names(labels, detector.names)
    seen = detect_inputs.in_cloud(path, detector, names, up, metres_per_unit)
    objects = tuple(
        PosedObject(one.label, pose_of_detection(one), one.center, one.size) for one in seen.found.detections
    )
    notes = seen.found.frame.warnings
    if not objects and not seen.found.frame.is_flat:
        notes += (f"No object is found in the cloud with a score of {min_score:g}; lower --min-score.",)
    return Posed(PosedScene(objects, "input", seen.found.metres_per_unit, seen.found.frame.up, seen.cloud), notes)


def in_run(path: Path, where: "Where", labels: Sequence[str] | None, view: str | None) -> Posed:
    """The instances of a run; their poses are kept in its folder, for exports and answers.

    Args:
        path: the run.
        where: the flags of runs.
        labels: names to choose from.
        view: name of the photo from which angles are stated.

    Raises:
        RunError, ConfigError: the input or a flag is not usable.
    """
    import numpy as np

    from ovseg3d.cli.detect_inputs import load_run
    from ovseg3d.export.poses import PosedScene
    from ovseg3d.query.poses import keep_poses, pose_in_run

    run = load_run(path, where)
    engine = where.engine(run, run.load_scene(where.scene))
    if view is not None:
        view = engine.frame(view).name
    found = pose_in_run(engine, phrases=labels)
    notes: list[str] = []
    try:
        keep_poses(engine, found)
    except OutputError as error:  # the run may be read-only; its poses are told all the same
        notes.append(f"The run does not keep these poses: {error.what} ({error.where}).")
    objects = tuple(_of_instance(one, engine, view) for one in found if one.pose is not None)
    lost = sum(one.pose is None for one in found)
    if lost:
        notes.append(f"{lost} of {len(found)} instances are in no photo and no detection.")
    if not found:
        notes.append("The run has no instances.")
    surface = engine.semantics.surface
    x, y, z = (float(v) for v in surface.up / np.linalg.norm(surface.up))
    photos = _drawn(found, engine, view)
    scene = PosedScene(objects, "input", engine.scene.metres_per_unit, (x, y, z), surface.cloud, photos)
    return Posed(scene, tuple(notes), run.scene_name)


def _of_instance(one: "InstancePose", engine: "QueryEngine", view: str | None) -> "PosedObject":
    import numpy as np

    from ovseg3d.export.poses import PosedObject
    from ovseg3d.geometry import object_pose, viewpoint
    from ovseg3d.instances import fit_box

    assert one.pose is not None
    placed, semantics = one.instance, engine.semantics
    # Also where there is no front, so that centre, size and rotation are those of one box.
    points = semantics.surface.xyz[semantics.instance == placed.id].astype(np.float64)
    box = fit_box(points, semantics.surface.up, rotation_wxyz=one.pose.rotation_wxyz)
    sources = {name: pose for name, pose in (("photo", one.photo), ("cloud", one.cloud)) if pose is not None}
    seen, bbox = None, None
    if view is not None:
        camera = engine.camera(view)
        seen = viewpoint(camera.c2w, object_pose(one.pose.rotation_wxyz, box.center))
        bbox = next((shown.bbox for shown in one.views if shown.view == view), None)
    return PosedObject(
        placed.label, one.pose, box.center, box.size, bbox,
        view=seen, sources=sources, photos=len(one.views), id=placed.id,
    )  # fmt: skip


def _drawn(
    found: "Sequence[InstancePose]", engine: "QueryEngine", view: str | None
) -> "tuple[tuple[str, np.ndarray, Camera], ...]":
    """The photo that was asked for, or those that show most instances best."""
    from collections import Counter

    from ovseg3d.export.drawing import photo_of

    counts = Counter(shown.view for one in found for shown in one.views)
    names = [view] if view is not None else [name for name, _ in counts.most_common(DRAWN_VIEWS)]
    return tuple((engine.view_file(name), photo_of(engine, name), engine.camera(name)) for name in names)
