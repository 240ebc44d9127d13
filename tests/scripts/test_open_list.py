"""Accuracy without a class list: the copied scene has no classes, and words outside the classes count as wrong."""

import json
from pathlib import Path

import numpy as np
from colours import with_label_images

from ovseg3d.query.default_vocabulary import DEFAULT_VOCABULARY
from ovseg3d.scene import load_scene
from scripts.benchmarks.open_list import open_labeller, without_classes


def test_the_copy_does_not_say_what_it_holds(tiny_scene: Path, tmp_path: Path) -> None:
    import shutil

    scene = with_label_images(Path(shutil.copytree(tiny_scene, tmp_path / "tiny")))
    assert load_scene(scene).phrases
    copy = load_scene(without_classes(scene, tmp_path / "copy"))
    assert not copy.phrases and not copy.classes and not any(frame.label_path for frame in copy.frames)
    assert len(copy.frames) == len(load_scene(scene).frames)
    assert "classes" not in json.loads((tmp_path / "copy" / "transforms.json").read_text())


def test_a_word_is_right_only_as_the_name_of_a_class() -> None:
    class Engine:
        def label_image(self, phrases: tuple[str, ...], view: str, none: bool) -> np.ndarray:
            assert phrases == DEFAULT_VOCABULARY and not none
            return np.array([[1, DEFAULT_VOCABULARY.index("chair") + 1, DEFAULT_VOCABULARY.index("bed") + 1]])

    labels = open_labeller(Engine(), ("chair", "floor"))("view")  # type: ignore[arg-type]
    assert DEFAULT_VOCABULARY[0] == "floor" and labels.tolist() == [[2, 1, 0]]
