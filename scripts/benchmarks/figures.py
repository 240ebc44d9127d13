"""The README's images, from a run on scenes/playroom: photo | render | depth | depth error of held-out views.

python -m scripts.benchmarks.figures                                # the newest run on scenes/playroom
python -m scripts.benchmarks.figures outputs/desk/latest --output docs/images/desk.png

Only views along the camera's path are shown where the capture tells them apart, as in the table of figures. Depth is
z-depth, in metres where they are known; its error is relative to the true depth, which training never saw.
"""

import io
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from PIL import Image

from scripts import ROOT

LARGEST_FILE = 480_000
LARGEST_ERROR = 10.0
"""Per cent of depth that the error's last colour stands for."""


@dataclass(frozen=True)
class Figures:
    """Draw a run's held-out views beside their photos and the error of their depth."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")] = ROOT / "scenes" / "playroom"
    """A run folder, outputs/SCENE/latest, or a scene (its newest run)."""
    output: Path = ROOT / "docs" / "images" / "playroom.png"
    """The PNG to write."""
    views: int = 2
    """How many views, spread over the held-out ones."""
    device: str = "auto"
    """Where to render: auto, cpu or cuda."""

    def main(self) -> None:
        """Render, draw, write, and say what was written."""
        from ovseg3d.evaluate.views import score_view
        from ovseg3d.files import write_atomic
        from ovseg3d.render.images import photo_on_white
        from ovseg3d.render.views import choose_views, view_groups
        from ovseg3d.runs.fields import restore
        from ovseg3d.scene import load_depth
        from ovseg3d.session import load

        run = load(self.run)
        scene = run.load_scene()
        renderer = restore(run, scene, self.device)
        groups = view_groups(scene)
        held_out = choose_views(scene, "held-out")
        shown = [v for v in held_out if groups.get(scene.frames[v].name) != "off_path" and scene.frames[v].depth_path]
        if not shown:
            sys.exit(f"No held-out view of {scene.path} has a depth image to compare with.")
        # From the middle of equal stretches: the first and last views of a path see the least of the room.
        chosen = [shown[(2 * i + 1) * len(shown) // (2 * self.views)] for i in range(min(self.views, len(shown)))]
        unit, size = ("m", scene.metres_per_unit) if scene.metric else ("units", 1.0)
        rows = []
        for view in chosen:
            frame = scene.frames[view]
            photo, rendered = photo_on_white(frame), renderer.render(frame.camera)
            score = score_view(view, scene, photo, rendered)
            rows.append((photo, rendered["rgb"], size * rendered["depth_z"], size * load_depth(frame, scene), score))
        data = compress(draw(rows, unit))
        write_atomic(self.output, data)
        print(f"{self.output}: {len(data) / 1e3:.0f} kB, views {', '.join(scene.frames[v].name for v in chosen)}")


def draw(rows: list[tuple[Any, ...]], unit: str) -> Image.Image:
    """One row for each (photo, render, depth, true depth, score), one colour bar for each kind of image."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    known = np.concatenate([true_z[true_z > 0] for *_, true_z, _ in rows])
    near, far = np.percentile(known, [1, 99])
    h, w = rows[0][0].shape[:2]
    figure, axes = plt.subplots(
        len(rows), 4, figsize=(13, 3.25 * h / w * len(rows) + 0.5), squeeze=False, layout="compressed", dpi=100
    )
    depth_map, error_map = (matplotlib.colormaps[name].copy() for name in ("inferno_r", "viridis"))
    for colours in (depth_map, error_map):
        colours.set_bad("0.5")  # where the truth is unknown
    for row, (photo, rgb, depth_z, true_z, score) in zip(axes, rows):
        error = 100 * np.abs(depth_z - true_z) / np.where(true_z > 0, true_z, np.nan)
        row[0].imshow(photo)
        row[0].set_title("held-out photo", fontsize=10)
        row[1].imshow(np.clip(rgb, 0, 1))
        row[1].set_title(f"render, {score.psnr:.1f} dB", fontsize=10)
        depth = row[2].imshow(depth_z, cmap=depth_map, vmin=near, vmax=far)
        row[2].set_title("depth", fontsize=10)
        wrong = row[3].imshow(error, cmap=error_map, vmin=0, vmax=LARGEST_ERROR)
        row[3].set_title(f"depth error, median {score.depth_rel_median:.1%}", fontsize=10)
        for axis in row:
            axis.set_axis_off()
    figure.colorbar(depth, ax=axes[:, 2], label=f"z-depth, {unit}", aspect=40)
    figure.colorbar(wrong, ax=axes[:, 3], label="per cent of depth", aspect=40, extend="max")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", facecolor="white", bbox_inches="tight", pad_inches=0.05)
    plt.close(figure)
    return Image.open(buffer).convert("RGB")


def compress(image: Image.Image) -> bytes:
    """PNG bytes below LARGEST_FILE: made smaller if need be, never with fewer colours, which would lie."""
    for percent in range(100, 40, -5):
        size = (image.width * percent // 100, image.height * percent // 100)
        buffer = io.BytesIO()
        image.resize(size, Image.Resampling.LANCZOS).save(buffer, format="PNG", optimize=True)
        if buffer.tell() < LARGEST_FILE:
            break
    return buffer.getvalue()


if __name__ == "__main__":
    tyro.cli(Figures, description=__doc__).main()
