"""Remakes the demo scenes under scenes/, from nothing but the package.

python -m scripts.benchmarks.make_scenes [playroom desk]
"""

import shutil
import time
from dataclasses import dataclass
from typing import Annotated

import tyro

from ovseg3d.synth import synthesise
from scripts import ROOT
from scripts.start import start


@dataclass(frozen=True)
class MakeScenes:
    """Make demo scenes anew."""

    names: Annotated[tuple[str, ...], tyro.conf.Positional] = ("playroom", "desk")
    """Rooms of `ovseg3d synth --room`."""

    def main(self) -> None:
        """Make each beside the one that is there, then put it in its place."""
        scenes = ROOT / "scenes"
        for name in self.names:
            began, fresh = time.perf_counter(), scenes / f"{name}.new"
            shutil.rmtree(fresh, ignore_errors=True)
            made = synthesise(fresh, room=name)
            shutil.rmtree(scenes / name, ignore_errors=True)
            fresh.rename(scenes / name)
            seconds = time.perf_counter() - began
            print(f"{name}: {made.frames} photos, {made.objects} objects, {made.bytes / 1e6:.2f} MB, {seconds:.0f} s")


if __name__ == "__main__":
    start(MakeScenes)
