"""Which way objects face: canonical poses from crops of photos, from clouds, and from both.

    seen = PhotoPoser().look(crops, ["chair"])[0]
    print(seen.angles, seen.symmetry_order, pose_in_camera(seen).rotation_wxyz)

An object's frame has z up and its front at -y. Every answer is a distribution: a round table has no front, and says so.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
