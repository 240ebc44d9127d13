"""SAM through transformers, with a tiny random one saved in the real format."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fake_encoders import MeanColour

from ovseg3d.encoders.features import FeatureSettings, extract_features
from ovseg3d.encoders.sam import Sam, load_sam
from ovseg3d.encoders.segments import Segmenter
from ovseg3d.errors import EncoderError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch
    from transformers import SamConfig, SamImageProcessor, SamModel, SamProcessor

    torch.manual_seed(0)
    config = SamConfig(
        vision_config={
            "hidden_size": 16, "output_channels": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
            "image_size": 64, "patch_size": 16, "mlp_dim": 32, "window_size": 2, "global_attn_indexes": [0],
            "num_pos_feats": 8,
        },
        prompt_encoder_config={"hidden_size": 16, "image_size": 64, "patch_size": 16, "mask_input_channels": 4},
        mask_decoder_config={
            "hidden_size": 16, "mlp_dim": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
            "iou_head_depth": 2, "iou_head_hidden_dim": 16,
        },
    )  # fmt: skip
    place = tmp_path_factory.mktemp("sam") / "tiny-sam"
    SamModel(config).save_pretrained(place)
    processor = SamImageProcessor(size={"longest_edge": 64}, pad_size={"height": 64, "width": 64})
    SamProcessor(processor).save_pretrained(place)
    processor.save_pretrained(place)
    return place


def test_a_saved_sam_gives_masks_of_the_photos_size(folder: Path) -> None:
    sam = load_sam(str(folder))
    assert isinstance(sam, Segmenter) and sam.id.startswith("sam:tiny-sam") and len(sam.weight_hash) == 16
    photo = np.random.default_rng(0).integers(0, 255, (30, 40, 3), dtype=np.uint8)
    masks = sam.masks(photo)
    assert masks.dtype == bool and masks.shape[1:] == (30, 40)
    settings = replace(FeatureSettings(clip_side=32), segments="sam:x")
    found = extract_features(photo, MeanColour(), None, settings, segmenter=sam).clip
    assert found.index.shape == (30, 40)


def test_masks_become_regions(monkeypatch: pytest.MonkeyPatch) -> None:
    sam = Sam.__new__(Sam)
    mask = np.zeros((30, 40), dtype=bool)
    mask[5:15, 10:30] = True
    sam._pipeline = lambda picture, **settings: {"masks": [mask]}
    sam._points, sam.id, sam.weight_hash = 4, "sam:fake", "0" * 16
    photo = np.full((30, 40, 3), 77, dtype=np.uint8)
    found = extract_features(photo, MeanColour(), None, FeatureSettings(segments="sam:fake"), segmenter=sam).clip
    assert np.array_equal(found.index == found.index[10, 20], mask) and len(found.vectors) == 2


def test_what_is_no_sam_is_said(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="lacks config.json"):
        load_sam(str(tmp_path))
    with pytest.raises(EncoderError, match="no folder"):
        load_sam("/no/such/place")
