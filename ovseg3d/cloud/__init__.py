"""Take away: a run's labelled surface as files that other programs open.

    export(run, "cloud,html", folder)      # what `ovseg3d export` and the viewer's buttons call

A `LabelledCloud` is what all exporters write; it knows its frame, and is brought to another one exactly once, by
`moved`. Exporters neither read runs nor render: what they need is handed to them (`pipeline.export` gathers it).
"""

from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from ovseg3d.cloud.labelled import LabelledCloud, moved
from ovseg3d.cloud.mesh import LabelledMesh, mesh_of, save_mesh
from ovseg3d.cloud.page import save_page
from ovseg3d.cloud.points import save_cloud
from ovseg3d.cloud.records import describe, instance_records

WHAT = {
    "cloud": "labelled points: PLY and NPZ",
    "mesh": "triangles with labels: PLY and GLB",
    "labels": "a label image for every view, COCO",
    "instances": "boxes, sizes and names: JSON",
    "video": "a flight through the photos: MP4",
    "html": "one page that opens anywhere",
}
"""The kinds of export, and what each is."""


@runtime_checkable  # tests check all annotations
class Exportable(Protocol):
    """A run, as far as this part knows it."""

    def export(self, what: str, folder: Path | None, **options: Any) -> list[Path]: ...


def export(run: Exportable, what: str, folder: Path | None = None, **options: Any) -> list[Path]:
    """Write exports of a run.

    Args:
        run: from `ovseg3d.load`.
        what: some of `WHAT`, with commas.
        folder: where to; by default the run's exports/.
        options: fields of `pipeline.export.ExportOptions`; and `report`, `stop`.

    Returns:
        The files, in the order of `what`.

    Raises:
        ConfigError: an unknown kind or option, or one that does not fit this run.
        RunError: labels or instances of a run that knows nothing about meaning.
        OutputError: the folder cannot be written to; a file is whole or not there.
    """
    return run.export(what, folder, **options)


__all__ = [
    "WHAT",
    "LabelledCloud",
    "LabelledMesh",
    "describe",
    "export",
    "instance_records",
    "mesh_of",
    "moved",
    "save_cloud",
    "save_mesh",
    "save_page",
]
