"""Depth and colour of real captures: defaults, photos alone, and each part left out.

    python -m scripts.benchmarks.real_rooms $OVSEG3D_DATA/tum_cabinet $OVSEG3D_DATA/hololens_office
    python -m scripts.benchmarks.real_rooms $OVSEG3D_DATA/tum_cabinet --rows photos,none --seeds 0 1 2

Each row is a training of the field with these settings and nothing else changed; its run is
OUTPUT/<scene>-<row>-<steps>-<seed>. A finished run of the same settings is not trained again. Figures are of the
held-out views, at the poses that came with the capture and, where the run measured it, after aligning pose and exposure
to the photo. Prints a markdown table, mean over seeds.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from ovseg3d.errors import ConfigError
from ovseg3d.pipeline.train import train_scene
from ovseg3d.runs.devices import resolve_device
from ovseg3d.runs.folder import open_run
from ovseg3d.runs.settings import Preset, make_config
from scripts.start import start

PHOTOS: Mapping[str, Any] = {"scene": {"depth": "off"}}
ROWS: dict[str, Mapping[str, Any]] = {
    "defaults": {},
    "photos": PHOTOS,
    "prior": {"scene": {"depth": "off", "depth_prior": "builtin"}},
    "no points": {"scene": {"depth": "off"}, "field": {"point_share": 0.0}},
    "no completion": {"scene": {"depth": "off"}, "field": {"completion_weight": 0.0}},
    "no planarity": {"scene": {"depth": "off"}, "field": {"planarity": 0.0}},
    "no poses": {"scene": {"depth": "off", "refine_poses": "off"}},
    "no focal": {"scene": {"depth": "off", "refine_focal": "off"}},
    "no exposure": {"scene": {"depth": "off", "exposure": "off"}},
    "none": {"scene": {"depth": "off", "sparse_depth": "off", "refine_poses": "off", "exposure": "off"}},
}
"""Settings of each row. `photos`: without measured depth; `prior`: with predicted depth, too; the `no` rows leave one
part out of `photos`, `none` all parts."""
FIGURES = {
    "PSNR, dB": ("psnr", 1.0, "{:.2f}"),
    "depth error, median": ("depth_rel_median", 100.0, "{:.1f}%"),
    "within 5 %": ("depth_within_5_percent", 100.0, "{:.0f}%"),
    "PSNR aligned, dB": ("psnr_aligned", 1.0, "{:.2f}"),
    "depth error aligned": ("depth_rel_median_aligned", 100.0, "{:.1f}%"),
    "within 5 % aligned": ("depth_within_5_percent_aligned", 100.0, "{:.0f}%"),
    "train s": ("train_seconds", 1.0, "{:.0f}"),
}
"""Columns: the key in metrics.json, a factor, a format."""


@dataclass(frozen=True)
class RealRooms:
    """Train real captures with parts left out, and print a markdown table."""

    scenes: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Captures."""
    output: Path = Path("outputs/real_rooms")
    """Folder of the runs."""
    rows: str = ",".join(ROWS)
    """Rows to train, separated by commas."""
    seeds: tuple[int, ...] = (0,)
    """Seeds; a row is the mean over them."""
    steps: int = 2000
    """Steps of each training."""
    preset: Preset | None = None
    """Whose settings: cpu or gpu. By default those of the device that trains."""

    def main(self) -> int:
        """Returns 0."""
        names = [name.strip() for name in self.rows.split(",")]
        for name in names:
            if name not in ROWS:
                raise ConfigError(f"There is no row {name!r}", fix=f"the rows are {', '.join(ROWS)}")
        print(f"| capture | settings | {' | '.join(FIGURES)} |\n|{' --- |' * (2 + len(FIGURES))}")
        for scene in self.scenes:
            for name in names:
                measured = [self._measure(scene, name, seed) for seed in self.seeds]
                print(f"| {scene.name} | {name} | {' | '.join(cells(measured))} |", flush=True)
        return 0

    def _measure(self, scene: Path, name: str, seed: int) -> dict[str, Any]:
        """Figures of one row with one seed; trains it unless its run is finished."""
        flags = {**ROWS[name], "train": {"steps": self.steps, "seed": seed}, "only": "field"}
        config = make_config(resolve_device("auto"), preset=self.preset, flags=flags)
        folder = self.output / f"{scene.name}-{name.replace(' ', '_')}-{self.steps}-{seed}"
        if (folder / "config.json").is_file():
            run = open_run(folder)
            if run.status()["status"] == "done" and run.config == config:
                return run.metrics()
        return train_scene(scene, config, output_dir=folder).metrics()


def cells(measured: list[dict[str, Any]]) -> list[str]:
    """The cells of a row: means over seeds, with the spread where there are several; a dash without figures."""
    found = []
    for key, factor, form in FIGURES.values():
        values = [factor * metrics[key] for metrics in measured if key in metrics]
        if not values:
            found.append("-")
            continue
        spread = f" ±{np.std(values):.1f}" if len(values) > 1 else ""
        found.append(form.format(np.mean(values)) + spread)
    return found


if __name__ == "__main__":
    start(RealRooms)
