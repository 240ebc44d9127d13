"""Encoders that are loaded when a picture first has to be encoded: a second start takes no weights, and no seconds.

The keys of a cache need to know what an encoder is (id, weight hash, size of its pictures...), and that is known as
long as its files stay what they were. So it is kept in the cache as a note, beside size and times of each file that it
came from, and of its neighbours where a folder was given. When a file changed or came in addition, or the encoder's
library has another version, the encoder is loaded and hashed at once. Weights that are gone do no harm: the features
that they made are still there, and a photo that needs them says what is missing. Whatever is loaded later is hashed
again, and refused where the note was wrong: content decides, never a date.

Registered encoders and those of entry points do not say which files they are made of, and are loaded at once.
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
_LIBRARIES = ("open_clip_torch", "transformers")


def lazy_clip(
    name: str,
    cache: FeatureCache,
    device: torch.device | str = "cpu",
    *,
    dense_path: str | None = None,
    fetch: bool = True,
) -> TextImageEncoder:
    """As `load_clip`, not loaded yet where the cache knows what it is; without `fetch` only from this disk.

    Args:
        name: of the model, as in `load_clip`.
        cache: knows the facts of models that were loaded before.
        device: where the model will be.
        dense_path: of the model, as in `load_clip`.
        fetch: whether weights may be downloaded.

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
    """As `load_dino`, not loaded yet where the cache knows what it is; without `fetch` only from this disk.

    Args:
        name: of the model, as in `load_dino`.
        cache: knows the facts of models that were loaded before.
        device: where the model will be.
        facet: of the model, as in `load_dino`.
        fetch: whether weights may be downloaded.

    Raises:
        EncoderError: as `load_dino`.
    """

    def load() -> DenseEncoder:
        with hub.only_local(not fetch):
            return registry.load_dino(name, device, facet=facet)

    return _lazy("dino", name, cache, load, _LazyDense, facet=facet)


def lazy_sam(name: str, cache: FeatureCache, device: torch.device | str = "cpu") -> Segmenter:
    """As `load_sam`, not loaded yet where the cache knows what it is. Raises EncoderError."""

    def load() -> Segmenter:
        from ovseg3d.encoders.sam import load_sam

        return load_sam(name, device)

    return _lazy("segments", name, cache, load, _LazySegmenter)


class _Lazy:
    """What is known of an encoder, as attributes, and how to get it."""

    id: str
    weight_hash: str

    def __init__(self, facts: Mapping[str, Any], load: Callable[[], Any]) -> None:
        vars(self).update(facts)
        self._load = load
        self._loaded: Any = None

    def _encoder(self) -> Any:
        if self._loaded is None:
            # The first call is often made where nothing is learnt; a model that is made there can never be
            # differentiated, and some measure themselves by that.
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
    if kind != "segments" and name != registry.BUILTIN and name in registry.names(kind):
        return load()
    versions = [installed_version(library) for library in _LIBRARIES]
    # A name is looked up in one of these two; another installation may have another of that name.
    roots = [registry.builtin_folder(kind), hub.cache_folder()]
    key = content_key({"kind": kind, "name": name, "options": options, "versions": versions, "roots": roots})
    known = _known(kind, cache.read_note(key))
    if known is None:
        began = time.time_ns()
        encoder = load()
        with suppress(OSError):  # a file went while we looked: then nothing is known
            cache.write_note(key, _note(kind, name, encoder, began))
        return encoder

    def load_as_known() -> Any:
        encoder = load()
        if _facts(kind, encoder) != known:
            cache.write_note(key, None)
            raise EncoderError(
                f"The weights of {name} are not the ones that they were when they were last looked at",
                fix="start again: then they are taken for what they are",
            )
        return encoder

    return standing_in(known, load_as_known)


def _facts(kind: Kind, encoder: Any) -> dict[str, Any]:
    return {fact: getattr(encoder, fact) for fact in stated(_INTERFACES[kind])}


def _note(kind: Kind, name: str, encoder: Any, began: int) -> dict[str, Any] | None:
    """What to keep, or None when a file changed since `began`, in ns: it may not be what was loaded and hashed."""
    places = [str(place.absolute()) for place in encoder.places]
    facts, files = _facts(kind, encoder), _files(places)
    # What the hub's cache has got since then is new, but such files are never written to again.
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
    """What a note says of an encoder, or None when it is no longer to be believed, or damaged."""
    try:
        if note is None or note["folder"] not in (None, os.getcwd()):
            return None
        before, now = note["files"], _files(note["places"])
        if any(before.get(path) != state for path, state in now.items()):
            return None
        # Where some weights are gone and others are left, the same name may mean the others.
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
    """Size and times of files, and of those that lie directly in folders; what is not there is left out."""
    found = {}
    for place in map(Path, places):
        for path in sorted(place.iterdir()) if os.path.isdir(place) else [place]:
            if os.path.isfile(path):
                found[str(path)] = file_state(path)
    return found


def _relative(name: str, places: Iterable[Path]) -> bool:
    """Whether a name means something else where another folder is the current one."""
    if name == registry.BUILTIN or any(hub.in_cache(place) for place in places):
        return False
    parts = name.removeprefix("local-dir:"), name.partition(":")[2]
    return not any(os.path.isabs(os.path.expanduser(part)) for part in parts)
