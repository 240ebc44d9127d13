"""All settings of a run: one frozen dataclass of plain values, which can be pickled and written as JSON.

The text under each setting is its help on the command line. None means that the scene and the machine determine the
setting. `settings.py` combines settings from several sources.
"""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from ovseg3d.errors import ConfigError
from ovseg3d.field.config import FieldConfig
from ovseg3d.runs.devices import BackendName, DeviceName
from ovseg3d.runs.stages import plan

# Every number of the field has a range (tested). Outside it training hangs or crashes, and a run folder from somebody
# else could request all memory.
FIELD_LIMITS: dict[str, tuple[float, float]] = {
    "levels": (1, 32),
    "features": (1, 8),
    "log2_table": (4, 24),
    "base_resolution": (2, 1024),
    "max_resolution": (2, 65536),
    "hidden": (8, 256),
    "geometry_features": (1, 128),
    "occupancy_resolution": (8, 512),
    "cascades": (1, 8),
    "samples": (64, 2**24),
    "max_rays": (64, 2**20),
    "occupancy_every": (1, 10**6),
    "occupancy_warmup": (0, 10**9),
    "occupancy_threshold": (0, 1),
    "step_size": (0.01, 100),
    "cone": (0, 1),
    "merge": (0, 1),
    "near": (0, 100),
    "learning_rate": (0, 1),
    "network_learning_rate": (0, 1),
    "photo_learning_rate": (0, 1),
    "decay": (1e-6, 1),
    "distortion": (0, 1000),
    "depth_weight": (0, 1000),
    "point_share": (0, 4),
    "completion_weight": (0, 1000),
    "planarity": (0, 1000),
    "near_gradient": (0, 100),
}

Layout = Literal["auto", "indoor", "none"]
"""Whether priors of rooms count; see `SemanticsConfig.layout`."""


def _positive(name: str, value: int | float | None) -> None:
    if value is not None and not 0 < value < math.inf:
        raise ConfigError(f"--{name} must be above 0, not {value}", fix=f"leave out --{name} for the default")


@dataclass(frozen=True)
class SceneConfig:
    """How to read the capture."""

    format: Literal["nerfstudio", "instant-ngp", "blender", "colmap", "llff", "replica", "scannet"] | None = None
    """Format of the scene folder; by default detected from its content."""
    downscale: float | None = None
    """Reduction factor of the photos, relative to the size in the intrinsics; by default see --max-side."""
    max_side: int | None = None
    """Without --downscale: reduce photos by the smallest whole factor that brings the longest side to at most this many
    pixels."""
    depth: Literal["auto", "on", "off"] = "auto"
    """Supervise with measured depth. auto: if the capture has it; depth files of a synthetic capture are ground truth
    and only measured against. on: the capture must have depth."""
    sparse_depth: Literal["auto", "off"] = "auto"
    """Supervise with sparse points, matched between the photos, and with depth completed between them. auto: for real
    photos."""
    depth_prior: str = "off"
    """Monocular depth model that shapes the completed depth of real photos between sparse points: builtin, or a model
    of transformers by hub id, such as depth-anything/Depth-Anything-V2-Small-hf, or by folder; or off."""
    refine_poses: Literal["auto", "on", "off"] = "auto"
    """Correct the poses of the training cameras. auto: by bundle adjustment of the sparse points, for real photos. on:
    also during training."""
    refine_focal: Literal["auto", "off"] = "auto"
    """Correct the focal length of the cameras. auto: with the poses, by bundle adjustment, where ten training photos or
    more share a lens; held-out photos of that lens get it too."""
    exposure: Literal["auto", "on", "off"] = "auto"
    """Learn a gain and an offset of each colour channel for each training photo. auto: for real photos."""
    scale: float | None = None
    """Metres per unit of the capture, if known; makes all lengths metric."""
    train_on_all: bool = False
    """Train on the held-out views too; there are no held-out metrics then."""

    def __post_init__(self) -> None:
        _positive("downscale", self.downscale)
        _positive("max-side", self.max_side)
        _positive("scale", self.scale)
        if self.depth_prior != "off" and self.sparse_depth == "off":
            raise ConfigError("--depth-prior needs sparse depth", fix="leave out --sparse-depth off")


@dataclass(frozen=True)
class TrainConfig:
    """Length, device and checkpoints of training."""

    seed: int = 0
    """Seed of all random numbers."""
    steps: int | None = None
    """Number of training steps. The same seed and machine give the same bits."""
    max_seconds: float | None = None
    """Maximum training time in seconds. Without --steps, the learning rates decay over this time; with --steps they
    follow the steps, and the time only ends the run."""
    checkpoint_seconds: float = 30.0
    """Seconds between checkpoints; an interruption loses at most this much."""
    device: DeviceName = "auto"
    """Device for training. auto: the GPU if there is one."""
    backend: BackendName = "auto"
    """Backend of the field. auto: warp. tcnn needs CUDA, tinycudann and nerfacc."""
    max_vram: float | None = None
    """Most memory of the GPU that the run allocates, GiB; by default all of it. Photos are then encoded in smaller
    batches, and images rendered in smaller chunks, as needed."""
    tensorboard: bool = False
    """Also write tensorboard logs (needs the package tensorboard)."""

    def __post_init__(self) -> None:
        _positive("steps", self.steps)
        _positive("max-seconds", self.max_seconds)
        _positive("checkpoint-seconds", self.checkpoint_seconds)
        _positive("max-vram", self.max_vram)
        if not 0 <= self.seed < 2**31:
            raise ConfigError("--seed must be from 0 to 2147483647", fix="--seed 0")


@dataclass(frozen=True)
class EncodeConfig:
    """Encoders of the photos, and how they are applied."""

    clip: str = "auto"
    """Text-image encoder: MODEL:PRETRAINED of open_clip, MODEL:FILE, a folder, or builtin. auto: the scene's
    recommendation, else ViT-B-16:laion2b_s34b_b88k."""
    dino: str = "auto"
    """Self-supervised encoder: an id on the Hugging Face hub, a folder, builtin, or none. auto: the scene's
    recommendation, else facebook/dino-vits8."""
    dense_path: Literal["auto", "plain", "maskclip", "sclip", "clearclip"] | None = None
    """How the last block of an open_clip ViT projects patches into the joint space; by default as stated in the model's
    card.json, else auto: clearclip, or plain if the model pools its patches."""
    facet: Literal["tokens", "keys"] = "tokens"
    """DINO feature of a patch: its token, or the key of the last block, as in LERF."""
    features: Literal["auto", "dense", "pyramid", "regions"] = "auto"
    """Features of a photo: dense (per patch), pyramid (per crop of several sizes; slow) or regions (per region). auto:
    regions; pyramid for the methods 3d-ovs and lerf."""
    segments: str = "dino"
    """Source of the regions: dino, superpixels, or sam:ID (SAM through transformers; an id or a folder)."""
    crops: int | None = None
    """Number of largest regions that are also encoded as a crop with context; by default 0 on a CPU, 64 on a GPU."""
    clip_side: int | None = None
    """Shorter side of the photo for CLIP, in pixels; by default 1.5 times its training size."""
    dino_side: int = 256
    """Shorter side of the photo for DINO, in pixels; 500 is finer and about four times slower."""
    pyramid: Literal["lerf", "3d-ovs"] | None = None
    """Crop schedule of --features pyramid; by default that of --method, else lerf."""
    phrases: str | None = None
    """What is in the scene: phrases separated by semicolons, or a file with one per line; by default those of the
    capture. They are stored in the run; segment and query can use others later. A complete list labels more."""
    cache_dir: str | None = None
    """Folder of the cache of features and sparse points, for all runs; by default OVSEG3D_CACHE_DIR, else the system's
    cache folder."""

    def __post_init__(self) -> None:
        _positive("clip-side", self.clip_side)
        _positive("dino-side", self.dino_side)
        if self.crops is not None and self.crops < 0:
            raise ConfigError(f"--crops must be 0 or more, not {self.crops}", fix="--crops 0")
        for name in ("clip", "dino", "segments"):
            if not getattr(self, name).strip():
                raise ConfigError(f"--{name} is empty", fix=f"leave out --{name} for the default")


@dataclass(frozen=True)
class SemanticsConfig:
    """How semantics are learned from features."""

    method: Literal["default", "lift", "3d-ovs", "lerf"] = "default"
    """lift: features of the photos lifted to the surface, without training. default: the same, and instances are also
    encoded from crops. 3d-ovs: learned with the scene's phrases. lerf: features at several scales, with the scale
    chosen for each query."""
    instance_crops: int | None = None
    """For --method default: number of photos from which each instance is cropped and encoded, those that show it best.
    0: no crops. By default six; on a CPU fewer if the encoder is large and there are many instances."""
    layout: Layout = "auto"
    """Priors of rooms, in grouping and in answers: planes that are floor, walls and ceiling, and names
    by shape. auto: if the planes of a room are found. indoor: always. none: never."""
    refine_steps: int | None = None
    """Training steps of the methods 3d-ovs and lerf; by default the method's own number."""
    refine_seconds: float | None = None
    """Maximum time of that training in seconds; the learning rates follow the steps."""
    selection: bool = True
    """3d-ovs: the field selects the crop size at each position; without it, the mean over sizes is used."""
    rda: bool = True
    """3d-ovs: relevancy-distribution alignment."""
    fda: bool = True
    """3d-ovs: feature-distribution alignment; needs DINO."""
    rebalance: bool = True
    """3d-ovs: in feature-distribution alignment, average similar and dissimilar pairs separately."""

    def __post_init__(self) -> None:
        _positive("refine-steps", self.refine_steps)
        _positive("refine-seconds", self.refine_seconds)
        if self.instance_crops is not None and not 0 <= self.instance_crops <= 100:
            raise ConfigError(
                f"--instance-crops must be from 0 to 100, not {self.instance_crops}", fix="--instance-crops 6"
            )


@dataclass(frozen=True)
class Config:
    """All settings of a run."""

    scene: SceneConfig = SceneConfig()
    train: TrainConfig = TrainConfig()
    field: FieldConfig = FieldConfig()
    encode: EncodeConfig = EncodeConfig()
    semantics: SemanticsConfig = SemanticsConfig()
    only: str | None = None
    """Run only these stages, separated by commas; by default all. field needs no encoder."""

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of the stages to run, in order; see `runs.stages`."""
        return tuple(stage.name for stage in plan(self.only))

    @property
    def views_as(self) -> EncodeConfig:
        """`encode` with the settings that it leaves open determined by the method."""
        method = self.semantics.method
        if "semantics" not in self.stages or method not in ("3d-ovs", "lerf"):
            return self.encode
        features = "pyramid" if self.encode.features == "auto" else self.encode.features
        return replace(self.encode, features=features, pyramid=self.encode.pyramid or method)

    def __post_init__(self) -> None:
        if "semantics" in self.stages:  # raises if --only names an unknown stage
            self._check_method()
        for name, (low, high) in FIELD_LIMITS.items():
            value = getattr(self.field, name, low)
            if not low <= value <= high:  # also false for NaN
                flag = f"--field.{name.replace('_', '-')}"
                raise ConfigError(f"{flag} must be from {low:g} to {high:g}, not {value}")

    def _check_method(self) -> None:
        if self.semantics.method == "lerf" and self.views_as.features != "pyramid":
            raise ConfigError(
                "--method lerf needs crops of several sizes", fix="leave out --features, or use --features pyramid"
            )
        if self.semantics.method == "3d-ovs" and self.semantics.fda and self.encode.dino == "none":
            raise ConfigError("Feature-distribution alignment needs DINO", fix="leave out --dino none, or use --no-fda")


def presets_folder() -> Path:
    """Folder of the YAML presets: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"
