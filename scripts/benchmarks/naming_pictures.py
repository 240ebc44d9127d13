"""Pictures of `scripts.benchmarks.naming`: which names are mixed up, and which shapes a text finds."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

RIGHT, WRONG = "#1a7f37", "#b9b9b9"


def draw_confusion(
    path: Path,
    title: str,
    labels: Int[np.ndarray, " shapes"],
    named: Int[np.ndarray, " shapes"],
    classes: Sequence[str],
) -> None:
    """A matrix of shares in percent of each row, true classes as rows and names as columns.

    Rows are the classes that have shapes. Columns are these, and after a line the other names that shapes got, those
    of most shapes first.

    Args:
        path: the PNG file.
        title: of the picture.
        labels: index of each shape's class.
        named: index of the name that it got.
        classes: all classes.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    rows = np.unique(labels)
    others, times = np.unique(named[~np.isin(named, rows)], return_counts=True)
    columns = np.concatenate([rows, others[np.argsort(-times, kind="stable")]])
    counts = np.array([[((labels == row) & (named == column)).sum() for column in columns] for row in rows], float)
    shares = counts / counts.sum(1, keepdims=True)
    figure = Figure(figsize=(2.4 + 0.32 * len(columns), 2.2 + 0.32 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.argwhere(counts):
        colour = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, f"{100 * shares[row, column]:.0f}", ha="center", va="center", fontsize=8, color=colour)
    for k in range(len(rows)):
        axes.add_patch(
            Rectangle((k - 0.5, k - 0.5), 1, 1, fill=False, edgecolor=RIGHT, linewidth=1.2, clip_on=False, zorder=4)
        )
    axes.set_xticks(np.arange(len(columns) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(rows) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="#e4e4e4", linewidth=0.5)
    axes.tick_params(which="both", length=0)
    if len(columns) > len(rows):
        axes.axvline(len(rows) - 0.5, color="black", linewidth=1.0)
    axes.set_xticks(range(len(columns)), [str(classes[k]) for k in columns], rotation=90, fontsize=9)
    named_rows = [f"{classes[k]} ({int(total)})" for k, total in zip(rows.tolist(), counts.sum(1))]
    axes.set_yticks(range(len(rows)), named_rows, fontsize=9)
    axes.set_xlabel("named as (% of the row)", fontsize=10)
    axes.set_ylabel("true class (shapes)", fontsize=10)
    axes.set_title(title, fontsize=11)
    _save(figure, path)


def draw_retrieval(
    path: Path,
    texts: Sequence[str],
    scores: Float[np.ndarray, "texts shapes"],
    views: Float[np.ndarray, "shapes h w"],
    names: Sequence[str],
    top: int = 6,
) -> None:
    """A text a row, and the shapes that it finds, best first. Shapes of that name have a green frame.

    Args:
        path: the PNG file.
        texts: names that are searched for.
        scores: cosines.
        views: one view of each shape, 0 to 1.
        names: each shape's true name.
        top: shapes of a row.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.3 + 1.25 * top, 1.5 * len(texts) + 0.3), layout="constrained")
    grid = figure.subplots(len(texts), top, squeeze=False)
    for row, text in enumerate(texts):
        order = np.argsort(-scores[row], kind="stable")[:top]
        grid[row, 0].set_ylabel(text, fontsize=10, rotation=0, ha="right", va="center", labelpad=8)
        for axes, k in zip(grid[row], order):
            right = names[k] == text
            axes.imshow(views[k], cmap="gray", vmin=0, vmax=1)
            axes.set_xlabel(f"{names[k]}  {scores[row, k]:.2f}", fontsize=7, color=RIGHT if right else "black")
            for spine in axes.spines.values():
                spine.set(color=RIGHT if right else WRONG, linewidth=2.0 if right else 0.8)
        for axes in grid[row]:
            axes.set_xticks([])
            axes.set_yticks([])
            axes.set_visible(bool(axes.images))
    _save(figure, path)


def _save(figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130, bbox_inches="tight")
