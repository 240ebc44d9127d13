"""What each stage of `ovseg3d train` costs on a capture: seconds and memory, as a markdown table.

    python -m scripts.benchmarks.benchmark_stages $OVSEG3D_DATA/fox $OVSEG3D_DATA/tum_cabinet --random-weights
    python -m scripts.benchmarks.benchmark_stages my_room --clip ViT-B-16:weights.safetensors --dino ./my_dino

Each stage is a separate command on the same run (`--only features`, then `--only field --resume`, then `--only
semantics --resume`), from an empty cache, for its own seconds and memory; both include the start of the process. Memory
is the peak of the process's anonymous memory. --random-weights uses models with random weights: costs do not depend on
weights. Photos are used at their full size; the CPU preset would resize them (--max-side 320).
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro

from scripts import ROOT
from scripts.benchmarks.benchmark_encoders import architecture_of

STAGES = {"photos' features": "features", "field": "field", "semantics": "semantics"}
COLUMNS = ("capture", "photos", "stage", "seconds", "memory, MiB", "what came of it")


@dataclass(frozen=True)
class BenchmarkStages:
    """Measure, and print a markdown table."""

    scenes: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Captures."""
    clip: str = "ViT-B-16:laion2b_s34b_b88k"
    """As --clip of `ovseg3d train`; with --random-weights only its architecture counts."""
    dino: str = "facebook/dino-vits8"
    """As --dino of `ovseg3d train`; likewise."""
    random_weights: bool = False
    """Use models with random weights."""
    max_side: int = 100_000
    """As --max-side of `ovseg3d train`."""
    steps: int | None = None
    """Steps of the field; by default the preset's."""
    output: Path | None = None
    """Keep runs here; by default nothing is kept."""

    def main(self) -> int:
        """Measure and print the rows; returns 1 if a stage failed."""
        print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}", flush=True)
        with tempfile.TemporaryDirectory(prefix="ovseg3d-bench-") as folder:
            clip, dino = self.clip, self.dino
            if self.random_weights:
                clip, dino = random_files(clip, dino, Path(folder))
            for scene in self.scenes:
                scene = scene.resolve()
                run = (self.output or Path(folder)).resolve() / scene.name
                encoders = ["--clip", clip, "--dino", dino, "--cache-dir", str(Path(folder) / "cache")]
                steps = [] if self.steps is None else ["--steps", str(self.steps)]
                flags = {
                    "features": [*encoders, "--max-side", str(self.max_side)],
                    "field": steps,
                    "semantics": encoders,
                }
                for row in measure(scene, run, flags):
                    print(f"| {' | '.join([scene.name, *row])} |", flush=True)
                    if row[-1].startswith("failed"):
                        return 1
        return 0


def measure(scene: Path, run: Path, flags: dict[str, list[str]]) -> Iterator[list[str]]:
    """Cells of a row for each stage, one command after another."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    for name, stage in STAGES.items():
        where = [str(scene), "--output-dir", str(run)] if stage == "features" else [str(run), "--resume"]
        command = [sys.executable, "-m", "ovseg3d", "train", *where, "--only", stage, *flags[stage], "--json"]
        start = time.monotonic()
        done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
        seconds = time.monotonic() - start
        if done.returncode:
            yield ["", name, f"{seconds:.0f}", "", f"failed: {done.stderr.strip()[-300:]}"]
            return
        metrics = json.loads((run / "metrics.json").read_text())
        memory = f"{metrics['peak_anonymous_bytes'] / 2**20:,.0f}"
        yield [str(metrics["features_photos"]), name, f"{seconds:.0f}", memory, _outcome(stage, metrics)]


def _outcome(stage: str, metrics: dict[str, Any]) -> str:
    if stage == "features":
        mib = metrics["features_bytes"] / metrics["features_photos"] / 2**20
        return f"{metrics['features_mode']}, {mib:.2f} MiB a photo"
    if stage == "field":
        psnr = metrics.get("psnr")
        return f"{metrics['steps']:,} steps" + (f", {psnr:.1f} dB held out" if psnr is not None else "")
    return f"{metrics['surface_points']:,} points, {metrics['semantics_bytes'] / 2**20:.0f} MiB"


def random_files(clip: str, dino: str, folder: Path) -> tuple[str, str]:
    """Save models with random weights; returns their values for --clip and --dino."""
    import open_clip
    from safetensors.torch import save_file

    torch.manual_seed(0)
    architecture = clip.partition(":")[0]
    weights = open_clip.create_model(architecture).state_dict()
    save_file({name: value.contiguous() for name, value in weights.items()}, folder / "clip.safetensors")
    architecture_of(dino).save_pretrained(folder / "dino")
    return f"{architecture}:{folder / 'clip.safetensors'}", str(folder / "dino")


if __name__ == "__main__":
    raise SystemExit(tyro.cli(BenchmarkStages, description=__doc__).main())
