"""Ask a run: phrases in, points, things and pictures out.

    asker = Asker(run)
    answer = asker.ask(["a red chair"])[0]     # relevancy of points; what is above the threshold
    labels = asker.labels(["chair", "table"])  # a closed list: each point's nearest phrase, 0 = none of these

The engine puts together what each does one thing: `PhraseEncoder` (phrases as vectors), `SimilarityModel` (phrases with
points), `Decision` (is it there, and which points are meant), `LabelModel` (closed lists) and `ViewCache` (what was
rendered). Positions are in the input frame.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from ovseg3d.encoders.base import TextImageEncoder
from ovseg3d.field.renderer import Renderer
from ovseg3d.points.semantic_scene import Places, SemanticScene, load_semantics
from ovseg3d.query.answer import THRESHOLD, Answer, Criteria, Verdict
from ovseg3d.query.context import RunContext
from ovseg3d.query.decision import Decision
from ovseg3d.query.labels import LabelModel
from ovseg3d.query.phrase_encoder import PhraseEncoder
from ovseg3d.query.similarity import SimilarityModel
from ovseg3d.query.view_cache import ViewCache
from ovseg3d.query.vocabulary import Vocabulary
from ovseg3d.runs.devices import BackendName, DeviceName
from ovseg3d.runs.folder import RunFolder
from ovseg3d.runs.phrases import in_list
from ovseg3d.scene import Camera, Frame, Scene


class QueryEngine:
    """Answers questions about one run; what it has loaded and rendered it keeps.

    Args:
        run: with a stage `semantics`.
        scene: its capture, for the names of views; read again when it is not given.
        device, backend: what to render and encode on.
        templates: sentences with {} for a phrase, whose mean is its vector; by default the phrase as it is.
        semantics: surface points and what they mean; by default those that the run keeps.

    Raises:
        RunError: the run has no semantics.
    """

    def __init__(
        self,
        run: RunFolder,
        scene: Scene | None = None,
        device: DeviceName = "auto",
        backend: BackendName = "auto",
        *,
        templates: Sequence[str] = ("{}",),
        semantics: SemanticScene | None = None,
    ) -> None:
        self.context = RunContext(run, scene, load_semantics(run.folder) if semantics is None else semantics)
        self.texts = PhraseEncoder(self.context, device, templates)
        self.vocabulary = Vocabulary(self.context, self.texts)
        self.similarity = SimilarityModel(self.context, self.texts)
        self.decision = Decision(self.similarity, self.vocabulary)
        self.label_model = LabelModel(self.similarity)
        self.views = ViewCache(self.context, device, backend)

    # -- questions ---------------------------------------------------------------------------------------------

    def ask(
        self,
        phrases: Sequence[str],
        *,
        negatives: Sequence[str] = (),
        canonical: Sequence[str] | None = None,
        alternatives: Sequence[str] | None = None,
        threshold: float = THRESHOLD,
        views: Sequence[str] = (),
        camera: str | None = None,
    ) -> list[Answer]:
        """Where each phrase is, and whether it is there at all. A list may be one text with semicolons.

        Args:
            phrases: what to look for, each for itself.
            negatives: what is not meant, such as "office chair" beside "chair".
            canonical: what everything is compared with; None: what suits the encoder (see `canonical`).
            rivals: what else a point or the scene may show instead. By default everyday words (`default_vocabulary`) and the
                run's phrases; if there are any, points are compared with these alone. `alternatives_of` and `names_beside`
                tell what is left out.
            threshold: relevancy from which a point counts, and score from which the scene does.
            views: names of frames to draw masks for; all are held at once (`answers.save_answers` holds few).
            camera: the frame from which distances are measured.

        Raises:
            ConfigError: an empty phrase, no canonical phrase, a threshold that is none, or an unknown view.
            EncoderError: a phrase is too long for the encoder, or the encoder is not to be had.
            RunError: the encoder has other weights than when the run was trained.
        """
        phrases, negatives = in_list(phrases), in_list(negatives)
        canonical, alternatives = (None if said is None else in_list(said) for said in (canonical, alternatives))
        criteria = Criteria(negatives, canonical, alternatives, threshold)
        self.similarity.others(canonical, negatives)
        eye = None if camera is None else self.camera(camera).position
        for view in views:
            self.frame(view)  # an unknown one is told before the work
        self.encode(phrases)
        answers = [self.decision.answer(phrase, criteria, eye) for phrase in phrases]
        for view in views:  # one after the other: more of them than are kept must not be rendered for each phrase
            for answer in answers:
                image = self.image(answer, view)
                answer.relevancies[view], answer.masks[view] = image, answer.mask(image)
        return answers

    def decide(
        self,
        phrase: str,
        alternatives: Sequence[str] | None = None,
        canonical: Sequence[str] | None = None,
        negatives: Sequence[str] = (),
        threshold: float = THRESHOLD,
    ) -> Verdict:
        """Whether a phrase is there, see `presence`.

        Args:
            phrase: free text.
            rivals, canonical, negatives, threshold: as for `ask`, in lists.

        Raises:
            ConfigError, EncoderError, RunError: as `ask`.
        """
        return self.decision.scene.decide(phrase, Criteria(negatives, canonical, alternatives, threshold))

    # -- phrases -----------------------------------------------------------------------------------------------

    @property
    def run(self) -> RunFolder:
        """The run that is asked."""
        return self.context.run

    @property
    def phrases(self) -> tuple[str, ...]:
        """What the run, or else its capture as far as it is at hand, says is in the scene."""
        return self.context.phrases

    @property
    def clip(self) -> TextImageEncoder:
        """The encoder that the run's features are from. Raises EncoderError, RunError: it is another one now."""
        return self.texts.clip

    @property
    def canonical(self) -> tuple[str, ...]:
        """What phrases are compared with unless the user says otherwise. Raises EncoderError, RunError."""
        return self.texts.canonical

    def encode(self, phrases: Sequence[str]) -> Float[np.ndarray, "phrases dim"]:
        """Unit vectors of phrases in the run's encoder; see `PhraseEncoder.encode`."""
        return self.texts.encode(phrases)

    def alternatives_of(self, phrase: str, alternatives: Sequence[str] | None = None) -> tuple[str, ...]:
        """Which of some phrases there are for a phrase to lose against: those that `may_oppose` it. None: the run's
        phrases, see `names_beside`."""
        return self.vocabulary.alternatives_of(phrase, alternatives)

    def names_beside(self, phrase: str, names: Sequence[str]) -> tuple[str, ...]:
        """Which names of things in the scene are of other things than a phrase is about: those that `may_oppose` it,
        and if all do, none that means nearly the same ("sofa" beside "couch")."""
        return self.vocabulary.names_beside(phrase, names)

    def default_vocabulary(self, phrase: str) -> tuple[str, ...]:
        """What rooms hold, but for what a phrase may mean itself (see `default_vocabulary`)."""
        return self.vocabulary.default_vocabulary(phrase)

    # -- points ------------------------------------------------------------------------------------------------

    @property
    def semantics(self) -> SemanticScene:
        """Surface points and what they mean."""
        return self.context.semantics

    def relevancy(
        self, phrases: Sequence[str], *, negatives: Sequence[str] = (), canonical: Sequence[str] | None = None
    ) -> Float[np.ndarray, "points phrases"]:
        """LERF's relevancy of each surface point, 0 to 1, whatever else is in the scene. Raises as `ask`."""
        return self.similarity.relevancy(phrases, negatives=negatives, canonical=canonical)

    def compare(
        self, phrases: Sequence[str], others: Sequence[str], *, known: Sequence[str] = ()
    ) -> tuple[Float[np.ndarray, "points phrases"], Float[np.ndarray, "points rivals"]]:
        """How near surface points are to phrases, and to others; see `SimilarityModel.compare`."""
        return self.similarity.compare(phrases, others, known=known)

    def closed(
        self, phrases: Sequence[str], canonical: Sequence[str] = (), of: SemanticScene | None = None
    ) -> tuple[Float[np.ndarray, "points phrases"], Float[np.ndarray, "points rivals"]]:
        """What `labels` compares: how near points are to each phrase of a list, and to canonical ones.

        Args:
            phrases: the list.
            canonical: what fits anything.
            of: other points of the same scene than the run's own.
        """
        return self.label_model.closed(phrases, canonical, of)

    def labels(
        self, phrases: Sequence[str], canonical: Sequence[str] | None = None, none: bool = True
    ) -> Int[np.ndarray, " points"]:
        """Each surface point's phrase, counted from 1; 0: none of these.

        Only the run's own phrases are known to be in the scene, and evened out; a list may name what is not there. One
        that has all of them leaves little for none of these.

        Args:
            phrases: the list.
            canonical: what takes a point from the list if it is nearer; None: what suits the encoder.
            none: whether a point may belong to none of the list.

        Raises:
            ConfigError: an empty list or phrase.
            EncoderError: a phrase is too long for the encoder, or the encoder is not to be had.
            RunError: the encoder has other weights than when the run was trained.
        """
        return self.label_model.labels(phrases, canonical, none)

    # -- sizes -------------------------------------------------------------------------------------------------

    @property
    def metres(self) -> float | None:
        """Metres of an input unit, stated or guessed; see `SizePrior.metres`."""
        return self.similarity.sizes.metres

    @property
    def measured(self) -> bool:
        """Whether it is known how large things are, if there are any."""
        return self.similarity.sizes.measured

    def guess_metres(self, phrases: Sequence[str] = ()) -> float | None:
        """Metres of an input unit, by what things look like; see `SizePrior.guess_metres`."""
        return self.similarity.sizes.guess_metres(phrases)

    # -- views -------------------------------------------------------------------------------------------------

    @property
    def scene(self) -> Scene:
        """The capture, with its training cameras where the field agrees with them (see `refined`)."""
        return self.views.scene

    @property
    def capture(self) -> Scene:
        """The same as it was read."""
        return self.views.capture

    @property
    def renderer(self) -> Renderer:
        """The field."""
        return self.views.renderer

    def frame(self, view: str) -> Frame:
        """The frame called `view`, or so but for its folder. Raises ConfigError: there is none, or several are."""
        return self.views.frame(view)

    def camera(self, view: str) -> Camera:
        """Its camera. Raises ConfigError."""
        return self.views.camera(view)

    def view_file(self, view: str) -> str:
        """What its files are called, without suffix (see `view_files`). Raises ConfigError."""
        return self.views.view_file(view)

    def depth(self, view: str) -> Float[np.ndarray, "h w"]:
        """What z-depth the field has in a view, input units, 0 where nothing is; rendered once."""
        return self.views.depth(view)

    def places(self, view: str) -> Places:
        """The surface points behind a view's pixels; rendered once."""
        return self.views.places(view)

    def image(self, answer: Answer, view: str) -> Float[np.ndarray, "h w"]:
        """An answer's relevancy in a view, 0 to 1; of many views one after the other, each for all answers."""
        return self.places(view).image(answer.relevancy[:, None])[..., 0]

    def label_image(
        self, phrases: Sequence[str], view: str, canonical: Sequence[str] | None = None, none: bool = True
    ) -> Int[np.ndarray, "h w"]:
        """`labels` of the pixels of a view; 0 also where no surface is."""
        return self.labels_at(self.places(view), phrases, canonical, none)

    def labels_at(
        self, places: Places, phrases: Sequence[str], canonical: Sequence[str] | None = None, none: bool = True
    ) -> Int[np.ndarray, "h w"]:
        """The same of any picture, by the surface points behind its pixels."""
        return self.label_model.labels_at(places, phrases, canonical, none)
