"""Structure from motion with pycolmap: from upright images to cameras and sparse points.

Cameras come out as OpenCV c2w in the reconstruction's own arbitrary frame; pixel centres at +0.5 (COLMAP's too).
pycolmap is kept silent, seeded, and interruptible: its calls run in a thread, in small portions, so that Ctrl-C works.
All random numbers are seeded; bundle adjustment sums in an order that depends on threads, so two runs agree to
many digits, and bit for bit with `threads=1`.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8

from ovseg3d.scene.prepare.pairs import choose_pairs
from ovseg3d.scene.pycolmap_calls import Stopped, chunks, interruptible, match_pairs, open_database, quiet

# Focal length / longest side without EXIF: videos of phones have 0.7 to 0.9. The others are retries.
_FOCAL_GUESSES = (0.85, 1.2, 0.6)
# The lens has one focal length and radial distortion: phones have square pixels. A second focal length and tangential
# coefficients fit no better, and trade places with the principal point, which turns all cameras by half a degree.
# Two coefficients need several images; with fewer, one is used.
_MANY_FOR_RADIAL = 8
# Only many images separate the principal point from distortion and poses.
_MANY_FOR_PRINCIPAL_POINT = 20


@dataclass(frozen=True)
class Group:
    """Images that share one lens: same size, same EXIF focal length (pixels, None when unknown)."""

    names: tuple[str, ...]
    width: int
    height: int
    focal_px: float | None


@dataclass(frozen=True)
class Lens:
    """OPENCV intrinsics, pixels."""

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    distortion: tuple[float, float, float, float]  # k1 k2 p1 p2


@dataclass(frozen=True)
class Reconstruction:
    """The largest model that structure from motion found; `names` is sorted and the arrays follow it.

    Attributes:
        lens_of: index into `lenses` for each name.
        observations_of: for each name the pixels (k, 2) and the point index (k,) of what it sees.
        errors_px: mean reprojection error of each point.
        other_models: names of the images of smaller, separate models.
        folder: COLMAP's files of the model.
    """

    names: tuple[str, ...]
    c2w: Float[np.ndarray, "views 4 4"]
    lenses: tuple[Lens, ...]
    lens_of: tuple[int, ...]
    points: Float[np.ndarray, "points 3"]
    points_rgb: UInt8[np.ndarray, "points 3"]
    track_lengths: Int[np.ndarray, "points"]
    errors_px: Float[np.ndarray, "points"]
    observations_of: tuple[tuple[np.ndarray, np.ndarray], ...]
    other_models: tuple[tuple[str, ...], ...]
    folder: Path | None = None

    @property
    def observations(self) -> int:
        return int(self.track_lengths.sum())

    def mean_error_px(self) -> float:
        """Mean over all observations of the distance between keypoint and projected point."""
        return float((self.errors_px * self.track_lengths).sum() / max(1, self.observations))


@dataclass(frozen=True)
class Matching:
    """Result of matching: features per image, and the inliers of each verified pair (i < j)."""

    features: Int[np.ndarray, "views"]
    inliers: dict[tuple[int, int], int]


class Solver:
    """One structure-from-motion job in a scratch folder.

    Args:
        images: folder of the images.
        groups: images by lens; together all images.
        order: all names in the order of the capture.
        work: an empty scratch folder.
        threads: of pycolmap.
    """

    def __init__(
        self,
        images: Path,
        groups: list[Group],
        order: list[str],
        work: Path,
        *,
        seed: int,
        threads: int,
        max_features: int = 4096,
        max_feature_side: int = 1600,
    ) -> None:
        self.images, self.groups, self.order, self.work = images, groups, order, work
        self.seed, self.threads = seed, threads
        self.max_features, self.max_feature_side = max_features, max_feature_side
        self.database = work / "database.db"

    def match(self, is_sequence: bool, report: Callable[[str, float], None]) -> Matching:
        """Find features and match them; `report` receives a sentence and the completed fraction of this part."""
        from ovseg3d.scene.colmap_library import pycolmap

        with quiet():
            pycolmap.set_random_seed(self.seed)
            with open_database(self.database):
                pass  # Opening makes the empty database, which import_images wants to find.
            for group in self.groups:
                options = pycolmap.ImageReaderOptions()
                options.camera_model = "RADIAL" if len(group.names) >= _MANY_FOR_RADIAL else "SIMPLE_RADIAL"
                pycolmap.import_images(
                    self.database,
                    self.images,
                    camera_mode=pycolmap.CameraMode.SINGLE,
                    image_names=list(group.names),
                    options=options,
                )
            self._set_focals(_FOCAL_GUESSES[0])
            self._extract(report)
            with open_database(self.database) as database:
                ids = {image.name: image.image_id for image in database.read_all_images()}
                features, some = [], []
                for name in self.order:
                    found = np.asarray(database.read_descriptors(ids[name]).data)
                    features.append(len(found))
                    # A subset of the descriptors is enough for similarity, and bounds memory for long captures.
                    some.append(found[:: max(1, len(found) // 600)].copy())
            pairs = choose_pairs(some, is_sequence=is_sequence, seed=self.seed)
            self._match(pairs, report)
            with open_database(self.database) as database:
                inliers = _inliers(database, ids, self.order)
        return Matching(np.asarray(features), inliers)

    def solve(self, report: Callable[[str, float], None]) -> Reconstruction | None:
        """Place the cameras; None if not even two images could be placed together.

        If fewer than 60 % of the images are placed, it retries with other initial focal lengths and with less
        strict requirements for the first pair, and keeps the model with the most images.
        """
        known = all(group.focal_px is not None for group in self.groups)
        attempts = [(_FOCAL_GUESSES[0], False)]
        attempts += [(_FOCAL_GUESSES[0], True)] if known else [(f, True) for f in _FOCAL_GUESSES]
        best: Reconstruction | None = None
        with quiet():
            for number, (focal, relaxed) in enumerate(attempts):
                self._set_focals(focal)
                found = self._map(relaxed, number, report)
                if found is not None and (best is None or _size(found) > _size(best)):
                    best = found
                if best is not None and len(best.names) >= 0.6 * len(self.order):
                    break
        return best

    def _set_focals(self, factor: float) -> None:
        with open_database(self.database) as database:
            by_name = {image.name: image.camera_id for image in database.read_all_images()}
            for group in self.groups:
                camera = database.read_camera(by_name[group.names[0]])
                params = np.zeros(len(camera.params))
                focal = group.focal_px or factor * max(group.width, group.height)
                params[list(camera.focal_length_idxs())] = focal
                params[list(camera.principal_point_idxs())] = group.width / 2, group.height / 2
                camera.params = params
                camera.has_prior_focal_length = group.focal_px is not None
                database.update_camera(camera)

    def _extract(self, report: Callable[[str, float], None]) -> None:
        from ovseg3d.scene.colmap_library import pycolmap

        options = pycolmap.FeatureExtractionOptions()
        options.num_threads = self.threads
        options.max_image_size = self.max_feature_side
        options.sift.max_num_features = self.max_features
        for part, done in chunks(self.order, max(4, 2 * self.threads)):
            report(f"finding features: {done} of {len(self.order)} images", 0.3 * done / len(self.order))
            interruptible(
                pycolmap.extract_features,
                self.database,
                self.images,
                image_names=part,
                extraction_options=options,
                device=pycolmap.Device.cpu,
            )

    def _match(self, pairs: list[tuple[int, int]], report: Callable[[str, float], None]) -> None:
        for part, done in chunks(pairs, max(50, len(pairs) // 40)):
            report(f"matching: {done} of {len(pairs)} pairs", 0.3 + 0.7 * done / len(pairs))
            names = [(self.order[i], self.order[j]) for i, j in part]
            match_pairs(self.database, names, self.threads, self.seed)

    def _map(self, relaxed: bool, number: int, report: Callable[[str, float], None]) -> Reconstruction | None:
        from ovseg3d.scene.colmap_library import pycolmap

        options = pycolmap.IncrementalPipelineOptions()
        options.num_threads = self.threads
        options.random_seed = options.mapper.random_seed = options.triangulation.random_seed = self.seed
        options.min_model_size = 3
        if relaxed:
            options.mapper.init_min_tri_angle = 6.0
            options.mapper.init_min_num_inliers = 50
            options.mapper.abs_pose_min_num_inliers = 15
            options.mapper.abs_pose_min_inlier_ratio = 0.15
        out = self.work / f"model{number}"
        out.mkdir()
        placed = 2
        stop = threading.Event()
        again = f" (try {number + 1})" if number else ""

        def next_image() -> None:
            nonlocal placed
            if stop.is_set():
                raise Stopped
            placed = min(placed + 1, len(self.order))
            report(f"placing cameras: {placed} of {len(self.order)}{again}", placed / len(self.order))

        models = interruptible(
            pycolmap.incremental_mapping,
            self.database,
            self.images,
            out,
            options=options,
            next_image_callback=next_image,
            stop=stop,
        )
        ranked = sorted(models.values(), key=lambda m: (m.num_reg_images(), m.num_points3D()), reverse=True)
        if not ranked or ranked[0].num_reg_images() < 2:
            return None
        others = tuple(tuple(sorted(model.image(i).name for i in model.reg_image_ids())) for model in ranked[1:])
        model, kept = self._refined(ranked[0], out / "refined"), out / "kept"
        kept.mkdir()
        model.write_binary(kept)
        return _collect(model, others, kept)

    def _refined(self, model: Any, folder: Path) -> Any:
        """One more bundle adjustment that also optimises the principal points, if there are enough images.

        Incremental mapping keeps them in the middle. The stabiliser of a phone shifts them by about 1 %, which would
        rotate all cameras by half a degree. The new model is used if its intrinsics are plausible.
        """
        from ovseg3d.scene.colmap_library import pycolmap

        used = [model.image(i).camera_id for i in model.reg_image_ids()]
        if min(used.count(i) for i in set(used)) < _MANY_FOR_PRINCIPAL_POINT:
            return model
        folder.mkdir()
        model.write(folder)
        refined = pycolmap.Reconstruction(folder)
        options = pycolmap.BundleAdjustmentOptions()
        options.refine_principal_point = True
        options.print_summary = False
        solver = options.ceres.solver_options
        solver.num_threads, solver.max_num_iterations, solver.function_tolerance = self.threads, 30, 1e-6
        options.ceres.loss_function_type = pycolmap.LossFunctionType.CAUCHY
        config = pycolmap.BundleAdjustmentConfig()
        for i in refined.reg_image_ids():
            config.add_image(i)
        # Not pycolmap.bundle_adjustment, which writes to stderr whatever the log level.
        pycolmap.create_default_bundle_adjuster(options, config, refined).solve()
        for i in set(used):
            camera = refined.camera(i)
            shift_x = abs(camera.principal_point_x - camera.width / 2) / camera.width
            shift_y = abs(camera.principal_point_y - camera.height / 2) / camera.height
            focals = camera.focal_length_x, model.camera(i).focal_length_x
            if max(shift_x, shift_y) > 0.05 or not 0.9 < focals[0] / focals[1] < 1.1:
                return model
        return refined


def _size(model: Reconstruction) -> tuple[int, int]:
    return len(model.names), len(model.points)


def _collect(model: Any, others: tuple[tuple[str, ...], ...], folder: Path) -> Reconstruction:
    """Turn pycolmap's model into arrays."""
    images = sorted((model.image(i) for i in model.reg_image_ids()), key=lambda image: image.name)
    camera_ids = sorted({image.camera_id for image in images})
    lenses = tuple(_lens(model.camera(i)) for i in camera_ids)
    point_ids = sorted(model.points3D)
    number = {point_id: k for k, point_id in enumerate(point_ids)}
    found = [model.point3D(i) for i in point_ids]
    points = np.asarray([p.xyz for p in found], dtype=np.float64).reshape(-1, 3)
    c2w, observations = [], []
    error_sums, lengths = np.zeros(len(found)), np.zeros(len(found), dtype=np.int64)
    for image in images:
        pose = np.eye(4)
        pose[:3] = image.cam_from_world().inverse().matrix()
        c2w.append(pose)
        seen = image.get_observation_points2D()
        xy = np.asarray([o.xy for o in seen], dtype=np.float64).reshape(-1, 2)
        index = np.asarray([number[o.point3D_id] for o in seen], dtype=np.int64)
        observations.append((xy, index))
        in_camera = (points[index] - pose[:3, 3]) @ pose[:3, :3]
        projected = model.camera(image.camera_id).img_from_cam(in_camera) if len(index) else xy
        np.add.at(error_sums, index, np.linalg.norm(projected - xy, axis=1))
        np.add.at(lengths, index, 1)
    return Reconstruction(
        names=tuple(image.name for image in images),
        c2w=np.asarray(c2w),
        lenses=lenses,
        lens_of=tuple(camera_ids.index(image.camera_id) for image in images),
        points=points,
        points_rgb=np.asarray([p.color for p in found], dtype=np.uint8).reshape(-1, 3),
        track_lengths=lengths,
        errors_px=error_sums / np.maximum(lengths, 1),
        observations_of=tuple(observations),
        other_models=others,
        folder=folder,
    )


def _lens(camera: Any) -> Lens:
    k = camera.calibration_matrix()
    extra = [float(camera.params[i]) for i in camera.extra_params_idxs()]
    k1, k2, p1, p2 = (extra + [0.0] * 4)[:4]
    intrinsics = float(k[0, 0]), float(k[1, 1]), float(k[0, 2]), float(k[1, 2])
    return Lens(camera.width, camera.height, *intrinsics, (k1, k2, p1, p2))


def _inliers(database: Any, ids: dict[str, int], order: list[str]) -> dict[tuple[int, int], int]:
    from ovseg3d.scene.colmap_library import pycolmap

    place = {ids[name]: i for i, name in enumerate(order)}
    found = {}
    for pair_id, count in zip(*database.read_two_view_geometry_num_inliers()):
        a, b = (place[i] for i in pycolmap.pair_id_to_image_pair(pair_id))
        if count:
            found[min(a, b), max(a, b)] = int(count)
    return found
