"""Meshes and worlds: guessed lists, orientation, textures, and Gazebo worlds."""

import json
import os

import numpy as np
import pytest
import trimesh

from ovseg3d.errors import ConfigError
from ovseg3d.synth import Views, synthesise
from ovseg3d.synth.assets import Catalogue, guess, words_of
from ovseg3d.synth.gazebo import placements, world_room
from ovseg3d.synth.make import make_room
from ovseg3d.synth.render import DRAFT
from ovseg3d.synth.world import flatten

WORLD = """<sdf version='1.6'><world name='w'>
 <model name='a'><include><uri>model://crate_01</uri></include><pose>1 2 0.5 0 0 1.5707963</pose></model>
 <include><uri>model://crate_01</uri><name>b</name><pose>-1 -2 0 0 0 0</pose></include>
 <include><uri>model://ghost</uri><pose>0 0 0 0 0 0</pose></include>
 <include><uri>model://broken</uri></include>
</world></sdf>"""
SDF = """<sdf version='1.6'><model name='{0}'><link name='l'><visual name='v'><pose>0 0 0.1 0 0 0</pose><geometry>
<mesh><uri>model://{0}/meshes/{0}_visual.obj</uri><scale>1 1 2</scale></mesh></geometry></visual></link>
</model></sdf>"""


@pytest.fixture
def house(tmp_path):
    """A world with one good model placed twice, one that is absent, one that is broken."""
    for name, text in (("crate_01", None), ("broken", "v 0 0\nf 1 2 nonsense")):
        meshes = tmp_path / "models" / name / "meshes"
        meshes.mkdir(parents=True)
        (meshes.parent / "model.sdf").write_text(SDF.format(name))
        path = meshes / f"{name}_visual.obj"
        path.write_text(text) if text else trimesh.creation.box((0.4, 0.6, 1.0)).export(path)
    (tmp_path / "worlds").mkdir()
    path = tmp_path / "worlds" / "house.world"
    path.write_text(WORLD)
    return path


def test_a_world_places_models_as_it_says(house):
    catalogue = Catalogue.open(None, world=house)
    room = world_room(house, catalogue)
    assert [o.category for o in room.objects] == ["crate", "crate"]
    first, second = flatten(room).objects
    # The mesh is centred, scaled twice as tall, lifted by 0.1 in the model.
    assert first["center"] == pytest.approx([1, 2, 0.6]) and first["size"] == pytest.approx([0.4, 0.6, 2.0])
    assert first["yaw_rad"] == pytest.approx(np.pi / 2, abs=1e-5)
    assert second["center"] == pytest.approx([-1, -2, 0.1])
    assert any(s.startswith("ghost") for s in room.skipped)
    assert any("broken" in s for s in room.skipped)


def test_assets_json_is_guessed_once_then_read(house):
    root = house.parent.parent
    Catalogue.open(root)
    path = root / "assets.json"
    entries = json.loads(path.read_text())
    name = "models/crate_01/meshes/crate_01_visual.obj"
    assert entries[name] == {"category": "crate", "phrase": "crate", "up": "z", "front": "-y", "scale": 1.0}
    entries[name] |= {"category": "table", "up": "y", "front": "z", "scale": 0.5}
    path.write_text(json.dumps(entries))
    part = Catalogue.open(root).parts(name)[0]
    extent = np.ptp(part.soup.points.reshape(-1, 3), axis=0)
    # y up, z front: (x, y, z) becomes (width, depth, height) = (x, z, y), halved.
    assert extent == pytest.approx([0.2, 0.5, 0.3])


def test_a_read_only_folder_is_fine_and_the_scene_keeps_the_list(house, tmp_path):
    root = house.parent.parent / "models" / "crate_01"
    os.chmod(root, 0o555)
    try:
        made = synthesise(tmp_path / "out", assets=root, seed=2, views=Views(2, 0, 16, 12), detail=DRAFT)
    finally:
        os.chmod(root, 0o755)
    assert made.frames == 2
    assert "crate" in (made.folder / "assets.json").read_text()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"up": "q"}, "axes"),
        ({"scale": -1}, "positive"),
        ({"colour": "red"}, "unknown key"),
        ({"category": 3}, "category"),
    ],
)
def test_a_wrong_list_is_said_clearly(house, change, match):
    root = house.parent.parent
    Catalogue.open(root)
    path = root / "assets.json"
    entries = json.loads(path.read_text())
    entries[next(iter(entries))] |= change
    path.write_text(json.dumps(entries))
    with pytest.raises(ConfigError, match=match):
        Catalogue.open(root)


@pytest.mark.parametrize("text", ["not xml", "<sdf></sdf>", "<world></world>", WORLD.replace("1 2 0.5", "1 2 x")])
def test_what_is_no_world_is_said_clearly(tmp_path, text):
    path = tmp_path / "w.world"
    path.write_text(text)
    with pytest.raises(ConfigError, match="world"):
        placements(path)


def test_names_are_guessed():
    assert words_of("aws_CoffeeTable_01_visual") == ["aws", "coffee", "table"]
    assert words_of("TVCabinet") == ["tv", "cabinet"]
    from pathlib import Path

    names = [f"aws_{n}_01.obj" for n in ("CoffeeTable", "TV", "Bed", "NightStand", "Trash")]
    entries = guess(names, Path("models"))
    assert [e.category for e in entries.values()] == ["table", "television", "bed", "night stand", "bin"]


def test_the_strangers_house(data_dir):
    folder = data_dir / "aws_small_house"
    room = make_room({"assets": str(folder), "world": str(folder / "worlds/small_house.world")})
    flat = flatten(room)
    assert {"floor", "wall", "bed", "sofa", "refrigerator"} <= set(flat.classes)
    assert sum("not in the folder" in s for s in room.skipped) == 21
    bed = next(o for o in flat.objects if o["category"] == "bed")
    assert 1.5 < max(bed["size"]) < 3 and abs(bed["center"][0] + 6.16) < 1
    textured = sum(p.material.image is not None for p in flat.parts)
    assert textured > 30
    assert min(room.cameras.radii) > 0.8


def test_downloaded_models_furnish_a_room(data_dir):
    room = make_room({"assets": str(data_dir / "household"), "seed": 3})
    phrases = {o.phrase for o in room.objects}
    assert len({"apple", "banana", "scissors", "mug", "yellow mug", "remote controller"} & phrases) >= 3
