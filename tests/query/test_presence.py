"""Presence: candidates, their probabilities, alternatives, calibrations, and absent phrases."""

import json
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from colours import CLASSES, with_label_images
from fake_encoders import WORDS, MeanColour
from PIL import Image
from scipy.special import expit, logit

from ovseg3d.encoders import register_clip
from ovseg3d.errors import ConfigError
from ovseg3d.evaluate.absence import ALL, CONFUSABLE, FOREIGN, OUTSIDE, TRAPS, absent_phrases
from ovseg3d.features.maps import normalise
from ovseg3d.field.surface import Surface
from ovseg3d.instances.layout import FLOOR, NONE, WALL
from ovseg3d.points.basis import Basis
from ovseg3d.points.semantic_scene import EncoderFacts, SemanticScene, save_semantics
from ovseg3d.query.answer import Criteria
from ovseg3d.query.calibration import SCORES, calibration_of, canonical_of
from ovseg3d.query.candidates import Candidates
from ovseg3d.query.default_vocabulary import DEFAULT_VOCABULARY, means_the_same
from ovseg3d.query.engine import QueryEngine
from ovseg3d.query.presence import PRIOR, log_odds, log_sum, relevancies
from ovseg3d.query.relevancy import CANONICAL
from ovseg3d.runs.config import Config, SemanticsConfig
from ovseg3d.runs.folder import RunFolder
from ovseg3d.runs.phrases import keep_phrases
from ovseg3d.synth import KINDS

GRID = np.stack(np.meshgrid(np.arange(40.0), np.arange(40.0), [0.0]), -1).reshape(-1, 3)


def seen(vectors: np.ndarray, instance: np.ndarray, plane: np.ndarray | None = None) -> SemanticScene:
    """A sheet of points that mean something, all photos of one mind."""
    count, up = len(GRID), np.array([0.0, 0.0, 1.0])
    surface = Surface(
        GRID.astype(np.float32), np.tile(np.float32(up), (count, 1)), np.zeros((count, 3), np.uint8),
        np.ones(count, np.float32), np.ones(count, np.float32), up, False,
    )  # fmt: skip
    basis = Basis(np.eye(vectors.shape[1], dtype=np.float32), 0.0)
    facts = EncoderFacts("none", "none", "", 50.0)
    return SemanticScene(
        surface, basis, vectors.astype(np.float32), np.ones(count, np.float32), instance, facts, plane=plane
    )


def test_candidates_are_instances_and_planes() -> None:
    random = np.random.default_rng(0)
    vectors = random.normal(size=(len(GRID), 3))
    instance = np.where(GRID[:, 0] < 10, 3, np.where(GRID[:, 0] < 20, 1, 0)).astype(np.int32)
    plane = np.where(GRID[:, 1] < 20, FLOOR, NONE)
    found = Candidates.of(seen(vectors, instance, plane))
    floor = (instance == 0) & (plane == FLOOR)
    for row, (own, number, kind) in enumerate([(instance == 1, 1, NONE), (instance == 3, 3, NONE), (floor, 0, FLOOR)]):
        assert ((found.of_point == row) == own).all()
        np.testing.assert_allclose(found.scene.vectors[row], vectors[own].mean(0), atol=1e-5)
        assert found.scene.instance[row] == number and (number or found.scene.plane[row] == kind)
    assert len(found.scene.vectors) == 3
    np.testing.assert_allclose(found.nearer(np.float64([[1], [2], [6]])), [[-3], [-1.5], [4.5]])
    np.testing.assert_allclose(found.nearer(np.ones((1, 2))), 1, err_msg="alone it is not its own level")
    np.testing.assert_array_equal(np.unique(found.at_points(np.array([0.3, 0.4, 0.5]))), [0, 0.3, 0.4, 0.5])
    assert not found.at_points(np.ones(3))[(instance == 0) & ~floor].any(), "they are of none"


def test_an_instance_that_has_crops_has_their_embedding() -> None:
    random = np.random.default_rng(0)
    vectors, crops = random.normal(size=(len(GRID), 3)), random.normal(size=(3, 3)).astype(np.float32)
    crops[:] = normalise(crops)
    instance = np.where(GRID[:, 0] < 10, 3, np.where(GRID[:, 0] < 20, 1, 0)).astype(np.int32)
    scene = seen(vectors, instance, np.full(len(GRID), FLOOR))
    before, after = (Candidates.of(one).scene.vectors for one in (scene, replace(scene, instance_crops=crops)))
    np.testing.assert_array_equal(after[:2], crops[[0, 2]])
    np.testing.assert_array_equal(after[2:], before[2:])
    # A rejected fragment is no instance, but a candidate.
    pieces, instances = np.where(instance == 3, 2, instance), np.where(instance == 3, 0, instance)
    rejected = Candidates.of(replace(scene, instance=instances, pieces=pieces, instance_crops=crops[[0, 2]]))
    np.testing.assert_array_equal(rejected.scene.vectors[:2], crops[[0, 2]])
    assert rejected.scene.piece[:2].tolist() == [1, 2] and rejected.scene.instance[:2].tolist() == [1, 0]
    crops[2] = 0
    unseen = Candidates.of(replace(scene, instance_crops=crops)).scene.vectors
    np.testing.assert_array_equal(unseen[:2], [crops[0], before[1]])


def test_a_point_counts_with_the_likeliest_object_that_holds_it() -> None:
    """Pieces 1 to 3; object 4 joins 1 and 2, object 5 joins 4 and 3."""
    random = np.random.default_rng(0)
    vectors, crops = random.normal(size=(len(GRID), 3)), np.float32(normalise(random.normal(size=(5, 3))))
    pieces = np.minimum(GRID[:, 0] // 10, 3).astype(np.int32)
    scene = replace(seen(vectors, np.where(pieces == 1, 1, 0), np.full(len(GRID), FLOOR)), pieces=pieces)
    scene = replace(scene, instance_crops=crops, parents=np.array([4, 4, 5, 5, 0], np.int32))
    found = Candidates.of(scene)
    assert found.scene.piece.tolist() == [1, 2, 3, 0, 4, 5], "joined objects follow the planes"
    np.testing.assert_array_equal(found.scene.vectors[[0, 1, 2, 4, 5]], crops)
    np.testing.assert_allclose(
        found.nearer(np.float64([[1], [2], [3], [6], [4], [5]]))[:, 0], [-8 / 3, -4 / 3, 0, 4, 1, 2]
    )
    values = np.array([0.1, 0.7, 0.2, 0.4, 0.6, 0.3])
    np.testing.assert_array_equal(found.at_points(values), np.array([0.4, 0.6, 0.7, 0.3])[pieces])
    np.testing.assert_array_equal(found.joined_at_points(values, 0.5), np.array([0, 4, 4, 0])[pieces])
    np.testing.assert_array_equal(found.joined_at_points(values, 0.3), np.array([0, 5, 5, 5])[pieces], "the largest")
    for old in (replace(scene, parents=None), replace(scene, instance_crops=None)):
        plain = Candidates.of(old)
        assert plain.joined == 0 and len(plain.scene.vectors) == 4 and not plain.joined_at_points(np.ones(4), 0.5).any()


def test_without_instances_and_planes_each_point_is_a_candidate() -> None:
    vectors = np.random.default_rng(0).normal(size=(len(GRID), 3))
    found = Candidates.of(seen(vectors, np.zeros(len(GRID), np.int32)))
    np.testing.assert_allclose(found.scene.vectors, vectors, rtol=1e-6)
    values = np.arange(len(GRID), dtype=float)
    np.testing.assert_array_equal(found.at_points(values), values)


def test_probabilities_follow_bayes_rule() -> None:
    random = np.random.default_rng(0)
    own, others, no = random.normal(0, 3, 6), random.normal(0, 3, (6, 7)), np.zeros((6, 0))
    prior = np.r_[PRIOR, np.full(7, (1 - PRIOR) / 7)]
    joint = np.exp(np.concatenate([own[:, None], others], 1)) * prior
    every = log_sum(others)
    np.testing.assert_allclose(expit(log_odds(own, every, 7, no)), joint[:, 0] / joint.sum(1))
    np.testing.assert_allclose(expit(log_odds(np.zeros(1), log_sum(np.zeros((1, 9))), 9, no[:1])), PRIOR)
    # What is not meant has to be beaten by itself, however many others there are.
    excluded = random.normal(0, 3, (6, 2))
    both = log_odds(own, every, 7, excluded)
    assert ((both > 0) <= (own > excluded.max(1))).all() and (both <= log_odds(own, every, 7, no)).all()
    np.testing.assert_allclose(log_odds(own, log_sum(no), 0, excluded[:, :1]), own - excluded[:, 0], atol=1e-6)
    assert expit(log_odds(own, log_sum(no), 0, own[:, None]).max()) < 0.5, "a tie"


def test_candidates_with_half_of_the_best_log_odds_are_meant() -> None:
    odds = np.array([4.0, 2.01, 1.99, -1.0])
    found = relevancies(odds)
    assert found[0] == pytest.approx(expit(4.0)) and (found >= 0.5).tolist() == [True, True, False, False]
    assert (np.diff(found) < 0).all() and (relevancies(odds - 5) <= expit(odds - 5) + 1e-12).all()
    assert relevancies(np.array([800.0, -900.0])).tolist() == [1.0, 0.0], "no overflow"


INDOOR = Config(semantics=SemanticsConfig(layout="indoor"))


def asker_of(folder: Path, scene: SemanticScene, texts: dict[str, np.ndarray]) -> QueryEngine:
    """Of a scene whose encoder knows some texts; everyday words that are not among them mean nothing here."""
    folder.mkdir(exist_ok=True)
    save_semantics(folder, scene)
    engine = QueryEngine(RunFolder(folder, INDOOR, folder, "room", ""), None, "cpu")
    nothing = np.eye(scene.vectors.shape[1], dtype=np.float32)[-1]
    engine.texts.clip, engine.texts._vectors = (
        None,
        {**dict.fromkeys((*DEFAULT_VOCABULARY, *CANONICAL), nothing), **texts},
    )
    return engine


def test_a_phrase_near_to_all_candidates_is_absent(tmp_path: Path) -> None:
    """Thirty instances of ten kinds. "tram" is nearer to each than its own name, and equally near to all."""
    kinds, dim = 10, 16
    instance = (np.arange(len(GRID)) * 30 // len(GRID) + 1).astype(np.int32)
    vectors = 0.3 * np.eye(dim)[instance % kinds]
    vectors[:, kinds] = 0.5
    vectors[:, -2] = np.sqrt(1 - 0.09 - 0.25)
    texts = {
        name: np.eye(dim, dtype=np.float32)[number] for number, name in enumerate((*DEFAULT_VOCABULARY[40:50], "tram"))
    }
    engine = asker_of(tmp_path, seen(vectors, instance), texts)
    sofa, tram = engine.ask([DEFAULT_VOCABULARY[42], "tram"])
    assert (engine.compare([DEFAULT_VOCABULARY[42]], ())[0] < engine.compare(["tram"], ())[0]).all()
    assert sofa.present and sofa.score > 0.9 and {instance.id for instance in sofa.instances} == {2, 12, 22}
    assert not tram.present and tram.score < 0.2 and not len(tram.points)
    # The tram is nearer than any canonical phrase everywhere; what shows agrees with the decision.
    assert (tram.relevancy <= tram.score).all()


def test_a_negative_excludes_its_instances(tmp_path: Path) -> None:
    """Ten instances lie between chair and office chair, nearer to the latter; ten are a little like a chair."""
    dim = 8
    instance = (np.arange(len(GRID)) * 40 // len(GRID) + 1).astype(np.int32)
    vectors = np.zeros((len(GRID), dim))
    vectors[:, 5], vectors[:, -1] = 0.95, 0.3
    office, plain = instance <= 10, (instance > 10) & (instance <= 20)
    vectors[office] = [0.45, 0.55, 0, 0, 0, 0.70, 0, 0]
    vectors[plain] = [0.35, 0.0, 0, 0, 0, 0.93, 0, 0]
    texts = {name: np.eye(dim, dtype=np.float32)[number] for number, name in enumerate(("chair", "office chair"))}
    engine = asker_of(tmp_path, seen(vectors, instance), texts)
    (both,), (only,) = engine.ask(["chair"]), engine.ask(["chair"], negatives=["office chair"])
    assert both.present and set(both.point_index) == set(np.flatnonzero(office | plain))
    assert only.present and set(only.point_index) == set(np.flatnonzero(plain))
    assert not engine.ask(["chair"], negatives=["chair"])[0].present, "it is not likelier than itself"
    vectors[plain] = vectors[-1]
    none = asker_of(tmp_path / "none", seen(vectors, instance), texts)
    assert none.ask(["chair"])[0].present and not none.ask(["chair"], negatives=["office chair"])[0].present


def test_the_points_of_a_present_phrase_are_those_of_its_instance(tmp_path: Path) -> None:
    """A mug that is one's word against a bowl's: most of it is nearer to the bowl, but a mug is asked for."""
    dim = 8
    instance = np.where(GRID[:, 0] < 4, 1, np.where(GRID[:, 0] < 20, 2, 0)).astype(np.int32)
    vectors = np.tile(0.3 * np.eye(dim)[-1] + 0.95 * np.eye(dim)[5], (len(GRID), 1))
    vectors[instance == 1] = 0.50 * np.eye(dim)[0] + 0.53 * np.eye(dim)[1] + 0.68 * np.eye(dim)[5]
    texts = {name: np.eye(dim, dtype=np.float32)[number] for number, name in enumerate(("mug", "bowl"))}
    engine = asker_of(tmp_path, seen(vectors, instance), texts)
    mug, bowl = engine.ask(["mug", "bowl"])
    assert mug.present and bowl.present and bowl.score > mug.score
    assert set(mug.point_index) == set(bowl.point_index) == set(np.flatnonzero(instance == 1))
    strict = engine.ask(["mug"], threshold=0.999)[0]
    assert not strict.present and not len(strict.points) and mug.alternative is None and strict.alternative == "bowl"
    np.testing.assert_array_equal(strict.relevancy, mug.relevancy, "the threshold decides and changes nothing else")
    lax = engine.ask(["mug"], threshold=0.2)[0]
    assert set(lax.point_index) >= set(mug.point_index)


def test_a_point_has_the_relevancy_of_the_best_candidate_that_holds_it(tmp_path: Path) -> None:
    """Two mugs, of which one is hardly more a mug than a bowl, and a table."""
    dim, instance = 8, np.where(GRID[:, 0] < 4, 1, np.where(GRID[:, 0] < 8, 2, 3)).astype(np.int32)
    vectors = np.tile(0.3 * np.eye(dim)[-1] + 0.95 * np.eye(dim)[5], (len(GRID), 1))
    for number, own in ((1, 0.7), (2, 0.58)):
        vectors[instance == number] = own * np.eye(dim)[0] + 0.53 * np.eye(dim)[1] + 0.5 * np.eye(dim)[5]
    texts = {name: np.eye(dim, dtype=np.float32)[number] for number, name in enumerate(("mug", "bowl"))}
    engine = asker_of(tmp_path, seen(vectors, instance), texts)
    mug, verdict = engine.ask(["mug"], alternatives=["bowl"])[0], engine.decide("mug", ["bowl"])
    best, other = (np.unique(mug.relevancy[instance == number]) for number in (1, 2))
    assert mug.present and mug.score == best.max() == verdict.relevancy.max() and len(best) == 1
    assert set(mug.point_index) == set(np.flatnonzero(instance == 1)) and other.max() < 0.5
    assert [one.id for one in mug.instances] == [1] and mug.instances[0].score == pytest.approx(mug.score)
    for ask in (engine.decide, lambda phrase, **beside: engine.ask([phrase], **beside)):
        with pytest.raises(ConfigError, match="nothing to compare"):
            ask("mug", alternatives=(), canonical=())


def test_a_phrase_with_a_place_means_its_head_noun(tmp_path: Path) -> None:
    """The words of a place are most of a sentence; what it is about hangs there, among six other objects."""
    dim = 8
    instance = np.where(GRID[:, 0] >= 30, 1, np.where(GRID[:, 0] >= 24, GRID[:, 0] - 22, 0)).astype(np.int32)
    vectors = np.eye(dim)[np.where(instance > 1, 6, instance)]
    texts = {name: np.eye(dim, dtype=np.float32)[number] for number, name in enumerate(("wall", "picture"))}
    both = np.float32([0.8, 0.6, 0, 0, 0, 0, 0, 0])
    texts |= dict.fromkeys(("a picture on the wall", "wall picture"), both) | {"a picture": texts["picture"]}
    engine = asker_of(tmp_path, seen(vectors, instance, np.where(instance > 0, NONE, WALL)), texts)
    for answer in engine.ask(["picture", "a picture on the wall", "wall picture"]):
        assert answer.present and set(answer.point_index) == set(np.flatnonzero(instance == 1)), answer.phrase


def test_a_rejected_fragment_scores_like_an_instance(tmp_path: Path) -> None:
    """It is no wall either; only that it is no instance."""
    dim, scores = 8, []
    vectors = np.tile(0.3 * np.eye(dim)[-1] + 0.95 * np.eye(dim)[0], (len(GRID), 1))
    texts = {name: np.eye(dim, dtype=np.float32)[k] for k, name in enumerate(("mug", "wall", "bed"))}
    pieces = np.where(GRID[:, 0] < 10, 1, np.where(GRID[:, 0] < 30, 2, 0)).astype(np.int32)
    instances = np.where(pieces == 2, 0, pieces)
    for scene in (seen(vectors, pieces, 0 * pieces), replace(seen(vectors, instances, 0 * pieces), pieces=pieces)):
        engine = asker_of(tmp_path / str(len(scores)), scene, texts)
        scores.append(engine.decision.scene.logits(tuple(texts))[0])
    np.testing.assert_array_equal(*scores)
    mug, wall, bed = scores[1][1]
    assert wall < min(mug, bed)


def test_a_look_alike_is_absent_if_the_run_names_the_object(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(WORDS, "orange", (0.8, 0.4, 0.1))
    engine, others = QueryEngine(run), ("sand", "blue", "red")
    lax, strict = (engine.ask(["orange thing"], alternatives=alternatives)[0] for alternatives in ((), others))
    assert lax.present and not strict.present and strict.score < strict.threshold <= lax.score
    assert lax.alternative is None and strict.alternative == "red"
    assert len(lax.points) and strict.points.shape == (0, 3) and strict.instances == ()
    # A phrase that shares a word with the query means the same object, and does not compete.
    assert engine.ask(["orange thing"], alternatives=("a red thing",))[0].score == lax.score
    assert engine.ask(["red"], alternatives=("sand", "blue", "orange"))[0].present
    (run.folder / "phrases.txt").write_text("sand\nblue\nred\norange thing\n")
    try:
        known = QueryEngine(run)
        assert known.phrases == (*others, "orange thing")
        assert not known.ask(["orange"], alternatives=others)[0].present
        assert known.ask(["orange thing"], alternatives=())[0].score == lax.score
    finally:
        (run.folder / "phrases.txt").unlink()


def test_a_phrase_competes_with_the_default_vocabulary(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(WORDS, "plant", WORDS["blue"])
    monkeypatch.setitem(WORDS, "bluish", (0.5, 0.8, 0.6))
    engine = QueryEngine(run)
    assert not engine.phrases
    assert "plant" in engine.default_vocabulary("bluish") and "floor" in engine.default_vocabulary("bluish")
    assert not engine.ask(["bluish"])[0].present, "what is grey or blue is likelier to be called so"
    beside = engine.ask(["red"], canonical=["blue"])[0]
    listed = engine.ask(["red"], canonical=["blue"], alternatives=engine.default_vocabulary("red"))[0]
    assert listed.score == pytest.approx(beside.score, rel=1e-4)
    np.testing.assert_allclose(listed.relevancy, beside.relevancy, atol=1e-4)
    # Synonyms, and phrases that share a word, are no alternatives.
    assert "plant" not in engine.default_vocabulary("blue") and engine.ask(["blue"])[0].present
    assert not {"book", "bookshelf"} - {*DEFAULT_VOCABULARY} and "book" not in engine.default_vocabulary("a book shelf")
    assert engine.alternatives_of("green", ("red", "a green box")) == ("red",)


def test_a_synonym_in_the_runs_phrases_is_no_alternative(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(WORDS, "azure", WORDS["blue"])
    try:
        keep_phrases(run.folder, ("red", "blue", "sand"))
        engine = QueryEngine(run)
        assert engine.alternatives_of("azure") == ("red", "sand") == engine.alternatives_of("blue")
        assert engine.alternatives_of("azure", engine.phrases) == ("red", "blue", "sand"), (
            "what somebody lists competes"
        )
        assert engine.ask(["azure"])[0].score == pytest.approx(engine.ask(["blue"])[0].score, rel=1e-4)
        keep_phrases(run.folder, ("red", "blue", "azure"))
        for phrase in ("blue", "Blues", "a blue"):  # the run has a name for it, and tells it from azure
            assert QueryEngine(run).alternatives_of(phrase) == ("red", "azure")
    finally:
        (run.folder / "phrases.txt").unlink()


def test_synonyms_are_found_by_cosines_of_centred_texts() -> None:
    shared, own = np.array([5.0, 0, 0, 0]), np.eye(4)[1:]
    words = np.stack([shared + a for a in (own[0], own[1], own[2], -own.sum(0))])
    words /= np.linalg.norm(words, axis=1, keepdims=True)
    phrase = shared + 0.9 * own[1] + 0.2 * own[0]
    assert means_the_same(phrase / np.linalg.norm(phrase), words, words.mean(0)).tolist() == [False, True, False, False]


CARD = {"slope": 2.0, "offset": -1.0, "canonical": ["object", "stuff"], "of": SCORES}


def test_a_probability_comes_from_the_card_alone(run: RunFolder) -> None:
    plain = QueryEngine(run).ask(["red"])[0]
    assert plain.probability is None and not plain.calibrated

    def calibrated(device: object) -> MeanColour:
        clip = MeanColour(logit_scale=50.0)
        clip.calibration = CARD
        return clip

    register_clip("colours", calibrated)
    engine = QueryEngine(run)
    plain = engine.ask(["red"])[0]
    assert plain.present and plain.probability is None, "calibrations are of scores with instance crops"
    faces = np.zeros((engine.semantics.piece.max(), engine.semantics.vectors.shape[1]), np.float32)
    engine = QueryEngine(run, semantics=replace(engine.semantics, instance_crops=faces, shapes=None))
    red, green = engine.ask(["red", "a green box"])
    assert red.calibrated and red.score > green.score > 0
    raw = engine.decision.scene.decide("a green box", Criteria()).score
    assert green.score == green.probability == pytest.approx(expit(2.0 * logit(raw) - 1.0))
    other = engine.ask(["red"], negatives=["blue"])[0]
    assert other.probability is None and other.calibrated_by is None, "a card is of scores against the defaults"
    # The calibration names the default canonical phrases; a closed list uses the same.
    named = engine.ask(["red"], canonical=CARD["canonical"], alternatives=())[0]
    np.testing.assert_array_equal(engine.ask(["red"], alternatives=())[0].relevancy, named.relevancy)
    assert engine.canonical == ("object", "stuff") and QueryEngine(run).canonical == ("object", "stuff")
    lists = [engine.labels(["red", "blue"], given) for given in (None, CARD["canonical"], ["red"])]
    np.testing.assert_array_equal(lists[0], lists[1])
    assert (lists[0] != lists[2]).any()
    for damaged in (
        None,
        {},
        "sure",
        {**CARD, "slope": "steep"},
        {**CARD, "slope": -1.0},
        {**CARD, "offset": float("nan")},
    ):
        clip = MeanColour()
        clip.calibration = damaged
        assert calibration_of(clip) is None
    clip.calibration = {**CARD, "of": "picture", "canonical": []}
    assert calibration_of(clip) is None, "of single pictures, not of scenes"
    clip.calibration = {**CARD, "of": "scene", "canonical": []}
    assert calibration_of(clip) is None, "of scores as they once were"
    assert canonical_of(clip) == CANONICAL


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
    run: RunFolder,
    tiny_scene: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import shutil

    from scripts.benchmarks import absence

    folder = with_label_images(Path(shutil.copytree(tiny_scene, tmp_path / "tiny")))
    monkeypatch.setattr(RunFolder, "load_scene", lambda self: __import__("ovseg3d.scene").scene.load_scene(folder))
    absence.Absence((run.folder,), output=tmp_path / "absence.json").main()
    told = json.loads((tmp_path / "absence.json").read_text())
    assert set(told) == {"present", "default", "alone"} and told["present"]["protocol"] == "absence"
    assert set(told["present"]["scores"]["present"]["tiny"]) == set(CLASSES)
    assert told["present"]["absent"] == ALL and told["present"]["recall"] >= 0.8
    with Image.open(tmp_path / "absence.png") as image:
        assert image.width > 300
    assert capsys.readouterr().out.count("absent phrases answered") == 3
    for recall in (80, 0, -0.1, float("nan")):
        with pytest.raises(ConfigError, match="--recall is a share"):
            absence.Absence((run.folder,), recall=recall).main()


def test_the_benchmark_of_queries_never_runs_out_of_phrases() -> None:
    from scripts.benchmarks import benchmark_query

    phrases = list(islice(benchmark_query.new_phrases(), 500))
    assert len(set(phrases)) == 500 and phrases[0] == "a red chair"
    with pytest.raises(ConfigError, match="--questions"):
        benchmark_query.BenchmarkQuery(Path(), questions=0).main()
