"""Self-supervised encoders through transformers: DINO (facebook/dino-vits8), DINOv2, with registers too, and DINOv3.

Names: an id of the hub, or a folder as `save_pretrained` writes it (config.json, weights, preprocessor_config.json;
`local-dir:` may stand in front), or a weight file in such a folder. Features are the patch tokens of the last hidden
state without class and register tokens, or the keys of the last block, which LERF uses of dino-vits8. Images may have
any size; the model interpolates positions. A checkpoint that lacks a tensor of the model is refused; only the pooling
layer, which is not used, may be missing.
"""

import inspect
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ovseg3d.encoders import hub, weights
from ovseg3d.encoders.base import Interpolation, Preprocess, check_sides, triple, unit
from ovseg3d.encoders.folders import check_model_folder, check_weights
from ovseg3d.errors import EncoderError, nearest
from ovseg3d.files import expand, read_json
from ovseg3d.limits import first_line

Facet = Literal["tokens", "keys"]

KNOWN = (
    "facebook/dino-vits8", "facebook/dino-vits16", "facebook/dino-vitb8", "facebook/dino-vitb16",
    "facebook/dinov2-small", "facebook/dinov2-base", "facebook/dinov2-large", "facebook/dinov2-giant",
    "facebook/dinov2-with-registers-small", "facebook/dinov2-with-registers-base",
    "facebook/dinov2-with-registers-large", "facebook/dinov2-with-registers-giant",
    "facebook/dinov3-vits16-pretrain-lvd1689m", "facebook/dinov3-vits16plus-pretrain-lvd1689m",
    "facebook/dinov3-vitb16-pretrain-lvd1689m", "facebook/dinov3-vitl16-pretrain-lvd1689m",
)  # fmt: skip
"""Names for suggestions; other models of the hub work as well."""

_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")
_PREPROCESSOR = "preprocessor_config.json"
_IMAGENET = {"image_mean": (0.485, 0.456, 0.406), "image_std": (0.229, 0.224, 0.225)}
_RESAMPLE: dict[int, Interpolation] = {0: "nearest", 2: "bilinear", 3: "bicubic"}
_KEY_MODULES = ("k_proj", "key")


class TransformersEncoder:
    """A DenseEncoder around a vision transformer of transformers.

    Args:
        model: a model whose `last_hidden_state` starts with class and register tokens, then one token per patch.
        name: the encoder's id.
        preprocess: of images.
        device: for computing.
        facet: "tokens": the last hidden state; "keys": the keys of the last block, heads concatenated.
        files: files of the weights, for the hash.
        places: files and folders that identify the encoder while they do not change, see `features.lazy`.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        name: str,
        preprocess: Preprocess,
        device: torch.device,
        facet: str = "tokens",
        files: Sequence[Path] = (),
        places: Sequence[Path] = (),
    ) -> None:
        if facet not in get_args(Facet):
            raise EncoderError(f"There is no facet {facet!r}", fix=f"use one of {', '.join(get_args(Facet))}")
        self.model = model.eval().requires_grad_(False).to(device)
        self.id = name if facet == "tokens" else f"{name}+{facet}"
        self.dim, self.patch = _dim_and_patch(model.config, name)
        self.preprocess = preprocess
        self.device = device
        self._files = tuple(files)
        self.places = tuple(places)
        self._hash: str | None = None
        self._keys = _last_keys(model, name) if facet == "keys" else None
        self._prefix = 1 + int(getattr(model.config, "num_register_tokens", 0) or 0)
        # Some models accept any size only with an option.
        asked = "interpolate_pos_encoding" in inspect.signature(model.forward).parameters
        self._options = {"interpolate_pos_encoding": True} if asked else {}

    @property
    def weight_hash(self) -> str:
        """Over the files that were loaded, else over the state dict."""
        if self._hash is None:
            files = self._files
            self._hash = weights.hash_files(files) if files else weights.hash_state(self.model.state_dict())
        return self._hash

    def encode_dense(self, images: Float[Tensor, "views 3 h w"]) -> Float[Tensor, "views dim gh gw"]:
        """Unit vectors of patches, rgb in 0..1, sides multiples of `patch`. Raises EncoderError for other sides."""
        check_sides(images, self.patch)
        rows, columns = (side // self.patch for side in images.shape[-2:])
        tokens = self._hidden(self.preprocess.normalize(images.to(self.device)))
        if tokens.shape[1] != self._prefix + rows * columns:
            raise EncoderError(
                f"{self.id} gives {tokens.shape[1]} tokens for {rows} x {columns} patches and {self._prefix} others",
                fix="choose a plain vision transformer (DINO, DINOv2, DINOv3) for --dino",
            )
        return unit(tokens[:, self._prefix :].unflatten(1, (rows, columns))).permute(0, 3, 1, 2)

    def _hidden(self, pixels: Tensor) -> Tensor:
        if self._keys is None:
            return self.model(pixel_values=pixels, **self._options).last_hidden_state
        caught: list[Tensor] = []

        def catch(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            caught.append(output)

        handle = self._keys.register_forward_hook(catch)
        try:
            self.model(pixel_values=pixels, **self._options)
        finally:
            handle.remove()
        return caught[-1]


def load(name: str, device: torch.device, *, facet: str = "tokens", label: str | None = None) -> TransformersEncoder:
    """A model by name, see the module.

    Args:
        name: hub id, folder, or a weight file in a folder with its config.json.
        device: where to compute.
        facet: "tokens" or "keys".
        label: an id to use instead of the usual one.

    Raises:
        EncoderError: unknown, not available, not a vision transformer, or weights that do not fit.
    """
    folder, called = _resolve(name)
    config = read_json(folder / "config.json", EncoderError)
    if "model_type" not in config:
        raise EncoderError(
            "config.json does not say what model it is (model_type)",
            where=folder,
            fix="give a folder that transformers' save_pretrained wrote",
        )
    files = _weight_files(folder)
    check_model_folder(folder, files[0])
    for file in files[1:]:
        check_weights(file)
    model = _load_model(folder, files[0], called)
    return TransformersEncoder(
        model,
        name=label or called,
        preprocess=preprocess_of(folder, model.config),
        device=device,
        facet=facet,
        files=(*files, *(path for path in (folder / "config.json", folder / _PREPROCESSOR) if path.is_file())),
        places=(folder, hub.reference(folder)) if hub.in_cache(folder) else (folder,),
    )


def _load_model(folder: Path, file: Path, name: str) -> nn.Module:
    from transformers import AutoModel
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    progress = logging.is_progress_bar_enabled()
    # Its report of mismatched tensors is a table on the terminal; our error is one line.
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with hub.offline():
            # Tensors of another shape are skipped here, and named and refused below.
            model, report = AutoModel.from_pretrained(
                str(folder),
                local_files_only=True,
                trust_remote_code=False,
                weights_only=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                dtype=torch.float32,
            )
    except MemoryError:
        raise
    except Exception as error:
        raise _refused(error, folder, file, name) from error
    finally:
        logging.set_verbosity(verbosity)
        if progress:
            logging.enable_progress_bar()
    missing = sorted(key for key in report["missing_keys"] if not key.startswith("pooler."))
    wrong = sorted(report.get("mismatched_keys", ()))
    if missing or wrong:
        parts = [f"{key} is {list(theirs)} there and {list(ours)} in the model" for key, theirs, ours in wrong[:4]]
        parts += [f"{len(missing)} tensors are missing ({', '.join(missing[:4])}...)"] if missing else []
        raise EncoderError(
            f"The weights belong to another architecture than config.json says: {'; '.join(parts)}",
            where=file,
            fix="use the config.json that belongs to the weights",
        )
    return model


def _refused(error: Exception, folder: Path, file: Path, name: str) -> EncoderError:
    """The error for a folder that transformers could not load at all."""
    text = str(error)
    if "model type" in text or "Unrecognized model" in text or "Unrecognized configuration" in text:
        return EncoderError(
            f"transformers does not know the kind of model that config.json names: {text.strip().splitlines()[0]}",
            where=folder,
            fix="choose a vision transformer (DINO, DINOv2, DINOv3) for --dino, or a newer transformers",
        )
    return weights.wrong_checkpoint(error, name, file)


def preprocess_of(folder: Path, config: Any) -> Preprocess:
    """Preprocessing from preprocessor_config.json; without that file ImageNet's, which all DINO models use.

    Raises:
        EncoderError: the file is invalid.
    """
    path = folder / _PREPROCESSOR
    settings = read_json(path, EncoderError) if path.is_file() else {}
    try:
        return _preprocess(settings, config)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        what = f"The preprocessing is invalid ({first_line(error)})"
        raise EncoderError(what, where=path, fix="use the file that belongs to the weights") from error


def _preprocess(settings: dict[str, Any], config: Any) -> Preprocess:
    size = settings.get("crop_size") if settings.get("do_center_crop") else settings.get("size")
    size = size or getattr(config, "image_size", 224)
    if isinstance(size, dict):
        size = (size["height"], size["width"]) if "height" in size else size.get("shortest_edge", 224)
    height, width = (size, size) if isinstance(size, int) else size
    identity = settings.get("do_normalize") is False
    mean, std = (settings.get(key) or _IMAGENET[key] for key in ("image_mean", "image_std"))
    return Preprocess(
        size=(int(height), int(width)),
        mean=(0.0, 0.0, 0.0) if identity else triple(mean),
        std=(1.0, 1.0, 1.0) if identity else triple(std),
        interpolation=_RESAMPLE.get(settings.get("resample", 3), "bicubic"),
        resize_mode="shortest" if settings.get("do_center_crop") else "squash",
    )


def _resolve(name: str) -> tuple[Path, str]:
    """The folder of a model, with all files on this disk, and the encoder's id."""
    path = expand(name.removeprefix("local-dir:"), EncoderError)
    if os.path.isfile(path) and not name.startswith("local-dir:"):
        if not (path.parent / "config.json").is_file():
            raise EncoderError(
                "A file of weights does not say which architecture it belongs to",
                where=path,
                fix="give a folder with config.json and the weights, as transformers' save_pretrained writes it",
            )
        loaded = _weight_files(path.parent)
        if path not in loaded:
            # transformers chooses by name; it must not silently load another file than the named one.
            raise EncoderError(
                f"Not this file but {loaded[0].name} beside it would be loaded",
                where=path,
                fix="give it a folder of its own, as model.safetensors or pytorch_model.bin beside its config.json",
            )
        path = path.parent
    if os.path.isdir(path):
        return path, f"transformers:local-dir:{path.resolve().name}"
    if name.startswith(("local-dir:", "/", ".", "~")) or name.count("/") > 1:
        raise EncoderError("There is no such folder", where=path, fix="check the path")
    if name.count("/") != 1:
        close = nearest(name, ["builtin", *KNOWN, *(known.partition("/")[2] for known in KNOWN)])
        full = next((known for known in KNOWN if close == known.partition("/")[2]), close)
        hint = f"did you mean {full}?" if full else "write an id of the hub, OWNER/NAME, or a folder, or builtin"
        raise EncoderError(f"Unknown model {name!r} for --dino", fix=hint)
    return _from_hub(name), f"transformers:{name}"


def _from_hub(name: str) -> Path:
    try:
        config = hub.fetch(name, ("config.json",), flag="--dino", example="/path/to/folder")
        found = hub.fetch(name, _WEIGHTS, flag="--dino", example="/path/to/folder")
    except EncoderError as error:
        close = nearest(name, KNOWN)
        if name in KNOWN or close is None:
            raise
        raise EncoderError(error.what, where=error.where, fix=f"did you mean {close}? Otherwise {error.fix}") from error
    hub.fetch_optional(name, _PREPROCESSOR)
    if found.name.endswith(".index.json"):
        parts = read_json(found, EncoderError).get("weight_map", {})
        for part in sorted(set(parts.values())):
            hub.fetch(name, (part,), flag="--dino", example="/path/to/folder")
    return config.parent


def _weight_files(folder: Path) -> list[Path]:
    """The files that transformers loads: one safetensors file, else its parts, else the old format."""
    parts = sorted(folder.glob("model-*-of-*.safetensors"))
    for found in ([folder / _WEIGHTS[0]], parts, [folder / _WEIGHTS[2]]):
        if found and found[0].is_file():
            return found
    raise EncoderError("The folder has no weights", where=folder, fix="add model.safetensors or pytorch_model.bin")


def _dim_and_patch(config: Any, name: str) -> tuple[int, int]:
    dim, patch = getattr(config, "hidden_size", None), getattr(config, "patch_size", None)
    patch = patch[0] if isinstance(patch, list | tuple) and len(set(patch)) == 1 else patch
    if not (isinstance(dim, int) and isinstance(patch, int)):
        raise EncoderError(
            f"{name} is not a vision transformer with one size of patches",
            fix="choose DINO, DINOv2 or DINOv3 for --dino",
        )
    return dim, patch


def _last_keys(model: nn.Module, name: str) -> nn.Module:
    """The layer that makes the keys of the last block."""
    found = [module for path, module in model.named_modules() if path.split(".")[-1] in _KEY_MODULES]
    if not found:
        raise EncoderError(f"{name} has no layer that makes keys", fix='use facet="tokens"')
    return found[-1]
