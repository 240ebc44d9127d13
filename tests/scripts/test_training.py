"""The scripts that train the built-in encoders: they end, go on to the same bits, and write folders that open_clip and
transformers load by themselves. On coloured shapes of 16 pixels, with a sentence encoder made of hashes."""

import os
import signal
import subprocess
import sys
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from scripts.training import augment, text, words
from scripts.training.captions import named, objects_of, pair_up
from scripts.training.clip import ClipRecipe, ClipShape, cells_of, finer
from scripts.training.dino import (
    DinoRecipe,
    DinoShape,
    Network,
    same_place,
    sinkhorn,
)
from scripts.training.local_start import places, turn
from scripts.training.losses import caption_loss, naming_loss, sharing_loss
from scripts.training.pool import Draw, Pool, Source
from scripts.training.train_clip import TrainClip
from scripts.training.train_dino import TrainDino

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (30, 50, 220)}
SHAPES = ("box", "ball", "rug")
INTERRUPT_AT: set[int] = set()
"""Examples whose rendering ends with Ctrl-C."""


def shape_example(seed: int, index: int, size: int, rooms: float) -> SimpleNamespace:
    """A coloured shape on grey noise."""
    if index in INTERRUPT_AT:
        INTERRUPT_AT.remove(index)
        os.kill(os.getpid(), signal.SIGINT)
    random = np.random.default_rng([seed, index])
    colour, shape = random.choice(list(COLOURS)), random.choice(SHAPES)
    image = random.integers(90, 130, (size, size, 3)).astype(np.uint8)
    y, x = np.mgrid[:size, :size] / size - 0.5
    inside = {"box": abs(x) + 0 * y < 0.15, "ball": x**2 + y**2 < 0.1, "rug": abs(y) < 0.2}[shape]
    image[inside] = COLOURS[colour]
    return SimpleNamespace(image=image, captions=(f"a {shape}", f"a {colour} {shape}"))


class HashTeacher:
    """Stands in for the sentence encoder: a sentence is the mean of its words' random vectors."""

    def vocabulary(self) -> list[str]:
        letters = "abcdefghijklmnopqrstuvwxyz0123456789"
        instances = " ".join([*words.instances(), *words.COLOURS, *words.MATERIALS, *words.SIZES])
        pieces = [*letters, *(f"##{letter}" for letter in letters), *sorted(set(instances.split()))]
        return ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *dict.fromkeys(pieces)]

    def word_vectors(self) -> torch.Tensor:
        return torch.stack([self.vector(piece) for piece in self.vocabulary()])

    def vector(self, word: str) -> torch.Tensor:
        return torch.randn(24, generator=torch.Generator().manual_seed(zlib.crc32(word.encode())))

    def embed(self, texts: list[str]) -> torch.Tensor:
        found = torch.stack([torch.stack([self.vector(w) for w in t.split()]).mean(0) for t in texts])
        return torch.nn.functional.normalize(found, dim=-1)


def clip_training(folder: Path, steps: int, **changes: object) -> TrainClip:
    shape = ClipShape(
        image_size=16, tower="test_resnet", dim=16, vocabulary=900, text_width=32, text_layers=1, text_heads=2,
    )  # fmt: skip
    recipe = ClipRecipe(
        shape=shape, batch=12, fresh=4.0, views=4, fresh_views=1.0, start=32, bf16=False, warm_steps=5,
        sizes=((0.0, 8), (0.5, 16)), view_sizes=((0.0, 16), (0.5, 24)),
    )  # fmt: skip
    common = {"factory": "test_training:shape_example", "render_size": 20, "view_size": 24, "workers": 0}
    common |= {"capacity": 1024, "view_capacity": 1024}
    return TrainClip(
        output=folder / "out", work=folder / "work", pool=folder / "pool", max_seconds=None, steps=steps,
        text_steps=5, sentences=50, recipe=recipe, **{**common, **changes},
    )  # fmt: skip


def dino_training(folder: Path, steps: int) -> TrainDino:
    shape = DinoShape(image_size=16, width=32, layers=2, heads=2)
    recipe = DinoRecipe(
        shape=shape, batch=6, fresh=2.0, start=32, small_size=8, small_crops=2, prototypes=32, bf16=False
    )
    return TrainDino(
        output=folder / "out", work=folder / "work", pool=folder / "pool", max_seconds=None, steps=steps,
        recipe=recipe, factory="test_training:shape_example", render_size=20, capacity=1024, workers=0,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the factory's module be found by its name, and leave signals and threads as they were."""
    monkeypatch.setitem(sys.modules, "test_training", sys.modules[__name__])
    threads, handlers = torch.get_num_threads(), [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    yield
    torch.set_num_threads(threads)
    for number, handler in zip((signal.SIGINT, signal.SIGTERM), handlers):
        signal.signal(number, handler)


def same_files(one: Path, other: Path) -> bool:
    return sorted(p.name for p in one.iterdir()) == sorted(p.name for p in other.iterdir()) and all(
        p.read_bytes() == (other / p.name).read_bytes() for p in one.iterdir()
    )


def test_a_clip_goes_on_to_the_same_bits_and_open_clip_loads_it_alone(tmp_path: Path) -> None:
    assert clip_training(tmp_path / "whole", 20).main(HashTeacher()) == 0
    INTERRUPT_AT.add(64)
    assert clip_training(tmp_path / "parts", 20).main(HashTeacher()) == 130, "Ctrl-C in the ninth step"
    # What was rendered may be gone when a training goes on.
    for path in tmp_path.glob("parts/pool*/*"):
        path.unlink()
    from scripts.training import pool

    pool._RINGS.clear()
    assert clip_training(tmp_path / "parts", 20).main() == 0
    assert same_files(tmp_path / "whole" / "out", tmp_path / "parts" / "out")
    check = (
        "import sys, torch, open_clip; folder = 'local-dir:' + sys.argv[1]\n"
        "model, _, prepare = open_clip.create_model_and_transforms(folder)\n"
        "tokens = open_clip.get_tokenizer(folder)(['a red box', 'A  BALL', 'xyzzy ' * 500])\n"
        "with torch.no_grad(): found = model.encode_text(tokens)\n"
        "from PIL import Image; picture = prepare(Image.new('RGB', (30, 20)))\n"
        "with torch.no_grad(): seen = model.eval().encode_image(picture[None])\n"
        "assert found.shape == (3, 16) and seen.shape == (1, 16) and torch.isfinite(found).all()\n"
        "assert 'ovseg3d' not in sys.modules and 'scripts' not in sys.modules"
    )
    quiet = {**os.environ, "HF_HUB_OFFLINE": "1"}
    subprocess.run([sys.executable, "-c", check, tmp_path / "whole/out"], check=True, cwd=tmp_path, env=quiet)


def test_ids_cut_at_the_longest_text_encode_as_open_clip_encodes_them(tmp_path: Path) -> None:
    import open_clip

    clip_training(tmp_path, 1).main(HashTeacher())
    folder = f"local-dir:{tmp_path / 'out'}"
    model = open_clip.create_model(folder).eval()
    phrases = ["a red box", "ball", "a green rug next to a blue box"]
    with torch.no_grad():
        theirs = model.encode_text(open_clip.get_tokenizer(folder)(phrases))
        ours = text.encode_ids(model, text.Words(tmp_path / "out")(phrases))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_a_dino_goes_on_to_the_same_bits_and_transformers_loads_it_alone(tmp_path: Path) -> None:
    assert dino_training(tmp_path / "whole", 20).main() == 0
    INTERRUPT_AT.add(64)
    assert dino_training(tmp_path / "parts", 20).main() == 130
    assert dino_training(tmp_path / "parts", 20).main() == 0
    assert same_files(tmp_path / "whole" / "out", tmp_path / "parts" / "out")
    from transformers import AutoImageProcessor, AutoModel

    model = AutoModel.from_pretrained(tmp_path / "whole/out")
    assert model.dtype == torch.float32
    prepared = AutoImageProcessor.from_pretrained(tmp_path / "whole/out")(np.zeros((30, 20, 3), np.uint8))
    with torch.no_grad():
        found = model(torch.tensor(np.array(prepared["pixel_values"]))).last_hidden_state
    assert found.shape == (1, 5, 32) and torch.isfinite(found).all()


def test_training_learns_the_shapes(tmp_path: Path) -> None:
    import json

    clip_training(tmp_path, 150).main(HashTeacher())
    lines = [json.loads(line) for line in (tmp_path / "work/log.jsonl").read_text().splitlines()]
    hits = [line["hit"] for line in lines if line["stage"] == "image"]
    assert hits[-1] > 0.4, "0.17 by chance"


def test_a_ring_renders_again_what_was_overwritten(tmp_path: Path) -> None:
    pool = Pool(Source(str(tmp_path), "test_training:shape_example", size=8, capacity=64), workers=0, ahead=0)
    first, captions = pool.get([3], 4)
    pool.get([67], 68)
    again, same = pool.get([3], 68)
    assert (first == again).all() and captions == same
    assert (first[0] == shape_example(0, 3, 8, 0.4).image).all()


def test_a_draw_takes_what_is_new_and_repeats_itself() -> None:
    draw = Draw(batch=8, fresh=2.5, start=10, seed=0)
    seen = [draw(step, 16) for step in range(8)]
    assert seen == [draw(step, 16) for step in range(8)]
    assert all(len(rows) == 8 and max(rows) < draw.newest(step) for step, rows in enumerate(seen))
    assert set(range(10, 30)) <= {row for rows in seen for row in rows}, "every new one is taken once at least"


def test_a_caption_is_negative_only_where_it_says_something_new() -> None:
    texts, own, implied = pair_up([["a red chair next to a green plant"], ["a chair"], ["a green chair", "a plant"]])
    assert own.tolist() == [[True, False, False, False], [False, True, False, False], [False, False, True, True]]
    # Of the first picture "a chair" and "a plant" are true; whether its chair is green it denies.
    assert implied.tolist() == [[False, True, False, True], [False] * 4, [False, True, False, False]]


def test_captions_name_their_things() -> None:
    captions = ["a photo of a tall red chair", "a chair in front of an orange wall", "a chair, a bed and a rug"]
    assert objects_of(captions) == ["a tall red chair", "a chair", "an orange wall", "a bed", "a rug"]


def test_the_loss_counts_own_captions_against_others_only() -> None:
    positive = torch.tensor([[True, True, False]])
    ignored = torch.zeros(1, 3, dtype=torch.bool)
    logits = torch.tensor([[2.0, 1.0, 0.0]])
    one = (torch.log1p(torch.tensor(-2.0).exp()) + torch.log1p(torch.tensor(-1.0).exp())) / 2
    # Each caption has a single picture, so that the other direction has nothing to tell it from.
    assert caption_loss(logits, positive, ignored) == pytest.approx(float(one) / 2, abs=1e-6)
    assert caption_loss(logits, positive, ~positive) == pytest.approx(0.0, abs=1e-6)


def test_a_name_that_is_undecided_is_neither_right_nor_wrong() -> None:
    logits, shown = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[True, False, False]])
    undecided = torch.tensor([[False, True, False]])
    assert naming_loss(logits, shown, undecided) == pytest.approx(np.log1p(np.exp(-2.0)), abs=1e-6)
    assert naming_loss(logits, shown, ~shown & False) == pytest.approx(np.log1p(np.exp(-1.0) + np.exp(-2.0)), abs=1e-6)
    nothing = naming_loss(logits.requires_grad_(), shown & False, undecided)
    assert nothing == 0 and torch.autograd.grad(nothing, logits)[0].eq(0).all(), "a picture that names nothing"


def test_cells_share_the_names_of_their_picture_by_what_they_say() -> None:
    """Two kinds of cells, two names that are shown and one that is not: descending the loss names each kind."""
    cells = torch.eye(2)[torch.tensor([0, 0, 1, 1])]
    weights = torch.tensor([[0.3, 0.2, 0.5], [0.3, 0.25, 0.5]], requires_grad=True)
    shown = torch.tensor([[True, True, False]])
    optimiser = torch.optim.Adam([weights], 0.05)
    for _ in range(300):
        optimiser.zero_grad()
        sharing_loss((cells @ weights)[None], shown, 0.5).backward()
        optimiser.step()
    said = (cells @ weights.detach()).softmax(-1)
    assert said.argmax(1).tolist() == [0, 0, 1, 1] and said.max(1).values.min() > 0.9
    assert sharing_loss((cells @ weights)[None], shown & False, 0.5) == 0


def test_the_finer_twin_is_the_same_network() -> None:
    shape = ClipShape(tower="test_resnet", dim=16)
    model = shape.build().visual.eval()
    twin = finer(model.trunk, shape.tower).eval()
    images = torch.randn(1, 3, 96, 96)
    coarse, fine = (cells_of(model, trunk, images)[1][0] for trunk in (model.trunk, twin))
    side = round(len(coarse) ** 0.5)
    torch.testing.assert_close(fine.unflatten(0, (2 * side, 2 * side))[::2, ::2].flatten(0, 1), coarse)
    assert {id(p) for p in twin.parameters()} <= {id(p) for p in model.parameters()}


def test_sinkhorn_uses_every_prototype_equally() -> None:
    found = sinkhorn(torch.randn(64, 8, generator=torch.Generator().manual_seed(0)), 0.5, rounds=50)
    torch.testing.assert_close(found.sum(1), torch.ones(64))
    torch.testing.assert_close(found.sum(0), torch.full((8,), 8.0), atol=0.05, rtol=0.0)


def test_the_same_place_is_found_in_the_other_crop() -> None:
    """Two crops of a picture whose pixels hold their own positions."""
    line = (torch.arange(64) + 0.5) / 32 - 1
    image = torch.stack([line.expand(64, 64), line[:, None].expand(64, 64), torch.zeros(64, 64)])[None]
    boxes = torch.tensor([[0.0, 0.0, 0.9, 0.9], [0.2, -0.1, 0.5, 0.6]])
    flip = torch.tensor([False, True])
    crops = augment.crop(image.repeat(2, 1, 1, 1), boxes, flip, 32)
    cells = torch.nn.functional.avg_pool2d(crops, 8)[:, :2].flatten(2).transpose(1, 2)
    place, valid = same_place(boxes, flip, 4)
    assert valid.any() and not valid.all() and valid[1].all(), "the smaller crop lies within the larger one"
    found = torch.stack([cells[1][place[0]], cells[0][place[1]]])
    side = torch.tensor([0.5, 0.6]) / 4 + torch.tensor([0.9, 0.9]) / 4
    assert ((found - cells).abs() <= side)[valid].all()


def test_flipped_captions_change_sides() -> None:
    assert augment.mirror_words(["a box to the left of a ball"]) == ["a box to the right of a ball"]


def test_the_vocabulary_holds_all_things_whole_and_can_spell_the_rest() -> None:
    pieces = HashTeacher().vocabulary()
    kept = text.prune(pieces, words.instances(), 900)
    assert kept[0] == "[PAD]" and kept[-1] == "[SEP]" and len(set(kept)) == len(kept)
    assert {word for instance in words.instances() for word in instance.split()} <= set(kept)
    assert {"a", "##a", "9", "##9"} <= set(kept)


def test_heads_start_at_the_offset_that_they_are_turned_by() -> None:
    grid, channels = 10, 32
    at = places(grid, channels)
    for offset in ((0, 0), (1, 0), (-1, 1)):
        scores = (at @ turn(channels, offset).T) @ at.T
        row, column = 4, 5
        best = int(scores[row * grid + column].argmax())
        assert divmod(best, grid) == (row + offset[1], column + offset[0])
    shape = DinoShape()
    model, side = shape.build().eval(), shape.image_size // shape.patch
    with torch.no_grad():
        tokens = model.embeddings(torch.randn(2, 3, shape.image_size, shape.image_size))
        layer = model.encoder.layer[0]
        seen = layer.norm1(tokens)
        asked, given = (
            part(seen).unflatten(-1, (shape.heads, -1)).transpose(1, 2)
            for part in (layer.attention.q_proj, layer.attention.k_proj)
        )
        weights = (asked @ given.transpose(2, 3) / asked.shape[-1] ** 0.5).softmax(-1)
    centre = 1 + 4 * side + 5
    most = weights[0, :, centre, 1:].argmax(-1)
    assert all(max(abs(int(p) // side - 4), abs(int(p) % side - 5)) <= 1 for p in most), (
        "every head looks at a neighbour"
    )
    assert weights[0, :, centre, 1:].amax(-1).min() > 0.2


def test_a_name_is_what_a_thing_is_called_at_its_end() -> None:
    names = ("lamp", "table", "curtain", "shower curtain", "chair")
    said = [("a table lamp", "a red office chair next to a lamp"), ("a green shower curtain",), ("a bright room",)]
    shown, undecided = named(said, names)
    assert shown.tolist() == [[True, False, False, False, True], [False, False, False, True, False], [False] * 5]
    assert not undecided[:2].any() and not undecided[2].any()
    shown, undecided = named(
        [("a mug on a red table", "a mug in front of a wall", "a mug, a wall")], ("mug", "table", "wall")
    )
    assert shown.tolist() == [[True, False, True]] and undecided.tolist() == [[False, True, False]]
    assert named([("a wide picture",)], ("picture",))[0].all(), "no word of openings is a name"


def test_the_training_forward_is_the_library_s(tmp_path: Path) -> None:
    recipe = DinoRecipe(shape=DinoShape(image_size=16, width=32, layers=2, heads=2), prototypes=8)
    torch.manual_seed(0)
    network = Network(recipe).eval()
    images, hidden = torch.randn(3, 3, 16, 16), torch.rand(3, 4) < 0.5
    with torch.no_grad():
        whole, patches = network(images, hidden)
        expected = network.backbone(images, bool_masked_pos=hidden).last_hidden_state
    torch.testing.assert_close(torch.cat([whole[:, None], patches], 1), expected)
