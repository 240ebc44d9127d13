"""Latency and memory of the viewer, as a markdown table.

    python -m scripts.benchmarks.benchmark_viewer outputs/playroom/latest
    python -m scripts.benchmarks.benchmark_viewer outputs/playroom/latest --points 1000000 --output viewer.md

A row is one server in its own process, with a client in another process that uses viser's protocol but draws nothing: a
browser would use the cores that are measured. Its window has 1000x750 pixels and starts at the first view.
"Open" is the time from before torch is imported until the server listens, "ready" until the encoder and all data of a
first query are loaded, "first image" from the client's connection until it has the image. Then the camera swings about
its target, with 30 updates a second: images are counted at the server, sizes at the client, and the smallest size is
reported. "Sharp" is the time from the last camera update until the client has the sharp image; a query lasts until it
has the highlighted points; a click (on a grid over the image) until there is a name. Of several times, the median is
reported and, in brackets, the worst.

--points measures the same run with other numbers of points: copies of its points, each moved within its cell.
"""

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from multiprocessing.managers import BaseManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from scripts.benchmarks.benchmark import apart, describe_machine, table

if TYPE_CHECKING:
    from ovseg3d.points.semantic_scene import SemanticScene
    from ovseg3d.viewer.client_session import ClientSession
    from ovseg3d.viewer.shared_scene import SharedScene

WINDOW = (1000, 750)
UPDATES_PER_SECOND = 30
"""Camera updates of the client."""
SWAY = 0.4
"""Amplitude in radians, and about as many radians a second."""
TIMES = 3
"""Number of measurements of sharp images."""
ASKED = 8
"""Largest number of phrases."""
CLICKS = 3
"""Clicks in each row and column of the grid."""
PATIENCE = 120.0
"""Seconds until a step counts as failed."""
COLUMNS = (
    "points", "server open, s", "ready to query, s", "first image, s", "images/s, moving", "their size",
    "CPU s each", "sharp, s", "its size", "query to points, s", "click to name, s", "points sent, s", "resident, MiB",
    "anonymous peak, MiB",
)  # fmt: skip


@dataclass(frozen=True)
class BenchmarkViewer:
    """Measure the viewer on a run, and print a markdown table."""

    run: Annotated[Path, tyro.conf.Positional]
    """A trained run."""
    points: tuple[int, ...] = ()
    """Numbers of points to try besides the run's own."""
    seconds: float = 8.0
    """How long the camera moves."""
    scene: Path | None = None
    """The scene's folder, if it has moved since training."""
    device: str = "auto"
    """Where to render and encode: auto, cpu or cuda."""
    output: Path | None = None
    """Also write the table to this file."""

    def main(self) -> None:
        """Print the machine, and a table row for each number of points."""
        rows = []
        for points in (None, *self.points):
            print(f"{points or 'own'} points ...", file=sys.stderr, flush=True)
            rows.append(apart(measure, True, self, points))
        text = f"{apart(describe_machine, True)}\n\n{table(COLUMNS, rows)}"
        print(text)
        if self.output is not None:
            self.output.write_text(text)


def measure(options: BenchmarkViewer, points: int | None) -> list[str]:
    """One server's row of the table."""
    began = time.perf_counter()
    from ovseg3d.engine.memory import PeakMemory
    from ovseg3d.viewer import Viewer, open_shared_scene
    from ovseg3d.viewer.navigation import first_view

    with PeakMemory() as memory:
        shared = open_shared_scene(options.run, options.scene, options.device)  # type: ignore[arg-type]
        if points is not None:
            multiply(shared, points)
        with Viewer(shared, notice=complain) as viewer, ThreadPoolExecutor(1) as aside:
            opened = time.perf_counter() - began
            preparing = aside.submit(until, lambda: viewer.wait_ready(PATIENCE), began)
            position, target, _ = first_view(shared)
            place = [tuple(map(float, vector)) for vector in (position, target)]
            with client(viewer.url, *place, WINDOW, tuple(map(float, shared.up))) as (bare, came):
                first = until(lambda: bare.images() > 0, came)
                ready = preparing.result()
                session = next(iter(viewer.sessions.values()))
                settle(session)
                images, sizes, cpu = sway(session, bare, *place, options.seconds)
                sharp = [sharpen(session, bare, place[0], beside) for beside in targets(*place)]
                size = sharp_size(session)
                queries = [seconds for phrase in phrases_of(shared) for seconds in ask(session, bare, phrase)]
                clicks = [seconds for ray in grid(session) for seconds in click(session, bare, ray)]
                shown = show_points(session, bare)
                settle(session)
                resident_now = resident()
    coarse = min(sizes, key=lambda size: size[0] * size[1])
    return [
        f"{len(shared.cloud[0]):,}", f"{opened:.1f}", f"{ready:.1f}", f"{first:.2f}",
        f"{images / options.seconds:.1f}", by(coarse), f"{cpu / max(images, 1):.2f}", spread(sharp), by(size),
        spread(queries), spread(clicks), spread(shown), f"{resident_now / 2**20:.0f}", f"{memory.peak / 2**20:.0f}",
    ]  # fmt: skip


def complain(text: str) -> None:
    """Print an error of the server."""
    print(text, file=sys.stderr, flush=True)


def multiply(shared: "SharedScene", points: int) -> None:
    """Give a run more points: copies with their semantics, each moved within its cell."""
    import numpy as np

    from ovseg3d.query.engine import QueryEngine

    known: SemanticScene = shared.need_engine().semantics
    if known.sized is not None:
        raise SystemExit("Points cannot be multiplied where features depend on a size (--method lerf).")
    random = np.random.default_rng(0)
    chosen = random.permutation(np.arange(points) % len(known.surface))
    moved = known.surface.cell[chosen, None] * random.uniform(-0.5, 0.5, (points, 3))
    surface = replace(known.surface, **{name: getattr(known.surface, name)[chosen] for name in
                                        ("xyz", "normal", "rgb", "confidence", "cell")})  # fmt: skip
    surface = replace(surface, xyz=(surface.xyz + moved).astype(np.float32))
    names = ("vectors", "agreement", "instance") + (("plane",) if known.plane is not None else ())
    copied = {name: getattr(known, name)[chosen] for name in names}
    semantics = replace(known, surface=surface, **copied)
    shared.engine = QueryEngine(shared.run, shared.scene, shared.device, shared.backend, semantics=semantics)


# -- the client ----------------------------------------------------------------------------------------------------


class Clients(BaseManager):
    """The other process."""


@contextmanager
def client(*arguments: Any) -> Any:
    """A `Bare` in its own process, and the time when it was started."""
    from scripts.benchmarks.viewer_client import Bare

    Clients.register("Bare", Bare)
    with Clients(ctx=get_context("spawn")) as others:
        came = time.perf_counter()
        bare = others.Bare(*arguments)
        yield bare, came
        bare.close()


def until(true: Callable[[], Any], began: float) -> float:
    """Seconds from `began` until `true()` holds."""
    while not true():
        if time.perf_counter() - began > PATIENCE:
            raise TimeoutError(f"Nothing came in {PATIENCE:g} s.")
        time.sleep(0.004)
    return time.perf_counter() - began


# -- what a browser does -------------------------------------------------------------------------------------------


def settle(session: "ClientSession") -> None:
    """Wait until the image is sharp."""
    if not session.image.stream.wait_idle(PATIENCE):
        raise TimeoutError(f"No sharp image in {PATIENCE:g} s.")


def sway(
    session: "ClientSession", bare: Any, position: tuple, target: tuple, seconds: float
) -> tuple[int, list[tuple[int, int]], float]:
    """Move the camera; images drawn by the server, their sizes at the client, and the server's CPU seconds."""
    import numpy as np
    from scipy.spatial.transform import Rotation

    up, arm, stream = session.context.shared.up, np.subtract(position, target), session.image.stream
    before, seen, cpu, began = stream.drawn, len(bare.sizes()), time.process_time(), time.perf_counter()
    while (passed := time.perf_counter() - began) < seconds:
        turned = Rotation.from_rotvec(up * SWAY * np.sin(passed)).apply(arm)
        bare.look(tuple((target + turned).tolist()), target)
        time.sleep(1 / UPDATES_PER_SECOND)
    return stream.drawn - before, bare.sizes()[seen:], time.process_time() - cpu


def targets(position: tuple, target: tuple) -> list[tuple]:
    """Different targets close to each other, since a cached image would take no time."""
    away = sum((p - t) ** 2 for p, t in zip(position, target)) ** 0.5
    return [(target[0] + 0.05 * away * number, *target[1:]) for number in range(1, TIMES + 1)]


def sharpen(session: "ClientSession", bare: Any, position: tuple, target: tuple) -> float:
    """Look away and back again; seconds until the client has the sharp image."""
    before = bare.images()
    bare.look(position, tuple(2 * p - t for p, t in zip(position, target)))
    until(lambda: bare.images() > before, time.perf_counter())
    away, began = session.view.viewpoint, time.perf_counter()
    bare.look(position, target)
    until(lambda: session.view.viewpoint != away, began)
    settle(session)
    return until(lambda: bare.sizes()[-1] == sharp_size(session), began)


def sharp_size(session: "ClientSession") -> tuple[int, int]:
    camera = session.view.viewpoint.camera(session.image.stream.sharp)
    return camera.width, camera.height


def phrases_of(shared: "SharedScene") -> Sequence[str]:
    """The phrases to query: the scene's own, else some common words."""
    from ovseg3d.viewer.pick import DEFAULT_NAMES

    return (shared.scene.phrases or DEFAULT_NAMES)[:ASKED]


def ask(session: "ClientSession", bare: Any, phrase: str) -> list[float]:
    """Seconds until the client has the points; empty if the phrase is absent."""
    settle(session)
    before = bare.received("/highlight")
    session.ask.phrases.value = phrase
    began = time.perf_counter()
    session.ask.ask_typed()
    if not session.context.nodes.highlighted:
        return []
    return [until(lambda: bare.received("/highlight") > before, began)]


def grid(session: "ClientSession") -> Sequence[Any]:
    """Directions of a grid over the image."""
    import numpy as np

    camera = session.view.viewpoint.camera(1e9)
    shares = (np.arange(CLICKS) + 0.5) / CLICKS
    xy = np.stack(np.meshgrid(shares * camera.width, shares * camera.height), -1).reshape(-1, 2)
    return camera.rays(xy)[1]


def click(session: "ClientSession", bare: Any, ray: Any) -> list[float]:
    """Seconds until the surface along a ray is named; empty if there is none."""
    from ovseg3d.viewer.pick import find_spot

    settle(session)
    if find_spot(session.context.shared, session.view.eye, ray) is None:
        return []
    before = session.view.selection
    began = time.perf_counter()
    bare.click(tuple((session.view.eye + ray).tolist()))
    return [until(lambda: session.view.selection is not before, began)]


def show_points(session: "ClientSession", bare: Any) -> list[float]:
    """Seconds until the client has the whole cloud."""
    began = time.perf_counter()
    session.layers.switches.points.value = True
    return [until(lambda: bare.received("/points"), began)]


# -- words ---------------------------------------------------------------------------------------------------------


def resident() -> int:
    """Resident bytes of this process, files included; 0 if unknown."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))
    except (OSError, StopIteration):
        return 0


def spread(seconds: Sequence[float]) -> str:
    """Median, and the worst where there are several."""
    if not seconds:
        return "-"
    worst = f" ({max(seconds):.2f})" if len(seconds) > 1 else ""
    return f"{statistics.median(seconds):.2f}{worst}"


def by(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


if __name__ == "__main__":
    tyro.cli(BenchmarkViewer).main()
