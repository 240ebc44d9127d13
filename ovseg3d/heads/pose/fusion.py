"""One distribution of an instance's yaw from all of its photos and its cloud.

A photo says the azimuth from which it sees the object; where its camera stands is known, so that is a distribution of
the yaw about the up axis of the scene. Photos of one object make the same mistakes, so their product would be too sure:
all of them together count as one (logarithmic opinion pool; Genest and Zidek, Statistical Science 1, 1986).

The weights were chosen on the rooms of seeds 720,000 to 720,004 of scripts/benchmarks/pose_rooms.py.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from ovseg3d.geometry import to_wxyz
from ovseg3d.heads.pose.circular import mode
from ovseg3d.heads.pose.network import SYMMETRY_ORDERS
from ovseg3d.heads.pose.photo import GRID, CropPose
from ovseg3d.heads.pose.records import Pose, Source, mass_near

FLOOR = 0.02
"""Share of a uniform distribution in each source: no source is ever sure."""
CLOUD_WEIGHT = 2.0
"""Weight of the cloud beside all photos."""
BOX_CONCENTRATION = 2.0
"""Of the distribution of the yaw about the four axes of the box of least footprint: most things are made along them."""
CLOUD_SYMMETRY = 0.7
"""Probability of the cloud's own order of symmetry."""


def yaw_of_photo(azimuth: Float[np.ndarray, " grid"], camera: Rotation, level: Rotation) -> Float[np.ndarray, " grid"]:
    """The distribution of an object's yaw that a photo's distribution of its azimuth means.

    Args:
        azimuth: on a grid over the full circle.
        camera: to the frame, from the camera that looks at the object (OpenCV axes).
        level: from the frame to one with z up, in which the yaw is counted.
    """
    back = -(level * camera).apply([0.0, 0.0, 1.0])
    # From an object of yaw 0 the camera stands in the direction azimuth - 90 degrees.
    around = float(np.arctan2(back[1], back[0])) + np.pi / 2
    count = len(azimuth)
    place = (around / (2 * np.pi) * count - np.arange(count)) % count
    made = np.interp(place, np.arange(count + 1), np.append(azimuth, azimuth[0]))
    return made / made.sum()


def resampled(probability: Float[np.ndarray, " bins"]) -> Float[np.ndarray, " grid"]:
    """A distribution over the full circle on the grid of photos."""
    bins = len(probability)
    place = np.arange(GRID) * (bins / GRID)
    made = np.interp(place, np.arange(bins + 1), np.append(probability, probability[0]))
    return made / made.sum()


def pool(parts: Sequence[Float[np.ndarray, " grid"]], weights: Sequence[float]) -> Float[np.ndarray, " grid"]:
    """The product of distributions, each to the power of its weight and with the share `FLOOR` of a uniform one.

    Args:
        parts: at least one, on one grid.
        weights: of each.
    """
    total = np.zeros(len(parts[0]))
    for part, weight in zip(parts, weights):
        total += weight * np.log((1 - FLOOR) * part + FLOOR / len(part))
    made = np.exp(total - total.max())
    return made / made.sum()


def pose_of_yaw(
    yaw: Float[np.ndarray, " grid"],
    symmetry: Float[np.ndarray, " orders"],
    level: Rotation,
    source: Source,
) -> Pose:
    """The pose of an upright object, in the input frame.

    Args:
        yaw: its distribution, counter-clockwise about the up axis.
        symmetry: probabilities of SYMMETRY_ORDERS.
        level: from the frame to one with z up.
        source: of the distribution.
    """
    order = SYMMETRY_ORDERS[int(np.argmax(symmetry))]
    angle = peak(yaw, order)
    score = float(symmetry[SYMMETRY_ORDERS.index(0)]) if order == 0 else mass_near(yaw, angle, order)
    rotation = to_wxyz(level.inv() * Rotation.from_euler("z", angle))
    return Pose(rotation, order, score, source, pose_probabilities={"yaw": yaw})


def peak(yaw: Float[np.ndarray, " grid"], order: int) -> float:
    """The likeliest yaw, radians from 0 to 2 pi: the highest place.

    Args:
        yaw: its distribution.
        order: of the symmetry; the places that it makes equal count together, and the highest of them is returned.
    """
    count, order = len(yaw), max(order, 1)
    folded = yaw.reshape(order, -1).sum(0) if order > 1 and count % order == 0 else yaw
    first = float(mode(torch.from_numpy(folded)[None])) / order
    equal = first + np.arange(order) * (2 * np.pi / order)
    return float(equal[yaw[np.round(equal / (2 * np.pi) * count).astype(int) % count].argmax()] % (2 * np.pi))


def fuse(
    photos: Sequence[CropPose],
    cameras: Sequence[Rotation],
    cloud: tuple[Float[np.ndarray, " bins"], int] | None,
    level: Rotation,
    *,
    box_yaw_rad: float | None = None,
) -> Pose | None:
    """One pose of an instance in the frame of its photos and its cloud; None without any.

    Args:
        photos: what the crops of the instance say.
        cameras: of each, from the camera that looks at the crop's middle to the frame.
        cloud: distribution of the yaw, and order of the symmetry.
        level: from the frame to one with z up.
        box_yaw_rad: of a box around its points, in the levelled frame; its axes are likely, and none of them is first.
    """
    parts = [yaw_of_photo(seen.azimuth, camera, level) for seen, camera in zip(photos, cameras)]
    weights = [1 / max(len(parts), 1)] * len(parts)
    symmetry = np.zeros(len(SYMMETRY_ORDERS))
    for seen, weight in zip(photos, weights):
        symmetry += weight * np.log(seen.symmetry + 1e-3)
    if cloud is not None:
        parts.append(resampled(cloud[0]))
        weights.append(CLOUD_WEIGHT)
        rest = (1 - CLOUD_SYMMETRY) / (len(SYMMETRY_ORDERS) - 1)
        own = np.where(np.array(SYMMETRY_ORDERS) == cloud[1], CLOUD_SYMMETRY, rest)
        symmetry += np.log(own)
    if not parts:
        return None
    chance = np.exp(symmetry - symmetry.max())
    source: Source = "photo" if cloud is None else "cloud" if not photos else "fused"
    yaw = pool(parts, weights)
    if box_yaw_rad is not None:
        away = np.arange(len(yaw)) * (2 * np.pi / len(yaw)) - box_yaw_rad
        yaw = yaw * np.exp(BOX_CONCENTRATION * np.cos(4 * away))
        yaw /= yaw.sum()
    return pose_of_yaw(yaw, chance / chance.sum(), level, source)
