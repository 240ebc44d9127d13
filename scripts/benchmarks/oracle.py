"""Lift, basis and labels, measured with simulated encoders of known errors.

    python -m scripts.benchmarks.oracle outputs/playroom/latest
    python -m scripts.benchmarks.oracle outputs/playroom/latest --oracle B --seeds 0 1 2

The simulated encoder derives features from the true label images of the training views, with the errors of real ones:

A  a region's vector is its class's text vector (random unit vectors), averaged over patches of 8 pixels and blurred by
   one patch, with noise as long as the vector itself; 20 % of the regions of each view have another class's vector,
   and in two views all regions have.
B  realistic margins: 0.27 x text + a vector that all images share + noise, of texts that are much alike, so that the
   right class beats the average wrong one by 0.05 in cosine; the noise is the same over a view's regions by half; 20 %
   of the regions are wrong, half of them in the same way in four neighbouring views.

A region is the part of a square of 40 pixels that one class covers. The seed determines everything, and is printed.
"2D" is the oracle's prediction for held-out views (never used for lifting); "lift" and "lift, smoothed" are the method
`lift` without and with its smoothing; "ceiling" is smoothed, too, without noise and errors. The further steps of the
method `default` (instance crops, layout) are not measured here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro
from scipy.ndimage import gaussian_filter

from ovseg3d.evaluate.measure import classes_of, measure_cloud, measure_index, true_labels
from ovseg3d.features.maps import Dense
from ovseg3d.field.surface import SurfaceConfig, between, extract_surface, look
from ovseg3d.points.lift import LiftConfig, lift_reduced
from ovseg3d.points.semantic_scene import EncoderFacts, SemanticScene
from ovseg3d.points.smooth import smooth
from ovseg3d.query.relevancy import label
from ovseg3d.runs.fields import restore
from ovseg3d.scene import Scene
from ovseg3d.session import load
from scripts.start import start

DIM = 512
PATCH = 8
REGION = 40
WRONG = 0.2
VIEWS_ALL_WRONG = 2
NOISE_A = 1.0
TEXT_B = 0.27
MARGIN_B = 0.05
ALIKE_B = 1 - MARGIN_B / TEXT_B
"""Cosine between two texts: an image's vector has about unit length, and differs only in its text's share."""
COMMON_B = 0.8
NOISE_B = 0.5
SHARED_B = 0.5
RUN_B = 4
FIXED = ("DIM", "PATCH", "REGION", "WRONG")
OF_ORACLE = {
    "A": ("VIEWS_ALL_WRONG", "NOISE_A"),
    "B": ("TEXT_B", "MARGIN_B", "ALIKE_B", "COMMON_B", "NOISE_B", "SHARED_B", "RUN_B"),
}
"""The constants that each oracle goes by, besides those that are fixed for both."""


@dataclass(frozen=True)
class Oracle:
    """Measure the lift with an oracle encoder."""

    run: Annotated[Path, tyro.conf.Positional]
    """A trained run of a scene with labels."""
    oracle: Literal["A", "B"] = "A"
    """Which encoder to stand in for."""
    seeds: tuple[int, ...] = (0,)
    """Seeds of the mistakes."""
    rounds: int = 2
    """Of the lift's weighting by agreement; 0 is the plain mean."""

    def main(self) -> None:
        """Print a table row for each seed."""
        run = load(self.run)
        scene = run.load_scene()
        renderer = restore(run, scene)
        cameras = [scene.frames[view].camera for view in scene.train]
        settings = SurfaceConfig()
        views = list(look(renderer, cameras + between(cameras), settings))
        surface = extract_surface(renderer, views, np.array([0.0, 0.0, 1.0]), scene.metric, settings)
        xyz, cell = surface.xyz.astype(float), surface.cell.astype(float)
        visibilities = [view.see(xyz, cell, settings) for view in views[: len(cameras)]]
        depth = {scene.frames[v].name: renderer.render(scene.frames[v].camera)["depth_z"] for v in scene.test}
        print(f"{len(surface):,} points, {len(scene.train)} training views, {len(scene.test)} held out, {vars(self)}")
        print(", ".join(f"{name} {globals()[name]:g}" for name in FIXED + OF_ORACLE[self.oracle]))
        print("| seed | what | mIoU | accuracy | mIoU of segments over 100 px | found of the smaller | point mIoU |")
        print("|---|---|---|---|---|---|---|")
        for seed in self.seeds:
            for what in ("2D", "lift", "lift, smoothed", "ceiling"):
                speaks = self._speaker(scene, seed, clean=what == "ceiling")
                text = self._texts(len(classes_of(scene)), seed)
                if what == "2D":
                    scores = measure_index(scene, _flat(scene, speaks, text), scene.test)
                    _row(seed, what, scores, None)
                    continue
                photos = [speaks(view).at for view in scene.train]
                basis, lifted = lift_reduced(visibilities, photos, xyz, LiftConfig(rounds=self.rounds))
                vectors = lifted.vectors if what == "lift" else smooth(lifted.vectors, surface, lifted.support)
                lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
                learnt = SemanticScene(
                    surface, basis, vectors / np.maximum(lengths, 1e-9), lifted.agreement,
                    np.zeros(len(surface), np.int32), EncoderFacts("oracle", "oracle", "", 1.0),
                )  # fmt: skip
                cosines = learnt.scores(text)

                def labeller(view: str, learnt: SemanticScene = learnt, cosines: np.ndarray = cosines) -> np.ndarray:
                    camera = next(frame.camera for frame in scene.frames if frame.name == view)
                    image = learnt.places(camera, depth[view]).image(cosines, nothing=-2.0)
                    return label(image.reshape(-1, image.shape[-1])).reshape(image.shape[:2])

                points = measure_cloud(scene, learnt, label(cosines)) if (scene.path / "synth.json").exists() else None
                _row(seed, what, measure_index(scene, labeller, scene.test), points)

    def _texts(self, count: int, seed: int) -> np.ndarray:
        return _texts(count, seed, alike=ALIKE_B if self.oracle == "B" else 0.0)

    def _speaker(self, scene: Scene, seed: int, clean: bool) -> Callable[[int], Dense]:
        """Simulates the features of each view."""
        classes = len(classes_of(scene))
        text = self._texts(classes, seed)
        random = np.random.default_rng([seed, 1])
        all_wrong = set(random.choice(scene.train, VIEWS_ALL_WRONG, replace=False).tolist())
        common = _unit(random.normal(size=DIM))

        def speak(view: int) -> Dense:
            own = np.random.default_rng([seed, 2, view])
            labels = true_labels(scene, view)
            labels = np.maximum(labels, 0)  # ignored pixels become none
            regions, region_class = _regions(labels)
            if not clean:
                wrong = own.random(len(region_class)) < (1.0 if self.oracle == "A" and view in all_wrong else WRONG)
                wrong &= region_class > 0
                other = _another(own, region_class, classes)
                if self.oracle == "B":
                    # Half of the errors are shared by neighbouring views: one class is confused with another.
                    shared = np.random.default_rng([seed, 3, view // RUN_B])
                    swap = _another(shared, np.arange(classes + 1), classes)
                    fooled = shared.random(classes + 1) < WRONG / 2
                    region_class = np.where(fooled[region_class] & (region_class > 0), swap[region_class], region_class)
                    wrong &= own.random(len(region_class)) < 0.5
                region_class = np.where(wrong, other, region_class)
            share = _blurred(region_class[regions], classes)
            return Dense(self._said(share, text, common, own, clean).astype(np.float32))

        return speak

    def _said(
        self, share: np.ndarray, text: np.ndarray, common: np.ndarray, random: np.random.Generator, clean: bool
    ) -> np.ndarray:
        """Unit vectors of patches, (rows, columns, DIM), from the classes' shares of them."""
        size = (*share.shape[:2], DIM)
        if self.oracle == "A":
            return _unit(share @ text + (0 if clean else NOISE_A) * random.normal(size=size) / DIM**0.5)
        noise = SHARED_B**0.5 * random.normal(size=DIM) + (1 - SHARED_B) ** 0.5 * random.normal(size=size)
        return _unit(TEXT_B * share @ text + COMMON_B * common + (0 if clean else NOISE_B) * noise / DIM**0.5)


def _texts(count: int, seed: int, alike: float) -> np.ndarray:
    """Unit vectors whose cosines are about `alike`."""
    random = np.random.default_rng([seed, 0])
    own, common = _unit(random.normal(size=(count, DIM))), _unit(random.normal(size=DIM))
    return _unit((1 - alike) ** 0.5 * own + alike**0.5 * common)


def _another(random: np.random.Generator, classes: np.ndarray, count: int) -> np.ndarray:
    """For each class, from 1, one of the `count` - 1 others."""
    return (classes - 1 + random.integers(1, max(count, 2), len(classes))) % count + 1


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def _regions(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number of each pixel's region, and each region's class."""
    h, w = labels.shape
    cell = (np.arange(h) // REGION)[:, None] * (w // REGION + 1) + np.arange(w) // REGION
    classes, number = np.unique(cell * 1000 + labels, return_inverse=True)
    return number.reshape(h, w), classes % 1000


def _blurred(labels: np.ndarray, classes: int) -> np.ndarray:
    """Share of each class in every patch, (rows, columns, classes), blurred by one patch."""
    rows, columns = (side // PATCH for side in labels.shape)
    cut = labels[: rows * PATCH, : columns * PATCH].reshape(rows, PATCH, columns, PATCH)
    shares = np.stack([(cut == number).mean((1, 3)) for number in range(1, classes + 1)], -1)
    return gaussian_filter(shares, (1, 1, 0))


def _flat(scene: Scene, speaks: Callable[[int], Dense], text: np.ndarray) -> Callable[[str], np.ndarray]:
    """Labels of a view from the oracle's features of that view alone."""

    def labeller(view: str) -> np.ndarray:
        number = next(i for i, frame in enumerate(scene.frames) if frame.name == view)
        h, w = scene.frames[number].camera.height, scene.frames[number].camera.width
        row, column = np.mgrid[0:h, 0:w] + 0.5
        xy = np.stack([column / w, row / h], -1).reshape(-1, 2)
        return label(speaks(number).at(xy) @ text.T).reshape(h, w)

    return labeller


def _row(seed: int, what: str, scores, points) -> None:
    cloud = "-" if points is None else f"{points.point_miou:.1%}"
    print(
        f"| {seed} | {what} | {scores.miou:.1%} | {scores.accuracy:.1%} | {scores.miou_large:.1%}"
        f" | {scores.found_small:.0%} of {scores.small_segments} | {cloud} |",
        flush=True,
    )


if __name__ == "__main__":
    start(Oracle)
