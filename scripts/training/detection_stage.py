"""The training stage of the detection head, and the augmentation of its rooms."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.ndimage import map_coordinates
from torch import Tensor

from ovseg3d.heads.detection.align import rotated
from ovseg3d.heads.detection.losses import Targets, assign, detection_losses
from ovseg3d.heads.detection.network import DetectionNetwork
from ovseg3d.heads.detection.voxels import voxelize
from ovseg3d.scene.clouds import PointCloud
from scripts.training.detection_rooms import DetectionRoom, load_detection_room, read_detection_room, without
from scripts.training.distributed import ALONE, World
from scripts.training.field_like import field_like
from scripts.training.optim import warm_cosine
from scripts.training.polar_muon import PolarMuon

POINTS = (25_000, 150_000)
"""Fewest and most points of a training cloud before holes."""
ANGLE = 0.02
"""Angular resolution of the depth buffer that decides which points a camera sees, radians."""
DEPTH_MARGIN = (0.04, 0.02)
"""A point is seen if it is behind the nearest one of its direction by at most this: metres, and share of the depth."""
FIELD_LIKE, WARPED = 0.5, 0.15
"""Shares of the exact clouds that `field_like` changes, and that a smooth warp does."""
SURFACES = 0.6
"""Share of the steps that take the surface of a field, where there are any."""
_LAST = ("predict", "embedding")
"""Layers that AdamW trains: their rows are quantities of their own."""


@dataclass(frozen=True)
class DetectionRecipe:
    """Settings of the training."""

    seed: int = 0
    batch: int = 1
    """Rooms a step; a process computes its own one after another."""
    rate: float = 1e-2
    """Highest learning rate of matrices, which Muon trains."""
    adam_rate: float = 4e-3
    """The same of vectors and of the last layers, which AdamW trains."""
    warmup: float = 0.03
    """Share of the training in which the rate rises."""
    decay: float = 0.01
    """Weight decay."""
    clip: float = 5.0
    """Largest norm of the gradients."""


class DetectionStage:
    """A few augmented rooms a step.

    Args:
        rooms: folder of the rooms.
        seeds: of the rooms to train on.
        kinds: names of the kinds.
        vectors: their text vectors.
        recipe: settings.
        network: to train.
        surfaces: files of scripts.training.field_surfaces or lifted_rooms.
        world: the processes that share a batch.
        held_out: kinds without labels.
    """

    name = "detection"

    def __init__(
        self,
        rooms: Path,
        seeds: range,
        kinds: tuple[str, ...],
        vectors: Float[Tensor, "names text"],
        recipe: DetectionRecipe,
        network: DetectionNetwork,
        surfaces: Sequence[Path] = (),
        world: World = ALONE,
        held_out: Collection[str] = (),
    ) -> None:
        self.held_out = frozenset(held_out)
        self.rooms, self.seeds, self.kinds, self.vectors, self.recipe = rooms, seeds, kinds, vectors, recipe
        self.network, self.surfaces, self.world = network, tuple(surfaces), world
        self.names = {p: name for name, p in self.network.named_parameters()}
        # Muon reaches a lower loss in the same number of steps than AdamW did at any rate that was tried.
        matrices = [p for p, name in self.names.items() if p.ndim == 2 and not name.startswith(_LAST)]
        others = [p for p, name in self.names.items() if p.ndim < 2 or name.startswith(_LAST)]
        self.optimizers = (
            PolarMuon(matrices, recipe.rate, recipe.decay),
            torch.optim.AdamW(others, lr=recipe.adam_rate, betas=(0.9, 0.98), weight_decay=0.0),
        )
        self.figures: dict[str, float] = {}

    def step(self, step: int, progress: float) -> None:
        """One batch."""
        batch = self.recipe.batch
        self.network.zero_grad()
        figures = []
        for number in range(step * batch, (step + 1) * batch)[self.world.own(batch)]:
            losses = self.losses(number)
            (torch.stack(list(losses.values())).sum() * (self.world.size / batch)).backward()
            figures.append({name: value.item() for name, value in losses.items()})
        self.world.average(self.network.parameters())
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.clip)
        for optimizer, rate in zip(self.optimizers, (self.recipe.rate, self.recipe.adam_rate)):
            for group in optimizer.param_groups:
                group["lr"] = rate * warm_cosine(progress, self.recipe.warmup)
            optimizer.step()
        figures = self.world.gather_list(figures)
        for name in dict.fromkeys(name for losses in figures for name in losses):
            value = sum(losses.get(name, 0.0) for losses in figures) / batch
            self.figures[name] = 0.98 * self.figures.get(name, value) + 0.02 * value

    def losses(self, number: int) -> dict[str, Tensor]:
        """The losses of one of the training's rooms."""
        rng = np.random.default_rng([self.recipe.seed, number])
        if self.surfaces and rng.random() < (SURFACES if len(self.seeds) else 1.0):
            room = read_detection_room(self.surfaces[int(rng.integers(len(self.surfaces)))])
            cloud, room = augmented_surface(rng, without(room, self.held_out))
        else:
            room = load_detection_room(self.rooms, int(self.seeds[int(rng.integers(len(self.seeds)))]))
            cloud, room = augmented(rng, without(room, self.held_out))
        voxels = voxelize(cloud, shift=tuple(rng.random(3)))
        instance = torch.from_numpy(room.instance.astype(np.int64))
        targets = Targets(
            assign(voxels.point_voxel, instance, len(voxels.xyz), len(room.boxes)),
            torch.from_numpy(room.boxes),
            torch.from_numpy(room.symmetry),
            torch.tensor([self.kinds.index(kind) for kind in room.kinds]),
            None if room.quality is None else torch.from_numpy(room.quality),
            None if room.open_sides is None else torch.from_numpy(room.open_sides),
        )
        return detection_losses(self.network, self.network(voxels), targets, self.vectors)

    def measure(self) -> dict[str, float]:
        """Running means of the losses."""
        return dict(self.figures)

    def state(self) -> dict[str, Tensor]:
        """Weights and the optimisers' moments."""
        state = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        for optimizer in self.optimizers:
            for parameter, moments in optimizer.state.items():
                state |= {f"moments.{self.names[parameter]}|{key}": value for key, value in moments.items()}
        return state

    def load_state(self, state: dict[str, Tensor]) -> None:
        """The inverse of `state`."""
        kept = {name.removeprefix("network."): value for name, value in state.items() if name.startswith("network.")}
        self.network.load_state_dict(kept)
        for optimizer in self.optimizers:
            for parameter in (p for group in optimizer.param_groups for p in group["params"]):
                start = f"moments.{self.names[parameter]}|"
                optimizer.state[parameter] = {
                    name.removeprefix(start): value for name, value in state.items() if name.startswith(start)
                }

    def facts(self) -> dict[str, Any]:
        """Settings that a checkpoint depends on."""
        seeds = [self.seeds.start, self.seeds.stop]
        facts = {"recipe": vars(self.recipe), "shape": self.network.facts(), "seeds": seeds, "kinds": list(self.kinds)}
        return facts | {"surfaces": [path.name for path in self.surfaces], "held out": sorted(self.held_out)}


def augmented(rng: np.random.Generator, room: DetectionRoom) -> tuple[PointCloud, DetectionRoom]:
    """A cloud as a scan might have it, and the room with the same points and boxes in the same frame."""
    lowest, most = np.log(POINTS)
    keep = rng.permutation(len(room.xyz))[: int(np.exp(rng.uniform(lowest, most)))]
    xyz, instance = room.xyz[keep], room.instance[keep]
    seen = np.ones(len(keep), bool)
    if rng.random() < 0.75:
        seen = _seen(rng, xyz)
    if rng.random() < 0.5:  # few scans show the ceiling
        seen &= ~((instance == 0) & (xyz[:, 2] > room.xyz[:, 2].max() - 0.02))
    keep, xyz, instance = keep[seen], xyz[seen], instance[seen]
    normal, rgb = room.normal[keep].astype(np.float32) / 127, room.rgb[keep].astype(np.float32) / 255
    kind = rng.random()
    if kind < FIELD_LIKE:
        xyz, normal, rgb, instance = field_like(rng, xyz, normal, rgb, instance)
    elif kind < FIELD_LIKE + WARPED:
        xyz = _warped(rng, xyz)
    if kind < FIELD_LIKE + WARPED:
        instance = instance.copy()
        instance[stray(rng, xyz)] = 0
    if rng.random() < 0.7:
        xyz = xyz + rng.normal(0, rng.uniform(0.001, 0.012), xyz.shape).astype(np.float32)
    return placed(rng, replace(room, xyz=xyz, instance=instance), _normals(rng, normal), _colours(rng, rgb))


def augmented_surface(rng: np.random.Generator, room: DetectionRoom) -> tuple[PointCloud, DetectionRoom]:
    """The same for the surface of a field, which has holes, noise and stray points of its own."""
    keep = rng.permutation(len(room.xyz))[: int(len(room.xyz) * rng.uniform(0.5, 1.0))]
    normal, rgb = room.normal[keep].astype(np.float32) / 127, room.rgb[keep].astype(np.float32) / 255
    room = replace(room, xyz=room.xyz[keep], instance=room.instance[keep])
    return placed(rng, room, normal, _colours(rng, rgb))


def placed(
    rng: np.random.Generator, room: DetectionRoom, normal: np.ndarray, rgb: np.ndarray | None
) -> tuple[PointCloud, DetectionRoom]:
    """A room's points and boxes, mirrored, scaled and rotated."""
    xyz, boxes, open_sides = room.xyz, room.boxes.copy(), room.open_sides
    if rng.random() < 0.5:
        xyz, normal, boxes[:, [0, 6]] = xyz * [-1, 1, 1], normal * [-1, 1, 1], -boxes[:, [0, 6]]
        open_sides = None if open_sides is None else open_sides[:, [1, 0, 2, 3, 4, 5]]
    scale = rng.uniform(0.85, 1.15)
    xyz, boxes[:, :6] = xyz * scale, boxes[:, :6] * scale
    # Inference aligns walls with the axes, not always well; some rooms have no such walls.
    yaw = rng.integers(4) * np.pi / 2 + (rng.normal(0, 0.04) if rng.random() < 0.7 else rng.uniform(0, np.pi / 2))
    cloud, boxes = rotated(PointCloud(xyz.astype(np.float32), normal, rgb), boxes, float(yaw))
    if rng.random() < 0.1:
        cloud = replace(cloud, normal=None)
    return cloud, replace(room, xyz=cloud.xyz, boxes=boxes.astype(np.float32), open_sides=open_sides)


def _seen(rng: np.random.Generator, xyz: np.ndarray) -> np.ndarray:
    """Which points some of one to six cameras in the room see, by a depth buffer over directions."""
    seen = np.zeros(len(xyz), bool)
    low, high = np.percentile(xyz, [2, 98], axis=0)
    for _ in range(rng.integers(1, 7)):
        eye = rng.uniform(low * 0.7 + high * 0.3, low * 0.3 + high * 0.7)
        eye[2] = low[2] + rng.uniform(1.0, 1.9)
        seen |= seen_from(eye, xyz)
    return seen


def seen_from(eye: Float[np.ndarray, "3"], xyz: Float[np.ndarray, "points 3"]) -> Bool[np.ndarray, " points"]:
    """Which points a camera sees, by a depth buffer over directions."""
    ray = xyz - eye
    far = np.linalg.norm(ray, axis=1)
    azimuth = np.floor((np.arctan2(ray[:, 1], ray[:, 0]) + np.pi) / ANGLE).astype(np.int64)
    height = np.floor((np.arcsin(ray[:, 2] / far) + np.pi / 2) / ANGLE).astype(np.int64)
    cell = azimuth * int(np.pi / ANGLE + 2) + height
    nearest = np.full(cell.max() + 1, np.inf)
    np.minimum.at(nearest, cell, far)
    return far <= nearest[cell] + DEPTH_MARGIN[0] + DEPTH_MARGIN[1] * far


def _warped(rng: np.random.Generator, xyz: np.ndarray) -> np.ndarray:
    """Points moved by a smooth random field of 1 to 8 cm, which bends planes and thickens walls."""
    cell, deviation = rng.uniform(0.2, 1.0), np.exp(rng.uniform(np.log(0.01), np.log(0.08)))
    place = (xyz - xyz.min(0)) / cell
    noise = rng.normal(0, deviation, (3, *(np.ceil(place.max(0)).astype(int) + 2)))
    moved = [map_coordinates(component, place.T, order=1) for component in noise]
    return (xyz + np.stack(moved, 1)).astype(np.float32)


def stray(rng: np.random.Generator, xyz: np.ndarray) -> np.ndarray:
    """Moves up to 4 % of the points, in place, to clouds in and around the room; returns which."""
    stray = np.flatnonzero(rng.random(len(xyz)) < rng.uniform(0, 0.04))
    middle = rng.uniform(xyz.min(0) - 1, xyz.max(0) + 1, (int(rng.integers(5, 40)), 3))
    chosen = middle[rng.integers(len(middle), size=len(stray))]
    xyz[stray] = chosen + rng.normal(0, rng.uniform(0.1, 0.5), chosen.shape)
    return stray


def _normals(rng: np.random.Generator, normal: np.ndarray) -> np.ndarray:
    noisy = normal + rng.normal(0, rng.uniform(0, 0.25), normal.shape)
    return (noisy / np.linalg.norm(noisy, axis=1, keepdims=True)).astype(np.float32)


def _colours(rng: np.random.Generator, rgb: np.ndarray) -> np.ndarray | None:
    if rng.random() < 0.3:
        return None
    colour = rgb * rng.uniform(0.7, 1.2) + rng.normal(0, 0.06, 3)
    return np.clip(colour + rng.normal(0, 0.03, rgb.shape), 0, 1).astype(np.float32)
