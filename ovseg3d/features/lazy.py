"""Encoders that are loaded when the first image has to be encoded: a second start loads no weights.

Cache keys depend on facts about an encoder (id, weight hash, image size...), which do not change while its files do
not. So they are stored in the cache as a note, with size and times of each file of the encoder, and of all files of a
given folder. If a file changed or was added, or the encoder's library has another version, the encoder is loaded and
hashed at once. Missing weights do no harm: their features are still cached, and a photo that needs them raises an
error. Encoders that are loaded later are hashed again, and refused if the note was wrong: content decides, not dates.

Registered encoders and those of entry points do not state their files, and are loaded at once.
"""

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from ovseg3d.encoders import hub, registry
from ovseg3d.encoders.base import DenseEncoder, Preprocess, TextImageEncoder
from ovseg3d.encoders.base import facts as stated
from ovseg3d.encoders.folders import WEIGHT_SUFFIXES
from ovseg3d.encoders.weights import file_state
from ovseg3d.errors import EncoderError
from ovseg3d.features.cache import FeatureCache, content_key, installed_version
from ovseg3d.features.segments import Segmenter

Kind = Literal["clip", "dino", "segments"]
_INTERFACES: dict[str, type] = {"clip": TextImageEncoder, "dino": DenseEncoder, "segments": Segmenter}
_LIBRARIES = ("open_clip_torch", "timm", "transformers")


def lazy_clip(
    name: str,
    cache: FeatureCache,
    device: torch.device | str = "cpu",
    *,
    dense_path: str | None = None,
    fetch: bool = True,
) -> TextImageEncoder:
    """Like `load_clip`, but not loaded yet if the cache knows its facts.

    Args:
        name: of the model, as in `load_clip`.
        cache: stores the facts of models that were loaded before.
        device: of the model.
        dense_path: of the model, as in `load_clip`.
        fetch: whether weights may be downloaded; else they must be on this disk.

    Raises:
        EncoderError: as `load_clip`.
    """

    def load() -> TextImageEncoder:
        with hub.only_local(not fetch):
            return registry.load_clip(name, device, dense_path=dense_path)

    return _lazy("clip", name, cache, load, _LazyClip, dense_path=dense_path)


def lazy_dino(
    name: str,
    cache: FeatureCache,
    device: torch.device | str = "cpu",
    *,
    facet: str = "tokens",
    fetch: bool = True,
) -> DenseEncoder:
    """Like `load_dino`, but not loaded yet if the cache knows its facts.

    Args:
        name: of the model, as in `load_dino`.
        cache: stores the facts of models that were loaded before.
        device: of the model.
        facet: of the model, as in `load_dino`.
        fetch: whether weights may be downloaded; else they must be on this disk.

    Raises:
        EncoderError: as `load_dino`.
    """

    def load() -> DenseEncoder:
        with hub.only_local(not fetch):
            return registry.load_dino(name, device, facet=facet)

    return _lazy("dino", name, cache, load, _LazyDense, facet=facet)


def lazy_sam(name: str, cache: FeatureCache, device: torch.device | str = "cpu") -> Segmenter:
    """Like `load_sam`, but not loaded yet if the cache knows its facts. Raises EncoderError."""

    def load() -> Segmenter:
        from ovseg3d.encoders.sam import load_sam

        return load_sam(name, device)

    return _lazy("segments", name, cache, load, _LazySegmenter)


class _Lazy:
    """The facts of an encoder as attributes, and a function that loads it."""

    id: str
    weight_hash: str

    def __init__(self, facts: Mapping[str, Any], load: Callable[[], Any]) -> None:
        vars(self).update(facts)
        self._load = load
        self._loaded: Any = None

    def _encoder(self) -> Any:
        if self._loaded is None:
            # The first call is often in inference mode. A model that is created there can never be differentiated,
            # which some models check.
            with torch.inference_mode(False):
                self._loaded = self._load()
        return self._loaded


class _LazyDense(_Lazy):
    dim: int
    patch: int
    preprocess: Preprocess

    def encode_dense(self, images: Float[Tensor, "views 3 h w"]) -> Float[Tensor, "views dim gh gw"]:
        return self._encoder().encode_dense(images)


class _LazyClip(_LazyDense):
    dense: bool
    logit_scale: float
    logit_bias: float | None

    def encode_text(self, phrases: Sequence[str]) -> Float[Tensor, "phrases dim"]:
        return self._encoder().encode_text(phrases)

    def encode_image(self, images: Float[Tensor, "views 3 h w"]) -> Float[Tensor, "views dim"]:
        return self._encoder().encode_image(images)


class _LazySegmenter(_Lazy):
    def masks(self, photo: UInt8[np.ndarray, "h w 3"]) -> Iterable[Bool[np.ndarray, "rows columns"]]:
        return self._encoder().masks(photo)


def _lazy(
    kind: Kind, name: str, cache: FeatureCache, load: Callable[[], Any], standing_in: type[_Lazy], **options: Any
) -> Any:
    if kind != "segments" and name not in (registry.BUILTIN, registry.IMAGENET) and name in registry.names(kind):
        return load()
    versions = [installed_version(library) for library in _LIBRARIES]
    # A name is looked up in one of these two; it may differ between installations.
    roots = [registry.builtin_folder(kind), hub.cache_folder()]
    key = content_key({"kind": kind, "name": name, "options": options, "versions": versions, "roots": roots})
    known = _known(kind, cache.read_note(key))
    if known is None:
        began = time.time_ns()
        encoder = load()
        with suppress(OSError):  # a file disappeared meanwhile: then nothing is known
            cache.write_note(key, _note(kind, name, encoder, began))
        return encoder

    def load_as_known() -> Any:
        encoder = load()
        if _facts(kind, encoder) != known:
            cache.write_note(key, None)
            raise EncoderError(
                f"The weights of {name} have changed since they were last read",
                fix="start again, to use the new weights",
            )
        return encoder

    return standing_in(known, load_as_known)


def _facts(kind: Kind, encoder: Any) -> dict[str, Any]:
    return {fact: getattr(encoder, fact) for fact in stated(_INTERFACES[kind])}


def _note(kind: Kind, name: str, encoder: Any, began: int) -> dict[str, Any] | None:
    """The note, or None if a file changed since `began`, in ns: it may not be the one that was loaded and hashed."""
    places = [str(place.absolute()) for place in encoder.places]
    facts, files = _facts(kind, encoder), _files(places)
    # Files in the hub's cache may be newer, since they were just downloaded, but they never change afterwards.
    fetched = any(hub.in_cache(place) for place in encoder.places)
    if not fetched and any(max(times) >= began for _, *times in files.values()):
        return None
    if "preprocess" in facts:
        facts["preprocess"] = asdict(facts["preprocess"])
    return {
        "name": name,
        "facts": facts,
        "places": places,
        "files": files,
        "folder": os.getcwd() if _relative(name, encoder.places) else None,
    }


def _known(kind: Kind, note: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The facts of a note, or None if it is outdated or damaged."""
    try:
        if note is None or note["folder"] not in (None, os.getcwd()):
            return None
        before, now = note["files"], _files(note["places"])
        if any(before.get(path) != state for path, state in now.items()):
            return None
        # If some weights are missing and others are not, the same name may resolve to the others.
        if len(now) < len(before) and any(Path(path).suffix in WEIGHT_SUFFIXES for path in now):
            return None
        facts = {fact: note["facts"][fact] for fact in stated(_INTERFACES[kind])}
        if "preprocess" in facts:
            values = facts["preprocess"]
            tuples: dict[str, Any] = {key: tuple(value) for key, value in values.items() if isinstance(value, list)}
            facts["preprocess"] = Preprocess(**{**values, **tuples})
        return facts
    except (OSError, KeyError, TypeError, ValueError, AttributeError):
        return None


def _files(places: Sequence[str]) -> dict[str, list[int]]:
    """Size and times of files, and of files directly in folders; missing ones are omitted."""
    found = {}
    for place in map(Path, places):
        for path in sorted(place.iterdir()) if os.path.isdir(place) else [place]:
            if os.path.isfile(path):
                found[str(path)] = file_state(path)
    return found


def _relative(name: str, places: Iterable[Path]) -> bool:
    """Whether a name depends on the current folder."""
    if name in (registry.BUILTIN, registry.IMAGENET) or any(hub.in_cache(place) for place in places):
        return False
    parts = name.removeprefix("local-dir:"), name.partition(":")[2]
    return not any(os.path.isabs(os.path.expanduser(part)) for part in parts)
