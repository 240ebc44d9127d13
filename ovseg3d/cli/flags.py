"""The flags that several commands have, so that they are called and explained alike everywhere.

A command takes the aliases one by one where they belong in its help, and `WhereFlags` whole, near its end.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from ovseg3d.errors import ConfigError
from ovseg3d.limits import MAX_PIXELS, Trust
from ovseg3d.runs.devices import BackendName, DeviceName

if TYPE_CHECKING:
    from ovseg3d.query.engine import QueryEngine
    from ovseg3d.runs.folder import RunFolder
    from ovseg3d.scene import Scene
    from ovseg3d.session import Run

_RUN = "A run folder, outputs/SCENE/latest, or a scene (its newest run)."
_NONE = "Leave unlabelled what is nearer to a canonical phrase than to all of the list."
_JSON = "Print one JSON object on stdout and nothing else there."
_TEMPLATES = (
    "Sentences with {} for the phrase, with semicolons, or a file with one a line; usual: a built-in set. A phrase is"
    " the mean of its sentences; by default it is taken as it is."
)

RunPath = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN", help=_RUN)]
SceneOrRunPath = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="SCENE|RUN", help=_RUN)]
Views = Literal["held-out", "train", "all"]
Templates = Annotated[str | None, tyro.conf.arg(help=_TEMPLATES)]
NoneOfThese = Annotated[bool, tyro.conf.arg(help=_NONE)]
Json = Annotated[bool, tyro.conf.arg(help=_JSON)]


@dataclass(frozen=True)
class Allow:
    """What a capture may ask for beyond the usual."""

    allow_outside: bool = False
    """Read what the capture names outside its own folder (links and whole paths): only if you trust who made it."""
    max_megapixels: float = MAX_PIXELS / 1e6
    """Refuse larger pictures, before they are decoded."""

    def __post_init__(self) -> None:
        if not 0 < self.max_megapixels <= 10_000:
            raise ConfigError(
                f"--max-megapixels must be above 0, up to 10000, not {self.max_megapixels:g}",
                fix="--max-megapixels 200",
            )

    def trust(self, **names: str | None) -> Trust:
        """As readers take it, with the encoders that the user named."""
        return Trust(outside=self.allow_outside, max_pixels=round(self.max_megapixels * 1e6), **names)


@dataclass(frozen=True)
class Where(Allow):
    """Where a run's capture is now, what may be read, and what computes."""

    scene: Path | None = None
    """The scene's folder, if it has moved since training."""
    device: DeviceName = "auto"
    """Where to render and encode."""
    backend: BackendName = "auto"
    """What computes the field."""
    clip: str | None = None
    """Where the run's text-image encoder is, if a file may not name it: as --clip of train. It is checked by its
    hash."""

    def load(self, path: Path) -> "Run":
        """The run that `path` means, with what the user allows. Raises RunError."""
        from ovseg3d.session import load

        return load(path, self.trust(clip=self.clip))

    def engine(self, run: "RunFolder", scene: "Scene", templates: str | None = None) -> "QueryEngine":
        """What answers questions about a run; `templates` as the flag says them. Raises RunError, ConfigError."""
        from ovseg3d.query.engine import QueryEngine
        from ovseg3d.runs.phrases import read_templates

        said = {} if templates is None else {"templates": read_templates(templates)}
        return QueryEngine(run, scene, self.device, self.backend, **said)

    def renderer(self, run: "RunFolder", scene: "Scene") -> Any:
        """The field of a run. Raises RunError."""
        from ovseg3d.runs.fields import restore

        return restore(run, scene, self.device, self.backend)


def refuse_idle(command: Any, *uses: tuple[str, bool, str]) -> None:
    """Flags that a call has no use for would be passed over in silence.

    Args:
        command: the call.
        uses: of each flag its field in `command` (or in `Where`), whether this call uses it, and when one does.

    Raises:
        ConfigError: such a flag was given.
    """
    for name, used, when in uses:
        owner = command if hasattr(command, name) else command.where
        default = owner.__dataclass_fields__[name].default
        if getattr(owner, name) != default and not used:
            flag = f"--{'no-' if default is True else ''}{name}"
            raise ConfigError(f"{flag} would do nothing here", fix=f"give it {when}, or leave it out")


WhereFlags = Annotated[Where, tyro.conf.arg(name="")]
AllowFlags = Annotated[Allow, tyro.conf.arg(name="")]
