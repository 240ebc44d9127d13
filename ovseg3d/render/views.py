"""Selection of a scene's views, their file names, and their groups."""

import re
from collections.abc import Sequence
from typing import Literal, TypeVar

import numpy as np

from ovseg3d.errors import ConfigError, SceneError
from ovseg3d.files import read_json
from ovseg3d.scene import Scene

ViewChoice = Literal["held-out", "train", "all"]
T = TypeVar("T")
SHOWN = 8
"""Number of training views to show if none is held out."""


def choose_views(scene: Scene, choice: ViewChoice | None) -> tuple[int, ...]:
    """Indices into `scene.frames`. None: the held-out views, or some training views if none is held out.

    Raises:
        ConfigError: there are no views of that kind.
    """
    if choice is None:
        return scene.test or tuple(spread(scene.train, SHOWN))
    views = {"held-out": scene.test, "train": scene.train, "all": tuple(range(len(scene.frames)))}[choice]
    if not views:
        raise ConfigError(
            f"This run has no {choice} views", where=scene.path, fix="--views all (it was trained on every view)"
        )
    return views


def spread(views: Sequence[T], most: int) -> list[T]:
    """At most `most` of the views, evenly spaced from first to last."""
    return [views[i] for i in np.linspace(0, len(views) - 1, min(len(views), most)).round().astype(int)]


VIEW_BYTES = 160
"""Longest name of a view's files in bytes, without suffixes."""


def view_files(scene: Scene) -> dict[str, str]:
    """Frame name to a unique file name without suffix; "a.jpg" and "a.png" get different names.

    Long names are cut, since files add suffixes and file systems allow 255 bytes.
    """
    taken: set[str] = set()
    names = [frame.name for frame in scene.frames]
    plain = (re.sub(r"[^\w.-]+", "_", name.rpartition(".")[0] or name) for name in names)
    return {
        name: free_name(cut.encode()[:VIEW_BYTES].decode(errors="ignore"), taken) for name, cut in zip(names, plain)
    }


def free_name(plain: str, taken: set[str]) -> str:
    """A name that is not in `taken` (ignoring case), with a number if needed; it is added to `taken`."""
    name, number = plain, 2
    while name.casefold() in taken:
        name, number = f"{plain}_{number}", number + 1
    taken.add(name.casefold())
    return name


def view_groups(scene: Scene) -> dict[str, str]:
    """Frame name to its group for evaluation: "train", "held-out", or the capture's own name.

    Synthetic rooms use `on_path` for held-out views along the camera's path and `off_path` for those away from it,
    which are harder. The run, not the capture, determines the training views.
    """
    held_out, trained = ({scene.frames[view].name for view in views} for views in (scene.test, scene.train))
    return dict.fromkeys(held_out, "held-out") | _stated_groups(scene) | dict.fromkeys(trained, "train")


def _stated_groups(scene: Scene) -> dict[str, str]:
    """Frame name to its `split` in transforms.json, if present."""
    try:
        entries = read_json(scene.path / "transforms.json").get("frames")
    except SceneError:
        return {}
    groups = {}
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict) and isinstance(entry.get("split"), str) and entry["split"] != "train":
            groups[str(entry.get("file_path")).removeprefix("./")] = entry["split"]
    return groups
