"""Boxes around the instances of a trained run, without the detection head's say; see `scripts.training.field_labels`.

A box is fitted as those of single photos are (`ovseg3d.heads.lifting.fit_box`), with the ends of a run instead of those
of a mask: a point's object may go on in a direction if a step from the point leads to where no photo has seen anything,
neither surface nor free space.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial import cKDTree  # pyright: ignore[reportAttributeAccessIssue] - not in SciPy's list of names
from scipy.spatial.transform import Rotation

from ovseg3d.errors import RunError
from ovseg3d.evaluate.measure import read_objects
from ovseg3d.features.encode import encode_scene, load_encoders
from ovseg3d.field.surface import DepthView, Surface, SurfaceConfig, look
from ovseg3d.heads.detection.align import manhattan_yaw
from ovseg3d.heads.lifting import fit_box
from ovseg3d.instances.grouping import InstanceConfig, Instances, find_instances
from ovseg3d.instances.layout import NONE, StructureConfig
from ovseg3d.instances.superpoints import Superpoints
from ovseg3d.pipeline.semantics import appearances, lift_photos, room_scale, segmented, survey
from ovseg3d.runs.fields import refined, restore
from ovseg3d.runs.folder import RunFolder
from ovseg3d.scene import Scene
from scripts.training.detection_rooms import IGNORED, DetectionRoom
from scripts.training.lifted_rooms import fitted_room

MIN_QUALITY = 0.2
"""Instances whose box is no better than this are not labelled: chosen on run 3101, where two of three boxes above it
have an IoU of at least 0.25."""
STEP = 0.1
"""Length of the step that says whether an object may go on, metres: a few voxels of a surface."""
NEAR = 0.06
"""A step ends at a surface if that is this near, metres; the point that it starts from is farther."""
MARGIN = 0.03
"""Space is free if a view sees through it, at least so far behind it, metres; 0.6 % of the depth if that is more."""
INWARD = -0.5
"""Steps into the surface say nothing: those whose cosine with the normal is below this."""
STRAY = 0.02
"""Share of an instance's points that may lie outside its box on each side: a run's surface is rough."""
DIRECTIONS = np.concatenate([np.eye(3), -np.eye(3)])


@dataclass(frozen=True)
class BoxRecipe:
    """How instances become labels."""

    usual_sizes: bool = True
    """Complete boxes to usual sizes."""
    ends: bool = True
    """Sides may be open."""
    quality: bool = True
    """Labels count by their quality."""


@dataclass(frozen=True)
class GroupedRun:
    """A run's surface and its instances; metres, z up, along the walls if there are any."""

    xyz: Float[np.ndarray, "points 3"]
    normal: Float[np.ndarray, "points 3"]
    surface: Surface
    """The same, in the input frame."""
    level: Rotation
    """From the input frame to this one..."""
    metres_per_unit: float
    """...before the unit becomes a metre."""
    ends: Float[np.ndarray, "points 3"]
    """Sum of the directions in which the object of a point may go on."""
    eye: Float[np.ndarray, "3"]
    """The middle of the cameras."""
    walls: bool
    """Whether the room has main directions, along which it lies then."""
    instances: Instances
    names: tuple[str, ...]
    """Of the instances, in the order of their numbers."""


@dataclass(frozen=True)
class TrueObjects:
    """What a synthetic room really has."""

    boxes: Float[np.ndarray, "objects 7"]
    """Centre, full size, yaw; as those of a `DetectionRoom`."""
    kinds: tuple[str, ...]


def group_run(run: RunFolder) -> GroupedRun:
    """Group the points of a run's surface, and name the groups.

    Raises:
        RunError: the run has no surface, no phrases, or no scale. EncoderError, CacheError, SceneError: see
            `encode_scene`.
    """
    scene = run.load_scene()
    if not scene.phrases:
        raise RunError("The run has no phrases that could name its instances", where=run.folder, fix="--phrases")
    encoders = load_encoders(scene, run.config.encode, "cpu")
    features = encode_scene(scene, encoders=encoders)
    renderer = restore(run, scene)
    scene = refined(run, scene)
    surveyed = survey(scene, renderer)
    assert features is not None and surveyed is not None, "nobody stops it"
    surface, visibilities = surveyed
    basis, _, vectors = lift_photos(scene, surface, visibilities, features, run.config.train.seed)
    metres = scene.metres_per_unit

    def note_scale(made: Superpoints) -> None:
        nonlocal metres
        metres = metres or room_scale(scene, surface.up, made.floor)

    instances = find_instances(
        surface,
        appearances(scene, surface, vectors, features, visibilities),
        visibilities=visibilities,
        masks=segmented(scene, features),
        propose=note_scale,
        config=InstanceConfig(structure=StructureConfig(layout=run.config.semantics.layout)),
    )
    if metres is None:
        raise RunError("The scale of the run is not known", where=run.folder, fix="train it with --scale METRES")
    turn = Rotation.align_vectors([[0, 0, 1]], [surface.up])[0]
    walls = manhattan_yaw(turn.apply(surface.normal))
    turn = Rotation.from_euler("z", -walls) * turn
    cameras = [scene.frames[view].camera for view in scene.train]
    views = list(look(renderer, cameras, SurfaceConfig()))
    text = encoders.clip.encode_text(list(scene.phrases)).detach().float().cpu().numpy()
    return GroupedRun(
        turn.apply(surface.xyz) * metres,
        turn.apply(surface.normal),
        surface,
        turn,
        metres,
        turn.apply(open_ends(surface, instances.instance, views, turn.inv().apply(DIRECTIONS), metres)),
        turn.apply(np.mean([camera.position for camera in cameras], 0)) * metres,
        walls != 0,
        instances,
        tuple(scene.phrases[k] for k in _likest(vectors, instances, basis.reduce(text))),
    )


def open_ends(
    surface: Surface,
    instance: Int[np.ndarray, " points"],
    views: Sequence[DepthView],
    directions: Float[np.ndarray, "directions 3"],
    metres_per_unit: float,
) -> Float[np.ndarray, "points 3"]:
    """Sum of the directions in which the object of a point may go on: a step leads to where nothing was seen. 0 where
    it does not, and for points of no instance.

    Args:
        surface: of a run.
        instance: of each point, 0 for none.
        views: of the run's cameras.
        directions: unit vectors, input frame.
        metres_per_unit: length of the input frame's unit.
    """
    found = np.zeros((len(surface), 3))
    own, tree = np.flatnonzero(instance), cKDTree(surface.xyz)
    # What counts as seen through for a surface point has a wider margin than a step is long.
    config, margin = SurfaceConfig(relative=MARGIN / 10), MARGIN / metres_per_unit
    for direction in directions:
        rows = own[surface.normal[own] @ direction > INWARD]
        xyz, cell = surface.xyz[rows] + STEP / metres_per_unit * direction, np.full(len(rows), margin / 3)
        known = tree.query(xyz)[0] < NEAR / metres_per_unit
        for view in views:
            known[view.see(xyz, cell, config).through] = True
        found[rows[~known]] += direction
    return found


def fit_boxes(grouped: GroupedRun, recipe: BoxRecipe = BoxRecipe()) -> DetectionRoom:
    """The surface of a run, with a box for each instance that has a good one."""
    instances, ends = grouped.instances, grouped.ends if recipe.ends else np.zeros_like(grouped.ends)
    member = np.where(instances.layout != NONE, 0, IGNORED)
    expected = np.ones(instances.count) if instances.quality is None else instances.quality
    fitted, kinds = [], []
    for number, name in enumerate(grouped.names, start=1):
        on = np.flatnonzero(instances.instance == number)
        member[on] = IGNORED
        wall = 0.0 if grouped.walls else None
        spacing = float(np.median(grouped.surface.cell[on])) * grouped.metres_per_unit
        box = fit_box(
            grouped.xyz[on], ends[on], grouped.eye, name, wall, usual=recipe.usual_sizes, spacing=spacing, stray=STRAY
        )  # fmt: skip
        if box is not None and box.quality * expected[number - 1] >= MIN_QUALITY:
            fitted.append(replace(box, quality=float(box.quality * expected[number - 1])))
            kinds.append(name)
            member[on[box.points]] = len(fitted)
    return fitted_room(grouped.xyz, grouped.normal, grouped.surface.rgb, member, fitted, kinds, recipe.quality)


def true_boxes(grouped: GroupedRun, scene: Scene) -> TrueObjects:
    """The exact boxes of a synthetic room in the frame of its labels; none of another capture."""
    objects = read_objects(scene) if (scene.path / "objects.json").exists() else []
    true = np.array([[*one["center"], *one["size"], one["yaw_rad"]] for one in objects], np.float64).reshape(-1, 7)
    true[:, :3], along = grouped.level.apply(true[:, :3]), grouped.level.apply([1.0, 0.0, 0.0])
    true[:, :6] *= grouped.metres_per_unit
    true[:, 6] += np.arctan2(along[1], along[0])
    return TrueObjects(true, tuple(str(one["category"]) for one in objects))


def _likest(
    vectors: Float[np.ndarray, "points kept"], instances: Instances, text: Float[np.ndarray, "phrases kept"]
) -> Int[np.ndarray, " instances"]:
    """The phrase that each instance is more like than the points are on average: some phrases are like everything."""
    sums = np.zeros((instances.count + 1, vectors.shape[1]))
    np.add.at(sums, instances.instance, vectors)
    means = sums[1:] / np.maximum(np.linalg.norm(sums[1:], axis=1, keepdims=True), 1e-9)
    return ((means - vectors.mean(0)) @ text.T).argmax(1)
