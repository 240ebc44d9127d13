"""Tiny copies of public data sets of shapes, in their own layouts."""

import gzip
import json
from pathlib import Path

import numpy as np
import trimesh


def cloud(seed: int, count: int = 64) -> np.ndarray:
    """Points on a box of a size of its own."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(-1, 1, (count, 3))
    axis = rng.integers(3, size=count)
    points[np.arange(count), axis] = np.sign(points[np.arange(count), axis])
    return points * rng.uniform(0.2, 1, 3)


def write_modelnet(folder: Path, classes: tuple[str, ...], split: str = "test") -> Path:
    """One mesh for each class. Half of the headers share their line with the counts, as in the release."""
    for number, label in enumerate(classes):
        text = trimesh.creation.box((1.0, 1.0, 2.0 + number)).export(file_type="off")
        path = folder / label / split / f"{label}_{number:04d}.off"
        path.parent.mkdir(parents=True)
        path.write_text(text.replace("OFF\n", "OFF", 1) if number % 2 else text)
    return folder


def write_resampled(folder: Path, names: tuple[str, ...], split: str = "test") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        path = folder / name.rpartition("_")[0] / f"{name}.txt"
        path.parent.mkdir(exist_ok=True)
        np.savetxt(path, np.hstack([cloud(number), np.zeros((64, 3))]), fmt="%.6f", delimiter=",")
    (folder / f"modelnet40_{split}.txt").write_text("\n".join(names) + "\n")
    return folder


def write_scanobjectnn(folder: Path, labels: dict[str, list[int]]) -> Path:
    """Labels by file; the points of each file and row are `cloud`s."""
    import h5py

    for start, (name, numbers) in enumerate(labels.items()):
        path = folder / "h5_files" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(path, "w") as file:
            file["data"] = np.stack([cloud(100 * start + row) for row in range(len(numbers))]).astype(np.float32)
            file["label"] = np.array(numbers, np.uint8)
    return folder


def write_omniobject3d(folder: Path, names: tuple[str, ...]) -> Path:
    for number, name in enumerate(names):
        path = folder / name.rpartition("_")[0] / name / "pcd_4096.ply"
        path.parent.mkdir(parents=True)
        trimesh.PointCloud(cloud(number)).export(path)
    return folder


def write_lvis(folder: Path, listed: dict[str, list[str]], missing: tuple[str, ...] = ()) -> Path:
    """A gzipped list, and a box as .glb for each uid that is not missing."""
    (folder / "glbs" / "000-001").mkdir(parents=True)
    (folder / "lvis-annotations.json.gz").write_bytes(gzip.compress(json.dumps(listed).encode()))
    for uids in listed.values():
        for uid in uids:
            if uid not in missing:
                trimesh.creation.box((1, 2, 3)).export(folder / "glbs" / "000-001" / f"{uid}.glb")
    return folder
