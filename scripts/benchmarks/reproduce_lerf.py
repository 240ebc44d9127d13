"""The protocol of LERF's scenes with LangSplat's labels: localisation and mIoU of single phrases, mean over scenes.

    python -m scripts.benchmarks.reproduce_lerf DATA --scenes ramen teatime waldo_kitchen figurines

DATA holds a folder for each scene (images/ and a COLMAP model) and label/<scene>/<frame>.json. LERF uses OpenCLIP's
ViT-B/16 of laion2b and DINO ViT-S/8; the labelled frames are among those trained on. Relevancy is measured at the size
of the photos, since the protocol's windows are in pixels; lerf.json names them, and how many frames were resized.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from scripts.benchmarks.paper_runs import PaperRuns
from scripts.start import start


@dataclass(frozen=True)
class ReproduceLerf(PaperRuns):
    """Train LERF's scenes, and measure them by LangSplat's labels and protocol."""

    protocol: ClassVar[str] = "lerf"
    shown: ClassVar[tuple[str, ...]] = ("localisation", "miou")

    clip: str = "ViT-B-16:laion2b_s34b_b88k"
    dino: str = "facebook/dino-vits8"
    max_side: int = 1000

    def is_scene(self, folder: Path) -> bool:
        return self.labels(folder.name).is_dir() and folder.name != "label"

    def labels(self, name: str) -> Path:
        return self.data / "label" / name


if __name__ == "__main__":
    start(ReproduceLerf)
