"""What a GPU does with a room, as one markdown table: field, features, semantics, queries, rendering, and a peer.

    python -m scripts.benchmarks.gpu                        # at most eight minutes on a GPU
    python -m scripts.benchmarks.gpu --photos 50            # the room of the goal
    python -m scripts.benchmarks.gpu --device cpu --tiny    # the same rows of a tiny room: does it run at all?

Everything happens in one process, in this order: the photos' features (built-in encoders, then random weights of
real sizes, whose costs do not depend on the weights), the field, its evaluation, its semantics, queries, images, and
the field again on tinycudann and nerfacc where they are installed. Seconds are wall time with all set-up; the first row
of a kind also compiles kernels. GPU memory is the most that torch had reserved in a row. When the time is over, what
is running ends with a checkpoint and the rows that are left say so.
"""

import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro

from ovseg3d.engine.memory import PeakMemory
from ovseg3d.errors import ConfigError, DeviceError, Ovseg3dError
from ovseg3d.files import read_json, write_json
from ovseg3d.pipeline import train_scene
from ovseg3d.runs.config import Config
from ovseg3d.runs.folder import RunFolder
from ovseg3d.runs.settings import make_config
from ovseg3d.synth import Views, synthesise
from scripts import ROOT
from scripts.benchmarks.benchmark import describe_machine
from scripts.benchmarks.benchmark_query import new_phrases
from scripts.benchmarks.many_rooms import SMALL_FIELD
from scripts.start import start

GOALS = "Goals on an H100: all stages of a room of 50 photos in 60 s, a query in 5 ms, 4 GiB of GPU memory."
PEER_STEPS = 1000
"""Steps of the field and of its peer that are compared."""
PLAYROOM = ROOT / "scenes" / "playroom"
SIZES = ((640, 480), (1600, 1200))
"""Pixels of the rendered images."""


class _OutOfTime(Exception):
    """The deadline has passed."""


@dataclass(frozen=True)
class Gpu:
    """Measure, and print a markdown table. The exit code is 1 if a row failed."""

    scene: Annotated[Path, tyro.conf.Positional] = PLAYROOM
    """A capture."""
    device: str = "cuda"
    """cuda or cpu."""
    tiny: bool = False
    """A small field and few steps, by default of a made-up room of 8 small photos: figures mean nothing then."""
    photos: int | None = None
    """Use so many photos, evenly chosen; by default all. The scene needs a transforms.json."""
    seconds: float = 480.0
    """Time for everything."""
    questions: int = 50
    """Phrases that are asked."""
    output: Path | None = None
    """Also write the table to this file."""

    def main(self) -> int:
        """Measure every row. Raises ConfigError: there is no such GPU."""
        if self.device not in ("cuda", "cpu"):
            raise ConfigError(f"There is no --device {self.device!r}", fix="--device cuda")
        if self.device == "cuda" and not torch.cuda.is_available():
            raise ConfigError(
                "There is no GPU that this torch can use (ovseg3d doctor says why)",
                fix="--device cpu --tiny runs the same rows on a tiny room, to see that they work",
            )
        if self.seconds <= 0 or self.questions < 1:
            raise ConfigError("--seconds and --questions must be above 0", fix="leave them out")
        head = ["| what | seconds | GPU memory | outcome |", "| --- | --- | --- | --- |"]
        lines, failed = [describe_machine(), "", *head], 0
        for line in lines:
            print(line)
        stop = threading.Event()
        timer = threading.Timer(self.seconds, stop.set)
        timer.daemon = True
        timer.start()
        with tempfile.TemporaryDirectory(prefix="ovseg3d-gpu-") as folder:
            for name, work in self._rows(Path(folder), stop):
                cells, bad = _measured(work, stop)
                failed += bad
                lines.append(f"| {name} | {' | '.join(cells)} |")
                print(lines[-1], flush=True)
        timer.cancel()
        lines += ["", GOALS]
        print("\n" + GOALS)
        if self.output is not None:
            self.output.write_text("\n".join(lines) + "\n")
        return int(failed > 0)

    def _rows(self, folder: Path, stop: threading.Event) -> Iterator[tuple[str, Callable[[], str]]]:
        """Names of rows, and what to do for each, which returns its outcome."""
        room = _Room(self, folder, stop)
        yield "photos' features, built-in encoders", room.features
        if not self.tiny:
            yield "photos' features, ViT-B/16 and ViT-S/8", room.real_features
        yield "field", room.field
        yield "held-out views", room.evaluate
        yield "semantics", room.semantics
        yield "first query, with loading", room.first_query
        yield f"median of {self.questions} queries", room.queries
        for width, height in ((96, 72),) if self.tiny else SIZES:
            yield f"image of {width}x{height}", partial(room.image, width, height)
        yield f"{room.peer_steps} steps, warp", partial(room.steps, "warp")
        yield f"{room.peer_steps} steps, peer: tinycudann and nerfacc", partial(room.steps, "tcnn")


class _Room:
    """The room, its run, and the rows about it."""

    def __init__(self, asked: Gpu, folder: Path, stop: threading.Event) -> None:
        self._asked, self._folder, self._stop = asked, folder, stop
        flags: dict[str, Any] = {
            "train": {"device": asked.device},
            "encode": {"clip": "builtin", "dino": "builtin", "cache_dir": str(folder / "cache")},
        }
        if asked.tiny:
            flags |= {"field": SMALL_FIELD, "train": {"device": asked.device, "steps": 120}}
        self._config = make_config("cuda" if asked.device == "cuda" else "cpu", flags=flags)
        self._run: RunFolder | None = None
        self._engine: Any = None
        self.peer_steps = 20 if asked.tiny else PEER_STEPS
        self._scene = asked.scene
        if asked.tiny and asked.scene == PLAYROOM:
            self._scene = folder / "room"
            synthesise(self._scene, seed=0, views=Views(6, 2, 64, 48, "none"))
        if asked.photos is not None:
            self._scene = with_fewer_photos(self._scene, folder / f"{asked.photos}_photos", asked.photos)

    def _train(self, only: str, config: Config | None = None, folder: str = "run") -> RunFolder:
        settings = replace(config or self._config, only=only)
        earlier = self._run if config is None else None
        run = train_scene(
            self._scene,
            settings,
            output_dir=self._folder / folder if earlier is None else None,
            resume=earlier,
            stop=self._stop,
        )
        if run.status()["status"] != "done":
            raise _OutOfTime
        return run

    def _trained(self) -> RunFolder:
        if self._run is None or "surface_points" not in self._run.metrics():
            raise ConfigError("The row needs one that failed above")
        return self._run

    def features(self) -> str:
        self._run = self._train("features")
        return self._photos(self._run)

    def real_features(self) -> str:
        from scripts.benchmarks.benchmark_stages import random_files

        clip, dino = random_files("ViT-B-16:laion2b_s34b_b88k", "facebook/dino-vits8", self._folder)
        encode = replace(self._config.encode, clip=clip, dino=dino, cache_dir=str(self._folder / "real"))
        return self._photos(self._train("features", replace(self._config, encode=encode), "real_run"))

    def _photos(self, run: RunFolder) -> str:
        found = run.metrics()
        rate = found["features_photos"] / max(found["features_seconds"], 1e-9)
        return f"{found['features_photos']} photos, {found['features_mode']}, {rate:.1f} photos/s"

    def field(self) -> str:
        self._run = self._train("field")
        found = self._run.metrics()
        return f"{found['steps']:,} steps in {found['train_seconds']:.1f} s of training"

    def evaluate(self) -> str:
        self._run = self._train("evaluate")
        found = self._run.metrics()
        return f"PSNR {found['psnr']:.2f} dB, SSIM {found['ssim']:.3f}" if "psnr" in found else "no held-out views"

    def semantics(self) -> str:
        self._run = self._train("semantics")
        return f"{self._run.metrics()['surface_points']:,} surface points"

    def first_query(self) -> str:
        from ovseg3d.query.engine import QueryEngine

        run = self._trained()
        self._engine = QueryEngine(run, run.load_scene(), self._asked.device)  # type: ignore[arg-type]
        (answer,) = self._engine.ask(["a red chair"])
        return f'"a red chair" is {"" if answer.present else "not "}there'

    def queries(self) -> str:
        self._trained()
        phrases, spent = new_phrases(), []
        for _ in range(self._asked.questions):
            began = time.perf_counter()
            self._engine.ask([next(phrases)])
            spent.append(time.perf_counter() - began)
        return f"{1e3 * sorted(spent)[len(spent) // 2]:.2f} ms each"

    def image(self, width: int, height: int) -> str:
        from ovseg3d.runs.fields import restore

        run = self._trained()
        scene = run.load_scene()
        renderer, camera = restore(run, scene, self._asked.device), scene.frames[0].camera  # type: ignore[arg-type]
        camera = camera.scaled(width, height)
        renderer.render(camera)
        spent = []
        for _ in range(1 if self._asked.tiny else 5):
            began = time.perf_counter()
            renderer.render(camera)
            spent.append(time.perf_counter() - began)
        return f"{1e3 * min(spent):.1f} ms, the best of {len(spent)}"

    def steps(self, backend: str) -> str:
        from ovseg3d.runs.fields import make_stage
        from ovseg3d.runs.folder import open_scene

        train = replace(self._config.train, backend=backend, steps=self.peer_steps)
        config = replace(self._config, train=train)
        stage = make_stage(open_scene(self._scene, config), config)
        try:
            with stage.workers.open():
                stage.step(0, 0.0)
                began = time.perf_counter()
                for step in range(1, self.peer_steps):
                    if self._stop.is_set():
                        raise _OutOfTime
                    stage.step(step, step / self.peer_steps)
                figures = stage.measure()
                spent = time.perf_counter() - began
        finally:
            stage.close()
        rate = self.peer_steps / spent
        return f"{rate:.1f} steps/s, {figures['rays_per_step'] * rate / 1e6:.2f} M rays/s"


def with_fewer_photos(scene: Path, folder: Path, count: int) -> Path:
    """A capture of `count` photos that are evenly chosen of a scene's frames; all files are copied.

    Raises:
        ConfigError: there are not so many, or no transforms.json.
    """
    path = scene / "transforms.json"
    if not path.is_file():
        raise ConfigError("--photos needs a scene with a transforms.json", where=scene, fix="leave it out")
    stated = read_json(path, ConfigError)
    frames = stated["frames"]
    if not 1 < count <= len(frames):
        raise ConfigError(f"The scene has {len(frames)} photos", where="--photos", fix=f"give 2 to {len(frames)}")
    stated["frames"] = [frames[number * len(frames) // count] for number in range(count)]
    names = {frame["file_path"] for frame in stated["frames"]}
    for key in ("train_filenames", "val_filenames", "test_filenames"):
        if key in stated:
            stated[key] = [name for name in stated[key] if name in names]
    shutil.copytree(scene, folder)
    write_json(folder / path.name, stated)
    return folder


def _measured(work: Callable[[], str], stop: threading.Event) -> tuple[list[str], bool]:
    """Seconds, GPU memory and outcome of a row, and whether it failed."""
    if stop.is_set():
        return ["", "", "not measured: out of time"], False
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    began, failed = time.monotonic(), False
    try:
        with PeakMemory():
            outcome = work()
    except _OutOfTime:
        outcome = "ended: out of time"
    except Ovseg3dError as error:
        outcome, failed = f"not measured: {error.what}", not isinstance(error, DeviceError)
    except Exception as error:  # the other rows may succeed
        outcome, failed = f"failed: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}", True
    if cuda:
        torch.cuda.synchronize()
    memory = f"{torch.cuda.max_memory_reserved() / 2**30:.2f} GiB" if cuda else "-"
    return [f"{time.monotonic() - began:.1f}", memory, outcome], failed


if __name__ == "__main__":
    start(Gpu)
