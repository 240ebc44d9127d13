"""The kinds of furniture and things that rooms are made of; importing this registers them all."""

from ovseg3d.synth.kinds import fixtures, furniture, tabletop, things
from ovseg3d.synth.kinds.base import KINDS, Kind, Look, find_kind, kind

__all__ = ["KINDS", "Kind", "Look", "find_kind", "fixtures", "furniture", "kind", "tabletop", "things"]
