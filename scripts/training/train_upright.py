"""Fit which way up a shape is (`ovseg3d/heads/naming/upright.py`): the package's `heads/naming/weights/upright.json`.

    python -m scripts.training.train_upright --output outputs/upright.json

Procedural kinds in seen styles are seen as if each of their six sides were up. A linear model of the features learns
which was right (a softmax over the six, with a penalty on squared weights). The file says how well it does in seen
styles, and in held-out ones, without the file axes that `prior` prefers.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float

from ovseg3d.files import write_json
from ovseg3d.heads.naming.upright import AXES, turn_up, upright_features
from ovseg3d.synth.kinds import KINDS
from scripts.start import start
from scripts.training.naming_pairs import Shape, held_out_shape, seen_shape

PENALTY = 10.0
"""On half of the squared weights of features at unit spread; the loss is a sum over shapes."""
UP = list(AXES).index("z")


@dataclass(frozen=True)
class Fit:
    """Fit the model and write it; see the module's docstring."""

    output: Path
    """The file to write."""
    shapes: int = 12
    """Shapes of each kind to fit to."""
    tests: int = 4
    """Shapes of each kind, in held-out styles, to test on."""
    seed: int = 0

    def main(self) -> None:
        """Fit, test, and write."""
        torch.set_num_threads(1)
        rng = np.random.default_rng([self.seed, 2])
        seen = features_of([seen_shape(rng, [kind]) for kind in KINDS for _ in range(self.shapes)])
        weights = fit(seen)
        held = features_of([held_out_shape(rng, kind, 2048) for kind in KINDS for _ in range(self.tests)])
        right = {name: ((table @ weights).argmax(1) == UP).mean() for name, table in (("seen", seen), ("held", held))}
        card = {
            "role": "weights of the features of ovseg3d/heads/naming/upright.py",
            "format_version": 1,
            "license": "Apache-2.0",
            "data": "procedural kinds in seen styles, each seen as if each of its six sides were up; no real shape",
            "recipe": {"shapes": len(seen), "penalty": PENALTY, "seed": self.seed},
            "right way found, without habits of files": {
                "seen styles": round(float(right["seen"]), 3),
                "held-out styles": round(float(right["held"]), 3),
                "chance": round(1 / len(AXES), 3),
                "held-out shapes": len(held),
            },
            "weights": [round(float(weight), 4) for weight in weights],
        }
        write_json(self.output, card)
        print(card["right way found, without habits of files"])


def features_of(shapes: list[Shape]) -> Float[np.ndarray, "shapes 6 features"]:
    """Of each of the six sides, in the order of `AXES`."""
    turns = [turn_up(np.array(axis)) for axis in AXES.values()]
    return np.array([[upright_features(shape.points @ turn.T) for turn in turns] for shape in shapes])


def fit(table: Float[np.ndarray, "shapes 6 features"]) -> Float[np.ndarray, " features"]:
    """The weights with which "z" wins."""
    spread = table.reshape(-1, table.shape[-1]).std(0) + 1e-9
    x, y = torch.from_numpy(table / spread), torch.full((len(table),), UP)
    weights = torch.zeros(table.shape[-1], dtype=x.dtype, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        total = F.cross_entropy(x @ weights, y, reduction="sum") + PENALTY / 2 * weights.square().sum()
        total.backward()
        return total

    optimizer.step(loss)
    return weights.detach().numpy() / spread


if __name__ == "__main__":
    start(Fit)
