"""Preprocessing against open_clip's own transforms, and images of unusual shapes."""

import numpy as np
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

from ovseg3d.encoders import Preprocess
from ovseg3d.encoders.openclip import preprocess_of


@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("size", [(40, 40), (33, 70), (160, 61), (40, 41)])
def test_it_is_open_clips(mode: str, interpolation: str, size: tuple[int, int]) -> None:
    # Not too much contrast: bicubic overshoots, and Pillow cuts that off once for rows and once for columns.
    noise = np.random.default_rng(0).integers(70, 180, (*size, 3), dtype=np.uint8)
    settings = PreprocessCfg(size=40, resize_mode=mode, interpolation=interpolation, fill_color=0)
    expected = image_transform_v2(settings, is_train=False)(Image.fromarray(noise))
    ours = preprocess_of(vars(settings))(torch.from_numpy(noise).permute(2, 0, 1)[None].float() / 255)
    # open_clip rounds to one of 256 values between resizing and normalising, in each direction.
    assert (ours[0] - expected).abs().max() < 1.6 / 255 / min(settings.std)


@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("size", [(1, 1), (1, 4000), (4000, 1), (2, 3), (7, 500)])
def test_every_picture_gets_the_size(mode: str, size: tuple[int, int]) -> None:
    preprocess = Preprocess(size=(24, 32), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), resize_mode=mode)
    resized = preprocess.resize(torch.full((2, 3, *size), 0.7))
    assert resized.shape == (2, 3, 24, 32)
    inside = resized[resized > 0]
    torch.testing.assert_close(inside, torch.full_like(inside, 0.7))
    assert inside.numel() == resized.numel() or mode == "longest"


def test_a_long_strip_shows_its_middle() -> None:
    strip = torch.zeros(1, 3, 10, 3001)
    strip[..., 1400:1601] = 1.0
    preprocess = Preprocess(size=(20, 20), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    torch.testing.assert_close(preprocess(strip), torch.ones(1, 3, 20, 20))


@pytest.mark.parametrize("size", [(3, 3000), (3000, 3)])
def test_a_long_strip_is_not_enlarged_as_a_whole(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be 20,000 pixels long, of which 20 are kept."""
    made = []
    monkeypatch.setattr(
        Preprocess, "_to", lambda self, images, *to: made.append(to) or torch.zeros(*images.shape[:2], *to)
    )
    Preprocess(size=(20, 20), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))(torch.rand(1, 3, *size))
    assert max(made[0]) <= 100
