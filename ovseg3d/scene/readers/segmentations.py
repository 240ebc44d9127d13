"""The labels that 3D-OVS lays beside a capture, `segmentations/<NN>/<phrase>.png`: which photo is <NN>?

NN counts, from 0, the photos of the capture's folders in the order of their names (`Scene.photos`). Whoever labelled
them saw no poses: photos that structure from motion left out count too, and so do frames whose photo is gone.
"""

from collections.abc import Sequence
from pathlib import Path

from ovseg3d.errors import SceneError
from ovseg3d.scene.readers.raw import shorten


def annotated_photos(folder: Path, photos: Sequence[str]) -> dict[str, Path]:
    """The folders <NN> of `folder` by the name of the photo that each is of, in their order.

    Args:
        photos: names of all photos of the capture, in their order.

    Raises:
        SceneError: there are fewer photos than were counted, so that nobody knows which is which.
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
