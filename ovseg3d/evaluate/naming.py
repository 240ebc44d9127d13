"""Zero-shot names of a data set's shapes, and names from a few labelled shapes.

Protocols (class list, points, shapes) are `datasets.SHAPE_PROTOCOLS`; scores are `metrics.naming`. Towers that are
compared, all by the mean cosine over views:

    frozen         CLIP's own tower on all views
    tuned          the tuned tower on all views
    half-half      OpenDlign (Mao et al. 2024): the frozen tower on the first half of the views, the tuned on the others
    both           each tower on all views
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from ovseg3d.datasets import NamedShape, ShapeProtocol
from ovseg3d.engine import Event, Report, ignore
from ovseg3d.errors import MeasureError, ShapeError
from ovseg3d.evaluate.metrics.naming import NO_ANSWER, NamingScores, measure_names, name_ranks
from ovseg3d.heads.naming import ShapeNamer
from ovseg3d.heads.naming.few_shots import cached, logistic
from ovseg3d.heads.naming.naming import check_points
from ovseg3d.heads.naming.projections import PROJECTIONS
from ovseg3d.heads.naming.upright import AXES, turn_up


def name_shapes(
    namer: ShapeNamer,
    protocol: ShapeProtocol,
    shapes: Sequence[NamedShape],
    classes: Sequence[str],
    *,
    projection: str = "contour-aware",
    report: Report = ignore,
) -> dict[str, NamingScores]:
    """Name shapes zero-shot, and measure each tower that the namer has.

    Args:
        namer: with its templates; its own choice of towers is not used.
        protocol: gives the points of a shape and the phrases of classes.
        shapes: of the protocol's data set. One that cannot be read counts as an error.
        classes: that names are chosen from, as `protocol.class_list` gives them.
        projection: one of `PROJECTIONS`.
        report: receives events of the stage "measure".

    Returns:
        Scores by tower: only "frozen" without tuned weights.

    Raises:
        MeasureError: no shape can be read, or a shape's class is none of the classes.
        ConfigError: two classes have the same phrase.
    """
    names = namer.embed_names([protocol.phrase(label) for label in classes])
    number = {label: k for k, label in enumerate(classes)}
    unknown = sorted({shape.label for shape in shapes} - set(number))
    if unknown:
        raise MeasureError(f"{unknown[0]!r} is none of the {len(classes)} classes", fix="name all classes")
    labels = np.array([number[shape.label] for shape in shapes], int)
    ranks: dict[str, list[int]] = {}
    last: ShapeError | None = None
    for row, shape in enumerate(shapes):
        try:
            found = tower_vectors(namer, PROJECTIONS[projection](_upright(shape, protocol.points)))
            for tower, vector in found.items():
                rank = name_ranks((names @ vector)[None], labels[row : row + 1])
                ranks.setdefault(tower, [NO_ANSWER] * len(shapes))[row] = int(rank[0])
        except ShapeError as error:
            last = error
        report(Event("progress", "measure", row + 1, len(shapes), (row + 1) / len(shapes)))
    if not ranks:
        raise last or MeasureError("There is no shape to measure", fix="check the data set's folder")
    return {tower: measure_names(np.array(own), labels, classes) for tower, own in ranks.items()}


def few_shot_curve(
    views: Float[np.ndarray, "shapes views dim"],
    labels: Int[np.ndarray, " shapes"],
    names: Float[np.ndarray, "classes dim"],
    *,
    logit_scale: float,
    shots: Sequence[int],
    draws: Sequence[np.random.Generator],
    log_prior: Float[np.ndarray, " classes"] | None = None,
    pool: Bool[np.ndarray, " shapes"] | None = None,
) -> dict[str, dict[int, float]]:
    """Top-1 by method and number of labelled shapes of each class, the mean over draws; measured on the other shapes.

    Methods: "zero-shot" (0 is on all shapes that are ever named), "logistic" (OpenDlign's), "cached" (see
    `heads.naming.few_shots`).

    Args:
        views: unit vectors of views.
        labels: index of each shape's class.
        names: unit vectors of the classes' names.
        logit_scale: of the encoder.
        shots: labelled shapes of each class; each class needs more.
        draws: the generator of each draw.
        log_prior: of the names, as `ShapeNamer.log_prior` gives it; None: all are alike.
        pool: shapes that may be labelled, of which none is named; None: every shape may be.
    """
    asked = np.ones(len(labels), bool) if pool is None else ~pool
    given = np.ones(len(labels), bool) if pool is None else pool
    means = views.mean(1)
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    text = means @ names.T * logit_scale - (0.0 if log_prior is None else log_prior)
    found: dict[str, dict[int, list[float]]] = {"zero-shot": {0: [float((text.argmax(1) == labels)[asked].mean())]}}
    for count in shots:
        for rng in draws:
            of = [np.flatnonzero(given & (labels == k)) for k in range(len(names))]
            own = np.concatenate([rng.permutation(shapes)[:count] for shapes in of])
            rest = np.setdiff1d(np.flatnonzero(asked), own)
            regressed = logistic(views[own], labels[own], len(names), views[rest])
            helped = cached(text[rest], means[own], labels[own], means[rest], text[own])
            for method, logits in (("zero-shot", text[rest]), ("logistic", regressed), ("cached", helped)):
                right = float((logits.argmax(1) == labels[rest]).mean())
                found.setdefault(method, {}).setdefault(count, []).append(right)
    return {method: {count: float(np.mean(own)) for count, own in row.items()} for method, row in found.items()}


def _upright(shape: NamedShape, count: int) -> Float[np.ndarray, "points 3"]:
    """At most so many of a shape's points, drawn at random with a fixed seed; z is up."""
    points = check_points(shape.read())
    if len(points) > count:
        points = points[np.random.default_rng(0).choice(len(points), count, replace=False)]
    return points @ turn_up(np.array(AXES[shape.up])).T


def tower_vectors(namer: ShapeNamer, pictures: Float[np.ndarray, "views h w"]) -> dict[str, Float[np.ndarray, " dim"]]:
    """The mean vector over a shape's views, by tower; not of unit length. Only "frozen" without tuned weights.

    Args:
        namer: its own choice of towers is not used.
        pictures: views of a projection, 0 to 1.
    """
    seen = torch.from_numpy(pictures).float()[:, None].expand(-1, 3, -1, -1).to(namer.device)
    with torch.no_grad():
        if namer.tower is None:
            return {"frozen": namer.embed_views(seen).mean(0).cpu().numpy()}
        stem = namer.tower.stem(seen)
        frozen, tuned = (namer.tower.finish(stem, share) for share in (0.0, 0.5))
    half = len(seen) // 2
    views = {
        "frozen": frozen,
        "tuned": tuned,
        "half-half": torch.cat([frozen[:half], tuned[half:]]),
        "both": frozen + tuned,
    }
    return {tower: own.mean(0).cpu().numpy() for tower, own in views.items()}
