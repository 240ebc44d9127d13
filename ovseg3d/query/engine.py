"""Ask a run: phrases in, points, things and pictures out.

    asker = Asker(run)
    answer = asker.ask(["a red chair"])[0]     # relevancy of points; what is above the threshold
    labels = asker.labels(["chair", "table"])  # a closed list: each point's nearest phrase, 0 = none of these

Whether something is there is decided for the whole scene, with a score (see `presence`); a probability is given only
where the encoder's card holds a calibration. Which points are meant is told by relevancy (see `query.relevancy`): a
point speaks for a phrase if it is nearer to it than to the canonical phrases, to what the user excludes, and to the
run's other phrases. Both have one threshold, and agree: no point is more relevant than the scene is likely to hold the
phrase, and where that is likeliest, points are as relevant. Positions are in the input frame.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import expit, logit

from ovseg3d.errors import ConfigError
from ovseg3d.field.renderer import Renderer
from ovseg3d.instances.records import Instance, instances_meant
from ovseg3d.points.semantic_scene import Places
from ovseg3d.query.compare import Comparer
from ovseg3d.query.household import AHEAD, HOUSEHOLD, Nearest, means_the_same
from ovseg3d.query.presence import BOUND, SHARE, SIZED, TYPICAL, Witnesses, calibration_of, chances, log_sum
from ovseg3d.query.relevancy import SHARPNESS
from ovseg3d.query.room import bare_plane_of, may_oppose, plane_of, told_by_planes
from ovseg3d.query.words import about, share_a_word
from ovseg3d.render.views import view_files
from ovseg3d.runs.devices import BackendName, DeviceName
from ovseg3d.runs.fields import refined, restore
from ovseg3d.runs.folder import RunFolder
from ovseg3d.runs.phrases import in_list
from ovseg3d.scene import Camera, Frame, Scene

THRESHOLD = 0.5
"""For points: as near as the nearest canonical phrase; for the scene: as likely as not."""
WHOLE = 0.9
"""Share of the best chance from which a thing speaks rather than a patch."""
MOST = 0.75
"""Share of the best witness's points that are as relevant as it is likely."""
KEPT = 16
"""Lists of phrases whose best cosines are kept."""
KEPT_VIEWS = 64
"""Views whose depth is kept, some 5 MB each."""
KEPT_PLACES = 8
"""Views whose surface points are kept, some 40 MB each."""


def _parts(phrases: Sequence[str]) -> list[list[str]]:
    """Phrases to compare at once: those that name planes, since these settle what a plane is among themselves; the
    others by few, since a million points with two hundred of them are a gigabyte."""
    planes = [phrase for phrase in phrases if plane_of(phrase)]
    things = [phrase for phrase in phrases if not plane_of(phrase)]
    return [part for part in (planes, *(things[first : first + 32] for first in range(0, len(things), 32))) if part]


@dataclass(frozen=True)
class Answer:
    """What a run says to one phrase."""

    phrase: str
    present: bool
    """Whether the score reaches the threshold."""
    score: float
    """How much speaks for it, 0 to 1 (see `presence`)."""
    probability: float | None
    """None: the encoder has no calibration, or not for what this was compared with, nobody knows how large things are,
    they were not seen as wholes, or a plane's place told it."""
    calibrated: bool
    threshold: float
    rival: str | None
    """Of what is not there for its sake alone: the run's phrase, or the everyday word, that what comes nearest to it is
    likelier to be."""
    points: Float[np.ndarray, "found 3"]
    """Surface points above the threshold, input frame; none when it is not present."""
    point_scores: Float[np.ndarray, " found"]
    """Their relevancy."""
    point_index: Int[np.ndarray, " found"]
    """Their numbers among the run's surface points."""
    relevancy: Float[np.ndarray, " surface"]
    """Of all surface points, whether it is present or not; at most `score`."""
    instances: tuple[Instance, ...] = ()
    """Things of which most points are above the threshold, best first."""
    masks: dict[str, Bool[np.ndarray, "h w"]] = field(default_factory=dict)
    """Masks by the name of the view, of the views that were asked for."""
    relevancies: dict[str, Float[np.ndarray, "h w"]] = field(default_factory=dict)
    """Relevancy by the name of the view, 0 to 1."""

    def mask(self, picture: Float[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
        """Where a picture of the relevancy shows it."""
        return (picture >= self.threshold) & self.present


@dataclass(frozen=True)
class Verdict:
    """What the scene's witnesses say to one phrase."""

    witness: int
    """Which shows where it is: the best one, or a whole that is nearly as good, unless that is likelier not it."""
    score: float
    """The best chance."""
    rival: str | None
    """What the witness with the best chance is likelier to be, if only that keeps the phrase from being there."""
    known: bool
    """Whether the place of a plane says so, and not features: no card tells how likely that is right."""


class Asker(Comparer):
    """Answers questions about one run; what it has loaded and rendered it keeps.

    Args:
        run: with a stage `semantics`.
        scene: its capture, for the names of views; read again when it is not given.
        device, backend: what to render and encode on.
        templates: sentences with {} for a phrase, whose mean is its vector; by default the phrase as it is.

    Raises:
        RunError: the run knows nothing about meaning.
    """

    def __init__(
        self,
        run: RunFolder,
        scene: Scene | None = None,
        device: DeviceName = "auto",
        backend: BackendName = "auto",
        *,
        templates: Sequence[str] = ("{}",),
    ) -> None:
        super().__init__(run, scene, device, templates)
        self._backend = backend
        self._best: dict[tuple[tuple[str, ...], ...], np.ndarray] = {}
        self._places: dict[str, Places] = {}
        self._depths: dict[str, np.ndarray] = {}

    # -- phrases -----------------------------------------------------------------------------------------------

    def ask(
        self,
        phrases: Sequence[str],
        *,
        negatives: Sequence[str] = (),
        canonical: Sequence[str] | None = None,
        rivals: Sequence[str] | None = None,
        threshold: float = THRESHOLD,
        views: Sequence[str] = (),
        camera: str | None = None,
    ) -> list[Answer]:
        """Where each phrase is, and whether it is there at all. A list may be one text with semicolons.

        Args:
            phrases: what to look for, each for itself.
            negatives: what is not meant, such as "office chair" beside "chair".
            canonical: what everything is compared with; None: what suits the encoder (see `canonical`).
            rivals: what else a point or the scene may show instead. By default everyday words (`household`) and the
                run's phrases; if there are any, points are compared with these alone. `rivals_of` and `names_beside`
                tell what is left out.
            threshold: relevancy from which a point counts, and score from which the scene does.
            views: names of frames to draw masks for; all are held at once (`answers.save_answers` holds few).
            camera: the frame from which distances are measured.

        Raises:
            ConfigError: an empty phrase, no canonical phrase, or an unknown view.
            EncoderError: a phrase is too long for the encoder, or the encoder is not to be had.
        """
        if not 0 < threshold < 1:
            raise ConfigError(f"The threshold must lie between 0 and 1, not at {threshold}", fix="0.5 is the usual one")
        phrases, negatives = in_list(phrases), in_list(negatives)
        canonical, rivals = (None if said is None else in_list(said) for said in (canonical, rivals))
        others = self._others(canonical, negatives)
        # A card is of scores that portraits had a part in.
        card = None if self.semantics.portraits is None else calibration_of(self.clip)
        eye = None if camera is None else self.camera(camera).position
        for view in views:
            self.frame(view)  # an unknown one is told before the work
        answers, surface, ids = [], self.semantics.surface, self.semantics.instance
        self.encode(phrases)
        usual = rivals is None and canonical is None and not negatives and self.templates == ("{}",)
        for phrase in phrases:
            seen = self.decide(phrase, rivals, canonical, negatives, threshold)
            present = seen.score >= threshold
            margin = self._agreeing(self._margin(phrase, rivals, others), seen)
            found = np.minimum(expit(SHARPNESS * margin), seen.score)
            chosen = np.flatnonzero(found >= threshold) if present else np.empty(0, np.int64)
            chosen = chosen[np.argsort(-margin[chosen], kind="stable")]
            calibrated = usual and not seen.known and self.measured
            chance = card.probability(seen.score) if card is not None and calibrated else None
            answers.append(
                Answer(
                    phrase=phrase,
                    present=present,
                    score=seen.score,
                    probability=chance,
                    calibrated=chance is not None,
                    threshold=threshold,
                    rival=None if present else seen.rival,
                    points=surface.xyz[chosen],
                    point_scores=found[chosen],
                    point_index=chosen,
                    relevancy=found,
                    instances=instances_meant(surface, ids, phrase, found, threshold, eye) if present else (),
                )
            )
        for view in views:  # one after the other: more of them than are kept must not be rendered for each phrase
            for answer in answers:
                picture = self.picture(answer, view)
                answer.relevancies[view], answer.masks[view] = picture, answer.mask(picture)
        return answers

    def decide(
        self,
        phrase: str,
        rivals: Sequence[str] | None = None,
        canonical: Sequence[str] | None = None,
        negatives: Sequence[str] = (),
        threshold: float = THRESHOLD,
    ) -> Verdict:
        """Whether a phrase is there, see `presence`. Arguments are those of `ask`."""
        everyday = self.household(phrase) if rivals is None else ()
        named = self.rivals_of(phrase, rivals)
        named = tuple(name for name in dict.fromkeys(named) if name not in everyday)
        plain = self.canonical if canonical is None else tuple(canonical)
        # What a plane is, is settled among all that name planes.
        planes = tuple(filter(plane_of, everyday))
        asked = ((phrase,), planes, named, plain, tuple(negatives))
        own, _, beside, canonical_logits, excluded = self._logits(*asked, free=(*plain, *negatives))
        own, rivals_sum, alone = own[:, 0], log_sum(beside), log_sum(canonical_logits)
        if everyday:
            allowed, (most, shares) = np.isin(HOUSEHOLD, everyday), self._everyday_shares
            rivals_sum = np.logaddexp(rivals_sum, most + np.log(shares @ allowed.astype(np.float32)))
        known, names = self._witnesses.on_plane(bare_plane_of(phrase)), (*everyday, *named, *plain)
        # A thing is no plane: as one more that shares what is left, a plane would make the phrase likelier.
        count = max(sum(not plane_of(name) for name in names), min(len(names), 1))
        found = chances(own, np.logaddexp(rivals_sum, alone), count, excluded, known)
        whole, best = self._witnesses.best_whole(found), int(found.argmax())
        score, rival, free = float(found[best]), None, (*everyday, *named)
        # A floor that is not what was asked for does not speak for a patch of it that is.
        enough = max(WHOLE * score, THRESHOLD if score >= THRESHOLD else 0.0)
        witness = whole if whole is not None and found[whole] >= enough else best
        if free and score < threshold <= chances(own, alone, len(plain), excluded).max():
            likely = beside[best]
            if everyday:
                likely = np.concatenate([most[best] + np.log(shares[best, allowed]), likely])
            rival = free[int(likely.argmax())]
        return Verdict(witness, score, rival, bool(known[best]))

    def _logits(
        self, *groups: tuple[str, ...], free: tuple[str, ...] = ()
    ) -> list[Float[np.ndarray, "witnesses phrases"]]:
        """What witnesses say to each group of phrases, up to a number of each witness (see `presence`); `free` as in
        `_by_size`."""
        phrases = tuple(chain.from_iterable(groups))
        semantics, texts = self._witnesses.scene, self.encode(phrases)
        cosines, _ = semantics.compare(texts, texts[:0])
        nearer = cosines - self._witnesses.levels(cosines)
        if semantics.plane is not None:
            nearer = told_by_planes(nearer, phrases, semantics.plane, semantics.piece)
        logits = SHARE * semantics.encoder.logit_scale * nearer + TYPICAL * self._typical(texts)
        logits = logits + SIZED * self._by_size(phrases, free)[semantics.piece]
        return np.split(logits, np.cumsum([len(group) for group in groups])[:-1], axis=1)

    def _typical(self, texts: Float[np.ndarray, "phrases dim"]) -> Float[np.ndarray, " phrases"]:
        """How near texts are to everyday words, by these words' own mean and deviation."""
        middle, mean, deviation = self._usual
        return ((texts @ middle - mean) / max(deviation, 1e-6)).clip(-BOUND, BOUND)

    @cached_property
    def _everyday_shares(self) -> tuple[Float[np.ndarray, " witnesses"], Float[np.ndarray, "witnesses words"]]:
        """What witnesses say to everyday words: the most to any, and exp of how much less it is to each."""
        (logits,) = self._logits(HOUSEHOLD)
        most = logits.max(1)
        return most.astype(np.float64), np.exp((logits - most[:, None]).clip(-60)).astype(np.float32)

    @cached_property
    def _witnesses(self) -> Witnesses:
        return Witnesses.of(self.semantics)

    def _agreeing(self, margin: Float[np.ndarray, " points"], seen: Verdict) -> Float[np.ndarray, " points"]:
        """Margins of points that say what the best witness does: most of its points are as relevant as it is likely."""
        points, margin = self._witnesses.points(seen.witness), margin.astype(np.float64)
        target = logit(np.clip(seen.score, 1e-9, 1 - 1e-9)) / SHARPNESS + 1e-6
        margin[points] += max(0.0, target - np.quantile(margin[points], 1 - MOST, method="lower"))
        return margin

    def rivals_of(self, phrase: str, rivals: Sequence[str] | None = None) -> tuple[str, ...]:
        """Which of some phrases there are for a phrase to lose against: those that `may_oppose` it. None: the run's
        phrases, see `names_beside`."""
        if rivals is None:
            return self.names_beside(phrase, self.phrases)
        return tuple(rival for rival in rivals if may_oppose(rival, phrase))

    def names_beside(self, phrase: str, names: Sequence[str]) -> tuple[str, ...]:
        """Which names of things in the scene are of other things than a phrase is about: those that `may_oppose` it,
        and if all do, none that means nearly the same ("sofa" beside "couch")."""
        free = self.rivals_of(phrase, names)
        return free if len(free) < len(names) else self._unlike(phrase, free)

    def household(self, phrase: str) -> tuple[str, ...]:
        """What rooms hold, but for what a phrase may mean itself (see `household`)."""
        return self._unlike(phrase, tuple(word for word in HOUSEHOLD if may_oppose(word, phrase)))

    def _unlike(self, phrase: str, names: tuple[str, ...]) -> tuple[str, ...]:
        """Which names mean another thing than a phrase is about, where words do not tell them apart."""
        if not names:
            return names
        meant = " ".join(about(phrase)) or phrase
        same = means_the_same(self.encode([meant])[0], self.encode(names), self._usual[0])
        return tuple(name for name, like in zip(names, same) if not like or share_a_word(name, phrase))

    def _margin(
        self, phrase: str, rivals: Sequence[str] | None, others: tuple[str, ...]
    ) -> Float[np.ndarray, " points"]:
        """How much nearer each point is to a phrase than to the nearest of others, and of rivals."""
        known = self.phrases if rivals is None and self._among([phrase], self.phrases).all() else ()
        free = self.rivals_of(phrase, rivals)
        everyday = self.household(phrase) if rivals is None and not self.phrases else ()
        if self.semantics.sized is None:
            # What a plane is, is settled among all that name planes.
            own = self.compare([phrase, *filter(plane_of, (*free, *everyday))], (), known=known)[0][:, 0]
            best = self._nearest(others, free, known)
            return own - (
                np.maximum(best, self._everyday.best(np.isin(HOUSEHOLD, everyday)) - AHEAD) if everyday else best
            )
        own, beside = self.compare([phrase], (*others, *free, *everyday))
        return own[:, 0] - beside.max(1)

    def _nearest(self, *asked: tuple[str, ...]) -> Float[np.ndarray, " points"]:
        """Each point's cosine with the nearest of others and rivals; kept, since most questions compare with the same.

        Args:
            asked: others, rivals, and what is known.
        """
        if asked not in self._best:
            if len(self._best) >= KEPT:
                self._best.clear()
            others, rivals, known = asked
            best = self.compare((), others, known=known)[1].max(1)
            for part in _parts(rivals):
                best = np.maximum(best, self.compare(part, (), known=known)[0].max(1))
            self._best[asked] = best
        return self._best[asked]

    @cached_property
    def _everyday(self) -> Nearest:
        """Which of what rooms hold each point is nearest to; the list begins with planes, and so keeps its order."""
        return Nearest.of(self.compare(part, ())[0] for part in _parts(HOUSEHOLD))

    def label_picture(
        self, phrases: Sequence[str], view: str, canonical: Sequence[str] | None = None, none: bool = True
    ) -> Int[np.ndarray, "h w"]:
        """`labels` of the pixels of a view; 0 also where no surface is."""
        return self.labels_at(self.places(view), phrases, canonical, none)

    # -- pictures ----------------------------------------------------------------------------------------------

    @cached_property
    def scene(self) -> Scene:
        """The capture, with its training cameras where the field agrees with them (see `refined`)."""
        return refined(self.run, self.capture)

    @cached_property
    def capture(self) -> Scene:
        """The same as it was read."""
        return self._scene or self.run.load_scene()

    @cached_property
    def renderer(self) -> Renderer:
        """The field."""
        return restore(self.run, self.scene, self._device, self._backend)

    def frame(self, view: str) -> Frame:
        """The frame called `view`, or so but for its folder. Raises ConfigError: there is none, or several are."""
        frames = self.scene.frames
        found = [frame for frame in frames if frame.name == view]
        found = found or [frame for frame in frames if frame.name.rpartition("/")[2] == view]
        if not found:
            raise ConfigError(f"There is no view {view!r}", fix=f"such as {frames[0].name}")
        if len(found) > 1:
            raise ConfigError(f"{len(found)} views are called {view!r}", fix=f"such as {found[0].name}")
        return found[0]

    def camera(self, view: str) -> Camera:
        """Its camera. Raises ConfigError."""
        return self.frame(view).camera

    def view_file(self, view: str) -> str:
        """What its files are called, without suffix (see `view_files`). Raises ConfigError."""
        return self._view_files[self.frame(view).name]

    @cached_property
    def _view_files(self) -> dict[str, str]:
        return view_files(self.scene)

    def picture(self, answer: Answer, view: str) -> Float[np.ndarray, "h w"]:
        """An answer's relevancy in a view, 0 to 1; of many views one after the other, each for all answers."""
        return self.places(view).picture(answer.relevancy[:, None])[..., 0]

    def places(self, view: str) -> Places:
        """The surface points behind a view's pixels; rendered once."""
        if view not in self._places:
            if len(self._places) >= KEPT_PLACES:
                del self._places[next(iter(self._places))]
            self._places[view] = self.semantics.places(self.camera(view), self.depth(view))
        return self._places[view]

    def depth(self, view: str) -> Float[np.ndarray, "h w"]:
        """What z-depth the field has in a view, 0 where nothing is; rendered once."""
        if view not in self._depths:
            if len(self._depths) >= KEPT_VIEWS:
                del self._depths[next(iter(self._depths))]
            self._depths[view] = self.renderer.render(self.camera(view))["depth_z"]
        return self._depths[view]
