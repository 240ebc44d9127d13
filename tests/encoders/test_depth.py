"""Monocular depth: the built-in network, and a tiny random Depth Anything of transformers saved in the real format."""

from pathlib import Path

import numpy as np
import pytest

from ovseg3d.encoders.depth import TransformersDepth, load_depth_estimator
from ovseg3d.encoders.depth_network import AREA, SHIPPED, STRIDE, input_size, load_network
from ovseg3d.errors import ConfigError, EncoderError
from ovseg3d.files import read_json

PHOTO = np.random.default_rng(0).integers(0, 255, (30, 40, 3), dtype=np.uint8)
LENS = (30.0, 30.0, 20.0, 15.0)


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
    disparity = model.disparity(PHOTO, LENS)
    assert disparity.shape == PHOTO.shape[:2] and np.isfinite(disparity).all() and disparity.std() > 0
    moved = (tmp_path / "relative").rename(tmp_path / "moved")
    assert TransformersDepth(moved, "moved").weight_hash == model.weight_hash


def test_metric_depth_becomes_disparity(tmp_path: Path) -> None:
    relative = load_depth_estimator(str(save(tmp_path / "relative"))).disparity(PHOTO, LENS)
    metric = load_depth_estimator(
        str(save(tmp_path / "metric", depth_estimation_type="metric", max_depth=1))
    ).disparity(PHOTO, LENS)
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
    depth_z, focal = model.metric_depth(PHOTO, LENS)
    assert depth_z.shape == PHOTO.shape[:2] and focal is None and 0 <= depth_z.min() and 0 < depth_z.max() <= 5.5
    with pytest.raises(EncoderError, match="without a scale"):
        load_depth_estimator(str(save(tmp_path / "relative"))).metric_depth(PHOTO, LENS)


def test_the_builtin_network_sees_the_depth_of_a_new_room() -> None:
    from ovseg3d.scene import load_scene
    from ovseg3d.scene.images import load_depth, load_photo

    scene = load_scene(Path("scenes/playroom"))
    model, errors = load_depth_estimator("builtin"), []
    for frame in [frame for frame in scene.frames if frame.depth_path][:6]:
        photo, true, camera = load_photo(frame)[..., :3], load_depth(frame, scene), frame.camera
        lens = (camera.fx, camera.fy, camera.cx, camera.cy)
        depth_z, focal = model.metric_depth(photo, lens)
        assert depth_z.shape == true.shape and focal is None and 0.1 < depth_z.min() < depth_z.max() < 20
        np.testing.assert_allclose(model.disparity(photo, lens), 1 / depth_z, rtol=1e-5)
        known = true > 0
        ratio = depth_z[known] / true[known]
        errors.append(np.abs(ratio / np.median(ratio) - 1).mean())
    assert np.mean(errors) < 0.3


def test_a_longer_lens_means_farther_things() -> None:
    model = load_depth_estimator("builtin")
    near, far = (model.metric_depth(PHOTO, (f, f, 20.0, 15.0))[0] for f in (30.0, 60.0))
    assert np.median(far / near) > 1.3


@pytest.mark.parametrize("size", [(4000, 3000), (3000, 4000), (320, 240), (5000, 100), (20, 20)])
def test_photos_of_any_shape_fit(size: tuple[int, int]) -> None:
    width, height = input_size(*size)
    assert width % STRIDE == height % STRIDE == 0 and 0.7 * AREA < width * height < 1.4 * AREA
    assert (width > height) == (size[0] > size[1]) or size[0] == size[1]


def test_the_shipped_network_is_small_and_says_what_it_can() -> None:
    card = read_json(SHIPPED.parent / "card.json")
    assert SHIPPED.stat().st_size < 4_000_000 and "photograph" in card["data"]["never seen"]
    figures = card["figures"]
    assert 0 < figures["relative error, scale fitted"] < figures["relative error"] < 0.5
    assert figures["share within 1.25"] > 0.3 and figures["normal error, median, degrees"] < 40


def test_a_broken_file_is_a_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    for damage in (b"", b"x" * 100, SHIPPED.read_bytes()[:-10]):
        path.write_bytes(damage)
        with pytest.raises(ConfigError, match="no file of a depth network"):
            load_network(path)
