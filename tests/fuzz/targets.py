"""What is fed with damaged files: every reader of the package, through its public face.

A target has a folder that `make` writes once, names of the files that matter most, and `use`, which reads the folder
as a user's command would. `use` may raise an `Ovseg3dError`, and nothing else.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ovseg3d.errors import Ovseg3dError


@dataclass(frozen=True)
class Target:
    """One kind of input."""

    name: str
    make: Callable[[Path], object]
    """Write what is damaged later into a folder that does not exist yet."""
    use: Callable[[Path, np.random.Generator], object]
    """Read it. Raises Ovseg3dError, where it is refused."""
    likely: tuple[str, ...] = ()
    """Ends of names of the files that matter most."""
    share: int = 1
    """How many cases of a round it gets."""
    damaged: bool = True
    """Whether its files are damaged; else `use` itself writes what is wrong."""


# Captures


def _use_scene(folder: Path, rng: np.random.Generator) -> None:
    from ovseg3d.runs.folder import hash_scene
    from ovseg3d.scene import check_scene, inspect_scene, load_depth, load_labels, load_mask, load_photo, plot_scene

    scene, problems = inspect_scene(folder)
    if scene is None:
        raise problems[0]
    for finding in check_scene(scene):
        assert finding.what
    refused: list[Ovseg3dError] = list(problems)
    for frame in scene.frames:
        for load in (load_photo, load_mask, lambda f: load_depth(f, scene), lambda f: load_labels(f, scene)):
            try:
                load(frame)
            except Ovseg3dError as error:
                refused.append(error)
    hash_scene(scene)
    if rng.random() < 0.05:
        plot_scene(scene, folder / "plot.png")
    if refused:
        raise refused[0]


def _make_nerfstudio(folder: Path) -> None:
    from colours import with_label_images
    from PIL import Image
    from tiny import write_tiny_scene

    with_label_images(write_tiny_scene(folder))
    path = folder / "transforms.json"
    described = json.loads(path.read_text())
    (folder / "masks").mkdir()
    for frame in described["frames"][:2]:
        frame["mask_path"] = frame["file_path"].replace("images", "masks")
        Image.new("L", (32, 32), 255).save(folder / frame["mask_path"])
    frame = described["frames"][2]
    frame["depth_file_path"] = "depth/0002.npy"
    np.save(folder / "depth" / "0002.npy", np.full((32, 32), 2000, np.uint16))
    for index, suffix in ((3, "jpg"), (5, "tif"), (6, "webp")):
        frame = described["frames"][index]
        with Image.open(folder / frame["file_path"]) as image:
            frame["file_path"] = f"images/{index:04d}.{suffix}"
            image.save(folder / frame["file_path"])
        (folder / "images" / f"{index:04d}.png").unlink()
    for key in ("train_filenames", "val_filenames", "test_filenames"):
        del described[key]
    described |= {"k1": 0.01, "k2": 0.0, "p1": 0.0, "p2": 0.0, "ply_file_path": "sparse.ply", "ignore_label": 255}
    described |= {"metric": True, "recommended_encoder": {"clip": "builtin", "dino": "builtin"}, "aabb_scale": 2}
    path.write_text(json.dumps(described))
    _write_ply(folder / "sparse.ply")


def _write_ply(path: Path) -> None:
    from plyfile import PlyData, PlyElement

    rows = np.zeros(60, dtype=[("x", "f4"), ("y", "f4"), ("z", "f4"), ("red", "u1"), ("green", "u1"), ("blue", "u1")])
    PlyData([PlyElement.describe(rows, "vertex")]).write(str(path))


def _make_colmap(text: bool) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        from writers import write_colmap

        write_colmap(folder, text=text)

    return make


def _make_llff(folder: Path) -> None:
    from PIL import Image
    from writers import NAMES, write_llff

    write_llff(folder)
    for view in (0, 8):
        place = folder / "segmentations" / f"{view:02d}"
        place.mkdir(parents=True)
        for phrase in ("chair", "table"):
            Image.new("L", (24, 16), 255).save(place / f"{phrase}.png")
    (folder / "segmentations" / "classes.txt").write_text("chair\ntable\n")
    assert NAMES


def _make_blender(folder: Path) -> None:
    from writers import write_blender

    write_blender(folder)


def _make_ngp(folder: Path) -> None:
    from writers import write_ngp

    write_ngp(folder)


NOT_A_CAMERA = (
    [(key, wrong) for key in ("fl_x", "fl_y") for wrong in (1e-6, 1e9, -1, 0, 1e300)]
    + [(key, wrong) for key in ("cx", "cy") for wrong in (1e9, -1e9, 1e300)]
    + [(key, wrong) for key in ("k1", "k2", "p1", "p2") for wrong in (1e6, -1e6, 1e300)]
    + [(key, wrong) for key in ("w", "h") for wrong in (0, -1, 1e9, 1e30)]
    + [("depth_unit_scale_factor", wrong) for wrong in (0, -1, 1e30, 1e-30)]
    + [("ignore_label", wrong) for wrong in (1e300, 0.5, -1e9)]
    + [("aabb_scale", wrong) for wrong in (-1, 0, 1e30)]
    + [("camera_model", wrong) for wrong in ("NONSENSE", "", 3)]
    + [("classes", wrong) for wrong in ({"a": "b"}, {"1e300": "b"}, {"1": "\x1b[31m"}, {"-5": "b"}, {"1": 3}, [1])]
    + [("metric", wrong) for wrong in ("yes", 1)]
    + [("frames.depth_file_path", wrong) for wrong in ("depth", "/etc/hostname", "a\0b")]
    + [("frames.file_path", wrong) for wrong in ("images", "../0000.png", "/etc/hostname", "a\0b", "\x1b[2J.png")]
    + [("frames.label_file_path", wrong) for wrong in ("images", "/etc", "../../etc/hostname")]
)
"""Values of keys of transforms.json that no capture has: none may be taken without a word."""


def _use_nonsense(folder: Path, rng: np.random.Generator) -> None:
    """Refused, or a warning of `ovseg3d info`."""
    from ovseg3d.scene import check_scene, inspect_scene

    path = folder / "transforms.json"
    described = json.loads(path.read_text())
    key, wrong = NOT_A_CAMERA[int(rng.integers(len(NOT_A_CAMERA)))]
    if key.startswith("frames."):
        described["frames"][int(rng.integers(8))][key.removeprefix("frames.")] = wrong
    else:
        described[key] = wrong
    path.write_text(json.dumps(described))
    scene, problems = inspect_scene(folder)
    if problems:
        raise problems[0]
    assert scene is not None
    warned = [finding for finding in check_scene(scene) if finding.level != "note"]
    assert warned, f"{key} = {wrong!r} was taken without a word"


def _make_scannet(folder: Path) -> None:
    from writers import write_scannet

    write_scannet(folder)


# Labels of others, lists, settings, paths of cameras


def _make_labels(folder: Path) -> None:
    from colours import with_masks, with_polygons

    with_polygons(folder / "lerf", (0, 4))
    with_masks(folder / "ovs3d", (0, 4))


def _use_labels(folder: Path, rng: np.random.Generator) -> None:
    from ovseg3d.evaluate.metrics.lerf import read_lerf_folder
    from ovseg3d.evaluate.metrics.ovs3d import read_phrase_masks
    from ovseg3d.scene.images import read_phrases

    first: Ovseg3dError | None = None
    try:
        for frame in read_lerf_folder(folder / "lerf"):
            assert frame
    except Ovseg3dError as error:
        first = error
    phrases = read_phrases(folder / "ovs3d" / "segmentations" / "classes.txt")
    for view in ("00", "04"):
        read_phrase_masks(folder / "ovs3d" / "segmentations" / view, phrases, 64, 64)
    if first is not None:
        raise first


def _make_meshes(folder: Path) -> None:
    from scans import write_replica_labels, write_scannet_labels

    xyz = np.random.default_rng(0).random((40, 3))
    write_scannet_labels(folder / "scan", xyz, np.repeat([1, 5], 20), {"wall": [np.arange(40) < 20]})
    write_replica_labels(folder / "room", xyz, np.arange(10), {i: 93 for i in range(9)}, [20])


def _use_meshes(folder: Path, rng: np.random.Generator) -> None:
    from ovseg3d.datasets import read_replica_labels, read_scannet_labels

    first: Ovseg3dError | None = None
    for name in ("scannet-20", "scannet-200"):
        try:
            read_scannet_labels(folder / "scan", name, instances=True)
        except Ovseg3dError as error:
            first = error
    read_replica_labels(folder / "room", instances=True)
    if first is not None:
        raise first


def _make_lists(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "phrases.txt").write_text("a red chair\ntable\nlamp\n")
    (folder / "templates.txt").write_text("a photo of a {}\na {} in a room\n")
    (folder / "mine.yaml").write_text(
        "train:\n  steps: 100\nfield:\n  levels: 8\n  cascades: 2\nscene:\n  scale: 1.0\n"
    )


def _use_lists(folder: Path, rng: np.random.Generator) -> None:
    from ovseg3d.runs.phrases import read_list, read_templates
    from ovseg3d.runs.settings import make_config

    calls = (
        lambda: read_list(str(folder / "phrases.txt")),
        lambda: read_templates(str(folder / "templates.txt")),
        lambda: make_config("cpu", config_file=folder / "mine.yaml"),
    )
    refused = []
    for call in calls:
        try:
            call()
        except Ovseg3dError as error:
            refused.append(error)
    if refused:
        raise refused[0]


def _make_path(folder: Path) -> None:
    from tiny import camera_to_world

    folder.mkdir(parents=True)
    gl = np.diag([1.0, -1.0, -1.0, 1.0])
    views = [
        {"camera_to_world": (camera_to_world(i) @ gl).ravel().tolist(), "fov": 60.0, "aspect": 1.0} for i in range(4)
    ]
    described = {"camera_type": "perspective", "render_height": 64, "render_width": 64, "camera_path": views}
    (folder / "path.json").write_text(json.dumps(described | {"fps": 24, "seconds": 2.0}))


def _use_path(folder: Path, rng: np.random.Generator) -> None:
    from ovseg3d.render.paths import read_nerfstudio_path

    path = read_nerfstudio_path(folder / "path.json")
    assert len(path.cameras) < 10**6
    for camera in path.cameras[:3]:
        assert np.isfinite(camera.c2w).all()


# Runs and their caches


def _make_run(folder: Path) -> None:
    import pytest
    from colours import flags, with_label_images
    from exact import register
    from tiny import write_tiny_scene

    from ovseg3d.pipeline.train import train_scene
    from ovseg3d.runs.settings import make_config

    scene = with_label_images(write_tiny_scene(folder.parent / "run.scene"))
    with pytest.MonkeyPatch.context() as patch:
        register(patch, folder.parent / "run.cache")  # the tiny scene, learnt perfectly in no time
        train_scene(scene, make_config("cpu", flags=flags(steps=8)), output_dir=folder)


def _use_run(folder: Path, rng: np.random.Generator) -> None:
    import pytest
    from exact import register_encoders

    from ovseg3d.features.encode import load_features
    from ovseg3d.points.semantic_scene import load_semantics
    from ovseg3d.runs.fields import restore
    from ovseg3d.session import load

    with pytest.MonkeyPatch.context() as patch:
        register_encoders(patch, folder.parent.parent / "base" / "run.cache")
        run = load(folder)
        refused: list[Ovseg3dError] = []
        calls: list[Callable[[], object]] = [
            run.status, run.metrics, run.transform, lambda: run.phrases, lambda: load_semantics(run.folder),
            lambda: load_features(run), run.load_scene,
        ]  # fmt: skip
        for call in calls:
            try:
                call()
            except Ovseg3dError as error:
                refused.append(error)
        if refused and rng.random() < 0.5:
            raise refused[0]
        scene = run.load_scene()
        restore(run, scene, "cpu", "torch").render(scene.frames[0].camera.scaled(8, 8))
        if rng.random() < 0.3:
            run.query("a red thing")
        if refused:
            raise refused[0]


KEY = "ab" * 32


def _make_cache(folder: Path) -> None:
    from ovseg3d.features.cache import FeatureCache

    cache = FeatureCache.at(folder)
    cache.write("photos", KEY, {"map": np.zeros((4, 4, 8), np.float16)})
    cache.write_note(KEY, {"dim": 8})


def _use_cache(folder: Path, rng: np.random.Generator) -> None:
    from ovseg3d.features.cache import FeatureCache

    cache = FeatureCache.at(folder)
    cache.size()
    cache.read_note(KEY)
    stored = cache.read("photos", KEY)
    assert stored is None or stored["map"].nbytes < 10**6
    cache.clear()


# Models


def _make_clip(folder: Path) -> None:
    from tiny_models import add_architecture, clip_config, random_clip, save_clip_folder

    folder.parent.mkdir(parents=True, exist_ok=True)
    config = clip_config({"hf_tokenizer_name": "words", "vocab_size": 64})
    scratch = folder.parent / "clip.scratch"
    scratch.mkdir()
    save_clip_folder(folder, config, random_clip(add_architecture(scratch, "tiny-fuzz", config)))


def _use_clip(folder: Path, rng: np.random.Generator) -> None:
    from ovseg3d.encoders import load_clip

    clip = load_clip(str(folder))
    clip.encode_text(["a red chair"])


def _make_dino(folder: Path) -> None:
    from tiny_models import save_dino

    save_dino(folder, "dinov2")


def _use_dino(folder: Path, rng: np.random.Generator) -> None:
    import torch

    from ovseg3d.encoders import load_dino

    dino = load_dino(str(folder))
    dino.encode_dense(torch.zeros(1, 3, 4 * dino.patch, 4 * dino.patch))


TARGETS = (
    Target("nerfstudio", _make_nerfstudio, _use_scene, ("transforms.json", "sparse.ply", ".npy"), 6),
    Target("nonsense in transforms.json", _make_nerfstudio, _use_nonsense, (), 3, damaged=False),
    Target("instant-ngp", _make_ngp, _use_scene, (".json",), 1),
    Target("blender", _make_blender, _use_scene, (".json",), 1),
    Target("colmap, binary", _make_colmap(False), _use_scene, (".bin",), 3),
    Target("colmap, text", _make_colmap(True), _use_scene, (".txt",), 2),
    Target("scannet", _make_scannet, _use_scene, (".txt",), 1),
    Target("llff with masks", _make_llff, _use_scene, (".npy", ".txt"), 2),
    Target("labels of 3D-OVS and LERF", _make_labels, _use_labels, (".json", ".txt"), 2),
    Target("labels of ScanNet and Replica", _make_meshes, _use_meshes, (".ply", ".json", ".tsv"), 1),
    Target("lists and settings", _make_lists, _use_lists, (), 2),
    Target("paths of cameras", _make_path, _use_path, (), 1),
    Target("run folder", _make_run, _use_run, ("config.json", ".safetensors", "features.json", "transform.json"), 6),
    Target("cache of features", _make_cache, _use_cache, (), 1),
    Target("CLIP folder", _make_clip, _use_clip, (".json", ".safetensors"), 2),
    Target("DINO folder", _make_dino, _use_dino, (".json", ".safetensors"), 2),
)
"""The viewer is a target of its own, see `worker.py`: it is one server for many cases."""
