"""Cost and quality of each way from a photo to features, as a markdown table.

python scripts/compare_features.py scenes/playroom scenes/desk
python scripts/compare_features.py my_room --clip ViT-B-16:laion2b_s34b_b88k --dino facebook/dino-vits8 --views 4

Each pixel of held-out photos gets the phrase of the capture's list that its vector is nearest to; the photo alone
decides, there is no 3D. mIoU and accuracy are protocol `index`, a mean over the captures. CPU seconds are those of all
threads, for CLIP and what it needs of DINO (regions that DINO finds, not its own features beside them); kilobytes are
what CLIP's features of a photo take in the cache.
"""

import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

import numpy as np  # noqa: E402
import tyro  # noqa: E402
from start import start  # noqa: E402

from ovseg3d.encoders import load_clip, load_dino  # noqa: E402
from ovseg3d.evaluate.measure import classes_of, measure_index  # noqa: E402
from ovseg3d.features.extract import FeatureSettings, extract_features  # noqa: E402
from ovseg3d.features.maps import PhotoFeatures, to_arrays  # noqa: E402
from ovseg3d.query.relevancy import label  # noqa: E402
from ovseg3d.scene import Scene, load_scene  # noqa: E402
from ovseg3d.scene.images import load_photo  # noqa: E402

COARSE = 64
"""Regions in the rows of crops, all of which get one."""
FORMS: dict[str, tuple[str, FeatureSettings]] = {
    "dense": ("`dense`", FeatureSettings(mode="dense")),
    "superpixels": ("`regions` of superpixels", FeatureSettings(mode="regions", segments="superpixels")),
    "few": (f"... at most {COARSE}", FeatureSettings(mode="regions", segments="superpixels", regions=COARSE)),
    "crops": (
        "... and a crop of each",
        FeatureSettings(mode="regions", segments="superpixels", regions=COARSE, crops=COARSE),
    ),
    "dino": ("`regions` of DINO (the default)", FeatureSettings(mode="regions")),
    "dino-few": (f"... at most {COARSE}", FeatureSettings(mode="regions", regions=COARSE)),
    "lerf": ("`pyramid`, LERF's crops", FeatureSettings(mode="pyramid", pyramid="lerf")),
    "3d-ovs": ("`pyramid`, 3D-OVS's crops", FeatureSettings(mode="pyramid", pyramid="3d-ovs")),
}
HEAD = "| features | mIoU | accuracy | CPU s per photo | kB per photo |\n| --- | --- | --- | --- | --- |"


@dataclass(frozen=True)
class CompareFeatures:
    """Measure each form on held-out photos, and print a table."""

    scenes: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Captures with label images."""
    forms: str = ",".join(FORMS)
    """Which rows, with commas."""
    clip: str = "builtin"
    """As --clip of `ovseg3d train`."""
    dino: str = "builtin"
    """As --dino; "none": without its rows."""
    views: int = 8
    """Held-out photos of each capture, spread evenly."""
    device: str = "cpu"
    """Where to compute."""

    def main(self) -> None:
        """Print row after row, as they are done."""
        clip = load_clip(self.clip, self.device)
        dino = None if self.dino == "none" else load_dino(self.dino, self.device)
        scenes = [load_scene(path) for path in self.scenes]
        print(HEAD, flush=True)
        for form in self.forms.split(","):
            name, settings = FORMS[form]
            by_dino = settings.mode == "regions" and settings.segments == "dino"
            if by_dino and dino is None:
                continue
            found = [self._measure(scene, clip, dino if by_dino else None, settings) for scene in scenes]
            miou, accuracy, seconds, size = np.mean(found, axis=0)
            print(f"| {name} | {miou:.1%} | {accuracy:.1%} | {seconds:.2f} | {size / 1000:.0f} |", flush=True)

    def _measure(
        self, scene: Scene, clip: Any, dino: Any, settings: FeatureSettings
    ) -> tuple[float, float, float, float]:
        """mIoU, accuracy, CPU seconds and bytes of a photo."""
        text = clip.encode_text(list(classes_of(scene))).cpu().numpy()
        chosen = [scene.test[i] for i in np.unique(np.linspace(0, len(scene.test) - 1, self.views).round().astype(int))]
        frames = {scene.frames[view].name: scene.frames[view] for view in chosen}
        seconds = size = 0.0

        def labeller(view: str) -> np.ndarray:
            nonlocal seconds, size
            photo = np.ascontiguousarray(load_photo(frames[view])[..., :3])
            began = time.process_time()
            found = extract_features(photo, clip, dino, settings, device=self.device)
            seconds += time.process_time() - began
            size += sum(array.nbytes for array in to_arrays(replace(found, dino=None)).values())
            return _labels(found, text, photo.shape[:2])

        scores = measure_index(scene, labeller, chosen)
        return scores.miou, scores.accuracy, seconds / len(chosen), size / len(chosen)


def _labels(found: PhotoFeatures, text: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The nearest phrase of each pixel, from 1."""
    height, width = size
    across, down = np.meshgrid((np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height)
    places = np.stack([across, down], -1).reshape(-1, 2)
    return np.concatenate([label(found.clip.at(part) @ text.T) for part in np.array_split(places, 8)]).reshape(size)


if __name__ == "__main__":
    start(CompareFeatures)
