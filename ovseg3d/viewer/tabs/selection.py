"""The selection, in a folder of the Ask tab: its name and size, and buttons to find similar instances or fly there."""

from collections.abc import Callable

import numpy as np
import viser
from jaxtyping import Float

from ovseg3d.instances.records import Instance
from ovseg3d.viewer.context import Context
from ovseg3d.viewer.navigation import Navigator
from ovseg3d.viewer.pick import Selection, describe, find_spot, selection_html


class SelectionFolder:
    """A user's clicks into the scene.

    Args:
        context: of the session.
        navigator: flies to the selection.
        find_similar: called with the selection, to find similar instances.
    """

    def __init__(self, context: Context, navigator: Navigator, find_similar: Callable[[Selection], None]) -> None:
        self._context, self._view, self._shared = context, context.view, context.shared
        self._navigator, self._find_similar = navigator, find_similar
        gui, on = context.client.gui, context.guarded
        self.folder = gui.add_folder("Clicked", visible=False)
        with self.folder:
            self.card = gui.add_html("")
            self.more_like = gui.add_button("More like this", icon=viser.Icon.COPY)
            self.fly_there = gui.add_button("Fly there", icon=viser.Icon.PLANE)
        context.client.scene.on_click()(on(self._clicked))
        self.more_like.on_click(on(lambda _: self.more_like_this()))
        self.fly_there.on_click(on(lambda _: self._fly_there()))

    def _clicked(self, event: viser.SceneClickEvent) -> None:
        self.select(np.array(event.ray_origin, np.float64), np.array(event.ray_direction, np.float64))

    def select(self, origin: Float[np.ndarray, "3"], direction: Float[np.ndarray, "3"]) -> None:
        """Select and name the instance that a ray hits."""
        spot = find_spot(self._shared, origin, direction)
        if spot is None:
            return
        labelling, reply = self._view.labelling, self._view.reply
        phrases = labelling.phrases if labelling is not None else self._shared.scene.phrases
        if reply is not None and reply.question.example is None:
            phrases = (*reply.question.phrases, *phrases)
        selection = describe(self._shared, spot, phrases)
        with self._context.lock:
            if spot.semantics is not self._shared.semantics:
                return  # the spot belongs to an earlier surface
            self._view.selection = selection
            self.card.content = selection_html(selection)
            self.folder.visible = True
            self.more_like.visible = spot.point is not None
            self._view.selection_changed.emit()

    def more_like_this(self) -> None:
        """Ask for instances similar to the selection."""
        selection = self._view.selection
        if selection is not None and selection.spot.point is not None:
            self._find_similar(selection)

    def forget(self) -> None:
        """Clear the selection."""
        with self._context.lock:
            self._view.selection = None
            self.folder.visible = False
            self._view.selection_changed.emit()

    def _fly_there(self) -> None:
        selection = self._view.selection
        if selection is None:
            return
        instance = selection.instance
        if instance is None:
            x, y, z = selection.spot.xyz.tolist()
            side = 0.2 * selection.spot.distance
            instance = Instance(
                0, None, 1.0, (x, y, z), (side, side, side), (1.0, 0.0, 0.0, 0.0), None, "input", 1, None
            )
        self._navigator.fly_to_instance(instance)
