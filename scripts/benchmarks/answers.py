"""Answers on photographs with labels drawn by hand: the run's 3D answer, the encoder's 2D answer per photo, chance.

    python -m scripts.benchmarks.answers outputs/hololens_office/latest
    python -m scripts.benchmarks.answers RUN --split test        # for a final table only

The labels are scripts/benchmarks/labels/<capture>. A row is kept in OUTPUT as JSON, and not measured again for the same
run, weights and labels. Prints a markdown table:

- mIoU and localisation of phrases by LERF's protocol (`ovseg3d.evaluate.metrics.lerf`), and the mIoU of the masks that
  `ovseg3d query` gives, empty where the phrase is called absent. Means over a phrase in a view.
- 2D: the same encoder's dense features of each photo by itself, with the same canonical phrases.
- chance: the whole photo as mask, and a random pixel.
- Phrases of the labels called present, and phrases of absent.txt called absent (by their scores in the whole scene).
- Boxes, where objects.json has them: recall and precision of what `ovseg3d detect` gives at box IoU 0.25 and 0.5,
  whatever the names. The labelled objects are some of the scene's, so that precision is a lower bound.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
import torch.nn.functional as F
import tyro

from ovseg3d.errors import ConfigError
from ovseg3d.evaluate.metrics.instances import assign
from ovseg3d.evaluate.metrics.lerf import LerfFrame, LerfScene, polygon_mask, read_lerf_folder
from ovseg3d.features.dense import dense_grid
from ovseg3d.files import read_json, write_json
from ovseg3d.geometry.boxes import box_from_record, box_iou
from ovseg3d.query.engine import QueryEngine
from ovseg3d.query.relevancy import relevancy
from ovseg3d.scene.images import load_photo
from ovseg3d.session import load
from scripts.start import start

LABELS = Path(__file__).parent / "labels"
SIDE = 336
"""Shorter side of a photo for the 2D answer, pixels, as in the stage `features`."""
Row = dict[str, float]
COLUMNS = (
    "miou", "localisation", "mask_miou", "present", "refused", "recall_25", "recall_50", "precision_25", "precision_50",
)  # fmt: skip


@dataclass(frozen=True)
class Answers:
    """Measure a run on a labelled capture, and print a markdown table."""

    run: Annotated[Path, tyro.conf.Positional]
    """A run of a labelled capture."""
    split: Literal["development", "test"] = "development"
    """Which half of the labelled views."""
    output: Path = Path("outputs/answers")
    """Folder of the rows."""
    labels: Path = LABELS
    """Folder with a folder for each labelled capture."""

    def main(self) -> None:
        """Write the rows that are missing, and print the table."""
        engine = QueryEngine(load(self.run))
        folder = self.labels / engine.scene.name
        if not (folder / self.split).is_dir():
            known = ", ".join(sorted(path.name for path in self.labels.iterdir() if path.is_dir()))
            raise ConfigError("The capture has no labels", where=folder / self.split, fix=f"labelled are {known}")
        frames = read_lerf_folder(folder / self.split)
        rows: dict[str, Callable[[], Row]] = {
            "3D": lambda: {**in_3d(engine, frames), **absence(engine, frames, folder), **boxes(engine, folder)},
            "2D": lambda: in_2d(engine, frames),
            "chance": lambda: chance(frames),
        }
        print(f"| {engine.scene.name}, {self.split} | {' | '.join(COLUMNS)} |\n|{' --- |' * (1 + len(COLUMNS))}")
        for name, measure in rows.items():
            row = self._kept(f"{engine.scene.name}-{self.split}-{name}", engine, folder, measure)
            print(f"| {name} | {' | '.join(f'{row[c]:.1%}' if c in row else '-' for c in COLUMNS)} |", flush=True)

    def _kept(self, name: str, engine: QueryEngine, folder: Path, measure: Callable[[], Row]) -> Row:
        """The row in OUTPUT, if it was measured with the same run, weights and labels; else measured now."""
        files = sorted(path for path in folder.rglob("*") if path.is_file() and path.parent.name != self._other)
        of = {
            "run": str(engine.run.folder),
            "weights": engine.semantics.encoder.weight_hash,
            "trained": (engine.run.folder / "status.json").read_text(),
            "labels": hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest(),
        }
        path = self.output / f"{name}.json"
        if path.is_file() and (stated := read_json(path, ConfigError)).get("of") == of:
            return stated["row"]
        row = measure()
        self.output.mkdir(parents=True, exist_ok=True)
        write_json(path, {"of": of, "row": row})
        return row

    @property
    def _other(self) -> str:
        """The half that stays closed."""
        return "test" if self.split == "development" else "development"


def in_3d(engine: QueryEngine, frames: Sequence[LerfFrame]) -> Row:
    """Localisation and mIoU of the run's relevancy, and of the masks of its answers."""
    lerf, ious = LerfScene(), []
    answers = {phrase: engine.ask([phrase])[0] for phrase in phrases_of(frames)}
    for frame in frames:
        phrases = [unit.category for unit in frame.units]
        maps = engine.places(frame.name).image(engine.relevancy(phrases)).astype(np.float64)
        lerf.update(frame, {phrase: maps[None, ..., i] for i, phrase in enumerate(phrases)})
        for unit in frame.units:
            answer = answers[unit.category]
            found = answer.mask(engine.image(answer, frame.name))
            height, width = found.shape
            true = polygon_mask(unit.polygons, width, height, (width / frame.width, height / frame.height))
            ious.append((found & true).sum() / max(1, (found | true).sum()))
    scores = lerf.result()
    return {"miou": scores.miou, "localisation": scores.localisation, "mask_miou": float(np.mean(ious))}


def in_2d(engine: QueryEngine, frames: Sequence[LerfFrame]) -> Row:
    """The same of the encoder's dense features of each photo alone. Raises ConfigError: it has none."""
    clip, lerf = engine.clip, LerfScene()
    if not clip.dense:
        raise ConfigError(f"{clip.id} has no dense features to compare with", fix="a run with another encoder")
    for frame in frames:
        phrases = [unit.category for unit in frame.units]
        photo = torch.from_numpy(load_photo(engine.frame(frame.name))[..., :3].astype(np.float32) / 255)
        with torch.no_grad():
            grid = dense_grid(photo.permute(2, 0, 1), clip, SIDE).cpu().numpy()
        rows, columns, dim = grid.shape
        own, canonical = (grid.reshape(-1, dim) @ engine.encode(said).T for said in (phrases, engine.canonical))
        maps = torch.from_numpy(relevancy(own, canonical)).T.reshape(1, -1, rows, columns)
        maps = F.interpolate(maps, size=(frame.height, frame.width), mode="bilinear")[0].double().numpy()
        lerf.update(frame, {phrase: maps[i][None] for i, phrase in enumerate(phrases)})
    scores = lerf.result()
    return {"miou": scores.miou, "localisation": scores.localisation}


def chance(frames: Sequence[LerfFrame]) -> Row:
    """The IoU of the whole photo with a phrase, and the share of pixels that its boxes hold."""
    areas, hits = [], []
    for frame in frames:
        for unit in frame.units:
            areas.append(polygon_mask(unit.polygons, frame.width, frame.height).mean())
            corners = [((x1, y1), (x2, y1), (x2, y2), (x1, y2)) for x1, y1, x2, y2 in unit.boxes]
            hits.append(polygon_mask(corners, frame.width, frame.height).mean())
    return {"miou": float(np.mean(areas)), "localisation": float(np.mean(hits))}


def absence(engine: QueryEngine, frames: Sequence[LerfFrame], folder: Path) -> Row:
    """Shares of the labels' phrases that are called present, and of absent ones that are called absent."""
    missing = (folder / "absent.txt").read_text().split("\n")
    present = [engine.ask([phrase])[0].present for phrase in phrases_of(frames)]
    refused = [not engine.ask([phrase])[0].present for phrase in missing if phrase]
    return {"present": float(np.mean(present)), "refused": float(np.mean(refused))}


def boxes(engine: QueryEngine, folder: Path) -> Row:
    """Recall and precision of the boxes of `detect`; nothing without objects.json."""
    path = folder / "objects.json"
    if not path.is_file():
        return {}
    true = [box_from_record(record) for record in json.loads(path.read_text())]
    found = [box_from_record(one.record()) for one in engine.detections.detect().detections]
    iou = np.array([[box_iou(one, other) for other in true] for one in found]).reshape(len(found), len(true))
    row: Row = {}
    for name, threshold in (("25", 0.25), ("50", 0.5)):
        pairs = len(assign(iou, threshold)) if iou.size else 0
        row |= {f"recall_{name}": pairs / len(true), f"precision_{name}": pairs / max(1, len(found))}
    return row


def phrases_of(frames: Sequence[LerfFrame]) -> list[str]:
    """Every category of the views, once."""
    return sorted({unit.category for frame in frames for unit in frame.units})


if __name__ == "__main__":
    start(Answers)
