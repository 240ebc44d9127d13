"""Names of objects in rooms: from their geometry alone, from photo crops, and from both.

    python -m scripts.benchmarks.naming_rooms --seeds 8800-8807

Procedural rooms in styles, colours and lights that no training sees, in twelve photos and the noisy cloud of their
depth (`pose_rooms.see_room`), with true instances: the names alone are measured. Geometry: the tuned tower on views of
the object's points, some of which no photo sees. Crops: CLIP's own tower on the squares around the object in its
largest photos. Both: the mean of the two unit vectors' cosines, those of geometry also less the names' priors. 54 kinds
to choose from; intervals are 95 % of a bootstrap over objects.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ovseg3d.errors import ShapeError
from ovseg3d.evaluate.metrics.naming import bootstrap
from ovseg3d.files import write_json
from ovseg3d.heads.naming import ShapeNamer
from ovseg3d.synth.kinds import KINDS
from scripts.benchmarks.pose_rooms import CROPS, see_room
from scripts.start import start

WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Of the geometry in the mean; 0.5 is "both"."""


@dataclass(frozen=True)
class NamingRooms:
    """Measure; see the module's docstring."""

    seeds: str = "8800-8807"
    """First and last seed of the rooms."""
    output: Path = Path("outputs/naming_rooms.json")

    def main(self) -> None:
        """Measure, print a markdown table, and write it as JSON."""
        torch.set_num_threads(1)
        first, _, last = self.seeds.partition("-")
        namer = ShapeNamer()
        names = namer.embed_names(tuple(KINDS))
        cosines, labels = [], []
        for seed in range(int(first), int(last or first) + 1):
            for kind, vectors in objects_of(namer, seed):
                cosines.append(vectors @ names.T)
                labels.append(list(KINDS).index(kind))
            print(f"room {seed}: {len(labels)} objects so far", flush=True)
        scores, label = np.stack(cosines), np.array(labels)
        less = namer.log_prior(names) / namer.encoder.logit_scale
        rows = {}
        for weight in WEIGHTS:
            for word, prior in (("", 0.0), (", less priors", less)):
                mean = weight * (scores[:, 0] - prior) + (1 - weight) * scores[:, 1]
                rank = (mean > mean[np.arange(len(label)), label][:, None]).sum(1)
                rows[f"{weight:g}{word}"] = {"top1": bootstrap(rank < 1), "top5": bootstrap(rank < 5)}
        write_json(self.output, {"seeds": self.seeds, "objects": len(label), "geometry's weight": rows})
        print(
            f"{len(label)} objects of {len(set(labels))} kinds\n\n| geometry's weight | top-1 | top-5 |\n|---|---|---|"
        )
        for weight, row in rows.items():
            shown = " | ".join(f"{100 * mean:.1f} % ({100 * a:.0f} to {100 * b:.0f})" for mean, a, b in row.values())
            print(f"| {weight} | {shown} |")


def objects_of(namer: ShapeNamer, seed: int) -> list[tuple[str, np.ndarray]]:
    """Kind, and unit vectors (2, dim) of geometry and of crops, of each object that photos and cloud show."""
    room, found = see_room(seed, namer.encoder.preprocess.size[0]), []
    for own, crops in room.crops.items():
        try:
            shape = namer.embed(room.xyz[room.ids == own].astype(float), "z")
        except ShapeError:  # too few points
            continue
        seen = torch.from_numpy(np.stack([crop for _, crop, _ in crops[:CROPS]])).permute(0, 3, 1, 2).float() / 255
        with torch.no_grad():
            mean = namer.embed_views(seen, 0.0).mean(0).numpy()
        found.append((room.objects[own - 1].category, np.stack([shape, mean / np.linalg.norm(mean)])))
    return found


if __name__ == "__main__":
    start(NamingRooms)
