"""Progress display of a run's events: live bars on a terminal, plain lines elsewhere; and the final summary.

Also progress bars for commands that report a sentence and a fraction (0 to 1) instead of events.
"""

import sys
import threading
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich import progress as rich_progress
from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from ovseg3d.cli.console import format_bytes, format_seconds, shell_path

if TYPE_CHECKING:
    from ovseg3d.engine import Event
    from ovseg3d.runs.folder import RunFolder

PLAIN_EVERY = 5.0
"""Seconds between two lines without a terminal."""
STAGE_NAMES = {
    "set-up": "set-up",
    "features": "photos' features",
    "field": "field",
    "surface": "surface",
    "semantics": "semantics",
    "instance_crops": "instance crops",
    "rays": "gathering rays",
    "refine": "refining features",
    "lerf": "learning features",
    "evaluate": "measuring views",
    "render": "rendering views",
}
_COUNTED = ("features", "surface", "instance_crops")
"""Stages without metrics; their steps are shown instead."""


class LiveBars:
    """Bars on a terminal from `_open` to the end of a `with` statement; elsewhere there are none."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: rich_progress.Progress | None = None
        self._last_line = 0.0

    def _open(self) -> None:
        if self._console.is_terminal:
            self._live = rich_progress.Progress(
                rich_progress.TextColumn("{task.description:<16}", markup=False),
                rich_progress.BarColumn(bar_width=24),
                rich_progress.TextColumn("{task.fields[figures]}", markup=False),
                console=self._console,
            )
            self._live.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()


class Progress(LiveBars):
    """A report (callable with an event) that displays progress; use it in a `with` statement."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._tasks: dict[str, rich_progress.TaskID] = {}

    def __enter__(self) -> "Progress":
        self._open()
        return self

    def __call__(self, event: "Event") -> None:
        if event.kind == "log":
            # Messages of set-up are notes of the reader about the capture.
            warning = "warning: " if event.stage == "set-up" else ""
            self._console.print(f"{warning}{event.message}", markup=False, soft_wrap=True)
        elif event.kind in ("start", "progress", "done", "interrupted"):
            if self._live is not None:
                self._draw(self._live, event)
            else:
                self._print(event)

    def _draw(self, live: rich_progress.Progress, event: "Event") -> None:
        if event.stage not in self._tasks:
            name = STAGE_NAMES.get(event.stage, event.stage)
            self._tasks[event.stage] = live.add_task(name, total=1.0, figures="")
        task = self._tasks[event.stage]
        counted = event.stage in _COUNTED and event.step
        known = event.metrics or _sentence(event) or event.kind == "start" or counted
        if known:
            live.update(task, completed=event.progress, figures=figures(event))
        else:
            live.update(task, completed=event.progress)

    def _print(self, event: "Event") -> None:
        now = time.monotonic()
        if event.kind == "progress" and event.progress < 1 and now - self._last_line < PLAIN_EVERY:
            return
        known = event.metrics or _sentence(event) or event.stage in _COUNTED
        if event.kind == "progress" and not known or event.kind == "done":
            return
        self._last_line = now
        name = STAGE_NAMES.get(event.stage, event.stage)
        text = "stopping" if event.kind == "interrupted" else figures(event)
        self._console.print(f"{name}: {event.progress:4.0%}  {text}", markup=False, soft_wrap=True)


def _sentence(event: "Event") -> str:
    """What the work is at, for stages that count nothing."""
    return event.message or "" if event.kind == "progress" and event.stage not in _COUNTED else ""


def figures(event: "Event") -> str:
    """Step, PSNR, rays/s and time left, as far as the event has them."""
    if sentence := _sentence(event):
        return sentence
    if event.kind == "start":
        return event.message or "starting"
    if event.stage in ("evaluate", "render", "surface", "instance_crops"):
        return f"{event.step} of {event.steps}"
    if event.stage == "features":
        left = f"  {format_seconds(event.seconds_left)} left" if event.seconds_left and event.progress < 1 else ""
        return f"{event.step} of {event.steps}{left}"
    parts = [f"step {event.step:,}"]
    if "psnr" in event.metrics:
        parts.append(f"{event.metrics['psnr']:.1f} dB")
    if "rays_per_second" in event.metrics:
        parts.append(f"{event.metrics['rays_per_second']:,.0f} rays/s")
    if event.seconds_left is not None and event.progress < 1:
        parts.append(f"{format_seconds(event.seconds_left)} left")
    return "  ".join(parts)


@contextmanager
def sentence_bar(console: Console) -> Generator[Callable[[str, float], None]]:
    """On a terminal, a bar with the current sentence. Otherwise a plain line every few seconds, and whenever the part
    of the sentence before the colon changes."""
    if console.is_terminal:
        with rich_progress.Progress(
            rich_progress.BarColumn(),
            rich_progress.TextColumn("{task.percentage:3.0f} %"),
            rich_progress.TimeElapsedColumn(),
            rich_progress.TextColumn("{task.description}", markup=False),
            console=console,
            transient=True,
            # Results that go into a file stay apart from a bar on stderr.
            redirect_stdout=sys.stdout.isatty(),
        ) as bar:
            task = bar.add_task("starting", total=1.0)
            yield lambda sentence, fraction: bar.update(task, description=sentence, completed=fraction)
        return
    lock = threading.Lock()
    last: dict[str, Any] = {"kind": "", "time": 0.0}
    stream = console.file or sys.stdout

    def plain(sentence: str, fraction: float) -> None:
        kind, now = sentence.split(":", maxsplit=1)[0], time.monotonic()
        with lock:
            if kind == last["kind"] and now - last["time"] < 10.0:
                return
            last["kind"], last["time"] = kind, now
            print(f"[{100 * fraction:3.0f} %] {sentence}", file=stream, flush=True)

    yield plain


@contextmanager
def stage_bars(console: Console) -> Generator[Callable[[str, float], None]]:
    """On a terminal, a bar per stage; otherwise one plain line per stage."""
    if console.is_terminal:
        with rich_progress.Progress(
            rich_progress.TextColumn("{task.description:<10}", markup=False),
            rich_progress.BarColumn(bar_width=24),
            rich_progress.TimeElapsedColumn(),
            console=console,
        ) as bar:
            tasks: dict[str, rich_progress.TaskID] = {}

            def draw(what: str, done: float) -> None:
                if what not in tasks:
                    tasks[what] = bar.add_task(what, total=1.0)
                bar.update(tasks[what], completed=done)

            yield draw
        return
    shown: set[str] = set()

    def show(what: str, done: float) -> None:
        if what not in shown:
            shown.add(what)
            console.print(f"{what}...", markup=False)

    yield show


def print_summary(console: Console, run: "RunFolder") -> None:
    """Print the metrics of a finished run, and commands to continue with."""
    from ovseg3d.query.words import is_structural

    metrics = run.metrics()
    table = Table.grid(padding=(0, 2))
    for label, text in _rows(metrics):
        table.add_row(label, text)
    title = Text(run.scene_name, style="bold")
    console.print(Panel(table, title=title, title_align="left", expand=False), markup=False)
    name = shell_path(run.folder)

    def line(text: str) -> None:
        console.print(text, markup=False, soft_wrap=True)

    line(f"run        {name}")
    for file in ("heldout.png", "features.png", "semantics.png"):
        if (run.previews / file).exists():
            line(f"previews   {shell_path(run.previews / file)}")
    if "steps" not in metrics:
        return
    line("\nnext:")
    line(f"  ovseg3d view {name}")
    if "surface_points" in metrics:
        # A phrase that is in the scene, if the run has any.
        phrase = next((one for one in run.phrases if not is_structural(one)), "a red chair")
        line(f'  ovseg3d query {name} "{phrase}"')
        line(f"  ovseg3d segment {name}")
        line(f"  ovseg3d export {name}")
    line(f"  ovseg3d render {name}")
    held_out = "" if metrics.get("psnr") is not None else " --views all"
    line(f"  ovseg3d eval {name}{held_out}")


def _rows(metrics: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    if "features_photos" in metrics:
        photos, made = metrics["features_photos"], metrics["features_encoded"]
        done = f"{made} photos encoded" if made == photos else f"{photos} photos ({photos - made} from the cache)"
        rows.append(("features", f"{done} in {format_seconds(metrics['features_seconds'])}"))
        encoders = " and ".join(name for name in (metrics["clip"], metrics["dino"]) if name)
        rows.append(("", f"{metrics['features_mode']}, {encoders}"))
        size = format_bytes(metrics["features_bytes"])
        rows.append(("", f"{size} in {metrics['features_cache']}"))
    if "steps" in metrics:
        rows += _field_rows(metrics)
    if "surface_points" in metrics:
        parts = ("surface_seconds", "lift_seconds", "refine_seconds", "instances_seconds", "instance_crops_seconds")
        seconds = format_seconds(sum(metrics.get(name) or 0.0 for name in parts))
        size = format_bytes(metrics["semantics_bytes"])
        rows.append(("semantics", f"{metrics['surface_points']:,} surface points in {seconds}, {size}"))
        if "method" in metrics:
            rows.append(("", f"method {metrics['method']}"))
        if odd := metrics["photos_not_trusted"]:
            rows.append(("", f"{len(odd)} photos contradict the others: {', '.join(odd[:3])}"))
    rows.append(("memory", f"{format_bytes(metrics['peak_anonymous_bytes'])} peak"))
    return rows


def _quality(metrics: Mapping[str, Any], kind: str = "") -> str:
    """PSNR and SSIM; `kind` ends the names of the figures."""
    ssim = metrics.get(f"ssim{kind}")
    return f"{metrics[f'psnr{kind}']:.2f} dB" + (f", SSIM {ssim:.3f}" if ssim is not None else "")


def _field_rows(metrics: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = [
        (
            "trained",
            f"{metrics['steps']:,} steps in {format_seconds(metrics['train_seconds'])}"
            f" ({metrics['device']}, {metrics['backend']})",
        )
    ]
    if "psnr" in metrics:
        text = _quality(metrics)
        views = f"({metrics['views']} views)"
        if "psnr_off_path" in metrics:
            rows.append(("held out", f"PSNR {text} on the camera's path"))
            rows.append(("", f"PSNR {metrics['psnr_off_path']:.2f} dB away from it {views}"))
        else:
            where = "at the given poses " if "psnr_aligned" in metrics else ""
            rows.append(("held out", f"PSNR {text} {where}{views}"))
        if "psnr_aligned" in metrics:
            rows.append(("", f"PSNR {_quality(metrics, '_aligned')} with pose and exposure aligned to the photos"))
    else:
        rows.append(("held out", "no held-out views, so no figures"))
    if "depth_rel_median" in metrics:
        within = metrics["depth_within_5_percent"]
        rows.append(("depth", f"median error {metrics['depth_rel_median']:.1%}, {within:.0%} of pixels within 5 %"))
    return rows
