"""From what was asked for (a named room, a seed, meshes, a world file) to a written scene."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ovseg3d.errors import ConfigError, nearest
from ovseg3d.synth.render import Detail
from ovseg3d.synth.rooms import ROOMS, Room
from ovseg3d.synth.write import Views, Written, check_free, write_room


def make_room(origin: dict) -> Room:
    """The room that a synth.json describes: {"room": name, "seed": n, ...}."""
    name = origin.get("room")
    if name in ROOMS:
        return ROOMS[name]()
    close = nearest(str(name), ROOMS)
    raise ConfigError(
        f"no room is called {name!r}",
        where="--room",
        fix=f"did you mean {close!r}?" if close else f"one of: {', '.join(ROOMS)}",
    )


def synthesise(
    out: Path,
    *,
    room: str | None = None,
    seed: int = 0,
    views: Views | None = None,
    detail: Detail | None = None,
    report: Callable[[str, float], None] = lambda what, done: None,
) -> Written:
    """Makes a scene folder at `out` (new or empty). Same arguments, machine and versions: same bytes.

    Raises ConfigError for a room that is not known, OutputError where `out` cannot be written.
    """
    check_free(Path(out))
    views = views or Views()
    origin = {
        "room": room or "playroom",
        "seed": seed,
        "views": views.train,
        "test_views": views.test,
        "width": views.width,
        "height": views.height,
    }
    return write_room(make_room(origin), Path(out), origin, views=views, detail=detail, seed=seed, report=report)
