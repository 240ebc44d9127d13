"""Questions about the places of objects in a synthetic room, with their true answers.

The sentences come from templates: `DEVELOPMENT` was used while the grammar was written, `REPORT` only for the reported
figures. A question is asked only if its truth is clear (see `relation_truth`) and if its nouns name one kind.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from scripts.benchmarks.relation_truth import TrueRoom, Truth

SETS = ("on", "above", "under", "beside", "facing", "in front of", "behind", "left of", "right of", "between")
DEVELOPMENT = {
    "on": ("the {a} on the {b}", "which {as} are on the {b}?", "how many {as} are on the {b}?", "what is on the {b}?"),
    "above": ("the {a} above the {b}", "which {as} are above the {b}?"),
    "under": ("the {a} under the {b}", "which {as} are under the {b}?"),
    "beside": ("the {a} next to the {b}", "which {as} are beside the {b}?"),
    "facing": ("the {a} facing the {b}", "which {as} face the {b}?"),
    "in front of": ("the {a} in front of the {b}", "what is in front of the {b}?"),
    "behind": ("the {a} behind the {b}", "which {as} are behind the {b}?"),
    "left of": ("the {a} left of the {b}", "which {as} are to the left of the {b}?"),
    "right of": ("the {a} right of the {b}", "which {as} are to the right of the {b}?"),
    "between": ("the {a} between the {b} and the {c}", "which {as} are between the {b} and the {c}?"),
    "nearest": ("the {a} nearest to the {b}", "which {a} is closest to the {b}?"),
    "farthest": ("the {a} farthest from the {b}", "which {a} is farthest from the {b}?"),
    "largest": ("the largest {a}", "which {a} is the largest?"),
    "smallest": ("the smallest {a}", "which {a} is the smallest?"),
    "count": ("how many {as} are there?", "how many {as} are in the room?"),
}
"""{a}: a name, {as}: its plural, {b} and {c}: references. "how many" and "which" ask for all, "the {a}" for one."""
REPORT = {
    "on": (
        "show me the {a} that is standing on the {b}",
        "is there a {a} on top of the {b}?",
        "{as} lying on the {b}",
        "count the {as} on the {b}",
        "everything on top of the {b}",
    ),
    "above": (
        "find the {a} over the {b}",
        "are there any {as} hanging above the {b}?",
        "I want the {a} that is above the {b}",
    ),
    "under": (
        "is there a {a} underneath the {b}?",
        "the {as} which are below the {b}",
        "what's beneath the {b}",
    ),
    "beside": (
        "highlight the {a} beside the {b}",
        "all {as} close to the {b}",
        "is there any {a} near the {b}?",
    ),
    "facing": (
        "all the {as} that face the {b}",
        "how many {as} are facing the {b}?",
        "the {a} which is looking at the {b}",
    ),
    "in front of": (
        "where is the {a} that stands in front of the {b}?",
        "how many {as} are in front of the {b}?",
        "all {as} in front of the {b}",
    ),
    "behind": (
        "where's the {a} behind the {b}?",
        "is there a {a} behind the {b}?",
        "please show me all {as} behind the {b}",
    ),
    "left of": (
        "the {a} on the left side of the {b}",
        "is there a {a} on the left of the {b}?",
        "all {as} left of the {b}",
    ),
    "right of": (
        "the {a} on the right side of the {b}",
        "is there a {a} on the right of the {b}?",
        "all {as} right of the {b}",
    ),
    "between": (
        "what {a} stands between the {b} and the {c}?",
        "is there a {a} in between the {b} and the {c}?",
    ),
    "nearest": (
        "find the {a} that is nearest to the {b}",
        "the closest {a} to the {b}",
        "give me the points of the {a} closest to the {b}",
    ),
    "farthest": (
        "the furthest {a} from the {b}",
        "show the {a} that is farthest away from the {b}",
    ),
    "largest": (
        "give me the biggest {a}",
        "where is the largest of the {as}?",
    ),
    "smallest": (
        "find the smallest {a} in the room",
        "which of the {as} is the smallest?",
    ),
    "count": (
        "count all {as}",
        "the number of {as}",
        "how many {as} do you see?",
    ),
}


@dataclass(frozen=True)
class Asked:
    """One question with its answer."""

    kind: str
    text: str
    true: frozenset[int]
    """Ids of the objects that are meant; for "is there" and counts, too."""
    of: frozenset[int]
    """Ids of the references."""
    seen_from: np.ndarray | None = None
    """The position of the viewer, for left and right."""


def plural(name: str) -> str:
    """The plural of a kind's name."""
    if name.endswith("shelf"):
        return name[:-1] + "ves"
    return {"mouse": "mice"}.get(name) or name + ("es" if name.endswith(("s", "x", "ch", "sh")) else "s")


class Questions:
    """Draws questions about one room."""

    def __init__(self, room: TrueRoom, seed: int, templates: dict[str, tuple[str, ...]]) -> None:
        self.room, self.rng, self.templates = room, np.random.default_rng([seed, 31]), templates
        by_kind: dict[str, list[int]] = {}
        for one in room.objects.values():
            by_kind.setdefault(one.kind, []).append(one.id)
        heads = [kind.split()[-1] for kind in by_kind]
        self.by_kind = {k: ids for k, ids in by_kind.items() if heads.count(k.split()[-1]) == 1}
        """Ids by names that are clear: not "box" beside "tissue box"."""

    def draw(self, kind: str, tries: int = 300) -> Asked | None:
        """A question of a kind with a clear answer; None: none was found."""
        makers: dict[str, Callable[[str, str], Asked | None]] = {
            "nearest": self._distance, "farthest": self._distance, "largest": self._size, "smallest": self._size,
            "count": self._count,
        }  # fmt: skip
        for _ in range(tries):
            template = str(self.rng.choice(self.templates[kind.removesuffix(" (view)")]))
            asked = makers.get(kind, self._set)(kind, template)
            if asked is not None:
                return asked
        return None

    def _name(self, several: int = 1) -> str:
        names = [name for name, ids in self.by_kind.items() if len(ids) >= several]
        return str(self.rng.choice(names)) if names else ""

    def _reference(self) -> str:
        """A name that one object has."""
        return str(self.rng.choice([name for name, ids in self.by_kind.items() if len(ids) == 1]))

    def _set(self, kind: str, template: str) -> Asked | None:
        relation, eye = kind.removesuffix(" (view)"), None
        names = [self._reference() for _ in range(2 if relation == "between" else 1)]
        of = [self.by_kind[name][0] for name in names]
        if kind.endswith("(view)"):
            eye = np.append(self.rng.uniform(-1.5, 1.5, 2), 1.5)
            if np.linalg.norm(eye[:2] - self.room.objects[of[0]].middle) < 1.0:
                return None
        elif relation in ("in front of", "behind", "left of", "right of") and self.room.objects[of[0]].front is None:
            return None
        anything = "{a" not in template
        name = "" if anything else self._name()
        if name in names or len(set(names)) < len(names):
            return None
        candidates = [i for i in (self.room.objects if anything else self.by_kind[name]) if i not in of]
        if relation == "facing" and any(self.room.objects[i].front is None for i in candidates):
            return None
        held: list[Truth] = [self.room.holds(relation, i, *of, eye=eye) for i in candidates]
        true = frozenset(i for i, one in zip(candidates, held) if one)
        one = "the {a}" in template or "what {a}" in template
        if None in held or (len(true) != 1 if one else not true and self.rng.random() < 0.99):
            return None
        return Asked(kind, self._fill(template, name, names), true, frozenset(of), eye)

    def _distance(self, kind: str, template: str) -> Asked | None:
        name, reference = self._name(2), self._reference()
        if not name or name == reference:
            return None
        of, sign = self.by_kind[reference][0], 1 if kind == "nearest" else -1
        order = sorted((sign * self.room.distance(i, of), i) for i in self.by_kind[name])
        (first, best), (second, _) = order[:2]
        if abs(second - first) < max(0.15, 0.1 * abs(first)):
            return None
        return Asked(kind, self._fill(template, name, [reference]), frozenset((best,)), frozenset((of,)))

    def _size(self, kind: str, template: str) -> Asked | None:
        name, sign = self._name(2), 1 if kind == "smallest" else -1
        if not name:
            return None
        sizes = {i: self.room.objects[i].size for i in self.by_kind[name]}
        orders = [
            sorted((sign * value(size), i) for i, size in sizes.items()) for value in (np.prod, lambda s: s[1] * s[2])
        ]
        clear = (
            all(abs(order[1][0] / order[0][0] - 1) > 0.15 for order in orders) and orders[0][0][1] == orders[1][0][1]
        )
        return (
            Asked(kind, self._fill(template, name, []), frozenset((orders[0][0][1],)), frozenset()) if clear else None
        )

    def _count(self, kind: str, template: str) -> Asked | None:
        name = self._name(1 + int(self.rng.random() < 0.6))
        return Asked(kind, self._fill(template, name, []), frozenset(self.by_kind[name]), frozenset()) if name else None

    @staticmethod
    def _fill(template: str, name: str, of: list[str]) -> str:
        return template.format_map({"a": name, "as": plural(name), **dict(zip("bc", of))})


def draw_questions(
    rooms: list[tuple[int, TrueRoom]], templates: dict[str, tuple[str, ...]], count: int
) -> Iterator[tuple[int, Asked]]:
    """Questions with the index of their room: rooms and kinds take turns."""
    kinds = [*SETS, "left of (view)", "right of (view)", *(kind for kind in templates if kind not in SETS)]
    drawers = [Questions(room, seed, templates) for seed, room in rooms]
    made, turn, seen = 0, 0, set()
    while made < count and turn < 100 * count:
        place = (turn // len(kinds)) % len(rooms)
        asked = drawers[place].draw(kinds[turn % len(kinds)])
        turn += 1
        if asked is not None and (place, asked.text) not in seen:
            seen.add((place, asked.text))
            made += 1
            yield place, asked
