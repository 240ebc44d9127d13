"""The direction of gravity from surface normals: floors and tables face it, walls are at right angles to it.

Each normal is drawn from a mixture: along up or down (floor, ceiling, tables), level (walls, fronts of furniture), or
any direction. Up is found by its posterior on a grid of directions around the one in which the camera was held, and
refined by expectation-maximisation, where the maximisation is an eigenvector: up is along the first kind of normals and
across the second.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

MAX_TILT = 70.0
"""Up is at most so far from `held`, degrees."""
SPACING = 3.0
"""Of the directions that are tried, degrees."""
MAX_NORMALS = 1500
"""Normals that are looked at."""
ELSEWHERE = 0.1
"""Likelihood of a normal that is neither along up nor level, relative to one that is exactly. Both kinds count the
same: walls have few directions, too, so a large wall must not win over a small piece of floor. With densities on the
sphere instead, a wall was taken for the floor in 9 % of the views of ten rooms."""
COARSE, FINE = 8.0, 1.5
"""Spread of normals about the directions that they should have, degrees: on the grid, and at the end."""
HELD = 30.0
"""Standard deviation of a camera's tilt, degrees."""
SURFACES = 7.0
"""Normals of one surface err together: a scene counts as so many independent ones."""
NEAR = 10.0
"""The confidence is the probability that the error is below this, degrees."""
LOW_CONFIDENCE = 0.8
ROUNDS = 10


@dataclass(frozen=True)
class Gravity:
    """Which way is up."""

    up: tuple[float, float, float]
    """Unit vector in the frame of the normals."""
    confidence: float
    """Probability that it is right within `NEAR` degrees, 0 to 1."""
    support: float
    """Share of the surface that is along up or level, within a few degrees."""

    @property
    def sure(self) -> bool:
        """Whether up may be used without a warning."""
        return self.confidence >= LOW_CONFIDENCE


def estimate_gravity(
    normal: Float[np.ndarray, "points 3"], held: tuple[float, float, float] = (0.0, -1.0, 0.0)
) -> Gravity:
    """Up from normals.

    Args:
        normal: unit length, of any sign; about one for each equal piece of surface.
        held: direction of the camera's upper edge: up is somewhere around it.
    """
    if not len(normal):
        return Gravity(held, 0.0, 0.0)
    normal = sampled(normal)
    tried = _directions(np.asarray(held, np.float64))
    along, level = _likelihoods(np.abs(normal @ tried.T), COARSE)
    tilt = np.degrees(np.arccos(np.clip(tried @ np.asarray(held), -1, 1)))
    # A sum of log likelihoods over `SURFACES` independent normals, and a normal prior of the tilt.
    log_posterior = SURFACES * np.log(along + level + ELSEWHERE).mean(0) - (tilt / HELD) ** 2 / 2
    posterior = np.exp(log_posterior - log_posterior.max())
    posterior /= posterior.sum()
    up = refine_up(tried[log_posterior.argmax()], normal)
    confidence = float(posterior[tried @ up > np.cos(np.radians(NEAR))].sum())
    cosine = np.abs(normal @ up)
    near = np.sin(np.radians(2 * FINE))
    support = float(((cosine < near) | (cosine > np.sqrt(1 - near**2))).mean())
    x, y, z = (float(v) for v in up)
    return Gravity((x, y, z), confidence, support)


def _directions(held: np.ndarray) -> Float[np.ndarray, "tried 3"]:
    """A Fibonacci grid of the cap around `held`."""
    count = int(41253 / SPACING**2)
    height = 1 - 2 * (np.arange(count) + 0.5) / count
    height = height[height > np.cos(np.radians(MAX_TILT))]
    angle = np.arange(len(height)) * np.pi * (3 - np.sqrt(5))
    radius = np.sqrt(1 - height**2)
    cap = np.stack([radius * np.cos(angle), radius * np.sin(angle), height], -1)
    aside = np.cross(held, np.eye(3)[np.abs(held).argmin()])
    aside /= np.linalg.norm(aside)
    return cap @ np.stack([aside, np.cross(held, aside), held])


def _likelihoods(cosine: np.ndarray, spread: float) -> tuple[np.ndarray, np.ndarray]:
    """Of normals as ones along up, and as level ones; 1 at best.

    Args:
        cosine: absolute, of the angle between normal and up.
        spread: degrees.
    """
    sigma = np.radians(spread)
    return np.exp((np.minimum(cosine, 1.0) - 1) / sigma**2), np.exp(-((cosine / sigma) ** 2) / 2)


def sampled(normal: Float[np.ndarray, "points 3"]) -> Float[np.ndarray, "some 3"]:
    """At most `MAX_NORMALS` of them, the same in each call, in double precision."""
    return normal[np.random.default_rng(0).permutation(len(normal))[:MAX_NORMALS]].astype(np.float64)


def log_likelihood(
    up: Float[np.ndarray, "3"], normal: Float[np.ndarray, "points 3"], spread: float
) -> Float[np.ndarray, " points"]:
    """Of each normal, given up and the spread in degrees."""
    along, level = _likelihoods(np.abs(normal @ up), spread)
    return np.log(along + level + ELSEWHERE)


def refine_up(up: Float[np.ndarray, "3"], normal: Float[np.ndarray, "points 3"]) -> Float[np.ndarray, "3"]:
    """Expectation-maximisation, with a spread that shrinks from `COARSE` to `FINE`."""
    for spread in np.geomspace(COARSE, FINE, ROUNDS):
        along, level = _likelihoods(np.abs(normal @ up), float(spread))
        # Maximises sum(along (n.u)^2) - sum(level (n.u)^2): both likelihoods fall with the squared sine of the error.
        weight = (along - level) / (along + level + ELSEWHERE)
        found = np.linalg.eigh(np.einsum("p,pi,pj->ij", weight, normal, normal))[1][:, 2]
        up = found if found @ up > 0 else -found
    return up
