"""Neural meshes: a cuboid or a sphere around an object, whose surface carries feature vectors, and its renderer.

Wang, Kortylewski and Yuille, NeMo: neural mesh models of contrastive features for robust 3D pose estimation, ICLR 2021.

Object axes: z up, front -y. Both shapes are convex and centred at the object's middle, so that the first hit of a ray
has a closed form. The surface is parametrised as a cube map: a point p of a shape with half extents h lies on the face
of the unit cube at which p / h has its largest coordinate. Each face has `texels` x `texels` vertices, and a point
between them takes the bilinear mean of four. Vertices are numbered by face (+x, -x, +y, -y, +z, -z), then by the lower
and the higher of the other two axes.

The camera has OpenCV axes and looks at the object's middle from DISTANCE half diagonals. A crop is the square around
the projected shape, with the margin of `square_crop`, so that a rotation alone says what every cell of the crop sees.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ovseg3d.heads.pose.crops import MARGIN

DISTANCE = 4.0
"""From the camera to the middle, in half diagonals of the shape."""
RAYS = 3
"""Rays along a side of a cell: a cell that the outline crosses is covered in part."""
Outline = Literal["cuboid", "sphere"]
FACES = 6


@dataclass(frozen=True)
class SurfaceShape:
    """The geometry of a mesh."""

    outline: Outline
    half: tuple[float, float, float]
    """Half extents along the object's axes; of a sphere, its semi-axes. Only their ratios count."""
    texels: int = 6
    """Vertices along a side of a face."""

    @property
    def vertices(self) -> int:
        """How many feature vectors the surface carries."""
        return FACES * self.texels**2


def vertex_weights(
    shape: SurfaceShape, rotations: Float[Tensor, "poses 3 3"], grid: int, rays: int = RAYS
) -> Float[Tensor, "poses cells vertices"]:
    """How much of each vertex every cell of a crop sees; cells row by row from the upper left.

    The weights of a cell add up to the share of it that the shape covers. Rendering is linear in the features of the
    vertices: weights @ features.

    Args:
        shape: the geometry.
        rotations: from object to camera (OpenCV).
        grid: cells along a side of the crop.
        rays: along a side of a cell.
    """
    poses, side = len(rotations), grid * rays
    eye, ways = crop_rays(shape, rotations, side)
    point, hit = first_hit(shape, eye, ways)
    index, share = surface_vertices(point / torch.tensor(shape.half), shape.texels)
    share = share * hit[..., None]
    # Rays of one cell come next to each other.
    cells = (torch.arange(side) // rays)[:, None] * grid + torch.arange(side) // rays
    flat = cells.flatten()[:, None] * shape.vertices + index
    out = torch.zeros(poses, grid * grid * shape.vertices)
    out.scatter_add_(1, flat.reshape(poses, -1), (share / rays**2).reshape(poses, -1))
    return out.reshape(poses, grid * grid, shape.vertices)


def crop_rays(
    shape: SurfaceShape, rotations: Float[Tensor, "poses 3 3"], side: int
) -> tuple[Float[Tensor, "poses 3"], Float[Tensor, "poses rays 3"]]:
    """Eyes, and directions through the middles of the pixels of crops, in object axes, row by row.

    Args:
        shape: the geometry.
        rotations: from object to camera.
        side: pixels of the crop.
    """
    half = torch.tensor(shape.half)
    distance = DISTANCE * float(half.norm())
    middle, radius = projected_square(shape, rotations, distance)
    place = (torch.arange(side) + 0.5) / side * 2 - 1
    x, y = (middle[:, k, None] + radius[:, None] * (1 + MARGIN) * place for k in range(2))
    ways = torch.stack(
        [
            x[:, None, :].expand(-1, side, -1),
            y[:, :, None].expand(-1, -1, side),
            torch.ones(len(x), side, side),
        ],
        -1,
    ).flatten(1, 2)
    eye = rotations.transpose(1, 2) @ torch.tensor([0.0, 0.0, -distance])
    return eye, ways @ rotations


def projected_square(
    shape: SurfaceShape, rotations: Float[Tensor, "poses 3 3"], distance: float
) -> tuple[Float[Tensor, "poses 2"], Float[Tensor, " poses"]]:
    """Middle, and half of the longer side, of the box around the projection, in tangents of the angle of view."""
    half = torch.tensor(shape.half)
    if shape.outline == "cuboid":
        signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 3)
        seen = (signs * half) @ rotations.transpose(1, 2) + torch.tensor([0.0, 0.0, distance])
        places = seen[..., :2] / seen[..., 2:]
        low, high = places.amin(1), places.amax(1)
    else:
        # The outline is where x^2 C00 + 2 x C02 + C22 = 0 with the dual conic C = R diag(h^2) R' - c c' .
        dual = rotations @ torch.diag(half**2) @ rotations.transpose(1, 2)
        dual = dual - torch.diag(torch.tensor([0.0, 0.0, distance**2]))
        place = dual[:, :2, 2] / dual[:, 2, 2, None]
        spread = (place**2 - torch.diagonal(dual, 0, 1, 2)[:, :2] / dual[:, 2, 2, None]).clamp(min=0).sqrt()
        low, high = place - spread, place + spread
    return (low + high) / 2, (high - low).amax(1) / 2


def first_hit(
    shape: SurfaceShape, eye: Float[Tensor, "poses 3"], ways: Float[Tensor, "poses rays 3"]
) -> tuple[Float[Tensor, "poses rays 3"], Float[Tensor, "poses rays"]]:
    """Where rays enter the shape, and 1 where they do, 0 where they miss it (the point means nothing there)."""
    half = torch.tensor(shape.half)
    o, d = (eye / half)[:, None], ways / half
    if shape.outline == "cuboid":
        # Slabs (Kay and Kajiya 1986): the ray is inside while it is between all three pairs of planes.
        safe = torch.where(d.abs() < 1e-9, torch.full_like(d, 1e-9), d)
        a, b = (-1 - o) / safe, (1 - o) / safe
        near, far = torch.minimum(a, b).amax(-1), torch.maximum(a, b).amin(-1)
        hit = near <= far
    else:
        # |o + t d| = 1 in the axes in which the ellipsoid is the unit sphere.
        square, mixed = (d * d).sum(-1), (o * d).sum(-1)
        inside = mixed**2 - square * ((o * o).sum(-1) - 1)
        near, hit = (-mixed - inside.clamp(min=0).sqrt()) / square, inside >= 0
    return (o + near[..., None] * d) * half, hit.to(d.dtype)


def surface_vertices(points: Float[Tensor, "*n 3"], texels: int) -> tuple[Tensor, Float[Tensor, "*n 4"]]:
    """The four vertices around each point of the surface of [-1, 1]^3 (or around its projection there), int64, and
    their bilinear weights, which add up to 1."""
    axis = points.abs().argmax(-1)
    top = points.gather(-1, axis[..., None])
    others = torch.tensor([[1, 2], [0, 2], [0, 1]])[axis]
    flat = points.gather(-1, others) / top.abs().clamp(min=1e-9)
    place = ((flat + 1) / 2 * texels - 0.5).clamp(0, texels - 1)
    first = place.floor().clamp(max=max(texels - 2, 0))
    part = place - first
    first = first.long()
    step = min(1, texels - 1)
    face = (2 * axis + (top[..., 0] < 0).long()) * texels**2
    index, weight = [], []
    for i in range(2):
        for j in range(2):
            index.append(face + (first[..., 0] + i * step) * texels + first[..., 1] + j * step)
            weight.append((part[..., 0] if i else 1 - part[..., 0]) * (part[..., 1] if j else 1 - part[..., 1]))
    return torch.stack(index, -1), torch.stack(weight, -1)
