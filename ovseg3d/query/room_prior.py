"""Priors of rooms, in one plug-in that only adds log odds to names: what planes are, and what the detection head says
of shapes.

It is on if the run's planes make a room, or if the user says so (`--layout`). Without it floor and wall are words like
others.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from ovseg3d.instances.layout import NONE
from ovseg3d.query.context import RunContext
from ovseg3d.query.layout_prior import layout_log_odds, plane_of
from ovseg3d.query.phrase_encoder import PhraseEncoder
from ovseg3d.query.shape_prior import BUILTIN, ShapePrior


class RoomPrior:
    """Log odds of names in a run.

    Args:
        context: of the run.
        texts: of its encoder.
    """

    def __init__(self, context: RunContext, texts: PhraseEncoder) -> None:
        plane, layout = context.semantics.plane, context.run.config.semantics.layout
        same = context.semantics.encoder.name == BUILTIN and texts.templates == ("{}",)
        self.shapes = ShapePrior(context.semantics, texts.encode if same else None)
        self.on = layout == "indoor" or (layout == "auto" and plane is not None and bool((plane != NONE).any()))

    def plane_of(self, phrase: str) -> int:
        """The layout class that a phrase is about (see `layout_prior`); NONE for all phrases without a room."""
        return plane_of(phrase) if self.on else NONE

    def log_odds(
        self,
        phrases: Sequence[str],
        plane: Int[np.ndarray, " points"] | None,
        piece: Int[np.ndarray, " points"],
    ) -> Float[np.ndarray, "points phrases"]:
        """Log odds of names at points, candidates or pixels, the same for single phrases and closed lists.

        Args:
            phrases: one for each column.
            plane: FLOOR, CEILING, WALL or NONE; None: no layout was estimated.
            piece: instance or rejected fragment, from 1; 0 for none.
        """
        if not self.on:
            return np.zeros((len(piece), len(phrases)), np.float32)
        odds = self.shapes.log_odds(phrases).astype(np.float32)[piece]
        return odds if plane is None else odds + layout_log_odds(phrases, plane, piece)
