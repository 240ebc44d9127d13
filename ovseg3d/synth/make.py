"""From a request (a named room, a seed, meshes, a world file) to a written scene."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ovseg3d.errors import ConfigError, nearest
from ovseg3d.limits import MAX_PIXELS
from ovseg3d.synth.demo import desk, playroom
from ovseg3d.synth.furnish import random_room
from ovseg3d.synth.render import Detail
from ovseg3d.synth.rooms import Room
from ovseg3d.synth.waiting import waiting_room
from ovseg3d.synth.write import Views, Written, check_free, write_room

ROOMS = {"playroom": playroom, "desk": desk, "waiting-room": waiting_room}


def make_room(origin: dict, *, folder: Path | None = None) -> Room:
    """The room that a synth.json describes.

    Args:
        origin: {"room": a name, or null for one furnished from "seed", "assets": folder, "world": file}.
        folder: the scene's own folder, whose assets.json comes before that of the assets.

    Raises:
        ConfigError: no such room, world or assets, or files of theirs that make no sense.
    """
    name, assets, world = origin.get("room"), origin.get("assets"), origin.get("world")
    if assets or world:
        from ovseg3d.synth.assets import Catalogue
        from ovseg3d.synth.gazebo import world_room

        if world and not Path(world).is_file():
            raise ConfigError("there is no such world file", where=world, fix="check --world")
        catalogue = Catalogue.open(
            Path(assets) if assets else None, world=Path(world) if world else None, folder=folder
        )
        if world:
            return world_room(Path(world), catalogue)
        return catalogue.room(int(origin.get("seed") or 0))
    if name is None:
        return random_room(int(origin.get("seed") or 0))
    if name in ROOMS:
        return ROOMS[name]()
    close = nearest(str(name), ROOMS)
    raise ConfigError(
        f"no room is called {name!r}",
        where="--room",
        fix=f"did you mean {close!r}?" if close else f"one of: {', '.join(ROOMS)}; or --seed N for a random one",
    )


def synthesise(
    out: Path,
    *,
    room: str | None = None,
    seed: int | None = None,
    views: Views | None = None,
    assets: Path | None = None,
    world: Path | None = None,
    detail: Detail | None = None,
    report: Callable[[str, float], None] = lambda what, done: None,
) -> Written:
    """Makes a scene folder at `out` (new or empty). Same arguments, machine and versions: same bytes.

    Without `room`, a `seed` furnishes a room at random; without both it is the playroom. With `assets` the
    furniture are meshes, with `world` they stand where a Gazebo world puts them.
    Raises ConfigError for what does not exist or makes no sense, OutputError where `out` cannot be written.

    Args:
        out: the folder; new or empty.
        room: a name of ROOMS.
        seed: of a random room, and of cameras and light.
        views: how many, and how large.
        assets: a folder of models.
        world: a Gazebo world file.
        detail: how carefully they are drawn.
        report: gets a sentence and the share done, 0 to 1.
    """
    out, views = Path(out), views or Views()
    check_free(out)
    if room and (assets or world):
        raise ConfigError("--room is one of the built-in rooms; it takes no --assets or --world", where="--room")
    if min(views.train, views.test) < 0 or views.train < 2 or min(views.width, views.height) < 8:
        raise ConfigError("a scene needs at least 2 views of at least 8 x 8 pixels", where="--views, --width, --height")
    if views.width * views.height > MAX_PIXELS:
        raise ConfigError(f"a photo has at most {MAX_PIXELS:,} pixels", where="--width, --height", fix="--width 640")
    if seed is not None and seed < 0:
        raise ConfigError(f"a seed is at least 0, not {seed}", where="--seed", fix="--seed 0")
    if room is None and seed is None and not assets and not world:
        room = "playroom"
    origin: dict = {"room": room, "seed": seed or 0}
    if assets:
        origin["assets"] = str(Path(assets).resolve())
    if world:
        origin["world"] = str(Path(world).resolve())
    origin |= {
        "views": views.train,
        "test_views": views.test,
        "width": views.width,
        "height": views.height,
        "depth": views.depth,
    }
    made = make_room(origin)
    return write_room(made, out, origin, views=views, detail=detail, seed=seed or 0, report=report)
