"""Camera poses of the photos: a smooth closed path, and test views on it and off it.

Cameras are OpenCV `c2w` (x right, y down, z forward) in the room's frame, metres, z up, horizon level.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Float

from ovseg3d.synth.materials import Real
from ovseg3d.synth.rooms import CameraPlan

OPENGL_FROM_OPENCV = np.diag([1.0, -1.0, -1.0, 1.0])
OFF_DISTANCE = 0.5  # metres from every training camera, or
OFF_ANGLE = np.radians(20.0)  # this far turned from the training cameras nearer than that


def look(eye: Float[np.ndarray, "3"], yaw: Real, pitch: Real) -> Float[np.ndarray, "4 4"]:
    """c2w of a level camera at `eye` that looks along yaw (from +x, about +z) and pitch (up is positive), radians."""
    forward = np.array([np.cos(yaw) * np.cos(pitch), np.sin(yaw) * np.cos(pitch), np.sin(pitch)])
    right = np.array([np.sin(yaw), -np.cos(yaw), 0.0])
    c2w = np.eye(4)
    c2w[:3, :3] = np.stack([right, np.cross(forward, right), forward], 1)
    c2w[:3, 3] = eye
    return c2w


def on_path(plan: CameraPlan, s: Real) -> Float[np.ndarray, "4 4"]:
    """c2w of the camera at s in 0..1 of the walk."""
    turn = 2 * np.pi * s
    theta = plan.turns * turn
    radius = (1 + plan.inner) / 2 + (1 - plan.inner) / 2 * np.cos(turn)
    low, high = plan.heights
    # The phase of height against place differs between turns, so every wall is seen from low and high.
    rise = 0.5 + 0.5 * np.sin(3 * turn + 0.5)
    eye = np.array(
        [
            plan.middle[0] + plan.radii[0] * radius * np.cos(theta),
            plan.middle[1] + plan.radii[1] * radius * np.sin(theta),
            low + (high - low) * rise,
        ]
    )
    if plan.target is None:
        yaw, pitch = theta + np.pi + plan.sway * np.sin(5 * turn), -plan.dip
    else:
        to = np.array(plan.target) - eye
        yaw = np.arctan2(to[1], to[0]) + plan.sway * np.sin(5 * turn)
        pitch = np.arctan2(to[2], np.hypot(to[0], to[1])) - plan.dip
    return look(eye, yaw, pitch + plan.nod * np.sin(7 * turn))


def is_off_path(c2w: Float[np.ndarray, "4 4"], others: Float[np.ndarray, "views 4 4"]) -> bool:
    """Whether the view is at least 0.5 m away from, or 20 degrees turned against, each of `others`."""
    distance = np.linalg.norm(others[:, :3, 3] - c2w[:3, 3], axis=1)
    angle = np.arccos(np.clip(others[:, :3, 2] @ c2w[:3, 2], -1, 1))
    return bool(np.all((distance >= OFF_DISTANCE) | (angle >= OFF_ANGLE)))


def fitted(plan: CameraPlan, usable, samples: int = 48) -> CameraPlan:
    """The plan with its ellipse shrunk until every view along it is usable (or as far as that helps)."""
    best, fewest = plan, samples + 1
    for shrink in (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3):
        smaller = replace(plan, radii=(plan.radii[0] * shrink, plan.radii[1] * shrink))
        bad = sum(not usable(on_path(smaller, k / samples)) for k in range(samples))
        if bad < fewest:
            best, fewest = smaller, bad
        if bad == 0:
            break
    return best


def plan_views(plan: CameraPlan, train: int, test: int, seed: int, usable=lambda c2w: True):
    """Training cameras, test cameras on the path (between training ones) and off it, as lists of c2w.

    `usable` says whether a view is worth taking (not inside a cupboard, say).

    Args:
        plan: the walk.
        train: how many training cameras.
        test: how many test cameras; half of them off the path.
        seed: of the cameras off the path.
        usable: whether a view is worth taking (not inside a cupboard, say); gets a c2w.
    """
    training = [on_path(plan, k / train) for k in range(train)]
    near = [on_path(plan, (np.floor(k * train / (test - test // 2)) + 0.5) / train) for k in range(test - test // 2)]
    rng = np.random.default_rng([seed, 77])
    off: list[np.ndarray] = []
    others = np.array(training)
    for _ in range(20000):
        if len(off) == test // 2:
            break
        base = on_path(plan, (len(off) + rng.random()) / max(1, test // 2))
        # Somewhere within the walk's ellipse, a little lower or higher, looking elsewhere.
        pull = rng.uniform(0.1, 0.9) if plan.target is None else rng.uniform(0.7, 1.15)
        eye = base[:3, 3].copy()
        eye[:2] = np.array(plan.middle) + (eye[:2] - plan.middle) * pull
        spread = plan.heights[1] - plan.heights[0]
        eye[2] = rng.uniform(plan.heights[0] - 0.2 * spread, plan.heights[1] + 0.2 * spread)
        yaw = np.arctan2(base[1, 2], base[0, 2]) + rng.uniform(-0.7, 0.7)
        pitch = np.arcsin(base[2, 2]) + rng.uniform(-0.15, 0.15)
        if plan.target is not None:
            to = np.array(plan.target) - eye
            yaw = np.arctan2(to[1], to[0]) + rng.uniform(-0.5, 0.5)
            pitch = np.arctan2(to[2], np.hypot(to[0], to[1])) + rng.uniform(-0.25, 0.25)
        view = look(eye, yaw, pitch)
        if is_off_path(view, others) and usable(view):
            off.append(view)
    return training, near, off
