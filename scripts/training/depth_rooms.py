"""Photos of procedural rooms with exact depth and normals: examples for the built-in depth network.

    python -m scripts.training.depth_rooms --output photos.png      a contact sheet

The photos of a room are a pure function of its seed. They are kept as one .npy file, so that an interrupted command
can be continued. Shapes, looks and lights are those that encoders are trained on, never those held out; and since a
network that trusts their few materials fails on photographs, many surfaces get another pattern, colour or stain.
"""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from PIL import Image
from scipy.spatial.transform import Rotation

from ovseg3d.files import write_atomic
from ovseg3d.synth.arrange import Item
from ovseg3d.synth.cameras import look, on_path
from ovseg3d.synth.furnish import kind_item, random_room
from ovseg3d.synth.geometry import Part
from ovseg3d.synth.holdout import SEEN
from ovseg3d.synth.kinds import KINDS
from ovseg3d.synth.materials import PATTERNS, Material, triple
from ovseg3d.synth.quick import View, look_at_room, shade_room
from ovseg3d.synth.render import Detail, Tracer, develop
from ovseg3d.synth.world import Flat, flatten, trace
from scripts.start import start

SIDE = 160
"""Pixels of a photo's side; trainings cut other shapes out of it."""
FOCALS = (90.0, 200.0)
"""Least and largest focal length in pixels: fields of view of 83 and 44 degrees."""
PHOTOS = 128
"""Photos of a room, which takes seconds to build."""
FAR = 20.0
"""Depth beyond which nothing is learnt, metres: what is seen through windows."""
LIGHT = Detail(spacing=0.18, most_points=45_000, light_rounds=2, bounce_rounds=3, bounces=1, smooth_direct=True)
PAINTED = 0.35
"""Share of the parts whose material is replaced by a random one."""
CROWDED = (20, 45)
"""Fewest and most objects of rooms with random kinds, of odd seeds; even seeds give rooms of a type."""
DTYPE = np.dtype(
    [
        ("rgb", "u1", (SIDE, SIDE, 3)),
        ("normal", "i1", (SIDE, SIDE, 3)),  # unit normals in the camera's frame times 127, towards the camera
        ("log_depth", "f2", (SIDE, SIDE)),  # of z-depth in metres; infinity where nothing is near
        ("focal", "f4"),  # pixels
    ]
)
"""Of a photo; its principal point is in the middle."""


def load_photos(folder: Path, seed: int) -> np.ndarray:
    """The photos of a room, (PHOTOS,) of DTYPE, memory-mapped; they are made if FOLDER/SEED.npy is missing."""
    path = folder / f"{seed}.npy"
    if not path.exists():
        write_atomic(path, partial(_save, made=make_photos(seed)))
    return np.load(path, mmap_mode="r", allow_pickle=False)


def _save(path: Path, made: np.ndarray) -> None:
    with open(path, "wb") as file:
        np.save(file, made)


def make_photos(seed: int, count: int = PHOTOS) -> np.ndarray:
    """Photos of the room of a seed, of DTYPE."""
    rng = np.random.default_rng([seed, 41])
    room = random_room(seed // 2, None if seed % 2 == 0 else crowd, pool=SEEN)
    flat = flatten(room)
    flat = replace(flat, parts=_repainted(rng, flat))
    tracer = trace(flat, room, detail=LIGHT)
    tracer.bake()
    tracer.meter([on_path(room.cameras, k / 6) for k in range(6)], 0.7)
    made = np.zeros(count, DTYPE)
    for photo in made:
        view = random_view(rng, tracer, flat, np.array(room.size))
        photo["rgb"] = photograph(rng, tracer, flat, view)
        depth = view.depth_z.reshape(view.size, view.side, view.size, view.side)[:, 0, :, 0]
        photo["log_depth"] = np.where(depth < FAR, np.log(depth), np.inf)
        photo["normal"] = np.round(_normals(tracer, view) * 127)
        photo["focal"] = view.focal
    return made


def crowd(rng: np.random.Generator) -> list[Item]:
    """Objects of random kinds."""
    names = [name for name, kind in KINDS.items() if kind.stands != "ceiling" and name not in ("window", "door")]
    return [kind_item(rng, KINDS[str(rng.choice(names))], SEEN) for _ in range(rng.integers(*CROWDED))]


def _repainted(rng: np.random.Generator, flat: Flat) -> tuple[Part, ...]:
    """The parts, some with another material."""
    new = {}
    for part in flat.parts:
        if id(part.material) not in new:
            keep = part.material.glow > 0 or part.material.image is not None or rng.random() > PAINTED
            new[id(part.material)] = part.material if keep else _paint(rng)
    return tuple(replace(part, material=new[id(part.material)]) for part in flat.parts)


def _paint(rng: np.random.Generator) -> Material:
    colour = rng.beta(1.0, 1.3) * (1 - rng.beta(1, 3) * rng.random(3))
    second = colour * rng.uniform(0.2, 1.0) if rng.random() < 0.7 else rng.random(3)
    patterns = [name for name in PATTERNS if name != "image"]
    return Material(triple(colour), triple(second), str(rng.choice(patterns)), float(np.exp(rng.uniform(-4.0, -0.9))))


def random_view(
    rng: np.random.Generator, tracer: Tracer, flat: Flat, size: Float[np.ndarray, "3"], near: float = 0.5
) -> View:
    """A view of somebody who walks about, or who looks at one object from near.

    Args:
        rng: chooses it.
        tracer, flat: of the room.
        size: of the room, metres.
        near: share of the views of one object.
    """
    while True:
        way = rng.random()
        if way < near and flat.objects:
            thing = flat.objects[int(rng.integers(len(flat.objects)))]
            away = np.exp(rng.uniform(np.log(0.4), np.log(2.5))) + 0.4 * float(np.max(thing["size"]))
            yaw, pitch = rng.uniform(-np.pi, np.pi), rng.uniform(-0.3, 1.1)
            back = np.array([np.cos(yaw) * np.cos(pitch), np.sin(yaw) * np.cos(pitch), np.sin(pitch)])
            eye = np.array(thing["center"]) + away * back
            c2w = look(eye, yaw + np.pi + rng.normal(0, 0.15), -pitch + rng.normal(0, 0.15))
        else:
            eye = np.array([*(rng.uniform(-0.47, 0.47, 2) * size[:2]), rng.uniform(0.5, 2.0)])
            across = np.arctan2(-eye[1], -eye[0]) + rng.normal(0, 0.7)
            ahead = way < 0.7 + 0.3 * near
            yaw, pitch = (across, rng.normal(-0.3, 0.25)) if ahead else rng.uniform([-np.pi, -1.2], [np.pi, 0.8])
            c2w = look(eye, float(yaw), float(pitch))
        if not (np.abs(eye[:2]) < 0.48 * size[:2]).all() or not 0.15 < eye[2] < size[2] - 0.15:
            continue
        c2w[:3, :3] = c2w[:3, :3] @ Rotation.from_euler("z", rng.normal(0, 6), degrees=True).as_matrix()
        view = look_at_room(tracer, c2w, SIDE, float(np.exp(rng.uniform(*np.log(FOCALS)))))
        inverse = 1 / view.depth_z
        dull = inverse.std() < 0.12 * inverse.mean()
        clear = view.depth_z.min() > 0.15 and np.quantile(view.depth_z, 0.2) > 0.3
        if clear and not (dull and rng.random() < 0.8):
            return view


def photograph(rng: np.random.Generator, tracer: Tracer, flat: Flat, view: View) -> np.ndarray:
    """The photo, its objects tinted and stained at random."""
    radiance = shade_room(tracer, view)
    depth = view.depth_z.reshape(SIDE, view.side, SIDE, view.side)[:, 0, :, 0]
    face = view.face.reshape(SIDE, view.side, SIDE, view.side)[:, 0, :, 0]
    thing = np.where(face >= 0, flat.face_instance[face] * 64 + flat.face_label[face] % 64, 0)
    names, thing = np.unique(thing, return_inverse=True)
    thing = thing.reshape(depth.shape)
    if rng.random() < 0.7:
        tint = np.exp(rng.normal(0, 0.35, (len(names), 1)) + rng.normal(0, 0.15, (len(names), 3)))
        radiance = radiance * tint[thing]
    if rng.random() < 0.6:
        strength = rng.exponential(0.5, len(names)) * (rng.random(len(names)) < 0.6)
        radiance = radiance * np.exp(strength[thing] * _stains(rng, view, depth))[..., None]
    return develop(radiance, tracer.exposure * float(np.exp(rng.normal(0, 0.35))))


def _stains(rng: np.random.Generator, view: View, depth: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """A random solid pattern of deviation 1: waves of many lengths, sometimes cut to two tones."""
    column, row = np.meshgrid(np.arange(SIDE) + 0.5 - SIDE / 2, np.arange(SIDE) + 0.5 - SIDE / 2)
    rays = np.stack([column / view.focal, row / view.focal, np.ones_like(column)], -1)
    xyz = (rays * np.minimum(depth, FAR)[..., None]) @ view.c2w[:3, :3].T
    total = np.zeros(depth.shape)
    for wave in np.exp(rng.uniform(np.log(0.02), np.log(1.0), 10)):  # metres
        k = rng.normal(0, 1, 3)
        phase = xyz @ (2 * np.pi / wave * k / np.linalg.norm(k)) + 0.7 * total + rng.uniform(0, 2 * np.pi)
        total += wave ** rng.uniform(0, 0.5) * np.sin(phase) * np.clip(wave * view.focal / depth / 2 - 1, 0, 1)
    if rng.random() < 0.4:
        total = np.tanh(6 * (total - np.quantile(total, rng.uniform(0.2, 0.8))))
    return total / max(float(total.std()), 1e-6)


def _normals(tracer: Tracer, view: View) -> Float[np.ndarray, "h w 3"]:
    """Of the faces, in the camera's frame, towards the camera."""
    face: Int[np.ndarray, "h w"] = view.face.reshape(SIDE, view.side, SIDE, view.side)[:, 0, :, 0]
    a, b, c = (tracer.points[:, k] for k in range(3))
    normal = np.cross(b - a, c - a)
    normal = normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
    found = np.where(face[..., None] >= 0, normal[face], 0.0) @ view.c2w[:3, :3]
    column, row = np.meshgrid(np.arange(SIDE) + 0.5 - SIDE / 2, np.arange(SIDE) + 0.5 - SIDE / 2)
    away = (found * np.stack([column / view.focal, row / view.focal, np.ones_like(column)], -1)).sum(-1) > 0
    return np.where(away[..., None], -found, found)


@dataclass(frozen=True)
class Sheet:
    """Draw photos, their depth and their normals."""

    output: Path
    """The picture to write."""
    seed: int = 0
    count: int = 24

    def main(self) -> None:
        """Draw them."""
        tiles = [_drawn(photo) for photo in make_photos(self.seed, self.count)]
        rows = [np.concatenate(tiles[k : k + 4], 1) for k in range(0, len(tiles) - 3, 4)]
        Image.fromarray(np.concatenate(rows)).save(self.output)


def _drawn(photo: np.ndarray) -> np.ndarray:
    depth = np.exp(-photo["log_depth"].astype(np.float32))
    grey = np.round(255 * depth / depth.max()).astype(np.uint8)
    normal = (photo["normal"].astype(np.int16) + 127).astype(np.uint8)
    return np.concatenate([photo["rgb"], np.repeat(grey[..., None], 3, 2), normal], 1)


if __name__ == "__main__":
    start(Sheet)
