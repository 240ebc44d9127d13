"""Flags that several commands share, with the same names and help everywhere.

A command uses the single aliases where they belong in its help, and `WhereFlags` as a whole near its end.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from ovseg3d.errors import ConfigError
from ovseg3d.limits import MAX_PIXELS, Trust
from ovseg3d.runs.config import Layout
from ovseg3d.runs.devices import BackendName, DeviceName

if TYPE_CHECKING:
    from ovseg3d.query.engine import QueryEngine
    from ovseg3d.runs.folder import RunFolder
    from ovseg3d.scene import Scene
    from ovseg3d.session import Run

_RUN = "A run folder, outputs/SCENE/latest, or a scene (its newest run)."
_NONE = "Leave points unlabelled that are nearer to a canonical phrase than to every phrase of the list."
_JSON = "Print exactly one JSON object on stdout."
_TEMPLATES = (
    "Sentences with {} for the phrase, separated by semicolons, or a file with one per line; usual: a built-in set."
    " The embedding of a phrase is the mean over its sentences; by default the phrase itself is encoded."
)

_UP = "The axis of the file that is up, such as -y; auto estimates it."
_SHAPE_CLIP = (
    "The text-image encoder, as in --clip of train. Others than builtin see shapes with their own, untuned tower unless"
    " --weights is given."
)
_SHAPE_WEIGHTS = "Tuned weights of the image tower of --clip, as scripts.training.train_naming makes them."

_RUNS = f"{_RUN} Or several: a folder of runs, a glob in quotes, or a list file (.txt, .jsonl) of runs."
RunsPath = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN", help=_RUNS)]
RunPath = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN", help=_RUN)]
SceneOrRunPath = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="SCENE|RUN", help=_RUN)]
Views = Literal["held-out", "train", "all"]
Templates = Annotated[str | None, tyro.conf.arg(help=_TEMPLATES)]
NoneOfThese = Annotated[bool, tyro.conf.arg(help=_NONE)]
Json = Annotated[bool, tyro.conf.arg(help=_JSON)]

UpAxis = Annotated[Literal["auto", "x", "y", "z", "-x", "-y", "-z"], tyro.conf.arg(help=_UP)]
ShapeClip = Annotated[str, tyro.conf.arg(help=_SHAPE_CLIP)]
ShapeWeights = Annotated[Path | None, tyro.conf.arg(help=_SHAPE_WEIGHTS)]


@dataclass(frozen=True)
class Allow:
    """Permissions for a capture beyond the defaults."""

    allow_outside: bool = False
    """Read files that the capture names outside its folder (links, absolute paths); only for trusted captures."""
    max_megapixels: float = MAX_PIXELS / 1e6
    """Refuse larger images, before they are decoded."""

    def __post_init__(self) -> None:
        if not 0 < self.max_megapixels <= 10_000:
            raise ConfigError(
                f"--max-megapixels must be above 0, up to 10000, not {self.max_megapixels:g}",
                fix="--max-megapixels 200",
            )

    def trust(self, **names: str | None) -> Trust:
        """The permissions for readers, with the encoders that the user named."""
        return Trust(outside=self.allow_outside, max_pixels=round(self.max_megapixels * 1e6), **names)


@dataclass(frozen=True)
class Where(Allow):
    """Location of a run's capture, permissions, device and backend."""

    scene: Path | None = None
    """Folder of the scene, if it has moved since training."""
    device: DeviceName = "auto"
    """Device that renders and encodes."""
    backend: BackendName = "auto"
    """Backend of the field."""
    clip: str | None = None
    """The run's text-image encoder, as in --clip of train, if the run itself may not name it. Its hash is checked."""
    layout: Layout | None = None
    """Whether priors of rooms count in answers, as in --layout of train; by default as in training."""

    def load(self, path: Path) -> "Run":
        """Open the run at `path` with the user's permissions. Raises RunError."""
        from ovseg3d.session import load

        return load(path, self.trust(clip=self.clip), self.layout)

    def engine(self, run: "RunFolder", scene: "Scene", templates: str | None = None) -> "QueryEngine":
        """The query engine of a run; `templates` is the text of the flag. Raises RunError, ConfigError."""
        from ovseg3d.query.engine import QueryEngine
        from ovseg3d.runs.phrases import read_templates

        if templates is None:
            return QueryEngine(run, scene, self.device, self.backend)
        return QueryEngine(run, scene, self.device, self.backend, templates=read_templates(templates))

    def renderer(self, run: "RunFolder", scene: "Scene") -> Any:
        """The renderer of a run's field. Raises RunError."""
        from ovseg3d.runs.fields import restore

        return restore(run, scene, self.device, self.backend)


def refuse_idle(command: Any, *uses: tuple[str, bool, str]) -> None:
    """Refuse flags that have no effect in this call.

    Args:
        command: the parsed command.
        uses: for each flag, its field in `command` (or in its `where` or `many`), whether this call uses it, and when
            it is used.

    Raises:
        ConfigError: a flag without effect was given.
    """
    for name, used, when in uses:
        groups = (command, *(getattr(command, group) for group in ("where", "many") if hasattr(command, group)))
        owner = next(group for group in groups if hasattr(group, name))
        default = owner.__dataclass_fields__[name].default
        if getattr(owner, name) != default and not used:
            flag = f"--{'no-' if default is True else ''}{name.replace('_', '-')}"
            raise ConfigError(f"{flag} would have no effect here", fix=f"use it {when}, or leave it out")


WhereFlags = Annotated[Where, tyro.conf.arg(name="")]
AllowFlags = Annotated[Allow, tyro.conf.arg(name="")]
