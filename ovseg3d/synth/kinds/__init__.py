"""The kinds of furniture and things that rooms are made of; importing this registers them all."""

from ovseg3d.synth.kinds import bathroom, crockery, fixtures, furniture, goods, kitchen, outings, tabletop, things
from ovseg3d.synth.kinds.base import KINDS, Kind, Look, Style, find_kind, kind, style

# isort: split
# More styles come after the kinds that they belong to.
from ovseg3d.synth.kinds import more_decor, more_fixtures, more_furniture, more_storage, more_tabletop, more_things

__all__ = [
    "KINDS", "Kind", "Look", "Style", "bathroom", "crockery", "find_kind", "fixtures", "furniture", "goods", "kind",
    "kitchen", "more_decor", "more_fixtures", "more_furniture", "more_storage", "more_tabletop", "more_things",
    "outings", "style", "tabletop", "things",
]  # fmt: skip
