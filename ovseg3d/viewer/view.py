"""The state of one browser's view, and signals for its changes.

Each value has one writer, which changes it while holding the session's lock and then emits the signal. Callbacks read
the new value here and do not know the writer.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from ovseg3d.errors import RunError
from ovseg3d.instances.records import Instance
from ovseg3d.viewer.answers import Reply
from ovseg3d.viewer.detected import Detected
from ovseg3d.viewer.layers import COLOUR, Labelling, Layer, plain_layer
from ovseg3d.viewer.pick import Selection
from ovseg3d.viewer.viewpoint import Viewpoint


class Signal:
    """Callbacks that are called in the order of their connection."""

    def __init__(self) -> None:
        self._callbacks: list[Callable[[], None]] = []

    def connect(self, callback: Callable[[], None]) -> None:
        """Call this at every `emit` from now on."""
        self._callbacks.append(callback)

    def emit(self) -> None:
        """Call all callbacks in this thread. Their errors are raised."""
        for callback in tuple(self._callbacks):
            callback()


class View:
    """The values that several components of a session read."""

    def __init__(self) -> None:
        self.viewpoint: Viewpoint | None = None
        """The browser's viewpoint; None before it is known. Written by `BackgroundImage`, without the lock."""
        self.layer: Layer = plain_layer(COLOUR)
        """Layer of the image and the points. Written by `LayersTab`."""
        self.labelling: Labelling | None = None
        """The labels, once they were requested. Written by `LabelsFolder`."""
        self.reply: Reply | None = None
        """The current answer. Written by `AskTab`."""
        self.selection: Selection | None = None
        """The last click. Written by `SelectionFolder`."""
        self.instances: tuple[Instance, ...] = ()
        """All instances, while they are shown. Written by `AllInstances`."""
        self.detected: Detected | None = None
        """Detected objects, while they are shown. Written by `DetectedSwitch`."""
        self.viewpoint_changed = Signal()
        """Emitted under the lock, once for all moves while another thread held it."""
        self.layer_changed = Signal()
        self.answer_changed = Signal()
        self.selection_changed = Signal()
        self.instances_changed = Signal()
        self.detected_changed = Signal()

    @property
    def eye(self) -> Float[np.ndarray, "3"] | None:
        """The user's position, input frame."""
        return None if self.viewpoint is None else np.array(self.viewpoint.position)

    def need_viewpoint(self) -> Viewpoint:
        """The browser's viewpoint. Raises RunError: it is not known yet."""
        if self.viewpoint is None:
            raise RunError("The browser has not sent its viewpoint yet", fix="move the view")
        return self.viewpoint
