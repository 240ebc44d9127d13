"""A labelled cloud as one HTML file for any browser: no Python, no network, nothing to install.

The template is `page.html` beside this file, in plain WebGL 2. Points are embedded as base64 of 16-byte rows, the GPU's
vertex format: x, y, z in 65535ths of the cloud's box, label, colour, size in powers of `RATIO`, normal (octahedral),
instance. Everything else is one JSON object. Text is escaped, and never becomes markup.
"""

import base64
import html
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree  # pyright: ignore[reportAttributeAccessIssue]

from ovseg3d.export.labelled import LabelledCloud
from ovseg3d.export.mesh import upright
from ovseg3d.export.records import box_of, place
from ovseg3d.field.surface import Surface
from ovseg3d.files import plain, write_atomic

ROW = np.dtype([("xyz", "<u2", 3), ("label", "<u2"), ("rgb", "u1", 3), ("size", "u1"), ("normal", "u1", 2),
                ("instance", "<u2")])  # fmt: skip
STEPS = 65535
RATIO = 1.04
"""Between neighbouring sizes: 256 of them span a factor of 20,000."""
LONELY = 1.5
"""Upper limit of a point's drawn size, relative to the usual distance of its neighbours."""
STRAY = 2.4
"""Relative distance of neighbours from which a point is a stray: most are far from any surface (playroom)."""
TOUCH = 1.8
"""Relative distance up to which two points are connected."""
CLUMP, FEWEST = 5e-4, 20
"""Connected components with a smaller share of the points, or fewer points, are strays, too."""
TILTS, SIDES, DISTANCE = (0.2, 0.62), 16, 2.15
"""Of the candidate first views: elevations in radians, number of azimuths, and distance in radii."""
NO_LABEL = (122, 128, 138)
"""Colour of unlabelled points on the page; the palette's black would be invisible there."""


def save_page(path: Path, cloud: LabelledCloud) -> None:
    """Write the page. Raises OutputError."""
    rows, scale = rows_of(cloud)
    points = np.bincount(cloud.label, minlength=len(cloud.phrases) + 1)
    labels = [
        {"phrase": phrase, "colour": colour, "points": int(count)}
        for phrase, colour, count in zip(
            [None, *cloud.phrases], [list(NO_LABEL), *cloud.colours[1:].tolist()], points.tolist()
        )
    ]
    number = {phrase: k for k, phrase in enumerate(cloud.phrases, start=1)}
    shown = set(np.unique(cloud.instance).tolist())
    instances = [
        box_of(instance)
        | {"id": instance.id, "label": number.get(instance.label or "", 0), "points": instance.n_points}
        for instance in cloud.instances
        if instance.id in shown
    ]
    meta = place(cloud) | scale | {"count": len(cloud), "labels": labels, "instances": instances}
    parts = {
        "TITLE": html.escape(f"{cloud.name}, by ovseg3d"),
        "META": _script(meta),
        "DATA": base64.b64encode(rows.tobytes()).decode(),
    }
    page = (Path(__file__).parent / "page.html").read_text(encoding="utf-8")
    # In one pass, so that inserted text is not searched again.
    made = re.sub(r"__(TITLE|META|DATA)__", lambda found: parts[found[1]], page)
    write_atomic(path, made.encode())


def _script(value: dict[str, Any]) -> str:
    """JSON that cannot end its script element."""
    text = json.dumps(plain(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def rows_of(cloud: LabelledCloud, seed: int = 0) -> tuple[np.ndarray, dict[str, Any]]:
    """Points as `ROW`s, and the page's metadata of scale and first view.

    The order is random, so that the first rows are an even sample; strays come last.
    """
    surface = cloud.surface
    apart, stray = _spacing(surface.xyz.astype(np.float64), surface.cell.astype(np.float64))
    order = np.random.default_rng(seed).permutation(len(cloud))
    order = np.concatenate([order[~stray[order]], order[stray[order]]])
    xyz, apart = surface.xyz[order].astype(np.float64), apart[order]
    low = xyz.min(0) if len(xyz) else np.zeros(3)
    step = np.maximum(np.ptp(xyz, axis=0), 1e-6) / STEPS if len(xyz) else np.ones(3)
    least = max(float(apart.min()), 1e-9) if len(xyz) else 1.0
    rows = np.zeros(len(xyz), ROW)
    rows["xyz"] = np.rint((xyz - low) / step)
    rows["label"] = cloud.label[order]
    rows["rgb"] = surface.rgb[order]
    rows["size"] = np.rint(np.log(np.maximum(apart, least) / least) / np.log(RATIO)).clip(0, 255)
    rows["normal"] = octahedral(surface.normal[order].astype(np.float64))
    rows["instance"] = np.where(cloud.instance[order] < 65536, cloud.instance[order], 0)
    middle, radius = _content(cloud)
    scale = {"low": low, "step": step, "size": least, "ratio": RATIO, "steady": int((~stray).sum())}
    turn = upright(surface.up)[:3, :3]
    steady = surface.take(~stray)
    side, tilt = _clearest(steady, middle, radius, turn)
    scale |= {"middle": middle, "radius": radius, "turn": side, "tilt": tilt, "distance": DISTANCE}
    return rows, scale | {"upright": turn}


def _spacing(xyz: np.ndarray, cell: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The drawn size of each point (mean distance of its four nearest neighbours), and which points are strays.

    Sizes are limited by the usual distance for the point's cell, so that strays are not drawn largest.
    """
    count = len(xyz)
    if count < 2:
        return np.maximum(cell, 1e-6), np.zeros(count, bool)
    apart, other = cKDTree(xyz).query(xyz, k=min(9, count))
    near = apart[:, 1:5].mean(1)
    usual = float(np.median(near / np.maximum(cell, 1e-12))) * cell
    joined = apart <= TOUCH * usual[:, None]
    edges = (np.repeat(np.arange(count), joined.sum(1)), other[joined])
    _, clump = connected_components(coo_array((np.ones(len(edges[0]), bool), edges), (count, count)), directed=False)
    sizes = np.bincount(clump)
    small = sizes[clump] < min(max(FEWEST, CLUMP * count), sizes.max())  # the largest component is never a stray
    return np.minimum(near, LONELY * usual), small | (near > STRAY * usual)


def _content(cloud: LabelledCloud) -> tuple[np.ndarray, float]:
    """Centre and radius of the content, without the surroundings of an open scene and without outliers."""
    if not len(cloud):
        return np.zeros(3), 1.0
    cell = cloud.surface.cell
    xyz = cloud.surface.xyz[cell <= 4 * np.median(cell)].astype(np.float64)
    low, high = np.percentile(xyz, [1, 99], axis=0)
    return (low + high) / 2, max(float(np.linalg.norm(high - low)) / 2, 1e-6)


def _clearest(surface: Surface, middle: np.ndarray, radius: float, turn: np.ndarray) -> tuple[float, float]:
    """Azimuth and elevation of the first view: most surface faces the camera, and least of it is near.

    Rooms are seen over their nearest walls, which face away; an object photographed from one side, from that side.
    """
    xyz, normal = (surface.xyz - middle) @ turn.T / radius, surface.normal @ turn.T
    best = (-np.inf, 0.0, TILTS[-1])
    for tilt in TILTS:
        for side in np.arange(SIDES) * (2 * np.pi / SIDES) + 0.3:
            towards = np.array([np.cos(tilt) * np.sin(side), np.sin(tilt), np.cos(tilt) * np.cos(side)])
            facing = ((normal * (DISTANCE * towards - xyz)).sum(1)).clip(0)
            near = (facing > 0) & (xyz @ towards > 0.25)
            best = max(best, (float(facing.sum()) / DISTANCE - 2 * int(near.sum()), float(side), tilt))
    return best[1:]


def octahedral(normal: Float[np.ndarray, "points 3"]) -> UInt8[np.ndarray, "points 2"]:
    """Octahedral encoding of unit vectors, two bytes each (Meyer et al. 2010)."""
    flat = normal / np.maximum(np.abs(normal).sum(1, keepdims=True), 1e-12)
    sign = np.where(flat[:, :2] >= 0, 1.0, -1.0)
    folded = np.where(flat[:, 2:] < 0, (1 - np.abs(flat[:, 1::-1])) * sign, flat[:, :2])
    return np.rint((folded * 0.5 + 0.5) * 254).astype(np.uint8)
