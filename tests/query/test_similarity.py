"""Scene priors on cosines, at points and at pixels: hubness correction and layout."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ovseg3d.errors import ConfigError, RunError
from ovseg3d.field.surface import Surface
from ovseg3d.files import write_json
from ovseg3d.instances.layout import FLOOR, NONE, WALL
from ovseg3d.points.basis import Basis
from ovseg3d.points.semantic_scene import EncoderFacts, Places, SemanticScene, load_semantics, save_semantics
from ovseg3d.query.default_vocabulary import DEFAULT_VOCABULARY
from ovseg3d.query.engine import QueryEngine
from ovseg3d.query.relevancy import CANONICAL
from ovseg3d.runs.config import Config, Layout, SemanticsConfig
from ovseg3d.runs.folder import RunFolder
from ovseg3d.runs.phrases import keep_phrases

NAMES = ("floor", "wall", "sofa", "mug", "hub")
FLOOR_POINT, WALL_POINT, SOFA, MUG, BARE = range(5)


def comparer(folder: Path, phrases: tuple[str, ...], rows: dict[int, list[float]]) -> QueryEngine:
    """Five points whose cosines with `NAMES` are `rows`: on the floor, on a wall, instance 1, instance 2, none. Nobody
    knows how large anything is."""
    vectors = np.zeros((5, 8), np.float32)
    for point, cosines in rows.items():
        vectors[point, : len(cosines)] = cosines
        vectors[point, 5] = (1 - np.square(cosines).sum()) ** 0.5
    folder.mkdir(exist_ok=True)
    surface = Surface(
        np.arange(15, dtype=np.float32).reshape(5, 3), np.tile(np.float32([0, 0, 1]), (5, 1)),
        np.zeros((5, 3), np.uint8), np.ones(5, np.float32), np.ones(5, np.float32), np.array([0.0, 0.0, 1.0]), False,
    )  # fmt: skip
    learnt = SemanticScene(
        surface, Basis(np.eye(8, dtype=np.float32), 0.0), vectors, np.ones(5, np.float32),
        np.array([0, 0, 1, 2, 0], np.int32), EncoderFacts("none", "none", "", 50.0),
        plane=np.array([FLOOR, WALL, NONE, NONE, NONE]),
    )  # fmt: skip
    save_semantics(folder, learnt)
    keep_phrases(folder, phrases)
    made = QueryEngine(RunFolder(folder, Config(), folder, "room", ""), None, "cpu")
    made.texts.clip = None
    made.texts._vectors = dict(zip((*NAMES, "", "stuff"), np.eye(8, dtype=np.float32)))
    made.texts._vectors = (
        dict.fromkeys((*DEFAULT_VOCABULARY, *CANONICAL), made.texts._vectors["stuff"]) | made.texts._vectors
    )
    return made


ROWS = {
    FLOOR_POINT: [0.5, 0.1, 0.3], WALL_POINT: [0.1, 0.5, 0.3], SOFA: [0.2, 0.1, 0.6, 0.1], MUG: [0.2, 0.1, 0.3, 0.2],
    BARE: [0.0, 0.0, 0.3, 0.2],
}  # fmt: skip


def test_a_weak_name_is_found_where_the_run_knows_that_it_is_there(tmp_path: Path) -> None:
    plain = comparer(tmp_path / "plain", (), ROWS)
    known = comparer(tmp_path, NAMES[:4], ROWS)
    sofa, mug = (NAMES.index(name) + 1 for name in ("sofa", "mug"))
    assert plain.labels(NAMES[:4], none=False)[[SOFA, MUG, BARE]].tolist() == [sofa, sofa, sofa]
    assert known.labels(NAMES[:4], none=False)[[SOFA, MUG, BARE]].tolist() == [sofa, mug, sofa]
    own, _ = known.compare(("mug", "sofa"), (), known=NAMES[:4])
    raw, _ = known.compare(("mug", "sofa"), ())
    assert (own[[SOFA, MUG]] - raw[[SOFA, MUG]]).std(0).max() < 1e-6 and own[MUG, 0] > raw[MUG, 0]
    np.testing.assert_array_equal(own[[FLOOR_POINT, WALL_POINT, BARE]], raw[[FLOOR_POINT, WALL_POINT, BARE]])


def test_a_name_that_is_not_known_is_not_raised_and_no_hub(tmp_path: Path) -> None:
    rows = ROWS | {SOFA: [0.2, 0.1, 0.6, 0.1, 0.7], MUG: [0.2, 0.1, 0.3, 0.2, 0.5]}
    known = comparer(tmp_path, NAMES[:4], rows)
    own, _ = known.compare(NAMES, (), known=NAMES[:4])
    raw, _ = known.compare(NAMES, ())
    assert (own[[SOFA, MUG], 4] < raw[[SOFA, MUG], 4]).all(), "it is nearer to everything than what is there"
    rows = ROWS | {SOFA: [0.2, 0.1, 0.6, 0.1, 0.1]}
    known = comparer(tmp_path, NAMES[:4], rows)
    own, _ = known.compare(NAMES, (), known=NAMES[:4])
    np.testing.assert_array_equal(own[:, 4], known.compare(NAMES, ())[0][:, 4])


def test_a_plane_without_a_name_is_what_a_list_says(tmp_path: Path) -> None:
    rows = ROWS | {FLOOR_POINT: [0.5, 0.1, 0.3, 0.45]}
    known = comparer(tmp_path, ("sofa", "mug"), rows)
    own, raw = (known.compare(("sofa", "mug"), (), known=names)[0] for names in (("sofa", "mug"), ()))
    assert own[MUG, 1] - raw[MUG, 1] < 0.5 * (0.6 - 0.2), "the mug's name is at its best on the floor"


def test_pixels_between_two_planes_are_one_of_them(tmp_path: Path) -> None:
    known = comparer(tmp_path, (), ROWS)
    near = np.array([[FLOOR_POINT, WALL_POINT], [WALL_POINT, FLOOR_POINT], [FLOOR_POINT, SOFA], [SOFA, FLOOR_POINT]])
    places = Places((2, 3), np.array([0, 1, 3, 4]), near, np.tile([0.8, 0.2], (4, 1)))
    found = known.labels_at(places, NAMES[:4], none=False)
    assert found.tolist() == [[1, 2, 0], [1, 3, 0]]


FLOORLIKE = ROWS | {WALL_POINT: [0.5, 0.4, 0.3, 0.2, 0.35]}
"""The wall looks a little more like floor (by 5 logits), and next like a wall and a hub."""


def test_a_question_finds_what_labels_find_where_planes_decide(tmp_path: Path) -> None:
    engine = comparer(tmp_path, NAMES[:4], FLOORLIKE)
    labels = engine.labels(NAMES[:4], none=False)
    assert labels[WALL_POINT] == NAMES.index("wall") + 1
    for number, answer in enumerate(engine.ask(NAMES[:2], canonical=("stuff",), threshold=0.1), start=1):
        assert ((answer.relevancy > 0.5) == (labels == number)).all(), answer.phrase


def test_the_order_of_rivals_does_not_matter(tmp_path: Path) -> None:
    engine = comparer(tmp_path, (), FLOORLIKE)
    instances = tuple(f"thing {number}" for number in range(40))
    engine.texts._vectors |= dict.fromkeys(instances, engine.texts._vectors["stuff"])
    found = [
        engine.ask(["hub"], canonical=("stuff",), alternatives=alternatives)[0].relevancy
        for alternatives in (("floor", "wall", *instances), ("floor", *instances, "wall"))
    ]
    np.testing.assert_allclose(*found, atol=1e-6)


def test_the_rival_is_named_that_was_lost_against(tmp_path: Path) -> None:
    engine = comparer(tmp_path, NAMES[:4], FLOORLIKE | {WALL_POINT: [0.5, 0.4, 0.3, 0.2, 0.42]})
    (answer,) = engine.ask(["hub"], canonical=("stuff",), alternatives=("floor", "wall"))
    assert not answer.present and answer.alternative == "wall", "and not the floor, which it looks like"


def test_capitals_do_not_make_another_phrase(tmp_path: Path) -> None:
    engine = comparer(tmp_path, NAMES[:4], ROWS)
    engine.texts._vectors["Mug"] = engine.texts._vectors["mug"]
    own, _ = engine.compare(("mug", "Mug"), (), known=NAMES[:4])
    np.testing.assert_array_equal(own[:, 0], own[:, 1])
    small, large = engine.ask(["mug", "Mug"], canonical=("stuff",))
    np.testing.assert_array_equal(small.relevancy, large.relevancy)


def test_no_phrases_at_all(tmp_path: Path) -> None:
    known = comparer(tmp_path, (), ROWS)
    assert known.encode([]).shape == (0, 8)
    with pytest.raises(ConfigError, match="no phrases"):
        known.labels(())


def test_a_list_of_all_that_is_there_leaves_little_for_none(tmp_path: Path) -> None:
    known = comparer(tmp_path, NAMES[:4], ROWS | {MUG: [0.2, 0.1, 0.3, 0.2, 0.45], SOFA: [0.2, 0.1, 0.6, 0.1, 0.5]})
    mug = NAMES.index("mug") + 1
    assert known.labels(NAMES[:4], canonical=("hub",))[MUG] == mug, "a hub is evened out, too"
    assert known.labels(("mug", "wall"), canonical=("hub",))[MUG] == 0, "a list may lack what it is"
    plain = comparer(tmp_path / "plain", (), ROWS | {MUG: [0.2, 0.1, 0.3, 0.2, 0.45]})
    assert plain.labels(NAMES[:4], canonical=("hub",))[MUG] == 0
    # A point of no instance and no plane is compared as it is.
    _, beside = known.compare(NAMES[:4], ("hub",), known=NAMES[:4])
    _, raw = known.compare(NAMES[:4], ("hub",))
    assert (beside[[SOFA, MUG]] < raw[[SOFA, MUG]]).all() and (beside[BARE] == raw[BARE]).all()


def furniture(
    folder: Path,
    metres: float | None,
    instances: dict[str, tuple[float, float, float]] | None = None,
    layout: Layout = "indoor",
) -> QueryEngine:
    """Boxes in a frame with `metres` to its unit, or nobody knows, by default a sofa and a mug; each looks like its
    name."""
    instances = instances or {"sofa": (2.0, 0.8, 0.8), "mug": (0.1, 0.1, 0.1)}
    random, unit = np.random.default_rng(0), metres or 0.5
    sizes = np.array(list(instances.values()))
    xyz = (
        random.uniform(-0.5, 0.5, (len(instances), 200, 3)) * sizes[:, None]
        + 5 * np.arange(len(instances))[:, None, None]
    )
    count, up, dim = 200 * len(instances), np.array([0.0, 0.0, 1.0]), len(instances) + 2
    surface = Surface(
        np.float32(xyz.reshape(-1, 3) / unit), np.tile(np.float32(up), (count, 1)), np.zeros((count, 3), np.uint8),
        np.ones(count, np.float32), np.full(count, 0.02 / unit, np.float32), up, metres is not None,
    )  # fmt: skip
    vectors = np.eye(dim)[np.repeat(np.arange(len(instances)), 200)]
    learnt = SemanticScene(
        surface, Basis(np.eye(dim, dtype=np.float32), 0.0), vectors.astype(np.float32), np.ones(count, np.float32),
        np.repeat(np.arange(len(instances)) + 1, 200).astype(np.int32), EncoderFacts("none", "none", "", 50.0),
        plane=np.full(count, NONE),
    )  # fmt: skip
    folder.mkdir(exist_ok=True)
    save_semantics(folder, learnt)
    frames = {"world_from_input": np.eye(4).tolist(), "metric": metres is not None, "metres_per_unit": metres}
    write_json(folder / "scene_transform.json", frames)
    config = Config(semantics=SemanticsConfig(layout=layout))
    made = QueryEngine(RunFolder(folder, config, folder, "room", ""), None, "cpu")
    made.texts.clip = None
    texts = np.eye(dim, dtype=np.float32)
    made.texts._vectors = (
        dict.fromkeys(DEFAULT_VOCABULARY, texts[-1]) | dict(zip(instances, texts)) | dict.fromkeys(CANONICAL, texts[-1])
    )
    return made


def test_a_scale_is_stated_or_that_of_the_semantics(tmp_path: Path) -> None:
    stated, unknown = furniture(tmp_path / "stated", 0.01), furniture(tmp_path / "unknown", None)
    assert stated.metres == 0.01 and unknown.metres is None
    for engine, metres in ((stated, 0.01), (unknown, 0.7)):
        save_semantics(engine.run.folder, replace(engine.semantics, metres_per_unit=0.7))
        assert QueryEngine(engine.run, None, "cpu").metres == metres, "what is stated comes first"
    for damaged in (0.0, -1.0, float("nan")):
        save_semantics(unknown.run.folder, replace(unknown.semantics, metres_per_unit=damaged))
        with pytest.raises(RunError, match="scale"):
            load_semantics(unknown.run.folder)


def test_a_frame_that_is_not_stated_is_no_reason_not_to_answer(tmp_path: Path) -> None:
    engine = furniture(tmp_path, 1.0)
    for text in ("{}", "nonsense", None):
        (tmp_path / "scene_transform.json").unlink(missing_ok=True)
        if text is not None:
            (tmp_path / "scene_transform.json").write_text(text)
        with pytest.raises(RunError):
            engine.run.transform()
        damaged = QueryEngine(engine.run, None, "cpu")
        damaged.texts.clip, damaged.texts._vectors = None, engine.texts._vectors
        assert damaged.metres is None and len(damaged.labels(("mug", "sofa"))) == 400
    write_json(
        tmp_path / "scene_transform.json",
        {"world_from_input": np.eye(4).tolist(), "metric": True, "metres_per_unit": None},
    )
    assert engine.run.transform()[1] is None


def test_priors_of_rooms_are_one_plug_in(tmp_path: Path) -> None:
    """Without it no name has odds by shape or place, and the rest answers; `auto` asks for planes of a room."""
    for layout, on in (("indoor", True), ("auto", False), ("none", False)):
        engine = furniture(tmp_path, 1.0, layout=layout)
        odds = engine.similarity.prior.log_odds(("sofa", "floor"), np.array([0, FLOOR]), np.array([1, 0]))
        assert engine.similarity.prior.on is on and bool(odds[0].any()) is bool(odds[1].any()) is on
        own, _ = engine.compare(("floor", "mug"), ("stuff",))
        assert bool(own[:, 0].any()) is on
        (answer,) = engine.ask(["sofa"], alternatives=("mug",))
        assert 0 <= answer.score <= 1
    room = comparer(tmp_path / "room", (), ROWS)
    assert room.similarity.prior.on and room.similarity.prior.plane_of("a wall") == WALL
    config = Config(semantics=SemanticsConfig(layout="none"))
    without = QueryEngine(replace(room.run, config=config), None, "cpu")
    without.texts.clip, without.texts._vectors = None, room.texts._vectors
    assert not without.similarity.prior.on and without.similarity.prior.plane_of("a wall") == NONE
    own, _ = without.compare(("floor", "wall"), ())
    cosines, _ = without.semantics.compare(without.encode(("floor", "wall")), without.encode(()))
    np.testing.assert_array_equal(own, cosines)
