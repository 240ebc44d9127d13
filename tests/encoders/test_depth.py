"""Monocular depth through transformers, with a tiny random Depth Anything saved in the real format."""

from pathlib import Path

import numpy as np
import pytest

from ovseg3d.encoders.depth import DepthEstimator, load_depth_estimator
from ovseg3d.errors import EncoderError

PHOTO = np.random.default_rng(0).integers(0, 255, (30, 40, 3), dtype=np.uint8)


def save(folder: Path, **settings: object) -> Path:
    import torch
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config, DPTImageProcessor

    torch.manual_seed(0)
    backbone = Dinov2Config(
        hidden_size=8, num_hidden_layers=4, num_attention_heads=2, image_size=28, patch_size=14,
        out_features=["stage1", "stage2", "stage3", "stage4"], reshape_hidden_states=False, apply_layernorm=True,
    )  # fmt: skip
    config = DepthAnythingConfig(
        backbone_config=backbone, reassemble_hidden_size=8, neck_hidden_sizes=[8, 8, 8, 8], fusion_hidden_size=8,
        head_hidden_size=8, patch_size=14, **settings,
    )  # fmt: skip
    model = DepthAnythingForDepthEstimation(config)
    for name, tensor in model.named_parameters():
        if name == "head.conv3.bias":  # a random model predicts 0 nearly everywhere
            torch.nn.init.ones_(tensor)
    model.save_pretrained(folder)
    DPTImageProcessor(size={"height": 28, "width": 28}, ensure_multiple_of=14).save_pretrained(folder)
    return folder


def test_a_saved_model_predicts_disparity_of_the_photos_size(tmp_path: Path) -> None:
    model = load_depth_estimator(str(save(tmp_path / "relative")))
    disparity = model.disparity(PHOTO)
    assert disparity.shape == PHOTO.shape[:2] and np.isfinite(disparity).all() and disparity.std() > 0
    moved = (tmp_path / "relative").rename(tmp_path / "moved")
    assert DepthEstimator(moved, "moved").weight_hash == model.weight_hash


def test_metric_depth_becomes_disparity(tmp_path: Path) -> None:
    relative = load_depth_estimator(str(save(tmp_path / "relative"))).disparity(PHOTO)
    metric = load_depth_estimator(
        str(save(tmp_path / "metric", depth_estimation_type="metric", max_depth=1))
    ).disparity(PHOTO)
    # The metric model passes the same numbers through a sigmoid, and predicts depth: near and far change places.
    assert np.corrcoef(relative.ravel(), metric.ravel())[0, 1] < -0.9 and metric.min() > 0.99


def test_a_model_that_is_not_there_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="There is no folder"):
        load_depth_estimator(str(tmp_path / "nothing"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(EncoderError, match="lacks"):
        load_depth_estimator(str(tmp_path / "empty"))


def test_a_model_of_another_kind_is_refused(tmp_path: Path) -> None:
    from transformers import Dinov2Config, Dinov2Model, DPTImageProcessor

    Dinov2Model(Dinov2Config(hidden_size=8, num_hidden_layers=1, num_attention_heads=2)).save_pretrained(tmp_path)
    DPTImageProcessor().save_pretrained(tmp_path)
    with pytest.raises(EncoderError):
        load_depth_estimator(str(tmp_path))


def test_metric_depth_is_in_metres_and_relative_models_are_refused(tmp_path: Path) -> None:
    model = load_depth_estimator(str(save(tmp_path / "metric", depth_estimation_type="metric", max_depth=5)))
    depth_z, focal = model.metric_depth(PHOTO)
    assert depth_z.shape == PHOTO.shape[:2] and focal is None and 0 <= depth_z.min() and 0 < depth_z.max() <= 5.5
    with pytest.raises(EncoderError, match="without a scale"):
        load_depth_estimator(str(save(tmp_path / "relative"))).metric_depth(PHOTO)
