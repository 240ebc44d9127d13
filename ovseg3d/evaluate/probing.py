"""Linear probing: how much of an object's viewpoint a linear map reads from the features of a frozen encoder.

ImageNet3D's procedure (Ma et al., NeurIPS 2024): many linear heads are trained together, one for each set of features
(layers, pooling) and each learning rate, by SGD with momentum 0.9 and a cosine schedule, and the best is reported.
There the best is chosen on the split that is reported. Here it is chosen on a split of its own, and the truth of the
split that is reported is not even an argument.

Sets of features (`probe_features`): the class tokens of the last block, of the last four, or of four blocks that are
evenly spaced, each without or with the mean of the last block's patches. With 13 learning rates these are 78 heads.

Readouts: `bins` are ImageNet3D's, 40 over the full circle for each of azimuth, elevation and theta; the centre of the
likeliest is the answer. `periodic` is a von Mises density for each angle, whose two numbers point at the answer.
Features are standardised by the training split: the same linear maps, and a learning rate means the same for all.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Float

from ovseg3d.errors import MeasureError
from ovseg3d.evaluate.metrics.pose import PredictedPoses, TruePoses, pose_errors_rad

if TYPE_CHECKING:
    from torch import Tensor

    from ovseg3d.encoders import BlockTokens

Features = Mapping[str, Float[np.ndarray, "_ _"]]
"""Arrays (objects x dim), by the name of the set: "last layer, mean of patches"."""
Readout = Literal["bins", "periodic"]
BINS = 40
BIN_RAD = 2 * math.pi / BINS
EVERYTHING = "all"


@dataclass(frozen=True)
class ProbeConfig:
    """How heads are trained; the defaults are ImageNet3D's."""

    learning_rates: Sequence[float] = (
        1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 1e-1,
    )  # fmt: skip
    epochs: int = 5
    batch: int = 128
    momentum: float = 0.9
    init: float = 0.01
    """Standard deviation of the first weights."""
    seed: int = 0


@dataclass(frozen=True)
class ProbeSplit:
    """Features with the truth."""

    features: Features
    angles_rad: Float[np.ndarray, "n 3"]
    """Azimuth, elevation, theta."""
    groups: Sequence[str] | None = None
    """Of each object: a group of categories has heads of its own. None: one group."""


@dataclass(frozen=True)
class Probed:
    """The answers of the chosen heads."""

    predicted: PredictedPoses
    """Of the reported split."""
    chosen: dict[str, tuple[str, float]]
    """Set of features and learning rate of each group."""
    accuracies: dict[str, dict[tuple[str, float], float]]
    """Acc@30 on the split of the choice, of each group and head."""


def probe_features(blocks: "Sequence[BlockTokens]") -> dict[str, Float[np.ndarray, "n _"]]:
    """ImageNet3D's sets of features of one encoder.

    Four blocks of a tower with four are the last as well as evenly spaced: equal sets are named once. Where there is no
    class token (convolutional towers), the mean of each block takes its place, and no mean is added.

    Args:
        blocks: `encoders.block_tokens` of all objects.
    """
    import torch

    count = len(blocks)
    layers = {
        "last 1": (count - 1,),
        "last 4": tuple(range(max(0, count - 4), count)),
        "uniform 4": tuple(sorted({math.ceil(count * k / 4) - 1 for k in range(1, 5)})),
    }
    sets: dict[str, np.ndarray] = {}
    for number, (name, own) in enumerate(layers.items()):
        if own in list(layers.values())[:number]:
            continue
        last = blocks[-1]
        first = torch.cat([blocks[k].mean if (token := blocks[k].class_token) is None else token for k in own], 1)
        sets[name] = first.cpu().double().numpy()
        if last.class_token is not None:
            sets[f"{name}, mean"] = torch.cat([first, last.mean], 1).cpu().double().numpy()
    return sets


def probe_poses(
    train: ProbeSplit,
    choose: ProbeSplit,
    features: Features,
    groups: Sequence[str] | None = None,
    *,
    readout: Readout = "periodic",
    config: ProbeConfig | None = None,
) -> Probed:
    """Train heads, choose one, and let it answer.

    Args:
        train: what heads are trained on.
        choose: what the head is chosen on, by Acc@30; no object of the reported split.
        features: of the reported split, the same sets.
        groups: of the reported split.
        readout: what a head says of an angle.
        config: by default ImageNet3D's.

    Raises:
        MeasureError: sets of features or groups differ between splits, or rows do not fit or are not finite.
    """
    config = config or ProbeConfig()
    count = len(next(iter(features.values()), ()))
    of_train, of_choice = _groups(train.groups, len(train.angles_rad)), _groups(choose.groups, len(choose.angles_rad))
    of_report = _groups(groups, count)
    for split, rows in ((train.features, len(of_train)), (choose.features, len(of_choice)), (features, count)):
        _check(split, train.features, rows)
    answers = np.full((count, 3), math.nan)
    chosen, accuracies = {}, {}
    for group in np.unique(of_report).tolist():
        own, at, asked = of_train == group, of_choice == group, of_report == group
        if not own.any() or not at.any():
            raise MeasureError(f"The group {group!r} is missing in a split", fix="train and choose on all groups")
        truth, scores, best = TruePoses(choose.angles_rad[at], [group] * int(at.sum())), {}, -1.0
        for name, table in train.features.items():
            heads = _train(table[own], train.angles_rad[own], readout, config)
            for rate, angles in zip(config.learning_rates, heads(choose.features[name][at])):
                errors = pose_errors_rad(PredictedPoses(angles), truth)
                scores[name, rate] = accuracy = float(np.mean(errors < math.pi / 6))
                if accuracy > best:
                    best, chosen[group] = accuracy, (name, rate)
                    answers[asked] = heads(features[name][asked])[config.learning_rates.index(rate)]
        accuracies[group] = scores
    return Probed(PredictedPoses(answers), chosen, accuracies)


def _groups(names: Sequence[str] | None, count: int) -> np.ndarray:
    return np.array([EVERYTHING] * count if names is None else names, dtype=str)


def _check(features: Features, expected: Features, rows: int) -> None:
    if features.keys() != expected.keys() or not features:
        names = f"{', '.join(features)}; {', '.join(expected)}"
        raise MeasureError(f"The sets of features differ: {names}", fix="give the same in each split")
    for name, table in features.items():
        if table.shape != (rows, expected[name].shape[1]) or not rows or not np.isfinite(table).all():
            raise MeasureError(f"The features {name!r} do not fit the angles or are not finite", fix="one row for each")


def _train(table: np.ndarray, angles: np.ndarray, readout: Readout, config: ProbeConfig) -> Any:
    """Heads of all learning rates on one set of features: a function from features to angles, heads x n x 3."""
    import torch

    mean, scale = table.mean(axis=0), table.std(axis=0) + 1e-6
    loss, decode, width = READOUTS[readout]

    def standardised(rows: np.ndarray) -> "Tensor":
        return torch.from_numpy(np.hstack([(rows - mean) / scale, np.ones((len(rows), 1))])).float()

    x, target = standardised(table), torch.from_numpy(angles).float()
    generator = torch.Generator().manual_seed(config.seed)
    rates = torch.tensor(config.learning_rates)[:, None, None]
    weights = config.init * torch.randn(len(rates), x.shape[1], width, generator=generator)
    weights.requires_grad_()
    velocity, steps = torch.zeros_like(weights), config.epochs * math.ceil(len(x) / config.batch)
    step = 0
    for _ in range(config.epochs):
        for rows in torch.randperm(len(x), generator=generator).split(config.batch):
            # Each head has its own mean loss, so that the gradient of the sum is each head's own.
            (gradient,) = torch.autograd.grad(loss(x[rows] @ weights, target[rows]).mean(1).sum(), weights)
            velocity = config.momentum * velocity + gradient
            with torch.no_grad():
                weights -= rates * (0.5 * (1 + math.cos(math.pi * step / steps))) * velocity
            step += 1

    def answers(rows: np.ndarray) -> Float[np.ndarray, "heads n 3"]:
        with torch.no_grad():
            return decode(standardised(rows) @ weights).double().numpy()

    return answers


def _bins_loss(outputs: "Tensor", angles: "Tensor") -> "Tensor":
    import torch

    # The remainder of a tiny negative angle rounds up to the full circle.
    index = (torch.remainder(angles, 2 * math.pi) / BIN_RAD).long().clamp(max=BINS - 1)
    log = outputs.unflatten(-1, (3, BINS)).log_softmax(-1)
    return -log.gather(-1, index[None, ..., None].expand(len(log), -1, -1, 1)).sum((-1, -2))


def _bins_decode(outputs: "Tensor") -> "Tensor":
    return (outputs.unflatten(-1, (3, BINS)).argmax(-1) + 0.5) * BIN_RAD


def _periodic_loss(outputs: "Tensor", angles: "Tensor") -> "Tensor":
    """-log of exp(x cos a + y sin a) / I0(|x, y|), the von Mises density up to a constant."""
    import torch

    x, y = outputs.unflatten(-1, (3, 2)).unbind(-1)
    concentration = (x * x + y * y + 1e-12).sqrt()
    log_norm = torch.special.i0e(concentration).log() + concentration
    return (log_norm - x * angles.cos() - y * angles.sin()).sum(-1)


def _periodic_decode(outputs: "Tensor") -> "Tensor":
    import torch

    x, y = outputs.unflatten(-1, (3, 2)).unbind(-1)
    return torch.atan2(y, x)


READOUTS: Mapping[Readout, tuple[Any, Any, int]] = {
    "bins": (_bins_loss, _bins_decode, 3 * BINS),
    "periodic": (_periodic_loss, _periodic_decode, 6),
}
"""Loss of outputs (heads x n x width) and angles (n x 3), angles of outputs, and the width."""
