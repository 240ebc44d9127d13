"""OpenDlign's zero-shot table (Mao et al., NeurIPS 2024) on ModelNet40, ScanObjectNN, OmniObject3D and Objaverse-LVIS.

    python -m scripts.benchmarks.reproduce_opendlign DATA
    python -m scripts.benchmarks.reproduce_opendlign DATA --weights tuned.safetensors --device cuda
    python -m scripts.benchmarks.reproduce_opendlign DATA --random-weights --limit 1    # time and memory alone

DATA holds a folder for each data set, in the layouts that `ovseg3d.datasets` reads: ModelNet40 (meshes or resampled
clouds), ScanObjectNN (with h5_files), OmniObject3D (with a folder for each class), Objaverse-LVIS (with
lvis-annotations.json). Those that are missing are left out. Without --weights only the frozen tower is measured, which
the paper has as its ablation without alignment. --weights takes the tuned copy's parameters by the names of
`AlignedTower.trained`; OpenDlign's own checkpoints have another layout and are not read. With --clip builtin, the
package's weights are used. Sentences are those of `depth_templates`, not the paper's. Figures are written after each
data set, with the seconds that the names and a shape took, and the peak memory.

--random-weights makes the architecture of --clip with random weights, and a tuned copy of its last stage: time and
memory do not depend on weights, and nothing is downloaded. Its scores mean nothing.
"""

import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import tyro
from rich.console import Console
from rich.table import Table

from ovseg3d.cli.console import format_bytes, get_console
from ovseg3d.cli.progress import Progress
from ovseg3d.datasets import ShapeProtocol, read_omniobject3d, shape_protocol
from ovseg3d.encoders.openclip import OpenClipEncoder
from ovseg3d.engine.memory import PeakMemory
from ovseg3d.errors import ConfigError
from ovseg3d.evaluate.metrics.naming import NamingScores
from ovseg3d.evaluate.naming import name_shapes
from ovseg3d.files import write_json
from ovseg3d.heads.naming import ShapeNamer, depth_templates
from ovseg3d.heads.naming.towers import AlignedTower
from ovseg3d.runs.devices import DeviceName, resolve_device
from scripts.start import start

PAPER = {
    "ModelNet40": ("82.6 / 96.2 / 98.4", "75.9"),
    "ScanObjectNN-OBJ_ONLY": ("59.5 / 76.8 / 83.7", "49.3"),
    "OmniObject3D": ("31.3 / 46.7 / 53.2", "-"),
    "Objaverse-LVIS": ("35.0 / 53.1 / 60.0", "-"),
}
"""OpenDlign with ViT-H-14: top-1 / 3 / 5, and top-1 without alignment (contour-aware views and depth sentences)."""


@dataclass(frozen=True)
class ReproduceOpenDlign:
    """Measure, print a table, and write everything as JSON."""

    data: Annotated[Path, tyro.conf.Positional]
    """The folder with the data sets' folders."""
    protocols: tuple[str, ...] = tuple(PAPER)
    """By name, of `ovseg3d.datasets.SHAPE_PROTOCOLS`."""
    output: Path = Path("outputs/papers/opendlign.json")
    clip: str = "ViT-H-14-quickgelu:dfn5b"
    """The encoder: a name of open_clip, or a folder."""
    weights: Path | None = None
    """Its tuned weights, .safetensors."""
    random_weights: bool = False
    """Measure time and memory with random weights."""
    projection: Literal["contour-aware", "ours", "PointCLIP V2"] = "contour-aware"
    omniobject3d_up: str = "z"
    """The axis that is up in OmniObject3D, which its release does not state."""
    limit: int | None = None
    """Measure so many shapes of each data set only, drawn at random; such figures are no reproduction."""
    device: DeviceName = "auto"

    def main(self) -> None:
        """Measure."""
        found = {name: shape_protocol(name) for name in self.protocols}
        present = [protocol for protocol in found.values() if (self.data / protocol.folder).is_dir()]
        if not present:
            folders = ", ".join(dict.fromkeys(protocol.folder for protocol in found.values()))
            raise ConfigError("None of the data sets is in this folder", where=self.data, fix=f"it needs {folders}")
        console = Console()
        for protocol in found.values():
            if protocol not in present:
                console.print(f"{protocol.name} is left out: there is no folder {protocol.folder}")
        namer = self._namer()
        figures: dict[str, Any] = {"clip": namer.encoder.id, "projection": self.projection, "data_sets": {}}
        for protocol in present:
            cost = Cost()
            scores, listed = self._measure(namer, protocol, cost)
            console.print(table(protocol, scores, listed))
            console.print(cost.sentence())
            own = {tower: one.as_dict() for tower, one in scores.items()}
            found = {"listed": listed, "published": protocol.shapes, "towers": own, "cost": vars(cost)}
            figures["data_sets"][protocol.name] = found
            write_json(self.output, figures)

    def _namer(self) -> ShapeNamer:
        device, templates = resolve_device(self.device), depth_templates()
        if not self.random_weights:
            return ShapeNamer(self.clip, weights=self.weights, templates=templates, device=device)
        if self.weights is not None:
            raise ConfigError("--weights have no place in a tower with random weights", fix="leave one out")
        namer = ShapeNamer(random_encoder(self.clip, torch.device(device)), templates=templates, device=device)
        namer.tower = AlignedTower(namer.encoder)
        return namer

    def _measure(self, namer: ShapeNamer, protocol: ShapeProtocol, cost: "Cost") -> tuple[dict[str, NamingScores], int]:
        """Scores by tower, and how many shapes the data set has here; `cost` is filled in."""
        folder = self.data / protocol.folder
        if protocol.read is read_omniobject3d:
            protocol = replace(protocol, read=partial(read_omniobject3d, up=self.omniobject3d_up))
        shapes = protocol.read(folder)
        chosen = np.sort(np.random.default_rng(0).permutation(len(shapes))[: self.limit])
        classes = protocol.class_list(shapes, folder)
        with Progress(get_console(True)) as progress:
            own = [shapes[k] for k in chosen]
            with watched(cost, "names"):
                namer.embed_names([protocol.phrase(label) for label in classes])
            with watched(cost, "shapes", len(own)):
                scores = name_shapes(namer, protocol, own, classes, projection=self.projection, report=progress)
        return scores, len(shapes)


@dataclass
class Cost:
    """What a data set took, in seconds of the wall and of all cores."""

    names_seconds: float = 0.0
    """Sentences of all classes, once."""
    names_cpu_seconds: float = 0.0
    shapes_seconds: float = 0.0
    """Of each shape: reading, views, towers."""
    shapes_cpu_seconds: float = 0.0
    peak_bytes: int = 0
    """Of the process, weights included; what is on a GPU is not counted."""

    def sentence(self) -> str:
        """One line about it."""
        return (
            f"names: {self.names_seconds:.1f} s (CPU {self.names_cpu_seconds:.1f} s); "
            f"each shape: {self.shapes_seconds:.2f} s (CPU {self.shapes_cpu_seconds:.2f} s); "
            f"peak memory {format_bytes(self.peak_bytes)}"
        )


@contextmanager
def watched(cost: Cost, what: Literal["names", "shapes"], count: int = 1) -> Generator[None, None, None]:
    """Measure what happens inside, and divide it by `count`."""
    wall, cpu = time.perf_counter(), time.process_time()
    with PeakMemory() as memory:
        yield
    setattr(cost, f"{what}_seconds", (time.perf_counter() - wall) / max(count, 1))
    setattr(cost, f"{what}_cpu_seconds", (time.process_time() - cpu) / max(count, 1))
    cost.peak_bytes = max(cost.peak_bytes, memory.peak)


def random_encoder(clip: str, device: torch.device) -> OpenClipEncoder:
    """An architecture of open_clip with random weights. Raises ConfigError: there is no such architecture."""
    import open_clip

    architecture = clip.partition(":")[0]
    if architecture not in open_clip.list_models():
        raise ConfigError(f"open_clip knows no architecture {architecture!r}", fix="--clip ViT-H-14-quickgelu")
    model = open_clip.create_model(architecture, load_weights=False)
    config: Any = open_clip.get_model_config(architecture)
    tokenizer = open_clip.get_tokenizer(architecture)
    return OpenClipEncoder(model, tokenizer, name=f"random {architecture}", dim=config["embed_dim"], device=device)


def table(protocol: ShapeProtocol, scores: dict[str, NamingScores], listed: int) -> Table:
    """Towers as rows, in percent, and what the paper has."""
    one = next(iter(scores.values()))
    others = "" if one.shapes == protocol.shapes else f" (published figures are about {protocol.shapes:,})"
    caption = f"{one.shapes:,} of {listed:,} shapes{others}, {one.classes:,} classes. {protocol.caution}"
    made = Table(title=protocol.name, caption=caption)
    made.add_column("tower", no_wrap=True)
    for heading in ("top-1", "top-3 / 5", "mean over classes"):
        made.add_column(heading, justify="right")
    for tower, own in scores.items():
        low, high = own.top1_interval
        made.add_row(
            tower,
            f"{100 * own.top1:.1f} ({100 * low:.1f}-{100 * high:.1f})",
            f"{100 * own.top3:.1f} / {100 * own.top5:.1f}",
            f"{100 * own.class_top1:.1f}",
        )
    if protocol.name in PAPER:
        aligned, untuned = PAPER[protocol.name]
        top1, _, rest = aligned.partition(" / ")
        made.add_section()
        made.add_row("paper, half-half", top1, rest, "-")
        made.add_row("paper, frozen", untuned, "-", "-")
    return made


if __name__ == "__main__":
    start(ReproduceOpenDlign)
