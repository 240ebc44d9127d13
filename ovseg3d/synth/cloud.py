"""The exact surface of a synthetic scene as points, rebuilt from its synth.json.

Points are area-weighted samples of the rendered triangles, in the scene's frame (metres, z up), each with its class
label (as in transforms.json), instance id (as in objects.json, 0 = the room itself), normal and plain colour. `seen`
is the number of training photos that see a point.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, UInt8

from ovseg3d.errors import SceneError
from ovseg3d.files import read_json
from ovseg3d.scene.cameras import Camera
from ovseg3d.synth.cameras import OPENGL_FROM_OPENCV
from ovseg3d.synth.make import make_room
from ovseg3d.synth.render import Tracer
from ovseg3d.synth.rooms import Room
from ovseg3d.synth.world import Flat, flatten, trace


@dataclass(frozen=True)
class SurfaceCloud:
    """Sampled surface. `classes[label - 1]` names a label; `seen` is None unless it was asked for."""

    xyz: Float[np.ndarray, "points 3"]
    normal: Float[np.ndarray, "points 3"]
    rgb: UInt8[np.ndarray, "points 3"]
    label: Int[np.ndarray, "points"]
    instance: Int[np.ndarray, "points"]
    classes: tuple[str, ...]
    seen: Int[np.ndarray, "points"] | None = None


def surface_cloud(source: Path | str, *, points: int = 200_000, seed: int = 0, seen: bool = False) -> SurfaceCloud:
    """Samples the surface of the scene folder (or synth.json) `source`.

    Args:
        source: a folder that `ovseg3d synth` wrote, or the synth.json in it.
        points: how many samples, spread by area.
        seed: of the sampling; the scene's own seed is in synth.json.
        seen: also count the training photos that see each point (rays; seconds).

    Raises SceneError when there is no usable synth.json, ConfigError for a room that this version lacks.
    """
    source = Path(source)
    flat, room = _room(source)
    tracer = trace(flat, room)
    cloud = sample_surface(flat, tracer, points, seed)
    if not seen:
        return cloud
    t = read_json((source if source.is_dir() else source.parent) / "transforms.json")
    by_name = {f["file_path"]: np.array(f["transform_matrix"]) @ OPENGL_FROM_OPENCV for f in t["frames"]}
    c2ws = [by_name[name] for name in t["train_filenames"]]
    count = tracer.seen_by(cloud.xyz, c2ws, t["w"], t["h"], t["fl_x"]).astype(np.int64)
    return replace(cloud, seen=count)


def sample_surface(flat: Flat, tracer: Tracer, points: int, seed: int = 0) -> SurfaceCloud:
    """Area-weighted samples of a flattened room; `seen` is not counted.

    Args:
        flat: the room.
        tracer: of the same room, for its colours.
        points: how many samples.
        seed: of the sampling.
    """
    corners = np.concatenate([p.soup.points for p in flat.parts])
    normals = np.concatenate([p.soup.normals for p in flat.parts])
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    rng = np.random.default_rng([seed, 99])
    # One stratified draw along the summed areas: every face gets its share, to within one point.
    place = (np.arange(points) + rng.random(points)) / points * area.sum()
    face = np.searchsorted(np.cumsum(area), place).clip(max=len(area) - 1)
    root, b = np.sqrt(rng.random(points)), rng.random(points)
    bary = np.stack([1 - root, root * (1 - b), root * b], 1)
    xyz = np.einsum("pk,pkj->pj", bary, corners[face])
    normal = np.einsum("pk,pkj->pj", bary, normals[face])
    normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-12
    return SurfaceCloud(
        xyz, normal, tracer.colours(face, bary), flat.face_label[face], flat.face_instance[face], flat.classes
    )


def instance_images(source: Path | str, cameras: Sequence[Camera]) -> Iterator[Int[np.ndarray, "h w"]]:
    """What thing each pixel shows, for cameras in a synthetic scene (pinhole, principal point in the middle).

    Args:
        source: as for `surface_cloud`.
        cameras: in the scene's own frame.

    Yields ids as in objects.json, 0 for the room itself and where nothing is. Raises as `surface_cloud`.
    """
    flat, room = _room(Path(source))
    tracer, instance = trace(flat, room), np.append(flat.face_instance, 0)  # the last for rays that meet nothing
    for camera in cameras:
        face = tracer.photo(camera.c2w, camera.width, camera.height, camera.fx, side=0).face
        yield instance[face].astype(np.int64)


def _room(source: Path) -> tuple[Flat, Room]:
    """The room that a scene folder, or the synth.json in it, was made from."""
    path = source / "synth.json" if source.is_dir() else source
    if not path.is_file():
        raise SceneError(
            "this is not a synthetic scene: it has no synth.json", where=source, fix="ovseg3d synth OUT makes one"
        )
    origin = read_json(path)
    if origin.get("version") != 1:
        raise SceneError("synth.json is of another version", where=path, fix="make the scene again with ovseg3d synth")
    room = make_room(origin, folder=path.parent)
    return flatten(room), room
