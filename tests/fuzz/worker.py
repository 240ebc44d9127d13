"""The child: damages, reads, and says how it ended, one line of JSON before and one after each case.

    python -m fuzz.worker make BASE                       write what is damaged, once
    python -m fuzz.worker files BASE SEED NUMBER...       cases of files
    python -m fuzz.worker viewer BASE SEED NUMBER...      cases of the viewer: messages of hostile browsers

A case is its seed and its number, whatever ran before. The parent (`parent.py`) watches time and memory.
"""

import json
import logging
import os
import shutil
import sys
import tempfile
import traceback
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from fuzz.mutations import copied, damage
from fuzz.targets import TARGETS, Target
from ovseg3d.errors import Ovseg3dError

MESSAGES = 40
"""Messages of one case of the viewer."""


def rounds() -> list[Target]:
    """The targets in the order of the cases' numbers, each as often as its share."""
    return [target for target in TARGETS for _ in range(target.share)]


def say(**facts: Any) -> None:
    """One line for the parent."""
    print(json.dumps(facts), file=sys.__stdout__, flush=True)


def make(base: Path) -> None:
    """Write the folders of all targets."""
    for target in TARGETS:
        target.make(base / _folder(target))


def _folder(target: Target) -> str:
    return target.name.replace(" ", "_")


def files(base: Path, seed: int, numbers: list[int]) -> None:
    """Cases of damaged files."""
    order, place = rounds(), Path(tempfile.mkdtemp(dir=base.parent))
    warm_up(base, place, {order[number % len(order)] for number in numbers})
    for number in numbers:
        target = order[number % len(order)]
        rng = np.random.default_rng([seed, number])
        folder = copied(base / _folder(target), place / _folder(target))
        times = int(rng.integers(1, 3)) if target.damaged else 0
        done = [damage(folder, rng, target.likely) for _ in range(times)]
        say(case=number, target=target.name, done=done)
        forget_peak()
        say(case=number, target=target.name, done=done, **outcome(target, folder, rng), peak=peak())
    shutil.rmtree(place, ignore_errors=True)


def warm_up(base: Path, place: Path, targets: set[Target]) -> None:
    """Read each target undamaged once: imports and first kernels are not what a case is timed by."""
    for target in sorted(targets, key=lambda target: target.name):
        with suppress(Ovseg3dError):
            target.use(copied(base / _folder(target), place / _folder(target)), np.random.default_rng(0))


def outcome(target: Target, folder: Path, rng: np.random.Generator) -> dict[str, str]:
    """How a case ended, and what was said."""
    try:
        target.use(folder, rng)
    except Ovseg3dError as error:
        if not error.what or any(ord(c) < 32 and c not in "\n\t" for c in error.what):
            return {"end": "traceback", "said": f"an error with control characters: {error.what!r}"}
        return {"end": "refused", "said": str(error)}
    except BaseException:
        return {"end": "traceback", "said": traceback.format_exc()[-3000:]}
    return {"end": "taken", "said": ""}


def viewer(base: Path, seed: int, numbers: list[int]) -> None:
    """Cases of hostile browsers against one viewer, which must still greet an honest one."""
    from hostile import attack, greeted, messages

    from ovseg3d.viewer import Viewer, open_shared_scene

    said: list[str] = []
    # The run's encoder is none that a stranger may name, so that the viewer shows the scene.
    with Viewer(open_shared_scene(base / "nerfstudio"), port=7100, notice=said.append) as server:
        for number in numbers:
            say(case=number, target="viewer", done=[f"{MESSAGES} messages"])
            forget_peak()
            attack(server.url, list(messages(seed * 1_000_003 + number, MESSAGES)))
            end = "refused" if greeted(server.url) else "hang"
            told = "\n".join(said)[-3000:]
            said.clear()
            say(case=number, target="viewer", done=[], end="traceback" if told else end, said=told, peak=peak())


def forget_peak() -> None:
    """Let the system count this process's memory anew."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pass


def peak() -> int:
    """Most bytes of memory in use since then."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def main(how: str, base: str, *rest: str) -> None:
    """See the module's text."""
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    os.environ["OVSEG3D_CACHE_DIR"] = str(Path(base) / "run.cache")
    if how == "make":
        make(Path(base))
    else:
        seed, *numbers = map(int, rest)
        {"files": files, "viewer": viewer}[how](Path(base), seed, numbers)
    say(end="all")


if __name__ == "__main__":
    main(*sys.argv[1:])
