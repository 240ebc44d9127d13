"""Which of a scene's views a command is about."""

from typing import Literal

from ovseg3d.errors import ConfigError
from ovseg3d.scene import Scene

ViewChoice = Literal["held-out", "train", "all"]


def choose_views(scene: Scene, choice: ViewChoice) -> tuple[int, ...]:
    """Indices into `scene.frames`. Raises ConfigError when there is none of that kind."""
    views = {"held-out": scene.test, "train": scene.train, "all": tuple(range(len(scene.frames)))}[choice]
    if not views:
        raise ConfigError(
            f"This run has no {choice} views", where=scene.path, fix="--views all (it was trained on every view)"
        )
    return views
