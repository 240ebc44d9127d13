"""Which of a scene's views a command is about, what their files are called, and the groups of views."""

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
"""Training views to show where none is held out."""


def choose_views(scene: Scene, choice: ViewChoice | None) -> tuple[int, ...]:
    """Indices into `scene.frames`; None: the held-out views, or where a run was trained on all, some of these. Raises
    ConfigError when there is none of the kind that was chosen."""
    if choice is None:
        return scene.test or tuple(spread(scene.train, SHOWN))
    views = {"held-out": scene.test, "train": scene.train, "all": tuple(range(len(scene.frames)))}[choice]
    if not views:
        raise ConfigError(
            f"This run has no {choice} views", where=scene.path, fix="--views all (it was trained on every view)"
        )
    return views


def spread(views: Sequence[T], most: int) -> list[T]:
    """So many of them at most, evenly from the first to the last."""
    return [views[i] for i in np.linspace(0, len(views) - 1, min(len(views), most)).round().astype(int)]


VIEW_BYTES = 160
"""Longest name of a view's files, before what is added."""


def view_files(scene: Scene) -> dict[str, str]:
    """Frame name to the name of the files of that view, without suffix: each is another, "a.jpg" and "a.png" too.

    A long name is cut, since the files have words added to it, and systems take no more than 255 bytes.
    """
    taken: set[str] = set()
    names = [frame.name for frame in scene.frames]
    plain = (re.sub(r"[^\w.-]+", "_", name.rpartition(".")[0] or name) for name in names)
    return {
        name: free_name(cut.encode()[:VIEW_BYTES].decode(errors="ignore"), taken) for name, cut in zip(names, plain)
    }


def free_name(plain: str, taken: set[str]) -> str:
    """A name, with a number where it is in `taken` (in whatever capitals), which it joins."""
    name, number = plain, 2
    while name.casefold() in taken:
        name, number = f"{plain}_{number}", number + 1
    taken.add(name.casefold())
    return name


def view_groups(scene: Scene) -> dict[str, str]:
    """Frame name to the group that a view is measured in: "train", "held-out", or what the capture calls it.

    Synthetic rooms say `on_path` for held-out views along the camera's path and `off_path` for those away from it,
    which are harder. What is trained on, the run decides, not the capture.
    """
    held_out, trained = ({scene.frames[view].name for view in views} for views in (scene.test, scene.train))
    return dict.fromkeys(held_out, "held-out") | _stated_groups(scene) | dict.fromkeys(trained, "train")


def _stated_groups(scene: Scene) -> dict[str, str]:
    """Frame name to the `split` that transforms.json gives it, where it does."""
    try:
        entries = read_json(scene.path / "transforms.json").get("frames")
    except SceneError:
        return {}
    groups = {}
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict) and isinstance(entry.get("split"), str) and entry["split"] != "train":
            groups[str(entry.get("file_path")).removeprefix("./")] = entry["split"]
    return groups
