"""Calibrates presence in one run by a few labels: is a phrase in the scene, or at a place of a photo?

The evidence of a label is the log odds of its uncalibrated score: the scene's, or the relevancy at a pixel. Calibrated
log odds take their place in the one rule of `presence`, so that scores, points, masks and instances all follow.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Float

from ovseg3d.errors import ConfigError
from ovseg3d.query.answer import THRESHOLD, Criteria
from ovseg3d.query.calibration import CARD_DEVIATIONS, Prior, fit, score_log_odds
from ovseg3d.query.default_vocabulary import DEFAULT_VOCABULARY
from ovseg3d.query.engine import QueryEngine
from ovseg3d.query.kept_calibration import (
    KeptCalibration,
    Label,
    joined,
    load_calibration,
    remove_calibrations,
    save_calibration,
)
from ovseg3d.scene.images import open_image


def calibrate(engine: QueryEngine, labels: Sequence[Label], anew: bool = False) -> KeptCalibration:
    """Fit the calibration of a run to labels, and keep it in the run; `engine` uses it from now on.

    Labels that the run keeps count, too, also those of other processes; the last answer to a question replaces an
    earlier one.

    Args:
        engine: of the run.
        labels: at least one.
        anew: these labels alone, in place of all that the run keeps. If an error is raised, that stays.

    Raises:
        ConfigError: there is no label, or one is at no pixel of a view, or where no surface is.
        EncoderError: a phrase is too long for the encoder, or the encoder is not available.
        OutputError: the run cannot be written to.
        RunError: what the run keeps is damaged, unless `anew`.
    """
    folder, key = engine.run.folder, (engine.semantics.encoder.weight_hash, engine.similarity.prior.on)
    earlier = None if anew else load_calibration(folder, *key)
    while True:
        known = joined(() if earlier is None else earlier.labels, labels)
        if not known:
            raise ConfigError("There are no labels to calibrate with", fix='such as ("chair", True)')
        present = np.array([label.present for label in known])
        found = KeptCalibration(fit(evidence(engine, known), present, prior_of(engine)), known)
        # Another process may have added labels meanwhile.
        current = None if anew else load_calibration(folder, *key)
        if current == earlier:
            break
        earlier = current
    save_calibration(folder, *key, found, alone=anew)
    engine.decision.kept_calibration = found
    return found


def reset(engine: QueryEngine) -> bool:
    """Remove the run's calibrations; whether there were any. Raises OutputError."""
    engine.decision.kept_calibration = None
    return remove_calibrations(engine.run.folder)


def prior_of(engine: QueryEngine) -> Prior:
    """What is known before any label: the calibration of the encoder's card, else scores as they are."""
    card = engine.decision.card
    return Prior() if card is None else Prior(card, CARD_DEVIATIONS)


def evidence(engine: QueryEngine, labels: Iterable[Label]) -> Float[np.ndarray, " labels"]:
    """The uncalibrated log odds of labels. Raises as `calibrate`."""
    return np.array([_log_odds(engine, label) for label in labels])


def questions(engine: QueryEngine, count: int) -> list[str]:
    """Phrases whose answers tell most: those of the run and of the default vocabulary with the least sure scores."""
    names = list(dict.fromkeys((*engine.phrases, *DEFAULT_VOCABULARY)))
    calibration = engine.decision.calibration
    unsure = np.abs(calibration.log_odds(evidence(engine, (Label(name, True) for name in names))))
    return [names[i] for i in np.argsort(unsure, kind="stable")[:count]]


def _log_odds(engine: QueryEngine, label: Label) -> float:
    verdict = engine.decision.scene.decide(label.phrase, Criteria(threshold=THRESHOLD))
    if label.image is None or label.x is None or label.y is None:
        return score_log_odds(verdict.score)
    frame, places = engine.frame(label.image), engine.places(label.image)
    with open_image(frame.image_path, "photo", frame.max_pixels) as photo:
        width, height = photo.size
    where, fix = f"{label.image}, x {label.x:g}, y {label.y:g}", "a pixel of the photo's file that shows a surface"
    if not (label.x < width and label.y < height):
        raise ConfigError(f"This pixel is outside of the photo, which has {width} x {height}", where=where, fix=fix)
    rows, columns = places.size
    relevancy = engine.decision.scene.candidates.at_points(verdict.relevancy)
    image = places.image(relevancy[:, None].astype(np.float32), nothing=-1.0)[..., 0]
    found = float(image[int(label.y / height * rows), int(label.x / width * columns)])
    if found < 0:
        raise ConfigError("There is no surface at this pixel", where=where, fix=fix)
    return score_log_odds(found)
