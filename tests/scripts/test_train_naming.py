"""Tuning an image tower to depth views, for towers of several architectures in the formats of real checkpoints."""

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from tiny_models import add_architecture, clip_config, random_clip, save_clip_folder, timm_config

from ovseg3d.errors import ConfigError, EncoderError
from ovseg3d.files import read_json
from ovseg3d.heads.naming import ShapeNamer, orbit
from ovseg3d.heads.naming.background import TOWERS as TOWERS_OF_BACKGROUND
from ovseg3d.heads.naming.background import background_file, load_background
from ovseg3d.heads.naming.naming import BUILTIN_WEIGHTS
from ovseg3d.heads.naming.projections import PROJECTIONS
from ovseg3d.synth.kinds import KINDS
from scripts.training import naming_background, naming_generated, train_naming
from scripts.training.naming_generated import Generator
from scripts.training.naming_pairs import Shape, held_out_shape, picture
from scripts.training.train_naming import Train

FEW = {kind: KINDS[kind] for kind in ("mug", "chair", "lamp")}
TOWERS = {
    "vit": clip_config(),
    "resnet": {
        **clip_config(),
        "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16, "head_width": 64},
    },
    "convnext": timm_config("convnext_atto", 64, "", "linear"),
}


@pytest.fixture(autouse=True)
def few_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_naming, "KINDS", FEW)


def checkpoint(folder: Path, tower: str) -> str:
    """A tower's name with a checkpoint file, as open_clip's own releases are."""
    name = add_architecture(folder, f"tiny-tuned-{tower}", TOWERS[tower])
    torch.save(random_clip(name).state_dict(), folder / "weights.pt")
    return f"{name}:{folder / 'weights.pt'}"


@pytest.mark.parametrize("tower", list(TOWERS))
def test_any_tower_is_tuned_by_name(tmp_path: Path, tower: str) -> None:
    clip = checkpoint(tmp_path, tower)
    Train(tmp_path / "out", clip, shapes=2, views=2, steps=3, background=2).main()
    weights = tmp_path / "out" / "tuned.safetensors"
    card = read_json(weights.with_suffix(".json"))
    assert card["pairs"] == {"made": 6, "kept": 6}
    with safe_open(weights, "pt") as file:
        names = list(file.keys())
    assert names and all(("attn" in name) == (tower == "vit") for name in names)
    points = held_out_shape(np.random.default_rng(0), "mug", 300).points
    tuned, frozen = ShapeNamer(clip, weights=weights, views=2), ShapeNamer(clip, views=2)
    assert tuned.towers == "tuned"
    names = tuned.embed_names(("mug", "chair"))
    assert tuned.log_prior(names).max() < 0 and not frozen.log_prior(names).any()  # its background came with it
    vectors = tuned.embed(points), frozen.embed(points)
    assert 0.5 < float(vectors[0] @ vectors[1]) < 1 - 1e-6
    before = (tmp_path / "out" / "pairs.npz").stat().st_mtime_ns
    Train(tmp_path / "out", clip, shapes=2, views=2, steps=2, without=1, background=2).main()
    assert (tmp_path / "out" / "pairs.npz").stat().st_mtime_ns == before  # frozen features are computed once
    assert len(read_json(tmp_path / "out" / "tuned_without.json")["left_out"]) == 1


def test_a_tower_is_tuned_to_the_papers_views(tmp_path: Path) -> None:
    clip, out = checkpoint(tmp_path, "vit"), tmp_path / "out"
    few = Train(out, clip, shapes=1, views=2, steps=2, background=2, projection="contour-aware")
    few.main()
    namer = ShapeNamer(clip, weights=out / "tuned.safetensors")
    assert namer.projection == "contour-aware"
    points = held_out_shape(np.random.default_rng(0), "mug", 300).points
    seen = torch.from_numpy(PROJECTIONS["contour-aware"](points)).float()[:, None].expand(-1, 3, -1, -1)
    vector = namer.embed_views(seen).mean(0).detach()
    assert np.allclose(namer.embed(points), vector / vector.norm(), atol=1e-5)
    with pytest.raises(ConfigError, match="other settings"):
        replace(few, projection="ours").main()


def test_a_pair_whose_pictures_show_something_else_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pictures of the first mug show a chair. No label says so: the CLIP does not find its name in them."""
    monkeypatch.setattr(train_naming, "KEPT_RANK", 1)
    chair, mugs = held_out_shape(np.random.default_rng(0), "chair", 300), []

    def show(shape: Shape, turn: np.ndarray, rng: np.random.Generator, size: int) -> np.ndarray:
        if shape.kind == "mug" and not any(shape is mug for mug in mugs):
            mugs.append(shape)
        return picture(chair if mugs and shape is mugs[0] else shape, turn, rng, size)

    kept = []
    for name, make in (("right", picture), ("wrong", show)):
        monkeypatch.setattr(train_naming, "picture", make)
        Train(tmp_path / name, shapes=2, views=3, steps=1, background=1).main()
        kept.append(read_json(tmp_path / name / "tuned.json")["pairs"])
    assert kept == [{"made": 6, "kept": 6}, {"made": 6, "kept": 5}]


def test_tuned_weights_know_their_clip(tmp_path: Path) -> None:
    config = TOWERS["vit"]
    name = add_architecture(tmp_path, "tiny-tuned-vit", config)
    first, second = (save_clip_folder(tmp_path / str(seed), config, random_clip(name, seed)) for seed in (0, 1))
    Train(tmp_path / "out", str(first), shapes=1, views=1, steps=2, background=1).main()
    with pytest.raises(EncoderError, match="belong to the encoder"):
        ShapeNamer(str(second), weights=tmp_path / "out" / "tuned.safetensors")
    with pytest.raises(ConfigError, match="another CLIP"):
        Train(tmp_path / "out", str(second), shapes=1, views=1, steps=2, background=1).main()


def test_the_shipped_background_can_be_made_again() -> None:
    namer = ShapeNamer()
    assert namer.tower is not None
    made = naming_background.background(namer.tower, tuple(KINDS), 2)
    shipped = load_background(background_file(BUILTIN_WEIGHTS), namer.encoder.weight_hash)
    assert all(np.allclose(made[:, k], shipped[name][:2], atol=2e-3) for k, name in enumerate(TOWERS_OF_BACKGROUND))


def test_heaps_are_made_of_the_given_kinds_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def shape(kind: str, style: str, rng: np.random.Generator, count: int) -> SimpleNamespace:
        asked.append(kind)
        return SimpleNamespace(points=rng.normal(size=(count, 3)))

    monkeypatch.setattr(naming_background, "procedural_shape", shape)
    heaps = [naming_background.heap(np.random.default_rng(seed), ("mug", "chair")) for seed in range(8)]
    assert set(asked) == {"mug", "chair"} and 8 < len(asked) <= 16
    assert all(400 <= len(points) <= 10_000 for points in heaps)  # of the fewest, 60 % may be cut away


@pytest.mark.parametrize(
    ("flags", "words"),
    [({"without": 3}, "--without"), ({"without": 2, "part": 2}, "--part"), ({"steps": 0}, "--steps")],
)
def test_wrong_numbers_are_refused(tmp_path: Path, flags: dict[str, int], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Train(tmp_path, **flags).main()


def test_pictures_of_a_controlnet_are_seeded_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for diffusers' pipeline, which the suite does not install."""
    asked: list[dict] = []

    def pipe(prompt: str, image: Image.Image, **options: object) -> SimpleNamespace:
        asked.append({"prompt": prompt, "near": np.asarray(image), **options})
        noise = torch.rand(256, 256, 3, generator=options["generator"])  # type: ignore[arg-type]
        return SimpleNamespace(images=[noise.numpy()])

    monkeypatch.setattr(naming_generated, "load_pipe", lambda *names: pipe)
    points, turns = held_out_shape(np.random.default_rng(0), "mug", 500).points, orbit(2)
    first = Generator(tmp_path).pictures("mug", points, turns, 7)
    assert first.shape == (2, 256, 256, 3) and first.dtype == np.uint8
    assert not np.array_equal(first[0], first[1])  # a noise of its own
    assert "mug" in asked[0]["prompt"] and asked[0]["guidance_scale"] == 9.0 and asked[0]["num_inference_steps"] == 20
    assert asked[0]["near"].max() > 200 and asked[0]["near"][0, 0].max() == 0  # near is bright, nothing is black
    assert np.array_equal(Generator(tmp_path).pictures("mug", points, turns, 7), first)
    assert len(asked) == 2
    Generator(tmp_path).pictures("cup", points, turns, 7)
    assert len(asked) == 4
    Train(
        tmp_path / "out", checkpoint(tmp_path, "vit"), shapes=1, views=1, steps=1, background=1, control="some/net"
    ).main()
    assert read_json(tmp_path / "out" / "tuned.json")["recipe"]["control"] == "some/net"
    assert len(asked) == 4 + len(FEW)


def test_without_diffusers_a_controlnet_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(EncoderError, match="not installed"):
        Generator(tmp_path).pictures("mug", np.random.default_rng(0).normal(size=(100, 3)), orbit(1), 0)
