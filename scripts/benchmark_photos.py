"""Does speed or memory depend on the number of photos? 50 against 2,000 photos of 1920x1080, as a markdown table.

python scripts/benchmark_photos.py

The photos are enlarged views of scenes/playroom; the larger capture holds each many times, as a file of its own under
another name, with its pose moved by up to a centimetre. Both are trained for the same number of steps with
`ovseg3d train`, each in a process of its own; steps/s are taken after the first steps, whose samples are many.
"""

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
SIZE = (1920, 1080)
FIRST_STEP = 300


@dataclass(frozen=True)
class BenchmarkPhotos:
    """Measure, and print a markdown table."""

    counts: tuple[int, ...] = (50, 2000)
    """How many photos."""
    steps: int = 700
    """Steps of training."""

    def main(self) -> int:
        print("| photos | steps/s | memory, MiB | command |\n|---|---|---|---|")
        with tempfile.TemporaryDirectory() as folder:
            for count in self.counts:
                scene = write_capture(Path(folder) / f"photos_{count}", count)
                rate, memory = train(scene, Path(folder) / f"run_{count}", self.steps)
                command = f"ovseg3d train {scene.name} --steps {self.steps} --only field"
                print(f"| {count:,} | {rate:.1f} | {memory / 2**20:.0f} | `{command}` |", flush=True)
        return 0


def write_capture(folder: Path, count: int) -> Path:
    """A capture of `count` photos."""
    (folder / "images").mkdir(parents=True)
    original = json.loads((ROOT / "scenes/playroom/transforms.json").read_text())
    frames = [f for f in original["frames"] if f["file_path"] in set(original["train_filenames"])]
    generator = np.random.default_rng(0)
    written: dict[str, bytes] = {}
    copies = []
    for index in range(count):
        frame = frames[index % len(frames)]
        path = frame["file_path"]
        if path not in written:
            picture = Image.open(ROOT / "scenes/playroom" / path).crop((0, 22, 240, 157)).resize(SIZE, Image.BICUBIC)
            picture.save(folder / "first.jpg", quality=90)
            written[path] = (folder / "first.jpg").read_bytes()
        pose = np.array(frame["transform_matrix"])
        pose[:3, 3] += generator.uniform(-0.01, 0.01, 3)
        name = f"images/{index:05d}.jpg"
        (folder / name).write_bytes(written[path])
        copies.append({"file_path": name, "transform_matrix": pose.tolist()})
    (folder / "first.jpg").unlink()
    scale = SIZE[0] / original["w"]
    intrinsics = {"w": SIZE[0], "h": SIZE[1], "cx": SIZE[0] / 2, "cy": SIZE[1] / 2}
    intrinsics |= {"fl_x": original["fl_x"] * scale, "fl_y": original["fl_y"] * scale, "camera_model": "PINHOLE"}
    # Few held-out views: measuring them is not what is timed.
    names = [copy["file_path"] for copy in copies]
    lists = {"train_filenames": names[4:], "val_filenames": names[:4], "test_filenames": names[:4]}
    (folder / "transforms.json").write_text(json.dumps({**intrinsics, **lists, "frames": copies}))
    return folder


def train(scene: Path, run: Path, steps: int) -> tuple[float, float]:
    """Steps a second after the first ones, and peak memory in bytes."""
    command = [sys.executable, "-m", "ovseg3d", "train", str(scene), "--steps", str(steps), "--output-dir", str(run)]
    command += ["--only", "field"]
    subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    marks = [(line["step"], line["seconds"]) for line in lines if line.get("step", 0) >= FIRST_STEP]
    (first, began), (last, ended) = marks[0], marks[-1]
    return (last - first) / (ended - began), json.loads((run / "metrics.json").read_text())["peak_anonymous_bytes"]


if __name__ == "__main__":
    raise SystemExit(tyro.cli(BenchmarkPhotos).main())
