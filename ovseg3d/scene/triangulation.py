"""Triangulate points with the poses of a capture, and bundle adjust them: SIFT features, matched by pycolmap.

Bundle adjustment moves the poses, and the focal length of lenses that many photos share, to where the matches agree. A
prior on each pose keeps the scale and the frame of the capture, one on each lens the given focal length where photos
tell little of it. Only training photos are used. pycolmap does the work, with one thread where the order of sums
matters.
"""

import copy
import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import Image
from scipy.spatial.transform import Rotation

from ovseg3d.errors import OutputError, SceneError
from ovseg3d.files import output_error
from ovseg3d.limits import first_line
from ovseg3d.scene.cameras import Camera
from ovseg3d.scene.capture import Frame, Scene
from ovseg3d.scene.images import load_mask, load_photo, read_header
from ovseg3d.scene.matching import MatchingSize, matched_views, near_pairs
from ovseg3d.scene.observations import MIN_ERROR_PX, Observations, relative_sigma
from ovseg3d.scene.pycolmap_calls import chunks, interruptible, match_pairs, open_database, quiet

PEAK_THRESHOLD = 0.002
"""Contrast of the faintest features; COLMAP's 0.0067 finds little on plain surfaces."""
POSITION_SIGMA = 0.003
"""Standard deviation of the given positions in bundle adjustment, as a share of the median depth of the points."""
ROTATION_SIGMA = 0.5
"""Standard deviation of the given rotations in bundle adjustment, degrees."""
FOCAL_SIGMA = 0.02
"""Relative standard deviation of the given focal lengths in bundle adjustment."""
ASPECT_SIGMA = 0.001
"""Relative standard deviation of the given ratio of fx to fy."""
MIN_FOCAL_GAIN = 0.015
"""Share by which adjusted focal lengths must lower the mean reprojection error."""
MAX_ROUNDS = 6
"""Most bundle adjustments, each followed by a new triangulation, which finds more matches at better poses."""
SETTLED = 0.05
"""Median movement of a camera in a round, in degrees, below which the poses have settled."""
MIN_LENS_VIEWS = 10
"""Photos that must share a lens if its focal length is to be adjusted."""
MIN_TRACK = 3
"""Photos that must observe a point."""
MIN_POINTS = 30
"""With fewer points there is no reconstruction."""

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Triangulation:
    """Points that training photos observe, and the poses that agree with them."""

    observations: Observations
    c2w: Float[np.ndarray, "views 4 4"]
    """Adjusted poses of `Scene.train`; the given ones where they were not adjusted."""
    focal_ratio: Float[np.ndarray, "views 2"]
    """Adjusted focal lengths (fx, fy) of `Scene.train`, as a share of the given ones; 1 if not adjusted."""
    errors_px: Float[np.ndarray, "2"]
    """Mean reprojection error at the given and at the adjusted poses, in pixels of the matched photos."""


def triangulate(
    scene: Scene, *, adjust: bool, focal: bool, threads: int, seed: int, report: Progress
) -> Triangulation | None:
    """Match the training photos and triangulate; None if they have too few matches.

    Args:
        scene: the capture.
        adjust: also adjust the poses, if there are at most `matching.MAX_VIEWS`; else they are returned unchanged.
        focal: with the poses, adjust the focal lengths of lenses that at least `MIN_LENS_VIEWS` photos share.
        threads: of feature extraction and matching.
        seed: of the choice of pairs and of RANSAC.
        report: receives a sentence and the completed share.

    Raises:
        SceneError: a photo cannot be read, or pycolmap fails.
        OutputError: the system's temporary folder cannot be written to.
    """
    views = matched_views(scene.train)
    if len(views) < MIN_TRACK:
        return None
    try:
        with tempfile.TemporaryDirectory(prefix="ovseg3d-") as scratch, quiet():
            job = _Job(scene, views, Path(scratch), threads, seed, report)
            job.match()
            return job.solve(adjust and len(views) == len(scene.train), focal)
    except OSError as error:  # such as a full disk
        raise output_error(error, Path(tempfile.gettempdir())) from error
    except RuntimeError as error:  # pycolmap's own; it reports a full disk only as text, too
        if any(words in str(error) for words in ("disk is full", "No space left")):
            raise OutputError("The disk is full", where=tempfile.gettempdir(), fix="free some space") from error
        what = f"pycolmap cannot match the photos: {first_line(error)}"
        raise SceneError(what, where=scene.path, fix="--sparse-depth off trains without matches") from error


def _at_feature_size(frame: Frame, side: int) -> Frame:
    """The frame at the size in which features are found."""
    header = read_header(frame.image_path, frame.max_pixels)
    width, height = header.upright_size if frame.upright else (header.width, header.height)
    ratio = min(1.0, side / max(width, height))
    camera = frame.camera.scaled(max(1, round(width * ratio)), max(1, round(height * ratio)))
    return replace(frame, camera=camera)


class _Job:
    """One reconstruction in a scratch folder."""

    def __init__(self, scene: Scene, views: list[int], work: Path, threads: int, seed: int, report: Progress) -> None:
        self._scene, self._views, self._work = scene, views, work
        self._threads, self._seed, self._report = threads, seed, report
        self._size = MatchingSize.of(len(views))
        self._frames = [_at_feature_size(scene.frames[view], self._size.side) for view in views]
        self._names = [f"{number:05d}.png" for number in range(len(views))]
        self._database = work / "database.db"
        self._ids: list[int] = []
        self._lenses, self._lens_of = _distinct([frame.camera for frame in self._frames])
        self._shared = np.flatnonzero(np.bincount(self._lens_of) >= MIN_LENS_VIEWS).tolist()
        self._camera_ids: list[int] = []

    def match(self) -> None:
        """Find features and match them."""
        from ovseg3d.scene.colmap_library import pycolmap

        pycolmap.set_random_seed(self._seed)
        folder = self._work / "images"
        folder.mkdir()
        self._write_lenses()
        extraction = pycolmap.FeatureExtractionOptions()
        extraction.num_threads = self._threads
        extraction.sift.peak_threshold = PEAK_THRESHOLD
        extraction.sift.max_num_features = self._size.features
        for numbers, done in chunks(list(range(len(self._frames))), 8):
            self._report(f"finding features: {done} of {len(self._frames)} photos", 0.5 * done / len(self._frames))
            for number in numbers:
                self._write(folder, number)
            # In order and by one thread, since numbers of images follow it: extraction writes them as they come.
            for lens, same in groupby(numbers, key=self._lens_of.__getitem__):
                reading = pycolmap.ImageReaderOptions()
                reading.existing_camera_id = self._camera_ids[lens]
                pycolmap.import_images(
                    self._database, folder, image_names=[self._names[number] for number in same], options=reading
                )
            names = [self._names[number] for number in numbers]
            interruptible(
                pycolmap.extract_features,
                self._database,
                folder,
                image_names=names,
                extraction_options=extraction,
                device=pycolmap.Device.cpu,
            )
        with open_database(self._database) as database:
            images = {image.name: image for image in database.read_all_images()}
            self._ids = [images[name].image_id for name in self._names]
        pairs = near_pairs([frame.camera for frame in self._frames], self._seed)
        for part, done in chunks(pairs, 100):
            self._report(f"matching: {done} of {len(pairs)} pairs", 0.5 + 0.4 * done / len(pairs))
            names = [(self._names[i], self._names[j]) for i, j in part]
            match_pairs(self._database, names, self._threads, self._seed)

    def _write(self, folder: Path, number: int) -> None:
        """Write a photo for pycolmap, with masked pixels black."""
        frame = self._frames[number]
        photo = load_photo(frame)[..., :3].copy()
        if frame.mask_path is not None:
            photo[~load_mask(frame)] = 0
        Image.fromarray(photo).save(folder / self._names[number], compress_level=1)

    def _write_lenses(self) -> None:
        """Write the given lenses to a new database; photos of one lens share a camera."""
        from ovseg3d.scene.colmap_library import pycolmap

        with open_database(self._database) as database:
            for lens in self._lenses:
                model, params = _colmap_lens(lens)
                camera = pycolmap.Camera(model=model, width=lens.width, height=lens.height, params=params)
                camera.has_prior_focal_length = True
                number = database.write_camera(camera)
                rig = pycolmap.Rig()
                rig.add_ref_sensor(pycolmap.sensor_t(type=pycolmap.SensorType.CAMERA, id=number))
                database.write_rig(rig)
                self._camera_ids.append(number)

    def solve(self, adjust: bool, focal: bool) -> Triangulation | None:
        """Triangulate, and adjust the poses.

        With `focal` they are adjusted twice, the second time with the lenses. Those are kept if the matches agree
        clearly better; if not, errors of other kinds have moved them.
        """
        given = [np.array(_colmap_lens(lens)[1]) for lens in self._lenses]
        self._report("triangulating", 0.9)
        first = self._triangulate(np.stack([frame.camera.c2w for frame in self._frames]), given)
        if first.num_points3D() < MIN_POINTS:
            return None
        model, error = first, first.compute_mean_reprojection_error()
        if adjust:
            model = self._adjusted(copy.deepcopy(first), focal=False)
        if adjust and focal and self._shared:
            other = self._adjusted(first, focal=True)
            limit = (1.0 - MIN_FOCAL_GAIN) * model.compute_mean_reprojection_error()
            model = other if other.compute_mean_reprojection_error() < limit else model
        return self._collect(model, error, adjust)

    def _adjusted(self, model: Any, *, focal: bool) -> Any:
        """Adjust a model and triangulate anew, until the poses settle."""
        poses = self._poses(model)
        for number in range(MAX_ROUNDS):
            self._report("adjusting the poses", 0.92 + 0.004 * (number + MAX_ROUNDS * focal))
            self._adjust(model, focal)
            before, poses = poses, self._poses(model)
            lenses = [np.array(model.camera(i).params) for i in self._camera_ids]
            model = self._triangulate(poses, lenses)
            if math.degrees(_movement(before, poses)[0]) < SETTLED:
                break
        return model

    def _triangulate(self, poses: Float[np.ndarray, "views 4 4"], lenses: list[np.ndarray]) -> Any:
        from ovseg3d.scene.colmap_library import pycolmap

        model = pycolmap.Reconstruction()
        with open_database(self._database) as database:
            images = [database.read_image(i) for i in self._ids]
            for camera_id, lens in zip(self._camera_ids, lenses):
                camera = database.read_camera(camera_id)
                camera.params = lens
                model.add_camera_with_trivial_rig(camera)
        for image, name, pose in zip(images, self._names, poses):
            placed = pycolmap.Image(name=name, camera_id=image.camera_id, image_id=image.image_id)
            model.add_image_with_trivial_frame(placed, pycolmap.Rigid3d(_world_to_camera(pose)))
        options = pycolmap.IncrementalPipelineOptions()
        options.num_threads = 1
        options.random_seed = options.mapper.random_seed = options.triangulation.random_seed = self._seed
        out = Path(tempfile.mkdtemp(prefix="model", dir=self._work))
        return interruptible(
            pycolmap.triangulate_points, model, self._database, self._work / "images", out, options=options
        )

    def _poses(self, model: Any) -> Float[np.ndarray, "views 4 4"]:
        poses = np.tile(np.eye(4), (len(self._ids), 1, 1))
        for pose, i in zip(poses, self._ids):
            pose[:3] = model.image(i).cam_from_world().inverse().matrix()
        return poses

    def _adjust(self, model: Any, focal: bool) -> None:
        """Bundle adjustment of poses and points, with the given poses as a prior.

        The prior is as wide as the poses have moved so far, so that it does not hold them at poses that were disturbed.
        """
        from pyceres.factors import NormalPrior
        from pycolmap.cost_functions import AbsolutePosePriorCost

        from ovseg3d.scene.colmap_library import pycolmap

        depths = np.concatenate([self._depths(model, i) for i in self._ids])
        given = np.stack([frame.camera.c2w for frame in self._frames])
        turned, moved = _movement(given, self._poses(model))
        rotation = max(math.radians(ROTATION_SIGMA), turned)
        position = max(POSITION_SIGMA * float(np.median(depths)), moved)
        options = pycolmap.BundleAdjustmentOptions()
        options.refine_principal_point = options.refine_extra_params = False
        options.refine_focal_length = focal
        options.print_summary = False
        options.ceres.solver_options.num_threads = 1
        options.ceres.solver_options.max_num_iterations = 30
        options.ceres.loss_function_type = pycolmap.LossFunctionType.CAUCHY
        config = pycolmap.BundleAdjustmentConfig()
        for i in self._ids:
            config.add_image(i)
        for i in set(self._camera_ids) - {self._camera_ids[lens] for lens in self._shared}:
            config.set_constant_cam_intrinsics(i)
        adjuster = pycolmap.create_default_ceres_bundle_adjuster(options, config, model)
        covariance = np.diag([rotation**2] * 3 + [position**2] * 3)
        # The problem does not own the costs: they must outlive it.
        costs: list[Any] = [
            AbsolutePosePriorCost(covariance, pycolmap.Rigid3d(_world_to_camera(pose))) for pose in given
        ]
        for i, cost in zip(self._ids, costs):
            adjuster.problem.add_residual_block(cost, None, [model.image(i).frame.rig_from_world.params])
        for lens in self._shared if focal else ():
            params = np.array(_colmap_lens(self._lenses[lens])[1])
            spread = np.eye(len(params))  # of numbers that do not move, but for fx and fy
            spread[:2, :2] = np.outer(params[:2], params[:2]) * (FOCAL_SIGMA**2 + ASPECT_SIGMA**2 * np.eye(2))
            costs.append(NormalPrior(params, spread))
            adjuster.problem.add_residual_block(costs[-1], None, [model.camera(self._camera_ids[lens]).params])
        interruptible(adjuster.solve)

    def _depths(self, model: Any, image_id: int) -> Float[np.ndarray, " points"]:
        image = model.image(image_id)
        points = np.array([model.point3D(p.point3D_id).xyz for p in image.get_observation_points2D()]).reshape(-1, 3)
        pose = image.cam_from_world().matrix()
        return points @ pose[2, :3] + pose[2, 3]

    def _collect(self, model: Any, given_error: float, adjusted: bool) -> Triangulation | None:
        """Turn pycolmap's model into arrays."""
        scene = self._scene
        c2w = np.stack([scene.frames[view].camera.c2w for view in scene.train])
        place = {view: number for number, view in enumerate(scene.train)}
        poses, ratio = self._poses(model), np.ones((len(scene.train), 2))
        kept = {key: point for key, point in model.points3D.items() if point.track.length() >= MIN_TRACK}
        points = np.array([point.xyz for point in kept.values()]).reshape(-1, 3)
        sigmas = dict(zip(kept, self._sigmas(list(kept.values()), points, poses)))
        rows: list[tuple[float, ...]] = []
        for view, i, frame, pose, lens in zip(self._views, self._ids, self._frames, poses, self._lens_of):
            if adjusted:
                c2w[place[view]] = pose
                params = model.camera(self._camera_ids[lens]).params
                ratio[place[view]] = params[0] / frame.camera.fx, params[1] / frame.camera.fy
            camera = scene.frames[view].camera
            usable = load_mask(scene.frames[view])
            for seen, z in zip(model.image(i).get_observation_points2D(), self._depths(model, i)):
                x = seen.xy[0] * camera.width / frame.camera.width
                y = seen.xy[1] * camera.height / frame.camera.height
                inside = 0 <= x < camera.width and 0 <= y < camera.height and z > 0
                if seen.point3D_id in sigmas and inside and usable[int(y), int(x)]:
                    rows.append((place[view], x, y, z, sigmas[seen.point3D_id] / frame.camera.fx))
        if len(rows) < MIN_POINTS:
            return None
        table = np.array(rows)
        found = Observations(table[:, 0].astype(np.int64), table[:, 1:3], table[:, 3], table[:, 4], points)
        return Triangulation(found, c2w, ratio, np.array([given_error, model.compute_mean_reprojection_error()]))

    def _sigmas(
        self, points: list[Any], xyz: Float[np.ndarray, "points 3"], poses: Float[np.ndarray, "views 4 4"]
    ) -> Float[np.ndarray, " points"]:
        """Relative standard deviations of the points' depth, times the focal length in pixels."""
        place = {i: number for number, i in enumerate(self._ids)}
        tracks = [[place[element.image_id] for element in point.track.elements] for point in points]
        point = np.repeat(np.arange(len(tracks)), [len(track) for track in tracks])
        eyes = poses[np.array([view for track in tracks for view in track], np.int64), :3, 3]
        error = np.array([max(point.error, MIN_ERROR_PX) for point in points])
        return relative_sigma(xyz, eyes, point, error)


def _movement(before: Float[np.ndarray, "views 4 4"], after: Float[np.ndarray, "views 4 4"]) -> tuple[float, float]:
    """Median rotation (radians) and median distance between poses."""
    turns = Rotation.from_matrix(np.swapaxes(before[:, :3, :3], 1, 2) @ after[:, :3, :3]).magnitude()
    return float(np.median(turns)), float(np.median(np.linalg.norm(after[:, :3, 3] - before[:, :3, 3], axis=1)))


def _distinct(cameras: Sequence[Camera]) -> tuple[list[Camera], list[int]]:
    """Cameras with different lenses, and which of them each camera's lens is."""
    numbers: dict[tuple[Any, ...], int] = {}
    lenses, lens_of = [], []
    for camera in cameras:
        if camera.lens not in numbers:
            numbers[camera.lens] = len(lenses)
            lenses.append(camera)
        lens_of.append(numbers[camera.lens])
    return lenses, lens_of


def _world_to_camera(c2w: Float[np.ndarray, "4 4"]) -> Float[np.ndarray, "3 4"]:
    return np.linalg.inv(c2w)[:3]


def _colmap_lens(camera: Camera) -> tuple[str, list[float]]:
    """COLMAP's name and parameters of a lens."""
    intrinsics = [camera.fx, camera.fy, camera.cx, camera.cy]
    k = camera.coefficients
    if camera.model == "OPENCV_FISHEYE":
        return "OPENCV_FISHEYE", [*intrinsics, *k]
    if k[4]:
        # COLMAP has no r^8, which only a lens with k4 has.
        return "FULL_OPENCV", [*intrinsics, *k[:5], 0.0, 0.0, 0.0]
    return "OPENCV", [*intrinsics, *k[:4]]
