"""Make a benchmark of poses in ImageNet3D's layout, from shapes that are at hand.

    python -m scripts.benchmarks.make_imagenet3d --output outputs/pose/shapes                   # needs $OVSEG3D_DATA
    python -m scripts.benchmarks.make_imagenet3d --output outputs/pose/kinds --source kinds     # procedural objects
    python -m scripts.benchmarks.pose_probes --data outputs/pose/shapes --output outputs/pose/probes
    python -m scripts.benchmarks.imagenet3d --data outputs/pose/shapes --predictions outputs/pose/probes/... \\
        --protocol imagenet3d-open-vocabulary-dataset --known outputs/pose/shapes/known_categories.txt \\
        --symmetries outputs/pose/shapes/symmetry_orders.json

The folder holds images, annotations and lists, as `ovseg3d.datasets.read_imagenet3d` describes them, for three splits:
`train` and `choice` (for what is chosen, such as the head of linear probing) are photos of known categories, `val` is
to be reported: other shapes of the known categories, and all of the novel ones. No shape is in two splits.

Shapes are those of `pose_shapes`: surface clouds as shaded splats of one colour, somewhere in a part of a real
photograph; those of `val` are of other captures. Procedural kinds (`--source kinds`) are rendered by the package as
for the training of the photo head, of individuals of their own in `choice` and `val`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, get_args

import numpy as np
from PIL import Image

from ovseg3d.datasets import PosedObject, write_imagenet3d
from ovseg3d.errors import OutputError
from ovseg3d.files import write_atomic, write_json
from ovseg3d.geometry import Viewpoint, rotation_of_angles
from ovseg3d.heads.naming.splat import DISTANCE, pinholes, relief
from ovseg3d.heads.pose import mask_box
from scripts import ROOT
from scripts.benchmarks.pose_kinds import category, kind_photos
from scripts.benchmarks.pose_shapes import BACKGROUNDS, Shapes, background_photos, lit, shapes_at_hand, viewpoints
from scripts.benchmarks.shape_fronts import front_of
from scripts.start import start
from scripts.training.pose_crops import NAMES, NOVEL

Split = Literal["train", "choice", "val"]
SIZE = (256, 192)
"""Width and height of a photo of a shape, pixels."""
SIDES = (96, 176)
"""Of the square that a shape fills in it."""
CHOICE_SHARE = 0.25
"""Of a known category's shapes for training, at least one."""
KNOWN, SYMMETRIES = "known_categories.txt", "symmetry_orders.json"


@dataclass(frozen=True)
class MakePhotos:
    """Write the layout, the list of known categories, and orders of symmetry."""

    output: Path | None = None
    """The folder, which has no such layout yet; by default outputs/pose/SOURCE."""
    source: Literal["shapes", "kinds"] = "shapes"
    """Real shapes, or procedural kinds."""
    train_views: int = 24
    """Photos of each shape to train on; of kinds, of each kind."""
    views: int = 8
    """The same in the other splits."""
    seed: int = 720_000
    """Of viewpoints, colours and backgrounds, or of individuals."""

    def main(self) -> None:
        """Make it. Raises OutputError: the folder has such a layout."""
        output = self.output or ROOT / "outputs/pose" / self.source
        if (output / "lists").exists():
            raise OutputError("The folder has lists of objects already", where=output, fix="name another, or remove it")
        orders: dict[str, list[int]] = {}
        with TemporaryDirectory() as folder:
            for split in get_args(Split):
                made = list(self._photos(split, Path(folder)))
                write_imagenet3d(output, [one for one, _ in made], split)
                for one, order in made:
                    orders.setdefault(one.category, []).append(order)
                print(f"{split}: {len(made)} photos of {len({one.category for one, _ in made})} categories", flush=True)
        # Individuals of a procedural kind may differ; only what all share is a symmetry of the category.
        shared = {name: own[0] if len(set(own)) == 1 else 1 for name, own in sorted(orders.items())}
        write_json(output / SYMMETRIES, shared)
        write_atomic(output / KNOWN, "".join(f"{category(name)}\n" for name in self._known()).encode())

    def _known(self) -> Sequence[str]:
        return shapes_at_hand().known if self.source == "shapes" else [name for name in NAMES if name not in NOVEL]

    def _photos(self, split: Split, folder: Path) -> Iterator[tuple[PosedObject, int]]:
        views = self.train_views if split == "train" else self.views
        if self.source == "kinds":
            return kind_photos(folder, split, self._known() if split != "val" else NAMES, views, self.seed)
        return shape_photos(shapes_at_hand(), split, views, self.seed, folder)


def shape_photos(
    shapes: Shapes, split: Split, views: int, seed: int, folder: Path
) -> Iterator[tuple[PosedObject, int]]:
    """Photos of the shapes of a split, with their orders of symmetry.

    Args:
        shapes: all.
        split: which of them.
        views: of each.
        seed: of viewpoints, colours, places and backgrounds.
        folder: where the photos go.
    """
    points, categories = shapes.clouds
    behind = background_photos(shapes.folder, BACKGROUNDS["test" if split == "val" else "training"])
    for shape in shapes_of(shapes, split):
        rng, name = np.random.default_rng([seed, shape, get_args(Split).index(split)]), str(categories[shape])
        index = shape - int(np.flatnonzero(categories == name)[0])
        angles, side = viewpoints(rng, views), int(rng.integers(SIDES[0], SIDES[1] + 1))
        turns = rotation_of_angles(angles).as_matrix()
        pictures, (centers, focals) = relief(points[shape], turns, side), pinholes(points[shape], turns, side)
        for view, (grey, center, focal) in enumerate(zip(pictures, centers, focals)):
            azimuth, elevation, theta = angles[view].tolist()
            there = grey < 1  # what is lit is darker than what is empty
            left, top = (int(rng.integers(0, length - side + 1)) for length in SIZE)
            photo = _background(rng, behind)
            at = photo[top : top + side, left : left + side]
            at[there] = lit(rng, grey)[there]
            path = folder / f"{name}-{index}-{view}.JPEG"
            Image.fromarray(photo).save(path, quality=95)
            x0, y0, x1, y1 = mask_box(there)
            yield PosedObject(
                photo=path,
                name=f"{name}/{split}{index:02}_{view:02}",
                number=0,
                category=name,
                viewpoint=Viewpoint(azimuth, elevation, theta, DISTANCE),
                center_px=(float(center[0] + left), float(center[1] + top)),
                bbox=(x0 + left, y0 + top, x1 + left, y1 + top),
                focal_px=float(focal),
                size=SIZE,
                status="status_good",
                dense=False,
                cad_index=index + 1,
            ), front_of(name).order  # fmt: skip


def shapes_of(shapes: Shapes, split: Split) -> list[int]:
    """Numbers of the shapes of a split. The last ones of a known category's training shapes are for choices."""
    if split == "val":
        return [*shapes.of("known"), *shapes.of("novel")]
    rows, categories = shapes.of("training"), shapes.clouds[1]
    found = []
    for name in shapes.known:
        own = [row for row in rows if categories[row] == name]
        chosen = max(1, round(CHOICE_SHARE * len(own)))
        found += own[-chosen:] if split == "choice" else own[:-chosen]
    return found


def _background(rng: np.random.Generator, photos: Sequence[np.ndarray]) -> np.ndarray:
    """A part of a photograph."""
    photo = photos[int(rng.integers(len(photos)))]
    scale = min(photo.shape[1] / SIZE[0], photo.shape[0] / SIZE[1]) * rng.uniform(0.6, 1.0)
    width, height = (max(1, int(side * scale)) for side in SIZE)
    left, top = int(rng.integers(photo.shape[1] - width + 1)), int(rng.integers(photo.shape[0] - height + 1))
    return np.array(Image.fromarray(photo[top : top + height, left : left + width]).resize(SIZE))


if __name__ == "__main__":
    start(MakePhotos)
