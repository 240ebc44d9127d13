"""Compare the methods on the same photos, encoders and field, each with its own form of features.

    python -m scripts.benchmarks.ablate outputs/playroom/latest --output outputs/ablation
    python -m scripts.benchmarks.ablate scenes/playroom --output outputs/ablation --rows 2d,lift,lerf

Given a scene, its field is trained first, into OUTPUT/field; an existing one must be of this scene and settings. Each
row is its own run, OUTPUT/<row>, which copies the field and learns semantics by its method. Results are kept in
OUTPUT/rows.json, so that an interrupted command can be continued; a row of another field or other settings is computed
again. The table is also in OUTPUT/table.md.

All figures are of the held-out views, with a closed list (the scene's classes). mIoU and accuracy: protocol `index`.
Points: mIoU of the labelled cloud, synthetic rooms only. Agree: share of surface points with the same label in all
views that see them. 2D uses the photos of the held-out views, which no other row has: the best of its forms of features
and widths of smoothing, chosen by its mIoU on these views, so it is an optimistic baseline. Cached features take no
seconds.
"""

import hashlib
import json
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro
from scipy.ndimage import gaussian_filter

from ovseg3d.cli.console import get_console
from ovseg3d.cli.progress import Progress
from ovseg3d.engine import latest_checkpoint
from ovseg3d.errors import ConfigError, RunError, nearest
from ovseg3d.evaluate.measure import (
    Labeller,
    classes_of,
    labeller_of,
    measure_agreement,
    measure_cloud,
    measure_index,
)
from ovseg3d.features.encode import encode_scene
from ovseg3d.files import read_json, write_atomic, write_json
from ovseg3d.pipeline.seeds import check_alike
from ovseg3d.pipeline.train import train_scene
from ovseg3d.points.semantic_scene import FILE
from ovseg3d.query.engine import QueryEngine
from ovseg3d.query.relevancy import label
from ovseg3d.runs.config import Config, SemanticsConfig
from ovseg3d.runs.devices import resolve_device
from ovseg3d.runs.folder import RunFolder, open_scene
from ovseg3d.runs.settings import make_config
from ovseg3d.scene import Scene
from ovseg3d.session import load
from scripts.start import start

ROWS: dict[str, tuple[str, SemanticsConfig]] = {
    "2d": ("2D", SemanticsConfig(method="lift")),
    "lift": ("lift", SemanticsConfig(method="lift")),
    "default": ("default: lift + instance crops", SemanticsConfig(method="default")),
    "3d-ovs": ("3d-ovs", SemanticsConfig(method="3d-ovs")),
    "lerf": ("lerf", SemanticsConfig(method="lerf")),
    "no-selection": ("3d-ovs without selection", SemanticsConfig(method="3d-ovs", selection=False)),
    "no-rda": ("3d-ovs without relevancy alignment", SemanticsConfig(method="3d-ovs", rda=False)),
    "no-fda": ("3d-ovs without feature alignment", SemanticsConfig(method="3d-ovs", fda=False)),
    "no-rebalance": ("3d-ovs without re-balancing", SemanticsConfig(method="3d-ovs", rebalance=False)),
}
"""Title and settings of each row; 2D uses the surface of `lift`."""
WIDTHS = (0.0, 0.01, 0.02, 0.04)
"""Standard deviations of the smoothing of 2D, as shares of the image's height."""


@dataclass(frozen=True)
class Ablate:
    """Compare the methods on one scene, and print a markdown table."""

    where: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN-OR-SCENE")]
    """A run with a field, or a scene; it needs label images."""
    output: Path = Path("outputs/ablation")
    """Where rows, runs and the table are kept."""
    rows: str = ",".join(ROWS)
    """Which rows, with commas."""
    forms: str = "regions,dense,pyramid"
    """Forms of features that 2D chooses from, with commas."""
    clip: str | None = None
    """Text-image encoder; by default the run's or the scene's."""
    dino: str | None = None
    """Self-supervised encoder; likewise."""
    steps: int | None = None
    """Steps of the field, of a scene; by default the preset's."""
    refine_steps: int | None = None
    """Steps of each method; by default its own number."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train."""

    def main(self) -> None:
        """Compute the missing rows."""
        names = [name.strip() for name in self.rows.split(",") if name.strip()]
        for name in names:
            if name not in ROWS:
                raise ConfigError(f"There is no row {name!r}", fix=nearest(name, ROWS) or ",".join(ROWS))
        base = self._base()
        scene = base.load_scene()
        classes_of(scene)
        kept = self.output / "rows.json"
        found = read_json(kept, RunError) if kept.exists() else {}
        for name in names:
            settings = self._settings(base, name)
            if found.get(name, {}).get("settings") != settings:
                figures = self._flat(base, scene) if name == "2d" else self._figures(base, scene, name)
                found[name] = {"settings": settings, **figures}
                write_json(kept, found)
            print(_line(name, found[name]), flush=True)
        done = [_line(name, found[name]) for name in ROWS if name in found]
        write_atomic(self.output / "table.md", "\n".join([*HEAD, *done, ""]).encode())
        print("\n".join(["", *HEAD, *done]))

    def _settings(self, base: RunFolder, name: str) -> dict[str, Any]:
        """All settings of a row, as they are after a round trip through JSON."""
        config = self._config(base, name)
        settings = {
            "scene": base.scene_hash,
            "field": _digest(base),
            "encode": asdict(config.views_as),
            "semantics": asdict(config.semantics),
            "seed": config.train.seed,
            "forms": self.forms if name == "2d" else None,
        }
        return json.loads(json.dumps(settings))

    def _base(self) -> RunFolder:
        """The run whose field all rows use."""
        if (self.where / "config.json").exists() or self.where.name in ("latest", "latest.txt"):
            return load(self.where)
        folder = self.output / "field"
        flags: dict[str, Any] = {"only": "field", "train": {"device": self.device}}
        if self.steps is not None:
            flags["train"] |= {"steps": self.steps}
        config = make_config(resolve_device(self.device), flags=flags)
        scene = open_scene(self.where, config)
        classes_of(scene)  # report a scene without labels before training
        resume = load(folder) if (folder / "config.json").exists() else None
        if resume is not None:
            check_alike(resume, scene, config)
            if resume.status()["status"] == "done":
                return resume
        with Progress(get_console(True)) as progress:
            return train_scene(scene, config, output_dir=folder, report=progress, resume=resume)

    def _config(self, base: RunFolder, name: str) -> Config:
        encode = replace(base.config.encode, features="auto", pyramid=None)
        given = {key: value for key, value in (("clip", self.clip), ("dino", self.dino)) if value is not None}
        return replace(
            base.config,
            only="semantics",
            train=replace(base.config.train, device=self.device),
            encode=replace(encode, **given),
            semantics=replace(ROWS[name][1], refine_steps=self.refine_steps),
        )

    def _run(self, base: RunFolder, scene: Scene, name: str) -> RunFolder:
        """The row's own run: the field of `base`, with semantics learnt by the row's method."""
        folder, config, settings = self.output / name, self._config(base, name), self._settings(base, name)
        stated = folder / "ablation.json"
        if not stated.exists() or read_json(stated, RunError) != settings:
            shutil.rmtree(folder, ignore_errors=True)
            leave = shutil.ignore_patterns("semantics*", "exports", "previews", "features.json", "*.jsonl", ".lock")
            shutil.copytree(base.folder, folder, ignore=leave)
            for part in ("exports", "previews"):
                (folder / part).mkdir()
            write_json(stated, settings)
        run = load(folder)
        if run.status()["status"] == "done" and (folder / FILE).exists():
            return run
        with Progress(get_console(True)) as progress:
            return train_scene(scene, config, report=progress, resume=run)

    def _figures(self, base: RunFolder, scene: Scene, name: str) -> dict[str, Any]:
        run = self._run(base, scene, name)
        engine, metrics = QueryEngine(run, scene, self.device), run.metrics()
        labels = engine.labels(classes_of(scene), none=False)
        parts = ("surface_seconds", "lift_seconds", "refine_seconds", "instances_seconds", "instance_crops_seconds")
        return {
            "features": metrics["features_mode"],
            **_measure(engine, scene, labeller_of(engine, classes_of(scene))),
            "point_miou": measure_cloud(scene, engine.semantics, labels).point_miou if _exact(scene) else None,
            "features_seconds": metrics["features_seconds"] if metrics["features_encoded"] else None,
            "seconds": sum(metrics.get(part) or 0.0 for part in parts),
            "steps": metrics.get("refine_steps") or metrics.get("lerf_steps"),
            "run": str(run.folder),
        }

    def _flat(self, base: RunFolder, scene: Scene) -> dict[str, Any]:
        """Labels of the held-out views from their own photos, without a field."""
        run = self._run(base, scene, "lift")
        engine, classes = QueryEngine(run, scene, self.device), classes_of(scene)
        text, best = engine.encode(classes), {"miou": -1.0}
        for form in self.forms.split(","):
            encode = replace(run.config.encode, features=form.strip())
            with Progress(get_console(True)) as progress:
                features = encode_scene(scene, encode, resolve_device(self.device), progress)
            cosines = {scene.frames[view].name: _cosines(features[view].clip, scene, view, text) for view in scene.test}
            for width in WIDTHS:
                labels = {name: _smoothed(image, width) for name, image in cosines.items()}
                figures = _measure(engine, scene, labels.__getitem__)
                if figures["miou"] > best["miou"]:
                    best = {"features": f"{form}, smoothed by {width:.0%}", **figures}
        return best


def _digest(base: RunFolder) -> str:
    """Hash of the field: another one may be trained into the same folder."""
    path = latest_checkpoint(base.checkpoints)
    if path is None:
        raise RunError("The run has no trained field", where=base.folder, fix="train it: ovseg3d train SCENE")
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def _measure(engine: QueryEngine, scene: Scene, labeller: Labeller) -> dict[str, float]:
    """Figures of the held-out views."""
    known: dict[str, np.ndarray] = {}

    def once(view: str) -> np.ndarray:
        if view not in known:
            known[view] = labeller(view)
        return known[view]

    index = measure_index(scene, once, scene.test)
    agree = measure_agreement(scene, engine.semantics, once, engine.depth, scene.test)
    return {"miou": index.miou, "accuracy": index.accuracy, "agree": agree.all_agree}


def _cosines(clip: Any, scene: Scene, view: int, text: np.ndarray) -> np.ndarray:
    """Of a view's pixels with the classes, (h, w, classes)."""
    camera = scene.frames[view].camera
    xy = camera.pixel_centres() / (camera.width, camera.height)
    # In parts: an image with 512 numbers a pixel would be large.
    rows = [clip.at(part) @ text.T for part in np.array_split(xy, max(1, len(xy) // 16_384))]
    return np.concatenate(rows).reshape(camera.height, camera.width, len(text))


def _smoothed(cosines: np.ndarray, width: float) -> np.ndarray:
    sigma = width * len(cosines)
    smooth = gaussian_filter(cosines, (sigma, sigma, 0)) if sigma else cosines
    return label(smooth.reshape(-1, smooth.shape[-1])).reshape(smooth.shape[:2])


def _exact(scene: Scene) -> bool:
    """Whether the scene's surface is known."""
    return (scene.path / "synth.json").exists()


HEAD = (
    "| method | features | mIoU | accuracy | points mIoU | views agree | features, s | semantics, s |",
    "| --- | --- | --- | --- | --- | --- | --- | --- |",
)


def _line(name: str, row: dict[str, Any]) -> str:
    def cell(key: str, form: str) -> str:
        value = row.get(key)
        return "-" if value is None or value != value else format(value, form)

    shares = [cell(key, ".1%") for key in ("miou", "accuracy", "point_miou", "agree")]
    seconds = [cell(key, ".0f") for key in ("features_seconds", "seconds")]
    return f"| {' | '.join([ROWS[name][0], row['features'], *shares, *seconds])} |"


if __name__ == "__main__":
    start(Ablate)
