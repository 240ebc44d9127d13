"""SAM through transformers, with a tiny random one saved in the real format."""

import shutil
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fake_encoders import MeanColour
from PIL import Image

from ovseg3d.encoders.sam import Sam, load_sam
from ovseg3d.errors import EncoderError
from ovseg3d.features.cache import FeatureCache
from ovseg3d.features.extract import FeatureSettings, extract_features
from ovseg3d.features.lazy import lazy_sam
from ovseg3d.features.maps import from_arrays, to_arrays
from ovseg3d.features.scenes import Encoders, encode_photos
from ovseg3d.features.segments import Segmenter
from ovseg3d.scene import load_scene


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
    assert isinstance(sam, Segmenter) and sam.id.startswith("sam:") and len(sam.weight_hash) == 16
    photo = np.random.default_rng(0).integers(0, 255, (30, 40, 3), dtype=np.uint8)
    assert all(mask.dtype == bool and mask.shape == (30, 40) for mask in sam.masks(photo))
    settings = replace(FeatureSettings(clip_side=32), segments="sam:x")
    features = extract_features(photo, MeanColour(), None, settings, segmenter=sam)
    assert features.clip.index.shape == (30, 40) == features.clip.masks.shape[1:]
    assert np.array_equal(from_arrays(to_arrays(features)).clip.masks, features.clip.masks)


def test_masks_become_regions(monkeypatch: pytest.MonkeyPatch) -> None:
    sam = Sam.__new__(Sam)
    mask = np.zeros((30, 40), dtype=bool)
    mask[5:15, 10:30] = True
    sam._pipeline = lambda image, **settings: {"masks": [mask]}
    sam._points, sam.id, sam.weight_hash = 4, "sam:fake", "0" * 16
    photo = np.full((30, 40, 3), 77, dtype=np.uint8)
    found = extract_features(photo, MeanColour(), None, FeatureSettings(segments="sam:fake"), segmenter=sam).clip
    assert np.array_equal(found.index == found.index[10, 20], mask) and len(found.vectors) == 2


def test_masks_of_few_points_at_once_are_those_of_all(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A random SAM thinks little of its masks: here it keeps all that it finds."""
    sam, photo = load_sam(str(folder)), np.random.default_rng(0).integers(0, 255, (30, 40, 3), dtype=np.uint8)
    run, found = sam._pipeline, []
    sam._pipeline = lambda *args, **rest: run(
        *args, **rest, pred_iou_thresh=-1.0, stability_score_thresh=-1.0, crops_nms_thresh=0.99
    )
    for points in (5, 256):
        monkeypatch.setattr("ovseg3d.encoders.sam._AT_ONCE", points)
        found.append(list(sam.masks(photo)))
    assert len(found[0]) == len(found[1]) > 0
    assert all(np.array_equal(few, many) for few, many in zip(*found))


def test_large_photos_cost_no_more_than_sam_sees_of_them() -> None:
    """Masks of all points at once, at the photo's size, were gigabytes."""
    sam, asked = Sam.__new__(Sam), {}

    def masks(image: Image.Image, **settings: int) -> dict[str, list[np.ndarray]]:
        asked.update(settings, size=image.size)
        mask = np.zeros(image.size[::-1], dtype=bool)
        mask[:, : image.width // 4] = True
        return {"masks": [mask]}

    sam._pipeline, sam._points, sam.id, sam.weight_hash = masks, 16, "sam:fake", "0" * 16
    photo = np.full((1536, 2048, 3), 77, dtype=np.uint8)
    settings = FeatureSettings(segments="sam:fake", clip_side=32, map_side=48)
    found = extract_features(photo, MeanColour(), None, settings, segmenter=sam).clip
    assert asked["size"] == (1024, 768) and asked["points_per_batch"] <= 32
    assert found.index.shape == (48, 64)
    assert (found.index[:, :16] == found.index[0, 0]).all() and not (found.index[:, 16:] == found.index[0, 0]).any()


def test_masks_are_taken_one_at_a_time() -> None:
    class Counting:
        id, weight_hash, alive, most = "counting", "0" * 16, 0, 0

        def masks(self, photo: np.ndarray) -> Iterator[np.ndarray]:
            for column in range(8):
                mask = np.zeros(photo.shape[:2], dtype=bool)
                mask[:, column * 10 : column * 10 + 10 + column] = True
                self.alive += 1
                weakref.finalize(mask, self.gone)
                self.most = max(self.most, self.alive)
                yield mask
                del mask

        def gone(self) -> None:
            self.alive -= 1

    segmenter = Counting()
    photo = np.full((80, 80, 3), 77, dtype=np.uint8)
    found = extract_features(
        photo, MeanColour(), None, FeatureSettings(segments="sam:x", clip_side=32), segmenter=segmenter
    ).clip
    assert segmenter.most <= 2 and segmenter.alive == 0
    # The smaller of two masks is above: the first ends where the second begins, the second reaches into the third.
    assert [int(found.index[0, column]) for column in (5, 15, 20, 25)] == [0, 1, 1, 2]


def test_a_sam_that_was_moved_is_the_same(folder: Path, tmp_path: Path, tiny_scene: Path) -> None:
    moved = shutil.copytree(folder, tmp_path / "somewhere" / "renamed")
    scene = load_scene(tiny_scene)
    scene = replace(scene, frames=scene.frames[:1], train=(0,), test=())
    keys = []
    for place in (folder, moved):
        settings = FeatureSettings(clip_side=32, segments=f"sam:{place}")
        encoders = Encoders(MeanColour(), None, load_sam(str(place)), settings, FeatureCache.at(tmp_path), "cpu")
        found = encode_photos(scene, encoders)
        keys += found.keys
    assert keys[0] == keys[1]


def test_a_second_start_loads_it_when_a_photo_comes(folder: Path, tmp_path: Path) -> None:
    cache = FeatureCache.at(tmp_path)
    loaded, known = (lazy_sam(str(folder), cache) for _ in range(2))
    assert isinstance(loaded, Sam) and not isinstance(known, Sam) and isinstance(known, Segmenter)
    assert (known.id, known.weight_hash) == (loaded.id, loaded.weight_hash)
    photo = np.random.default_rng(0).integers(0, 255, (30, 40, 3), dtype=np.uint8)
    assert len(list(known.masks(photo))) == len(list(loaded.masks(photo)))


def test_what_is_no_sam_is_said(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="lacks config.json"):
        load_sam(str(tmp_path))
    with pytest.raises(EncoderError, match="no folder"):
        load_sam("/no/such/place")
