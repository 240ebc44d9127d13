"""open_clip's models through our adapter: the same vectors as open_clip's own, and patches in the joint space."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from tiny_models import (
    WORDS,
    add_architecture,
    clip_config,
    random_clip,
    save_clip_folder,
    save_tokenizer,
    timm_config,
)

from ovseg3d.encoders import TextImageEncoder, TokenEncoder, load_clip
from ovseg3d.encoders.convolutions import gaze, moved
from ovseg3d.encoders.openclip import OpenClipEncoder
from ovseg3d.encoders.towers import DENSE_PATHS, resample, tower_of
from ovseg3d.errors import EncoderError

CPU = torch.device("cpu")
PHRASES = ["a red chair", "стул", "椅子 on the floor", "a chair 🪑"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for configurations, with tiny-vit known to open_clip."""
    folder = tmp_path_factory.mktemp("architectures")
    add_architecture(folder, "tiny-vit", clip_config())
    return folder


@pytest.fixture(scope="module")
def model(place: Path) -> torch.nn.Module:
    return random_clip("tiny-vit")


@pytest.fixture(scope="module")
def weights(place: Path, model: torch.nn.Module) -> Path:
    torch.save(model.state_dict(), place / "tiny.pt")
    return place / "tiny.pt"


def encoder(model: torch.nn.Module, name: str, dense_path: str = "auto") -> OpenClipEncoder:
    """Our adapter around a model that was made here."""
    tokenizer = open_clip.get_tokenizer("tiny-vit")
    dim = 192 if name == "tiny-siglip" else 24
    return OpenClipEncoder(model, tokenizer, name=name, dim=dim, device=CPU, dense_path=dense_path)


def draw_image(height: int, width: int, seed: int = 0) -> Image.Image:
    """A smooth picture, so that ways of resizing it agree."""
    noise = np.random.default_rng(seed).integers(0, 255, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


def as_tensor(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255


def test_phrases_are_open_clips_own(weights: Path, model: torch.nn.Module) -> None:
    loaded = load_clip(f"tiny-vit:{weights}")
    assert isinstance(loaded, TextImageEncoder) and isinstance(loaded, TokenEncoder)
    rows = open_clip.get_tokenizer("tiny-vit")(PHRASES)
    expected = F.normalize(model.encode_text(rows), dim=-1)
    torch.testing.assert_close(loaded.encode_text(PHRASES), expected.detach())
    assert loaded.encode_text([]).shape == (0, 24)
    # More phrases than are encoded at once.
    many = loaded.encode_text(PHRASES * 20)
    torch.testing.assert_close(many[-4:], expected.detach())


@pytest.mark.parametrize("size", [(64, 64), (90, 200), (211, 77)])
def test_pictures_are_open_clips_own(weights: Path, model: torch.nn.Module, size: tuple[int, int]) -> None:
    image = draw_image(*size)
    _, _, transform = open_clip.create_model_and_transforms("tiny-vit", str(weights))
    expected = F.normalize(model.encode_image(transform(image)[None]), dim=-1)
    # open_clip resizes in whole numbers from 0 to 255.
    loaded = load_clip(f"tiny-vit:{weights}").encode_image(as_tensor(image))
    torch.testing.assert_close(loaded, expected.detach(), atol=1e-6 if size == (64, 64) else 5e-3, rtol=0)


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (300, 2), (17, 23)])
def test_pictures_of_any_size(weights: Path, size: tuple[int, int]) -> None:
    vectors = load_clip(f"tiny-vit:{weights}").encode_image(torch.rand(2, 3, *size))
    torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(2))


def test_a_folder_says_all_about_its_model(place: Path, tmp_path: Path) -> None:
    """Preprocessing, logit scale and bias, and the tokenizer come from the files."""
    text = {"hf_tokenizer_name": "anything", "vocab_size": 4 + len(WORDS), "pool_type": "eos", "eos_id": 2, "pad_id": 0}
    config = {**clip_config(text), "init_logit_bias": -7.5, "custom_text": True}
    add_architecture(place, "tiny-words", config)
    model = random_clip("tiny-words")
    model.logit_scale.data.fill_(np.log(12.5))
    folder = save_clip_folder(tmp_path / "words", config, model, resize_mode="squash")
    loaded = load_clip(f"local-dir:{folder}")
    assert loaded.id == "open_clip:local-dir:words"
    assert loaded.logit_scale == pytest.approx(12.5)
    assert loaded.logit_bias == pytest.approx(-7.5)
    assert loaded.preprocess.mean == (0.4, 0.5, 0.6)
    assert loaded.preprocess.std == (0.2, 0.3, 0.25)
    assert (loaded.preprocess.interpolation, loaded.preprocess.resize_mode) == ("bilinear", "squash")
    assert (loaded.preprocess.size, loaded.patch, loaded.dim) == ((64, 64), 16, 24)
    expected = model.encode_text(torch.tensor([[1, 4, 5, 7, 2] + [0] * 11]), normalize=True)
    torch.testing.assert_close(loaded.encode_text(["A red chair"]), expected.detach())
    torch.testing.assert_close(loaded.encode_text(["a red chair"]), load_clip(str(folder)).encode_text(["a red chair"]))
    # The same architecture by name finds its tokenizer beside the weights, without asking the hub.
    torch.save(model.state_dict(), tmp_path / "w.pt")
    save_tokenizer(tmp_path)
    named = load_clip(f"tiny-words:{tmp_path / 'w.pt'}")
    torch.testing.assert_close(named.encode_text(["a red chair"]), expected.detach())


def last_block_by_hand(model: torch.nn.Module, pixels: torch.Tensor, path: str) -> torch.Tensor:
    """Patch vectors of a plain ViT at its native size, head by head, in loops."""
    visual = model.visual
    x = visual.transformer.resblocks[1](visual.transformer.resblocks[0](visual._embeds(pixels)))
    block = visual.transformer.resblocks[2]
    weight, bias = block.attn.in_proj_weight, block.attn.in_proj_bias
    query, key, value = (block.ln_1(x) @ w.T + b for w, b in zip(weight.chunk(3), bias.chunk(3)))
    heads = []
    for start in range(0, 48, 16):
        q, k, v = (part[..., start : start + 16] for part in (query, key, value))
        qq, kk = (torch.softmax(t @ t.transpose(1, 2) / 4.0, dim=-1) for t in (q, k))
        heads.append({"maskclip": v, "sclip": qq @ v + kk @ v, "clearclip": qq @ v}[path])
    attended = torch.cat(heads, -1) @ block.attn.out_proj.weight.T + block.attn.out_proj.bias
    if path == "clearclip":
        tokens = attended
    else:
        tokens = x + attended
        tokens = tokens + block.mlp(block.ln_2(tokens))
    joint = visual.ln_post(tokens[:, 1:]) @ visual.proj
    return F.normalize(joint, dim=-1).transpose(1, 2).unflatten(2, (4, 4))


@pytest.mark.parametrize("path", ["maskclip", "sclip", "clearclip"])
def test_dense_paths_are_their_formulas(weights: Path, model: torch.nn.Module, path: str) -> None:
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    loaded = load_clip(f"tiny-vit:{weights}", dense_path=path)
    expected = last_block_by_hand(model, loaded.preprocess.normalize(images), path)
    torch.testing.assert_close(loaded.encode_dense(images), expected.detach(), atol=1e-5, rtol=0)
    assert loaded.id == f"open_clip:tiny-vit:tiny.pt+{path}"
    # Watching leaves nothing behind: a whole picture is still open_clip's.
    whole = model.encode_image(loaded.preprocess.normalize(images), normalize=True)
    torch.testing.assert_close(loaded.encode_image(images), whole.detach(), atol=1e-6, rtol=0)


def test_auto_is_clearclip_where_a_class_token_is_pooled(weights: Path) -> None:
    images = torch.rand(1, 3, 48, 80)
    auto, clear = load_clip(f"tiny-vit:{weights}"), load_clip(f"tiny-vit:{weights}", dense_path="clearclip")
    torch.testing.assert_close(auto.encode_dense(images), clear.encode_dense(images))


def test_averaged_patches_are_the_whole_picture(place: Path) -> None:
    """With average pooling the head is linear behind the norm: the mean of all patches is the picture's vector."""
    model = random_clip(add_architecture(place, "tiny-average", clip_config(pool_type="avg")))
    ours = encoder(model, "tiny-average")
    images = torch.rand(2, 3, 64, 64)
    patches = ours._tower.project(ours.tokens(images))
    mean = F.normalize(patches.mean((1, 2)), dim=-1)
    torch.testing.assert_close(mean, ours.encode_image(images), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("tiny-siglip", timm_config("vit_tiny_patch16_224", 224, "map", "none")),
        ("tiny-timm-average", timm_config("test_vit", 160, "avg", "linear")),
        ("tiny-coca-pool", clip_config(attentional_pool=True, attn_pooler_heads=2)),
    ],
)
def test_a_picture_of_one_patch_is_its_patch(place: Path, name: str, config: dict) -> None:
    """Where patches are pooled, one patch alone must give what the model's own pooling gives for it."""
    model = random_clip(add_architecture(place, name, config))
    ours = encoder(model, name)
    assert ours.dense and not ours._tower.pooled_from_class_token
    images = torch.rand(3, 3, 16, 16)
    pixels = ours.preprocess.normalize(images)
    if hasattr(model.visual, "trunk"):
        expected = model.visual(pixels)
    else:
        visual = model.visual
        grid = visual.conv1(pixels).flatten(2).transpose(1, 2)
        positions = resample(visual.positional_embedding, (4, 4), (1, 1))
        x = torch.cat([visual.class_embedding.expand(3, 1, -1), grid], 1) + positions
        expected = visual._pool(visual.transformer(visual.ln_pre(x))[:, 1:])[0] @ visual.proj
    dense = ours.encode_dense(images)[:, :, 0, 0]
    torch.testing.assert_close(dense, F.normalize(expected, dim=-1).detach(), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("tiny-timm-class", timm_config("test_vit", 160, "token", "linear")),
        ("tiny-eva", timm_config("eva02_tiny_patch14_224", 224, "token", "linear")),
        # Base size, and built twice: seconds.
        pytest.param("tiny-mobile", timm_config("vit_base_mci_224", 224, "token", "linear"), marks=pytest.mark.slow),
        ("tiny-scaled", clip_config(ls_init_value=0.5)),
    ],
)
def test_vits_of_every_make_have_dense_features(place: Path, name: str, config: dict) -> None:
    model = random_clip(add_architecture(place, name, config))
    if name == "tiny-mobile":  # Base size: two blocks are enough to walk through.
        del model.visual.trunk.blocks[2:]
    ours = encoder(model, name)
    assert ours.dense
    images = torch.rand(1, 3, 3 * ours.patch, 5 * ours.patch)
    seen = []
    for path in DENSE_PATHS:
        ours._dense_path = path
        features = ours.encode_dense(images)
        assert features.shape == (1, 24, 3, 5)
        torch.testing.assert_close(features.norm(dim=1), torch.ones(1, 3, 5))
        seen.append(features)
    torch.testing.assert_close(seen[0], seen[4])
    assert all((seen[0] - other).norm() > 0.01 for other in seen[1:4])
    # A whole picture is what open_clip's model says, though its input was set free.
    whole = torch.rand(1, 3, *ours.preprocess.size)
    fresh = random_clip(name)
    if name == "tiny-mobile":
        del fresh.visual.trunk.blocks[2:]
    expected = fresh.encode_image(ours.preprocess.normalize(whole), normalize=True)
    torch.testing.assert_close(ours.encode_image(whole), expected.detach(), atol=1e-5, rtol=0)


def test_timm_takes_the_value_path_too(place: Path) -> None:
    """MaskCLIP's path in timm's attention, against its own layers."""
    name = add_architecture(place, "tiny-timm-value", timm_config("test_vit", 160, "token", "linear"))
    model = random_clip(name)
    ours = encoder(model, name, "maskclip")
    images = torch.rand(1, 3, 160, 160)
    trunk = model.visual.trunk
    x = trunk.norm_pre(trunk._pos_embed(trunk.patch_embed(ours.preprocess.normalize(images))))
    for block in trunk.blocks[:-1]:
        x = block(x)
    block = trunk.blocks[-1]
    value = F.linear(block.norm1(x), block.attn.qkv.weight, block.attn.qkv.bias).chunk(3, -1)[2]
    x = x + block.ls1(block.attn.proj(value))
    x = x + block.ls2(block.mlp(block.norm2(x)))
    expected = model.visual.head(trunk.fc_norm(trunk.norm(x[:, 1:])))
    expected = F.normalize(expected, dim=-1).transpose(1, 2).unflatten(2, (10, 10))
    torch.testing.assert_close(ours.encode_dense(images), expected.detach(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("tower", ["test_resnet", "test_convnext", "regnetx_002"])
def test_a_convolutional_tower_s_cells_are_its_own_and_those_between(place: Path, tower: str) -> None:
    """Every second cell is one of the map that the model averages, and is projected as a picture of that cell is."""
    name = add_architecture(place, f"tiny-{tower}", timm_config(tower, 160, "avg", "linear"))
    model = random_clip(name).eval()
    ours = encoder(model, name)
    images = torch.rand(1, 3, 160, 128)
    dense = ours.encode_dense(images)
    assert ours.dense and ours.patch == 16 and dense.shape == (1, 24, 10, 8)
    images = moved(ours.preprocess.normalize(images), *tower_of(model.visual).shift)
    cells = model.visual.trunk.forward_features(images)
    cells = cells.permute(0, 2, 3, 1).flatten(0, 2)[..., None, None]
    expected = F.normalize(model.visual.head(model.visual.trunk.forward_head(cells)), dim=-1)
    torch.testing.assert_close(dense[0, :, ::2, ::2].flatten(1).T, expected.detach(), atol=1e-5, rtol=0)
    with pytest.raises(EncoderError, match="through attention"):
        encoder(model, name, "maskclip").encode_dense(images)


class Askew(torch.nn.Module):
    """Means of 16 x 16 pixels, each some pixels away from where it should be."""

    def __init__(self, down: int, right: int) -> None:
        super().__init__()
        self.away, self.weight = (-down, -right), torch.nn.Parameter(torch.ones(()))

    def forward_features(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.weight * F.avg_pool2d(moved(pixels, *self.away), 16)


def test_where_a_cell_looks_is_measured_and_set_right() -> None:
    assert gaze(Askew(0, 0)) == (0, 0) and gaze(Askew(6, -3)) == (6, -3)
    images = torch.rand(2, 3, 96, 64)
    straight = F.avg_pool2d(images, 16)
    righted = Askew(6, -3).forward_features(moved(images, 6, -3))
    torch.testing.assert_close(righted[..., 1:-1, 1:-1], straight[..., 1:-1, 1:-1])
    assert moved(images, 2, -5).shape == images.shape


def test_towers_without_patches_say_so(place: Path) -> None:
    name = add_architecture(place, "tiny-fast", timm_config("fastvit_t8", 160, "avg", "linear"))
    ours = encoder(random_clip(name), name)
    assert not ours.dense
    with pytest.raises(EncoderError, match="no dense features") as raised:
        ours.encode_dense(torch.rand(1, 3, 160, 160))
    assert "regions" in (raised.value.fix or "")
    with pytest.raises(EncoderError, match="not made of transformer blocks"):
        ours.double_block(-1)
    assert ours.encode_image(torch.rand(1, 3, 50, 70)).shape == (1, 24)


def test_positions_are_interpolated_as_timm_does(model: torch.nn.Module) -> None:
    from timm.layers import resample_abs_pos_embed

    positions = model.visual.positional_embedding.detach()
    expected = resample_abs_pos_embed(positions[None], new_size=[3, 7], old_size=[4, 4], num_prefix_tokens=1)
    torch.testing.assert_close(resample(positions, (4, 4), (3, 7)), expected[0])
    assert resample(positions, (4, 4), (4, 4)) is positions


def test_sides_have_to_be_multiples_of_the_patch(weights: Path) -> None:
    with pytest.raises(EncoderError, match="multiples of 16") as raised:
        load_clip(f"tiny-vit:{weights}").encode_dense(torch.rand(1, 3, 40, 64))
    assert "64 x 32" in (raised.value.fix or "") or "64 x 48" in (raised.value.fix or "")


@pytest.mark.parametrize("phrase", ["", "   ", "\n\t"])
def test_an_empty_phrase_is_refused(weights: Path, phrase: str) -> None:
    with pytest.raises(EncoderError, match="no word"):
        load_clip(f"tiny-vit:{weights}").encode_text(["a chair", phrase])


def test_a_phrase_is_read_to_its_end_or_not_at_all(weights: Path) -> None:
    loaded = load_clip(f"tiny-vit:{weights}")
    with pytest.raises(EncoderError, match="too long"):
        loaded.encode_text([" ".join(["chair"] * 500)])
    # 14 words, a start and an end are the 16 tokens that this one reads.
    loaded.encode_text([" ".join(["chair"] * 14)])
    with pytest.raises(EncoderError, match="too long"):
        loaded.encode_text([" ".join(["chair"] * 15)])
    with pytest.raises(TypeError):
        loaded.encode_text("a chair")


def test_a_doubled_block_changes_nothing_until_it_is_trained(weights: Path) -> None:
    loaded, images = load_clip(f"tiny-vit:{weights}"), torch.rand(2, 3, 64, 48)
    whole, dense, before = loaded.encode_image(images), loaded.encode_dense(images), loaded.weight_hash
    loaded.double_block(0).requires_grad_(False)
    copy = loaded.double_block(-1)
    torch.testing.assert_close(loaded.encode_image(images), whole)
    torch.testing.assert_close(loaded.encode_dense(images), dense)
    assert loaded.weight_hash != before
    loaded.encode_image(images).sum().backward()
    assert copy.attn.in_proj_weight.grad.abs().sum() > 0
    assert [name for name, value in loaded.model.named_parameters() if value.grad is not None] == [
        f"visual.transformer.resblocks.2.copy.{name}" for name, _ in copy.named_parameters()
    ]
    changed = loaded.weight_hash
    copy.mlp.c_proj.bias.data[:8] += 3.0
    assert (loaded.encode_image(images) - whole).abs().max() > 1e-3
    assert loaded.weight_hash != changed


def test_a_block_can_be_replaced(weights: Path) -> None:
    class Same(torch.nn.Module):
        def forward(self, x: torch.Tensor, **_: object) -> torch.Tensor:
            return x

    loaded, images = load_clip(f"tiny-vit:{weights}", dense_path="plain"), torch.rand(1, 3, 64, 64)
    loaded.replace_block(2, Same())
    visual = loaded.model.visual
    x = visual._embeds(loaded.preprocess.normalize(images))
    expected = visual.transformer.resblocks[1](visual.transformer.resblocks[0](x))[:, 1:]
    torch.testing.assert_close(loaded.tokens(images), expected.unflatten(1, (4, 4)), atol=1e-6, rtol=0)
    with pytest.raises(EncoderError, match="no block 3"):
        loaded.replace_block(3, Same())


def test_attention_that_cannot_be_seen_is_not_walked_in_silence(place: Path) -> None:
    """timm writes attention out where fused attention is switched off; every path would be the plain one."""
    name = add_architecture(place, "tiny-unfused", timm_config("test_vit", 160, "token", "linear"))
    model = random_clip(name)
    for block in model.visual.trunk.blocks:
        block.attn.fused_attn = False
    assert not encoder(model, name).dense
    ours = encoder(random_clip(name), name, "maskclip")
    ours.model.visual.trunk.blocks[-1].attn.fused_attn = False
    with pytest.raises(EncoderError, match="no fused attention"):
        ours.encode_dense(torch.rand(1, 3, 32, 32))


def test_threads_take_turns_at_the_tokenizer(monkeypatch: pytest.MonkeyPatch) -> None:
    """It keeps the padding and truncation of a call."""
    encoder = load_clip("builtin")
    tokenize, inside, met = encoder._tokenizer, threading.Lock(), []

    def slow(*given: Any, **options: Any) -> Any:
        met.append(inside.acquire(blocking=False))
        time.sleep(0.01)
        found = tokenize(*given, **options)
        if met[-1]:
            inside.release()
        return found

    monkeypatch.setattr(encoder, "_tokenizer", slow)
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: encoder.encode_text(["a red chair"]), range(8)))
    assert all(met) and all(torch.equal(one, made[0]) for one in made)
