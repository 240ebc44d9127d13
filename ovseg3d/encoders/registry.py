"""Encoders by name: built-in ones, registered ones, and whatever open_clip and transformers know.

To add an encoder, write a factory that takes a torch.device and returns an object with the attributes and methods of
`TextImageEncoder` (`DenseEncoder` for --dino); inheritance is not needed. `TokenEncoder` lists optional methods. Either
register it from Python:

    from ovseg3d.encoders import register_clip
    register_clip("my-clip", lambda device: MyClip(device))

or in your own package, so that `ovseg3d train scene --clip my-clip` finds it without an import:

    # pyproject.toml
    [project.entry-points."ovseg3d.clip"]        # "ovseg3d.dino" for self-supervised ones
    my-clip = "my_package.encoders:make"         # def make(device): ...

A registered name takes precedence over an entry point, and both over open_clip's and transformers' names, except
`builtin` and `imagenet`.
"""

import importlib.metadata
import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch

from ovseg3d.encoders.base import DenseEncoder, TextImageEncoder
from ovseg3d.encoders.probe import fault_of
from ovseg3d.errors import EncoderError, Ovseg3dError, nearest
from ovseg3d.limits import shorten

BUILTIN = "builtin"
IMAGENET = "imagenet"
"""The text-image encoder of the optional extra `photos`, see `imagenet`."""
DEFAULT_CLIP = "ViT-B-16:laion2b_s34b_b88k"
"""`--clip auto` for a scene without a recommendation."""
DEFAULT_DINO = "facebook/dino-vits8"
"""`--dino auto` for a scene without a recommendation."""

ADMITTED = {
    "clip": (
        BUILTIN, IMAGENET, DEFAULT_CLIP, "ViT-B-16:openai", "ViT-B-32:laion2b_s34b_b79k", "ViT-L-14:openai",
        "ViT-L-14:laion2b_s32b_b82k", "ViT-H-14:laion2b_s32b_b79k", "ViT-B-16-SigLIP:webli",
        "ViT-B-16-SigLIP2:webli",
    ),
    "dino": (
        BUILTIN, DEFAULT_DINO, "none", "facebook/dino-vitb8", "facebook/dino-vits16", "facebook/dino-vitb16",
        "facebook/dinov2-small", "facebook/dinov2-base", "facebook/dinov2-with-registers-small",
        "facebook/dinov2-with-registers-base",
    ),
}  # fmt: skip
"""Encoders that captures and runs may name, besides registered ones; only the defaults are downloaded for them."""

CLIP_GROUP, DINO_GROUP = (f"ovseg3d.{kind}" for kind in ("clip", "dino"))

ClipFactory = Callable[[torch.device], TextImageEncoder]
DinoFactory = Callable[[torch.device], DenseEncoder]

_clips: dict[str, Any] = {}
_dinos: dict[str, Any] = {}


def register_clip(name: str, factory: ClipFactory) -> None:
    """Register `factory(device)` as `--clip NAME`; replaces an earlier one of the same name."""
    _register(_clips, name, factory)


def register_dino(name: str, factory: DinoFactory) -> None:
    """Register `factory(device)` as `--dino NAME`; replaces an earlier one of the same name."""
    _register(_dinos, name, factory)


def load_clip(name: str, device: torch.device | str = "cpu", *, dense_path: str | None = None) -> TextImageEncoder:
    """A text-image encoder by name.

    Args:
        name: "builtin", "imagenet", a registered name, "ViT-B-16:laion2b_s34b_b88k", "ViT-B-16:FILE",
            "local-dir:FOLDER", a folder, "hf-hub:OWNER/NAME".
        device: for computing.
        dense_path: how open_clip's towers compute dense features, one of "auto", "plain", "maskclip", "sclip",
            "clearclip" (see `towers`); None: `dense_path` of the folder's card.json, else "auto".

    Raises:
        EncoderError: unknown model, weights not available, or of another architecture; or an option that a registered
            encoder does not have.
    """
    from ovseg3d.encoders import openclip

    device = torch.device(device)
    if name == BUILTIN:
        folder = builtin_folder("clip", "open_clip_config.json")
        return openclip.load(f"local-dir:{folder}", device, dense_path=dense_path, label=BUILTIN)
    if name == IMAGENET:
        from ovseg3d.encoders import imagenet

        _no_choice(name, "--dense-path", dense_path, None)
        return imagenet.load(device)
    if (factory := _factory(_clips, CLIP_GROUP, name)) is not None:
        _no_choice(name, "--dense-path", dense_path, None)
        return _checked(_complete(_made(factory, device, name), TextImageEncoder, name), name)
    try:
        return openclip.load(name, device, dense_path=dense_path)
    except EncoderError as error:
        raise _suggest(error, name, _clips, CLIP_GROUP) from error


def load_dino(name: str, device: torch.device | str = "cpu", *, facet: str = "tokens") -> DenseEncoder:
    """A self-supervised encoder by name.

    Args:
        name: "builtin", a registered name, an id of the hub ("facebook/dino-vits8"), a folder.
        device: for computing.
        facet: "tokens" (last hidden state) or "keys" (of the last block; LERF uses those of dino-vits8).

    Raises:
        EncoderError: unknown model, weights not available, or of another architecture; or an option that a registered
            encoder does not have.
    """
    from ovseg3d.encoders import dino

    device = torch.device(device)
    if name == BUILTIN:
        return dino.load(str(builtin_folder("dino", "config.json")), device, facet=facet, label=BUILTIN)
    if (factory := _factory(_dinos, DINO_GROUP, name)) is not None:
        _no_choice(name, "--facet", facet, "tokens")
        return _checked(_complete(_made(factory, device, name), DenseEncoder, name), name)
    try:
        return dino.load(name, device, facet=facet)
    except EncoderError as error:
        raise _suggest(error, name, _dinos, DINO_GROUP) from error


def builtin_folder(kind: str, needed: str = "") -> Path:
    """The folder of the built-in "clip" or "dino". Raises EncoderError: the file `needed` is not in it."""
    folder = Path(__file__).parent / "builtin" / kind
    if needed and not (folder / needed).is_file():
        raise EncoderError(
            f"The built-in {kind.upper()} is not in this installation",
            where=folder,
            fix=f"install a release of ovseg3d, or train it with scripts/training, or name another one with --{kind}",
        )
    return folder


def names(kind: str) -> list[str]:
    """Registered names and entry points of `kind`, "clip" or "dino"."""
    table, group = (_clips, CLIP_GROUP) if kind == "clip" else (_dinos, DINO_GROUP)
    return sorted({*table, *(entry.name for entry in importlib.metadata.entry_points(group=group))})


def admitted(name: str, kind: Literal["clip", "dino"], where: Path | None = None) -> str:
    """`name`, if a capture or a run may name it: they may be untrusted, and encoders determine what is loaded.

    Args:
        name: what the file names.
        kind: "clip" or "dino".
        where: the file, for the message.

    Raises:
        EncoderError: it is neither in `ADMITTED` nor registered.
    """
    if name in ADMITTED[kind] or name in names(kind):
        return name
    raise EncoderError(
        f"The encoder {shorten(ascii(name))} is named by a file, which may only name well-known ones",
        where=where,
        fix=f"if you trust it, name it yourself: --{kind} {shorten(ascii(name)[1:-1])}",
    )


def fetched_for_files(name: str, kind: Literal["clip", "dino"]) -> bool:
    """Whether an encoder may be downloaded if only a file names it: only the defaults."""
    return name in (BUILTIN, IMAGENET, {"clip": DEFAULT_CLIP, "dino": DEFAULT_DINO}[kind]) or name in names(kind)


def whole_name(name: str, kind: str) -> str:
    """The name of an encoder with absolute paths, so that it is valid from any folder.

    Args:
        name: as `load_clip`, `load_dino` or `--segments` takes it.
        kind: "clip", "dino" or "segments".
    """
    before, colon, path = name.rpartition(":")
    if name in ("auto", "none", BUILTIN, IMAGENET) or (kind == "segments" and before != "sam"):
        return name
    path = os.path.expanduser(path)
    if before in ("", "local-dir", "sam"):
        found = os.path.isdir(path) or (kind == "dino" and os.path.isfile(path))
    else:
        found = os.path.isfile(path) and not _published(before, path)
    if not found or (before != "sam" and name in names(kind)):
        return name
    return f"{before}{colon}{os.path.abspath(path)}"


def _published(architecture: str, tag: str) -> bool:
    """Whether open_clip knows weights of that name, which take precedence over a file."""
    from open_clip.pretrained import get_pretrained_cfg

    return bool(get_pretrained_cfg(architecture.replace("/", "-"), tag))


def _register(table: dict[str, Any], name: str, factory: Any) -> None:
    if not name or name in (BUILTIN, IMAGENET):
        raise EncoderError(f"An encoder cannot be called {name!r}", fix="give it another name")
    table[name] = factory


def _factory(table: dict[str, Any], group: str, name: str) -> Any | None:
    """The factory of the encoder `name`, or None. Raises EncoderError: an entry point cannot be imported."""
    if name in table:
        return table[name]
    for entry in importlib.metadata.entry_points(group=group, name=name):
        with _blamed(name, f"entry point {entry.value} of {entry.dist.name if entry.dist else 'a package'}"):
            return entry.load()
    return None


def _made(factory: Any, device: torch.device, name: str) -> Any:
    where = f"{getattr(factory, '__module__', '')}.{getattr(factory, '__qualname__', type(factory).__name__)}"
    with _blamed(name, where):
        return factory(device)


@contextmanager
def _blamed(name: str, where: str) -> Generator[None, None, None]:
    """Attribute errors of foreign code, which may raise anything, to its package."""
    try:
        yield
    except (Ovseg3dError, MemoryError):
        raise
    except Exception as error:
        raise EncoderError(
            f"The encoder {name!r} cannot be loaded: {type(error).__name__}: {error}",
            where=where,
            fix="fix or remove that package",
        ) from error


def _no_choice(name: str, flag: str, asked: str | None, usual: str | None) -> None:
    """Check options. Raises EncoderError: the encoder would ignore the option."""
    if asked != usual:
        raise EncoderError(f"The encoder {name!r} has no {flag}", fix=f"omit {flag}")


def _complete(encoder: Any, wanted: type, name: str) -> Any:
    """The encoder. Raises EncoderError: it lacks a part of the interface."""
    members = {*wanted.__annotations__, *(key for key in vars(wanted) if not key.startswith("_"))}
    if missing := sorted(member for member in members if not hasattr(encoder, member)):
        raise EncoderError(
            f"The encoder {name!r} lacks {', '.join(missing)}",
            where=f"{type(encoder).__module__}.{type(encoder).__qualname__}",
            fix=f"give it what ovseg3d.encoders.{wanted.__name__} lists",
        )
    return encoder


def _checked(encoder: Any, name: str) -> Any:
    """The encoder. Raises EncoderError: it fails on a grey image or a word, or its vectors have another shape."""
    where = f"{type(encoder).__module__}.{type(encoder).__qualname__}"
    with _blamed(name, where):
        fault = fault_of(encoder)
    if fault:
        raise EncoderError(
            f"The encoder {name!r} is not usable: {fault}",
            where=where,
            fix="give it the shapes that ovseg3d.encoders.TextImageEncoder states",
        )
    return encoder


def _suggest(error: EncoderError, name: str, table: dict[str, Any], group: str) -> EncoderError:
    """The same error, with a suggestion if a registered name is similar."""
    ours = {*table, *(entry.name for entry in importlib.metadata.entry_points(group=group))}
    close = nearest(name, ours)
    if close is None:
        return error
    otherwise = f" Otherwise {error.fix}" if error.fix else ""
    return EncoderError(error.what, where=error.where, fix=f"did you mean {close}?{otherwise}")
