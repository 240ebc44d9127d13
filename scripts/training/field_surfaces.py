"""Make surfaces of trained radiance fields with the boxes of their objects: examples for the detection head.

    python -m scripts.training.field_surfaces --work outputs/detection/fields

The photos of a procedural room are ray-traced as `ovseg3d synth` does, a field is trained on them, and its surface is
extracted as a run does. Boxes are exact. A surface point is of the object of the nearest point of the exact surface, if
that is near, else of none. Each room is kept as SEED.npz, in the form of
scripts.training.detection_rooms; the same command goes on after an interruption. Photos and runs are removed.

Rooms are of seeds that nothing else uses, and with the looks that encoders are trained on. Fields have the settings and
steps of a run on a CPU, wherever they are trained. A GPU is kept busy by several such commands with seeds of their own.
"""

import json
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.spatial import cKDTree  # pyright: ignore[reportAttributeAccessIssue] - not in SciPy's list of names

from ovseg3d.field.surface import Surface
from ovseg3d.pipeline.semantics import survey
from ovseg3d.pipeline.train import train_scene
from ovseg3d.runs.fields import restore
from ovseg3d.runs.settings import make_config
from ovseg3d.session import load
from ovseg3d.synth.rooms import Room
from ovseg3d.synth.write import Views, write_room
from scripts import ROOT
from scripts.start import start
from scripts.training.detection_rooms import DetectionRoom, furnished, labelled_room, save_detection_room

FIRST_SEED = 851_000
"""Of the rooms; no other training and no benchmark uses these. Earlier ones had seeds from 850,000."""
ON_SURFACE = 0.08
"""A point this near to the exact surface belongs to its object, metres."""
EXACT_POINTS = 400_000
"""Of the exact surface that labels the points: one every 1.5 to 2 cm."""


@dataclass(frozen=True)
class MakeFieldSurfaces:
    """Train fields and keep their labelled surfaces."""

    work: Path = ROOT / "outputs/detection/fields"
    """Where SEED.npz go, about 2 MB each."""
    first: int = FIRST_SEED
    """First seed."""
    count: int = 36
    """How many rooms."""
    steps: int = 2000
    """Steps of a field, by default as many as a run has."""
    device: str = "auto"
    """Where fields are trained: cuda, cpu, or auto."""
    threads: int = 1
    """Threads on the CPU."""

    def main(self) -> None:
        """Make what is missing."""
        torch.set_num_threads(self.threads)
        self.work.mkdir(parents=True, exist_ok=True)
        for seed in range(self.first, self.first + self.count):
            path = self.work / f"{seed}.npz"
            if path.exists():
                continue
            started, room = time.monotonic(), furnished(seed)
            surface, psnr = self._trained(room, seed, self.work / f"making-{seed}")
            exact = labelled_room(room, EXACT_POINTS, seed)
            save_detection_room(path, labelled(surface, exact))
            figures = {"seed": seed, "psnr": psnr, "points": len(surface), **errors(surface, exact)}
            print(json.dumps(figures | {"seconds": round(time.monotonic() - started)}), flush=True)

    def _trained(self, room: Room, seed: int, folder: Path) -> tuple[Surface, float | None]:
        """The surface of a field of a room, and the PSNR of its held-out views; `folder` is made and removed."""
        shutil.rmtree(folder, ignore_errors=True)
        # The scene's synth.json is not read: it could not describe a room of limited looks.
        write_room(room, folder / "scene", {"room": None, "seed": seed}, views=Views(test=2, depth="none"), seed=seed)
        train = {"steps": self.steps, "max_seconds": None, "device": self.device, "seed": seed}
        config = replace(make_config("cpu", flags={"train": train}), only="field")
        run = load(train_scene(folder / "scene", config, output_dir=folder / "run").folder)
        scene = run.load_scene()
        found = survey(scene, restore(run, scene))
        assert found is not None, "nobody stops it"
        psnr = run.metrics().get("psnr")
        shutil.rmtree(folder)
        return found[0], psnr


def labelled(surface: Surface, exact: DetectionRoom) -> DetectionRoom:
    """A field's surface with the instances and boxes of the exact room.

    Args:
        surface: in the room's frame, metres.
        exact: the room.
    """
    far, nearest = cKDTree(exact.xyz).query(surface.xyz)
    return replace(
        exact,
        xyz=surface.xyz.astype(np.float32),
        normal=np.round(surface.normal * 127).astype(np.int8),
        rgb=surface.rgb,
        instance=np.where(far < ON_SURFACE, exact.instance[nearest], 0).astype(np.int16),
    )


def errors(surface: Surface, exact: DetectionRoom) -> dict[str, Any]:
    """How a field's surface differs from the exact one; `scripts.training.field_like` imitates it.

    Returns:
        Quantiles (5, 25, 50, 75, 95 %) of the offset along the exact normal on the room itself and on objects, metres,
        of points within 15 cm; and the shares of points that are farther than 8 and 15 cm.
    """
    far, nearest = cKDTree(exact.xyz).query(surface.xyz)
    normal = exact.normal[nearest].astype(np.float32) / 127
    offset, near = ((surface.xyz - exact.xyz[nearest]) * normal).sum(1), far < 0.15
    own = exact.instance[nearest] > 0

    def quantiles(which: np.ndarray) -> list[float]:
        return np.quantile(offset[which & near], [0.05, 0.25, 0.5, 0.75, 0.95]).round(4).tolist()

    shares = {"beyond_8_cm": float((far > 0.08).mean()), "beyond_15_cm": float((far > 0.15).mean())}
    return {"offset_room": quantiles(~own), "offset_objects": quantiles(own)} | shares


if __name__ == "__main__":
    start(MakeFieldSurfaces)
