"""Measuring: perfect and known-wrong renderers give known figures; masks and transparency count as stated."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import draw, write_tiny_scene

from ovseg3d.evaluate.views import Evaluation, ViewScore, evaluate, photo_on_white
from ovseg3d.pipeline.stages.evaluate import summarise
from ovseg3d.scene import Camera, load_scene


class Painter:
    """Draws the tiny scene exactly, then adds to colour and scales depth."""

    def __init__(self, colour: float = 0.0, depth: float = 1.0) -> None:
        self._colour, self._depth = colour, depth

    def render(self, camera: Camera, normals: bool = False) -> dict[str, np.ndarray]:
        rgb, depth = draw(camera.c2w)
        rgb = np.rint(rgb * 255) / 255  # as the photo stores it
        return {"rgb": (rgb + self._colour).astype(np.float32), "depth_z": (depth * self._depth).astype(np.float32)}


def test_a_perfect_renderer(tiny_scene: Path) -> None:
    scene = load_scene(tiny_scene)
    evaluation = evaluate(Painter(), scene)
    assert [score.view for score in evaluation.views] == list(scene.test)
    mean = evaluation.mean()
    assert mean["psnr"] > 100 and mean["ssim"] == pytest.approx(1, abs=1e-9)
    assert mean["depth_rel_median"] < 1e-3 and mean["depth_within_5_percent"] == 1


def test_known_errors(tiny_scene: Path) -> None:
    mean = evaluate(Painter(colour=0.1, depth=1.1), load_scene(tiny_scene)).mean()
    assert mean["psnr"] == pytest.approx(20, abs=1e-3)
    assert mean["depth_rel_median"] == pytest.approx(0.1, abs=2e-3) and mean["depth_within_5_percent"] == 0


def test_views_can_be_chosen_and_ended(tiny_scene: Path) -> None:
    import threading

    scene, stop = load_scene(tiny_scene), threading.Event()
    seen = []

    def on_view(score: ViewScore, photo: np.ndarray, rendered: dict[str, np.ndarray]) -> None:
        seen.append(score.name)
        if len(seen) == 2:
            stop.set()

    evaluation = evaluate(Painter(), scene, scene.train, stop=stop, on_view=on_view)
    assert len(evaluation.views) == 2 and seen == [scene.frames[i].name for i in scene.train[:2]]


def test_without_depth_there_is_no_depth_error(tmp_path: Path) -> None:
    mean = evaluate(Painter(), load_scene(write_tiny_scene(tmp_path / "s", with_depth=False))).mean()
    assert math.isnan(mean["depth_rel_median"]) and mean["psnr"] > 100


def test_masked_pixels_do_not_count(tmp_path: Path) -> None:
    folder = write_tiny_scene(tmp_path / "s")
    mask = np.zeros((32, 32), np.uint8)
    mask[:, :16] = 255
    (folder / "masks").mkdir()
    description = json.loads((folder / "transforms.json").read_text())
    for frame in description["frames"]:
        name = Path(frame["file_path"]).name
        Image.fromarray(mask).save(folder / "masks" / name)
        frame["mask_path"] = f"masks/{name}"
    (folder / "transforms.json").write_text(json.dumps(description))

    class WrongOnTheRight(Painter):
        def render(self, camera: Camera, normals: bool = False) -> dict[str, np.ndarray]:
            rendered = super().render(camera)
            rendered["rgb"][:, 16:] = 0
            rendered["depth_z"][:, 16:] = 0
            return rendered

    mean = evaluate(WrongOnTheRight(), load_scene(folder)).mean()
    assert mean["psnr"] > 100 and mean["ssim"] == pytest.approx(1, abs=1e-9)
    assert mean["depth_within_5_percent"] == 1


def test_transparent_photos_are_put_on_white(tmp_path: Path) -> None:
    folder = write_tiny_scene(tmp_path / "s")
    rgba = np.full((32, 32, 4), 100, np.uint8)
    rgba[..., 3] = 0
    rgba[:, :16, 3] = 255
    for path in (folder / "images").iterdir():
        Image.fromarray(rgba).save(path)
    scene = load_scene(folder)
    photo = photo_on_white(scene.frames[0])
    np.testing.assert_allclose(photo[:, :16], 100 / 255, atol=1e-6)
    np.testing.assert_allclose(photo[:, 16:], 1, atol=1e-6)


def score(psnr: float, group: str) -> ViewScore:
    return ViewScore(0, "v.png", psnr, 0.5, math.nan, math.nan, math.nan, group)


def test_means_leave_out_what_is_unknown_and_are_of_views_on_the_path() -> None:
    on, off = [score(10.0, "on_path"), score(20.0, "on_path")], [score(2.0, "off_path"), score(math.nan, "off_path")]
    evaluation = Evaluation((*on, *off))
    assert evaluation.mean()["psnr"] == 15 and math.isnan(evaluation.mean()["depth_rel_median"])
    assert {name: means["psnr"] for name, means in evaluation.groups().items()} == {"on_path": 15, "off_path": 2}
    assert summarise(evaluation)["psnr"] == 15 and summarise(evaluation)["psnr_off_path"] == 2
    assert Evaluation(tuple(off)).mean()["psnr"] == 2 and Evaluation(tuple(on)).groups() == {}


def test_groups_come_from_the_capture(tmp_path: Path) -> None:
    folder = write_tiny_scene(tmp_path / "s")
    description = json.loads((folder / "transforms.json").read_text())
    description["frames"][0]["split"], description["frames"][4]["split"] = "on_path", "off_path"
    (folder / "transforms.json").write_text(json.dumps(description))
    scene = load_scene(folder)
    assert [score.group for score in evaluate(Painter(), scene).views] == ["on_path", "off_path"]
    # The run says what was trained on, whatever the capture calls it.
    assert {score.group for score in evaluate(Painter(), scene, scene.train).views} == {"train"}
    scene = load_scene(folder, train_on_all=True)
    assert {score.group for score in evaluate(Painter(), scene, scene.train).views} == {"train"}
    description["frames"][0]["split"] = "train"
    (folder / "transforms.json").write_text(json.dumps(description))
    assert [score.group for score in evaluate(Painter(), load_scene(folder)).views] == ["held-out", "off_path"]


def test_views_that_were_trained_on_do_not_count_among_the_held_out(tiny_scene: Path) -> None:
    scene = load_scene(tiny_scene)
    held_out = [scene.frames[view].camera.c2w for view in scene.test]

    class KnowsItsPhotos(Painter):
        def render(self, camera: Camera, normals: bool = False) -> dict[str, np.ndarray]:
            off = 0.1 if any(np.array_equal(camera.c2w, c2w) for c2w in held_out) else 0.01
            return Painter(colour=off).render(camera)

    both = evaluate(KnowsItsPhotos(), scene, range(len(scene.frames)))
    assert both.mean()["psnr"] == pytest.approx(20, abs=1e-3)
    psnr = {name: means["psnr"] for name, means in both.groups().items()}
    assert psnr == pytest.approx({"held-out": 20, "train": 40}, abs=1e-3)
    assert evaluate(KnowsItsPhotos(), scene, scene.train).mean()["psnr"] == pytest.approx(40, abs=1e-3)
