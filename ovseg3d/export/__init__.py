"""Exports: a run's labelled surface as files that other programs open.

A `LabelledCloud` is what all exporters write; it knows its frame, and is brought to another one exactly once, by
`moved`. Exporters neither read runs nor render: what they need is handed to them (`export.source` gathers it).
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
