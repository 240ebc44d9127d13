"""The two demo rooms. Every object, size and material is written out, so that new kinds never change their bytes.

Frames and units as in rooms.py. Yaw turns the front of an object, which is -y, to where it faces: furniture with its
back to the north wall has yaw 0.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ovseg3d.synth.kinds import Look
from ovseg3d.synth.materials import Real, mix, paint, wood
from ovseg3d.synth.render import Lighting
from ovseg3d.synth.rooms import CameraPlan, Placed, Room, lamp_light, shell, window_light

NORTH, SOUTH, EAST, WEST = 0.0, np.pi, -np.pi / 2, np.pi / 2


def playroom() -> Room:
    """A furnished room of 5.2 x 4.2 m with a window, a door and about twenty-five things."""
    w, d, h = size = (5.2, 4.2, 2.6)
    oak = wood("#c89f68", "#a3763f", scale=0.045)
    walnut = wood("#7d5637", "#5a3a22", scale=0.04)
    pine = wood("#dcb985", "#c39a61", scale=0.05)
    white = paint("#ece8df")
    blue_cloth = mix("#3f6184", "#33506f", "weave", 0.035)
    window_size, window_at = (1.6, 0.08, 1.3), (-0.7, d / 2 - 0.04, 0.95)
    desk_top, table_top, cabinet_top, seat = 0.75, 0.45, 0.55, 0.44
    P, L = Placed, Look
    objects = [
        P("window", "window", window_at, NORTH, window_size, "cross", L(white, seed=3)),
        P(
            "curtain",
            "yellow curtain",
            (-1.75, d / 2 - 0.07, 0.2),
            NORTH,
            (0.42, 0.1, 2.15),
            "gathered",
            L(mix("#d8b25a", "#c79b3e", "stripes", 0.06)),
        ),
        P(
            "curtain",
            "yellow curtain",
            (0.35, d / 2 - 0.07, 0.2),
            NORTH,
            (0.42, 0.1, 2.15),
            "gathered",
            L(mix("#d8b25a", "#c79b3e", "stripes", 0.06)),
        ),
        P(
            "door",
            "white door",
            (-1.75, -d / 2 + 0.04, 0),
            SOUTH,
            (0.92, 0.08, 2.06),
            "panels",
            L(white, paint("#d9d3c6")),
        ),
        P("desk", "wooden desk", (-0.7, d / 2 - 0.52, 0), NORTH, (1.3, 0.62, desk_top), "drawers", L(oak, white)),
        P(
            "laptop",
            "silver laptop",
            (-0.75, d / 2 - 0.55, desk_top),
            0.25,
            (0.35, 0.31, 0.235),
            "open",
            L(paint("#a9adb2"), paint("#8a8e94"), 5),
        ),
        P("mug", "red mug", (-0.32, d / 2 - 0.6, desk_top), 2.4, (0.12, 0.085, 0.095), "straight", L(paint("#b3372b"))),
        P(
            "lamp",
            "green desk lamp",
            (-1.2, d / 2 - 0.4, desk_top),
            0.0,
            (0.24, 0.24, 0.42),
            "desk",
            L(paint("#5f8a63"), paint("#3c3f3d")),
        ),
        P("chair", "wooden chair", (-0.85, 0.95, 0), SOUTH + 0.35, (0.46, 0.48, 0.92), "slats", L(pine, walnut)),
        P(
            "bookshelf",
            "tall white bookshelf",
            (1.75, d / 2 - 0.17, 0),
            NORTH,
            (1.05, 0.32, 1.85),
            "full",
            L(white, paint("#d8d2c4"), 8),
        ),
        P(
            "cabinet",
            "walnut cabinet",
            (w / 2 - 0.24, -0.15, 0),
            EAST,
            (1.5, 0.44, cabinet_top),
            "doors",
            L(walnut, walnut.but(scale=0.06)),
        ),
        P(
            "television",
            "black television",
            (w / 2 - 0.26, -0.15, cabinet_top),
            EAST,
            (1.1, 0.24, 0.68),
            "stand",
            L(paint("#1d1e20"), paint("#2b2c2f"), 4),
        ),
        P(
            "plant",
            "green plant",
            (w / 2 - 0.5, -d / 2 + 0.5, 0),
            0.4,
            (0.66, 0.66, 1.2),
            "leafy",
            L(paint("#4e7d3f"), paint("#b5623f"), 2),
        ),
        P("sofa", "blue sofa", (0.45, -d / 2 + 0.5, 0), SOUTH, (1.95, 0.9, 0.82), "block", L(blue_cloth, walnut)),
        P(
            "cushion",
            "orange cushion",
            (1.0, -d / 2 + 0.62, seat + 0.22),
            SOUTH + 0.1,
            (0.44, 0.44, 0.16),
            "square",
            L(mix("#d07a34", "#b9642a", "weave", 0.05)),
            1.25,
        ),
        P(
            "cushion",
            "striped cushion",
            (-0.1, -d / 2 + 0.62, seat + 0.22),
            SOUTH - 0.15,
            (0.42, 0.42, 0.15),
            "square",
            L(mix("#e7e1d2", "#4c7f86", "stripes", 0.07)),
            1.25,
        ),
        P(
            "picture",
            "landscape painting",
            (0.45, -d / 2 + 0.015, 1.35),
            SOUTH,
            (0.95, 0.03, 0.68),
            "landscape",
            L(walnut, seed=6),
        ),
        P(
            "picture",
            "abstract picture",
            (-w / 2 + 0.015, -0.25, 1.3),
            WEST,
            (0.6, 0.03, 0.7),
            "shapes",
            L(paint("#26282b"), seed=7),
        ),
        P(
            "rug",
            "red rug",
            (0.25, -0.15, 0),
            0.0,
            (2.1, 1.5, 0.012),
            "bordered",
            L(mix("#a8473d", "#8c362f", "weave", 0.07), mix("#e4d6b8", "#c9b78f", "weave", 0.05)),
        ),
        P(
            "table",
            "round coffee table",
            (0.35, -0.2, 0.012),
            0.0,
            (0.85, 0.85, table_top),
            "round",
            L(pine, paint("#4b4640")),
        ),
        P("bowl", "white bowl", (0.48, -0.1, table_top + 0.012), 0.0, (0.24, 0.24, 0.09), "round", L(paint("#dfe4e6"))),
        P(
            "book",
            "stack of books",
            (0.16, -0.3, table_top + 0.012),
            0.7,
            (0.17, 0.24, 0.09),
            "stack",
            L(paint("#31597a"), paint("#b98b35")),
        ),
        P(
            "lamp",
            "standing lamp",
            (-w / 2 + 0.42, d / 2 - 0.4, 0),
            0.0,
            (0.42, 0.42, 1.6),
            "standing",
            L(paint("#e6dcc3"), paint("#35322e")),
        ),
        P("box", "wooden toy box", (-w / 2 + 0.26, -0.25, 0), WEST, (0.8, 0.42, 0.42), "lidded", L(pine, oak)),
        P(
            "bear",
            "brown teddy bear",
            (-w / 2 + 0.27, -0.1, 0.42),
            WEST - 0.2,
            (0.32, 0.31, 0.42),
            "sitting",
            L(mix("#8f6238", "#7a5230", "plaster", 0.03), paint("#cfae80")),
        ),
        P(
            "ball",
            "striped ball",
            (-1.35, 0.1, 0),
            0.0,
            (0.25, 0.25, 0.25),
            "bands",
            L(paint("#d9a32c"), paint("#2d5fa0")),
        ),
        P("stool", "green stool", (1.75, 0.85, 0), 0.3, (0.36, 0.36, 0.45), "round", L(paint("#5d8f6b"), pine)),
        P("ceiling light", "ceiling light", (0.0, 0.0, h - 0.09), 0.0, (0.55, 0.55, 0.09), "disc", L(white)),
    ]
    rooms_shell = shell(
        size,
        mix("#c69a66", "#a97c4b", "planks", 0.16),
        mix("#d9d6c8", "#cbc9bb", "damask", 0.34),
        paint("#efece6"),
        white,
        gaps=(("south", 1.75 - 0.46, 1.75 + 0.46),),
    )
    lights = Lighting(
        (
            window_light(window_at, window_size, NORTH, (7.5, 8.2, 9.4)),
            lamp_light((0.0, 0.0, h - 0.09), 0.245, (13.0, 11.6, 9.6)),
        ),
        sun=(-0.35, 1.0, 0.85),
        sun_light=(4.6, 4.1, 3.3),
    )
    return Room("playroom", size, rooms_shell, tuple(objects), lights, CameraPlan(radii=(1.9, 1.4)))


def desk() -> Room:
    """A small study of 3.4 x 3.0 m: cameras close around the small things on a desk in its middle."""
    w, d, h = size = (3.4, 3.0, 2.5)
    top = 0.75
    beech = wood("#d9b98c", "#bd9866", scale=0.06)
    black, white = paint("#26272a"), paint("#e9e6df")
    window_size, window_at = (1.4, 0.08, 1.2), (0.3, d / 2 - 0.04, 1.0)
    P, L = Placed, Look
    objects = [
        P("window", "window", window_at, NORTH, window_size, "cross", L(white, seed=21)),
        P("desk", "wooden desk", (0, 0, 0), 0.0, (1.5, 0.75, top), "drawers", L(beech, white)),
        P(
            "monitor",
            "black monitor",
            (-0.12, 0.2, top),
            0.06,
            (0.56, 0.2, 0.45),
            "flat",
            L(black, paint("#3a3b3f"), 5),
        ),
        P(
            "keyboard",
            "white keyboard",
            (-0.14, -0.16, top),
            0.04,
            (0.42, 0.14, 0.024),
            "full",
            L(paint("#d9d9d6"), paint("#f1f0ec")),
        ),
        P("mouse", "black mouse", (0.19, -0.17, top), -0.15, (0.065, 0.11, 0.038), "plain", L(black, paint("#77797d"))),
        P(
            "mug",
            "green mug",
            (0.36, -0.03, top),
            -0.6,
            (0.125, 0.088, 0.1),
            "tapered",
            L(mix("#3f8d6d", "#e8e2d0", "bands", 0.1)),
        ),
        P("lamp", "red desk lamp", (-0.6, 0.22, top), 0.0, (0.26, 0.26, 0.45), "desk", L(paint("#b8473a"), black)),
        P(
            "book",
            "stack of books",
            (0.58, 0.17, top),
            0.35,
            (0.19, 0.26, 0.12),
            "stack",
            L(paint("#2f5c7d"), paint("#c7932f")),
        ),
        P(
            "clock",
            "wooden clock",
            (0.33, 0.24, top),
            -0.35,
            (0.16, 0.06, 0.17),
            "table",
            L(wood("#8a5a36", "#65401f", scale=0.02), black),
        ),
        P(
            "pen holder",
            "blue pen holder",
            (-0.5, -0.02, top),
            0.0,
            (0.09, 0.09, 0.19),
            "round",
            L(mix("#31507e", "#9fb6cf", "dots", 0.022), seed=2),
        ),
        P(
            "apple",
            "red apple",
            (0.5, -0.16, top),
            0.3,
            (0.08, 0.08, 0.088),
            "round",
            L(mix("#b52f26", "#d2913a", "plaster", 0.05)),
        ),
        P(
            "banana",
            "banana",
            (0.6, -0.2, top),
            1.1,
            (0.19, 0.068, 0.036),
            "curved",
            L(paint("#e2bc3c"), paint("#5d4a25")),
        ),
        P(
            "bottle",
            "green bottle",
            (0.67, -0.03, top),
            0.0,
            (0.075, 0.075, 0.27),
            "water",
            L(paint("#3c6f58", gloss=0.08), paint("#e6e0cc")),
        ),
        P(
            "bear",
            "small teddy bear",
            (-0.64, -0.2, top),
            0.5,
            (0.15, 0.145, 0.2),
            "sitting",
            L(mix("#a9793f", "#946634", "plaster", 0.02), paint("#dcc090")),
        ),
        P(
            "tissue box",
            "patterned tissue box",
            (-0.38, -0.26, top),
            0.25,
            (0.22, 0.12, 0.12),
            "flat",
            L(mix("#d8cfe0", "#7c6a9c", "damask", 0.055), paint("#332f38")),
        ),
        P("vase", "blue vase", (-0.42, 0.27, top), 0.0, (0.12, 0.12, 0.26), "slender", L(paint("#4770a0", gloss=0.06))),
        P(
            "chair",
            "office chair",
            (0.1, -0.82, 0),
            SOUTH + 0.3,
            (0.46, 0.48, 0.9),
            "shell",
            L(paint("#c4743a"), paint("#3a3835")),
        ),
        P(
            "bookshelf",
            "oak bookshelf",
            (-1.05, d / 2 - 0.16, 0),
            NORTH,
            (0.85, 0.3, 1.75),
            "full",
            L(wood(), wood(), 31),
        ),
        P(
            "cabinet",
            "grey cabinet",
            (w / 2 - 0.23, -0.1, 0),
            EAST,
            (1.1, 0.42, 0.8),
            "drawers",
            L(paint("#8d9296"), paint("#a3a8ab")),
        ),
        P("bowl", "yellow bowl", (w / 2 - 0.24, 0.15, 0.8), 0.0, (0.26, 0.26, 0.1), "round", L(paint("#d7b24a"))),
        P(
            "plant",
            "spiky plant",
            (w / 2 - 0.24, -0.4, 0.8),
            0.0,
            (0.36, 0.36, 0.55),
            "spiky",
            L(paint("#5b8a4a"), white, 9),
        ),
        P(
            "picture",
            "landscape painting",
            (0.3, -d / 2 + 0.015, 1.2),
            SOUTH,
            (0.9, 0.03, 0.65),
            "landscape",
            L(black, seed=12),
        ),
        P(
            "door",
            "blue door",
            (-1.0, -d / 2 + 0.04, 0),
            SOUTH,
            (0.9, 0.08, 2.05),
            "panels",
            L(paint("#6f8ba0"), white),
        ),
        P(
            "picture",
            "abstract picture",
            (-w / 2 + 0.015, -0.2, 1.2),
            WEST,
            (0.8, 0.03, 0.6),
            "shapes",
            L(beech, seed=15),
        ),
        P(
            "rug",
            "grey rug",
            (0, -0.2, 0),
            0.0,
            (2.0, 1.5, 0.012),
            "bordered",
            L(mix("#8f959b", "#777d84", "weave", 0.06), paint("#50565d")),
        ),
        P("ceiling light", "ceiling light", (0.0, 0.0, h - 0.09), 0.0, (0.5, 0.5, 0.09), "disc", L(white)),
    ]
    objects = [
        lifted(o, 0.012) if abs(o.at[0]) < 0.8 and abs(o.at[1]) < 0.9 and o.category != "rug" and o.at[2] < 1 else o
        for o in objects
    ]
    rooms_shell = shell(
        size,
        mix("#b58f63", "#98744a", "planks", 0.14),
        mix("#dcd3c0", "#d0c6b1", "plaster", 0.16),
        paint("#efece6"),
        white,
        gaps=(("south", 1.0 - 0.45, 1.0 + 0.45),),
    )
    lights = Lighting(
        (
            window_light(window_at, window_size, NORTH, (6.0, 6.6, 7.6)),
            lamp_light((0.0, 0.0, h - 0.09), 0.22, (13.0, 11.8, 10.0)),
        ),
        sun=(-0.25, 1.0, 0.7),
        sun_light=(3.2, 2.9, 2.4),
    )
    plan = CameraPlan(
        radii=(1.2, 1.0),
        heights=(1.05, 1.5),
        inner=0.8,
        sway=0.12,
        dip=0.0,
        nod=0.06,
        field_of_view=np.radians(62.0),
        target=(0.0, 0.0, 0.85),
        near=0.2,
        open=0.4,
    )
    return Room("desk", size, rooms_shell, tuple(objects), lights, plan)


def lifted(placed: Placed, by: Real) -> Placed:
    """The same object, higher."""
    x, y, z = placed.at
    return replace(placed, at=(x, y, z + by))
