"""Find out why a run answers questions about places wrongly: correct one part after the other.

    python -m scripts.benchmarks.relation_causes outputs/room/run ...

The first row is the run itself. Each further row corrects one more part of the one above: names of the instances that
lie on an object (others have none), one instance for each object, the fronts, the boxes, and at last the instances that
are missing. The questions are those of `relations --development`, so that nothing held out is looked at.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ovseg3d.errors import ConfigError
from ovseg3d.instances.records import InstancePoints
from ovseg3d.query.engine import QueryEngine
from ovseg3d.query.relations import Item, NamedItems, Space, solve
from ovseg3d.session import load
from scripts.benchmarks.relation_questions import DEVELOPMENT, Asked, draw_questions
from scripts.benchmarks.relation_truth import TrueRoom
from scripts.benchmarks.relations import matched, seen_room
from scripts.start import start
from scripts.training.detection_rooms import FACING

ROWS = ("as it is", "true names", "one instance each", "true fronts", "true boxes", "all objects")


@dataclass
class RelationCauses:
    """Print how many answers are right with each part corrected."""

    runs: tuple[Path, ...]
    """Runs of synthetic rooms."""
    questions: int = 60
    """For each run."""

    def main(self) -> None:
        """Print the table."""
        right: dict[str, list[int]] = {row: [] for row in ROWS}
        for folder in self.runs:
            engine = QueryEngine(load(folder))
            seed, room = seen_room(engine.scene.path)
            asked = [one for _, one in draw_questions([(seed, room)], DEVELOPMENT, self.questions)]
            object_of = matched(engine.semantics.surface.xyz, engine.semantics.piece, room)
            right[ROWS[0]].append(sum(is_right(run_answer(engine, object_of, one), one) for one in asked))
            for row, (items, object_of) in zip(ROWS[1:], corrected(engine, room)):
                right[row].append(sum(is_right(found(one, engine, items, object_of), one) for one in asked))
        print(f"of {self.questions} questions: {', '.join(str(folder) for folder in self.runs)}")
        for row, counts in right.items():
            print(f"{row:20}", *(f"{count:4d}" for count in counts))


def is_right(ids: list[int], asked: Asked) -> bool:
    """Whether exactly the objects that are meant were found."""
    return sorted(ids) == sorted(asked.true)


def run_answer(engine: QueryEngine, object_of: dict[int, int], asked: Asked) -> list[int]:
    """Ids of the objects that a run finds."""
    try:
        (answer,) = engine.ask([asked.text], camera=asked.seen_from)
    except ConfigError:
        return []
    return [object_of.get(one.id, -one.id) for one in answer.instances]


def corrected(engine: QueryEngine, room: TrueRoom) -> Iterator[tuple[list[Item], dict[int, int]]]:
    """Items with one more part corrected each time, and the object of each item."""
    surface, ids = engine.semantics.surface, engine.semantics.instance
    space, faces = engine.relations.space(None), engine.relations.items.front
    object_of, records = matched(surface.xyz, ids, room), {one["id"]: one for one in room.records}

    def items(numbers: np.ndarray, objects: dict[int, int]) -> list[Item]:
        made = [space.item(one.record()) for one in InstancePoints(surface, numbers).records()]
        made = [named(one, objects.get(one.id), records) for one in made]
        return [one.faces(faces(one)) for one in made]

    yield items(ids, object_of), object_of
    first = {number: min(i for i, other in object_of.items() if other == number) for number in object_of.values()}
    merged = np.array([first[object_of[i]] if i in object_of else i for i in range(int(ids.max()) + 1)])[ids]
    alone = {i: number for i, number in object_of.items() if first[number] == i}
    made = items(merged, alone)
    yield made, alone
    true = {number: space.item(one, has_front=one["category"] in FACING) for number, one in records.items()}
    made = [one.faces(true[alone[one.id]].front if one.id in alone else None) for one in made]
    yield made, alone
    made = [replace(one, box=true[alone[one.id]].box) if one.id in alone else one for one in made]
    yield made, alone
    yield list(true.values()), {number: number for number in true}


def named(item: Item, number: int | None, records: dict[int, dict]) -> Item:
    """The item with the names of its object."""
    if number is None:
        return replace(item, label=None, kind=None)
    return replace(item, label=records[number]["phrase"], kind=records[number]["category"])


def found(asked: Asked, engine: QueryEngine, items: list[Item], object_of: dict[int, int]) -> list[int]:
    """Ids of the objects that are found among items."""
    space: Space = engine.relations.space(asked.seen_from)
    try:
        solution = solve(asked.text, NamedItems(space, items))
    except ConfigError:
        return []
    return [object_of.get(match.item.id, -match.item.id) for match in solution.matches]


if __name__ == "__main__":
    start(RelationCauses)
