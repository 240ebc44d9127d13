"""The semantic protocols of one run by name, for `ovseg3d eval --protocol`.

Every figure belongs to a group, and groups are never pooled: "held-out" and "train" views; "scene" for protocols of the
whole scene; and, in rooms whose objects.json states which styles the built-in encoders were trained on, "seen styles"
and "unseen styles" of each of these.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from functools import cache, cached_property, partial
from pathlib import Path

import numpy as np

from ovseg3d.datasets.segmentation_protocols import SEGMENTATION_PROTOCOLS
from ovseg3d.engine import Report, ignore, until_stopped
from ovseg3d.errors import ConfigError
from ovseg3d.evaluate import measure
from ovseg3d.evaluate.absence import measure_run_absence
from ovseg3d.evaluate.metrics.report import Scores
from ovseg3d.evaluate.papers import measure_lerf, measure_ovs3d, measure_ovs3d_phrases
from ovseg3d.evaluate.scans import measure_run_scan_ap, measure_run_vertices, read_labelled_cloud
from ovseg3d.evaluate.selection import measure_lerf_selection, measure_run_selection
from ovseg3d.query.engine import QueryEngine
from ovseg3d.render.views import ViewChoice, choose_views
from ovseg3d.runs.figures import EVALUATED
from ovseg3d.runs.folder import RunFolder
from ovseg3d.synth.cloud import SurfaceCloud, instance_images

Found = dict[str, Scores]
"""Scores by group."""


class Evaluator:
    """Measures one run; data that several protocols need is computed once.

    Args:
        engine: of the run.
        views: which views to measure; with "all", held-out and training views are separate groups.
        labels: the folder of a paper's labels; by default the paper's own location.
        report: receives events of the stage "measure".
        stop: set it to end after the current view or phrase: KeyboardInterrupt then.
    """

    def __init__(
        self,
        engine: QueryEngine,
        views: ViewChoice = "held-out",
        labels: Path | None = None,
        *,
        report: Report = ignore,
        stop: threading.Event | None = None,
    ) -> None:
        self.engine, self.scene, self._labels, self._report, self._stop = engine, engine.scene, labels, report, stop
        chosen = set(choose_views(self.scene, views))
        groups = {"held-out": self.scene.test, "train": self.scene.train}
        self.groups = {name: own for name, own in groups.items() if own and chosen.issuperset(own)}

    def scores(self, names: Sequence[str]) -> dict[str, Found]:
        """Scores by protocol and group.

        Raises:
            ConfigError: the scene lacks the ground truth of a protocol.
            SceneError: a label file is damaged.
            KeyboardInterrupt: after `stop`.
        """
        return {name: PROTOCOLS[name](self) for name in until_stopped(names, self._stop)}

    def index(self) -> Found:
        """Each pixel's class against the label images; see `measure.measure_index`.

        Groups without label images are left out. Raises ConfigError if no group has any.
        """
        measure.classes_of(self.scene)  # report a scene without any labels first
        frames, found = self.scene.frames, {}
        labelled = {name: [v for v in views if frames[v].label_path] for name, views in self.groups.items()}
        if not any(labelled.values()):
            raise ConfigError(
                f"No {' or '.join(labelled)} view has a label image", where=self.scene.path, fix="--views all"
            )
        for group, views in labelled.items():
            if not views:
                continue
            found[group] = self._index(views)
            # True labels were rendered from the capture's own cameras, not from refined ones.
            cameras = [self.engine.capture.frames[view].camera for view in views]
            for style, instances in self._styles.items():
                images = instance_images(self.scene.path, cameras)
                shown = {view: np.isin(image, list(instances)) for view, image in zip(views, images)}
                found[f"{group}, {style}"] = self._index(views, shown.__getitem__)
        return found

    def _index(self, views: Sequence[int], keep: Callable | None = None) -> Scores:
        return measure.measure_index(self.scene, self._labeller, views, keep=keep, report=self._report, stop=self._stop)

    def points(self) -> Found:
        """Each surface point's class against a synthetic room's exact surface; see `measure.measure_cloud`."""
        return self._of_styles(measure.measure_cloud)

    def instances(self) -> Found:
        """The run's instances against a synthetic room's; see `measure.measure_run_instances`."""
        return self._of_styles(measure.measure_run_instances)

    def instance_ap(self) -> Found:
        """ScanNet's average precision of the run's instances; see `measure.measure_run_instance_ap`."""
        labels = self.engine.labels(self._classes, none=False)
        return {"scene": measure.measure_run_instance_ap(self.scene, self.engine.semantics, labels, self._truth)}

    def _of_styles(self, measured: Callable[..., Scores]) -> Found:
        groups = {"scene": None, **self._styles}
        semantics, labels = self.engine.semantics, self.engine.labels(self._classes, none=False)
        return {
            name: measured(self.scene, semantics, labels, truth=self._truth, instances=instances)
            for name, instances in until_stopped(groups.items(), self._stop)
        }

    def consistency(self) -> Found:
        """Agreement of a point's labels over all views of a group; see `measure.measure_agreement`."""
        semantics, depth = self.engine.semantics, self.engine.depth
        return {
            name: measure.measure_agreement(self.scene, semantics, self._labeller, depth, views, stop=self._stop)
            for name, views in self.groups.items()
        }

    def absence(self) -> Found:
        """Whether absent phrases are reported as absent; see `measure_run_absence`."""
        return {"scene": measure_run_absence(self.engine, measure.shown_classes(self.scene), stop=self._stop)}

    def ovs3d(self) -> Found:
        """3D-OVS's masks by view and phrase; see `papers.measure_ovs3d`."""
        return measure_ovs3d(self.engine, self.groups, self._labels, stop=self._stop)

    def lerf(self) -> Found:
        """LERF's boxes and polygons; see `papers.measure_lerf`."""
        return measure_lerf(self.engine, self.groups, self._labels, stop=self._stop)

    def selection(self) -> Found:
        """Points that a phrase selects; see `selection.measure_run_selection`."""
        return {"scene": measure_run_selection(self.engine, self._truth, stop=self._stop)}

    def ovs3d_phrases(self) -> Found:
        """LangSplat's protocol on 3D-OVS's data; see `papers.measure_ovs3d_phrases`."""
        return measure_ovs3d_phrases(self.engine, self.groups, self._labels, stop=self._stop)

    def lerf_selection(self) -> Found:
        """Points that a phrase selects, in LERF's frames; see `selection.measure_lerf_selection`."""
        return measure_lerf_selection(self.engine, self.groups, self._labels, stop=self._stop)

    def scan(self, name: str) -> Found:
        """Classes of a labelled scan's vertices, by a segmentation protocol; see `scans.measure_run_vertices`."""
        return self._of_scan(name, measure_run_vertices)

    def scan_ap(self, name: str) -> Found:
        """ScanNet's average precision of the run's instances on a labelled scan; see `scans.measure_run_scan_ap`."""
        return self._of_scan(name, measure_run_scan_ap, instances=True)

    def _of_scan(self, name: str, measured: Callable[..., Scores], instances: bool = False) -> Found:
        protocol = SEGMENTATION_PROTOCOLS[name]
        truth = read_labelled_cloud(self._labels or self.scene.path, protocol, instances)
        labels = self.engine.labels([protocol.phrase(name) for name in protocol.classes], none=False)
        return {"scene": measured(self.engine.semantics, labels, truth, protocol)}

    @cached_property
    def _classes(self) -> tuple[str, ...]:
        return measure.classes_of(self.scene)

    @cached_property
    def _labeller(self) -> measure.Labeller:
        found = measure.labeller_of(self.engine, self._classes)
        return cache(lambda view: found(view).astype(np.int16))  # all views are cached, so in two bytes a pixel

    @cached_property
    def _styles(self) -> dict[str, frozenset[int]]:
        return measure.styles_of(self.scene)

    @cached_property
    def _truth(self) -> SurfaceCloud:
        return measure.exact_cloud(self.scene)


PROTOCOLS: dict[str, Callable[[Evaluator], Found]] = {
    "index": Evaluator.index,
    "points": Evaluator.points,
    "consistency": Evaluator.consistency,
    "instances": Evaluator.instances,
    "instance-ap": Evaluator.instance_ap,
    "absence": Evaluator.absence,
    "selection": Evaluator.selection,
    "3d-ovs": Evaluator.ovs3d,
    "3d-ovs-phrase": Evaluator.ovs3d_phrases,
    "lerf": Evaluator.lerf,
    "lerf-3d": Evaluator.lerf_selection,
    **{name: partial(Evaluator.scan, name=name) for name in SEGMENTATION_PROTOCOLS},
    "scannet-instance-ap": partial(Evaluator.scan_ap, name="scannet-20"),
    "scannet-200-instance-ap": partial(Evaluator.scan_ap, name="scannet-200"),
    "replica-instance-ap": partial(Evaluator.scan_ap, name="replica"),
}


def keep_figures(run: RunFolder, found: Mapping[str, Found]) -> None:
    """Add the main figures to the run's metrics.json. Raises OutputError."""
    figures = {}
    for key, (protocol, group, name) in EVALUATED.items():
        if group in found.get(protocol, {}):
            figures[key] = getattr(found[protocol][group], name)
    if figures:
        run.write_metrics(figures)
