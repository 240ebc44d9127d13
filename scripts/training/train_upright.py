"""Fit which way up a shape is (`ovseg3d/heads/naming/upright.py`): the package's `heads/naming/weights/upright.json`.

    python -m scripts.training.train_upright --output outputs/upright.json

Procedural kinds in seen styles, stretched at random, are seen as if each of their six sides were up. A network with one
hidden layer learns which was right (a softmax over the six). The file says how well it does in seen styles, and in
held-out ones, without the file axes that `prior` prefers.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float

from ovseg3d.files import write_json
from ovseg3d.heads.naming.upright import AXES, turn_up, upright_features, upright_score
from ovseg3d.synth.kinds import KINDS
from scripts.start import start
from scripts.training.naming_pairs import held_out_shape, seen_shape

UP = list(AXES).index("z")


@dataclass(frozen=True)
class Recipe:
    """Settings of the network, and of its training."""

    hidden: int = 32
    steps: int = 800
    batch: int = 512
    rate: float = 1e-2
    decay: float = 0.3
    label_smoothing: float = 0.02
    noise: float = 0.5
    """On the features, in their deviations, so that the network does not learn single shapes."""
    stretch: float = 0.25
    """Most that the logarithm of a side is changed by."""


RECIPE = Recipe()


@dataclass(frozen=True)
class Fit:
    """Fit the model and write it; see the module's docstring."""

    output: Path
    """The file to write."""
    shapes: int = 80
    """Shapes of each kind to fit to."""
    tests: int = 4
    """Shapes of each kind, in held-out styles, to test on."""
    seed: int = 0

    def main(self) -> None:
        """Fit, test, and write."""
        torch.set_num_threads(1)
        rng = np.random.default_rng([self.seed, 2])
        shapes = (seen_shape(rng, [kind]).points for kind in KINDS for _ in range(self.shapes))
        seen = features_of(points * np.exp(rng.uniform(-RECIPE.stretch, RECIPE.stretch, 3)) for points in shapes)
        net = fit(seen, self.seed)
        held = features_of(held_out_shape(rng, kind, 2048).points for kind in KINDS for _ in range(self.tests))
        right = {name: share_right(net, table) for name, table in (("seen", seen), ("held", held))}
        card = {
            "role": "weights of the features of ovseg3d/heads/naming/upright.py",
            "format_version": 1,
            "license": "Apache-2.0",
            "data": "procedural kinds in seen styles, each seen as if each of its six sides were up; no real shape",
            "recipe": {"shapes": len(seen), **asdict(RECIPE), "seed": self.seed},
            "right way found, without habits of files": {
                "seen styles": round(float(right["seen"]), 3),
                "held-out styles": round(float(right["held"]), 3),
                "chance": round(1 / len(AXES), 3),
                "held-out shapes": len(held),
            },
            "weights": {name: np.round(values, 4).tolist() for name, values in net.items()},
        }
        write_json(self.output, card)
        print(card["right way found, without habits of files"])


def features_of(shapes: Iterable[np.ndarray]) -> Float[np.ndarray, "shapes 6 features"]:
    """Of each of the six sides, in the order of `AXES`."""
    turns = [turn_up(np.array(axis)) for axis in AXES.values()]
    return np.array([[upright_features(points @ turn.T) for turn in turns] for points in shapes])


def fit(table: Float[np.ndarray, "shapes 6 features"], seed: int) -> dict[str, np.ndarray]:
    """The weights of `upright_score` with which "z" wins."""
    torch.manual_seed(seed)
    rows = table.reshape(-1, table.shape[-1])
    mean, deviation = rows.mean(0), rows.std(0) + 1e-9
    x, wanted = torch.from_numpy((table - mean) / deviation).float(), torch.full((RECIPE.batch,), UP)
    hidden, output = torch.nn.Linear(x.shape[-1], RECIPE.hidden), torch.nn.Linear(RECIPE.hidden, 1, bias=False)
    net = torch.nn.Sequential(hidden, torch.nn.Tanh(), output)
    optimizer = torch.optim.AdamW(net.parameters(), RECIPE.rate, weight_decay=RECIPE.decay)
    for _ in range(RECIPE.steps):
        seen = x[torch.randint(len(x), (RECIPE.batch,))]
        scores = net(seen + RECIPE.noise * torch.randn_like(seen))[..., 0]
        optimizer.zero_grad()
        F.cross_entropy(scores, wanted, label_smoothing=RECIPE.label_smoothing).backward()
        optimizer.step()
    offset = torch.cat([hidden.weight.T, hidden.bias[None]])
    found = {"hidden": offset.detach().numpy(), "output": output.weight[0].detach().numpy()}
    return {"mean": mean, "deviation": deviation, **found}


def share_right(net: dict[str, np.ndarray], table: Float[np.ndarray, "shapes 6 features"]) -> float:
    """How often "z" wins."""
    return float((upright_score(table, net).argmax(1) == UP).mean())


if __name__ == "__main__":
    start(Fit)
