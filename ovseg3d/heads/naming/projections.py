"""Projections of a point cloud to depth views, by name: ours, and the papers' for comparison."""

from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Float

from ovseg3d.heads.naming.contour import contour_aware, pointclip_v2
from ovseg3d.heads.naming.splat import relief
from ovseg3d.heads.naming.views import Y_UP

Projection = Callable[[Float[np.ndarray, "points 3"]], Float[np.ndarray, "views h w"]]
ViewsOf = Callable[[Float[np.ndarray, "points 3"], Float[np.ndarray, "views 3 3"], int], Float[np.ndarray, "views h w"]]
"""From points, rotations to the views' frames (x right, y down, z forward), and pixels of a side."""

OURS, CONTOUR_AWARE, POINTCLIP_V2 = "ours", "contour-aware", "PointCLIP V2"
PROJECTIONS: Mapping[str, Projection] = {
    POINTCLIP_V2: lambda points: pointclip_v2(points @ Y_UP.T),
    CONTOUR_AWARE: lambda points: contour_aware(points @ Y_UP.T),
    OURS: relief,
}
"""Each in its own ten views, of points whose z is up."""
ANY_VIEWS: Mapping[str, ViewsOf] = {
    OURS: relief,
    CONTOUR_AWARE: lambda points, views, size: contour_aware.seen_from(views)(points),
    POINTCLIP_V2: lambda points, views, size: pointclip_v2.seen_from(views)(points),
}
"""In any views, as towers are tuned to. The papers' projections always have their own size: their filters have."""
