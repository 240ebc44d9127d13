"""Detection on point clouds: named, oriented boxes with a front, from geometry (and colour where there is any).

    cloud, _ = ovseg3d.scene.read_cloud("room.ply")
    for detection in Detector().detect(cloud):
        print(detection.label, detection.score, detection.center, detection.size, detection.front)

The network is class-agnostic; names come from a text-aligned embedding, which only knows what procedural rooms hold.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
