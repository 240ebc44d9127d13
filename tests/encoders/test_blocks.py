"""Blocks of image towers: the last one leads to the encoder's own answer."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from fake_encoders import MeanPatch
from tiny_models import save_dino

from ovseg3d.encoders import block_tokens, load_clip, load_dino
from ovseg3d.errors import EncoderError

IMAGES = torch.rand(3, 3, 40, 40, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", ["dino", "dinov2", "registers", "dinov3"])
def test_class_token_and_patches_of_a_vit_of_transformers(tmp_path: Path, kind: str) -> None:
    encoder = load_dino(str(save_dino(tmp_path / kind, kind, num_hidden_layers=5)))
    blocks = block_tokens(encoder, IMAGES)
    assert [one.mean.shape for one in blocks] == [(3, 32)] * 5
    norm = dict(encoder.model.named_modules())["norm" if kind == "dinov3" else "layernorm"]  # type: ignore[attr-defined]
    own = encoder.model(pixel_values=encoder.preprocess(IMAGES)).last_hidden_state  # type: ignore[attr-defined]
    assert blocks[-1].class_token is not None
    torch.testing.assert_close(norm(blocks[-1].class_token), own[:, 0], atol=1e-5, rtol=1e-4)
    # 16 patches of 8 pixels, and neither the class token nor a register.
    caught = []
    handle = norm.register_forward_pre_hook(lambda _module, args: caught.append(args[0]))
    encoder.model(pixel_values=encoder.preprocess(IMAGES))  # type: ignore[attr-defined]
    handle.remove()
    torch.testing.assert_close(blocks[-1].mean, caught[-1][:, -16:].mean(1), atol=1e-5, rtol=1e-4)


def test_class_token_of_a_vit_of_open_clip(tiny: Path) -> None:
    encoder = load_clip(f"tiny-named:{tiny / 'weights.pt'}")
    blocks = block_tokens(encoder, IMAGES)
    visual = encoder.model.visual  # type: ignore[attr-defined]
    assert len(blocks) == 3 and blocks[-1].class_token is not None
    vectors = F.normalize(visual.ln_post(blocks[-1].class_token) @ visual.proj, dim=-1)
    torch.testing.assert_close(vectors, encoder.encode_image(IMAGES), atol=1e-5, rtol=1e-4)
    assert (blocks[0].mean - blocks[-1].mean).abs().max() > 0.01


def test_stages_of_a_convolutional_tower() -> None:
    encoder = load_clip("builtin")
    blocks = block_tokens(encoder, IMAGES)
    assert all(one.class_token is None for one in blocks)
    assert [one.mean.shape[1] for one in blocks] == [64, 64, 128, 256, 512]
    vectors = F.normalize(encoder.model.visual.head(blocks[-1].mean), dim=-1)  # type: ignore[attr-defined]
    torch.testing.assert_close(vectors, encoder.encode_image(IMAGES), atol=1e-4, rtol=1e-3)


def test_an_encoder_without_blocks_is_refused() -> None:
    with pytest.raises(EncoderError, match="mean-patch does not show the blocks"):
        block_tokens(MeanPatch(), IMAGES)
