"""Base of reproduce_3dovs.py and reproduce_lerf.py: train the scenes of a data set, measure them, average.

Runs are kept, one folder for each scene and seed, so an interrupted reproduction can be continued. An existing run of
another capture or with other settings is an error. Figures are written with the settings and the encoders (id, hash of
the weights) of their runs.

The papers train on the views that they evaluate, which is the default (`--train-on-all`); with `--no-train-on-all`
every eighth photo is held out, and both groups of views are reported separately.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import tyro

from ovseg3d.errors import ConfigError, RunError
from ovseg3d.evaluate.metrics.report import Scores, mean_over_scenes
from ovseg3d.evaluate.protocols import Evaluator
from ovseg3d.files import read_json, write_json
from ovseg3d.pipeline.seeds import check_alike
from ovseg3d.pipeline.train import train_scene
from ovseg3d.query.engine import QueryEngine
from ovseg3d.runs.config import Config
from ovseg3d.runs.devices import resolve_device
from ovseg3d.runs.folder import RunFolder, open_scene
from ovseg3d.runs.settings import (
    make_config,
    to_plain,
)
from ovseg3d.session import load


@dataclass(frozen=True)
class PaperRuns:
    """Base of both scripts."""

    protocol: ClassVar[str]
    shown: ClassVar[tuple[str, ...]]
    """Figures that are printed."""

    data: Annotated[Path, tyro.conf.Positional]
    """The folder with the data set's scenes."""
    scenes: tuple[str, ...] = ()
    """Their names; by default all that the folder holds."""
    output: Path = Path("outputs/papers")
    """Where runs and figures go."""
    clip: str = "ViT-B-16:openai"
    """Text-image encoder."""
    dino: str = "facebook/dino-vitb8"
    """Self-supervised encoder, or none."""
    config: Path | None = None
    """More settings, a YAML file; what is stated here comes after it."""
    train_on_all: bool = True
    """Train on the evaluated views too, as the papers do."""
    max_side: int = 504
    """Longer side of the training and test images, in pixels."""
    seed: int = 0
    """Seed of everything random."""

    def names(self) -> tuple[str, ...]:
        """The scenes to run. Raises ConfigError: there is no such folder, or it holds none."""
        if not self.data.is_dir():
            raise ConfigError("There is no such folder", where=self.data, fix="the folder with the data set's scenes")
        found = self.scenes or tuple(sorted(path.name for path in self.data.iterdir() if self.is_scene(path)))
        if not found:
            raise ConfigError("This folder holds no scene of the data set", where=self.data, fix="see this file's top")
        return found

    def is_scene(self, folder: Path) -> bool:
        """Whether a folder of the data set is a scene with labels."""
        raise NotImplementedError

    def labels(self, name: str) -> Path:
        """Where a scene's labels are."""
        raise NotImplementedError

    def settings(self) -> Config:
        """What every scene is trained with: the same for all."""
        flags: dict[str, Any] = {
            "scene": {"train_on_all": self.train_on_all, "max_side": self.max_side},
            "train": {"seed": self.seed},
            "encode": {"clip": self.clip, "dino": self.dino},
            "only": "field,semantics",
        }
        return make_config(resolve_device("auto"), config_file=self.config, flags=flags)

    def main(self) -> dict[str, Any]:
        """Run, print a row for each scene and group of views, and write OUTPUT/<protocol>.json."""
        scores: dict[str, dict[str, Scores]] = {}
        runs: dict[str, Any] = {}
        print(f"| scene | views | {' | '.join(self.shown)} |\n|---|---|{'---|' * len(self.shown)}")
        for name in self.names():
            run = self.run(name)
            runs[name], engine = _provenance(run), QueryEngine(run)
            found = Evaluator(engine, "all", self.labels(name)).scores([self.protocol])[self.protocol]
            for group, one in found.items():
                scores.setdefault(group, {})[name] = one
                self._row(name, group, one.as_dict())
        result: dict[str, Any] = {"clip": self.clip, "dino": self.dino, "train_on_all": self.train_on_all, "runs": runs}
        for group, ones in scores.items():
            mean = mean_over_scenes(ones)
            result[group] = {"mean": mean, "scenes": {name: one.as_dict() for name, one in ones.items()}}
            self._row(f"mean of {len(ones)}", group, mean)
            print(f"\n{mean['aggregation']}")
        write_json(self.output / f"{self.protocol}.json", result)
        return result

    def run(self, name: str) -> RunFolder:
        """The scene's finished run. Raises ConfigError: an existing run has another capture or other settings."""
        kind = "all" if self.train_on_all else "held-out"
        folder, settings = self.output / name / f"{kind}-seed-{self.seed}", self.settings()
        if not (folder / "config.json").exists():
            return train_scene(self.data / name, settings, output_dir=folder)
        run, scene = load(folder), open_scene(self.data / name, settings)
        check_alike(run, scene, settings)
        return run if run.status()["status"] == "done" else train_scene(scene, settings, resume=run)

    def _row(self, name: str, group: str, figures: dict[str, Any]) -> None:
        group = "trained on" if group == "train" else group
        cells = ["-" if figures[key] is None else f"{figures[key]:.1%}" for key in self.shown]
        print(f"| {name} | {group} | {' | '.join(cells)} |", flush=True)


def _provenance(run: RunFolder) -> dict[str, Any]:
    """Capture, encoders and settings of a run."""
    used = read_json(run.folder / "features.json", RunError)
    return {
        "run": run.folder, "scene_hash": run.scene_hash, "clip": used.get("clip"), "dino": used.get("dino"),
        "config": to_plain(run.config),
    }  # fmt: skip
