"""Boxes and known fronts of all instances of the scene, while the switch "All instances" is on."""

import numpy as np
import viser

from ovseg3d.instances.records import InstancePoints
from ovseg3d.viewer.context import Context
from ovseg3d.viewer.tabs.labels import LabelsFolder

_UNNAMED, _NO_TINTS = np.array([200, 200, 200], np.uint8), np.empty((0, 3), np.uint8)


class AllInstances:
    """Finds the instances and draws their boxes, and arrows where the run keeps a pose with a front.

    Args:
        context: of the session.
        switch: whether instances are shown.
        labels: names them, and labels the surface if there are no labels yet.
    """

    def __init__(self, context: Context, switch: viser.GuiCheckboxHandle, labels: LabelsFolder) -> None:
        self._context, self._switch, self._labels = context, switch, labels
        switch.on_update(context.guarded(lambda _: self.show()))

    def show(self) -> None:
        """Show the current instances, or remove them."""
        context, view = self._context, self._context.view
        engine = context.shared.engine
        semantics = None if engine is None else engine.semantics
        with context.lock:
            context.nodes.boxes("all", (), _NO_TINTS)
            view.instances = ()
            view.instances_changed.emit()
        if engine is None or semantics is None or not self._switch.value:
            return
        if view.labelling is None and self._labels.phrases():
            self._labels.make()
        known, labels, phrases, palette = view.labelling, None, (), ()
        if known is not None and known.semantics is semantics:
            labels, phrases, palette = known.labels, known.phrases, known.tints
        instances = InstancePoints(semantics.surface, semantics.instance).records(labels=labels, phrases=phrases)
        instances = engine.context.posed(instances)
        tints = [palette[phrases.index(one.label) + 1] if one.label else _UNNAMED for one in instances]
        with context.lock:
            if semantics is not context.shared.semantics:
                return  # the surface has been replaced
            context.nodes.boxes("all", instances, np.array(tints, np.uint8).reshape(-1, 3))
            view.instances = instances
            view.instances_changed.emit()
