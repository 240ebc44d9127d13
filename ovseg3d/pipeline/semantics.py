"""The stage `semantics`: from a trained field and the photos' features to points that can be asked.

It looks at the field from everywhere, takes its surface, lifts the photos' features to it and carries them along it.
Only training photos speak; labels are never read.
"""

import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from ovseg3d.encoders.maps import Regions
from ovseg3d.encoders.scenes import SceneFeatures
from ovseg3d.engine import Event, Report, ignore
from ovseg3d.field.renderer import Renderer
from ovseg3d.field.surface import STAGE as SURFACE
from ovseg3d.field.surface import Sight, Surface, SurfaceConfig, between, extract_surface, look
from ovseg3d.pipeline.run import Run
from ovseg3d.scene import Scene
from ovseg3d.semantics.instances import Things, find_instances
from ovseg3d.semantics.lift import LiftConfig, lift, lift_reduced
from ovseg3d.semantics.scene import EncoderFacts, SemanticScene, save_semantics
from ovseg3d.semantics.smooth import smooth

NAME = "semantics"


def learn_meaning(
    run: Run,
    scene: Scene,
    renderer: Renderer,
    features: SceneFeatures,
    encoder: EncoderFacts,
    report: Report | None = None,
    stop: threading.Event | None = None,
) -> SemanticScene | None:
    """Lift features to the field's surface, and keep them in the run.

    Args:
        features: of all frames of the scene.
        encoder: the text-image encoder that they are from.
        report: receives events of the stages "surface" and "semantics".
        stop: set it to end after the current view.

    Returns:
        What was learnt, or None after `stop`.

    Raises:
        RunError: the field shows no surface. CacheError: features are gone. OutputError: the run cannot be written to.
    """
    report, stop = report or ignore, stop or threading.Event()
    began, settings = time.monotonic(), SurfaceConfig()
    cameras = [scene.frames[view].camera for view in scene.train]
    everywhere = cameras + (between(cameras) if settings.between else [])
    report(Event("start", SURFACE, 0, len(everywhere), message="looking at the field from everywhere"))
    views = list(look(renderer, everywhere, settings, report, stop))
    if stop.is_set():
        report(Event("interrupted", SURFACE, len(views), len(everywhere)))
        return None
    up = np.linalg.inv(scene.world_from_input[:3, :3])[:, 2]
    surface = extract_surface(renderer, views, up / np.linalg.norm(up), scene.metric, settings)
    seconds = {"surface_seconds": time.monotonic() - began}
    report(Event("done", SURFACE, len(views), len(views), 1.0, seconds["surface_seconds"]))
    began = time.monotonic()
    report(Event("start", NAME, 0, 1, message="lifting the photos' features to the surface"))
    xyz, cell = surface.xyz.astype(np.float64), surface.cell.astype(np.float64)
    sights = [view.see(xyz, cell, settings) for view in views[: len(cameras)]]
    photos = [features[view].clip.at for view in scene.train]
    basis, lifted = lift_reduced(sights, photos, xyz, LiftConfig(seed=run.config.train.seed))
    vectors = smooth(lifted.vectors, surface, lifted.support)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = (vectors / np.maximum(lengths, 1e-9)).astype(np.float32)
    report(Event("progress", NAME, 0, 1, 0.5, message="finding things"))
    things = _things(scene, surface, unit, features, sights)
    learnt = SemanticScene(surface, basis, unit, lifted.agreement, things.ids.astype(np.int32), encoder)
    path = save_semantics(run.folder, learnt)
    seconds["lift_seconds"] = time.monotonic() - began
    run.write_metrics(
        {
            **seconds,
            "surface_points": len(surface),
            "instances": things.count,
            "semantics_bytes": path.stat().st_size,
            "basis_left_out": basis.left_out,
            **_odd_photos(scene, lifted.trusted),
        }
    )
    report(Event("done", NAME, 1, 1, 1.0, seconds["lift_seconds"]))
    return learnt


def _things(
    scene: Scene, surface: Surface, vectors: np.ndarray, features: SceneFeatures, sights: Sequence[Sight]
) -> Things:
    """Things among the points: by what CLIP and DINO see in them, by their shape, and by the photos' regions."""
    looks, maps = [vectors], [features[view] for view in scene.train]
    dinos = [one.dino.at for one in maps if one.dino is not None]
    if len(dinos) == len(sights):
        looks.append(lift(sights, dinos, len(surface)).vectors)
    regions = [one.clip.index for one in maps if isinstance(one.clip, Regions)]
    if len(regions) < len(sights):
        return find_instances(surface, looks)
    return find_instances(surface, looks, sights=sights, regions=regions)


def _odd_photos(scene: Scene, trusted: np.ndarray) -> dict[str, Any]:
    """Photos whose features contradict those of the others, by name: blurred ones, or an encoder's mistakes."""
    return {"photos_not_trusted": [scene.frames[view].name for view, good in zip(scene.train, trusted) if not good]}
