"""The stage `semantics`: from a trained field and the photos' features to points that can be asked.

It looks at the field from everywhere, takes its surface, lifts the photos' features to it, carries them along it, and
lets the method (`methods`) make of them what it will. Only training photos speak, where no mask hides what they show;
labels are never read.
"""

import shutil
import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from ovseg3d.encoders.base import TextImageEncoder
from ovseg3d.engine import Event, Report, ignore
from ovseg3d.errors import EncoderError
from ovseg3d.features.maps import Regions, normalise
from ovseg3d.features.scenes import SceneFeatures, read_photo
from ovseg3d.field.renderer import Renderer
from ovseg3d.field.surface import STAGE as SURFACE
from ovseg3d.field.surface import Sight, Surface, SurfaceConfig, between, extract_surface, look
from ovseg3d.instances.crops import PortraitConfig, add_portraits, choose_poses, portray
from ovseg3d.instances.grouping import Things, find_instances
from ovseg3d.instances.panels import KNOWN, UNKNOWN, PanelConfig, Panels, find_panels
from ovseg3d.points.basis import Basis
from ovseg3d.points.lift import LiftConfig, Lifted, lift, lift_reduced
from ovseg3d.points.methods import FOLDER, Learner, Words
from ovseg3d.points.semantic_scene import EncoderFacts, SemanticScene, save_semantics
from ovseg3d.points.smooth import smooth
from ovseg3d.query.household import HOUSEHOLD
from ovseg3d.query.room import plane_of
from ovseg3d.runs.config import Config
from ovseg3d.runs.devices import resolve_backend
from ovseg3d.runs.fields import refined
from ovseg3d.runs.figures import EVALUATED
from ovseg3d.runs.folder import RunFolder
from ovseg3d.scene import Scene, usable_at

NAME, PORTRAITS = "semantics", "portraits"
PLANES = ("floor", "wall", "ceiling")
CPU_PIXELS = 30e6
"""What an encoder may see of all portraits together on a CPU: 600 crops of 224 x 224, some three minutes of a ViT-B/16;
more than the built-in one needs for a hundred things."""


def learn_meaning(
    run: RunFolder,
    scene: Scene,
    renderer: Renderer,
    features: SceneFeatures,
    encoder: EncoderFacts,
    words: Words | None = None,
    clip: TextImageEncoder | None = None,
    report: Report | None = None,
    stop: threading.Event | None = None,
) -> SemanticScene | None:
    """Learn what the field's surface means, and keep it in the run.

    Args:
        scene: the run's capture; its training photos are taken to be where --refine-poses moved them.
        features: of all frames of the scene.
        encoder: the text-image encoder that they are from.
        words: what the methods 3d-ovs and lerf have to know.
        clip: that encoder, for the portraits of the default method; without it there are none.
        report: receives events of the stages "surface", "semantics", "portraits", "rays" and those of learning:
            "fit", "refine", "lerf".
        stop: set it to end after the current view, step, or batch of portraits, or after lifting or finding things.

    Returns:
        What was learnt, or None after `stop`.

    Raises:
        RunError: the field shows no surface. CacheError: features are gone. OutputError: the run cannot be written to.
    """
    report, stop, scene = report or ignore, stop or threading.Event(), refined(run, scene)
    began = time.monotonic()
    seen = survey(scene, renderer, report, stop)
    if seen is None:
        return None
    surface, sights = seen
    seconds = {"surface_seconds": time.monotonic() - began}
    began = time.monotonic()
    report(Event("start", NAME, 0, 1, message="lifting the photos' features to the surface"))
    basis, lifted, unit = lift_photos(scene, surface, sights, features, run.config.train.seed)
    seconds["lift_seconds"] = time.monotonic() - began
    began = time.monotonic()
    config, device = run.config, renderer.field.table.device.type
    learner = Learner(
        run.folder, config.meaning, scene, renderer, resolve_backend(config.train.backend, device), features, surface,
        basis, lifted, unit, words, encoder.logit_scale, config.train.seed, report, stop,
    )  # fmt: skip
    found = None if stop.is_set() else learner.learn()
    if found is None or stop.is_set():
        report(Event("interrupted", NAME, 0, 1))
        return None
    seconds["refine_seconds"] = time.monotonic() - began
    began = time.monotonic()
    report(Event("progress", NAME, 0, 1, 0.5, message="finding things"))
    looks, regions = clues(scene, surface, found.vectors, features, sights)
    things = find_instances(surface, looks, sights=sights, regions=regions)
    seconds["things_seconds"] = time.monotonic() - began
    vectors, portraits = found.vectors, None
    if config.meaning.method == "default" and config.meaning.portraits != 0 and clip is not None and not stop.is_set():
        began = time.monotonic()
        things, basis, vectors, portraits = _as_wholes(
            scene, features, sights, surface, things, basis, vectors, clip, run.phrases, config, device, report, stop
        )
        seconds["portraits_seconds"] = time.monotonic() - began
    if stop.is_set():
        report(Event("interrupted", NAME, 0, 1))
        return None
    pieces, planes = things.ids.astype(np.int32), things.room.astype(np.int8)
    learnt = SemanticScene(
        surface, basis, vectors, lifted.agreement, things.instance.astype(np.int32), encoder, found.sized, planes,
        pieces, portraits,
    )  # fmt: skip
    path = save_semantics(run.folder, learnt)
    shutil.rmtree(run.folder / FOLDER, ignore_errors=True)  # not before: who is stopped here goes on from there
    # What another method left behind, or was measured of it, would be read as this one's.
    parts = ("fit_", "refine_", "lerf_", "portraits_")
    stale = {name: None for name in run.metrics() if name.startswith(parts) or name in EVALUATED}
    run.write_metrics(
        {
            **stale,
            **seconds,
            **found.figures,
            "method": config.meaning.method,
            "surface_points": len(surface),
            "instances": things.count,
            "scraps": things.scraps,
            "semantics_bytes": path.stat().st_size,
            "basis_left_out": basis.left_out,
            **_odd_photos(scene, lifted.trusted),
        }
    )
    report(Event("done", NAME, 1, 1, 1.0, sum(seconds.values())))
    return learnt


def survey(
    scene: Scene, renderer: Renderer, report: Report = ignore, stop: threading.Event | None = None
) -> tuple[Surface, list[Sight]] | None:
    """A field's surface, and what each training photo shows of it; None after `stop`.

    What a photo's mask hides, such as somebody who walked by, it does not show: the field was not taught by it either.

    Raises:
        RunError: the field shows no surface. SceneError: a mask cannot be read.
    """
    began, settings = time.monotonic(), SurfaceConfig()
    frames = [scene.frames[view] for view in scene.train]
    cameras = [frame.camera for frame in frames]
    everywhere = cameras + (between(cameras) if settings.between else [])
    report(Event("start", SURFACE, 0, len(everywhere), message="looking at the field from everywhere"))
    views = list(look(renderer, everywhere, settings, report, stop))
    if stop is not None and stop.is_set():
        report(Event("interrupted", SURFACE, len(views), len(everywhere)))
        return None
    up = np.linalg.inv(scene.world_from_input[:3, :3])[:, 2]
    surface = extract_surface(renderer, views, up / np.linalg.norm(up), scene.metric, settings)
    xyz, cell = surface.xyz.astype(np.float64), surface.cell.astype(np.float64)
    sights = [view.see(xyz, cell, settings) for view in views[: len(cameras)]]
    sights = [sight.where(usable_at(frame, sight.xy)) for frame, sight in zip(frames, sights)]
    report(Event("done", SURFACE, len(views), len(views), 1.0, time.monotonic() - began))
    return surface, sights


def lift_photos(
    scene: Scene, surface: Surface, sights: Sequence[Sight], features: SceneFeatures, seed: int
) -> tuple[Basis, Lifted, Float[np.ndarray, "points kept"]]:
    """The basis of the photos' features, what was lifted to the points, and that smoothed, of unit length or zero."""
    photos = [features[view].clip.at for view in scene.train]
    basis, lifted = lift_reduced(sights, photos, surface.xyz.astype(np.float64), LiftConfig(seed=seed))
    vectors = smooth(lifted.vectors, surface, lifted.support)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return basis, lifted, (vectors / np.maximum(lengths, 1e-9)).astype(np.float32)


def clues(
    scene: Scene,
    surface: Surface,
    vectors: Float[np.ndarray, "points kept"],
    features: SceneFeatures,
    sights: Sequence[Sight],
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """What things are found by, besides their shape: what CLIP and DINO see in the points, and the photos' regions."""
    looks, maps = [vectors], [features[view] for view in scene.train]
    dinos = [one.dino.at for one in maps if one.dino is not None]
    if len(dinos) == len(sights):
        looks.append(lift(sights, dinos, len(surface)).vectors)
    regions = [one.clip.index for one in maps if isinstance(one.clip, Regions)]
    return looks, regions if len(regions) == len(sights) else []


class _Stopped(Exception):
    """Leaves the portraits."""


def _as_wholes(
    scene: Scene,
    features: SceneFeatures,
    sights: Sequence[Sight],
    surface: Surface,
    things: Things,
    basis: Basis,
    vectors: np.ndarray,
    clip: TextImageEncoder,
    phrases: Sequence[str],
    config: Config,
    device: str,
    report: Report,
    stop: threading.Event,
) -> tuple[Things, Basis, np.ndarray, np.ndarray | None]:
    """Things, basis and vectors once things, and what may be some, were seen as wholes, and their portraits; the same
    as before, and none, where the encoder's weights are gone, or stopped."""
    asked = config.meaning.portraits
    settings = PortraitConfig() if asked is None else PortraitConfig(views=asked)
    report(Event("start", PORTRAITS, 0, 1, message="seeing things as wholes"))

    def tick(done: int, total: int) -> None:
        report(Event("progress", PORTRAITS, done, total, done / total))
        if stop.is_set():
            raise _Stopped

    try:
        panels, words = _panels(surface, things, basis, vectors, clip, phrases, report)
        ids = panels.join(things).ids
        if asked is None and device == "cpu":
            settings = settings.affordable(int(ids.max(initial=0)), clip.preprocess.size, CPU_PIXELS)
            if settings.views < PortraitConfig.views:
                few = f"Each thing is seen in {settings.views} of its photos, {PortraitConfig.views} would take long"
                report(Event("log", PORTRAITS, message=f"{few} on a CPU (--portraits {PortraitConfig.views})"))
        poses = choose_poses(ids, sights, settings)
        photo = lambda view: read_photo(scene.frames[scene.train[view]], features.settings)  # noqa: E731
        found = portray(poses, ids, sights, photo, clip, settings, tick)
    except EncoderError as error:  # the photos' features were in the cache
        report(Event("log", PORTRAITS, message=f"No thing is seen as a whole: {error.what}"))
        return things, basis, vectors, None
    except _Stopped:
        report(Event("interrupted", PORTRAITS, 0, 1))
        return things, basis, vectors, None
    crops = len(poses) * (len(settings.alone) + len(settings.within))
    report(Event("done", PORTRAITS, crops, crops, 1.0))
    known, maybe, scraps = np.split(found, np.cumsum([things.count, len(panels.points)]))
    good = panels.confirmed(maybe, words)
    things = panels.only(good).join(things)
    faces = np.concatenate([known, maybe[good], scraps])
    basis, vectors = add_portraits(
        basis, vectors, things.ids, faces, things.room, settings, seed=config.train.seed
    )  # fmt: skip
    return things, basis, vectors, normalise(basis.reduce(faces))


def _panels(
    surface: Surface,
    things: Things,
    basis: Basis,
    vectors: np.ndarray,
    clip: TextImageEncoder,
    phrases: Sequence[str],
    report: Report,
) -> tuple[Panels, np.ndarray]:
    """What may be things in the room's planes, and vectors of the words for them: the run's phrases, or else what rooms
    hold. Nothing where the encoder knows no words."""
    nothing = Panels(), np.zeros((0, clip.dim), np.float32)
    if not things.room.any():
        return nothing
    names = list(dict.fromkeys([*(phrases or HOUSEHOLD), *PLANES]))
    kinds = np.array([plane_of(name) for name in names])
    if kinds.all():
        return nothing
    try:
        words = clip.encode_text(names).detach().float().cpu().numpy()
    except EncoderError as error:
        report(Event("log", PORTRAITS, message=f"Nothing is looked for in walls: {error.what}"))
        return nothing
    settings = PanelConfig(sure=KNOWN if phrases else UNKNOWN)
    return find_panels(surface, things, vectors, basis.reduce(words), kinds, clip.logit_scale, settings), words


def _odd_photos(scene: Scene, trusted: np.ndarray) -> dict[str, Any]:
    """Photos whose features contradict those of the others, by name: blurred ones, or an encoder's mistakes."""
    return {"photos_not_trusted": [scene.frames[view].name for view, good in zip(scene.train, trusted) if not good]}
