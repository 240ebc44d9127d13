"""Clicks: a ray into the scene, the position where it ends, and the instance there.

With a field, a ray ends where the field becomes opaque, which is what the user sees; else at the first point near the
ray.
"""

import html
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from ovseg3d.errors import RunError
from ovseg3d.instances.records import Instance, InstancePoints
from ovseg3d.points.semantic_scene import SemanticScene
from ovseg3d.viewer.cards import card
from ovseg3d.viewer.shared_scene import SharedScene

DEFAULT_NAMES = (
    "wall", "floor", "ceiling", "window", "door", "curtain", "rug", "stairs", "lamp", "picture on a wall", "mirror",
    "table", "desk", "chair", "armchair", "sofa", "stool", "bench", "bed", "pillow", "blanket", "shelf", "bookcase",
    "cabinet", "drawer", "wardrobe", "box", "basket", "bag", "backpack", "bottle", "cup", "bowl", "plate", "vase",
    "plant", "flower", "book", "paper", "clock", "computer", "monitor", "keyboard", "telephone", "television",
    "speaker", "camera", "toy", "ball", "doll", "teddy bear", "toy car", "shoe", "hat", "clothes", "towel", "sink",
    "bath", "toilet", "oven", "refrigerator", "fruit", "food", "tool", "bicycle", "car", "tree", "grass", "sky",
    "road", "building", "person", "cat", "dog",
)  # fmt: skip
"""Names to try where none are given."""
MAX_CANDIDATES = 5


@dataclass(frozen=True, eq=False)
class Spot:
    """The end of a click's ray."""

    xyz: Float[np.ndarray, "3"]
    distance: float
    point: int | None
    """Index of the surface point there, if the run has semantics."""
    semantics: SemanticScene | None = None
    """The semantics that `point` is an index of."""


@dataclass(frozen=True)
class Selection:
    """What was clicked."""

    spot: Spot
    instance: Instance | None
    """The instance at the spot; None: for example a wall."""
    words: tuple[tuple[str, float], ...]
    """Best-matching phrases and their similarity (see `SemanticScene.compare`), by falling similarity."""
    fits: bool
    """Whether the best phrase is nearer than every canonical phrase ("object", "stuff")."""
    unit: str

    @property
    def name(self) -> str:
        return self.words[0][0] if self.words else "something"


def find_spot(shared: SharedScene, origin: Float[np.ndarray, "3"], direction: Float[np.ndarray, "3"]) -> Spot | None:
    """The end of a ray; None: it hits nothing."""
    direction = direction / np.linalg.norm(direction)
    along = shared.cast(origin, direction) if shared.renderer is not None else _first_point(shared, origin, direction)
    if along is None:
        return None
    xyz = origin + along * direction
    semantics = shared.semantics
    if semantics is None:
        return Spot(xyz, along, None)
    surface = semantics.surface
    away = np.linalg.norm(surface.xyz - xyz, axis=1)
    nearest = int(away.argmin())
    near = away[nearest] <= max(4 * surface.cell[nearest], 0.03 * along)
    return Spot(xyz, along, nearest if near else None, semantics)


def _first_point(shared: SharedScene, origin: np.ndarray, direction: np.ndarray) -> float | None:
    """Distance to the first point that lies within a hundredth of its distance from the ray."""
    xyz, _ = shared.cloud
    along = (xyz - origin) @ direction
    aside = np.linalg.norm(xyz - origin - along[:, None] * direction, axis=1)
    hit = (along > 0) & (aside < 0.01 * np.maximum(along, 0.0))
    return float(along[hit].min()) if hit.any() else None


def describe(shared: SharedScene, spot: Spot, phrases: Sequence[str] = ()) -> Selection:
    """Name the instance at a spot.

    Args:
        shared: the scene.
        spot: from `find_spot`.
        phrases: candidate names; empty: `DEFAULT_NAMES`.

    Raises:
        RunError, EncoderError: the run cannot be queried, or its surface has been replaced.
    """
    if spot.point is None or spot.semantics is None:
        return Selection(spot, None, (), False, shared.unit)
    semantics = spot.semantics
    names = tuple(dict.fromkeys(phrases)) or DEFAULT_NAMES
    members = members_of(semantics, spot.point)
    with shared.query_lock:
        engine = shared.need_engine()
        if engine.semantics is not semantics:
            raise RunError("The surface has been replaced since the click", fix="click again")
        near, beside = engine.closed(names, engine.canonical)
    own, others = near[members].mean(0), beside[members].mean(0)
    best = np.argsort(-own, kind="stable")[:MAX_CANDIDATES]
    words = tuple((names[i], float(own[i])) for i in best)
    instance = None
    number = int(semantics.instance[spot.point])
    if number > 0:
        ids = np.where(semantics.instance == number, number, 0)
        (instance,) = InstancePoints(semantics.surface, ids).records(
            labels=np.ones(len(ids), np.int64), phrases=[words[0][0]],
            scores=semantics.agreement.astype(np.float64),
        )  # fmt: skip
        (instance,) = engine.context.posed((instance,))
    return Selection(spot, instance, words, bool(own[best[0]] >= others.max()), shared.unit)


def members_of(semantics: SemanticScene, point: int) -> Int[np.ndarray, " members"]:
    """The surface points of a point's instance or rejected fragment; if it has none, the points within some cells."""
    number = semantics.piece[point]
    if number > 0:
        return np.flatnonzero(semantics.piece == number)
    surface = semantics.surface
    near = np.linalg.norm(surface.xyz - surface.xyz[point], axis=1) < 4 * surface.cell[point]
    return np.flatnonzero(near & (semantics.piece == 0))


def selection_html(selection: Selection) -> str:
    """The panel's text about a selection."""
    position = ", ".join(f"{value:.2f}" for value in selection.spot.xyz)
    lines = []
    if selection.words:
        lines.append(f'<div style="font-size:15px;font-weight:600">{html.escape(selection.name)}</div>')
        if not selection.fits:
            lines.append('<div style="opacity:0.7">No word fits better than "object" would: a guess.</div>')
    if selection.instance is not None:
        size = " × ".join(f"{length:.2f}" for length in selection.instance.size)
        points = f"{selection.instance.n_points:,} points"
        lines.append(f"<div>instance {selection.instance.id}: {size} {selection.unit}, {points}</div>")
    elif selection.words:
        lines.append("<div>no single instance: part of something, or of a large surface</div>")
    lines.append(f"<div>at ({position}), {selection.spot.distance:.2f} {selection.unit} from you</div>")
    if selection.words:
        top = max(selection.words[0][1], 1e-6)
        for phrase, cosine in selection.words:
            bar = f"width:{max(cosine, 0) / top:.0%};background:#1c7ed6;height:5px;border-radius:2px"
            lines.append(
                f'<div style="display:flex;justify-content:space-between"><span>{html.escape(phrase)}</span>'
                f'<span style="opacity:0.7">{cosine:.3f}</span></div><div style="{bar}"></div>'
            )
        lines.append('<div style="opacity:0.65">best-matching phrases, and their similarity</div>')
    return card("".join(lines))
