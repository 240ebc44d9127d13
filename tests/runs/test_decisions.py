"""What training uses of a capture."""

from dataclasses import replace

import pytest

from ovseg3d.errors import SceneError
from ovseg3d.runs.config import SceneConfig
from ovseg3d.runs.decisions import decide
from ovseg3d.scene import Scene, load_scene


@pytest.fixture(scope="module")
def scene(tiny_scene) -> Scene:
    return load_scene(tiny_scene)


def without_depth(scene: Scene) -> Scene:
    return replace(scene, frames=tuple(replace(frame, depth_path=None) for frame in scene.frames))


def test_real_photos_use_all_that_helps(scene: Scene):
    found = decide(scene, SceneConfig())
    assert (found.depth, found.sparse_depth, found.adjust_poses, found.exposure) == (True,) * 4
    assert not found.refine_poses and not found.exact
    used = "measured depth, sparse depth, adjusted poses, adjusted focal length, exposure of each photo"
    assert found.describe() == f"Real photos: {used}."
    assert not decide(without_depth(scene), SceneConfig()).depth


def test_an_exact_capture_is_used_as_it_is(scene: Scene):
    for exact in (replace(scene, exact=True), replace(scene, has_alpha=True, exact=True)):
        found = decide(exact, SceneConfig())
        assert not (found.depth or found.sparse_depth or found.adjust_poses or found.exposure or found.refine_poses)
        assert found.describe() == "Synthetic or cut-out photos: photos and poses as given."
        asked = decide(exact, SceneConfig(depth="on", exposure="on", refine_poses="on"))
        assert asked.depth and asked.exposure and asked.refine_poses and not asked.adjust_poses


def test_each_flag_turns_its_own_off(scene: Scene):
    off = SceneConfig(depth="off", sparse_depth="off", refine_poses="off", exposure="off")
    assert decide(scene, off).describe() == "Real photos: photos and poses as given."
    assert decide(scene, SceneConfig(refine_poses="off")).sparse_depth
    assert not decide(scene, SceneConfig(sparse_depth="off")).adjust_poses
    for without in (SceneConfig(refine_focal="off"), SceneConfig(refine_poses="off"), SceneConfig(sparse_depth="off")):
        assert not decide(scene, without).adjust_focal


def test_depth_that_is_asked_for_must_be_there(scene: Scene):
    with pytest.raises(SceneError, match="have none"):
        decide(without_depth(scene), SceneConfig(depth="on"))
