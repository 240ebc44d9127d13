"""Protocol `absence` on a run: are absent phrases reported as absent?

Present phrases are the classes of the scene's label images. Ten absent phrases are chosen: three that are easily
confused with a present one (mug and cup; a fixed table), five that occur in no room, and other kinds of objects. The
list of present phrases determines the choice. Each phrase is queried on its own, as if the run did not name it. Its
score is that of the decision for the whole scene (see `presence`), with the present phrases and the default vocabulary
as alternatives.
"""

import threading
import zlib
from collections.abc import Sequence
from typing import Literal

import numpy as np

from ovseg3d.engine import until_stopped
from ovseg3d.evaluate.metrics.absence import AbsenceScores, measure_absence
from ovseg3d.query.answer import Criteria
from ovseg3d.query.engine import QueryEngine
from ovseg3d.synth import KINDS

CONFUSABLE = (
    ("mug", "cup"), ("television", "monitor"), ("cabinet", "dresser"), ("chair", "stool"), ("desk", "table"),
    ("bookshelf", "cabinet"), ("laptop", "keyboard"), ("sofa", "bed"), ("bowl", "plate"), ("night stand", "cabinet"),
    ("box", "bin"), ("vase", "bottle"), ("window", "picture"), ("counter", "desk"), ("refrigerator", "washing machine"),
    ("oven", "microwave"), ("toilet", "bathtub"), ("backpack", "cushion"), ("ball", "apple"), ("rug", "curtain"),
    ("lamp", "ceiling light"), ("book", "tissue box"), ("teapot", "vase"), ("door", "window"),
)  # fmt: skip
"""Pairs of similar appearance or use; one that is absent is a trap if the other is present."""
OUTSIDE = (
    "elephant", "airplane", "traffic light", "sailing boat", "giraffe", "fire truck", "palm tree", "rocket", "tractor",
    "camel", "lighthouse", "roller coaster", "penguin", "tram", "waterfall",
)  # fmt: skip
"""Objects that occur in no room."""
TRAPS, FOREIGN, ALL = 3, 5, 10
Alternatives = Literal["present", "default", "none"]


def absent_phrases(present: Sequence[str]) -> tuple[str, ...]:
    """Ten phrases that are absent from a scene with `present`; fewer if too few kinds are left."""
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


def every_absent_phrase(present: Sequence[str]) -> tuple[str, ...]:
    """All kinds of objects, and those of `OUTSIDE`, that share no word with a present phrase: ten are few to choose a
    constant by."""
    there = {word for phrase in present for word in phrase.casefold().split()}
    return tuple(name for name in dict.fromkeys((*KINDS, *OUTSIDE)) if not there.intersection(name.casefold().split()))


def absence_scores(
    engine: QueryEngine,
    present: Sequence[str],
    absent: Sequence[str],
    *,
    alternatives: Alternatives = "present",
    calibrated: bool = True,
    stop: threading.Event | None = None,
) -> tuple[dict[str, float], dict[str, float]]:
    """The run's scores of present and of absent phrases.

    Args:
        engine: of the run.
        present: phrases that are in the scene.
        absent: phrases that are not.
        alternatives: what competes: "present": the default vocabulary and the present phrases; "default": the default
            vocabulary alone (as in a run without phrases); "none": nothing.
        calibrated: False: scores before any calibration, to which calibrations are fitted.
        stop: set it to end after the current phrase.

    Raises:
        KeyboardInterrupt: after `stop`.
    """
    scores = {}
    for phrase in until_stopped((*present, *absent), stop):
        everyday = () if alternatives == "none" else engine.default_vocabulary(phrase)
        named = engine.names_beside(phrase, present) if alternatives == "present" else ()
        others = (*everyday, *named)
        if calibrated:
            scores[phrase] = engine.decide(phrase, others).score
        else:
            scores[phrase] = engine.decision.scene.decide(phrase, Criteria(alternatives=others)).score
    return {phrase: scores[phrase] for phrase in present}, {phrase: scores[phrase] for phrase in absent}


def measure_run_absence(
    engine: QueryEngine, present: Sequence[str], *, stop: threading.Event | None = None
) -> AbsenceScores:
    """Protocol `absence` for one scene. Raises KeyboardInterrupt after `stop`."""
    there, missing = absence_scores(engine, present, absent_phrases(present), stop=stop)
    name = engine.run.scene_name
    return measure_absence({name: there}, {name: missing})
