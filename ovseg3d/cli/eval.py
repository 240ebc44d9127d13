"""`ovseg3d eval`: PSNR, SSIM and depth error of a run's views, or its semantics by a named protocol."""

import math
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from ovseg3d.cli.flags import Json, RunPath, Views, Where, WhereFlags, refuse_idle
from ovseg3d.cli.many import Many, ManyFlags
from ovseg3d.cli.many_runs import MoreRuns, Output, are_many, over_runs
from ovseg3d.errors import ConfigError, nearest

LABELLED = (
    "3d-ovs", "3d-ovs-phrase", "lerf", "lerf-3d", "scannet-20", "scannet-19", "scannet-200", "replica",
    "scannet-instance-ap", "scannet-200-instance-ap", "replica-instance-ap",
)  # fmt: skip
"""Protocols with label files of their own."""
PROTOCOLS = (
    "field", "index", "points", "consistency", "instances", "instance-ap", "absence", "selection", *LABELLED
)  # fmt: skip


@dataclass(frozen=True)
class Eval:
    """Measure a run: PSNR, SSIM, and depth error where the true depth is known, per view and on average.

    With --protocol, semantics are measured instead. The output of each protocol states how it averages. Protocols:
    index (label images), consistency (agreement of views), absence (rejection of absent phrases), points,
    instances, instance-ap and selection (against the exact surface of a synthetic room), 3d-ovs and lerf (as in those
    papers, from their label files), 3d-ovs-phrase and lerf-3d (as later papers use these labels), scannet-20, -19, -200
    and replica (classes of those data sets' labelled meshes), scannet-instance-ap, scannet-200-instance-ap and
    replica-instance-ap (instances in them).
    Held-out and training views are reported separately, and so are styles that the built-in encoders were trained on.

    Examples:
      ovseg3d eval outputs/playroom/latest
      ovseg3d eval outputs/playroom/latest --protocol index,points --views all
      ovseg3d eval outputs/ramen/latest --protocol lerf --labels lerf_ovs/label/ramen
      ovseg3d eval outputs/scene0000_00/latest --protocol scannet-20,scannet-instance-ap --labels scans/scene0000_00
      ovseg3d eval scenes/playroom --protocol index --seeds 0,1,2
      ovseg3d eval outputs/rooms --table rooms.csv
    """

    stoppable: ClassVar[bool] = True
    run: RunPath
    more: MoreRuns = ()
    views: Views = "held-out"
    """Views to measure; all: held-out and training views, reported separately."""
    protocol: str = "field"
    """What to measure, separated by commas: field, index, points, consistency, instances, instance-ap,
    absence, selection, 3d-ovs, 3d-ovs-phrase, lerf, lerf-3d, scannet-20, scannet-19, scannet-200, replica,
    scannet-instance-ap, scannet-200-instance-ap, replica-instance-ap."""
    labels: Path | None = None
    """Folder of the label files of 3d-ovs (segmentations/), lerf (JSON files), scannet or replica (the scan's labelled
    mesh), if not in the scene."""
    seeds: str | None = None
    """Measure one run per seed (separated by commas) and report mean and standard deviation. RUN is a scene or one of
    its runs. Missing runs are trained with the settings of the newest one."""
    config: Path | None = None
    """With --seeds: train with these settings instead; a YAML file or the config.json of a run."""
    output: Path | None = None
    """Also write the results to this JSON file."""
    output_dir: Path | None = None
    """For several runs: keep the result of each here, with the ledger results.jsonl. The same command again measures
    what is missing."""
    table: Path | None = None
    """Also write a table with a row for each run: FILE.csv, or FILE.parquet (needs pyarrow)."""
    many: ManyFlags = Many()
    where: WhereFlags = Where()
    json: Json = False

    def main(self) -> int:
        """Measure and report."""
        from ovseg3d.cli.console import get_console, interruptible, print_json
        from ovseg3d.evaluate.table import check_table, row_of, write_table
        from ovseg3d.files import write_json

        names, seeds = parse_protocols(self.protocol), parse_seeds(self.seeds)
        paths = (self.run, *self.more)
        several = are_many(paths, self.many)
        refuse_idle(
            self,
            ("labels", bool(set(LABELLED) & set(names)), f"with --protocol {', '.join(LABELLED)}"),
            ("config", self.seeds is not None, "with --seeds"),
            ("scene", self.seeds is None and not several, "with one run, without --seeds"),
            *((name, not seeds, "without --seeds") for name in ("more", *Many.__dataclass_fields__)),
            ("output_dir", several and not seeds, "with several runs"),
        )
        if self.table is not None:
            check_table(self.table)
        console, code = get_console(self.json), 0
        if seeds:
            stop = threading.Event()
            with interruptible(stop):
                result = self._over(seeds, names, Output(console, stop))
        else:
            result, code = over_runs(self, paths, self.many, self.output_dir)
        if self.output is not None:
            write_json(self.output, result)
        if self.table is not None:
            runs = result.get("runs", [result])
            rows = runs if isinstance(runs, list) else [{"seed": seed, **one} for seed, one in runs.items()]
            write_table(self.table, [row_of(row) for row in rows])
        if self.json:
            print_json(result)
        elif seeds:
            _draw_seeds(console, result)
        return code

    def use(self, path: Path, folder: Path | None, output: Output) -> dict[str, Any]:
        """Measure one run."""
        return self._measure(self.where.load(path), parse_protocols(self.protocol), output)

    def _over(self, seeds: Sequence[int], names: Sequence[str], output: Output) -> dict[str, Any]:
        """Measure one run per seed, and combine the results."""
        from ovseg3d.pipeline.seeds import over_seeds, run_of_seed, scene_and_settings

        scene, config = scene_and_settings(self.run, self.config)
        results = {}
        for seed in seeds:
            with output.progress() as progress:
                run = run_of_seed(scene, config, seed, set(names) != {"field"}, progress, output.stop)
            results[seed] = self._measure(run, names, output)
        figures = {seed: {k: v for k, v in one.items() if k in (*names, "mean")} for seed, one in results.items()}
        return {**over_seeds(figures), "views_measured": self.views, "runs": results}

    def _measure(self, run: Any, names: Sequence[str], output: Output) -> dict[str, Any]:
        result = self._field(run, output) if "field" in names else {}
        semantic = [name for name in names if name != "field"]
        return result | (self._semantics(run, semantic, output) if semantic else {})

    def _semantics(self, run: Any, names: Sequence[str], output: Output) -> dict[str, Any]:
        """Scores of the protocols for semantics, by group."""
        from contextlib import suppress

        from ovseg3d.errors import OutputError
        from ovseg3d.evaluate.protocols import Evaluator, keep_figures
        from ovseg3d.scene import describe_scale

        engine = self.where.engine(run, run.load_scene(self.where.scene))
        with output.progress() as progress:
            found = Evaluator(engine, self.views, self.labels, report=progress, stop=output.stop).scores(names)
        with suppress(OutputError):  # the run may be read-only; the figures are reported all the same
            keep_figures(run, found)
        if not self.json and self.seeds is None:
            for name, groups in found.items():
                _draw_scores(output.console, name, groups)
        scores = {name: {group: one.as_dict() for group, one in groups.items()} for name, groups in found.items()}
        scale = describe_scale(engine.scene.metres_per_unit)
        return {"run": run.folder, "scene": run.scene_path, **scale, "views_measured": self.views, **scores}

    def _field(self, run: Any, output: Output) -> dict[str, Any]:
        """Image quality and depth error."""
        from ovseg3d.engine import Event
        from ovseg3d.evaluate.views import Evaluation, evaluate
        from ovseg3d.render.views import choose_views
        from ovseg3d.runs.fields import refined
        from ovseg3d.scene import describe_scale

        scene = run.load_scene(self.where.scene)
        views = choose_views(scene, self.views)
        renderer = self.where.renderer(run, scene)
        done = 0
        with output.progress() as progress:

            def on_view(score: Any, *_: Any) -> None:
                nonlocal done
                done += 1
                share = done / len(views)
                progress(Event("progress", "evaluate", done, len(views), share, metrics={"psnr": score.psnr}))

            evaluation: Evaluation = evaluate(
                renderer, refined(run, scene), views, aligned=not scene.exact, stop=output.stop, on_view=on_view
            )
        if output.stop.is_set():
            raise KeyboardInterrupt
        if not self.json and self.seeds is None:
            _draw(output.console, evaluation, scene.metres_per_unit if scene.metric else None)
        return {
            "run": run.folder,
            "scene": run.scene_path,
            **describe_scale(scene.metres_per_unit),
            "views": [asdict(score) for score in evaluation.views],
            "mean": evaluation.mean(),
            "groups": evaluation.groups(),
        }


def parse_seeds(text: str | None) -> tuple[int, ...]:
    """Parse a comma-separated list of seeds; empty for None. Raises ConfigError."""
    words = [word for word in re.split(r"[,\s]+", (text or "").strip()) if word]
    if text is not None and (not words or not all(word.isdecimal() for word in words)):
        raise ConfigError(f"--seeds takes whole numbers separated by commas, not {text!r}", fix="--seeds 0,1,2")
    return tuple(dict.fromkeys(int(word) for word in words))


def parse_protocols(text: str) -> tuple[str, ...]:
    """Parse a comma-separated list of protocols. Raises ConfigError."""
    names = tuple(dict.fromkeys(word for word in re.split(r"[,\s]+", text.strip()) if word))
    for name in names:
        if name not in PROTOCOLS:
            close = nearest(name, PROTOCOLS)
            fix = f"--protocol {close}" if close else f"--protocol {','.join(PROTOCOLS)}"
            raise ConfigError(f"There is no protocol {name!r}", fix=fix)
    if not names:
        raise ConfigError("--protocol is empty", fix="--protocol index")
    return names


def _draw_scores(console: Any, protocol: str, groups: Mapping[str, Any]) -> None:
    """Print a protocol's figures by group, and how they were averaged."""
    from rich.table import Table

    found = {group: scores.as_dict() for group, scores in groups.items()}
    first = next(iter(found.values()))
    table = Table(title=f"protocol {protocol}", caption=first["aggregation"])
    table.add_column("figure")
    for group in found:
        table.add_column(group, justify="right")
    rows = {group: dict(_rows(figures)) for group, figures in found.items()}
    for name in dict.fromkeys(name for figures in rows.values() for name in figures):
        table.add_row(name, *(rows[group].get(name, "-") for group in found))
    console.print(table, markup=False)


def _rows(figures: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Names and texts of plain figures, and of figures in a nested dictionary."""
    for name, value in figures.items():
        if isinstance(value, dict):
            # Figures of single instances, keyed by number, are printed with --json only, like longer records.
            known = {part: number for part, number in value.items() if _is_plain(number) and not part.isdigit()}
            yield from ((f"{name} of {part}", _text(number)) for part, number in known.items())
        elif name not in ("protocol", "aggregation") and _is_plain(value):
            yield name, _text(value)


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, int | float | str)


def _text(value: Any) -> str:
    return "-" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)


def _draw_seeds(console: Any, result: Mapping[str, Any]) -> None:
    """Print mean and standard deviation of each figure over seeds."""
    from rich.table import Table

    table = Table(title=f"seeds {', '.join(map(str, result['seeds']))}", caption=result["aggregation"])
    for heading in ("figure", "mean", "spread"):
        table.add_column(heading, justify="left" if heading == "figure" else "right")
    for name, figure in result["figures"].items():
        table.add_row(name, _text(figure["mean"]), _text(figure["std"]))
    console.print(table, markup=False)


def _draw(console: Any, evaluation: Any, metres_per_unit: float | None) -> None:
    from rich.table import Table

    unit, size = ("units", 1.0) if metres_per_unit is None else ("m", metres_per_unit)
    with_depth = not all(math.isnan(score.depth_rel_median) for score in evaluation.views)
    with_aligned = not all(math.isnan(score.psnr_aligned) for score in evaluation.views)
    table = Table()
    table.add_column("view")
    aligned = ("PSNR aligned", "SSIM aligned") if with_aligned else ()
    for heading in (
        "PSNR dB",
        "SSIM",
        *aligned,
        *((f"depth err. {unit}", "relative", "within 5 %") if with_depth else ()),
    ):
        table.add_column(heading, justify="right")

    def row(name: str, figures: dict[str, Any], end_section: bool = False) -> None:
        cells = [_cell(figures["psnr"], ".2f"), _cell(figures["ssim"], ".3f")]
        if with_aligned:
            cells += [_cell(figures["psnr_aligned"], ".2f"), _cell(figures["ssim_aligned"], ".3f")]
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
    console.print(table, markup=False)


def _cell(value: float, form: str) -> str:
    return "-" if math.isnan(value) else format(value, form)
