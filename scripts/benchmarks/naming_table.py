"""The table of `scripts.benchmarks.naming`: top-1 by projection, tower, prompts and priors; and of other encoders."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ovseg3d.errors import EncoderError
from ovseg3d.heads.naming import ShapeNamer, relief
from ovseg3d.heads.naming.naming import Towers
from scripts.benchmarks.naming_data import Data, Views, is_right, name_vectors, percent, shares_right

HALF = "half"
"""The first half of the views by the frozen tower, the rest by the tuned one, as OpenDlign."""


@dataclass(frozen=True)
class Row:
    """One way to name shapes."""

    projection: str
    towers: Towers | str
    """Towers whose vectors are averaged, or `HALF`."""
    prompts: bool = False
    """Whether names are said in depth templates."""
    priors: bool = False
    """Whether names' priors are taken off."""

    @property
    def title(self) -> str:
        """The tower, and what is done besides."""
        return self.towers + ", depth prompts" * self.prompts + ", less priors" * self.priors

    def right(self, views: Views, data: Data, namers: Sequence[ShapeNamer]) -> list[np.ndarray]:
        """Whether each shape's likeliest name is the right one, by each namer; by one, if none of it is tuned."""
        seeds = range(1 if self.towers == "frozen" else len(namers))
        return [is_right(self._logits(views, data, namers[seed], seed), data.label) for seed in seeds]

    def _logits(self, views: Views, data: Data, namer: ShapeNamer, seed: int) -> np.ndarray:
        towers: Towers = "both" if self.towers == HALF else self.towers  # type: ignore[assignment]
        mixed = views.by(towers, seed)
        if self.towers == HALF:
            half = mixed[0].shape[1] // 2
            mixed = [np.concatenate([mixed[0][:, :half], mixed[1][:, half:]], 1)]
        names, vectors = name_vectors(namer, data.classes, self.prompts), np.mean(mixed, axis=(0, 2))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        prior = namer.log_prior(names, towers) if self.priors else 0.0
        return namer.encoder.logit_scale * vectors @ names.T - prior


def rows_of(projections: Sequence[str]) -> list[Row]:
    """Those of the table."""
    rows = [Row(projection, tower) for projection in projections for tower in ("frozen", "tuned")]
    rows += [Row("ours", tower, priors=True) for tower in ("frozen", "tuned", "both")]
    return [*rows, Row("ours", "both"), Row("ours", HALF), Row("ours", "tuned", prompts=True)]


def measure_rows(
    rows: Sequence[Row], views: Mapping[str, Mapping[str, Views]], data: Sequence[Data], namers: Sequence[ShapeNamer]
) -> list[dict[str, Any]]:
    """Top-1 of each row, printed: over all namers, and of the first one by itself where there are more.

    Args:
        rows: of the table.
        views: by projection and data set.
        data: the sets.
        namers: one encoder with tuned weights of several seeds.
    """
    table = []
    for row in rows:
        alone: dict[str, Any] = {"projection": row.projection, "tower": row.title, "seeds": 1}
        all_seeds = {**alone, "seeds": len(namers)}
        for d in data:
            right = row.right(views[row.projection][d.name], d, namers)
            alone |= shares_right(d, right[:1])
            all_seeds |= shares_right(d, right)
        made = [alone] if row.towers == "frozen" or len(namers) == 1 else [all_seeds, alone]
        show(made)
        table += made
    return table


def measure_encoders(data: Sequence[Data]) -> list[dict[str, Any]]:
    """Top-1 of encoders that share no stage with the tuned tower, by cosines, printed."""
    table = []
    for tower, namer in others():
        row: dict[str, Any] = {"projection": "ours", "tower": tower}
        for d in data:
            names = name_vectors(namer, d.classes, False)
            vectors = np.stack([_whole(namer, relief(points)) for points in d.points])
            row |= shares_right(d, [is_right(vectors @ names.T, d.label)])
        show([row])
        table.append(row)
    return table


def others() -> Iterator[tuple[str, ShapeNamer]]:
    """Encoders that share no stage with the tuned tower: a random one as a floor, and one of photographs."""
    random = ShapeNamer(towers="frozen")
    assert random.tower is not None
    torch.manual_seed(0)
    for module in random.tower.encoder.model.visual.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    yield "random weights", random
    try:
        yield "encoder imagenet", ShapeNamer("imagenet")
    except EncoderError as error:
        print(f"Without the encoder imagenet: {error.what}")


def show(table: Sequence[Mapping[str, Any]]) -> None:
    """Print rows of a table."""
    for row in table:
        cells = (f"{k} {percent(v)}" if isinstance(v, tuple) else f"{v}" for k, v in row.items())
        print(" | ".join(cells), flush=True)


def _whole(namer: ShapeNamer, seen: np.ndarray) -> np.ndarray:
    """The mean vector of pictures by a whole tower."""
    with torch.no_grad():
        return namer.embed_views(torch.from_numpy(seen).float()[:, None].expand(-1, 3, -1, -1)).mean(0).numpy()
