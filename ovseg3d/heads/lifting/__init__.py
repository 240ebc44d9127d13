"""Lifting: a photo with its depth becomes a metric point cloud with normals, colours and a direction of gravity.

    lifted = lift_photo(rgb, depth_z, intrinsics)
    for detection in Detector().detect(lifted.cloud, up=lifted.up):
        print(detection.label, detection.center)

The cloud is in the camera's frame: x right, y down, z forward.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
