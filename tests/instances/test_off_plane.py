"""Off-plane residuals: superpoints in a row along a wall, whose answers are known."""

from dataclasses import dataclass, field

import numpy as np

from ovseg3d.instances.graph import Contacts
from ovseg3d.instances.layout import CEILING, NONE, WALL
from ovseg3d.instances.off_plane import OffPlaneConfig, off_plane_residuals

GREY = (0.6, 0.0, 0.0)


@dataclass
class Superpoints:
    """Patch 0 is wall; the others are added one by one, each a region of its own unless told."""

    colour: list = field(default_factory=lambda: [GREY])
    region: list = field(default_factory=lambda: [0])
    room: list = field(default_factory=lambda: [WALL])
    pairs: list = field(default_factory=list)
    sums: list = field(default_factory=list)

    def add(self, colour=GREY, *, region: int | None = None, room: int = NONE) -> int:
        self.colour.append(colour)
        self.region.append(max(self.region) + 1 if region is None else region)
        self.room.append(room)
        return len(self.colour) - 1

    def touch(self, a: int, b: int, edges: float = 10.0, step: float = 0.0, bend: float = 0.0) -> None:
        self.pairs.append((a, b))
        self.sums.append((edges, edges * step, edges * bend))

    def found(self, config: OffPlaneConfig | None = None) -> list[int]:
        border = Contacts(np.array(self.pairs), np.array(self.sums))
        arrays = (np.array(values) for values in (self.region, self.room, self.colour))
        return off_plane_residuals(border, *arrays, np.ones(len(self.region)), config).tolist()


def test_what_goes_over_into_the_wall_is_wall_and_what_stands_out_is_not() -> None:
    row = Superpoints()
    same, red = row.add(), row.add((0.6, 0.3, 0.2))
    darker, stepped, standing = row.add((0.4, 0.0, 0.0)), row.add(), row.add()
    for patch in (same, red, darker):
        row.touch(0, patch)
    row.touch(0, stepped, step=0.1)
    row.touch(0, standing, bend=0.6)
    assert row.found() == [WALL, WALL, NONE, NONE, NONE, NONE]


def test_cues_add_up_squared() -> None:
    row, config = Superpoints(), OffPlaneConfig()
    part, whole = (0.4 * config.most) ** 0.5, (0.98 * config.most) ** 0.5
    two, three, one = row.add(), row.add((0.6 - part * config.shade, 0.0, 0.0)), row.add()
    for patch in (two, three):
        row.touch(0, patch, step=part * config.step, bend=-part * config.bend)
    row.touch(0, one, step=whole * config.step)
    assert row.found() == [WALL, WALL, NONE, WALL], "0.8, 1.2 and 0.98 of what is allowed"


def test_what_photos_see_as_something_else_is_no_wall() -> None:
    """Looks come before the three numbers of a colour."""
    row = Superpoints(colour=[(0.0, 0.0, *GREY)])
    like, other = row.add((0.3, 0.3, *GREY)), row.add((1.0, -1.0, *GREY))
    row.touch(0, like)
    row.touch(0, other)
    assert row.found() == [WALL, WALL, NONE]


def test_a_thing_of_many_colours_is_no_wall_though_their_mean_is() -> None:
    row = Superpoints()
    light = row.add((0.8, 0.0, 0.0))
    dark = row.add((0.4, 0.0, 0.0), region=row.region[light])
    row.touch(0, light)
    row.touch(0, dark)
    row.touch(light, dark)
    assert row.found() == [WALL, NONE, NONE]
    assert row.found(OffPlaneConfig(spread=0.3)) == [WALL, WALL, WALL]


def test_most_of_its_border_must_be_with_the_room() -> None:
    row = Superpoints()
    vase, table = row.add(), row.add((0.3, 0.2, 0.3))
    row.touch(0, vase, edges=10)
    row.touch(vase, table, edges=12)
    assert row.found()[vase] == NONE
    row.sums[0] = (14.0, 0.0, 0.0)
    assert row.found()[vase] == WALL


def test_bulges_on_bulges_follow_and_edges_within_a_region_say_nothing() -> None:
    row = Superpoints()
    first, second = row.add(), row.add()
    third = row.add(region=row.region[second])
    row.touch(0, first, edges=20)
    row.touch(first, second)
    row.touch(second, third, edges=100, step=0.5)
    assert row.found() == [WALL, WALL, WALL, WALL]
    assert row.found(OffPlaneConfig(rounds=1)) == [WALL, WALL, NONE, NONE]


def test_a_corner_is_what_it_borders_most() -> None:
    row = Superpoints()
    top = row.add(room=CEILING)
    low, high = row.add(), row.add()
    row.touch(0, low)
    row.touch(top, low, edges=8)
    row.touch(0, high)
    row.touch(top, high, edges=12)
    found = row.found()
    assert [found[patch] for patch in (low, high)] == [WALL, CEILING]


def test_nothing_bulges_where_there_is_no_room() -> None:
    row = Superpoints(room=[NONE])
    row.touch(0, row.add())
    assert row.found() == [NONE, NONE]
