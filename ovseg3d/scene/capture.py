"""A capture that has been read: `Scene`, its `Frame`s, and a `Finding` about it.

Frozen data, independent of the format on disk. Frames are sorted by name, names are unique, poses are OpenCV
camera-to-input. Photos stay on disk; `images.py` reads them.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float, UInt8

from ovseg3d.limits import MAX_PIXELS
from ovseg3d.scene.cameras import Camera
from ovseg3d.scene.units import Unit, unit_name

FORMATS = ("nerfstudio", "instant-ngp", "blender", "colmap", "llff", "replica", "scannet")


@dataclass(frozen=True)
class Frame:
    """One photo with its camera."""

    name: str
    """As the capture names it, with forward slashes: "images/0001.jpg"."""
    image_path: Path
    """The file to read; may be a smaller copy in an `images_N` folder."""
    camera: Camera
    """At the size used for training."""
    mask_path: Path | None = None
    """Black pixels are not used."""
    depth_path: Path | None = None
    """z-depth, times `Scene.depth_unit` in input units; 0 is unknown."""
    depth_window: tuple[float, float, float, float] | None = None
    """The part of the depth file that the photo shows: left, top, right, bottom, as shares of the file's sides. May
    reach beyond the file, where depth is unknown. None: all of it."""
    label_path: Path | None = None
    """An index image, or a folder with one mask for each phrase (3D-OVS)."""
    near_far: tuple[float, float] | None = None
    """z-depth bounds in input units, where the capture states them (LLFF)."""
    upright: bool = True
    """Whether to apply the photo's EXIF orientation."""
    max_pixels: int = MAX_PIXELS
    """Largest image of this frame that is decoded, see `Trust`."""


@dataclass(frozen=True)
class Scene:
    """A capture."""

    path: Path
    """The capture's folder."""
    name: str
    """The folder's name."""
    format: str
    """One of `FORMATS`."""
    frames: tuple[Frame, ...]
    """Sorted by name."""
    train: tuple[int, ...]
    """Indices into `frames`."""
    test: tuple[int, ...]
    """Indices into `frames`: held out. Empty only with `train_on_all`."""
    metric: bool
    """Whether lengths in metres are known."""
    metres_per_unit: float | None
    """Metres per input unit when metric, else None."""
    world_from_input: Float[np.ndarray, "4 4"]
    """Similarity into a frame with +z up; that frame is in metres when the scene is metric."""
    points: Float[np.ndarray, "points 3"] | None = None
    """Sparse points in the input frame."""
    points_rgb: UInt8[np.ndarray, "points 3"] | None = None
    """Their colours."""
    depth_unit: float = 0.001
    """Value in a depth file x depth_unit = input units."""
    has_alpha: bool = False
    """Whether photos are RGBA and have transparent pixels."""
    classes: dict[int, str] = field(default_factory=dict)
    """Label index to phrase."""
    ignore_label: int | None = None
    """Label index of pixels that evaluation ignores."""
    phrases: tuple[str, ...] = ()
    """Phrases that the capture lists, in its order and spelling."""
    photos: tuple[str, ...] = ()
    """Names of all photos in order: those of `frames`, and those without a pose or a file, which labels count too."""
    recommended_encoder: dict[str, str] = field(default_factory=dict)
    """Such as {"clip": "builtin", "dino": "builtin"}."""
    aabb_scale: float | None = None
    """instant-ngp's hint of the size of the surroundings."""
    notes: tuple[str, ...] = ()
    """Notes of the reader, as sentences for the user."""
    exact: bool = False
    """Poses and colours are exact: a synthetic room, or a Blender capture with transparency. Its depth files are ground
    truth."""

    @property
    def unit(self) -> Unit:
        """Unit of lengths in the input frame: "m" only if one unit is one metre."""
        return unit_name(self.metres_per_unit)


@dataclass(frozen=True)
class Finding:
    """A result of `check_scene`."""

    level: Literal["error", "warning", "note"]
    """An error prevents training, a warning may spoil it, a note is information."""
    what: str
    """A sentence."""
    where: str | None = None
    """The frames or files in question."""
    fix: str | None = None
    """What to do about it."""
