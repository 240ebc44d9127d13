"""Remakes the demo scenes under scenes/, from nothing but the package. Run from the repository's root.

python scripts/make_scenes.py [playroom desk]
"""

import shutil
import sys
import time
from pathlib import Path

from ovseg3d.synth import synthesise


def main(names: list[str]) -> None:
    scenes = Path(__file__).parents[1] / "scenes"
    for name in names or ["playroom", "desk"]:
        begun, fresh = time.perf_counter(), scenes / f"{name}.new"
        shutil.rmtree(fresh, ignore_errors=True)
        made = synthesise(fresh, room=name)
        shutil.rmtree(scenes / name, ignore_errors=True)
        fresh.rename(scenes / name)
        seconds = time.perf_counter() - begun
        print(f"{name}: {made.frames} photos, {made.objects} objects, {made.bytes / 1e6:.2f} MB, {seconds:.0f} s")


if __name__ == "__main__":
    main(sys.argv[1:])
