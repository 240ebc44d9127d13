"""Labelled clouds with known answers."""

import numpy as np

from ovseg3d.export.labelled import LabelledCloud, moved
from ovseg3d.field.surface import Surface
from ovseg3d.instances.records import InstancePoints

PHRASES = ("a red ball", "Fenster, größer </script><b>", "椅子")
"""The second would end a script, the third is no Latin text."""
COLOURS = np.array([[0, 0, 0], [200, 10, 20], [30, 210, 40], [50, 60, 220]], np.uint8)


def similarity() -> np.ndarray:
    """Twice as large, a quarter turn about x (y becomes z), and moved."""
    made = np.eye(4)
    made[:3, :3] = 2.0 * np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]])
    made[:3, 3] = (10.0, 20.0, 30.0)
    return made


def sphere_cloud(count: int = 4000, radius: float = 0.5, phrases: tuple[str, ...] = PHRASES) -> LabelledCloud:
    """A sphere around (1, 2, 3): the upper half is label 1 and thing 4, the lower label 3, without a thing."""
    number = np.arange(count) + 0.5
    z = 1 - 2 * number / count  # a spiral that is even by area
    angle = number * np.pi * (1 + 5**0.5)
    normal = np.stack([np.sqrt(1 - z**2) * np.cos(angle), np.sqrt(1 - z**2) * np.sin(angle), z], 1)
    xyz = normal * radius + (1, 2, 3)
    cell = np.full(count, radius * (4 * np.pi / count) ** 0.5)
    rgb = np.stack([number % 256, number // 256 % 256, np.where(z > 0, 255, 0)], 1).astype(np.uint8)
    surface = Surface(
        xyz.astype(np.float32), normal.astype(np.float32), rgb, np.linspace(0, 1, count).astype(np.float32),
        cell.astype(np.float32), np.array([0.0, 0.0, 1.0]), True,
    )  # fmt: skip
    label = np.where(z > 0, 1, 3) if phrases else np.zeros(count, np.int64)
    instance = np.where(z > 0, 4, 0).astype(np.int32)
    instances = InstancePoints(surface, instance).records(labels=label if phrases else None, phrases=phrases)
    return LabelledCloud(
        surface, label, instance, phrases, COLOURS[: len(phrases) + 1], instances, "kugel-ü", metres_per_unit=1.0,
        columns={"vectors": np.stack([z, -z], 1).astype(np.float16)}, facts={"encoder": "none"},
    )  # fmt: skip


def in_world(cloud: LabelledCloud) -> LabelledCloud:
    """The same cloud, brought to another frame."""
    from dataclasses import replace

    surface = moved(cloud.surface, similarity())
    instances = InstancePoints(surface, cloud.instance).records(
        labels=cloud.label, phrases=cloud.phrases, frame="world"
    )
    return replace(cloud, surface=surface, instances=instances, frame="world", frame_from_input=similarity())
