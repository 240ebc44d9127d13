"""Exports: a run's labelled surface as files that other programs open.

A `LabelledCloud` is what all exporters write; it knows its frame, and is brought to another one exactly once, by
`moved`. Exporters neither read runs nor render: what they need is handed to them (`export.run` gathers it).
"""

from ovseg3d.export.labelled import LabelledCloud, moved
from ovseg3d.export.mesh import LabelledMesh, mesh_of, save_mesh
from ovseg3d.export.page import save_page
from ovseg3d.export.points import save_cloud
from ovseg3d.export.records import describe, instance_records

WHAT = {
    "cloud": "labelled points: PLY and NPZ",
    "mesh": "triangles with labels: PLY and GLB",
    "labels": "a label image for every view, COCO",
    "instances": "boxes, sizes and names: JSON",
    "video": "a flight through the photos: MP4",
    "html": "one page that opens anywhere",
}
"""The kinds of export, and what each is."""


__all__ = [
    "WHAT",
    "LabelledCloud",
    "LabelledMesh",
    "describe",
    "instance_records",
    "mesh_of",
    "moved",
    "save_cloud",
    "save_mesh",
    "save_page",
]
