"""`ovseg3d eval`: PSNR, SSIM and depth error of a run, view by view."""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro


@dataclass(frozen=True)
class Eval:
    """Measure a run: PSNR, SSIM, and depth error where the true depth is known, for each view and on average.

    Example: ovseg3d eval outputs/playroom/latest
    """

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """A run folder, outputs/SCENE/latest, or a scene (its newest run)."""
    views: Literal["held-out", "train", "all"] = "held-out"
    """Which views to measure."""
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
        from ovseg3d.cli.console import get_console, print_json
        from ovseg3d.cli.progress import Progress
        from ovseg3d.engine import Event
        from ovseg3d.files import write_json
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
        result = {
            "run": run.folder,
            "metric": scene.metric,
            "metres_per_unit": scene.metres_per_unit if scene.metric else None,
            "views": [asdict(score) for score in evaluation.views],
            "mean": evaluation.mean(),
            "groups": evaluation.groups(),
        }
        if self.output is not None:
            write_json(self.output, result)
        if self.json:
            print_json(result)
        else:
            _draw(console, evaluation, scene.metres_per_unit if scene.metric else None)


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
