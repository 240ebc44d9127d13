"""Sparse depth of a posed capture: points that its photos observe, and depth completed between them.

The points are triangulated with the given poses (`triangulation`), and joined by those that the capture brings with
tracks (`given_points`). They are depth for the field where photos have texture; `completion` continues it across bare
surfaces, and `fusion` compares what photos say of one place.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int, UInt8

from ovseg3d.scene.cameras import Camera
from ovseg3d.scene.capture import Scene
from ovseg3d.scene.completion import cell_side, complete
from ovseg3d.scene.fusion import Fused, fuse
from ovseg3d.scene.images import load_photo
from ovseg3d.scene.observations import Observations, joined
from ovseg3d.scene.triangulation import Progress, triangulate

VERSION = 7
"""Part of the key of cached results: raise it when the same photos give other ones."""
MIN_VIEW_POINTS = 4
"""With fewer points a photo's depth is not completed."""
CELL_SIGMA = 3.0
"""Deviation of a cell's fused depth as a point, in its own ones: neighbouring cells err alike."""
MAX_FOCAL_RATIO = 10.0
"""Largest change of a focal length that a file may state."""

DepthPrior = Callable[[UInt8[np.ndarray, "h w 3"], tuple[float, float, float, float]], Float[np.ndarray, "h w"]]
"""Predicts the disparity of a photo, up to a positive scale and an offset, from its pixels and fx, fy, cx, cy."""


@dataclass(frozen=True)
class SparseDepth:
    """Depth of the points that each training photo observes, completed to dense depth, and the poses that agree.

    Photos without enough points have a completed deviation of infinity.
    """

    view: Int[np.ndarray, " observations"]
    """Position in `Scene.train`."""
    xy: Float[np.ndarray, "observations 2"]
    """Pixels, at the size of the frame's camera."""
    depth_z: Float[np.ndarray, " observations"]
    """z-depth, input units."""
    sigma: Float[np.ndarray, " observations"]
    """Relative standard deviation of the depth, from reprojection error, angle of the rays and track length."""
    disparity: Float[np.ndarray, "views rows columns"]
    """Completed disparity of `Scene.train`, on cells, 1 / input units."""
    disparity_sigma: Float[np.ndarray, "views rows columns"]
    """Its relative standard deviation."""
    cell: Int[np.ndarray, " views"]
    """Side of the cells of each photo, pixels."""
    points: Float[np.ndarray, "points 3"]
    """The points, input frame."""
    c2w: Float[np.ndarray, "views 4 4"]
    """Adjusted poses of `Scene.train`; the given ones where they were not adjusted."""
    focal_ratio: Float[np.ndarray, "views 2"]
    """Adjusted focal lengths (fx, fy) of `Scene.train`, as a share of the given ones."""
    errors_px: Float[np.ndarray, "2"]
    """Mean reprojection error at the given and at the adjusted poses, in pixels of the matched photos."""

    def arrays(self) -> dict[str, np.ndarray]:
        """All fields by name, for a file."""
        return {name: np.ascontiguousarray(getattr(self, name)) for name in self.__dataclass_fields__}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], views: int) -> "SparseDepth":
        """The inverse of `arrays`, for a capture with `views` training photos.

        Raises:
            ValueError: an array is missing, has another shape or type, or a value is invalid.
        """
        arrays = {"focal_ratio": np.ones((views, 2)), **arrays}  # of runs before focal lengths were adjusted
        missing = set(cls.__dataclass_fields__) - set(arrays)
        if missing:
            raise ValueError(f"{min(missing)} is missing")
        own = {name: np.array(arrays[name]) for name in cls.__dataclass_fields__}
        count, cells = own["view"].size, own["disparity"].shape
        shapes = {
            "view": (count,), "xy": (count, 2), "depth_z": (count,), "sigma": (count,), "c2w": (views, 4, 4),
            "cell": (views,),
            "disparity": (views, *cells[1:]), "disparity_sigma": cells, "points": (len(own["points"]), 3),
            "focal_ratio": (views, 2), "errors_px": (2,),
        }  # fmt: skip
        for name, array in own.items():
            if array.shape != shapes[name] or array.dtype.kind != ("i" if name in ("view", "cell") else "f"):
                raise ValueError(f"{name} has another shape or type")
            if not np.isfinite(array).all() and (name != "disparity_sigma" or np.isnan(array).any()):
                raise ValueError(f"{name} has values that are not numbers")
        if (own["cell"] < 1).any():
            raise ValueError("a cell is smaller than a pixel")
        if len(cells) != 3 or min(cells[1:]) < 2:
            raise ValueError("disparity has another shape")
        if not count or own["view"].min() < 0 or own["view"].max() >= views:
            raise ValueError("view is empty or out of range")
        if min(own[name].min() for name in ("depth_z", "disparity")) <= 0:
            raise ValueError("a depth is not above 0")
        if (np.abs(np.log(np.maximum(own["focal_ratio"], 1e-9))) > np.log(MAX_FOCAL_RATIO)).any():
            raise ValueError("a focal length was changed out of all proportion")
        return cls(**own)

    def applied(self, scene: Scene) -> Scene:
        """The capture with the adjusted poses of its training photos, adjusted lenses, and these points.

        A held-out photo keeps its pose. It was taken with the lens of the training photos that state the same one, so
        it gets their adjusted lens, which nothing of the photo itself has decided.
        """
        frames, lenses = list(scene.frames), {}
        for view, pose, ratio in zip(scene.train, self.c2w, self.focal_ratio):
            camera = frames[view].camera
            lenses[camera.lens] = ratio
            frames[view] = replace(frames[view], camera=_focused(replace(camera, c2w=pose), ratio))
        for view in set(range(len(frames))) - set(scene.train):
            camera = frames[view].camera
            if camera.lens in lenses:
                frames[view] = replace(frames[view], camera=_focused(camera, lenses[camera.lens]))
        return replace(scene, frames=tuple(frames), points=self.points, points_rgb=None)


def _focused(camera: Camera, ratio: Float[np.ndarray, "2"]) -> Camera:
    """The camera with its focal lengths times `ratio`."""
    return replace(camera, fx=camera.fx * float(ratio[0]), fy=camera.fy * float(ratio[1]))


def reconstruct(
    scene: Scene,
    *,
    adjust: bool,
    focal: bool = True,
    threads: int = 2,
    seed: int = 0,
    prior: DepthPrior | None = None,
    given: Observations | None = None,
    report: Progress | None = None,
) -> SparseDepth | None:
    """Sparse points of the training photos, and their completed depth; None if there are none.

    Args:
        scene: the capture.
        adjust: also adjust the poses, see `triangulation.triangulate`.
        focal: with the poses, also adjust the focal lengths.
        threads: of feature extraction and matching.
        seed: of the choice of pairs and of RANSAC.
        prior: bends the completed depth where photos have edges; see `completion`.
        given: points that the capture brings. With tracks they join the triangulated ones; without, they are used
            only if there are none, since photos that do not see a point are taken to see it.
        report: receives a sentence and the completed share.

    Raises:
        SceneError: a photo cannot be read.
        OutputError: the system's temporary folder cannot be written to.
    """
    report = report or (lambda _text, _share: None)
    found = triangulate(scene, adjust=adjust, focal=focal, threads=threads, seed=seed, report=report)
    if found is None and given is None:
        return None
    if found is None:
        c2w, errors = np.stack([scene.frames[view].camera.c2w for view in scene.train]), np.zeros(2)
        ratio = np.ones((len(c2w), 2))
    else:
        c2w, ratio, errors = found.c2w, found.focal_ratio, found.errors_px
    parts = [] if given is None or not (given.tracked or found is None) else [given]
    seen = joined(parts if found is None else [*parts, found.observations])
    completed = _complete_all(scene, seen, prior, report)
    sparse = SparseDepth(seen.view, seen.xy, seen.depth_z, seen.sigma, *completed, seen.points, c2w, ratio, errors)
    return _agreed(sparse, scene, seen, report)


def _agreed(sparse: SparseDepth, scene: Scene, seen: Observations, report: Progress) -> SparseDepth:
    """The same with the completed depth that photos agree on: fused, continued across the bare surfaces of each photo,
    and fused again."""
    frames = sparse.applied(scene).frames
    cameras = [frames[view].camera for view in scene.train]

    def compare(disparity: np.ndarray, sigma: np.ndarray, began: float) -> Fused:
        def tell(share: float) -> None:
            report("comparing photos", began + 0.005 * share)

        return fuse(disparity, sigma, sparse.cell, cameras, tell)

    fused = compare(sparse.disparity, sparse.disparity_sigma, 0.98)
    disparity, sigma, _ = _complete_all(scene, seen, None, report, fused)
    fused = compare(disparity, sigma, 0.995)
    return replace(sparse, disparity=fused.disparity, disparity_sigma=fused.sigma)


def _complete_all(
    scene: Scene, seen: Observations, prior: DepthPrior | None, report: Progress, fused: Fused | None = None
) -> tuple[Float[np.ndarray, "views rows columns"], Float[np.ndarray, "views rows columns"], Int[np.ndarray, " views"]]:
    """Completed disparity of all training photos, its deviation, both padded to the largest, and their cells' sides.

    Fused depth that other photos know of gives points, too: what a photo has completed by itself says nothing new.
    """
    cameras = [scene.frames[view].camera for view in scene.train]
    cell = np.array([cell_side(camera.width, camera.height) for camera in cameras])
    sizes = [(camera.height // side, camera.width // side) for camera, side in zip(cameras, cell)]
    shape = (len(sizes), *np.maximum(np.max(sizes, axis=0), 2))
    disparity, sigma = np.ones(shape, np.float32), np.full(shape, np.inf, np.float32)
    began = 0.97 if fused is None else 0.985
    for number, (frame, (rows, columns)) in enumerate(zip((scene.frames[v] for v in scene.train), sizes)):
        report(f"completing the depth: {number} of {len(sizes)} photos", began + 0.01 * number / len(sizes))
        own = seen.view == number
        # Disparity is linear on a plane for a pinhole, and nearly so with a usual lens, but not for a fisheye.
        flat = frame.camera.model != "OPENCV_FISHEYE" and min(rows, columns) >= 3
        if flat and own.sum() >= MIN_VIEW_POINTS:
            photo = load_photo(frame)
            camera = frame.camera
            lens = (camera.fx, camera.fy, camera.cx, camera.cy)
            predicted = None if prior is None else prior(photo[..., :3], lens)
            points = [seen.xy[own], seen.depth_z[own], seen.sigma[own]]
            if fused is not None:
                others = fused.others_sigma[number, :rows, :columns]
                known = np.isfinite(others)
                cells = (
                    (np.argwhere(known)[:, ::-1] + 0.5) * cell[number],
                    1.0 / fused.disparity[number, :rows, :columns][known],
                    CELL_SIGMA * others[known],
                )
                points = [np.concatenate(both) for both in zip(points, cells)]
            found, deviation = complete(photo, *points, prior=predicted)
            # Interpolation at the border reads one cell beyond it.
            disparity[number] = np.pad(found, ((0, shape[1] - rows), (0, shape[2] - columns)), mode="edge")
            sigma[number, :rows, :columns] = deviation
    return disparity, sigma, cell
