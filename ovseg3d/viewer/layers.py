"""Layers of the image and the points: colours, an answer, labels, features, depth.

A layer has values for each surface point and a colour map. Pixels take the values of the surface points behind them
(`points.semantic_scene.Places`), so the image and the point cloud agree. Pixels without surface are NaN. Colours are
floats from 0 to 1.
"""

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, UInt8

from ovseg3d.features.images import vector_colours
from ovseg3d.points.semantic_scene import Places, SemanticScene
from ovseg3d.render.images import depth_image, to_bytes
from ovseg3d.render.palette import colours
from ovseg3d.viewer.cards import card, legend_row
from ovseg3d.viewer.render_job import RenderJob
from ovseg3d.viewer.shared_scene import SharedScene

COLOUR, ANSWER, RELEVANCY = "Colour", "Answer", "Relevancy"
LABELS, FEATURES, DEPTH = "Labels", "Features", "Depth"
LAYERS: tuple[str, ...] = (COLOUR, ANSWER, RELEVANCY, LABELS, FEATURES, DEPTH)
EXPLANATIONS = {
    DEPTH: "Near is bright, far is dark; points show their height.",
    FEATURES: "The three largest principal components as red, green and blue: similar features have similar colours.",
}
"""Texts of layers without a legend."""
_DIM = 0.38
"""Brightness of the rest of the image beside an answer."""

Paint = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(numbers (..., k), colours (..., 3)) -> colours (..., 3)."""


@dataclass(frozen=True)
class Layer:
    """One way to show the scene."""

    name: str
    values: Float[np.ndarray, "points dim"] | None = None
    """Values of the surface points; None for colour and depth."""
    paint: Paint | None = None
    pixel_values: Callable[[Places], np.ndarray] | None = None
    """Values of an image's pixels, (h, w, k); by default blended from the points behind them."""

    def image(self, shared: SharedScene, job: RenderJob) -> UInt8[np.ndarray, "h w 3"]:
        """A complete image of the field through the layer."""
        rendered, semantics = job.complete(), shared.semantics
        if self.name == DEPTH:
            return depth_image(rendered["depth_z"])
        rgb = np.clip(rendered["rgb"], 0, 1)
        # A layer of an earlier surface does not apply to this one.
        if self.values is None or self.paint is None or semantics is None or len(self.values) != len(semantics.surface):
            return to_bytes(rgb)
        places = job.places(semantics)
        numbers = self.pixel_values(places) if self.pixel_values else places.image(self.values, nothing=float("nan"))
        return to_bytes(self.paint(numbers, rgb))

    def point_colours(self, shared: SharedScene) -> UInt8[np.ndarray, "points 3"]:
        """Colours of `SharedScene.cloud` through the layer; the depth layer shows height."""
        xyz, rgb = shared.cloud
        if self.name == DEPTH and len(xyz):
            height = xyz @ shared.up
            low, high = np.percentile(height, [2, 98])
            return to_bytes(heat((height - low) / max(high - low, 1e-9)))
        if self.values is None or self.paint is None or shared.semantics is None or len(self.values) != len(xyz):
            return rgb
        return to_bytes(self.paint(self.values, rgb / np.float32(255)))


def plain_layer(name: str) -> Layer:
    """Colour or depth."""
    return Layer(name)


def answer_layer(
    relevancies: Float[np.ndarray, "points phrases"],
    tints: UInt8[np.ndarray, "phrases 3"],
    threshold: float,
    opacity: float,
) -> Layer:
    """Answers in the colours of their phrases; the rest is dim and grey. The most relevant phrase wins."""
    tint = tints.astype(np.float32) / 255

    def paint(values: np.ndarray, rgb: np.ndarray) -> np.ndarray:
        known = np.nan_to_num(values, nan=0.0)
        best = known.argmax(-1)
        there = known.max(-1, keepdims=True) >= threshold
        grey = rgb.mean(-1, keepdims=True) * _DIM
        # The shading of the image stays visible.
        lit = tint[best] * (0.6 + 0.4 * rgb.mean(-1, keepdims=True))
        return np.where(there, (1 - opacity) * rgb + opacity * lit, opacity * grey + (1 - opacity) * rgb)

    return Layer(ANSWER, relevancies, paint)


def relevancy_layer(relevancy: Float[np.ndarray, " points"], opacity: float) -> Layer:
    """Relevancy from 0 to 1 on a fixed scale."""

    def paint(values: np.ndarray, rgb: np.ndarray) -> np.ndarray:
        unknown = np.isnan(values)
        shown = (1 - opacity) * rgb + opacity * heat(np.nan_to_num(values[..., 0]))
        return np.where(unknown, rgb, shown)

    return Layer(RELEVANCY, relevancy[:, None], paint)


@dataclass(frozen=True)
class Labelling:
    """A closed list of phrases over the surface."""

    phrases: tuple[str, ...]
    labels: Int[np.ndarray, " points"]
    """0: none of these."""
    labels_at: Callable[[Places], Int[np.ndarray, "h w"]]
    """The same for an image's pixels."""
    semantics: SemanticScene
    """Whose surface points these are."""
    own: tuple[str, ...] = ()
    """The scene's phrases, see `palette.colours`."""

    @property
    def tints(self) -> UInt8[np.ndarray, "labels 3"]:
        """A colour for none, and a constant one for each phrase."""
        return colours(self.phrases, self.own)

    @property
    def counts(self) -> Int[np.ndarray, " labels"]:
        """Number of points of none, and of each phrase."""
        return np.bincount(self.labels, minlength=len(self.phrases) + 1)


def make_labelling(shared: SharedScene, phrases: Sequence[str], canonical: Sequence[str] | None = None) -> Labelling:
    """Label the surface.

    Raises:
        RunError, EncoderError: the run cannot be queried. ConfigError: invalid phrases.
    """

    def labels_at(places: Places) -> np.ndarray:
        with shared.query_lock:
            return engine.labels_at(places, phrases, canonical)

    with shared.query_lock:
        engine = shared.need_engine()
        labels = engine.labels(phrases, canonical)
    return Labelling(tuple(phrases), labels, labels_at, engine.semantics, shared.scene.phrases)


def label_layer(labelling: Labelling, opacity: float) -> Layer:
    """The label of each pixel and point, in the phrase's colour."""
    tint = labelling.tints.astype(np.float32) / 255

    def paint(values: np.ndarray, rgb: np.ndarray) -> np.ndarray:
        unknown = np.isnan(values)
        lit = tint[np.nan_to_num(values[..., 0]).astype(np.int64)] * (0.35 + 0.65 * rgb.mean(-1, keepdims=True))
        return np.where(unknown, rgb, (1 - opacity) * rgb + opacity * lit)

    def pixel_values(places: Places) -> np.ndarray:
        numbers = np.full(places.size, np.nan, np.float32)
        numbers.ravel()[places.pixel] = labelling.labels_at(places).ravel()[places.pixel]
        return numbers[..., None]

    return Layer(LABELS, labelling.labels[:, None].astype(np.float32), paint, pixel_values)


def feature_layer(shared: SharedScene, opacity: float) -> Layer:
    """Features by their three largest principal components over the surface."""
    made = vector_colours(shared.need_engine().semantics.vectors)

    def paint(values: np.ndarray, rgb: np.ndarray) -> np.ndarray:
        return np.where(np.isnan(values), rgb, (1 - opacity) * rgb + opacity * values)

    return Layer(FEATURES, made, paint)


def heat(share: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape 3"]:
    """Colours for 0 to 1 (viridis); lightness increases, so they are readable without hue."""
    from matplotlib import colormaps

    table = colormaps["viridis"](np.linspace(0, 1, 256))[:, :3].astype(np.float32)
    return table[np.clip(np.rint(share * 255), 0, 255).astype(np.int64)]


def scale_html(title: str, low: str, high: str, mark: float | None = None) -> str:
    """The legend of `heat`, with a mark at the threshold."""
    stops = ", ".join(f"rgb({r}, {g}, {b})" for r, g, b in to_bytes(heat(np.linspace(0, 1, 9))).tolist())
    line = ""
    if mark is not None:
        position = f"left:{mark:.0%};top:-3px;width:2px;height:20px"
        line = f'<div style="position:absolute;{position};background:#e8590c"></div>'
    bar = f"position:relative;height:14px;border-radius:3px;background:linear-gradient(to right, {stops})"
    ends = f"<div style='display:flex;justify-content:space-between'><span>{low}</span><span>{high}</span></div>"
    return _small(f'<div>{html.escape(title)}</div><div style="{bar}">{line}</div>{ends}')


def label_html(labelling: Labelling) -> str:
    """The legend of labels: colour, phrase and share of the surface, by falling share."""
    tints = labelling.tints.tolist()
    names = ["none of these", *labelling.phrases]
    counts = labelling.counts
    rows = []
    for number in sorted(range(len(names)), key=lambda i: -counts[i]):
        share = counts[number] / max(counts.sum(), 1)
        text = f"{counts[number]:,}"
        rows.append(legend_row(tints[number], names[number], f"{text} · {share:.1%}", faint=bool(counts[number] == 0)))
    return _small("".join(rows) + '<div style="opacity:0.6">surface points, and their share</div>')


def _small(content: str) -> str:
    return card(content, 12.5, 1.5)
