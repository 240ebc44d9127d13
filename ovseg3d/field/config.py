"""Settings of the radiance field. The text under each setting is its help on the command line.

Lengths are in field units: the inner box, where the photos' content is, reaches from -1 to 1.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class FieldConfig:
    """The radiance field: its grid, its networks, how rays are sampled, and how it is trained."""

    # The grid (Mueller et al. 2022, section 3; geometry and layout as in tinycudann).
    levels: int = 8
    """Levels of the hash grid."""
    features: int = 4
    """Features in each entry of a level's table."""
    log2_table: int = 17
    """log2 of the most entries that a level's table holds."""
    base_resolution: int = 16
    """Resolution of the coarsest level over the whole grid."""
    max_resolution: int = 384
    """Resolution of the finest level over the whole grid."""

    # The networks.
    hidden: int = 64
    """Width of the hidden layers."""
    geometry_features: int = 15
    """Numbers that the density network hands to the colour network."""

    # Where there is something: the box, and occupancy in cascades around it.
    bounds: Literal["auto", "bounded", "open"] = "auto"
    """Whether all content lies within a box. auto: bounded when photos have transparency, else open."""
    occupancy_resolution: int = 128
    """Cells along each axis of each cascade of the occupancy grid."""
    cascades: int = 4
    """Cascades of an open scene; each reaches twice as far as the one before. A bounded scene has one."""
    occupancy_every: int = 16
    """Steps between updates of the occupancy grid."""
    occupancy_warmup: int = 96
    """Steps before cells are first emptied."""
    occupancy_threshold: float = 0.02
    """A cell stays while some recent training ray found at least this render weight in it."""

    # Samples along rays.
    step_size: float = 0.5
    """Distance between samples, as a share of the cell of the innermost cascade."""
    cone: float = 0.01
    """Far away the distance between samples grows to this share of the distance from the camera."""
    merge: float = 0.06
    """Neighbouring samples are merged until they have this render weight together."""
    near: float = 0.05
    """Where rays begin (field units), unless the capture says otherwise."""
    samples: int = 32_768
    """Samples a step, about; the number of rays follows."""
    max_rays: int = 4_096
    """The most rays a step."""

    # Training.
    learning_rate: float = 8e-2
    """Rate of the grid at the start."""
    network_learning_rate: float = 2e-2
    """Rate of the networks at the start."""
    decay: float = 0.03
    """Rates end at this share of their start."""
    distortion: float = 0.002
    """Weight of the distortion loss (Barron et al. 2022, equation 15), which gathers a ray's weight at one depth."""
    depth_weight: float = 0.1
    """Weight of the depth loss where measured depth is used."""
    near_gradient: float = 0.5
    """Gradients of samples nearer to the camera than this are scaled down, by the square of their distance."""
    exposure: bool = False
    """Learn a gain and offset in each colour channel for each training photo."""
    photo_learning_rate: float = 1e-3
    """Rate of what is learned about each photo: exposure, and camera corrections with --refine-poses."""
