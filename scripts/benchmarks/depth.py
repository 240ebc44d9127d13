"""Measure a model of monocular depth: alone, as a prior of completed depth, and for boxes of one photo.

    python -m scripts.benchmarks.depth $OVSEG3D_DATA/hololens_office $OVSEG3D_DATA/tum_cabinet
    python -m scripts.benchmarks.depth $OVSEG3D_DATA/hololens_office --rows completion
    python -m scripts.benchmarks.depth ROOM1 ROOM2 ROOM3 --rows depth,boxes         # labelled synthetic rooms

Captures need depth files, which the model does not see. Photos are spread evenly over a capture. Prints markdown
tables:

- `depth`: relative error of the depth (mean over pixels, then over photos) as predicted, with the scale fitted, and
  with scale and offset of the disparity fitted, with the share of pixels within a factor 1.25 beside; and the median
  angle between the normals of the depth and those of the measured depth. The row `plane` fits the disparity of a plane
  to the measured depth of each photo, which a model must beat to say anything.
- `completion`: error of the depth that is completed between sparse points of training photos: in each photo by itself,
  without and with the model as a prior, and where photos agree, without. The weighted share is by the weights of a
  training.
- `boxes`: detections in single photos, by true depth and by the model's, class-agnostic; up is given. True are objects
  of which a photo shows most; others that it shows need not be found.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from jaxtyping import Float
from scipy.optimize import least_squares

from ovseg3d.encoders.depth import DepthEstimator, load_depth_estimator
from ovseg3d.engine.workers import available_cores
from ovseg3d.errors import ConfigError
from ovseg3d.evaluate.metrics.detection import FoundBoxes, TrueBoxes, measure_detection
from ovseg3d.field.depth_rays import COMPLETION_SIGMA
from ovseg3d.files import write_atomic
from ovseg3d.heads.detection import Detector, detect_scene
from ovseg3d.heads.lifting import depth_normals, lift_view
from ovseg3d.scene import Frame, Scene, load_scene
from ovseg3d.scene.completion import cell_side, complete
from ovseg3d.scene.images import load_depth, load_photo
from ovseg3d.scene.sparse import MIN_VIEW_POINTS, VERSION, SparseDepth, reconstruct
from scripts.start import start

ROWS = ("depth", "completion", "boxes")
MAX_SIDE = 320
"""Of photos, pixels: as a training on a CPU takes them."""
MAX_DEPTH = 10.0
"""Metres; a fitted disparity may be negative."""
NEAR_MISS = np.log(1.25)
MIN_SHARE = 0.005
"""Of a photo's pixels that an object covers, to count as seen in it."""
MIN_SCORE = 0.3
"""Of detections that count for recall and precision, as `detect` shows them."""
MIN_SEEN = 0.5
"""Share of an object's box, along each axis but the view's, that is inside of the photo."""


@dataclass(frozen=True)
class Depth:
    """Measure a model of monocular depth, and print markdown tables."""

    scenes: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Captures with depth."""
    model: str = "builtin"
    """builtin, or a model of transformers by id or folder."""
    rows: str = "depth,completion"
    """Tables, separated by commas: depth, completion, boxes."""
    photos: int = 10
    """Photos of each capture."""
    work: Path = Path("outputs/depth/points")
    """Where sparse points are kept, which take a minute or two to find."""

    def main(self) -> int:
        """Returns 0."""
        rows = [name.strip() for name in self.rows.split(",")]
        for name in rows:
            if name not in ROWS:
                raise ConfigError(f"There is no table {name!r}", fix=f"the tables are {', '.join(ROWS)}")
        model = load_depth_estimator(self.model)
        for name in rows:
            getattr(self, f"_{name}")(model)
        return 0

    def _some(self, scene: Scene, views: Iterable[int]) -> list[int]:
        """Some of the views, those with depth, evenly spread."""
        usable = [view for view in views if scene.frames[view].depth_path is not None]
        if not usable:
            raise ConfigError("The capture has no depth to compare with", where=scene.path, fix="leave it out")
        return [usable[int(k)] for k in np.unique(np.linspace(0, len(usable) - 1, self.photos).astype(int))]

    def _depth(self, model: DepthEstimator) -> None:
        print(
            "| capture | depth | error | within 1.25 | scale fitted | disparity fitted | within 1.25 | normals |\n"
            + "|" + " --- |" * 8
        )  # fmt: skip
        for path in self.scenes:
            scene = load_scene(path, max_side=MAX_SIDE)
            found: dict[str, list[list[float]]] = {self.model: [], "plane": []}
            for view in self._some(scene, range(len(scene.frames))):
                frame = scene.frames[view]
                true = load_depth(frame, scene) * (scene.metres_per_unit or 1.0)
                depth_z, _ = model.metric_depth(load_photo(frame)[..., :3], lens(frame))
                found[self.model].append(compared(depth_z, true, frame))
                found["plane"].append(compared(plane(true), true, frame))
            for name, values in found.items():
                error, near, scaled, fitted, fitted_near, angle = np.mean(values, axis=0)
                metric = "- | - | -" if name == "plane" else f"{error:.1%} | {near:.0%} | {scaled:.1%}"
                print(
                    f"| {path.name} | {name} | {metric} | {fitted:.1%} | {fitted_near:.0%} | {angle:.0f} degrees |",
                    flush=True,
                )
        print()

    def _completion(self, model: DepthEstimator) -> None:
        print(
            "| capture | prior | error, median | within 5 % | weighted within 5 % | weight | weight on cells over 10 %"
            " off |\n" + "|" + " --- |" * 7
        )  # fmt: skip
        for path in self.scenes:
            scene = load_scene(path, max_side=MAX_SIDE)
            sparse = self._points(scene)
            scene = sparse.applied(scene)
            alone: dict[str, list[np.ndarray]] = {"off": [], self.model: []}
            agreed: list[np.ndarray] = []
            for view in self._some(scene, scene.train):
                number = scene.train.index(view)
                frame, seen = scene.frames[view], sparse.view == number
                if seen.sum() < MIN_VIEW_POINTS:
                    continue
                photo, true = load_photo(frame), load_depth(frame, scene)
                points = (sparse.xy[seen], sparse.depth_z[seen], sparse.sigma[seen])
                for name, values in alone.items():
                    prior = None if name == "off" else model.disparity(photo[..., :3], lens(frame))
                    values.append(against(*complete(photo, *points, prior=prior), true, frame))
                side = cell_side(frame.camera.width, frame.camera.height)
                own = np.s_[number, : frame.camera.height // side, : frame.camera.width // side]
                agreed.append(against(sparse.disparity[own], sparse.disparity_sigma[own], true, frame))
            for name, values in {**alone, "off, agreed": agreed}.items():
                error, weight = np.concatenate(values, 1)
                near = error < 0.05
                print(
                    f"| {path.name} | {name} | {np.median(error):.2%} | {near.mean():.1%} |"
                    f" {(weight * near).sum() / weight.sum():.1%} | {weight.mean():.3f} |"
                    f" {(weight * (error > 0.1)).mean():.3f} |",
                    flush=True,
                )
        print()

    def _points(self, scene: Scene) -> SparseDepth:
        """The sparse points of a capture, kept in `work`."""
        path = self.work / f"{scene.path.name}-{VERSION}.npz"
        if not path.exists():
            made = reconstruct(scene, adjust=True, threads=available_cores())
            if made is None:
                raise ConfigError("The photos have too few matches for sparse points", where=scene.path)

            def write(to: Path) -> None:
                with open(to, "wb") as file:
                    np.savez(file, **made.arrays())  # type: ignore[arg-type]

            write_atomic(path, write)
        with np.load(path, allow_pickle=False) as kept:
            return SparseDepth.from_arrays(kept, len(scene.train))

    def _boxes(self, model: DepthEstimator) -> None:
        detector = Detector(min_score=0.02)
        found: dict[str, dict[str, FoundBoxes]] = {"true": {}, self.model: {}}
        true: dict[str, TrueBoxes] = {}
        for path in self.scenes:
            scene = load_scene(path, max_side=2 * MAX_SIDE)
            objects = json.loads((path / "objects.json").read_text())
            for view in self._some(scene, range(len(scene.frames))):
                frame = scene.frames[view]
                photo, depth_z = load_photo(frame)[..., :3], load_depth(frame, scene)
                boxes = shown(objects, frame, depth_z)
                if not any(whole for _, whole in boxes):
                    continue
                key = f"{path.name} {frame.name}"
                true[key] = TrueBoxes(
                    np.array([box for box, whole in boxes if whole]),
                    ["object"] * sum(whole for _, whole in boxes),
                    np.array([box for box, whole in boxes if not whole]).reshape(-1, 7),
                )
                for name, values in found.items():
                    depth = depth_z if name == "true" else model.metric_depth(photo, lens(frame))[0]
                    lifted = lift_view(depth.astype(np.float64), frame.camera, (0.0, 0.0, 1.0), photo)
                    made = detect_scene(lifted.cloud, detector, up=lifted.up, metres_per_unit=1.0, names=None)
                    rows = np.array([[*d.center, *d.size, d.yaw_rad or 0.0] for d in made.detections]).reshape(-1, 7)
                    scores = np.array([d.score for d in made.detections])
                    values[key] = FoundBoxes(rows, scores, ["object"] * len(rows))
        print(f"{len(true)} photos, {sum(len(one.boxes) for one in true.values())} objects\n")
        print("| depth | AP25 | recall | precision | AP50 |\n|" + " --- |" * 5)
        for name, values in found.items():
            scores = measure_detection(values, true, min_score=MIN_SCORE)
            figures = (scores.agnostic_recall_25, scores.agnostic_precision_25, scores.agnostic_ap_50)
            print(f"| {name} | {scores.agnostic_ap_25:.1%} | {' | '.join(f'{v:.1%}' for v in figures)} |", flush=True)


def lens(frame: Frame) -> tuple[float, float, float, float]:
    """fx, fy, cx, cy of a frame."""
    return frame.camera.fx, frame.camera.fy, frame.camera.cx, frame.camera.cy


def plane(true: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """The depth of the plane whose disparity is nearest to the measured one."""
    rows, columns = np.indices(true.shape) / max(true.shape)
    known = true > 0
    basis = np.stack([rows, columns, np.ones_like(rows)], -1)
    fit = np.linalg.lstsq(basis[known], 1 / true[known], rcond=None)[0]
    return 1 / np.maximum(basis @ fit, 1 / MAX_DEPTH)


def compared(depth_z: Float[np.ndarray, "h w"], true: Float[np.ndarray, "h w"], frame: Frame) -> list[float]:
    """Error and share within 1.25; error with the scale fitted; both with disparity fitted; the normals' median angle.

    Args:
        depth_z: the prediction, metres.
        true: measured depth, metres, 0 where unknown.
        frame: of the photo.
    """
    known = true > 0
    ratio = depth_z[known] / true[known]
    scaled = ratio / np.median(ratio)
    disparity, target = 1 / depth_z[known], 1 / true[known]
    fit = least_squares(lambda line: line[0] * disparity + line[1] - target, (1.0, 0.0), loss="soft_l1", f_scale=0.1).x
    fitted = target / np.maximum(fit[0] * disparity + fit[1], 1 / MAX_DEPTH)
    camera = frame.camera
    _, rays = camera.rays(camera.pixel_centres())
    local = rays @ camera.c2w[:3, :3]
    xy = (local[:, :2] / local[:, 2:]).reshape(*true.shape, 2)
    normals = [depth_normals(depth, known, xy) for depth in (depth_z, true)]
    cosine = (normals[0] * normals[1]).sum(-1)
    angle = np.degrees(np.arccos(np.clip(cosine[np.isfinite(cosine)], -1, 1)))
    return [
        float(np.abs(ratio - 1).mean()), _near(ratio), float(np.abs(scaled - 1).mean()),
        float(np.abs(fitted - 1).mean()), _near(fitted), float(np.median(angle)),
    ]  # fmt: skip


def _near(ratio: np.ndarray) -> float:
    return float((np.abs(np.log(ratio)) < NEAR_MISS).mean())


def against(disparity: np.ndarray, sigma: np.ndarray, true: np.ndarray, frame: Frame) -> Float[np.ndarray, "2 cells"]:
    """Relative errors of the completed depth in cells with measured depth in their middle, and their weights.

    Args:
        disparity, sigma: as `complete` gives them.
        true: measured depth, 0 where unknown.
        frame: of the photo.
    """
    cell = cell_side(frame.camera.width, frame.camera.height)
    rows, columns = disparity.shape
    middle = true[cell // 2 :: cell, cell // 2 :: cell][:rows, :columns]
    known = middle > 0
    error = np.abs(1 / (disparity[known] * middle[known]) - 1)
    return np.stack([error, 1 / (1 + (sigma[known] / COMPLETION_SIGMA) ** 2)])


def shown(objects: list[dict[str, Any]], frame: Frame, depth_z: np.ndarray) -> list[tuple[list[float], bool]]:
    """Boxes (centre, size, yaw) of the objects that a photo shows, and whether it shows most of them.

    Args:
        objects: of objects.json.
        frame: of the photo.
        depth_z: its exact depth.
    """
    camera = frame.camera
    origins, rays = camera.rays(camera.pixel_centres())
    forward = rays @ camera.c2w[:3, 2]
    points = origins + rays * (depth_z.ravel() / forward)[:, None]
    points = points[depth_z.ravel() > 0]
    found = []
    for thing in objects:
        c, s = np.cos(thing["yaw_rad"]), np.sin(thing["yaw_rad"])
        turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
        half = np.array(thing["size"]) / 2 + 0.02
        inside = (np.abs((points - thing["center"]) @ turn) < half).all(1).sum()
        if inside < MIN_SHARE * len(points) / 4:
            continue
        corners = np.array(thing["center"]) + (np.indices((2, 2, 2)).reshape(3, -1).T * 2 - 1) * half @ turn.T
        local = (corners - camera.c2w[:3, 3]) @ camera.c2w[:3, :3]
        pixel = local[:, :2] / np.maximum(local[:, 2:], 0.1) * [camera.fx, camera.fy] + [camera.cx, camera.cy]
        low, high, size = pixel.min(0), pixel.max(0), np.array([camera.width, camera.height])
        part = (np.clip(high, 0, size) - np.clip(low, 0, size)) / (high - low)
        whole = inside >= MIN_SHARE * len(points) and (part > MIN_SEEN).all() and local[:, 2].min() > 0.1
        found.append(([*thing["center"], *thing["size"], thing["yaw_rad"]], bool(whole)))
    return found


if __name__ == "__main__":
    start(Depth)
