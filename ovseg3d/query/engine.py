"""Query a run with phrases: points, instances, masks and labels.

    engine = QueryEngine(run)
    answer = engine.ask(["a red chair"])[0]     # relevancy of all points, and the points above the threshold
    labels = engine.labels(["chair", "table"])  # a closed list: each point's nearest phrase, 0 = none of these

The engine is composed of `PhraseEncoder` (text vectors), `SimilarityModel` (cosines of phrases and points), `Decision`
(presence, points and instances of a phrase), `LabelModel` (closed lists), `DetectionModel` (boxes of the detection
head), `RelationModel` (questions about places) and `ViewCache` (rendered views). Positions are in the input frame.
"""

from collections.abc import Sequence
from contextlib import suppress

import numpy as np
from jaxtyping import Float, Int

from ovseg3d.encoders.base import TextImageEncoder
from ovseg3d.errors import ConfigError
from ovseg3d.field.renderer import Renderer
from ovseg3d.heads.detection import DetectedScene, Detector
from ovseg3d.points.semantic_scene import Places, SemanticScene, load_semantics
from ovseg3d.query.answer import THRESHOLD, Answer, Criteria, Verdict
from ovseg3d.query.context import RunContext
from ovseg3d.query.decision import Decision
from ovseg3d.query.detections import DetectionModel
from ovseg3d.query.labels import LabelModel
from ovseg3d.query.phrase_encoder import PhraseEncoder
from ovseg3d.query.relations.in_run import RelationModel
from ovseg3d.query.similarity import SimilarityModel
from ovseg3d.query.view_cache import ViewCache
from ovseg3d.query.vocabulary import Vocabulary
from ovseg3d.query.words import meant_by
from ovseg3d.runs.devices import BackendName, DeviceName
from ovseg3d.runs.folder import RunFolder
from ovseg3d.runs.phrases import in_list
from ovseg3d.scene import Camera, Frame, Scene


class QueryEngine:
    """Answers questions about one run, and keeps what it has loaded and rendered.

    Args:
        run: a run with the stage `semantics`.
        scene: its capture, for the names of views; read again if it is not given.
        device, backend: used to render and to encode.
        templates: prompts with {} in place of the phrase; a phrase's vector is their mean. By default the phrase alone.
        semantics: surface points and their language features; by default the run's own.

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
        self.detections = DetectionModel(self.context, self.label_model)
        self.relations = RelationModel(self.similarity, self.decision, self.label_model, self.detections)
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
        camera: str | Sequence[float] | Float[np.ndarray, "..."] | None = None,
    ) -> list[Answer]:
        """Decide for each phrase whether the scene shows it, and where. A list may be one text with semicolons.

        Questions about places ("the mug on the desk", "how many chairs are there?") are checked on instances, see
        `query.relations`.

        Args:
            phrases: what to look for, each independently of the others.
            negatives: what is not meant, such as "office chair" beside "chair".
            canonical: generic phrases to compare with; None: the encoder's own (see `canonical`).
            alternatives: what the scene may show instead. None: the default vocabulary and the run's phrases, but for
                those that mean the same (see `alternatives_of`, `names_beside`). (): none.
            threshold: least relevancy of a point, and least score of the scene; between 0 and 1.
            views: names of frames to make masks for; all are held in memory (`answers.save_answers` holds few).
            camera: name of a frame, or a position in the input frame: from there distances of instances are measured,
                and "left of" is seen.

        Raises:
            ConfigError: an empty phrase, no canonical phrase, a threshold outside 0 to 1, an unknown view, or no
                position; "left of" without a camera, if it is not known which way the reference faces.
            EncoderError: a phrase is too long for the encoder, or the encoder is not available.
            RunError: the encoder's weights differ from those that the run was trained with.
        """
        phrases, negatives, views = in_list(phrases), in_list(negatives), in_list(views)
        canonical, alternatives = (None if said is None else in_list(said) for said in (canonical, alternatives))
        criteria = Criteria(negatives, canonical, alternatives, threshold)
        self.similarity.others(canonical, negatives)
        eye = self.camera(camera).position if isinstance(camera, str) else _position(camera)
        for view in views:
            self.frame(view)  # report an unknown view before the work
        self.encode([*phrases, *map(meant_by, phrases)])  # at once; the vocabulary wants what a phrase is about
        answers = [self.relations.answer(phrase, criteria, eye) for phrase in phrases]
        for view in views:  # views outside: the cache may hold fewer views than were asked for
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
        """Decide whether the scene shows a phrase; see `presence`.

        Args:
            phrase: free text.
            alternatives, canonical, negatives, threshold: as for `ask`, as lists.

        Raises:
            ConfigError, EncoderError, RunError: as `ask`.
        """
        return self.decision.decide(phrase, Criteria(negatives, canonical, alternatives, threshold))

    # -- phrases -----------------------------------------------------------------------------------------------

    @property
    def run(self) -> RunFolder:
        """The run that is queried."""
        return self.context.run

    @property
    def phrases(self) -> tuple[str, ...]:
        """The run's phrases."""
        return self.context.phrases

    @property
    def clip(self) -> TextImageEncoder:
        """The encoder of the run's features. Raises EncoderError; RunError: its weights differ now."""
        return self.texts.clip

    @property
    def canonical(self) -> tuple[str, ...]:
        """The default canonical phrases. Raises EncoderError, RunError."""
        return self.texts.canonical

    def encode(self, phrases: Sequence[str]) -> Float[np.ndarray, "phrases dim"]:
        """Unit vectors of phrases in the run's encoder; see `PhraseEncoder.encode`."""
        return self.texts.encode(phrases)

    def alternatives_of(self, phrase: str, alternatives: Sequence[str] | None = None) -> tuple[str, ...]:
        """The alternatives that compete with a phrase: those that `may_oppose` it. None: the run's phrases, filtered
        by `names_beside`."""
        return self.vocabulary.alternatives_of(phrase, alternatives)

    def names_beside(self, phrase: str, names: Sequence[str]) -> tuple[str, ...]:
        """The names that mean other objects than a phrase: those that `may_oppose` it. If all do, near synonyms are
        removed ("sofa" beside "couch")."""
        return self.vocabulary.names_beside(phrase, names)

    def default_vocabulary(self, phrase: str) -> tuple[str, ...]:
        """The default vocabulary without words for what the phrase itself may mean (see `default_vocabulary`)."""
        return self.vocabulary.default_vocabulary(phrase)

    # -- points ------------------------------------------------------------------------------------------------

    @property
    def semantics(self) -> SemanticScene:
        """Surface points and their language features."""
        return self.context.semantics

    def relevancy(
        self, phrases: Sequence[str], *, negatives: Sequence[str] = (), canonical: Sequence[str] | None = None
    ) -> Float[np.ndarray, "points phrases"]:
        """LERF's relevancy of each surface point, 0 to 1, without alternatives. Raises as `ask`."""
        return self.similarity.relevancy(phrases, negatives=negatives, canonical=canonical)

    def compare(
        self, phrases: Sequence[str], others: Sequence[str], *, known: Sequence[str] = ()
    ) -> tuple[Float[np.ndarray, "points phrases"], Float[np.ndarray, "points alternatives"]]:
        """Cosines of surface points with phrases and with others; see `SimilarityModel.compare`."""
        return self.similarity.compare(phrases, others, known=known)

    def closed(
        self, phrases: Sequence[str], canonical: Sequence[str] = (), of: SemanticScene | None = None
    ) -> tuple[Float[np.ndarray, "points phrases"], Float[np.ndarray, "points alternatives"]]:
        """The cosines that `labels` compares: of points with each phrase of a list, and with canonical phrases.

        Args:
            phrases: the list.
            canonical: generic phrases.
            of: other points of the same scene; by default the run's own.
        """
        return self.label_model.closed(phrases, canonical, of)

    def labels(
        self, phrases: Sequence[str], canonical: Sequence[str] | None = None, none: bool = True
    ) -> Int[np.ndarray, " points"]:
        """Label each surface point with its phrase, counted from 1; 0: none of these.

        Hubness is corrected only for the run's own phrases, which are known to be in the scene; a list may name absent
        objects. A list that contains all of the run's phrases leaves few points unlabelled.

        Args:
            phrases: the list.
            canonical: generic phrases; a point that is nearer to one of them gets 0. None: the encoder's own.
            none: whether 0 is allowed.

        Raises:
            ConfigError: an empty list or phrase.
            EncoderError: a phrase is too long for the encoder, or the encoder is not available.
            RunError: the encoder's weights differ from those that the run was trained with.
        """
        return self.label_model.labels(phrases, canonical, none)

    # -- detections --------------------------------------------------------------------------------------------

    def detect(
        self,
        phrases: Sequence[str] | None = None,
        *,
        detector: Detector | None = None,
        metres_per_unit: float | None = None,
    ) -> DetectedScene:
        """Detect objects on the surface; boxes are in the input frame and unit. See `DetectionModel`.

        Args:
            phrases: names to choose from, a list or a text with semicolons; what is none of them is left out. None:
                those of the run; what is none of these has no name, or, if the run has no phrases, the head's own.
            detector: whose least score counts for instances, too; None: the shipped one, and instances of any score.
            metres_per_unit: None: the scene's, or `metres`.

        Raises:
            ConfigError: the surface has too few points.
            EncoderError: a phrase is too long, or the run's encoder is not available.
        """
        return self.detections.named(phrases, detector, metres_per_unit)

    # -- scale -------------------------------------------------------------------------------------------------

    @property
    def metres(self) -> float | None:
        """Metres per input unit, stated or estimated; see `RunContext.metres`."""
        return self.context.metres

    # -- views -------------------------------------------------------------------------------------------------

    @property
    def scene(self) -> Scene:
        """The capture with refined training cameras (see `refined`)."""
        return self.views.scene

    @property
    def capture(self) -> Scene:
        """The capture as it was read."""
        return self.views.capture

    @property
    def renderer(self) -> Renderer:
        """Renders the field."""
        return self.views.renderer

    def frame(self, view: str) -> Frame:
        """The frame named `view`, with or without its folder. Raises ConfigError: there is none, or several."""
        return self.views.frame(view)

    def camera(self, view: str) -> Camera:
        """The view's camera. Raises ConfigError."""
        return self.views.camera(view)

    def view_file(self, view: str) -> str:
        """The name of the view's files, without suffix (see `view_files`). Raises ConfigError."""
        return self.views.view_file(view)

    def depth(self, view: str) -> Float[np.ndarray, "h w"]:
        """The field's z-depth in a view, input units, 0 where there is none; cached. Raises ConfigError."""
        return self.views.depth(view)

    def places(self, view: str) -> Places:
        """The surface points behind a view's pixels; cached. Raises ConfigError."""
        return self.views.places(view)

    def image(self, answer: Answer, view: str) -> Float[np.ndarray, "h w"]:
        """An answer's relevancy in a view, 0 to 1. With many views, loop over views first, then over answers."""
        return self.places(view).image(answer.relevancy[:, None])[..., 0]

    def label_image(
        self, phrases: Sequence[str], view: str, canonical: Sequence[str] | None = None, none: bool = True
    ) -> Int[np.ndarray, "h w"]:
        """`labels` of the pixels of a view; 0 also where there is no surface."""
        return self.labels_at(self.places(view), phrases, canonical, none)

    def labels_at(
        self, places: Places, phrases: Sequence[str], canonical: Sequence[str] | None = None, none: bool = True
    ) -> Int[np.ndarray, "h w"]:
        """The same for any image, by the surface points behind its pixels."""
        return self.label_model.labels_at(places, phrases, canonical, none)


def _position(given: Sequence[float] | Float[np.ndarray, "..."] | None) -> Float[np.ndarray, "3"] | None:
    """Raises ConfigError: these are not three finite numbers."""
    if given is None:
        return None
    position = np.asarray(given, dtype=object)
    with suppress(TypeError, ValueError):
        position = position.astype(np.float64)
    if position.dtype != np.float64 or position.shape != (3,) or not np.isfinite(position).all():
        raise ConfigError("A camera is the name of a view, or a position: three numbers", fix="camera=c2w[:3, 3]")
    return position
