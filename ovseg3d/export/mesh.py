"""A labelled surface as a triangle mesh, reconstructed from its oriented points.

Near each point its tangent plane approximates the surface. The signed distance to the weighted mean of the nearest
planes (Hoppe et al. 1992, with the smooth weights of Kolluri 2005) is evaluated on a lattice near the points, and its
zero set is extracted by marching cubes (scikit-image). Neighbours whose normals oppose the nearest point's have no
weight, so the two sides of a thin object stay separate. Regions without points stay holes.

Vertices take their colour from the points around them, label and instance from the nearest point. Front faces are
counter-clockwise, towards the cameras. Frame and unit are the cloud's.

    mesh.ply             vertices as in cloud.ply but for `confidence`, and faces
    mesh.glb             for viewers: `_LABEL` and `_INSTANCE` on vertices; a node rotates `up` to glTF's +y
    mesh_labels.glb      the same, coloured by label
    labels.json          of the cloud
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree  # pyright: ignore[reportAttributeAccessIssue]

from ovseg3d.errors import ConfigError
from ovseg3d.export.labelled import LabelledCloud
from ovseg3d.export.points import COLUMNS, comments
from ovseg3d.export.records import describe, place
from ovseg3d.files import write_atomic, write_json, write_together

NEIGHBOURS = 12
"""Planes that are averaged."""
BLUR = 1.0
"""Width of their weights, in cells of the nearest point."""
FINE = 0.6
"""Step of the lattice, in cells of the points; about the distance between points."""
BAND = 1.0
"""Largest distance of the surface from a point, in cells, or in steps of the lattice if that is more."""
FAR = 2.0
"""Points whose cells are larger than the median by this factor are left out: the coarse surroundings of open scenes."""
MAX_NODES = 2**26
"""Nodes of the lattice; a larger lattice is made coarser."""
MIN_FACES = 40
"""Connected components with fewer triangles are removed."""


@dataclass(frozen=True)
class LabelledMesh:
    """Triangles, with normal, colour, label and instance of each vertex."""

    xyz: Float[np.ndarray, "vertices 3"]
    normal: Float[np.ndarray, "vertices 3"]
    rgb: UInt8[np.ndarray, "vertices 3"]
    label: Int[np.ndarray, " vertices"]
    instance: Int[np.ndarray, " vertices"]
    faces: Int[np.ndarray, "faces 3"]


def mesh_of(cloud: LabelledCloud, spacing: float | None = None) -> LabelledMesh:
    """Reconstruct the surface of a cloud.

    Args:
        cloud: not thinned, or with a matching `spacing`.
        spacing: side of the lattice's cells, in the cloud's units; by default the points' own.

    Raises:
        ConfigError: a spacing that is not above 0, or no surface between the points.
    """
    if spacing is not None and not spacing > 0:
        raise ConfigError(f"The spacing of a mesh must be above 0, not {spacing}")
    if not len(cloud):
        raise ConfigError("There are no points to make a mesh from", fix="select other phrases")
    cell = cloud.surface.cell
    cloud = cloud.take(cell <= FAR * np.median(cell))
    surface = cloud.surface
    xyz, normal = surface.xyz.astype(np.float64), surface.normal.astype(np.float64)
    tree = cKDTree(xyz)
    usual = float(np.median(surface.cell))
    step = spacing or FINE * usual
    while (count := _nodes(xyz, step, usual).prod()) > MAX_NODES:
        step *= max(1.01, (count / MAX_NODES) ** (1 / 3))
    band, edge = _reach(step, usual)
    low = xyz.min(0) - (edge + 0.5) * step
    distance = np.ones(_nodes(xyz, step, usual).astype(np.int64), np.float32)
    known = _near(xyz, low, step, distance.shape, edge)
    nodes = np.argwhere(known)
    distance[known] = _signed_distance(low + nodes * step, tree, normal, surface.cell)
    vertices, faces = _cut(distance, known)
    vertices = low + vertices * step
    reached = tree.query(vertices)[0] <= band
    vertices, faces = _without_crumbs(vertices, faces[reached[faces].all(1)])
    if not len(faces):
        raise ConfigError("The points are too far apart for a mesh", fix="more points, or a larger spacing")
    apart, near = tree.query(vertices, k=min(4, len(xyz)))
    apart, near = apart.reshape(len(vertices), -1), near.reshape(len(vertices), -1)
    weight = 1 / (apart**2 + (0.3 * step) ** 2)
    weight /= weight.sum(1, keepdims=True)
    rgb = np.einsum("vk,vkc->vc", weight, surface.rgb[near].astype(np.float64))
    first = near[:, 0]
    return LabelledMesh(
        vertices.astype(np.float32),
        _normals(vertices, faces).astype(np.float32),
        np.rint(rgb).astype(np.uint8),
        cloud.label[first],
        cloud.instance[first],
        faces.astype(np.int64),
    )


def _reach(step: float, usual: float) -> tuple[float, int]:
    """Largest distance of the surface from a point, and the same in nodes."""
    band = max(BAND * usual, 1.6 * step)
    return band, int(np.ceil(band / step)) + 1


def _nodes(xyz: np.ndarray, step: float, usual: float) -> np.ndarray:
    """Number of the lattice's nodes along each axis."""
    return np.ceil(np.ptp(xyz, axis=0) / step) + 2 * _reach(step, usual)[1] + 3


def _near(xyz: np.ndarray, low: np.ndarray, step: float, shape: tuple[int, ...], edge: int) -> np.ndarray:
    """Nodes of all cubes near points that the surface may cross."""
    near = np.zeros(shape, bool)
    near[tuple(np.rint((xyz - low) / step).astype(np.int64).T)] = True
    ball = ((np.indices((3, 3, 3)) - 1) ** 2).sum(0) <= 2
    return ndimage.binary_dilation(near, ball, iterations=edge)


def _signed_distance(nodes: np.ndarray, tree: cKDTree, normal: np.ndarray, cell: np.ndarray) -> np.ndarray:
    """Signed distance of each node to the planes around it, positive in front."""
    count = min(NEIGHBOURS, tree.n)
    value = np.empty(len(nodes))
    for rows in np.array_split(np.arange(len(nodes)), len(nodes) // 100_000 + 1):
        apart, near = tree.query(nodes[rows], k=count)
        apart, near = apart.reshape(len(rows), count), near.reshape(len(rows), count)
        offset = nodes[rows][:, None] - tree.data[near]
        height = np.einsum("nkc,nkc->nk", offset, normal[near])
        agree = np.einsum("nc,nkc->nk", normal[near[:, 0]], normal[near]).clip(0)
        breadth = BLUR * cell[near[:, :1]].astype(np.float64)
        # Relative to the nearest point, so that not all weights underflow.
        weight = agree * np.exp((apart[:, :1] ** 2 - apart**2) / breadth**2)
        value[rows] = (weight * height).sum(1) / weight.sum(1)
    return value


def _cut(distance: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Marching cubes where all eight nodes of a cube are known."""
    from skimage.measure import marching_cubes

    whole = np.zeros_like(known)
    inner = whole[1:, 1:, 1:]  # scikit-image reads the mask at the far corner of a cube
    inner[...] = True
    x, y, z = known.shape
    for corner in np.ndindex(2, 2, 2):
        i, j, k = corner
        inner &= known[i : x - 1 + i, j : y - 1 + j, k : z - 1 + k]
    try:
        vertices, faces, _, _ = marching_cubes(distance, 0.0, mask=whole, allow_degenerate=False)
    except (RuntimeError, ValueError):  # no zero crossing
        return np.empty((0, 3)), np.empty((0, 3), np.int64)
    return vertices.astype(np.float64), faces.astype(np.int64)


def _without_crumbs(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Remove components of fewer than `MIN_FACES` triangles, and unused vertices."""
    if not len(faces):
        return vertices, faces
    count = len(vertices)
    start, end = faces.ravel(), np.roll(faces, 1, axis=1).ravel()
    _, piece = connected_components(coo_array((np.ones(len(start), bool), (start, end)), (count, count)))
    size = np.bincount(piece[faces[:, 0]], minlength=piece.max() + 1)
    faces = faces[size[piece[faces[:, 0]]] >= MIN_FACES]
    used, faces = np.unique(faces, return_inverse=True)
    return vertices[used], faces.reshape(-1, 3)


def _normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Unit normals of vertices: the area-weighted mean of their triangles' normals."""
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    across = np.cross(b - a, c - a)
    total = np.stack([np.bincount(faces.ravel(), np.repeat(across[:, i], 3), len(vertices)) for i in range(3)], 1)
    return total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-30)


FILES, LISTING = ("mesh.ply", "mesh.glb", "mesh_labels.glb"), "labels.json"


def save_mesh(folder: Path, cloud: LabelledCloud, mesh: LabelledMesh) -> list[Path]:
    """Write all files of a mesh into `folder`, replacing an earlier mesh; `cloud` is its source.

    Raises OutputError.
    """
    ply, glb, glb_by_label = FILES
    facts = {"vertices": len(mesh.xyz), "faces": len(mesh.faces), "gltf_from_frame": upright(cloud.surface.up)}
    with write_together(folder, LISTING, FILES) as place:
        _write_ply(place / ply, cloud, mesh)
        _write_glb(place / glb, cloud, mesh, mesh.rgb)
        _write_glb(place / glb_by_label, cloud, mesh, cloud.colours[mesh.label])
        write_json(place / LISTING, describe(cloud) | facts)
    return [folder / name for name in (*FILES, LISTING)]


def _write_ply(path: Path, cloud: LabelledCloud, mesh: LabelledMesh) -> None:
    from plyfile import PlyData, PlyElement

    rows = np.empty(len(mesh.xyz), dtype=[kind for kind in COLUMNS if kind[0] != "confidence"])
    columns = [*mesh.xyz.T, *mesh.normal.T, *mesh.rgb.T, mesh.label, mesh.instance]
    for name, column in zip(rows.dtype.names or (), columns):
        rows[name] = column
    faces = np.empty(len(mesh.faces), dtype=[("vertex_indices", "<i4", (3,))])
    faces["vertex_indices"] = mesh.faces
    elements = [PlyElement.describe(rows, "vertex"), PlyElement.describe(faces, "face")]
    ply = PlyData(elements, text=False, byte_order="<", comments=comments(cloud))
    write_atomic(path, lambda temporary: ply.write(str(temporary)))


def upright(up: Float[np.ndarray, "3"]) -> Float[np.ndarray, "4 4"]:
    """The smallest rotation that takes `up` to +y, glTF's up."""
    from scipy.spatial.transform import Rotation

    axis = np.cross(up, [0.0, 1.0, 0.0])
    length = np.linalg.norm(axis)
    angle = np.arctan2(length, up[1])
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_rotvec((axis / length if length > 1e-9 else np.array([1.0, 0, 0])) * angle).as_matrix()
    return turn


def _write_glb(path: Path, cloud: LabelledCloud, mesh: LabelledMesh, rgb: np.ndarray) -> None:
    import trimesh
    from trimesh.exchange.gltf import export_glb

    share = rgb / 255.0
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)  # COLOR_0 is linear light
    attributes: dict[str, Any] = {
        "_COLOR": linear.astype(np.float32),
        "_LABEL": mesh.label.astype(np.float32),  # whole numbers up to 2^24; glTF allows no 32-bit integers here
        "_INSTANCE": mesh.instance.astype(np.float32),
    }
    shape = trimesh.Trimesh(
        mesh.xyz, mesh.faces, vertex_normals=mesh.normal, vertex_attributes=attributes, process=False
    )
    scene = trimesh.Scene()
    scene.add_geometry(shape, node_name="surface", geom_name="surface", transform=upright(cloud.surface.up))

    def complete(tree: dict[str, Any]) -> None:
        tree["asset"]["extras"] = _facts(cloud)
        # Photos contain their lighting already, so the material is unlit.
        tree["materials"] = [
            {
                "pbrMetallicRoughness": {"metallicFactor": 0.0, "roughnessFactor": 1.0},
                "extensions": {"KHR_materials_unlit": {}},
            }
        ]
        tree["extensionsUsed"] = ["KHR_materials_unlit"]
        for one in tree["meshes"]:
            for primitive in one["primitives"]:
                primitive["material"] = 0
                primitive["attributes"]["COLOR_0"] = primitive["attributes"].pop("_COLOR")

    write_atomic(path, export_glb(scene, include_normals=True, tree_postprocessor=complete))


def _facts(cloud: LabelledCloud) -> dict[str, Any]:
    from ovseg3d.files import plain

    return plain(place(cloud) | {"phrases": list(cloud.phrases)})
