"""A run of playroom without training: the exact surface stands for the field, a bag of words for the encoder.

A phrase's vector is the mean of its words' vectors, one axis each, so that "a red chair" is nearest to what is called
chair and what is called red. A point's vector is mostly noise and to a third what it is called, as with real encoders.
"""

import json
import zlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from ovseg3d.encoders import register_clip
from ovseg3d.encoders.base import Preprocess
from ovseg3d.field.surface import Surface
from ovseg3d.instances.layout import NONE
from ovseg3d.points.basis import Basis
from ovseg3d.points.semantic_scene import EncoderFacts, SemanticScene, save_semantics
from ovseg3d.query.layout_prior import PLANE_WORDS
from ovseg3d.query.relevancy import CANONICAL
from ovseg3d.runs.folder import RunFolder, create_run, open_scene
from ovseg3d.runs.phrases import keep_phrases
from ovseg3d.runs.settings import make_config
from ovseg3d.scene import Camera
from ovseg3d.synth import surface_cloud
from ovseg3d.viewer.fair_lock import FairLock

PLAYROOM = Path(__file__).resolve().parents[2] / "scenes" / "playroom"
INSTANCES = {instance["phrase"]: instance for instance in json.loads((PLAYROOM / "objects.json").read_text())}
EYE = np.array([1.5, -1.2, 1.5])
"""A place from which most of playroom is seen."""
TARGET = (-1.0, 0.5, 0.5)
NAME = "bag-of-words"
SPARE, NOISE = 8, 32
"""Axes for words that nothing is called by, and for what no word says."""
TEXT = 0.35
"""How much of a point's vector is what it is called."""


def _vocabulary() -> list[str]:
    names = [f"{instance['phrase']} {instance['category']}" for instance in INSTANCES.values()]
    names += (PLAYROOM / "segmentations" / "classes.txt").read_text().split("\n")
    return [*sorted({word for name in names for word in name.lower().split()}), *CANONICAL]


WORDS = _vocabulary()
DIM = len(WORDS) + SPARE + NOISE


def inside(points: np.ndarray, instance: dict, margin: float = 0.1) -> float:
    """Share of points within an instance's box, upright boxes turned back by their yaw."""
    yaw = instance["yaw_rad"]
    away = points - np.array(instance["center"])
    x, y, z = away.T
    turned = np.stack([np.cos(yaw) * x + np.sin(yaw) * y, np.cos(yaw) * y - np.sin(yaw) * x, z], 1)
    return float((np.abs(turned) < np.array(instance["size"]) / 2 + margin).all(1).mean())


def text_vector(phrase: str) -> np.ndarray:
    """Of unit length: each word has an axis of its own, those that nothing is called by share a few."""
    vector = np.zeros(DIM)
    for word in phrase.lower().split():
        if word in WORDS:
            vector[WORDS.index(word)] += 1
        elif word not in ("a", "an", "the", "of", "on"):
            vector[len(WORDS) + zlib.crc32(word.encode()) % SPARE] += 1
    return vector / max(np.linalg.norm(vector), 1e-9)


@dataclass
class BagOfWords:
    """A text-image encoder that reads, and sees nothing."""

    id: str = NAME
    weight_hash: str = "1" * 16
    dim: int = DIM
    patch: int = 4
    dense: bool = True
    logit_scale: float = 30.0
    logit_bias: float | None = None
    preprocess: Preprocess = Preprocess((16, 16), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))

    def encode_text(self, phrases: list[str]) -> torch.Tensor:
        return torch.tensor(np.stack([text_vector(phrase) for phrase in phrases]), dtype=torch.float32)

    def encode_image(self, images: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(images), DIM)

    def encode_dense(self, images: torch.Tensor) -> torch.Tensor:
        height, width = images.shape[-2:]
        return torch.zeros(len(images), DIM, height // self.patch, width // self.patch)


def register() -> None:
    """Make the encoder known to this process."""
    register_clip(NAME, lambda device: BagOfWords())


def exact_surface(scene: Path, points: int) -> tuple[Surface, np.ndarray, list[str]]:
    """Surface points that the photos see, the number of each one's instance, and what each is called."""
    cloud = surface_cloud(scene, points=points, seen=True)
    kept = cloud.seen >= 2
    xyz = cloud.xyz[kept].astype(np.float32)
    area = 6.0 * 5.0 * 4  # about the room's walls
    cell = np.full(len(xyz), (area / len(xyz)) ** 0.5, np.float32)
    ones = np.ones(len(xyz), np.float32)
    normal = cloud.normal[kept].astype(np.float32)
    surface = Surface(xyz, normal, cloud.rgb[kept], ones, cell, np.array([0.0, 0.0, 1.0]), True)
    listed = json.loads((scene / "objects.json").read_text())
    instances = {instance["id"]: f"{instance['phrase']} {instance['category']}" for instance in listed}
    instance = cloud.instance[kept].astype(np.int32)
    called = [instances.get(i) or cloud.classes[c - 1] for i, c in zip(instance.tolist(), cloud.label[kept].tolist())]
    return surface, instance, called


def meaning(surface: Surface, instance: np.ndarray, called: list[str]) -> SemanticScene:
    """What a run would know if it had learnt well."""
    random = np.random.default_rng(0)
    names, number = np.unique(called, return_inverse=True)
    own = np.zeros((len(names), DIM))
    own[:, -NOISE:] = random.normal(size=(len(names), NOISE)) / NOISE**0.5
    own += TEXT * np.stack([text_vector(name) for name in names]) + 0.05 * text_vector("things")
    vectors = own[number]
    vectors[:, -NOISE:] += 0.15 * random.normal(size=(len(number), NOISE)) / NOISE**0.5
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return SemanticScene(
        surface, Basis(np.eye(DIM, dtype=np.float32), 0.0), vectors.astype(np.float32),
        np.ones(len(surface), np.float32), instance, EncoderFacts(NAME, NAME, "1" * 16, 30.0),
        plane=np.array([PLANE_WORDS.get(name, NONE) for name in called]),
    )  # fmt: skip


def make_run(folder: Path, points: int = 40_000) -> RunFolder:
    """A run of playroom in `folder`, without a checkpoint: render it with `Splats`."""
    config = make_config("cpu", flags={"only": "field,semantics"})
    scene = open_scene(PLAYROOM, config)
    run = create_run(scene, config, folder)
    keep_phrases(folder, scene.phrases)
    save_semantics(run.folder, meaning(*exact_surface(PLAYROOM, points)))
    run.write_status("done")
    return run


class Splats:
    """In place of the field: surface points, each drawn as a small square."""

    def __init__(self, surface: Surface) -> None:
        self.surface = surface
        self.broken = False
        """Set it, and rendering fails."""

    def render(self, camera: Camera, normals: bool = False, termination: bool = False) -> dict[str, np.ndarray]:
        if self.broken:
            raise RuntimeError("the renderer was broken on purpose")
        h, w = camera.height, camera.width
        xyz = self.surface.xyz.astype(np.float64)
        if h * w == 1:
            return self._ray(camera, xyz)
        # On a grid so coarse that neighbours touch, then enlarged. It is laid from the axis of the camera, so that a
        # image is the same in however many strips it is drawn: how many depends on how busy the machine is.
        zoom = max(1.0, 0.5 * camera.fx * float(self.surface.cell[0]))
        axis = np.array([camera.cx, camera.cy])
        first, last = np.floor([-axis / zoom, (np.array([w, h]) - axis) / zoom]).astype(np.int64)
        columns, rows = last - first + 1
        xy, z = camera.project(xyz)
        front = np.flatnonzero(z > 0.05)
        column, row = (np.floor((xy[front] - axis) / zoom).astype(np.int64) - first).T
        inside = (column >= 0) & (column < columns) & (row >= 0) & (row < rows)
        who = front[inside]
        order = np.argsort(-z[who], kind="stable")  # the nearest is written last
        number = np.full((rows, columns), -1)
        number[row[inside][order], column[inside][order]] = who[order]
        u, v = (np.floor((np.arange(n) + 0.5 - at) / zoom).astype(np.int64) for n, at in zip((w, h), axis))
        number = number[(v - first[1])[:, None], u - first[0]]
        met = number >= 0
        return {
            "rgb": np.where(met[..., None], self.surface.rgb[number] / 255, 0.5),
            "depth_z": np.where(met, z[number], 0.0),
            "opacity": met.astype(float),
        }

    def _ray(self, camera: Camera, xyz: np.ndarray) -> dict[str, np.ndarray]:
        along = (xyz - camera.position) @ camera.forward
        aside = np.linalg.norm(xyz - camera.position - along[:, None] * camera.forward, axis=1)
        hit = along[(along > 0.05) & (aside < self.surface.cell)]
        depth = hit.min(initial=np.inf)
        met = np.isfinite(depth)
        return {
            "rgb": np.full((1, 1, 3), 0.5),
            "depth_z": np.full((1, 1), depth if met else 0.0),
            "opacity": np.full((1, 1), float(met)),
        }


def is_taken(turns: FairLock) -> bool:
    """Whether somebody has a lock."""
    return turns._serving < turns._next


def with_oracle(run_folder: Path) -> None:
    """Give a trained run of playroom the bag of words' meaning, on its own surface (for looking at instances)."""
    from scipy.spatial import cKDTree

    from ovseg3d.points.semantic_scene import load_semantics

    learnt = load_semantics(run_folder)
    exact, instance, called = exact_surface(PLAYROOM, 300_000)
    _, near = cKDTree(exact.xyz).query(learnt.surface.xyz)
    names = [called[i] for i in near]
    save_semantics(run_folder, meaning(replace(learnt.surface), instance[near], names))
