"""The sparse points of a run: from its folder, from the cache, or made from the photos."""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from ovseg3d.encoders.depth import load_depth_estimator
from ovseg3d.engine import Event
from ovseg3d.engine.workers import available_cores
from ovseg3d.errors import CacheError
from ovseg3d.features.cache import FeatureCache, content_key, installed_version
from ovseg3d.features.scenes import photo_digest
from ovseg3d.limits import read_bytes
from ovseg3d.pipeline.context import Context
from ovseg3d.runs.decisions import Decisions
from ovseg3d.runs.fields import load_sparse, save_sparse
from ovseg3d.runs.folder import hash_scene
from ovseg3d.runs.stages import FIELD
from ovseg3d.scene import Frame
from ovseg3d.scene.given_points import given_points
from ovseg3d.scene.matching import MatchingSize
from ovseg3d.scene.observations import Observations
from ovseg3d.scene.pycolmap_calls import Stopped
from ovseg3d.scene.sparse import VERSION, SparseDepth, reconstruct

MAX_MASK_BYTES = 2**28
"""Largest mask file that is read."""
KIND = "sparse"
"""Of the cache's entries."""


def _photo_key(frame: Frame) -> list[Any]:
    """What the sparse points take from a photo."""
    mask = (
        "" if frame.mask_path is None else hashlib.sha256(read_bytes(frame.mask_path, most=MAX_MASK_BYTES)).hexdigest()
    )
    return [photo_digest(frame), mask, frame.upright, frame.camera.width, frame.camera.height]


def _digest(given: Observations | None) -> str:
    """Hash of the points that the capture brings."""
    if given is None:
        return ""
    digest = hashlib.sha256()
    for name in Observations.__dataclass_fields__:
        digest.update(np.asarray(getattr(given, name)).tobytes())
    return digest.hexdigest()


def sparse_depth(context: Context, decisions: Decisions) -> SparseDepth | None:
    """The sparse points that this run uses; None if it uses none, or if the photos have too few matches and the capture
    brings none.

    A resumed run keeps what it was trained with. The result is written to the run, and to the cache for other runs.

    Raises:
        Stopped: `context.stop` was set.
        SceneError: a photo cannot be read.
        EncoderError: the model of the depth prior is not available.
        RunError: the run's own points are damaged.
        OutputError: the run's folder cannot be written to.
    """
    run, scene = context.run, context.scene
    if context.resumed and FIELD.is_in(run.folder):
        return load_sparse(run, scene)
    if not decisions.sparse_depth:
        return None

    def report(text: str, share: float) -> None:
        if context.stop.is_set():
            raise Stopped
        context.report(Event("progress", "set-up", progress=share, message=text))

    name = run.config.scene.depth_prior
    prior = load_depth_estimator(name, context.device) if decisions.depth_prior else None
    given = given_points(scene)
    _announce_size(context, decisions)
    made: list[Mapping[str, np.ndarray]] = []

    def make() -> Mapping[str, np.ndarray]:
        found = reconstruct(
            scene,
            adjust=decisions.adjust_poses,
            focal=decisions.adjust_focal,
            threads=available_cores(),
            seed=run.config.train.seed,
            prior=None if prior is None else prior.disparity,
            given=given,
            report=report,
        )
        made.append({"nothing": np.zeros(1, np.uint8)} if found is None else found.arrays())
        return made[-1]

    facts = _key_facts(context, decisions, given, None if prior is None else prior.weight_hash)
    try:
        cache = FeatureCache.at(run.config.encode.cache_dir)
        arrays = cache.get_or_make(KIND, content_key(facts), make, context.stop)
    except CacheError:
        arrays = made[-1] if made else make()  # slower next time, but the cache is not needed
    if arrays is None:
        raise Stopped
    if "view" not in arrays:
        context.log("set-up", "The photos have too few matches for sparse points; they are not used.")
        return None
    sparse = SparseDepth.from_arrays(arrays, len(scene.train))
    save_sparse(run, sparse)
    context.log("field", _summary(sparse, given))
    return sparse


def _announce_size(context: Context, decisions: Decisions) -> None:
    """Say so if not all photos are matched at full size."""
    count = len(context.scene.train)
    size = MatchingSize.of(count)
    if not size.is_full:
        some = f"{size.views:,} of the " if size.views < count else ""
        kept = "; poses are kept, since not all are matched" if some and decisions.adjust_poses else ""
        context.log(
            "field",
            f"Many photos: {some}{count:,} are matched at {size.side} pixels, with {size.features:,}"
            f" features each, to bound the time{kept}.",
        )


def _key_facts(
    context: Context, decisions: Decisions, given: Observations | None, prior_hash: str | None
) -> dict[str, Any]:
    """All that the points depend on; the cache's key is their hash."""
    scene = context.scene
    facts = {
        "version": VERSION,
        "scene": hash_scene(scene),
        "photos": [_photo_key(scene.frames[view]) for view in scene.train],
        "adjust": decisions.adjust_poses,
        "focal": decisions.adjust_focal,
        "given": _digest(given),
        "seed": context.run.config.train.seed,
        "pycolmap": installed_version("pycolmap"),
    }
    if prior_hash is not None:
        facts |= {"prior": prior_hash, "transformers": installed_version("transformers")}
    return facts


def _summary(sparse: SparseDepth, given: Observations | None) -> str:
    """A sentence on the points, and on what bundle adjustment moved."""
    before, after = sparse.errors_px
    moved = f", reprojection error {before:.2f} px, {after:.2f} px after adjusting the poses" if before != after else ""
    if (sparse.focal_ratio != 1).any():
        least, most = (f"{100 * (ratio - 1):+.2f} %" for ratio in (sparse.focal_ratio.min(), sparse.focal_ratio.max()))
        moved += f", focal length {least}" + ("" if least == most else f" to {most}")
    own = "" if given is None or not given.tracked else f", {len(given.points):,} of them the capture's own"
    return f"Sparse depth: {len(sparse.points):,} points{own}{moved}."
