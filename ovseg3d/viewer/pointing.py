"""What one visitor clicks on, and where they are taken: `pick.py` says what is there, `fly.py` how to get there."""

from typing import TYPE_CHECKING

import numpy as np
import viser
from jaxtyping import Float

from ovseg3d.instances.records import Instance
from ovseg3d.viewer.ask import Question
from ovseg3d.viewer.fly import ahead, fly, stand_to_see
from ovseg3d.viewer.pick import Pointed, describe, find_spot, pointed_html

if TYPE_CHECKING:
    from ovseg3d.viewer.visitor import Visitor

_POINTED = np.array([[255, 212, 59]], np.uint8)


class Pointing:
    """A visitor's clicks into the scene."""

    def __init__(self, visitor: "Visitor") -> None:
        self._visitor, self._panel, self._nodes = visitor, visitor.panel, visitor.nodes
        self._exhibit = visitor.exhibit
        self.pointed: Pointed | None = None
        """What was clicked last."""

    def listen(self) -> None:
        """Follow clicks, and the buttons of what was clicked."""
        panel, on = self._panel, self._visitor.guarded
        self._visitor.client.scene.on_click()(on(self._clicked))
        panel.more_like.on_click(on(lambda _: self.more_like_this()))
        panel.fly_to.on_click(on(lambda _: self._fly_to_pointed()))

    # -- pointing ------------------------------------------------------------------------------------------------

    def _clicked(self, event: viser.SceneClickEvent) -> None:
        self.point_at(np.array(event.ray_origin, np.float64), np.array(event.ray_direction, np.float64))

    def point_at(self, origin: Float[np.ndarray, "3"], direction: Float[np.ndarray, "3"]) -> None:
        """Say what a ray meets."""
        spot = find_spot(self._exhibit, origin, direction)
        if spot is None:
            return
        labelling, reply = self._visitor.pictures.labelling, self._visitor.asking.reply
        phrases = labelling.phrases if labelling is not None else self._exhibit.scene.phrases
        if reply is not None and reply.question.example is None:
            phrases = (*reply.question.phrases, *phrases)
        pointed = describe(self._exhibit, spot, phrases)
        panel = self._panel
        with self._visitor.state:
            if spot.semantics is not self._exhibit.semantics:
                return  # what is known of the place is of a former surface
            self.pointed = pointed
            panel.pointed.content = pointed_html(pointed)
            panel.pointed_folder.visible = True
            panel.more_like.visible = spot.point is not None
            thing = [pointed.thing] if pointed.thing is not None else []
            self._nodes.boxes("pointed", thing, np.repeat(_POINTED, len(thing), 0))
            self._visitor.scenery.name()
        self._visitor.scenery.show_all()

    def more_like_this(self) -> None:
        """Ask for what is like the thing that was clicked."""
        pointed = self.pointed
        if pointed is not None and pointed.spot.point is not None:
            name = f"like this {pointed.name} at {', '.join(f'{v:.1f}' for v in pointed.spot.xyz)}"
            question = Question((name,), threshold=self._panel.threshold.value, example=pointed.spot)
            self._visitor.asking.ask(question)

    def forget(self) -> None:
        """Nothing was clicked."""
        self.pointed = None
        self._panel.pointed_folder.visible = False
        self._nodes.clear("pointed-boxes")
        self._nodes.clear("pointed-names")

    # -- going about ---------------------------------------------------------------------------------------------

    def fly_to(self, thing: Instance) -> None:
        """Take the visitor to a place from which a thing is well seen."""
        wanted = self._visitor.begin_flight()
        stand = stand_to_see(self._exhibit, thing, self._visitor.pictures.eye)
        fly(self._visitor.client, stand, np.array(thing.center), self._exhibit.up, wanted)

    def _fly_to_pointed(self) -> None:
        if self.pointed is not None and self.pointed.thing is not None:
            self.fly_to(self.pointed.thing)
        elif self.pointed is not None:
            place = tuple(self.pointed.spot.xyz.tolist())
            size = (0.2 * self.pointed.spot.distance,) * 3
            self.fly_to(Instance(0, None, 1.0, place, size, (1.0, 0.0, 0.0, 0.0), None, "input", 1, None))

    def stand_at(self, number: int) -> None:
        """Take the visitor to where a photo was taken."""
        wanted = self._visitor.begin_flight()
        camera = self._exhibit.scene.frames[number].camera
        fly(self._visitor.client, camera.position, ahead(self._exhibit, camera), camera.up, wanted)
