"""From photos to feature maps and masks, and the cache that stores them for all runs.

`extract_features` encodes one photo, `encode_photos` a scene through the cache, `encode_scene` is the stage of a run.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
