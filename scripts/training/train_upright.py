"""Fit which way up a shape is (`ovseg3d/heads/naming/upright.py`), and add it to the tuned weights.

    python -m scripts.training.train_upright --weights outputs/naming/tuned.safetensors

Procedural kinds in seen styles are seen as if each of their six sides were up. A logistic regression learns, from cues
of geometry and from the tuned tower's mean embedding, which of the six was right; its numbers are stored beside the
tower's. It stands on held-out styles as printed, without the prior that a file's +z or +y is up.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from ovseg3d.files import write_atomic
from ovseg3d.heads.naming import ShapeNamer
from ovseg3d.heads.naming.few_shots import fit_logistic
from ovseg3d.heads.naming.upright import AXES
from ovseg3d.synth.kinds import KINDS
from scripts.start import start
from scripts.training.naming_pairs import Shape, held_out_shape, seen_shape

PENALTY = 1.0


@dataclass(frozen=True)
class Fit:
    """Fit and store the model; see the module's docstring."""

    weights: Path
    """The tuned weights, which are written again with the model."""
    clip: str = "builtin"
    """The CLIP that they belong to."""
    shapes: int = 4
    """Shapes of each kind to fit to."""
    tests: int = 1
    """Shapes of each kind, in held-out styles, to test on."""
    seed: int = 0

    def main(self) -> None:
        """Fit, test, and write."""
        torch.set_num_threads(1)
        namer = ShapeNamer(self.clip, weights=self.weights)
        rng = np.random.default_rng([self.seed, 2])
        train = features_of(namer, [seen_shape(rng, [kind]) for kind in KINDS for _ in range(self.shapes)])
        right = np.tile(np.arange(len(AXES)) == list(AXES).index("z"), len(train))
        flat = train.reshape(-1, train.shape[-1])
        scale = flat.std(0)
        balance = np.where(right, (len(AXES) - 1.0), 1.0)
        both, biases = fit_logistic(flat / scale, right.astype(int), 2, PENALTY, balance)
        weights, bias = (both[1] - both[0]) / scale, float(biases[1] - biases[0])
        held = features_of(namer, [held_out_shape(rng, kind, 2048) for kind in KINDS for _ in range(self.tests)])
        for name, table in (("seen", train), ("held-out", held)):
            correct = (table @ weights).argmax(1) == list(AXES).index("z")
            print(f"{name} styles: {correct.mean():.1%} of {len(table)} shapes, chance {1 / len(AXES):.1%}")
        tensors = load_file(self.weights)
        tensors["upright.weights"] = torch.from_numpy(weights).float()
        tensors["upright.bias"] = torch.tensor(bias)
        write_atomic(self.weights, lambda path: save_file(tensors, path))


def features_of(namer: ShapeNamer, shapes: list[Shape]) -> np.ndarray:
    """[shapes, six ways up, features]; the right way is "z" of `AXES`."""
    ways = np.array(list(AXES.values()))
    return np.stack([namer.upright_features(shape.points, ways) for shape in shapes])


if __name__ == "__main__":
    start(Fit)
