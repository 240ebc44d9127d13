"""What is known of the tiny scene (a red box, a blue box, sand), and settings of runs that learn its colours."""

import numpy as np
from exact import flags_of
from tiny import BOXES, draw

CLASSES = ("sand", "red box", "blue box")
"""What the boxes of tiny.py are called, in their order."""


RED, BLUE = (np.array(BOXES[i][:2]) for i in (1, 2))


def flags(**train: object) -> dict:
    """Settings of a run that lifts, and no more."""
    return flags_of("lift", **train)


def share_inside(points: np.ndarray, box: np.ndarray, margin: float = 0.12) -> float:
    """Share of the points in or near a box."""
    return float(((points > box[0] - margin) & (points < box[1] + margin)).all(-1).mean())


def true_labels(c2w: np.ndarray, size: int = 32) -> np.ndarray:
    """Label image of a view: 0 sky, else the number in `CLASSES`."""
    rgb, depth = draw(c2w, size, 30.0 * size / 32)
    colours = np.array([colour for _, _, colour in BOXES])
    unit = lambda rows: rows / np.linalg.norm(rows, axis=-1, keepdims=True)  # noqa: E731 - shade only scales colours
    return np.where(depth > 0, (unit(rgb) @ unit(colours).T).argmax(-1) + 1, 0).astype(np.uint8)
