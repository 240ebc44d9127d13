"""Furniture from mesh files: OBJ, GLB and DAE, with an editable list of their categories and axes.

`assets.json` is {file (relative, posix): {category, phrase, up, front, scale}}: `up` and `front` are the mesh's
own axes ("z", "-y"...), `scale` is metres per mesh unit. It is guessed once from file names and units, written
beside the models (or into the scene, if those are read-only), and from then on read as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from PIL import Image
from trimesh.resolvers import Resolver

from ovseg3d.errors import ConfigError, OutputError
from ovseg3d.files import read_json, write_json
from ovseg3d.synth.arrange import Item
from ovseg3d.synth.furnish import kind_item, random_room
from ovseg3d.synth.geometry import Part, Soup, soup_of
from ovseg3d.synth.kinds import KINDS
from ovseg3d.synth.materials import Material, Real, picture, to_linear, triple
from ovseg3d.synth.rooms import Placed, Room

SUFFIXES = (".obj", ".glb", ".dae")
AXES = {"x": (1, 0, 0), "-x": (-1, 0, 0), "y": (0, 1, 0), "-y": (0, -1, 0), "z": (0, 0, 1), "-z": (0, 0, -1)}
NAMES = {"tv": "television", "trash": "bin", "carpet": "rug", "sofa": "sofa", "nightstand": "night stand", "cup": "mug"}
# Words that say nothing about what a thing is.
EMPTY = {
    "visual",
    "mesh",
    "model",
    "textured",
    "obj",
    "low",
    "high",
    "poly",
    "final",
    "a",
    "b",
    "c",
    "d",
    "plastic",
    "mini",
}
SHELL = ("floor", "wall", "ceiling", "room wall", "house wall", "room ceiling")
HUNG = (
    "window",
    "picture",
    "door",
    "clock",
    "curtain",
    "board",
    "airconditioner",
    "light",
    "handle",
    "rangehood",
    "camera",
)
LARGEST = 400_000  # triangles of one model; more would take minutes and is surely not furniture


@dataclass(frozen=True)
class Entry:
    """What assets.json says of one file."""

    category: str
    phrase: str
    up: str = "z"
    front: str = "-y"
    scale: Real = 1.0


@dataclass
class Catalogue:
    """A folder of models. `skipped` collects what could not be used and why, for people."""

    root: Path
    entries: dict[str, Entry]
    skipped: list[str] = field(default_factory=list)
    notes: dict = field(default_factory=dict)
    _loaded: dict[str, list[Part] | None] = field(default_factory=dict)

    @classmethod
    def open(cls, root: Path | None, *, world: Path | None = None, folder: Path | None = None) -> Catalogue:
        """Reads or guesses the list of models under `root` (without it: the folder above the world's).

        Raises ConfigError when there is no such folder, no model in it, or assets.json is wrong.
        """
        if root is None:
            root = world.parent.parent if world is not None else Path()
        if not root.is_dir():
            raise ConfigError("there is no such folder of models", where=root, fix="give --assets an existing folder")
        files = sorted(p for p in root.rglob("*") if p.suffix.lower() in SUFFIXES and "collision" not in p.stem.lower())
        if not files:
            raise ConfigError(f"no model ({', '.join(SUFFIXES)}) is in this folder", where=root, fix="check --assets")
        lists = [root / "assets.json", *([folder / "assets.json"] if folder else [])]
        given = next((p for p in reversed(lists) if p.is_file()), None)
        known = read_entries(given) if given else {}
        names = [p.relative_to(root).as_posix() for p in files]
        missing = [n for n in names if n not in known]
        entries = known | guess(missing, root)
        catalogue = cls(root, {n: entries[n] for n in names})
        catalogue.skipped += [
            f"{n}: in assets.json but not in the folder" for n in known if n not in entries or n not in names
        ]
        as_json = {n: vars(e) for n, e in catalogue.entries.items()}
        if given is None:
            try:
                write_json(root / "assets.json", as_json)
            except (OutputError, OSError):
                pass  # A read-only folder is fine: the scene gets the list.
        catalogue.notes["assets.json"] = as_json
        return catalogue

    def parts(self, name: str) -> list[Part] | None:
        """The model's parts, upright (z up, front -y), in metres, where its own origin is; None when unusable."""
        if name not in self._loaded:
            try:
                self._loaded[name] = load_parts(self.root / name, self.root, self.entries[name])
            except Exception as error:  # noqa: BLE001 - a broken model of a stranger can fail in any way
                self.skipped.append(f"{name}: {type(error).__name__}: {str(error)[:120]}")
                self._loaded[name] = None
        return self._loaded[name]

    def items(self, rng: np.random.Generator, most: int = 24) -> list[Item]:
        """Up to `most` of the models as things to place at random."""
        items = []
        for index in rng.permutation(len(self.entries)):
            name = list(self.entries)[index]
            entry = self.entries[name]
            if len(items) >= most or entry.category in SHELL or entry.category.endswith((" wall", " ceiling")):
                continue
            parts = self.parts(name)
            if parts is None:
                continue
            parts = resting(parts)
            corners = np.concatenate([p.soup.points.reshape(-1, 3) for p in parts])
            size = triple(corners.max(0) - corners.min(0))
            if max(size) > 3.2:
                self.skipped.append(f"{name}: {max(size):.1f} m is too large for a room; set its scale in assets.json")
                continue
            known = KINDS.get(entry.category)
            stands = known.stands if known else ("top" if max(size) < 0.45 else "floor")
            if any(entry.category.split()[-1] == h for h in HUNG):
                stands = "hung"
            if known is None and stands == "floor" and size[0] > 0.9:
                stands = "wall"
            surface = known.surface if known else None
            hang = 0.0 if "door" in entry.category else min(1.3, max(0.1, 2.2 - size[2]))

            def place(at, yaw, entry=entry, parts=tuple(parts), size=size):
                return Placed(entry.category, entry.phrase, at, yaw, size, parts=parts)

            items.append(Item(entry.category, size, stands, hang, surface, place))
        return items

    def furnished(self, rng: np.random.Generator) -> list[Item]:
        """The models, and procedural furniture where they would have nothing to stand on or among."""
        items = self.items(rng)
        tops = sum(item.surface is not None for item in items)
        large = sum(item.stands in ("wall", "floor") for item in items)
        extra = (["desk", "table", "cabinet"] if tops < 2 else []) + (
            ["sofa", "bookshelf", "chair"] if large < 5 else []
        )
        return items + [kind_item(rng, KINDS[name]) for name in extra]

    def room(self, seed: int) -> Room:
        """A random room furnished from these models."""
        from dataclasses import replace

        room = random_room(seed, self.furnished)
        return replace(room, name=f"assets {seed}", skipped=tuple(self.skipped), notes=self.notes)


def read_entries(path: Path) -> dict[str, Entry]:
    """assets.json; ConfigError says which entry is wrong.

    Raises:
        ConfigError: an entry that cannot be used, by name.
    """
    values = read_json(path, ConfigError)
    entries = {}
    for name, value in values.items():
        where = f"{path}: {name}"
        if not isinstance(value, dict) or not isinstance(value.get("category"), str):
            raise ConfigError("each file needs at least a category", where=where)
        unknown = set(value) - {"category", "phrase", "up", "front", "scale"}
        if unknown:
            raise ConfigError(
                f"unknown key {sorted(unknown)[0]!r}", where=where, fix="category, phrase, up, front, scale"
            )
        stated: dict[str, Any] = {"phrase": value["category"], **value}
        entry = Entry(**stated)
        if entry.up not in AXES or entry.front not in AXES or entry.up[-1] == entry.front[-1]:
            raise ConfigError("up and front must be two different axes", where=where, fix='"up": "z", "front": "-y"')
        if not isinstance(stated.get("scale", 1.0), int | float) or not 0 < entry.scale < 1e6:
            raise ConfigError("scale must be a positive number: metres per mesh unit", where=where)
        entries[name] = entry
    return entries


def words_of(name: str) -> list[str]:
    """`aws_CoffeeTable_01` as [aws, coffee, table]: CamelCase split, digits and empty words dropped."""
    spaced = re.sub(r"([a-z])([A-Z])", r"\1 \2", re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1 \2", name))
    return [w.lower() for w in re.split(r"[^A-Za-z]+", spaced) if w and w.lower() not in EMPTY]


def guess(names: Iterable[str], root: Path) -> dict[str, Entry]:
    """Entries from file names; where many names begin alike, the common words are left out."""
    names = list(names)
    words: dict[str, list[str]] = {}
    for name in names:
        path = Path(name)
        own = words_of(path.stem)
        if not own:  # "textured.obj": the folder tells
            parents = [p for p in path.parts[:-1] if p.lower() not in ("meshes", "visual", "models")]
            own = words_of(parents[-1]) if parents else words_of(root.name)
        words[name] = own or ["thing"]
    first = [w[0] for w in words.values()]
    for word in sorted(set(first)):
        if len(names) >= 4 and first.count(word) > 0.6 * len(names):
            words = {n: (w[1:] or w) if w[0] == word else w for n, w in words.items()}
    entries = {}
    for name, own in words.items():
        phrase = " ".join(NAMES.get(w, w) for w in own)
        last_two, last = " ".join(phrase.split()[-2:]), phrase.split()[-1]
        category = (
            last_two if last_two in KINDS else last if last in KINDS or last in ("floor", "wall", "ceiling") else phrase
        )
        entries[name] = Entry(category, phrase, scale=unit_scale(root / name))
    return entries


def unit_scale(path: Path) -> float:
    """Metres per unit that a COLLADA file states; 1 elsewhere (OBJ states none, glTF is in metres)."""
    if path.suffix.lower() != ".dae":
        return 1.0
    head = path.read_bytes()[:4000].decode("utf-8", "replace")
    found = re.search(r'<unit[^>]*meter="([0-9.eE+-]+)"', head)
    scale = float(found.group(1)) if found else 1.0
    return scale if scale > 0 else 1.0


class Nearby(Resolver):
    """Finds a model's textures: by the path it states, else by file name in its own and neighbouring folders."""

    def __init__(self, path: Path, root: Path) -> None:
        self.path, self.root = path, root.resolve()

    def get(self, key: str) -> bytes:
        name = str(key).replace("\\", "/").removeprefix("file://")
        stated = (self.path.parent / name).resolve()
        if stated.is_relative_to(self.root) and stated.is_file():
            return stated.read_bytes()
        base = name.rsplit("/", 1)[-1].lower()
        for folder in (self.path.parent, self.path.parent.parent):
            if folder.resolve().is_relative_to(self.root) and folder.resolve() != self.root:
                for found in sorted(folder.rglob("*")):
                    if found.name.lower() == base and found.is_file():
                        return found.read_bytes()
        raise FileNotFoundError(base)

    def keys(self):
        return []

    def write(self, name, data):
        raise OSError("models are read only")

    def namespaced(self, namespace):
        return self


def load_parts(path: Path, root: Path, entry: Entry) -> list[Part]:
    """A model file as parts in metres, z up, front -y. Raises whatever a broken file makes trimesh raise."""
    scene: Any = trimesh.load(path, force="scene", resolver=Nearby(path, root))
    up, back = np.array(AXES[entry.up], float), -np.array(AXES[entry.front], float)
    linear = np.stack([np.cross(back, up), back, up]) * entry.scale
    parts = []
    for mesh in scene.dump() if scene.geometry else []:
        if not isinstance(mesh, trimesh.Trimesh) or not len(mesh.faces):
            continue
        if len(mesh.faces) > LARGEST:
            raise ValueError(f"{len(mesh.faces)} triangles in one mesh, more than {LARGEST}")
        if not np.isfinite(mesh.vertices).all():
            raise ValueError("vertices that are not numbers")
        material, uv = material_of(mesh)
        corners = (mesh.vertices @ linear.T)[mesh.faces]
        side = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        keep = np.linalg.norm(side, axis=1) > 1e-9
        if not keep.any():
            continue
        soup: Soup = soup_of(corners[keep], uv=None if uv is None else uv[mesh.faces][keep], two_sided=True)
        parts.append(Part(soup, material))
    if not parts:
        raise ValueError("holds no triangles")
    return parts


def material_of(mesh: trimesh.Trimesh) -> tuple[Material, np.ndarray | None]:
    """A mesh's texture (at most 256 pixels a side) and uv, or its plain colour."""
    visual = mesh.visual
    material = getattr(visual, "material", None)
    image = getattr(material, "baseColorTexture", None) or getattr(material, "image", None)
    uv = getattr(visual, "uv", None)
    if isinstance(image, Image.Image) and uv is not None and len(uv) == len(mesh.vertices):
        image = image.convert("RGB")
        image.thumbnail((256, 256), Image.Resampling.BOX)
        return picture(np.asarray(image)), np.nan_to_num(np.asarray(uv, float))
    colour = getattr(material, "main_color", None)
    if colour is None:
        colour = getattr(visual, "main_color", (170, 165, 160, 255))
    srgb = np.asarray(colour, float)[:3] / 255
    return Material(triple(to_linear(srgb).clip(0.02, 0.9))), None


def resting(parts: list[Part]) -> list[Part]:
    """The parts shifted so that they are centred over the origin and rest on z = 0."""
    corners = np.concatenate([p.soup.points.reshape(-1, 3) for p in parts])
    low, high = corners.min(0), corners.max(0)
    return [p.moved((-(low + high)[0] / 2, -(low + high)[1] / 2, -low[2])) for p in parts]
