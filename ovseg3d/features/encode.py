"""The stage `features`: choose encoders, encode a scene through the cache, and record both in the run.

    features.json       encoders (id, weight hash, ...), settings, cache, and the entry of each photo
    previews/features.png

Encoders are chosen before a run is created, so that a wrong name fails early. They are loaded then, too, unless the
cache knows them (see `features.lazy`). `load_features` opens a run's features without encoders.
"""

import threading
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

from ovseg3d.encoders import DEFAULT_CLIP, DEFAULT_DINO
from ovseg3d.encoders.registry import admitted, fetched_for_files, whole_name
from ovseg3d.engine import Event, Report, ignore
from ovseg3d.errors import EncoderError, RunError
from ovseg3d.features.cache import FORMAT_VERSION, FeatureCache
from ovseg3d.features.extract import FeatureSettings
from ovseg3d.features.lazy import lazy_clip, lazy_dino, lazy_sam
from ovseg3d.features.scenes import Encoders, SceneFeatures, encode_photos
from ovseg3d.files import read_json, write_json
from ovseg3d.limits import NO_TRUST, Trust, shorten
from ovseg3d.runs.config import Config, EncodeConfig
from ovseg3d.runs.folder import RunFolder
from ovseg3d.runs.phrases import whole_list
from ovseg3d.scene import Scene

NAME = "features"
"""The stage in events, and the file in the run."""


def choose(asked: str, kind: Literal["clip", "dino"], scene: Scene) -> str:
    """Resolve `--clip` or `--dino` for a scene. Raises EncoderError: the scene may not name this encoder."""
    if asked != "auto":
        return asked
    name = scene.recommended_encoder.get(kind)
    default = DEFAULT_CLIP if kind == "clip" else DEFAULT_DINO
    return default if name is None else admitted(name, kind, scene.path)


def without_cache(config: Config, trust: Trust = NO_TRUST) -> Config:
    """The settings of a run without its cache folder, which a run may only name if the user trusts it."""
    return config if trust.outside else replace(config, encode=replace(config.encode, cache_dir=None))


def check_names(run: RunFolder, settings: EncodeConfig, trust: Trust = NO_TRUST) -> None:
    """Refuse encoders that a run's file names, but not the user.

    Args:
        run: the run that is resumed.
        settings: of the stage.
        trust: what the user named.

    Raises:
        EncoderError: a run may not name such an encoder.
    """
    path = run.folder / "config.json"
    for kind in ("clip", "dino"):
        name = getattr(settings, kind)
        if name != "auto" and name == getattr(run.config.encode, kind) and getattr(trust, kind) is None:
            admitted(name, kind, path)
    if settings.segments.startswith("sam:") and settings.segments == run.config.encode.segments != trust.segments:
        raise EncoderError(
            "The run names a SAM, which only the user may do",
            where=path,
            fix=f"if you trust it, name it yourself: --segments {shorten(settings.segments)}",
        )


def from_anywhere(settings: EncodeConfig) -> EncodeConfig:
    """The settings with absolute paths, since the run may be opened from another folder."""
    names = {kind: whole_name(getattr(settings, kind), kind) for kind in ("clip", "dino", "segments")}
    phrases = None if settings.phrases is None else whole_list(settings.phrases)
    cache = None if settings.cache_dir is None else str(FeatureCache.at(settings.cache_dir).folder)
    return replace(settings, **names, phrases=phrases, cache_dir=cache)


def load_encoders(scene: Scene, settings: EncodeConfig, device: str = "cpu") -> Encoders:
    """The encoders of `settings`; loaded unless the cache knows them.

    Raises:
        EncoderError: a model is unknown, not available, or of another architecture.
        ConfigError: a setting is invalid, or does not suit the encoder.
    """
    wanted = FeatureSettings(
        mode=settings.features,
        clip_side=settings.clip_side,
        dino_side=settings.dino_side,
        segments=settings.segments,
        crops=settings.crops,
        pyramid=settings.pyramid or "lerf",
    )
    cache = FeatureCache.at(settings.cache_dir)
    name = choose(settings.clip, "clip", scene)
    fetch = settings.clip != "auto" or fetched_for_files(name, "clip")
    clip = lazy_clip(name, cache, device, dense_path=settings.dense_path, fetch=fetch)
    resolved = wanted.resolved(clip, device)
    name = choose(settings.dino, "dino", scene)
    fetch = settings.dino != "auto" or fetched_for_files(name, "dino")
    dino = None if name == "none" else lazy_dino(name, cache, device, facet=settings.facet, fetch=fetch)
    segmenter = None
    if resolved.mode == "regions" and resolved.segments.startswith("sam:"):
        segmenter = lazy_sam(resolved.segments.removeprefix("sam:"), cache, device)
    return Encoders(clip, dino, segmenter, resolved, cache, device)


def encode_scene(
    scene: Scene,
    settings: EncodeConfig | None = None,
    device: str = "cpu",
    report: Report | None = None,
    *,
    stop: threading.Event | None = None,
    encoders: Encoders | None = None,
) -> SceneFeatures | None:
    """Encode the photos of a scene that the cache does not hold yet.

    Args:
        settings: which encoders, and how.
        device: "cpu" or "cuda".
        report: receives events of the stage "features".
        stop: set it to end after the current photo, or batch of its crops; finished photos are kept.
        encoders: used instead of those that `settings` name.

    Returns:
        The features, one entry for each frame; None after `stop`.

    Raises:
        EncoderError, ConfigError, SceneError, CacheError: see their texts.
    """
    report, began = report or ignore, time.monotonic()
    encoders = encoders or load_encoders(scene, settings or EncodeConfig(), device)
    names = [encoders.clip.id, *([encoders.dino.id] if encoders.dino is not None else [])]
    report(Event("start", NAME, 0, len(scene.frames), message=f"encoding photos with {' and '.join(names)}"))

    first: list[float] = []

    def tell(done: int | float, total: int, name: str) -> None:
        # The remaining time is estimated without the first photo, before which the projection is fitted.
        seconds = time.monotonic() - began
        if not first and done >= 1:
            first.append(seconds)
        left = (seconds - first[0]) / (done - 1) * (total - done) if done > 1 else None
        report(Event("progress", NAME, int(done), total, done / total, seconds, left, message=name))

    features = encode_photos(
        scene,
        encoders,
        tell,
        stop=stop,
    )
    kind, count = ("interrupted", 0) if features is None else ("done", len(features))
    report(Event(kind, NAME, count, len(scene.frames), count / len(scene.frames), time.monotonic() - began))
    return features


def keep_features(run: RunFolder, encoders: Encoders, features: SceneFeatures) -> None:
    """Write features.json, which later stages and queries have to match. Raises OutputError."""
    clip, dino = encoders.clip, encoders.dino
    write_json(
        run.folder / f"{NAME}.json",
        {
            "format_version": FORMAT_VERSION,
            "clip": {
                "id": clip.id,
                "weight_hash": clip.weight_hash,
                "dim": clip.dim,
                "logit_scale": clip.logit_scale,
                "logit_bias": clip.logit_bias,
            },
            "dino": {"id": dino.id, "weight_hash": dino.weight_hash, "dim": dino.dim} if dino is not None else None,
            "settings": asdict(features.settings),
            "cache": features.cache.folder,
            "projection": features.projection_key,
            "photos": dict(zip(features.names, features.keys)),
        },
    )


def load_features(run: RunFolder, cache_dir: Path | str | None = None) -> SceneFeatures:
    """The features of a run, from the cache; no encoder is needed.

    Args:
        run: the run.
        cache_dir: folder of the cache; by default the user's, whatever the run names.

    Raises:
        RunError: the run has none, or its features.json is damaged. (CacheError is raised when a photo is read.)
    """
    path = run.folder / f"{NAME}.json"
    if not path.exists():
        raise RunError("The run has no features", where=run.folder, fix="train with --only field,features")
    stated = read_json(path, RunError)
    try:
        if stated["format_version"] != FORMAT_VERSION:
            raise ValueError(f"format version {stated['format_version']}")
        photos: dict[str, Any] = stated["photos"]
        return SceneFeatures(
            FeatureCache.at(cache_dir or (str(stated["cache"]) if run.trust.outside else None)),
            tuple(photos),
            tuple(str(key) for key in photos.values()),
            stated["projection"],
            FeatureSettings(**stated["settings"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunError(f"The run's features cannot be read: {error}", where=path, fix="train again") from error
