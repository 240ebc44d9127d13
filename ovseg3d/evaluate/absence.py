"""Protocol `absence` on a run: does it know what is not there?

Present is what the scene's label images name. Absent are ten kinds: three that are easily taken for something that is
there (mug and cup; a fixed table), five from outside the world of rooms, the rest other kinds of things of rooms. The
choice is fixed by the list of what is present. Each phrase is asked for itself, as if the run did not name it; its
score is that of the decision for the whole scene (see `presence`), in which what is present competes, and what rooms
hold.
"""

import threading
import zlib
from collections.abc import Sequence
from typing import Literal

import numpy as np

from ovseg3d.engine import until_stopped
from ovseg3d.evaluate.metrics.absence import AbsenceScores, measure_absence
from ovseg3d.query.engine import QueryEngine
from ovseg3d.synth import KINDS

CONFUSABLE = (
    ("mug", "cup"), ("television", "monitor"), ("cabinet", "dresser"), ("chair", "stool"), ("desk", "table"),
    ("bookshelf", "cabinet"), ("laptop", "keyboard"), ("sofa", "bed"), ("bowl", "plate"), ("night stand", "cabinet"),
    ("box", "bin"), ("vase", "bottle"), ("window", "picture"), ("counter", "desk"), ("refrigerator", "washing machine"),
    ("oven", "microwave"), ("toilet", "bathtub"), ("backpack", "cushion"), ("ball", "apple"), ("rug", "curtain"),
    ("lamp", "ceiling light"), ("book", "tissue box"), ("teapot", "vase"), ("door", "window"),
)  # fmt: skip
"""Pairs that look or are used alike; one that is absent is a trap where the other is present."""
OUTSIDE = (
    "elephant", "airplane", "traffic light", "sailing boat", "giraffe", "fire truck", "palm tree", "rocket", "tractor",
    "camel", "lighthouse", "roller coaster", "penguin", "tram", "waterfall",
)  # fmt: skip
"""What no room holds."""
TRAPS, FOREIGN, ALL = 3, 5, 10
Alternatives = Literal["present", "default", "none"]


def absent_phrases(present: Sequence[str]) -> tuple[str, ...]:
    """Ten phrases for what is not in a scene with `present`; fewer where the world has too few kinds left."""
    there = {phrase.strip().casefold() for phrase in present}
    random = np.random.default_rng(zlib.crc32("\n".join(sorted(there)).encode()))

    def some(names: Sequence[str], count: int) -> list[str]:
        free = [name for name in dict.fromkeys(names) if name not in there]
        return [free[i] for i in sorted(random.permutation(len(free))[:count])]

    pairs = [*CONFUSABLE, *((b, a) for a, b in CONFUSABLE)]
    traps = some([other for known, other in pairs if known in there], TRAPS)
    foreign = some(OUTSIDE, FOREIGN)
    rest = some([kind for kind in KINDS if kind not in traps], ALL - len(traps) - len(foreign))
    return (*traps, *foreign, *rest)


def absence_scores(
    engine: QueryEngine,
    present: Sequence[str],
    absent: Sequence[str],
    *,
    alternatives: Alternatives = "present",
    stop: threading.Event | None = None,
) -> tuple[dict[str, float], dict[str, float]]:
    """The run's score of each phrase, first of those that are there.

    Args:
        asker: of the run.
        present: phrases that are there.
        absent: phrases that are not.
        rivals: what competes: what rooms hold and what is present, what rooms hold alone (as in a run without phrases),
            or nothing.
        stop: set it to end after the current phrase.

    Raises:
        KeyboardInterrupt: after `stop`.
    """
    scores = {}
    for phrase in until_stopped((*present, *absent), stop):
        everyday = () if alternatives == "none" else engine.default_vocabulary(phrase)
        named = engine.names_beside(phrase, present) if alternatives == "present" else ()
        scores[phrase] = engine.decide(phrase, (*everyday, *named)).score
    return {phrase: scores[phrase] for phrase in present}, {phrase: scores[phrase] for phrase in absent}


def measure_run_absence(
    engine: QueryEngine, present: Sequence[str], *, stop: threading.Event | None = None
) -> AbsenceScores:
    """Protocol `absence` for one scene. Raises KeyboardInterrupt: after `stop`."""
    there, missing = absence_scores(engine, present, absent_phrases(present), stop=stop)
    name = engine.run.scene_name
    return measure_absence({name: there}, {name: missing})
