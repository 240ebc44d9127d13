"""Input of exports: a run's surface with labels and instances, in the requested frame.

A run without semantics has its surface extracted from the field, without labels. For more points than the run keeps,
the surface is extracted again, and semantics are interpolated from the nearest points of the run.
"""

import threading
from dataclasses import replace
from functools import cached_property

import numpy as np
from scipy.spatial.transform import Rotation

from ovseg3d.engine import Event, Report
from ovseg3d.errors import RunError
from ovseg3d.export.labelled import LabelledCloud, moved
from ovseg3d.export.options import ExportOptions
from ovseg3d.features.maps import normalise
from ovseg3d.field.renderer import Renderer
from ovseg3d.field.surface import Surface, SurfaceConfig, between, extract_surface, look
from ovseg3d.instances.kept_poses import posed
from ovseg3d.instances.records import InstancePoints
from ovseg3d.points.semantic_scene import FILE, SemanticScene
from ovseg3d.query.engine import QueryEngine
from ovseg3d.query.relevancy import label, relevancy
from ovseg3d.render.palette import colours
from ovseg3d.runs.fields import refined, restore
from ovseg3d.runs.folder import RunFolder
from ovseg3d.scene import Scene

MAX_POINTS = 3_000_000
"""Largest number of points that a spacing can request."""
SPARE = 1.5
"""Pixels rendered for each hit that a new surface needs; some rays miss."""
MIN_HITS = 2
"""Least hits of a point, if many points are requested."""


class ExportSource:
    """The input of exports; shared data is computed once.

    Args:
        run: any run.
        options: see `ExportOptions`.
        report: receives events of the stage "surface".
        stop: set it to end early.
    """

    def __init__(self, run: RunFolder, options: ExportOptions, report: Report, stop: threading.Event) -> None:
        self.run, self.options, self.report, self.stop = run, options, report, stop

    def end_if_stopped(self) -> None:
        """Raises KeyboardInterrupt if `stop` is set."""
        if self.stop.is_set():
            raise KeyboardInterrupt

    @cached_property
    def engine(self) -> QueryEngine | None:
        """Queries the run; None: the run has no semantics."""
        if not (self.run.folder / FILE).exists():
            return None
        options = self.options
        scene = None if options.scene is None else self.run.load_scene(options.scene)
        return QueryEngine(self.run, scene, options.device, options.backend)

    def need_engine(self) -> QueryEngine:
        """`engine`. Raises RunError: the run has no semantics."""
        if self.engine is None:
            raise RunError(
                "The run has no semantics, so it has no labels and no instances",
                where=self.run.folder,
                fix=f"ovseg3d train {self.run.folder} --resume --only semantics; or --what cloud,mesh,video,html",
            )
        return self.engine

    @cached_property
    def scene(self) -> Scene:
        """The capture, with refined cameras."""
        if self.engine is not None:
            return self.engine.scene
        return refined(self.run, self.run.load_scene(self.options.scene))

    @cached_property
    def renderer(self) -> Renderer:
        """Renders the field."""
        if self.engine is not None:
            return self.engine.renderer
        return restore(self.run, self.scene, self.options.device, self.options.backend)

    @cached_property
    def phrases(self) -> tuple[str, ...]:
        """The list of labels."""
        if self.engine is None:
            return ()
        chosen = self.options.phrases
        return tuple(dict.fromkeys(self.scene.phrases if chosen is None else chosen))

    @cached_property
    def whole(self) -> LabelledCloud:
        """All of the run's surface points, in the requested frame."""
        surface = self._look(SurfaceConfig()) if self.engine is None else self.engine.semantics.surface
        return self._labelled(surface)

    @cached_property
    def chosen(self) -> LabelledCloud:
        """The points that `points`, `spacing` and `select` request."""
        options, made = self.options, self.whole
        wanted = options.points or 0
        if options.spacing is not None and len(made):
            typical = float(np.median(made.surface.cell))
            if options.spacing < 0.9 * typical:
                wanted = max(wanted, min(int(len(made) * (typical / options.spacing) ** 2), MAX_POINTS))
        if wanted > len(made):
            # A margin: points with too few hits are dropped, and thinning reaches any number closely.
            denser = self._labelled(self._look(self._denser(int(1.25 * wanted))))
            if len(denser) < 0.8 * wanted:
                message = f"{wanted:,} points were requested; the photos' resolution gives {len(denser):,}"
                self.report(Event("log", "surface", message=message))
            made = replace(denser, instances=made.instances)
        if options.select:
            numbers = [made.phrases.index(phrase) + 1 for phrase in options.select]
            made = made.take(np.isin(made.label, numbers))
        return made.thinned(options.points, options.spacing)

    def _denser(self, points: int) -> SurfaceConfig:
        """Settings for more points: more pixels, and fewer hits where the photos' resolution does not suffice."""
        cameras = [self.scene.frames[view].camera for view in self.scene.train]
        views = len(cameras) + len(between(cameras))
        most = views * max(camera.width * camera.height for camera in cameras)
        hits = min(SurfaceConfig().hits, max(MIN_HITS, int(most / (SPARE * points))))
        return SurfaceConfig(points=points, hits=hits, pixels=int(SPARE * hits * points / views) + 1)

    def _look(self, settings: SurfaceConfig) -> Surface:
        """The field's surface, input frame."""
        scene = self.scene
        cameras = [scene.frames[view].camera for view in scene.train]
        views = list(look(self.renderer, cameras + between(cameras), settings, self.report, self.stop))
        self.end_if_stopped()
        up = np.linalg.inv(scene.world_from_input[:3, :3])[:, 2]
        return extract_surface(self.renderer, views, up / np.linalg.norm(up), scene.metric, settings)

    def _labelled(self, surface: Surface) -> LabelledCloud:
        """Points of the input frame with labels, instances and features, in the requested frame."""
        frame = self.options.frame
        world, metres = self.run.transform()
        similarity = world if frame == "world" else np.eye(4)
        if metres is not None:
            metres = 1.0 if frame == "world" else metres
        instance, columns, facts = np.zeros(len(surface), np.int32), {}, {}
        labels, own = np.zeros(len(surface), np.int64), None
        if self.engine is not None:
            known = self._known(surface)
            instance, encoder = known.instance, known.encoder
            columns = {"vectors": known.vectors, "agreement": known.agreement}
            facts = {"axes": known.basis.axes, "encoder": encoder.id, "encoder_weight_hash": encoder.weight_hash,
                     "logit_scale": encoder.logit_scale}  # fmt: skip
            if self.phrases:
                phrase, other = self.engine.closed(self.phrases, self.engine.canonical, of=known)
                labels = label(phrase, other if self.options.none else None)
                columns |= {
                    "scores": known.scores(self.engine.encode(self.phrases)),
                    "relevancy": relevancy(phrase, other),
                }
                best = columns["relevancy"][np.arange(len(labels)), labels - 1]
                own = np.where(labels > 0, best, 0.0).astype(np.float64)
        here = surface if frame == "input" else moved(surface, similarity)
        instances = InstancePoints(here, instance).records(
            labels=labels if self.phrases else None, phrases=self.phrases, scores=own, frame=frame
        )
        if self.engine is not None:
            turn = None if frame == "input" else Rotation.from_matrix(_turn(similarity))
            instances = posed(instances, self.engine.context.poses, here.xyz, instance, here.up, turn)
        tints = colours(self.phrases, () if self.engine is None else self.engine.phrases)
        return LabelledCloud(
            here, labels, instance, self.phrases, tints, instances, self.run.scene_name, frame,
            similarity, metres, columns, facts,
        )  # fmt: skip

    def _known(self, surface: Surface) -> SemanticScene:
        """The semantics of a surface; those of new points are interpolated from the nearest points of the run."""
        learnt = self.need_engine().semantics
        if surface is learnt.surface:
            return learnt
        near, weight = learnt.neighbours(surface.xyz)
        vectors = np.zeros((len(surface), learnt.vectors.shape[1]), np.float32)
        for column in range(near.shape[1]):
            vectors += weight[:, column : column + 1].astype(np.float32) * learnt.vectors[near[:, column]]
        return replace(learnt.take(near[:, 0]), surface=surface, vectors=normalise(vectors))


def _turn(similarity: np.ndarray) -> np.ndarray:
    """The rotation of a similarity."""
    linear = similarity[:3, :3]
    return linear / np.cbrt(np.linalg.det(linear))
