"""Ask generated questions about the places of objects, and compare the answers with exact truth.

    python -m scripts.benchmarks.relations                          # 200 questions, true instances of new rooms
    python -m scripts.benchmarks.relations --development            # other rooms, and the templates of development
    python -m scripts.benchmarks.relations --runs outputs/room/run  # the same kinds of questions to runs
    python -m scripts.benchmarks.relations --sentences              # sentences.txt, asked of scenes/playroom

An answer is right if it holds exactly the objects that are meant: all of them and no other. Where one is meant ("the
mug on the desk"), it has to be the only one; "is there" and counts need the right objects, too. Runs are asked about
the objects that two photos show. An instance or rejected fragment stands for the object that most of its points lie on;
the second figure takes only questions about objects and references for which the run has an instance.
"""

import json
import time
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from ovseg3d.errors import ConfigError
from ovseg3d.files import read_json, write_json
from ovseg3d.query.relations import NamedItems, Space, solve, space_of
from ovseg3d.synth import surface_cloud
from ovseg3d.synth.furnish import random_room
from ovseg3d.synth.make import make_room
from scripts.benchmarks.relation_questions import DEVELOPMENT, REPORT, Asked, draw_questions
from scripts.benchmarks.relation_truth import TrueRoom
from scripts.start import start
from scripts.training.detection_rooms import FACING

FIRST_SEED, DEVELOPMENT_SEED = 29_400, 29_000
"""Of the rooms; no training and no other benchmark uses these."""
MIN_PHOTOS = 2
"""An object of which fewer photos show any point is not asked for in a run."""
SENTENCES = Path(__file__).with_name("sentences.txt")


@dataclass
class MeasureRelations:
    """Ask questions about places."""

    questions: int = 200
    """How many; for each run with --runs."""
    rooms: int = 24
    """Rooms that they are about."""
    development: bool = False
    """Take the rooms and the templates of development."""
    runs: tuple[Path, ...] = ()
    """Ask trained runs of synthetic rooms instead."""
    sentences: bool = False
    """Answer the written sentences on the exact objects of scenes/playroom instead."""
    wrong: bool = False
    """Print every wrong answer."""
    output: Path | None = None
    """A JSON file for the figures."""

    def main(self) -> None:
        """Print the figures."""
        if self.sentences:
            print_sentences()
            return
        templates = DEVELOPMENT if self.development else REPORT
        figures = {}
        for folder in self.runs:
            figures[folder.parent.name] = ask_run(folder, templates, self.questions, self.wrong)
        if not self.runs:
            first = DEVELOPMENT_SEED if self.development else FIRST_SEED
            rooms = [(seed, TrueRoom(random_room(seed), seed)) for seed in range(first, first + self.rooms)]
            figures["true instances"] = ask_truth(rooms, templates, self.questions, self.wrong)
        if self.output is not None:
            write_json(self.output, figures)


def catalogue_of(records: list[dict], space: Space) -> NamedItems:
    """The exact objects of a room by their names."""
    return NamedItems(space, [space.item(record, has_front=record["category"] in FACING) for record in records])


def ask_truth(
    rooms: list[tuple[int, TrueRoom]], templates: dict[str, tuple[str, ...]], count: int, wrong: bool
) -> dict[str, float]:
    """The share of right answers on exact objects, by kind."""
    space = space_of((0.0, 0.0, 1.0), metric=True)
    catalogues = [catalogue_of(room.records, space) for _, room in rooms]
    table = Table(wrong)
    for place, asked in draw_questions(rooms, templates, count):
        catalogue = catalogues[place]
        catalogue.space = replace(catalogue.space, eye=asked.seen_from)
        try:
            found = solve(asked.text, catalogue)
            ids, text = [match.item.id for match in found.matches], found.text
        except ConfigError as error:
            ids, text = [], str(error)
        table.add(asked, ids, text, rooms[place][0])
    return table.show()


def ask_run(folder: Path, templates: dict[str, tuple[str, ...]], count: int, wrong: bool) -> dict[str, float]:
    """The share of right answers of a run, by kind."""
    from ovseg3d.session import load

    run = load(folder)
    seed, room = seen_room(run.load_scene().path)
    semantics = run._engine.semantics
    object_of = matched(semantics.surface.xyz, semantics.piece, room)
    instances = set(np.unique(semantics.instance).tolist())
    having = {number for i, number in object_of.items() if i in instances}
    table = Table(wrong)
    for _, asked in draw_questions([(seed, room)], templates, count):
        began = time.monotonic()
        try:
            answer = run.query(asked.text, camera=asked.seen_from)
            ids = [object_of.get(one.id, -one.id) for one in answer.instances]
            text = "" if answer.relation is None else answer.relation.text
        except ConfigError as error:
            ids, text = [], error.what
        known = asked.true | asked.of <= having
        table.add(asked, ids, text, folder.parent.name, known, time.monotonic() - began)
    return table.show()


def seen_room(path: Path) -> tuple[int, TrueRoom]:
    """The seed of a synthetic scene, and its objects but for those that no two photos show."""
    origin = read_json(path / "synth.json")
    room, cloud = TrueRoom(make_room(origin, folder=path)), surface_cloud(path, seen=True)
    room.keep(set(np.unique(cloud.instance[cloud.seen >= MIN_PHOTOS]).tolist()))
    return int(origin["seed"]), room


def matched(xyz: np.ndarray, ids: np.ndarray, room: TrueRoom) -> dict[int, int]:
    """The object of each instance: most of its points are nearest to it, and within 0.1 m."""
    points = np.concatenate([one.xyz for one in room.objects.values()])
    owner = np.repeat(list(room.objects), [len(one.xyz) for one in room.objects.values()])
    tree, found = cKDTree(points), {}
    for number in np.unique(ids[ids > 0]).tolist():
        away, near = tree.query(xyz[ids == number])
        votes = np.bincount(np.where(away < 0.1, owner[near], 0))
        if votes.argmax() > 0:
            found[number] = int(votes.argmax())
    return found


class Table:
    """Right answers by kind."""

    def __init__(self, wrong: bool) -> None:
        self.wrong = wrong
        self.right: dict[str, list[bool]] = defaultdict(list)
        self.known: list[bool] = []
        self.seconds: list[float] = []

    def add(
        self, asked: Asked, ids: list[int], text: str, room: object, known: bool = True, seconds: float = 0.0
    ) -> None:
        """Compare an answer."""
        right = sorted(ids) == sorted(asked.true)
        self.right[asked.kind].append(right)
        if known:
            self.known.append(right)
        self.seconds.append(seconds)
        if self.wrong and not right:
            print(f"room {room}: {asked.text} -> {ids} instead of {sorted(asked.true)} [{asked.kind}] {text}")

    def show(self) -> dict[str, float]:
        """Print and return the shares."""
        every = [one for right in self.right.values() for one in right]
        for kind, right in self.right.items():
            print(f"{kind:18} {sum(right):4d} of {len(right):4d}")
        print(f"{'all':18} {sum(every):4d} of {len(every):4d} = {np.mean(every):.1%}")
        if len(self.known) < len(every):
            print(f"{'objects found':18} {sum(self.known):4d} of {len(self.known):4d} = {np.mean(self.known):.1%}")
        shares = {kind: float(np.mean(right)) for kind, right in self.right.items()}
        return {**shares, "all": float(np.mean(every)), "n": len(every), "known": float(np.mean(self.known))}


def print_sentences() -> None:
    """A table of the written sentences with their answers, in Markdown."""
    records = json.loads(Path("scenes/playroom/objects.json").read_text())
    catalogue = catalogue_of(records, space_of((0.0, 0.0, 1.0), metric=True))
    print("| sentence | found | reason |\n|---|---|---|")
    for sentence in SENTENCES.read_text().splitlines():
        try:
            found = solve(sentence, catalogue)
            items = [match.item for match in found.matches]
            if found.is_plain:  # a run asks its encoder
                items = catalogue.find(found.question.noun.text)
            names = ", ".join(item.label or "" for item in items)
            text = found.text
        except ConfigError as error:
            names, text = "", error.what
        print(f"| {sentence} | {names or 'nothing'} | {text} |")


if __name__ == "__main__":
    start(MeasureRelations)
