"""Accuracy without a class list: a copy of the run has no phrases, and words outside the classes count as wrong."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from colours import with_label_images

from ovseg3d.query.default_vocabulary import DEFAULT_VOCABULARY
from ovseg3d.query.engine import QueryEngine
from ovseg3d.runs.folder import RunFolder
from ovseg3d.runs.phrases import keep_phrases
from ovseg3d.scene import load_scene
from scripts.benchmarks.open_list import measure, open_labeller


def test_only_the_told_run_has_phrases(
    run: RunFolder, tiny_scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = load_scene(with_label_images(Path(shutil.copytree(tiny_scene, tmp_path / "tiny"))))
    known = Path(shutil.copytree(run.folder, tmp_path / "run"))
    keep_phrases(known, ("red box", "sand"))
    label_image, had = QueryEngine.label_image, []

    def noted(engine: QueryEngine, *arguments: object, **options: object) -> object:
        had.append((engine.run.phrases, arguments[0] == DEFAULT_VOCABULARY))
        return label_image(engine, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(QueryEngine, "label_image", noted)
    (told, accuracy), (asked, _), (unknown, _) = measure(known, scene)
    assert accuracy > 0.85 and told > 0.6 and asked > 0.6 and unknown < 0.4, "no box is in the vocabulary"
    views = len(scene.test)
    assert had == [(("red box", "sand"), False)] * views + [((), False)] * views + [((), True)] * views


def test_a_word_is_right_only_as_the_name_of_a_class() -> None:
    class Engine:
        def label_image(self, phrases: tuple[str, ...], view: str, none: bool) -> np.ndarray:
            assert phrases == DEFAULT_VOCABULARY and not none
            return np.array([[1, DEFAULT_VOCABULARY.index("chair") + 1, DEFAULT_VOCABULARY.index("bed") + 1]])

    labels = open_labeller(Engine(), ("chair", "floor"))("view")  # type: ignore[arg-type]
    assert DEFAULT_VOCABULARY[0] == "floor" and labels.tolist() == [[2, 1, 0]]
