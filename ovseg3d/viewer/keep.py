"""Take away: what a visitor may carry home. Everything is written into the run's exports/ folder and nowhere else.

No name of a file comes from a visitor: folders and files are named here, by number.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ovseg3d.viewer.visitor import Visitor


class Keeper:
    """The tab Take away of one visitor; made inside that tab."""

    def __init__(self, visitor: "Visitor") -> None:
        self._visitor = visitor

    def close(self) -> None:
        """The browser has gone."""
