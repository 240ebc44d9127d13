"""`ovseg3d eval`: PSNR, SSIM and depth error of a run, view by view; or its labels, by a named protocol."""

import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from ovseg3d.errors import ConfigError, nearest

PROTOCOLS = ("field", "index", "points", "consistency")


@dataclass(frozen=True)
class Eval:
    """Measure a run: PSNR, SSIM, and depth error where the true depth is known, for each view and on average.

    With --protocol labels are measured instead: index (label images), points (the cloud, against the exact surface of
    a synthetic room), consistency (whether views agree). Each says in its output how it averages.

    Examples:
      ovseg3d eval outputs/playroom/latest
      ovseg3d eval outputs/playroom/latest --protocol index,points
    """

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """A run folder, outputs/SCENE/latest, or a scene (its newest run)."""
    views: Literal["held-out", "train", "all"] = "held-out"
    """Which views to measure."""
    protocol: str = "field"
    """What to measure, with commas: field, index, points, consistency."""
    scene: Path | None = None
    """The scene's folder, if it has moved since training."""
    output: Path | None = None
    """Also write the figures to this JSON file."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to render."""
    backend: Literal["auto", "warp", "torch", "tcnn"] = "auto"
    """What computes the field."""
    json: bool = False
    """Print one JSON object on stdout and nothing else there."""

    def main(self) -> None:
        """Render, compare, report."""
        names = parse_protocols(self.protocol)
        result = {}
        if "field" in names:
            result = self._field()
        if labels := [name for name in names if name != "field"]:
            result |= self._labels(labels)
        if self.output is not None:
            from ovseg3d.files import write_json

            write_json(self.output, result)
        if self.json:
            from ovseg3d.cli.console import print_json

            print_json(result)

    def _labels(self, names: Sequence[str]) -> dict[str, Any]:
        """The protocols about labels, each as its scores say them."""
        from ovseg3d.cli.console import get_console
        from ovseg3d.cli.progress import Progress
        from ovseg3d.metrics import Scores
        from ovseg3d.pipeline.measure import (
            classes_of,
            labeller_of,
            measure_agreement,
            measure_cloud,
            measure_index,
        )
        from ovseg3d.pipeline.query import Asker
        from ovseg3d.pipeline.run import load
        from ovseg3d.pipeline.views import choose_views

        console = get_console(self.json)
        run = load(self.run)
        scene = run.load_scene(self.scene)
        classes, views = classes_of(scene), choose_views(scene, self.views)
        asker = Asker(run, scene, self.device, self.backend)
        labeller, found = labeller_of(asker, classes), {}
        with Progress(console) as progress:
            if "index" in names:
                found["index"] = measure_index(scene, labeller, views, report=progress)
            if "points" in names:
                found["points"] = measure_cloud(scene, asker.semantics, asker.labels(classes, none=False))
            if "consistency" in names:
                found["consistency"] = measure_agreement(scene, asker.semantics, labeller, asker.depth, views)
        if not self.json:
            for scores in found.values():
                _draw_scores(console, scores)
        told: dict[str, Scores] = found
        return {"run": run.folder, "views_measured": self.views, **{name: one.as_dict() for name, one in told.items()}}

    def _field(self) -> dict[str, Any]:
        """Pictures and depth."""
        from ovseg3d.cli.console import get_console
        from ovseg3d.cli.progress import Progress
        from ovseg3d.engine import Event
        from ovseg3d.pipeline.evaluate import Evaluation, evaluate
        from ovseg3d.pipeline.fields import restore
        from ovseg3d.pipeline.run import load
        from ovseg3d.pipeline.views import choose_views

        console = get_console(self.json)
        run = load(self.run)
        scene = run.load_scene(self.scene)
        views = choose_views(scene, self.views)
        renderer = restore(run, scene, self.device, self.backend)
        done = 0
        with Progress(console) as progress:

            def tell(score: Any, *_: Any) -> None:
                nonlocal done
                done += 1
                share = done / len(views)
                progress(Event("progress", "evaluate", done, len(views), share, metrics={"psnr": score.psnr}))

            evaluation: Evaluation = evaluate(renderer, scene, views, on_view=tell)
        if not self.json:
            _draw(console, evaluation, scene.metres_per_unit if scene.metric else None)
        return {
            "run": run.folder,
            "metric": scene.metric,
            "metres_per_unit": scene.metres_per_unit if scene.metric else None,
            "views": [asdict(score) for score in evaluation.views],
            "mean": evaluation.mean(),
            "groups": evaluation.groups(),
        }


def parse_protocols(text: str) -> tuple[str, ...]:
    """The protocols that a list with commas names. Raises ConfigError."""
    names = tuple(dict.fromkeys(word for word in re.split(r"[,\s]+", text.strip()) if word))
    for name in names:
        if name not in PROTOCOLS:
            close = nearest(name, PROTOCOLS)
            fix = f"--protocol {close}" if close else f"--protocol {','.join(PROTOCOLS)}"
            raise ConfigError(f"There is no protocol {name!r}", fix=fix)
    if not names:
        raise ConfigError("--protocol names nothing", fix="--protocol index")
    return names


def _draw_scores(console: Any, scores: Any) -> None:
    """A protocol's figures, and how they were averaged."""
    from rich.table import Table

    figures = scores.as_dict()
    table = Table(title=f"protocol {figures.pop('protocol')}", caption=figures.pop("aggregation"))
    table.add_column("figure")
    table.add_column("value", justify="right")
    for name, value in figures.items():
        if isinstance(value, dict):
            for part, number in value.items():
                table.add_row(f"{name} of {part}", "-" if number is None else f"{number:.3f}")
        else:
            table.add_row(name, "-" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value))
    console.print(table)


def _draw(console: Any, evaluation: Any, metres_per_unit: float | None) -> None:
    from rich.table import Table

    unit, size = ("units", 1.0) if metres_per_unit is None else ("m", metres_per_unit)
    with_depth = not math.isnan(evaluation.mean()["depth_rel_median"])
    table = Table()
    table.add_column("view")
    for heading in ("PSNR dB", "SSIM", *((f"depth err. {unit}", "relative", "within 5 %") if with_depth else ())):
        table.add_column(heading, justify="right")

    def row(name: str, figures: dict[str, Any], end_section: bool = False) -> None:
        cells = [_cell(figures["psnr"], ".2f"), _cell(figures["ssim"], ".3f")]
        if with_depth:
            cells += [_cell(size * figures["depth_abs_median"], ".3f"), _cell(figures["depth_rel_median"], ".1%")]
            cells.append(_cell(figures["depth_within_5_percent"], ".0%"))
        table.add_row(name, *cells, end_section=end_section)

    last = len(evaluation.views) - 1
    for index, score in enumerate(evaluation.views):
        row(score.name, asdict(score), end_section=index == last)
    for group, means in evaluation.groups().items():
        row(f"mean, {group}", means)
    if not evaluation.groups():
        row("mean", evaluation.mean())
    console.print(table)


def _cell(value: float, form: str) -> str:
    return "-" if math.isnan(value) else format(value, form)
