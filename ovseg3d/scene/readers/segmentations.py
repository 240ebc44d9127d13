"""Labels of 3D-OVS captures, `segmentations/<NN>/<phrase>.png`: find the photo of each <NN>.

NN is the index, from 0, of a photo in the capture's folders, sorted by name (`Scene.photos`). Labels were made without
poses: photos without a pose count too, and frames whose photo is missing.
"""

from collections.abc import Sequence
from pathlib import Path

from ovseg3d.errors import SceneError
from ovseg3d.scene.readers.raw import shorten


def annotated_photos(folder: Path, photos: Sequence[str]) -> dict[str, Path]:
    """The folders <NN> of `folder`, by the name of their photo, in order.

    Args:
        folder: `segmentations`.
        photos: names of all photos of the capture, in order.

    Raises:
        SceneError: there are fewer photos than labels, so that they cannot be assigned.
    """
    places = {int(place.name): place for place in folder.iterdir() if place.is_dir() and place.name.isdecimal()}
    beyond = [place.name for number, place in sorted(places.items()) if number >= len(photos)]
    if beyond:
        raise SceneError(
            f"The labels {shorten(beyond)} belong to no photo: there are {len(photos)}, and 00 is the first",
            where=folder,
            fix="put all photos that were labelled back beside the others: <NN> counts them, with a pose or without",
        )
    return {photos[number]: place for number, place in sorted(places.items())}
