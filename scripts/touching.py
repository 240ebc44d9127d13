"""Things that touch each other, told apart: a picture of held-out photos, the true things, and those that were found.

    ovseg3d synth scenes/waiting_room --room waiting-room && ovseg3d train scenes/waiting_room
    python scripts/touching.py outputs/waiting_room/latest --kind chair

A thing that was found has the colour of the true thing that it shares most pixels with, if no other shares more; else
it is white with a colour of its own mixed in, so that what fell apart, or is two in one, stands out. What is said below
the picture is protocol `instances` for that kind.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

import numpy as np  # noqa: E402
import tyro  # noqa: E402
from scipy.optimize import linear_sum_assignment  # noqa: E402
from start import start  # noqa: E402

from ovseg3d.errors import ConfigError  # noqa: E402
from ovseg3d.evaluate.measure import classes_of, exact_cloud, measure_things, read_objects  # noqa: E402
from ovseg3d.query.engine import Asker  # noqa: E402
from ovseg3d.render.images import contact_sheet, save_picture, side_by_side  # noqa: E402
from ovseg3d.render.palette import colours, thing_names  # noqa: E402
from ovseg3d.scene.images import load_photo  # noqa: E402
from ovseg3d.session import load  # noqa: E402
from ovseg3d.synth.cloud import instance_images  # noqa: E402


@dataclass(frozen=True)
class Touching:
    """Draw a run's things of one kind beside the true ones."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """A run on a synthetic room."""
    kind: str = "chair"
    """What to look at."""
    views: int = 3
    """How many held-out photos: those that show most of the kind."""
    output: Path = Path("outputs/touching.png")
    """The picture to write."""

    def main(self) -> None:
        """Draw, write, and print counts."""
        run = load(self.run)
        scene = run.load_scene()
        asker, truth = Asker(run, scene), exact_cloud(scene)
        wanted = [int(thing["id"]) for thing in read_objects(scene) if thing["category"] == self.kind]
        if not wanted:
            raise ConfigError(f"No thing of {scene.path} is a {self.kind}", where="--kind")
        true = list(instance_images(scene.path, [scene.frames[view].camera for view in scene.test]))
        shown = sorted(range(len(true)), key=lambda k: -len(np.unique(true[k][np.isin(true[k], wanted)])))[: self.views]
        found = {k: self._found(asker, scene.frames[scene.test[k]].name) for k in shown}
        partner = _partners([(true[k], found[k]) for k in shown], wanted)
        rows = []
        for k in sorted(shown):
            photo = np.asarray(load_photo(scene.frames[scene.test[k]]))[..., :3]
            own = np.isin(true[k], wanted)
            named = np.vectorize(lambda number: partner.get(number, 0))(found[k])
            lone = np.where((named == 0) & (found[k] > 0) & np.isin(found[k], np.unique(found[k][own])), found[k], 0)
            panels = [
                ("photo", photo),
                (f"true: each {self.kind}", _painted(photo, np.where(own, true[k], 0))),
                ("found", _painted(photo, named, lone)),
            ]
            rows.append(side_by_side(panels))
        save_picture(self.output, contact_sheet(rows))
        labels = asker.labels(classes_of(scene), none=False)
        scores = measure_things(scene, asker.semantics, labels, truth, things=wanted)
        print(f"{len(wanted)} of {self.kind}: {scores.recall_25:.0%} found at IoU 0.25, {scores.recall_50:.0%} at 0.5")
        print(f"wrote {self.output}")

    def _found(self, asker: Asker, view: str) -> np.ndarray:
        """The run's thing at each pixel."""
        return asker.places(view).nearest(asker.semantics.instance.astype(np.int64))


def _partners(pictures: list[tuple[np.ndarray, np.ndarray]], wanted: list[int]) -> dict[int, int]:
    """The true thing of each thing that was found, one of each, by shared pixels in all pictures."""
    most = max(int(found.max()) for _, found in pictures) + 1
    shared = np.zeros((len(wanted), most))
    for true, found in pictures:
        for row, number in enumerate(wanted):
            shared[row] += np.bincount(found[true == number].ravel(), minlength=most)
    shared[:, 0] = 0
    pairs = zip(*linear_sum_assignment(-shared))
    return {int(column): wanted[row] for row, column in pairs if shared[row, column] > 0}


def _painted(photo: np.ndarray, things: np.ndarray, lone: np.ndarray | None = None) -> np.ndarray:
    """Things in colours over a pale photo."""
    grey = np.repeat(photo.mean(-1, keepdims=True), 3, -1) * 0.5 + 110
    palette = colours(thing_names(int(max(things.max(), 0 if lone is None else lone.max())))).astype(float)
    painted = np.where((things > 0)[..., None], 0.8 * palette[things] + 0.2 * grey, grey)
    if lone is not None:
        painted = np.where((lone > 0)[..., None], 0.35 * palette[lone] + 0.65 * 255, painted)
    return np.rint(painted).clip(0, 255).astype(np.uint8)


if __name__ == "__main__":
    start(Touching)
