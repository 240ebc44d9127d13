"""Where the CPU time of a training step of the field goes, as markdown.

python -m scripts.benchmarks.step_profile scenes/playroom                  # about three minutes
python -m scripts.benchmarks.step_profile scenes/playroom --after 600 --steps 48

Trains `--after` steps with all threads, then measures `--steps` steps in one thread, so that CPU time is that of the
work and not of waiting. Each figure is the CPU time of a part without that of the parts that it calls. CPU time suffers
less from other processes than wall time, but not nothing: they share the caches.
"""

import sys
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro

PARTS = {
    "draw": "photos: draw pixels",
    "march": "march",
    "encode": "hash grid: encode",
    "density": "density network, all samples",
    "merge": "merge samples",
    "geometry": "density network, kept samples",
    "color": "colour network",
    "composite": "composite",
    "distortion": "distortion",
    "grad": "gradients of networks and losses",
    "add_table_gradient": "hash grid: gradient",
    "adam": "hash grid: Adam",
    "scatter_max": "occupancy: weights of cells",
    "update": "occupancy: update",
    "try_cells": "occupancy: cells on trial",
    "piece": "rays, losses and the rest of a piece",
    "step": "the rest",
}


class Stopwatch:
    """CPU milliseconds of wrapped functions, each without those that it calls."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._inner: list[float] = []

    def wrap(self, owner: Any, name: str, part: str) -> None:
        """Time `owner.name` as `part` from now on."""
        function: Callable = getattr(owner, name)

        def timed(*arguments: Any, **options: Any) -> Any:
            start = time.thread_time()
            self._inner.append(0.0)
            try:
                return function(*arguments, **options)
            finally:
                spent = time.thread_time() - start
                self.seconds[part] += spent - self._inner.pop()
                if self._inner:
                    self._inner[-1] += spent

        setattr(owner, name, timed)


@dataclass(frozen=True)
class StepProfile:
    """Measure, and print a markdown table."""

    scene: Annotated[Path, tyro.conf.Positional]
    """A capture."""
    after: int = 600
    """Steps before measuring."""
    steps: int = 48
    """Steps to measure; whole periods of the occupancy grid's updates are best."""

    def main(self) -> None:
        from ovseg3d.cli.train import Train
        from ovseg3d.runs.fields import make_stage
        from ovseg3d.runs.folder import open_scene

        config = Train.parse([str(self.scene), "--only", "field"]).settings()
        planned = config.train.steps or 2000
        stage = make_stage(open_scene(self.scene, config), config)
        watch, loads = Stopwatch(), []
        with stage.workers.open():
            for step in range(self.after):
                stage.step(step, step / planned)
            stage.workers.threads = 1
            for name in ("march", "encode", "merge", "composite", "distortion", "scatter_max"):
                watch.wrap(stage.backend, name, name)
            for name in ("add_table_gradient", "adam"):
                watch.wrap(stage.backend, name, name)
            for name in ("density", "geometry", "color"):
                watch.wrap(stage.field, name, name)
            watch.wrap(torch.autograd, "grad", "grad")
            watch.wrap(stage.occupancy, "update", "update")
            watch.wrap(stage.renderer.sampler, "try_cells", "try_cells")
            watch.wrap(stage, "_draw", "draw")
            watch.wrap(stage, "_piece", "piece")
            watch.wrap(stage, "step", "step")
            for step in range(self.after, self.after + self.steps):
                stage.step(step, step / planned)
                loads.append([stage.measure()[name] for name in ("rays_per_step", "samples_marched", "samples_kept")])
        stage.close()
        total = sum(watch.seconds.values())
        rays, marched, kept = torch.tensor(loads).mean(0).tolist()
        print(f"{rays:,.0f} rays, {marched:,.0f} samples marched and {kept:,.0f} kept in a step\n")
        print("| part | CPU ms a step | share |\n| --- | --- | --- |")
        for part, label in sorted(PARTS.items(), key=lambda item: -watch.seconds[item[0]]):
            spent = watch.seconds[part]
            print(f"| {label} | {1e3 * spent / self.steps:.1f} | {spent / total:.0%} |")
        print(f"| all | {1e3 * total / self.steps:.1f} | 100% |")


if __name__ == "__main__":
    sys.exit(tyro.cli(StepProfile, description=__doc__).main())
