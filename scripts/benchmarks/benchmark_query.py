"""Seconds, memory and bytes of queries, as a markdown table.

python -m scripts.benchmarks.benchmark_query outputs/playroom/latest

Every time is the median over new phrases, queried one after another in a process that has loaded the run; the first
query, which also loads the encoder, has its own row. A new view is a held-out camera at --size whose depth is rendered
for each phrase.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count, product
from pathlib import Path

import numpy as np
import tyro

import ovseg3d
from ovseg3d.engine.memory import PeakMemory
from ovseg3d.errors import ConfigError
from ovseg3d.export.overlays import Painter
from ovseg3d.points.semantic_scene import FILE
from ovseg3d.query.engine import QueryEngine
from scripts.start import start

COLOURS = ("red", "blue", "green", "yellow", "black", "white", "wooden", "small", "large", "old")
OBJECTS = ("chair", "table", "lamp", "book", "box", "window", "plant", "sofa")
MIB = 2**20


@dataclass(frozen=True)
class BenchmarkQuery:
    """Measure, and print a markdown table."""

    run: tyro.conf.Positional[Path]
    """A run with semantics."""
    questions: int = 20
    """Phrases of each row."""
    size: tuple[int, int] = (480, 360)
    """Pixels of the new view."""

    def main(self) -> None:
        """Query and measure."""
        if self.questions < 1:
            raise ConfigError(f"--questions is at least 1, not {self.questions}", fix="--questions 20")
        with PeakMemory() as memory:
            rows, engine = self._ask()
        print(f"{len(engine.semantics.surface.xyz):,} surface points, {len(engine.phrases)} phrases in the run\n")
        print("| what | figure |\n| --- | --- |")
        for name, seconds in rows:
            print(f"| {name} | {1000 * seconds:.0f} ms |" if seconds < 1 else f"| {name} | {seconds:.1f} s |")
        print(f"| memory | {memory.peak / MIB:.0f} MiB |")
        print(f"| semantics on disk | {(engine.run.folder / FILE).stat().st_size / MIB:.1f} MiB |")

    def _ask(self) -> tuple[list[tuple[str, float]], QueryEngine]:
        run = ovseg3d.load(self.run)
        phrases = new_phrases()
        began = time.perf_counter()
        engine = QueryEngine(run)
        engine.ask([next(phrases)])
        first = time.perf_counter() - began
        view = engine.scene.frames[(engine.scene.test or engine.scene.train)[0]].name
        engine.places(view)
        camera = engine.camera(view).scaled(*self.size)

        def many(ask: Callable[[str], object]) -> float:
            return float(np.median([_seconds(ask, next(phrases)) for _ in range(self.questions)]))

        return [
            ("the first query, with loading", first),
            ("a new phrase on the points", many(lambda phrase: engine.ask([phrase]))),
            ("a new phrase on a view already rendered", many(lambda phrase: engine.ask([phrase], views=[view]))),
            (
                f"a new phrase on a new view, {self.size[0]}x{self.size[1]}",
                many(lambda phrase: Painter(engine, ["relevancy"], phrase=phrase).render(camera)),
            ),
        ], engine


def new_phrases() -> Iterator[str]:
    """An endless sequence of different phrases."""
    for number in count(1):
        for instance, colour in product(OBJECTS, COLOURS):
            yield f"a {colour} {instance}" if number == 1 else f"a {colour} {instance}, number {number}"


def _seconds(ask: Callable[[str], object], phrase: str) -> float:
    began = time.perf_counter()
    ask(phrase)
    return time.perf_counter() - began


if __name__ == "__main__":
    start(BenchmarkQuery)
