"""Overlays of one browser's 3D view, controlled by the switches: points, cameras, boxes, names, arrows.

Four groups have boxes and names, and arrows where a front is known: hits ("answer"), the clicked instance
("selection"), all instances ("all"), and detected objects ("detected"). Fronts of instances are those of the poses that
the run keeps (`ovseg3d pose RUN`).
"""

from collections.abc import Callable

import numpy as np
import viser
from jaxtyping import Float, UInt8

from ovseg3d.viewer import layers
from ovseg3d.viewer.answer_html import SHOWN_HITS
from ovseg3d.viewer.answers import Reply
from ovseg3d.viewer.coalescing_lock import CoalescingLock
from ovseg3d.viewer.context import Context
from ovseg3d.viewer.scene_nodes import top_of
from ovseg3d.viewer.tabs.switches import Switches

GROUPS = ("answer", "selection", "all", "detected")
_SELECTED = np.array([[255, 212, 59]], np.uint8)


class Overlays:
    """Keeps a browser's nodes in line with the view and the switches.

    Args:
        context: of the session.
        switches: what is visible.
        opacity: slider for the highlighted points.
        fly_to_frame: called with the number of a photo whose camera was clicked.
    """

    def __init__(
        self,
        context: Context,
        switches: Switches,
        opacity: viser.GuiSliderHandle,
        fly_to_frame: Callable[[int], None],
    ) -> None:
        self._context, self._view, self._nodes = context, context.view, context.nodes
        self._shared, self._switches, self._opacity = context.shared, switches, opacity
        self._camera_clicked = context.guarded(fly_to_frame)
        self._shading = CoalescingLock(context.guarded(self._shade))
        for switch in (switches.points, switches.cameras, switches.boxes, switches.names):
            switch.on_update(context.guarded(lambda _: self.show_all()))
        opacity.on_update(lambda _: self._shading.schedule())
        self._view.viewpoint_changed.connect(self._show_cameras)
        self._view.layer_changed.connect(self.show_all)
        self._view.answer_changed.connect(self._show_answer)
        self._view.selection_changed.connect(self._show_selection)
        self._view.instances_changed.connect(self._show_names)
        self._view.detected_changed.connect(self._show_detected)

    def show_all(self) -> None:
        """Bring the nodes in line with the layer and the switches."""
        nodes, layer, switches = self._nodes, self._view.layer, self._switches
        with self._context.lock:
            points = switches.points.value
            nodes.show_points(layer.point_colours(self._shared) if points else self._shared.cloud[1], points)
            self._show_cameras()
            # The other layers colour the same surface themselves.
            nodes.show("highlight", layer.name in (layers.COLOUR, layers.DEPTH, layers.FEATURES))
            self._switch_groups()

    def _switch_groups(self) -> None:
        for group in GROUPS:
            for kind in ("boxes", "arrows"):
                self._nodes.show(f"{group}-{kind}", self._switches.boxes.value)
            self._nodes.show(f"{group}-names", self._switches.names.value)

    def _show_cameras(self) -> None:
        """Show the cameras, except those at the user's position."""
        with self._context.lock:
            self._nodes.show_cameras(self._switches.cameras.value, self._view.eye, self._camera_clicked)

    # -- answer and selection ------------------------------------------------------------------------------------

    def _show_answer(self) -> None:
        reply = self._view.reply
        with self._context.lock:
            self._nodes.highlight(*(_NOTHING if reply is None else self._highlight(reply)))
            found = [hit for hit in reply.hits if hit.instance.id > 0] if reply is not None else []
            tints = reply.tints[[hit.phrase for hit in found]] if reply is not None and found else _NOTHING[1]
            self._nodes.boxes("answer", [hit.instance for hit in found], tints)
            self._show_names()

    def _highlight(self, reply: Reply) -> tuple[Float[np.ndarray, "found 3"], UInt8[np.ndarray, "found 3"]]:
        """The surface points of the answer in the colours of their phrases, with the slider's opacity."""
        (points, phrase), surface = reply.found(), reply.semantics.surface
        own = surface.rgb[points].astype(np.float64)
        # The shading of the surface stays visible.
        lit = reply.tints[phrase] * (0.45 + 0.55 * own.mean(1, keepdims=True) / 255)
        opacity = self._opacity.value
        return surface.xyz[points], (opacity * lit + (1 - opacity) * own).astype(np.uint8)

    def _shade(self) -> None:
        """Colour the same points with the slider's current opacity."""
        with self._context.lock:
            if self._view.reply is not None:
                self._nodes.tint_highlight(self._highlight(self._view.reply)[1])

    def _show_selection(self) -> None:
        selection = self._view.selection
        with self._context.lock:
            boxed = [] if selection is None or selection.instance is None else [selection.instance]
            self._nodes.boxes("selection", boxed, np.repeat(_SELECTED, len(boxed), 0))
            self._show_names()

    def _show_detected(self) -> None:
        detected = self._view.detected
        with self._context.lock:
            found = [] if detected is None else [one.detection for one in detected.objects]
            tints = _NOTHING[1] if detected is None else detected.tints
            self._nodes.boxes("detected", found, tints)
            self._show_names()

    # -- names ---------------------------------------------------------------------------------------------------

    def _show_names(self) -> None:
        """Name hits, the selection, all instances and detected objects; each instance is named once."""
        reply, selection = self._view.reply, self._view.selection
        up, named = self._shared.up, set()
        with self._context.lock:
            hits = reply.hits[:SHOWN_HITS] if reply is not None else ()
            texts = [f"{reply.name_of(hit)} {hit.instance.score:.2f}" for hit in hits] if reply is not None else []
            self._nodes.names("answer", [top_of(hit.instance, up) for hit in hits], texts)
            named |= {hit.instance.id for hit in hits}
            if selection is None:
                self._nodes.clear("selection-names")
            else:
                known = selection.instance is not None and selection.instance.id in named
                text = selection.name if selection.words else "here"
                self._nodes.names("selection", [] if known else [selection.spot.xyz], [] if known else [text])
                named |= {selection.instance.id} if selection.instance is not None else set()
            others = [instance for instance in self._view.instances if instance.id not in named]
            texts = [instance.label or f"instance {instance.id}" for instance in others]
            self._nodes.names("all", [top_of(instance, up) for instance in others], texts)
            named |= {instance.id for instance in others}
            detected = () if self._view.detected is None else self._view.detected.objects
            found = [one for one in detected if one.instance not in named - {0}]
            self._nodes.names("detected", [top_of(one.detection, up) for one in found], [one.name for one in found])
            self._switch_groups()


_NOTHING = np.empty((0, 3), np.float32), np.empty((0, 3), np.uint8)
