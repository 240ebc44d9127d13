"""The protocol of 3D-OVS on its data set: argmax over classes.txt, mean over views x classes, then over scenes.

    python -m scripts.benchmarks.reproduce_3dovs DATA --scenes bed bench room sofa lawn

DATA holds a folder for each scene: images/, poses_bounds.npy, segmentations/classes.txt and
segmentations/<NN>/<phrase>.png. The paper uses OpenAI's CLIP ViT-B/16 and DINO ViT-B/8, trains on all photos, and
measures at an eighth of the photos' size (504 x 378). Phrases are used as they stand in classes.txt.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from scripts.benchmarks.paper_runs import PaperRuns
from scripts.start import start


@dataclass(frozen=True)
class Reproduce3dOvs(PaperRuns):
    """Train the scenes of 3D-OVS's data set, and measure them by its protocol."""

    protocol: ClassVar[str] = "3d-ovs"
    shown: ClassVar[tuple[str, ...]] = ("miou", "accuracy", "miou_present")

    def is_scene(self, folder: Path) -> bool:
        return (folder / "segmentations" / "classes.txt").is_file()

    def labels(self, name: str) -> Path:
        return self.data / name / "segmentations"


if __name__ == "__main__":
    start(Reproduce3dOvs)
