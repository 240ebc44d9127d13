"""Plausibility checks of a capture that can be read: `check_scene`.

Most errors in poses leave plausible numbers but prevent training: wrong camera axes, world-to-camera for
camera-to-world, a frame listed under two names. Geometry reveals them: where the cameras look, which way is up, on
which side the sparse points lie. Each result is a `Finding` with a proposed fix.
"""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from ovseg3d.errors import SceneError
from ovseg3d.limits import check_regular, open_regular
from ovseg3d.scene.cameras import Camera
from ovseg3d.scene.capture import Finding, Frame, Scene
from ovseg3d.scene.images import load_mask
from ovseg3d.scene.prepare.photos import read_photo
from ovseg3d.scene.prepare.selection import BLURRED, FEW, relative_sharpness
from ovseg3d.scene.readers.raw import shorten
from ovseg3d.scene.sizes import stated_size

_FLIP = "multiply the 2nd and 3rd column of each rotation by -1: the file wants OpenGL cameras (y up, z backward)"
# Words in the readers' notes that make a note a warning.
_DOUBTFUL = (
    "more than once", "have no photo", "times as large", "are missing", "match no frame", "no readable", "cannot be",
)  # fmt: skip
# Of larger photos only this many bytes are compared.
_HASHED_BYTES = 64 * 2**20
MAX_MEASURED = 300
"""Most photos of a capture whose sharpness is measured; it takes some ten milliseconds each."""
_USUAL_FOCAL_LENGTHS = (0.2, 10.0)
"""As shares of the image's width."""
_USUAL_DEPTH_UNITS = (1e-5, 10.0)


def check_scene(scene: Scene) -> list[Finding]:
    """Findings about a capture before training, the worst first.

    Reads the headers of label images and at most 100 masks; compares photos by size and hash, and up to `MAX_MEASURED`
    by sharpness.
    """
    findings = [
        Finding("warning" if any(words in note for words in _DOUBTFUL) else "note", note + ".") for note in scene.notes
    ]
    findings += _directions(scene)
    findings += _lenses(scene)
    findings += _doubles(scene)
    findings += _companions(scene)
    findings += _blurred(scene)
    if len(scene.train) < 10:
        count = len(scene.train)
        what = f"There are only {count} photos to train on." if count != 1 else "There is only one photo to train on."
        findings.append(Finding("warning", what, fix="take more photos; 20 to 200 are usual"))
    order = {"error": 0, "warning": 1, "note": 2}
    return sorted(_grouped(findings), key=lambda finding: order[finding.level])


def _grouped(findings: Sequence[Finding]) -> list[Finding]:
    """Findings that differ in their place only, as one each."""
    groups: dict[Finding, list[str]] = defaultdict(list)
    for finding in findings:
        groups[replace(finding, where=None)] += [] if finding.where is None else [finding.where]
    return [replace(finding, where=shorten(places) if places else None) for finding, places in groups.items()]


def as_finding(error: SceneError) -> Finding:
    """An error that prevents training, as a finding."""
    return Finding("error", error.what + ".", None if error.where is None else str(error.where), error.fix)


def common_focus(scene: Scene) -> Float[np.ndarray, "3"] | None:
    """The point of the input frame closest to all optical axes; None if they are almost parallel."""
    positions, forwards = _axes(scene.frames)
    across = np.eye(3) - forwards[:, :, None] * forwards[:, None, :]
    total = across.mean(axis=0)
    if np.linalg.eigvalsh(total)[0] < 0.003:  # axes within about 4 degrees of each other
        return None
    return np.linalg.solve(total, np.einsum("vij,vj->i", across, positions) / len(positions))


def _axes(frames: Sequence[Frame]) -> tuple[np.ndarray, np.ndarray]:
    positions = np.stack([frame.camera.position for frame in frames])
    return positions, np.stack([frame.camera.forward for frame in frames])


def _directions(scene: Scene) -> list[Finding]:
    """Axes and conventions, checked by the common focus, up and the sparse points."""
    positions, forwards = _axes(scene.frames)
    findings = []
    z_up = scene.format in ("nerfstudio", "instant-ngp", "blender")
    # Only if nearly all cameras are upside down is it a convention.
    ups = np.array([frame.camera.up[2] for frame in scene.frames])
    inverted = z_up and (ups < -0.2).mean() > 0.8
    focus = common_focus(scene)
    away = False
    if focus is not None and len(positions) >= 4:
        ahead = np.einsum("vi,vi->v", focus - positions, forwards)
        away = (ahead < 0).mean() > 0.8
    seen = _points_ahead(scene)
    if inverted and (away or (seen is not None and seen < 0.3)):
        proof = "away from their common focus" if away else "away from the sparse points"
        findings.append(
            Finding(
                "warning",
                f"The cameras are upside down and look {proof}: these seem to be OpenCV poses (y down, "
                "z forward) in a file for OpenGL ones.",
                fix=_FLIP,
            )
        )
    elif seen is not None and seen < 0.3:
        findings.append(
            Finding(
                "warning",
                f"Only {seen:.0%} of the sparse points lie in front of the cameras: poses and points disagree, "
                "or the poses are in the wrong convention.",
                fix=_FLIP if z_up else "solve the poses again, with the points that belong to them",
            )
        )
    elif away:
        findings.append(
            Finding(
                "warning",
                "The cameras look away from each other and from their common focus. That is right for somebody "
                "who turned on the spot; where all should see one object, the poses are in the wrong convention.",
                fix=_FLIP if z_up else "check that the poses are camera-to-world",
            )
        )
    elif inverted:
        findings.append(
            Finding(
                "warning",
                "Nearly all photos are upside down with respect to +z.",
                fix="check the poses' convention, or turn the world so that +z is up",
            )
        )
    findings += _movement(positions, forwards)
    return findings


def _movement(positions: np.ndarray, forwards: np.ndarray) -> list[Finding]:
    """Cameras that rotate but do not move show no depth; world-to-camera poses of an orbit look like that."""
    spread = np.linalg.norm(positions - positions.mean(axis=0), axis=1).max()
    size = max(np.linalg.norm(positions, axis=1).max(), 1e-9)
    turned = np.degrees(np.arccos(np.clip((forwards @ forwards[0]).min(), -1, 1)))
    if spread > 0.01 * size and spread > 1e-9:
        return []
    return [
        Finding(
            "warning",
            f"The cameras hardly move (at most {spread:.3g} units) while they turn by up to {turned:.0f} degrees.",
            fix="without movement there is no depth; if the poses are world-to-camera, invert them",
        )
    ]


def _lenses(scene: Scene) -> list[Finding]:
    """Unusual lenses, and distortion that folds back within the image."""
    findings = []
    low, high = _USUAL_FOCAL_LENGTHS
    odd = [f for f in scene.frames if not low <= f.camera.fx / f.camera.width <= high]
    if odd:
        what = f"The focal length of {len(odd)} frames is odd: {odd[0].camera.fx:g} pixels where the image is "
        what += f"{odd[0].camera.width} wide."
        fix = f"usual are {low:g} to {high:g} times the width: correct fl_x, or w and h"
        findings.append(Finding("warning", what, shorten([frame.name for frame in odd]), fix))
    odd = [f for f in scene.frames if max(map(abs, _off_centre(f.camera))) > 0.25]
    if odd:
        across, down = (f"{share:.0%}" for share in _off_centre(odd[0].camera))
        what = f"The optical axis of {len(odd)} frames is far from the image's middle, by {across} of its width "
        what += f"and {down} of its height."
        fix = "correct cx and cy, unless the photos were cropped"
        findings.append(Finding("warning", what, shorten([frame.name for frame in odd]), fix))
    if small := [f.name for f in scene.frames if min(f.camera.width, f.camera.height) < 8]:
        what = f"{len(small)} photos are less than 8 pixels wide or high."
        findings.append(Finding("warning", what, shorten(small), "give a smaller --downscale"))
    low, high = _USUAL_DEPTH_UNITS
    if not low <= scene.depth_unit <= high and any(frame.depth_path for frame in scene.frames):
        what = f"The unit of the depth files is odd: a value of 1 is {scene.depth_unit:g} input units."
        findings.append(Finding("warning", what, None, "correct depth_unit_scale_factor; 0.001 is usual"))
    with np.errstate(all="ignore"):
        folded = [frame.name for frame in scene.frames if not frame.camera.reaches(_border(frame.camera)).all()]
    if folded:
        what = f"The lens distortion of {len(folded)} frames folds back before the image's edge, "
        what += "where rays are meaningless."
        fix = "calibrate again, or crop or undistort the photos"
        findings.append(Finding("warning", what, shorten(folded), fix))
    return findings


def _off_centre(camera: Camera) -> tuple[float, float]:
    """Offset of the optical axis from the image's middle, as shares of its width and height."""
    return camera.cx / camera.width - 0.5, camera.cy / camera.height - 0.5


def _border(camera: Camera) -> Float[np.ndarray, "points 2"]:
    """Positions along the image's edge."""
    along = np.linspace(0.0, 1.0, 9)
    sides = [np.stack([along, np.full(9, end)], axis=-1) for end in (0.0, 1.0)]
    return np.concatenate([*sides, *(side[:, ::-1] for side in sides)]) * [camera.width, camera.height]


def _points_ahead(scene: Scene) -> float | None:
    """Share of sparse points, over all cameras, with positive z-depth; None without enough points."""
    if scene.points is None or len(scene.points) < 50:
        return None
    some = scene.points[:: max(1, len(scene.points) // 500)]
    positions, forwards = _axes(scene.frames)
    depth = some @ forwards.T - np.einsum("vi,vi->v", positions, forwards)
    return float((depth > 0).mean())


def _doubles(scene: Scene) -> list[Finding]:
    """Frames with the same pose, and photos with the same content."""
    findings = []
    scale = max(1e-9, float(np.ptp(_axes(scene.frames)[0], axis=0).max()))
    by_pose: dict[bytes, list[str]] = defaultdict(list)
    for frame in scene.frames:
        pose = frame.camera.c2w.copy()
        pose[:3, 3] /= scale
        by_pose[(np.rint(pose * 1e5) + 0.0).tobytes()].append(frame.name)
    same = [names for names in by_pose.values() if len(names) > 1]
    if same:
        where = "; ".join(shorten(names) for names in same[:3])
        what = f"{sum(map(len, same))} frames share a pose with another one."
        findings.append(Finding("warning", what, where, "photos of one place add nothing: keep one of each"))
    by_bytes: dict[tuple[int, str], list[str]] = defaultdict(list)
    by_size: dict[int, list[Frame]] = defaultdict(list)
    for frame in scene.frames:
        by_size[check_regular(frame.image_path, what="photo")].append(frame)
    for size, frames in by_size.items():
        for frame in frames if len(frames) > 1 else ():
            with open_regular(frame.image_path, what="photo") as file:
                digest = hashlib.sha256(file.read(_HASHED_BYTES)).hexdigest()
            by_bytes[(size, digest)].append(frame.name)
    same = [names for names in by_bytes.values() if len(names) > 1]
    if same:
        where = "; ".join(shorten(names) for names in same[:3])
        what = f"{sum(map(len, same))} photos have the same content as another one."
        findings.append(Finding("warning", what, where, "one photo at two poses misleads: remove the copies"))
    return findings


def _companions(scene: Scene) -> list[Finding]:
    """Masks that hide every pixel, and label images of another shape."""
    findings = []
    masked = [frame for frame in scene.frames if frame.mask_path is not None]
    for frame in masked[:: max(1, len(masked) // 100)]:
        try:
            load_mask(frame)
        except SceneError as error:
            findings.append(as_finding(error))
    for frame in scene.frames:
        if frame.label_path is None or frame.label_path.is_dir():
            continue
        try:
            (width, height), _ = stated_size(frame.label_path, "label image")
        except SceneError as error:
            findings.append(Finding("warning", error.what + ".", str(error.where), error.fix))
            continue
        expected = frame.camera.width / frame.camera.height
        rounding = 0.5 / frame.camera.width + 0.5 / frame.camera.height
        if abs(width / height / expected - 1) > 0.02 + rounding:
            what = f"The labels have another shape ({width}x{height}) than the photo."
            findings.append(Finding("warning", what, str(frame.label_path), "write labels at the photo's size"))
    return findings


def _blurred(scene: Scene) -> list[Finding]:
    """Photos that are far less sharp than their neighbours by name; none of synthetic captures, and of short ones."""
    if scene.exact or scene.has_alpha or not FEW < len(scene.frames) <= MAX_MEASURED:
        return []
    try:
        sharpness = np.array([read_photo(frame.image_path).measure.sharpness for frame in scene.frames])
    except (OSError, ValueError, SyntaxError):  # Pillow raises all three for broken files, which others report
        return []
    names = [scene.frames[i].name for i in np.flatnonzero(relative_sharpness(sharpness) < BLURRED)]
    if not names:
        return []
    what = f"{len(names)} of {len(scene.frames)} photos: much less sharp than their neighbours."
    return [Finding("note", what, shorten(names), "remove them if others show the same")]
