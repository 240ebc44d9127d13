"""Everything that can be set for a run: one frozen dataclass of plain values, which pickles and is JSON.

The text under each setting is its help on the command line. A setting that is None is left to what the scene
and the machine suggest. How settings from several places combine is in `settings.py`.
"""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from ovseg3d.errors import ConfigError
from ovseg3d.field.config import FieldConfig
from ovseg3d.runs.devices import BackendName, DeviceName
from ovseg3d.runs.stages import plan

# Every number of the field has its range (a test holds this). Beyond these nothing useful happens: training hangs
# or crashes, and a run folder made by somebody else could ask for all the memory.
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
    "near_gradient": (0, 100),
}


def _positive(name: str, value: int | float | None) -> None:
    if value is not None and not 0 < value < math.inf:
        raise ConfigError(f"--{name} must be above 0, not {value}", fix=f"leave --{name} away for the default")


@dataclass(frozen=True)
class SceneConfig:
    """How the capture is read."""

    format: Literal["nerfstudio", "instant-ngp", "blender", "colmap", "llff"] | None = None
    """Format of the scene folder; by default found out from what it holds."""
    downscale: float | None = None
    """Train on photos so many times smaller than their intrinsics state; by default see --max-side."""
    max_side: int | None = None
    """Without --downscale: shrink photos by the least whole factor that brings the longest side to this."""
    depth: Literal["off", "on", "auto"] = "off"
    """Supervise with measured depth. on: the scene must have it; auto: where it has it."""
    refine_poses: bool = False
    """Correct the training cameras' poses while training."""
    scale: float | None = None
    """Metres per unit of the capture, when you know it; makes all lengths metric."""
    train_on_all: bool = False
    """Train on the held-out views too; no figures for held-out views then."""

    def __post_init__(self) -> None:
        _positive("downscale", self.downscale)
        _positive("max-side", self.max_side)
        _positive("scale", self.scale)


@dataclass(frozen=True)
class TrainConfig:
    """How long, on what, and how it is kept."""

    seed: int = 0
    """Seed of everything random."""
    steps: int | None = None
    """Train for so many steps; same seed and machine, same bits."""
    max_seconds: float | None = None
    """Train for at most so long. Alone, learning rates decay to fit the time; with --steps they follow the steps, and
    time may only end the run."""
    checkpoint_seconds: float = 30.0
    """Seconds between checkpoints: the most that an interruption costs."""
    device: DeviceName = "auto"
    """Where to train. auto: the GPU if there is one."""
    backend: BackendName = "auto"
    """What computes the field. auto: warp; tcnn needs CUDA, tinycudann and nerfacc."""
    tensorboard: bool = False
    """Also write figures for tensorboard (needs the package tensorboard)."""

    def __post_init__(self) -> None:
        _positive("steps", self.steps)
        _positive("max-seconds", self.max_seconds)
        _positive("checkpoint-seconds", self.checkpoint_seconds)
        if not 0 <= self.seed < 2**31:
            raise ConfigError("--seed must be from 0 to 2147483647", fix="--seed 0")


@dataclass(frozen=True)
class EncodeConfig:
    """Which encoders look at the photos, and how."""

    clip: str = "auto"
    """Text-image encoder: MODEL:PRETRAINED of open_clip, MODEL:FILE, a folder, or builtin. auto: what the scene
    recommends, else ViT-B-16:laion2b_s34b_b88k."""
    dino: str = "auto"
    """Self-supervised encoder: an id of the hub, a folder, builtin, or none. auto: what the scene recommends, else
    facebook/dino-vits8."""
    dense_path: Literal["auto", "plain", "maskclip", "sclip", "clearclip"] | None = None
    """How the last block of an open_clip ViT brings patches into the joint space; by default what the model's card.json
    says, else auto: clearclip, or plain where patches are what the model pools."""
    facet: Literal["tokens", "keys"] = "tokens"
    """What DINO says about a patch: its token, or the key of its last block, which LERF takes."""
    features: Literal["auto", "dense", "pyramid", "regions"] = "auto"
    """From photos to features: a vector per patch, per crop of many sizes (slow), or per region. auto: per region, and
    per crop for the methods 3d-ovs and lerf."""
    segments: str = "dino"
    """What regions are made from: dino, superpixels, or sam:ID (SAM through transformers; an id or a folder)."""
    crops: int | None = None
    """So many of the largest regions also get a crop with context; by default none on a CPU, 64 on a GPU."""
    clip_side: int | None = None
    """Shorter side of the photo that CLIP sees, in pixels; by default 1.5 times what it was trained on."""
    dino_side: int = 256
    """Shorter side of the photo that DINO sees, in pixels; 500 is finer and some four times slower."""
    pyramid: Literal["lerf", "3d-ovs"] | None = None
    """Whose schedule of crops --features pyramid follows; by default that of --method, else lerf."""
    phrases: str | None = None
    """What is in the scene: phrases with semicolons, or a file with one a line; by default what the capture says. They
    stay with the run; segment and query take others later. Name what is there: a list with all of them labels more."""
    cache_dir: str | None = None
    """Where features are kept, for all runs; by default OVSEG3D_CACHE_DIR, else the system's place for caches."""

    def __post_init__(self) -> None:
        _positive("clip-side", self.clip_side)
        _positive("dino-side", self.dino_side)
        if self.crops is not None and self.crops < 0:
            raise ConfigError(f"--crops must be 0 or more, not {self.crops}", fix="--crops 0")
        for name in ("clip", "dino", "segments"):
            if not getattr(self, name).strip():
                raise ConfigError(f"--{name} names nothing", fix=f"leave --{name} away for the default")


@dataclass(frozen=True)
class SemanticsConfig:
    """How meaning is learnt from features."""

    method: Literal["default", "lift", "3d-ovs", "lerf"] = "default"
    """lift: the photos' features carried to the surface, no training. default: refined on rays besides, and things also
    seen as wholes. 3d-ovs: learnt with the scene's phrases. lerf: features by size, the size chosen for each query."""
    instance_crops: int | None = None
    """default: each thing is cut out of so many photos that show it best, and seen as a whole, and so is what may be a
    door in its wall; 0: of none. By default of six, on a CPU of fewer if the encoder is large and things are many."""
    refine_steps: int | None = None
    """Steps of learning on rays, for all methods but lift; by default the method's own number."""
    refine_seconds: float | None = None
    """End learning on rays after so long; its rates follow the steps."""
    selection: bool = True
    """3d-ovs: let the field choose among the sizes of crops at each place; without it their mean counts."""
    rda: bool = True
    """3d-ovs: relevancy-distribution alignment."""
    fda: bool = True
    """3d-ovs: feature-distribution alignment, which needs DINO."""
    rebalance: bool = True
    """3d-ovs: in it, count alike and unlike pairs each for themselves."""

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
    """Only these stages, with commas; by default all. field needs no encoder."""

    @property
    def stages(self) -> tuple[str, ...]:
        """The names of the stages to run, in their order; see `runs.stages`."""
        return tuple(stage.name for stage in plan(self.only))

    @property
    def views_as(self) -> EncodeConfig:
        """`encode` for this run's method: what it leaves open, the method says."""
        method = self.semantics.method
        if "semantics" not in self.stages or method not in ("3d-ovs", "lerf"):
            return self.encode
        features = "pyramid" if self.encode.features == "auto" else self.encode.features
        return replace(self.encode, features=features, pyramid=self.encode.pyramid or method)

    def __post_init__(self) -> None:
        if "semantics" in self.stages:  # raises where --only names no stage
            self._check_method()
        for name, (low, high) in FIELD_LIMITS.items():
            value = getattr(self.field, name, low)
            if not low <= value <= high:  # nor is NaN
                flag = f"--field.{name.replace('_', '-')}"
                raise ConfigError(f"{flag} must be from {low:g} to {high:g}, not {value}")

    def _check_method(self) -> None:
        if self.semantics.method == "lerf" and self.views_as.features != "pyramid":
            raise ConfigError(
                "lerf learns from crops of many sizes", fix="leave --features away, or --features pyramid"
            )
        if self.semantics.method == "3d-ovs" and self.semantics.fda and self.encode.dino == "none":
            raise ConfigError("Feature-distribution alignment needs a DINO", fix="leave --dino none away, or --no-fda")


def presets_folder() -> Path:
    """The folder of the YAML presets: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"
