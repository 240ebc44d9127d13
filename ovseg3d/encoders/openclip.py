"""Text-image encoders through open_clip: CLIP, SigLIP, MobileCLIP, EVA, CoCa and what else it knows.

See `sources` for names and files, and `towers` for dense features. Weights have to fit the architecture tensor by
tensor. Preprocessing, logit scale and bias come from the model's configuration.

A phrase beyond the model's context length is an error; phrases are never truncated.
"""

import logging
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ovseg3d.encoders import hub, sources, weights
from ovseg3d.encoders.base import Preprocess, check_sides, triple, unit
from ovseg3d.encoders.sources import Source
from ovseg3d.encoders.towers import DENSE_PATHS, tower_of
from ovseg3d.errors import EncoderError
from ovseg3d.limits import first_line

_PHRASES_AT_ONCE = 64


class OpenClipEncoder:
    """A TokenEncoder around an open_clip model.

    Args:
        model: as `open_clip.create_model` makes it.
        tokenizer: of the model.
        name: the encoder's id.
        dim: length of a vector in the joint space.
        device: for computing.
        dense_path: path through the last block for dense features, see `towers`; None: that of `source`.
        source: origin of the model. The hash is over its files and its dense path; without it over the state dict.

    Raises:
        EncoderError: unknown dense path, or invalid preprocessing.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,
        *,
        name: str,
        dim: int,
        device: torch.device,
        dense_path: str | None = None,
        source: Source | None = None,
    ) -> None:
        files = source.files if source is not None else ()
        usual_path = source.dense_path if source is not None else "auto"
        dense_path = dense_path or usual_path
        for path in (dense_path, usual_path):
            if path not in DENSE_PATHS:
                raise EncoderError(f"There is no dense path {path!r}", fix=f"use one of {', '.join(DENSE_PATHS)}")
        self.model: Any = model.eval().requires_grad_(False).to(device)
        self.id = name if dense_path == usual_path else f"{name}+{dense_path}"
        self.dim = dim
        self.device = device
        self.preprocess = _preprocess(model, files)
        parts: Any = model  # open_clip's models have no declared interface
        self.logit_scale = float(parts.logit_scale.exp())
        bias = getattr(model, "logit_bias", None)
        self.logit_bias = None if bias is None else float(bias)
        self._tokenizer = tokenizer
        self._one_at_a_time = threading.Lock()
        self._length: int | None = None
        self._tower = tower_of(parts.visual)
        self._dense_path = dense_path
        self._files = tuple(files)
        self.places: tuple[Path, ...] = source.places if source is not None else ()
        """Files and folders that identify the encoder while they do not change, see `features.lazy`."""
        self.calibration = source.calibration if source is not None else None
        """The calibration of probabilities in the model's card."""
        self._note = "" if usual_path == "auto" else usual_path
        self._hash: str | None = None
        self._changed = False

    @property
    def dense(self) -> bool:
        """Whether patches can be projected to the joint space: for ViTs, and for most convolutional towers."""
        return self._tower.dense

    @property
    def patch(self) -> int:
        """Pixels of a patch; the image's size if there are no patches."""
        return self._tower.patch if self.dense else self.preprocess.size[0]

    @property
    def weight_hash(self) -> str:
        """Hash of the loaded files; of the current state dict once a block was replaced or doubled."""
        if self._changed:
            return weights.hash_state(self.model.state_dict())
        if self._hash is None:
            files = self._files
            self._hash = weights.hash_files(files, self._note) if files else weights.hash_state(self.model.state_dict())
        return self._hash

    def encode_text(self, phrases: Sequence[str]) -> Float[Tensor, "phrases dim"]:
        """Unit vectors of phrases. Raises EncoderError for an empty phrase and for one that is too long."""
        if isinstance(phrases, str):
            raise TypeError("encode_text takes a list of phrases, not one phrase")
        if not phrases:
            return torch.zeros(0, self.dim, device=self.device)
        rows = self._tokenize(phrases).to(self.device)
        parts = [self.model.encode_text(part, normalize=True) for part in rows.split(_PHRASES_AT_ONCE)]
        return unit(torch.cat(parts))

    def encode_image(self, images: Float[Tensor, "views 3 h w"]) -> Float[Tensor, "views dim"]:
        """Unit vectors of whole images of any size, rgb in 0..1."""
        return unit(self.model.encode_image(self.preprocess(images.to(self.device)), normalize=True))

    def encode_dense(self, images: Float[Tensor, "views 3 h w"]) -> Float[Tensor, "views dim gh gw"]:
        """Unit vectors of patches in the joint space; sides multiples of `patch`. Raises EncoderError."""
        return unit(self._tower.project(self.tokens(images))).permute(0, 3, 1, 2)

    def tokens(self, images: Float[Tensor, "views 3 h w"]) -> Float[Tensor, "views gh gw width"]:
        """The input of `encode_dense`'s projection: patch tokens after the last block, on the encoder's dense path.

        Raises:
            EncoderError: sides are not multiples of `patch`, or the model has no dense features.
        """
        if not self.dense:
            raise EncoderError(
                f"{self.id} has no dense features: its image tower does not keep one token per patch",
                fix="use --features regions or pyramid, which encode crops, or a ViT",
            )
        check_sides(images, self.patch)
        return self._tower.tokens(self.preprocess.normalize(images.to(self.device)), self._dense_path)

    def replace_block(self, index: int, module: nn.Module) -> None:
        """Replace a block of the image tower by `module`, which takes and returns tokens like the block."""
        self._tower.replace(index, module.to(self.device))
        self._changed = True

    def double_block(self, index: int) -> nn.Module:
        """Add a copy in parallel to a block, with averaged outputs; returns the copy, which can be trained."""
        copy = self._tower.double(index)
        self._changed = True
        return copy.requires_grad_(True)

    def _tokenize(self, phrases: Sequence[str]) -> Int[Tensor, "phrases length"]:
        # Tokenizers keep their padding and truncation, so that one call at a time may use them.
        with self._one_at_a_time, _blamed_on_tokenizer(self._files[0].parent if self._files else None):
            length = self._length = self._length or int(self._tokenizer([""]).shape[1])
            # Tokenize beyond the context length: where the result differs from an empty phrase's, it is too long.
            nothing, *rows = self._tokenizer(["", *phrases], context_length=4 * length)
        for phrase, row in zip(phrases, rows):
            shown = phrase if len(phrase) <= 60 else phrase[:57] + "..."
            if not phrase.strip() or torch.equal(row, nothing):
                raise EncoderError(f"There is no word in the phrase {shown!r}", fix="say what to look for")
            if not torch.equal(row[length:], nothing[length:]):
                raise EncoderError(
                    f"The phrase {shown!r} is too long: {self.id} reads {length} tokens, about {length * 3 // 4} words",
                    fix="say it in fewer words",
                )
        return torch.stack(rows)[:, :length]


def _preprocess(model: Any, files: Sequence[Path]) -> Preprocess:
    try:
        return preprocess_of(model.visual.preprocess_cfg)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise EncoderError(
            f"'preprocess_cfg' is invalid ({first_line(error)})",
            where=files[-1] if files else None,
            fix="use the file that belongs to the weights",
        ) from error


def preprocess_of(settings: dict[str, Any]) -> Preprocess:
    """Preprocessing from open_clip's configuration."""
    size = settings.get("size", 224)
    height, width = (size, size) if isinstance(size, int) else size
    interpolation = settings.get("interpolation", "bicubic")
    return Preprocess(
        size=(int(height), int(width)),
        mean=triple(settings["mean"]),
        std=triple(settings["std"]),
        interpolation=interpolation if interpolation in ("bilinear", "nearest") else "bicubic",
        resize_mode=settings.get("resize_mode") or "shortest",
        fill=float(settings.get("fill_color") or 0) / 255,
    )


def load(
    name: str, device: torch.device, *, dense_path: str | None = None, label: str | None = None
) -> OpenClipEncoder:
    """A model by name, see `sources`.

    Args:
        name: as `sources` lists.
        device: for computing.
        dense_path: how dense features are computed, see `towers`; None: "dense_path" of a folder's card.json, else
            "auto".
        label: an id to use instead of the usual one.

    Raises:
        EncoderError: unknown, not available, or weights that do not fit.
    """
    import open_clip

    source = sources.resolve(name)
    try:
        with hub.offline():
            model = open_clip.create_model(
                source.model,
                source.pretrained,
                force_quick_gelu=source.quick_gelu,
                force_preprocess_cfg=source.preprocess,
                require_pretrained=True,
            )
    except MemoryError:
        raise
    except Exception as error:  # open_clip raises whatever json, pickle, safetensors or torch raised.
        raise weights.wrong_checkpoint(error, source.model, source.files[0], _without_weights(source)) from error
    weights.check_positions(model, source.files[0], source.model)
    with hub.offline(), _blamed_on_tokenizer(source.tokenizer or source.files[0].parent):
        tokenizer = _tokenizer(source)
    config = open_clip.get_model_config(source.model)
    assert config is not None, "a model that was made has a configuration"
    return OpenClipEncoder(
        model,
        tokenizer,
        name=label or source.name,
        dim=int(config["embed_dim"]),
        device=device,
        dense_path=dense_path,
        source=source,
    )


@contextmanager
def _blamed_on_tokenizer(where: Path | None) -> Generator[None, None, None]:
    """Convert errors of tokenizers, which may raise anything; the fast ones raise Rust panics, a BaseException."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:
        raise EncoderError(
            f"The tokenizer cannot be read: {first_line(error)}",
            where=where,
            fix="add the model's tokenizer.json and tokenizer_config.json",
        ) from error


def _without_weights(source: Source) -> nn.Module | None:
    """The model of the architecture without weights, or None if it cannot be created."""
    import open_clip

    before = logging.root.manager.disable
    logging.disable(logging.WARNING)  # The warning of random weights does not matter here.
    try:
        with hub.offline():
            return open_clip.create_model(source.model, load_weights=False)
    except Exception:  # The original error is reported.
        return None
    finally:
        logging.disable(before)


def _tokenizer(source: Source) -> Any:
    import open_clip

    if source.tokenizer is None:
        return open_clip.get_tokenizer(source.model)
    config = open_clip.get_model_config(source.model)
    assert config is not None, "a model that was made has a configuration"
    text = config["text_cfg"]
    options = {"context_length": text["context_length"]} if "context_length" in text else {}
    return open_clip.tokenizer.HFTokenizer(
        str(source.tokenizer),
        tokenizer_mode=text.get("tokenizer_mode"),
        trust_remote_code=False,
        **options,
        **text.get("tokenizer_kwargs", {}),
    )
