"""A waiting room, to test counting: chairs of one kind that touch each other, which are hardest to separate.

Frames, units and yaw as in demo.py. A chair's back is on its +y side, so with its back to the north wall it has yaw 0.
"""

from __future__ import annotations

import numpy as np

from ovseg3d.synth.demo import EAST, NORTH, SOUTH, WEST
from ovseg3d.synth.kinds import Look
from ovseg3d.synth.materials import mix, paint, wood
from ovseg3d.synth.render import Lighting
from ovseg3d.synth.rooms import CameraPlan, Placed, Room, lamp_light, shell, window_light


def waiting_room() -> Room:
    """A room of 5.4 x 4.4 m with a row of four chairs, one of three, two back to back, and two pushed under a table."""
    w, d, h = size = (5.4, 4.4, 2.6)
    oak, dark, white = wood("#c89f68", "#a3763f", scale=0.045), paint("#35383c"), paint("#ece8df")
    red, green, blue = (mix(*pair, "weave", 0.04) for pair in RED_GREEN_BLUE)
    wide, deep = 0.5, 0.54

    def chair(name: str, at: tuple[float, float], yaw: float, style: str, look: Look) -> Placed:
        return Placed("chair", f"{name} chair", (*at, 0.0), yaw, (wide, deep, 0.9), style, look)

    padded = Look(red, dark)
    north = [chair("red", (-1.5 + k * wide, d / 2 - deep / 2 - 0.03), NORTH, "padded", padded) for k in range(4)]
    colours = (("green", green), ("blue", blue), ("green", green))
    west = [
        chair(name, (-w / 2 + deep / 2 + 0.03, -0.9 + k * wide), WEST, "padded", Look(cloth, dark))
        for k, (name, cloth) in enumerate(colours)
    ]
    middle = [
        chair("blue", (0.2, -0.1 + side * deep / 2), yaw, "shell", Look(paint("#4a6a93"), dark)) for side, yaw in BACKS
    ]
    table_at, long = (w / 2 - 0.55, -0.5), 1.4
    table = Placed("table", "wooden table", (*table_at, 0.0), EAST, (long, 0.7, 0.74), "square legs", Look(oak, oak))
    under = [
        chair("wooden", (table_at[0] - 0.35 - 0.08, table_at[1] + aside), WEST, "slats", Look(oak, oak))
        for aside in (-wide / 2, wide / 2)
    ]
    window_size, window_at = (1.6, 0.08, 1.2), (1.4, d / 2 - 0.04, 1.0)
    others = [
        Placed("window", "window", window_at, NORTH, window_size, "cross", Look(white, seed=3)),
        Placed("door", "white door", (-1.6, -d / 2 + 0.04, 0), SOUTH, (0.92, 0.08, 2.06), "panels", Look(white, dark)),
        table,
        Placed("clock", "wall clock", (-0.75, d / 2 - 0.02, 1.7), NORTH, (0.34, 0.04, 0.34), "wall", Look(white, dark)),
        Placed("plant", "green plant", (w / 2 - 0.45, d / 2 - 0.45, 0), 0.4, (0.6, 0.6, 1.2), "leafy",
               Look(paint("#4e7d3f"), paint("#b5623f"), 2)),
        Placed("picture", "landscape painting", (0.6, -d / 2 + 0.015, 1.3), SOUTH, (0.9, 0.03, 0.65), "landscape",
               Look(oak, seed=6)),
        Placed("ceiling light", "ceiling light", (0, 0, h - 0.09), 0.0, (0.55, 0.55, 0.09), "disc", Look(white)),
    ]  # fmt: skip
    walls = shell(
        size,
        mix("#a9aeb2", "#8f9498", "tiles", 0.3),
        mix("#e2dccb", "#d6cfbc", "plaster", 0.2),
        paint("#efece6"),
        white,
        gaps=(("south", 1.6 - 0.46, 1.6 + 0.46),),
    )
    lights = Lighting(
        (
            window_light(window_at, window_size, NORTH, (7.0, 7.6, 8.8)),
            lamp_light((0.0, 0.0, h - 0.09), 0.245, (13.0, 12.2, 10.8)),
        ),
        sun=(-0.35, 1.0, 0.85),
        sun_light=(3.0, 2.7, 2.2),
    )
    plan = CameraPlan(radii=(1.8, 1.4))
    return Room("waiting room", size, walls, (*others, *north, *west, *middle, *under), lights, plan)


RED_GREEN_BLUE = (("#a8473d", "#93392f"), ("#5b8c68", "#4b7757"), ("#3f6184", "#33506f"))
BACKS = ((1, NORTH + np.pi), (-1, NORTH))
"""Of two chairs back to back, which side of their middle each stands on, and its yaw."""
