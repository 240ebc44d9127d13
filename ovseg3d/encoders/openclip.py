"""Text-image encoders through open_clip: CLIP, SigLIP, MobileCLIP, EVA, CoCa and what else it knows.

Names: `ARCHITECTURE:TAG` ("ViT-B-16:laion2b_s34b_b88k"), `ARCHITECTURE:FILE` (weights as open_clip saves them),
a folder or `local-dir:FOLDER` (open_clip_config.json, weights, tokenizer files), `hf-hub:OWNER/NAME`. Weights have to
fit the architecture tensor by tensor. Preprocessing, logit scale and bias come from the model's configuration; for
`ARCHITECTURE:FILE` preprocessing is what that architecture's published weights agree on. Which activation a file was
trained with is not in it: OpenAI's own weights and some others need the architecture's "-quickgelu" name.

A phrase longer than the model reads is an error, never a cut phrase.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ovseg3d.encoders import hub, weights
from ovseg3d.encoders.base import Preprocess, check_sides, unit
from ovseg3d.encoders.towers import DENSE_PATHS, Tower
from ovseg3d.errors import EncoderError, nearest
from ovseg3d.files import read_json

_TOKENIZER_FILES = ("tokenizer.json", "spiece.model", "sentencepiece.bpe.model", "vocab.txt", "vocab.json")
_TOKENIZER_EXTRAS = ("tokenizer_config.json", "special_tokens_map.json")
_WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth")
_PHRASES_AT_ONCE = 64


class OpenClipEncoder:
    """A TextImageEncoder around an open_clip model.

    Args:
        model: as `open_clip.create_model` makes it.
        tokenizer: the one that belongs to it.
        name: the encoder's id.
        dim: length of a vector in the joint space.
        device: where to compute.
        dense_path: how the last block is walked for dense features, see `towers`; None: as `usual_path` says.
        usual_path: the path that belongs to the model; its hash tells models of different ones apart.
        files: what the weights were read from, for the hash; without it the state dict is hashed.
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
        usual_path: str = "auto",
        files: Sequence[Path] = (),
    ) -> None:
        dense_path = dense_path or usual_path
        for path in (dense_path, usual_path):
            if path not in DENSE_PATHS:
                raise EncoderError(f"There is no dense path {path!r}", fix=f"use one of {', '.join(DENSE_PATHS)}")
        self.model = model.eval().requires_grad_(False).to(device)
        self.id = name if dense_path == usual_path else f"{name}+{dense_path}"
        self.dim = dim
        self.device = device
        self.preprocess = preprocess_of(model.visual.preprocess_cfg)
        self.logit_scale = float(model.logit_scale.exp())
        bias = getattr(model, "logit_bias", None)
        self.logit_bias = None if bias is None else float(bias)
        self._tokenizer = tokenizer
        self._tower = Tower(model.visual)
        self._dense_path = dense_path
        self._files = tuple(files)
        self._note = "" if usual_path == "auto" else usual_path
        self._hash: str | None = None
        self._changed = False

    @property
    def dense(self) -> bool:
        """Whether patches can be brought into the joint space: True for ViTs, False for convolutional towers."""
        return self._tower.dense

    @property
    def patch(self) -> int:
        """Pixels of a patch; the whole picture's where there are no patches."""
        return self._tower.patch if self.dense else self.preprocess.size[0]

    @property
    def weight_hash(self) -> str:
        """Over the files that were loaded; over the state dict as it is now once a block was replaced or doubled."""
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
        """Unit vectors of whole pictures of any size, rgb in 0..1."""
        return unit(self.model.encode_image(self.preprocess(images.to(self.device)), normalize=True))

    def encode_dense(self, images: Float[Tensor, "views 3 h w"]) -> Float[Tensor, "views dim gh gw"]:
        """Unit vectors of patches in the joint space; sides multiples of `patch`. Raises EncoderError."""
        return unit(self._tower.project(self.tokens(images))).permute(0, 3, 1, 2)

    def tokens(self, images: Float[Tensor, "views 3 h w"]) -> Float[Tensor, "views gh gw width"]:
        """What `encode_dense` projects: patch tokens behind the last block, on the encoder's dense path."""
        if not self.dense:
            raise EncoderError(
                f"{self.id} has no dense features: its picture tower does not keep one token per patch",
                fix="use --features regions or pyramid, which encode crops, or a ViT",
            )
        check_sides(images, self.patch)
        return self._tower.tokens(self.preprocess.normalize(images.to(self.device)), self._dense_path)

    def replace_block(self, index: int, module: nn.Module) -> None:
        """Put `module` in place of a block of the picture's tower; it takes and gives tokens as the block did."""
        self._tower.replace(index, module.to(self.device))
        self._changed = True

    def double_block(self, index: int) -> nn.Module:
        """Set a copy of a block beside it, their outputs averaged; returns the copy, ready to be trained."""
        copy = self._tower.double(index)
        self._changed = True
        return copy.requires_grad_(True)

    def _tokenize(self, phrases: Sequence[str]) -> Int[Tensor, "phrases length"]:
        nothing, rows = self._tokenizer([""]), self._tokenizer(list(phrases))
        length = rows.shape[1]
        # Read on beyond the end: where that differs from what an empty phrase leaves there, something would be cut off.
        beyond = self._tokenizer(["", *phrases], context_length=4 * length)[:, length:]
        for phrase, row, rest in zip(phrases, rows, beyond[1:]):
            shown = phrase if len(phrase) <= 60 else phrase[:57] + "..."
            if not phrase.strip() or torch.equal(row, nothing[0]):
                raise EncoderError(f"There is no word in the phrase {shown!r}", fix="say what to look for")
            if not torch.equal(rest, beyond[0]):
                raise EncoderError(
                    f"The phrase {shown!r} is too long: {self.id} reads {length} tokens, about {length * 3 // 4} words",
                    fix="say it in fewer words",
                )
        return rows


def preprocess_of(settings: dict[str, Any]) -> Preprocess:
    """Preprocessing as open_clip writes it down."""
    size = settings.get("size", 224)
    height, width = (size, size) if isinstance(size, int) else size
    interpolation = settings.get("interpolation", "bicubic")
    return Preprocess(
        size=(int(height), int(width)),
        mean=tuple(float(value) for value in settings["mean"]),
        std=tuple(float(value) for value in settings["std"]),
        interpolation=interpolation if interpolation in ("bilinear", "nearest") else "bicubic",
        resize_mode=settings.get("resize_mode") or "shortest",
        fill=float(settings.get("fill_color") or 0) / 255,
    )


@dataclass(frozen=True)
class _Source:
    """Where a model comes from, everything on this disk already."""

    name: str
    """The encoder's id."""
    model: str
    """What open_clip calls it."""
    files: tuple[Path, ...]
    """What its hash is over: weights first."""
    pretrained: str | None = None
    quick_gelu: bool = False
    preprocess: dict[str, Any] = field(default_factory=dict)
    tokenizer: Path | None = None
    """A folder with the tokenizer's files, for a tokenizer of transformers."""
    dense_path: str = "auto"
    """What the model's card says about dense features."""


def load(
    name: str, device: torch.device, *, dense_path: str | None = None, label: str | None = None
) -> OpenClipEncoder:
    """A model by name, see the module.

    Args:
        name: as the module lists.
        device: where to compute.
        dense_path: how dense features are made, see `towers`; None: what "dense_path" in a folder's card.json says,
            else "auto".
        label: an id to use instead of the usual one.

    Raises:
        EncoderError: unknown, not to be had, or weights that do not fit.
    """
    import open_clip

    source = _resolve(name)
    try:
        with hub.offline():
            model = open_clip.create_model(
                source.model,
                source.pretrained,
                force_quick_gelu=source.quick_gelu,
                force_preprocess_cfg=source.preprocess,
                require_pretrained=True,
            )
            tokenizer = _tokenizer(source)
    except MemoryError:
        raise
    except Exception as error:  # open_clip raises whatever json, pickle, safetensors or torch raised.
        raise weights.wrong_checkpoint(error, source.model, source.files[0]) from error
    weights.check_positions(model, source.files[0], source.model)
    config = open_clip.get_model_config(source.model)
    return OpenClipEncoder(
        model,
        tokenizer,
        name=label or source.name,
        dim=int(config["embed_dim"]),
        device=device,
        dense_path=dense_path,
        usual_path=source.dense_path,
        files=source.files,
    )


def models() -> list[str]:
    """The architectures that open_clip knows."""
    import open_clip

    return open_clip.list_models()


def _resolve(name: str) -> _Source:
    if name.startswith("hf-hub:"):
        return _from_hub(name)
    folder = Path(name.removeprefix("local-dir:")).expanduser()
    if name.startswith("local-dir:") or folder.is_dir():
        return _from_folder(folder, f"open_clip:local-dir:{folder.resolve().name}")
    architecture, _, pretrained = name.partition(":")
    architecture = architecture.replace("/", "-")
    known = models()
    if architecture not in known:
        raise _unknown(name, architecture, known)
    return _from_weights(architecture, pretrained)


def _unknown(name: str, architecture: str, known: Sequence[str]) -> EncoderError:
    path = Path(name).expanduser()
    if path.is_file():
        return EncoderError(
            "A file of weights does not say which architecture it belongs to",
            where=path,
            fix=f"write it in front: --clip ViT-B-16:{name}",
        )
    if "/" in name or name.startswith((".", "~")):
        return EncoderError(f"There is no folder {name}", fix="check the path, or write hf-hub:OWNER/NAME for the hub")
    close = nearest(architecture, ["builtin", *known])
    hint = f"did you mean {close}?" if close else "`open_clip.list_models()` lists the names"
    return EncoderError(f"Unknown model {architecture!r} for --clip", fix=hint)


def _from_weights(architecture: str, pretrained: str) -> _Source:
    import open_clip
    from open_clip.constants import HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME
    from open_clip.pretrained import get_pretrained_cfg

    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if not pretrained:
        if len(tags) != 1:
            some = ", ".join(tags[:6]) + (", ..." if len(tags) > 6 else "")
            raise EncoderError(
                f"{architecture} says nothing about the weights",
                fix=f"write {architecture}:TAG with one of {some}" if tags else f"write {architecture}:FILE",
            )
        pretrained = tags[0]
    published = get_pretrained_cfg(architecture, pretrained)
    if not published:
        return _from_file(architecture, pretrained, tags)
    repo, _, file = published["hf_hub"].rpartition("/")
    names = (HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME)
    if file:
        names = (str(Path(file).with_suffix(".safetensors")), file)
    example = f"{architecture}:/path/to/{names[0]}"
    path = hub.fetch(repo, names, flag="--clip", example=example)
    keys = ("mean", "std", "interpolation", "resize_mode")
    return _Source(
        name=f"open_clip:{architecture}:{pretrained}",
        model=architecture,
        files=(path,),
        pretrained=str(path),
        quick_gelu=bool(published.get("quick_gelu")),
        preprocess={key: published[key] for key in keys if key in published},
        tokenizer=_text_files(architecture, example),
    )


def _from_file(architecture: str, pretrained: str, tags: Sequence[str]) -> _Source:
    path = Path(pretrained).expanduser()
    if not path.is_file():
        close = nearest(pretrained, tags)
        if path.suffix in _WEIGHT_SUFFIXES or path.parent != Path("."):
            raise EncoderError("There is no such file of weights", where=path, fix="check the path")
        hint = f"did you mean {close}?" if close else f"use one of {', '.join(tags[:6])}, or the path of a file"
        raise EncoderError(f"{architecture} has no weights called {pretrained!r}", fix=hint)
    beside = path.parent if any((path.parent / name).is_file() for name in _TOKENIZER_FILES) else None
    return _Source(
        name=f"open_clip:{architecture}:{path.name}",
        model=architecture,
        files=(path,),
        pretrained=str(path),
        preprocess=_agreed(architecture, tags),
        tokenizer=_text_files(architecture, f"{architecture}:{path} with tokenizer.json beside it", beside),
    )


def _agreed(architecture: str, tags: Sequence[str]) -> dict[str, Any]:
    """The preprocessing that all published weights of an architecture share; nothing where they differ."""
    from open_clip.pretrained import get_pretrained_cfg

    keys = ("mean", "std", "interpolation", "resize_mode")
    found = [{key: get_pretrained_cfg(architecture, tag).get(key) for key in keys} for tag in tags]
    same = bool(found) and all(entry == found[0] for entry in found)
    return {key: value for key, value in found[0].items() if value is not None} if same else {}


def _text_files(architecture: str, example: str, beside: Path | None = None) -> Path | None:
    """The folder of the tokenizer's files, for architectures that take a tokenizer from the hub."""
    import open_clip

    text = open_clip.get_model_config(architecture)["text_cfg"]
    if text.get("hf_model_name"):
        hub.fetch(text["hf_model_name"], ("config.json",), flag="--clip", example=example)
    repo = text.get("hf_tokenizer_name")
    if not repo:
        return None
    if beside is not None:
        return beside
    path = hub.fetch(repo, _TOKENIZER_FILES, flag="--clip", example=example)
    for name in _TOKENIZER_EXTRAS:
        hub.fetch_optional(repo, name)
    return path.parent


def _from_hub(name: str) -> _Source:
    from open_clip.constants import HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME

    repo = name.removeprefix("hf-hub:")
    example = "local-dir:/path/to/folder"
    config = hub.fetch(repo, ("open_clip_config.json",), flag="--clip", example=example)
    hub.fetch(repo, (HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME), flag="--clip", example=example)
    for file in (*_TOKENIZER_FILES[:1], *_TOKENIZER_EXTRAS):
        hub.fetch_optional(repo, file)
    return _from_folder(config.parent, f"open_clip:{name}")


def _from_folder(folder: Path, name: str) -> _Source:
    config = folder / "open_clip_config.json"
    if not config.is_file():
        what = "holds no open_clip model" if folder.is_dir() else "does not exist"
        raise EncoderError(
            f"The folder {what}",
            where=folder,
            fix="it needs open_clip_config.json, weights (open_clip_model.safetensors) and tokenizer files",
        )
    read_json(config, EncoderError)
    found = sorted(path for path in folder.iterdir() if path.suffix in (".safetensors", ".bin", ".pth"))
    if not found:
        raise EncoderError("The folder has no weights", where=folder, fix="add open_clip_model.safetensors")
    card = read_json(folder / "card.json", EncoderError) if (folder / "card.json").is_file() else {}
    path = card.get("dense_path", "auto")
    return _Source(name=name, model=f"local-dir:{folder}", files=(*found, config), dense_path=path)


def _tokenizer(source: _Source) -> Any:
    import open_clip

    if source.tokenizer is None:
        return open_clip.get_tokenizer(source.model)
    text = open_clip.get_model_config(source.model)["text_cfg"]
    options = {"context_length": text["context_length"]} if "context_length" in text else {}
    return open_clip.tokenizer.HFTokenizer(
        str(source.tokenizer), tokenizer_mode=text.get("tokenizer_mode"), **options, **text.get("tokenizer_kwargs", {})
    )
