"""Settings of the radiance field. The text under each setting is its help on the command line.

Lengths are in field units: the inner box, which holds the content of the photos, is [-1, 1]^3.
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
    """log2 of the largest number of entries in a level's table."""
    base_resolution: int = 16
    """Resolution of the coarsest level over the whole grid."""
    max_resolution: int = 384
    """Resolution of the finest level over the whole grid."""

    # The networks.
    hidden: int = 64
    """Width of the hidden layers."""
    geometry_features: int = 15
    """Features that the density network passes to the colour network."""

    # The box, and the occupancy grid in cascades around it.
    bounds: Literal["auto", "bounded", "open"] = "auto"
    """Whether all content lies within a box. auto: bounded when photos have transparency, else open."""
    occupancy_resolution: int = 128
    """Cells along each axis of a cascade of the occupancy grid."""
    cascades: int = 4
    """Cascades of an open scene; each reaches twice as far as the one before. A bounded scene has one."""
    occupancy_every: int = 16
    """Steps between updates of the occupancy grid."""
    occupancy_warmup: int = 96
    """Steps before any cell is emptied."""
    occupancy_threshold: float = 0.02
    """A cell stays occupied while a recent training ray had at least this render weight in it."""

    # Samples along rays.
    step_size: float = 0.5
    """Distance between samples, as a share of a cell of the innermost cascade."""
    cone: float = 0.01
    """Distance between samples far from the camera, as a share of the distance from the camera."""
    merge: float = 0.06
    """Neighbouring samples are merged until their render weights add up to this."""
    near: float = 0.05
    """Distance at which rays begin (field units), unless the capture states its own."""
    samples: int = 32_768
    """Approximate number of samples in a step; the number of rays is adapted to it."""
    max_rays: int = 8_192
    """Largest number of rays in a step."""

    # Training.
    learning_rate: float = 8e-2
    """Learning rate of the grid at the start."""
    network_learning_rate: float = 2e-2
    """Learning rate of the networks at the start."""
    decay: float = 0.03
    """Learning rates at the end, as a share of those at the start."""
    distortion: float = 0.008
    """Weight of the distortion loss in normalised distance (Barron et al. 2022, equation 15), which concentrates a
    ray's weight."""
    depth_weight: float = 1.0
    """Weight of the depth loss, on measured depth and on sparse points (relative error)."""
    point_share: float = 0.25
    """Rays of a step through sparse points, as a share of the others."""
    completion_weight: float = 0.3
    """Weight of the completed depth between sparse points, as a share of that of a point."""
    planarity: float = 0.5
    """Weight of the planarity loss, on three rays in a line of constant colour; used with sparse points."""
    near_gradient: float = 0.5
    """Gradients of samples closer to the camera than this (field units) are scaled by (distance / this)^2."""
    photo_learning_rate: float = 1e-3
    """Learning rate of the exposure of photos, and of their pose corrections with --refine-poses on."""
