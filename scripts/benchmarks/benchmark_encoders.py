"""Seconds and memory of 2D encoders on a capture's photos, as a markdown table.

python -m scripts.benchmarks.benchmark_encoders FOX --rows stage      # as `ovseg3d train --only features`
python -m scripts.benchmarks.benchmark_encoders FOX                   # its 50 photos; needs the weights
python -m scripts.benchmarks.benchmark_encoders FOX --random-weights  # time and memory do not depend on them
python -m scripts.benchmarks.benchmark_encoders FOX --random-weights --photos 1 --rows dino-full

The row `stage` is the pipeline's stage with its usual settings, from an empty cache: choosing and loading the encoders,
fitting DINO's projection, regions, and writing the cache; and then the time of a second start. With --random-weights,
making the models is not included, and there is no second start. Each other row is one way of encoding: CLIP's patches
in one pass at the photo's size, CLIP on crops, and DINO at half of the photo's size and at its full size. Each row runs
in its own process, one photo after another. These rows include reading and resizing photos, but not loading the model.
CPU seconds are summed over threads: with N free cores, a photo takes about an N-th of them. Memory is the peak of the
process's anonymous memory, which includes the weights. A row stops after --max-seconds and says so; its total is then
extrapolated.
"""

import multiprocessing
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import tyro

ROWS = ("stage", "clip-dense", "clip-crops", "dino-half", "dino-full")
COLUMNS = (
    "what",
    "encoder",
    "photos",
    "encoder sees",
    "s per photo",
    "CPU s per photo",
    "all photos, s",
    "memory, MiB",
)
CROPS = 32


@dataclass(frozen=True)
class BenchmarkEncoders:
    """Measure, and print a markdown table."""

    scene: tyro.conf.Positional[Path]
    """The capture."""
    clip: str = "ViT-B-16:laion2b_s34b_b88k"
    """As --clip of `ovseg3d train`."""
    dino: str = "facebook/dino-vits8"
    """As --dino of `ovseg3d train`."""
    rows: str = ",".join(ROWS)
    """Names of rows, separated by commas."""
    photos: int | None = None
    """Number of photos; by default all."""
    random_weights: bool = False
    """Make the models with random weights."""
    threads: int | None = None
    """Threads of torch; by default one per core."""
    device: str = "cpu"
    """Where to compute."""
    max_seconds: float = 1200.0
    """Stop a row after this many seconds."""

    def main(self) -> int:
        print("| " + " | ".join(COLUMNS) + " |\n|" + "---|" * len(COLUMNS), flush=True)
        for row in self.rows.split(","):
            if row not in ROWS:
                raise SystemExit(f"There is no row {row!r}; there are: {', '.join(ROWS)}")
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
                print("| " + " | ".join(pool.submit(measure, self, row).result()) + " |", flush=True)
        return 0


def measure(options: BenchmarkEncoders, row: str) -> list[str]:
    """Encode the photos in one way; returns the cells of a row."""
    import torch

    from ovseg3d.engine.memory import PeakMemory
    from ovseg3d.scene import load_photo, load_scene

    if options.threads:
        torch.set_num_threads(options.threads)
    scene = load_scene(options.scene)
    frames = scene.frames[: options.photos]
    if row == "stage":
        # The projection is fitted to training photos; here all photos are training photos.
        return measure_stage(options, replace(scene, frames=frames, train=tuple(range(len(frames))), test=()))
    with PeakMemory() as memory, torch.inference_mode():
        encoder = make(options, row)
        start, cpu, done, seen = time.monotonic(), time.process_time(), 0, ""
        for frame in frames:
            photo = torch.from_numpy(load_photo(frame)[..., :3]).to(options.device).permute(2, 0, 1)[None].float() / 255
            seen = encode(encoder, photo, row)
            if torch.device(options.device).type == "cuda":
                torch.cuda.synchronize()
            done += 1
            if time.monotonic() - start > options.max_seconds:
                break
        each, cpu_each = (time.monotonic() - start) / done, (time.process_time() - cpu) / done
    return cells(options, row, encoder.id, len(frames), done, seen, each, cpu_each, memory.peak)


def cells(
    options: BenchmarkEncoders,
    row: str,
    name: str,
    photos: int,
    done: int,
    seen: str,
    each: float,
    cpu_each: float,
    peak: int,
) -> list[str]:
    """A row of the table; an extrapolated total is in brackets."""
    total = f"{each * photos:.0f}" if done == photos else f"({each * photos:.0f}, of {done} timed)"
    name = f"{name}, random weights" if options.random_weights else name
    return [row, name, str(photos), seen, f"{each:.2f}", f"{cpu_each:.2f}", total, f"{peak / 2**20:.0f}"]


def measure_stage(options: BenchmarkEncoders, scene: Any) -> list[str]:
    """Run the pipeline's stage on an empty cache; returns the cells of its row."""
    from ovseg3d.engine.memory import PeakMemory
    from ovseg3d.features.encode import encode_scene, load_encoders
    from ovseg3d.runs.config import EncodeConfig

    stop, again = threading.Event(), "not measured"
    # Complete photos only.
    done = [0]
    with TemporaryDirectory() as folder, PeakMemory() as memory:
        settings = EncodeConfig(clip=options.clip, dino=options.dino, cache_dir=folder)
        encoders = random_encoders(options, folder) if options.random_weights else None
        timer = threading.Timer(options.max_seconds, stop.set)
        timer.daemon = True
        timer.start()
        start, cpu = time.monotonic(), time.process_time()
        encoders = encoders or load_encoders(scene, settings, options.device)
        found = encode_scene(
            scene,
            report=lambda event: done.append(max(done[-1], event.step)),
            device=options.device,
            stop=stop,
            encoders=encoders,
        )
        seconds, cpu_seconds = time.monotonic() - start, time.process_time() - cpu
        timer.cancel()
        if found is not None and not options.random_weights:
            start = time.monotonic()
            encode_scene(scene, settings, options.device)
            again = f"{time.monotonic() - start:.2f} s"
    count = max(1, *done)
    clip, dino, resolved = encoders.clip, encoders.dino, encoders.settings
    seen = f"{resolved.mode}, CLIP side {resolved.clip_side}, DINO side {resolved.dino_side}; second start: {again}"
    name = " + ".join([clip.id, *([dino.id] if dino is not None else [])])
    return cells(
        options,
        "stage",
        name,
        len(scene.frames),
        max(done),
        seen,
        seconds / count,
        cpu_seconds / count,
        memory.peak,
    )


def random_encoders(options: BenchmarkEncoders, folder: str) -> Any:
    """Both encoders with random weights, for the pipeline's stage with its usual settings."""
    from ovseg3d.features.cache import FeatureCache
    from ovseg3d.features.encode import Encoders
    from ovseg3d.features.extract import FeatureSettings

    clip = make(options, "clip-dense")
    dino = None if options.dino == "none" else make(options, "dino-half")
    settings = FeatureSettings().resolved(clip, options.device)
    return Encoders(clip, dino, None, settings, FeatureCache.at(folder), options.device)


def encode(encoder: Any, photo: Any, row: str) -> str:
    """Encode one photo; returns a description of the encoder's input."""
    import torch
    import torch.nn.functional as F

    height, width = photo.shape[-2:]
    if row == "clip-crops":
        # Crops of half the photo's sides at places all over it; each is resized by the encoder.
        side = min(height, width) // 2
        places = [((height - side) * i // CROPS, (width - side) * (i * 7 % CROPS) // CROPS) for i in range(CROPS)]
        encoder.encode_image(torch.cat([photo[..., top : top + side, left : left + side] for top, left in places]))
        return f"{CROPS} crops"
    scale = 0.5 if row == "dino-half" else 1.0
    sides = [max(1, round(side * scale / encoder.patch)) * encoder.patch for side in (height, width)]
    encoder.encode_dense(F.interpolate(photo, size=sides, mode="bilinear", antialias=True))
    return f"{sides[1]} x {sides[0]}"


def make(options: BenchmarkEncoders, row: str) -> Any:
    """The encoder of a row."""
    import torch

    from ovseg3d.encoders import Preprocess, load_clip, load_dino

    device = torch.device(options.device)
    if not options.random_weights:
        return (load_clip if row.startswith("clip") else load_dino)(
            options.clip if row.startswith("clip") else options.dino, device
        )
    if row.startswith("clip"):
        import open_clip

        from ovseg3d.encoders.openclip import OpenClipEncoder

        architecture = options.clip.partition(":")[0]
        model = open_clip.create_model(architecture)
        dim = open_clip.get_model_config(architecture)["embed_dim"]
        return OpenClipEncoder(model, open_clip.SimpleTokenizer(), name=architecture, dim=dim, device=device)
    from ovseg3d.encoders.dino import TransformersEncoder

    preprocess = Preprocess(size=(224, 224), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    return TransformersEncoder(architecture_of(options.dino), name=options.dino, preprocess=preprocess, device=device)


def architecture_of(name: str) -> Any:
    """A model with random weights and the sizes of a published one."""
    import transformers as t

    sizes = {"s": (384, 6, 12), "b": (768, 12, 12), "l": (1024, 16, 24)}
    short = name.partition("/")[2]
    kind, _, rest = short.partition("-")
    letter = rest.removeprefix("vit").removeprefix("with-registers-")[:1]
    if kind not in ("dino", "dinov2") or letter not in sizes:
        raise SystemExit(f"--random-weights knows facebook/dino-vit... and facebook/dinov2-..., not {name}")
    width, heads, layers = sizes[letter]
    common = {"hidden_size": width, "num_attention_heads": heads, "num_hidden_layers": layers}
    if kind == "dino":
        patch = int(rest[len("vits") :])
        return t.ViTModel(t.ViTConfig(patch_size=patch, image_size=224, intermediate_size=4 * width, **common))
    common |= {"patch_size": 14, "image_size": 518}
    if "with-registers" in short:
        return t.Dinov2WithRegistersModel(t.Dinov2WithRegistersConfig(num_register_tokens=4, **common))
    return t.Dinov2Model(t.Dinov2Config(**common))


if __name__ == "__main__":
    raise SystemExit(tyro.cli(BenchmarkEncoders).main())
