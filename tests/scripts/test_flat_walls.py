"""Flatness of walls: the plane, the outlines, and the table of a run."""

import json
from pathlib import Path

import numpy as np
import pytest
from tiny import small_settings

from ovseg3d.errors import ConfigError
from ovseg3d.pipeline.train import train_scene
from ovseg3d.runs.settings import make_config
from ovseg3d.scene import load_scene
from scripts.benchmarks import flat_walls as script


def test_the_plane_leaves_out_a_fifth():
    random = np.random.default_rng(0)
    flat = random.uniform(-1, 1, (800, 3)) * (1, 1, 0) + (0, 0, 2) + random.normal(0, 0.01, (800, 1)) * (0, 0, 1)
    normal, rms = script.fit_plane(np.concatenate([flat, random.uniform(0, 1, (190, 3))]))
    assert abs(normal[2]) > 0.999 and 0.007 < rms < 0.011
    bulging = flat + 0.2 * np.square(flat[:, :1]) * (0, 0, 1)
    assert script.fit_plane(bulging)[1] > 3 * rms


def test_a_wall_is_measured_in_the_scale_of_the_capture(tiny_scene: Path):
    scene = load_scene(tiny_scene, scale=0.5)
    camera = scene.frames[0].camera
    region = script.Region("all", scene.frames[0].name, ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)))
    depth = np.full((camera.height, camera.width), 2.0)
    depth[::2] += 0.2  # two planes
    figures = script.measure(scene, region, camera, depth)
    assert figures["rms"] == pytest.approx(0.05, rel=0.25) and figures["share"] == pytest.approx(0.05, rel=0.25)
    with pytest.raises(ConfigError, match="no depth"):
        script.measure(scene, region, camera, depth * 0)


def test_the_table_and_the_picture_of_a_run(tiny_scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    config = make_config("cpu", flags=small_settings(steps=3))
    run = train_scene(tiny_scene, config, output_dir=tmp_path / "run")
    scene = load_scene(tiny_scene)
    folder = tmp_path / "labels" / scene.name
    folder.mkdir(parents=True)
    region = {"name": "wall", "photo": scene.frames[0].name, "polygon": [[0, 0], [4, 0], [4, 4], [0, 4]]}
    (folder / "walls.json").write_text(json.dumps({"size": [4, 4], "regions": [region]}))
    options = script.FlatWalls(run.folder, picture=tmp_path / "walls.png", labels=tmp_path / "labels")
    assert options.main() == 0
    table = capsys.readouterr().out.splitlines()
    assert len(table) == 3 and table[2].startswith("| wall | ")
    assert (tmp_path / "walls.png").stat().st_size > 0
    (folder / "walls.json").write_text(json.dumps({"size": [4, 4], "regions": [{**region, "photo": "none.png"}]}))
    with pytest.raises(ConfigError, match="no photo"):
        options.main()


def test_the_outlines_of_the_studio_room_are_readable():
    regions = script.read_regions(script.LABELS / "studio_room" / "walls.json")
    assert len(regions) == 3 and all(0 <= x <= 1 and 0 <= y <= 1 for r in regions for x, y in r.polygon)
