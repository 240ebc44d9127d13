"""The semantics of a run: surface points with features, in one file, and their projection into images.

    semantics.safetensors    xyz, normal, rgb, confidence, cell; vectors (coefficients), agreement, instance; axes
                             optional: plane (layout), pieces, instance_crops, shapes, parents
                             header: the encoder's id, weight hash and logit scale; up, metric, metres_per_unit

Vectors are stored as float16. After the method LERF features depend on a size: the file holds `sized.*` instead of the
vectors, which are computed from them. Nothing in the file can run code, and all that is read is checked.
"""

import json
import os
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from scipy.spatial import cKDTree  # pyright: ignore[reportAttributeAccessIssue]

from ovseg3d.errors import RunError
from ovseg3d.features.maps import cosines
from ovseg3d.field.surface import Surface
from ovseg3d.files import write_atomic
from ovseg3d.limits import check_memory, tensor_headers
from ovseg3d.points.basis import Basis
from ovseg3d.points.lerf import Sized
from ovseg3d.runs.migrate import FORMAT_VERSION, READABLE_VERSIONS, migrate_tensors
from ovseg3d.scene import Camera

FILE = "semantics.safetensors"
_MAX_BYTES = 32 * 2**30
_STORED = {
    "xyz": np.float32, "normal": np.float16, "rgb": np.uint8, "confidence": np.float16, "cell": np.float32,
    "vectors": np.float16, "agreement": np.float16, "instance": np.int32, "axes": np.float32,
}  # fmt: skip
_MAYBE = {
    "plane": np.int8, "pieces": np.int32, "instance_crops": np.float16, "shapes": np.float16, "parents": np.int32,
}  # fmt: skip
NEAREST = 4
"""Number of surface points whose features a pixel blends."""


@dataclass(frozen=True)
class EncoderFacts:
    """The text-image encoder of the features."""

    name: str
    """The argument of `load_clip`."""
    id: str
    weight_hash: str
    logit_scale: float


@dataclass(frozen=True)
class SemanticScene:
    """Surface points with their language features and instances."""

    surface: Surface
    basis: Basis
    vectors: Float[np.ndarray, "points kept"]
    """Coefficients in `basis`, unit length (zero where unknown)."""
    agreement: Float[np.ndarray, " points"]
    """Agreement of the photos about a point, 0 to 1."""
    instance: Int[np.ndarray, " points"]
    """Instance of each point, from 1; 0: none."""
    encoder: EncoderFacts
    sized: Sized | None = None
    """Features that depend on a size; `vectors` are then those of the middle size."""
    plane: Int[np.ndarray, " points"] | None = None
    """Layout class of each point (see `instances.layout`); None: not computed."""
    pieces: Int[np.ndarray, " points"] | None = None
    """`instance`, with rejected fragments (`instances.selection`) numbered after the instances; None: not computed."""
    instance_crops: Float[np.ndarray, "pieces kept"] | None = None
    """Coefficients of the embeddings of instances, rejected fragments and joined objects (see `instances.crops`), unit
    length or zero, in the order of their numbers; None: not computed, or not kept."""
    shapes: Float[np.ndarray, "pieces text"] | None = None
    """What the detection head says of their shapes, in the same order: unit vectors, or zero, of the built-in CLIP's
    joint space, whatever the run's encoder; None: not computed."""
    metres_per_unit: float | None = None
    """Stated by the capture, or estimated from the height of its cameras above the floor; None: not known."""
    parents: Int[np.ndarray, " numbers"] | None = None
    """The joined object around each instance, rejected fragment and joined object (see `instances.joined`); 0: none;
    None: not computed."""

    @property
    def piece(self) -> Int[np.ndarray, " points"]:
        """Instance, or else rejected fragment, of each point; 0: none."""
        return self.instance if self.pieces is None else self.pieces

    @property
    def numbers(self) -> int:
        """The greatest number of an instance, rejected fragment or joined object."""
        return max(int(self.piece.max(initial=0)), 0 if self.parents is None else len(self.parents))

    def take(self, rows: Int[np.ndarray, " rows"]) -> "SemanticScene":
        """The points with these indices."""
        return replace(
            self, surface=self.surface.take(rows), vectors=self.vectors[rows], agreement=self.agreement[rows],
            instance=self.instance[rows], sized=None if self.sized is None else self.sized.take(rows),
            plane=None if self.plane is None else self.plane[rows],
            pieces=None if self.pieces is None else self.pieces[rows],
        )  # fmt: skip

    def scores(self, phrases: Float[np.ndarray, "phrases dim"]) -> Float[np.ndarray, "points phrases"]:
        """Cosines of all points with phrases, which are unit vectors of the encoder's joint space."""
        return cosines(self.vectors, self.basis.reduce(phrases), self._lengths)

    @cached_property
    def _lengths(self) -> Float[np.ndarray, "points 1"]:
        """Cached, since computing them takes longer than comparing with a phrase."""
        return np.linalg.norm(self.vectors, axis=1, keepdims=True)

    def compare(
        self, phrases: Float[np.ndarray, "phrases dim"], others: Float[np.ndarray, "others dim"]
    ) -> tuple[Float[np.ndarray, "points phrases"], Float[np.ndarray, "points negatives"]]:
        """Similarity of points to phrases, and to the negatives: the input of `relevancy` and `label`.

        Only differences within a point are meaningful. They are differences of cosines. With `sized`, each phrase is
        compared at a size of its own, and the cosine of its nearest negative is already subtracted.

        Args:
            phrases, others: unit vectors of the encoder's joint space; `others` are the negatives, and may be empty.
        """
        if self.sized is None:
            return self.scores(phrases), self.scores(others)
        found, _ = self.sized.margins(self.basis.reduce(phrases), self.basis.reduce(others))
        return found, np.zeros((len(found), min(len(others), 1)), np.float32)

    def places(self, camera: Camera, depth_z: Float[np.ndarray, "h w"]) -> "Places":
        """The surface points behind the pixels of an image.

        Args:
            camera: in the input frame, of the image's size.
            depth_z: the field's rendered z-depth in input units, 0 where nothing was hit.
        """
        h, w = depth_z.shape
        met = depth_z.ravel() > 0
        origins, directions = camera.rays(camera.pixel_centres()[met])
        hits = origins + directions * (depth_z.ravel()[met] / (directions @ camera.forward))[:, None]
        near, weight = self.neighbours(hits)
        weight = (weight / weight.sum(1, keepdims=True)).astype(np.float32)
        return Places((h, w), np.flatnonzero(met).astype(np.int32), near.astype(np.int32), weight)

    def neighbours(
        self, xyz: Float[np.ndarray, "places 3"]
    ) -> tuple[Int[np.ndarray, "places nearest"], Float[np.ndarray, "places nearest"]]:
        """The `NEAREST` surface points around positions of the input frame, by distance, and their weights: the inverse
        of the squared distance, softened by half a cell."""
        count = min(NEAREST, len(self.surface))
        distance, near = self.tree.query(xyz, k=count, workers=-1)
        distance, near = distance.reshape(-1, count), near.reshape(-1, count)
        softness = np.maximum(self.surface.cell[near[:, :1]], 1e-9) * 0.5
        return near, 1 / (distance**2 + softness**2)

    @cached_property
    def tree(self) -> cKDTree:
        """Search tree of the surface points."""
        return cKDTree(self.surface.xyz)


@dataclass(frozen=True)
class Places:
    """The surface points behind an image's pixels: some 36 bytes a pixel."""

    size: tuple[int, int]
    """Height and width."""
    pixel: Int[np.ndarray, " met"]
    """Indices of the pixels that show a surface, row by row."""
    near: Int[np.ndarray, "met nearest"]
    weight: Float[np.ndarray, "met nearest"]

    def image(self, values: Float[np.ndarray, "points dim"], nothing: float = 0.0) -> Float[np.ndarray, "h w dim"]:
        """Values of points as an image; `nothing` where there is no surface."""
        made = np.full((self.size[0] * self.size[1], values.shape[1]), nothing, np.float32)
        # One neighbour at a time: all at once would take `NEAREST` times the memory.
        made[self.pixel] = 0.0
        for column in range(self.near.shape[1]):
            made[self.pixel] += self.weight[:, column : column + 1].astype(np.float32) * values[self.near[:, column]]
        return made.reshape(*self.size, -1)

    def nearest(self, values: Int[np.ndarray, " points"], nothing: int = 0) -> Int[np.ndarray, "h w"]:
        """Integers of points as an image: each pixel takes its nearest point's."""
        made = np.full(self.size[0] * self.size[1], nothing, values.dtype)
        made[self.pixel] = values[self.near[:, 0]]
        return made.reshape(self.size)


def save_semantics(folder: Path, scene: SemanticScene) -> Path:
    """Write `FILE` into a run's folder; returns its path. Raises OutputError."""
    surface = scene.surface
    arrays: dict[str, Any] = {name: getattr(surface, name) for name in ("xyz", "normal", "rgb", "confidence", "cell")}
    arrays |= {name: getattr(scene, name) for name in ("vectors", "agreement", "instance")} | {"axes": scene.basis.axes}
    arrays = {name: np.ascontiguousarray(array, dtype=_STORED[name]) for name, array in arrays.items()}
    if scene.plane is not None:
        arrays["plane"] = scene.plane.astype(np.int8)
    if scene.pieces is not None:
        arrays["pieces"] = scene.pieces.astype(np.int32)
    if scene.instance_crops is not None:
        arrays["instance_crops"] = np.ascontiguousarray(scene.instance_crops, dtype=np.float16)
    if scene.shapes is not None:
        arrays["shapes"] = np.ascontiguousarray(scene.shapes, dtype=np.float16)
    if scene.parents is not None:
        arrays["parents"] = scene.parents.astype(np.int32)
    if scene.sized is not None:
        del arrays["vectors"]
        arrays |= scene.sized.arrays()
    facts = {
        "format_version": FORMAT_VERSION,
        "encoder": vars(scene.encoder),
        "left_out": scene.basis.left_out,
        "up": surface.up.tolist(),
        "metric": surface.metric,
        "metres_per_unit": scene.metres_per_unit,
    }
    path = folder / FILE
    write_atomic(path, lambda temporary: save_file(arrays, temporary, metadata={"ovseg3d": json.dumps(facts)}))
    return path


def load_semantics(folder: Path) -> SemanticScene:
    """Read what `save_semantics` wrote. Raises RunError: it is missing, truncated, of another version, or invalid."""
    path = folder / FILE
    again = f"ovseg3d train {folder} --resume --only semantics"
    if not os.path.lexists(path):
        raise RunError("The run has no semantics yet", where=folder, fix=again)
    stored, _ = tensor_headers(path, RunError, "file of the run's semantics", _MAX_BYTES, fix=again)
    check_memory(3 * sum(tensor.bytes for tensor in stored.values()), "What the run knows", path, RunError)
    try:
        with safe_open(path, framework="numpy") as file:
            facts = json.loads((file.metadata() or {}).get("ovseg3d", "null"))
            found = migrate_tensors({name: file.get_tensor(name) for name in file.keys()})
        if facts["format_version"] not in READABLE_VERSIONS:
            raise ValueError(f"format version {facts['format_version']}")
        sized = None
        if "vectors" not in found:
            sized = Sized.from_arrays(found)
            found["vectors"] = sized.at(0.5).astype(np.float16)
        _check(found)
        plane, up = found.get("plane"), np.array(facts["up"], dtype=np.float64)
        if up.shape != (3,) or not 1e-6 < np.linalg.norm(up) < 1e6:  # False for NaN, too
            raise ValueError("'up' is no direction")
        surface = Surface(
            found["xyz"], found["normal"].astype(np.float32), found["rgb"], found["confidence"].astype(np.float32),
            found["cell"], up, bool(facts["metric"]),
        )  # fmt: skip
        vectors, pieces = found["vectors"].astype(np.float32), found.get("pieces")
        instance_crops, shapes = (
            None if (kept := found.get(name)) is None else kept.astype(np.float32)
            for name in ("instance_crops", "shapes")
        )
        return SemanticScene(
            surface, Basis(found["axes"], float(facts["left_out"])), vectors,
            found["agreement"].astype(np.float32), found["instance"], _facts(**facts["encoder"]), sized, plane,
            pieces, instance_crops, shapes, _scale(facts.get("metres_per_unit")), found.get("parents"),
        )  # fmt: skip
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        raise RunError(f"The run's semantics cannot be read ({error})", where=path, fix=again) from error


def _scale(metres_per_unit: Any) -> float | None:
    if metres_per_unit is None:
        return None
    scale = float(metres_per_unit)
    if not 0 < scale < np.inf:
        raise ValueError(f"a scale of {scale:g}")
    return scale


def _facts(name: Any, id: Any, weight_hash: Any, logit_scale: Any) -> EncoderFacts:
    if not all(isinstance(text, str) and len(text) < 4096 for text in (name, id, weight_hash)):
        raise ValueError("the encoder has no name")
    scale = float(logit_scale)
    if not 0 < scale < 1e6:
        raise ValueError(f"a logit scale of {scale:g}")
    return EncoderFacts(name, id, weight_hash, scale)


def _check(found: dict[str, np.ndarray]) -> None:
    """Check a file's arrays. Raises ValueError, KeyError: they do not belong together, or hold invalid values."""
    points, kept = len(found["xyz"]), found["axes"].shape[-1]
    shapes: dict[str, tuple[int, ...]] = {name: (points,) for name in (*_STORED, "plane", "pieces")}
    shapes |= {name: (points, 3) for name in ("xyz", "normal", "rgb")}
    shapes |= {"vectors": (points, kept), "axes": (len(found["axes"]), kept)}
    if not points:
        raise ValueError("there are no points")
    if "instance_crops" in found:
        shapes["instance_crops"] = (len(found["instance_crops"]), kept)
    if "parents" in found:
        shapes["parents"] = (len(found["parents"]),)
    if "shapes" in found:
        shapes["shapes"] = (len(found["shapes"]), found["shapes"].shape[-1])
    maybe = {name: dtype for name, dtype in _MAYBE.items() if name in found}
    for name, dtype in {**_STORED, **maybe}.items():
        array = found[name]
        if array.dtype != dtype:
            raise ValueError(f"{name!r} is {array.dtype}")
        if array.shape != shapes[name]:
            raise ValueError(f"{name!r} is of shape {array.shape}, not {shapes[name]}")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ValueError(f"{name!r} has a number that is not finite")
        if array.dtype.kind == "i" and array.min(initial=0) < 0:
            raise ValueError(f"{name!r} has a negative number")
    instance = found["instance"]
    piece = found.get("pieces", instance)
    if (np.where(piece <= instance.max(), piece, 0) != instance).any():
        raise ValueError("'pieces' are not those of 'instance'")
    if piece.max() > points:  # arrays are made as long as the largest number
        raise ValueError(f"{points} points cannot be of {piece.max()} instances")
    numbers, parents = int(piece.max()), found.get("parents")
    if parents is not None:
        around = parents > 0
        number = np.maximum(np.arange(1, len(parents) + 1), numbers)
        if len(parents) < numbers or (parents[around] <= number[around]).any() or parents.max(initial=0) > len(parents):
            raise ValueError("'parents' do not follow their children")
        numbers = len(parents)
    for name in ("instance_crops", "shapes"):
        if name in found and len(found[name]) != numbers:
            raise ValueError(f"{len(found[name])} {name!r} are not those of {numbers} instances and fragments")
