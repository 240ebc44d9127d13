"""Questions about places: the grammar, relations of boxes, and answers of a run."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import Cli

from ovseg3d.errors import ConfigError
from ovseg3d.query.relations import NamedItems, measures, parse, solve, space_of
from ovseg3d.query.relations.grammar import Clause
from ovseg3d.query.relations.inflection import counted
from ovseg3d.query.relations.items import Item
from ovseg3d.query.relations.wording import unmet


def entry(
    number: int, label: str, center: tuple[float, ...], size: tuple[float, ...], yaw: float = 0.0
) -> dict[str, Any]:
    turn = [float(np.cos(yaw / 2)), 0.0, 0.0, float(np.sin(yaw / 2))]
    return {"id": number, "label": label, "center": center, "size": size, "rotation_wxyz": turn}


ROOM = [
    entry(1, "wooden desk", (0, 0, 0.4), (1.4, 0.7, 0.8)),
    entry(2, "red mug", (0.3, 0, 0.85), (0.1, 0.1, 0.1)),
    entry(3, "blue mug", (3, 3, 0.05), (0.1, 0.1, 0.1)),
    entry(4, "chair", (0, -1, 0.45), (0.5, 0.5, 0.9), np.pi),  # its front, -y turned half around, is towards the desk
    entry(5, "chair", (2.5, -1, 0.45), (0.5, 0.5, 0.9), 0.0),
    entry(6, "picture", (0, 0.5, 1.6), (0.6, 0.03, 0.5)),
    entry(7, "rug", (0, 0, 0.005), (2, 2, 0.01)),
    entry(8, "night stand", (1.3, 0, 0.3), (0.5, 0.5, 0.6)),
]
FRONTS = {1, 4, 5}
SPACE = space_of((0, 0, 1), metric=True)


def room(eye: tuple[float, ...] | None = None, metric: bool = True, fronts: set[int] = FRONTS) -> NamedItems:
    space = space_of((0, 0, 1), metric=metric, eye=None if eye is None else np.array(eye))
    return NamedItems(space, [space.item(one, has_front=one["id"] in fronts) for one in ROOM])


@pytest.mark.parametrize(
    ("question", "ids"),
    [
        ("the mug on the desk", [2]), ("which mugs are not on the desk?", [3]), ("how many chairs are there?", [4, 5]),
        ("what is on the desk?", [2]), ("the picture above the desk", [6]), ("the rug under the desk", [7]),
        ("which chairs face the desk?", [4]), ("the chair nearest to the picture", [4]),
        ("the chair farthest from the desk", [5]), ("the mug closest to the night stand", [2]),
        ("the night stand next to the desk", [8]), ("is there a mug on the rug?", []), ("the largest mug", [2]),
        ("the chair in front of the desk", [4]), ("the desk between the chair and the picture", [1]),
        ("the mug on the desk next to the night stand", [2]), ("the mug on the bed", []),
        ("what is standing on the desk?", [2]), ("a standing lamp next to the desk", []),
    ],
)  # fmt: skip
def test_answers_on_exact_boxes(question: str, ids: list[int]) -> None:
    assert sorted(match.item.id for match in solve(question, room()).matches) == ids


@pytest.mark.parametrize(
    "phrase", ["a picture on the wall", "chair with wheels", "a cup of coffee", "remote control", "walk in closet",
               "a man in a suit", "stack of books", "a lamp", ""],
)  # fmt: skip
def test_phrases_without_a_relation_of_instances_stay_phrases(phrase: str) -> None:
    assert solve(phrase, room()).is_plain or not parse(phrase).noun.text


def items(*entries: dict[str, Any]) -> list[Item]:
    return [SPACE.item(one) for one in entries]


@pytest.mark.parametrize(("aside", "score"), [(0.35, 1.0), (0.45, 1.0), (0.55, 0.0), (0.9, 0.0)])
def test_what_is_on_something_has_half_of_its_footprint_there(aside: float, score: float) -> None:
    box, table = items(entry(1, "box", (aside, 0, 1.5), (1, 1, 1)), entry(2, "table", (0, 0, 0.5), (1, 2, 1)))
    assert measures.on(box, table, SPACE).score == score


@pytest.mark.parametrize("degrees", [50.0, 90.0, 110.0, 130.0, 180.0])
def test_between_falls_with_the_angle_from_which_two_things_are_seen(degrees: float) -> None:
    turn = np.radians(degrees)
    small = [entry(k, "cup", (3 * x, 3 * y, 0), (1e-3,) * 3) for k, (x, y) in
             enumerate([(0, 0), (1, 0), (np.cos(turn), np.sin(turn))], 1)]  # fmt: skip
    found = measures.between(*items(*small))
    assert found.value == pytest.approx(degrees, abs=0.1)
    assert found.score == pytest.approx(max(0, degrees - 60) / 120, abs=1e-3)


def test_what_is_in_something_has_half_of_its_volume_there() -> None:
    """A rug that a cupboard stands on is not in it, though all of the cupboard's footprint is on the rug."""
    rug, cupboard, book = items(
        entry(1, "rug", (0, 0, 0.005), (2, 2, 0.01)),
        entry(2, "cupboard", (0, 0, 1), (0.5, 0.5, 2)),
        entry(3, "book", (0, 0.2, 1), (0.2, 0.2, 0.3)),
    )
    assert measures.inside(rug, cupboard, SPACE).score == pytest.approx(0.25 / 4)
    assert measures.inside(book, cupboard, SPACE).score == pytest.approx(0.15 / 0.2)
    assert not measures.inside(cupboard, rug, SPACE).score


def test_left_is_seen_from_the_view_or_from_the_objects_own_front() -> None:
    assert [m.item.id for m in solve("the night stand right of the desk", room()).matches] == [8]
    behind = room(eye=(0, 4, 1.5))
    assert not solve("the night stand right of the desk", behind).matches
    assert [m.item.id for m in solve("the night stand left of the desk", behind).matches] == [8]
    with pytest.raises(ConfigError, match="needs a view"):
        solve("the desk left of the night stand", room())


@pytest.mark.parametrize(
    ("question", "eye", "said"),
    [
        ("the night stand left of the desk", None, "no night stand is left of the desk, seen from before it"),
        ("the night stand right of the desk", (0, 4, 1.5), "no night stand is right of the desk, seen from the view"),
        ("the night stand behind the desk", None, "no night stand is behind the desk"),
    ],
)
def test_nothing_left_or_right_is_told_with_the_side_it_was_seen_from(question: str, eye: Any, said: str) -> None:
    record = solve(question, room(eye)).record
    assert record is not None and record.text == said


def test_an_object_alone_is_left_of_nothing_without_a_view() -> None:
    space = space_of((0, 0, 1), metric=True)
    items = NamedItems(space, [space.item(one, has_front=False) for one in ROOM if one["id"] == 5])
    record = solve("the chair left of the chair", items).record
    assert record is not None and record.text == "no chair is left of the chair"


@pytest.mark.parametrize("question", ["not a chair", "the thing that is not the chair", "across from the sofa"])
def test_a_question_that_names_nothing_to_look_for_is_refused(question: str) -> None:
    with pytest.raises(ConfigError, match="does not say what to look for"):
        solve(question, room())


def test_a_seats_left_is_the_left_of_who_sits_there() -> None:
    # Who sits on chair 5 looks along -y, so that +x is on the left.
    records = [*ROOM, entry(9, "ball", (3.3, -1, 0.1), (0.2, 0.2, 0.2))]
    space = space_of((0, 0, 1), metric=True)
    items = NamedItems(space, [space.item(one, has_front=one["id"] == 5) for one in records if one["id"] != 4])
    assert [m.item.id for m in solve("the ball left of the chair", items).matches] == [9]
    nothing = solve("the ball right of the chair", items)
    assert not nothing.matches and nothing.record is not None
    assert nothing.record.text == "no ball is right of the chair, on its own side"


def test_reasons_have_values_and_units() -> None:
    found = solve("the night stand next to the desk", room()).record
    assert found is not None and found.kind == "beside" and found.of == ("wooden desk",) and found.of_ids == (1,)
    assert found.value == pytest.approx(0.35) and found.unit == "m" and "0.35 m away" in found.text
    units = solve("the night stand next to the desk", room(metric=False)).record
    assert units is not None and units.unit == "units"
    count = solve("how many chairs are there?", room()).record
    assert count is not None and (count.kind, count.value, count.text) == ("count", 2.0, "2 chairs")


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ("how many pictures are there?", "1 picture"), ("count chair", "2 chairs"),
        ("how many things are on the desk?", "1 instance: red mug on the wooden desk"),
        ("how many chairs face the desk?", "1 chair: chair faces the wooden desk"),
        ("how many night stands are there?", "1 night stand"), ("how many are there?", "8 instances"),
    ],
)  # fmt: skip
def test_counts_are_said_in_the_right_form(question: str, said: str) -> None:
    assert solve(question, room()).text == said


@pytest.mark.parametrize(
    ("one", "many"),
    [
        ("chair", "chairs"), ("box", "boxes"), ("shelf", "shelves"), ("child", "children"), ("teddy", "teddies"),
        ("toy", "toys"), ("glasses", "glasses"), ("bench", "benches"), ("stack of books", "stacks of books"),
        ("red mug", "red mugs"), ("glass", "glasses"), ("instance", "instances"),
    ],
)  # fmt: skip
def test_nouns_have_one_form_for_one_and_one_for_many(one: str, many: str) -> None:
    assert counted(1, one) == f"1 {one}" and counted(3, one) == counted(3, many) == f"3 {many}"
    assert one in ("glass",) or counted(1, many) == f"1 {one}"


def test_what_is_not_understood_is_said() -> None:
    found = solve("the chair across from the desk", room())
    assert found.is_plain and found.record is not None and "across from the desk" in found.record.text
    unknown = solve("which chairs face the desk?", room(fronts=set()))
    assert not unknown.matches and "not known which way" in unknown.text


def test_a_tilted_frame_gives_the_same_answers() -> None:
    # y up: the room turned by -90 degrees about x.
    turned = [
        {**one, "center": (one["center"][0], one["center"][2], -one["center"][1]),
         "rotation_wxyz": _product((np.sqrt(0.5), -np.sqrt(0.5), 0, 0), one["rotation_wxyz"])} for one in ROOM
    ]  # fmt: skip
    space = space_of((0, 1, 0), metric=True)
    items = NamedItems(space, [space.item(one, has_front=one["id"] in FRONTS) for one in turned])
    for question, ids in (("the mug on the desk", [2]), ("which chairs face the desk?", [4])):
        assert [match.item.id for match in solve(question, items).matches] == ids


def _product(first: Any, second: Any) -> list[float]:
    from scipy.spatial.transform import Rotation

    one, other = (Rotation.from_quat([q[1], q[2], q[3], q[0]]) for q in (first, second))
    x, y, z, w = (one * other).as_quat().tolist()
    return [w, x, y, z]


def test_a_run_answers_with_the_points_of_whole_instances(run: Any) -> None:
    count = run.query("how many red boxes are there?")
    assert count.relation is not None and count.relation.kind == "count"
    assert count.relation.value == len(count.instances)
    absent = run.query("the red box on the elephant")
    assert not absent.present and absent.relation is not None and not len(absent.points)
    plain = run.query("where is the red box?")
    assert plain.relation is None and plain.phrase == "where is the red box?"


def test_the_command_tells_places_as_json_and_as_text(run: Any, cli: Cli, tmp_path: Path) -> None:
    asked = (
        "the red box next to the blue box",
        "how many red boxes are there?",
        "the red box on the elephant",
        "red box",
    )
    flags = ("--views", "none", "--output", tmp_path)
    done = cli("query", run.folder, *asked, *flags, "--json")
    assert done.returncode == 0, done.stderr
    beside, count, absent, plain = json.loads(done.stdout)["answers"]
    (red,) = plain["instances"]
    assert plain["relation"] is None and beside["phrase"] == asked[0] and beside["present"]
    assert [one["id"] for one in beside["instances"]] == [one["id"] for one in count["instances"]] == [red["id"]]
    relation = beside["relation"]
    assert set(relation) == {"kind", "of", "of_ids", "value", "unit", "text", "reasons"}
    assert relation["kind"] == "beside" and relation["of"] == ["blue box"] and relation["of_ids"] != [red["id"]]
    assert relation["unit"] == "m" and relation["reasons"] == [f"next to the blue box, {relation['value']:.2f} m away"]
    assert (count["relation"]["kind"], count["relation"]["value"], count["relation"]["text"]) == (
        "count",
        1,
        "1 red box",
    )
    assert not absent["present"] and absent["points"] is None and absent["relation"]["text"] == "no elephant was found"
    shown = cli("query", run.folder, asked[0], asked[2], *flags).stdout
    assert f"  red box {relation['reasons'][0]}" in shown and "  no elephant was found" in shown
    wrong = cli("query", run.folder, "the red box nearest", *flags, "--json")
    assert wrong.returncode == 2 and "--camera" in wrong.stderr and wrong.stdout == ""


def test_every_written_sentence_has_an_answer() -> None:
    sentences = (Path(__file__).parents[2] / "scripts" / "benchmarks" / "sentences.txt").read_text().splitlines()
    assert len(sentences) == 30
    assert all(solve(sentence, room(eye=(0, -3, 1.5))) for sentence in sentences)


@pytest.mark.parametrize(
    ("kind", "text", "said"),
    [
        ("facing", "face the window", "chair faces the window"),
        ("facing", "looking at the TV", "chair faces the TV"),
        ("behind", "behind the sofa", "chair is behind the sofa"),
    ],
)
def test_a_relation_that_holds_for_nothing_is_told_in_words(kind: str, text: str, said: str) -> None:
    assert unmet("chair", Clause(kind, (), text)) == f"no {said}"
    assert unmet("chair", Clause(kind, (), text, negated=True)) == f"every {said}"
