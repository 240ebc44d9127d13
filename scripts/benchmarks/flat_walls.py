"""Flatness of bare walls: the rendered depth in regions outlined by hand, against the best plane of each.

    python -m scripts.benchmarks.flat_walls RUN --picture walls.png

The regions are scripts/benchmarks/labels/<capture>/walls.json: polygons on photos that are held out. The depth of the
photo's camera is rendered, and the pixels of a region become points. A plane is fitted to the 80 % of them that lie
nearest to it. Prints a markdown table:

- rms: root mean square distance of these 80 % to the plane, in metres where the capture's scale is known, else in its
  units; and as a share of the region's median depth.
- tilt: angle between the plane and the vertical, which tells a wall that is flat but leans.

The picture has a row for each photo: the photo with the outlines, the depth, the normals.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from jaxtyping import Bool, Float
from PIL import Image, ImageDraw

from ovseg3d.errors import ConfigError
from ovseg3d.evaluate.metrics.lerf import polygon_mask
from ovseg3d.files import read_json
from ovseg3d.render.images import (
    contact_sheet,
    depth_image,
    normal_image,
    photo_on_white,
    save_image,
    side_by_side,
    to_bytes,
)
from ovseg3d.runs.fields import restore
from ovseg3d.scene import Camera, Frame, Scene
from ovseg3d.session import load
from scripts.start import start

LABELS = Path(__file__).parent / "labels"
SHARE = 0.8
"""Share of a region's points that the plane is fitted to and measured on."""
ROUNDS = 30
"""Most fits, each to the points nearest to the plane before."""


@dataclass(frozen=True)
class Region:
    """A region of bare wall."""

    name: str
    photo: str
    """Name of the frame."""
    polygon: tuple[tuple[float, float], ...]
    """Corners, as shares of the photo's width and height."""

    def mask(self, camera: Camera) -> Bool[np.ndarray, "h w"]:
        """Its pixels in a camera of any size."""
        w, h = camera.width, camera.height
        return polygon_mask([self.polygon], w, h, (float(w), float(h)))


@dataclass(frozen=True)
class FlatWalls:
    """Measure the walls of a run, and print a markdown table."""

    run: Annotated[Path, tyro.conf.Positional]
    """A run of a capture with outlined walls."""
    picture: Path | None = None
    """Where to write the picture; none by default."""
    labels: Path = LABELS
    """Folder with a folder for each capture."""

    def main(self) -> int:
        """Returns 0."""
        run = load(self.run)
        scene = run.load_scene()
        regions = read_regions(self.labels / scene.name / "walls.json")
        frames = {frame.name: frame for frame in scene.frames}
        missing = [region.photo for region in regions if region.photo not in frames]
        if missing:
            raise ConfigError(f"The capture has no photo {missing[0]}", where=scene.path)
        photos = list(dict.fromkeys(region.photo for region in regions))
        renderer = restore(run, scene)
        rendered = {name: renderer.render(frames[name].camera, normals=True) for name in photos}
        print(f"| region | rms, {'m' if scene.metric else 'units'} | rms / depth | tilt |\n| --- | --- | --- | --- |")
        for region in regions:
            figures = measure(scene, region, frames[region.photo].camera, rendered[region.photo]["depth_z"])
            print(
                f"| {region.name} | {figures['rms']:.4f} | {figures['share']:.2%} | {figures['tilt_deg']:.1f} degrees |"
            )
        if self.picture is not None:
            rows = [_row(frames[name], [r for r in regions if r.photo == name], rendered[name]) for name in photos]
            save_image(self.picture, contact_sheet(rows))
        return 0


def read_regions(path: Path) -> list[Region]:
    """The regions of a file. Raises SceneError: it is missing or no JSON. ConfigError: it has another layout."""
    value = read_json(path)
    try:
        width, height = value["size"]
        return [
            Region(str(r["name"]), str(r["photo"]), tuple((x / width, y / height) for x, y in r["polygon"]))
            for r in value["regions"]
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"The outlines cannot be read ({error!r})", where=path) from error


def measure(scene: Scene, region: Region, camera: Camera, depth_z: Float[np.ndarray, "h w"]) -> dict[str, float]:
    """Figures of one region: `rms` in metres or units, `share` of the median depth, `tilt_deg`.

    Raises:
        ConfigError: the region has no pixel with a depth.
    """
    inside = region.mask(camera).ravel() & (depth_z.ravel() > 0)
    if inside.sum() < 3:
        raise ConfigError(f"The region {region.name!r} has no depth", where=scene.path)
    origins, directions = camera.rays(camera.pixel_centres()[inside])
    z = depth_z.ravel()[inside].astype(np.float64)
    points = origins + directions * (z / (directions @ camera.forward))[:, None]
    normal, rms = fit_plane(points)
    up = scene.world_from_input[:3, :3] @ normal
    tilt = np.degrees(np.arcsin(min(1.0, abs(up[2]) / np.linalg.norm(up))))
    return {
        "rms": rms * (scene.metres_per_unit or 1.0),
        "share": rms / float(np.median(z)),
        "tilt_deg": float(tilt),
    }


def fit_plane(points: Float[np.ndarray, "points 3"]) -> tuple[Float[np.ndarray, "3"], float]:
    """Unit normal of the least trimmed squares plane, and the rms distance of the `SHARE` of the points it fits."""
    count = max(3, round(SHARE * len(points)))
    chosen, normal, distance = points, np.zeros(3), np.zeros(len(points))
    for _ in range(ROUNDS):
        centre = chosen.mean(0)
        normal = np.linalg.eigh(np.cov((chosen - centre).T))[1][:, 0]
        distance = np.abs((points - centre) @ normal)
        nearest = points[np.sort(np.argpartition(distance, count - 1)[:count])]
        if nearest.shape == chosen.shape and np.array_equal(nearest, chosen):
            break
        chosen = nearest
    return normal, float(np.sqrt(np.square(np.sort(distance)[:count]).mean()))


def _row(frame: Frame, regions: list[Region], rendered: dict[str, Any]) -> Image.Image:
    photo = Image.fromarray(to_bytes(photo_on_white(frame)))
    draw = ImageDraw.Draw(photo)
    for region in regions:
        draw.polygon([(x * photo.width, y * photo.height) for x, y in region.polygon], outline=(255, 0, 0), width=2)
    pictures = [("depth", depth_image(rendered["depth_z"])), ("normals", normal_image(rendered["normal"]))]
    return side_by_side([(f"photo {Path(frame.name).name}", np.asarray(photo)), *pictures])


if __name__ == "__main__":
    start(FlatWalls)
