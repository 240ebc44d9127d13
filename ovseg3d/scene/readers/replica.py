"""Reader for Replica as NICE-SLAM renders it: `traj.txt`, `results/frame*.jpg` and `results/depth*.png`.

Row i of traj.txt is the 4x4 camera-to-world matrix (OpenCV axes, metres, z up) of the photo with the number i.
`cam_params.json`, in the scene's folder or the one above, has {"camera": {w, h, fx, fy, cx, cy, scale}}: pixel centres
are whole numbers there, and depth values divided by `scale` are metres.
"""

import re
from pathlib import Path

import numpy as np

from ovseg3d.errors import SceneError
from ovseg3d.files import read_json
from ovseg3d.limits import DEPTH_UNITS, MAX_FRAMES, MAX_SIDE, NO_TRUST, Trust, check_number, inside, read_text
from ovseg3d.scene.readers.raw import Incomplete, Lens, RawCapture, RawFrame


def read_replica(folder: Path, trust: Trust = NO_TRUST) -> RawCapture:
    """Read a scene of Replica.

    Raises:
        Incomplete: there is no traj.txt or no results/.
        SceneError: the poses are broken or too few, or the camera is missing or impossible.
    """
    for name in ("traj.txt", "results"):
        if not (folder / name).exists():
            raise Incomplete(f"{name} is missing")
    path = inside(folder, "traj.txt", trust=trust)
    poses = _poses(path)
    lens, depth_unit = _camera(folder, trust)
    photos = _photos(inside(folder, "results", trust=trust))
    if not photos or max(photos) >= len(poses):
        raise SceneError(
            f"There are {len(poses)} poses, but {_counted(photos)}",
            where=path,
            fix="row i of traj.txt is the pose of results/frame<i>.jpg, counted from 0",
        )
    frames = [
        RawFrame(
            name=f"results/{photo.name}",
            photo=photo,
            c2w=poses[number],
            lens=lens,
            file=path,
            depth=photo.with_name(photo.stem.replace("frame", "depth") + ".png"),
        )
        for number, photo in sorted(photos.items())
    ]
    return RawCapture(folder, "replica", frames, z_up=True, depth_unit=depth_unit, metric=True)


def _poses(path: Path) -> np.ndarray:
    """The matrices of traj.txt, (n, 4, 4); finite or not is checked later."""
    rows = [line.split() for line in read_text(path, what="table of poses").splitlines() if line.strip()]
    try:
        if not 0 < len(rows) <= MAX_FRAMES or any(len(row) != 16 for row in rows):
            raise ValueError(f"{len(rows)} rows, each should have 16 numbers")
        return np.array([[float(value) for value in row] for row in rows]).reshape(-1, 4, 4)
    except ValueError as error:
        raise SceneError(
            f"The poses cannot be read: {error}",
            where=path,
            fix=f"one row of 16 numbers for each photo, at most {MAX_FRAMES}",
        ) from error


def _camera(folder: Path, trust: Trust) -> tuple[Lens, float]:
    """The lens, and metres for one step of the depth files."""
    own = folder / "cam_params.json"
    home = folder if own.exists() else Path(folder).resolve().parent
    path = inside(home, "cam_params.json", trust=trust)
    if not path.exists():
        raise SceneError(
            "The camera of this Replica scene is not known",
            where=own,
            fix="copy cam_params.json of the data set into the scene's folder",
        )
    camera = read_json(path).get("camera")
    if not isinstance(camera, dict):
        raise SceneError("There is no 'camera' in this file", where=path, fix="copy it from the data set again")
    width, height = (int(check_number(camera.get(side), side, path, 1, MAX_SIDE)) for side in "wh")
    fx, fy, cx, cy = (check_number(camera.get(key), key, path) for key in ("fx", "fy", "cx", "cy"))
    low, high = (1 / unit for unit in reversed(DEPTH_UNITS))
    scale = check_number(camera.get("scale"), "scale", path, low, high)
    return Lens((width, height), fx, fy, cx + 0.5, cy + 0.5), 1 / scale


def _photos(folder: Path) -> dict[int, Path]:
    """The photos by number."""
    found = {}
    for path in folder.iterdir() if folder.is_dir() else ():
        if match := re.fullmatch(r"frame(\d{1,9})\.(jpg|png)", path.name):
            found[int(match[1])] = path
    return found


def _counted(photos: dict[int, Path]) -> str:
    return f"photos up to number {max(photos)}" if photos else "no photo results/frame*.jpg"
