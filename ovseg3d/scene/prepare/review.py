"""Report of a preparation: its quality, and advice what to shoot again.

Angles are in degrees, errors in pixels of the written photos. Each piece of advice states the problem, the photos
concerned, and what to do.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from ovseg3d.scene.prepare.sfm import Matching, Reconstruction

_LITTLE_PARALLAX_DEG = 3.0
_FEW_POINTS = 40
_ENOUGH_INLIERS = 30


@dataclass(frozen=True)
class Advice:
    """A problem, or a possible one."""

    level: str  # "warning" or "note"
    what: str
    where: tuple[str, ...]
    fix: str


@dataclass(frozen=True)
class PrepareReport:
    """Result of `prepare_scene`. `registered` of `total` photos have a camera in the scene."""

    source: str
    kind: str  # "video" or "photos"
    found: int  # photos in the folder, or frames in the video
    total: int  # photos that structure from motion was given
    registered: int
    mean_reprojection_error_px: float
    points: int
    points_written: int
    mean_track_length: float
    median_observations_per_photo: float
    median_triangulation_angle_deg: float
    cameras: tuple[dict[str, Any], ...]
    unregistered: tuple[str, ...]
    advice: tuple[Advice, ...]
    seconds: dict[str, float]
    seed: int

    def as_dict(self) -> dict[str, Any]:
        """For report.json."""
        return asdict(self)


def triangulation_angles(model: Reconstruction) -> Float[np.ndarray, " points"]:
    """For each point an estimate of the largest angle between its rays, degrees.

    It is the largest angle between the first ray and any other, which is between half of the true value and the true
    value, and takes one pass. Twice the largest deviation from the mean ray would overestimate.
    """
    rays = [model.points[index] - pose[:3, 3] for pose, (_, index) in zip(model.c2w, model.observations_of)]
    indices = [index for _, index in model.observations_of]
    if not indices or not len(model.points):
        return np.zeros(0)
    index, ray = np.concatenate(indices), np.concatenate(rays)
    ray = ray / np.maximum(np.linalg.norm(ray, axis=1, keepdims=True), 1e-12)
    _, first = np.unique(index, return_index=True)
    reference = np.zeros((len(model.points), 3))
    reference[index[first]] = ray[first]
    cosine = np.clip((ray * reference[index]).sum(axis=1), -1.0, 1.0)
    angles = np.zeros(len(model.points))
    np.maximum.at(angles, index, np.degrees(np.arccos(cosine)))
    return angles


def review_model(
    model: Reconstruction,
    matching: Matching,
    order: list[str],
    place: Callable[[str], str],
    up_certain: bool,
) -> list[Advice]:
    """Advice that follows from matching and the model.

    Args:
        model: the placed photos and points.
        matching: pairs of photos, by index into `order`.
        order: the photos' names, as they were taken.
        place: name of a photo for the user (its file, or a time of the video).
        up_certain: whether the photos agree on where up is.
    """
    advice = _photos_left_out(model, matching, order, place) + _doubtful_geometry(model, order, place)
    if not up_certain:
        what = "the up direction was estimated from the mean tilt of the cameras, and may be off by some degrees"
        advice.append(Advice("note", what, (), "hold the phone level and shoot from more than one side"))
    return advice


def _photos_left_out(
    model: Reconstruction, matching: Matching, order: list[str], place: Callable[[str], str]
) -> list[Advice]:
    """Advice about photos without a camera, by the reason."""
    registered = set(model.names)
    missing = [i for i, name in enumerate(order) if name not in registered]
    elsewhere = {name for names in model.other_models for name in names} - registered
    advice: list[Advice] = []

    def warn(what: str, photos: tuple[str, ...], fix: str) -> None:
        advice.append(Advice("warning", what, photos, fix))

    if elsewhere:
        names = tuple(place(order[i]) for i in missing if order[i] in elsewhere)
        warn(
            f"{len(names)} photos fit together but not with the rest, and were left out",
            names,
            "shoot a few more between the two places, each sharing at least half of its view with the one before",
        )
    lost = [i for i in missing if order[i] not in elsewhere]
    partners = partner_counts(matching, len(order))
    lonely = tuple(place(order[i]) for i in lost if partners[i] < 2)
    if lonely:
        warn(
            f"{len(lonely)} photos have too little in common with other photos, and were left out",
            lonely,
            "shoot these places again, sharp and with light, in small steps: two thirds of each view in the next",
        )
    unplaced = tuple(place(order[i]) for i in lost if partners[i] >= 2)
    if unplaced:
        warn(
            f"{len(unplaced)} photos match others but could not be placed, and were left out",
            unplaced,
            "shoot these places again from more sides; avoid turning on the spot, blank walls and mirrors",
        )
    if len(registered) < 0.6 * len(order):
        warn(
            f"only {len(registered)} of {len(order)} photos could be placed: the scene shows a part of the capture",
            (),
            "record again more slowly, moving sideways around the place instead of turning on the spot",
        )
    return advice


def _doubtful_geometry(model: Reconstruction, order: list[str], place: Callable[[str], str]) -> list[Advice]:
    """Advice about cameras and points that may be off."""
    advice = []
    angles = triangulation_angles(model)
    if len(angles) and np.median(angles) < _LITTLE_PARALLAX_DEG:
        what = f"little parallax: the median point is seen under {np.median(angles):.1f} degrees only"
        advice.append(Advice("warning", what, (), "walk while you record; a phone that only turns sees no depth"))
    seen = {name: len(index) for name, (_, index) in zip(model.names, model.observations_of)}
    weak = tuple(place(n) for n in order if n in seen and seen[n] < _FEW_POINTS)
    if weak:
        what = f"{len(weak)} photos are placed by fewer than {_FEW_POINTS} points: their cameras may be off"
        fix = "shoot these places again with more overlap and something textured in view"
        advice.append(Advice("warning", what, weak, fix))
    if model.mean_error_px() > 1.5:
        what = f"the mean reprojection error is {model.mean_error_px():.1f} px; below 1 is good"
        fix = "move no object while you shoot, lock the focus, and turn video stabilisation off"
        advice.append(Advice("warning", what, (), fix))
    return advice


def partner_counts(matching: Matching, count: int) -> Int[np.ndarray, " views"]:
    """Number of other photos that each of `count` photos matches well."""
    partners = np.zeros(count, dtype=np.int64)
    for (i, j), inliers in matching.inliers.items():
        if inliers >= _ENOUGH_INLIERS:
            partners[[i, j]] += 1
    return partners


def why_it_failed(matching: Matching, count: int) -> tuple[str, str]:
    """Message and fix if structure from motion placed no camera."""
    features = float(np.median(matching.features)) if len(matching.features) else 0.0
    well = sum(inliers >= _ENOUGH_INLIERS for inliers in matching.inliers.values())
    if features < 200:
        return (
            f"The photos have too few features (about {features:.0f} each; thousands are usual)",
            "shoot with more light, sharp, and with textured objects in view; blank walls and glass cannot be placed",
        )
    if well < max(2, count // 4):
        return (
            f"The photos overlap too little: {well} pairs of {count} photos show the same surfaces",
            "shoot again in small steps, two thirds of each view in the next, all of one place",
        )
    return (
        f"The cameras could not be placed, though {well} pairs of photos match: the phone probably only turned",
        "shoot again while moving sideways by a hand's breadth to a step between photos",
    )


def stretches(items: list[int], reach: int) -> list[tuple[int, int]]:
    """Ascending numbers grouped into (first, last) wherever neighbours are at most `reach` apart."""
    found: list[tuple[int, int]] = []
    for item in items:
        if found and item - found[-1][1] <= reach:
            found[-1] = (found[-1][0], item)
        else:
            found.append((item, item))
    return found
