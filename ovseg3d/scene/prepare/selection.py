"""Choose images of a capture: sharp ones, spread over the capture, without duplicates.

Images are measured on a small grey copy (longest side `GREY_SIDE` pixels), so that a video is read at the speed of
its decoder. Sharpness is the variance of the Laplacian (Pech-Pacheco et al. 2000). It depends on the content (a plain
wall is never "sharp"), so images are compared only with their neighbours in the capture.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, UInt8

GREY_SIDE = 640
# Mean absolute difference of two thumbnails, in grey levels, below which two images show the same thing from
# the same place. Thumbnails average sensor noise away; a phone that moves by 1 % of the image gives about 3.
SAME = 1.2
# An image this much less sharp than the median of its neighbours is blurred.
BLURRED = 0.3
# With fewer images than this, none is dropped for being blurred or a duplicate.
FEW = 30


@dataclass(frozen=True)
class Measure:
    """Measurements of an image, a few hundred bytes.

    Attributes:
        sharpness: variance of the Laplacian, grey levels squared.
        thumbnail: 24 x 24 means of the grey copy.
    """

    sharpness: float
    thumbnail: Float[np.ndarray, "h w"]


def measure(grey: UInt8[np.ndarray, "h w"]) -> Measure:
    """Measure one grey image (about `GREY_SIDE` pixels on its longest side, at least 24 on the shortest)."""
    g = grey.astype(np.float32)
    laplacian = g[:-2, 1:-1] + g[2:, 1:-1] + g[1:-1, :-2] + g[1:-1, 2:] - 4.0 * g[1:-1, 1:-1]
    rows = np.linspace(0, g.shape[0], 25).astype(int)[:-1]
    columns = np.linspace(0, g.shape[1], 25).astype(int)[:-1]
    sums = np.add.reduceat(np.add.reduceat(g, rows, axis=0), columns, axis=1)
    areas = np.diff([*rows, g.shape[0]])[:, None] * np.diff([*columns, g.shape[1]])[None, :]
    return Measure(float(laplacian.var()), (sums / areas).astype(np.float32))


def relative_sharpness(sharpness: Float[np.ndarray, "views"], reach: int = 7) -> Float[np.ndarray, "views"]:
    """Sharpness divided by the median of the `reach` neighbours on each side (itself included)."""
    n = len(sharpness)
    medians = [np.median(sharpness[max(0, i - reach) : i + reach + 1]) for i in range(n)]
    return sharpness / np.maximum(np.asarray(medians, dtype=sharpness.dtype), 1e-6)


def sharpest_per_window(sharpness: Float[np.ndarray, "views"], count: int) -> Int[np.ndarray, "chosen"]:
    """Indices of the sharpest image in each of `count` equal windows, in order.

    The middle of a window is preferred (by up to 30 %), so that neighbouring windows do not both choose
    images at their common edge.
    """
    n = len(sharpness)
    if n <= count:
        return np.arange(n)
    edges = np.linspace(0, n, count + 1).round().astype(int)
    chosen = []
    for a, b in zip(edges[:-1], edges[1:]):
        offset = np.abs((np.arange(a, b) + 0.5 - (a + b) / 2) / ((b - a) / 2))
        chosen.append(a + int(np.argmax(sharpness[a:b] * (1.0 - 0.3 * offset))))
    return np.asarray(chosen)


@dataclass(frozen=True)
class Choice:
    """Indices of the kept images, and of the others by reason."""

    kept: tuple[int, ...]
    blurred: tuple[int, ...]
    doubled: tuple[int, ...]
    too_many: int


def choose(measures: list[Measure], max_frames: int, *, windows: int | None = None) -> Choice:
    """Choose images of one capture, given in the order of the capture.

    Args:
        measures: one per image.
        max_frames: largest number of kept images.
        windows: for video: first take the sharpest frame of each of so many windows. Without it (photos)
            windows are used only when more than `max_frames` photos are left after the other two rules.
    """
    sharpness = np.asarray([m.sharpness for m in measures], dtype=np.float64)
    if windows is not None:
        kept = [int(i) for i in sharpest_per_window(sharpness, min(windows, max_frames))]
    else:
        kept = list(range(len(measures)))
    candidates = len(kept)

    doubled: list[int] = []
    if len(kept) > FEW:
        unlike: list[int] = []
        for i in kept:
            # Compared with the last kept image, not with the previous one: a slow pan still advances. The sharper
            # of two alike stays.
            if unlike and _alike(measures[i], measures[unlike[-1]]):
                if sharpness[i] > sharpness[unlike[-1]]:
                    doubled.append(unlike.pop())
                    unlike.append(i)
                else:
                    doubled.append(i)
            else:
                unlike.append(i)
        kept = unlike

    blurred: list[int] = []
    if len(kept) > FEW:
        relative = relative_sharpness(sharpness[kept])
        # At most a quarter is dropped: if much is blurred, the rest must still be connected.
        worst = np.argsort(relative)[: len(kept) // 4]
        out = {int(k) for k in worst if relative[k] < BLURRED}
        blurred = [kept[k] for k in sorted(out)]
        kept = [i for k, i in enumerate(kept) if k not in out]

    if len(kept) > max_frames:
        kept = [kept[int(k)] for k in sharpest_per_window(sharpness[kept], max_frames)]
    dropped = len(doubled) + len(blurred)
    return Choice(tuple(kept), tuple(blurred), tuple(sorted(doubled)), candidates - dropped - len(kept))


def _alike(a: Measure, b: Measure) -> bool:
    # Exposure drifts while nothing moves: compare after removing the mean.
    da, db = a.thumbnail - a.thumbnail.mean(), b.thumbnail - b.thumbnail.mean()
    return da.shape == db.shape and float(np.abs(da - db).mean()) < SAME
