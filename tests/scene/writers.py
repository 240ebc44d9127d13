"""Write one tiny capture in every format that ovseg3d reads, independently of its readers.

Nine pinhole cameras on an arc look at the origin, z up. COLMAP models are written by pycolmap.
"""

import json
import math
from pathlib import Path

import numpy as np
from PIL import Image

WIDTH, HEIGHT, FOCAL, COUNT = 24, 16, 20.0, 9
NAMES = [f"{i:02d}.png" for i in range(COUNT)]


def poses(count: int = COUNT) -> list[np.ndarray]:
    """OpenCV camera-to-world, 4x4."""
    result = []
    for i in range(count):
        angle = 0.3 + 0.5 * i
        position = np.array([3 * math.cos(angle), 3 * math.sin(angle), 1.0 + 0.1 * i])
        forward = -position / np.linalg.norm(position)
        right = np.cross(forward, [0, 0, 1.0])
        right /= np.linalg.norm(right)
        pose = np.eye(4)
        pose[:3, :3] = np.stack([right, np.cross(forward, right), forward], axis=1)
        pose[:3, 3] = position
        result.append(pose)
    return result


def opengl(pose: np.ndarray) -> list[list[float]]:
    """As transforms.json states a pose."""
    return (pose @ np.diag([1.0, -1.0, -1.0, 1.0])).tolist()


def photo(index: int, size: tuple[int, int] = (WIDTH, HEIGHT)) -> Image.Image:
    """Noise that differs from photo to photo."""
    values = np.random.default_rng(index).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(values)


def write_photos(folder: Path, names: list[str] = NAMES, size: tuple[int, int] = (WIDTH, HEIGHT)) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for index, name in enumerate(names):
        photo(index, size).save(folder / name)


def transforms(**top: object) -> dict:
    """A nerfstudio transforms.json as a dict, to be changed and written."""
    frames = [{"file_path": f"images/{name}", "transform_matrix": opengl(pose)} for name, pose in zip(NAMES, poses())]
    lens = {"w": WIDTH, "h": HEIGHT, "fl_x": FOCAL, "fl_y": FOCAL, "cx": WIDTH / 2, "cy": HEIGHT / 2}
    return {**lens, **top, "frames": frames}


def write_nerfstudio(folder: Path, data: dict | None = None) -> Path:
    write_photos(folder / "images")
    (folder / "transforms.json").write_text(json.dumps(data or transforms(camera_model="PINHOLE")))
    return folder


def write_ngp(folder: Path) -> Path:
    angle = 2 * math.atan(0.5 * WIDTH / FOCAL)
    write_photos(folder / "images")
    frames = [
        # instant-ngp allows a path without its suffix.
        {"file_path": f"./images/{name[:-4]}", "transform_matrix": opengl(pose)}
        for name, pose in zip(NAMES, poses())
    ]
    data = {"camera_angle_x": angle, "w": WIDTH, "h": HEIGHT, "aabb_scale": 2, "frames": frames}
    (folder / "transforms.json").write_text(json.dumps(data))
    return folder


def write_blender(folder: Path) -> Path:
    angle = 2 * math.atan(0.5 * WIDTH / FOCAL)
    for split, chosen in (("train", range(0, 7)), ("test", range(7, COUNT))):
        (folder / split).mkdir(parents=True)
        frames = []
        for i in chosen:
            photo(i).save(folder / split / NAMES[i])
            frames.append({"file_path": f"./{split}/{NAMES[i][:-4]}", "transform_matrix": opengl(poses()[i])})
        data = {"camera_angle_x": angle, "frames": frames}
        (folder / f"transforms_{split}.json").write_text(json.dumps(data))
    return folder


def write_llff(folder: Path) -> Path:
    write_photos(folder / "images")
    rows = []
    for pose in poses():
        right, down, forward, position = pose[:3, 0], pose[:3, 1], pose[:3, 2], pose[:3, 3]
        columns = np.stack([down, right, -forward, position, [HEIGHT, WIDTH, FOCAL]], axis=1)
        rows.append(np.concatenate([columns.ravel(), [1.5, 6.0]]))
    np.save(folder / "poses_bounds.npy", np.stack(rows))
    return folder


def write_replica(folder: Path, depth: int = 13107) -> Path:
    """NICE-SLAM's layout; its principal point has pixel centres at whole numbers."""
    names = [f"frame{i:06d}.png" for i in range(COUNT)]
    write_photos(folder / "results", names)
    for i in range(COUNT):
        values = np.full((HEIGHT, WIDTH), depth, np.uint16)
        Image.fromarray(values).save(folder / "results" / f"depth{i:06d}.png")
    np.savetxt(folder / "traj.txt", np.stack(poses()).reshape(-1, 16))
    camera = {"w": WIDTH, "h": HEIGHT, "fx": FOCAL, "fy": FOCAL, "cx": WIDTH / 2 - 0.5, "cy": HEIGHT / 2 - 0.5}
    (folder / "cam_params.json").write_text(json.dumps({"camera": camera | {"scale": 6553.5}}))
    return folder


def write_scannet(folder: Path, depth_size: tuple[int, int] = (12, 8), depth: int = 2000) -> Path:
    """What ScanNet's SensReader exports; principal points have pixel centres at whole numbers."""
    for name in ("depth", "pose", "intrinsic"):
        (folder / name).mkdir(parents=True)
    write_photos(folder / "color", [f"{i}.png" for i in range(COUNT)])
    for i, pose in enumerate(poses()):
        Image.fromarray(np.full(depth_size[::-1], depth, np.uint16)).save(folder / "depth" / f"{i}.png")
        np.savetxt(folder / "pose" / f"{i}.txt", pose)
    for kind, (width, height) in (("color", (WIDTH, HEIGHT)), ("depth", depth_size)):
        write_intrinsics(folder, kind, FOCAL * width / WIDTH, (width / 2, height / 2))
    sizes = [f"colorWidth = {WIDTH}", f"colorHeight = {HEIGHT}"]
    (folder / f"{folder.name}.txt").write_text("\n".join(["axisAlignment = 0 1 0 0 ", *sizes, "sceneType = Office"]))
    return folder


def write_intrinsics(folder: Path, kind: str, focal: float, centre: tuple[float, float]) -> None:
    """A lens of `write_scannet`; `centre` has pixel centres at +0.5."""
    matrix = np.diag([focal, focal, 1.0, 1.0])
    matrix[:2, 2] = np.array(centre) - 0.5
    np.savetxt(folder / "intrinsic" / f"intrinsic_{kind}.txt", matrix)


def write_colmap(
    folder: Path,
    model: str = "PINHOLE",
    parameters: tuple[float, ...] = (FOCAL, FOCAL, WIDTH / 2, HEIGHT / 2),
    text: bool = False,
    place: str = "sparse/0",
) -> Path:
    import pycolmap

    write_photos(folder / "images")
    reconstruction = pycolmap.Reconstruction()
    camera = pycolmap.Camera(camera_id=1, model=model, width=WIDTH, height=HEIGHT, params=list(parameters))
    reconstruction.add_camera_with_trivial_rig(camera)
    for i, pose in enumerate(poses()):
        w2c = np.linalg.inv(pose)
        image = pycolmap.Image(name=NAMES[i], camera_id=1, image_id=i + 1)
        reconstruction.add_image_with_trivial_frame(
            image, pycolmap.Rigid3d(pycolmap.Rotation3d(w2c[:3, :3]), w2c[:3, 3])
        )
    for point in POINTS:
        reconstruction.add_point3D(point, pycolmap.Track(), np.array([10, 20, 30], dtype=np.uint8))
    (folder / place).mkdir(parents=True)
    (reconstruction.write_text if text else reconstruction.write_binary)(str(folder / place))
    return folder


POINTS = np.random.default_rng(0).uniform(-0.5, 0.5, (60, 3))
