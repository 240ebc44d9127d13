"""A GPU's features of a photo are the CPU's."""

import numpy as np
import pytest

from ovseg3d.encoders.registry import load_clip, load_dino
from ovseg3d.engine import encoder_precision
from ovseg3d.features.extract import FeatureSettings, dino_features, extract_features


@pytest.mark.gpu
@pytest.mark.parametrize("mode", ["dense", "regions", "pyramid"])
def test_features_of_a_gpu(mode: str) -> None:
    y, x = np.mgrid[:96, :128] / 24.0
    photo = np.stack([128 + 100 * np.sin(x), 128 + 100 * np.cos(y), 60 + 30 * x], -1).clip(0, 255).astype(np.uint8)
    settings = FeatureSettings(mode=mode, crops=4)  # type: ignore[arg-type]
    found = []
    for device in ("cpu", "cuda"):
        clip, dino = load_clip("builtin", device), load_dino("builtin", device)
        with encoder_precision(device):  # as the stage does
            grid = dino_features(photo, dino, settings, device)
            made = extract_features(photo, clip, dino, settings, device=device)
        found.append((grid, made.clip.at(np.random.default_rng(0).random((40, 2)))))
    for here, there in zip(*found):
        here, there = (v.reshape(-1, v.shape[-1]).astype(np.float64) for v in (here, there))
        cosines = (here * there).sum(-1) / np.linalg.norm(here, axis=-1) / np.linalg.norm(there, axis=-1)
        assert np.median(cosines) > 0.999 and cosines.mean() > 0.99
