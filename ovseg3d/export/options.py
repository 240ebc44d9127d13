"""Kinds of export, and their options."""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ovseg3d.errors import ConfigError, nearest
from ovseg3d.export.labelled import FrameName
from ovseg3d.render.views import ViewChoice
from ovseg3d.runs.devices import BackendName, DeviceName
from ovseg3d.runs.phrases import in_list

WHAT = {
    "cloud": "labelled points: PLY and NPZ",
    "mesh": "triangles with labels: PLY and GLB",
    "labels": "a label image for every view, COCO",
    "instances": "boxes, sizes and names: JSON",
    "video": "a camera path through the photos: MP4",
    "html": "one page for any browser",
}
"""The kinds of export, with their descriptions."""


@dataclass(frozen=True)
class ExportOptions:
    """Options of `export_run`."""

    phrases: Sequence[str] | None = None
    """The list of labels; None: the scene's own; empty: no labels, and no encoder is needed."""
    none: bool = True
    """Whether points that are nearer to a canonical phrase than to all of the list stay unlabelled."""
    select: Sequence[str] = ()
    """Only points with these labels; empty: all points."""
    frame: FrameName = "input"
    points: int | None = None
    """Largest number of points; None: those of the run."""
    spacing: float | None = None
    """At most one point in a cell of this size, in the frame's units; also the step of the mesh."""
    las: bool = False
    """Also write LAS."""
    embedding: bool = False
    """Give each instance its mean vector in the encoder's space."""
    views: ViewChoice = "all"
    """For `labels`."""
    seconds: float = 8.0
    """Of the video."""
    fps: float = 24.0
    width: int | None = None
    """Of the video, pixels; None: as trained."""
    scene: Path | None = None
    """Where the capture is now, if it has moved."""
    device: DeviceName = "auto"
    backend: BackendName = "auto"


def known_what(given: Sequence[str], known: Collection[str]) -> str:
    """What to do about a --what with unknown kinds: the same with the nearest known ones, and all that there are."""
    meant = dict.fromkeys(kind if kind in known else nearest(kind, known) for kind in given)
    said = ",".join(kind for kind in meant if kind)
    return f"--what {said}; there are {', '.join(known)}" if said else f"--what {','.join(known)}"


def parse_what(text: str) -> tuple[str, ...]:
    """The kinds of export in a list with commas.

    Raises:
        ConfigError: an unknown kind, or none.
    """
    kinds = tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    for kind in kinds:
        if kind not in WHAT:
            raise ConfigError(f"There is no export {kind!r}", fix=known_what(kinds, WHAT))
    if not kinds:
        raise ConfigError("Nothing to export was named", fix=f"--what {','.join(WHAT)}")
    return kinds


def make_options(options: Mapping[str, Any]) -> ExportOptions:
    """Options by the names of the fields of `ExportOptions`; lists may be texts with semicolons.

    Raises:
        ConfigError: an unknown option.
    """
    known = [field.name for field in dataclasses.fields(ExportOptions)]
    for name in options:
        if name not in known:
            close = nearest(name, known)
            meant = f"; the nearest is {close}" if close else ""
            raise ConfigError(f"An export has no option {name!r}", fix=f"one of {', '.join(known)}{meant}")
    lists = {}
    for name in ("phrases", "select"):
        if options.get(name) is not None:
            lists[name] = in_list(options[name])
    return ExportOptions(**{**options, **lists})
