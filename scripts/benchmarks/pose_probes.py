"""Linear probing of encoders on a data set in ImageNet3D's layout: how much of a pose a linear map reads.

    python -m scripts.benchmarks.make_imagenet3d --output outputs/pose/shapes
    python -m scripts.benchmarks.pose_probes --data outputs/pose/shapes --output outputs/pose/probes

ImageNet3D's procedure by `ovseg3d.evaluate.probe_poses`: heads on all sets of features (`probe_features`) and learning
rates are trained on the split `train` and its mirror images, one is chosen on `choice`, and it answers on `val`, of
which it sees known and novel categories. Crops are squares around the true boxes, at the encoder's own size.

Built-in towers are small. DINO has four blocks, so that the last four are also four evenly spaced ones: four sets of
features, 52 heads. The built-in CLIP and the photographs' encoder (`imagenet`) are convolutional: their stages are the
blocks, the mean of a stage's map stands for the class token, and there are two sets, 26 heads. `random` is DINO with
random weights. A larger ViT (--encoders dino:facebook/dinov2-base) has all 78.

For the joint task a ridge regression on the chosen features says the class, and one on the patches of whole photos (of
the built-in DINO, in all rows) says the box; their strengths are chosen on `choice`, too. Predictions are written for
`scripts.benchmarks.imagenet3d`: ENCODER-READOUT.json with the true boxes, and ENCODER-READOUT-boxes.json.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image

from ovseg3d.datasets import PosedObject, TestSet, read_imagenet3d, read_lines, read_symmetry_orders
from ovseg3d.encoders import BlockTokens, block_tokens
from ovseg3d.evaluate import (
    ProbeConfig,
    ProbeSplit,
    evaluate_poses,
    probe_features,
    probe_poses,
    read_pose_predictions,
)
from ovseg3d.evaluate.probing import Features, Readout
from ovseg3d.files import write_json
from ovseg3d.heads.pose import Box, crop_features
from scripts import ROOT
from scripts.benchmarks.make_imagenet3d import KNOWN, SYMMETRIES
from scripts.benchmarks.pose_answers import AT_ONCE, object_crops, write_answers
from scripts.start import start
from scripts.training.pose_stage import load_encoder

Split = Literal["train", "choice", "val"]
STRENGTHS = tuple(10.0**k for k in range(-1, 6))
"""Weights of the squared coefficients in ridge regressions."""
BOX_ENCODER, BOX_SIDE, BOX_GRID = "dino:builtin", 64, 8


@dataclass(frozen=True)
class ProbeEncoders:
    """Train probes, write their predictions, and print a line for each."""

    data: Path
    """The folder of scripts.benchmarks.make_imagenet3d."""
    output: Path = ROOT / "outputs/pose/probes"
    """The folder of predictions, and of figures.json."""
    encoders: tuple[str, ...] = ("dino:builtin", "clip:builtin", "clip:imagenet", "random")
    """ "clip:NAME", "dino:NAME", or "random"."""
    readouts: tuple[Readout, ...] = ("bins", "periodic")
    """ImageNet3D's bins, or von Mises densities."""
    epochs: int = ProbeConfig.epochs
    test_set: TestSet = "experiments"
    """Which objects count."""

    def main(self) -> None:
        """Probe."""
        torch.set_num_threads(1)
        figures: dict[str, Any] = {"one guess": self._guess()}
        boxes = self._boxes()
        for name in self.encoders:
            features = self._features(name, boxes)
            for readout in self.readouts:
                figures[f"{name}, {readout}"] = self._probe(name, readout, features, boxes)
                write_json(self.output / "figures.json", figures)

    @cached_property
    def _objects(self) -> dict[Split, list[PosedObject]]:
        splits: tuple[Split, ...] = ("train", "choice", "val")
        return {split: list(read_imagenet3d(self.data, split, test_set=self.test_set)) for split in splits}

    def _guess(self) -> dict[str, Any]:
        """Figures of one answer for all: the front, the median elevation and the most frequent class of training."""
        train, asked = self._objects["train"], self._objects["val"]
        angles = [0.0, float(np.median(angles_of(train)[:, 1])), 0.0]
        (label, _), *_ = Counter(one.category for one in train).most_common(1)
        write_answers(self.output / "one-guess.json", asked, np.tile(angles, (len(asked), 1)), [label] * len(asked))
        found = measured(self.data, asked, self.output / "one-guess", self.test_set)
        show("one guess", found)
        return found

    def _boxes(self) -> list[Box]:
        """Predicted boxes of the split that is reported."""
        encoder, seen, true = load_encoder(BOX_ENCODER), {}, {}
        for split, objects in self._objects.items():
            seen[split] = crop_features(encoder, whole_photos(objects, BOX_SIDE), BOX_GRID).flatten(1).double().numpy()
            true[split] = np.array([np.divide(one.bbox, (*one.size, *one.size)) for one in objects])
        found = ridge(
            seen["train"], true["train"], seen["choice"], [seen["val"]], lambda boxes: -_square(boxes - true["choice"])
        )[0]
        return [tuple(np.multiply(row, (*one.size, *one.size))) for row, one in zip(found, self._objects["val"])]

    def _features(self, name: str, boxes: Sequence[Box]) -> dict[str, Features]:
        """Of each split; of the training split and of its mirror images; and in the predicted boxes."""
        encoder, objects = load_encoder(name), self._objects
        side = encoder.preprocess.size[0]
        train = object_crops(objects["train"], side)
        crops = {
            "train": np.concatenate([train, train[:, :, ::-1]]),
            "choice": object_crops(objects["choice"], side),
            "val": object_crops(objects["val"], side),
            "boxes": object_crops(objects["val"], side, boxes),
        }
        return {part: features_of(encoder, own) for part, own in crops.items()}

    def _probe(
        self, name: str, readout: Readout, features: dict[str, Features], boxes: Sequence[Box]
    ) -> dict[str, Any]:
        objects = self._objects
        angles = angles_of(objects["train"])
        asked = {key: np.concatenate([table, features["boxes"][key]]) for key, table in features["val"].items()}
        probed = probe_poses(
            ProbeSplit(features["train"], np.concatenate([angles, mirrored(angles)])),
            ProbeSplit(features["choice"], angles_of(objects["choice"])),
            asked,
            readout=readout,
            config=ProbeConfig(epochs=self.epochs),
        )
        (chosen,) = probed.chosen.values()
        labels = self._labels(features["train"][chosen[0]], features["choice"][chosen[0]], asked[chosen[0]])
        half, stem, answers = len(boxes), f"{name.replace(':', '-')}-{readout}", probed.predicted.angles_rad
        write_answers(self.output / f"{stem}.json", objects["val"], answers[:half], labels[:half])
        write_answers(self.output / f"{stem}-boxes.json", objects["val"], answers[half:], labels[half:], boxes)
        (accuracies,) = probed.accuracies.values()
        found = {"heads": len(accuracies), "chosen": list(chosen), "choice_acc_30": accuracies[chosen]}
        found |= measured(self.data, objects["val"], self.output / stem, self.test_set)
        show(f"{name}, {readout}: {chosen[0]} at {chosen[1]:g}, {accuracies[chosen]:.3f} on the choice", found)
        return found

    def _labels(self, train: np.ndarray, choice: np.ndarray, asked: np.ndarray) -> list[str]:
        """Classes, of those that were trained on."""
        own = [one.category for one in self._objects["train"]]
        names = sorted(set(own))
        targets = np.eye(len(names))[[names.index(name) for name in own] * 2]
        true = [names.index(one.category) for one in self._objects["choice"]]
        rows = ridge(train, targets, choice, [asked], lambda scores: float(np.mean(scores.argmax(1) == true)))[0]
        return [names[row] for row in rows.argmax(1).tolist()]


def whole_photos(objects: Sequence[PosedObject], side: int) -> UInt8[np.ndarray, "objects {side} {side} 3"]:
    """Whole photos, squashed to squares."""
    made = []
    for one in objects:
        with Image.open(one.photo) as photo:
            made.append(np.asarray(photo.convert("RGB").resize((side, side))))
    return np.stack(made)


def features_of(encoder: Any, crops: UInt8[np.ndarray, "n side side 3"]) -> Features:
    """All sets of features of crops."""
    parts = [
        block_tokens(encoder, torch.from_numpy(crops[k : k + AT_ONCE]).permute(0, 3, 1, 2).float() / 255)
        for k in range(0, len(crops), AT_ONCE)
    ]
    blocks = []
    for own in zip(*parts):
        tokens = [one.class_token for one in own if one.class_token is not None]
        blocks.append(BlockTokens(torch.cat(tokens) if tokens else None, torch.cat([one.mean for one in own])))
    return probe_features(blocks)


def angles_of(objects: Sequence[PosedObject]) -> Float[np.ndarray, "objects 3"]:
    """Azimuth, elevation, theta, radians."""
    seen = [one.viewpoint for one in objects]
    return np.array([(one.azimuth_rad, one.elevation_rad, one.theta_rad) for one in seen])


def mirrored(angles: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
    """Azimuth, elevation and theta in the mirror image of a crop."""
    return angles * [-1, 1, -1]


def ridge(
    x: Float[np.ndarray, "n width"],
    y: Float[np.ndarray, "n outputs"],
    choose: Float[np.ndarray, "m width"],
    asked: Sequence[Float[np.ndarray, "_ width"]],
    quality: Callable[[Float[np.ndarray, "m outputs"]], float],
) -> list[Float[np.ndarray, "_ outputs"]]:
    """Linear least squares on standardised features with decayed weights.

    Args:
        x: features to fit on.
        y: what they mean.
        choose: features on whose answers the strength of the decay is chosen.
        asked: features that are answered.
        quality: of answers on `choose`; larger is better.
    """
    mean, scale, level = x.mean(0), x.std(0) + 1e-6, y.mean(0)
    rows, wide = (x - mean) / scale, x.shape[1] > len(x)
    # The same weights by the smaller of two matrices: that of the objects (the dual form), or that of the features.
    values, vectors = np.linalg.eigh(rows @ rows.T if wide else rows.T @ rows)
    turned = vectors.T @ (y - level if wide else rows.T @ (y - level))

    def answers(strength: float, features: np.ndarray) -> np.ndarray:
        found = vectors @ (turned / (np.maximum(values, 0) + strength)[:, None])
        return (features - mean) / scale @ (rows.T @ found if wide else found) + level

    best = max(STRENGTHS, key=lambda strength: quality(answers(strength, choose)))
    return [answers(best, features) for features in asked]


def measured(data: Path, objects: Sequence[PosedObject], stem: Path, test_set: TestSet) -> dict[str, Any]:
    """Figures of all tasks: open-vocabulary; the joint ones of known categories alone.

    Args:
        data: with lists of known categories and symmetries.
        objects: that are reported.
        stem: of the files of predictions, without "-boxes.json" and ".json".
        test_set: of the protocols.
    """
    known, orders = read_lines(data / KNOWN), read_symmetry_orders(data / SYMMETRIES)
    given = read_pose_predictions(stem.with_name(f"{stem.name}.json"))
    scores = evaluate_poses(
        f"imagenet3d-open-vocabulary-{test_set}", objects, given, known=known, symmetry_orders=orders
    ).figures
    found = {part: _short(scores[f"{part}, up to symmetry"]) for part in ("known", "novel")}
    own = [one for one in objects if one.category in known]
    boxed = stem.with_name(f"{stem.name}-boxes.json")
    for task, path in (("joint", None), ("joint-boxes", boxed)):
        predictions = given if path is None else read_pose_predictions(path) if path.exists() else None
        if predictions is not None:
            joint = evaluate_poses(f"imagenet3d-{task}-{test_set}", own, predictions, symmetry_orders=orders)
            found[task] = _short(joint.figures["all, up to symmetry"]) | {"class_accuracy": joint.class_accuracy}
    return found


def show(title: str, found: dict[str, Any]) -> None:
    """Print the figures of `measured`."""
    print(title)
    for task in ("known", "novel", "joint", "joint-boxes"):
        own = {key: round(value, 3) for key, value in found.get(task, {}).items() if isinstance(value, int | float)}
        if own:
            print(f"    {task:12} {own}", flush=True)


def _short(figures: Any) -> dict[str, Any]:
    keys = ("acc_30", "acc_30_interval", "acc_10", "median_deg", "objects", "unanswered")
    return {key: getattr(figures, key) for key in keys}


def _square(values: np.ndarray) -> float:
    return float(np.mean(values**2))


if __name__ == "__main__":
    start(ProbeEncoders)
