"""Exports: a run's labelled surface as files that other programs open.

All exporters write a `LabelledCloud`. It states its frame, and `moved` transforms it to another frame exactly once.
Exporters do not read runs or render; `export.source` collects their input.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
