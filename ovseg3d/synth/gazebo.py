"""Rooms from a Gazebo `.world` file: models by uri, poses as x y z roll pitch yaw (metres, z up).

The reader supports `<include>` in the world and inside `<model>`, and the mesh visuals of a `model.sdf` (with their
poses and scales). Lights, physics and shapes other than meshes are ignored. Missing or broken models are left out and
listed.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from ovseg3d.errors import ConfigError
from ovseg3d.synth.assets import SHELL, Catalogue
from ovseg3d.synth.geometry import Part, rotation
from ovseg3d.synth.materials import Real, triple
from ovseg3d.synth.render import Lighting
from ovseg3d.synth.rooms import CameraPlan, Placed, Room


def pose_of(element: ElementTree.Element) -> np.ndarray:
    """The 4x4 transform of an element's own <pose>; identity without one."""
    text = element.findtext("pose")
    values = [float(v) for v in text.split()] if text else []
    values += [0.0] * (6 - len(values))
    pose = np.eye(4)
    pose[:3, :3] = rotation(values[5], values[4], values[3])
    pose[:3, 3] = values[:3]
    return pose


def placements(path: Path) -> list[tuple[str, str, np.ndarray]]:
    """(instance name, model name, world-from-model 4x4) of every include of a world file.

    Raises ConfigError when the file is absent, not XML or not a world.
    """
    try:
        world = ElementTree.parse(path).getroot()
    except FileNotFoundError:
        raise ConfigError("there is no such world file", where=path, fix="check --world") from None
    except (ElementTree.ParseError, OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"this is not a Gazebo world: {error}", where=path) from error
    world = world if world.tag == "world" else world.find("world")
    if world is None:
        raise ConfigError("this is not a Gazebo world: it has no <world>", where=path)
    found = []
    try:
        for model in world.findall("model"):
            for include in model.findall("include"):
                found.append((model.get("name", ""), uri_name(include), pose_of(model) @ pose_of(include)))
        for include in world.findall("include"):
            name = include.findtext("name") or uri_name(include)
            found.append((name, uri_name(include), pose_of(include)))
    except ValueError as error:
        raise ConfigError(f"a pose in this world is not six numbers: {error}", where=path) from error
    if not found:
        raise ConfigError("this world includes no models", where=path)
    return found


def uri_name(include: ElementTree.Element) -> str:
    """The model that an <include> names."""
    return (include.findtext("uri") or "").strip().removeprefix("model://").strip("/")


def model_meshes(folder: Path) -> list[tuple[str, np.ndarray]]:
    """(mesh file relative to the models' folder, model-from-mesh 4x4 with scale) of a model.sdf's visuals."""
    root = ElementTree.parse(folder / "model.sdf").getroot()
    meshes = []
    for model in root.iter("model"):
        for link in model.findall("link"):
            for visual in link.findall("visual"):
                uri = visual.findtext("geometry/mesh/uri")
                if not uri:
                    continue
                scale = np.array([float(v) for v in (visual.findtext("geometry/mesh/scale") or "1 1 1").split()])
                pose = pose_of(link) @ pose_of(visual) @ np.diag([*scale, 1.0])
                meshes.append((uri.strip().removeprefix("model://"), pose))
    return meshes


def world_room(path: Path, catalogue: Catalogue) -> Room:
    """The world as a room: structure (floors, walls, ceilings) as shell, all else as objects, open sky above.

    Args:
        path: the world file.
        catalogue: of the models that it names.

    Raises:
        ConfigError: the world cannot be read, or none of its models.
    """
    shell: list[tuple[str, Part]] = []
    objects: list[Placed] = []
    told: set[str] = set()
    folders = {p.parent.name: p.parent for p in sorted(catalogue.root.rglob("model.sdf"))}

    def skip(name: str, why: str) -> None:
        if name not in told:
            told.add(name)
            catalogue.skipped.append(f"{name}: {why}")

    for _, name, pose in placements(path):
        if name not in folders:
            skip(name, "the world places it, but the model is not in the folder")
            continue
        folder = folders[name]
        try:
            meshes = model_meshes(folder)
        except (ElementTree.ParseError, ValueError, OSError) as error:
            skip(name, f"its model.sdf is broken: {error}")
            continue
        parts: list[Part] = []
        entry = None
        for file, inner in meshes:
            key = (folder.parent / file).relative_to(catalogue.root).as_posix()
            if key not in catalogue.entries:
                skip(name, f"its mesh {file} is not in the folder")
                continue
            own = catalogue.parts(key)
            if own is None:
                continue
            entry = entry or catalogue.entries[key]
            parts += [p.transformed(inner[:3, :3], inner[:3, 3]) for p in own]
        if entry is None or not parts:
            continue
        if entry.category in SHELL or entry.category.split()[-1] in ("floor", "wall", "ceiling"):
            category = entry.category.split()[-1]
            shell += [(category, p.transformed(pose[:3, :3], pose[:3, 3])) for p in parts]
        else:
            at = triple(pose[:3, 3])
            objects.append(Placed(entry.category, entry.phrase, at, parts=tuple(parts), linear=pose[:3, :3]))
    if not objects and not shell:
        raise ConfigError("none of this world's models could be used", where=path, fix="check --assets")
    plan, size = free_loop([p for _, p in shell], objects)
    light = Lighting((), open_sky=(1.0, 1.02, 1.06), sky=(0.75, 0.82, 0.92))
    return Room(path.stem, size, tuple(shell), tuple(objects), light, plan, tuple(catalogue.skipped), catalogue.notes)


def free_loop(shell: list[Part], objects: list[Placed], cell: Real = 0.1) -> tuple[CameraPlan, tuple]:
    """A walk through the largest free space at eye height: the widest ellipse on a map of what is in the way."""
    rng = np.random.default_rng(0)
    clouds, everything = [], []
    for turn, at, parts in [(np.eye(3), np.zeros(3), shell)] + [(o.rotation, o.at, o.parts or ()) for o in objects]:
        for part in parts:
            corners = part.soup.points @ np.asarray(turn).T + np.asarray(at)
            everything.append(corners.reshape(-1, 3))
            area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) / 2
            many = np.minimum(np.ceil(area / 0.002).astype(int), 20000)
            face = np.repeat(np.arange(len(corners)), many)
            root, b = np.sqrt(rng.random(len(face)))[:, None], rng.random(len(face))[:, None]
            c = corners[face]
            points = c[:, 0] * (1 - root) + c[:, 1] * root * (1 - b) + c[:, 2] * root * b
            clouds.append(points[(points[:, 2] > 1.0) & (points[:, 2] < 1.9)])
    points, corners = np.concatenate(clouds), np.concatenate(everything)
    low, high = corners.min(0), corners.max(0)
    shape = np.ceil((high[:2] - low[:2]) / cell).astype(int) + 1
    free = np.ones(shape, bool)
    at = ((points[:, :2] - low[:2]) / cell).astype(int).clip(0, shape - 1)
    free[at[:, 0], at[:, 1]] = False
    # Outside the outermost walls is no room: the border counts as taken.
    free[[0, -1]] = free[:, [0, -1]] = False
    cells_away: Any = ndimage.distance_transform_edt(free)
    clearance = cells_away * cell
    middle = np.array(np.unravel_index(clearance.argmax(), clearance.shape))
    reach = max(float(clearance.max()) - 0.35, 0.3)
    radii = np.array([reach, reach])
    angle = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    for _ in range(40):  # stretch each way while the walk stays 0.35 m clear
        grown = False
        for axis in (0, 1):
            longer = radii + cell * np.eye(2)[axis]
            walk = middle + np.stack([np.cos(angle), np.sin(angle)], 1) * longer / cell
            cells = np.round(walk).astype(int)
            if np.all(cells >= 0) and np.all(cells < shape) and np.all(clearance[cells[:, 0], cells[:, 1]] > 0.35):
                radii, grown = longer, True
        if not grown:
            break
    centre = low[:2] + (middle + 0.5) * cell
    size = tuple(float(v) for v in high - low)
    plan = replace(CameraPlan(), middle=tuple(float(v) for v in centre), radii=tuple(float(v) for v in radii))
    return plan, size
