"""Analysis by synthesis: the pose, and the kind, whose rendered neural mesh explains a crop's features best.

Every kind has a mesh (see `meshes`) that carries a unit vector m_v on each vertex; what is beside it, clutter, has some
c_b of its own. A small network turns an encoder's patch features into unit vectors f_i, too. For a kind and a pose, the
renderer says which share w_iv of cell i shows vertex v, and the cell has the likelihood

    p(f_i) ~ sum_v w_iv exp(kappa f_i . m_v) + (1 - sum_v w_iv) mean_b exp(kappa f_i . c_b),

a mixture of von Mises-Fisher densities of one concentration kappa: that of NeMo (Wang, Kortylewski and Yuille, ICLR
2021, section 3), but summed over all that a cell may show. Cells are not independent, so that the logarithm of their
product is divided by a temperature. Poses are compared on a grid of azimuth, elevation and theta, with the frequencies
of the training crops as their prior.
"""

import math
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from ovseg3d.errors import PoseError
from ovseg3d.geometry import rotation_of_angles
from ovseg3d.heads.pose.meshes import Outline, SurfaceShape, vertex_weights
from ovseg3d.heads.pose.network import SYMMETRY_ORDERS

CONCENTRATION = 12.0
"""Of the von Mises-Fisher densities."""
AZIMUTHS = tuple(range(0, 360, 10))
ELEVATIONS = tuple(range(-5, 51, 11))
THETAS = tuple(range(-7, 8, 7))
"""Degrees, of the grid of poses: people hold cameras nearly level, and look down on things. Nine in ten training crops
are within it, and the others next to its edge."""
LEAST_LIKELIHOOD = 1e-12
"""Added to a cell's, whose highest is 1: of unit vectors that are opposite it is 4e-11."""
DROPOUT = 0.2
CROPS_AT_ONCE = 64
MIN_PRIOR = 1e-3
"""Least probability of a kind that is looked at, as a share of the likeliest's."""
RENDERED = 64
"""Meshes whose pictures at all poses are kept, 16 MB each; cuboids have one for each kind."""


@dataclass(frozen=True)
class MeshesShape:
    """What builds `NeuralMeshes`."""

    kinds: tuple[str, ...]
    halves: tuple[tuple[float, float, float], ...]
    """Half extents of each kind's mesh along its own axes; only their ratios count."""
    channels: int
    """Of a patch feature."""
    outline: Outline = "cuboid"
    texels: int = 4
    """Vertices along a side of a face."""
    grid: int = 8
    """Cells along a side of a crop: as the built-in DINO has patches."""
    hidden: int = 96
    dim: int = 48
    """Of the unit vectors."""
    clutters: int = 8
    """Vectors of clutter."""
    text: int = 192
    """Of a phrase's vector."""


class NeuralMeshes(nn.Module):
    """The meshes of several kinds, and the network whose vectors they explain.

    Besides weights it has buffers, which training crops fill: `poses`, logarithms of the frequencies of the grid's
    poses by kind; `orders`, frequencies of SYMMETRY_ORDERS by kind; `texts`, the kinds' phrases as unit vectors; and
    `temperature`.
    """

    poses: Tensor
    orders: Tensor
    texts: Tensor
    temperature: Tensor

    def __init__(self, shape: MeshesShape) -> None:
        super().__init__()
        self.shape = shape
        kinds = len(shape.kinds)
        self.norm = nn.LayerNorm(shape.channels)
        self.first = nn.Conv2d(shape.channels, shape.hidden, 1)
        self.middle = nn.Conv2d(shape.hidden, shape.hidden, 3, padding=1)
        self.last = nn.Conv2d(shape.hidden, shape.dim, 3, padding=1)
        self.drop = nn.Dropout2d(DROPOUT)
        self.shared = nn.Parameter(torch.randn(self.surface(0).vertices, shape.dim))
        self.own = nn.Parameter(torch.zeros(kinds, self.surface(0).vertices, shape.dim))
        self.clutter = nn.Parameter(torch.randn(shape.clutters, shape.dim))
        self.register_buffer("poses", torch.full((kinds, len(pose_grid())), -math.log(len(pose_grid()))))
        self.register_buffer("orders", torch.full((kinds, len(SYMMETRY_ORDERS)), 1 / len(SYMMETRY_ORDERS)))
        self.register_buffer("texts", torch.zeros(kinds, shape.text))
        self.register_buffer("temperature", torch.ones(()))

    @property
    def vertices(self) -> Float[Tensor, "kinds vertices dim"]:
        """Unit vectors of the vertices. All kinds share a part, since their fronts and tops are alike."""
        return F.normalize(self.shared + self.own, dim=2)

    def surface(self, kind: int) -> SurfaceShape:
        """The geometry of a kind's mesh."""
        return SurfaceShape(self.shape.outline, self.shape.halves[kind], self.shape.texels)

    def forward(self, features: Float[Tensor, "crops channels grid grid"]) -> Float[Tensor, "crops cells dim"]:
        """Unit vectors of the cells, row by row."""
        x = self.norm(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        x = F.gelu(self.middle(self.drop(F.gelu(self.first(x)))))
        return F.normalize(self.last(self.drop(x)).flatten(2).transpose(1, 2), dim=2)

    def facts(self) -> dict[str, Any]:
        """What builds these meshes before their weights are loaded (JSON values)."""
        return asdict(self.shape)


def pose_grid() -> Float[np.ndarray, "poses 3"]:
    """Azimuth, elevation and theta of the poses that are compared, radians; theta changes fastest."""
    return np.radians(np.stack(np.meshgrid(AZIMUTHS, ELEVATIONS, THETAS, indexing="ij"), -1).reshape(-1, 3))


def rotations_of(angles: Float[np.ndarray, "n 3"]) -> Float[Tensor, "n 3 3"]:
    """From object to camera (OpenCV), of azimuth, elevation and theta in radians."""
    return torch.from_numpy(rotation_of_angles(angles).as_matrix()).float()


def kind_log_likelihoods(
    meshes: NeuralMeshes,
    vectors: Float[Tensor, "crops cells dim"],
    kinds: Int[Tensor, " kinds"],
    weights: Float[Tensor, "crops cells vertices"],
) -> Float[Tensor, "crops kinds"]:
    """As `log_likelihoods`, of some kinds at one pose of each crop, with the same shape for all kinds.

    Args:
        meshes: the model.
        vectors: of the crops' cells.
        kinds: indices.
        weights: what the cells show, see `vertex_weights`.
    """
    vertices = meshes.vertices[kinds]
    seen = (CONCENTRATION * (vectors @ vertices.flatten(0, 1).T - 1)).exp().unflatten(2, vertices.shape[:2])
    clutter = (_log_clutter(meshes, vectors) - CONCENTRATION).exp() * (1 - weights.sum(2)).clamp(min=0)
    return ((seen @ weights[..., None])[..., 0] + clutter[..., None] + LEAST_LIKELIHOOD).log().sum(1)


def log_likelihoods(
    meshes: NeuralMeshes,
    vectors: Float[Tensor, "crops cells dim"],
    kind: int,
    weights: Float[Tensor, "poses cells vertices"],
) -> Float[Tensor, "crops poses"]:
    """Logarithms of the likelihoods of crops under poses of one kind, up to a constant of all kinds and poses.

    Args:
        meshes: the model.
        vectors: of the crops' cells.
        kind: index of the kind.
        weights: its mesh at the poses, see `vertex_weights`.
    """
    seen = (CONCENTRATION * (vectors @ meshes.vertices[kind].T - 1)).exp()
    clutter = (_log_clutter(meshes, vectors) - CONCENTRATION).exp()
    open_share = (1 - weights.sum(2)).clamp(min=0)
    # A cell a batch: crops x vertices times vertices x poses.
    mixed = seen.transpose(0, 1) @ weights.permute(1, 2, 0) + clutter.T[..., None] * open_share.T[:, None]
    return (mixed + LEAST_LIKELIHOOD).log().sum(0)


def _log_clutter(meshes: NeuralMeshes, vectors: Float[Tensor, "*n dim"]) -> Float[Tensor, "*n"]:
    logits = CONCENTRATION * vectors @ F.normalize(meshes.clutter, dim=1).T
    return logits.logsumexp(-1) - math.log(len(meshes.clutter))


@dataclass(frozen=True)
class Posterior:
    """What crops show, given their features. Distributions add up to 1 in each row."""

    azimuth: Float[Tensor, "crops azimuths"]
    """On AZIMUTHS, over all kinds; likewise the next two."""
    elevation: Float[Tensor, "crops elevations"]
    theta: Float[Tensor, "crops thetas"]
    kinds: Float[Tensor, "crops kinds"]
    best: Float[Tensor, "crops 3"]
    """Azimuth, elevation and theta of the likeliest pose on the grid, radians."""
    evidence: Float[Tensor, " crops"]
    """Logarithm of the likelihood of there being an object, relative to that of nothing but clutter."""


def posterior(
    meshes: NeuralMeshes,
    vectors: Float[Tensor, "crops cells dim"],
    kind_prior: Float[Tensor, "crops kinds"],
) -> Posterior:
    """Poses and kinds by Bayes' rule, summed over the grid of poses.

    Args:
        meshes: the model.
        vectors: of the crops' cells, see `NeuralMeshes.forward`.
        kind_prior: probabilities of the kinds; those far below the likeliest are left out, see MIN_PRIOR.

    Raises:
        PoseError: a vector is not finite.
    """
    if not torch.isfinite(vectors).all():
        raise PoseError("Features of crops have numbers that are not finite", fix="check the photos and the encoder")
    angles = pose_grid()
    sizes = (len(AZIMUTHS), len(ELEVATIONS), len(THETAS))
    crops, kinds = len(vectors), len(meshes.shape.kinds)
    chance = torch.full((crops, kinds), -math.inf)
    best = torch.full((crops,), -math.inf)
    pose = torch.zeros(crops, dtype=torch.long)
    marginals = [torch.zeros(crops, kinds, size) for size in sizes]
    usable = kind_prior >= MIN_PRIOR * kind_prior.amax(1, keepdim=True)
    with torch.inference_mode():
        empty = (_log_clutter(meshes, vectors) - CONCENTRATION).sum(1) / meshes.temperature
        for kind in torch.nonzero(usable.any(0))[:, 0].tolist():
            weights = rendered_grid(meshes.surface(kind), meshes.shape.grid)
            for rows in torch.nonzero(usable[:, kind])[:, 0].split(CROPS_AT_ONCE):
                each = log_likelihoods(meshes, vectors[rows], kind, weights) / meshes.temperature + meshes.poses[kind]
                chance[rows, kind] = each.logsumexp(1) + kind_prior[rows, kind].log()
                joint = each.softmax(1).unflatten(1, sizes)
                for one, axes in zip(marginals, ((2, 3), (1, 3), (1, 2))):
                    one[rows, kind] = joint.sum(axes)
                highest, place = (each + kind_prior[rows, kind, None].log()).max(1)
                better = highest > best[rows]
                best[rows], pose[rows] = highest.maximum(best[rows]), torch.where(better, place, pose[rows])
    of_kind = chance.softmax(1)
    azimuth, elevation, theta = ((of_kind[..., None] * one).sum(1) for one in marginals)
    return Posterior(
        azimuth, elevation, theta, of_kind, torch.from_numpy(angles).float()[pose], chance.logsumexp(1) - empty
    )


@lru_cache(maxsize=RENDERED)
def rendered_grid(surface: SurfaceShape, grid: int) -> Float[Tensor, "poses cells vertices"]:
    """A mesh at all poses of the grid, kept for the next call."""
    with torch.inference_mode(False), torch.no_grad():  # what is kept may be used in training
        turns = rotations_of(pose_grid())
        return torch.cat([vertex_weights(surface, part, grid) for part in turns.split(CROPS_AT_ONCE)])
