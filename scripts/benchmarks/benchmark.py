"""The README's figures, as markdown: kernels against their plain-torch references, and training on six captures.

python -m scripts.benchmarks.benchmark                              # everything, about twenty minutes on two cores
python -m scripts.benchmarks.benchmark --rows playroom,lego         # some rows
python -m scripts.benchmarks.benchmark --rows kernels --output kernels.md

A training row parses the `ovseg3d train ...` command that it shows and trains with the resulting settings, in its own
process, for its own time and memory, and with an empty kernel cache, so that compilation is included. During training,
some pixels of held-out views are rendered at intervals with the clock stopped, which gives the seconds to 20, 25 and
28 dB. Captures outside scenes/ are expected in $OVSEG3D_DATA.
"""

import math
import multiprocessing
import os
import platform
import shlex
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts import ROOT

TRAINING = {
    "playroom": "scenes/playroom",
    "desk": "scenes/desk",
    "lego": "$OVSEG3D_DATA/lego --downscale 2 --max-seconds 120",
    "fox": "$OVSEG3D_DATA/fox --downscale 4",
    "llff_fern": "$OVSEG3D_DATA/llff_fern --downscale 16",
    "tum_cabinet": "$OVSEG3D_DATA/tum_cabinet --downscale 4 --depth on",
}
ROWS = ("kernels", *TRAINING)
LEVELS_DB = (20, 25, 28)
WATCHED_PIXELS = 8192
KERNEL_COLUMNS = ("kernel", "warp, ms", "plain torch, ms", "nerfstudio's torch, ms", "ratio", "command")
TRAINING_COLUMNS = (
    "scene", "photos", "steps/s", *(f"s to {level} dB" for level in LEVELS_DB), "PSNR, dB", "SSIM", "off the path",
    "depth error, median", "within 5 %", "memory, MiB", "train s", "command",
)  # fmt: skip


@dataclass(frozen=True)
class Benchmark:
    """Measure, and print markdown tables."""

    rows: str = ",".join(ROWS)
    """Names of rows, separated by commas."""
    output: Path | None = None
    """Also write the tables to this file."""
    max_seconds: float | None = None
    """Train every scene for this many seconds instead: for a quick test, not for publication."""
    warm: bool = False
    """Keep the usual kernel cache, so that compilation is not included."""

    def main(self) -> int:
        """Run the rows one after another; returns 1 if one of them failed."""
        if "OVSEG3D_DATA" in os.environ:
            os.environ["OVSEG3D_DATA"] = os.path.abspath(os.environ["OVSEG3D_DATA"])  # rows work in the repository
        names = [name.strip() for name in self.rows.split(",") if name.strip()]
        for name in names:
            if name not in ROWS:
                sys.exit(f"There is no row {name!r}; there are: {', '.join(ROWS)}")
        kernel_rows, training_rows, failed = [], [], False
        for name in names:
            print(f"{name} ...", file=sys.stderr, flush=True)
            try:
                if name == "kernels":
                    from scripts.benchmarks.benchmark_kernels import measure_kernels

                    kernel_rows = apart(measure_kernels, self.warm)
                else:
                    training_rows.append(apart(measure_training, self.warm, name, train_line(name, self.max_seconds)))
            except Exception as error:  # the other rows may succeed
                failed = True
                print(f"{name} failed: {error}", file=sys.stderr, flush=True)
        text = f"{apart(describe_machine, True)}\n\n"
        if kernel_rows:
            text += table(KERNEL_COLUMNS, kernel_rows) + "\n"
        if training_rows:
            text += table(TRAINING_COLUMNS, training_rows) + "\n" + notes(self.warm)
        print(text)
        if self.output is not None:
            self.output.write_text(text)
        return int(failed)


def train_line(name: str, max_seconds: float | None) -> str:
    """The command of a training row."""
    line = f"ovseg3d train {TRAINING[name]}"
    if max_seconds is not None:
        line = f"{line.partition(' --max-seconds')[0]} --max-seconds {max_seconds:g}"
    return f"{line} --only field"


def notes(warm: bool) -> str:
    cache = "without" if warm else "with"
    return (
        f"Seconds are training time {cache} the compilation of the kernels, without measuring. `s to N dB` is the"
        f" PSNR of {WATCHED_PIXELS:,} pixels drawn from the held-out views, looked at every few seconds; everything"
        " else is of all held-out views after the last step. PSNR, SSIM and depth of playroom and desk are of the"
        " views on the camera's path; `off the path` is the PSNR of the others. Memory is the most anonymous memory"
        " of the process. Each row is one run with seed 0. The defaults were compared on views split off the training"
        " ones (scripts/compare_settings.py at 8912b79); the merging of samples was chosen on playroom's held-out"
        " views before that. The rows are made by `python -m scripts.benchmarks.benchmark --rows NAME`, which trains as"
        " the row's command does.\n"
    )


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def apart(work: Callable[..., Any], warm: bool, *arguments: Any) -> Any:
    """Call `work` in a fresh process, with a fresh kernel cache unless `warm`."""
    with tempfile.TemporaryDirectory(prefix="ovseg3d-bench-", ignore_cleanup_errors=True) as folder:
        context = multiprocessing.get_context("spawn")
        start = () if warm else (folder,)
        with ProcessPoolExecutor(1, mp_context=context, initializer=_use_cache, initargs=start) as pool:
            return pool.submit(work, *arguments).result()


def _use_cache(folder: str | None = None) -> None:
    if folder is not None:
        os.environ["WARP_CACHE_PATH"] = folder  # read by Warp when it starts


def describe_machine() -> str:
    """CPU model, cores, memory, GPU and versions, as a sentence."""
    import importlib.metadata

    import torch

    from ovseg3d.engine.workers import available_cores

    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    memory = ""
    if hasattr(os, "sysconf"):
        memory = f", {os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB"
    gpu = f", {torch.cuda.get_device_name(0)}" if torch.cuda.is_available() else ", no GPU"
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("torch", "warp-lang", "numpy"))
    system = f"{platform.system()}, Python {platform.python_version()}"
    return f"Measured on: {model}, {available_cores()} cores{memory}{gpu}; {system}, {versions}."


# -- training ------------------------------------------------------------------------------------------------------


def measure_training(name: str, line: str) -> list[str]:
    """Train as the command `line`, and evaluate some held-out pixels at intervals; returns a row of the table."""
    if "$OVSEG3D_DATA" in line and not os.environ.get("OVSEG3D_DATA"):
        return [name, *["not measured: OVSEG3D_DATA is not set"], *[""] * (len(TRAINING_COLUMNS) - 3), f"`{line}`"]
    from ovseg3d.cli.train import Train
    from ovseg3d.engine import CheckpointFolder, Clock, Start, run_stage
    from ovseg3d.engine.memory import PeakMemory
    from ovseg3d.evaluate.views import evaluate
    from ovseg3d.render.views import view_groups
    from ovseg3d.runs.fields import make_stage
    from ovseg3d.runs.folder import open_scene
    from ovseg3d.scene import Cameras, PhotoPool

    os.chdir(ROOT)
    command = Train.parse(shlex.split(os.path.expandvars(line))[2:])
    config, clock = command.settings(), Clock()
    reached: dict[int, float] = {}
    look_at = 1.0
    with PeakMemory() as memory, tempfile.TemporaryDirectory(prefix="ovseg3d-bench-") as folder:
        scene = open_scene(command.scenes[0], config)
        groups = view_groups(scene)
        usual = [view for view in scene.test if groups.get(scene.frames[view].name) != "off_path"]
        stage = make_stage(scene, config)
        with PhotoPool(scene, usual) as pool:
            pixels = pool.draw(0, WATCHED_PIXELS)
        cameras = Cameras.from_cameras([frame.camera for frame in scene.frames], stage.box.field_from_input)
        origins, directions, _ = cameras.rays(pixels.view, pixels.xy)
        # As evaluated: transparency on white.
        truth = pixels.rgb * pixels.alpha[:, None] + (1.0 - pixels.alpha[:, None])
        set_up = clock.seconds

        def look(step: int) -> None:
            nonlocal look_at
            if clock.seconds < look_at or len(reached) == len(LEVELS_DB):
                return
            with clock.paused():
                seen = stage.renderer.rays(origins.to(stage.device), directions.to(stage.device)).rgb.cpu()
                psnr = -10.0 * math.log10((seen - truth)[pixels.valid].square().mean())
            for level in LEVELS_DB:
                if psnr >= level:
                    reached.setdefault(level, clock.seconds)
            look_at = max(clock.seconds + 1.0, 1.06 * clock.seconds)

        limits = {"steps": config.train.steps, "max_seconds": config.train.max_seconds}
        with stage.workers.open():
            outcome = run_stage(
                stage, **limits, start=Start(clock=clock), checkpoints=CheckpointFolder(Path(folder)), after_step=look
            )
        evaluation = evaluate(stage.renderer, scene)
        stage.close()
    means, off = evaluation.mean(), evaluation.groups().get("off_path", {})
    camera = scene.frames[scene.train[0]].camera
    return [
        name,
        f"{len(scene.train)} of {camera.width}x{camera.height}",
        f"{outcome.steps / (outcome.seconds - set_up):.1f}",
        *(f"{reached[level]:.0f}" if level in reached else "-" for level in LEVELS_DB),
        f"{means['psnr']:.2f}",
        f"{means['ssim']:.3f}",
        f"{off['psnr']:.2f}" if off else "-",
        depth_text(means, 100.0 * (scene.metres_per_unit or 1.0) if scene.metric else None),
        "-" if math.isnan(means["depth_within_5_percent"]) else f"{means['depth_within_5_percent']:.0%}",
        f"{memory.peak / 2**20:.0f}",
        f"{outcome.seconds:.0f}",
        f"`{line}`",
    ]


def depth_text(means: Mapping[str, float], centimetres: float | None) -> str:
    """Median depth error: relative, and in cm where the capture is metric (`centimetres` in a unit)."""
    if math.isnan(means["depth_rel_median"]):
        return "-"
    text = f"{means['depth_rel_median']:.1%}"
    return text if centimetres is None else f"{text} ({means['depth_abs_median'] * centimetres:.1f} cm)"


if __name__ == "__main__":
    import tyro

    sys.exit(tyro.cli(Benchmark, description=__doc__).main())
