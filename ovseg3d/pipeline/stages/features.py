"""The stage `features`: encode the photos into a cache that all runs share."""

import time

from ovseg3d.encoders.hub import stoppable
from ovseg3d.engine import encoder_precision
from ovseg3d.features.encode import Encoders, choose, encode_scene, keep_features, load_encoders
from ovseg3d.features.images import save_feature_preview
from ovseg3d.pipeline.context import Context, Encoded, Stage
from ovseg3d.points.methods import Words
from ovseg3d.points.semantic_scene import EncoderFacts
from ovseg3d.query.relevancy import CANONICAL
from ovseg3d.runs.phrases import without_doubles
from ovseg3d.runs.stages import FEATURES


class FeaturesStage(Stage):
    """Encodes the photos that are not in the cache. Its time does not count towards `max_seconds`."""

    spec = FEATURES

    def __init__(self) -> None:
        self._encoders: Encoders | None = None

    def prepare(self, context: Context) -> None:
        """Load the encoders. Raises EncoderError, and KeyboardInterrupt after `stop`."""
        with context.clock.paused(), stoppable(context.stop):
            self._encoders = load_encoders(context.scene, context.config.views_as, context.device)

    def run(self, context: Context) -> bool:
        encoders, self._encoders = self._encoders, None  # the field needs the memory
        if encoders is None:
            raise RuntimeError("prepare comes before run")
        with context.clock.paused():
            if not self._encode(context, encoders):
                return False
        return True

    def _encode(self, context: Context, encoders: Encoders) -> bool:
        run, scene, start = context.run, context.scene, time.monotonic()
        with encoder_precision(context.device):
            features = encode_scene(scene, encoders=encoders, report=context.report, stop=context.stop)
        if features is None:
            return False
        seconds = time.monotonic() - start
        keep_features(run, encoders, features)
        save_feature_preview(run.previews / "features.png", scene, features)
        run.write_metrics(
            {
                "features_seconds": seconds,
                "features_photos": len(features),
                "features_encoded": features.made,
                "features_bytes": features.nbytes,
                "features_mode": features.settings.mode,
                "features_cache": features.cache.folder,
                "clip": encoders.clip.id,
                "dino": encoders.dino.id if encoders.dino is not None else None,
                "peak_anonymous_bytes": context.memory.peak,
                "device": encoders.device,
            }
        )
        clip = encoders.clip
        name = choose(context.config.encode.clip, "clip", scene)
        facts = EncoderFacts(name, clip.id, clip.weight_hash, clip.logit_scale)
        context.encoded = Encoded(features, facts, _words(context, encoders), clip)
        return True


def _words(context: Context, encoders: Encoders) -> Words | None:
    """Embeddings of the phrases that the method uses; None for methods without phrases."""
    method = context.config.semantics.method
    if "semantics" not in context.config.stages or method not in ("3d-ovs", "lerf"):
        return None
    phrases = without_doubles(context.scene.phrases) if method == "3d-ovs" else ()
    vectors = encoders.clip.encode_text([*phrases, *CANONICAL]).detach().float().cpu().numpy()
    return Words(vectors[: len(phrases)], vectors[len(phrases) :])
