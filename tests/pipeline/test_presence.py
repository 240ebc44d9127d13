"""Whether something is there: patches against stray points, rivals against look-alikes, cards, and which are absent."""

import json
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from colours import CLASSES, with_label_images
from fake_encoders import WORDS, MeanColour
from PIL import Image

from ovseg3d.encoders import register_clip
from ovseg3d.errors import ConfigError
from ovseg3d.pipeline.absence import ALL, CONFUSABLE, FOREIGN, OUTSIDE, TRAPS, absent_phrases
from ovseg3d.pipeline.household import HOUSEHOLD, means_the_same
from ovseg3d.pipeline.presence import PATCH, best_patch, calibration_of, patches
from ovseg3d.pipeline.query import Asker
from ovseg3d.pipeline.run import Run
from ovseg3d.synth import KINDS

GRID = np.stack(np.meshgrid(np.arange(40.0), np.arange(40.0), [0.0]), -1).reshape(-1, 3)


def test_stray_points_do_not_make_a_patch_and_neighbours_do() -> None:
    near, random = patches(GRID), np.random.default_rng(0)
    assert near.shape == (len(GRID) / 4, PATCH)
    stray, together = np.full(len(GRID), 0.2), np.full(len(GRID), 0.2)
    stray[random.choice(len(GRID), 2 * PATCH, replace=False)] = 1.0
    together[np.linalg.norm(GRID - [20, 20, 0], axis=1) < 4] = 1.0
    assert best_patch(stray, near)[0] < 0.5
    score, patch = best_patch(together, near)
    assert score == 1 and (np.linalg.norm(GRID[patch] - [20, 20, 0], axis=1) < 4).all()
    assert patches(GRID[:5]).shape == (2, 5), "fewer points than a patch has"


def test_a_look_alike_is_absent_where_the_run_names_what_is_there(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(WORDS, "orange", (0.8, 0.4, 0.1))
    asker, others = Asker(run), ("sand", "blue", "red")
    lax, strict = (asker.ask(["orange box"], rivals=rivals)[0] for rivals in ((), others))
    assert lax.present and not strict.present and strict.score < strict.threshold <= lax.score
    assert lax.rival is None and strict.rival == "red"
    assert len(lax.points) and strict.points.shape == (0, 3) and strict.instances == ()
    # What shares a word with the question says the same thing more or less exactly, and does not compete.
    assert asker.ask(["orange box"], rivals=("a red box",))[0].score == lax.score
    assert asker.ask(["red"], rivals=("sand", "blue", "orange"))[0].present
    (run.folder / "phrases.txt").write_text("sand\nblue\nred\norange thing\n")
    try:
        known = Asker(run)
        assert known.phrases == (*others, "orange thing")
        assert not known.ask(["orange"], rivals=others)[0].present
        assert known.ask(["orange thing"], rivals=())[0].score == lax.score
        assert not known.ask(["orange thing"])[0].present, "what the run names competes like any other phrase"
    finally:
        (run.folder / "phrases.txt").unlink()


def test_without_phrases_a_question_competes_with_what_rooms_hold(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(WORDS, "plant", WORDS["blue"])
    asker = Asker(run)
    assert not asker.phrases
    lax, strict = (asker.ask(["green"], canonical=["red"], rivals=rivals)[0] for rivals in ((), None))
    assert lax.present and not strict.present and strict.rival == "plant", "nearest to green is what is blue"
    assert "plant" in asker.household("green") and "floor" in asker.household("green")
    # The few words that are kept of each point say what all of them do.
    every = asker.ask(["green"], canonical=["red"], rivals=(*asker.household("green"), "something"))[0]
    assert every.score < strict.score < lax.score, "a word has to be ahead"
    listed = ("plant", *asker.household("green")[:39])
    told = asker.ask(["green"], canonical=["red"], rivals=listed)[0]
    assert told.score == pytest.approx(every.score), "what somebody lists is there, and needs no lead"
    with monkeypatch.context() as patch:
        patch.setattr("ovseg3d.pipeline.query.AHEAD", 0.0)
        level = Asker(run).ask(["green"], canonical=["red"])[0]
    np.testing.assert_allclose(every.relevancy, level.relevancy, atol=1e-6)
    # What means the same, or says the same word, is no rival.
    assert "plant" not in asker.household("blue") and asker.ask(["blue"], canonical=["red"])[0].present
    assert not {"book", "bookshelf"} - {*HOUSEHOLD} and "book" not in asker.household("a book shelf")
    (run.folder / "phrases.txt").write_text("red\n")
    try:
        assert Asker(run).rivals_of("green") == ("red",), "a run's own phrases come first"
    finally:
        (run.folder / "phrases.txt").unlink()


def test_words_that_mean_the_same_are_told_beyond_what_all_texts_share() -> None:
    shared, own = np.array([5.0, 0, 0, 0]), np.eye(4)[1:]
    words = np.stack([shared + a for a in (own[0], own[1], own[2], -own.sum(0))])
    words /= np.linalg.norm(words, axis=1, keepdims=True)
    phrase = shared + 0.9 * own[1] + 0.2 * own[0]
    assert means_the_same(phrase / np.linalg.norm(phrase), words).tolist() == [False, True, False, False]


def test_points_compete_too(run: Run) -> None:
    asker = Asker(run)
    alone, beside = (asker.ask(["red"], canonical=["blue"], rivals=rivals)[0] for rivals in ((), ("sand", "blue")))
    assert alone.present and beside.present and set(beside.point_index) < set(alone.point_index)
    nearest = asker.labels(["red", "sand", "blue"], none=False)
    assert (nearest[beside.point_index] == 1).all() and not (nearest[alone.point_index] == 1).all()


CARD = {"slope": 2.0, "offset": -1.0, "logit_scale": 10.0, "canonical": ["object", "stuff"], "of": "picture"}


def test_a_probability_comes_from_the_card_alone(run: Run) -> None:
    plain = Asker(run).ask(["red"], rivals=())[0]
    assert plain.probability is None and not plain.calibrated

    def calibrated(device: object) -> MeanColour:
        clip = MeanColour(logit_scale=10.0)
        clip.calibration = CARD
        return clip

    register_clip("colours", calibrated)
    asker = Asker(run)
    red, green = asker.ask(["red", "a green box"], rivals=("sand", "blue", "red"))
    assert red.calibrated and red.score > green.score and red.probability > green.probability > 0
    # With the canonical phrases of the card alone, the best patch's margin is what its relevancy says.
    alone = asker.ask(["red"], canonical=CARD["canonical"], rivals=())[0]
    margin = np.log(alone.score / (1 - alone.score)) / 10
    assert alone.probability == pytest.approx(1 / (1 + np.exp(-(2.0 * 10.0 * margin - 1.0))), abs=0.02)
    # What it is compared with by default is what the card names; a closed list leaves the same unlabelled.
    np.testing.assert_array_equal(asker.ask(["red"], rivals=())[0].relevancy, alone.relevancy)
    assert asker.canonical == ("object", "stuff") and Asker(run).canonical == ("object", "stuff")
    lists = [asker.labels(["red", "blue"], given) for given in (None, CARD["canonical"], ["red"])]
    np.testing.assert_array_equal(lists[0], lists[1])
    assert (lists[0] != lists[2]).any()
    for damaged in (None, {}, {**CARD, "slope": "steep"}, {**CARD, "offset": float("nan")}, {**CARD, "canonical": []}):
        clip = MeanColour()
        clip.calibration = damaged
        assert calibration_of(clip) is None


def test_ten_absent_kinds_of_three_sorts() -> None:
    present = ("floor", "wall", "mug", "television", "chair", "sofa", "table")
    absent = absent_phrases(present)
    assert len(absent) == len(set(absent)) == ALL and not set(absent) & set(present)
    traps, foreign, rest = absent[:TRAPS], absent[TRAPS : TRAPS + FOREIGN], absent[TRAPS + FOREIGN :]
    pairs = {frozenset(pair) for pair in CONFUSABLE}
    assert all(any(frozenset((trap, known)) in pairs for known in present) for trap in traps)
    assert set(foreign) < set(OUTSIDE) and set(rest) < set(KINDS)
    assert absent == absent_phrases(present[::-1]), "the list decides, not its order"
    assert absent != absent_phrases(present[:4])
    assert {kind for pair in CONFUSABLE for kind in pair} <= set(KINDS) and not set(OUTSIDE) & set(KINDS)


def test_the_script_writes_a_curve(
    run: Run, tiny_scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
    import absence

    folder = with_label_images(Path(shutil.copytree(tiny_scene, tmp_path / "tiny")))
    monkeypatch.setattr(Run, "load_scene", lambda self: __import__("ovseg3d.scene").scene.load_scene(folder))
    absence.Absence((run.folder,), output=tmp_path / "absence.json").main()
    told = json.loads((tmp_path / "absence.json").read_text())
    assert set(told) == {"rivals", "household", "alone"} and told["rivals"]["protocol"] == "absence"
    assert set(told["rivals"]["scores"]["present"]["tiny"]) == set(CLASSES)
    assert told["rivals"]["absent"] == ALL and told["rivals"]["recall"] >= 0.8
    with Image.open(tmp_path / "absence.png") as picture:
        assert picture.width > 300
    assert capsys.readouterr().out.count("absent phrases answered") == 3
    for recall in (80, 0, -0.1, float("nan")):
        with pytest.raises(ConfigError, match="--recall is a share"):
            absence.Absence((run.folder,), recall=recall).main()


def test_the_benchmark_of_queries_never_runs_out_of_phrases() -> None:
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
    import benchmark_query

    phrases = list(islice(benchmark_query.new_phrases(), 500))
    assert len(set(phrases)) == 500 and phrases[0] == "a red chair"
    with pytest.raises(ConfigError, match="--questions"):
        benchmark_query.BenchmarkQuery(Path(), questions=0).main()
