"""Dense depth of a photo from its sparse points: disparity is completed along surfaces of constant colour.

The disparity of a plane, 1 / z, is linear in the pixel coordinates of a pinhole camera. On a coarse grid over the photo
the completed disparity d minimises

    sum_i ((d(x_i) - 1 / z_i) / sigma_i)^2 + sum_t (second difference of d over t / tau_t)^2

over the points i and all lines t of three neighbouring cells (two axes, two diagonals). tau is small where the photo's
colour is constant, so that planes continue across bare walls, and as large as the depth itself at edges, where it may
jump: tau = plane + (edge - plane) (1 - f)^2, with f the flatness. All lines across a contour jump alike; with a smaller
tau they would count as many independent hints that it does not jump, and make things without points look certain. Both
sums are robust (reweighted least squares). With a prior m, the disparity that a network predicts up to a scale and an
offset, lines are expected to bend as a m does. The scale a is fitted to the points, and tau at edges is what the fit
leaves there. A prior that disagrees with the points is not used.

It is a Gaussian model, so its uncertainty is known: the spread of solutions for data and lines disturbed by their own
noise ("perturb and MAP", Papandreou and Yuille 2010).
"""

from typing import Any

import numpy as np
import scipy.sparse as sparse
from jaxtyping import Float, UInt8
from scipy.ndimage import gaussian_filter
from scipy.optimize import least_squares
from scipy.sparse.linalg import splu

from ovseg3d.scene.images import unclipped

CELL = 4
"""Smallest side of a cell, pixels at training size."""
MAX_CELLS = 100
"""Largest number of cells along a side; the time grows faster than their number."""
FLAT = 0.05
"""Change of colour between neighbouring pixels that still counts as constant, 0 to 1."""
PLANE = 0.001
"""Deviation from a plane over three cells of constant colour, as a share of the median disparity."""
EDGE = 1.0
"""The same across an edge."""
CLOSE = 0.1
"""Deviation up to which points agree with a prior, as a share of the median disparity."""
MIN_SIGMA = 0.005
"""Least relative deviation of a point."""
AGREEING = 0.5
"""Largest deviation of a prior that is used, as a share of the deviation of the points' disparity."""
ROUNDS = 3
"""Reweighted solutions."""
SAMPLES = 12
"""Disturbed solutions, from which the deviation is estimated."""
_ANCHOR = 1e-4
"""Weight of the median disparity, which determines cells that nothing else does."""


def complete(
    photo: UInt8[np.ndarray, "h w channels"],
    xy: Float[np.ndarray, "points 2"],
    depth_z: Float[np.ndarray, " points"],
    sigma: Float[np.ndarray, " points"],
    prior: Float[np.ndarray, "h w"] | None = None,
) -> tuple[Float[np.ndarray, "rows columns"], Float[np.ndarray, "rows columns"]]:
    """Complete the depth of one photo.

    Args:
        photo: at training size, at least three cells each way.
        xy: pixels of the points.
        depth_z: their z-depth, above 0; at least one point.
        sigma: relative standard deviations of the depths.
        prior: predicted disparity of the photo, up to a positive scale and an offset.

    Returns:
        Disparity at the cells' centres, in 1 / units of depth_z, above 0; and its relative standard deviation.
    """
    cell = cell_side(photo.shape[1], photo.shape[0])
    flatness = _flatness(photo, cell)
    h, w = flatness.shape
    scale = float(np.median(1.0 / depth_z))
    points = _interpolation(xy / cell - 0.5, h, w)
    target = 1.0 / (depth_z * scale)
    lines, flat = _lines(flatness)
    shape, edge = (np.zeros(h * w), EDGE) if prior is None else _fitted(_means(prior, cell), points, target)
    bend, tau = lines @ shape, PLANE + (edge - PLANE) * np.square(1.0 - flat)
    line_weight, point_weight = 1.0 / tau, 1.0 / (np.maximum(sigma, MIN_SIGMA) * target)
    anchor = _ANCHOR * sparse.eye(h * w)

    def solve(
        line_trust: Float[np.ndarray, " lines"], point_trust: Float[np.ndarray, " points"]
    ) -> tuple[Any, Any, Any, Float[np.ndarray, " cells"]]:
        a = lines.multiply((line_weight * line_trust)[:, None]).tocsr()
        b = points.multiply((point_weight * point_trust)[:, None]).tocsr()
        factor = splu((a.T @ a + b.T @ b + anchor).tocsc())
        wanted = a.T @ (line_weight * line_trust * bend) + b.T @ (point_weight * point_trust * target)
        return a, b, factor, factor.solve(wanted + _ANCHOR)

    a, b, factor, found = solve(np.ones(len(tau)), np.ones(len(target)))
    for _ in range(ROUNDS - 1):
        residuals = (lines @ found - bend) * line_weight, (points @ found - target) * point_weight
        a, b, factor, found = solve(*(_trust(residual) for residual in residuals))
    random = np.random.default_rng(0)
    noise = a.T @ random.standard_normal((len(tau), SAMPLES)) + b.T @ random.standard_normal((len(target), SAMPLES))
    spread = factor.solve(noise + np.sqrt(_ANCHOR) * random.standard_normal((h * w, SAMPLES))).std(1)
    found = np.maximum(found, 1e-3)
    return (found * scale).reshape(h, w), (spread / found).reshape(h, w)


def cell_side(width: int, height: int) -> int:
    """Side of the cells of a photo of this size, pixels."""
    return max(CELL, -(-max(width, height) // MAX_CELLS))


def _trust(residual: Float[np.ndarray, " rows"]) -> Float[np.ndarray, " rows"]:
    """Square roots of robust weights: residuals far beyond two deviations count linearly or less."""
    return 1.0 / np.sqrt(1.0 + np.square(residual / 2.0))


def _flatness(photo: UInt8[np.ndarray, "h w channels"], cell: int) -> Float[np.ndarray, "rows columns"]:
    """For each cell: 1 where its colour is constant, towards 0 where it changes or is clipped."""
    h, w = photo.shape[0] // cell, photo.shape[1] // cell
    pixels = photo[: h * cell, : w * cell, :3]
    image = pixels.astype(np.float32) / 255
    smooth = gaussian_filter(image, (0.7, 0.7, 0))
    across = np.abs(np.diff(smooth, axis=1, append=smooth[:, -1:])).max(-1)
    down = np.abs(np.diff(smooth, axis=0, append=smooth[-1:])).max(-1)
    change = np.maximum(across, down).reshape(h, cell, w, cell).max((1, 3))
    return np.exp(-np.square(change / FLAT)) * unclipped(pixels).reshape(h, cell, w, cell).mean((1, 3))


def _lines(
    flatness: Float[np.ndarray, "rows columns"],
) -> tuple[sparse.csr_matrix, Float[np.ndarray, " lines"]]:
    """Second differences over all lines of three cells, and the flatness of each."""
    h, w = flatness.shape
    index = np.arange(h * w).reshape(h, w)
    triples = []
    for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
        middle = index[dy : h - dy, abs(dx) : w - abs(dx)].ravel()
        step = dy * w + dx
        triples.append(np.stack([middle - step, middle, middle + step], -1))
    cells = np.concatenate(triples)
    rows = np.repeat(np.arange(len(cells)), 3)
    values = np.tile([1.0, -2.0, 1.0], len(cells))
    flat = flatness.ravel()[cells].min(1)
    matrix = sparse.csr_matrix((values, (rows, cells.ravel())), (len(cells), h * w))
    return matrix, flat


def _means(image: Float[np.ndarray, "h w"], cell: int) -> Float[np.ndarray, " cells"]:
    """Means of the cells of an image."""
    h, w = image.shape[0] // cell, image.shape[1] // cell
    return image[: h * cell, : w * cell].reshape(h, cell, w, cell).mean((1, 3), dtype=np.float64).ravel()


def _fitted(
    prior: Float[np.ndarray, " cells"], points: sparse.csr_matrix, target: Float[np.ndarray, " points"]
) -> tuple[Float[np.ndarray, " cells"], float]:
    """The prior at the scale and offset that fit the points best, and the deviation that is left; zeros and `EDGE` for
    a prior that disagrees with the points."""
    spread = float(prior.std())
    if spread < 1e-9:
        return np.zeros_like(prior), EDGE
    shape = (prior - prior.mean()) / spread
    at = points @ shape

    def residual(line: Float[np.ndarray, "2"]) -> Float[np.ndarray, " points"]:
        return line[0] * at + line[1] - target

    scale, offset = least_squares(residual, (0.0, 1.0), loss="soft_l1", f_scale=CLOSE).x
    left, whole = _deviation(residual(np.array([scale, offset]))), _deviation(target)
    if scale <= 0 or left >= min(CLOSE, AGREEING * whole):
        return np.zeros_like(prior), EDGE
    return scale * shape, max(left, PLANE)


def _deviation(values: Float[np.ndarray, " points"]) -> float:
    """Half the distance of the 16th and the 84th percentile: the standard deviation, but for outliers."""
    low, high = np.quantile(values, [0.16, 0.84])
    return float(high - low) / 2


def _interpolation(at: Float[np.ndarray, "points 2"], h: int, w: int) -> sparse.csr_matrix:
    """Bilinear interpolation of a grid of h x w cells at positions (column, row)."""
    u, v = np.clip(at[:, 0], 0.0, w - 1.001), np.clip(at[:, 1], 0.0, h - 1.001)
    column, row = u.astype(int), v.astype(int)
    right, below = u - column, v - row
    corners = [(0, 0, (1 - right) * (1 - below)), (0, 1, right * (1 - below))]
    corners += [(1, 0, (1 - right) * below), (1, 1, right * below)]
    cells = np.concatenate([(row + dy) * w + column + dx for dy, dx, _ in corners])
    values = np.concatenate([weight for *_, weight in corners])
    return sparse.csr_matrix((values, (np.tile(np.arange(len(at)), 4), cells)), (len(at), h * w))
