"""How near a run's surface is to phrases: what every question, label and legend is made of.

Cosines of lifted features come from `SemanticScene.compare`; what is known of the whole scene is added to them. Names
that are known to be there are evened out over its things (`query.hubs`), floor, walls and ceiling are told by its
planes (`query.room`), and things are as large as their names say (`query.sizes`). Only differences within a
point mean something.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from ovseg3d.errors import ConfigError
from ovseg3d.points.semantic_scene import SemanticScene
from ovseg3d.query.context import RunContext
from ovseg3d.query.hubs import group_means, groups_of, peaks, shifts
from ovseg3d.query.phrase_encoder import PhraseEncoder
from ovseg3d.query.relevancy import SHARPNESS, relevancy
from ovseg3d.query.room import plane_of, told_by_planes
from ovseg3d.query.size_prior import SizePrior

SIZED_NAMES = 0.3
"""What sizes weigh beside looks, whose logits have the encoder's scale; chosen on development rooms. In whether
something is there at all they weigh more, see `presence`."""


class SimilarityModel:
    """Compares phrases with the surface points of one run.

    Args:
        context: of the run.
        texts: of its encoder.
    """

    def __init__(self, context: RunContext, texts: PhraseEncoder) -> None:
        self.context, self.semantics, self.texts = context, context.semantics, texts
        self.sizes = SizePrior(context, texts)
        self._grouped: dict[frozenset[int], tuple[np.ndarray, np.ndarray]] = {}

    def relevancy(
        self, phrases: Sequence[str], *, negatives: Sequence[str] = (), canonical: Sequence[str] | None = None
    ) -> Float[np.ndarray, "points phrases"]:
        """How much each surface point is what each phrase says, 0 to 1, whatever else is in the scene: LERF's
        relevancy, of cosines as `compare` has them. Raises as `compare`."""
        return relevancy(*self.compare(phrases, self.others(canonical, negatives)), SHARPNESS)

    def others(self, canonical: Sequence[str] | None, negatives: Sequence[str]) -> tuple[str, ...]:
        """What phrases are compared with: canonical ones, by default the encoder's, and what is not meant.

        Raises:
            ConfigError: nothing is left.
        """
        canonical = self.texts.canonical if canonical is None else canonical
        if not canonical and not negatives:
            raise ConfigError("There is nothing to compare phrases with", fix="give at least one canonical phrase")
        return (*canonical, *negatives)

    def compare(
        self,
        phrases: Sequence[str],
        others: Sequence[str],
        *,
        known: Sequence[str] = (),
        of: SemanticScene | None = None,
    ) -> tuple[Float[np.ndarray, "points phrases"], Float[np.ndarray, "points rivals"]]:
        """How near surface points are to phrases, and to what these are compared with: `SemanticScene.compare`, and
        what is known of the whole scene, its things (see `hubs` and `sizes`) and its planes (see `room`).

        Args:
            phrases: what to look for.
            others: what else a point may be.
            known: phrases of which it is known that they are in the scene; none of `phrases` is favoured then. If
                `phrases` has them all, there is a name for whatever is said to be there, and `others` are evened out
                with them.
            of: other points of the same scene than the run's own.

        Raises:
            ConfigError: an empty phrase.
            EncoderError: a phrase is too long for the encoder, or the encoder is not to be had.
            RunError: the encoder has other weights than when the run was trained.
        """
        of = of or self.semantics
        vectors = self.texts.encode([*phrases, *others])
        own, beside = of.compare(vectors[: len(phrases)], vectors[len(phrases) :])
        return self.with_priors(own, phrases, beside, others, known, of.plane, of.instance)

    def with_priors(
        self,
        own: Float[np.ndarray, "points phrases"],
        phrases: Sequence[str],
        beside: Float[np.ndarray, "points rivals"],
        others: Sequence[str],
        known: Sequence[str],
        plane: Int[np.ndarray, " points"] | None,
        instance: Int[np.ndarray, " points"],
    ) -> tuple[Float[np.ndarray, "points phrases"], Float[np.ndarray, "points rivals"]]:
        """Cosines of points, or of pixels, with what things, their sizes, and planes say to them.

        Args:
            own: cosines with phrases.
            phrases: one for each column of `own`.
            beside: cosines with what phrases are compared with.
            others: one for each column of `beside`, unless meaning depends on a size.
            known: as for `compare`.
            plane: FLOOR, CEILING, WALL or NONE; None: nobody looked.
            instance: number of the thing that a point belongs to, from 1; 0 for none.
        """
        sized = self.semantics.sized is not None
        if known and not sized:
            grouped = groups_of(instance, plane, _planes_of(known))[:, None] > 0
            own = own + grouped * self._shifts(phrases, known).astype(own.dtype)
            if is_among(known, phrases).all():  # whatever is said to be there has a name in the list
                beside = beside + grouped * self._shifts(others, known).astype(beside.dtype)
        weight = SIZED_NAMES / self.semantics.encoder.logit_scale
        if (told := self.sizes.log_odds(phrases)).any():
            own = own + (weight * told).astype(own.dtype)[instance]
        if (told := self.sizes.log_odds(others, free=others)).any():
            beside = beside + (weight * told).astype(beside.dtype)[instance]
        if plane is None:
            return own, beside
        # LERF's margins have had what phrases are compared with taken away already.
        beside = beside if sized else told_by_planes(beside, others, plane, instance)
        return told_by_planes(own, phrases, plane, instance), beside

    def _shifts(self, phrases: Sequence[str], known: Sequence[str]) -> Float[np.ndarray, " phrases"]:
        """See `hubs.shifts`."""
        instances = [phrase for phrase in known if not plane_of(phrase)]
        means, weight = self._means(_planes_of(known))
        if not instances or not len(means) or not phrases:
            return np.zeros(len(phrases))

        def height(names: Sequence[str]) -> np.ndarray:
            texts = self.semantics.basis.reduce(self.texts.encode(names))
            return peaks(means @ texts.T, weight, self.semantics.encoder.logit_scale)

        return shifts(height(phrases), is_among(phrases, instances), float(height(instances).mean()))

    def _means(self, named: frozenset[int]) -> tuple[Float[np.ndarray, "groups kept"], Float[np.ndarray, " groups"]]:
        if named not in self._grouped:
            groups = groups_of(self.semantics.instance, self.semantics.plane, named)
            self._grouped[named] = group_means(self.semantics.vectors, groups)
        return self._grouped[named]


def is_among(phrases: Sequence[str], known: Sequence[str]) -> Bool[np.ndarray, " phrases"]:
    """Which phrases a list has, with capitals or without."""
    there = {phrase.strip().casefold() for phrase in known}
    return np.array([phrase.strip().casefold() in there for phrase in phrases], bool)


def _planes_of(known: Sequence[str]) -> frozenset[int]:
    return frozenset(plane_of(phrase) for phrase in known)
