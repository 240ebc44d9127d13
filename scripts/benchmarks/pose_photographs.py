"""Poses of objects in real photographs, on a sheet to be judged by eye: see docs/results/poses.md.

    python -m scripts.benchmarks.pose_photographs        # needs $OVSEG3D_DATA

The photos and boxes were chosen before the head had seen them.
"""

import io
import json
import os
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from ovseg3d.cli.pose_inputs import in_photo
from ovseg3d.export.poses import WAYS, draw_axes
from ovseg3d.files import write_atomic
from scripts.start import start

PHOTOS = (
    ("studio_room/images/0015.jpg", (290, 262, 405, 435), "chair"),
    ("studio_room/images/0015.jpg", (90, 220, 175, 425), "guitar"),
    ("studio_room/images/0021.jpg", (80, 240, 350, 410), "microwave"),
    ("hololens_office/images/00213.jpg", (258, 165, 540, 360), "sofa"),
    ("hololens_office/images/00307.jpg", (110, 85, 495, 345), "table"),
    ("hololens_office/images/00155.jpg", (255, 35, 475, 320), "coffee machine"),
    ("tum_cabinet/raw_imgs/0019_rgb_raw.jpg", (313, 22, 556, 352), "cabinet"),
    ("tum_cabinet/raw_imgs/0000_rgb_raw.jpg", (210, 5, 535, 392), "cabinet"),
    ("tabletop_box/images/000047.jpg", (300, 78, 358, 318), "bottle"),
    ("fox/images/0027.jpg", (120, 150, 485, 780), "fox head"),
    ("lego/test/r_0.png", None, "bulldozer"),
)
"""File, box (None: the whole photo) and label."""
COLUMNS, TILE, CAPTION = 4, 400, 28
"""Tiles of the sheet, and their size in pixels."""
MARGIN = 1.5
"""Side of a tile over the longer side of its box."""


@dataclass
class PosePhotographs:
    """Draw the poses that the photo head finds in real photographs."""

    output: Path = Path("outputs/pose_photographs.jpg")

    def main(self) -> None:
        """Print what is found, and write the sheet."""
        if "OVSEG3D_DATA" not in os.environ:
            sys.exit("Set OVSEG3D_DATA to the folder of the captures.")
        data, tiles = Path(os.environ["OVSEG3D_DATA"]), []
        for number, (name, box, label) in enumerate(PHOTOS, start=1):
            tile, said = posed_tile(data / name, box, label)
            print(f"{number} {said}")
            tiles.append((tile, f"{number} {said}"))
        rows = -(-len(tiles) // COLUMNS)
        sheet = Image.new("RGB", (COLUMNS * TILE, rows * (TILE + CAPTION)), "white")
        draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(17)
        for k, (tile, said) in enumerate(tiles):
            x, y = k % COLUMNS * TILE, k // COLUMNS * (TILE + CAPTION)
            sheet.paste(tile, (x, y))
            draw.text((x + 4, y + TILE + 2), said, fill="black", font=font)
        made = io.BytesIO()
        sheet.save(made, format="JPEG", quality=80)
        write_atomic(self.output, made.getvalue())


def posed_tile(path: Path, box: tuple[float, float, float, float] | None, label: str) -> tuple[Image.Image, str]:
    """The part of a photo around a box with its axes, and what is found in words."""
    posed = in_photo(path, [] if box is None else [box], label, intrinsics_of(path), "cpu").scene
    ((_, rgb, camera),) = posed.photos
    (one,) = posed.objects
    assert one.bbox is not None, "an object of a photo is in it"
    (x0, y0, x1, y1), (height, width) = one.bbox, rgb.shape[:2]  # pixels as the photo was read
    side = int(min(MARGIN * max(x1 - x0, y1 - y0), width, height))
    left = min(max(0, int(x0 + x1 - side) // 2), width - side)
    top = min(max(0, int(y0 + y1 - side) // 2), height - side)
    shown = replace(one, label="", bbox=(x0 - left, y0 - top, x1 - left, y1 - top))
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "tile.png"
        part = rgb[top : top + side, left : left + side]
        draw_axes(place, part, camera, replace(posed, objects=(shown,)))
        with Image.open(place) as drawn:
            tile = drawn.convert("RGB").resize((TILE, TILE), Image.Resampling.LANCZOS)
    ways = "".join(f"{ways}, " for order, ways in WAYS.items() if order == one.pose.symmetry_order)
    return tile, f"{label}, {ways}{one.score:.0%}"


def intrinsics_of(path: Path) -> tuple[float, float, float, float] | None:
    """Those that the capture states, pixels; None: it has no such file."""
    listing = path.parents[1] / "transforms.json"
    if not listing.is_file():
        return None
    stated = json.loads(listing.read_text())
    stated = stated if "fl_x" in stated else stated["frames"][0]
    return stated["fl_x"], stated["fl_y"], stated["cx"], stated["cy"]


if __name__ == "__main__":
    start(PosePhotographs)
