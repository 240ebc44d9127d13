"""Names for objects of a coloured cloud without photos, from pseudo images of them.

Each object is seen from the cameras that show most of it. The picture is cropped around the object, its surroundings
are blurred, as in the crops of photos (`ovseg3d.instances.crops`), and a text-image encoder sees it. The mean over the
views, weighted by how much of the object each shows, is compared with texts.

The frame is z up; its unit does not matter.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from PIL import Image, ImageFilter
from torch import Tensor

from ovseg3d.encoders import TextImageEncoder, load_clip
from ovseg3d.features.extract import square_around
from ovseg3d.features.maps import normalise
from ovseg3d.features.pyramid import CROPS_AT_ONCE, encode_crops
from ovseg3d.heads.naming.prompts import PLAIN_TEMPLATES, class_vectors
from ovseg3d.heads.naming.pseudo_images import NEIGHBOURS, Surfels, coloured_surfels, drawable, lit, render
from ovseg3d.heads.naming.viewpoints import choose_viewpoints
from ovseg3d.scene.clouds import PointCloud

VIEWS = 2
MARGIN = 0.1
"""Of a crop around the object, relative to its longer side."""
BLUR = 0.06
"""Radius of the blur of the surroundings, as a share of the picture's side: as in crops of photos."""
PICTURE_SIDE = 1.5
"""Of a picture to the encoder's: the object fills about two thirds of it."""
MAX_POINTS = 300_000
"""Points around the objects that are drawn; of more, every second or third is taken. A room has as many with one point
every 2 cm."""
REACH = 4.0
"""Radii around an object's middle within which its surroundings are drawn."""


class PictureNamer:
    """Embeds objects of coloured clouds, and compares them with texts.

    Args:
        clip: the encoder, or its name as `load_clip` takes it.
        views: pictures of each object, at most.
        device: for encoding.

    Raises:
        EncoderError: the encoder cannot be loaded.
    """

    weight = 0.3
    """See `ObjectNamer`; chosen on rooms of development. A small encoder is too sure of itself."""

    def __init__(
        self, clip: str | TextImageEncoder = "builtin", *, views: int = VIEWS, device: str | torch.device = "cpu"
    ) -> None:
        self.encoder: TextImageEncoder = load_clip(clip, device) if isinstance(clip, str) else clip
        self.device = torch.device(device)
        self.views = views

    def embed(
        self, cloud: PointCloud, boxes: Float[np.ndarray, "objects 7"], member: Int[np.ndarray, " points"]
    ) -> Float[np.ndarray, "objects dim"]:
        """Unit vectors of objects; zero for one that no picture shows.

        Args:
            cloud: with colours, z up.
            boxes: centre, full size, yaw about +z.
            member: row of each point's object, -1 for none.
        """
        total = np.zeros((len(boxes), self.encoder.dim), np.float32)
        rows = _around(cloud, boxes)
        if len(rows) < NEIGHBOURS:
            return total
        surfels, member = coloured_surfels(cloud.take(rows)), member[rows]
        shown: list[tuple[int, float]] = []

        def crops() -> Iterator[Tensor]:
            for row, visibility, crop in self.crops(surfels, boxes, member):
                shown.append((row, visibility))
                yield torch.from_numpy(crop).to(self.device)

        with torch.inference_mode():
            vectors = encode_crops(crops(), self.encoder, CROPS_AT_ONCE)
        for (row, visibility), vector in zip(shown, vectors):
            total[row] += visibility * vector
        return normalise(total)

    def crops(
        self, surfels: Surfels, boxes: Float[np.ndarray, "objects 7"], member: Int[np.ndarray, " points"]
    ) -> Iterator[tuple[int, float, Float[np.ndarray, "3 h w"]]]:
        """Pictures of objects: the object's row, its visibility, and rgb from 0 to 1; arguments as for `embed`."""
        side = round(PICTURE_SIDE * max(self.encoder.preprocess.size))
        for row, box in enumerate(boxes):
            away = np.linalg.norm(surfels.xyz - box[:3], axis=1)
            near = np.flatnonzero(away < REACH * _radius(box))
            some, own = surfels.take(near), member[near] == row
            for view in choose_viewpoints(some.xyz, np.flatnonzero(own), box, count=self.views, side=side):
                picture = render(lit(some, view.camera), view.camera, view.near)
                shows = (picture.point >= 0) & own[picture.point]
                if shows.any():
                    yield row, view.visibility, crop_around(picture.rgb, shows)

    def log_probabilities(
        self, vectors: Float[np.ndarray, "objects dim"], texts: Sequence[str]
    ) -> Float[np.ndarray, "objects texts"]:
        """Logarithms of the texts' probabilities, at the encoder's own temperature; equal ones for a vector of zeros.

        Args:
            vectors: from `embed`.
            texts: names, or phrases.

        Raises:
            EncoderError: a text is too long.
        """
        with torch.inference_mode():
            named = class_vectors(self.encoder, texts, PLAIN_TEMPLATES).cpu().numpy()
        logits = self.encoder.logit_scale * vectors @ named.T
        return logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)


def has_colours(cloud: PointCloud) -> bool:
    """Whether pictures of a cloud would show anything: a cloud of one colour counts as one without."""
    return bool(drawable(cloud).any())


def crop_around(rgb: Float[np.ndarray, "h w 3"], shows: Bool[np.ndarray, "h w"]) -> Float[np.ndarray, "3 height width"]:
    """The square around what shows the object, with its surroundings blurred."""
    side = max(shows.shape)
    blurred = Image.fromarray((rgb * 255).round().astype(np.uint8)).filter(ImageFilter.GaussianBlur(BLUR * side))
    alone = np.where(shows[..., None], rgb, np.asarray(blurred, np.float32) / 255)
    rows, columns = (np.flatnonzero(shows.any(axis)) for axis in (1, 0))
    spans = [(float(place[0]), float(place[-1] + 1)) for place in (rows, columns)]
    top, left, bottom, right = square_around(spans, (shows.shape[0], shows.shape[1]), MARGIN)
    return alone[top:bottom, left:right].transpose(2, 0, 1).astype(np.float32)


def _around(cloud: PointCloud, boxes: Float[np.ndarray, "objects 7"]) -> Int[np.ndarray, " some"]:
    """Points that are drawn: those around objects, `MAX_POINTS` of them at most."""
    rows = np.flatnonzero(drawable(cloud))
    near = np.zeros(len(rows), bool)
    for box in boxes:
        near |= ((cloud.xyz[rows] - box[:3]) ** 2).sum(1) < (REACH * _radius(box)) ** 2
    rows = rows[near]
    return rows[:: -(-len(rows) // MAX_POINTS) or 1]


def _radius(box: Float[np.ndarray, "7"]) -> float:
    return float(np.linalg.norm(box[3:6])) / 2


__all__ = ["PictureNamer", "crop_around", "has_colours"]
