"""`ovseg3d pose`: which way objects face, in a photo, a point cloud, or a run."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from ovseg3d.cli.flags import Json, Where, WhereFlags, refuse_idle
from ovseg3d.errors import ConfigError

if TYPE_CHECKING:
    from ovseg3d.cli.pose_inputs import Posed
    from ovseg3d.cli.tables import Column


@dataclass(frozen=True)
class Pose:
    """Tell which way objects face: the canonical pose of each, with its probability.

    An object's own frame has z up and its front at -y. A photo is taken as a picture of one object, unless --box says
    where the objects are. In a cloud the detection head finds them. In a run each instance has the pose on which its
    photos and its points agree; each by itself is in the JSON, too. The run keeps its poses: exports and answers then
    have boxes along them. Objects that look the same from several sides have no front, and the table says so. With
    --output: JSON, distributions, and pictures with axes (red: front, blue: up).

    Examples:
      ovseg3d pose chair.jpg --label chair --output poses
      ovseg3d pose desk.jpg --box "40,60,210,230; 300,80,420,260"
      ovseg3d pose room.ply
      ovseg3d pose outputs/playroom/latest --view images/64.jpg --output poses
    """

    input: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="PHOTO|CLOUD|RUN")]
    """A photo, a point cloud (.ply, .pcd, .npy, .npz, .bin, or a mesh), or a run folder."""
    label: str | None = None
    """What the photo, or its boxes, show, such as "chair": helps with objects that are hard to tell."""
    box: str | None = None
    """Boxes of objects in a photo, x0,y0,x1,y1 in its pixels, separated by semicolons; by default the whole photo."""
    intrinsics: str | None = None
    """fx,fy,cx,cy of the photo in pixels; by default from EXIF, or else of a usual lens."""
    classes: str | None = None
    """Names to choose from in a cloud or a run, separated by semicolons, or a file with one per line; by default the
    phrases of the run, or the kinds of objects that the detector was trained on."""
    min_score: float = 0.3
    """Least score of a detection in a cloud, 0 to 1."""
    up: Literal["auto", "x", "y", "z", "-x", "-y", "-z"] = "auto"
    """The axis of a point cloud that points up, such as -y; auto is z, unless the cloud evidently lies another way."""
    scale: float | None = None
    """Metres per unit of a cloud; by default 1, unless it evidently has another unit."""
    view: str | None = None
    """Give azimuth, elevation and theta as seen from this photo of a run, and draw it."""
    output: Path | None = None
    """Folder for poses.json, poses.npz, and pictures."""
    where: WhereFlags = Where()
    json: Json = False

    def main(self) -> None:
        """Find the poses and print a table. Raises ConfigError: a flag is invalid or has no effect."""
        from ovseg3d.cli.console import get_console, print_json, shell_path
        from ovseg3d.cli.tables import print_table
        from ovseg3d.export.poses import describe_poses, save_poses

        self._check()
        console = get_console(self.json)
        with console.status("Finding poses"):
            posed = self._pose()
        for text in posed.notes:
            get_console(True).print(f"Note: {text}", markup=False, soft_wrap=True, style="yellow")
        title = posed.name or self.input.name
        files = [] if self.output is None else save_poses(self.output, posed.scene, title)
        if self.json:
            listed = describe_poses(posed.scene, None if self.output is None else "poses.npz")
            print_json({"input": self.input, **listed, "notes": posed.notes, "files": files})
            return
        if posed.scene.objects:
            print_table(console, _columns(posed))
        count = len(posed.scene.objects)
        console.print(f"{count} object{'s' if count != 1 else ''} with a pose.", markup=False)
        for path in files:
            console.print(f"  {shell_path(path)}", markup=False, soft_wrap=True)

    @property
    def _kind(self) -> Literal["photo", "cloud", "run"]:
        from ovseg3d.scene.clouds import SUFFIXES
        from ovseg3d.scene.images import PHOTO_SUFFIXES

        if self.input.is_dir():
            return "run"
        suffix = self.input.suffix.lower()
        return "photo" if suffix in PHOTO_SUFFIXES else "cloud" if suffix in SUFFIXES else "run"

    def _check(self) -> None:
        """Raises ConfigError."""
        if not 0 <= self.min_score <= 1:
            raise ConfigError(f"--min-score must be from 0 to 1, not {self.min_score:g}", fix="--min-score 0.3")
        if self.scale is not None and not 1e-6 <= self.scale <= 1e6:
            raise ConfigError(
                f"--scale must be from 1e-6 to 1e6, not {self.scale:g}", fix="--scale 0.01 for centimetres"
            )
        if self.label is not None and not self.label.strip():
            raise ConfigError("--label is empty", fix="--label chair, or leave it out")
        photo, cloud, run = (self._kind == name for name in ("photo", "cloud", "run"))
        refuse_idle(
            self, ("label", photo, "with a photo"), ("box", photo, "with a photo"),
            ("intrinsics", photo, "with a photo"), ("classes", not photo, "with a cloud or a run"),
            ("min_score", cloud, "with a cloud"), ("up", cloud, "with a cloud"), ("scale", cloud, "with a cloud"),
            ("view", run, "with a run"), ("scene", run, "with a run"), ("clip", run, "with a run"),
            ("layout", run, "with a run"),
            ("device", not cloud, "with a photo or a run"), ("backend", run, "with a run"),
            ("allow_outside", run, "with a run"), ("max_megapixels", run, "with a run"),
        )  # fmt: skip

    def _pose(self) -> "Posed":
        from ovseg3d.cli import pose_inputs
        from ovseg3d.cli.detect import UP
        from ovseg3d.cli.detect_inputs import parse_intrinsics
        from ovseg3d.runs.phrases import read_list

        if self._kind == "photo":
            boxes = pose_inputs.parse_boxes(self.box)
            return pose_inputs.in_photo(
                self.input, boxes, self.label, parse_intrinsics(self.intrinsics), self.where.device
            )
        labels = None if self.classes is None else read_list(self.classes, "--classes")
        if self._kind == "cloud":
            return pose_inputs.in_cloud(self.input, self.min_score, labels, UP.get(self.up), self.scale)
        return pose_inputs.in_run(self.input, self.where, labels, self.view)


def _columns(posed: "Posed") -> list["Column"]:
    from math import degrees

    from ovseg3d.cli.tables import Column, triples
    from ovseg3d.export.poses import WAYS
    from ovseg3d.scene import unit_name

    objects = posed.scene.objects
    columns = [Column("name", [one.label or "object" for one in objects], "left")]
    if any(one.id is not None for one in objects):
        columns.append(Column("id", ["" if one.id is None else str(one.id) for one in objects]))
    columns.append(Column("score", [f"{one.score:.2f}" for one in objects]))
    places = [one.center for one in objects if one.center is not None]
    if len(places) == len(objects):
        unit = unit_name(posed.scene.metres_per_unit)
        columns.append(Column(f"centre, {unit}", triples(", ", places), spare=3))
    if any(one.view is not None for one in objects):
        angles: dict[str, list[str]] = {"azimuth": [], "elevation": [], "theta": []}
        for one in objects:
            seen = one.view
            known = (None,) * 3 if seen is None else (seen.azimuth_rad, seen.elevation_rad, seen.theta_rad)
            for cells, angle in zip(angles.values(), known):
                cells.append("" if angle is None else f"{round(degrees(angle))}°")
            if seen is not None and one.pose.symmetry_order == 0:
                angles["azimuth"][-1] = "-"
        columns += [Column(name, cells, spare=1) for name, cells in angles.items()]
    fronts = [
        WAYS[one.pose.symmetry_order] if one.front is None else _towards(one.front, posed.scene.frame)
        for one in objects
    ]
    columns.append(Column("faces", fronts, "left"))
    columns.append(Column("source", [one.pose.source for one in objects], "left", spare=2))
    return columns


def _towards(front: tuple[float, float, float], frame: str) -> str:
    """A front in words: the frame's axes within 67.5 degrees of it, or directions in a lone photo."""
    names = {"x": ("right", "left"), "y": ("down", "up"), "z": ("away", "towards the camera")}
    near = [(value > 0, axis) for value, axis in zip(front, "xyz") if abs(value) > 0.38]
    if frame == "camera":
        return " and ".join(names[axis][not ahead] for ahead, axis in near)
    return " ".join(f"{'+' if ahead else '-'}{axis}" for ahead, axis in near)
