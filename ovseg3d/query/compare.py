"""How near a run's surface is to phrases: what every question, label and legend is made of.

Cosines of lifted features come from `SemanticScene.compare`; what is known of the whole scene is added to them. Names
that are known to be there are evened out over its things (`query.hubs`), floor, walls and ceiling are told by its
planes (`query.room`), and things are as large as their names say (`query.sizes`). Only differences within a
point mean something.
"""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int

from ovseg3d.encoders import load_clip
from ovseg3d.encoders.base import TextImageEncoder
from ovseg3d.encoders.hub import only_local
from ovseg3d.encoders.registry import admitted, fetched_for_files
from ovseg3d.errors import ConfigError, RunError
from ovseg3d.points.semantic_scene import FILE, Places, SemanticScene, load_semantics
from ovseg3d.query.household import HOUSEHOLD, same_word
from ovseg3d.query.hubs import group_means, groups_of, peaks, shifts
from ovseg3d.query.presence import canonical_of
from ovseg3d.query.relevancy import SHARPNESS, ensemble, label, relevancy
from ovseg3d.query.room import plane_of, told_by_planes
from ovseg3d.query.sizes import Size, extents, likeliest_scale, size_of, told_by_sizes
from ovseg3d.query.words import about, share_a_word, tells_a_place
from ovseg3d.runs.devices import DeviceName, resolve_device
from ovseg3d.runs.folder import RunFolder
from ovseg3d.runs.phrases import check_text
from ovseg3d.scene import Scene

SIZED_NAMES = 0.3
"""What sizes weigh beside looks, whose logits have the encoder's scale; chosen on development rooms. In whether
something is there at all they weigh more, see `presence`."""


class Comparer:
    """Compares phrases with the surface points of one run; what it has encoded it keeps.

    Args:
        run: with a stage `semantics`.
        scene: its capture, for its phrases.
        device: what to encode on.
        templates: sentences with {} for a phrase, whose mean is its vector.

    Raises:
        RunError: the run knows nothing about meaning.
    """

    def __init__(self, run: RunFolder, scene: Scene | None, device: DeviceName, templates: Sequence[str]) -> None:
        self.run, self._scene, self._device = run, scene, device
        self.templates = tuple(templates)
        self.semantics = load_semantics(run.folder)
        self._texts: dict[str, np.ndarray] = {}
        self._grouped: dict[frozenset[int], tuple[np.ndarray, np.ndarray]] = {}
        self._known_sizes: dict[str, Size | None] = {}
        self._columns: dict[str, np.ndarray] = {}

    @property
    def phrases(self) -> tuple[str, ...]:
        """What the run, or else its capture as far as it is at hand, says is in the scene."""
        return self.run.phrases or (() if self._scene is None else self._scene.phrases)

    def encode(self, phrases: Sequence[str]) -> Float[np.ndarray, "phrases dim"]:
        """Unit vectors of phrases in the run's encoder; each is encoded once. What a phrase is about counts as much as
        the sentence that tells its place, which looks as much like the place."""
        if not phrases:
            return np.zeros((0, self.semantics.basis.axes.shape[0]), np.float32)
        new = [phrase for phrase in dict.fromkeys(phrases) if phrase not in self._texts]
        if new:
            for phrase in new:
                if not phrase.strip():
                    raise ConfigError("A phrase is empty", fix='such as: ovseg3d query RUN "a red chair"')
                check_text(phrase)
            placed = [k for k, phrase in enumerate(new) if tells_a_place(phrase)]
            vectors = self._spoken([*new, *(" ".join(about(new[k])) for k in placed)])
            whole, heads = vectors[: len(new)].copy(), vectors[len(new) :]
            whole[placed] = ensemble([whole[placed], heads])
            self._texts |= dict(zip(new, whole))
        return np.stack([self._texts[phrase] for phrase in phrases])

    def _spoken(self, phrases: Sequence[str]) -> Float[np.ndarray, "phrases dim"]:
        """Unit vectors of phrases as the templates say them."""
        said = [[template.replace("{}", phrase) for phrase in phrases] for template in self.templates]
        vectors = [self.clip.encode_text(texts).detach().float().cpu().numpy() for texts in said]
        return vectors[0] if len(vectors) == 1 else ensemble(vectors)

    @cached_property
    def clip(self) -> TextImageEncoder:
        """The encoder that the run's features are from. Raises EncoderError, RunError: it is another one now."""
        known = self.semantics.encoder
        asked = self.run.trust.clip
        name = asked or admitted(known.name, "clip", self.run.folder / FILE)
        with only_local(asked is None and not fetched_for_files(name, "clip")):
            clip = load_clip(name, resolve_device(self._device))
        if clip.weight_hash != known.weight_hash:
            raise RunError(
                f"The encoder {known.id} has other weights than when this run was trained",
                where=self.run.folder,
                fix="name the one that it was trained with (--clip), or train again with --only field,semantics",
            )
        return clip

    @cached_property
    def _usual(self) -> tuple[Float[np.ndarray, " dim"], float, float]:
        """The mean everyday word, and the mean and deviation of their cosines with it."""
        words = self.encode(HOUSEHOLD)
        near = words @ words.mean(0)
        return words.mean(0), float(near.mean()), float(near.std())

    @cached_property
    def canonical(self) -> tuple[str, ...]:
        """What phrases are compared with unless the user says otherwise: what the encoder's card names, since encoders
        differ in what would do for anything; else LERF's phrases. Raises EncoderError, RunError."""
        return canonical_of(self.clip)

    def relevancy(
        self, phrases: Sequence[str], *, negatives: Sequence[str] = (), canonical: Sequence[str] | None = None
    ) -> Float[np.ndarray, "points phrases"]:
        """How much each surface point is what each phrase says, 0 to 1, whatever else is in the scene: LERF's
        relevancy, of cosines as `compare` has them. Raises as `ask`."""
        return relevancy(*self.compare(phrases, self._others(canonical, negatives)), SHARPNESS)

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
            known: phrases of which it is known that they are in the scene; none of `phrases` is favoured then. If
                `phrases` has them all, there is a name for whatever is said to be there, and `others` are evened out
                with them.
            of: other points of the same scene than the run's own.

        Raises: as `ask`.
        """
        of = of or self.semantics
        vectors = self.encode([*phrases, *others])
        own, beside = of.compare(vectors[: len(phrases)], vectors[len(phrases) :])
        return self._told(own, phrases, beside, others, known, of.plane, of.instance)

    def _told(
        self,
        own: np.ndarray,
        phrases: Sequence[str],
        beside: np.ndarray,
        others: Sequence[str],
        known: Sequence[str],
        plane: Int[np.ndarray, " points"] | None,
        instance: Int[np.ndarray, " points"],
    ) -> tuple[np.ndarray, np.ndarray]:
        """Cosines of points, or of pixels, with what things, their sizes, and planes say to them."""
        sized = self.semantics.sized is not None
        if known and not sized:
            grouped = groups_of(instance, plane, self._named(known))[:, None] > 0
            own = own + grouped * self._shifts(phrases, known).astype(own.dtype)
            if self._among(known, phrases).all():  # whatever is said to be there has a name in the list
                beside = beside + grouped * self._shifts(others, known).astype(beside.dtype)
        weight = SIZED_NAMES / self.semantics.encoder.logit_scale
        if (told := self._by_size(phrases)).any():
            own = own + (weight * told).astype(own.dtype)[instance]
        if (told := self._by_size(others, free=others)).any():
            beside = beside + (weight * told).astype(beside.dtype)[instance]
        if plane is None:
            return own, beside
        # LERF's margins have had what phrases are compared with taken away already.
        beside = beside if sized else told_by_planes(beside, others, plane, instance)
        return told_by_planes(own, phrases, plane, instance), beside

    def _by_size(self, phrases: Sequence[str], free: Sequence[str] = ()) -> Float[np.ndarray, "things phrases"]:
        """How much likelier things so large are to have these names, in logs (see `sizes`). Nothing is said of floor,
        walls and ceiling, nor where nobody knows how large things are, nor in LERF's method, which has its own sizes.

        Args:
            free: phrases that are no names, but what names are compared with: of these, unknown sizes say nothing.
        """
        told = np.zeros((len(self._extents), len(phrases)))
        if not phrases or len(told) == 1 or self.semantics.sized is not None or self.metres is None:
            return told
        new = [phrase for phrase in dict.fromkeys(phrases) if phrase not in self._columns and not plane_of(phrase)]
        if new:
            found = told_by_sizes(self._extents * self.metres, [self._size(phrase) for phrase in new])
            self._columns |= dict(zip(new, found.T))
        for k, phrase in enumerate(phrases):
            if not plane_of(phrase) and (phrase not in free or self._size(phrase) is not None):
                told[:, k] = self._columns[phrase]
        return told

    def _size(self, phrase: str) -> Size | None:
        """Of what a phrase names, or of the everyday word that means nearly the same; the encoder's canonical phrases
        have no other."""
        if phrase not in self._known_sizes:
            found = size_of(phrase)
            if found is None and phrase not in self.canonical:
                described = " ".join(phrase.split()[:-1])  # a door handle may be near to "door", and is none
                words = [word for word in HOUSEHOLD if not share_a_word(word, described)]
                word = same_word(self.encode([phrase])[0], self.encode(words), self._usual[0])
                found = None if word is None else size_of(words[word])
            self._known_sizes[phrase] = found
        return self._known_sizes[phrase]

    @cached_property
    def _extents(self) -> Float[np.ndarray, "things 3"]:
        return extents(self.semantics.surface, self.semantics.piece)

    @cached_property
    def metres(self) -> float | None:
        """Of an input unit: what the capture says, else what suits the things in it, by their names here or by everyday
        words; None where that is not clear."""
        if self._stated is not None:
            return self._stated
        return (self.guess_metres(self.phrases) if self.phrases else None) or self.guess_metres()

    def guess_metres(self, phrases: Sequence[str] = ()) -> float | None:
        """The metres of an input unit at which things are as large as what they look like (see `sizes`); None where
        that is not clear.

        Args:
            phrases: what they may be; by default everyday words.
        """
        # What is none of the names, and near to what everything is compared with, may be of any size.
        names = [*(name for name in phrases or HOUSEHOLD if not plane_of(name)), *self.canonical]
        ids = self.semantics.instance
        there, (means, _) = np.unique(ids[ids > 0]), group_means(self.semantics.vectors, ids)
        looks = self.semantics.encoder.logit_scale * means @ self.semantics.basis.reduce(self.encode(names)).T
        sizes = [self._size(name) for name in names]
        return likeliest_scale(self._extents[there], looks, sizes, np.bincount(ids)[there])

    @property
    def measured(self) -> bool:
        """Whether it is known how large things are, if there are any."""
        return len(self._extents) == 1 or (self.semantics.sized is None and self.metres is not None)

    @cached_property
    def _stated(self) -> float | None:
        if not self.semantics.surface.metric:
            return None
        try:
            return self.run.transform()[1]
        except RunError:  # sizes help, and are not needed
            return None

    def _shifts(self, phrases: Sequence[str], known: Sequence[str]) -> Float[np.ndarray, " phrases"]:
        """See `hubs.shifts`."""
        things = [phrase for phrase in known if not plane_of(phrase)]
        means, weight = self._means(self._named(known))
        if not things or not len(means) or not phrases:
            return np.zeros(len(phrases))

        def height(names: Sequence[str]) -> np.ndarray:
            texts = self.semantics.basis.reduce(self.encode(names))
            return peaks(means @ texts.T, weight, self.semantics.encoder.logit_scale)

        return shifts(height(phrases), self._among(phrases, things), float(height(things).mean()))

    def _means(self, named: frozenset[int]) -> tuple[Float[np.ndarray, "groups kept"], Float[np.ndarray, " groups"]]:
        if named not in self._grouped:
            groups = groups_of(self.semantics.instance, self.semantics.plane, named)
            self._grouped[named] = group_means(self.semantics.vectors, groups)
        return self._grouped[named]

    @staticmethod
    def _among(phrases: Sequence[str], known: Sequence[str]) -> Bool[np.ndarray, " phrases"]:
        """Which phrases a list has, with capitals or without."""
        there = {phrase.strip().casefold() for phrase in known}
        return np.array([phrase.strip().casefold() in there for phrase in phrases], bool)

    @staticmethod
    def _named(known: Sequence[str]) -> frozenset[int]:
        return frozenset(plane_of(phrase) for phrase in known)

    def _others(self, canonical: Sequence[str] | None, negatives: Sequence[str]) -> tuple[str, ...]:
        canonical = self.canonical if canonical is None else canonical
        if not canonical and not negatives:
            raise ConfigError("There is nothing to compare phrases with", fix="give at least one canonical phrase")
        return (*canonical, *negatives)

    def labels(
        self,
        phrases: Sequence[str],
        canonical: Sequence[str] | None = None,
        none: bool = True,
        of: SemanticScene | None = None,
    ) -> Int[np.ndarray, " points"]:
        """Each surface point's phrase, counted from 1; 0: none of these.

        Only the run's own phrases are known to be in the scene, and evened out; a list may name what is not there. One
        that has all of them leaves little for none of these.

        Args:
            of: other points of the same scene than the run's own.

        Raises: as `ask`.
        """
        return label(*self.closed(phrases, self._beside(canonical, none), of))

    def _beside(self, canonical: Sequence[str] | None, none: bool) -> Sequence[str]:
        return () if not none else self.canonical if canonical is None else canonical

    def closed(
        self, phrases: Sequence[str], canonical: Sequence[str] = (), of: SemanticScene | None = None
    ) -> tuple[Float[np.ndarray, "points phrases"], Float[np.ndarray, "points rivals"]]:
        """What `labels` compares: how near points are to each phrase of a list, and to canonical ones."""
        return self.compare(self._listed(phrases), canonical, known=self.phrases, of=of)

    def labels_at(
        self, places: Places, phrases: Sequence[str], canonical: Sequence[str] | None = None, none: bool = True
    ) -> Int[np.ndarray, "h w"]:
        """The same for the pixels of any picture; 0 also where no surface is."""
        others, count, learnt = self._beside(canonical, none), len(self._listed(phrases)), self.semantics
        vectors = self.encode([*phrases, *others])
        # Cosines are blended first: what cannot be (a thing that is a floor) must not weigh on its neighbours' pixels.
        blended = places.picture(np.concatenate(learnt.compare(vectors[:count], vectors[count:]), 1), nothing=-2.0)
        flat, there = blended.reshape(-1, blended.shape[-1]), (blended > -2).all(-1)
        plane = None if learnt.plane is None else places.nearest(learnt.plane).ravel()
        instance = places.nearest(learnt.instance).ravel()
        told = self._told(flat[:, :count], phrases, flat[:, count:], others, self.phrases, plane, instance)
        found = label(*told)
        return np.where(there, found.reshape(places.size), 0)

    @staticmethod
    def _listed(phrases: Sequence[str]) -> Sequence[str]:
        if not phrases:
            raise ConfigError("There are no phrases to choose among", fix='--phrases "chair;table;floor"')
        return phrases
