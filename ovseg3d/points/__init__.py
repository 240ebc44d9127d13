"""Surface points with features: lifting, the scene's basis, the methods, and the file that a run keeps.

What a run keeps is a `SemanticScene`. `lift_reduced` and `smooth.smooth` make it in seconds. Other methods train a
`feature_field.FeatureField` on `gather`ed rays (`refine`, `lerf`) and read it at the same points; see `methods`.
Functions that share their module's name (lift, smooth) are imported from there.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
