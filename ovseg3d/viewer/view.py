"""What one browser shows now, and the signals by which the pieces of its session hear of changes.

Each value has one writer, which changes it while it holds the session's lock and then emits the signal. The callbacks
read the new value here; none of them knows who wrote it.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from ovseg3d.errors import RunError
from ovseg3d.instances.records import Instance
from ovseg3d.viewer.answers import Reply
from ovseg3d.viewer.layers import COLOUR, Labelling, Layer, plain_layer
from ovseg3d.viewer.pick import Selection
from ovseg3d.viewer.viewpoint import Viewpoint


class Signal:
    """Callbacks that are called one after the other, in the order in which they were connected."""

    def __init__(self) -> None:
        self._callbacks: list[Callable[[], None]] = []

    def connect(self, callback: Callable[[], None]) -> None:
        """Call this at every `emit` from now on."""
        self._callbacks.append(callback)

    def emit(self) -> None:
        """Call all of them, in this thread. What one of them raises goes to the caller."""
        for callback in tuple(self._callbacks):
            callback()


class View:
    """The values that several pieces of a session read."""

    def __init__(self) -> None:
        self.viewpoint: Viewpoint | None = None
        """Where the browser looks from; None before it has said so. Written by `BackgroundImage`, without the lock."""
        self.layer: Layer = plain_layer(COLOUR)
        """What the image and the points show. Written by `LayersTab`."""
        self.labelling: Labelling | None = None
        """The closed list, once it was asked for. Written by `LabelsFolder`."""
        self.reply: Reply | None = None
        """The answer that is shown. Written by `AskTab`."""
        self.selection: Selection | None = None
        """What was clicked last. Written by `SelectionFolder`."""
        self.instances: tuple[Instance, ...] = ()
        """All instances, while they are shown. Written by `AllInstances`."""
        self.viewpoint_changed = Signal()
        """Emitted under the lock, once for all moves while somebody else held it."""
        self.layer_changed = Signal()
        self.answer_changed = Signal()
        self.selection_changed = Signal()
        self.instances_changed = Signal()

    @property
    def eye(self) -> Float[np.ndarray, "3"] | None:
        """Where the user stands, input frame."""
        return None if self.viewpoint is None else np.array(self.viewpoint.position)

    def need_viewpoint(self) -> Viewpoint:
        """Where the browser looks from. Raises RunError: it has not said so yet."""
        if self.viewpoint is None:
            raise RunError("The browser has not said yet where it looks from", fix="move the view")
        return self.viewpoint
