"""Checkboxes of the Layers tab for the contents of the 3D view."""

from ovseg3d.viewer.context import Context


class Switches:
    """The checkboxes; `Overlays`, `AllInstances` and `BackgroundImage` follow them."""

    def __init__(self, context: Context) -> None:
        self._shared = shared = context.shared
        gui = context.client.gui
        field, cloud = shared.renderer is not None, len(shared.cloud[0]) > 0
        self.field = gui.add_checkbox("Field", field, disabled=not field, hint="What the field renders.")
        self.points = gui.add_checkbox("Points", not field and cloud, disabled=not cloud)
        self.cameras = gui.add_checkbox("Cameras", not field, hint="Click one to stand there. Orange: held out.")
        self.boxes = gui.add_checkbox("Boxes", True, hint="Of hits, or of all instances; arrows show known fronts.")
        self.names = gui.add_checkbox("Names", True)
        self.instances = gui.add_checkbox(
            "All instances",
            False,
            disabled=shared.semantics is None,
            hint="Every object instance of the scene.",
        )

    def refresh(self) -> None:
        """Enable what is available; the first field is shown at once."""
        shared, first = self._shared, self.field.disabled
        self.instances.disabled = shared.semantics is None
        self.points.disabled = not len(shared.cloud[0])
        if shared.renderer is not None and first:
            self.field.disabled, self.field.value = False, True
